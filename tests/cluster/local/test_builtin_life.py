"""A job's life on the built-in cluster: tasks in their order, dispatch, services, restarts by hand, versions."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.local.bench import UNKNOWN, Bench, events, kinds


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("life") / "home")
    yield bench
    bench.down()


def task(name: str, script: str, hook: str = "", *, sidecar: bool = False, **more: Any) -> dict[str, Any]:
    life = {"Hook": hook, "Sidecar": sidecar} if hook else None
    config = {"command": "/bin/sh", "args": ["-c", script]}
    resources = {"CPU": 50, "MemoryMB": 32}
    return {
        "Name": name,
        "Driver": "raw_exec",
        "Config": config,
        "Lifecycle": life,
        "KillTimeout": 1_000_000_000,
        "Resources": resources,
        **more,
    }


def with_tasks(bench: Bench, *tasks: dict[str, Any]) -> dict[str, Any]:
    job = bench.job()
    job["TaskGroups"][0]["Tasks"] = list(tasks)
    return job


def settled(bench: Bench, job: dict[str, Any]) -> dict[str, Any]:
    """The job's allocation when all its tasks are dead."""
    bench.register(job)
    path = f"/v1/job/{job['ID']}/allocations"
    listed = bench.wait(
        path,
        lambda a: bool(a and a[0]["TaskStates"]) and all(t["State"] == "dead" for t in a[0]["TaskStates"].values()),
    )
    return dict(bench.get(f"/v1/allocation/{listed[0]['ID']}"))


def test_a_failed_prestart_ends_a_main_task_that_never_began(bench: Bench) -> None:
    alloc = settled(bench, with_tasks(bench, task("first", "exit 3", "prestart"), task("train", "true")))
    assert alloc["ClientStatus"] == "failed"
    assert kinds(alloc) == ["Received", "Sibling Task Failed", "Killing"]
    assert events(alloc)[1]["DisplayMessage"] == 'Task\'s sibling "first" failed'
    assert not alloc["TaskStates"]["train"]["Failed"]


def test_a_sidecar_stays_as_long_as_the_main_task(bench: Bench) -> None:
    helper = task("helper", "trap 'exit 0' INT; while :; do sleep 0.05; done", "prestart", sidecar=True)
    last = task("last", "ls ../alloc/data", "poststop")
    alloc = settled(bench, with_tasks(bench, helper, task("train", "echo > ../alloc/data/made"), last))
    assert alloc["ClientStatus"] == "complete"
    assert kinds(alloc, "helper")[2:] == ["Started", "Main Tasks Dead", "Killing", "Terminated", "Killed"]
    got = bench.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=last&type=stdout&plain=true")
    assert got.text == "made\n"


def test_a_leader_takes_the_others_with_it_and_poststop_still_runs(bench: Bench) -> None:
    other = task("other", "sleep 60")
    main = task("train", "sleep 0.3", Leader=True)
    alloc = settled(bench, with_tasks(bench, main, other, task("last", "true", "poststop")))
    assert "Leader Task Dead" in kinds(alloc, "other")
    assert kinds(alloc, "last")[-1] == "Terminated"


def test_poststart_comes_when_the_main_task_runs(bench: Bench) -> None:
    after = task("after", "cat ../alloc/data/made", "poststart")
    alloc = settled(bench, with_tasks(bench, after, task("train", "echo x > ../alloc/data/made; sleep 0.7")))
    started = {name: state["StartedAt"] for name, state in alloc["TaskStates"].items()}
    assert started["after"] > started["train"]


def test_a_stop_lets_poststop_run(bench: Bench) -> None:
    job = with_tasks(bench, task("train", "sleep 60"), task("last", "true", "poststop"))
    bench.register(job)
    bench.alloc(job["ID"], "running")
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    path = f"/v1/job/{job['ID']}/allocations"
    [alloc] = bench.wait(path, lambda a: all(t["State"] == "dead" for t in a[0]["TaskStates"].values()))
    assert kinds(alloc, "last")[-1] == "Terminated"


def parameterised(bench: Bench, **rules: Any) -> dict[str, Any]:
    job = bench.job('cat local/input; echo " $NOMAD_META_lr"', DispatchPayload={"File": "input"})
    return job | {"ParameterizedJob": {"Payload": "optional", "MetaRequired": ["lr"], **rules}}


def test_a_parameterised_job_runs_when_it_is_dispatched(bench: Bench) -> None:
    job = parameterised(bench)
    assert bench.register(job)["EvalID"] == ""
    assert bench.get(f"/v1/job/{job['ID']}")["Status"] == "running"
    body = {"Meta": {"lr": "0.1"}, "Payload": base64.b64encode(b"words").decode()}
    made = bench.ask("POST", f"/v1/job/{job['ID']}/dispatch", body).json()
    assert made["DispatchedJobID"].startswith(f"{job['ID']}/dispatch-")
    alloc = bench.alloc(made["DispatchedJobID"], "complete", "failed")
    assert bench.log(alloc) == "words 0.1\n"
    assert bench.get(f"/v1/job/{job['ID']}/summary")["Children"]["Dead"] == 1


@pytest.mark.parametrize(
    ("rules", "body", "words"),
    [
        ({}, {}, "Dispatch did not provide required meta keys: [lr]"),
        ({}, {"Meta": {"lr": "1", "x": "2"}}, "Dispatch request included unpermitted metadata keys: [x]"),
        ({"Payload": "required"}, {"Meta": {"lr": "1"}}, "Payload is not provided but required by parameterized job"),
        (
            {"Payload": "forbidden"},
            {"Meta": {"lr": "1"}, "Payload": "eA=="},
            "Payload provided but forbidden by parameterized job",
        ),
    ],
)
def test_what_a_dispatch_is_refused_for(bench: Bench, rules: Any, body: Any, words: str) -> None:
    job = parameterised(bench, **rules)
    bench.register(job)
    got = bench.ask("POST", f"/v1/job/{job['ID']}/dispatch", body)
    assert (got.status_code, got.text) == (500, words)


def test_services_are_there_while_the_allocation_lives(bench: Bench) -> None:
    job = bench.job("cat local/peers; sleep 60", Templates=[{"DestPath": "local/peers", "EmbeddedTmpl": "{{ range "
        'nomadService "rdzv" }}{{ .Port }} {{ .Tags }}{{ end }}'}])  # fmt: skip
    service = {"Name": "rdzv", "PortLabel": "r", "Provider": "nomad", "Tags": ["rank-${NOMAD_ALLOC_INDEX}"]}
    job["TaskGroups"][0] |= {"Services": [service], "Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "r"}]}]}
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    [found] = bench.get("/v1/service/rdzv")
    assert (found["AllocID"], found["Tags"], found["JobID"]) == (alloc["ID"], ["rank-0"], job["ID"])
    assert bench.get("/v1/services") == [
        {"Namespace": "default", "Services": [{"ServiceName": "rdzv", "Tags": ["rank-0"]}]}
    ]
    assert bench.get(f"/v1/job/{job['ID']}/services") == [found]
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    bench.alloc(job["ID"], "complete", "failed")
    assert bench.log(alloc) == f"{found['Port']} [rank-0]"
    assert bench.get("/v1/services") == []


def test_a_task_is_signalled_and_started_anew_by_hand(bench: Bench) -> None:
    job = bench.job("trap 'echo seen' USR1; trap 'exit 0' INT; echo ready; while :; do sleep 0.05; done")
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    path = f"/v1/client/allocation/{alloc['ID']}"
    bench.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=train&type=stdout&plain=true&follow=false")
    assert bench.ask("PUT", f"{path}/signal", {"Task": "train", "Signal": "SIGUSR1"}).status_code == 200
    assert bench.ask("PUT", f"{path}/signal", {"Task": "train", "Signal": "SIGNONE"}).status_code == 400
    assert bench.ask("PUT", f"{path}/restart", {"TaskName": "train"}).status_code == 200
    again = bench.wait(f"/v1/allocation/{alloc['ID']}", lambda a: kinds(a).count("Started") == 2)
    assert kinds(again)[3:] == ["Signaling", "Restart Signaled", "Terminated", "Restarting", "Started"]
    assert again["TaskStates"]["train"]["Restarts"] == 1
    assert bench.ask("PUT", f"/v1/client/allocation/{UNKNOWN}/restart", {}).status_code == 404


def test_an_older_version_comes_back(bench: Bench) -> None:
    job = bench.job("true")
    bench.register(job)
    bench.alloc(job["ID"], "complete")
    bench.register({**job, "Meta": {"second": "yes"}})
    path = f"/v1/job/{job['ID']}/revert"
    assert bench.ask("POST", path, {"JobID": job["ID"], "JobVersion": 1}).text == "can't revert to current version"
    assert bench.ask("POST", path, {"JobID": job["ID"], "JobVersion": 9}).text.endswith("at version 9 not found")
    assert bench.ask("POST", path, {"JobID": job["ID"], "JobVersion": 0}).status_code == 200
    now = bench.get(f"/v1/job/{job['ID']}")
    assert (now["Version"], now["Meta"]) == (2, None)


def test_a_group_is_scaled(bench: Bench) -> None:
    job = bench.job("true")
    bench.register(job)
    bench.ask("POST", f"/v1/job/{job['ID']}/scale", {"Count": 2, "Target": {"Group": "train"}})
    path = f"/v1/job/{job['ID']}/allocations"
    bench.wait(path, lambda a: {x["Name"] for x in a} == {f"{job['ID']}.train[0]", f"{job['ID']}.train[1]"})
    got = bench.ask("POST", f"/v1/job/{job['ID']}/scale", {"Count": 2, "Target": {"Group": "none"}})
    assert got.status_code == 400


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"Volumes": {"m": {"Type": "csi", "Source": "models", "AttachmentMode": "file-system", "ReadOnly": True,
                            "AccessMode": "multi-node-reader-only"}}}, "missing CSI volume(s) models"),
        ({"Networks": [{"DynamicPorts": [{"Label": "x", "HostNetwork": "fast"}]}]},
         'missing host network "fast" for port "x"'),
    ],
)  # fmt: skip
def test_what_no_node_has_is_named(bench: Bench, more: Any, reason: str) -> None:
    job = bench.job()
    job["TaskGroups"][0] |= more
    failed = bench.ask("POST", f"/v1/job/{job['ID']}/plan", {"Job": job}).json()["FailedTGAllocs"]
    assert failed["train"]["ConstraintFiltered"] == {reason: 1}


def test_a_port_that_is_taken_and_a_property_that_is_used_up(bench: Bench) -> None:
    job = bench.job("sleep 60")
    job["TaskGroups"][0] |= {"Networks": [{"ReservedPorts": [{"Label": "p", "Value": 23456}]}]}
    bench.register(job)
    bench.alloc(job["ID"], "running")
    other = bench.job()
    other["TaskGroups"][0] |= {"Networks": [{"ReservedPorts": [{"Label": "p", "Value": 23456}]}]}
    failed = bench.ask("POST", f"/v1/job/{other['ID']}/plan", {"Job": other}).json()["FailedTGAllocs"]
    assert failed["train"]["DimensionExhausted"] == {"network: reserved port collision p=23456": 1}
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    rule = {"LTarget": "${attr.kernel.name}", "Operand": "distinct_property"}
    two = bench.job("true") | {"Constraints": [rule]}
    two["TaskGroups"][0]["Count"] = 2
    failed = bench.ask("POST", f"/v1/job/{two['ID']}/plan", {"Job": two}).json()["FailedTGAllocs"]
    assert failed["train"]["ConstraintFiltered"] == {"distinct_property: ${attr.kernel.name}=linux used by 1 allocs": 1}

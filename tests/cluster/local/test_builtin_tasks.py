"""Tasks on the built-in cluster, with real processes."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.local.bench import NODE, PYTHON, Bench, events, kinds


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("builtin") / "home")
    yield bench
    bench.down()


def test_a_job_runs_to_completion(bench: Bench) -> None:
    alloc = bench.run(bench.job("echo hello; echo oops >&2"))
    assert alloc["ClientStatus"] == "complete"
    assert alloc["ClientDescription"] == "All tasks have completed"
    assert kinds(alloc) == ["Received", "Task Setup", "Started", "Terminated"]
    assert events(alloc)[-1]["Details"] == {"exit_code": "0", "signal": "0", "oom_killed": "false"}
    assert bench.log(alloc) == "hello\n"
    assert bench.log(alloc, "stderr") == "oops\n"
    job = bench.get(f"/v1/job/{alloc['JobID']}")
    assert (job["Status"], job["Stop"], job["Version"]) == ("dead", False, 0)
    summary = bench.get(f"/v1/job/{alloc['JobID']}/summary")["Summary"]["train"]
    assert summary["Complete"] == 1


def test_an_exit_code_fails_the_allocation(bench: Bench) -> None:
    alloc = bench.run(bench.job("exit 3"))
    assert alloc["ClientStatus"] == "failed"
    assert kinds(alloc)[-2:] == ["Terminated", "Not Restarting"]
    assert events(alloc)[-2]["DisplayMessage"] == "Exit Code: 3"
    assert events(alloc)[-1]["DisplayMessage"] == "Policy allows no restarts"


def test_a_signal_is_reported(bench: Bench) -> None:
    alloc = bench.run(bench.job("kill -9 $$"))
    assert events(alloc)[-2]["DisplayMessage"] == "Exit Code: 137, Signal: 9"
    assert events(alloc)[-2]["Details"]["oom_killed"] == "false"


def test_a_task_over_its_memory_limit_is_killed_with_its_children(bench: Bench) -> None:
    hungry = f"{PYTHON} -c 'x = [bytearray(10**7) for _ in range(60)]; print(len(x))'; echo survived"
    alloc = bench.run(bench.job(hungry, Resources={"MemoryMB": 64}))
    assert alloc["ClientStatus"] == "failed"
    terminated = events(alloc)[-2]
    assert terminated["Details"]["oom_killed"] == "true"
    assert terminated["Details"]["exit_message"] == "OOM Killed"
    assert kinds(alloc)[-1] == "Not Restarting"
    assert "60" not in bench.log(alloc)


def test_restarts_within_the_policy(bench: Bench) -> None:
    job = bench.job('n=$(cat "$NOMAD_ALLOC_DIR/n" || echo 0); echo $((n+1)) > "$NOMAD_ALLOC_DIR/n"; exit $((n < 2))')
    policy = {"Attempts": 5, "Interval": 600_000_000_000, "Delay": 10_000_000, "Mode": "fail"}
    job["TaskGroups"][0]["RestartPolicy"] = policy
    alloc = bench.run(job)
    assert alloc["ClientStatus"] == "complete"
    assert alloc["TaskStates"]["train"]["Restarts"] == 2
    assert kinds(alloc).count("Restarting") == 2


def test_restarts_come_to_an_end(bench: Bench) -> None:
    job = bench.job("exit 1")
    policy = {"Attempts": 1, "Interval": 600_000_000_000, "Delay": 10_000_000, "Mode": "fail"}
    job["TaskGroups"][0]["RestartPolicy"] = policy
    alloc = bench.run(job)
    words = 'Exceeded allowed attempts 1 in interval 10m0s and mode is "fail"'
    assert events(alloc)[-1]["DisplayMessage"] == words


def test_a_missing_command(bench: Bench) -> None:
    alloc = bench.run(bench.job(Config={"command": "/no/such/python"}))
    assert kinds(alloc)[-2:] == ["Driver Failure", "Not Restarting"]
    assert 'binary "/no/such/python" could not be found' in events(alloc)[-2]["DisplayMessage"]
    got = bench.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=train&type=stdout&plain=true")
    assert (got.status_code, got.text) == (404, 'task "train" not started yet. No logs available')


def test_an_image_that_is_not_declared(bench: Bench) -> None:
    config = {"image": "other/image:1", "command": "true"}
    alloc = bench.run(bench.job(Driver="docker", Config=config))
    assert kinds(alloc)[2:] == ["Driver", "Driver Failure", "Not Restarting"]
    assert events(alloc)[3]["DisplayMessage"].startswith("Failed to pull `other/image:1`: ")


def test_a_declared_image_runs_as_a_process(bench: Bench) -> None:
    config = {"image": "local/python:3.11", "command": "sh", "args": ["-c", "exit 4"]}
    alloc = bench.run(bench.job(Driver="docker", Config=config))
    words = 'Exit Code: 4, Exit Message: "Docker container exited with non-zero exit code: 4"'
    assert events(alloc)[-2]["DisplayMessage"] == words


def test_what_a_process_can_not_be_given_is_refused(bench: Bench) -> None:
    job = bench.job(VolumeMounts=[{"Volume": "d", "Destination": "/data"}])
    job["TaskGroups"][0]["Volumes"] = {"d": {"Type": "host", "Source": "data", "ReadOnly": True}}
    alloc = bench.run(job)
    assert events(alloc)[-2]["Type"] == "Task hook failed"
    words = 'volumes: task driver "raw_exec" for "train" does not support host volumes'
    assert events(alloc)[-2]["DisplayMessage"] == words


def test_artifacts_fail_loudly(bench: Bench) -> None:
    alloc = bench.run(
        bench.job(Artifacts=[{"GetterSource": "https://example.invalid/a.tgz", "RelativeDest": "local/"}])
    )
    assert kinds(alloc)[2:] == ["Downloading Artifacts", "Failed Artifact Download", "Not Restarting"]
    assert "https://example.invalid/a.tgz" in events(alloc)[3]["DisplayMessage"]


def test_code_comes_from_git_at_its_commit(bench: Bench, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()

    def git(*words: str) -> str:
        who = ("-c", "user.name=me", "-c", "user.email=me@example.invalid")
        return subprocess.run(("git", *who, *words), cwd=code, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    commits = []
    for text in ("first", "second"):
        (code / "train.py").write_text(text)
        git("add", "train.py")
        git("commit", "--quiet", "--message", text)
        commits.append(git("rev-parse", "HEAD").strip())
    artifact = {"RelativeDest": "local/code", "GetterOptions": {"ref": commits[0]}}
    for source in (f"git::file://{tmp_path}/code", f"git::{tmp_path}/code"):
        alloc = bench.run(bench.job("cat local/code/train.py", Artifacts=[artifact | {"GetterSource": source}]))
        assert bench.log(alloc) == "first", events(alloc)


def test_the_environment_and_the_directories(bench: Bench) -> None:
    job = bench.job(
        "pwd; env | sort; ls -d alloc/data local secrets tmp ../alloc/logs", Env={"ME": "${NOMAD_TASK_NAME}"}
    )
    job["Meta"] = {"caravan_run": "r-1"}
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"][1] += "; echo ${meta.caravan_python} ${attr.kernel.name}"
    alloc = bench.run(job)
    said = bench.log(alloc).splitlines()
    told = dict(line.split("=", 1) for line in said if "=" in line)
    assert said[0] == str(bench.home / "allocs" / alloc["ID"] / "train")
    assert told["NOMAD_JOB_ID"] == alloc["JobID"]
    assert told["NOMAD_META_caravan_run"] == told["NOMAD_META_CARAVAN_RUN"] == "r-1"
    assert told["NOMAD_MEMORY_LIMIT"] == "128"
    assert told["NOMAD_CPU_LIMIT"] == "100"
    assert told["ME"] == "train"
    assert told["HOME"] == "/"
    assert told["CARAVAN_CACHE_DIR"] == str(bench.home / "cache")  # packages are installed once for all jobs
    assert "MY_TOKEN" not in told
    assert "CUDA_VISIBLE_DEVICES" not in told
    assert {"local", "secrets", "tmp", "../alloc/logs"} <= set(said)
    assert said[-1] == f"{PYTHON} linux"


def test_templates_are_written_and_read(bench: Bench) -> None:
    templates = [
        {"DestPath": "local/run.sh", "EmbeddedTmpl": "echo {{x}} <<env \"NOMAD_JOB_ID\">>\n", "Perms": "0755",
         "LeftDelim": "<<", "RightDelim": ">>"},
        {"DestPath": "secrets/app.env", "EmbeddedTmpl": "# a comment\nLR=0.001\n", "Envvars": True},
    ]  # fmt: skip
    alloc = bench.run(bench.job('./local/run.sh; echo "$LR"; stat -c %a local/run.sh', Templates=templates))
    assert bench.log(alloc) == f"{{{{x}}}} {alloc['JobID']}\n0.001\n755\n"


def test_a_template_that_can_not_be_rendered(bench: Bench) -> None:
    alloc = bench.run(bench.job(Templates=[{"DestPath": "local/a", "EmbeddedTmpl": '{{ key "x" }}'}]))
    assert kinds(alloc)[2:] == ["Task hook failed", "Not Restarting"]
    assert "has no Consul and no Vault" in events(alloc)[2]["DisplayMessage"]


def test_directories_that_can_not_be_made(bench: Bench) -> None:
    job = bench.job()
    job["TaskGroups"][0]["Tasks"][0]["Name"] = "t" * 300
    alloc = bench.run(job)
    assert kinds(alloc, "t" * 300)[2:] == ["Setup Failure", "Not Restarting"]
    assert "File name too long" in events(alloc, "t" * 300)[2]["DisplayMessage"]


def test_gpus_are_handed_out_exclusively_and_a_blocked_job_gets_a_free_one(bench: Bench) -> None:
    ask = {"Devices": [{"Name": "nvidia/gpu", "Count": 1}]}
    say = 'echo "$NVIDIA_VISIBLE_DEVICES $CUDA_VISIBLE_DEVICES"; exec sleep 600'
    holders = [bench.job(say, Resources=ask) for _ in "ab"]
    for job in holders:
        bench.register(job)
    held = [bench.alloc(job["ID"], "running") for job in holders]
    ids = [a["AllocatedResources"]["Tasks"]["train"]["Devices"][0]["DeviceIDs"][0] for a in held]
    assert len(set(ids)) == 2

    waiter = bench.job("true", Resources=ask)
    bench.register(waiter)
    blocked = bench.wait(f"/v1/job/{waiter['ID']}/evaluations", lambda es: [e["Status"] for e in es][:1] == ["blocked"])
    failure = blocked[0]["FailedTGAllocs"]["train"]
    assert failure["DimensionExhausted"] == {"devices: no devices match request": 1}
    assert (failure["NodesEvaluated"], failure["NodesExhausted"]) == (1, 1)
    assert bench.get(f"/v1/job/{waiter['ID']}/summary")["Summary"]["train"]["Queued"] == 1
    assert bench.get(f"/v1/job/{waiter['ID']}")["Status"] == "pending"

    for job in holders:
        bench.ask("DELETE", f"/v1/job/{job['ID']}")
    bench.alloc(waiter["ID"], "complete")
    evals = bench.wait(f"/v1/job/{waiter['ID']}/evaluations", lambda es: all(e["Status"] == "complete" for e in es))
    assert evals[0]["QueuedAllocations"] == {"train": 0}
    for job, own in zip(holders, ids, strict=True):
        assert bench.log(bench.alloc(job["ID"], "complete")) == f"{own} {own}\n"


def test_a_job_that_fits_nowhere_says_why(bench: Bench) -> None:
    ask = {"Devices": [{"Name": "nvidia/gpu", "Count": 3}]}
    job = bench.job(Resources=ask)
    planned = bench.ask("POST", f"/v1/job/{job['ID']}/plan", {"Job": job, "Diff": True}).json()
    assert planned["FailedTGAllocs"]["train"]["ConstraintFiltered"] == {"missing devices": 1}
    assert planned["Diff"]["Type"] == "Added"
    assert bench.ask("GET", f"/v1/job/{job['ID']}").status_code == 404


@pytest.mark.parametrize(("trapped", "kill_signal"), [("TERM", "SIGTERM"), ("INT", "")])
def test_a_stop_is_a_signal_first(bench: Bench, trapped: str, kill_signal: str) -> None:
    job = bench.job(
        f"trap 'echo saved; exit 0' {trapped}; echo ready; while true; do sleep 0.05; done",
        KillSignal=kill_signal,
        KillTimeout=60_000_000_000,
    )
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    got = bench.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=train&type=stdout&plain=true")
    while "ready" not in got.text:  # before that the shell has no trap
        got = bench.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=train&type=stdout&plain=true")
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    alloc = bench.alloc(job["ID"], "complete")
    assert kinds(alloc)[-3:] == ["Killing", "Terminated", "Killed"]
    assert (
        events(alloc)[-3]["DisplayMessage"] == "Sent interrupt. Waiting 30s before force killing"
    )  # the most that a client waits
    assert (alloc["DesiredStatus"], alloc["DesiredDescription"]) == ("stop", "alloc not needed due to job update")
    assert bench.log(alloc) == "ready\nsaved\n"
    job = bench.get(f"/v1/job/{job['ID']}")
    assert (job["Status"], job["Stop"]) == ("dead", True)


def test_a_stop_ends_the_whole_tree(bench: Bench) -> None:
    job = bench.job("trap '' INT; (trap '' INT; exec sleep 600) & setsid sleep 600 & wait; sleep 600")
    job["TaskGroups"][0]["Tasks"][0]["KillTimeout"] = 100_000_000
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    bench.ask("DELETE", f"/v1/job/{job['ID']}?purge=true")
    bench.wait(f"/v1/allocation/{alloc['ID']}", lambda a: a["ClientStatus"] == "complete")
    assert not [p for p in psutil.process_iter() if environment_of(p).get("NOMAD_ALLOC_ID") == alloc["ID"]]
    assert bench.ask("GET", f"/v1/job/{job['ID']}").status_code == 404


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def test_max_run_duration_ends_the_allocation(bench: Bench) -> None:
    job = bench.job("exec sleep 600")
    job["TaskGroups"][0]["MaxRunDuration"] = 500_000_000
    bench.register(job)
    alloc = bench.alloc(job["ID"], "complete")
    assert alloc["ClientDescription"] == "allocation exceeded max_run_duration"
    over = bench.wait(f"/v1/allocation/{alloc['ID']}", lambda a: a["TaskStates"]["train"]["State"] == "dead")
    killing = next(e for e in events(over) if e["Type"] == "Killing")
    assert killing["DisplayMessage"] == "allocation exceeded max_run_duration"
    assert over["ClientStatus"] == "complete"


def test_prestart_comes_first_and_its_failure_ends_the_rest(bench: Bench) -> None:
    for code, status in ((0, "complete"), (1, "failed")):
        job = bench.job('cat "$NOMAD_ALLOC_DIR/data/x"')
        config = {"command": "/bin/sh", "args": ["-c", f'echo made > "$NOMAD_ALLOC_DIR/data/x"; exit {code}']}
        before = {"Name": "before", "Driver": "raw_exec", "Config": config, "Lifecycle": {"Hook": "prestart"}}
        job["TaskGroups"][0]["Tasks"].insert(0, before)
        bench.register(job)
        alloc = bench.alloc(job["ID"], status)
        if code == 0:
            assert bench.log(alloc) == "made\n"
        else:
            over = bench.wait(f"/v1/allocation/{alloc['ID']}", lambda a: a["TaskStates"]["train"]["State"] == "dead")
            assert "Started" not in kinds(over)


def test_logs_are_bounded(bench: Bench) -> None:
    job = bench.job("head -c 3500000 /dev/zero", LogConfig={"MaxFiles": 2, "MaxFileSizeMB": 1})
    alloc = bench.run(job)
    listed = bench.get(f"/v1/client/fs/ls/{alloc['ID']}?path=alloc/logs")
    sizes = {f["Name"]: f["Size"] for f in listed if f["Name"].startswith("train.stdout")}
    assert len(sizes) == 2
    assert sum(sizes.values()) <= 2 * 1024 * 1024


def test_changed_job_runs_again_and_an_unchanged_one_does_not(bench: Bench) -> None:
    job = bench.job("exit 1")
    bench.run(job)
    again = bench.register(job)
    bench.wait(f"/v1/evaluation/{again['EvalID']}", lambda e: e["Status"] == "complete")
    assert len(bench.get(f"/v1/job/{job['ID']}/allocations")) == 1
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"][1] = "exit 0"
    bench.register(job)
    bench.alloc(job["ID"], "complete")
    assert len(bench.get(f"/v1/job/{job['ID']}/allocations")) == 2
    assert bench.get(f"/v1/job/{job['ID']}")["Version"] == 1
    assert len(bench.get(f"/v1/job/{job['ID']}/versions?diffs=true")["Diffs"]) == 1


def test_a_failed_allocation_is_rescheduled_where_its_policy_says_so(bench: Bench) -> None:
    job = bench.job("exit 1")
    policy = {"Attempts": 1, "Delay": 5_000_000_000, "DelayFunction": "constant", "Interval": 600_000_000_000}
    job["TaskGroups"][0]["ReschedulePolicy"] = policy
    bench.register(job)
    path = f"/v1/job/{job['ID']}/allocations"
    both = bench.wait(path, lambda all_: len(all_) == 2 and all(a["ClientStatus"] == "failed" for a in all_))
    assert both[1]["NextAllocation"] == both[0]["ID"]
    assert len(both[0]["RescheduleTracker"]["Events"]) == 1
    triggers = [e["TriggeredBy"] for e in bench.get(f"/v1/job/{job['ID']}/evaluations")]
    assert triggers == ["alloc-reschedule", "alloc-failure", "job-register"]


def test_parallel_allocations_are_told_apart(bench: Bench) -> None:
    job = bench.job('echo "$NOMAD_ALLOC_INDEX $NOMAD_PORT_rdzv"')
    job["TaskGroups"][0] |= {"Count": 3, "Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "rdzv"}]}]}
    bench.register(job)
    path = f"/v1/job/{job['ID']}/allocations"
    all_ = bench.wait(path, lambda a: len(a) == 3 and all(x["ClientStatus"] == "complete" for x in a))
    said = sorted(bench.log(a).split() for a in all_)
    assert [index for index, _ in said] == ["0", "1", "2"]
    assert len({port for _, port in said}) == 3
    assert all(re.fullmatch(r"2\d{4}", port) for _, port in said)


def test_a_node_shows_what_is_declared(bench: Bench) -> None:
    (node,) = bench.get("/v1/nodes?resources=true")
    full = bench.get(f"/v1/node/{node['ID']}")
    assert node["NodeResources"]["Cpu"]["CpuShares"] == NODE["cpu_mhz"]
    (gpus,) = node["NodeResources"]["Devices"]
    assert gpus["Attributes"]["caravan_declared"]["Bool"] is True
    assert len(gpus["Instances"]) == 2
    assert full["Attributes"]["caravan.builtin"] == "true"
    assert Path(full["Meta"]["caravan_python"]) == Path(PYTHON)
    assert os.access(full["Meta"]["caravan_python"], os.X_OK)

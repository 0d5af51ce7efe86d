"""Tasks that change while they run: templates that are rendered again, delays before an end, users, what is told."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.local.bench import Bench, events, kinds

LOOP = "while true; do sleep 0.05; done"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("changes") / "home")
    yield bench
    bench.down()


def put(bench: Bench, job_id: str, **items: str) -> None:
    path = f"nomad/jobs/{job_id}"
    got = bench.ask("PUT", f"/v1/var/{path}", {"Namespace": "default", "Path": path, "Items": items})
    assert got.status_code == 200, got.text


def templated(bench: Bench, command: str, **template: Any) -> dict[str, Any]:
    """A job whose template shows the item `x` of its own variable."""
    job = bench.job(command, Env={"SHOWN": "1"})
    text = f'{{{{ with nomadVar "nomad/jobs/{job["ID"]}" }}}}X={{{{ .x }}}}{{{{ end }}}}\n'
    told = {"EmbeddedTmpl": text, "DestPath": "local/x", "Splay": 0, **template}
    job["TaskGroups"][0]["Tasks"][0]["Templates"] = [told]
    return job


def until(bench: Bench, job_id: str, kind: str, number: int = 1) -> dict[str, Any]:
    """The allocation as soon as its task has had so many events of a kind."""
    path = f"/v1/job/{job_id}/allocations"

    def good(listed: list[dict[str, Any]]) -> bool:
        states = (listed[0]["TaskStates"] or {}) if listed else {}
        return [e["Type"] for e in (states.get("train") or {"Events": []})["Events"] or []].count(kind) >= number

    listed = bench.wait(path, good)
    return dict(bench.get(f"/v1/allocation/{listed[0]['ID']}"))


def test_a_changed_template_restarts_its_task(bench: Bench) -> None:
    job = templated(bench, f"cat local/x; echo env $X; {LOOP}", Envvars=True)
    put(bench, job["ID"], x="1")
    bench.register(job)
    bench.alloc(job["ID"], "running")
    put(bench, job["ID"], x="2")
    alloc = until(bench, job["ID"], "Started", 2)
    assert kinds(alloc)[2:] == ["Started", "Restart Signaled", "Terminated", "Restarting", "Started"]
    signaled = events(alloc)[3]
    assert signaled["DisplayMessage"] == "Template with change_mode restart re-rendered"
    assert signaled["Details"] == {}
    assert events(alloc)[5]["DisplayMessage"] == "Task restarting in 0s"
    while "env 2" not in bench.log(alloc):
        pass
    assert bench.log(alloc) == "X=1\nenv 1\nX=2\nenv 2\n"
    bench.ask("DELETE", f"/v1/job/{job['ID']}")


def test_a_changed_template_sends_a_signal(bench: Bench) -> None:
    job = templated(
        bench, f"trap 'cat local/x; exit 0' HUP; echo ready; {LOOP}", ChangeMode="signal", ChangeSignal="SIGHUP"
    )
    put(bench, job["ID"], x="1")
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    while "ready" not in bench.log(alloc):
        pass
    put(bench, job["ID"], x="2")
    alloc = bench.alloc(job["ID"], "complete")
    assert kinds(alloc)[-2:] == ["Signaling", "Terminated"]
    told = events(alloc)[-2]
    assert (told["DisplayMessage"], told["Details"]) == ("Template re-rendered", {"task_signal": "hangup"})
    assert bench.log(alloc) == "ready\nX=2\n"


@pytest.mark.parametrize(("script", "kind", "said"), [
    ("touch ok; exit 0", "Task hook message",
     "Template successfully ran script /bin/sh with arguments: [-c touch ok; exit 0]. Exit code: 0"),
    ("exit 3", "Task hook failed",
     "Template ran script /bin/sh with arguments [-c exit 3] on change but it exited with code: 3"),
])  # fmt: skip
@pytest.mark.parametrize("driver", ["raw_exec", "exec"])
def test_a_changed_template_runs_a_script(bench: Bench, script: str, kind: str, said: str, driver: str) -> None:
    run = {"Command": "/bin/sh", "Args": ["-c", script], "Timeout": 20_000_000_000, "FailOnError": True}
    job = templated(bench, LOOP, ChangeMode="script", ChangeScript=run)
    job["TaskGroups"][0]["Tasks"][0]["Driver"] = driver
    put(bench, job["ID"], x="1")
    bench.register(job)
    bench.alloc(job["ID"], "running")
    put(bench, job["ID"], x="2")
    alloc = until(bench, job["ID"], kind)
    assert next(e for e in events(alloc) if e["Type"] == kind)["DisplayMessage"] == said
    if kind == "Task hook failed":
        alloc = bench.alloc(job["ID"], "failed")
        assert kinds(alloc)[-4:] == [kind, "Killing", "Terminated", "Killed"]
        assert events(alloc)[-3]["DisplayMessage"] == "Template script failed, task is being killed"
        assert events(alloc)[-3]["Details"] == {"fails_task": "true"}
    bench.ask("DELETE", f"/v1/job/{job['ID']}")


def test_noop_renders_and_says_nothing(bench: Bench) -> None:
    job = templated(bench, "while ! grep -q 2 local/x; do sleep 0.05; done; cat local/x", ChangeMode="noop")
    put(bench, job["ID"], x="1")
    bench.register(job)
    bench.alloc(job["ID"], "running")
    put(bench, job["ID"], x="2")
    alloc = bench.alloc(job["ID"], "complete")
    assert kinds(alloc) == ["Received", "Task Setup", "Started", "Terminated"]
    assert bench.log(alloc) == "X=2\n"


def test_a_template_that_breaks_later_ends_the_task(bench: Bench) -> None:
    job = templated(bench, LOOP)
    job["TaskGroups"][0]["Tasks"][0]["Templates"][0]["ErrMissingKey"] = True
    put(bench, job["ID"], x="1")
    bench.register(job)
    bench.alloc(job["ID"], "running")
    put(bench, job["ID"], y="1")
    alloc = bench.alloc(job["ID"], "failed")
    assert kinds(alloc)[-3:] == ["Killing", "Terminated", "Killed"]
    assert events(alloc)[-3]["DisplayMessage"].endswith('at <.x>: map has no entry for key "x"')


def test_a_template_of_services_follows_them(bench: Bench) -> None:
    job = templated(bench, f"cat local/x; {LOOP}", EmbeddedTmpl='{{ range nomadService "late" }}{{ .Port }}{{ end }}\n')
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    other = bench.job("sleep 600")
    other["TaskGroups"][0]["Services"] = [{"Name": "late", "Provider": "nomad", "PortLabel": "4711"}]
    bench.register(other)
    until(bench, job["ID"], "Started", 2)
    while "4711" not in bench.log(alloc):
        pass
    for one in (job, other):
        bench.ask("DELETE", f"/v1/job/{one['ID']}")


def test_an_environment_template_that_is_none(bench: Bench) -> None:
    job = templated(bench, "true", EmbeddedTmpl="A B\n", Envvars=True, DestPath="secrets/env")
    alloc = bench.run(job)
    assert kinds(alloc) == ["Received", "Task Setup", "Killing"]
    said = events(alloc)[-1]["DisplayMessage"]
    assert said.startswith("Template failed to read environment variables: error parsing env template ")
    assert said.endswith('/secrets/env": error on line 1: missing =')


def test_a_shutdown_delay_comes_before_the_signal(bench: Bench) -> None:
    job = bench.job(f"trap 'echo bye; exit 0' INT; echo ready; {LOOP}", ShutdownDelay=300_000_000)
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    while "ready" not in bench.log(alloc):
        pass
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    alloc = bench.alloc(job["ID"], "complete")
    assert kinds(alloc)[-4:] == ["Killing", "Waiting for shutdown delay", "Terminated", "Killed"]
    assert events(alloc)[-3]["DisplayMessage"] == "Waiting for shutdown_delay of 300ms before killing the task."


def test_a_task_that_ends_within_its_shutdown_delay_was_not_killed(bench: Bench) -> None:
    job = bench.job("while [ ! -e local/go ]; do sleep 0.05; done; exit 0", ShutdownDelay=60_000_000_000)
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    until(bench, job["ID"], "Waiting for shutdown delay")
    (bench.home / "allocs" / alloc["ID"] / "train" / "local" / "go").touch()
    alloc = bench.alloc(job["ID"], "complete")
    assert kinds(alloc)[-2:] == ["Waiting for shutdown delay", "Terminated"]


@pytest.mark.parametrize(("driver", "user", "kind", "said"), [
    ("exec", "root", "Task hook failed", 'validate: running as user "root" is disallowed'),
    ("raw_exec", "nobody-here", "Driver Failure",
     'failed driver config validation: failed host user validation: failed to identify user "nobody-here": '
     "user: unknown user nobody-here"),
])  # fmt: skip
def test_users_that_are_refused(bench: Bench, driver: str, user: str, kind: str, said: str) -> None:
    alloc = bench.run(bench.job("true", Driver=driver, User=user))
    assert kinds(alloc)[-2:] == [kind, "Not Restarting"]
    assert events(alloc)[-2]["DisplayMessage"] == said


def test_a_directory_that_is_not_there_is_told_as_go_tells_it(bench: Bench) -> None:
    job = bench.job("echo a b")
    job["TaskGroups"][0]["Tasks"][0]["Config"]["work_dir"] = "/no/such"
    alloc = bench.run(job)
    assert events(alloc)[-2]["DriverError"] == (
        "failed to launch command with executor: rpc error: code = Unknown desc = failed to start command "
        'path="/bin/sh" --- args=["/bin/sh" "-c" "echo a b"]: fork/exec /bin/sh: no such file or directory'
    )


def test_a_persons_wishes_are_told(bench: Bench) -> None:
    job = bench.job(f"trap 'echo got' USR1; echo ready; {LOOP}")
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    while "ready" not in bench.log(alloc):
        pass
    bench.ask("PUT", f"/v1/client/allocation/{alloc['ID']}/signal", {"Signal": "SIGUSR1"})
    signaled = until(bench, job["ID"], "Signaling")
    told = next(e for e in events(signaled) if e["Type"] == "Signaling")
    assert (told["DisplayMessage"], told["Details"]) == ("Task being sent a signal", {"signal": "SIGUSR1"})
    for body, said in (({}, "running tasks"), ({"TaskName": "train"}, "task")):
        bench.ask("PUT", f"/v1/client/allocation/{alloc['ID']}/restart", copy.deepcopy(body))
        restarted = until(bench, job["ID"], "Started", 2 if not body else 3)
        told = [e for e in events(restarted) if e["Type"] == "Restart Signaled"][-1]
        assert told["DisplayMessage"] == f"User requested {said} to restart"
    bench.ask("DELETE", f"/v1/job/{job['ID']}")


@pytest.mark.parametrize(("reference", "said"), [
    ("${NO_SUCH_NAME}", 'Unknown variable: There is no variable named "NO_SUCH_NAME".'),
    ("${NOMAD_TASK_NAMES}",
     'Unknown variable: There is no variable named "NOMAD_TASK_NAMES". Did you mean "NOMAD_TASK_NAME"?'),
    ("${meta.nothing}", 'Unsupported attribute: This object does not have an attribute named "nothing".'),
    ('${env["NOTHING"]}', "Invalid index: The given key does not identify an element in this collection value."),
])  # fmt: skip
def test_a_drivers_configuration_may_name_only_what_there_is(bench: Bench, reference: str, said: str) -> None:
    alloc = bench.run(bench.job(f"echo {reference}"))
    assert kinds(alloc)[-2:] == ["Failed Validation", "Not Restarting"]
    assert events(alloc)[-2]["ValidationError"] == f"2 errors occurred:\n\t* failed to parse config: \n\t* {said}\n\n"


def test_what_a_drivers_configuration_may_name(bench: Bench) -> None:
    text = 'x=y; echo ${node.datacenter} ${attr.kernel.name} ${NOMAD_TASK_NAME} ${env["NOMAD_JOB_NAME"]} $${x} $HOME'
    job = bench.job(text)
    alloc = bench.run(job)
    assert bench.log(alloc) == f"dc1 linux train {job['ID']} y /\n"

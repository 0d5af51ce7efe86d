"""Looking at runs: the table, one run's attempts, its logs, and watching it while another process drives it."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.agent.state import RunState
from caravan.terminal.app import run
from caravan.terminal.following import Follower
from caravan.terminal.logs import last_lines
from caravan.terminal.progress import PlainProgress
from caravan.terminal.streams import Terminal
from caravan.values.errors import ClusterUnreachable
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass
from caravan.values.log_marks import Mark, marks
from caravan.values.plan import Author, Limits, OutputSink, PlanChange, TrainingPlan
from caravan.values.run import (
    Attempt,
    Deployment,
    DeploymentState,
    Outcome,
    OutcomeKind,
    RunEvent,
    RunRecord,
    RunRequest,
    RunStatus,
)
from tests.fakes.cluster import Script
from tests.fakes.screens import Screen
from tests.fakes.wiring import FakeWiring, nobody, person, printed

ALLOCS = ("11111111-aaaa", "22222222-bbbb")


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


def record(
    wiring: FakeWiring, run_id: str = "abc12345", status: RunStatus = RunStatus.RUNNING, **more: Any
) -> RunRecord:
    request = RunRequest(
        prompt=more.pop("prompt", "train it"), source=more.pop("source", "/some/repo"), cluster="http://x"
    )
    now = wiring.clock.now()
    made = RunRecord(id=run_id, created_at=now, updated_at=now, status=status, request=request, **more)
    wiring.runs.create_run(made)
    return made


def attempt(number: int, *, good: bool) -> Attempt:
    outcome = Outcome(
        kind=OutcomeKind.SUCCEEDED if good else OutcomeKind.FAILED,
        reason="" if good else "train: out of memory, killed (exit code 137)",
        node_name="node-1",
        started_at=None,
        alloc_id=ALLOCS[number - 1],
    )
    made = Attempt(number=number, job_id=f"x-a0{number}", hcl_path="/h", plan_sha256="p", outcome=outcome)
    if good:
        return made
    change = PlanChange(path="resources.memory_mb", value=512, by=Author.REPAIR, why="twice as much")
    diagnosis = Diagnosis(
        failure=FailureClass.HOST_MEMORY_OOM,
        confidence=0.95,
        cause="It needed more than 256 MB.",
        lines=("Killed \x1b[31mprocess 1", "exit code 137"),
    )
    repair = ChangePlan(changes=(change,), why="twice the memory")
    return made.model_copy(
        update={"diagnosis": diagnosis, "repair": repair, "changed": {"resources.memory_mb": (256, 512)}}
    )


def state(made: RunRecord, *attempts: Attempt) -> RunState:
    plan = TrainingPlan(
        goal="g",
        command=("python", "t.py"),
        driver="raw_exec",
        outputs=OutputSink(kind="path", location="/o"),
        limits=Limits(max_run_s=3600),
    )
    return RunState(run_id=made.id, request=made.request, plan=plan, attempts=attempts)


def deployed(wiring: FakeWiring, made: RunRecord, number: int, status: DeploymentState) -> None:
    deployment = Deployment(
        run_id=made.id,
        attempt=number,
        job_id=f"x-a0{number}",
        spec_sha256=f"s{number}",
        plan_sha256="p",
        state=status,
    )
    wiring.runs.intend(deployment)
    wiring.runs.save_deployment(deployment)
    data = {"alloc_id": ALLOCS[number - 1], "attempt": number, "node": f"node-{number}"}
    wiring.runs.add_event(made.id, RunEvent(at=wiring.clock.now(), kind="placed", text=f"placed {number}", data=data))


def registered(wiring: FakeWiring, number: int, script: Script) -> None:
    wiring.nomad._script = lambda job: script
    group = {"Name": "g", "Tasks": [{"Name": "train", "Driver": "raw_exec"}]}
    wiring.nomad.register({"ID": f"x-a0{number}", "Namespace": "default", "Type": "batch", "TaskGroups": [group]})


def on_screen(screen: Screen) -> Terminal:
    """A terminal whose stdout and stderr are one screen."""
    return Terminal(nobody().stdin, screen, screen)


# ---- runs


@pytest.mark.parametrize("columns", [80, 160])
def test_the_table_fits(columns: int, wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    made = record(
        wiring, status=RunStatus.ESCALATED, prompt="fine-tune 漢字 " * 20, source="/a/" + "r" * 60, cost_usd=1234.5
    )
    deployed(wiring, made, 1, DeploymentState.FINISHED)
    record(wiring, "def67890")
    wiring.clock.sleep(3 * 86400)
    screen = Screen(columns, 24)
    assert run(wiring, ["runs"], on_screen(screen)) == 0
    head, *rows = screen.rows()
    assert head.split() == ["run", "status", "try", "age", "took", "USD", "repository", "prompt"]
    assert len(rows) == 2
    assert rows[0].split()[:6] == ["def67890", "interrupted", "-", "3d", "-", "0.00"]
    assert rows[1].split()[:6] == ["abc12345", "escalated", "1", "3d", "0s", "1234.50"]
    assert rows[1].endswith("…")


def test_runs_of_a_status(wiring: FakeWiring) -> None:
    for number, status in enumerate((RunStatus.FAILED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.RUNNING)):
        record(wiring, f"run{number}", status)
    for argv, found in (
        (["--status", "failed"], {"run0", "run2"}),
        (["--status", "failed", "--limit", "1"], {"run2"}),
        (["--status", "interrupted", "--status", "succeeded"], {"run1", "run3"}),
        (["--status", "waiting"], set()),
    ):
        terminal = nobody()
        assert run(wiring, ["runs", "--json", *argv], terminal) == 0
        assert {row["run_id"] for row in json.loads(printed(terminal)[0])} == found
    terminal = nobody()
    assert run(wiring, ["runs", "--status", "good"], terminal) == 2
    assert "'good' is no status of a run. There are: running" in printed(terminal)[1]
    terminal = nobody()
    assert run(wiring, ["runs", "--status", "waiting"], terminal) == 0
    assert printed(terminal)[0] == "There are no such runs.\n"


# ---- show


def test_attempts_are_blocks(wiring: FakeWiring) -> None:
    made = record(wiring, status=RunStatus.SUCCEEDED)
    deployed(wiring, made, 1, DeploymentState.FINISHED)
    deployed(wiring, made, 2, DeploymentState.FINISHED)
    wiring.scripted.states[made.id] = state(made, attempt(1, good=False), attempt(2, good=True))
    terminal = nobody()
    assert run(wiring, ["show", "abc"], terminal) == 0
    lines = printed(terminal)[0].splitlines()
    at = lines.index("✗ Attempt 1: x-a01")
    assert lines[at : at + 10] == [
        "✗ Attempt 1: x-a01",
        "  failed on node-1: train: out of memory, killed (exit code 137)",
        "  Cause: It needed more than 256 MB. (host_memory_oom, 95% sure, by rules)",
        "    │ Killed process 1",
        "    │ exit code 137",
        "  Repair: twice the memory",
        "    resources.memory_mb  256 → 512",
        "",
        "✓ Attempt 2: x-a02",
        "  succeeded on node-1",
    ]
    assert lines.index("Plan") > at + 9
    assert "  attempt 1" not in "\n".join(lines)


# ---- logs


@pytest.fixture
def two_attempts(wiring: FakeWiring) -> RunRecord:
    made = record(wiring, status=RunStatus.SUCCEEDED)
    folder = wiring.folder(made.id)
    for number, alloc in enumerate(ALLOCS, 1):
        deployed(wiring, made, number, DeploymentState.FINISHED)
        folder.append_log(alloc, "train", "stdout", b"".join(b"out %d.%d\n" % (number, n) for n in range(5)))
        folder.append_log(alloc, "train", "stderr", b"err %d\n" % number)
    return made


def test_it_is_said_which_log_follows(wiring: FakeWiring, two_attempts: RunRecord) -> None:
    terminal = nobody()
    assert run(wiring, ["logs", "abc"], terminal) == 0
    out, err = printed(terminal)
    assert out.splitlines() == [f"out {a}.{n}" for a in (1, 2) for n in range(5)]
    assert err.splitlines() == [
        "==> attempt 1, train stdout on node-1 (allocation 11111111)",
        "==> attempt 2, train stdout on node-2 (allocation 22222222)",
    ]


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["--attempt", "1"], [f"out 1.{n}" for n in range(5)]),
        (["--attempt", "2", "--tail", "1"], ["out 2.4"]),
        (["--tail", "7"], ["out 1.3", "out 1.4", *(f"out 2.{n}" for n in range(5))]),
        (["--tail", "0"], []),
        (["--tail", "99", "--follow"], [f"out {a}.{n}" for a in (1, 2) for n in range(5)]),
        (["--stderr", "--tail", "1"], ["err 2"]),
    ],
)
def test_a_part_of_the_logs(argv: list[str], lines: list[str], wiring: FakeWiring, two_attempts: RunRecord) -> None:
    terminal = nobody()
    assert run(wiring, ["logs", "abc", *argv], terminal) == 0
    assert printed(terminal)[0].splitlines() == lines


def test_marks_are_shown_without_their_tokens(wiring: FakeWiring) -> None:
    made = record(wiring, status=RunStatus.SUCCEEDED)
    head, mark = marks("a" * 32)
    text = f"{head}\nloss 2\n{mark[Mark.EVALUATION_BEGINS]}\nloss 3\n"
    wiring.folder(made.id).append_log(ALLOCS[0], "train", "stdout", text.encode())
    terminal = nobody()
    assert run(wiring, ["logs", "abc"], terminal) == 0
    assert printed(terminal)[0].splitlines() == ["loss 2", "caravan: evaluation begins", "loss 3"]
    wiring.folder(made.id).append_log(ALLOCS[0], "train", "stderr", f"{head}\n".encode())
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "--stderr"], terminal) == 0
    assert "has no stderr yet; its stdout has lines" in printed(terminal)[1]


def test_logs_that_are_not_there(wiring: FakeWiring, two_attempts: RunRecord) -> None:
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "--attempt", "3"], terminal) == 2
    assert "Run abc12345 has 2 attempts." in printed(terminal)[1]
    other = record(wiring, "def67890")
    wiring.folder(other.id).append_log("33333333", "train", "stderr", b"only here\n")
    terminal = nobody()
    assert run(wiring, ["logs", "def", "-f"], terminal) == 0
    err = printed(terminal)[1]
    assert "No agent works on run def67890 now" in err
    assert "its stderr has lines (with --stderr)" in err


def test_following_goes_over_attempts_and_ends_with_the_run(wiring: FakeWiring) -> None:
    made = record(wiring)
    folder = wiring.folder(made.id)

    def first() -> None:
        deployed(wiring, made, 1, DeploymentState.REGISTERED)
        folder.append_log(ALLOCS[0], "train", "stdout", b"one\ntw")

    def second() -> None:
        folder.append_log(ALLOCS[0], "train", "stdout", b"o\n")
        deployed(wiring, made, 2, DeploymentState.REGISTERED)
        folder.append_log(ALLOCS[1], "train", "stdout", b"three\n")

    def third() -> None:
        folder.append_log(ALLOCS[1], "train", "stdout", b"end")
        wiring.runs.update_run(made.id, status=RunStatus.SUCCEEDED)

    terminal = nobody()
    with folder.lock():
        then(wiring, first, second, third)
        assert run(wiring, ["logs", "abc", "-f"], terminal) == 0
    out, err = printed(terminal)
    assert out.splitlines() == ["one", "two", "three", "end"]
    assert [line.split(",")[0] for line in err.splitlines()] == ["==> attempt 1", "==> attempt 2"]


@settings(deadline=None)
@given(st.binary(max_size=60).map(lambda b: b.replace(b"\r", b"\n")), st.integers(0, 9))
def test_last_lines(tmp_path_factory: pytest.TempPathFactory, data: bytes, count: int) -> None:
    file = tmp_path_factory.mktemp("log") / "x.log"
    file.write_bytes(data)
    offset, found = last_lines(file, count)
    *whole, rest = data.split(b"\n")
    whole += [rest] if rest else []
    assert found == min(count, len(whole))
    shown = data[offset:].removesuffix(b"\n").split(b"\n") if data[offset:] else []
    assert shown == whole[len(whole) - found :]


# ---- watch


def then(wiring: FakeWiring, *steps: Callable[[], None]) -> None:
    """What another process does between two looks; after the last step nothing is waited for any more."""
    left = list(steps)
    sleep = wiring.clock.sleep

    def next_step(seconds: float) -> None:
        sleep(seconds)
        assert left, "waited longer than anything happens"
        left.pop(0)()

    wiring.clock.sleep = next_step  # type: ignore[method-assign]


def test_a_run_of_another_process_is_watched_to_its_end(wiring: FakeWiring) -> None:
    made = record(wiring, node="analyze_codebase")
    folder = wiring.folder(made.id)

    def deploys() -> None:
        wiring.scripted.states[made.id] = state(made)
        wiring.runs.update_run(made.id, node="verify_deployment")
        registered(wiring, 1, Script(exit_code=1, hangs=False))
        deployed(wiring, made, 1, DeploymentState.REGISTERED)

    def trains() -> None:
        wiring.clock.sleep_only(5)  # type: ignore[attr-defined]
        folder.append_log(ALLOCS[0], "train", "stdout", b"loss 2.5\nloss 1.5\n")

    def fails() -> None:
        wiring.clock.sleep_only(5)  # type: ignore[attr-defined]

    def repairs() -> None:
        wiring.scripted.states[made.id] = state(made, attempt(1, good=False))
        deployed(wiring, made, 1, DeploymentState.FINISHED)
        wiring.runs.update_run(made.id, node="fix_iteration")

    def ends() -> None:
        wiring.scripted.states[made.id] = state(made, attempt(1, good=False), attempt(2, good=False))
        wiring.runs.update_run(made.id, status=RunStatus.FAILED, detail="no attempt is left")

    wiring.clock.sleep_only = wiring.clock.sleep  # type: ignore[attr-defined]
    terminal = nobody()
    before = wiring.nomad.calls[:]
    with folder.lock():
        then(wiring, deploys, trains, fails, repairs, ends)
        wiring_folder_frees(wiring, made, folder)
        assert run(wiring, ["watch", "abc"], terminal) == 1
    out, err = printed(terminal)
    for text in (
        "analyze_codebase: reading the repository",
        "verify_deployment: watching the job",
        "verify_deployment: Attempt 1 of 3",
        "verify_deployment: x-a01 starting on fake-1",
        "verify_deployment: | loss 1.5",
        "verify_deployment: x-a01 ended: train: exit code 1",
        "fix_iteration: Cause: It needed more than 256 MB.",
        "fix_iteration: Repair: twice the memory",
        "fix_iteration: resources.memory_mb: 256 → 512",
    ):
        assert text in err, (text, err)
    assert "Run abc12345: failed; no attempt is left" in out
    assert set(wiring.nomad.calls[len(before) :]) <= {"snapshot", "register"}  # `register` is the other process's
    assert wiring.scripted.replies == []


def wiring_folder_frees(wiring: FakeWiring, made: RunRecord, folder: Any) -> None:
    """An agent lets go of its run when it has ended."""
    held = folder.is_held

    def is_held() -> bool:
        return bool(held()) and wiring.runs.run(made.id).status is RunStatus.RUNNING

    folder.is_held = is_held


class Rows(PlainProgress):
    """A view that keeps the metrics."""

    def __init__(self, wiring: FakeWiring) -> None:
        super().__init__(nobody(), wiring.clock)
        self.rows: list[dict[str, float]] = []

    def metrics(self, values: Mapping[str, float]) -> None:
        self.rows.append(dict(values))


def test_who_watches_is_not_told_metrics_of_the_first_steps(wiring: FakeWiring) -> None:
    made = record(wiring)
    wiring.scripted.states[made.id] = state(made)
    deployed(wiring, made, 1, DeploymentState.FINISHED)
    folder, view = wiring.folder(made.id), Rows(wiring)
    follower = Follower(wiring, cast(Any, wiring.scripted), made.id, view)
    head, mark = marks("a" * 32)
    for piece in (
        f"{head}\ncaravan: evaluation begins\nloss 4\n{mark[Mark.STEPS_BEGIN]}\nloss 9\n",
        f"loss 8\n{mark[Mark.STEPS_OVER]}\nloss 3\n",
        "loss 2\n",
    ):
        folder.append_log(ALLOCS[0], "train", "stdout", piece.encode())
        follower.look()
    assert view.rows == [{"loss": 4}, {"loss": 3}, {"loss": 2}]


def test_a_progress_bar_that_breaks_no_line_for_a_megabyte_holds_nothing_up(wiring: FakeWiring) -> None:
    made = record(wiring)
    wiring.scripted.states[made.id] = state(made)
    deployed(wiring, made, 1, DeploymentState.FINISHED)
    folder, view = wiring.folder(made.id), Rows(wiring)
    follower = Follower(wiring, cast(Any, wiring.scripted), made.id, view)
    for piece in (b"loss 5\n", b"12 of 3000\r" * 120_000, b"\nloss 4\n", b"loss 3\r"):
        folder.append_log(ALLOCS[0], "train", "stderr", piece)
        follower.look()
    assert view.rows == [{"loss": 5}, {"loss": 4}, {"loss": 3}]


def test_a_run_that_nobody_drives(wiring: FakeWiring) -> None:
    made = record(wiring, node="verify_deployment")
    wiring.scripted.states[made.id] = state(made)
    registered(wiring, 1, Script(hangs=True))
    deployed(wiring, made, 1, DeploymentState.REGISTERED)
    terminal = person()

    def leave() -> None:
        raise KeyboardInterrupt

    then(wiring, lambda: None, lambda: None, lambda: None, lambda: None, leave)
    assert run(wiring, ["watch", "abc"], terminal) == 130
    _, err = printed(terminal)
    assert "No agent works on run abc12345 now; `main.py resume abc12345` goes on." in err
    assert "x-a01 starting on fake-1" in err
    assert err.splitlines()[-1].startswith("Left; the run is not changed by that.")
    assert wiring.runs.run(made.id) == made
    assert wiring.runs.deployments(made.id)[0].state is DeploymentState.REGISTERED


@pytest.mark.parametrize(("status", "code"), [(RunStatus.WAITING, 3), (RunStatus.RUNNING, 130)])
def test_there_is_nothing_to_wait_for(status: RunStatus, code: int, wiring: FakeWiring) -> None:
    record(wiring, status=status, detail="Deploy it?")
    terminal = nobody()
    assert run(wiring, ["watch", "abc"], terminal) == code
    assert ("It waits for a person: Deploy it?" in printed(terminal)[1]) is (status is RunStatus.WAITING)
    assert wiring.clusters == []


def test_the_built_in_cluster_is_not_started_to_watch(wiring: FakeWiring) -> None:
    made = record(wiring)
    wiring.runs._runs[made.id] = made.model_copy(
        update={"request": made.request.model_copy(update={"cluster": "local"})}
    )
    wiring.scripted.states[made.id] = state(made)
    deployed(wiring, made, 1, DeploymentState.REGISTERED)
    terminal = nobody()
    assert run(wiring, ["watch", "abc"], terminal) == 130
    assert "The built-in cluster does not run." in printed(terminal)[1]
    assert wiring.local_cluster.running is None


def test_a_cluster_that_does_not_answer_is_said_once(wiring: FakeWiring) -> None:
    made = record(wiring)
    wiring.scripted.states[made.id] = state(made)
    registered(wiring, 1, Script())
    deployed(wiring, made, 1, DeploymentState.REGISTERED)
    wiring.nomad.fail("snapshot", ClusterUnreachable("No answer from http://x."), times=3)
    terminal = nobody()
    then(wiring, *[lambda: None] * 30)
    assert run(wiring, ["watch", "abc"], terminal) == 130
    err = printed(terminal)[1]
    assert err.count("The cluster can't be asked: No answer from http://x.") == 1
    assert "x-a01 ended" in err


def test_several_runs_give_the_worst_code(wiring: FakeWiring) -> None:
    for number, status in enumerate((RunStatus.SUCCEEDED, RunStatus.ESCALATED, RunStatus.FAILED)):
        record(wiring, f"run{number}", status)
    screen = Screen(80, 24)
    terminal = on_screen(screen)
    assert run(wiring, ["watch", "run0", "run1", "run2", "run2"], terminal) == 3
    lines = screen.everything()
    assert [line.split(":")[0] for line in lines if line.startswith("Run ")] == ["Run run0", "Run run1", "Run run2"]
    assert screen.cursor_seen
    assert run(wiring, ["watch", "nope"], nobody()) == 2


def test_ages_are_short() -> None:
    from caravan.terminal.text import age

    for seconds, said in (
        (-1, "0s"),
        (59, "59s"),
        (60, "1m"),
        (7199, "119m"),
        (7200, "2h"),
        (86400, "24h"),
        (2e5, "2d"),
    ):
        assert age(seconds) == said
    assert age(timedelta(days=999).total_seconds()) == "999d"


def test_of_a_progress_bar_the_last_state_is_printed(wiring: FakeWiring) -> None:
    made = record(wiring, status=RunStatus.SUCCEEDED)
    deployed(wiring, made, 1, DeploymentState.FINISHED)
    bar = b"".join(b"\r%d%%|##" % n for n in range(100))
    wiring.folder(made.id).append_log(ALLOCS[0], "train", "stdout", b"begun\n" + bar + b"\rdone\nloss 1\n" + bar)
    terminal = nobody()
    assert run(wiring, ["logs", "abc"], terminal) == 0
    assert printed(terminal)[0].splitlines() == ["begun", "done", "loss 1", "99%|##"]

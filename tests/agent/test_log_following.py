"""Following a job's logs: what is shown, which metrics are told, and that nothing is lost between two looks."""

import itertools
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.agent.context import Context
from caravan.agent.logs import LogFollower, split_lines
from caravan.agent.metrics import last_metrics, metric_rows
from caravan.agent.training_lines import of_training
from caravan.values.errors import ClusterUnreachable
from caravan.values.job import FileEntry
from caravan.values.log_marks import Mark, marks
from caravan.values.run import Allocation, Phase, Snapshot, TaskState
from tests.fakes.clock import FakeClock
from tests.fakes.folder import PlainFolder

ALLOC = "0a1b2c3d-0000"


class Told:
    """A progress that keeps log lines and metrics."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.rows: list[dict[str, float]] = []

    def log(self, stream: str, lines: list[str]) -> None:
        self.lines += [(stream, line) for line in lines]

    def metrics(self, values: Mapping[str, float]) -> None:
        self.rows.append(dict(values))


class Logs:
    """A cluster that has logs alone; what it has grows."""

    def __init__(self) -> None:
        self.data = {"stdout": b"", "stderr": b""}
        self.away = False
        self.asked = 0

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...]:
        return ()

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        self.asked += stream == "stdout"
        if self.away:
            raise ClusterUnreachable("no path to the node")
        return self.data[stream][offset : offset + limit]


class Ticking(FakeClock):
    """Each look at it is some seconds later."""

    def monotonic(self) -> float:
        self.sleep(3)
        return super().monotonic()


def context(tmp_path: Path, cluster: Logs, told: Told) -> Context:
    folder = PlainFolder(tmp_path, "r1")
    return cast(
        "Context",
        SimpleNamespace(cluster=cluster, clock=Ticking(), folder=folder, progress=told, secrets=("correct-horse",)),
    )


def seen(phase: Phase = Phase.RUNNING) -> Snapshot:
    now = FakeClock().now()
    task = TaskState(name="train", state="running", started_at=now)
    alloc = Allocation(id=ALLOC, name="a", group="g", client_status="running", tasks=(task,))
    return Snapshot(job_id="a01", at=now, phase=phase, allocations=(alloc,))


def test_metrics_of_lines_that_are_not_shown_are_told_too(tmp_path: Path) -> None:
    cluster, told = Logs(), Told()
    cluster.data["stdout"] = b"".join(b"step %d loss %.1f\n" % (n, 100 - n) for n in range(100))
    LogFollower(context(tmp_path, cluster, told)).copy(seen())
    assert [row["loss"] for row in told.rows] == [100.0 - n for n in range(100)]
    assert told.lines[-1] == ("stdout", "step 99 loss 1.0")
    assert told.lines[0] == ("stdout", "… 80 lines before these, in the log")
    assert len(told.lines) == 21


def test_of_the_document_that_an_evaluation_prints_its_figures_are_shown(tmp_path: Path) -> None:
    cluster, told = Logs(), Told()
    found = {"version": 1, "by": "lm", "held_out": {"base": {"loss": 2.5}, "tuned": {"loss": 1.23456}, "samples": 9}}
    cluster.data["stdout"] = f'{json.dumps(found)}\n{{"version": 1 broken\n'.encode()
    LogFollower(context(tmp_path, cluster, told)).copy(seen())
    assert told.lines == [
        ("stdout", "evaluation by lm: held-out data: loss 1.235 (base 2.5)"),
        ("stdout", '{"version": 1 broken'),
    ]


def test_a_line_in_two_pieces_is_one_line(tmp_path: Path) -> None:
    cluster, told = Logs(), Told()
    follower = LogFollower(context(tmp_path, cluster, told))
    for piece in (b"loss 0.", b"51\npassword correct-", b"horse\nloss 0.4"):
        cluster.data["stdout"] += piece
        follower.copy(seen())
    assert told.rows == [{"loss": 0.51}]
    assert told.lines == [("stdout", "loss 0.51"), ("stdout", "password [masked]")]
    follower.copy(seen(Phase.ENDED))
    assert told.rows == [{"loss": 0.51}, {"loss": 0.4}]
    assert told.lines[-1] == ("stdout", "loss 0.4")


def test_what_an_earlier_agent_copied_is_read_again_for_its_metrics(tmp_path: Path) -> None:
    cluster = Logs()
    cluster.data["stdout"] = b"loss 3\nloss 2\nloss 1"
    LogFollower(context(tmp_path, cluster, Told())).copy(seen())
    told = Told()
    again = context(tmp_path, cluster, told)
    again.folder._logs = {f"{ALLOC[:8]}.train.stdout.log": cluster.data["stdout"]}  # type: ignore[attr-defined]
    cluster.data["stdout"] += b".5\nloss 1\n"
    LogFollower(again).copy(seen())
    assert [row["loss"] for row in told.rows] == [3, 2, 1.5, 1]
    assert [line for _, line in told.lines] == ["loss 1.5", "loss 1"]


HEAD, MARK = marks("a" * 32)
STEPS = f"{MARK[Mark.STEPS_BEGIN]}\nbatch 1 accum 16 loss 9\n{MARK[Mark.STEPS_OVER]}\n".encode()


def test_what_the_first_steps_wrote_is_shown_but_belongs_to_no_series(tmp_path: Path) -> None:
    cluster, told = Logs(), Told()
    follower = LogFollower(context(tmp_path, cluster, told), names=("accum",))
    for piece in (f"{HEAD}\nloss 3\n".encode(), STEPS[:70], STEPS[70:], b"loss 2\n"):
        cluster.data["stdout"] += piece
        follower.copy(seen())
    assert told.rows == [{"loss": 3}, {"loss": 2}]
    assert told.lines == [
        ("stdout", "loss 3"),
        ("stdout", "caravan: first steps begin"),
        ("stdout", "batch 1 accum 16 loss 9"),
        ("stdout", "caravan: first steps are over"),
        ("stdout", "loss 2"),
    ]


def test_who_follows_from_the_midst_of_a_log_knows_its_marks(tmp_path: Path) -> None:
    cluster, told = Logs(), Told()
    cluster.data["stdout"] = f"{HEAD}\n".encode() + STEPS[:70]
    LogFollower(context(tmp_path, cluster, Told())).copy(seen())
    again = context(tmp_path, cluster, told)
    again.folder._logs = {f"{ALLOC[:8]}.train.stdout.log": cluster.data["stdout"]}  # type: ignore[attr-defined]
    cluster.data["stdout"] += STEPS[70:] + b"loss 2\n"
    LogFollower(again).copy(seen())
    assert told.rows == [{"loss": 2}]


def test_a_text_without_what_is_no_part_of_the_training() -> None:
    whole = f"{HEAD}\nloss 1\n{STEPS.decode()}loss 2\n"
    assert of_training(whole) == "loss 1\nloss 2"
    assert of_training("loss 1\nloss 2\n") == "loss 1\nloss 2"


def test_of_several_members_the_first_has_the_series_and_each_line_its_number(tmp_path: Path) -> None:
    cluster, told = Logs(), Told()
    cluster.data["stdout"] = b"loss 1\n"
    one = seen()
    members = tuple(
        one.allocations[0].model_copy(update={"id": f"{n}{ALLOC}", "name": f"j.train[{n}]"}) for n in (0, 1)
    )
    LogFollower(context(tmp_path, cluster, told), nodes=2).copy(one.model_copy(update={"allocations": members}))
    assert told.lines == [("stdout", "[0] loss 1"), ("stdout", "[1] loss 1")]
    assert told.rows == [{"loss": 1}]


def test_logs_that_are_away_are_copied_later(tmp_path: Path) -> None:
    cluster, told = Logs(), Told()
    follower = LogFollower(context(tmp_path, cluster, told))
    cluster.away, cluster.data["stderr"] = True, b"loss 1\n"
    follower.copy(seen())
    assert told.rows == []
    cluster.away = False
    follower.copy(seen())
    assert told.lines == [("stderr", "loss 1")]


def test_of_a_progress_bar_only_the_last_state_is_shown() -> None:
    states, shown, rest = split_lines(b"\r 1%\r 2%\r 3%\r\n\nend\r\n 4%\r 5%\r 6%")
    assert states == [b" 1%", b" 2%", b" 3%", b"end", b" 4%", b" 5%"]
    assert shown == [b" 3%", b"end", b" 5%"]
    assert rest == b" 6%"


@given(st.integers(4000, 4200), st.integers(0, 700), st.integers(0, 20_000), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_where_a_line_is_cut_shows_no_half_of_a_secret(before: int, times: int, after: int, name: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cluster, told = Logs(), Told()
        follower = LogFollower(context(Path(folder), cluster, told))
        line = b"." * before + b"correct-horse " * times + b"." * (after % 9) + b"correct-horse" + b"." * after
        cluster.data["stdout"] = (b'{"loss-correct-horse": 1.0}' if name else line) + b"\n"
        follower.copy(seen())
        assert told.lines
        assert all("corr" not in line and len(line) <= 4096 for _, line in told.lines)
        assert "corr" not in repr(told.rows) + follower.heard(seen()).last_line


def test_an_endless_line_is_cut(tmp_path: Path) -> None:
    cluster, told = Logs(), Told()
    follower = LogFollower(context(tmp_path, cluster, told))
    cluster.data["stdout"] = b"x" * 5_000_000
    follower.copy(seen())
    assert all(len(rest) <= 4 * 4096 for rest in follower._rests.values())
    cluster.data["stdout"] += b"\nloss 1\n"
    follower.copy(seen())
    assert told.rows == [{"loss": 1.0}]
    assert all(len(line) <= 4096 for _, line in told.lines)


@settings(deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_pieces_make_no_difference(data: bytes, cuts: list[int]) -> None:
    whole = split_lines(data)
    rest, states = b"", []
    edges = [0, *sorted(cuts), len(data)]
    for a, b in itertools.pairwise(edges):
        found, _, rest = split_lines(rest + data[a:b])
        states += found
    assert (states, rest) == (whole[0], whole[2])


def test_rows_of_metrics() -> None:
    lines = ["hello", "step 1 loss 2.5", '{"loss": NaN, "ok": true, "note": "x"}', "loss=-inf", "[" * 100_000]
    rows: list[dict[str, float]] = list(metric_rows(lines))
    assert rows[0] == {"step": 1.0, "loss": 2.5}
    assert math.isnan(rows[1]["loss"])
    assert rows[2] == {"loss": -math.inf}
    assert list(metric_rows(['{"loss": 1' + "0" * 400 + "}"])) == [{"loss": math.inf}]
    assert last_metrics("loss 1\nacc 2\nloss 3") == {"loss": 3.0, "acc": 2.0}


@settings(deadline=None)
@given(st.lists(st.text()))
def test_any_lines_can_be_read(lines: list[str]) -> None:
    values: Any = list(metric_rows(lines))
    assert all(row for row in values)


def test_a_log_that_grows_is_asked_for_each_second_and_a_quiet_one_less_often(tmp_path: Path) -> None:
    cluster, clock = Logs(), FakeClock()
    follower = LogFollower(replaced_clock(context(tmp_path, cluster, Told()), clock))
    asked = []
    for second in range(40):
        if second >= 20:
            cluster.data["stdout"] += b"line\n"
        before = cluster.asked
        follower.copy(seen())
        asked.append(cluster.asked > before)
        clock.sleep(1)
    assert sum(asked[4:20]) <= 6
    assert all(asked[25:])


def replaced_clock(made: Context, clock: FakeClock) -> Context:
    made.clock = clock  # type: ignore[misc]
    return made

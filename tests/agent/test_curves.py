"""Curves out of a run's folder: what the logs, the file of metrics and the samples say, bounded."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.agent import curves as module
from caravan.agent.curves import curves_of
from caravan.agent.metrics import metric_rows
from caravan.agent.quick_metrics import QuickRows
from caravan.agent.thinning import Thinned
from caravan.runs.folder import DiskFolder
from caravan.values.plan import OutputSink
from caravan.values.run import RunEvent

AT = datetime(2026, 11, 22, tzinfo=UTC)


def placed(attempt: int, alloc_id: str) -> RunEvent:
    return RunEvent(at=AT, kind="placed", text=alloc_id, data={"attempt": attempt, "alloc_id": alloc_id})


@pytest.fixture
def folder(tmp_path: Path) -> DiskFolder:
    return DiskFolder(tmp_path, "r-1")


LOG = b"""installing
step 1/3 loss 3.5 lr 1e-4
step 2/3 loss nan lr 5e-5
{"eval_loss": 2.5}
step 3/3 loss 2.0 lr 0
"""


def test_the_log_gives_a_curve_for_each_metric(folder: DiskFolder) -> None:
    folder.append_log("a1b2c3d4e5", "train", "stdout", LOG)
    folder.append_log("a1b2c3d4e5", "setup", "stdout", b"score 1\n")
    (found,) = curves_of(folder, (), (placed(1, "a1b2c3d4e5"),))
    by_name = {curve.name: curve for curve in found.metrics}
    assert set(by_name) == {"loss", "lr", "eval_loss"}
    assert by_name["loss"].x == (1, 2, 3)
    assert [y for y in by_name["loss"].y if math.isfinite(y)] == [3.5, 2.0]
    assert by_name["eval_loss"].points() == ((2, 2.5),)
    assert by_name["eval_loss"].held_out
    assert by_name["eval_loss"].group == by_name["loss"].group == "loss"


def test_attempts_are_apart(folder: DiskFolder) -> None:
    folder.append_log("aaaaaaaa1", "train", "stdout", b"step 1 loss 3\nstep 2 loss 2\n")
    folder.append_log("bbbbbbbb1", "train", "stderr", b"epoch 1 loss 1\n")
    found = curves_of(folder, (), (placed(1, "aaaaaaaa1"), placed(2, "bbbbbbbb1")))
    assert [(c.attempt, c.metrics[0].y, c.metrics[0].over) for c in found] == [
        (1, (3, 2), "step"),
        (2, (1,), "epoch"),
    ]


def test_the_file_of_metrics_is_taken_before_the_log(folder: DiskFolder, tmp_path: Path) -> None:
    folder.append_log("a1b2c3d4e5", "train", "stdout", LOG)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "metrics.jsonl").write_text('{"step": 1, "loss": 7, "speed": 3}\n[1]\nno\n{"step": 2, "loss": 6}\n')
    sink = OutputSink(kind="path", location=str(outputs))
    began = RunEvent(at=datetime(2000, 1, 1, tzinfo=UTC), kind="placed", data=placed(1, "a1b2c3d4e5").data)
    (found,) = curves_of(folder, (), (began,), outputs=sink)
    by_name = {curve.name: curve.y for curve in found.metrics}
    assert by_name["loss"] == (7, 6)
    assert by_name["speed"] == (3,)
    assert "eval_loss" in by_name
    assert any("metrics.jsonl" in note for note in found.notes)
    elsewhere = tmp_path / "secret"
    (outputs / "metrics.jsonl").rename(elsewhere)
    (outputs / "metrics.jsonl").symlink_to(elsewhere)  # a link of the job's leads nowhere
    (found,) = curves_of(folder, (), (began,), outputs=sink)
    assert "speed" not in {curve.name for curve in found.metrics}


def test_of_a_large_log_windows_are_read_and_it_says_so(folder: DiskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 8192)
    monkeypatch.setattr(module, "_WINDOW", 1024)
    folder.append_log("a1b2c3d4e5", "train", "stdout", b"".join(b"step %d loss %d.5\n" % (n, n) for n in range(5000)))
    (found,) = curves_of(folder, (), (placed(1, "a1b2c3d4e5"),))
    (curve,) = found.metrics
    assert 300 < curve.seen < 1000
    assert curve.x[0] == 0
    assert curve.x[-1] == 4999
    assert all(y == x + 0.5 for x, y in curve.points())  # no half line was read
    assert any("windows" in note for note in found.notes)


def test_samples_give_the_resources_over_time(folder: DiskFolder) -> None:
    lines = [{"kind": "begin", "at": 100, "host_limit_mb": 2147.5}]
    for n in range(4):
        device = {"n": 0, "used_mb": 1073.741824 * n, "total_mb": 10737.41824, "busy": 25 * n}
        phase = "training" if n else "setup"
        lines.append({"at": 100 + 60 * n, "up": 60 * n, "phase": phase, "host_mb": 1073.741824, "gpus": [device]})
    junk = [b"{", b"[]", b'{"at": "x"}', b'{"at": 1e99, "host_mb": 3}', b'{"at": 400, "gpus": [7, {"n": {}}]}']
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b"\n".join(junk) + b"\n"
    folder.append_samples("a1b2c3d4e5", data)
    (found,) = curves_of(folder, (), (placed(1, "a1b2c3d4e5"),))
    by_group = {curve.group: curve for curve in found.resources}
    assert by_group["GPU memory"].points() == ((0, 0), (1, 1), (2, 2), (3, 3))
    assert by_group["GPU memory"].limit == pytest.approx(10)
    assert by_group["GPU use"].y == (0, 25, 50, 75)
    assert by_group["host memory"].limit == pytest.approx(2.0, abs=0.01)
    assert found.training_since == 1


figures = st.floats(-1e6, 1e6).map(repr) | st.sampled_from(
    ["nan", "inf", "-inf", "1e-4", "2", "-3", "12:30:01", "1.2.3"]
)
words = st.sampled_from(
    [
        *("loss", "eval_loss", "lr", "step", "top5_acc", "x", "--lr", "error:", "usage:", "7/9", "f1", "[", "'loss'"),
        *("val", "Train", "Val.", "best", "test set:", "discriminator", "'", '"', "episode", "ep_rew"),
    ]
)
between = st.sampled_from([" ", "=", ": ", "  ", "/", "|", "", "-"])


@given(st.lists(st.tuples(words | figures, between), max_size=12))
def test_the_quick_reader_reads_what_the_other_one_reads(parts: list[tuple[str, str]]) -> None:
    line = "".join(word + gap for word, gap in parts)
    reader = QuickRows(("x",))
    for _ in range(2):  # learned, then remembered
        assert repr(list(reader.of([line]))) == repr(list(metric_rows([line], names=("x",))))


@given(st.lists(st.floats(allow_nan=True), max_size=400), st.integers(2, 20))
def test_a_thinned_series_is_bounded_and_keeps_its_extremes(values: list[float], stretches: int) -> None:
    thinned = Thinned[int](stretches)
    for number, value in enumerate(values):
        thinned.add(number, value)
    points = thinned.points()
    kept = [value for _, value in points if math.isfinite(value)]
    finite = [value for value in values if math.isfinite(value)]
    assert len(points) <= 3 * stretches + 2
    assert [at for at, _ in points] == sorted({at for at, _ in points})
    assert (min(kept), max(kept)) == (min(finite), max(finite)) if finite else not kept
    assert thinned.seen == len(values)


def test_two_spellings_of_one_metric_are_one_curve(folder: DiskFolder, tmp_path: Path) -> None:
    folder.append_log("a1b2c3d4e5", "train", "stdout", b"step 1 loss 3 tokens/s 10\nstep 2 loss 2 tokens/s 12\n")
    rows = [{"step": n, "loss": 3.0 - n, "tokens_per_second": 10.0 + n, "eval_loss": 3.5} for n in (1, 2, 3)]
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    sink = OutputSink(kind="path", location=str(tmp_path / "outputs"))
    (found,) = curves_of(folder, (), (placed(1, "a1b2c3d4e5"),), outputs=sink)
    assert sorted(curve.name for curve in found.metrics) == ["eval_loss", "loss", "tokens_per_second"]

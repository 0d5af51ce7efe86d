"""Ctrl-C: what it asks, and what it leaves behind; with real processes in a real pseudo-terminal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from caravan.terminal.app import run
from caravan.terminal.interrupts import Interrupts
from caravan.values.errors import Interrupted
from caravan.values.run import Deployment, DeploymentState, RunRecord, RunStatus
from tests.fakes.clock import FakeClock
from tests.fakes.product import Product
from tests.fakes.ptys import Sitting
from tests.fakes.wiring import FakeWiring, person, printed

ROOT = Path(__file__).parents[2]
SCRIPT = """
import argparse
import time

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.parse_args()
print("loss 2.5", flush=True)
while True:
    time.sleep(0.1)
"""


# ---- in one process


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    (path / "train.py").write_text(SCRIPT)
    return path


def with_job(wiring: FakeWiring) -> None:
    """Every run that is made has a job on the cluster."""
    create = wiring.runs.create_run

    def create_with_job(record: RunRecord) -> None:
        create(record)
        wiring.runs.intend(
            Deployment(
                run_id=record.id,
                attempt=1,
                job_id="x-a01",
                spec_sha256="1",
                plan_sha256="2",
                state=DeploymentState.REGISTERED,
            )
        )

    wiring.runs.create_run = create_with_job  # type: ignore[method-assign]


STOP = Interrupted("The run was interrupted.")


@pytest.mark.parametrize("typed", [[""], ["l"], ["LEAVE"], ["what?", ""], [KeyboardInterrupt()], []])
def test_leaving_is_the_default(typed: list[str | BaseException], repository: Path, tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [STOP]), person(*typed)
    with_job(wiring)
    assert run(wiring, ["--prompt", "p", "--codebase-path", str(repository)], terminal) == 130
    (record,) = wiring.runs.runs()
    _, err = printed(terminal)
    assert "The job x-a01 runs on the cluster. What now?" in err
    assert "its job x-a01 keeps running on the cluster" in err
    assert f"main.py resume {record.id}" in err.splitlines()[-1]
    assert f"main.py stop {record.id}" in err.splitlines()[-1]
    assert not err.splitlines()[-1].startswith("Error")
    assert record.status is RunStatus.RUNNING
    assert "stop" not in wiring.nomad.calls


def test_going_on_goes_on_from_the_checkpoint(repository: Path, tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [STOP, STOP, RunStatus.SUCCEEDED]), person("w", "watch")
    with_job(wiring)
    assert run(wiring, ["--prompt", "p", "--codebase-path", str(repository)], terminal) == 0
    assert wiring.scripted.replies == [None, None, None]


def test_stopping_ends_the_run_with_its_report(repository: Path, tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [STOP, RunStatus.STOPPED]), person("s")
    with_job(wiring)
    assert run(wiring, ["--prompt", "p", "--codebase-path", str(repository)], terminal) == 130
    (record,) = wiring.runs.runs()
    assert record.status is RunStatus.STOPPED
    assert [e.kind for e in wiring.runs.events(record.id)] == ["stopped"]
    assert wiring.scripted.replies == [None, None]  # driven on to its report
    assert "stopped" in printed(terminal)[0]


def test_nothing_deployed_is_nothing_to_ask(repository: Path, tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [STOP]), person()
    assert run(wiring, ["--prompt", "p", "--codebase-path", str(repository)], terminal) == 130
    _, err = printed(terminal)
    assert "What now?" not in err
    assert f"Go on with `main.py resume {wiring.runs.runs()[0].id}`." in err


@contextmanager
def handled(clock: FakeClock | None = None) -> Iterator[Interrupts]:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts(clock or FakeClock()) as interrupts:
        yield interrupts
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_only_the_first_and_the_third_interrupt() -> None:
    with handled() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not interrupts.to_leave
        signal.raise_signal(signal.SIGINT)
        assert interrupts.to_leave
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_one_much_later_is_taken_at_its_word() -> None:
    clock = FakeClock()
    with handled(clock):
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            clock.sleep(60)


def test_one_that_was_kept_is_not_lost() -> None:
    with handled() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.arm()
        assert not interrupts.to_leave
        interrupts.arm()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interrupts.arm()
        assert not interrupts.to_leave


def test_being_told_to_end_leaves_without_a_question() -> None:
    with handled() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        interrupts.arm()
        assert interrupts.to_leave


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(FakeClock()):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


# ---- with real processes


def sit(product: Product, *words: str) -> Sitting:
    """Start a command before a person."""
    return Sitting(["main.py", *words], cwd=ROOT, environment=product.environment)


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    product = Product(tmp_path / "home", CARAVAN_MEMORY="false")
    yield product
    product.run("cluster", "down")


def question(sitting: Sitting) -> bool:
    return sitting.screen.rows()[-1:] == ["l, s, w or b >"]


def watching(sitting: Sitting) -> bool:
    return sitting.screen.rows()[-1:] == ["  │ loss 2.5"]


def test_ctrl_c_in_a_terminal(product: Product, repository: Path) -> None:
    sitting = sit(product, "--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local", "--yes")
    try:
        sitting.until(watching)
        assert not sitting.echoes
        sitting.type("\n\nnobody reads this\n\x03")
        sitting.until(question)
        assert sitting.echoes
        assert sitting.screen.cursor_seen
        sitting.type("w\n")
        sitting.until(watching)
        sitting.type("\x03")
        sitting.until(question)
        sitting.type("\x03")
        assert sitting.end() == 130
        assert sitting.echoes
        assert sitting.screen.cursor_seen
        assert "keeps running on the cluster" in sitting.text().replace("\n", " ")
        assert "watching the job" not in sitting.text()
        assert "nobody reads this" not in sitting.text()
        assert b"Traceback" not in sitting.raw
        run_id = next(line.split()[1] for line in sitting.text().splitlines() if line.startswith("Run "))
    finally:
        sitting.close()
    assert product.document("show", run_id)["status"] == "running"

    sitting, other = sit(product, "resume", run_id), None
    try:
        sitting.until_text("running on")
        other = product.start("watch", run_id)
        assert other.stderr is not None
        assert next(line for line in other.stderr if "| loss 2.5" in line)
        sitting.type("\x03")
        sitting.until(question)
        sitting.type("s\n")
        assert sitting.end() == 130
        assert f"Run {run_id}: stopped" in sitting.text()
        assert "REPORT.md" in sitting.text().replace("\n", "")
        _, errors = other.communicate()
        assert other.returncode == 130
        assert "ended from outside" in errors
    finally:
        sitting.close()
        if other is not None and other.poll() is None:
            other.kill()
            other.communicate()
    document = product.document("show", run_id)
    assert document["status"] == "stopped"
    assert len(document["attempts"]) == 1

"""What ends a training too early: the next attempt goes on from the last whole checkpoint, with the same result."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, copied, edited, sets


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The weights of a training that nobody disturbs."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("undisturbed")
    repository = copied("steps", folder)
    subprocess.run([sys.executable, "train.py", "--output-dir", str(folder / "out")], cwd=repository, check=True)
    return weights(folder / "out")


def weights(out: Path) -> np.ndarray:
    with np.load(out / "weights.npz") as saved:
        return np.array(saved["weights"])


class Held:
    """A training that holds at a step until it is ended."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "held.json"
        self.options = sets({"env.HOLD_IN": str(folder), "env.HOLD_AT": "25"})

    @contextmanager
    def then(self, act: Callable[[int, Path], None]) -> Iterator[None]:
        """Do that to the process, once it holds."""
        over = threading.Event()

        def wait() -> None:
            while not over.wait(0.02):
                if self.file.exists():
                    held = json.loads(self.file.read_text())
                    act(int(held["pid"]), Path(held["out"]))
                    return

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def kill(pid: int, _: Path) -> None:
    os.kill(pid, signal.SIGKILL)


def outputs(site: Site, ended: Ended) -> Path:
    return site.home / "runs" / ended.document["run_id"] / "outputs"


def resumed(ended: Ended) -> list[str]:
    return [a["resumed"] for a in ended.attempts]


def test_a_task_that_is_killed_goes_on_with_the_same_result(
    site: Site, tmp_path: Path, undisturbed: np.ndarray
) -> None:
    held = Held(tmp_path)
    with held.then(kill):
        ended = site.run(copied("steps", tmp_path), *held.options)
    assert ended.code == 0, ended.told()
    assert resumed(ended) == ["", "resumed from checkpoint-20.npz"]
    assert (weights(outputs(site, ended)) == undisturbed).all()


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b"weights.npy") + 140] ^= 0x10  # in the member's data, behind its header
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_off, emptied, flipped])
def test_a_broken_last_checkpoint_falls_back_to_the_one_before(
    site: Site, tmp_path: Path, undisturbed: np.ndarray, damage: Callable[[Path], None]
) -> None:
    def damage_and_kill(pid: int, out: Path) -> None:
        damage(out / "checkpoint-20.npz")
        kill(pid, out)

    held = Held(tmp_path)
    with held.then(damage_and_kill):
        ended = site.run(copied("steps", tmp_path), *held.options)
    assert ended.code == 0, ended.told()
    first, second = resumed(ended)
    assert (first, second.partition(" (")[0]) == ("", "resumed from checkpoint-10.npz")
    assert "not checkpoint-20.npz: checkpoint-20.npz is " in second
    assert (weights(outputs(site, ended)) == undisturbed).all()


def test_an_allocation_that_the_cluster_ends_goes_on_in_its_next_one(
    site: Site, tmp_path: Path, undisturbed: np.ndarray
) -> None:
    def stop_allocation(_pid: int, _out: Path) -> None:
        running = [a for a in site.ask("GET", "/v1/allocations?prefix=") if a["ClientStatus"] == "running"]
        (ours,) = [a for a in running if a["JobID"].startswith("caravan-")]
        site.ask("POST", f"/v1/allocation/{ours['ID']}/stop")

    held = Held(tmp_path)
    with held.then(stop_allocation):
        ended = site.run(copied("steps", tmp_path), *held.options)
    assert ended.code == 0, ended.told()
    # It was told to end, so it wrote a checkpoint of its own.
    assert resumed(ended)[-1] == "resumed from checkpoint-25.npz"
    assert (weights(outputs(site, ended)) == undisturbed).all()


def test_a_repair_that_changes_what_a_checkpoint_is_bound_to_starts_anew(site: Site, tmp_path: Path) -> None:
    repository = copied("steps", tmp_path)
    edited(repository / "train.py", ('"--lr", type=float, default=0.05', '"--lr", type=float, default=1.4'))
    options = sets({"training.options.--save-every": 500, "training.max_steps": 4000})
    ended = site.run(repository, *options)
    # The second attempt blows up too, though it ends in numbers.
    ended.succeeded(FailureClass.NUMERIC_DIVERGENCE, FailureClass.NUMERIC_DIVERGENCE)
    first, second, third = resumed(ended)
    assert first == ""
    assert second == "starts anew: what its checkpoints are bound to has changed: lr 1.4 → 0.47"
    assert third == "starts anew: what its checkpoints are bound to has changed: lr 0.47 → 0.047"


def test_the_approved_money_is_held_and_more_of_it_goes_on(
    site: Site, tmp_path: Path, undisturbed: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_USD_PER_GPU_HOUR", "3600")  # a dollar a second
    held = Held(tmp_path)
    place = sets({"node_pool": "cards", "resources.gpus": 1, "training.max_steps": 40, "smoke.on": False})
    ended = site.run(copied("steps", tmp_path), *held.options, *place, "--budget", "4")
    assert ended.code == 3, ended.told()
    question = ended.document["question"]
    # The watch and the cluster's own time limit, which is made of the money, come to it at about the same time.
    assert "Go on from its last checkpoint as" in question["text"]
    assert "About 62% of the training is in its last checkpoint." in question["text"]
    assert ended.attempts[0]["outcome"]["kind"] == "expired"
    assert ended.attempts[0]["counts"] is False

    again = site.resume(ended, "--approve", "--budget", "1")
    assert again.code == 3, again.told()
    assert again.document["question"]["text"].startswith("Please say what the whole run may cost")

    more = site.resume(ended, "--approve", "--budget", "600")
    assert more.code == 0, more.told()
    assert resumed(more) == ["", "resumed from checkpoint-25.npz"]
    assert (weights(outputs(site, more)) == undisturbed).all()

"""Killed for memory on the host: trainings that really hold more than their task may have."""

import shutil
from pathlib import Path

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied, sets

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "needs-more-memory"
OOM = FailureClass.HOST_MEMORY_OOM


def test_killed_at_its_limit_gets_more_and_ends(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("held-texts", tmp_path)).succeeded(OOM)
    assert ended.changed() == {"resources.memory_mb": [64, 128]}
    assert ended.attempts[0]["outcome"]["oom_killed"]


@pytest.mark.parametrize(("copies", "kills"), [(30, 0), (300, 2)])
def test_other_sizes_need_other_repairs(site: Site, tmp_path: Path, copies: int, kills: int) -> None:
    options = sets({"training.options.--copies": copies})
    site.run(copied("held-texts", tmp_path), *options).succeeded(*[OOM] * kills)


def test_what_three_attempts_do_not_reach_has_failed(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("held-texts", tmp_path), *sets({"training.options.--copies": 900}), memory_mb=24)
    assert ended.classes == [OOM] * 3, ended.told()
    assert ended.document["status"] == "failed"
    assert ended.code == 1


def test_what_no_node_can_give_is_handed_over(site: Site, tmp_path: Path) -> None:
    options = sets({"training.options.--copies": 300, "node_pool": "small"})
    ended = site.run(copied("held-texts", tmp_path), *options, memory_mb=100).escalated(OOM, attempts=2)
    assert ended.changed() == {"resources.memory_mb": [100, 160]}  # all that the largest node has


def test_a_program_that_keeps_to_its_limit_itself_and_fails_to_allocate(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("held-texts", tmp_path), *sets({"training.options.--polite": True})).succeeded(OOM)
    assert "MemoryError" in ended.logs
    assert not ended.attempts[0]["outcome"]["oom_killed"]
    assert ended.changed() == {"resources.memory_mb": [64, 128]}


@pytest.mark.parametrize(("characters", "kills"), [(5000, 0), (13000, 1), (25000, 2)])
def test_the_example_by_another_name_and_with_other_data(
    site: Site, tmp_path: Path, characters: int, kills: int
) -> None:
    repository = tmp_path / "my novel"
    shutil.copytree(EXAMPLE, repository)
    options = sets({"training.options.--max-chars": characters, "env.OPENBLAS_NUM_THREADS": 1})
    ended = site.run(repository, *options, memory_mb=140).succeeded(*[OOM] * kills)
    assert ended.document["metrics"]["loss"] < 4

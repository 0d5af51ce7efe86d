"""Disk for packages that are installed in the allocation."""

import pytest

from caravan.planning.package_room import room_for_packages
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from tests.planning.scenes import bare_plan


def drafted(disk_mb: int = 2048, by: Author = Author.DEFAULT, **more: str) -> TrainingPlan:
    changes = [PlanChange(path="resources.disk_mb", value=disk_mb, by=by, why="usual")]
    changes += [PlanChange(path=f"env.{name}", value=value, by=by, why="said") for name, value in more.items()]
    return apply_changes(bare_plan("python", "train.py"), changes)


@pytest.mark.parametrize(
    "text", ["torch==2.15.0\n", "# jobs\nnumpy\ntrl >= 1.16  # and torch with it\n", "Torch; python_version > '3'"]
)
def test_a_large_framework_gets_room(text: str) -> None:
    (change,) = room_for_packages(drafted(), [text])
    assert (change.path, change.value) == ("resources.disk_mb", 12_048)


@pytest.mark.parametrize("text", ["", "numpy==2.4.6\n", "# torch\n", "torchless\n-r other.txt\n"])
def test_what_is_small_needs_none(text: str) -> None:
    assert room_for_packages(drafted(), [text]) == ()


def test_none_where_a_person_has_said_how_much_or_there_is_enough() -> None:
    assert room_for_packages(drafted(by=Author.USER), ["torch"]) == ()
    assert room_for_packages(drafted(51_200), ["torch"]) == ()


def test_none_where_a_cache_outlives_the_job() -> None:
    kept = drafted(CARAVAN_CACHE_DIR="/cache")
    assert room_for_packages(kept.model_copy(update={"driver": "raw_exec"}), ["torch"]) == ()
    assert room_for_packages(kept.model_copy(update={"driver": "docker"}), ["torch"])

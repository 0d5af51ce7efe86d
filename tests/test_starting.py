"""Shipped lessons: known without being stored, taken in by the first word on them, and forgotten for good."""

from pathlib import Path

import pytest

from caravan.lessons.starters import starters
from caravan.values.errors import ServiceError
from caravan.values.failure import Diagnosis, FailureClass, Lesson, PastCase
from caravan.values.plan import Author, PlanChange
from starting import StartingMemory
from tests.fakes.clock import FakeClock
from tests.fakes.memory import FakeMemory

CONFLICT = FailureClass.PACKAGE_VERSION_CONFLICT
SHIPPED = Lesson(
    failure=CONFLICT,
    fingerprint="package_version_conflict:0123456789ab",
    text="Two libraries do not fit. Known: they are released together.",
    changes=(PlanChange(path="setup.pip", value=["one==2.*"], by=Author.MEMORY),),
    before={"setup.pip": []},
    worked=True,
    source="starter",
)
FAILED = Diagnosis(failure=CONFLICT, confidence=1, cause="They do not fit.", fingerprint=SHIPPED.fingerprint)


class World:
    def __init__(self, folder: Path) -> None:
        self.clock, self.folder = FakeClock(), folder
        self.store = FakeMemory(self.clock)

    def memory(self, *lessons: Lesson) -> StartingMemory:
        return StartingMemory(self.store, lambda: lessons or (SHIPPED,), self.folder, clock=self.clock)

    def recalled(self, memory: StartingMemory, **context: str) -> tuple[PastCase, ...]:
        return memory.recall(text="", diagnosis=FAILED, context={"entry_point": "train.py", **context})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "starters")


def test_a_shipped_lesson_is_recalled_and_marked_and_nothing_is_stored_for_that(world: World) -> None:
    (case,) = world.recalled(world.memory())
    assert (case.source, case.worked, case.last_seen) == ("starter", True, None)
    assert "starter lesson that no run here has tried" in case.why
    assert world.memory().all() == (case.model_copy(update={"score": 0.0, "why": world.memory().all()[0].why}),)
    assert world.store.stored == {}
    assert world.memory().export() == ()
    assert not world.folder.exists()


def test_before_anything_failed_nothing_is_shipped_but_a_person_finds_it(world: World) -> None:
    memory = world.memory()
    assert memory.recall(text="libraries", diagnosis=None, context={"entry_point": "train.py"}) == ()
    (found,) = memory.recall(text="libraries do not fit", diagnosis=None, context={})
    assert found.source == "starter"
    assert memory.recall(text="quantum zebras", diagnosis=None, context={}) == ()


def test_the_first_failure_of_a_shipped_lesson_takes_its_standing(world: World) -> None:
    (case,) = world.recalled(world.memory())
    told = case.model_dump(include={"failure", "fingerprint", "text", "context", "changes", "before", "scope"})
    world.memory().remember(Lesson.model_validate({**told, "worked": False, "source": "ab12/1"}))
    (stored,) = world.recalled(world.memory())
    assert stored.id in world.store.stored
    assert stored.worked is not True
    assert stored.failed == 1
    assert world.memory().all() == world.store.all()


def test_what_is_forgotten_stays_forgotten_one_by_one(world: World) -> None:
    other = SHIPPED.model_copy(update={"fingerprint": "package_version_conflict:ba9876543210"})
    one, two = (case.id for case in world.memory(SHIPPED, other).all())
    assert world.memory(SHIPPED, other).forget(one)
    assert not world.memory(SHIPPED, other).forget(one)
    assert [case.id for case in world.memory(SHIPPED, other).all()] == [two]
    assert not world.memory(SHIPPED, other).forget("nothing")


def test_a_folder_that_can_not_be_written_is_a_service_that_is_away(world: World) -> None:
    world.folder.write_text("a file")
    (case,) = world.memory().all()
    with pytest.raises(ServiceError, match="can't be written"):
        world.memory().forget(case.id)


def test_the_store_that_is_away_still_keeps_the_word(world: World) -> None:
    world.store.down = True
    with pytest.raises(ServiceError):
        world.memory().remember(SHIPPED.model_copy(update={"source": "ab12/1", "worked": False}))
    assert not world.folder.exists()


def test_all_shipped_lessons_have_ids_of_their_own_and_say_nothing_that_none_may(world: World) -> None:
    cases = world.memory(*starters()).all()
    assert len(cases) == len({case.id for case in cases}) > 20
    assert all(case.source == "starter" for case in cases)

"""Against a job that no node takes, and one that was ended from outside."""

from collections.abc import Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.values.failure import FailureClass, Repair, RetryElsewhere, Wait

_WAITS_S: Final = (60, 300, 900)  # growing, so that a busy cluster is not asked all the time
_END_S: Final = 300  # the longest that takes a checkpoint of some ten GB to a network disk
_ENDED: Final = "the job was ended from outside"
_AGAIN: Final = "the same plan once more, on another node where there is one"
_KILLED: Final = "the training was killed, and the same plan may well come through"


def elsewhere(case: Case) -> Iterator[Repair]:
    """The same plan again, on another node where there is one."""
    name = case.diagnosis.node_name
    others = [node for node in case.outlook.takers(case.plan) if node.name != name]
    avoid = (name,) if name and others else ()
    yield RetryElsewhere(avoid_nodes=avoid, why=_why(case))


def _why(case: Case) -> str:
    if case.diagnosis.failure is not FailureClass.INTERRUPTED_EXTERNALLY:
        return _AGAIN
    return _KILLED if case.detail("kind") == "killed" else _ENDED


def wait_for_room(case: Case) -> Iterator[Repair]:
    """Wait while nodes that are large enough for the whole group are busy. Where none are, waiting can't help."""
    if case.outlook.takers(case.plan) and case.outlook.holds(case.plan):
        yield from (Wait(seconds=seconds, why="the nodes that can take the job are busy") for seconds in _WAITS_S)


def no_place(case: Case) -> Iterator[Repair]:
    """Wait while nodes that are large enough are busy, then the nearest plans that have a place."""
    yield from wait_for_room(case)
    yield from nearest(case)


def nearest(case: Case) -> Iterator[Repair]:
    """The nearest plans that have a place."""
    for choice in case.outlook.nearest(case.plan):
        yield from case.change({change.path: change.value for change in choice.changes}, choice.text)


def longer_end(case: Case) -> Iterator[Repair]:
    """More time to write a checkpoint before the end, where the training is asked to stop and is then killed."""
    given = case.plan.kill_timeout_s
    if case.detail("kind") in ("preempted", "drain", "node") and given < _END_S and case.plan.resume is not None:
        yield from case.change({"kill_timeout_s": _END_S}, f"{_END_S} s to write a checkpoint when it is to stop")

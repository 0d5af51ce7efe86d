"""Against a process that hangs, an image that does not come, and a training that is slower than was thought."""

from collections.abc import Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.ladders.placement import elsewhere
from caravan.values.base import Json
from caravan.values.failure import Repair, Wait

_ALONE: Final = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
"""A process that forks after it has begun threads may wait for a lock that nobody holds: tokenizers and OpenMP do."""

_PULL_S: Final = (1200, 3600)  # Nomad's own limit is 300 s, and a training image has 5 to 20 GB
_PAUSES_S: Final = (60, 600)
_LIMITED_S: Final = (300, 1800)  # registries count pulls in windows of hours


def hang(case: Case) -> Iterator[Repair]:
    """No data loader processes and no threads in what they fork from; then another node, where there is one.

    The same plan once more on the same node would stand still at the same place.
    """
    values: dict[str, Json] = case.heard({"training.num_workers": 0})
    values |= {f"env.{name}": value for name, value in _ALONE.items() if name not in case.plan.env}
    yield from case.change(values, "loaders and threads that wait for each other hang without a word")
    if case.others():
        yield from elsewhere(case)


def whole_run(case: Case) -> Iterator[Repair]:
    """The time that the first steps say the whole takes; a person is asked, because it is more than was approved."""
    needed = case.number("needed_s")
    if needed:
        why = f"the whole training takes about {case.detail('needed')} by its first steps"
        yield from case.change({"limits.max_run_s": int(needed)}, why)


def image_pull(case: Case) -> Iterator[Repair]:
    """More time for the pull where the driver's own limit may have ended it; again after a while; another node."""
    given = case.plan.image_pull_timeout_s or 0
    longer = next((seconds for seconds in _PULL_S if seconds > given), None)
    if case.plan.driver == "docker" and longer is not None:
        yield from case.change({"image_pull_timeout_s": longer}, f"the pull may take {longer} s")
    pauses = _LIMITED_S if case.detail("kind") == "rate" else _PAUSES_S
    yield from (Wait(seconds=seconds, why="the registry did not deliver the image") for seconds in pauses)
    yield from elsewhere(case)


def native_crash(case: Case) -> Iterator[Repair]:
    """No data loader processes, another node, then an image whose packages are built together."""
    yield from case.change(
        case.heard({"training.num_workers": 0}), "no loader processes, which crash with what they load"
    )
    yield from case.change(
        case.avoiding(), f"another node than {case.diagnosis.node_name}: its CPU may lack what is used"
    )
    for image in case.outlook.images(case.plan):
        if image.torch and image.image != case.plan.image:
            yield from case.change({"image": image.image}, f"{image.image}, whose packages are built together")
            break

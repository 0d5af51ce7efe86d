"""What the `memory` commands share: the open store, a lesson by the beginning of its id, causes and repositories."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from caravan.terminal.text import one_line
from caravan.values.errors import ServiceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from caravan.ports import Memory
    from caravan.terminal.wiring import Wiring
    from caravan.values.failure import FailureClass, PastCase

EVERYTHING: Final = 100_000
"""More lessons than are listed at once."""
ID: Final = 8
"""Characters of an id that are shown; any beginning that is one lesson's alone will do."""
_AGENT_LEAVES_S: Final = 10.0
_LOOK_S: Final = 0.2


@contextmanager
def opened(wiring: Wiring, *, keeps: bool = False) -> Iterator[Memory]:
    """The memory, once an agent that was just told to stop has let go of it. Raises ServiceError if it does not.

    `keeps`: what is about to be asked of it loses nothing where it can't be used, so that it is not tried out before.
    """
    with wiring.memory() as memory:
        until = wiring.clock.monotonic() + _AGENT_LEAVES_S
        while not keeps:
            try:
                memory.all(limit=1)
                break
            except ServiceError as error:
                if "in use by another process" not in error.message or wiring.clock.monotonic() >= until:
                    raise
                wiring.clock.sleep(_LOOK_S)
        yield memory


def cause_of(name: str | None) -> FailureClass | None:
    """The cause of that name. Raises UsageError with the nearest names."""
    import difflib

    from caravan.values.failure import FailureClass

    if name is None:
        return None
    known = [str(cause) for cause in FailureClass]
    wanted = name.strip().lower().replace("-", "_").replace(" ", "_")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
        raise UsageError(
            f"There is no cause {one_line(name, 60)!r}.",
            hint=f"Did you mean {' or '.join(near)}?" if near else "For example host_memory_oom.",
        )
    return FailureClass(wanted)


def case_of(cases: Iterable[PastCase], given: str) -> PastCase:
    """The lesson whose id begins like that. Raises UsageError where none or several do."""
    found = [case for case in cases if given.strip() and case.id.startswith(given.strip().lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"There is no lesson {one_line(given, 60)!r}.", hint="`memory list` shows them.")
    several = ", ".join(case.id[: max(ID, len(given) + 2)] for case in found[:5])
    raise UsageError(
        f"{one_line(given, 60)!r} is the beginning of several lessons: {several}.", hint="Give more of it."
    )


def repository_digests(wiring: Wiring, path: str) -> tuple[str, ...]:
    """By what lessons name the repository at that path or URL; one that is gone is known by its place alone."""
    from pathlib import Path

    from caravan.agent.recalled import digests_of
    from caravan.terminal.inputs import check_source

    if "://" not in path and not Path(path).expanduser().exists():
        return digests_of(str(Path(path).expanduser().absolute()), None)
    source = check_source(path)
    return digests_of(source, wiring.open_tree(source).git)

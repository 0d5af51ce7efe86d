"""What `doctor` says of LangFuse: whether it answers, takes the keys, what prompts it has, and what time it is there.

A LangFuse that can't be used keeps no run back: traces stay here, and the prompts are others. So nothing here is worse
than a warning, but for settings that must not be used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from caravan.terminal.text import one_line
from caravan.values.amounts import duration
from caravan.values.checkup import Area, Finding, Level
from caravan.values.errors import ServiceError, UsageError
from caravan.values.prompt_inputs import troubles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from caravan.ports import Clock, PromptShelf

_SKEW_S: Final = 60.0
"""From then on a trace stands at a time at which nobody looks for it."""
_ON: Final = "docs/prompts.md"


class LangfuseServer(Protocol):
    """A LangFuse, as `langfuse_client` has it. Each method may raise ServiceError."""

    def health(self) -> str:
        """The server's version."""

    def clock(self) -> datetime | None:
        """What time it is there; None where it does not say."""

    def projects(self) -> tuple[tuple[str, str], ...]:
        """Id and name of the project that the keys belong to."""


def langfuse_findings(server: LangfuseServer | None, shelf: PromptShelf, clock: Clock) -> Iterator[Finding]:
    """The findings; none is set: that nothing goes there."""
    if server is None:
        text = f"None is set: traces stay here, prompts are those kept here or shipped. {_ON} says how to set one."
        yield _finding("langfuse", Level.OK, text)
        return
    try:
        version = server.health()
        projects = server.projects()
    except ServiceError as error:
        yield _unusable("langfuse", error)
        yield from _given(shelf, down=True)
        return
    names = ", ".join(one_line(name or key) for key, name in projects) or "no project"
    said = f"LangFuse {one_line(version)} at {shelf.langfuse} takes the keys: {names}."
    yield _finding("langfuse", Level.OK if projects else Level.WARNING, said)
    yield from _time(server, clock)
    yield from _prompts(shelf)


def _time(server: LangfuseServer, clock: Clock) -> Iterator[Finding]:
    try:
        there = server.clock()
    except ServiceError as error:
        yield _unusable("langfuse clock", error)
        return
    if there is None:
        return
    apart = (clock.now() - there).total_seconds()
    if abs(apart) < _SKEW_S:
        return
    said = f"The clock here is {duration(abs(apart))} {'ahead of' if apart > 0 else 'behind'} LangFuse's."
    hint = "Set the time of this machine: traces stand at the wrong time otherwise."
    yield _finding("langfuse clock", Level.WARNING, said, hint)


def _prompts(shelf: PromptShelf) -> Iterator[Finding]:
    """The prompts under the label: a line for those that runs use, a warning for each that they can't."""
    used, label = [], shelf.label
    try:
        there = shelf.remote_labels()
        for name, (_, labels) in sorted(there.items()):
            if label not in labels:
                continue
            try:
                found = shelf.remote(name, label=label)
            except UsageError as error:
                yield _finding("prompts", Level.WARNING, error.message, error.hint)
                continue
            if found is None:
                continue
            wrong = troubles(name, found.prompt.text, found.prompt.demos)
            if wrong:
                said = f"LangFuse's version {found.prompt.number} of the prompt {name} is not used: {'; '.join(wrong)}."
                yield _finding("prompts", Level.WARNING, said, "Correct it in LangFuse, or `main.py prompts push`.")
            else:
                used.append(f"{name} {found.prompt.number}")
    except ServiceError as error:
        yield _unusable("prompts", error)
        return
    rest = "the others are kept here or shipped" if used else "all are kept here or shipped"
    yield _finding("prompts", Level.OK, f"Under the label {label}: {', '.join(used) or 'none'}; {rest}.")
    yield from _given(shelf, down=False)


def _given(shelf: PromptShelf, *, down: bool) -> Iterator[Finding]:
    """What LangFuse gave earlier and runs that begin now still take: it may be another than what is there now."""
    given = [(name, found) for name in shelf.names() if (found := shelf.given(name)) is not None]
    taken = [(name, found) for name, found in given if found.prompt is not None and (down or found.left_s > 0)]
    for name, found in given:
        if found.trouble and (down or found.left_s > 0):
            yield _finding("cached prompts", Level.WARNING, found.trouble, f"Correct {name} in LangFuse.")
    if not taken:
        return
    names = ", ".join(f"{name} {found.prompt.number}" for name, found in taken if found.prompt is not None)
    age, left = max(found.age_s for _, found in taken), max(found.left_s for _, found in taken)
    until = "until LangFuse answers" if down else f"for {duration(left)} more"
    hint = (
        "" if down else "CARAVAN_PROMPT_CACHE_S says how long; what `main.py prompts promote` changes counts at once."
    )
    text = f"Runs that begin here take what LangFuse gave {duration(age)} ago, {until}: {names}."
    yield _finding("cached prompts", Level.OK, text, hint)


def _unusable(name: str, error: ServiceError) -> Finding:
    return _finding(name, Level.WARNING, f"{error.message} Runs go on without it.", error.hint)


def _finding(name: str, level: Level, text: str, hint: str = "") -> Finding:
    return Finding(area=Area.SERVICE, name=name, level=level, text=text, hint=hint)

"""One scenario of the fault benchmark: a repository, an inventory, a fault in them, and what must happen.

A scenario's tasks read their real arguments, environment, files and limits, and fail until these change; nothing in
them may know which attempt it is. In `files`, `sets`,
`answers`, `environment`, `prompt` and `inventory` these words stand for what the runner makes: @SERVER@ the address of
a loopback server, @PORT@ its port, @WORK@ a directory of the scenario's own beside the repository, where a file called
`../work/NAME` comes to lie. Besides SCENARIOS a module may hold WHEELS: `distribution==version` → path → text, which
pip finds offline. What needs a GPU is played by a stand-in trainer (`stand_in`) that computes its need from its
arguments, prints what PyTorch prints, and is counted apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from caravan.values.failure import FailureClass


class Expected(StrEnum):
    """What must happen."""

    FIXED = "fixed"  # it ends well, within so many attempts, by a change of that kind
    ESCALATED = "escalated"  # a person is told that cause, and nothing more is deployed
    UNTOUCHED = "untouched"  # a healthy control: one attempt, no change


@dataclass(frozen=True)
class Scenario:
    """`files`: path → text of the repository. `inventory`: the built-in cluster's inventory, as its file holds it."""

    name: str
    failure: FailureClass  # the cause that must be told; NO_FAILURE for a control
    expected: Expected
    files: Mapping[str, str]
    inventory: Mapping[str, Any]
    prompt: str = "Train it."
    sets: tuple[str, ...] = ()  # field=value, as `--set` takes them
    answers: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)  # of the agent, beside the scrubbed one
    within: int = 2  # attempts, for FIXED
    changed: tuple[
        str, ...
    ] = ()  # a plan path (or its prefix), or a kind of repair: one of them must be among what was done
    also: tuple[FailureClass, ...] = ()  # causes that are as right as `failure`
    outputs: tuple[str, ...] = ()  # files that a run that ended well must have left, by name
    stand_in: bool = False  # a GPU is played
    seconds: int = 180  # after which it counts as hung
    asks: str = ""  # ESCALATED by a question before anything fails: a word that it must hold
    disturbed: str = ""  # words in a task's log after which its allocation is stopped from outside, once

"""What a rung is built from: the failure, the plan, what is known around it, and small helpers to write repairs.

Questions that only another room can answer (does it fit, which nodes could take it, what would the program be told)
come in as functions, so that this room knows no estimate, no command line and no repository.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from caravan.values.base import Json
from caravan.values.dialogue import PlanChoice
from caravan.values.environment import BaseImage
from caravan.values.errors import PlanError
from caravan.values.failure import ChangePlan, Diagnosis, PastCase, Repair
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile, ScriptOption

SAID: Final = frozenset({Author.USER, Author.ANSWER})
"""Authors that are a person: what they set is changed only after asking."""
_READ: Final = 20_000  # characters of the evidence that are searched


class GpuChoice(NamedTuple):
    """A GPU type that the plan could be given; its memory in GiB, None where that is not known."""

    model: str
    gib: float | None


@dataclass(frozen=True)
class Outlook:
    """What planning answers about a plan. The defaults know nothing.

    `fits` None: not known. `takers` are the nodes that could take the plan were they larger, `holds` says whether
    they would have room for all members of the plan at once, were they empty. `words` is the command as the job
    would run it, `unheard` the fields that no option of the program takes. `field_of` names the plan field that an
    option of that name sets. `gpus` are the types that one node has enough of, the cheapest first, whatever model
    the plan names. `images` are base images that the plan's nodes can run, the fittest first; `torch_below` is the
    first version of torch that is too new for their driver, None: not known. `bf16` None: not known. `matches` says
    whether a plan's word for a GPU (`A100`) means a node's model. `nearest` are the nearest other plans that have a
    place. `image`: the settings' image.
    """

    fits: Callable[[TrainingPlan], bool | None] = lambda _: None
    takers: Callable[[TrainingPlan], Sequence[NodeFacts]] = lambda _: ()
    holds: Callable[[TrainingPlan], bool] = lambda _: True
    words: Callable[[TrainingPlan], tuple[str, ...]] = lambda plan: plan.command
    unheard: Callable[[TrainingPlan], Sequence[str]] = lambda _: ()
    host_need_mb: Callable[[TrainingPlan], int | None] = lambda _: None
    field_of: Callable[[str], str | None] = lambda _: None
    gpus: Callable[[TrainingPlan], Sequence[GpuChoice]] = lambda _: ()
    images: Callable[[TrainingPlan], Sequence[BaseImage]] = lambda _: ()
    torch_below: Callable[[TrainingPlan], str | None] = lambda _: None
    bf16: Callable[[TrainingPlan], bool | None] = lambda _: None
    matches: Callable[[str, str], bool] = lambda asked, model: asked == model
    nearest: Callable[[TrainingPlan], Sequence[PlanChoice]] = lambda _: ()
    image: str | None = None


@dataclass(frozen=True)
class Looks:
    """Looks into the repository: paths that end in a name (directories with a slash), a text file ("": none), and
    the files that say what must be installed, those of the entry point first.
    """

    find: Callable[[str], tuple[str, ...]] = lambda _: ()
    read: Callable[[str], str] = lambda _: ""
    dependencies: Callable[[], tuple[str, ...]] = lambda: ()

    def files(self, name: str) -> tuple[str, ...]:
        """The files whose path ends in `name`."""
        return tuple(p for p in self._found(name) if not p.endswith("/"))

    def directories(self, name: str) -> tuple[str, ...]:
        """The directories whose path ends in `name`, without their slash."""
        return tuple(p.rstrip("/") for p in self._found(name) if p.endswith("/"))

    def _found(self, name: str) -> tuple[str, ...]:
        return self.find(name) if name.strip("./ ") else ()


@dataclass(frozen=True)
class Case:
    """A failure with everything that a repair can be built from."""

    diagnosis: Diagnosis
    plan: TrainingPlan
    profile: RepoProfile
    facts: ClusterFacts
    cases: Sequence[PastCase] = ()
    outlook: Outlook = field(default_factory=Outlook)
    looks: Looks = field(default_factory=Looks)

    def detail(self, name: str) -> str:
        """What the evidence names in that role; empty where it doesn't."""
        return self.diagnosis.details.get(name, "").strip()

    @property
    def text(self) -> str:
        """The cause and the lines that show it, as one text."""
        return "\n".join((self.diagnosis.cause, *self.diagnosis.lines))[:_READ]

    def says(self, pattern: str) -> re.Match[str] | None:
        """Where the evidence says it, in whatever case; None where it doesn't."""
        return re.search(pattern, self.text, re.IGNORECASE)

    def option(self, *names: str) -> str | None:
        """The program's own spelling of its first option with one of these names, or None."""
        found = self.profile.option(*names)
        return found.flag if found else None

    def taker(self, path: str) -> ScriptOption | None:
        """The program's option that takes the field, also where each of its values is spelled out; or None."""
        told = self.plan.flag(path) or next((f for p, f in self.plan.flags.items() if p.startswith(f"{path}=")), "")
        return self.profile.option(told.split(" ")[0].rstrip("="))

    def as_option(self, value: Json, *names: str) -> dict[str, Json]:
        """The value for the program's first option with one of these names, where it would be told something new."""
        option = self.option(*names)
        return self.heard({f"training.options.{option}": value}) if option else {}

    def others(self) -> tuple[NodeFacts, ...]:
        """The nodes that could take the plan beside the one on which it failed."""
        return tuple(n for n in self.outlook.takers(self.plan) if n.name != self.diagnosis.node_name)

    def avoiding(self) -> dict[str, Json]:
        """The failed node among those left out; nothing where none is known or no other could take the plan."""
        name = self.diagnosis.node_name
        if not name or not self.others() or name in self.plan.exclude_nodes:
            return {}
        return {"exclude_nodes": [*self.plan.exclude_nodes, name]}

    def number(self, name: str) -> float | None:
        """A detail that is a number of zero or more, or None."""
        try:
            value = float(self.detail(name))
        except ValueError:
            return None
        return value if 0 <= value < float("inf") else None

    def mended(self, path: str) -> bool:
        """Whether a repair set the field before: it did not help enough."""
        return self.plan.set_by(path) is Author.REPAIR

    def said(self, path: str) -> bool:
        """Whether a person set the field."""
        return self.plan.set_by(path) in SAID

    def tried(self, values: Mapping[str, Json]) -> TrainingPlan | None:
        """The plan with these values by a repair, or None where they make no valid plan."""
        try:
            return apply_changes(self.plan, self.changes(values))
        except PlanError:
            return None

    def hears(self, path: str, value: Json) -> bool:
        """Whether the program would be told: the value is new and one of its options takes it."""
        plan = self.tried({path: value})
        if plan is None or path in self.outlook.unheard(plan):
            return False
        return self.outlook.words(plan) != self.outlook.words(self.plan)

    def shadow(self, path: str) -> str | None:
        """The further option that stands over the field: the program is told its value, whatever the field says."""
        flag = self.plan.flag(path)
        return next((o for o in self.plan.training.options if flag and same_name(o, flag)), None)

    def heard(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """Those of the values that the program would be told."""
        return {path: value for path, value in values.items() if self.hears(path, value)}

    def changes(self, values: Mapping[str, Json], why: str = "") -> tuple[PlanChange, ...]:
        """The values as changes by a repair."""
        return tuple(PlanChange(path=p, value=v, by=Author.REPAIR, why=why[:300]) for p, v in values.items())

    def change(self, values: Mapping[str, Json], why: str) -> Iterable[Repair]:
        """The change of these values, or nothing where there are none."""
        if values:
            yield ChangePlan(changes=self.changes(values, why), why=why)


Rung = Callable[[Case], Iterable[Repair]]


def with_item(items: Sequence[str], item: str) -> list[str]:
    """The items with one more at their end, if it isn't there."""
    return [*items] if item in items else [*items, item]


def from_workdir(plan: TrainingPlan, path: str) -> str:
    """A path of the repository as it is seen from the plan's working directory."""
    return posixpath.relpath(path or ".", posixpath.normpath(plan.workdir or "."))


def moved(case: Case, workdir: str) -> dict[str, Json]:
    """The working directory with what is relative to it: entries of PYTHONPATH, and files of the command's words."""
    plan = case.plan
    values: dict[str, Json] = {"workdir": workdir}

    def there(entry: str) -> str:
        return posixpath.normpath(posixpath.join(plan.workdir, entry))

    def rebased(entry: str, *, file: bool) -> str:
        place = there(entry)
        found = place in (case.looks.files(place) if file else (".", *case.looks.directories(place)))
        return posixpath.relpath(place, workdir) if entry and found and entry[0] not in "/$" else entry

    path = plan.env.get("PYTHONPATH", "")
    joined = ":".join(rebased(entry, file=False) for entry in path.split(":"))
    if joined != path:
        values["env.PYTHONPATH"] = joined
    words = []
    for word in plan.command:
        name, equals, value = word.rpartition("=")
        words.append(f"{name}{equals}{rebased(value, file=True)}")
    if words != list(plan.command):
        values["command"] = words
    return values


def same_name(a: str, b: str) -> bool:
    """Whether two options are one but for dashes, underscores and case."""
    return plain(a) == plain(b)


def plain(option: str) -> str:
    """An option's name without leading dashes, with underscores, in lower case."""
    return option.strip().lstrip("-+~").replace("-", "_").casefold()

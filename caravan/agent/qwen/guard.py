"""What a language model may propose of a plan, and what never, with the reason. Pure; shared by all its steps.

The model reads texts that strangers wrote, so it has less right than a rule: of the fields that `allowed` names it
tunes how the same program trains the same model on the same data, and chooses nothing that reaches outside, opens a
right, runs a command or costs more.
What passes here is still a proposal: checks, policies, estimate, budget and approval come after it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from caravan.agent.qwen.allowed import (
    COUNTED,
    FIELDS,
    LENGTH,
    MAPPINGS,
    MOST,
    allowed,
    counts,
    let,
    longer,
    number_of,
    option_of,
    value_of,
    word,
)
from caravan.agent.qwen.arguments import changed, near
from caravan.values.base import Json
from caravan.values.distributions import is_known, normal, requirement_name
from caravan.values.errors import PlanError
from caravan.values.estimate import MOST_KILL_S
from caravan.values.guarded import program_of
from caravan.values.job import ClusterFacts
from caravan.values.lesson_fields import NEVER as NO_LESSON
from caravan.values.lesson_fields import never as no_lesson
from caravan.values.masking import MASK, mask_json
from caravan.values.outward import outlets
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile, ScriptOption

_REACH: Final = "what the job reaches and where its results go is not the model's to say"
_RIGHTS: Final = "as whom and with which rights the job runs is not the model's to say"
_PLACE: Final = "where the job may run is not the model's to say"
_RUNS: Final = "which image and which commands run is not the model's to say"
_MONEY: Final = "limits, goals and money are the user's to say"
_SECRET: Final = "secrets are not the model's to name"
_GUARDED: Final = "that field is not among those that the model may propose"
_BLOCKS: Final = "fields are proposed one by one, not whole blocks"

REASONS: Final[dict[str, str]] = {
    **dict.fromkeys(("code", "data", "outputs", "mounts", "artifacts", "templates", "ports", "network_mode"), _REACH),
    **dict.fromkeys(("training.output_dir", "training.resume_from", "resume", "launch.rdzv_endpoint"), _REACH),
    **dict.fromkeys(("user", "docker", "driver", "container_name", "job_type", "priority"), _RIGHTS),
    **dict.fromkeys(("namespace", "region", "node_pool", "datacenters", "constraints", "affinities"), _PLACE),
    **dict.fromkeys(("spreads", "resources.gpu_vendor", "resources.gpu_driver", "resources.gpu_prefer"), _PLACE),
    **dict.fromkeys(("image", "build", "setup.cmd", "setup.apt", "setup.python", "setup.prestart"), _RUNS),
    **dict.fromkeys(("setup.requirements", "setup.further_requirements", "setup.option_requirements"), _RUNS),
    **dict.fromkeys(("launch.args", "launch.rank_option"), _RUNS),
    **dict.fromkeys(("config_overlays", "config_keys", "workdir"), _RUNS),
    **dict.fromkeys(("limits", "goal", "target", "smoke", "evaluation", "progress_deadline_s"), _MONEY),
    **dict.fromkeys(("secrets", "secrets_from"), _SECRET),
    "provenance": "who set what is not the model's to say",
}
"""Fields and blocks that a model never sets, and why."""

TUNED: Final = tuple(dict.fromkeys(path.partition(".")[0] for path in (*FIELDS, *MAPPINGS)))
"""Blocks of which it may propose something: what `allowed` names, and nothing else."""

ESSENCE: Final = ("model.id", "dataset.path", "training.method", "training.max_len")
"""What is trained: the model may fill what is open, and changes nothing of it."""

_MORE: Final = ("resources.gpus", "launch.nodes", "launch.nproc")
"""Amounts that cost by the piece: never more than the plan has."""

ENVIRONMENT: Final = frozenset(
    {
        *("TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF"),
        *("PYTORCH_ALLOC_CONF", "PYTHONFAULTHANDLER", "PYTHONUNBUFFERED", "CUDA_LAUNCH_BLOCKING"),
        *("NCCL_DEBUG", "NCCL_IB_DISABLE", "NCCL_SOCKET_IFNAME", "NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE"),
        *("TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_DISTRIBUTED_DEBUG", "WANDB_MODE", "HF_HUB_OFFLINE"),
        *("TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"),
    }
)
"""Variables that it may set: how libraries work, none that names a place, a source or a program."""
_ROOM: Final = {
    **{"resources.memory_mb": "memory_mb", "resources.memory_max_mb": "memory_mb", "shm_mb": "memory_mb"},
    **{"resources.disk_mb": "disk_mb", "resources.cpu_mhz": "cpu_mhz", "resources.cores": "cores"},
}
"""Amounts of which no node gives more than it has."""
_PLAIN: Final = re.compile(r"[\w.,:=+ -]{1,200}", re.ASCII)
_PACKAGE: Final = re.compile(r"[\w.\[\],<>=!~ -]{1,200}", re.ASCII)


@dataclass(frozen=True)
class Ground:
    """What a proposal is held against. `entries`: whether a path is a file of the repository; `mending`: a repair."""

    plan: TrainingPlan
    profile: RepoProfile
    facts: ClusterFacts | None = None
    entries: Callable[[str], bool] = field(default=lambda _: False)
    mending: bool = False


@dataclass(frozen=True)
class Refused:
    """A proposal that was not taken: what it was about, and why not."""

    what: str
    why: str

    def line(self) -> str:
        """In a line."""
        return f"{self.what}: {self.why}"


def judged(
    changes: Iterable[PlanChange], ground: Ground
) -> tuple[tuple[PlanChange, ...], TrainingPlan, tuple[Refused, ...]]:
    """The changes that may be proposed, the plan after them, and the others with the reason of each."""
    taken, refused, plan = list[PlanChange](), list[Refused](), ground.plan
    for change in changes:
        now = Ground(plan, ground.profile, ground.facts, ground.entries, ground.mending)
        why, after = _judged(change, now)
        if why:
            refused.append(Refused(_short(change.path), why))
        elif after is not None and after.digest() != plan.digest():
            taken.append(change)
            plan = after
    return tuple(taken), plan, tuple(refused)


def refusal(change: PlanChange, ground: Ground) -> str:
    """Why a change may not be proposed; empty: it may."""
    return _judged(change, ground)[0]


def _judged(change: PlanChange, ground: Ground) -> tuple[str, TrainingPlan | None]:
    path, value, plan = change.path, change.value, ground.plan
    try:
        before = plan.get(path)
    except PlanError as error:
        return error.message, None
    why = _forbidden(path) or _by_a_person(path, ground) or _secret(path, value)
    why = why or _of_field(path, value, before, ground)
    if why:
        return why, None
    try:
        after = apply_changes(plan, [change])
    except PlanError as error:
        return error.message[:200], None
    return _led_out(plan, after), after


def _forbidden(path: str) -> str:
    block, _, rest = path.partition(".")
    reason = REASONS.get(path) or REASONS.get(block) or REASONS.get(".".join(path.split(".")[:2]))
    if reason or no_lesson(path) or block not in TUNED:
        return reason or _REACH
    if f"{path}." in MAPPINGS or (not rest and path not in FIELDS):
        return _BLOCKS
    return "" if allowed(path) else _GUARDED


def _by_a_person(path: str, ground: Ground) -> str:
    by = ground.plan.set_by(path)
    standing = (Author.USER, Author.ANSWER) if ground.mending else (Author.USER, Author.ANSWER, Author.REPAIR)
    return f"it was set by {'a repair' if by is Author.REPAIR else 'a person'}" if by in standing else ""


def _secret(path: str, value: Json) -> str:
    plain = {path.rpartition(".")[2]: value}
    return "it looks like a secret" if MASK in str(value) or mask_json(plain) != plain else ""


def _of_field(path: str, value: Json, before: Json, ground: Ground) -> str:
    """What is looked at field by field."""
    why = word(path, value) or _amount(path, value, before, ground)
    if why or path in ESSENCE:
        return why or _essence(path, value, before, ground)
    if path in LENGTH:
        return longer(value, before, ground.plan.goal)
    if path == "exclude_nodes":
        return _nodes(value, ground)
    if path == "setup.pip":
        return _packages(value, before, ground.profile)
    if path == "command":
        return _command(value, ground)
    block, _, rest = path.partition(".")
    if block == "env":
        return _variable(rest, value)
    if path.startswith("training.options."):
        return _option(path.removeprefix("training.options."), value, before, ground)
    return _flag(rest, value, before, ground) if block == "flags" else ""


def _amount(path: str, value: Json, before: Json, ground: Ground) -> str:
    """Why an amount is more than a model may ask for: of what costs by the piece, of time, of what a node has."""
    number = number_of(value)
    if path in _MORE:
        had = number_of(before)
        more = number is None or (had is not None and number > had)
        return f"more than {before} costs more: that is the user's to say" if more else ""
    most = MOST.get(path, MOST_KILL_S if path == "kill_timeout_s" else None)
    if path in _ROOM and ground.facts is not None:
        has = max((getattr(node, _ROOM[path]) for node in ground.facts.usable_nodes()), default=0)
        most = has or None  # a node that does not say what it has
    return f"at most {most}" if most is not None and number is not None and number > most else ""


def _essence(path: str, value: Json, before: Json, ground: Ground) -> str:
    if ground.mending and path in ("training.method", "training.max_len"):
        return ""  # what an approval holds: a person is asked
    if ground.mending:
        return "which model is trained on which data is the user's to say"
    if before is not None:
        return f"it is {before!r} already: what is trained is the user's to change"
    named = path not in ("model.id", "dataset.path") or _said(str(value), ground.plan.goal)
    return "" if named else "neither the user's words nor the repository name it"


def _said(value: str, goal: str) -> bool:
    """Whether the user's words hold the value, as a whole word."""
    return bool(re.search(rf"(?<![\w./~-]){re.escape(value)}(?![\w/-]|\.\w)", goal, re.IGNORECASE)) and value != "."


def _nodes(value: Json, ground: Ground) -> str:
    names = {n.name for n in ground.facts.usable_nodes()} if ground.facts else set[str]()
    if not ground.mending:
        return _PLACE
    if not isinstance(value, list | tuple) or not set(map(str, value)) <= names:
        return "the cluster has no node of that name"
    return "no node would be left" if set(map(str, value)) >= names else ""


def _packages(value: Json, before: Json, profile: RepoProfile) -> str:
    """Plain names with versions, beside those that are there, of packages that are well known or that the code
    imports: neither a source nor a name that only a text has is the model's to name."""
    own = {normal(name) for name in profile.libraries}
    lines, had = _texts(value), _texts(before)
    if lines is None or not set(had or ()) <= set(lines):
        return "packages of the plan stay"
    for line in lines:
        if line not in (had or ()) and (not _PACKAGE.fullmatch(line) or requirement_name(line) is None):
            return f"{_short(line)} is no plain package name with a version"
        if line not in (had or ()) and not is_known(line) and requirement_name(line) not in own:
            return f"{_short(line)} is neither well known nor the repository's own"
    return ""


def _command(value: Json, ground: Ground) -> str:
    """Another start of the same program, with options that its parser has."""
    words, now = _texts(value), ground.plan.command
    if not ground.mending:
        return "how the training is started is read from the repository"
    if not words:
        return "a command is a list of words"
    if (program_of(words) != program_of(now) or words[0] != now[0]) and (why := _program(words[0], now, ground)):
        return why

    def option(name: str, value: Json, had: Json) -> str:
        return _option(name, value, had, ground)

    def respelt(name: str, value: Json, had: Json) -> str:
        return _respelt(name, value, had, ground)

    return changed(words[1:], list(now[1:]), ground.profile, option, respelt)


def _program(first: str, now: Sequence[str], ground: Ground) -> str:
    """Why another file may not be started: only in place of one that is not there, and of nearly its name."""
    if not first.endswith((".py", ".sh")) or not ground.entries(first):
        return f"{_short(first)} is no file of the repository"
    if not now or ground.entries(now[0]):
        return "which program is started is the user's to say"
    return "" if near(first, now[0]) else f"{_short(first)} is another program"


def _variable(name: str, value: Json) -> str:
    if name not in ENVIRONMENT:
        return f"{_short(name)} is none of the variables that a model may set"
    return "" if value is None or _PLAIN.fullmatch(str(value)) else "the value holds more than a plain word"


def _option(name: str, value: Json, now: Json, ground: Ground) -> str:
    """An option as the field whose value it takes, where it takes one; else by its name and its value."""
    option = option_of(name.partition("=")[0], ground.profile)
    if option is None:
        return f"the program has no option {_short(name)}"
    field = _told_by(option, ground)
    if not field:
        return value_of(option, value, now, ground.plan.goal)
    try:
        before = ground.plan.get(field)
    except PlanError:
        return "that option is another field's"
    why = _forbidden(field) or _by_a_person(field, ground)
    return why or _of_field(field, value, option.default if before is None else before, ground)


def _respelt(name: str, value: Json, now: Json, ground: Ground) -> str:
    """An option that a misspelt one of the command was meant to be: its value stood there already."""
    option = option_of(name, ground.profile)
    field = "" if option is None else _told_by(option, ground)
    try:
        taken = bool(field) and ground.plan.get(field) is not None  # the plan says it already, as another value
    except PlanError:
        taken = True
    if option is None or taken:
        return _option(name, value, now, ground)
    return (_by_a_person(field, ground) if field else "") or let(option, value, now, ground.plan.goal)


def _told_by(option: ScriptOption, ground: Ground) -> str:
    """The field of the plan that the program is told by an option; empty: none."""
    spelled = (option.flag, *option.aliases)
    return next((_field(path) for path, flag in ground.plan.flags.items() if flag.rstrip("= ") in spelled), "")


def _flag(path: str, value: Json, before: Json, ground: Ground) -> str:
    """Numbers and switches of the training may be passed by an option that takes such; nothing else."""
    if before is not None or _field(path) not in COUNTED:
        return "how the program is told that is read from the repository"
    option = option_of(str(value), ground.profile)
    if option is None:
        return f"the program has no option {_short(str(value))}"
    return "" if counts(option) else f"{_short(option.flag)} takes something else"


def _field(path: str) -> str:
    """The field that an entry of a plan's `flags` is about."""
    return path.partition("=")[0].partition(":")[0]


def _led_out(before: TrainingPlan, after: TrainingPlan) -> str:
    """What leads out of the job now and did not before; what was led out may only be closed."""
    known = {(o.path, str(o.essence)) for o in outlets(before)}
    now = tuple(outlets(after))
    new = next((o for o in now if o.essence is not None and (o.path, str(o.essence)) not in known), None)
    if new is not None:
        return f"{_short(new.path)} would lead out of the job"
    there = {o.path for o in now}
    opened = next((o for o in outlets(before) if o.essence is None and o.path not in there), None)
    return f"{_short(opened.path)} would no longer be closed" if opened is not None else ""


def _texts(value: Json) -> list[str] | None:
    ok = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
    return list[str](value) if ok else None


def _short(text: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= 60 else f"{plain[:60]}…"


def unnamed(fields: Sequence[str]) -> tuple[str, ...]:
    """The fields of a plan of which nothing is decided here: there must be none."""
    return tuple(f for f in fields if f not in TUNED and f not in REASONS and f not in NO_LESSON)

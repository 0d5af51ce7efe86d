"""Where a plan sends results, and takes code and data from: the fields and options that say it. Pure.

A repair may turn such a thing off or lead it back into the delivered code; the other way needs a person.
"""

import posixpath
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from caravan.values.base import Json
from caravan.values.patterns import late
from caravan.values.plan import Author, TrainingPlan

OPTION: Final = "option "
"""How the path of an outlet begins that is an option of the program, wherever the plan has it."""
PLACES: Final = ("workdir", "dataset.path", "setup.requirements")
"""Fields that mean something in the delivered code, unless they lead out of it."""
_OFFLINE: Final = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_SWITCHES: Final = tuple(f"env.{name}" for name in (*_OFFLINE, "WANDB_MODE"))
_FIELDS: Final = ("training.output_dir", "training.resume_from", "training.report_to")
_OFF: Final = frozenset({"", "0", "[]", "disabled", "dryrun", "false", "never", "no", "none", "null", "off", "offline"})
_ON: Final = frozenset({"1", "on", "true", "yes"})
_PUBLISHES: Final = frozenset(
    {
        *("push", "pushtohub", "hub", "upload", "publish", "report", "wandb", "mlflow", "comet", "neptune", "clearml"),
        *("swanlab", "tracker", "trackers", "trust", "remote", "url", "uri", "endpoint", "bucket", "webhook", "token"),
        *("proxy", "host", "server", "s3", "registry", "callback", "callbacks", "plugin", "plugins", "hook", "exec"),
    }
)
"""Words in the names of options by which something leaves the job, or code comes into it."""
_PUTS: Final = late(
    r"output|out-?(?:dir|path|file)|resume|default-root|run-?dir"
    r"|(?:save|log|logging|ckpt|checkpoint|checkpoints|results?|export|artifacts?)-?(?:dir|directory|path|to|folder|root)"
    r"|from-(?:checkpoint|ckpt)"
)
_SCHEME: Final = late(r"(?i)://|^[a-z][a-z0-9+.-]+:/|^[\w.-]+@[\w.-]+:")


class Outlet(NamedTuple):
    """One such thing. `source`: the field that says it; `essence`: what is approved of it, None where it leads nowhere.

    `path` is the field's, or `option --name`.
    """

    path: str
    source: str
    value: Json
    essence: Json


def narrows(path: str) -> bool:
    """Whether the path is one of those that `outlets` tells: what leads nowhere of it needs no question."""
    return path.startswith(OPTION) or path in (*PLACES, *_SWITCHES, *_FIELDS)


def outlets(plan: TrainingPlan) -> Iterator[Outlet]:
    """All of a plan, those that lead nowhere included. An option has one for all the places where it stands."""
    for path in PLACES:
        value = plan.get(path)
        yield Outlet(path, path, value, value if leaves(value, plan) else None)
    training = plan.training
    yield Outlet(_FIELDS[0], _FIELDS[0], training.output_dir, training.output_dir or _OWN)
    yield Outlet(_FIELDS[1], _FIELDS[1], training.resume_from, training.resume_from)
    told = training.report_to
    yield Outlet(_FIELDS[2], _FIELDS[2], told, _OWN if told is None else None if _is_off(told) else told)
    for path in _SWITCHES:
        value = plan.env.get(path.removeprefix("env."))
        if value is not None:
            closed = value.strip().lower() in (_OFF if path == _SWITCHES[-1] else _ON)
            yield Outlet(path, path, value, None if closed else value)
    yield from _options(plan)


_OWN: Final = "(its own)"
_OTHERS: Final = (Author.MODEL, Author.MEMORY, Author.REPAIR)


def unasked(plan: TrainingPlan) -> tuple[Outlet, ...]:
    """What leads out of the job in a plan and was put there by a model, a lesson or a repair."""
    found = (o for o in outlets(plan) if o.essence not in (None, _OWN) and plan.set_by(o.source) in _OTHERS)
    return tuple(o for o in found if o.path != _FIELDS[0] or leaves(o.value, plan))


def leaves(value: Json, plan: TrainingPlan) -> bool:
    """Whether a text leads out of the delivered code: an absolute path, one that climbs out of it, an address."""
    if isinstance(value, dict):
        return any(leaves(item, plan) for item in value.values())
    if isinstance(value, list):
        return any(leaves(item, plan) for item in value)
    if not isinstance(value, str):
        return False
    text = value.strip()
    if text.startswith(("/", "~", "$", "\\")) or _SCHEME.search(text):
        return True
    here = posixpath.normpath(plan.workdir)
    begin = "" if plan.workdir == value or here.startswith("/") or _climbs(here) else here
    return _climbs(posixpath.normpath(posixpath.join(begin, text)))


def _climbs(place: str) -> bool:
    return place == ".." or place.startswith("../")


def _is_off(value: Json) -> bool:
    words = value if isinstance(value, list) else [value]
    return all(word is None or word is False or str(word).strip().lower() in _OFF for word in words)


def _options(plan: TrainingPlan) -> Iterator[Outlet]:
    """The options that send or fetch, by their name or by their value, and the words that lead out of the code."""
    found: dict[str, list[tuple[str, Json]]] = {}
    for source, name, value in (*_in_command(plan), *_in_flags(plan), *_further(plan)):
        plain = _plain(name)
        if _sends(plain) or leaves(value, plan):
            shown = name if name == value or not plain else f"--{plain}"
            found.setdefault(f"{OPTION}{shown}", []).append((source, value))
    for path, said in found.items():
        values = [value for _, value in said]
        off = all(_is_off(value) for value in values) or (path.startswith("option --no-") and values == [True])
        value = values[0] if len(values) == 1 else values
        source = next((s for s, _ in said if plan.set_by(s) in _OTHERS), said[0][0])
        yield Outlet(path, source, value, None if off else value)


def _plain(name: str) -> str:
    """An option's name without how it is spelled: `--hub_modelId` as `hub-model-id`."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    return re.sub(r"[^a-z0-9]+", "-", split.lower()).strip("-")


def _sends(plain: str) -> bool:
    return not _PUBLISHES.isdisjoint(plain.split("-")) or bool(_PUTS.search(plain))


def _in_command(plan: TrainingPlan) -> Iterator[tuple[str, str, Json]]:
    """Words that are code are kept as they are, and so is the program's name."""
    words = list(plan.command)
    begin = 2 if words[:1] == ["-m"] else 1
    n = begin
    while n < len(words):
        name, equals, value = words[n].partition("=")
        after = words[n + 1] if n + 1 < len(words) else "-"
        if equals and not name.startswith(("/", ".")):
            yield "command", name, value
        elif name.startswith("-") and not after.startswith("-"):
            yield "command", name, after
            n += 1
        elif name.startswith("-"):
            yield "command", name, True
        elif leaves(words[n], plan):
            yield "command", words[n], words[n]
        n += 1


def _in_flags(plan: TrainingPlan) -> Iterator[tuple[str, str, Json]]:
    """What takes the value of a field that is kept itself says nothing more, unless it is another kind of option."""
    for path, flag in plan.flags.items():
        plain = _plain(flag)
        own = path.partition("=")[0] in (*_FIELDS, *PLACES)
        if _sends(plain) and not (own and _PUBLISHES.isdisjoint({*plain.split("-")} - {"report"})):
            yield f"flags.{path}", flag, path


def _further(plan: TrainingPlan) -> Iterator[tuple[str, str, Json]]:
    for name, value in plan.training.options.items():
        yield f"training.options.{name}", name, value

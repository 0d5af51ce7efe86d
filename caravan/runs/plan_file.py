"""plan.yaml: a training plan as a person reads it, and back.

The text shows every field that says something, in the plan's own order, each with its meaning and who set it; what a
run keeps ends with that a second time, for programs. It must not know where the file lies; `load_plan` is the only
function here that reads one. A file that a person has changed is read by `caravan.planning.plan_reading`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.masking import mask_json
from caravan.values.plan import STANDING, TrainingPlan
from caravan.values.plan_reference import meaning
from caravan.values.yaml_loading import safe_loader

_HEAD: Final = "# The training plan. Fields that are not shown have no value: the repository's own stays.\n"
_DRAFT: Final = """\
# A training plan, to be read, changed and run:
#     main.py plan --check FILE        says what is wrong with it, by line
#     main.py --plan FILE              runs it
# What stands here counts as set by you, and nothing changes it unasked. What is left out is drafted: by the repository
# and the cluster, with questions where neither says it. `field: null` leaves a field unset. Secrets are only named.
"""
_WHO: Final = "\n# Who set each field, and why. What is not listed is the default.\n"
_WIDTH: Final = 110
_ASIDE: Final = 44  # column of a comment beside its field
_LONGEST: Final = 160  # characters of a comment
SOURCE: Final = "source"
"""The one key of a plan's file that is no field of the plan: where the repository is."""


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, so that scripts stay readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    odd = any(not c.isprintable() and c != "\n" for c in text)  # must be escaped, which only double quotes can
    style = '"' if odd else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def plan_text(plan: TrainingPlan, known: tuple[str, ...] = ()) -> str:
    """The plan as YAML with secrets masked (`known`: their values). Without a secret in it, it reads back equal."""
    provenance = mask_json(_plain(plan)["provenance"], known)
    fields = mask_json(shown_fields(plan, {"provenance"}), known)
    text = _HEAD + "".join(f"{line}\n" for line in _lines(fields, _told(plan, provenance)))
    if provenance:
        text += _WHO + _yaml({"provenance": dict(sorted(provenance.items()))}, flow_leaves=True)
    return text


def draft_text(
    plan: TrainingPlan, source: str, known: tuple[str, ...] = (), places: Mapping[str, str] | None = None
) -> str:
    """The plan as a file for a person to change and run: only what was decided, and where the repository is.

    Without a secret in it, it reads back as a plan with the same digest. `source` is a path or git URL, `places` say
    of fields where in the repository they were read.
    """
    provenance = mask_json(_plain(plan)["provenance"], known)
    for path, place in (places or {}).items():
        if path in provenance and place not in provenance[path]["why"]:
            provenance[path]["why"] = ", ".join(part for part in (provenance[path]["why"], place) if part)
    fields = mask_json(_decided(plan), known)
    where = f"\n{_yaml({SOURCE: source})}\n"
    return _DRAFT + where + "".join(f"{line}\n" for line in _lines(fields, _told(plan, provenance)))


def read_plan(text: str) -> TrainingPlan:
    """The plan in a YAML text. Raises PlanError, naming line or field, when it is none."""
    try:
        document = yaml.load(text, Loader=safe_loader(text))  # noqa: S506 - each is a safe one
    except yaml.YAMLError as error:
        raise PlanError(f"The plan file is no YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise PlanError("The plan file is nested too deeply.") from error
    if isinstance(document, dict):
        document.pop(SOURCE, None)
    try:
        return TrainingPlan.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise PlanError(f"The plan file is no plan: {where}: {first['msg']}.") from error


def load_plan(path: Path) -> TrainingPlan:
    """The plan in a file that `plan_text` wrote. Raises PlanError when it can't be read or is no plan."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"The plan file {path} can't be read: {error}.") from error
    return read_plan(text)


def shown_fields(value: BaseModel, leave_out: frozenset[str] | set[str] = frozenset()) -> dict[str, Json]:
    """The fields in their order, without those that are empty and are so by default."""
    plain = value.model_dump(mode="json")
    shown: dict[str, Json] = {}
    for name, field in type(value).model_fields.items():
        held: Any = getattr(value, name)
        if name in leave_out:
            continue
        by_default = not field.is_required() and held == field.get_default(call_default_factory=True)
        item = shown_fields(held) if isinstance(held, BaseModel) else plain[name]
        if by_default and item in (None, "", [], {}):
            continue
        shown[name] = item
    return shown


def _decided(plan: TrainingPlan) -> dict[str, Json]:
    """The fields that differ from their defaults, or that somebody has set all the same."""
    known = {path for path, origin in plan.provenance.items() if origin.by in STANDING or _says(plan, path)}

    def decided(value: BaseModel, prefix: str) -> dict[str, Json]:
        plain = value.model_dump(mode="json")
        found: dict[str, Json] = {}
        for name, field in type(value).model_fields.items():
            path, held = f"{prefix}{name}", getattr(value, name)
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            if path == "provenance" or (held == default and not field.is_required() and not _within(path, known)):
                continue
            block = isinstance(held, BaseModel) and isinstance(default, BaseModel) and path not in _WHOLE
            found[name] = decided(held, f"{path}.") if block else plain[name]
        return found

    return decided(plan, "")


def _says(plan: TrainingPlan, path: str) -> bool:
    try:
        return plan.get(path) is not None
    except PlanError:  # a block that is unset by now
        return False


_WHOLE: Final = frozenset({"code", "outputs"})
"""Blocks whose fields belong together: one of them alone would say something else."""


def _within(path: str, known: set[str]) -> bool:
    """Whether the field, or one in it, was set."""
    return path in known or any(p.startswith(f"{path}.") for p in known)


def _plain(plan: TrainingPlan) -> Json:
    document = plan.model_dump(mode="json")
    for origin in document["provenance"].values():
        if not origin["own"]:
            del origin["own"]
    return document


def _told(plan: TrainingPlan, provenance: dict[str, Json]) -> dict[str, Json]:
    """The provenance as comments tell it: what a training type says is the type's."""
    return {path: {**origin, "by": plan.whose(path)} for path, origin in provenance.items()}


def _lines(fields: dict[str, Json], provenance: dict[str, Json], prefix: str = "", depth: int = 0) -> Iterator[str]:
    """The fields as lines of YAML, each with its meaning and who set it."""
    pad = "  " * depth
    for name, value in fields.items():
        path = f"{prefix}{name}"
        said = _comment(path, provenance)
        if _is_block(path, value):
            yield f"{pad}{name}:"
            yield from _lines(value, provenance, f"{path}.", depth + 1)
            continue
        first, *rest = _yaml({name: value}).removesuffix("\n").split("\n")
        several = bool(rest) and not first.endswith(":")  # a text of several lines: its first one takes no comment
        if said and (several or len(pad + first) > _ASIDE * 2):
            yield f"{pad}# {said}"
            said = ""
        yield f"{pad}{first:<{_ASIDE - len(pad)}}  # {said}" if said else f"{pad}{first}"
        yield from (f"{pad}{line}" if line else line for line in rest)


def _is_block(path: str, value: Json) -> bool:
    """Whether the field is a block whose fields have comments of their own."""
    return bool(value) and isinstance(value, dict) and not prefixed(path)


def prefixed(path: str) -> bool:
    """Whether what is below the field is a mapping of the user's own names, or of a value that is set as a whole."""
    head, _, name = path.partition(".")
    field = TrainingPlan.model_fields[head]
    block = field.get_default(call_default_factory=True)
    if not isinstance(block, BaseModel):
        return True
    return bool(name) and not isinstance(getattr(block, name, None), BaseModel)


def _comment(path: str, provenance: dict[str, Json]) -> str:
    """What the field means and who set it, in one line that YAML takes."""
    origin = provenance.get(path) or provenance.get(path.rpartition(".")[0]) or {}
    inner: dict[str, Json] = next((o for p, o in provenance.items() if p.startswith(f"{path}.")), {})
    origin = origin or inner
    who = ": ".join(part for part in (origin.get("by", ""), origin.get("why", "")) if part)
    text = " | ".join(part for part in (meaning(path), who) if part)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1].rstrip() + "…"


def _yaml(document: Json, *, flow_leaves: bool = False) -> str:
    style = None if flow_leaves else False
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=style
    )
    return text.removesuffix("...\n")  # after a text that ends in blank lines; more follows here

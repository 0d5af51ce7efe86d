"""plan.yaml: a training plan as a person reads it, and back.

The text shows every field that says something, in the plan's own order, and who set each in a section at the end.
It must not know where the file lies; `load_plan` is the only function here that reads one.
"""

from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.masking import mask_json
from caravan.values.plan import TrainingPlan

_HEAD: Final = "# The training plan. Fields that are not shown have no value: the repository's own stays.\n"
_WHO: Final = "\n# Who set each field, and why. What is not listed is the default.\n"
_WIDTH: Final = 110


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, so that scripts stay readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    odd = any(not c.isprintable() and c != "\n" for c in text)  # must be escaped, which only double quotes can
    style = '"' if odd else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def plan_text(plan: TrainingPlan, known: tuple[str, ...] = ()) -> str:
    """The plan as YAML with secrets masked (`known`: their values). Without a secret in it, it reads back equal."""
    provenance = mask_json(plan.model_dump(mode="json")["provenance"], known)
    text = _HEAD + _yaml(mask_json(shown_fields(plan, {"provenance"}), known))
    if provenance:
        text += _WHO + _yaml({"provenance": dict(sorted(provenance.items()))}, flow_leaves=True)
    return text


def read_plan(text: str) -> TrainingPlan:
    """The plan in a YAML text. Raises PlanError, naming line or field, when it is none."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(text, Loader=loader)  # noqa: S506 - both loaders are the safe ones
    except yaml.YAMLError as error:
        raise PlanError(f"The plan file is no YAML: {' '.join(str(error).split())}.") from error
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


def _yaml(document: Json, *, flow_leaves: bool = False) -> str:
    style = None if flow_leaves else False
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=style
    )

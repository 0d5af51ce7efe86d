"""Whether values that people gave are within what a training type's knobs take. Pure: it knows values alone."""

from collections.abc import Iterable, Iterator

from caravan.training.readme import written
from caravan.training.sound import out_of_range
from caravan.values.base import Json
from caravan.values.plan import Author, PlanChange, TrainingPlan
from caravan.values.training import Knob, TrainingType

_OPTIONS = "training.options"
_PERSONS = (Author.USER, Author.ANSWER)


def beyond(found: TrainingType, changes: Iterable[PlanChange]) -> str | None:
    """Why the first change that no knob takes is refused, with the knob and its range, without a full stop; or None."""
    by_path = {knob.path: knob for knob in found.knobs if knob.path}
    by_flag = {knob.flag: knob for knob in found.knobs}
    for path, value in _single(changes):
        knob = by_path.get(path) or by_flag.get(path.removeprefix(f"{_OPTIONS}."))
        if knob is not None and value is not None and out_of_range(knob, _as_meant(knob, value)) is not None:
            return f"{path}={written(value)}: {knob.flag} of the training type {found.name} takes {taken(knob)}"
    return None


def set_by_people(plan: TrainingPlan) -> tuple[PlanChange, ...]:
    """The fields of a plan that people have set, as changes."""
    return tuple(
        PlanChange(path=path, value=plan.get(path), by=origin.by)
        for path, origin in plan.provenance.items()
        if origin.by in _PERSONS
    )


def taken(knob: Knob) -> str:
    """What a knob takes, in words: `one of full, lora`, `an integer from 1`, `a number from 0 to 0.5`."""
    if knob.choices:
        return f"one of {', '.join(written(choice) for choice in knob.choices)}"
    kind = {"integer": "an integer", "number": "a number", "boolean": "true or false"}.get(knob.type, "a text")
    least = f" from {knob.least:g}" if knob.least is not None else ""
    most = f" {'to' if least else 'up to'} {knob.most:g}" if knob.most is not None else ""
    return f"{kind}{least}{most}"


def _single(changes: Iterable[PlanChange]) -> Iterator[tuple[str, Json]]:
    """(path, value), the further options one by one."""
    for change in changes:
        if change.path == _OPTIONS and isinstance(change.value, dict):
            yield from ((f"{_OPTIONS}.{flag}", value) for flag, value in change.value.items())
        else:
            yield change.path, change.value


def _as_meant(knob: Knob, value: Json) -> Json:
    """The value in the knob's own type, where it can be read so: `0.5` typed as a text, 3.0 for an integer."""
    if knob.choices:
        return next((choice for choice in knob.choices if written(choice) == written(value)), value)
    if knob.type == "text" and not isinstance(value, list | dict):
        return str(value)
    if knob.type == "boolean":
        return {"true": True, "false": False}.get(written(value).lower(), value)
    if knob.type in ("integer", "number") and isinstance(value, str | float):
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if knob.type == "integer" and number.is_integer() else number
    return value

"""What rows of a store mean as values, and the words for those that can't be had. No database is known here.

It is apart from `store.py` because a look at a store needs no SQLAlchemy, whose import costs more than the look.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from caravan.values.base import Json
from caravan.values.errors import StateError, UsageError
from caravan.values.record import Deployment, RunEvent, RunRecord


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Raises StateError for what does not fit this version; `name`: the run or job whose rows are read within."""
    try:
        yield
    except ValidationError as error:
        raise StateError(
            f"What is stored of the run {name} does not fit this version.",
            hint="Update Caravan, or set CARAVAN_HOME or DATABASE_URL to another place.",
        ) from error


def record_of(row: Mapping[str, Any]) -> RunRecord:
    """The run of a row of `runs`. Raises StateError."""
    with readable(row["id"]):
        return RunRecord.model_validate(dict(row))


def deployments_of(run_id: str, documents: Iterable[Json]) -> tuple[Deployment, ...]:
    """The deployments of their documents. Raises StateError."""
    with readable(run_id):
        return tuple(Deployment.model_validate(document) for document in documents)


def events_of(run_id: str, rows: Iterable[Mapping[str, Any]]) -> tuple[RunEvent, ...]:
    """The events of rows of `events`: at, kind, text, data. Raises StateError."""
    with readable(run_id):
        return tuple(RunEvent.model_validate(dict(row)) for row in rows)


def no_single_run(run_id: str, several: list[str]) -> UsageError:
    """The error for an id that names no run, or several (`several`: the ids that begin so)."""
    shown = clean_text(run_id)
    if several:
        return UsageError(
            f"Several runs begin with {shown!r}: {', '.join(sorted(several))}.", hint="Give more of the id."
        )
    return UsageError(f"There is no run {shown!r}.", hint="`main.py runs` lists them.")


def clean_text(text: str) -> str:
    """Text that a database can keep: file names and arguments may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")

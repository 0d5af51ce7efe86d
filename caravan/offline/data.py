"""Where cases come from: labelled failures, files of cases, what is shipped, rows of LangFuse datasets.

Files are read here and nowhere else in this room, and secrets are masked before anything is a case.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from caravan.agent.qwen.diagnosis import NOT_ITS
from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose
from caravan.offline.cases import ANYWHERE, Case, Expected, case_of, loaded, plain, read_lines
from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.failure import FailureClass
from caravan.values.fingerprint import fingerprint
from caravan.values.masking import mask
from caravan.values.optimization import Step

KINDS: Final = ("failures", "cases", "langfuse")
_LONGEST: Final = 200_000  # characters of a log that are read, from its end: a run's evidence is small too

Rows = Callable[[str], Iterable[Mapping[str, Json]]]
"""The items of a LangFuse dataset by its name, as LangFuse has them."""


def of_failures(text: str, where: str, secrets: tuple[str, ...] = ()) -> Iterator[Case]:
    """Cases of diagnosis out of labelled logs: JSON lines with `id`, `text`, `origin`, `class`, maybe `source`.

    Causes that are not a model's to say are left out: a run never asks it for them.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        at = f"{where}, line {number}"
        row = loaded(line, at)
        try:
            label, log, origin = (
                FailureClass(row["class"]),
                str(row["text"]),
                TextKind(row.get("origin", "task_stderr")),
            )
            name = str(row["id"])
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(
                f"{at} is no labelled failure: {error}.", hint="A line has id, text, origin and class."
            ) from error
        if label in NOT_ITS:
            continue
        evidence = evidence_of_text(mask(log[-_LONGEST:], secrets).encode(), origin)
        found = diagnose(evidence, ANYWHERE, ())
        decisive = found.lines[:1] or evidence.log_lines[-1:]
        marks = [f"fingerprint:{fingerprint(label, decisive)}"]
        marks += [f"source:{row['source']}"] if row.get("source") else []
        yield Case(
            id=name,
            step=Step.DIAGNOSE,
            source="failures",
            alike=tuple(marks),
            evidence=evidence,
            expected=Expected(failure=label),
        )


def of_rows(rows: Iterable[Mapping[str, Json]], where: str, secrets: tuple[str, ...] = ()) -> Iterator[Case]:
    """Cases out of dataset items: `input` is a case, `expectedOutput` what is right. Archived items are left out."""
    for row in rows:
        if row.get("status") == "ARCHIVED":
            continue
        given = row.get("input")
        if not isinstance(given, dict):
            raise UsageError(
                f"An item of {where} is no case: its input is no JSON object.", hint="See docs/optimise.md."
            )
        expected = row.get("expectedOutput")
        document = dict(given) | ({"expected": expected} if isinstance(expected, dict) else {})
        document.setdefault("id", str(row.get("id") or ""))
        yield case_of(document, f"An item of {where}", secrets)


def rows_of(cases: Iterable[Case]) -> Iterator[dict[str, Json]]:
    """The items that a LangFuse dataset gets for cases: putting them twice is putting them once."""
    for case in cases:
        document = plain(case)
        expected = document.pop("expected", {})
        yield {"id": f"caravan-{case.id}", "input": document, "expectedOutput": expected}


def of_place(kind: str, place: str, rows: Rows | None, secrets: tuple[str, ...] = ()) -> list[Case]:
    """The cases of `KIND=PLACE`. Raises UsageError for what is none."""
    if kind == "langfuse":
        if rows is None:
            raise UsageError("No LangFuse is set.", hint="Set LANGFUSE_BASE_URL and its keys.")
        return list(of_rows(rows(place), f"the dataset {place}", secrets))
    text = read(Path(place))
    return list((of_failures if kind == "failures" else read_lines)(text, place, secrets))


def shipped(folder: Path, secrets: tuple[str, ...] = ()) -> list[Case]:
    """The cases that come with Caravan: `*.jsonl` in a folder."""
    return [case for path in sorted(folder.glob("*.jsonl")) for case in read_lines(read(path), path.name, secrets)]


def unique(cases: Iterable[Case]) -> list[Case]:
    """Each id once, the first that came."""
    found: dict[str, Case] = {}
    for case in cases:
        found.setdefault(case.id, case)
    return list(found.values())


def read(path: Path) -> str:
    """A file's text; of a folder, that of its `visible.jsonl`. Raises UsageError."""
    path = path / "visible.jsonl" if path.is_dir() else path
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}.", hint="--data takes KIND=PATH.") from error

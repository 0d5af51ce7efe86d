"""`estimate --jsonl`: a line of JSON for each training in, a line with its peak out; a bad line stops no other."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from caravan.terminal.text import one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json


_MOST_TOLD = 20
"""Unknown fields that are named; each is named once."""


def print_rows(terminal: Terminal, file: str) -> int:
    """Estimate each row, in their order; exit code 2 where one could not be."""
    bad, told = 0, set[str]()
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                answer, unknown = _estimated(line)
                terminal.out(json.dumps(answer, ensure_ascii=False, allow_nan=False))
            except UsageError as error:
                bad += 1
                terminal.err(one_line(f"{file}, line {number}: {error.line()}", 400))
                continue
            for name in unknown:
                if name not in told and len(told) < _MOST_TOLD:
                    told.add(name)
                    text = (
                        f"{file}, line {number}: a training has no field {one_line(name, 60)}, so it changes nothing."
                    )
                    terminal.err(one_line(text, 400))
    if bad:
        terminal.err(f"{bad} line{'' if bad == 1 else 's'} could not be estimated; the others are above.")
    return UsageError.exit_code if bad else 0


def _opened(file: str) -> AbstractContextManager[Iterable[str]]:
    if file == "-":
        return nullcontext(sys.stdin)
    try:
        return Path(file).open(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UsageError(
            f"{one_line(file)} can't be read ({error.strerror}).", hint="Check --jsonl; - reads standard input."
        ) from error


def _estimated(line: str) -> tuple[dict[str, Json], list[str]]:
    """The row's id, peak and breakdown, and its fields that nobody knows.

    Raises UsageError, which names the row where it has an id.
    """
    from caravan.planning.rows import ROW_FIELDS, estimate_row

    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"no JSON ({error}).") from error
    if not isinstance(row, dict):
        raise UsageError("no JSON object.", hint='A training is {"id": …, "model": …, "micro_batch": …, …}.')
    if row.get("method") == "qlora" and row.get("quant_bits") is None:
        row["quant_bits"] = 4  # what the word means
    peak, parts = estimate_row(row)
    unknown = [name for name in row if name not in ROW_FIELDS]
    return {"id": row.get("id"), "peak_gib": peak, "breakdown": {**parts}}, unknown

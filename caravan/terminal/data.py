"""`data`: a look at training data, as a run takes it before anything is launched: format, lengths, problems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.training.data.model_files import ModelFiles
    from caravan.training.data.places import Place
    from caravan.values.training import DataProblem, DataReport, Lengths, TrainingType

_SHOWN = 40  # problems that are printed; --json has all
_LABELS = 12
_UNFIT = 2  # as other commands that read rows have it, and the scripts


def data(
    ctx: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A file of rows, a folder of them, or a folder of images.")
    ],
    kind: Annotated[
        str | None, typer.Option("--type", metavar="NAME", help="Training type that it is for (see types).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="PATH_OR_ID", help="Folder of the model, or its hub id: whose tokens are counted."),
    ] = None,
    max_len: Annotated[
        int | None, typer.Option("--max-len", metavar="TOKENS", min=1, help="Longest sequence that is learned.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option("--eval", metavar="PATH", help="Test data: looked at too, and for leaks.")
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="PART=NAME,…", help="Columns that have other names (text=body,label=kind).")
    ] = "",
    samples: Annotated[
        int, typer.Option("--show-samples", metavar="N", min=0, help="Print the first N rows too. They are your data.")
    ] = 0,
    as_json: JsonOption = False,
) -> int:
    """Look at training data: format, columns, lengths, and what is wrong in which line.

    Nothing is launched or sent. The exit code is 2 where a training would fail on it.
    """
    from caravan.agent.data_places import place_at
    from caravan.training.data.look import Wish, check_data

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    found = wiring.types().get(kind).type if kind else None
    wish = Wish(found, columns=_named(columns), max_len=max_len or _default_length(found))
    place = place_at(path)
    if place.missing:
        raise UsageError(f"{path}: {place.missing}.", hint="Name a file or a folder with training data.")
    tested = place_at(evaluation) if evaluation else None
    report = check_data(place, wish, evaluation=tested, model=_model(model, wiring))
    if as_json:
        terminal.document(report.model_dump(mode="json"))
    else:
        _print(terminal, report)
    if samples and not as_json:
        _print_rows(terminal, place, samples)
    return _UNFIT if report.fatal else 0


def _named(columns: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in columns.split(",") if part.strip()]
    if any(not equals or not name.strip() for _, equals, name in pairs):
        raise UsageError("--columns is written part=name,part=name.", hint="For example text=body,label=kind.")
    return {part.strip(): name.strip() for part, _, name in pairs}


def _default_length(found: TrainingType | None) -> int | None:
    knobs = found.knobs if found else ()
    default = next((knob.default for knob in knobs if knob.path == "training.max_len"), None)
    return default if isinstance(default, int) else None


def _model(name: str | None, wiring: Wiring) -> ModelFiles:
    """What is known of the model here: a folder, or what the hub's library keeps. The hub itself is not asked."""
    from caravan.agent.data_places import model_at, model_in_cache
    from caravan.training.data.model_files import ModelFiles

    if name is None:
        return ModelFiles()
    if Path(name).expanduser().exists() or name.startswith((".", "/", "~")):
        return model_at(Path(name).expanduser(), name)
    return model_in_cache(wiring.hub_cache, name) or ModelFiles(name)


def _print(terminal: Terminal, report: DataReport) -> None:
    from caravan.terminal.console import draw, pairs

    draw(terminal.stdout, pairs([(name, one_line(value)) for name, value in _rows(report) if value]))
    for problem in report.problems[:_SHOWN]:
        terminal.out(_line(problem))
    if len(report.problems) > _SHOWN:
        terminal.out(f"and {len(report.problems) - _SHOWN} more: --json has them all")
    if not report.problems:
        terminal.out("Nothing is wrong with what was looked at.")


def _line(problem: DataProblem) -> str:
    where = f"{problem.file}{f':{problem.line}' if problem.line else ''}: " if problem.file else ""
    return one_line(f"{'error' if problem.fatal else 'warning'}: {where}{problem.text} [{problem.kind.value}]")


def _rows(report: DataReport) -> Iterator[tuple[str, str]]:
    files = report.files
    yield "files", f"{len(files)}: {', '.join(files[:3])}{', …' if len(files) > 3 else ''}" if files else ""
    yield "format", report.format.value if report.format else "none that was recognised"
    yield "columns", ", ".join(report.columns[:20])
    yield "rows", _counted(report)
    yield "labels", f"{len(report.labels)}: {', '.join(report.labels[:_LABELS])}" if report.labels else ""
    if report.lengths:
        yield "tokens of a row", _lengths(report.lengths)
    yield "SHA-256", report.sha256 or ""


def _counted(report: DataReport) -> str:
    if report.rows is None:
        return f"not all counted; {report.looked_at:,} looked at"
    part = "all looked at" if report.looked_at >= report.rows else f"{report.looked_at:,} of them looked at"
    return f"{report.rows:,} ({part})" if report.rows else "0"


def _lengths(lengths: Lengths) -> str:
    from caravan.training.data.lengths import enough

    how = "estimated from characters" if lengths.estimated else "by the model's tokenizer"
    text = f"median {lengths.median:,}, 95 % up to {lengths.p95:,}, longest {lengths.longest:,}"
    limit = f"; {lengths.cut:,} of {lengths.count:,} longer than {lengths.limit:,}" if lengths.limit else ""
    less = enough(lengths)
    hint = f"; a limit of {less:,} would do" if less else ""
    return f"{text}{limit} ({how}){hint}"


def _print_rows(terminal: Terminal, place: Place, most: int) -> None:
    """The first rows as they are: asked for, and shown nowhere else."""
    import json
    from itertools import islice

    from caravan.training.data.places import parted
    from caravan.training.data.problems import Problems
    from caravan.training.data.reading import Reading
    from caravan.training.data.sampling import Budget

    rows = Reading(parted(place)[0], Budget(), Problems()).rows()
    for row in islice(rows, most):
        terminal.out(one_line(f"{row.file}:{row.line}: {json.dumps(row.fields, ensure_ascii=False, default=str)}"))

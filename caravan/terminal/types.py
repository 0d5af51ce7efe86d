"""`types`: the training types that Caravan brings scripts for, their knobs and metrics, and their scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from caravan.terminal.streams import Terminal
    from caravan.training.loading import TypeFolder
    from caravan.values.base import Json
    from caravan.values.training import Knob


def types(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One of them: a type or another name for it.", show_default=False),
    ] = None,
    render: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write its scripts into this new folder, as a job gets them; runs nothing."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """List the training types that Caravan brings scripts for, or show one with its knobs."""
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    there = wiring.types()
    if name is None:
        if render is not None:
            raise UsageError("--render needs the name of a type.", hint=f"There are: {', '.join(there.names)}.")
        return _list(terminal, tuple(there), as_json=as_json)
    found = there.get(name)
    if render is not None:
        written = _write(found, render)
        return _said(terminal, found, written, render, as_json=as_json)
    if as_json:
        terminal.document(_document(found))
    else:
        _show(terminal, found)
    return 0


def _list(terminal: Terminal, found: tuple[TypeFolder, ...], *, as_json: bool) -> int:
    if as_json:
        terminal.document([_document(entry) for entry in found])
        return 0
    from caravan.terminal.console import draw, pairs

    rows = []
    for entry in found:
        also = f" (also: {', '.join(entry.type.aliases)})" if entry.type.aliases else ""
        rows.append((entry.type.name, one_line(f"{entry.type.title}{also}{f' - {entry.folder}' if entry.own else ''}")))
    draw(terminal.stdout, pairs(rows))
    return 0


def _show(terminal: Terminal, found: TypeFolder) -> None:
    from caravan.terminal.console import draw, pairs

    kind = found.type
    terminal.out(f"{kind.name}: {one_line(kind.title)}")
    terminal.out(one_line(kind.about))
    about = [
        ("from", str(found.folder)),
        ("other names", ", ".join(kind.aliases)),
        ("data", ", ".join(f.value for f in kind.formats)),
        ("model", "" if kind.model_is == "any" else kind.model_is),
        ("unless named", kind.default_model or ""),
        ("judged by", kind.target or ""),
        ("logs", ", ".join(metric.name for metric in kind.metrics)),
    ]
    draw(terminal.stdout, pairs([(what, said) for what, said in about if said]))
    if kind.knobs:
        terminal.out("Knobs, set by --set FIELD=VALUE:")
        draw(terminal.stdout, pairs([(_field(knob), _knob(knob)) for knob in kind.knobs]))


def _field(knob: Knob) -> str:
    return knob.path or f"training.options.{knob.flag}"


def _knob(knob: Knob) -> str:
    from caravan.training.readme import written

    parts = [f"= {written(knob.default)}" if knob.default is not None else "", one_line(knob.about)]
    parts.append(f"one of {', '.join(written(c) for c in knob.choices)}" if knob.choices else "")
    return "; ".join(part for part in parts if part)


def _document(found: TypeFolder) -> dict[str, Json]:
    document: dict[str, Json] = found.type.model_dump(mode="json")
    return {**document, "folder": str(found.folder), "own": found.own}


def _write(found: TypeFolder, place: Path) -> tuple[str, ...]:
    """The rendered files in a folder that is not there yet, or is empty. Raises UsageError for any other."""
    from caravan import __version__
    from caravan.training.rendering import FOLDER
    from caravan.training.rendering import render as rendered

    files = {path.removeprefix(f"{FOLDER}/"): text for path, text in rendered(found, version=__version__).items()}
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"{place} is there already.", hint="Name a folder that is new or empty.")
    for path, text in files.items():
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    return tuple(files)


def _said(terminal: Terminal, found: TypeFolder, written: tuple[str, ...], place: Path, *, as_json: bool) -> int:
    if as_json:
        terminal.document({"name": found.type.name, "folder": str(place), "files": list(written)})
    else:
        terminal.out(f"{len(written)} files of {found.type.name} are in {place}.")
    return 0

"""`prompts`: see which texts the language model is given, compare them, keep them, bring them to LangFuse and back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.prompt_texts import FORCE, SHIPPED, Found, difference, find, in_force, text_lines
from caravan.terminal.text import one_line
from caravan.values.errors import NeedsPerson, ServiceError, UsageError
from caravan.values.filling import fields
from caravan.values.prompt_inputs import INPUTS, troubles
from caravan.values.prompts import Prompt, PromptOrigin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.ports import PromptShelf
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A prompt's name.", show_default=False)]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]…", help="Prompts by name; without one, all.", show_default=False)
]
VersionArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[VERSION]",
        help="`shipped`, the beginning of a version's digits, LangFuse's number, or a label.",
        show_default=False,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
_MESSAGE: Final = "from Caravan"


def list_prompts(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the prompts with the version that runs use."""
    terminal = terminal_of(ctx)
    with wiring_of(ctx).prompts() as shelf:
        rows, trouble = [], None
        remote: dict[str, tuple[int, tuple[str, ...]]] = {}
        if shelf.langfuse:
            try:
                remote = shelf.remote_labels()
            except ServiceError as error:
                trouble = error
        for name in shelf.names():
            found, notes = in_force(shelf, name, remote=remote, down=trouble is not None)
            rows.append((name, found, len(shelf.kept(name)), remote.get(name), notes))
    for _, _, _, _, notes in rows:
        for note in notes:
            terminal.err(one_line(note))
    if trouble is not None:
        terminal.err(f"{trouble.line()} What it has by now is not shown.")
    if as_json:
        document: dict[str, Json] = {
            "label": shelf.label,
            "langfuse": {"host": shelf.langfuse, "error": trouble.message if trouble else None},
            "prompts": [
                {**_document(found), "kept": kept, "langfuse_newest": there[0] if there else None, "notes": list(notes)}
                for _, found, kept, there, notes in rows
            ],
        }
        terminal.document(document)
        return
    _print_list(terminal, rows)


def _print_list(
    terminal: Terminal, rows: Sequence[tuple[str, Found, int, tuple[int, tuple[str, ...]] | None, Sequence[str]]]
) -> None:
    from caravan.terminal.console import cell, draw, listing

    table = listing("prompt", "in force", "from", "examples", "kept here", "newest in LangFuse")
    for name, found, kept, there, _ in rows:
        table.add_row(
            cell(name),
            found.prompt.version,
            cell(found.origin()),
            str(len(found.prompt.demos)),
            str(kept),
            str(there[0]) if there else "-",
        )
    draw(terminal.stdout, table)


def show(ctx: typer.Context, name: NameArgument, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Show a prompt: its text, its examples, what fills its places, and its versions."""
    terminal = terminal_of(ctx)
    with wiring_of(ctx).prompts() as shelf:
        if version in (None, FORCE):
            found, notes = in_force(shelf, name, remote=None)
        else:
            found, notes = find(shelf, name, version), ()
        kept, wrong = shelf.kept(name), troubles(name, found.prompt.text, found.prompt.demos)
    for note in notes:
        terminal.err(one_line(note))
    if as_json:
        places: list[Json] = [place.model_dump(mode="json") for place in INPUTS.get(name, ())]
        versions: list[Json] = [
            {"version": k.prompt.version, "labels": list(k.labels), "at": k.at.isoformat(), "why": k.why} for k in kept
        ]
        demos: list[Json] = [demo.model_dump() for demo in found.prompt.demos]
        more = {"text": found.prompt.text, "demos": demos, "places": places, "troubles": list(wrong)}
        terminal.document({**_document(found), **more, "kept": versions})
        return
    terminal.err(f"{name} {found.prompt.version} ({found.origin()})")
    for place in INPUTS.get(name, ()):
        how = "" if place.needed else " (may be left out)"
        terminal.err(f"  {{{{{place.name}}}}}  {place.meaning}{how}")
    for version_kept in kept:
        labels = f" [{', '.join(version_kept.labels)}]" if version_kept.labels else ""
        why = one_line(version_kept.why, 100)
        terminal.err(f"  kept {version_kept.prompt.version} of {version_kept.at:%Y-%m-%d}{labels}: {why}")
    if wrong:
        terminal.err(f"It can't be used: {'; '.join(wrong)}.")
    terminal.raw("\n".join(text_lines(found.prompt)))


def diff(
    ctx: typer.Context,
    name: NameArgument,
    before: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="As for `show`; without it, what is shipped.", show_default=False)
    ] = SHIPPED,
    after: Annotated[
        str,
        typer.Argument(metavar="[VERSION]", help="As for `show`; without it, what is in force.", show_default=False),
    ] = FORCE,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions of a prompt."""
    terminal = terminal_of(ctx)
    with wiring_of(ctx).prompts() as shelf:
        first, second = find(shelf, name, before), find(shelf, name, after)
    lines = difference(first, second)
    if as_json:
        terminal.document(
            {
                "name": name,
                "from": _document(first),
                "to": _document(second),
                "same": not lines,
                "diff": "\n".join(lines),
            }
        )
        return
    if lines:
        terminal.raw("\n".join(lines))
    else:
        terminal.out(f"The same: {first.spoken()} and {second.spoken()}.")


def pull(
    ctx: typer.Context,
    names: NamesArgument = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="N", help="LangFuse's number or label; without it, the label that runs use."),
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Use it here, also without LangFuse.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep LangFuse's versions here."""
    terminal, done = terminal_of(ctx), []
    with wiring_of(ctx).prompts() as shelf:
        there = shelf.remote_labels()
        for name in _names(shelf, names):
            if not names and name not in there:
                continue
            number, label = _remote_version(shelf, version)
            try:
                found = shelf.remote(name, number=number, label=label)
                trouble = troubles(name, found.prompt.text, found.prompt.demos) if found and not names else ()
            except UsageError as error:
                if names:
                    raise
                found, trouble = None, (error.line(),)
            if trouble:  # one that can't be used keeps the others back only where it was asked for
                terminal.err(f"{name} is not kept: {'; '.join(trouble)}")
                continue
            if found is None:
                what = f"version {number}" if number is not None else f"version with the label {label}"
                if names:
                    raise UsageError(
                        f"LangFuse has no {what} of the prompt {name}.", hint="See `main.py prompts list`."
                    )
                continue
            why = f"pulled from LangFuse, version {found.prompt.number}"
            kept = shelf.keep(found.prompt, why=why, labels=(shelf.label,) if promote else ())
            done.append((Found(found.prompt, found.labels), kept.labels))
    if as_json:
        terminal.document([{**_document(pulled), "kept_labels": list(labels)} for pulled, labels in done])
        return
    for pulled, labels in done:
        shown = f" [{', '.join(labels)}]" if labels else ""
        terminal.out(f"{pulled.spoken()} is kept here{shown}.")
    if not done:
        terminal.out("LangFuse has none of the prompts under that label.")


def keep(
    ctx: typer.Context,
    name: NameArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its text; `-` is stdin.", show_default=False)],
    label: Annotated[str | None, typer.Option("--label", metavar="LABEL", help="A label for it, here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a text of your own as a version; `promote` lets runs use it."""
    terminal = terminal_of(ctx)
    text = _text_of(file, terminal)
    with wiring_of(ctx).prompts() as shelf:
        shelf.shipped(name)
        if label is not None and _checked_label(label) == shelf.label:
            raise UsageError(f"The label {label} is that of the runs.", hint="Keep it, then `main.py prompts promote`.")
        made = Prompt(name=name, text=text, fields=fields(text), origin=PromptOrigin.KEPT)
        kept = shelf.keep(made, why="by hand", labels=(label,) if label else ())
    found = Found(kept.prompt, kept.labels)
    if as_json:
        terminal.document(_document(found))
    else:
        terminal.out(f"{found.spoken()}. To use it: `main.py prompts promote {name} {kept.prompt.version}`.")


def _text_of(file: Path, terminal: Terminal) -> str:
    try:
        data = terminal.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"{file} can't be read: {why}.", hint="Give a file with the prompt's text.") from error
    return data.replace("\r\n", "\n")


def push(
    ctx: typer.Context,
    names: NamesArgument = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", metavar="V", help="As for `show`; without it, the one kept under the label, else the shipped."
        ),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="LABEL", help="Label of the new version; repeatable.")
    ] = None,
    message: Annotated[str, typer.Option("--message", metavar="TEXT", help="What is new, for LangFuse.")] = _MESSAGE,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring versions to LangFuse; what has not changed makes no new version there."""
    terminal, done = terminal_of(ctx), []
    for label in labels or ():
        _checked_label(label)
    with wiring_of(ctx).prompts() as shelf:
        there = shelf.remote_labels()
        for name in _names(shelf, names):
            chosen = find(shelf, name, version) if version else in_force(shelf, name, remote={}, local=True)[0]
            if shelf.label in (labels or ()):
                _ask(terminal, in_force(shelf, name, remote=there, anew=True)[0], chosen, yes=yes)
            made = shelf.push(chosen.prompt, labels=tuple(labels or ()), message=message)
            done.append((Found(made.prompt, made.labels), made.is_new))
    if as_json:
        terminal.document([{**_document(found), "is_new": is_new} for found, is_new in done])
        return
    for found, is_new in done:
        terminal.out(f"{found.spoken()} {'is new' if is_new else 'was there already: none was made'}.")


def promote(
    ctx: typer.Context,
    name: NameArgument,
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            help="LangFuse's number or `langfuse:LABEL`, to be used by all; a kept one or `shipped`, to be used here.",
            show_default=False,
        ),
    ],
    label: Annotated[
        str | None, typer.Option("--label", metavar="LABEL", help="Another label than that of the runs.")
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let runs use a version from now on: one that is new, or an earlier one again."""
    terminal = terminal_of(ctx)
    with wiring_of(ctx).prompts() as shelf:
        wanted = _checked_label(label) if label else shelf.label
        chosen = find(shelf, name, version)
        wrong = troubles(name, chosen.prompt.text, chosen.prompt.demos)
        if wrong:
            raise UsageError(f"{chosen.spoken()} can't be used: {'; '.join(wrong)}.", hint="Correct it first.")
        there = chosen.prompt.origin is PromptOrigin.LANGFUSE
        if wanted == shelf.label:
            before_it = in_force(shelf, name, remote=None, local=not there, anew=there)[0]
            _ask(terminal, before_it, chosen, yes=yes)
        if there and chosen.prompt.number is not None:
            shelf.label_remote(name, chosen.prompt.number, wanted)
            where = f"in LangFuse, at {shelf.langfuse}"
        else:
            shelf.label_kept(
                name, None if chosen.prompt.origin is PromptOrigin.SHIPPED else chosen.prompt.version, wanted
            )
            where = "here"
        before = _goes_before(shelf, name, chosen) if wanted == shelf.label else ""
    if as_json:
        terminal.document({**_document(chosen), "label": wanted, "where": where, "note": before or None})
        return
    terminal.out(f"{chosen.spoken()} has the label {wanted} {where}.")
    if before:
        terminal.err(before)


def _goes_before(shelf: PromptShelf, name: str, chosen: Found) -> str:
    """A word where runs here use another version than the one that was promoted."""
    if chosen.prompt.origin is PromptOrigin.LANGFUSE:
        return "" if shelf.managed else "CARAVAN_LANGFUSE_PROMPTS=0: runs here take none of LangFuse's versions."
    if not shelf.managed:
        return ""
    word = SHIPPED if chosen.prompt.origin is PromptOrigin.SHIPPED else chosen.prompt.version
    push_it = f"`main.py prompts push {name} --version {word} --label {shelf.label}`"
    hint = f"{push_it} lets all use this one, CARAVAN_LANGFUSE_PROMPTS=0 leaves LangFuse's alone"
    try:
        there = shelf.remote(name, label=shelf.label)
    except (ServiceError, UsageError):
        return f"LangFuse can't be asked; a version that it has under the label goes before this one: {hint}."
    if there is None or there.prompt.version == chosen.prompt.version:
        return ""
    return f"LangFuse has version {there.prompt.number} under the label, which goes before this one: {hint}."


def _ask(terminal: Terminal, before: Found, after: Found, *, yes: bool) -> None:
    """Show what changes for the runs, and ask. Raises NeedsPerson where nobody says yes."""
    from caravan.terminal.dialogue import confirm
    from caravan.terminal.text import clean

    lines = difference(before, after)
    if not lines:
        return
    for line in lines:
        terminal.err(clean(line))
    if yes:
        return
    said = f"{after.spoken()} takes the place of {before.origin()}"
    if not terminal.interactive:
        raise NeedsPerson(f"{said} for all runs to come.", hint="Allow it with --yes.")
    if not confirm(terminal, f"{said} for all runs to come?"):
        raise NeedsPerson("Nothing was changed.")


def _checked_label(label: str) -> str:
    """A label as LangFuse takes them. Raises UsageError."""
    if label == "latest" or label in (SHIPPED, FORCE) or not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,35}", label):
        raise UsageError(f"{label[:60]!r} can't be a label.", hint="Give a word in small letters, like staging.")
    return label


def _names(shelf: PromptShelf, names: Sequence[str] | None) -> tuple[str, ...]:
    for name in names or ():
        shelf.shipped(name)
    return tuple(dict.fromkeys(names or shelf.names()))


def _remote_version(shelf: PromptShelf, version: str | None) -> tuple[int | None, str | None]:
    """LangFuse's number, or the label."""
    if version is None:
        return None, shelf.label
    plain = version.removeprefix("langfuse:")
    return (int(plain), None) if plain.isascii() and plain.isdigit() and len(plain) < 10 else (None, plain)


def _document(found: Found) -> dict[str, Json]:
    prompt = found.prompt
    return {
        "name": prompt.name,
        "version": prompt.version,
        "origin": prompt.origin.value,
        "number": prompt.number,
        "labels": list(found.labels),
        "examples": len(prompt.demos),
        "given_s_ago": round(found.age_s) if found.age_s is not None else None,
    }

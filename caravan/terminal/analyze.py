"""`analyze`: what a repository is found to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.inputs import check_source
from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.terminal.streams import Terminal
    from caravan.values.repo import HyperparameterFlag, RepoProfile, SourceLine

_SHOWN = 5  # of a list that may be long
_REASONS = 4


def analyze(
    ctx: typer.Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH_OR_URL",
            help="A repository: a directory, an archive (zip, tar) or a git URL (URL@REF for a branch, tag or commit).",
            show_default=False,
        ),
    ],
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="What you want to train: it tells which entry.")] = "",
    fresh: Annotated[bool, typer.Option("--no-cache", help="Find everything anew, also in an unchanged tree.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a repository trains and how.

    Nothing is run, and nothing is written into it.
    """
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    tree = wiring.open_tree(check_source(path))
    tree.need_files()
    if fresh:
        tree.forget()
    from caravan.analysis import analyze as analyze_tree

    profile = analyze_tree(tree, prompt)
    if as_json:
        terminal.document(profile.contract())
    else:
        _print(terminal, profile)


def _print(terminal: Terminal, profile: RepoProfile) -> None:
    from caravan.terminal.console import draw, pairs

    kind = "a training repository" if profile.is_training_repo else "no training repository that was recognised"
    terminal.out(f"{one_line(profile.root)} is {kind} ({profile.files} files).")
    found = [(name, value) for name, value in _rows(profile) if value not in ("", "-")]
    draw(terminal.stdout, pairs(found))
    others = [c for c in profile.candidates if c.entry_point != profile.entry_point]
    if others:
        named = ", ".join(one_line(c.entry_point) for c in others[:_SHOWN])
        terminal.out(f"Other entry points: {named}{_more(others)}")
    for hazard in profile.hazards[:_SHOWN]:
        places = ", ".join(one_line(_place(e)) for e in hazard.evidence[:2])
        terminal.out(f"Hazard: {one_line(hazard.text)}{f' ({places})' if places else ''}")
    if more := _more(profile.hazards):
        terminal.out(f"Hazards{more}: --json has them all")
    for note in profile.notes[:_SHOWN]:
        terminal.out(f"Not read: {one_line(note)}")


def _more(items: Sequence[object]) -> str:
    """How many there are beyond those that are shown."""
    return f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""


def _place(line: SourceLine) -> str:
    return f"{line.file}:{line.line}" if line.line else line.file


def _rows(profile: RepoProfile) -> list[tuple[str, str]]:
    flags = {name: f for name, f in profile.key_hyperparameters.items() if f.flag}
    chosen = next((c for c in profile.candidates if c.entry_point == profile.entry_point), None)
    return [
        ("entry point", _sure(profile, "entry_point", words(profile.entry_point))),
        ("because it", one_line("; ".join(chosen.reasons[:_REASONS])) if chosen else ""),
        ("but it", one_line("; ".join(chosen.against[:_REASONS])) if chosen else ""),
        ("launched by", _sure(profile, "launcher", words(profile.launcher.value))),
        ("command", words(profile.launch_command)),
        ("directory", words(profile.launch_cwd) if profile.launch_cwd != "." else ""),
        ("before it", words(profile.prep_commands)),
        ("framework", _sure(profile, "framework", words(profile.framework))),
        ("method", _sure(profile, "method", words(profile.method))),
        ("base model", _sure(profile, "base_model", words(profile.base_model))),
        ("data", _sure(profile, "dataset", words(profile.dataset))),
        ("GPUs", words(profile.num_gpus)),
        ("distributed", words(profile.distributed)),
        ("dependencies", words(profile.dependency_files)),
        ("configs", words(profile.config_files[:_SHOWN])),
        ("environment", words(profile.env_vars_needed)),
        ("options", ", ".join(f"{name} {_option(f)}" for name, f in flags.items())),
        ("metrics", words(profile.metrics_logged)),
    ]


def _option(flag: HyperparameterFlag) -> str:
    """The option with its default, where it has one."""
    return one_line(flag.flag or "") + (f"={words(flag.default)}" if flag.default is not None else "")


def _sure(profile: RepoProfile, field: str, value: str) -> str:
    """The value with its first evidence, and how sure it is where it is not certain."""
    if value == "-":
        return value
    line = next(iter(profile.evidence.get(field, ())), None)
    place = _place(line) if line else ""
    confidence = profile.confidence.get(field)
    sure = f"{confidence:.0%} sure" if confidence is not None and confidence < 1 else ""
    said = "; ".join(part for part in (place, sure) if part)
    return f"{value}  ({said})" if said else value

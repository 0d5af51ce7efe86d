"""`models pull`, `models verify` and `models export`: a registered model's files, every checksum compared."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from caravan.terminal.models import trained_as
from caravan.terminal.models_found import (
    ClusterOption,
    FromOption,
    JobYesOption,
    RefArgument,
    ThroughJobOption,
    Ways,
    find,
    place_of,
)
from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.amounts import part_text, size_text
from caravan.values.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Sized

    from caravan.runs.loading_code import Loading
    from caravan.runs.outputs import Fetched, Progressed
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.registry import ModelVersion

_EVERY_S: Final = 2.0  # between two lines of progress
_TOLD: Final = 5  # names that are told
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that are there and differ.")]


class Format(StrEnum):
    """The form of an export."""

    FOLDER = "folder"
    TAR = "tar"


class _Steps:
    """Progress now and then on stderr, with names made harmless."""

    def __init__(self, wiring: Wiring, terminal: Terminal) -> None:
        self._wiring, self._terminal = wiring, terminal
        self._told_at = wiring.clock.monotonic()

    def __call__(self, step: Progressed) -> None:
        """Tell how far it is, if that was not told a moment ago."""
        if self._due():
            amount = part_text(step.bytes, step.of_bytes)
            self._terminal.err(
                one_line(f"file {step.files} of {step.of_files}, {amount}: {self.plain(step.name)}", 200)
            )

    def reading(self, name: str, count: int) -> None:
        """The same of a file that is only read."""
        if self._due():
            self._terminal.err(one_line(f"{size_text(count)} of {self.plain(name)}", 200))

    def plain(self, name: str) -> str:
        """A file's name as it is told: names are the job's words."""
        from caravan.values.masking import mask

        return mask(name, self._wiring.secrets())

    def _due(self) -> bool:
        now = self._wiring.clock.monotonic()
        if now - self._told_at < _EVERY_S:
            return False
        self._told_at = now
        return True


def pull(
    ctx: typer.Context,
    ref: RefArgument,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder; default: ./NAME-VERSION.")] = None,
    elsewhere: FromOption = None,
    force: ForceOption = False,
    through_job: ThroughJobOption = False,
    yes: JobYesOption = False,
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a model's files here, each compared with its SHA-256.

    Run again it goes on where it ended. Nothing that differs is overwritten without --force.
    """
    from caravan.runs.model_files import ModelOrigin, whole_here
    from caravan.runs.outputs import Manners, Target

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    model = find(wiring, ref)
    folder = (to or Path(f"{model.name}-{model.version}")).absolute()
    steps = _Steps(wiring, terminal)
    there = whole_here(model, folder, steps.reading)
    left_out: tuple[str, ...] = ()
    if there is None:
        with _kept(f"The same `main.py models pull {model.ref}` goes on."):
            found = place_of(wiring, terminal, model, Ways(elsewhere, through_job, yes, cluster))
            origin = ModelOrigin(model, found.place)
            manners = Manners(marks=False, force=force, differs=_DIFFERS, wrong=origin.hint)
            origin.listing()  # before anything is written: all of it must be there
            target = Target(folder, manners)
            there, listing = target.fetch(origin, "", final=True, tell=steps)
            target.clear()
            if found.afterwards is not None:
                found.afterwards()
        left_out = listing.left_out
    _tell_pulled(wiring, terminal, model, folder, there, [steps.plain(n) for n in left_out], as_json=as_json)


_DIFFERS: Final = "Name another folder with --to, or replace it with --force."


@contextmanager
def _kept(how: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted("Interrupted; what has come is kept.", hint=how) from stop


def _tell_pulled(
    wiring: Wiring,
    terminal: Terminal,
    model: ModelVersion,
    folder: Path,
    files: Sequence[Fetched],
    left_out: Sequence[str],
    *,
    as_json: bool,
) -> None:
    how = _loading(wiring, model, folder, [file.path for file in files])
    size, verified = sum(f.bytes for f in files), bool(model.files.files)
    for name in left_out[:_TOLD]:
        terminal.err(one_line(f"Left out: {name} (a link, or a name that can't be written here)", 300))
    if as_json:
        steps = _Steps(wiring, terminal)
        rows: list[Json] = [{**file._asdict(), "path": steps.plain(file.path)} for file in files]
        terminal.document(
            {
                "ref": model.ref,
                "directory": str(folder),
                "files": rows,
                "bytes": size,
                "verified": verified,
                "left_out": list(left_out),
                "load": list(how.lines),
                "merge": list(how.merge),
                "needs": list(how.packages),
            }
        )
        return
    old = sum(not file.new for file in files)
    known = f" ({old} were there already)" if old else ""
    said = "every checksum agrees" if verified else "no checksums were registered, so nothing was compared"
    terminal.out(one_line(f"{_count(files)}{known}, {size_text(size)}, of {model.ref} in {folder}: {said}."))
    terminal.out("\nLoad it:")
    terminal.raw("\n".join(f"  {line}" if line else "" for line in how.lines))


def _count(files: Sized) -> str:
    return f"{len(files)} file{'' if len(files) == 1 else 's'}"


def _loading(wiring: Wiring, model: ModelVersion, folder: Path, names: list[str]) -> Loading:
    """How what lies in the folder is loaded, by its configs."""
    from caravan.runs.loading_code import ADAPTER_CONFIG, CONFIG, format_of, loading
    from caravan.runs.model_files import small_json

    below = format_of(names, model.kind).folder
    return loading(
        model,
        str(folder),
        config=small_json(folder / f"{below}{CONFIG}"),
        adapter=small_json(folder / f"{below}{ADAPTER_CONFIG}"),
        trained=trained_as(wiring, model),
        names=names,
    )


def verify(
    ctx: typer.Context,
    ref: RefArgument,
    elsewhere: FromOption = None,
    through_job: ThroughJobOption = False,
    yes: JobYesOption = False,
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> int:
    """Read every file of a model where it lies, and compare it with what was registered.

    The exit code is 1 where a file was changed, is missing or can't be read.
    """
    from caravan.runs.model_files import ModelOrigin

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    model = find(wiring, ref)
    if not model.files.files:
        raise UsageError(f"{model.ref} was registered without checksums, so there is nothing to compare.")
    steps = _Steps(wiring, terminal)
    found = place_of(wiring, terminal, model, Ways(elsewhere, through_job, yes, cluster))
    checked = list(ModelOrigin(model, found.place).check(steps.reading))
    if found.afterwards is not None:
        found.afterwards()
    bad = [row for row in checked if row.state != "whole"]
    terminal.exit_code = 1 if bad else 0
    where = elsewhere or model.files.address
    if as_json:
        rows: list[Json] = [{**row._asdict(), "path": steps.plain(row.path)} for row in checked]
        terminal.document({"ref": model.ref, "address": where, "whole": not bad, "files": rows})
        return terminal.exit_code
    for row in bad:
        terminal.out(one_line(f"{row.state}: {steps.plain(row.path)} ({row.detail})", 400))
    said = (
        f"{len(bad)} of {_count(checked)} are not as they were registered"
        if bad
        else f"{_count(checked)} as registered"
    )
    terminal.out(one_line(f"{model.ref} in {where}: {said}."))
    return terminal.exit_code


def export(
    ctx: typer.Context,
    ref: RefArgument,
    to: Annotated[
        str, typer.Option(metavar="DIR|FILE.tar|URL", help="Where it goes: a folder, a tar file, or a place by fsspec.")
    ],
    as_format: Annotated[
        Format | None, typer.Option("--format", help="A folder or one tar file; default: by the name's ending.")
    ] = None,
    elsewhere: FromOption = None,
    force: ForceOption = False,
    through_job: ThroughJobOption = False,
    yes: JobYesOption = False,
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model with its card, its facts and its checksums, to be given away.

    Beside the model's files: README.md, caravan-model.json and SHA256SUMS, which `sha256sum -c` reads.
    """
    from caravan.runs.exporting import Content, to_folder, to_tar, to_url
    from caravan.runs.model_files import ModelOrigin
    from caravan.values.masking import mask

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    if mask(to, wiring.secrets()) != to:
        raise UsageError("The place holds a secret.", hint="Credentials belong into the environment.")
    model = find(wiring, ref)
    as_tar = as_format is Format.TAR or (as_format is None and to.endswith(".tar"))
    with _kept(f"The same `main.py models export {model.ref}` goes on."):
        found = place_of(wiring, terminal, model, Ways(elsewhere, through_job, yes, cluster))
        content = Content(ModelOrigin(model, found.place), trained_as(wiring, model))
        steps = _Steps(wiring, terminal)
        if "://" in to:
            made = to_url(content, to, as_tar=as_tar, force=force, tell=steps)
        elif as_tar:
            made = to_tar(content, Path(to).expanduser().absolute(), force=force, tell=steps)
        else:
            made = to_folder(content, Path(to).expanduser().absolute(), force=force, tell=steps)
        if found.afterwards is not None:
            found.afterwards()
    for name in content.left_out[:_TOLD]:
        terminal.err(one_line(f"Left out: {steps.plain(name)} (a link, or a name that can't be written)", 300))
    if as_json:
        rows: dict[str, Json] = {steps.plain(name): digest for name, digest in made.files.items()}
        form = Format.TAR if as_tar else Format.FOLDER
        terminal.document(
            {"ref": model.ref, "to": made.place, "format": form.value, "bytes": made.bytes, "files": rows}
        )
        return
    terminal.out(one_line(f"{_count(made.files)}, {size_text(made.bytes)}, of {model.ref} in {made.place}."))
    check = "sha256sum -c SHA256SUMS"
    inside = f"tar -xf {made.place} && cd {model.name}-{model.version}" if as_tar else f"cd {made.place}"
    if "://" not in to:
        terminal.out(one_line(f"Compare it: {inside} && {check}"))

"""`diagnose`: why a training failed, from its log alone: no run, no cluster, nothing changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.failure import Diagnosis, Repair
    from caravan.values.plan import TrainingPlan

_HEAD = 4 << 20  # bytes of a larger log's beginning that are read
_LARGEST = 64 << 20  # bytes that are read of a log: its beginning and its end
_SHOWN = 3  # lines of evidence, and of what would be done
_KINDS = ("task_stderr", "docker", "nomad_eval", "nomad_alloc_event", "nomad_api")


def diagnose(
    ctx: typer.Context,
    logs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LOG…",
            help="A log, or what Nomad printed (eval status, alloc status, a refusal); - reads standard input. Several "
            "are the logs of one job's ranks; a directory stands for its files.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The plan that failed: then it is said what would be changed to what."),
    ] = None,
    codebase_path: Annotated[
        str | None,
        typer.Option(metavar="PATH_OR_URL", help="Its repository, beside --plan: options, requirements, files."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help=f"What it is, where its form misleads: {', '.join(_KINDS)}.")
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Many logs: {"id", "text", "origin"} lines in, a line for each out.'),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Say why a training failed, from its log alone.

    The cause, the lines that show it, what would be done. Nothing is changed, asked or sent anywhere.
    """
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    if kind is not None and kind not in _KINDS:
        raise UsageError(f"--kind {one_line(kind, 40)} is none.", hint=f"It is one of {', '.join(_KINDS)}.")
    if jsonl is not None:
        if logs or plan or codebase_path:
            raise UsageError("--jsonl holds the logs itself.", hint="Leave LOG, --plan and --codebase-path out.")
        return _many(wiring, terminal, jsonl, kind)
    if not logs:
        raise UsageError("Name a log:", hint="diagnose FILE, or - for standard input (see --help).")
    if codebase_path is not None and plan is None:
        raise UsageError("--codebase-path says nothing without --plan.", hint="Give the plan that failed, too.")
    text = b"".join(_read(place) for place in logs)
    if not text.strip():
        raise UsageError(f"{one_line(logs[0])} is empty: nothing can be told from it.", hint="Name the task's stderr.")
    return _one(wiring, terminal, text, kind, plan, codebase_path, as_json=as_json)


def _one(
    wiring: Wiring,
    terminal: Terminal,
    text: bytes,
    kind: str | None,
    plan_file: str | None,
    source: str | None,
    *,
    as_json: bool,
) -> int:
    from caravan.diagnosis.plainly import would_do

    plan = _plan(wiring, plan_file)
    found = _diagnosed(text, kind, plan, wiring.secrets())
    would = _would(found, plan, source, wiring) if plan_file is not None else would_do(found)
    if as_json:
        terminal.document({"cause": found.cause, "details": dict(found.details), **_document(found, would)})
    else:
        _print(terminal, found, would)
    return 0


def _diagnosed(text: bytes, kind: str | None, plan: TrainingPlan, secrets: Sequence[str]) -> Diagnosis:
    from caravan.diagnosis.reading import TextKind, evidence_of_text
    from caravan.diagnosis.rules import diagnose as judge

    return judge(evidence_of_text(text, TextKind(kind) if kind else None, secrets=secrets), plan, ())


def _plan(wiring: Wiring, file: str | None) -> TrainingPlan:
    """The plan of a plan file; one that says nothing where none is given."""
    from caravan.terminal.inputs import read_plan_at
    from caravan.values.plan import TrainingPlan, apply_changes

    nothing = TrainingPlan(goal="a log without a run", command=("python", "train.py"))
    return nothing if file is None else apply_changes(nothing, read_plan_at(file, wiring.secrets()).changes)


def _would(found: Diagnosis, plan: TrainingPlan, source: str | None, wiring: Wiring) -> tuple[str, ...]:
    """The repairs of this very plan, in their order, without a cluster to hold them against."""
    from caravan.agent.rules import RuleReasoner
    from caravan.analysis import analyze
    from caravan.planning.catalogue import Prices
    from caravan.terminal.inputs import check_source
    from caravan.values.job import ClusterFacts, ClusterKind
    from caravan.values.repo import RepoProfile

    tree = wiring.open_tree(check_source(source)) if source is not None else None
    profile = (
        analyze(tree, plan.goal) if tree is not None else RepoProfile(root="", tree_digest="", is_training_repo=True)
    )
    toolbox = wiring.toolbox(tree) if tree is not None else _NoRepository()
    facts = ClusterFacts(kind=ClusterKind.NONE, address="")
    repairs = RuleReasoner(Prices()).repairs(found, plan, profile, (), facts, toolbox)
    return tuple(_in_words(repair, plan) for repair in repairs)


class _NoRepository:
    """Looks into a repository that nobody named."""

    def read_file(self, path: str, *, start: int = 1, lines: int = 200) -> str:  # noqa: ARG002
        """Raises UsageError."""
        raise UsageError(f"{path} can't be read: no repository is named.")

    def list_directory(self, path: str = ".") -> tuple[str, ...]:  # noqa: ARG002
        """Nothing."""
        return ()

    def search(self, text: str, *, limit: int = 50) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing."""
        return ()

    def find(self, name: str, *, limit: int = 20) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing."""
        return ()


def _in_words(repair: Repair, plan: TrainingPlan) -> str:
    from caravan.values.failure import ChangePlan, RetryElsewhere, Wait

    if isinstance(repair, ChangePlan):
        changes = ", ".join(f"{c.path}: {plan.get(c.path)} → {c.value}" for c in repair.changes)
        return f"{changes} ({repair.why})" if repair.why else changes
    if isinstance(repair, Wait):
        return f"wait {repair.seconds} s and try the same again{_why(repair.why)}"
    if isinstance(repair, RetryElsewhere):
        where = f" without {', '.join(repair.avoid_nodes)}" if repair.avoid_nodes else ""
        return f"try the same again on another node{where}{_why(repair.why)}"
    return f"ask the cluster again{_why(repair.why)}"


def _why(why: str) -> str:
    return f" ({why})" if why else ""


def _document(found: Diagnosis, would: Sequence[str]) -> dict[str, Json]:
    from caravan.diagnosis.plainly import can_do

    return {
        "class": found.failure.value,
        "confidence": found.confidence,
        "evidence": list(found.lines),
        "fix": list(would),
        "escalate": found.escalate,
        "advice": can_do(found),
    }


def _print(terminal: Terminal, found: Diagnosis, would: Sequence[str]) -> None:
    from caravan.diagnosis.plainly import can_do

    name = found.failure.value.replace("_", " ")
    sure = f" ({found.confidence:.0%} sure)" if 0 < found.confidence < 1 else ""
    terminal.out(f"{name}{sure}: {one_line(found.cause)}")
    for line in found.lines[:_SHOWN]:
        terminal.out(f"  │ {one_line(line, 160)}")
    for text in would[:_SHOWN]:
        terminal.out(f"Caravan would: {one_line(text)}")
    if not would and found.failure.value != "no_failure":
        terminal.out("Caravan would: Hand it to you: nothing of this plan is left to change.")
    if advice := can_do(found):
        terminal.out(f"You can: {one_line(advice)}")


def _read(place: str) -> bytes:
    """A log's bytes; of a very long one its beginning and its end, where causes stand."""
    if place == "-":
        return _ends(sys.stdin.buffer.read(_LARGEST + 1), "standard input")
    path = Path(place)
    try:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
            if not files:
                raise UsageError(f"{one_line(place)} has no files.", hint="Name a log, or a directory of logs.")
            return b"".join(_of_file(p) + b"\n" for p in files)
        return _of_file(path) + b"\n"
    except OSError as error:
        raise UsageError(
            f"The log {one_line(place)} can't be read ({error.strerror}).", hint="Name a file, or - for standard input."
        ) from error


def _of_file(path: Path) -> bytes:
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        if size <= _LARGEST:
            return stream.read(_LARGEST)
        head = stream.read(_HEAD)
        stream.seek(size - (_LARGEST - _HEAD))
        return head + b"\n" + stream.read(_LARGEST - _HEAD)


def _ends(data: bytes, what: str) -> bytes:
    if len(data) > _LARGEST:
        raise UsageError(f"{what} is longer than {_LARGEST >> 20} MiB.", hint="Save it to a file and name that.")
    return data


def _many(wiring: Wiring, terminal: Terminal, file: Path, kind: str | None) -> int:
    """A line of JSON for each log, in their order."""
    from caravan.diagnosis.plainly import would_do

    plan, secrets = _plan(wiring, None), wiring.secrets()
    for row in _rows(file):
        origin = kind or row.get("origin")
        known = str(origin) if origin in _KINDS else None
        found = _diagnosed(str(row["text"]).encode("utf-8", "replace"), known, plan, secrets)
        terminal.out(json.dumps({"id": row.get("id"), **_document(found, would_do(found))}, ensure_ascii=False))
    return 0


def _rows(file: Path) -> Iterator[dict[str, Json]]:
    try:
        stream = file.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{file} can't be read ({error.strerror}).", hint="Check --jsonl.") from error
    with stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UsageError(f"{file}, line {number}: no JSON ({error}).") from error
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise UsageError(f'{file}, line {number}: a log is {{"id": …, "text": …, "origin": …}}.')
            yield row

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

    from caravan.ports import Toolbox
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.failure import Diagnosis, FailureClass, Repair
    from caravan.values.plan import TrainingPlan
    from caravan.values.repo import RepoProfile

_LARGEST = 64 << 20  # bytes that are read of all logs together: of each its beginning and its end
_HEAD = 16  # the part of a longer log's room that its beginning has
_MOST_FILES = 1024
_SHOWN = 3  # lines of evidence, and of what would be done
_OF_THE_CLUSTER = ("placement_", "driver_", "volume_", "nomad_", "cluster_", "deploy_", "interrupted_")
"""How the causes begin whose repairs depend on what the cluster has."""
_BINARY = 0.05  # the share of bytes that no text holds from which a file is none: colours and bars hold far fewer
_LOOKED_AT = 65_536  # bytes of a file by which that is judged
_MARKS = ((b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be"), (b"\xff\xfe", "utf-16-le"))
_ODD = bytes(n for n in range(32) if n not in b"\a\b\t\n\v\f\r\x1b")
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
    text = b"".join(_read(place, _LARGEST // len(logs)) for place in logs)
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
    plan = _plan(wiring, plan_file)
    found = _diagnosed(text, kind, plan, wiring.secrets())
    would = _would(found, plan, source, wiring) if plan_file is not None else _without_plan(found)
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
    from caravan.analysis import analyze
    from caravan.diagnosis.plainly import would_do
    from caravan.diagnosis.repair import mendable
    from caravan.terminal.inputs import check_source
    from caravan.values.repo import RepoProfile

    tree = wiring.open_tree(check_source(source)) if source is not None else None
    profile = (
        analyze(tree, plan.goal) if tree is not None else RepoProfile(root="", tree_digest="", is_training_repo=True)
    )
    toolbox = wiring.toolbox(tree) if tree is not None else _NoRepository()
    told = tuple(_in_words(repair, plan) for repair in _repairs(found, plan, profile, toolbox))
    # What only a cluster can say is told in general words, as is what no plan can mend.
    return told or (would_do(found) if not mendable(found.failure) or _asks_cluster(found.failure) else ())


def _repairs(found: Diagnosis, plan: TrainingPlan, profile: RepoProfile, toolbox: Toolbox) -> tuple[Repair, ...]:
    from caravan.agent.rules import RuleReasoner
    from caravan.planning.catalogue import Prices
    from caravan.values.job import ClusterFacts, ClusterKind

    facts = ClusterFacts(kind=ClusterKind.NONE, address="")
    return RuleReasoner(Prices()).repairs(found, plan, profile, (), facts, toolbox)


def _asks_cluster(failure: FailureClass) -> bool:
    """Whether the repairs depend on what the cluster has, which nobody asks here."""
    return failure.value.startswith(_OF_THE_CLUSTER)


def _without_plan(found: Diagnosis) -> tuple[str, ...]:
    """What would be done, of a log alone. Options that a program refuses were passed: that much of a plan is known."""
    from caravan.diagnosis.plainly import would_do
    from caravan.values.failure import ChangePlan, FailureClass
    from caravan.values.plan import TrainingPlan
    from caravan.values.repo import RepoProfile

    options = found.details.get("option", "").replace(",", " ").split()
    if found.failure is FailureClass.CLI_ARGS_INVALID and found.details.get("kind") == "unknown" and options:
        plan = TrainingPlan(goal="a log without a run", command=("train.py", *options))
        profile = RepoProfile(root="", tree_digest="", is_training_repo=True)
        repairs = _repairs(found, plan, profile, _NoRepository())
        whys = [repair.why for repair in repairs if isinstance(repair, ChangePlan) and repair.why]
        if whys:
            return tuple(f"{why[0].upper()}{why[1:]}." for why in whys)
    return would_do(found)


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


def _read(place: str, room: int) -> bytes:
    """At most `room` bytes of a log, or of a directory's; of a long one its ends, where causes stand."""
    if place == "-":
        return _as_text(_ends(sys.stdin.buffer.read(_LARGEST + 1), "standard input"), "standard input")
    path = Path(place)
    try:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
            if not files:
                raise UsageError(f"{one_line(place)} has no files.", hint="Name a log, or a directory of logs.")
            if len(files) > _MOST_FILES:
                raise UsageError(f"{one_line(place)} has {len(files)} files.", hint=f"Name {_MOST_FILES} at most.")
            share = room // len(files)
            return b"".join(_as_text(_of_file(p, share), p.name) + b"\n" for p in files)
        return _as_text(_of_file(path, room), place) + b"\n"
    except OSError as error:
        raise UsageError(
            f"The log {one_line(place)} can't be read ({error.strerror}).", hint="Name a file, or - for standard input."
        ) from error


def _of_file(path: Path, room: int) -> bytes:
    """At most `room` bytes of a file, a sixteenth of them from its beginning where it is longer."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        if size <= room:
            return stream.read(room)
        head = stream.read(room // _HEAD)
        stream.seek(size - (room - len(head)))
        return head + b"\n" + stream.read(room - len(head))


def _as_text(data: bytes, what: str) -> bytes:
    """A log in UTF-8, whatever a shell wrote it in. Raises UsageError where it is no text."""
    start = data[:_LOOKED_AT]
    encoding = next((name for mark, name in (*_MARKS, (b"\xfe\xff", "utf-16-be")) if start.startswith(mark)), "")
    if not encoding and start.count(0) > len(start) // 4:  # without a mark: every other byte of a Latin text is 0
        odd, even = start[1::2].count(0), start[::2].count(0)
        encoding = "utf-16-le" if odd > 9 * even else "utf-16-be" if even > 9 * odd else ""
    if encoding:
        return data.decode(encoding, "replace").removeprefix("\ufeff").encode("utf-8", "replace")
    # A node that lost power leaves a row of zeros behind: they stand together, and a text is around them.
    plain = start.replace(b"\0" * 16, b"")
    if start.startswith(b"\x1f\x8b") or len(plain) - len(plain.translate(None, _ODD)) > _BINARY * len(plain):
        raise UsageError(f"{one_line(what)} is no text: nothing can be told from it.", hint="Name the task's stderr.")
    return data.removeprefix(b"\xef\xbb\xbf")


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
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{file}, line {number}: no JSON ({error}).") from error
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise UsageError(f'{file}, line {number}: a log is {{"id": …, "text": …, "origin": …}}.')
            yield row

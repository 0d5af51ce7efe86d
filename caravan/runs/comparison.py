"""Runs side by side: subjects in, a `Comparison` out. Pure; how differences are judged is `noise`'s to say."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from caravan.runs.agreement import judged_by, recorded
from caravan.runs.noise import metric_rows
from caravan.values.base import Json
from caravan.values.comparison import Comparison, CostRow, FieldRow, Group, SourceRow, Subject
from caravan.values.plan import plan_diff
from caravan.values.run import ENDED, RunStatus

_OWN: Final = ("code.", "data.", "outputs.location", "image", "build.", "goal")
"""Fields that are a run's own, or stand above the plan's: code, data, image."""
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def compare_runs(subjects: Sequence[Subject], metrics: Sequence[str] = ()) -> Comparison:
    """The subjects in groups of one family and one data set, the first named one's group first.

    `metrics` names those to show; empty: all.
    """
    subjects, told = _told_apart(subjects)
    members = tuple(_grouped(subjects))
    groups = tuple(_group(n, of) for n, of in enumerate(members))
    sources = tuple(_sources(members))
    comparable, head = _comparable(members, sources)
    head = (*head, *told)
    rows, notes = metric_rows(members, metrics, comparable=comparable is not False)
    shared = any(sum(s.n > 0 for s in row.groups) > 1 for row in rows)
    if len(groups) > 1 and not shared:
        head = (*head, "The groups have no metric in common: there is nothing to hold against each other.")
    if len(groups) == 1:
        head = (*head, *_one_plan(members[0]))
    return Comparison(
        groups=groups,
        comparable=comparable,
        head=head,
        sources=sources,
        plan=tuple(_fields(members)),
        metrics=rows,
        costs=tuple(_cost(group.label, s) for group, of in zip(groups, members, strict=True) for s in of),
        notes=notes,
    )


def _told_apart(subjects: Sequence[Subject]) -> tuple[Sequence[Subject], tuple[str, ...]]:
    """The subjects, and what is said of them where some were judged by an evaluation and some by a log alone.

    Figures of the two are not of one kind, whatever their names: those of the log then bear a name of their own.
    """
    logged = [subject for subject in subjects if judged_by(subject.result) != "evaluation"]
    if not logged or len(logged) == len(subjects):
        return subjects, ()
    named = tuple(_logged(subject) if subject in logged else subject for subject in subjects)
    runs = ", ".join(subject.result.run_id for subject in logged)
    return named, (f"{_LOGGED}… are figures of the training's log: of run {runs} there are no others.",)


_LOGGED: Final = "logged_"


def _logged(subject: Subject) -> Subject:
    result = subject.result
    metrics = {f"{_LOGGED}{name}": value for name, value in result.metrics.items()}
    return subject.model_copy(update={"result": result.model_copy(update={"metrics": metrics})})


def _one_plan(of: Sequence[Subject]) -> Iterator[str]:
    """What tells the runs of one group apart, as far as that is known."""
    data = _same([s.result.data.sha256 or ("" if s.result.data.path is None else None) for s in of])
    code = _same([_code_key(s) for s in of])
    if code is False:
        yield "These runs have one plan and other code: more than chance may tell them apart."
        return
    unknown = [what for what, same in (("code", code), ("data", data)) if same is None]
    if unknown:
        what = f"whether their {' and '.join(unknown)} were the same is not known"
        yield f"These runs have one plan; {what}: more than chance may tell them apart."
        return
    yield "These runs have one plan, the same code and data: chance alone tells them apart."


def _code_key(subject: Subject) -> str | None:
    """By what the code is known: that of what was sent, else of a commit without changes; None: it is not."""
    code = subject.result.code
    return code.sha256 or (None if code.uncommitted else code.commit)


def _grouped(subjects: Iterable[Subject]) -> Iterator[tuple[Subject, ...]]:
    found: dict[tuple[str, str | None], list[Subject]] = {}
    for subject in subjects:
        found.setdefault((subject.result.family, subject.result.data.sha256), []).append(subject)
    yield from (tuple(of) for of in found.values())


def _group(number: int, of: Sequence[Subject]) -> Group:
    label = _LETTERS[number] if number < len(_LETTERS) else f"G{number + 1}"
    seeds = sorted({s.result.seed for s in of if s.result.seed is not None})
    return Group(
        label=label,
        runs=tuple(s.result.run_id for s in of),
        family=of[0].result.family,
        seeds=tuple(seeds),
        taken=tuple(s.result.run_id for s in of if not s.named),
        repeats=tuple(s.result.run_id for s in of if s.result.reproduces is not None),
        notes=tuple(_notes(of)),
    )


def _notes(of: Sequence[Subject]) -> Iterator[str]:
    for subject in of:
        result = subject.result
        if subject.note:
            yield f"run {result.run_id}: {subject.note}"
        if result.status in ENDED and result.status is not RunStatus.SUCCEEDED:
            yield f"run {result.run_id} ended {result.status.value}: its figures are shown and do not count"
        if result.status is RunStatus.SUCCEEDED and not result.metrics:
            yield f"run {result.run_id} has no metric"


def _sources(members: Sequence[Sequence[Subject]]) -> Iterator[SourceRow]:
    if len(members) < 2:
        return
    firsts = [of[0].result for of in members]
    yield SourceRow(
        name="data",
        values=tuple(_words(r.data.path or "in the code", r.data.sha256) for r in firsts),
        same=_same([r.data.sha256 or ("" if r.data.path is None else None) for r in firsts]),
    )
    yield SourceRow(
        name="held-out data",
        values=tuple(_words("", recorded(r).get("sha256.held_out")) for r in firsts),
        same=_same([recorded(r).get("sha256.held_out") for r in firsts]),
    )
    yield SourceRow(
        name="code",
        values=tuple(_code(r.code.commit, r.code.sha256, r.code.uncommitted) for r in firsts),
        same=_same([_code_key(of[0]) for of in members]),
    )
    yield SourceRow(
        name="image",
        values=tuple(r.image or "none" for r in firsts),
        same=_same([r.image or "none" for r in firsts]),
    )


def _same(values: Sequence[str | None]) -> bool | None:
    known = {v for v in values if v is not None}
    return False if len(known) > 1 else None if None in values else True


def _words(name: str, sha256: str | None) -> str:
    told = f"SHA-256 {sha256[:12]}" if sha256 else "content not known"
    return f"{name} ({told})" if name else told


def _code(commit: str | None, sha256: str | None, uncommitted: Sequence[str]) -> str:
    parts = [
        f"commit {commit[:12]}" if commit else "",
        f"{len(uncommitted)} files not as committed" * bool(uncommitted),
    ]
    parts.append(f"SHA-256 {sha256[:12]}" if sha256 else "")
    return ", ".join(part for part in parts if part) or "not known"


def _comparable(
    members: Sequence[Sequence[Subject]], sources: Sequence[SourceRow]
) -> tuple[bool | None, tuple[str, ...]]:
    """Whether the figures may be held against each other, and what is said of that before anything else."""
    same = {row.name: row.same for row in sources}
    if len(members) < 2:
        return True, ()
    data, held_out = same["data"], same["held-out data"]
    head = []
    if held_out is False:
        head.append("Not comparable: the models were judged on other held-out data.")
    elif data is False and held_out is not True:
        head.append(
            "Not comparable: the runs trained on other data, and nothing says that they were judged on the same."
        )
    elif data is False:
        head.append("Trained on other data and judged on the same held-out data: what is compared is the data.")
    elif data is None and held_out is not True:
        head.append("Whether the runs trained on the same data is not known: the content was not seen from here.")
    if same["code"] is False:
        head.append("The code is another one.")
    if same["image"] is False:
        head.append("The image is another one.")
    wrong = held_out is False or (data is False and held_out is not True)
    return (False if wrong else None if data is None and held_out is not True else True), tuple(head)


def _fields(members: Sequence[Sequence[Subject]]) -> Iterator[FieldRow]:
    """The fields in which not all groups' plans agree. A seed in which the runs of a group differ is none."""
    plans = [of[0].plan for of in members]
    paths = sorted({path for plan in plans[1:] for path in plan_diff(plans[0], plan)})
    for path in paths:
        if path == "training.seed" or any(path == own or path.startswith(own) for own in _OWN):
            continue
        values: list[Json] = [plan.get(path) for plan in plans]
        yield FieldRow(path=path, values=tuple(values), by=tuple(plan.whose(path) for plan in plans))


def _cost(label: str, subject: Subject) -> CostRow:
    result, told = subject.result, subject.result.forecast
    return CostRow(
        run_id=result.run_id,
        group=label,
        status=result.status,
        attempts=result.attempts,
        seconds=told.seconds,
        measured_s=told.measured_s,
        usd=told.usd,
        measured_usd=told.measured_usd if told.measured_usd is not None else result.cost_usd,
        memory_gib=told.memory_gib,
        measured_gib=told.measured_gib,
        note=subject.note,
    )

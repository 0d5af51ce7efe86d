"""A run that repeats another one: its plan, its code and its data stand, and nothing is asked or changed.

What the original was is in the reproduction's own folder (`original.json`, `code.tar.gz`), so that it goes on whatever
becomes of the original. The nodes come here where a run's request says that it reproduces one.
"""

import posixpath

from pydantic import ValidationError

from caravan.agent.context import Context
from caravan.agent.data_checks import data_report, looked_at, warned
from caravan.agent.data_content import content_of
from caravan.agent.state import RunState, Update, joined
from caravan.agent.training import source_of
from caravan.values.base import Json
from caravan.values.errors import PlanError, StateError, UsageError
from caravan.values.family import family_of, seed_of
from caravan.values.plan import PlanChange, TrainingPlan, apply_changes
from caravan.values.registry import CodeVersion, DataVersion
from caravan.values.reproduction import ORIGINAL, Original
from caravan.values.training import DataReport


def original_from(state: RunState, folder: str, code: CodeVersion, data: DataVersion) -> Original:
    """What a reproduction of the run begins from. Raises UsageError for a run that never had a plan."""
    if state.plan is None or state.profile is None:
        raise UsageError(f"Run {state.run_id} never had a plan.", hint="There is nothing to make again.")
    return Original(
        run_id=state.run_id,
        plan=state.plan,
        profile=state.profile,
        training=state.training,
        code_digest=state.code_digest,
        known_by=state.known_by,
        folder=folder,
        code=code,
        data=data,
        notes=_not_the_same(state),
    )


def _not_the_same(state: RunState) -> tuple[str, ...]:
    """What of the original can't be made again."""
    found = []
    plan = state.need_plan()
    parts = [a.number for a in state.attempts if a.resumed and "checkpoint" in a.resumed and "anew" not in a.resumed]
    if parts:
        found.append(f"the original's attempt {parts[-1]} went on from a checkpoint; this one trains from the start")
    if plan.image and "@sha256:" not in plan.image:
        found.append(f"the image {plan.image} is named by its tag, which may stand for another image by now")
    if seed_of(plan) is None:
        found.append("the plan sets no seed: it is the program's own, if it has one")
    return tuple(found)


def begun(state: RunState, context: Context) -> Update:
    """In place of reading the repository: what the original's was found to be."""
    known = _original(state, context)
    context.progress.note(f"Run {known.run_id} is made again: its code, data, image, seed and plan.")
    return {
        "profile": known.profile,
        "training": known.training,
        "code_digest": known.code_digest,
        "known_by": known.known_by,
        "warnings": joined(state.warnings, known.notes),
    }


def planned(state: RunState, context: Context) -> Update:
    """In place of drafting: the original's plan, with this run's own places. Raises UsageError where data are others.

    Nobody's words are asked for a second time: what the plan says was said, set or repaired in the original.
    """
    known = _original(state, context)
    plan = rebased(known, state, context)
    report = data_report(plan, state, context)
    now = data_now(plan, report, state, context)
    notes = (*warned(report), *_of_data(known, now, state))
    context.folder.save_plan(plan)
    return {
        "plan": plan,
        "data": report,
        "data_seen": looked_at(plan) if report else "",
        "data_sha256": now.sha256 or "",
        "warnings": joined(state.warnings, notes),
    }


def rebased(known: Original, state: RunState, context: Context) -> TrainingPlan:
    """The original's plan, with the places that were its own in this run's folder: it never writes to the original's.

    Who set the fields, and why, stays.
    """
    plan = known.plan
    mine = str(context.folder.path)
    changed: dict[str, Json] = {}
    if plan.code.kind == "archive" and _within(plan.code.location, known.folder):
        changed["code.location"] = f"{mine}/code.tar.gz"
    if plan.outputs.kind == "path":
        if context.facts().shared_files:
            changed["outputs.location"] = str(context.folder.outputs)
        else:
            changed["outputs.location"] = posixpath.join(plan.outputs.location, state.run_id)
    own = plan.training.output_dir
    if own and posixpath.isabs(own):
        changed["training.output_dir"] = posixpath.join(own, state.run_id)
    if plan.training.resume_from and _within(plan.training.resume_from, known.folder):
        changed["training.resume_from"] = None  # the original went on from its own checkpoint: this begins anew
    if not changed:
        return plan
    document = plan.model_dump(mode="json", exclude={"provenance"})
    for path, value in changed.items():
        block, _, name = path.partition(".")
        document[block][name] = value
    try:
        return TrainingPlan.model_validate({**document, "provenance": plan.provenance})
    except ValidationError as error:
        raise PlanError(f"The plan of run {known.run_id} can't be taken up: {error.errors()[0]['msg']}.") from error


def _within(place: str, folder: str) -> bool:
    return bool(folder) and place.startswith(f"{folder.rstrip('/')}/")


def data_now(plan: TrainingPlan, report: DataReport | None, state: RunState, context: Context) -> DataVersion:
    """The data as they are seen from here now; what is sent anew is read anew."""
    measured = content_of(_as_found(plan), source_of(state, context), context)
    sent = plan.data is not None and plan.data.sha256 is not None  # as the original's was measured
    sha = (sent and measured) or (report.sha256 if report else None) or measured or None
    return DataVersion(path=plan.dataset.path, sha256=sha, rows=report.rows if report else None)


def _as_found(plan: TrainingPlan) -> TrainingPlan:
    """The plan without what was measured of the data when the original was planned."""
    if plan.data is None or not plan.data.local:
        return plan
    return plan.model_copy(update={"data": plan.data.model_copy(update={"sha256": None})})


def _of_data(known: Original, now: DataVersion, state: RunState) -> tuple[str, ...]:
    """What there is to say of the data. Raises UsageError where they are others and nobody said that it goes on."""
    before = known.data
    if before.sha256 is None or now.sha256 is None:
        if before.path is None or known.plan.data is None:
            return ()
        return (f"whether the data {before.path} are as they were can't be told from here",)
    if before.sha256 == now.sha256:
        return ()
    told = (
        f"the data {now.path} are others than run {known.run_id} was trained with "
        f"(SHA-256 {now.sha256[:12]}, then {before.sha256[:12]})"
    )
    if state.request.reproduces is not None and state.request.reproduces.anyway:
        return (told,)
    raise UsageError(f"{told[0].upper()}{told[1:]}.", hint="Bring them back, or say --anyway.")


def stays(plan: TrainingPlan, mended: TrainingPlan, state: RunState) -> bool:
    """Whether a repair leaves what is trained as it is; in any other run each repair may change the plan."""
    if state.request.reproduces is None:
        return True
    return family_of(plan) == family_of(mended) and seed_of(plan) == seed_of(mended)


def must_stay(state: RunState, changes: tuple[PlanChange, ...]) -> None:
    """Raise UsageError for changes by which a reproduction would be none."""
    if state.plan is None or stays(state.plan, apply_changes(state.plan, changes), state):
        return
    names = ", ".join(c.path for c in changes)
    raise UsageError(
        f"Run {state.run_id} reproduces another one, and with {names} set otherwise it would not.",
        hint="Start a run of its own for that.",
    )


def _original(state: RunState, context: Context) -> Original:
    text = context.folder.papers().get(ORIGINAL)
    if text is None:
        raise StateError(f"The folder of run {state.run_id} lacks {ORIGINAL}.", hint="Reproduce the run again.")
    try:
        return Original.model_validate_json(text)
    except ValueError as error:
        raise StateError(f"{ORIGINAL} of run {state.run_id} is damaged.", hint="Reproduce the run again.") from error

"""A trained model as the registry knows it: its name, where its files are and what they are, its parent.

It reads the summary that the job left, and files only where they are on this machine.
"""

import re
import runpy
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from caravan.agent.context import Context
from caravan.agent.outputs import IN_ALLOCATION, in_allocation, look
from caravan.agent.state import RunState
from caravan.agent.versions import code_version, data_version
from caravan.gate.judging import figures
from caravan.planning.command import sink_dir
from caravan.planning.resume import checkpoint_pattern
from caravan.ports import ModelRegistry
from caravan.values.errors import UsageError
from caravan.values.outputs import TrainedModel
from caravan.values.plan import TrainingPlan
from caravan.values.registry import ModelFiles, ModelVersion

_UNNAMED: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 96


class Files(NamedTuple):
    """The model's files. `path`: its folder below the output directory, empty for that itself. `why`: why none could
    be listed."""

    files: ModelFiles
    path: str = ""
    kind: str = ""
    why: str = ""


def model_of(state: RunState, context: Context, *, at: datetime, name: str | None = None) -> tuple[ModelVersion, str]:
    """The run's model as it is registered (by default as a candidate of the run's user), and why its files could not be
    listed, empty where they could. `at`: when it came to be.

    Raises StateError for what the database does.
    """
    plan, last, gate, models = state.need_plan(), state.attempts[-1], state.gate, context.models
    found = files_of(state, context)
    model = ModelVersion(
        name=name or name_of(plan, state.request.source),
        run_id=state.run_id,
        created_at=at,
        base_model=plan.model.id,
        parent=parent_of(plan, models) if models is not None else None,
        method=plan.training.method,
        kind=found.kind,
        files=found.files.model_copy(update={"address": address_of(state, plan, found.path)}),
        metrics=gate.metrics if gate is not None else figures(state.metrics, plan),
        base_metrics=gate.base if gate is not None else {},
        definitions=gate.definitions if gate is not None else (),
        gate=gate,
        code=code_version(state, plan),
        data=data_version(state, plan),
        plan_sha256=last.plan_sha256,
        by=context.store.run(state.run_id).user,
    )
    return model, "" if found.files.files else found.why


def ended_at(state: RunState, context: Context) -> datetime:
    """When the training ended: the same when the node runs twice."""
    outcome = state.outcome
    ended = outcome.finished_at if outcome is not None else None
    return ended or context.store.run(state.run_id).created_at


def name_of(plan: TrainingPlan, source: str) -> str:
    """The name under which the model is registered: its base's own name and the repository's.

    Runs that train the same base in the same repository are thereby versions of one name.
    """
    base = (plan.model.id or "").rstrip("/").rpartition("/")[2]
    repository = source.rstrip("/").rpartition("/")[2].removesuffix(".git")
    if repository in ("", ".", ".."):
        repository = Path(source).expanduser().resolve().name
    parts = [_slug(part) for part in dict.fromkeys((base, repository))]
    return "-".join(part for part in parts if part)[:_LONGEST].rstrip("-._") or "model"


def _slug(text: str) -> str:
    return _UNNAMED.sub("-", text).strip("-._")


def address_of(state: RunState, plan: TrainingPlan, path: str) -> str:
    """Where the model's files are, as the registry writes it; `path` below the output directory."""
    sink, attempt = plan.outputs, state.attempts[-1].number
    below = f"/{path}" if path else ""
    if sink.kind == "url":
        return f"{sink.location.rstrip('/')}/{state.run_id}/{attempt}{below}"
    own = plan.training.output_dir
    if sink.kind == "volume" and own is None:
        name = next((m.source for m in plan.mounts if m.destination == sink.location), "")
        return f"volume:{name}/{state.run_id}{below}" if name else f"{sink.location}/{state.run_id}{below}"
    if own is not None and own.startswith("/"):
        return f"{own.rstrip('/')}{below}"
    if sink.kind == "path" and own is None:
        return f"{sink_dir(sink).rstrip('/')}{below}"
    outcome = state.outcome
    root = in_allocation(plan) or IN_ALLOCATION
    return f"allocation:{outcome.alloc_id if outcome and outcome.alloc_id else 'unknown'}/{root}{below}"


def files_of(state: RunState, context: Context) -> Files:
    """The model's files by what its job says of them; where it says nothing and they are here, by looking."""
    plan, outcome = state.need_plan(), state.outcome
    summary = look(plan, context, outcome.alloc_id if outcome else None).summary
    told = summary.model if summary is not None else None
    if (told is None or not told.files) and plan.outputs.kind == "path" and plan.training.output_dir is None:
        told = _seen_here(plan, context) if context.facts().shared_files else told
    if told is not None and told.files:
        path = "" if told.path == "." else told.path
        whole = ModelFiles(address="", files=told.files, sha256=told.sha256)
        return Files(whole, path, told.kind, told.error)
    return Files(
        ModelFiles(address=""), why=told.error if told is not None and told.error else "its job did not list them"
    )


def _seen_here(plan: TrainingPlan, context: Context) -> TrainedModel | None:
    """What the job would have listed, by the very code that runs there; a list that is not whole counts for nothing."""
    code = runpy.run_path(str(context.templates / "model_files.py"))
    said = code["listed"](Path(plan.outputs.location), checkpoints=checkpoint_pattern(plan), links=False)
    if said is None:
        return TrainedModel(path=".", error="there is no file of a model in its output directory")
    found = TrainedModel.model_validate(said)
    return found.model_copy(update={"files": ()}) if found.error else found


def parent_of(plan: TrainingPlan, models: ModelRegistry) -> str | None:
    """The registered model that it was trained from: named by its ref, or by where its files are. None: none is.

    Raises StateError for what the database does.
    """
    base = plan.model.id
    if not base:
        return None
    if "@" in base:
        try:
            return models.model(base).ref
        except UsageError:
            return None
    return next((m.ref for m in models.models() if m.files.address.rstrip("/") == base.rstrip("/")), None)

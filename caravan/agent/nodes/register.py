"""A model that passed its gate is registered, once; a registry that is down costs a warning, not the run."""

from datetime import datetime

from caravan.agent.context import Context
from caravan.agent.registered import address_of, files_of, name_of, parent_of
from caravan.agent.state import RunState, Update, joined
from caravan.agent.versions import code_version, data_version
from caravan.values.errors import StateError
from caravan.values.registry import ModelVersion
from caravan.values.run import RunEvent


def register(state: RunState, context: Context) -> Update:
    """Register the model of the run under the next version of its name."""
    if context.models is None or state.gate is None or not state.attempts:
        return {}
    plan, last = state.need_plan(), state.attempts[-1]
    at, found = _at(state, context), files_of(state, context)
    try:
        model = context.models.register(
            ModelVersion(
                name=name_of(plan, state.request.source),
                run_id=state.run_id,
                created_at=at,
                base_model=plan.model.id,
                parent=parent_of(plan, context.models),
                method=plan.training.method,
                kind=found.kind,
                files=found.files.model_copy(update={"address": address_of(state, plan, found.path)}),
                metrics=state.gate.metrics,
                base_metrics=state.gate.base,
                definitions=state.gate.definitions,
                gate=state.gate,
                code=code_version(state, plan),
                data=data_version(state, plan),
                plan_sha256=last.plan_sha256,
                by=context.store.run(state.run_id).user,
            )
        )
    except StateError as error:  # the model is there all the same
        context.progress.note(f"The model was not registered: {error.line()}")
        again = f"`main.py models register {state.run_id}` does it later"
        return {"warnings": joined(state.warnings, (f"the model was not registered: {error.message} {again}",))}
    text = f"registered as {model.ref}"
    context.store.add_event(state.run_id, RunEvent(at=at, kind="registered", text=text, data={"ref": model.ref}))
    context.progress.note(f"The model passed its evaluation and is {text}")
    more = () if found.files.files else (f"the files of {model.ref} could not be listed: {found.why}",)
    return {"registered": model.ref, "warnings": joined(state.warnings, more)}


def _at(state: RunState, context: Context) -> datetime:
    """When the training ended: the same when the node runs twice."""
    outcome = state.outcome
    ended = outcome.finished_at if outcome is not None else None
    return ended or context.store.run(state.run_id).created_at

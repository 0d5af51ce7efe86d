"""A model that passed its gate is registered, once; a registry that is down costs a warning, not the run."""

from caravan.agent.context import Context
from caravan.agent.registered import ended_at, model_of
from caravan.agent.state import RunState, Update, joined
from caravan.values.errors import StateError
from caravan.values.run import RunEvent

REGISTERED = "registered"


def register(state: RunState, context: Context) -> Update:
    """Register the model of the run under the next version of its name; that of a reproduction only a person does."""
    if context.models is None or state.gate is None or not state.attempts:
        return {}
    if state.request.reproduces is not None:  # the same model once more: a registry of copies tells nobody anything
        original = state.request.reproduces.run_id
        text = f"the model is a reproduction of run {original}'s and was not registered as one more version"
        return {"warnings": joined(state.warnings, (f"{text}: `main.py models register {state.run_id}` does it",))}
    at = ended_at(state, context)
    try:
        made, unlisted = model_of(state, context, at=at)
        model = context.models.register(made)
    except StateError as error:  # the model is there all the same
        context.progress.note(f"The model was not registered: {error.line()}")
        again = f"`main.py models register {state.run_id}` does it later"
        return {"warnings": joined(state.warnings, (f"the model was not registered: {error.message} {again}",))}
    text = f"registered as {model.ref}"
    # Told when it was done, however long ago the training ended; once, though the node may run twice.
    known = (e.at for e in context.store.events(state.run_id) if e.kind == REGISTERED and e.text == text)
    now = next(known, None) or context.clock.now()
    context.store.add_event(state.run_id, RunEvent(at=now, kind=REGISTERED, text=text, data={"ref": model.ref}))
    context.progress.note(f"The model passed its evaluation and is {text}")
    more = (f"the files of {model.ref} could not be listed: {unlisted}",) if unlisted else ()
    return {"registered": model.ref, "warnings": joined(state.warnings, more)}

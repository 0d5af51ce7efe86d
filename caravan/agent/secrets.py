"""The offer: before a job is approved, the secrets that it needs and its cluster lacks are asked about, by name.

A value goes from this environment to the cluster in one call and nowhere else: it is in no state, no question, no
trace and no note. It knows no prompt and no terminal.
"""

import shlex
from typing import Final

from langgraph.types import interrupt

from caravan.agent.context import Context
from caravan.agent.state import RunState, Update, joined
from caravan.planning.secrets import ANY_JOB
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import ClusterDenied, JobConflict
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.job import ClusterKind
from caravan.values.plan import Author, TrainingPlan
from caravan.values.run import RunEvent, RunStatus
from caravan.values.secrets import SecretOffer

_WRITES: Final = 3  # tries of check-and-set, when others write the same variable meanwhile


def offer_secrets(state: RunState, context: Context) -> Update | None:
    """One step towards the job's secrets being there; None when there is no more to do or to ask.

    First the cluster is asked which names it lacks, then a person what to do about them: never both in one step, so
    that a reply is to the very names that were shown. Raises ClusterError when the cluster can't be asked.
    """
    plan, namespace = state.need_plan(), state.need_deployment().namespace
    if not plan.secrets:
        return None
    offer = state.offer
    if offer is None or not offer.is_for(plan.secrets_from, namespace, plan.secrets):
        return _look(state, context, plan, namespace)
    if offer.settled:
        return None
    return _ask_for_them(state, context, offer) if offer.nowhere else _send(state, context, offer)


def _look(state: RunState, context: Context, plan: TrainingPlan, namespace: str) -> Update:
    source, wanted = plan.secrets_from, plan.secrets
    offer = SecretOffer(source=source, namespace=namespace, wanted=wanted)
    if source.kind == "vault":
        return _settled(
            state,
            offer,
            f"whether Vault has {_all(wanted)} at {source.path} can't be known from here: if not, {_WAITS}",
        )
    said = []
    if source.path != ANY_JOB:
        said.append(f"the job may read the Nomad variable {source.path} only with an ACL policy of its own for it")
    try:
        there = context.cluster.variable_names(source.path, namespace)
    except ClusterDenied:
        said.append(
            f"the token may not read the Nomad variable {source.path}: whether it has {_all(wanted)} is not known"
        )
        return _settled(state, offer, *said)
    missing = tuple(name for name in wanted if name not in (there or ()))
    if not missing:
        return _settled(state, offer, *said)
    here = tuple(name for name in missing if context.secret_of(name))
    nowhere = tuple(name for name in missing if name not in here)
    found = offer.model_copy(update={"here": here, "nowhere": nowhere, "exists": there is not None})
    return {"offer": found, "warnings": joined(state.warnings, said)}


_WAITS: Final = "the job waits for it, or ends at its start"


def _settled(state: RunState, offer: SecretOffer, *warnings: str) -> Update:
    return {"offer": offer.model_copy(update={"settled": True}), "warnings": joined(state.warnings, warnings)}


def _ask_for_them(state: RunState, context: Context, offer: SecretOffer) -> Update:
    """Nobody has them but a person: they put them there, and it is looked again, or the run ends here."""
    where = f"the Nomad variable {offer.source.path} of the namespace {offer.namespace}"
    lacks = (
        f"{where} lacks, and the token may not write it"
        if offer.denied
        else f"neither {where} nor this environment has"
    )
    cause = f"The job needs {_all(offer.nowhere)}, which {lacks}."
    advice = f"Put what is missing there: {_how(state, context, offer)}."
    again = f"Then say yes, or `main.py resume {state.run_id} --approve`: it is looked again. No ends the run."
    ask = Ask(
        kind=AskKind.SECRETS, text=f"{cause} {advice} {again}", names=offer.nowhere, attempt=state.sequence,
        job_id=state.need_deployment().job_id,
    )  # fmt: skip
    reply = Reply.model_validate(interrupt(ask.model_dump(mode="json")))
    if reply.approved:
        return {"offer": None}
    known = Diagnosis(
        failure=FailureClass.TEMPLATE_SECRET_UNAVAILABLE, confidence=1.0, cause=cause, advice=advice, escalate=True
    )
    return {"status": RunStatus.REJECTED, "diagnosis": known, "detail": f"{cause} {advice}"}


def _send(state: RunState, context: Context, offer: SecretOffer) -> Update:
    """Write what is set here as a Nomad variable, when a person says so or `--send-secrets` did."""
    if not (state.request.send_secrets and set(offer.here) <= set(_vouched(state))):
        reply = Reply.model_validate(interrupt(_question(state, context, offer).model_dump(mode="json")))
        if not reply.approved:
            lacking = f"the Nomad variable {offer.source.path} lacks {_all(offer.here)}: {_WAITS}"
            return _settled(state, offer, lacking)
    try:
        written = _write(context, offer)
    except ClusterDenied:
        return {"offer": offer.model_copy(update={"here": (), "nowhere": offer.here, "denied": True})}
    if not written:
        return {"offer": None}  # this environment lacks them by now: looked again
    text = f"Wrote {_all(offer.here)} to the Nomad variable {offer.source.path} of the namespace {offer.namespace}."
    context.progress.note(text)
    context.store.add_event(state.run_id, RunEvent(at=context.clock.now(), kind="secrets", text=text))
    return _settled(state, offer.model_copy(update={"here": ()}))


def _vouched(state: RunState) -> tuple[str, ...]:
    """The names that `--send-secrets` speaks of: those that the run began with or a person has approved since."""
    plan = state.need_plan()
    if plan.set_by("secrets") not in (Author.REPAIR, Author.MODEL, Author.MEMORY):
        return plan.secrets
    return state.envelope.secrets if state.envelope else ()


def _question(state: RunState, context: Context, offer: SecretOffer) -> Ask:
    cluster = context.facts().address
    these = "it" if len(offer.here) == 1 else "them"
    text = (
        f"The job needs {_all(offer.here)}, which the Nomad variable {offer.source.path} of the namespace "
        f"{offer.namespace} on {cluster} lacks and this environment has. Write {these} there, encrypted as Nomad keeps "
        f"its variables? {_readers(offer)} The values are shown and stored nowhere else."
    )
    return Ask(
        kind=AskKind.SECRETS, text=text, names=offer.here, warnings=state.warnings, attempt=state.sequence,
        job_id=state.need_deployment().job_id,
    )  # fmt: skip


def _readers(offer: SecretOffer) -> str:
    if offer.source.path == ANY_JOB:
        return f"Every job of the namespace {offer.namespace} may read it."
    return "The job needs an ACL policy of its own to read it."


def _write(context: Context, offer: SecretOffer) -> bool:
    """Write the values; False when this environment has not all of them any more."""
    items = {name: value for name in offer.here if (value := context.secret_of(name))}
    if len(items) < len(offer.here):
        return False
    for left in range(_WRITES, 0, -1):
        try:
            context.cluster.write_variable(offer.source.path, items, offer.namespace)
        except JobConflict:
            if left == 1:
                raise
        else:
            break
    return True


def _how(state: RunState, context: Context, offer: SecretOffer) -> str:
    """The commands that write what is missing: our own, which know any cluster, and on a Nomad its own client's."""
    builtin = context.facts().kind is ClusterKind.BUILTIN  # there is no Nomad's client for that one
    ways = (
        [f"{put_lines(state, offer)} (the value is typed unseen, or piped in)"] if builtin or not offer.denied else []
    )
    if not builtin:
        file = "FILE holds the value alone, without a line break at its end"
        ways.append(f"`{put_line(offer)}` ({file})")
    return ", or ".join(ways)


def put_lines(state: RunState, offer: SecretOffer) -> str:
    """Our own commands for what is missing, one for each name. Other items stay, and no value is typed openly."""
    request = state.request
    options = ["--cluster", request.profile or request.cluster]
    options += [] if offer.namespace == "default" else ["--namespace", offer.namespace]
    options += [] if offer.source.path == ANY_JOB else ["--path", offer.source.path]
    names = (*offer.here, *offer.nowhere)
    return ", ".join(f"`{shlex.join(['main.py', 'secrets', 'put', name, *options])}`" for name in names)


def put_line(offer: SecretOffer) -> str:
    """The line of Nomad's client that does it. Other items stay: `nomad var put` alone would drop them."""
    items = " ".join(f"{name}=@FILE" for name in (*offer.here, *offer.nowhere))
    namespace = f"-namespace={offer.namespace}"
    if not offer.exists:
        return f"nomad var put {namespace} {offer.source.path} {items}"
    return f"nomad var get {namespace} -out=json {offer.source.path} | nomad var put {namespace} -in=json - {items}"


def _all(names: tuple[str, ...]) -> str:
    return ", ".join(names)

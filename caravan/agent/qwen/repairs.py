"""Repairs that a model proposes: typed, guarded as its plan fields are, each with a reason."""

from collections.abc import Sequence
from typing import Final

from caravan.agent.qwen.guard import Ground, Refused, judged
from caravan.agent.qwen.plan import change_of, reason
from caravan.agent.qwen.replies import RepairProposal, RepairsReply
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, Repair, Requery, RetryElsewhere, Wait
from caravan.values.plan import Author

MOST: Final = 3
"""Repairs that are taken from one answer."""
_LONGEST_WAIT_S: Final = 1800
"""A wait costs nothing but time, of which a person may have less."""


def proposed(
    reply: RepairsReply, ground: Ground, diagnosis: Diagnosis, tried: Sequence[Repair], model: str
) -> tuple[tuple[Repair, ...], tuple[Refused, ...]]:
    """The repairs that may be tried, in their order; a repair of which a part is refused is refused as a whole."""
    taken, refused = list[Repair](), list[Refused]()
    for said in reply.repairs:
        repair, why = _typed(said, ground, diagnosis, model)
        if repair is None:
            refused += why
        elif any(_same(repair, other) for other in (*tried, *taken)):
            refused.append(Refused(said.kind, "it was tried in this run"))
        elif len(taken) < MOST:
            taken.append(repair)
    return tuple(taken), tuple(refused)


def _typed(
    said: RepairProposal, ground: Ground, diagnosis: Diagnosis, model: str
) -> tuple[Repair | None, tuple[Refused, ...]]:
    why = reason(said.why, model)
    if not said.why.strip():
        return None, (Refused(said.kind, "it gives no reason"),)
    if said.kind == "wait":
        return Wait(seconds=min(max(said.seconds, 1), _LONGEST_WAIT_S), why=why), ()
    if said.kind == "requery":
        return Requery(why=why), ()
    if said.kind == "retry_elsewhere":
        return _elsewhere(said, ground, diagnosis, why)
    changes = tuple(
        change_of(c.model_copy(update={"why": c.why or said.why}), model, Author.REPAIR) for c in said.changes
    )
    taken, _, refused = judged(changes, ground)
    if refused:
        return None, refused
    if not taken:
        return None, (Refused(said.kind, "it changes nothing"),)
    return ChangePlan(changes=taken, why=why), ()


def _elsewhere(
    said: RepairProposal, ground: Ground, diagnosis: Diagnosis, why: str
) -> tuple[Repair | None, tuple[Refused, ...]]:
    names = {n.name for n in ground.facts.usable_nodes()} if ground.facts else set[str]()
    avoid = tuple(dict.fromkeys(said.avoid_nodes or ((diagnosis.node_name,) if diagnosis.node_name else ())))
    if not avoid or not set(avoid) <= names:
        return None, (Refused(said.kind, "the cluster has no node of that name"),)
    if set(avoid) >= names:
        return None, (Refused(said.kind, "no node would be left"),)
    return RetryElsewhere(avoid_nodes=avoid, why=why), ()


def _same(one: Repair, other: Repair) -> bool:
    """Whether both do the same, whatever they say of it."""
    if isinstance(one, ChangePlan) and isinstance(other, ChangePlan):
        return {(c.path, str(c.value)) for c in one.changes} == {(c.path, str(c.value)) for c in other.changes}
    if isinstance(one, Wait) and isinstance(other, Wait):
        return True  # waiting once more, whatever for how long, is no other repair
    plain = {"why": ""}
    return one.model_copy(update=plain) == other.model_copy(update=plain)


def told(repairs: Sequence[Repair]) -> tuple[str, ...]:
    """A line for each."""
    return tuple(f"{r.kind}{_changes(r)}: {r.why.partition(': ')[2] or r.why}" for r in repairs)


def _changes(repair: Repair) -> str:
    return f" {', '.join(f'{c.path} = {c.value}' for c in repair.changes)}" if isinstance(repair, ChangePlan) else ""


def worth_asking(diagnosis: Diagnosis) -> bool:
    """Whether a model is asked for repairs at all: not against what nobody understands, nor what is a person's."""
    return diagnosis.failure is not FailureClass.UNKNOWN and not diagnosis.escalate

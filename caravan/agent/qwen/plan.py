"""Plan fields that a model proposes, each with its reason, held against the guard."""

from caravan.agent.qwen.guard import Ground, Refused, judged
from caravan.agent.qwen.replies import FieldProposal, PlanReply
from caravan.agent.qwen.words import misleads
from caravan.values.plan import Author, PlanChange

_WHY = 200  # characters of a reason


def proposed(reply: PlanReply, ground: Ground, model: str) -> tuple[tuple[PlanChange, ...], tuple[Refused, ...]]:
    """The changes that may be made, by the model and with why; and the others."""
    reasoned = [c for c in reply.changes if c.why.strip()]
    bare = tuple(Refused(c.path[:60], "it gives no reason") for c in reply.changes if not c.why.strip())
    taken, _, refused = judged((change_of(c, model, Author.MODEL) for c in reasoned), ground)
    return taken, (*bare, *refused)


def change_of(said: FieldProposal, model: str, by: Author) -> PlanChange:
    """A proposal as a change, whose reason begins with who made it."""
    return PlanChange(path=said.path, value=said.value, by=by, why=reason(said.why, model))


def reason(why: str, model: str) -> str:
    """Who says it, and why, in a line."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in why).split())
    told = "(its words are left out)" if misleads(plain) else plain[:_WHY]
    return f"by {model}: {told}".rstrip(": ")


def told(changes: tuple[PlanChange, ...]) -> tuple[str, ...]:
    """A line for each."""
    return tuple(f"{c.path} = {c.value} ({c.why.partition(': ')[2] or c.why})" for c in changes)

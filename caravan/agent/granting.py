"""More money or time for a run that has begun: what is asked, and what a yes to it grants. Pure."""

from typing import Final

from caravan.agent.resuming import used_up
from caravan.agent.state import RunState, Update
from caravan.diagnosis.sign import BUDGET_OVER
from caravan.planning.config_files import reaches
from caravan.planning.resume import goes_on
from caravan.planning.savings import choice_of
from caravan.values.dialogue import Ask, Reply
from caravan.values.estimate import Verdict, held_fields, largest
from caravan.values.failure import RetryElsewhere
from caravan.values.guarded import kept_fields
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes

DECIDED: Final[Update] = {"choices": (), "unplaced": None}
"""No other plan is on offer any more."""


def has_begun(state: RunState) -> bool:
    """Whether a training was paid for that can go on: then a person is asked for more money, and not just refused."""
    plan = state.need_plan()
    ended_well = any(used_up(plan, attempt.outcome) for attempt in state.attempts)
    return bool(state.attempts) and (bool(state.exhausted) or ended_well or (state.reached > 0 and goes_on(plan)))


def more_money(state: RunState, job_id: str) -> str:
    """What is asked of a run whose time or money was over, with what it has reached."""
    done = f" About {state.reached:.0%} of the training is in its last checkpoint." if state.reached else ""
    reason, again = state.exhausted.rstrip("."), f"Go on from its last checkpoint as {job_id}?"
    if state.written is False:
        done = f" No checkpoint was written: it starts anew.{_in_vain(state)}"
        again = f"Deploy it again as {job_id}?"
    elif state.written is None and not state.reached:
        again = f"Go on as {job_id}, from its last checkpoint where it wrote one?"
    if state.budget is not None and state.budget.shared:
        return f"{reason}.{done} {again}"  # no sum for the run raises what runs share
    return (
        f"{reason}.{done} {again} "
        f"(`main.py resume {state.run_id} --approve --budget USD` says what the whole run may cost.)"
    )


def going_on(state: RunState) -> RetryElsewhere:
    """The same plan once more, after its time or its money was over, in words that its outputs bear out."""
    if state.written is False:
        return RetryElsewhere(why="no checkpoint was written: it starts anew")
    unseen = "" if state.written else ", where it wrote one"
    return RetryElsewhere(why=f"it goes on from its last checkpoint{unseen}")


def longer_or_less(state: RunState) -> Update:
    """Other plans for one that its own time limit ended with nothing to go on from: a longer limit, fewer epochs."""
    plan = state.need_plan()
    seconds, epochs = plan.limits.max_run_s, plan.training.epochs
    if not _at_its_limit(state) or seconds is None:
        return {}
    choices = [choice_of(f"a time limit of {2 * seconds} s instead of {seconds} s", "limits.max_run_s", 2 * seconds)]
    if epochs is not None and epochs >= _TWO and reaches(plan, "training.epochs"):
        fewer = int(epochs / 2)
        choices.append(choice_of(f"{fewer} epoch{'' if fewer == 1 else 's'} of {epochs:g}", "training.epochs", fewer))
    return {"choices": tuple(choices), "unplaced": plan}


_TWO: Final = 2


def _at_its_limit(state: RunState) -> bool:
    """Whether the plan's own time limit ended it, and nothing is there to go on from."""
    limited = state.need_plan().limits.max_run_s is not None
    return limited and state.written is False and not state.exhausted.startswith(BUDGET_OVER)


def _in_vain(state: RunState) -> str:
    if not _at_its_limit(state):
        return ""
    limit = state.need_plan().limits.max_run_s
    return f" With the same limits.max_run_s of {limit} s it would end there again: take a higher one, or train less."


def granted_more(state: RunState, ask: Ask, reply: Reply, *, hard_usd: float) -> Update | None:
    """What a yes grants; None where it names no sum that the run could go on with: then it is asked again.

    Without a sum a yes grants what was shown, up to the hard limit: beyond it the sum must be said.
    """
    money, over = reply.budget_usd, ask.budget is not None and ask.budget.verdict is Verdict.OVER_HARD
    over = over or state.exhausted.startswith(BUDGET_OVER)
    if ask.envelope is None:
        raise AssertionError("an approval shows what it grants")
    if money is None and over:
        money = ask.envelope.cost_usd
        if money > hard_usd:
            return None
    if money is None:
        return {"envelope": ask.envelope, "exhausted": "", **DECIDED}
    if money * _LEAST <= state.spent_usd:
        return None
    plan = _with_limit(state.need_plan(), money)
    # The money bounds it now, and with it how long it may run.
    grants = ask.envelope.model_copy(
        update={
            "cost_usd": money,
            "run_s": None,
            "kept": kept_fields(plan),
            "held": held_fields(plan, ask.envelope),
            "most": largest(plan, ask.envelope),
        }
    )
    request = state.request.model_copy(update={"budget_usd": money})
    return {"envelope": grants, "exhausted": "", "plan": plan, "request": request, "turn": "estimate", **DECIDED}


_LEAST: Final = 0.9
"""Of a sum the share that must not be spent already: less would be kept for the job's end at once."""


def sum_needed(ask: Ask) -> Ask:
    """The same question once more, after a yes that named no sum it could go on with."""
    said = (
        "Please say what the whole run may cost, with --budget: more than it has cost, and over the hard limit by name."
    )
    return ask if ask.text.startswith(said) else ask.model_copy(update={"text": f"{said} {ask.text}"})


def _with_limit(plan: TrainingPlan, money: float) -> TrainingPlan:
    if plan.limits.max_cost_usd is None:
        return plan
    change = PlanChange(path="limits.max_cost_usd", value=money, by=Author.USER, why="granted while it ran")
    return apply_changes(plan, [change])

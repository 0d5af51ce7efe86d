"""The budget's verdict on an estimate. A table: unknown cost is never within it, and the nearest limit counts.

Pure: what runs have spent together and what is reserved was looked up before.
"""

import math
from collections.abc import Sequence
from typing import Final

from caravan.values.estimate import BudgetVerdict, Estimate, Verdict
from caravan.values.policy import Policies
from caravan.values.spending import Room, SharedLimit, renewed_at


def judge_budget(
    estimate: Estimate,
    *,
    soft_usd: float,
    hard_usd: float,
    spent_usd: float,
    budget_usd: float | None,
    rooms: Sequence[Room] = (),
) -> BudgetVerdict:
    """What may be spent: `soft_usd` without asking, `hard_usd` after asking; all attempts of the run count.

    `budget_usd` (None: not given) is the user's own word and replaces both. Judged is the high end of the estimate
    plus what the run has spent already. `rooms`: what limits over several runs leave for what is still to come; no
    word of the user raises those, and the tightest is told.
    """
    soft, hard = (soft_usd, max(soft_usd, hard_usd)) if budget_usd is None else (budget_usd, budget_usd)
    own = _of_the_run(estimate, soft, hard, spent_usd, named=budget_usd is not None)
    short = min(rooms, key=lambda room: room.left_usd, default=None)
    ahead = estimate.cost_usd.high if estimate.cost_usd is not None else None
    if short is None or (ahead is not None and ahead <= short.left_usd):
        return own
    if ahead is None and short.left_usd > 0:
        text = f"{own.text} No more than {in_words(short)}."
        return own.model_copy(update={"text": text})
    return own.model_copy(
        update={
            "verdict": Verdict.OVER_HARD,
            "text": refusal(short, ahead),
            "limit": short.cap.name,
            "left_usd": short.left_usd,
            "shared": True,
        }
    )


def _of_the_run(estimate: Estimate, soft: float, hard: float, spent: float, *, named: bool) -> BudgetVerdict:
    """The verdict by what this run may spend alone. `named`: both limits are the sum that the user gave."""
    known = {"soft_usd": soft, "hard_usd": hard, "spent_usd": spent, "left_usd": max(0.0, hard - spent)}
    before = f", with {spent:.2f} USD spent so far" if spent else ""
    soft_name, hard_name = ("--budget", "--budget") if named else ("the soft limit", "the hard limit")
    if estimate.cost_usd is None:
        text = f"What it will cost isn't known{before}: set limits.max_run_s or a price to bound it."
        if spent > hard:
            return BudgetVerdict(verdict=Verdict.OVER_HARD, text=text, limit=hard_name, **known)
        return BudgetVerdict(verdict=Verdict.OVER_SOFT, text=text, limit=soft_name, **known)
    total = spent + estimate.cost_usd.high
    said = f"Up to {estimate.cost_usd.high:.2f} USD" if total else "It costs nothing"
    if spent:
        said = f"Up to {estimate.cost_usd.high:.2f} USD more, {total:.2f} USD in all with {spent:.2f} spent so far"
    if total <= soft:
        return BudgetVerdict(verdict=Verdict.WITHIN, text=f"{said}: within {soft:.2f} USD.", **known)
    if total <= hard:
        text = f"{said}: over {soft:.2f} USD, so you are asked."
        return BudgetVerdict(verdict=Verdict.OVER_SOFT, text=text, limit=soft_name, **known)
    which = "the budget given" if named else "the hard limit"
    enough = math.ceil(total * 100) / 100  # rounded down it would be refused again
    text = f"{said}: over {which} of {hard:.2f} USD; give --budget {enough:.2f} or plan smaller."
    return BudgetVerdict(verdict=Verdict.OVER_HARD, text=text, limit=hard_name, **known)


def refusal(short: Room, ahead_usd: float | None) -> str:
    """Why a limit over several runs stands against a run, what is left and what to do. `ahead_usd` None: not known."""
    cost = "What it will cost isn't known" if ahead_usd is None else f"Up to {ahead_usd:.2f} USD"
    again = f"{renewed_at(short.cap):%Y-%m-%d} UTC"
    wait = f"wait until {again}"
    if ahead_usd is not None and ahead_usd <= short.left_usd + short.reserved_usd:
        # What the others leave of their reservations at their ends is free then.
        wait = f"try again when {_those_with_it(short)}"
    advice = f"Plan smaller, {wait}, or ask whoever set it; --budget doesn't help."
    return f"{cost}: over {in_words(short)}. {advice}"


def in_words(room: Room) -> str:
    """A limit over several runs, with what is left under it and where the rest is."""
    whose = f"of {room.cap.user or 'runs whose user is not known'}" if room.cap.user is not None else "of all runs"
    held = f", {room.reserved_usd:.2f} reserved by {_named(room)}" if room.reserved_usd >= 0.005 else ""
    span = "this month" if room.cap.span == "month" else "today"
    return (
        f"the {room.left_usd:.2f} USD that are left {span} of the {room.cap.usd:.2f} USD {whose} ({room.cap.name}; "
        f"{room.spent_usd:.2f} spent{held})"
    )


def _named(room: Room) -> str:
    """Who has reserved what is not left: a few runs by their ids, more by their number."""
    count = len(room.holders)
    if not count:
        return "runs that run now"
    if count > _NAMED:
        return f"{count} runs that run now"
    return (
        f"run{'s' if count > 1 else ''} {' and '.join(filter(None, (', '.join(room.holders[:-1]), room.holders[-1])))}"
    )


_NAMED: Final = 3
"""Runs that are told by their ids."""


def _those_with_it(room: Room) -> str:
    return "that run has ended" if len(room.holders) == 1 else "those runs have ended"


def shared_of(policies: Policies) -> tuple[SharedLimit, ...]:
    """The limits over several runs that policies set: they stand beside those of settings, whichever is lower."""
    found: list[SharedLimit] = []
    for file in policies.files:
        rules, where = file.policy.money, f"in {file.path}"
        if rules.per_day_usd is not None:
            found.append(SharedLimit(usd=rules.per_day_usd, span="day", name=f"money.per_day_usd {where}"))
        if rules.per_month_usd is not None:
            found.append(SharedLimit(usd=rules.per_month_usd, name=f"money.per_month_usd {where}"))
        if rules.per_user_month_usd is not None:
            name = f"money.per_user_month_usd {where}"
            found.append(SharedLimit(usd=rules.per_user_month_usd, per_user=True, name=name))
    return tuple(found)

"""The budget's verdict on an estimate. A table: unknown cost is never within it. Pure."""

from caravan.values.estimate import BudgetVerdict, Estimate, Verdict


def judge_budget(
    estimate: Estimate,
    *,
    soft_usd: float,
    hard_usd: float,
    spent_usd: float,
    budget_usd: float | None,
) -> BudgetVerdict:
    """What may be spent: `soft_usd` without asking, `hard_usd` after asking; all attempts of the run count.

    `budget_usd` (None: not given) is the user's own word and replaces both. Judged is the high end of the estimate
    plus what the run has spent already.
    """
    soft, hard = (soft_usd, max(soft_usd, hard_usd)) if budget_usd is None else (budget_usd, budget_usd)
    spent = f", with {spent_usd:.2f} USD spent so far" if spent_usd else ""
    if estimate.cost_usd is None:
        over = spent_usd > hard
        text = f"What it will cost isn't known{spent}: set limits.max_run_s or a price to bound it."
        return _verdict(Verdict.OVER_HARD if over else Verdict.OVER_SOFT, soft, hard, spent_usd, text)
    total = spent_usd + estimate.cost_usd.high
    said = f"Up to {estimate.cost_usd.high:.2f} USD{spent}" if total else "It costs nothing"
    if total <= soft:
        return _verdict(Verdict.WITHIN, soft, hard, spent_usd, f"{said}: within {soft:.2f} USD.")
    if total <= hard:
        return _verdict(Verdict.OVER_SOFT, soft, hard, spent_usd, f"{said}: over {soft:.2f} USD, so you are asked.")
    which = "the budget given" if budget_usd is not None else "the hard limit"
    text = f"{said}: over {which} of {hard:.2f} USD; give --budget {total:.2f} or plan smaller."
    return _verdict(Verdict.OVER_HARD, soft, hard, spent_usd, text)


def _verdict(verdict: Verdict, soft: float, hard: float, spent: float, text: str) -> BudgetVerdict:
    return BudgetVerdict(verdict=verdict, soft_usd=soft, hard_usd=hard, spent_usd=spent, text=text)

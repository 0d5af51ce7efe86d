import pytest

from caravan.planning.budget import judge_budget
from caravan.values.estimate import Estimate, Range, Verdict

W, S, H = Verdict.WITHIN, Verdict.OVER_SOFT, Verdict.OVER_HARD


@pytest.mark.parametrize(
    ("cost", "spent", "budget", "verdict"),
    [
        (0.0, 0.0, None, W),
        (25.0, 0.0, None, W),
        (25.01, 0.0, None, S),
        (20.0, 6.0, None, S),
        (250.0, 0.0, None, S),
        (250.01, 0.0, None, H),
        (200.0, 51.0, None, H),
        (400.0, 0.0, 400.0, W),
        (10.01, 0.0, 10.0, H),
        (0.0, 0.0, 0.0, W),
        (None, 0.0, None, S),
        (None, 0.0, 1000.0, S),
        (None, 300.0, None, H),
    ],
)
def test_verdicts(cost: float | None, spent: float, budget: float | None, verdict: Verdict) -> None:
    estimate = Estimate(cost_usd=None if cost is None else Range(low=0, likely=cost, high=cost))
    said = judge_budget(estimate, soft_usd=25, hard_usd=250, spent_usd=spent, budget_usd=budget)
    assert said.verdict is verdict
    assert said.text
    assert "\n" not in said.text
    if cost is None:
        assert "isn't known" in said.text


def test_the_budget_that_is_advised_is_enough() -> None:
    estimate = Estimate(cost_usd=Range(low=0, likely=5, high=10.004))
    advised = judge_budget(estimate, soft_usd=1, hard_usd=5, spent_usd=0, budget_usd=None).text
    amount = float(advised.split("--budget ")[1].split()[0])
    assert judge_budget(estimate, soft_usd=1, hard_usd=5, spent_usd=0, budget_usd=amount).verdict is W


def test_the_limits_in_force_are_told() -> None:
    free = Estimate(cost_usd=Range(low=0, likely=0, high=0))
    said = judge_budget(free, soft_usd=25, hard_usd=250, spent_usd=0, budget_usd=40)
    assert (said.soft_usd, said.hard_usd) == (40, 40)

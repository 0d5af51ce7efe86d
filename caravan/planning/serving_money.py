"""What a served model costs: by the hour, because it runs until it is stopped. Pure."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from caravan.planning.policy import spending_denials
from caravan.values.policy import Denial, Policies, Spending

_DAY_H: Final = 24
MONTH_H: Final = 730
"""Hours of a mean month."""
_MONTHLY: Final = ("money.per_month_usd", "money.per_user_month_usd")


class Price(NamedTuple):
    """US dollars an hour, a day, a mean month; None: nobody says what it costs."""

    hour: float | None

    @property
    def day(self) -> float | None:
        """Of 24 hours."""
        return None if self.hour is None else self.hour * _DAY_H

    @property
    def month(self) -> float | None:
        """Of 730 hours."""
        return None if self.hour is None else self.hour * MONTH_H

    def line(self) -> str:
        """The price for a person."""
        if self.hour is None:
            return "What it costs is not known: no price of these GPUs is."
        if not self.hour:
            return "It costs nothing that is known."
        return (
            f"It costs {self.hour:.2f} USD an hour until it is stopped: {self.day:.2f} a day, {self.month:.2f} a month."
        )


def money_denials(price: Price, spent: Spending, policies: Policies, now: datetime) -> tuple[Denial, ...]:
    """What the policies' money rules deny: a day of it for the rules of a run and a day, the month's rest for a month.

    `spent`: what runs have cost since the day and the month began. What has no known price is over every limit.
    """
    hour = price.hour
    rest = None if hour is None else hour * _left_of_month_h(now)
    day = price.day
    found = {
        "day": spending_denials(spent.model_copy(update={"run_usd": day, "ahead_usd": day}), policies),
        "month": spending_denials(spent.model_copy(update={"run_usd": rest, "ahead_usd": rest}), policies),
    }
    short = tuple(d for d in found["day"] if d.rule not in _MONTHLY)
    return (*short, *(d for d in found["month"] if d.rule in _MONTHLY))


def _left_of_month_h(now: datetime) -> float:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    return (following - now).total_seconds() / 3600


def refused(price: Price, *, soft_usd: float, hard_usd: float, budget_usd: float | None, yes: bool) -> str:
    """Why it is not begun without asking, or not at all; empty where `yes` suffices or a person may be asked.

    A day's cost is held against the limits of a run: that is the time in which somebody looks.
    """
    day, most = price.day, hard_usd if budget_usd is None else budget_usd
    if day is not None and day > most:
        name = "the hard limit" if budget_usd is None else "the budget"
        return f"A day of it costs {day:.2f} USD, and {name} is {most:.2f}"
    if not yes or (day is not None and day <= (soft_usd if budget_usd is None else budget_usd)):
        return ""
    if day is None:
        return "Its price is not known, and --yes allows what is known to be within the limit alone"
    return f"A day of it costs {day:.2f} USD, and --yes allows {soft_usd:.2f}"

"""Money of all runs together: the limits that they share, what is left under one, what a run has reserved.

US dollars, times in UTC. What one run may spend is `caravan.values.estimate`'s.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field

from caravan.values.base import Value


class SharedLimit(Value):
    """A limit as it was said: of all runs together or of each user's, in a calendar day or month (UTC)."""

    usd: float = Field(ge=0, allow_inf_nan=False)
    span: Literal["day", "month"] = "month"
    per_user: bool = False
    name: str = Field(description="where it was said, so that a person finds it")

    def cap(self, user: str, now: datetime) -> "Cap":
        """The limit as it holds now for a run of that user."""
        since = month_of(now) if self.span == "month" else day_of(now)
        return Cap(usd=self.usd, since=since, span=self.span, user=user if self.per_user else None, name=self.name)


class Cap(Value):
    """A limit that runs share: what they may spend from `since` on. `user` None: all runs of the store together.

    `name` is where it was said, so that a person finds it: a setting, a profile's key, a policy's rule and file.
    """

    usd: float = Field(ge=0, allow_inf_nan=False)
    since: datetime
    span: Literal["day", "month"] = "month"
    user: str | None = None
    name: str


class Room(Value):
    """What is left under a cap for one run. `reserved_usd`: what other running runs may still spend of it.

    `holders`: ids of those runs, whoever holds most first.
    """

    cap: Cap
    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    holders: tuple[str, ...] = ()

    @property
    def left_usd(self) -> float:
        """What the run may still spend, never below 0."""
        return max(0.0, self.cap.usd - self.spent_usd - self.reserved_usd)


class Reservation(Value):
    """The answer to a run that asks for money: what the whole run may spend, what it has spent before included.

    `usd` None: nothing was reserved, and `short` is the cap that is too low for it.
    """

    usd: float | None = None
    short: Room | None = None


class SpendingRow(Value):
    """What one user's runs have spent in one month, and what those that run now may still spend (this month alone)."""

    month: str = Field(description="as 2026-11")
    user: str = ""
    runs: int = 0
    spent_usd: float = 0.0
    reserved_usd: float = 0.0


def month_of(at: datetime) -> datetime:
    """The beginning of the calendar month in UTC."""
    return day_of(at).replace(day=1)


def day_of(at: datetime) -> datetime:
    """The beginning of the day in UTC."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def renewed_at(cap: Cap) -> datetime:
    """When the next day or month begins, for which the cap holds anew."""
    return next_month(cap.since) if cap.span == "month" else cap.since + timedelta(days=1)


def next_month(at: datetime) -> datetime:
    """The beginning of the calendar month after, in UTC."""
    first = month_of(at)
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)

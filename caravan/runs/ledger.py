"""Money in the database: what was spent on which day, what running runs have reserved, what is left under a limit.

Each function works in the transaction of its caller, so that looking and reserving are one step. Days and months are
UTC. It must not know what a limit is for, nor open a database.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from caravan.runs.database import insert
from caravan.runs.tables import reservations, runs, spending
from caravan.values.run import RunStatus
from caravan.values.spending import Cap, Reservation, Room, SpendingRow, day_of

_DUST: Final = 1e-6  # US dollars: less than this is rounding

_STILL = sa.case((reservations.c.usd > runs.c.cost_usd, reservations.c.usd - runs.c.cost_usd), else_=0.0)
"""What of a reservation is not spent yet."""
_RUNNING = runs.c.status == RunStatus.RUNNING.value


def charge(connection: sa.Connection, run_id: str, total_usd: float, since: datetime | None, now: datetime) -> None:
    """Bring the ledger to what the run has cost in all; what is new counts for the days from `since` to `now`.

    It never counts time before the last charge again. A total that is lower than before is taken off the newest days.
    """
    rows = connection.execute(sa.select(spending).where(spending.c.run_id == run_id).order_by(spending.c.day)).all()
    more = total_usd - sum(row.usd for row in rows)
    if more < -_DUST:
        _take_off(connection, run_id, [(row.day, row.usd) for row in rows], -more)
    if more <= _DUST:
        return
    user = connection.execute(sa.select(runs.c.user).where(runs.c.id == run_id)).scalar_one()
    begin = min(max([since or now, *(row.until for row in rows)]), now)
    for day, share in shares(begin, now):
        added = insert(connection, spending).values(run_id=run_id, day=day, user=user, usd=more * share, until=now)
        total = {"usd": spending.c.usd + more * share, "until": now}
        connection.execute(added.on_conflict_do_update(index_elements=["run_id", "day"], set_=total))


def shares(begin: datetime, end: datetime) -> Iterator[tuple[str, float]]:
    """The days (as 2026-11-22) from `begin` to `end` with the share of the time that is in each; they add up to 1."""
    whole = (end - begin).total_seconds()
    if whole <= 0:
        yield day_of(end).date().isoformat(), 1.0
        return
    day = day_of(begin)
    while day < end:
        after = day + timedelta(days=1)
        share = (min(after, end) - max(day, begin)).total_seconds() / whole
        if share > 0:
            yield day.date().isoformat(), share
        day = after


def _take_off(connection: sa.Connection, run_id: str, days: Sequence[tuple[str, float]], less: float) -> None:
    for day, usd in reversed(days):
        taken = min(usd, less)
        less -= taken
        row = (spending.c.run_id == run_id) & (spending.c.day == day)
        connection.execute(sa.update(spending).where(row).values(usd=usd - taken))


def rooms(connection: sa.Connection, run_id: str, caps: Sequence[Cap]) -> tuple[Room, ...]:
    """What is left under each cap for the run: less what was spent, and what other running runs may still spend."""
    return tuple(
        Room(
            cap=cap,
            spent_usd=max(0.0, _sum(connection, _spent_since(cap))),
            reserved_usd=max(0.0, _sum(connection, _reserved(cap, run_id))),
            holders=_holders(connection, cap, run_id),
        )
        for cap in caps
    )


def _spent_since(cap: Cap) -> sa.Select[Any]:
    found = sa.select(sa.func.sum(spending.c.usd)).where(spending.c.day >= day_of(cap.since).date().isoformat())
    return found if cap.user is None else found.where(spending.c.user == cap.user)


def _reserved(cap: Cap, run_id: str) -> sa.Select[Any]:
    joined = reservations.join(runs, runs.c.id == reservations.c.run_id)
    found = sa.select(sa.func.sum(_STILL)).select_from(joined).where(_RUNNING, runs.c.id != run_id)
    return found if cap.user is None else found.where(runs.c.user == cap.user)


def _holders(connection: sa.Connection, cap: Cap, run_id: str) -> tuple[str, ...]:
    """The other runs that may still spend some of it, whoever may spend most first."""
    joined = reservations.join(runs, runs.c.id == reservations.c.run_id)
    found = sa.select(runs.c.id).select_from(joined).where(_RUNNING, runs.c.id != run_id, _STILL > _DUST)
    found = found if cap.user is None else found.where(runs.c.user == cap.user)
    return tuple(connection.execute(found.order_by(_STILL.desc(), runs.c.id)).scalars())


def _sum(connection: sa.Connection, query: sa.Select[Any]) -> float:
    return float(connection.execute(query).scalar() or 0.0)


def reserve(
    connection: sa.Connection, run_id: str, *, need_usd: float, want_usd: float, caps: Sequence[Cap], now: datetime
) -> Reservation:
    """Reserve up to `want_usd` for the whole run if at least `need_usd` are left under every cap; else nothing."""
    own = float(connection.execute(sa.select(runs.c.cost_usd).where(runs.c.id == run_id)).scalar_one())
    ahead, wanted = max(0.0, need_usd - own), max(0.0, want_usd - own)
    tightest = min(rooms(connection, run_id, caps), key=lambda room: room.left_usd, default=None)
    left = max(ahead, wanted) if tightest is None else tightest.left_usd
    if ahead > left + _DUST:
        return Reservation(short=tightest)
    usd = own + min(max(ahead, wanted), max(left, ahead))
    row = {"usd": usd, "at": now}
    stored = insert(connection, reservations).values(run_id=run_id, **row)
    connection.execute(stored.on_conflict_do_update(index_elements=["run_id"], set_=row))
    return Reservation(usd=usd)


def reserved(connection: sa.Connection, run_id: str) -> float | None:
    """What the run may spend in all, where something was reserved for it."""
    found = connection.execute(sa.select(reservations.c.usd).where(reservations.c.run_id == run_id)).scalar()
    return None if found is None else float(found)


def spending_rows(connection: sa.Connection, now: datetime) -> tuple[SpendingRow, ...]:
    """What each user's runs have spent in each month, the newest month first; reservations count for this month."""
    # Numbers as they stand: with parameters PostgreSQL would not know that both places say the same.
    month = sa.func.substr(spending.c.day, sa.literal_column("1"), sa.literal_column("7"), type_=sa.Text)
    columns = (month.label("month"), spending.c.user, sa.func.count(spending.c.run_id.distinct()).label("runs"))
    query = sa.select(*columns, sa.func.sum(spending.c.usd).label("usd")).group_by(month, spending.c.user)
    found = {
        (row.month, row.user): SpendingRow(month=row.month, user=row.user, runs=row.runs, spent_usd=max(0.0, row.usd))
        for row in connection.execute(query)
    }
    joined = reservations.join(runs, runs.c.id == reservations.c.run_id)
    still = sa.select(runs.c.user, sa.func.sum(_STILL).label("usd")).select_from(joined).where(_RUNNING)
    for row in connection.execute(still.group_by(runs.c.user)):
        key = (day_of(now).date().isoformat()[:7], row.user)
        before = found.get(key, SpendingRow(month=key[0], user=row.user))
        found[key] = before.model_copy(update={"reserved_usd": float(row.usd)})
    return tuple(sorted(found.values(), key=lambda row: (row.month, row.user), reverse=True))

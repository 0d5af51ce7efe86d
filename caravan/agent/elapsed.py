"""How much time has passed for a deployment, by the clock that never jumps: since it was looked at last, and in all.

A wall clock may be set by an hour or a day while a job runs, and the cluster's may be another one. So the age of a job
is added up from monotonic time, and stored with what its deadlines have used up. Must not know what time costs.
"""

from datetime import datetime, timedelta

from caravan.ports import Clock
from caravan.values.run import Deployment, Watched


def begun(clock: Clock) -> Watched:
    """What is stored of a job that is registered now."""
    now = clock.now()
    return Watched(at=now, monotonic=clock.monotonic(), since=now)


def away_s(stored: Watched | None, clock: Clock) -> float:
    """Seconds since it was stored last. Of the two clocks the one by which less has passed is believed.

    The wall clock may have been set; the other one begins anew with the machine, then it shows less than before.
    """
    if stored is None:
        return 0.0
    by_wall = (clock.now() - stored.at).total_seconds()
    by_machine = clock.monotonic() - stored.monotonic
    if by_machine < 0:
        return max(0.0, by_wall)
    return by_machine if by_wall < 0 else min(by_wall, by_machine)


class Age:
    """How old a job is; `stored` as an agent left it, from which this one goes on."""

    def __init__(self, stored: Watched, clock: Clock) -> None:
        self._clock = clock
        self._born = clock.monotonic() - stored.age_s - away_s(stored, clock)
        self.since = stored.since or stored.at
        """When the job can have been placed at the earliest, by the agent's wall clock of then."""

    @property
    def seconds(self) -> float:
        """Seconds since then."""
        return self._clock.monotonic() - self._born

    @property
    def now(self) -> datetime:
        """The time that a wall clock would tell that nobody has set since then."""
        return self.since + timedelta(seconds=self.seconds)


def watched_so_far(deployment: Deployment) -> Watched | None:
    """What is stored of a deployment; one that has no age yet has it since its registration."""
    stored, begin = deployment.watched, deployment.registered_at
    if stored is None or stored.since is not None or begin is None:
        return stored
    return stored.model_copy(update={"since": begin, "age_s": max(0.0, (stored.at - begin).total_seconds())})

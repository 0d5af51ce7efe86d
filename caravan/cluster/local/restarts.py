"""Whether a task is started again after its end: Nomad's restart policy. Pure."""

import random
from dataclasses import dataclass

from caravan.cluster.local.words import JsonDict, go_duration


@dataclass
class Verdict:
    """What follows the end of a run: another one after `delay` nanoseconds, or the task's end, failed or not."""

    again: bool
    failed: bool
    delay: int = 0
    reason: str = ""


def again_after_success(job: JsonDict, task: JsonDict) -> bool:
    """Whether a task is started again also when it has ended well: services and sidecars."""
    lifecycle = task["Lifecycle"] or {}
    if not lifecycle.get("Hook"):
        return bool(job["Type"] in ("service", "system"))
    return bool(lifecycle.get("Sidecar")) and lifecycle["Hook"] != "poststop"


class Tracker:
    """Counts a task's restarts within the policy's interval. `restarts` is what a former process has counted."""

    def __init__(self, policy: JsonDict, *, on_success: bool, now: int, restarts: int = 0) -> None:
        self._policy = policy
        self._on_success = on_success
        self._since = now
        self._count = restarts

    def next_run(self, now: int, *, failed: bool, hopeless: bool) -> Verdict:
        """The verdict at `now` (ns). `hopeless`: the task could not be started and starting anew can't help."""
        attempts, interval = int(self._policy["Attempts"]), int(self._policy["Interval"])
        if attempts == 0:
            if not failed and not self._on_success:
                return Verdict(again=False, failed=False)
            return Verdict(again=False, failed=True, reason="Policy allows no restarts")
        if now > self._since + interval:
            self._count, self._since = 0, now
        self._count += 1
        if hopeless:
            return Verdict(again=False, failed=True, reason="Error was unrecoverable")
        if not failed and not self._on_success:
            return Verdict(again=False, failed=False)
        if self._count <= attempts:
            return Verdict(True, False, _jittered(int(self._policy["Delay"])), "Restart within policy")
        if self._policy["Mode"] == "delay":
            rest = max(0, self._since + interval - now)
            return Verdict(True, False, rest, "Exceeded allowed attempts, applying a delay")
        reason = f'Exceeded allowed attempts {attempts} in interval {go_duration(interval)} and mode is "fail"'
        return Verdict(again=False, failed=True, reason=reason)


def _jittered(delay: int) -> int:
    """Up to a quarter more, as Nomad, so that tasks that failed together don't come back together."""
    return delay + int(delay * 0.25 * random.random())  # noqa: S311 - no secret

"""Following the sampler of a job: its lines copied into the run's folder, folded, shown; what they say of a failure.

It reads what the job left, which is the job's word and checked. It stops nothing and names no cause.
"""

from typing import Final

from caravan.agent.context import Context
from caravan.agent.logs import TERMINAL
from caravan.values.amounts import duration
from caravan.values.errors import ClusterDenied, ClusterError
from caravan.values.plan import TrainingPlan
from caravan.values.run import Allocation, Outcome, Phase, Snapshot
from caravan.values.samples import GIB_MB, SAMPLES_PATH, DeviceUse, ResourceUse, parse_sample, with_sample

_EVERY_S: Final = (2.0, 30.0)
"""Seconds between two looks at a file: the first time and at most; each time longer, as the sampler writes less."""
_PIECE: Final = 1 << 18  # bytes read at once
_MOST: Final = 16 << 20  # bytes of one file that are read at all
_MEMBERS: Final = 64  # allocations that are followed
NEAR: Final = 0.9
"""Share of its memory from which on a task may well have run out of it between two looks."""
_LOW_MB: Final = 512.0  # free disk
_IDLE_S: Final = 600.0  # a GPU without work: an evaluation on the CPU or a slow save lasts minutes
_SILENT_S: Final = 180.0  # three times the longest pause of the sampler
_FULL: Final = 0.97  # share of a GPU's memory


class SampleFollower:
    """Follows the samples of one job's allocations. `uses` is what they come to, in the order of the members."""

    def __init__(self, context: Context, plan: TrainingPlan) -> None:
        self._context, self._plan = context, plan
        self._known: dict[str, ResourceUse] = {}
        self._rests: dict[str, bytes] = {}
        self._due: dict[str, float] = {}
        self._every: dict[str, float] = {}
        self._told: set[str] = set()
        self._wanted = True

    @property
    def uses(self) -> tuple[ResourceUse, ...]:
        """What the looks so far come to, for each member that has a sampler."""
        seen = (use for use in self._known.values() if use.samples or use.failed is not None)
        return tuple(sorted(seen, key=lambda use: use.member))

    def look(self, snapshot: Snapshot) -> None:
        """Copy and fold what is new, show the newest. A file that can't be had now is had later, or never."""
        over = snapshot.phase in (Phase.ENDED, Phase.GONE)
        if not self._wanted or snapshot.phase is Phase.QUEUED:
            return
        for allocation in snapshot.allocations[-_MEMBERS:]:
            ended = over or allocation.client_status in TERMINAL
            if any(task.started_at for task in allocation.tasks) and self._is_due(allocation.id, ended=ended):
                self._follow(allocation, to_the_end=ended)

    def _is_due(self, alloc_id: str, *, ended: bool) -> bool:
        now = self._context.clock.monotonic()
        if ended:
            return not self._known.get(alloc_id, ResourceUse()).ended
        if now < self._due.get(alloc_id, now):
            return False
        first, most = _EVERY_S
        every = self._every[alloc_id] = min(1.3 * self._every.get(alloc_id, first), most)
        self._due[alloc_id] = now + every
        return True

    def _follow(self, allocation: Allocation, *, to_the_end: bool) -> None:
        context, alloc_id = self._context, allocation.id
        if alloc_id not in self._known:
            self._begin(allocation)
        before = self._known[alloc_id].samples
        while (size := context.folder.samples_size(alloc_id)) < _MOST:
            try:
                data = context.cluster.read_part(alloc_id, SAMPLES_PATH, offset=size, limit=_PIECE)
            except ClusterDenied:
                self._wanted = False  # the log says the same
                return
            except ClusterError:  # no sampler, not begun, collected, not reached: nothing hangs on it
                return
            if not data:
                break
            context.folder.append_samples(alloc_id, data)
            self._take(alloc_id, data)
            if not to_the_end:
                break
        use = self._known[alloc_id]
        if use.samples != before:
            members = self._plan.launch.nodes > 1
            context.progress.used(f"[{use.member}] {in_words(use)}" if members else in_words(use))
            self._warn(use)
        if use.failed is not None:
            self._say(f"What the task uses is not seen: its sampler ended with exit code {use.failed}.")

    def _begin(self, allocation: Allocation) -> None:
        """Where an earlier agent has copied already, that is folded first."""
        digits = allocation.name.rpartition("[")[2].rstrip("]")
        member = int(digits) if digits.isascii() and digits.isdigit() else 0
        self._known[allocation.id] = ResourceUse(alloc_id=allocation.id, member=member)
        self._take(allocation.id, self._context.folder.samples(allocation.id))

    def _take(self, alloc_id: str, data: bytes) -> None:
        *lines, rest = (self._rests.get(alloc_id, b"") + data).split(b"\n")
        self._rests[alloc_id] = rest[:_PIECE]
        for line in lines:
            if (sample := parse_sample(line)) is not None:
                self._known[alloc_id] = with_sample(self._known[alloc_id], sample)

    def _warn(self, use: ResourceUse) -> None:
        """What a person should hear while there is time."""
        for device in use.gpus:
            if device.idle_s >= _IDLE_S:
                self._say(f"GPU {device.n} has had nothing to do for {duration(device.idle_s)}.", f"idle {device.n}")
        if use.disk_free_mb is not None and use.disk_free_mb < _LOW_MB:
            self._say(f"Only {use.disk_free_mb:.0f} MB of disk are free where the task writes.", "disk")
        if _near(use, self._plan):
            self._say(f"The task uses {_host(use, self._plan)} of host memory.", "host")

    def _say(self, text: str, key: str = "") -> None:
        if (key or text) not in self._told:
            self._told.add(key or text)
            self._context.progress.note(text)


def in_words(use: ResourceUse) -> str:
    """What a task uses at the last look, as a line for a person."""
    words = [_gpu_words(device) for device in use.gpus[:8]]
    words += [f"host {use.host_mb / GIB_MB:.1f} GiB"] if use.host_mb is not None else []
    words += [f"{use.cores:.1f} cores"] if use.cores is not None else []
    words += [f"disk {use.disk_free_mb / GIB_MB:.0f} GiB free"] if use.disk_free_mb is not None else []
    return ", ".join(words)


def _gpu_words(device: DeviceUse) -> str:
    held = f" {device.used_mb / GIB_MB:.1f}" if device.used_mb is not None else ""
    whole = f" of {device.total_mb / GIB_MB:.0f} GiB" if held and device.total_mb else ""
    busy = f" {device.busy:.0f} %" if device.busy is not None else ""
    return f"GPU {str(device.n)[:12]}{held}{whole}{busy}"


def near_its_memory(uses: tuple[ResourceUse, ...], plan: TrainingPlan, outcome: Outcome | None = None) -> bool:
    """Whether a task, the one that ended where that is known, came near its host memory."""
    own = [use for use in uses if outcome is None or outcome.alloc_id in (None, use.alloc_id)]
    return any(_near(use, plan) for use in own or uses)


def observations(uses: tuple[ResourceUse, ...], plan: TrainingPlan, outcome: Outcome) -> tuple[str, ...]:
    """What the samples say of a failure, a line each: facts beside the cause, which they don't decide."""
    found: list[str] = []
    for use in uses:
        who = f"node {use.member}: " if plan.launch.nodes > 1 else ""
        found += [f"{who}{text}" for text in _observed(use, plan, outcome)]
    return tuple(found[:20])


def _observed(use: ResourceUse, plan: TrainingPlan, outcome: Outcome) -> list[str]:
    found = []
    if _near(use, plan):
        found.append(f"the task's host memory rose to {_host(use, plan)}")
    if use.disk_free_mb is not None and use.disk_free_mb < _LOW_MB:
        found.append(f"the disk where the task writes had {use.disk_free_mb:.0f} MB left")
    for device in use.gpus:
        if device.idle_s >= _IDLE_S:
            found.append(f"GPU {device.n} had nothing to do for the last {duration(device.idle_s)}")
        if device.peak_mb and device.total_mb and device.peak_mb >= _FULL * device.total_mb:
            held, whole = device.peak_mb / GIB_MB, device.total_mb / GIB_MB
            found.append(f"GPU {device.n} was full: {held:.1f} of {whole:.1f} GiB were in use")
    if not use.ended and use.failed is None and use.last_at is not None and outcome.finished_at is not None:
        silent = outcome.finished_at.timestamp() - use.last_at
        if silent > _SILENT_S:
            found.append(f"nothing was heard of the task for the last {duration(silent)}: its node may have been away")
    return found


def _allowed_mb(use: ResourceUse, plan: TrainingPlan) -> float:
    """The least of what bounds the task's memory, in MB as the figures have it (the cluster's MB are 2²⁰ bytes)."""
    planned = max(plan.resources.memory_mb, plan.resources.memory_max_mb or 0) * (1 << 20) / 1e6
    return min(planned, use.host_limit_mb or planned)


def _near(use: ResourceUse, plan: TrainingPlan) -> bool:
    return (use.host_peak_mb or 0.0) >= NEAR * _allowed_mb(use, plan)


def _host(use: ResourceUse, plan: TrainingPlan) -> str:
    peak = use.host_peak_mb or 0.0
    return f"{peak / GIB_MB:.2f} of {_allowed_mb(use, plan) / GIB_MB:.2f} GiB"

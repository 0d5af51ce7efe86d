"""What a task used while it ran, as the sampler beside it saw it: one look, and what all looks of a task come to.

The lines are written inside the job (`templates/sampler.py`), so what they say is data to be checked. Nothing here
reads a file or judges a training.
"""

import json
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from caravan.values.base import Value

SAMPLES_PATH: Final = "alloc/data/caravan-samples.jsonl"
"""Where the sampler writes, in the allocation."""

GIB_MB: Final = (1 << 30) / 1e6
"""Megabytes of a GiB."""

_DEVICES: Final = 64
_IDLE: Final = 1.0  # percent: a GPU that only holds memory shows 0, now and then 1
_LONGEST: Final = 16384  # characters of a line

Amount = Annotated[float, Field(ge=0, le=1e12)]


class _Said(Value):
    """A value out of a job's own file: what it says beyond our fields is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Device(_Said):
    """A GPU at one moment. `own_mb`: what the task's processes hold, where the driver tells; `busy` in percent."""

    n: int | Annotated[str, Field(max_length=80)] = 0
    used_mb: Amount | None = None
    total_mb: Amount | None = None
    own_mb: Amount | None = None
    busy: Annotated[float, Field(ge=0, le=100)] | None = None


class Sample(_Said):
    """One line of the sampler. Memory and disk in MB (10⁶ bytes), `at` in seconds since 1970, `up` since its start."""

    kind: Literal["begin", "", "end", "none"] = ""
    at: Amount = 0.0
    up: Amount = 0.0
    phase: Literal["setup", "training"] = "setup"
    gpus_from: str = Field(default="", max_length=40)
    host_from: str = Field(default="", max_length=40)
    host_limit_mb: Amount | None = None
    exit_code: int | None = None
    host_mb: Amount | None = None
    largest_mb: Amount | None = None
    cores: Amount | None = None
    alloc_free_mb: Amount | None = None
    outputs_free_mb: Amount | None = None
    outputs_mb: Amount | None = None
    read_mb_s: Amount | None = None
    write_mb_s: Amount | None = None
    gpus: Annotated[tuple[Device, ...], Field(max_length=_DEVICES)] = ()


class DeviceUse(Value):
    """A GPU over all looks. `before_mb`: what was held before the training began, by whomever."""

    n: int | str
    total_mb: float | None = None
    before_mb: float | None = None
    used_mb: float | None = Field(default=None, description="at the last look")
    peak_mb: float | None = None
    own_peak_mb: float | None = None
    busy: float | None = Field(default=None, description="at the last look, in percent")
    busy_sum: float = 0.0
    looks: int = 0
    idle_s: float = Field(default=0.0, description="for how long it has done nothing, up to the last look")

    @property
    def busy_mean(self) -> float | None:
        """Percent of the time in which it worked; None: not told."""
        return self.busy_sum / self.looks if self.looks else None

    @property
    def peak_gib(self) -> float | None:
        """The most that this task held of it: by its processes, else by the device less what was there before."""
        if self.own_peak_mb:
            return self.own_peak_mb / GIB_MB
        if self.peak_mb is None or (self.before_mb or 0.0) > GIB_MB:
            return None  # somebody else's memory is in that figure
        return self.peak_mb / GIB_MB


class ResourceUse(Value):
    """What one task used, over all looks of its sampler. None: not told, or not seen."""

    alloc_id: str = ""
    member: int = 0
    gpus_from: str = ""
    host_from: str = ""
    host_limit_mb: float | None = None
    samples: int = 0
    began_at: float | None = Field(default=None, description="first look, seconds since 1970")
    last_at: float | None = None
    up_s: float = 0.0
    training_s: float = Field(default=0.0, description="from the first look at the training itself to the last")
    training_since: float | None = None
    ended: bool = Field(default=False, description="the sampler was told to end, and did")
    failed: int | None = Field(default=None, description="exit code of a sampler that ended by itself")
    host_mb: float | None = None
    host_peak_mb: float | None = None
    largest_mb: float | None = None
    cores: float | None = None
    cores_peak: float | None = None
    disk_free_mb: float | None = Field(default=None, description="the least that was free where the task writes")
    outputs_mb: float | None = None
    written_mb: float = 0.0
    gpus: tuple[DeviceUse, ...] = ()

    @property
    def gpu_peak_gib(self) -> float | None:
        """The most that the task held of any of its GPUs, in GiB."""
        return max((peak for device in self.gpus if (peak := device.peak_gib) is not None), default=None)


def parse_sample(line: bytes | str) -> Sample | None:
    """A line of the sampler, or None for what is none."""
    if len(line) > _LONGEST:
        return None
    try:
        return Sample.model_validate(json.loads(line))
    except (ValueError, RecursionError, ValidationError):
        return None


def with_sample(use: ResourceUse, sample: Sample) -> ResourceUse:
    """What all looks come to, one more among them."""
    if sample.kind == "none":
        return use.model_copy(update={"failed": sample.exit_code if sample.exit_code is not None else 1})
    if sample.kind == "begin":
        told = {"gpus_from": sample.gpus_from, "host_from": sample.host_from, "host_limit_mb": sample.host_limit_mb}
        return use.model_copy(update={**told, "ended": False, "up_s": 0.0, "training_since": None})
    if sample.kind == "end":
        return use.model_copy(update={"ended": True, "last_at": sample.at})
    training = sample.phase == "training"
    since = use.training_since if use.training_since is not None or not training else sample.up
    passed = max(0.0, sample.up - use.up_s)
    free = [mb for mb in (sample.alloc_free_mb, sample.outputs_free_mb, use.disk_free_mb) if mb is not None]
    return use.model_copy(
        update={
            "samples": use.samples + 1,
            "began_at": use.began_at if use.began_at is not None else sample.at,
            "last_at": sample.at,
            "up_s": sample.up,
            "training_since": since,
            "training_s": sample.up - since if since is not None else use.training_s,
            "host_mb": sample.host_mb if sample.host_mb is not None else use.host_mb,
            "host_peak_mb": _most(use.host_peak_mb, sample.host_mb),
            "largest_mb": _most(use.largest_mb, sample.largest_mb),
            "cores": sample.cores if sample.cores is not None else use.cores,
            "cores_peak": _most(use.cores_peak, sample.cores),
            "disk_free_mb": min(free, default=None),
            "outputs_mb": sample.outputs_mb if sample.outputs_mb is not None else use.outputs_mb,
            "written_mb": use.written_mb + (sample.write_mb_s or 0.0) * passed,
            "gpus": _devices(use.gpus, sample.gpus, passed, training=training),
        }
    )


def peaks_in_words(use: ResourceUse, expected_gib: float | None = None) -> str:
    """The most that a task used, for a person; `expected_gib`: GPU memory as it was estimated. Empty: nothing seen."""
    words = []
    for device in use.gpus[:16]:
        held = device.peak_gib if device.peak_gib is not None else (device.peak_mb or 0.0) / GIB_MB
        whole = f" of {device.total_mb / GIB_MB:.0f}" if device.total_mb else ""
        off = f" ({estimate_error(held, expected_gib)})" if expected_gib and device.peak_gib else ""
        busy = f", busy {device.busy_mean:.0f} % of the time" if device.busy_mean is not None else ""
        words.append(f"GPU {str(device.n)[:12]} up to {held:.1f}{whole} GiB{off}{busy}")
    words += [f"host memory up to {use.host_peak_mb / GIB_MB:.2f} GiB"] if use.host_peak_mb is not None else []
    words += [f"up to {use.cores_peak:.1f} cores"] if use.cores_peak is not None else []
    words += [f"{use.disk_free_mb / GIB_MB:.1f} GiB of disk left"] if use.disk_free_mb is not None else []
    return "; ".join(words)


def estimate_error(seen_gib: float, expected_gib: float) -> str:
    """By how much an estimate was off, in percent of what was seen."""
    share = (expected_gib - seen_gib) / seen_gib if seen_gib else 0.0
    return f"estimated {expected_gib:.1f} GiB, {abs(share) * 100:.0f} % too {'much' if share >= 0 else 'little'}"


def _devices(
    known: tuple[DeviceUse, ...], seen: tuple[Device, ...], passed: float, *, training: bool
) -> tuple[DeviceUse, ...]:
    by_name = {device.n: device for device in known}
    for device in seen:
        if device.n in by_name or len(by_name) < _DEVICES:
            by_name[device.n] = _device(by_name.get(device.n, DeviceUse(n=device.n)), device, passed, training=training)
    return tuple(by_name.values())


def _device(use: DeviceUse, seen: Device, passed: float, *, training: bool) -> DeviceUse:
    idle = training and seen.busy is not None and seen.busy <= _IDLE
    update: dict[str, object] = {
        "total_mb": seen.total_mb if seen.total_mb is not None else use.total_mb,
        "used_mb": seen.used_mb,
        "busy": seen.busy,
        "before_mb": use.before_mb if use.before_mb is not None else seen.used_mb,
        "idle_s": use.idle_s + passed if idle else 0.0,
    }
    if training:
        update |= {
            "peak_mb": _most(use.peak_mb, seen.used_mb),
            "own_peak_mb": _most(use.own_peak_mb, seen.own_mb),
            "busy_sum": use.busy_sum + (seen.busy or 0.0),
            "looks": use.looks + (seen.busy is not None),
        }
    return use.model_copy(update=update)


def _most(a: float | None, b: float | None) -> float | None:
    return max((n for n in (a, b) if n is not None), default=None)

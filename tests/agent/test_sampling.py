"""What the agent makes of a sampler's lines: copied once, folded, shown; what they say of a failure, and what not."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.context import Context
from caravan.agent.sampling import SampleFollower, in_words, near_its_memory, observations
from caravan.diagnosis.rules import diagnose
from caravan.values.errors import ClusterDenied, ClusterUnreachable, JobNotFound
from caravan.values.failure import Evidence, Stage
from caravan.values.plan import CodeSource, OutputSink, Resources, TrainingPlan
from caravan.values.run import Allocation, Outcome, OutcomeKind, Phase, Snapshot, TaskState
from caravan.values.samples import DeviceUse, ResourceUse, Sample, parse_sample, peaks_in_words, with_sample
from tests.fakes.clock import FakeClock
from tests.fakes.folder import PlainFolder

ALLOC = "0a1b2c3d-0000"
GIB = (1 << 30) / 1e6
BEGIN = {"kind": "begin", "gpus_from": "nvml", "host_from": "cgroup2", "host_limit_mb": 4294.967296}


def line(up: float, **more: Any) -> dict[str, Any]:
    return {"at": 1000.0 + up, "up": up, "phase": "training", **more}


def gpu(used_gib: float = 10, busy: float = 50, **more: Any) -> list[dict[str, Any]]:
    return [{"n": 0, "used_mb": used_gib * GIB, "total_mb": 80 * GIB, "busy": busy, **more}]


def text(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def folded(*lines: dict[str, Any]) -> ResourceUse:
    use = ResourceUse(alloc_id=ALLOC)
    for one in lines:
        sample = parse_sample(json.dumps(one))
        assert sample is not None, one
        use = with_sample(use, sample)
    return use


def plan(memory_mb: int) -> TrainingPlan:
    code, outputs = CodeSource(kind="mount", location="/c"), OutputSink(kind="allocation")
    need = Resources(memory_mb=memory_mb)
    return TrainingPlan(goal="g", command=("train.py",), code=code, outputs=outputs, resources=need)


class Files:
    """A cluster that has one file."""

    def __init__(self) -> None:
        self.data = b""
        self.error: Exception | None = JobNotFound("not there")
        self.asked: list[int] = []

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        assert (alloc_id, path) == (ALLOC, "alloc/data/caravan-samples.jsonl")
        self.asked.append(offset)
        if self.error is not None:
            raise self.error
        return self.data[offset : offset + limit]


class Told:
    def __init__(self) -> None:
        self.used_: list[str] = []
        self.notes: list[str] = []

    def used(self, words: str) -> None:
        self.used_.append(words)

    def note(self, words: str) -> None:
        self.notes.append(words)


class World:
    def __init__(self, root: Path, memory_mb: int = 4096) -> None:
        self.files, self.told, self.clock = Files(), Told(), FakeClock()
        self.folder = PlainFolder(root, "r1")
        self.plan = plan(memory_mb)

    def follower(self) -> SampleFollower:
        parts = {"cluster": self.files, "folder": self.folder, "progress": self.told, "clock": self.clock}
        return SampleFollower(cast("Context", SimpleNamespace(**parts)), self.plan)

    def write(self, *lines: dict[str, Any]) -> None:
        self.files.error = None
        self.files.data += text(*lines)


def snapshot(phase: Phase = Phase.RUNNING) -> Snapshot:
    now = FakeClock().now()
    task = TaskState(name="train", state="running", started_at=now)
    status = "complete" if phase is Phase.ENDED else "running"
    alloc = Allocation(id=ALLOC, name="a.train[0]", group="g", client_status=status, tasks=(task,))
    return Snapshot(job_id="a01", at=now, phase=phase, allocations=(alloc,))


def test_lines_are_copied_once_and_shown(tmp_path: Path) -> None:
    world = World(tmp_path)
    follower = world.follower()
    follower.look(snapshot())  # not there yet
    assert follower.uses == ()
    world.write(BEGIN, line(0, gpus=gpu(1), host_mb=GIB, cores=1.5, alloc_free_mb=20 * GIB))
    world.clock.sleep(60)
    follower.look(snapshot())
    assert world.told.used_ == ["GPU 0 1.0 of 80 GiB 50 %, host 1.0 GiB, 1.5 cores, disk 20 GiB free"]
    follower.look(snapshot())  # not due
    world.write(line(2, gpus=gpu(60, busy=90), host_mb=2 * GIB), {"kind": "end", "at": 1002.0})
    follower.look(snapshot(Phase.ENDED))
    (use,) = follower.uses
    assert (use.samples, use.ended) == (2, True)
    assert use.gpu_peak_gib == pytest.approx(60)
    assert world.folder.samples(ALLOC) == world.files.data
    count = len(world.files.asked)
    follower.look(snapshot(Phase.ENDED))  # all is known
    assert len(world.files.asked) == count


def test_another_agent_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    world = World(tmp_path)
    whole = text(BEGIN, line(0, host_mb=100), line(2, host_mb=500))
    world.files.error, world.files.data = None, whole[:-7]  # in the middle of a line
    world.follower().look(snapshot())
    second = world.follower()
    world.files.data = whole + text(line(4, host_mb=50), {"kind": "end", "at": 1.0})
    second.look(snapshot(Phase.ENDED))
    (use,) = second.uses
    assert (use.samples, use.host_peak_mb, use.host_mb, use.host_from) == (3, 500, 50, "cgroup2")
    assert world.folder.samples(ALLOC) == world.files.data


@pytest.mark.parametrize("error", [JobNotFound("x"), ClusterUnreachable("x"), ClusterDenied("x")])
def test_what_can_not_be_read_holds_nothing_up(tmp_path: Path, error: Exception) -> None:
    world = World(tmp_path)
    world.files.error = error
    follower = world.follower()
    for phase in (Phase.RUNNING, Phase.RUNNING, Phase.ENDED):
        world.clock.sleep(100)
        follower.look(snapshot(phase))
    assert follower.uses == ()
    assert len(world.files.asked) == (1 if isinstance(error, ClusterDenied) else 3)


def test_a_sampler_that_ended_by_itself_is_told_of_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    follower = world.follower()
    world.write({"kind": "none", "exit_code": 126})
    for _ in range(3):
        world.clock.sleep(100)
        follower.look(snapshot())
    assert world.told.notes == ["What the task uses is not seen: its sampler ended with exit code 126."]


def test_a_person_hears_of_an_idle_gpu_and_a_full_disk_while_there_is_time(tmp_path: Path) -> None:
    world = World(tmp_path)
    follower = world.follower()
    world.write(BEGIN, *(line(60.0 * n, gpus=gpu(busy=0), alloc_free_mb=100) for n in range(12)))
    follower.look(snapshot())
    world.write(line(800, gpus=gpu(busy=0), alloc_free_mb=90))
    world.clock.sleep(100)
    follower.look(snapshot())
    assert world.told.notes == [
        "GPU 0 has had nothing to do for 11 min.",
        "Only 100 MB of disk are free where the task writes.",
    ]


def failed(**more: Any) -> Outcome:
    return Outcome(kind=OutcomeKind.FAILED, exit_code=137, alloc_id=ALLOC, **more)


PLAN = plan(4096)


def test_what_is_observed_of_a_failure() -> None:
    idle = [line(60.0 * n, gpus=gpu(79.5, busy=0), host_mb=3.9 * GIB, outputs_free_mb=9) for n in range(12)]
    use = folded(BEGIN, *idle)
    ended = datetime.fromtimestamp(1000 + 660 + 600, UTC)
    assert observations((use,), PLAN, failed(finished_at=ended)) == (
        "the task's host memory rose to 3.90 of 4.00 GiB",
        "the disk where the task writes had 9 MB left",
        "GPU 0 had nothing to do for the last 11 min",
        "GPU 0 was full: 79.5 of 80.0 GiB were in use",
        "nothing was heard of the task for the last 10 min: its node may have been away",
    )
    assert near_its_memory((use,), PLAN, failed())
    well = folded(BEGIN, line(0, gpus=gpu(), host_mb=GIB, alloc_free_mb=10**5), {"kind": "end", "at": 1001.0})
    assert observations((well,), PLAN, failed(finished_at=ended)) == ()
    assert not near_its_memory((well,), PLAN, failed())
    other = well.model_copy(update={"alloc_id": "another"})
    assert not near_its_memory((well, use.model_copy(update={"alloc_id": "another"})), PLAN, failed())
    assert not near_its_memory((other,), PLAN, failed())


@pytest.mark.parametrize(
    "lines",
    [
        ("ModuleNotFoundError: No module named 'peft'",),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",),
        ("ValueError: something of the user's own",),
    ],
)
def test_observations_decide_no_class(lines: tuple[str, ...]) -> None:
    said = Evidence(stage=Stage.VERIFY, exit_code=1, log_lines=lines)
    seen = said.model_copy(update={"observed": ("the disk where the task writes had 9 MB left", "GPU 0 was full")})
    assert diagnose(seen, PLAN, ()) == diagnose(said, PLAN, ())


def test_what_was_there_before_is_not_the_trainings() -> None:
    setup = {**line(0, gpus=gpu(30)), "phase": "setup"}
    shared = folded(BEGIN, setup, line(2, gpus=gpu(50)))
    assert shared.gpu_peak_gib is None  # whose memory that is can't be told
    own = folded(BEGIN, setup, line(2, gpus=gpu(50, own_mb=20 * GIB)))
    assert own.gpu_peak_gib == pytest.approx(20)


def test_peaks_are_held_against_the_estimate() -> None:
    use = folded(BEGIN, line(0, gpus=gpu(1)), line(2, gpus=gpu(50, busy=90), host_mb=GIB, cores=2, alloc_free_mb=GIB))
    said = peaks_in_words(use, 55.0)
    assert said == (
        "GPU 0 up to 50.0 of 80 GiB (estimated 55.0 GiB, 10 % too much), busy 70 % of the time; "
        "host memory up to 1.00 GiB; up to 2.0 cores; 1.0 GiB of disk left"
    )
    assert peaks_in_words(ResourceUse()) == ""
    assert in_words(ResourceUse()) == ""


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_any_line_is_read_or_passed_over(data: bytes | str) -> None:
    sample = parse_sample(data)
    assert sample is None or isinstance(with_sample(ResourceUse(), sample), ResourceUse)


_NUMBERS = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=5))


@given(
    st.dictionaries(st.sampled_from([*Sample.model_fields, "x"]), _NUMBERS),
    st.lists(st.dictionaries(st.sampled_from(["n", "used_mb", "total_mb", "own_mb", "busy"]), _NUMBERS), max_size=3),
)
def test_made_up_figures_never_break_the_fold(fields: dict[str, Any], devices: list[dict[str, Any]]) -> None:
    sample = parse_sample(json.dumps({**fields, "gpus": devices}))
    if sample is not None:
        use = with_sample(folded(BEGIN, line(0, gpus=gpu())), sample)
        in_words(use)
        peaks_in_words(use, 5.0)
        observations((use,), PLAN, failed())
        assert all(isinstance(device, DeviceUse) for device in use.gpus)

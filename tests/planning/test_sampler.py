"""The sampler beside a training: what it reads, how much it writes, when it ends; and that it disturbs nothing."""

import ctypes
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from caravan.planning.script import sampler_helpers
from tests.planning.scenes import TEMPLATES
from tests.planning.test_launch_script import Place

MB = 1e6


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    sys.path.insert(0, str(TEMPLATES))
    try:
        yield importlib.import_module("sampler"), importlib.import_module("sampler_gpus")
    finally:
        sys.path.remove(str(TEMPLATES))


@pytest.fixture
def sampler(modules: tuple[ModuleType, ModuleType]) -> ModuleType:
    return modules[0]


@pytest.fixture
def devices(modules: tuple[ModuleType, ModuleType]) -> ModuleType:
    return modules[1]


class Proc:
    """A /proc and control groups of our own making."""

    def __init__(self, root: Path) -> None:
        self.proc, self.groups = root / "proc", root / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "stat").touch()
        self.groups.mkdir()

    def process(
        self, pid: int, parent: int, *, ticks: int = 0, own_kb: int = 0, shared_kb: int = 0, hwm_kb: int = 0
    ) -> None:
        place = self.proc / str(pid)
        place.mkdir(exist_ok=True)
        fields = ["S", parent, 1, 1, 0, -1, 0, 0, 0, 0, 0, ticks, 0, 0, 0, 20, 0, 1, 0, 700 + pid, 0]
        (place / "stat").write_text(f"{pid} (a) odd) name) {' '.join(map(str, fields))}")
        (place / "status").write_text(
            f"Name:\tx\nVmHWM:\t{hwm_kb} kB\nRssAnon:\t{own_kb} kB\nRssShmem:\t{shared_kb} kB\n"
        )
        (place / "io").write_text(f"rchar: 9\nread_bytes: {pid * 1000}\nwrite_bytes: 0\n")

    def group(self, pids: list[int], limit: str) -> Path:
        (self.proc / "self" / "cgroup").write_text("0::/task.scope\n")
        folder = self.groups / "task.scope"
        folder.mkdir()
        (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        (folder / "memory.current").write_text("900\n")
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.peak").write_text("700000000\n")
        (folder / "memory.stat").write_text("anon 300000000\nfile 200000000\nshmem 50000000\n")
        return folder


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: ModuleType) -> Proc:
    made = Proc(tmp_path)
    monkeypatch.setattr(sampler, "PROC", made.proc)
    monkeypatch.setattr(sampler, "CGROUPS", made.groups)
    return made


def options(tmp_path: Path, **more: Any) -> SimpleNamespace:
    place = tmp_path / "alloc"
    (place / "outputs").mkdir(parents=True, exist_ok=True)
    usual = {"alloc": place, "outputs": place / "outputs", "end": tmp_path / "end", "began": tmp_path / "began"}
    return SimpleNamespace(**{"out": tmp_path / "samples.jsonl", "parent": 10, "most": 8 << 20, **usual, **more})


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def no_gpus(environ: object) -> Any:
    return "none", lambda pids: []


def test_the_tree_is_summed_and_shared_memory_counts_once(tmp_path: Path, proc: Proc, sampler: ModuleType) -> None:
    proc.process(10, 1, own_kb=1000, shared_kb=500, hwm_kb=1700, ticks=100)
    proc.process(11, 10, own_kb=2000, shared_kb=800, hwm_kb=9000, ticks=50)
    proc.process(12, 11, own_kb=3000)
    proc.process(99, 1, own_kb=10**6)
    now = Time()
    made = sampler.Sampler(options(tmp_path), gpus_of=no_gpus, now=now, wall=lambda: 1000.0)
    first = made.sample()
    assert first["processes"] == 3
    assert first["host_mb"] == pytest.approx((1000 + 2000 + 3000 + 800) * 1024 / MB, abs=0.1)
    assert first["largest_mb"] == pytest.approx(9000 * 1024 / MB, abs=0.1)
    assert "cores" not in first
    now.at += 2
    proc.process(11, 10, own_kb=2000, ticks=50 + 3 * os.sysconf("SC_CLK_TCK"))
    second = made.sample()
    assert second["cores"] == pytest.approx(1.5)
    assert second["alloc_free_mb"] > 0
    assert made.first()["host_from"] == "processes"


def test_what_an_ended_process_used_is_not_in_the_look_after_it(
    tmp_path: Path, proc: Proc, sampler: ModuleType
) -> None:
    proc.process(10, 1, ticks=100)
    proc.process(11, 10, ticks=90_000)
    now = Time()
    made = sampler.Sampler(options(tmp_path), gpus_of=no_gpus, now=now, wall=lambda: 1000.0)
    made.sample()
    now.at += 2
    shutil.rmtree(proc.proc / "11")  # it has ended, and its parent has not heard of it yet
    assert made.sample()["cores"] == 0
    now.at += 0.1
    proc.process(10, 1, ticks=90_100)  # now it has: what it used is the parent's
    assert made.sample()["cores"] == 0
    now.at += 1
    proc.process(10, 1, ticks=90_100 + os.sysconf("SC_CLK_TCK"))
    assert made.sample()["cores"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("pids", "limit", "source"),
    [
        ([10, 11], "1000000000", "cgroup2"),
        ([10, 11, 99], "1000000000", "processes"),  # somebody else's process is in it
        ([10, 11], "max", "processes"),
    ],
)
def test_a_control_group_counts_only_where_it_is_the_tasks_own(
    tmp_path: Path, proc: Proc, sampler: ModuleType, pids: list[int], limit: str, source: str
) -> None:
    for pid, parent in ((10, 1), (11, 10), (99, 1)):
        proc.process(pid, parent, own_kb=1000)
    proc.group(pids, limit)
    made = sampler.Sampler(options(tmp_path), gpus_of=no_gpus)
    assert made.first()["host_from"] == source
    sample = made.sample()
    if source == "cgroup2":
        assert made.first()["host_limit_mb"] == 1000
        assert (sample["host_mb"], sample["group_peak_mb"]) == (350, 700)
    else:
        assert sample["host_mb"] == pytest.approx(2.0, abs=0.1)


def test_phases_begin_with_the_training_and_the_peaks_are_told(tmp_path: Path, proc: Proc, sampler: ModuleType) -> None:
    proc.process(10, 1, own_kb=1000)
    chosen = options(tmp_path)
    made = sampler.Sampler(chosen, gpus_of=lambda e: ("nvml", lambda pids: [{"n": 0, "used_mb": 5, "busy": 7}]))
    assert made.sample()["phase"] == "setup"
    chosen.began.touch()
    proc.process(10, 1, own_kb=4000)
    (chosen.outputs / "checkpoint").mkdir()
    (chosen.outputs / "checkpoint" / "x").write_bytes(b"x" * 3_000_000)
    made.outputs.again = 0
    assert made.sample()["phase"] == "training"
    assert made.peaks["training"]["host_mb"] == pytest.approx(4.1, abs=0.1)
    assert made.peaks["training"]["outputs_mb"] == 3
    assert made.peaks["training"]["gpus"] == {"0": {"used_mb": 5, "busy": 7}}


def test_the_file_stays_within_its_bound_and_keeps_its_summary(tmp_path: Path, proc: Proc, sampler: ModuleType) -> None:
    proc.process(10, 1, own_kb=1000)
    chosen = options(tmp_path, most=30_000)
    now = Time()
    made = sampler.Sampler(chosen, gpus_of=no_gpus, now=now)
    for _ in range(1000):
        now.at += 60
        made.tell(made.sample())
    made.tell({"kind": "end", "peaks": made.peaks}, last=True)
    assert chosen.out.stat().st_size <= 30_000
    assert json.loads(chosen.out.read_text().splitlines()[-1])["kind"] == "end"


def test_samples_become_sparser_but_never_stop(sampler: ModuleType) -> None:
    pauses = [sampler.pause_s(at) for at in (0, 10, 60, 300, 3600, 86400, 10**7)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.5, 60.0)
    at, count = 0.0, 0
    while at < 86400:
        at, count = at + sampler.pause_s(at), count + 1
    assert count < 2500  # a day, at some 400 bytes a line


@pytest.mark.parametrize("how", ["end", "parent"])
def test_it_ends_when_it_is_told_to_and_never_outlives_its_task(tmp_path: Path, how: str) -> None:
    parent = subprocess.Popen(["sleep", "600"])
    words = [sys.executable, "-B", "-E", "-s", "-S", str(TEMPLATES / "sampler.py"), str(tmp_path / "s.jsonl")]
    words += ["--alloc", str(tmp_path), "--outputs", str(tmp_path), "--parent", str(parent.pid)]
    child = subprocess.Popen([*words, "--end", str(tmp_path / "end"), "--began", str(tmp_path / "began")])
    try:
        while not (tmp_path / "s.jsonl").exists():
            time.sleep(0.02)
        (tmp_path / "end").touch() if how == "end" else (parent.kill(), parent.wait())
        assert child.wait(60) == 0
    finally:
        parent.kill()
        parent.wait()
        child.kill()
        child.wait()
    kinds = [json.loads(line).get("kind") for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert (kinds[0], kinds[-1]) == ("begin", "end")


class Library:
    """NVIDIA's library as far as it is asked: two devices, one of them with a process of ours."""

    def __init__(self, devices: ModuleType, *, figures: bool = True) -> None:
        self._of, self._figures = devices, figures

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 100 + index.value
        return 0

    def nvmlDeviceGetHandleByUUID(self, name: Any, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 101
        return 0 if name.value == b"GPU-1" else 2

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.total, memory._obj.used = 80_000_000_000, 1_000_000_000 * (handle.value - 99)
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle: Any, use: Any) -> int:  # noqa: N802
        use._obj.gpu = 97
        return 0 if self._figures else 3

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, table: Any) -> int:  # noqa: N802
        table[0].pid, table[0].used = 11, 900_000_000
        table[1].pid, table[1].used = 4242, 77
        count._obj.value = 2
        return 0


def test_devices_by_the_drivers_library(devices: ModuleType) -> None:
    both = devices.Nvml(Library(devices), None).look({11})
    assert both[0] == {"n": 0, "used_mb": 1000, "total_mb": 80000, "busy": 97, "own_mb": 900}
    assert [d["used_mb"] for d in both] == [1000, 2000]
    assert [d["n"] for d in devices.Nvml(Library(devices), ["1"]).look(set())] == [1]
    assert [d["n"] for d in devices.Nvml(Library(devices), ["GPU-1"]).look(set())] == ["GPU-1"]
    assert [d["n"] for d in devices.Nvml(Library(devices), ["7"]).look(set())] == [0, 1]  # a container's own numbers
    poor = devices.Nvml(Library(devices, figures=False), None).look({12})[0]
    assert "busy" not in poor
    assert "own_mb" not in poor


def test_the_structures_are_as_large_as_the_library_has_them(devices: ModuleType) -> None:
    sizes = (ctypes.sizeof(devices.Memory), ctypes.sizeof(devices.Use), ctypes.sizeof(devices.Process))
    assert sizes == (24, 8, 24)


def test_devices_by_the_program_and_by_the_files_of_a_driver(
    tmp_path: Path, devices: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "0, GPU-a, 1000, 81920, 55\n1, GPU-b, 7, 81920, [N/A]\nno devices were found\n"
    assert devices.smi_rows(rows, None)[0] == {"n": 0, "used_mb": 1049, "total_mb": 85899, "busy": 55}
    assert devices.smi_rows(rows, {"GPU-b"}) == [{"n": 1, "used_mb": 7, "total_mb": 85899}]
    card = tmp_path / "card0" / "device"
    card.mkdir(parents=True)
    (card / "mem_info_vram_total").write_text("17163091968\n")
    (card / "mem_info_vram_used").write_text("2000000000\n")
    (card / "gpu_busy_percent").write_text("31\n")
    (tmp_path / "card1" / "device").mkdir(parents=True)
    monkeypatch.setattr(devices, "DRM", tmp_path)
    assert devices.amd() == [{"n": 0, "total_mb": 17163, "used_mb": 2000, "busy": 31}]


def test_only_the_devices_that_are_the_tasks(devices: ModuleType) -> None:
    assert devices.visible({}) is None
    assert devices.visible({"NVIDIA_VISIBLE_DEVICES": "all"}) is None
    assert devices.visible({"CUDA_VISIBLE_DEVICES": "0, 2", "NVIDIA_VISIBLE_DEVICES": "all"}) == ["0", "2"]
    assert devices.visible({"NVIDIA_VISIBLE_DEVICES": "void"}) == []
    assert devices.gpus({"NVIDIA_VISIBLE_DEVICES": "void"})[0] == "none"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "odd $(name) 'here'")


def samples(place: Place) -> list[dict[str, Any]]:
    text = (place.alloc / "data" / "caravan-samples.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


GROWS = """
import json, os, time
held = bytearray(80_000_000)
held[::4096] = b'1' * len(held[::4096])  # each page of it is really taken

def seen():
    try:
        lines = open(os.environ['NOMAD_ALLOC_DIR'] + '/data/caravan-samples.jsonl').read().splitlines()
    except OSError:
        return False
    return any('"training"' in line and json.loads(line).get('host_mb', 0) > 80 for line in lines[:-1])

while not seen():  # it is looked at now and then: however slow the machine, a look has met it
    time.sleep(0.05)
print('done')
"""
KILLED = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
WAITS = """
import os, time
while not os.path.exists(os.environ['NOMAD_ALLOC_DIR'] + '/hangs'):
    time.sleep(0.02)
"""


def test_a_training_is_sampled_and_is_as_it_was(place: Place) -> None:
    for name, text in sampler_helpers(TEMPLATES).items():
        (place.task / name).write_text(text)
    status, out, err = place.run(place.plan(place.pack(train_py=GROWS), "train.py"))
    assert (status, out, err) == (0, "done\n", "")
    lines = samples(place)
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("begin", "end")
    assert lines[-1]["peaks"]["training"]["host_mb"] > 80
    seen = [line["host_mb"] for line in lines if line.get("phase") == "training"]
    assert seen[-1] < max(seen)  # the training has ended at the last look


@pytest.mark.parametrize("text", ["raise SystemExit(3)", KILLED, "x = ="])
def test_a_sampler_that_breaks_harms_nothing_and_says_so(place: Place, text: str) -> None:
    (place.task / "sampler.py").write_text(text)
    status, out, err = place.run(place.plan(place.pack(train_py="print('done')\nraise SystemExit(7)"), "train.py"))
    assert (status, out, err) == (7, "done\n", "")
    assert place.sentinel()["exit_code"] == 7
    assert samples(place) == [{"kind": "none", "exit_code": {"raise": 3, "import": 137, "x": 1}[text.split()[0]]}]


def test_a_sampler_that_hangs_is_not_waited_for(place: Place) -> None:
    (place.task / "sampler.py").write_text(
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(os.environ['NOMAD_ALLOC_DIR'] + '/hangs', 'w').write(str(os.getpid()))\ntime.sleep(600)"
    )
    code = place.pack(train_py=WAITS)
    process = place.start(place.plan(code, "train.py"))
    assert process.wait(60) == 0
    process.communicate()
    pid = int((place.alloc / "hangs").read_text())
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()

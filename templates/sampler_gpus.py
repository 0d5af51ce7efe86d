"""What the GPUs of a task hold and do: by NVIDIA's library, else by nvidia-smi, else by AMD's files. Inside the job.

Standard library alone (3.8 and later); nothing is set on a device.
"""

import contextlib
import ctypes
import shutil
import subprocess
from pathlib import Path

DRM = Path("/sys/class/drm")
LIBRARY = "libnvidia-ml.so.1"
SMI_S = 10.0
MB = 1e6
MIB = 1 << 20
OK = 0  # nvmlReturn_t: NVML_SUCCESS
NO_FIGURE = (1 << 64) - 1  # NVML_VALUE_NOT_AVAILABLE, as unsigned long long
PROCESSES = 256


class Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Use(ctypes.Structure):
    """nvmlUtilization_t, in percent."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Process(ctypes.Structure):
    """nvmlProcessInfo_v2_t: what nvmlDeviceGetComputeRunningProcesses_v2 and _v3 fill in."""

    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


def gpus(environ):
    """(name of the source, a function: process ids of the task → a list of devices)."""
    names = visible(environ)
    if names == []:
        return "none", nothing
    with contextlib.suppress(OSError, AttributeError):
        found = Nvml(ctypes.CDLL(LIBRARY), names)
        if found.devices:
            return "nvml", found.look
    program = shutil.which("nvidia-smi")
    if program:
        return "nvidia-smi", Smi(program, names).look
    return ("amd" if amd() else "none"), amd


def nothing(pids=()):
    """No devices."""
    del pids
    return []


def visible(environ):
    """Numbers and ids of the devices that the task may use; None: all that there are; empty: none."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        named = environ.get("NVIDIA_VISIBLE_DEVICES")
    if named in (None, "", "all"):
        return None
    return [n.strip() for n in named.split(",") if n.strip().isdigit() or n.strip().startswith(("GPU-", "MIG-"))]


class Nvml:
    """The devices by NVIDIA's management library. Raises OSError where it can't be used."""

    def __init__(self, library, names):
        self.library = library
        if library.nvmlInit_v2() != OK:
            raise OSError("the library of the driver does not begin")
        self.devices = [d for d in (self.by_id(n) for n in names or () if not n.isdigit()) if d is not None]
        by_number = [d for d in self.all() if names is None or str(d[0]) in names]
        # A container may be told the machine's numbers and count its own anew from 0.
        self.devices = self.devices + by_number or self.all()

    def all(self):
        """Every device that there is here, by its number."""
        count, found = ctypes.c_uint(), []
        self.ask("nvmlDeviceGetCount_v2", ctypes.byref(count))
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if self.ask("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle)):
                found.append((index, handle))
        return found

    def ask(self, name, *words):
        """Whether a call succeeded; one that the library does not know has not."""
        call = getattr(self.library, name, None)
        return call is not None and call(*words) == OK

    def by_id(self, name):
        """The device, or the part of one, that has this id."""
        handle = ctypes.c_void_p()
        there = self.ask("nvmlDeviceGetHandleByUUID", ctypes.c_char_p(name.encode()), ctypes.byref(handle))
        return (name, handle) if there else None

    def look(self, pids):
        """The devices as they are now."""
        found = []
        for name, handle in self.devices:
            device = {"n": name}
            memory, use = Memory(), Use()
            if self.ask("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory)):
                device.update(used_mb=round(memory.used / MB), total_mb=round(memory.total / MB))
            if self.ask("nvmlDeviceGetUtilizationRates", handle, ctypes.byref(use)):
                device["busy"] = int(use.gpu)
            own = self.own(handle, pids)
            if own is not None:
                device["own_mb"] = round(own / MB)
            found.append(device)
        return found

    def own(self, handle, pids):
        """Bytes that the task's processes hold; None where that is not told: a container knows its own by other ids."""
        table, count = (Process * PROCESSES)(), ctypes.c_uint(PROCESSES)
        for name in ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"):
            if self.ask(name, handle, ctypes.byref(count), table):
                ours = [p.used for p in table[: count.value] if p.pid in pids and p.used != NO_FIGURE]
                return sum(ours) if ours else None
        return None


class Smi:
    """The devices by the program nvidia-smi, which costs more: a process each time."""

    def __init__(self, program, names):
        self.words = [program, "--query-gpu=index,uuid,memory.used,memory.total,utilization.gpu"]
        self.words.append("--format=csv,noheader,nounits")
        self.names = None if names is None else set(names)

    def look(self, pids):
        """The devices as they are now; none where it does not answer in time."""
        del pids
        try:
            run = subprocess.run(self.words, capture_output=True, stdin=subprocess.DEVNULL, timeout=SMI_S, check=False)
        except (OSError, subprocess.SubprocessError):
            return []
        return smi_rows(run.stdout.decode("utf-8", "replace"), self.names)


def smi_rows(text, names):
    """The devices in nvidia-smi's rows: index, id, used and whole memory in MiB, percent; `[N/A]` is no figure."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 5 or not fields[0].isdigit() or (names is not None and not names & set(fields[:2])):
            continue
        device = {"n": int(fields[0])}
        if fields[2].isdigit() and fields[3].isdigit():
            device.update(used_mb=round(int(fields[2]) * MIB / MB), total_mb=round(int(fields[3]) * MIB / MB))
        if fields[4].isdigit():
            device["busy"] = int(fields[4])
        found.append(device)
    return found


def amd(pids=()):
    """AMD's devices by the files of their driver."""
    del pids
    found = []
    for folder in sorted(DRM.glob("card[0-9]*/device")):
        values = {}
        for name in ("mem_info_vram_used", "mem_info_vram_total", "gpu_busy_percent"):
            with contextlib.suppress(OSError, ValueError):
                values[name] = int((folder / name).read_text())
        if "mem_info_vram_total" not in values:
            continue
        device = {"n": len(found), "total_mb": round(values["mem_info_vram_total"] / MB)}
        if "mem_info_vram_used" in values:
            device["used_mb"] = round(values["mem_info_vram_used"] / MB)
        if "gpu_busy_percent" in values:
            device["busy"] = values["gpu_busy_percent"]
        found.append(device)
    return found

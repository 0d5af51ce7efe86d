"""What is seen of a training from beside it: its output, its processes, the GPUs. Runs inside the job.

Standard library alone (3.8 and later). It ends processes where it is told to, and judges nothing.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

PROC = Path("/proc")
END_S = 10.0
TAIL = 1 << 16
STEP = re.compile(r"\b(?:global_?)?step\b[\"']?\s*[:=]?\s*(\d{1,9})(?:\s*/\s*(\d{1,9}))?", re.IGNORECASE)
BAR = re.compile(r"(?:^|[\s|])(\d{1,9})/(\d{1,9}) \[[^\]]*(?:it/s|s/it)")
# A program has bars for many things that are no steps.
NO_STEPS = re.compile(
    r"load|map|token|download|fetch|generat|prepar|eval|valid|test|filter|cach|sav|shard|file|chunk", re.IGNORECASE
)
NO_ROOM = re.compile(r"(?:CUDA|HIP) out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED")
ALONE = re.compile(
    r"process group has not been initialized|world[_ ]size|at least \d+ (?:GPUs|processes)", re.IGNORECASE
)


class Lines:
    """A training's output on its way through, and the steps that it tells of. `seen`: (step, when)."""

    def __init__(self):
        self.tail = b""
        self.seen = []
        self.total = None
        self._rest = {}

    def passed(self, source, target):
        """Pass on what there is; False at its end."""
        try:
            data = os.read(source.fileno(), TAIL)
        except OSError:
            return False
        if not data:
            return False
        target.write(data)
        target.flush()
        self.tail = (self.tail + data)[-TAIL:]
        lines = (self._rest.get(source, b"") + data).replace(b"\r", b"\n").split(b"\n")
        self._rest[source] = lines.pop()[-4096:]
        for line in lines:
            self.read(line.decode("utf-8", "replace")[:1000])
        return True

    def read(self, line):
        """Note the step of a line that names one."""
        bar = BAR.search(line)
        match = bar or STEP.search(line)
        if match is None or (bar and NO_STEPS.search(line[: bar.start()])):
            return
        number, total = int(match.group(1)), match.group(2)
        if not self.seen or number > self.seen[-1][0]:
            self.seen.append((number, time.time()))
            self.total = int(total) if total and int(total) >= number else self.total

    def steps(self):
        """The steps that were told of, whether they are counted from 0 or from 1."""
        return self.seen[-1][0] - min(self.seen[0][0], 1) + 1 if self.seen else 0

    def speed(self, left_out):
        """Seconds a step, and when the first of those steps was told of; None where the lines don't tell."""
        behind = [one for one in self.seen if one[0] >= left_out]
        behind = behind if len(behind) >= 2 else self.seen
        if len(behind) < 2:
            return None, None
        (first, since), (last, until) = behind[0], behind[-1]
        return (until - since) / (last - first), since

    def another_layout(self):
        """Why a failure on fewer processes than planned says nothing of the plan; empty where it may."""
        text = self.tail.decode("utf-8", "replace")
        if NO_ROOM.search(text):
            return "one process alone ran out of GPU memory, and several may share what it holds"
        return "it does not run on one process" if ALONE.search(text) else ""


class Gpus:
    """Samples the memory of the GPUs that a training sees, in GiB; without nvidia-smi nothing is known."""

    def __init__(self, environ):
        self.peak = self.total = None
        visible = environ.get("CUDA_VISIBLE_DEVICES") or environ.get("NVIDIA_VISIBLE_DEVICES") or ""
        self._names = {n for n in visible.split(",") if n.isdigit() or n.startswith(("GPU-", "MIG-"))}
        self._program = shutil.which("nvidia-smi")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        if self._program:
            self._thread.start()
        return self

    def __exit__(self, *failed):
        self._over.set()
        if self._program:
            self._thread.join(END_S)

    def _sample(self):
        while True:
            self._look()
            if self._over.wait(0.5):
                return

    def _look(self):
        query = [self._program, "--query-gpu=index,uuid,memory.used,memory.total", "--format=csv,noheader,nounits"]
        try:
            run = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=END_S, check=False)
        except (OSError, subprocess.SubprocessError):
            return
        for line in run.stdout.decode("utf-8", "replace").splitlines():
            fields = [field.strip() for field in line.split(",")]
            if len(fields) != 4 or not (fields[2].isdigit() and fields[3].isdigit()):
                continue
            if not self._names or self._names & set(fields[:2]):
                self.peak = max(self.peak or 0.0, int(fields[2]) / 1024)
                self.total = int(fields[3]) / 1024


def one_gpu(environ):
    """Variables that leave the first of the GPUs that are ours."""
    visible = environ.get("CUDA_VISIBLE_DEVICES") or environ.get("NVIDIA_VISIBLE_DEVICES") or ""
    names = [n for n in visible.split(",") if n.isdigit() or n.startswith(("GPU-", "MIG-"))]
    found = {"CUDA_VISIBLE_DEVICES": (names or ["0"])[0]}
    for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if environ.get(name):
            found[name] = environ[name].split(",")[0]
    return found


def adopt_orphans():
    """What our descendants leave behind becomes our child (Linux): so it is found, whatever session it is in."""
    _prctl(36)  # PR_SET_CHILD_SUBREAPER


def begin_as_child():
    """In a child, before its program: it ends with us, and the signals that we catch are its own again."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _prctl(option, value=1):
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)


def descendants():
    """Our living descendants. Empty where there is no /proc."""
    parents = {}
    for place in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name before the last bracket may hold anything; then come state and parent.
            fields = place.read_bytes().rpartition(b")")[2].split()
            if fields[0] != b"Z":
                parents[int(place.parent.name)] = int(fields[1])
    ours, found = {os.getpid()}, []
    while True:
        more = [pid for pid, parent in parents.items() if parent in ours and pid not in ours]
        if not more:
            return found
        ours.update(more)
        found += more


def end_all():
    """End every descendant: nothing of it may be left, and what it writes is not worth a farewell."""
    until = time.time() + END_S
    living = descendants()
    while living and time.time() < until:
        for pid in living:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        living = descendants()


def host_mb():
    """Memory of all descendants together in MB: what is each one's own, and the largest shared part once."""
    own, shared = 0, 0
    for pid in descendants():
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (PROC / str(pid) / "status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "RssAnon":
                    own += int(value.split()[0])
                elif name == "RssShmem":
                    shared = max(shared, int(value.split()[0]))
    return (own + shared) * 1024 / 1e6

"""Samples what a training uses, from beside it, and writes it down as JSON lines. Runs inside the job.

    sampler.py OUT --alloc DIR --outputs DIR --parent PID --end FILE --began FILE [--most BYTES]

Standard library alone (3.8 and later). It knows nothing of the training's code, ends with the process PARENT or when
the file END is there, and never writes more than `--most` bytes. The first line says where its figures come from, the
last one, of the kind `end`, the peaks. A figure that can't be had is left out.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from sampler_gpus import gpus

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
LOOK_S = 0.25  # between two looks whether to end
MOST = 8 << 20  # bytes of the file
LAST = 4096  # of them, kept for the summary
ENTRIES = 5000  # files of the outputs that are counted
OUTPUTS_S = 30.0  # between two counts of the outputs, and longer where one takes long
MB = 1e6


def main(words=None):
    """Sample until the end; the exit code. A disk that is full ends it: there is nothing else that it could do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--alloc", type=Path, required=True)
    parser.add_argument("--outputs", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--end", type=Path, required=True)
    parser.add_argument("--began", type=Path, required=True, help="is written when the training itself begins")
    parser.add_argument("--most", type=int, default=MOST)
    options = parser.parse_args(words)
    with contextlib.suppress(OSError):
        os.nice(5)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        Sampler(options).run()
    except OSError as error:
        sys.stderr.write(f"caravan: the sampler ended: {error.strerror or error}\n")
        return 1
    return 0


def pause_s(elapsed):
    """Seconds between two samples: dense at the start, where memory grows, then sparser; once a minute at least."""
    return min(60.0, max(min(2.0, 0.5 + elapsed / 40), elapsed / 150))


class Sampler:
    """One task's samples. `options` are those of `main`; `gpus_of` gives the source of GPU figures and its name."""

    def __init__(self, options, gpus_of=gpus, now=time.monotonic, wall=time.time):
        self.options, self.now, self.wall = options, now, wall
        self.began, self.born = now(), wall()
        self.parent = start_of(options.parent)
        self.group = own_group(options.parent)
        self.gpu_source, self.gpus = gpus_of(os.environ)
        self.outputs = Outputs(options.outputs, now)
        self.peaks = {}
        self.last = None
        self.written = options.out.stat().st_size if options.out.exists() else 0
        self.slower = 1

    def run(self):
        """Sample until the end, and tell the peaks."""
        self.tell(self.first())
        due = 0.0
        while not self.is_over():
            elapsed = self.now() - self.began
            if elapsed >= due:
                self.tell(self.sample())
                due = elapsed + pause_s(elapsed) * self.slower
            time.sleep(LOOK_S)
        self.outputs.again = 0.0
        self.tell(self.sample())
        self.tell({"kind": "end", "at": round(self.wall(), 1), "up": self.up(), "peaks": self.peaks}, last=True)

    def is_over(self):
        """Whether the task has ended or is about to; also where its process id is another's by now."""
        return self.options.end.exists() or start_of(self.options.parent) != self.parent

    def up(self):
        """Seconds since the first look, by the clock that never jumps."""
        return round(self.now() - self.began, 2)

    def first(self):
        """Where the figures come from."""
        limit = self.group.limit_mb() if self.group else None
        host = self.group.name if self.group else ("processes" if (PROC / "self/stat").exists() else "none")
        line = {
            "kind": "begin",
            "version": 1,
            "at": round(self.wall(), 1),
            "gpus_from": self.gpu_source,
            "host_from": host,
        }
        return {**line, "host_limit_mb": limit} if limit else line

    def sample(self):
        """One look at everything. Nothing that goes wrong in it is worth more than the figure that it costs."""
        tree = processes(self.options.parent)
        line = {"at": round(self.wall(), 1), "up": self.up(), "phase": self.phase(), "processes": len(tree)}
        line.update(self.host(tree))
        line.update(self.rates(tree))
        devices = self.gpus(set(tree))
        if devices:
            line["gpus"] = devices
        line.update(self.disk())
        self.keep(line)
        return line

    def phase(self):
        """`training` from its command's start on; what an earlier life of the task left says nothing."""
        with contextlib.suppress(OSError):
            if self.options.began.stat().st_mtime >= self.born - 1:
                return "training"
        return "setup"

    def host(self, tree):
        """Memory of the task, and the largest that any of its processes has ever had."""
        used = [memory_of(pid) for pid in tree]
        own, shared = sum(u[0] for u in used), max([u[1] for u in used] or [0])
        found = {
            "host_mb": round((own + shared) / MB, 1),
            "largest_mb": round(max([u[2] for u in used] or [0]) / MB, 1),
        }
        if self.group:
            found.update(self.group.memory())
        return found if used or self.group else {}

    def rates(self, tree):
        """Cores in use, and megabytes read and written a second, since the last look."""
        now, spent, read, written = self.now(), 0.0, 0, 0
        for pid, ticks in tree.items():
            spent += ticks
            r, w = io_of(pid)
            read, written = read + r, written + w
        before = self.last
        if before:
            # A process that has ended and was not waited for yet can't be read: what it used is missed for a moment,
            # and is its parent's then. All of a task's life would be in one short look otherwise.
            spent, read, written = max(spent, before[1]), max(read, before[2]), max(written, before[3])
        self.last = (now, spent, read, written)
        if before is None or now <= before[0]:
            return {}
        passed = now - before[0]
        return {
            "cores": round((spent - before[1]) / os.sysconf("SC_CLK_TCK") / passed, 2),
            "read_mb_s": round((read - before[2]) / MB / passed, 2),
            "write_mb_s": round((written - before[3]) / MB / passed, 2),
        }

    def disk(self):
        """What is free where the task writes, and what there is of outputs."""
        found = {}
        for name, place in (("alloc", self.options.alloc), ("outputs", self.options.outputs)):
            with contextlib.suppress(OSError):
                usage = shutil.disk_usage(place)
                found[f"{name}_free_mb"] = round(usage.free / MB)
        found.update(self.outputs.look())
        return found

    def keep(self, line):
        """The largest of each figure so far, of disks the smallest, in each phase."""
        peaks = self.peaks.setdefault(line["phase"], {})
        for name, value in line.items():
            if name in ("at", "up", "phase", "gpus"):
                continue
            least = name.endswith("_free_mb")
            peaks[name] = min(peaks.get(name, value), value) if least else max(peaks.get(name, value), value)
        for device in line.get("gpus", ()):
            known = peaks.setdefault("gpus", {}).setdefault(str(device.get("n")), {})
            for name in ("used_mb", "own_mb", "total_mb", "busy"):
                if name in device:
                    known[name] = max(known.get(name, 0), device[name])

    def tell(self, line, last=False):
        """Append a line, if it may still be written; the fuller the file, the sparser the samples."""
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        room = self.options.most - self.written - (0 if last else LAST)
        if len(data) > room:
            self.slower = 1 << 20
            return
        handle = os.open(self.options.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self.written += os.write(handle, data)
        finally:
            os.close(handle)
        used = self.written / self.options.most
        self.slower = 1 if used < 0.5 else 2 if used < 0.75 else 8


class Outputs:
    """Counts the outputs, at most so many files, and the less often the longer it takes."""

    def __init__(self, place, now):
        self.place, self.now = place, now
        self.again, self.found = 0.0, {}

    def look(self):
        """Megabytes of the outputs as they were counted last."""
        began = self.now()
        if began < self.again:
            return self.found
        size, count = 0, 0
        stack = [self.place]
        while stack and count < ENTRIES:
            with contextlib.suppress(OSError), os.scandir(stack.pop()) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
                    if count >= ENTRIES:
                        break
        self.again = self.now() + max(OUTPUTS_S, 200 * (self.now() - began))
        self.found = {"outputs_mb": round(size / MB, 1)}
        return self.found


class Group:
    """The control group that is the task's own. `version` is 1 or 2."""

    def __init__(self, folder, version):
        self.folder, self.version = folder, version
        self.name = f"cgroup{version}"

    def limit_mb(self):
        """Its limit; None where there is none."""
        found = number(self.folder / ("memory.max" if self.version == 2 else "memory.limit_in_bytes"))
        return None if found is None or found > 1 << 60 else round(found / MB, 1)

    def memory(self):
        """What can't be given back, and with the files' pages the most that there ever was."""
        fields = {}
        with contextlib.suppress(OSError, ValueError):
            for line in (self.folder / "memory.stat").read_text().splitlines():
                name, _, value = line.partition(" ")
                fields[name] = int(value)
        names = ("anon", "shmem") if self.version == 2 else ("total_rss", "total_shmem")
        found = {}
        if names[0] in fields:
            found["host_mb"] = round(sum(fields.get(n, 0) for n in names) / MB, 1)
        peak = number(self.folder / ("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"))
        return found if peak is None else {**found, "group_peak_mb": round(peak / MB, 1)}


def own_group(parent):
    """The control group of this process where nobody else is in it but the task; else None."""
    with contextlib.suppress(OSError, ValueError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            number_, names, path = line.split(":", 2)
            if number_ != "0" and "memory" not in names.split(","):
                continue
            version = 2 if number_ == "0" else 1
            folder = (CGROUPS if version == 2 else CGROUPS / "memory") / path.lstrip("/")
            if not (folder / ("memory.current" if version == 2 else "memory.usage_in_bytes")).exists():
                continue
            inside = {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
            ours = set(processes(parent, spare=())) | set(above(parent))
            # A group that has no limit may be a machine's or a session's that just happens to be empty.
            group = Group(folder, version)
            if inside and inside <= ours and group.limit_mb():
                return group
    return None


def number(path):
    """The number in a file; None where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def stat_of(pid):
    """State, parent, and what follows of a process's `stat`: the name before the last bracket may hold anything."""
    return (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()


def start_of(pid):
    """When a process started, in the kernel's ticks; None where it is gone, 0 where there is no /proc."""
    try:
        fields = stat_of(pid)
        return None if fields[0] == b"Z" else int(fields[19])
    except (OSError, ValueError, IndexError):
        if (PROC / "self").exists():
            return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return 0


def above(pid):
    """The ancestors of a process."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        while pid > 1 and len(found) < 64:
            pid = int(stat_of(pid)[1])
            found.append(pid)
    return found


def processes(root, spare=None):
    """A process and its descendants but for this one: id → ticks of CPU, with those of its ended children."""
    parents, ticks = {}, {}
    with contextlib.suppress(OSError):
        for place in PROC.iterdir():
            name = place.name
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = stat_of(name)
                if fields[0] != b"Z":
                    parents[int(name)] = int(fields[1])
                    ticks[int(name)] = sum(int(n) for n in fields[11:15])
    children = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found, stack = {}, [root] if root in ticks else []
    spare = {os.getpid()} if spare is None else spare
    while stack:
        pid = stack.pop()
        if pid in spare or pid in found:
            continue
        found[pid] = ticks[pid]
        stack += children.get(pid, ())
    return found


def memory_of(pid):
    """Bytes of a process: its own, those that it shares with others (not files), and the most it ever had resident."""
    own = shared = peak = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (PROC / str(pid) / "status").read_bytes().splitlines():
            name, _, value = line.partition(b":")
            if name == b"RssAnon":
                own = int(value.split()[0]) * 1024
            elif name == b"RssShmem":
                shared = int(value.split()[0]) * 1024
            elif name == b"VmHWM":
                peak = int(value.split()[0]) * 1024
    return own, shared, peak


def io_of(pid):
    """Bytes that a process has had read from and written to a disk; of another user's it is not told."""
    fields = {}
    with contextlib.suppress(OSError, ValueError):
        for line in (PROC / str(pid) / "io").read_bytes().splitlines():
            name, _, value = line.partition(b":")
            fields[name] = int(value)
    return fields.get(b"read_bytes", 0), fields.get(b"write_bytes", 0)


if __name__ == "__main__":
    sys.exit(main())

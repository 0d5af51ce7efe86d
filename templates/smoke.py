"""Runs the first steps of a training, measures them, and says whether the rest may follow. Runs inside the job.

    smoke.py --answer FILE --scratch DIR --numbers JSON --words N [--code DIR] -- COMMAND... [LIMITED COMMAND...]

The first N words are the training's command on the processes that the phase is meant for; the words after them are
the same command with the program's own limit on steps. Where this Python has torch, steps are counted inside the
process (`smoke_hook.py`); else the command with the limit is taken, and steps are read off the log. In any case the
phase ends after `max_s` seconds. What it writes goes with the scratch directory, what it measures is in the answer.

Exit codes: 0 the training may go on, 80 it may not (the answer says why), any other is the training's own.

Standard library alone (3.8 and later); `smoke_seen.py` lies beside it.
"""

import argparse
import contextlib
import importlib.util
import json
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import smoke_seen as seen

OVER = 80
LEFT_OUT = 2
SLACK = 1.1  # ten steps tell the speed of ten thousand to about a tenth
LATE_S = 5.0  # for the other processes of a group, which end behind the same step
LOOK_S = 0.25
SITE = """import os, sys
import smoke_hook
smoke_hook.install()
here = os.path.dirname(os.path.abspath(__file__))
for place in sys.path:
    hidden = os.path.join(os.path.abspath(place or "."), "sitecustomize.py")
    if os.path.dirname(hidden) != here and os.path.isfile(hidden):
        with open(hidden) as file:
            exec(compile(file.read(), hidden, "exec"))
        break
"""
SHOWN = (
    *("steps", "seconds_per_step", "peak_gpu_gib", "allocated_gib", "gpu_total_gib", "peak_host_mb", "seconds"),
    *("first_step_s", "processes", "total_steps", "projected_s", "allowed_s", "extra_gib", "usd", "left"),
    *("ended", "exit_code", "verdict", "note"),
)


def main():
    """Run the phase; the exit code says what may follow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answer", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--numbers", type=json.loads, required=True)
    parser.add_argument("--words", type=int, required=True)
    parser.add_argument("--code", type=Path)
    at = sys.argv.index("--")
    options = parser.parse_args(sys.argv[1:at])
    return Phase(options, sys.argv[at + 1 :]).run()


def say(text):
    """One line for the job's log."""
    sys.stderr.write(f"caravan: smoke: {' '.join(text.split())}\n")
    sys.stderr.flush()


class Phase:
    """The phase from its beginning to the answer."""

    def __init__(self, options, words):
        self.answer, self.scratch, self.code = options.answer, options.scratch, options.code
        self.numbers = options.numbers
        self.hook = self.scratch / "hook"
        self.outputs = str(self.scratch / "outputs")
        self.hooked = importlib.util.find_spec("torch") is not None
        limited = words[options.words :]
        self.limited = bool(limited) and not self.hooked
        self.command = limited if self.limited else words[: options.words]
        self.lines = seen.Lines()
        self.stopped = False
        self.reason = "steps"
        self.host_mb = 0.0

    def run(self):
        """Prepare, run, measure, clean up, judge."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        seen.adopt_orphans()
        shutil.rmtree(self.scratch, ignore_errors=True)
        result = None
        try:
            self.hook.mkdir(parents=True)
            (self.scratch / "outputs").mkdir()
            place = self.place()
            if not self.stopped:
                say(f"up to {self.numbers['steps']} steps before the rest begins")
                result = self.measured(place)
        except OSError as error:
            result = {"ended": "skipped", "note": f"it could not be run: {error}"}
        finally:
            seen.end_all()
            shutil.rmtree(self.scratch, ignore_errors=True)
        return 143 if self.stopped or result is None else self.judged(result)

    def stop(self, number, frame):
        """A stop of the job: nothing here is worth to be kept."""
        del number, frame
        self.stopped = True

    def place(self):
        """The directory to run in: of a copy of the code where it is given, so that nothing is written beside it."""
        here = Path.cwd()
        inside = os.path.relpath(here, self.code) if self.code else ".."
        if inside == ".." or inside.startswith("../"):
            return here
        words = ["cp", "-a", str(self.code), str(self.scratch / "code")]
        copy = subprocess.Popen(words, preexec_fn=seen.begin_as_child)  # noqa: PLW1509 - no other thread yet
        while copy.poll() is None and not self.stopped:
            time.sleep(0.02)
        if copy.returncode:
            raise OSError("the code can't be copied")
        self.lay_over(self.scratch / "code")
        return self.scratch / "code" / inside

    def lay_over(self, code):
        """Say in the copy's config files where to write."""
        helper, values = Path(__file__).with_name("overlays.py"), self.scratch / "overlay.json"
        for name, wanted in self.numbers.get("overlays", {}).items():
            told = {key: self.outputs if value == "{outputs}" else value for key, value in wanted.items()}
            values.write_text(json.dumps({"text": None, "values": told}), encoding="utf-8")
            if subprocess.call([sys.executable, str(helper), str(values), str(code / name), str(code / name)]):
                raise OSError(f"{name} can't be changed to write elsewhere")

    def environment(self, place):
        """The training's environment: one GPU where one is meant, no reports to anybody, our module first."""
        found = {**os.environ, "PWD": str(place), "CARAVAN_OUTPUT_DIR": self.outputs}
        found.update(WANDB_MODE="disabled", COMET_MODE="disabled", DISABLE_MLFLOW_INTEGRATION="TRUE")
        if self.numbers.get("gpus"):
            found.update(seen.one_gpu(found))
        if self.hooked:
            shutil.copy(Path(__file__).with_name("smoke_hook.py"), self.hook)
            (self.hook / "sitecustomize.py").write_text(SITE, encoding="utf-8")
            found.update(CARAVAN_SMOKE_FOLDER=str(self.hook), CARAVAN_SMOKE_STEPS=str(self.numbers["steps"]))
            found["PYTHONPATH"] = os.pathsep.join(p for p in (str(self.hook), found.get("PYTHONPATH")) if p)
        return found

    def measured(self, place):
        """Run the command until its steps are made, it has ended, or its time is over; what was seen."""
        environ = self.environment(place)
        began = time.time()
        with seen.Gpus(environ) as gpus:
            child = subprocess.Popen(
                self.command,
                cwd=str(place),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=seen.begin_as_child,  # noqa: PLW1509 - no thread of ours imports or locks
            )
            code = self.followed(child, began + self.numbers["max_s"])
            ended = time.time()
            seen.end_all()
            child.wait()
        for source, target in ((child.stdout, sys.stdout.buffer), (child.stderr, sys.stderr.buffer)):
            while self.lines.passed(source, target):
                pass
        return self.summed(began, ended, code, gpus)

    def followed(self, child, until):
        """Pass the output on until there is a reason to end; the exit code, None where it did not end by itself."""
        selector = selectors.DefaultSelector()
        selector.register(child.stdout, selectors.EVENT_READ, sys.stdout.buffer)
        selector.register(child.stderr, selectors.EVENT_READ, sys.stderr.buffer)
        looked = 0.0
        while True:
            if selector.get_map():
                for key, _ in selector.select(0.1):
                    if not self.lines.passed(key.fileobj, key.data):
                        selector.unregister(key.fileobj)
            else:
                time.sleep(0.05)
            code, now = child.poll(), time.time()
            if code is not None and not self.made():
                return code
            if now - looked >= LOOK_S:
                looked = now
                self.host_mb = max(self.host_mb, seen.host_mb())
            if self.stopped or now >= until or self.made():
                self.reason = "steps" if now < until else "time"
                return None

    def made(self):
        """Whether the steps are made: every process that counts has said so; where none counts, the log shows them."""
        if not any(self.hook.glob("hooked-*")):
            shown = self.lines.steps()
            self.limited = self.limited and shown <= self.numbers["steps"]  # a limit that is not followed is none
            return not self.limited and shown >= self.numbers["steps"] and len(self.lines.seen) > LEFT_OUT
        done = [one for one in self.counted() if one.get("done")]
        late = bool(done) and time.time() - min(one["at"] for one in done) > LATE_S
        return late or len(done) >= max(1, self.numbers["here"])

    def counted(self):
        """What the training's processes have written, each with the time at which it did."""
        found = []
        for path in self.hook.glob("measured-*.json"):
            with contextlib.suppress(OSError, ValueError):
                found.append({**json.loads(path.read_text(encoding="utf-8")), "at": path.stat().st_mtime})
        return found

    def summed(self, began, ended, code, gpus):
        """What was seen, all processes together."""
        found = self.counted()
        result = self.by_hook(found, began) if found else self.by_log(began, ended, code)
        held = [one["reserved_gib"] for one in found if one.get("reserved_gib")]
        result["peak_gpu_gib"] = max([*held, gpus.peak or 0.0]) or None
        result["allocated_gib"] = max([one.get("allocated_gib", 0.0) for one in found] or [0.0]) or None
        result["gpu_total_gib"] = gpus.total
        result["peak_host_mb"] = self.host_mb or None
        notes = [] if result["steps"] else ["no step was seen"]
        notes += [] if result["peak_gpu_gib"] else ["GPU memory was not seen"]
        result.update(seconds=ended - began, processes=self.numbers["here"], note="; ".join(notes))
        result["ended"] = self.reason if code is None else "failed" if code else "finished"
        if code:
            result["exit_code"] = code if code > 0 else 128 - code
        return result

    def by_hook(self, found, began):
        """Steps and speed as the processes counted them; of several the slowest counts."""
        speeds = [one["seconds_per_step"] for one in found if "seconds_per_step" in one]
        result = {"steps": max(one["steps"] for one in found), "seconds_per_step": max(speeds, default=None)}
        result["first_step_s"] = max(0.0, min(one["first_at"] for one in found) - began)
        whole = next((one for one in found if one.get("total_steps")), None)
        if whole is not None:
            result.update(program_steps=whole["total_steps"], fixed=whole["fixed"])
        return result

    def by_log(self, began, ended, code):
        """Steps and speed as the log tells them. A program with a limit of its own has made as many, if it ended well:
        where its log is silent its whole time is taken for theirs.
        """
        steps, (speed, since) = self.lines.steps(), self.lines.speed(LEFT_OUT)
        if self.limited and code == 0:
            steps = max(steps, self.numbers["steps"])
            speed = speed if speed is not None else (ended - began) / steps
        result = {"steps": steps, "seconds_per_step": speed}
        if since is not None:
            result["first_step_s"] = max(0.0, since - began)
        if self.lines.total and not self.limited:
            result.update(program_steps=self.lines.total, fixed=False)
        return result

    def judged(self, result):
        """What follows from it: the answer is written, and the exit code comes back."""
        status = result.get("exit_code", 0)
        if status and self.numbers["here"] < self.numbers["processes"]:
            other = self.lines.another_layout()
            if other:
                result.update(ended="unjudged", note=other)
        if result["ended"] in ("unjudged", "skipped"):
            say(f"{result['note']}: the training goes on as it was planned")
            self.tell(result)
            return 0
        if status:
            say(f"the training failed in its first steps, with exit code {status}")
            self.tell(result)
            return status
        project(self.numbers, result)
        kind, words = too_much(self.numbers, result)
        result["verdict"] = kind
        say(in_words(result))
        if kind:
            say(f"over what was approved: {words}")
        self.tell(result)
        return OVER if kind else 0

    def tell(self, result):
        """Write the answer, under its name only when it is whole."""
        part = self.answer.with_name(f"{self.answer.name}.part")
        shown = {name: result[name] for name in SHOWN if result.get(name) is not None}
        part.write_text(json.dumps(shown), encoding="utf-8")
        part.replace(self.answer)


def project(numbers, result):
    """Put what the whole training takes beside what was seen, where both its steps and their time are known.

    A program that takes its steps from the data's size has as many fewer of them as it has more processes.
    """
    result["allowed_s"], result["extra_gib"] = numbers.get("allowed_s"), numbers.get("extra_gib")
    result["left"] = numbers.get("left", 1.0)
    told, more = result.get("program_steps"), numbers["processes"] / max(1, numbers["here"])
    steps = numbers.get("max_steps") or (
        numbers.get("total_steps") if not told else told if result["fixed"] else max(1, math.ceil(told / more))
    )
    speed = result.get("seconds_per_step")
    if not steps or speed is None:
        return
    result["total_steps"] = steps
    result["projected_s"] = result.get("first_step_s", 0.0) + steps * speed
    if numbers.get("usd_per_hour"):
        result["usd"] = result["projected_s"] * numbers["usd_per_hour"] / 3600


def too_much(numbers, result):
    """Why the rest may not follow: its kind and the words for it, both empty where it may."""
    size, used, extra = result.get("gpu_total_gib"), result.get("allocated_gib"), numbers.get("extra_gib") or 0.0
    if size and used and used + extra > size:
        words = f"{used:.1f} GiB were in use and {extra:.1f} GiB come with {numbers['processes']} processes"
        return "memory", f"{words}, of {size:.1f} GiB"
    projected, allowed = result.get("projected_s"), numbers.get("allowed_s")
    if projected is None or allowed is None or projected * result["left"] <= allowed * SLACK:
        return "", ""
    cost = f" ({result['usd'] * result['left']:.2f} USD)" if "usd" in result else ""
    what = "the whole training" if result["left"] == 1 else f"the {result['left']:.0%} of the training that are left"
    return "time", f"{what} would take about {span(projected * result['left'])}{cost}, and {span(allowed)} are approved"


def in_words(result):
    """The measurement as one line."""
    words = [f"{result['steps']} steps"]
    words += [f"{result['seconds_per_step']:.3g} s/step"] if result.get("seconds_per_step") is not None else []
    words += [f"peak {result['peak_gpu_gib']:.1f} GiB"] if result.get("peak_gpu_gib") else []
    whole = "how long the whole training takes is not known"
    if "projected_s" in result:
        whole = f"the whole training about {span(result['projected_s'])}"
        whole += f", {result['usd']:.2f} USD" if "usd" in result else ""
    return "; ".join(text for text in (", ".join(words), whole, result["note"]) if text)


def span(seconds):
    """Seconds in words."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.3g} s"


if __name__ == "__main__":
    if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parent:
        sys.path.pop(0)  # the code lies beside this file, and none of its modules is meant
    sys.exit(main())

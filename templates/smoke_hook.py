"""Counts and measures optimizer steps from inside a training's process, and waits behind the last to be ended.

It waits for torch to be imported and hangs itself on torch's own hook behind the steps of all optimizers; torch is
never imported for that. Standard library alone (3.8 and later). `smoke.py` lays it on PYTHONPATH.
"""

import json
import os
import sys
import time
from pathlib import Path

FOLDER = "CARAVAN_SMOKE_FOLDER"
STEPS = "CARAVAN_SMOKE_STEPS"
LEFT_OUT = 2  # the first steps compile, allocate and fill caches: they say nothing about the others
WAIT_S = 300
GIB = 1024.0**3
WATCHED = "torch.optim.optimizer"


def install():
    """Count the steps of this process, once torch is imported; without the two variables nothing is done."""
    folder, steps = os.environ.get(FOLDER), os.environ.get(STEPS, "")
    if folder and steps.isdigit():
        sys.meta_path.insert(0, OnImport(Steps(folder, int(steps)).hang_on))


class OnImport:
    """A finder that finds nothing itself: it has `told` called with the module behind torch's optimizers."""

    def __init__(self, told):
        self.told = told

    def find_spec(self, name, path=None, target=None):
        """The spec that the other finders have, with `told` behind its execution."""
        if name != WATCHED:
            return None
        for finder in list(sys.meta_path):
            look = None if finder is self else getattr(finder, "find_spec", None)
            spec = look(name, path, target) if look else None
            if spec is not None:
                return self.followed(spec)
        return None

    def followed(self, spec):
        """The spec, with `told` called as soon as its module is there."""
        execute = getattr(spec.loader, "exec_module", None)
        if execute is not None:

            def executed(module):
                execute(module)
                self.told(module)

            spec.loader.exec_module = executed
        return spec


class Steps:
    """The steps of this process, written to a file of its own after each.

    A step is one of the optimizer that has made the most: with several, each makes its own.
    """

    def __init__(self, folder, wanted):
        self.folder, self.wanted = folder, wanted
        self.counts = {}
        self.done = 0
        self.since = None
        self.seen = {"rank": os.environ.get("RANK", "0")}

    def hang_on(self, module):
        """Register behind the steps of all optimizers, and note that. A torch before 2.0 has no such hook."""
        register = getattr(module, "register_optimizer_step_post_hook", None)
        if register is not None:
            register(self.behind)
            Path(self.folder, f"hooked-{os.getpid()}").touch()

    def behind(self, optimizer, args, kwargs):
        """Behind a step. Nothing that goes wrong here may end the training."""
        del args, kwargs
        try:
            self.step(id(optimizer))
        except Exception as error:  # noqa: BLE001 - around us is somebody else's program, and it must go on
            sys.stderr.write(f"caravan: smoke: a step was not measured: {error!r}\n")

    def step(self, optimizer):
        """Count a step; behind the last the process ends."""
        count = self.counts[optimizer] = self.counts.get(optimizer, 0) + 1
        if count <= self.done:
            return
        self.done = count
        last = count >= self.wanted
        if last or count == LEFT_OUT:
            synchronize()
        now = time.time()
        self.seen["steps"] = count
        self.seen.setdefault("first_at", now)
        if count <= LEFT_OUT:
            self.since = now
        else:
            self.seen["seconds_per_step"] = max(0.0, now - self.since) / (count - LEFT_OUT)
        self.seen.update(gpu_memory())
        if last:
            self.seen.update(whole(), done=True)
        self.tell()
        if last:
            flush()
            time.sleep(WAIT_S)  # we are ended from outside, so that nothing begins that comes behind the training
            os._exit(0)

    def tell(self):
        """Write what is seen, under the final name only when it is whole."""
        path = Path(self.folder, f"measured-{os.getpid()}.json")
        part = path.with_suffix(".part")
        part.write_text(json.dumps(self.seen), encoding="utf-8")
        part.replace(path)


def cuda():
    """torch.cuda, where it is in use."""
    found = getattr(sys.modules.get("torch"), "cuda", None)
    return found if found is not None and found.is_available() else None


def synchronize():
    """Wait for what the GPU still has to do: else the time is that of handing it over."""
    gpus = cuda()
    if gpus is not None:
        gpus.synchronize()


def gpu_memory():
    """The largest memory of any GPU that this process has used, in GiB: what was in use, and what was held for it."""
    gpus = cuda()
    if gpus is None:
        return {}
    places = range(gpus.device_count())
    return {
        "reserved_gib": max([gpus.max_memory_reserved(n) for n in places] or [0]) / GIB,
        "allocated_gib": max([gpus.max_memory_allocated(n) for n in places] or [0]) / GIB,
    }


def whole():
    """How many steps the whole training has, where a usual trainer is on the stack, and whether that number is fixed:
    else it comes from the data's size and the number of processes.
    """
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        mine = getattr(owner, "__dict__", {})
        for steps, fixed in (of_trainer(owner), of_lightning(owner), of_lightning(mine.get("trainer"))):
            if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0:
                return {"total_steps": steps, "fixed": fixed}
        frame = frame.f_back
    return {}


def of_trainer(owner):
    """transformers' Trainer, and what is built on it."""
    if not any(c.__name__ == "Trainer" and c.__module__.startswith("transformers.") for c in type(owner).__mro__):
        return None, False
    limit = getattr(getattr(owner, "args", None), "max_steps", -1)
    return getattr(getattr(owner, "state", None), "max_steps", None), isinstance(limit, int) and limit > 0


def of_lightning(owner):
    """Lightning's Trainer."""
    if type(owner).__name__ != "Trainer" or not type(owner).__module__.startswith(("lightning.", "pytorch_lightning.")):
        return None, False
    limit = getattr(owner, "max_steps", -1)
    return getattr(owner, "estimated_stepping_batches", None), isinstance(limit, int) and limit > 0


def flush():
    """Let what was printed be seen."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue

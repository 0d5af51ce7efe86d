"""Drives the product as a person does, by its command line, over a built-in cluster of its own: jobs that train."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan.values.base import Json
from tests.train.conftest import ROOT, environment

EXAMPLE = ROOT / "examples" / "tiny-qwen"
PROMPT = "Fine-tune the tiny model with LoRA on data/train.jsonl"
LIMIT_S = 1800.0  # a hang; a run takes a minute, and many where much else runs


@dataclass(frozen=True)
class Run:
    """How a run ended: what it printed, and its training's outputs."""

    exit_code: int
    document: dict[str, Any]
    said: str
    outputs: Path

    def rows(self) -> list[dict[str, Any]]:
        """The metrics that the script logged, each step's last line."""
        text = (self.outputs / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def series(self, name: str) -> list[float]:
        return [row[name] for row in self.rows() if name in row]

    def told(self) -> str:
        """What a person reads who has to find out why it did not end as it should."""
        return f"{json.dumps(self.document, indent=1)[-4000:]}\n{self.said[-4000:]}"


class Site:
    """A home of Caravan, with the cluster that begins with its first run."""

    def __init__(self, home: Path, python: Path) -> None:
        self.home, self.python = home, python
        self.environment = environment(CARAVAN_HOME=str(home), CARAVAN_MEMORY="false", CARAVAN_LOOK_UP="0")

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of the product."""
        command = [sys.executable, str(ROOT / "main.py"), *words]
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, source: Path, *words: str, prompt: str = PROMPT, **sets: Json) -> subprocess.Popen[str]:
        """Start a run; `sets` are fields of the plan, with `__` for a dot."""
        usual = {"setup.python": str(self.python), "env.OMP_NUM_THREADS": "1"}  # threads that wait for each other spin
        told = {**usual, **{name.replace("__", "."): value for name, value in sets.items()}}
        options = [
            w
            for name, value in told.items()
            for w in ("--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
        ]
        common = ("--prompt", prompt, "--codebase-path", str(source), "--cluster", "local", "--yes", "--json")
        return self.start(*common, *words, *options)

    def ended(self, process: subprocess.Popen[str]) -> Run:
        """Wait for the end of a run."""
        out, said = process.communicate(timeout=LIMIT_S)
        document = json.loads(out) if out.strip() else {}
        outputs = self.home / "runs" / str(document.get("run_id", "none")) / "outputs"
        return Run(process.returncode, document, said, outputs)

    def run(self, source: Path, *words: str, **more: Any) -> Run:
        return self.ended(self.begin(source, *words, **more))

    def trained(self) -> Iterator[tuple[int, Path]]:
        """Process ids of trainings of this site, and the directory each was started in."""
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
                cwd = (place / "cwd").readlink()
            except OSError:
                continue
            if any(w.endswith(b"caravan_train/train.py") for w in words[1:3]) and cwd.is_relative_to(self.home):
                yield int(place.name), cwd

    def close(self) -> None:
        """End the cluster."""
        process = self.start("cluster", "down")
        process.communicate(timeout=LIMIT_S)


def repository(place: Path, model: Path) -> Path:
    """The example with its model made already: a run need not make it again."""
    shutil.copytree(
        EXAMPLE, place, ignore=shutil.ignore_patterns("make_model.py", "tiny-model", "README.md", "__pycache__")
    )
    shutil.copytree(model, place / "tiny-model")
    return place


def once(ready: Callable[[], bool], process: subprocess.Popen[str] | None) -> None:
    """Wait until something is so; the process, where there is one, must live until then."""
    until = time.monotonic() + LIMIT_S
    while not ready():
        if time.monotonic() > until or (process is not None and process.poll() is not None):
            out, said = ("", "")
            if process is not None:
                process.kill()
                out, said = process.communicate()
            raise AssertionError(f"it did not come to that: {out[-3000:]}\n{said[-3000:]}")
        time.sleep(0.02)


def steps(folder: Path) -> int:
    """How many steps the training of a run's folder has logged."""
    try:
        lines = (folder / "outputs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return 0
    found = 0
    for line in lines:
        try:
            found = max(found, int(json.loads(line).get("step", 0)))
        except ValueError:  # being written
            continue
    return found


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)

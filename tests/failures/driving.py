"""Drives the product in this process over a real built-in cluster: real graph, real store, real jobs as processes.

The cluster's node pools: `default` has room and no GPU, `cards` declares GPUs, `containers` runs docker tasks with the
images that it declares, `small` has almost no memory.
"""

import io
import json
import shutil
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from caravan.agent.state import RunState
from caravan.cluster.local import control
from caravan.terminal.app import run
from caravan.terminal.streams import Terminal
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.plan import TrainingPlan
from machine import SystemClock
from main import Application

REPOSITORIES = Path(__file__).resolve().parent / "repositories"
CARD_MIB = 24564
_LONG = 20.0  # seconds: a wait as long is a repair's, shorter ones are between two looks at the cluster


def _node(name: str, pool: str, drivers: dict[str, Any], **more: Any) -> dict[str, Any]:
    usual = {"cpu_mhz": 64_000, "cores": 16, "memory_mb": 4096, "disk_mb": 200_000}
    attributes = {"kernel.name": "linux", "cpu.arch": "amd64"}
    return {"name": name, "node_pool": pool, "attributes": attributes, "drivers": drivers, **usual, **more}


def _docker(*images: str) -> dict[str, Any]:
    return {"docker": {"runtimes": ["runc"], "images": list(images)}}


_CARDS = [{"vendor": "nvidia", "type": "gpu", "model": "NVIDIA GeForce RTX 4090", "memory_mib": CARD_MIB, "count": 2}]
INVENTORY = {
    "about": "declared machines for failures",
    "nodes": [
        _node("room", "default", {"raw_exec": {}, "exec": {}}),
        _node("desk", "cards", {"raw_exec": {}}, devices=_CARDS, meta={"card_mib": str(CARD_MIB)}),
        _node("box-1", "containers", _docker("local/python:3.11", "local/busybox:1")),
        _node("box-2", "containers", _docker("local/python:3.12"), memory_mb=100),
        _node("closet", "small", {"raw_exec": {}}, memory_mb=160),
    ],
}


HOLDER = """
job "{name}" {{
  type = "batch"
  node_pool = "{pool}"
  group "hold" {{
    task "hold" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sh"
        args = ["-c", "until [ -e '{gate}' ]; do sleep 0.05; done"]
      }}
      resources {{
        {resources}
      }}
    }}
  }}
}}
"""


class HurriedClock(SystemClock):
    """The real time, but a repair's wait is only noted in `waited`; `meanwhile` happens instead."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.meanwhile: Callable[[], None] | None = None

    def sleep(self, seconds: float) -> None:
        if seconds < _LONG:
            time.sleep(seconds)
            return
        self.waited.append(seconds)
        if self.meanwhile is not None:
            self.meanwhile()


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code, the program's document, the agent's last state, all logs of its tasks together."""

    code: int
    document: dict[str, Any]
    state: RunState
    logs: str
    said: str
    waited: list[float] = field(default_factory=list)

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return list(self.document["attempts"])

    @property
    def classes(self) -> list[str | None]:
        """The failure class of each attempt, None for one that went well."""
        return [a["diagnosis"]["failure"] if a["diagnosis"] else None for a in self.attempts]

    @property
    def plan(self) -> TrainingPlan:
        """The last plan."""
        return self.state.need_plan()

    @property
    def diagnosis(self) -> Diagnosis:
        """The last cause, also of a failure before anything was deployed."""
        assert self.state.diagnosis is not None, self.said
        return self.state.diagnosis

    def changed(self, number: int = 1) -> dict[str, list[Any]]:
        """What the repair after that attempt changed: path → [before, after]."""
        return dict(self.attempts[number - 1]["changed"])

    def succeeded(self, *classes: FailureClass) -> "Ended":
        """Check that it ended well after failures of these classes."""
        assert self.document["status"] == "succeeded", self.told()
        assert self.classes == [*classes, None], self.told()
        assert self.code == 0
        return self

    def escalated(self, failure: FailureClass, *, attempts: int = 1) -> "Ended":
        """Check that it was handed to a person with that cause, after so many attempts."""
        assert self.code == 3, self.told()
        assert self.diagnosis.failure is failure, self.told()
        assert len(self.attempts) == attempts, self.told()
        return self

    def asks(self, failure: FailureClass, *, attempts: int = 1) -> "Ended":
        """Check that a repair is offered to a person after so many attempts, because nobody may take it for them."""
        assert self.code == 3, self.told()
        assert self.document["status"] == "waiting", self.told()
        assert self.document["question"]["kind"] == "approval", self.told()
        assert self.classes == [failure] * attempts, self.told()
        assert self.state.answered is not None, self.told()
        assert self.state.answered.failure is failure, self.told()
        return self

    def told(self) -> str:
        """Everything that helps to see what went wrong."""
        attempts = [
            (c, a["outcome"]["reason"], a["repair"], a["changed"])
            for c, a in zip(self.classes, self.attempts, strict=True)
        ]
        lines = [f"exit {self.code}, {self.document['status']}: {self.document['detail']}"]
        lines += [str(a) for a in attempts]
        return "\n".join([*lines, f"question: {self.document['question']}", f"logs:\n{self.logs}", self.said])


class Site:
    """A state directory with its running cluster, and the repositories that are tried on it."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home = home
        home.mkdir(parents=True)
        inventory = home / "inventory.json"
        inventory.write_text(json.dumps(INVENTORY))
        self.cluster = control.start(home / "cluster", inventory=inventory, environment=environment)

    def close(self) -> None:
        control.stop(self.home / "cluster")

    def run(
        self, repository: Path, *options: str, memory_mb: int | None = 64, clock: HurriedClock | None = None
    ) -> Ended:
        """The main job with `--yes --json`; the environment must name this state directory."""
        words = ["--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local", "--yes"]
        if memory_mb is not None:
            words += ["--set", f"resources.memory_mb={memory_mb}"]
        return self._command([*words, *options], clock or HurriedClock())

    def resume(self, ended: Ended, *options: str) -> Ended:
        """Go on with a run that waits."""
        return self._command(["resume", ended.document["run_id"], *options], HurriedClock())

    @contextmanager
    def held(self, gate: Path, pool: str, resources: str) -> Iterator[None]:
        """Another job, placed and running, that keeps room of a pool until the file `gate` is there."""
        name = f"holder-{uuid.uuid4().hex[:8]}"
        body = HOLDER.format(name=name, pool=pool, gate=gate, resources=resources)
        job = self.ask("POST", "/v1/jobs/parse", {"JobHCL": body, "Canonicalize": True})
        self.ask("POST", "/v1/jobs", {"Job": job})
        self._until(lambda: any(a["ClientStatus"] == "running" for a in self.ask("GET", f"/v1/job/{name}/allocations")))
        try:
            yield
        finally:
            self.ask("DELETE", f"/v1/job/{name}?purge=true")

    @contextmanager
    def freed_when_asked_for(self, gate: Path) -> Iterator[None]:
        """Touch `gate` as soon as a job of the product waits for room."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                if any(j["Status"] == "pending" for j in self.ask("GET", "/v1/jobs?prefix=caravan-")):
                    gate.touch()
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _until(self, so: Callable[[], bool]) -> None:
        while not so():
            time.sleep(0.02)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The cluster's answer to a request."""
        headers = {"X-Nomad-Token": self.cluster.token()}
        answer = requests.request(method, self.cluster.address + path, json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def _command(self, words: list[str], clock: HurriedClock) -> Ended:
        app = Application()
        app.clock = clock
        out, err = io.StringIO(), io.StringIO()
        code = run(app, [*words, "--json"], Terminal(io.StringIO(), out, err))
        assert out.getvalue(), err.getvalue()
        document = json.loads(out.getvalue())
        assert "run_id" in document, document
        with app.driver() as driver:
            state = driver.state(document["run_id"])
        assert state is not None
        logs = self.home / "runs" / document["run_id"] / "logs"
        text = "".join(f.read_text() for f in sorted(logs.iterdir())) if logs.is_dir() else ""
        return Ended(code, document, state, text, err.getvalue(), clock.waited)


def copied(name: str, folder: Path, called: str = "") -> Path:
    """A copy of a repository of these tests, under another name if wanted."""
    target = folder / (called or name)
    shutil.copytree(REPOSITORIES / name, target)
    return target


def edited(file: Path, *changes: tuple[str, str]) -> None:
    """Replace parts of a file, each of which must be there."""
    text = file.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


def documented(repository: Path, command: str) -> Path:
    """The repository, with a README that starts the training by that command."""
    (repository / "README.md").write_text(f"# Training\n\n    {command}\n")
    return repository


def wheel(folder: Path, distribution: str, files: dict[str, str]) -> None:
    """A wheel of pure Python files, as `pip` finds it offline in a folder."""
    name = distribution.replace("-", "_")
    info = f"{name}-1.0.dist-info"
    written = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*written, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in {**written, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)


def sets(values: Mapping[str, Any]) -> list[str]:
    """`--set` options for plan paths."""
    return [word for path, value in values.items() for word in ("--set", f"{path}={_text(value)}")]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

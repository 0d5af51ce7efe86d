"""One scenario, run as a person would run it: a process of the product's own, a state directory, a built-in cluster.

Everything that it starts is ended by its process id, also when it hangs or is interrupted. It judges nothing.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import requests

from bench.fault_places import PORT, SERVER, WORK, placed
from bench.fault_score import Record
from bench.scenario import Scenario
from caravan.cluster.local import control
from caravan.cluster.local.control import LocalCluster
from caravan.runs.store import SqlStore
from caravan.values.errors import CaravanError
from machine import SystemClock

ROOT = Path(__file__).resolve().parent.parent
_LOOK_S = 0.3
_TOLD = 4000  # characters of what a run told that are kept
_MANY = 400  # outputs that are listed


class World:
    """The directory of a scenario: `repo`, `home` (CARAVAN_HOME and HOME), `work`, `inventory.json`.

    A scenario has the same one in every arm, made anew: for the product it is the same repository.
    """

    def __init__(self, place: Path, scenario: Scenario, *, wheels: Path, server: str, memory: Path | None) -> None:
        self.place, self.scenario = place, scenario
        self.home, self.repo, self.work = place / "home", place / "repo", place / "work"
        shutil.rmtree(place, ignore_errors=True)
        for folder in (self.home / "caravan", self.repo, self.work):
            folder.mkdir(parents=True)
        places = {SERVER: server, PORT: server.rpartition(":")[2], WORK: str(self.work)}
        for path, text in placed(dict(scenario.files), places).items():
            file = self.repo / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            if text.startswith("#!"):
                file.chmod(0o755)
        (place / "inventory.json").write_text(json.dumps(placed(scenario.inventory, places)))
        (place / "answers.json").write_text(json.dumps(placed(dict(scenario.answers), places)))
        if memory is not None:
            memory.mkdir(parents=True, exist_ok=True)
            (self.home / "caravan" / "memory").symlink_to(memory, target_is_directory=True)
            # One person's runs: a lesson that no run of the store has taught is asked about before it is followed.
            SqlStore(memory / "caravan.db", SystemClock()).close()  # made here, so that no two runs make it at once
            (self.home / "caravan" / "caravan.db").symlink_to(memory / "caravan.db")
        self.environment = self._environment(wheels, memory is not None, placed(dict(scenario.environment), places))
        self.command = self._command(places)

    def _environment(self, wheels: Path, remembers: bool, more: Mapping[str, str]) -> dict[str, str]:
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "UV_OFFLINE": "1", "UV_FIND_LINKS": str(wheels)}
        found = {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CARAVAN_HOME": str(self.home / "caravan"),
            "CARAVAN_MEMORY": "1" if remembers else "0",
            "CARAVAN_LOOK_UP": "0",
        }
        return {**found, **pip, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}

    def _command(self, places: Mapping[str, str]) -> list[str]:
        scenario = self.scenario
        waits = any(change in ("wait", "retry_elsewhere") for change in scenario.changed)
        program = ["-m", "bench.fault_child"] if waits else ["main.py"]
        words = ["--prompt", placed(scenario.prompt, places), "--codebase-path", str(self.repo)]
        words += ["--cluster", "local", "--yes", "--json"]
        for one in scenario.sets:
            words += ["--set", placed(one, places)]
        if scenario.answers:
            words += ["--answers", str(self.place / "answers.json")]
        return [sys.executable, *program, *words]

    def logs(self) -> Iterator[Path]:
        yield from (self.home / "caravan" / "cluster" / "allocs").glob("*/alloc/logs/*")


def run_scenario(world: World, arm: str, *, patience: float, over: Event) -> Record | None:
    """Run it; None when `over` was set meanwhile."""
    begun = time.monotonic()
    home = world.home / "caravan" / "cluster"
    cluster = control.start(home, inventory=world.place / "inventory.json", environment=world.environment)
    try:
        out, err = world.place / "out.json", world.place / "err.txt"
        with out.open("wb") as told, err.open("wb") as said:
            child = subprocess.Popen(
                world.command, cwd=ROOT, env=world.environment, stdin=subprocess.DEVNULL, stdout=told, stderr=said,
                start_new_session=True,
            )  # fmt: skip
            hung = _wait(child, world, cluster, world.scenario.seconds * patience, over)
        if over.is_set():
            return None
        seconds = time.monotonic() - begun
        return _record(world, arm, child.returncode, seconds, hung=hung)
    finally:
        _end(world, cluster)


def _wait(child: subprocess.Popen[bytes], world: World, cluster: LocalCluster, limit: float, over: Event) -> bool:
    """Wait for the child's end; True: it was ended because it took too long."""
    end, disturbed = time.monotonic() + limit, not world.scenario.disturbed
    while child.poll() is None:
        if not disturbed:
            disturbed = _disturb(world, cluster)
        late = time.monotonic() > end
        if late or over.is_set():
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return late
        over.wait(_LOOK_S)
    return False


def _disturb(world: World, cluster: LocalCluster) -> bool:
    """Stop the allocation whose task has said the scenario's words; whether it was done."""
    for log in world.logs():
        if world.scenario.disturbed in log.read_text(errors="replace"):
            address = f"{cluster.address}/v1/allocation/{log.parents[2].name}/stop"
            requests.post(address, headers={"X-Nomad-Token": cluster.token()}, timeout=30).raise_for_status()
            return True
    return False


def _end(world: World, cluster: LocalCluster) -> None:
    """End the cluster and whatever is left of the scenario: processes whose directory or words name its place."""
    with suppress(CaravanError):
        control.stop(world.home / "caravan" / "cluster")
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
        ours = process.pid == cluster.pid or any(f"{world.place}/" in f"{word}/" for word in words)
        if ours and process.pid != os.getpid():
            with suppress(psutil.Error):
                process.kill()


def _record(world: World, arm: str, code: int, seconds: float, *, hung: bool) -> Record:
    text = (world.place / "out.json").read_text(errors="replace").strip()
    said = (world.place / "err.txt").read_text(errors="replace")[-_TOLD:]
    try:
        document = json.loads(text) if text else {}
    except json.JSONDecodeError:
        document = {}
    plan = document.pop("plan", None) or {}
    document.pop("estimate", None)
    provenance = {path: origin["by"] for path, origin in (plan.get("provenance") or {}).items()}
    return Record(
        scenario=world.scenario.name,
        arm=arm,
        document=document,
        code=code,
        seconds=round(seconds, 1),
        deployed=_deployed(world, document.get("run_id")),
        outputs=_outputs(world, document),
        provenance=provenance,
        hung=hung,
        said=said,
    )


def _deployed(world: World, run_id: str | None) -> int:
    """Deployments that the store knows."""
    database = world.home / "caravan" / "caravan.db"
    if run_id is None or not database.is_file():
        return 0
    store = SqlStore(database, SystemClock())
    try:
        return len(store.deployments(run_id))
    finally:
        store.close()


def _outputs(world: World, document: dict[str, Any]) -> dict[str, int]:
    """The files of the outputs' place, of the last allocation's outputs and of host volumes: path → bytes."""
    sink = document.get("outputs") or {}
    found: dict[str, int] = {}
    places = [Path(sink["location"])] if sink.get("kind") == "path" and sink.get("location") else []
    ran = [a["outcome"]["alloc_id"] for a in document.get("attempts") or () if a.get("outcome")]
    cluster = world.home / "caravan" / "cluster"
    places += [cluster / "allocs" / str(ran[-1]) / "alloc" / "data"] if ran and ran[-1] else []
    places += [cluster / "volumes", world.work]
    for place in places:
        if place.is_dir():
            for file in sorted(place.rglob("*"))[:_MANY]:
                if file.is_file() and not file.is_symlink():
                    found[str(file.relative_to(place))] = file.stat().st_size
    return found

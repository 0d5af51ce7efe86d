"""A built-in cluster for tests: its process, requests to it, and small jobs."""

import copy
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import requests

from caravan.cluster.local.control import LocalCluster, start, stop

NODE: dict[str, Any] = {
    "name": "node-1",
    "cpu_mhz": 8000,
    "cores": 4,
    "memory_mb": 4096,
    "disk_mb": 20000,
    "attributes": {"kernel.name": "linux", "cpu.arch": "amd64"},
    "drivers": {
        "raw_exec": {},
        "exec": {},
        "docker": {"runtimes": ["runc"], "images": ["local/python:3.11"]},
    },
    "devices": [{"vendor": "nvidia", "type": "gpu", "model": "Fake 24GB", "memory_mib": 24564, "count": 2}],
    "host_volumes": {"data": {"path": "/srv/data", "read_only": True}},
}
UNKNOWN = "00000000-0000-0000-0000-000000000000"
NO_DAEMON = "unix:///nowhere/docker.sock"
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/",
    "MY_TOKEN": "hush",
    "PIP_INDEX_URL": "x",
    "DOCKER_HOST": NO_DAEMON,
}
PYTHON = sys.executable


class Bench:
    """The cluster of one home. Waiting is done by the cluster's blocking queries."""

    def __init__(self, home: Path, *nodes: dict[str, Any], docker: str = NO_DAEMON) -> None:
        self.home = home
        self._environment = {**ENVIRONMENT, "DOCKER_HOST": docker}
        self._inventory = home.parent / f"{home.name}.json"
        self._inventory.write_text(json.dumps({"about": "tests", "nodes": list(nodes) or [NODE]}))
        self._count = 0
        self.up()

    def up(self) -> LocalCluster:
        self.cluster = start(self.home, inventory=self._inventory, environment=self._environment)
        return self.cluster

    def crash(self) -> None:
        """Kill the cluster's process as no process can prevent, and wait for its end."""
        process = psutil.Process(self.cluster.pid)
        process.kill()
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process.wait(20)

    def down(self) -> bool:
        return stop(self.home)

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Any:
        """The response to a request; `token` in place of the right one."""
        sent = {"X-Nomad-Token": self.cluster.token() if token is None else token, **headers}
        return requests.request(method, self.cluster.address + path, json=body, headers=sent, timeout=60)

    def get(self, path: str) -> Any:
        got = self.ask("GET", path)
        assert got.status_code == 200, got.text
        return got.json()

    def job(self, command: str = "true", **task: Any) -> dict[str, Any]:
        """A batch job of one raw_exec task that runs a shell command, without restarts."""
        self._count += 1
        resources = {"CPU": 100, "MemoryMB": 128} | task.pop("Resources", {})
        driver = task.pop("Driver", "raw_exec")
        main = {
            "Name": "train",
            "Driver": driver,
            "Config": {"command": "/bin/sh", "args": ["-c", command]},
            "KillTimeout": 1_000_000_000,
            "Resources": resources,
            **task,
        }
        group = {
            "Name": "train",
            "Tasks": [main],
            "RestartPolicy": {"Attempts": 0, "Mode": "fail", "Interval": 600_000_000_000, "Delay": 1_000_000},
            "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
        }
        return {"ID": f"job-{self._count}", "Type": "batch", "TaskGroups": [group]}

    def register(self, job: dict[str, Any], **more: Any) -> Any:
        got = self.ask("POST", "/v1/jobs", {"Job": job, **more})
        assert got.status_code == 200, got.text
        return got.json()

    def wait(self, path: str, good: Callable[[Any], bool]) -> Any:
        """What a path shows as soon as it is as wanted."""
        index = 0
        for _ in range(200):
            got = self.ask("GET", f"{path}{'&' if '?' in path else '?'}index={index}&wait=1s")
            assert got.status_code == 200, got.text
            if good(got.json()):
                return got.json()
            index = int(got.headers["X-Nomad-Index"])
        raise AssertionError(f"{path} never became as wanted; last: {got.text[:2000]}")

    def alloc(self, job_id: str, *states: str) -> dict[str, Any]:
        """The job's newest allocation as soon as its status is one of `states`."""
        path = f"/v1/job/{job_id}/allocations"
        listed = self.wait(path, lambda all_: bool(all_) and all_[0]["ClientStatus"] in states)
        return dict(self.get(f"/v1/allocation/{listed[0]['ID']}"))

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Register a job and wait for the end of its allocation."""
        self.register(copy.deepcopy(job))
        return self.alloc(job["ID"], "complete", "failed", "lost")

    def log(self, alloc: dict[str, Any], stream: str = "stdout", more: str = "") -> str:
        got = self.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=train&type={stream}&plain=true{more}")
        assert got.status_code == 200, got.text
        return str(got.text)


def events(alloc: dict[str, Any], task: str = "train") -> list[dict[str, Any]]:
    """The task's events."""
    return list(alloc["TaskStates"][task]["Events"])


def kinds(alloc: dict[str, Any], task: str = "train") -> list[str]:
    """The types of the task's events."""
    return [e["Type"] for e in events(alloc, task)]

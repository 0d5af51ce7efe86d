"""The built-in cluster's cache: its size, and that nobody's job loses it."""

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from caravan.cluster.local import cache, control
from caravan.values.errors import UsageError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "cluster" / "cache" / "environments" / "one"
    folder.mkdir(parents=True)
    (folder / "torch.so").write_bytes(b"x" * 1000)
    os.link(folder / "torch.so", folder / "again.so")
    (folder / "link").symlink_to(folder / "torch.so")
    return tmp_path / "cluster"


def test_what_is_linked_counts_once_and_is_removed(home: Path) -> None:
    assert cache.size(home) == 1000
    assert cache.clear(home) == 1000
    assert not cache.place(home).exists()
    assert (cache.size(home), cache.clear(home)) == (0, 0)


def test_a_removal_that_was_cut_off_is_brought_to_its_end(home: Path) -> None:
    cache.place(home).rename(home / "cache-removed")
    assert cache.size(home) == 1000
    assert cache.clear(home) == 1000
    assert not (home / "cache-removed").exists()


def job(*words: str) -> dict[str, Any]:
    task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": words[0], "args": list(words[1:])}}
    group = {"Name": "g", "Count": 1, "Tasks": [task]}
    return {"Job": {"ID": "waits", "Name": "waits", "Type": "batch", "Datacenters": ["*"], "TaskGroups": [group]}}


def test_while_a_job_lives_it_stays(home: Path) -> None:
    running = control.start(home, inventory=None, environment=dict(os.environ))
    try:
        assert control.living(running) == []
        with requests.Session() as session:
            session.headers["X-Nomad-Token"] = running.token()
            session.put(f"{running.address}/v1/jobs", json=job("/bin/sleep", "600"), timeout=60).raise_for_status()
            for index in range(1, 1000):
                if control.living(running):
                    break
                session.get(f"{running.address}/v1/allocations", params={"index": str(index), "wait": "5s"}, timeout=60)
        with pytest.raises(UsageError, match="may be in use by waits"):
            cache.clear(home)
        assert cache.size(home) == 1000
    finally:
        control.stop(home)
    assert cache.clear(home) == 1000

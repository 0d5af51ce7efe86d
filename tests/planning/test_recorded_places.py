"""What a real Nomad's dry run says of jobs that it can't place, with its inventory: standing and choices."""

from typing import Any

import pytest

from caravan.cluster.snapshots import to_placement_failures
from caravan.planning.alternatives import nearest
from caravan.planning.catalogue import Prices
from caravan.planning.estimate import estimate
from caravan.planning.standing import Standing, place_of
from caravan.values.job import ClusterFacts, ClusterKind, DriverFacts, HostVolume, NodeFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from tests.fakes.recordings import load

SEMVER = {"attribute": "${attr.driver.docker.version}", "operator": "semver", "value": ">= 99.0.0"}
MODELS = {"kind": "host", "source": "models", "destination": "/models", "read_only": False}

CASES: dict[str, tuple[dict[str, Any], Standing, dict[str, Any] | None]] = {
    # recording: what the job asks for, how it stands, what the first choice that changes something changes
    "gpu-too-many": ({"resources.gpus": 9}, Standing.NEVER, {"resources.gpus": 2}),
    "gpu-too-much-memory": ({"resources.gpus": 1, "resources.gpu_memory_mib": 122880}, Standing.NEVER, None),
    "gpu-busy-then-free": ({"resources.gpus": 1, "driver": "raw_exec"}, Standing.NOT_NOW, None),
    "two-nodes-partly-placed": ({"resources.gpus": 1, "driver": "raw_exec"}, Standing.NOT_NOW, None),
    # Nomad calls a node exhausted that never had as much: the inventory knows better.
    "memory-exhausted": ({"resources.memory_mb": 2_000_000}, Standing.NEVER, {"resources.memory_mb": 23998}),
    "datacenter-wrong": ({"datacenters": ["mars"]}, Standing.NEVER, {"datacenters": ["dc1"]}),
    "constraint-unmet": ({"constraints": [SEMVER]}, Standing.NEVER, {"constraints": []}),
    "driver-missing": ({"driver": "podman"}, Standing.NEVER, {"driver": "docker"}),
    "host-volume-missing": ({"mounts": [MODELS]}, Standing.NEVER, None),
}


def facts_of(recording: Any) -> ClusterFacts:
    nodes = []
    for given in recording["inventory"]["nodes"]:
        known = {name: value for name, value in given.items() if name in NodeFacts.model_fields}
        drivers = {name: DriverFacts(runtimes=tuple(d.get("runtimes") or ())) for name, d in given["drivers"].items()}
        volumes = {name: HostVolume(read_only=v["read_only"]) for name, v in given["host_volumes"].items()}
        known |= {"id": given["name"], "drivers": drivers, "host_volumes": volumes}
        nodes.append(NodeFacts.model_validate(known))
    return ClusterFacts(kind=ClusterKind.NOMAD, address="recorded", nodes=tuple(nodes))


def failures_of(recording: Any) -> Any:
    answers = [e["answer"] for e in recording["exchanges"] if "/plan" in e["path"]]
    return next(a["FailedTGAllocs"] for a in answers if isinstance(a, dict) and a.get("FailedTGAllocs"))


@pytest.mark.parametrize("name", CASES)
def test_recorded(name: str) -> None:
    wishes, standing, change = CASES[name]
    recording = load(name)
    facts, failures = facts_of(recording), to_placement_failures(failures_of(recording))
    usual = {"resources.memory_mb": 128, "resources.cpu_mhz": 200, "resources.disk_mb": 300}
    start = TrainingPlan(goal="g", command=("train.py",), driver="docker", image="local/python:3.11")
    changes = [PlanChange(path=p, value=v, by=Author.USER) for p, v in {**usual, **wishes}.items()]
    plan = apply_changes(start, changes)
    place = place_of(plan, facts, failures)
    assert place.standing is standing, place
    prices = Prices()
    choices = nearest(
        plan, facts, estimate=lambda p: estimate(p, facts, prices=prices), prices=prices, failures=failures
    )
    if standing is Standing.NOT_NOW:
        assert choices[0].changes == ()
        assert choices[0].text.startswith("wait: GPUs are in use on gpu-node-1")
    found = [{c.path: c.value for c in choice.changes} for choice in choices if choice.changes]
    assert (found[0] if found else None) == change

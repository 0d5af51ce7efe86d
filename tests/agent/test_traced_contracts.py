"""The traced ports are ports: what every Cluster and every Memory does, they do."""

import inspect
from typing import Any

import pytest

from caravan.agent.traced import TracedCluster, TracedMemory, TracedReasoner
from caravan.ports import Cluster, Memory, Reasoner
from tests import test_memory
from tests.cluster import test_contract
from tests.fakes.clock import FakeClock
from tests.fakes.memory import FakeMemory
from tests.fakes.tracer import MemoryTracer


@pytest.fixture
def bench() -> test_contract.Bench:
    return test_contract.Bench(TracedCluster(test_contract.fake(), MemoryTracer(FakeClock()), FakeClock()))


@pytest.fixture
def clock() -> test_memory.StillClock:
    return test_memory.StillClock()


@pytest.fixture
def memory(clock: test_memory.StillClock) -> Memory:
    return TracedMemory(FakeMemory(clock, secrets=(test_memory.KNOWN_SECRET,)), MemoryTracer(FakeClock()))


def contract(module: Any, port: str, *fixtures: str) -> dict[str, Any]:
    """The tests of a module that are about a port alone, under names of their own."""
    found = {}
    for name, test in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(test):
            asked = set(inspect.signature(test).parameters) - parameters(test)
            if port in asked and asked <= {port, *fixtures}:
                found[f"test_{port}_{name.removeprefix('test_')}"] = test
    assert len(found) >= 8, f"hardly a contract in {module.__name__}"
    return found


def parameters(test: Any) -> set[str]:
    """The arguments that `parametrize` gives."""
    marks = [mark.args[0] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    return {name.strip() for names in marks for name in (names.split(",") if isinstance(names, str) else names)}


globals().update(contract(test_contract, "bench"), **contract(test_memory, "memory", "clock"))


@pytest.mark.parametrize(
    ("port", "traced"), [(Cluster, TracedCluster), (Memory, TracedMemory), (Reasoner, TracedReasoner)]
)
def test_signatures_are_the_ports(port: type, traced: type) -> None:
    asked = {n: m for n, m in vars(port).items() if not n.startswith("_") and inspect.isfunction(m)}
    assert asked
    for name, method in asked.items():
        assert inspect.signature(getattr(traced, name)) == inspect.signature(method), name

"""The estimate as a person sees it: time and cost, each with what it rests on."""

from io import StringIO

from rich.console import Console

from caravan.planning.catalogue import Prices
from caravan.planning.estimate import estimate
from caravan.terminal.summary import estimate_table
from caravan.values.estimate import Estimate
from caravan.values.job import ClusterFacts, ClusterKind, DeviceGroup, DriverFacts, NodeFacts
from caravan.values.plan import CodeSource, TrainingPlan


def _shown(said: Estimate) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=400).print(estimate_table(said))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def _plan(**more: object) -> TrainingPlan:
    fields: dict[str, object] = {
        "goal": "train", "command": ("train.py",), "code": CodeSource(kind="image"),
        "model": {"id": "Qwen/Qwen2.5-7B"}, "resources": {"gpus": 1},
        "training": {"method": "lora", "micro_batch": 1, "epochs": 1, "max_len": 512}, **more,
    }  # fmt: skip
    return TrainingPlan.model_validate(fields)


def _facts(model: str) -> ClusterFacts:
    device = DeviceGroup(vendor="nvidia", type="gpu", model=model, memory_mib=81920, count=1)
    node = NodeFacts(id="1", name="a", drivers={"docker": DriverFacts()}, devices=(device,))
    return ClusterFacts(kind=ClusterKind.NOMAD, address="https://n.example", nodes=(node,))


def test_time_and_cost_stand_with_what_they_rest_on() -> None:
    facts = _facts("NVIDIA A100-SXM4-80GB")
    lines = _shown(estimate(_plan(dataset={"examples": 1000}), facts, prices=Prices()))
    time = next(n for n, line in enumerate(lines) if line.startswith("time "))
    cost = next(n for n, line in enumerate(lines) if line.startswith("cost "))
    assert lines[time + 1].startswith("1,000 steps, ")
    assert "of it beside the steps" in lines[time + 2]
    assert time + 2 < cost
    assert lines[cost + 1].startswith("2.04 USD a GPU hour (typical list price")


def test_what_is_not_known_is_said_with_what_to_give() -> None:
    lines = _shown(estimate(_plan(), _facts("Frobnicator 9000"), prices=Prices()))
    assert "time not known" in lines
    assert "cost not known" in lines
    assert any(line.startswith("the speed of its GPU type isn't known") for line in lines)
    assert any("prices.toml" in line for line in lines)

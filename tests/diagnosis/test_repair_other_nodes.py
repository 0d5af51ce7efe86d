"""Repairs that look at what the cluster's nodes are: whose driver is newer, which GPUs compute in bf16."""

from typing import Any

from caravan.values.failure import ChangePlan, FailureClass, PastCase
from caravan.values.plan import Author, PlanChange
from tests.diagnosis.repair_scenes import diffs, facts, gpu, node, plan, rungs

F = FailureClass


def cards(**drivers: str) -> Any:
    """Nodes by their names with a card each; an empty driver is one that is not known."""
    device = gpu("NVIDIA GeForce RTX 3090", 24)
    return facts(*(node(n, devices=(device.model_copy(update={"driver": d or None}),)) for n, d in drivers.items()))


def against_an_old_driver(where: Any, **more: Any) -> list[dict[str, Any]]:
    start = plan({"resources.gpus": 1}, driver="docker")
    return diffs(rungs(F.CUDA_DRIVER_TOO_OLD, start, where, node_name="a", **more), start)


def test_a_node_with_a_newer_driver_comes_before_another_torch() -> None:
    found = against_an_old_driver(
        cards(a="470.82.01", b="550.90.07", c="470.82.01"), files={"requirements.txt": "torch\n"}
    )
    assert found[0] == {"exclude_nodes": ["a", "c"]}


def test_where_no_driver_is_known_to_be_newer_the_job_s_own_torch_comes_first() -> None:
    same = cards(a="470.82.01", b="470.82.01")
    torch = {"setup.pip": ["torch<2.1"]}
    assert against_an_old_driver(same, files={"requirements.txt": "torch\n"}) == [torch]
    some = against_an_old_driver(cards(a="470.82.01", b=""), files={"requirements.txt": "torch\n"})
    assert some[-1] == {"exclude_nodes": ["a"]}
    assert against_an_old_driver(cards(a="", b=""))[0] == {"exclude_nodes": ["a"]}  # it installs none


def test_a_lesson_brings_no_bf16_to_a_gpu_without_it() -> None:
    start = plan({"training.precision": "fp16", "resources.gpus": 1})
    learnt = PastCase(
        id="0123456789",
        score=0.9,
        text="t",
        failure=F.NUMERIC_DIVERGENCE,
        fingerprint="f",
        same=("base_model", "method", "entry_point", "driver"),
        changes=(PlanChange(path="training.precision", value="bf16", by=Author.REPAIR),),
        before={"training.precision": "fp16"},
        worked=True,
    )
    more: dict[str, Any] = {"cases": (learnt,), "fingerprint": "f"}
    old, new = (facts(node(devices=(gpu(model, 16),))) for model in ("Tesla T4", "NVIDIA L4"))
    assert all(
        change.value != "bf16"
        for repair in rungs(F.NUMERIC_DIVERGENCE, start, old, **more)
        for change in (repair.changes if isinstance(repair, ChangePlan) else ())
    )
    assert diffs(rungs(F.NUMERIC_DIVERGENCE, start, new, **more), start)[0] == {"training.precision": "bf16"}

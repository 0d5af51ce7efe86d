"""Repairs that look at what the cluster's nodes are: whose driver is newer, which GPUs compute in bf16."""

from typing import Any

from caravan.values.failure import ChangePlan, FailureClass, PastCase, Wait
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


def waits(**details: str) -> list[int]:
    found = rungs(F.NETWORK_UNREACHABLE, plan(), facts(node("a")), node_name="a", details=details)
    assert all(isinstance(repair, Wait) for repair in found)
    return [repair.seconds for repair in found if isinstance(repair, Wait)]


def test_a_service_that_is_away_is_waited_for_longer_each_time() -> None:
    assert waits(host="hub.example", kind="down") == [60, 600]
    assert waits(host="hub.example", kind="refused") == [60, 600]


def test_what_time_does_not_mend_is_told_early() -> None:
    assert waits(host="hub.example", kind="dns") == [60]
    assert waits(host="hub.example", kind="tls") == []


def test_another_node_is_tried_before_a_long_wait() -> None:
    where = facts(node("a"), node("b"))
    details = {"host": "hub.example", "kind": "timeout"}
    found = rungs(F.NETWORK_UNREACHABLE, plan(), where, node_name="a", details=details)
    assert [repair.kind for repair in found] == ["wait", "retry_elsewhere", "wait"]

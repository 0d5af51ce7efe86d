"""Ladders: bounded, never a change that changes nothing, and always at an end."""

from hypothesis import given
from hypothesis import strategies as st

from caravan.diagnosis.repair import LADDERS, ladder, mendable
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, PastCase, RetryElsewhere, Wait
from caravan.values.job import ClusterFacts, ClusterKind, DeviceGroup, DriverFacts, NodeFacts
from caravan.values.plan import Resources, TrainingPlan, apply_changes

F = FailureClass


def facts(*nodes: NodeFacts) -> ClusterFacts:
    return ClusterFacts(kind=ClusterKind.BUILTIN, address="a", nodes=nodes)


def node(name: str = "n1", memory_mb: int = 8192, **fields: object) -> NodeFacts:
    base = {"id": name, "name": name, "memory_mb": memory_mb, "cpu_mhz": 8000, "drivers": {"docker": DriverFacts()}}
    return NodeFacts.model_validate(base | fields)


def plan(**resources: object) -> TrainingPlan:
    return TrainingPlan(goal="g", command=("python", "t.py"), resources=Resources.model_validate(resources))


def diagnosis(failure: FailureClass, **fields: object) -> Diagnosis:
    return Diagnosis.model_validate({"failure": failure, "confidence": 1.0, "cause": "c"} | fields)


def rungs(failure: FailureClass, where: ClusterFacts, of: TrainingPlan, **fields: object) -> tuple[object, ...]:
    return ladder(diagnosis(failure, **fields), of, (), where, lambda _: None)


def test_memory_is_doubled_up_to_the_largest_node() -> None:
    here = facts(node(memory_mb=5000), node("n2", memory_mb=3000))
    (repair,) = rungs(F.HOST_MEMORY_OOM, here, plan(memory_mb=2048))
    assert isinstance(repair, ChangePlan)
    mended = apply_changes(plan(memory_mb=2048), repair.changes)
    assert mended.resources.memory_mb == 4096
    (repair,) = rungs(F.HOST_MEMORY_OOM, here, mended)
    assert isinstance(repair, ChangePlan)
    mended = apply_changes(mended, repair.changes)
    assert mended.resources.memory_mb == 5000
    assert rungs(F.HOST_MEMORY_OOM, here, mended) == ()


def test_oversubscribed_memory_becomes_reserved_memory() -> None:
    before = plan(memory_mb=1000, memory_max_mb=3000)
    (repair,) = rungs(F.HOST_MEMORY_OOM, facts(node()), before)
    assert isinstance(repair, ChangePlan)
    after = apply_changes(before, repair.changes).resources
    assert (after.memory_mb, after.memory_max_mb) == (6000, None)


def test_nodes_that_can_not_take_the_job_do_not_count() -> None:
    nodes = (
        node(memory_mb=2048),
        node("drained", 90_000, eligible=False),
        node("podman", 90_000, drivers={"podman": {}}),
        node("pool", 90_000, node_pool="infer"),
    )
    asked = plan(memory_mb=2048).model_copy(update={"node_pool": "default"})
    assert rungs(F.HOST_MEMORY_OOM, facts(*nodes), asked) == ()


def test_an_interrupted_job_goes_elsewhere_where_there_is_an_elsewhere() -> None:
    alone = rungs(F.INTERRUPTED_EXTERNALLY, facts(node()), plan(), node_name="n1")
    assert [r.avoid_nodes for r in alone if isinstance(r, RetryElsewhere)] == [()]
    both = rungs(F.INTERRUPTED_EXTERNALLY, facts(node(), node("n2")), plan(), node_name="n1")
    assert [r.avoid_nodes for r in both if isinstance(r, RetryElsewhere)] == [("n1",)]


def test_waiting_helps_only_where_a_node_is_large_enough() -> None:
    gpu = DeviceGroup(vendor="nvidia", type="gpu", model="A100", count=2, memory_mib=81920)
    here = facts(node(devices=(gpu,)))
    assert all(isinstance(r, Wait) for r in rungs(F.PLACEMENT_RESOURCES_EXHAUSTED, here, plan(memory_mb=8000)))
    assert rungs(F.PLACEMENT_RESOURCES_EXHAUSTED, here, plan(memory_mb=8000))
    assert rungs(F.PLACEMENT_RESOURCES_EXHAUSTED, here, plan(memory_mb=9000)) == ()
    assert rungs(F.PLACEMENT_GPU_UNAVAILABLE, here, plan(gpus=2))
    assert rungs(F.PLACEMENT_GPU_UNAVAILABLE, here, plan(gpus=3)) == ()
    assert rungs(F.PLACEMENT_GPU_UNAVAILABLE, here, plan(gpus=1, gpu_model="H100")) == ()
    assert rungs(F.PLACEMENT_GPU_UNAVAILABLE, here, plan(gpus=1, gpu_memory_mib=90_000)) == ()


def test_what_does_not_fit_is_left_out_and_an_escalation_has_no_rungs() -> None:
    oom = diagnosis(F.HOST_MEMORY_OOM)
    assert ladder(oom, plan(), (), facts(node()), lambda _: False) == ()
    assert ladder(oom, plan(), (), facts(node()), lambda _: True)
    assert rungs(F.HOST_MEMORY_OOM, facts(node()), plan(), escalate=True) == ()


def test_a_change_that_failed_before_is_still_there_but_last() -> None:
    oom = diagnosis(F.HOST_MEMORY_OOM, fingerprint="f")
    (repair,) = ladder(oom, plan(), (), facts(node()), lambda _: None)
    assert isinstance(repair, ChangePlan)
    past = PastCase(id="1", fingerprint="f", text="t", changes=repair.changes, worked=False)
    assert ladder(oom, plan(), (past,), facts(node()), lambda _: None) == (repair,)


NODES = st.lists(
    st.builds(
        node,
        st.sampled_from(["n1", "n2", "n3"]),
        st.integers(0, 200_000),
        eligible=st.booleans(),
        disk_mb=st.integers(0, 10_000),
    ),
    max_size=3,
)
PLANS = st.builds(
    plan,
    memory_mb=st.integers(10, 200_000),
    memory_max_mb=st.none() | st.integers(10, 200_000),
    gpus=st.integers(0, 2),
    cores=st.none() | st.integers(1, 8),
)


@given(st.sampled_from(F), PLANS, NODES, st.sampled_from(["", "n1", "n9"]))
def test_ladders_never_propose_nothing_new_and_always_end(
    failure: FailureClass, start: TrainingPlan, nodes: list[NodeFacts], name: str
) -> None:
    here, seen = facts(*nodes), {start.digest()}
    for _ in range(64):
        found = rungs(failure, here, start, node_name=name)
        assert len(set(map(repr, found))) == len(found)
        assert found == () or mendable(failure)
        changes = [r for r in found if isinstance(r, ChangePlan)]
        if not changes:
            return
        start = apply_changes(start, changes[0].changes)
        assert start.digest() not in seen
        seen.add(start.digest())
    raise AssertionError("the ladder has no end")


def test_ladders_are_against_causes_that_a_job_change_or_a_retry_can_mend() -> None:
    assert F.UNKNOWN not in LADDERS
    assert F.USER_CODE_BUG not in LADDERS

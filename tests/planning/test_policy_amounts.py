"""What a policy's limits count of a job: what Nomad reserves at once, and the same for the plan as for its job."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.cluster.local.resources import usage_of
from caravan.hcl import parse_hcl, render_hcl
from caravan.planning.claim import Claim
from caravan.planning.claims import plan_claims
from caravan.planning.environments import prepares
from caravan.planning.job_claims import job_claims
from caravan.planning.jobspec import to_job_spec
from caravan.planning.policy import job_denials, plan_denials
from caravan.values.plan import Launch, Limits, Mount, Resources, Setup, TrainingPlan
from caravan.values.policy import Policies, Policy, PolicyFile
from tests.fakes.cluster import one_node

FACTS = one_node(gpus=2, builtin=False)
AMOUNTS = ("gpus", "memory_mb", "cpu_mhz", "cores", "disk_mb")
PREPARED = TrainingPlan(
    goal="g",
    command=("train.py",),
    image="pytorch/pytorch:2.5",
    env={"CARAVAN_CACHE_DIR": "/cache"},
    mounts=(Mount(kind="host", source="cache", destination="/cache", read_only=False),),
    setup=Setup(pip=("x",)),
    resources=Resources(memory_mb=6000, cpu_mhz=3000),
)


def job_of(plan: TrainingPlan) -> Any:
    spec = to_job_spec(plan, FACTS, run_id="r", attempt=1, job_id="caravan-r-a01", templates=TEMPLATES)
    return parse_hcl(render_hcl(spec, templates=TEMPLATES))


def amounts(claims: Any) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for claim in claims:
        assert isinstance(claim, Claim)
        name = claim.rule.removeprefix("limits.")
        if name in AMOUNTS:
            assert name not in found
            found[name] = claim.number
    return found


def of_tasks(*tasks: tuple[str, bool, dict[str, Any]]) -> dict[str, float | None]:
    """The amounts of a job of one group with these tasks: hook (`main`: none), sidecar, resources."""
    listed = [
        {
            "Name": f"t{n}",
            "Driver": "docker",
            "Resources": need,
            "Lifecycle": {"Hook": hook, "Sidecar": sidecar} if hook != "main" else None,
        }
        for n, (hook, sidecar, need) in enumerate(tasks)
    ]
    return amounts(job_claims({"Type": "batch", "TaskGroups": [{"Name": "g", "Count": 2, "Tasks": listed}]}))


def test_a_prestart_task_takes_no_room_beside_the_training() -> None:
    assert prepares(PREPARED)
    exact = Policies(
        files=(PolicyFile(path="p", policy=Policy.model_validate({"limits": {"memory_mb": 6000, "cpu_mhz": 3000}})),)
    )
    assert plan_denials(PREPARED, FACTS, exact) == ()
    assert job_denials(job_of(PREPARED), exact) == ()


def test_tasks_that_do_run_at_once_are_added() -> None:
    need = {"MemoryMB": 100, "CPU": 10}
    larger = {"MemoryMB": 500, "CPU": 50}
    told = of_tasks(("main", False, need), ("main", False, need), ("poststart", False, need))
    assert (told["memory_mb"], told["cpu_mhz"]) == (600, 60)
    told = of_tasks(("main", False, need), ("prestart", False, larger), ("poststop", False, need))
    assert (told["memory_mb"], told["cpu_mhz"]) == (1000, 100)
    told = of_tasks(("main", False, need), ("prestart", False, larger), ("prestart", True, need))
    assert (told["memory_mb"], told["cpu_mhz"]) == (1200, 120)
    assert of_tasks(("prestart", False, {"MemoryMaxMB": -1}), ("main", False, need))["memory_mb"] == float("inf")


def test_what_a_task_is_given_for_good_is_added_whenever_it_runs() -> None:
    """Nomad gives GPUs and cores to each task for as long as its allocation lives."""
    need = {"Cores": 2, "Devices": [{"Name": "nvidia/gpu", "Count": 3}]}
    told = of_tasks(("prestart", False, need), ("main", False, need))
    assert (told["gpus"], told["cores"]) == (12, 8)


TASKS = st.tuples(
    st.sampled_from(["main", "prestart", "poststart", "poststop"]),
    st.booleans(),
    st.fixed_dictionaries({"MemoryMB": st.integers(10, 900), "CPU": st.integers(1, 900)}),
)


@given(st.lists(TASKS, min_size=1, max_size=5))
def test_the_count_is_what_the_built_in_cluster_reserves(tasks: list[tuple[str, bool, dict[str, Any]]]) -> None:
    tasks = [(hook, sidecar and hook != "main", need) for hook, sidecar, need in tasks]
    held = {
        f"t{n}": {
            "Memory": {"MemoryMB": need["MemoryMB"]},
            "Cpu": {"CpuShares": need["CPU"], "ReservedCores": None},
            "Devices": None,
        }
        for n, (_, _, need) in enumerate(tasks)
    }
    lives = {
        f"t{n}": {"Hook": hook, "Sidecar": sidecar} for n, (hook, sidecar, _) in enumerate(tasks) if hook != "main"
    }
    shared = {"DiskMB": 300, "Ports": []}
    used = usage_of([{"AllocatedResources": {"Tasks": held, "TaskLifecycles": lives, "Shared": shared}}])
    told = of_tasks(*tasks)
    assert (told["memory_mb"], told["cpu_mhz"]) == (2 * used.memory, 2 * used.cpu)


PLANS = st.builds(
    lambda resources, nodes, pip, prestart: PREPARED.model_copy(
        update={
            "resources": resources,
            "launch": Launch(nodes=nodes),
            "setup": Setup(pip=("x",) if pip else (), prestart=prestart),
            "limits": Limits(max_run_s=60),
        }
    ),
    st.builds(
        Resources,
        gpus=st.integers(0, 2),
        memory_mb=st.integers(10, 9000),
        memory_max_mb=st.none() | st.integers(10, 9000),
        cpu_mhz=st.integers(1, 9000),
        cores=st.none() | st.integers(1, 8),
        disk_mb=st.integers(300, 9000),
    ),
    st.integers(1, 3),
    st.booleans(),
    st.none() | st.booleans(),
)


@settings(deadline=None, max_examples=40)
@given(PLANS)
def test_a_plan_claims_what_its_job_claims(plan: TrainingPlan) -> None:
    assert amounts(plan_claims(plan, FACTS)) == amounts(job_claims(job_of(plan)))

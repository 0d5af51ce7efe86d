"""The nearest plans that fit: on small clusters, each kind of step, their order, and that each choice really fits."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.planning.alternatives import CHOICES, nearest
from caravan.planning.catalogue import Prices
from caravan.planning.checks import check_place
from caravan.planning.command import unpassed
from caravan.planning.estimate import estimate
from caravan.planning.flags import known_flags
from caravan.planning.standing import Standing, could_take, place_of
from caravan.values.dialogue import PlanChoice
from caravan.values.job import ClusterFacts, NodeFacts, PlacementFailure
from caravan.values.plan import Author, Mount, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import HyperparameterFlag
from tests.planning.scenes import bare_plan, llm_profile, node, nomad, volumes

A100, L4, T4, H100 = "NVIDIA A100-SXM4-80GB", "NVIDIA L4", "Tesla T4", "NVIDIA H100 80GB HBM3"
IN_USE = PlacementFailure(
    group="train",
    nodes_evaluated=1,
    nodes_exhausted=1,
    nodes_available={"dc1": 1},
    dimension_exhausted={"devices: no devices match request": 1},
)
NO_SUCH = PlacementFailure(
    group="train", nodes_evaluated=1, nodes_filtered=1, constraint_filtered={"missing devices": 1}
)
FLAGS = known_flags(
    llm_profile(
        key_hyperparameters={
            **llm_profile().key_hyperparameters,
            "gradient_accumulation": HyperparameterFlag(flag="--gradient_accumulation_steps", default=1),
        }
    )
)


def plan(by: Author = Author.USER, **values: Any) -> TrainingPlan:
    """A plan on docker; `values` with `__` for dots."""
    start = bare_plan(driver="docker", image="a/b:1", flags=FLAGS)
    return apply_changes(start, [PlanChange(path=p.replace("__", "."), value=v, by=by) for p, v in values.items()])


def found(of: TrainingPlan, facts: ClusterFacts, *failures: PlacementFailure, **more: Any) -> tuple[PlanChoice, ...]:
    prices = Prices()
    return nearest(
        of, facts, estimate=lambda p: estimate(p, facts, prices=prices), prices=prices, failures=failures, **more
    )


def values_of(choice: PlanChoice) -> dict[str, Any]:
    return {c.path: c.value for c in choice.changes}


def test_fewer_gpus_keep_the_effective_batch() -> None:
    here = nomad(node("a", (A100, 81920, 4)))
    asked = plan(resources__gpus=8, launch__nproc=8, training__grad_accum=2, limits__max_run_s=3600)
    (choice,) = found(asked, here, NO_SUCH)
    assert values_of(choice) == {"resources.gpus": 4, "launch.nproc": 4, "training.grad_accum": 4}
    assert choice.text == (
        "4 instead of 8 GPUs, effective batch kept by accumulation 2 → 4; "
        "about 2 times as long (the time limit stays 1 h), up to 8.16 USD"
    )
    assert choice.cost_usd == pytest.approx(8.16)
    assert {c.by for c in choice.changes} == {Author.USER}


def test_a_program_without_accumulation_is_told_its_smaller_batch() -> None:
    here = nomad(node("a", (A100, 81920, 4)))
    deaf = plan(resources__gpus=8).model_copy(update={"flags": {}})
    (choice,) = found(deaf, here, NO_SUCH)
    assert values_of(choice) == {"resources.gpus": 4}
    assert "the effective batch becomes 1/2" in choice.text


def test_other_types_the_cheapest_first() -> None:
    here = nomad(node("a", (L4, 23034, 1)), node("b", (A100, 81920, 1)), node("c", (T4, 15360, 1)))
    choices = found(plan(resources__gpus=1, resources__gpu_model="H100"), here, NO_SUCH)
    # Dollars for the work, not by the hour: the A100 does it in a seventh of the T4's time.
    assert [values_of(c)["resources.gpu_model"] for c in choices] == [L4, A100, T4]
    assert "USD an hour" in choices[0].text


def test_a_type_that_is_known_to_be_too_small_is_no_choice() -> None:
    here = nomad(node("a", (T4, 15360, 1)), node("b", (A100, 81920, 1)))
    large = plan(resources__gpus=1, resources__gpu_model=H100, model__id="Qwen/Qwen2.5-7B", training__method="lora")
    assert [values_of(c)["resources.gpu_model"] for c in found(large, here, NO_SUCH)] == [A100]


def test_another_pool_and_another_datacenter() -> None:
    here = nomad(node("c"), node("g", (A100, 81920, 2), node_pool="gpu"))
    (choice,) = found(plan(resources__gpus=1), here, NO_SUCH)
    assert values_of(choice) == {"node_pool": "gpu"}
    assert choice.text.startswith("in node pool gpu instead of default")
    (choice,) = found(plan(datacenters=["eu"]), nomad(node("c", datacenter="us")))
    assert values_of(choice) == {"datacenters": ["us"]}


def test_the_nodes_that_were_kept_away_from_are_the_last_ones() -> None:
    (choice,) = found(plan(exclude_nodes=["c"]), nomad(node("c")))
    assert values_of(choice) == {"exclude_nodes": []}


def test_another_pool_with_fewer_gpus_where_only_both_together_help() -> None:
    here = nomad(node("c"), node("g", (A100, 81920, 2), node_pool="gpu"))
    (choice,) = found(plan(resources__gpus=4), here, NO_SUCH)
    assert values_of(choice) == {"node_pool": "gpu", "resources.gpus": 2, "training.grad_accum": 2}


def test_less_room_only_as_far_as_the_estimate_allows() -> None:
    here = nomad(node("a", (A100, 81920, 1), memory_mb=24000))
    (choice,) = found(plan(resources__gpus=1, resources__memory_mb=64000), here)
    assert values_of(choice) == {"resources.memory_mb": 24000}
    assert "what it needs isn't known" in choice.text
    needing = plan(resources__gpus=1, resources__memory_mb=64000, model__id="Qwen/Qwen2.5-14B")
    assert found(needing, here) == ()  # the weights alone take more while they are loaded
    repaired = plan(Author.REPAIR, resources__memory_mb=64000)
    assert found(repaired, here) == ()  # less was too little already


def test_a_smaller_batch_before_adapters() -> None:
    here = nomad(node("a", (A100, 81920, 1)))
    wide = plan(resources__gpus=1, model__id="Qwen/Qwen2.5-1.5B", training__micro_batch=32, training__max_len=2048)
    first = found(wide, here)[0]
    assert values_of(first)["training.micro_batch"] < 32
    assert values_of(first)["training.grad_accum"] * values_of(first)["training.micro_batch"] == 32
    whole = plan(resources__gpus=1, model__id="Qwen/Qwen2.5-14B", training__method="full")
    whole = whole.model_copy(update={"flags": {**FLAGS, "training.method": "--method"}})
    methods = [values_of(c).get("training.method") for c in found(whole, here)]
    assert methods[0] == "lora"
    assert all(c.text.startswith(("LoRA", "QLoRA")) for c in found(whole, here))


def test_volumes_and_drivers() -> None:
    data = Mount(kind="host", source="data", destination="/data")
    here = nomad(node("a"), node("b", node_pool="store", host_volumes=volumes(data=True)))
    (choice,) = found(plan().model_copy(update={"mounts": (data,)}), here)
    assert values_of(choice) == {"node_pool": "store"}
    writing = data.model_copy(update={"read_only": False})
    assert found(plan().model_copy(update={"mounts": (writing,)}), here) == ()
    (choice,) = found(plan(), nomad(node("a", drivers="exec raw_exec")))
    assert values_of(choice) == {"driver": "exec"}  # never raw_exec, which isolates nothing


def test_a_constraint_that_no_node_meets_can_be_dropped() -> None:
    constraint = {"attribute": "${attr.driver.docker.version}", "operator": "semver", "value": ">= 99.0.0"}
    asked = plan(constraints=[constraint, {"attribute": "${attr.cpu.arch}", "operator": "=", "value": "amd64"}])
    unmet = PlacementFailure(
        group="train",
        nodes_filtered=1,
        constraint_filtered={"${attr.driver.docker.version} semver >= 99.0.0": 1},
    )
    (choice,) = found(asked, nomad(node("a")), unmet)
    assert [c["attribute"] for c in values_of(choice)["constraints"]] == ["${attr.cpu.arch}"]


def test_occupied_nodes_are_waited_for_first() -> None:
    here = nomad(node("a", (A100, 81920, 2)), node("b", (L4, 23034, 1)))
    choices = found(plan(resources__gpus=2, limits__queue_s=7200), here, IN_USE)
    assert choices[0].text == "wait: GPUs are in use on a; it waits for up to 2 h"
    assert choices[0].changes == ()
    assert values_of(choices[1])["resources.gpus"] == 1


def test_only_what_the_cluster_and_the_policy_take() -> None:
    here = nomad(node("a", (L4, 23034, 1)), node("b", (A100, 81920, 1)), node("c", (T4, 15360, 1)))
    asked = plan(resources__gpus=1, resources__gpu_model="H100")
    choices = found(
        asked,
        here,
        NO_SUCH,
        placed=lambda p: p.resources.gpu_model != L4,
        allowed=lambda p: p.resources.gpu_model != A100,
    )
    assert [values_of(c)["resources.gpu_model"] for c in choices] == [T4]


def test_no_gpu_anywhere() -> None:
    (choice,) = found(plan(resources__gpus=2), nomad(node("a")), NO_SUCH)
    assert values_of(choice)["resources.gpus"] == 0
    assert "on the CPU" in choice.text


@pytest.mark.parametrize(
    ("facts", "failures", "standing", "words"),
    [
        (nomad(node("a", (A100, 81920, 2))), (), Standing.FREE, ""),
        (nomad(node("a", (A100, 81920, 2))), (IN_USE,), Standing.NOT_NOW, "GPUs are in use on a"),
        (nomad(node("a", (A100, 81920, 2), eligible=False)), (), Standing.NOT_AS_THINGS_ARE, "a is drained or not"),
        (nomad(node("a", (A100, 81920, 2), ready=False)), (), Standing.NOT_AS_THINGS_ARE, "a is down"),
        (nomad(node("a", (A100, 81920, 1), eligible=False)), (), Standing.NEVER, "no node has all"),
        (nomad(node("a", (A100, 81920, 1))), (NO_SUCH,), Standing.NEVER, "missing devices"),
        (nomad(node("a", (A100, 81920, 2))), (NO_SUCH,), Standing.NEVER, "missing devices"),  # Nomad knows better
    ],
)
def test_never_not_as_things_are_not_now(
    facts: ClusterFacts, failures: tuple[PlacementFailure, ...], standing: Standing, words: str
) -> None:
    place = place_of(plan(resources__gpus=2), facts, failures)
    assert place.standing is standing
    assert words in place.text


def test_a_drained_node_that_would_do_is_named_among_the_problems() -> None:
    asked = plan(resources__gpus=2)
    awake = node("small", (A100, 81920, 1))
    (first, second) = check_place(asked, nomad(awake, node("big", (A100, 81920, 2), eligible=False)))
    assert "No node has 2 nvidia GPUs" in first
    assert "big is drained or not eligible, and would take it" in second


def test_what_only_several_nodes_have_together_is_no_place() -> None:
    here = nomad(node("a", (A100, 81920, 2), memory_mb=16000), node("b", (A100, 81920, 2), cpu_mhz=1000))
    asked = plan(resources__gpus=2, resources__memory_mb=64000, resources__cpu_mhz=8000)
    assert check_place(asked, here) == (
        "Each thing that the plan asks for is on some node, but no node has all of it.",
    )
    assert {tuple(values_of(c)) for c in found(asked, here)} == {("resources.memory_mb",)}


NODES = st.lists(
    st.builds(
        lambda number, gpu, count, pool, memory, awake: node(
            f"n{number}", (gpu[0], gpu[1], count), node_pool=pool, memory_mb=memory, eligible=awake
        ),
        st.integers(0, 99),
        st.sampled_from([(A100, 81920), (L4, 23034), (T4, 15360)]),
        st.integers(1, 8),
        st.sampled_from(["default", "gpu"]),
        st.sampled_from([8000, 64000, 512000]),
        st.booleans(),
    ),
    max_size=4,
    unique_by=lambda n: n.name,
)


@settings(deadline=None, max_examples=40)
@given(
    NODES,
    st.integers(0, 9),
    st.sampled_from([None, "H100", A100, L4]),
    st.sampled_from([None, "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B"]),
    st.sampled_from([4000, 100_000]),
    st.sampled_from([(), (IN_USE,), (NO_SUCH,)]),
)
def test_every_choice_is_another_plan_that_fits_a_node_and_the_estimate(
    nodes: list[NodeFacts],
    gpus: int,
    gpu_model: str | None,
    model: str | None,
    memory: int,
    failures: tuple[PlacementFailure, ...],
) -> None:
    facts = nomad(*nodes)
    asked = plan(
        resources__gpus=gpus,
        resources__gpu_model=gpu_model,
        model__id=model,
        resources__memory_mb=memory,
        training__micro_batch=4,
    )
    choices = found(asked, facts, *failures)
    assert len(choices) <= CHOICES
    assert len({c.text for c in choices}) == len(choices)
    for choice in choices:
        if not choice.changes:
            assert place_of(asked, facts, failures).standing is Standing.NOT_NOW
            continue
        other = apply_changes(asked, choice.changes)
        assert other.digest() != asked.digest()
        assert could_take(other, facts)
        assert estimate(other, facts, prices=Prices()).fits is not False
        assert set(unpassed(other)) <= set(unpassed(asked))
        assert "\n" not in choice.text

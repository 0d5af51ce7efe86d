"""The mechanism of the ladders, and the rungs against memory, numbers and placement."""

import pytest

from caravan.diagnosis.ladders.remembered import FAILED
from caravan.diagnosis.repair import LADDERS, ladder, mendable
from caravan.values.failure import FailureClass, PastCase, RetryElsewhere, Wait
from caravan.values.plan import Author
from caravan.values.repo import ScriptOption
from tests.diagnosis.repair_scenes import case, diffs, facts, gpu, mended, node, plan, profile, rungs

F = FailureClass


def memory(**values: object) -> dict[str, object]:
    return {f"resources.{name}": value for name, value in values.items()}


def test_memory_is_doubled_then_raised_faster_up_to_the_largest_node() -> None:
    here = facts(node(memory_mb=12_000), node("n2", memory_mb=3000))
    start = plan(memory(memory_mb=1024))
    first = mended(start, rungs(F.HOST_MEMORY_OOM, start, here)[0])
    second = mended(first, rungs(F.HOST_MEMORY_OOM, first, here)[0])
    third = mended(second, rungs(F.HOST_MEMORY_OOM, second, here)[0])
    assert [p.resources.memory_mb for p in (first, second, third)] == [2048, 8192, 12_000]
    assert not any("resources.memory_mb" in d for d in diffs(rungs(F.HOST_MEMORY_OOM, third, here), third))


def test_memory_goes_at_once_to_what_the_estimate_knows() -> None:
    values = {"model.id": "Qwen/Qwen2.5-7B", "resources.gpus": 1, "resources.memory_mb": 4096}
    start = plan(values, driver="docker")
    here = facts(node(memory_mb=64_000, devices=(gpu("NVIDIA A100-SXM4-80GB", 80),)))
    assert mended(start, rungs(F.HOST_MEMORY_OOM, start, here)[0]).resources.memory_mb > 20_000


def test_oversubscribed_memory_becomes_reserved_memory() -> None:
    before = plan(memory(memory_mb=1000, memory_max_mb=3000))
    after = mended(before, rungs(F.HOST_MEMORY_OOM, before, facts(node()))[0]).resources
    assert (after.memory_mb, after.memory_max_mb) == (6000, None)


def test_nodes_that_can_not_take_the_job_do_not_count() -> None:
    nodes = (
        node(memory_mb=2048),
        node("drained", 90_000, eligible=False),
        node("podman", 90_000, drivers={"podman": {}}),
        node("pool", 90_000, node_pool="infer"),
    )
    start = plan(memory(memory_mb=2048), flags={})
    assert rungs(F.HOST_MEMORY_OOM, start, facts(*nodes)) == ()


def test_where_a_worker_died_the_workers_go_first() -> None:
    start = plan({"training.num_workers": 8, "resources.memory_mb": 1024})
    at_limit = diffs(rungs(F.HOST_MEMORY_OOM, start, details={"where": "task"}), start)
    in_process = diffs(rungs(F.HOST_MEMORY_OOM, start, details={"where": "process"}), start)
    assert at_limit[:2] == [{"resources.memory_mb": 2048}, {"training.num_workers": 4}]
    assert in_process[:2] == [{"training.num_workers": 4}, {"resources.memory_mb": 2048}]
    second = mended(start, rungs(F.HOST_MEMORY_OOM, start, details={"where": "process"})[0])
    assert diffs(rungs(F.HOST_MEMORY_OOM, second, details={"where": "process"}), second)[0] == {
        "training.num_workers": 0
    }


def test_with_no_larger_node_the_batch_shrinks_and_the_effective_batch_stays() -> None:
    start = plan({"training.micro_batch": 8, "training.grad_accum": 2, "resources.memory_mb": 8192})
    (change,) = diffs(rungs(F.HOST_MEMORY_OOM, start, facts(node(memory_mb=8192))), start)
    assert change == {"training.micro_batch": 4, "training.grad_accum": 4}


OOM = {"total_gib": "23.6", "free_gib": "0.4", "tried_gib": "2.0"}


def gpu_plan(**values: object) -> dict[str, object]:
    return {"resources.gpus": 1, "training.micro_batch": 8, "training.grad_accum": 1, **values}


def test_from_a_batch_of_eight_three_attempts_suffice_without_an_estimate() -> None:
    here = facts(node(devices=(gpu("Card", 24),)))
    start = plan(gpu_plan())
    first = mended(start, rungs(F.CUDA_OOM, start, here, details=OOM)[0])
    second = mended(first, rungs(F.CUDA_OOM, first, here, details=OOM)[0])
    assert (first.training.micro_batch, first.training.grad_accum) == (4, 2)
    assert (second.training.micro_batch, second.training.grad_accum) == (1, 8)
    assert second.training.grad_checkpointing is True


def test_a_need_far_off_skips_a_step() -> None:
    start = plan(gpu_plan())
    far = rungs(F.CUDA_OOM, start, facts(node(devices=(gpu("Card", 24),))), details={**OOM, "tried_gib": "40"})
    assert mended(start, far[0]).training.micro_batch == 2


def test_the_estimate_picks_the_largest_batch_that_fits_in_the_light_of_what_was_seen() -> None:
    here = facts(node(memory_mb=64_000, devices=(gpu("NVIDIA A10G", 22.5),)))
    values = {"model.id": "Qwen/Qwen2.5-1.5B", "training.method": "lora", "training.max_len": 2048}
    start = plan({**gpu_plan(**{"training.micro_batch": 32}), **values})
    built = case(F.CUDA_OOM, start, here, details={"total_gib": "22.3", "free_gib": "0.2", "tried_gib": "3"})
    assert built.outlook.fits(start) is False
    first = mended(start, ladder(built)[0])
    assert built.outlook.fits(first) is True
    assert first.training.micro_batch * (first.training.grad_accum or 1) == 32  # type: ignore[operator]
    twice = {"training.micro_batch": first.training.micro_batch * 2}  # type: ignore[operator]
    assert (
        built.outlook.fits(
            mended(start, ladder(built)[0]).model_copy(
                update={"training": start.training.model_copy(update={"micro_batch": twice["training.micro_batch"]})}
            )
        )
        is False
    )


def test_a_larger_gpu_is_the_cheapest_that_is_larger() -> None:
    devices = (gpu("NVIDIA L4", 22.5), gpu("NVIDIA A40", 45), gpu("NVIDIA A100-SXM4-80GB", 80))
    here = facts(node(devices=devices))
    start = plan({"resources.gpus": 1, "resources.gpu_model": "NVIDIA L4"}, flags={})
    assert diffs(rungs(F.CUDA_OOM, start, here), start) == [{"resources.gpu_model": "NVIDIA A40"}]


def test_any_gpu_will_do_no_longer_means_a_smaller_one() -> None:
    here = facts(node(devices=(gpu("Small", 11), gpu("Large", 24))))
    start = plan(gpu_plan())
    assert diffs(rungs(F.CUDA_OOM, start, here, details=OOM), start)[0]["resources.gpu_memory_mib"] == 24166


def test_quantisation_and_shorter_sequences_come_last() -> None:
    start = plan(gpu_plan(**{"training.method": "lora", "training.max_len": 2048}), by=Author.REPOSITORY)
    changes = diffs(rungs(F.CUDA_OOM, start, facts(node(devices=(gpu("Card", 24),)))), start)
    order = [next(iter(sorted(change))) for change in changes]
    assert order[0] == "training.grad_accum"
    assert {"training.quant_bits": 4} in changes
    assert changes[-1] == {"training.grad_checkpointing": True, "training.max_len": 1024}


def test_what_the_program_can_not_be_told_is_no_repair() -> None:
    start = plan(gpu_plan(), flags={})
    assert (
        rungs(F.CUDA_OOM, start, facts(node(devices=(gpu("Card", 24),))), repo=profile(ScriptOption(flag="--x"))) == ()
    )


def test_without_an_option_for_accumulation_the_batch_alone_shrinks_and_says_so() -> None:
    start = plan(gpu_plan(), flags={"training.micro_batch": "--batch"})
    (first, *_) = rungs(F.CUDA_OOM, start, facts(node(devices=(gpu("Card", 24),))))
    assert diffs([first], start) == [{"training.micro_batch": 4}]
    assert "micro_batch 8 → 4" in first.why


def test_half_precision_overflows_to_bf16_or_fp32_and_then_steps_get_smaller() -> None:
    start = plan({"training.precision": "fp16", "training.lr": 3e-4, "resources.gpus": 1})
    new, old = (facts(node(devices=(gpu(model, 16),))) for model in ("NVIDIA L4", "Tesla T4"))
    assert diffs(rungs(F.NUMERIC_DIVERGENCE, start, new, details={"kind": "scale"}), start)[0] == {
        "training.precision": "bf16"
    }
    first = mended(start, rungs(F.NUMERIC_DIVERGENCE, start, old)[0])
    assert first.training.precision == "fp32"
    second = mended(first, rungs(F.NUMERIC_DIVERGENCE, first, old)[0])
    assert (second.training.lr, second.training.max_grad_norm) == (1e-4, 1.0)
    third = mended(second, rungs(F.NUMERIC_DIVERGENCE, second, old)[0])
    assert third.training.lr == 1e-5


@pytest.mark.parametrize(("method", "usual"), [("lora", 2e-4), ("full", 2e-5), (None, 2e-5)])
def test_a_rate_at_which_nothing_learns_becomes_a_usual_one(method: str | None, usual: float) -> None:
    start = plan({"training.lr": 1e20, "training.method": method})
    (first, *_) = rungs(F.NUMERIC_DIVERGENCE, start, facts(node()))
    assert diffs([first], start)[0]["training.lr"] == usual
    assert f"lr {usual:g} instead of 1e+20" in first.why
    high = plan({"training.lr": 2.4, "training.method": method})
    assert diffs(rungs(F.NUMERIC_DIVERGENCE, high, facts(node())), high)[0]["training.lr"] == 0.8


def test_an_interrupted_job_goes_elsewhere_where_there_is_an_elsewhere() -> None:
    alone = rungs(F.INTERRUPTED_EXTERNALLY, plan(), facts(node()), node_name="n1")
    assert [r.avoid_nodes for r in alone if isinstance(r, RetryElsewhere)] == [()]
    both = rungs(F.INTERRUPTED_EXTERNALLY, plan(), facts(node(), node("n2")), node_name="n1")
    assert [r.avoid_nodes for r in both if isinstance(r, RetryElsewhere)] == [("n1",)]


def test_waiting_helps_only_where_a_node_is_large_enough() -> None:
    here = facts(node(devices=(gpu("A100", 80, 2),)))

    def waits(failure: FailureClass, **values: object) -> int:
        return sum(isinstance(r, Wait) for r in rungs(failure, plan(memory(**values)), here))

    assert waits(F.PLACEMENT_RESOURCES_EXHAUSTED, memory_mb=8000)
    assert not waits(F.PLACEMENT_RESOURCES_EXHAUSTED, memory_mb=9000)
    assert waits(F.PLACEMENT_GPU_UNAVAILABLE, gpus=2)
    assert not waits(F.PLACEMENT_GPU_UNAVAILABLE, gpus=3)
    assert not waits(F.PLACEMENT_GPU_UNAVAILABLE, gpus=1, gpu_model="H100")
    assert not waits(F.PLACEMENT_GPU_UNAVAILABLE, gpus=1, gpu_memory_mib=90_000)


def test_waiting_does_not_help_a_group_that_has_no_room_even_on_empty_nodes() -> None:
    one, two = (facts(*(node(f"n{i}", devices=(gpu("A100", 80, 4),)) for i in range(count))) for count in (1, 2))
    wide = plan({**memory(gpus=4), "launch.nodes": 2, "launch.launcher": "torchrun"})
    kinds = [r.kind for r in rungs(F.PLACEMENT_GPU_UNAVAILABLE, wide, one)]
    assert "wait" not in kinds  # one node has its four, but not for two members
    assert rungs(F.PLACEMENT_GPU_UNAVAILABLE, wide, two)[0].kind == "wait"


def test_another_model_or_fewer_gpus() -> None:
    here = facts(node(devices=(gpu("NVIDIA L4", 22.5, 2),)))
    other = plan(memory(gpus=1, gpu_model="NVIDIA H200"))
    assert diffs(rungs(F.PLACEMENT_GPU_UNAVAILABLE, other, here), other) == [{"resources.gpu_model": "NVIDIA L4"}]
    many = plan({"resources.gpus": 4, "training.grad_accum": 2, "launch.nproc": 4})
    assert diffs(rungs(F.PLACEMENT_GPU_UNAVAILABLE, many, here), many) == [
        {"resources.gpus": 2, "launch.nproc": 2, "training.grad_accum": 4}
    ]


def test_more_than_any_node_has_becomes_what_there_is() -> None:
    start = plan(memory(memory_mb=9000, cpu_mhz=90_000))
    here = facts(node(memory_mb=8000))
    named = rungs(F.PLACEMENT_RESOURCES_EXHAUSTED, start, here, details={"dimension": "memory"})
    # The cluster names one dimension, but the plan would have no place with less of that one alone.
    assert diffs(named, start) == [{"resources.memory_mb": 8000, "resources.cpu_mhz": 8000}]
    needed = plan(memory(memory_mb=9000), by=Author.REPAIR)  # a failure said that less is too little
    assert diffs(rungs(F.PLACEMENT_RESOURCES_EXHAUSTED, needed, here), needed) == []


def test_an_escalation_has_no_rungs() -> None:
    assert rungs(F.HOST_MEMORY_OOM, plan(), escalate=True) == ()


def past(worked: bool, *repairs: object, **fields: object) -> PastCase:
    changes = [c for r in repairs for c in getattr(r, "changes", (r,))]
    base = {"id": "1", "failure": F.HOST_MEMORY_OOM, "fingerprint": "f", "text": "t"}
    return PastCase.model_validate({**base, "changes": changes, "worked": worked, **fields})


def change(path: str, value: object) -> dict[str, object]:
    return {"path": path, "value": value, "by": "repair"}


def test_a_change_that_failed_before_is_still_there_but_last() -> None:
    start = plan({"training.micro_batch": 8, "resources.memory_mb": 1024})
    usual = rungs(F.HOST_MEMORY_OOM, start, fingerprint="f")
    after = rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=(past(False, usual[0], failed=1),))
    assert after[:-1] == usual[1:]
    assert diffs(after[-1:], start) == diffs(usual[:1], start)
    assert after[-1].why == f"{usual[0].why} ({FAILED}: lesson 1)"


def test_room_that_was_too_little_here_comes_after_other_repairs_and_less_of_it_too() -> None:
    start = plan({"training.micro_batch": 8, "resources.memory_mb": 1024})
    few = past(
        False, change("resources.memory_mb", 3000), failed=1, fingerprint="g", same=("repository", "entry_point")
    )
    assert diffs(rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=(few,)), start)[-1] == memory(memory_mb=2048)
    elsewhere = few.model_copy(update={"same": ("entry_point", "framework", "driver")})
    usual = rungs(F.HOST_MEMORY_OOM, start, fingerprint="f")
    assert rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=(elsewhere,)) == usual
    alone = plan(memory(memory_mb=1024))  # nothing else is left: it is tried all the same
    only = rungs(F.HOST_MEMORY_OOM, alone, fingerprint="f", cases=(few,))
    assert diffs(only, alone)[-1] == memory(memory_mb=2048)


def test_what_worked_elsewhere_stands_behind_what_failed_here_alone() -> None:
    start = plan({"setup.python": "python3.9"})
    right = past(
        True, change("setup.python", "python3.11"), before={"setup.python": "python3.9"}, failure=F.UNKNOWN, id="2" * 8
    )
    wrong = past(False, change("setup.python", "python3.11"), failure=F.UNKNOWN, failed=1)
    (found,) = rungs(F.UNKNOWN, start, fingerprint="f", cases=(right, wrong))
    assert FAILED not in found.why
    here = wrong.model_copy(update={"same": CODE})
    (found,) = rungs(F.UNKNOWN, start, fingerprint="f", cases=(right, here))
    assert "lesson 22222222" in found.why
    assert found.why.endswith(f"({FAILED}: lesson 1)")


def test_nodes_of_another_cluster_are_not_left_out() -> None:
    start = plan()
    lesson = past(True, change("exclude_nodes", ["n7"]), before={"exclude_nodes": []}, failure=F.UNKNOWN)
    assert rungs(F.UNKNOWN, start, facts(node("n1"), node("n2")), fingerprint="f", cases=(lesson,)) == ()
    here = facts(node("n7"), node("n2"))
    assert diffs(rungs(F.UNKNOWN, start, here, fingerprint="f", cases=(lesson,)), start) == [{"exclude_nodes": ["n7"]}]


@pytest.mark.parametrize(("remembered", "taken"), [(6000, 6000), (1500, 2048), (900_000, 64_000)])
def test_remembered_room_is_never_less_than_the_ladder_would_give_nor_more_than_a_node_has(
    remembered: int, taken: int
) -> None:
    start = plan(memory(memory_mb=1024))
    lesson = past(True, change("resources.memory_mb", remembered), same=("code_digest",))
    first = rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=(lesson,))[0]
    assert mended(start, first).resources.memory_mb == taken
    assert ("worked before" in str(first)) is (taken != 2048)  # what the ladder says anyway is told as its own


def test_a_lesson_of_another_context_or_the_wrong_way_is_left() -> None:
    start = plan({"training.micro_batch": 4, "resources.memory_mb": 1024})
    usual = rungs(F.HOST_MEMORY_OOM, start, fingerprint="f")
    stranger = past(True, change("resources.memory_mb", 9000), same=("framework",))  # every kill has that fingerprint
    growing = past(True, change("training.micro_batch", 16), same=("code_digest",))
    of_another = past(True, change("command", ["other.py"]))
    for lesson in (stranger, growing, of_another):
        assert rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=(lesson,)) == usual


def test_a_lesson_of_like_context_needs_no_equal_fingerprint_and_its_own_files_only_count_for_its_own_code() -> None:
    start = plan(memory(memory_mb=1024))
    lesson = past(True, change("resources.memory_mb", 9000), fingerprint="g", same=("code_digest",))
    assert (
        mended(start, rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=(lesson,))[0]).resources.memory_mb == 9000
    )
    own = past(True, change("workdir", "sub"), same=("code_digest",))
    assert diffs(rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=(own,)), start)[0] == {"workdir": "sub"}


@pytest.mark.parametrize("path", ["code.location", "driver", "user", "limits.queue_s", "namespace", "network_mode"])
def test_where_and_as_whom_it_runs_is_no_matter_of_a_lesson(path: str) -> None:
    start = plan()
    lesson = past(
        True, change("resources.memory_mb", 9000), change(path, "x"), before={path: start.get(path)}, same=CODE
    )
    usual = rungs(F.HOST_MEMORY_OOM, start, fingerprint="f")
    assert rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=(lesson,)) == usual


CODE = ("code_digest",)


def test_a_rate_of_other_code_is_left_and_of_the_same_is_taken_in_proportion() -> None:
    start = plan({"training.lr": 3e-4})
    lesson = past(
        True,
        change("training.lr", 1e-7),
        before={"training.lr": 3e-7},
        failure=F.NUMERIC_DIVERGENCE,
        same=("entry_point", "framework", "driver"),
    )
    usual = rungs(F.NUMERIC_DIVERGENCE, start, fingerprint="f")
    assert rungs(F.NUMERIC_DIVERGENCE, start, fingerprint="f", cases=(lesson,)) == usual
    own = lesson.model_copy(update={"same": CODE})
    first = rungs(F.NUMERIC_DIVERGENCE, start, fingerprint="f", cases=(own,))[0]
    assert diffs([first], start) == [{"training.lr": 1e-4}]


@pytest.mark.parametrize("same", [(), CODE])
def test_a_remembered_batch_keeps_the_effective_one(same: tuple[str, ...]) -> None:
    start = plan({"training.micro_batch": 8, "training.grad_accum": 1})
    lesson = past(
        True,
        change("training.micro_batch", 4),
        change("training.grad_accum", 16),
        before={"training.micro_batch": 64, "training.grad_accum": 1},
        failure=F.CUDA_OOM,
        same=same,
    )
    usual = rungs(F.CUDA_OOM, start, fingerprint="f")
    found = rungs(F.CUDA_OOM, start, fingerprint="f", cases=(lesson,))
    if same:
        assert diffs(found, start)[0] == {"training.micro_batch": 4, "training.grad_accum": 2}
    else:
        assert found == usual


def test_a_change_is_made_where_the_plan_stands_as_it_stood() -> None:
    start = plan({"setup.python": "python3.9"})
    lesson = past(True, change("setup.python", "python3.11"), before={"setup.python": "python3.9"}, failure=F.UNKNOWN)
    other = lesson.model_copy(update={"before": {"setup.python": "python3.12"}})
    assert diffs(rungs(F.UNKNOWN, start, fingerprint="f", cases=(lesson,)), start) == [{"setup.python": "python3.11"}]
    assert rungs(F.UNKNOWN, start, fingerprint="f", cases=(other,)) == ()


def test_a_wrong_lesson_costs_one_attempt() -> None:
    start = plan({"training.micro_batch": 8, "resources.memory_mb": 1024})
    wrong = [past(True, change("training.micro_batch", n), id=str(n), same=("code_digest",)) for n in (4, 2)]
    first = rungs(F.HOST_MEMORY_OOM, start, fingerprint="f", cases=wrong)[0]
    assert diffs([first], start) == [{"training.micro_batch": 4}]
    second = mended(start, first)
    assert diffs(rungs(F.HOST_MEMORY_OOM, second, fingerprint="f", cases=wrong), second)[0] == {
        "resources.memory_mb": 2048
    }


def test_lists_are_added_to() -> None:
    start = plan({"setup.pip": ["."]})
    lesson = past(True, change("setup.pip", ["PyYAML"]), failure=F.UNKNOWN)
    first = rungs(F.UNKNOWN, start, fingerprint="f", cases=(lesson,))[0]
    assert mended(start, first).setup.pip == (".", "PyYAML")


def test_an_unknown_failure_has_only_what_memory_knows_by_its_fingerprint() -> None:
    known = past(True, change("shm_mb", 512), failure=F.UNKNOWN, same=("code_digest",))
    other = known.model_copy(update={"fingerprint": "g", "same": ("code_digest",)})
    assert rungs(F.UNKNOWN, plan(), fingerprint="f", cases=(other,)) == ()
    assert diffs(rungs(F.UNKNOWN, plan(), fingerprint="f", cases=(known,)), plan()) == [{"shm_mb": 512}]


def test_ladders_are_against_causes_that_a_job_change_or_a_retry_can_mend() -> None:
    assert F.UNKNOWN not in LADDERS
    assert F.USER_CODE_BUG not in LADDERS
    assert mendable(F.CUDA_OOM)

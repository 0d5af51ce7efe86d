"""The chooser: what it never changes, what it keeps exactly, that it takes the cheapest that fits; its table."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.planning.batches import effective_batch
from caravan.planning.catalogue import CATALOGUE, gpu_like, gpu_named, whole_of
from caravan.planning.choose import Choice, choose, chosen
from caravan.planning.draft import draft_plan
from caravan.planning.estimate import estimate
from caravan.planning.margin import holds
from caravan.planning.options import as_choices, table
from caravan.planning.smoke import speed_key
from caravan.values.estimate import Measured
from caravan.values.job import ClusterFacts
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.prices import Prices
from caravan.values.repo import HyperparameterFlag, Launcher, RepoProfile, ScriptOption
from caravan.values.run import SmokeResult
from tests.planning.scenes import GIT, OUTPUTS, llm_profile, node, nomad, request

A100, L4, T4 = ("NVIDIA A100-SXM4-80GB", 81920, 4), ("NVIDIA L4", 23034, 4), ("Tesla T4", 15360, 4)
PRICED = [(g.name, g.memory_mib) for g in CATALOGUE if g.usd_per_hour is not None and g.vendor == "nvidia"]
_CASE = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def profile_with(*flags: ScriptOption, **more: Any) -> RepoProfile:
    plain = llm_profile()
    return llm_profile(
        options=(*plain.options, ScriptOption(flag="--fp16", default=False, type="bool"), *flags), **more
    )


def plan_of(prompt: str, facts: ClusterFacts, profile: RepoProfile, *changes: PlanChange) -> TrainingPlan:
    plan = draft_plan(profile, request(prompt), facts, code=GIT, outputs=OUTPUTS, image="a/b:1")
    return apply_changes(plan, changes)


def choice_of(plan: TrainingPlan, facts: ClusterFacts, profile: RepoProfile | None, **more: Any) -> Choice:
    said = estimate(plan, facts, prices=Prices(), profile=profile)
    return chosen(plan, said, facts, prices=Prices(), profile=profile, **more)


def mine(path: str, value: Any, by: Author = Author.USER) -> PlanChange:
    return PlanChange(path=path, value=value, by=by)


@st.composite
def inventories(draw: st.DrawFn, least: int = 1) -> ClusterFacts:
    kinds = draw(
        st.lists(st.tuples(st.sampled_from(PRICED), st.sampled_from([1, 2, 4, 8])), min_size=least, max_size=4)
    )
    return nomad(*(node(f"n{i}", (name, size, count)) for i, ((name, size), count) in enumerate(kinds)))


@st.composite
def trainings(draw: st.DrawFn) -> tuple[str, tuple[PlanChange, ...]]:
    size, method = draw(st.sampled_from(["0.5B", "1.5B", "7B", "14B"])), draw(st.sampled_from(["LoRA on", "fine-tune"]))
    values: dict[str, Any] = {
        "training.micro_batch": draw(st.sampled_from([1, 2, 3, 8, 12])),
        "training.grad_accum": draw(st.sampled_from([1, 4, 5])),
        "training.max_len": draw(st.sampled_from([512, 2048])),
    }
    authors = st.sampled_from([Author.REPOSITORY, Author.DEFAULT, Author.USER, Author.REPAIR, Author.MEMORY])
    changes = [mine(path, value, draw(authors)) for path, value in values.items()]
    if draw(st.booleans()):
        changes.append(mine("training.grad_checkpointing", draw(st.booleans()), draw(authors)))
    return f"{method} Qwen/Qwen2.5-{size}", tuple(changes)


@_CASE
@given(trainings(), inventories())
def test_what_has_standing_and_the_update_stay(
    training: tuple[str, tuple[PlanChange, ...]], facts: ClusterFacts
) -> None:
    profile = profile_with()
    plan = plan_of(training[0], facts, profile, *training[1])
    kept = {p: plan.get(p) for p, o in plan.provenance.items() if o.by in STANDING | {Author.MEMORY}}
    found = choice_of(plan, facts, profile)
    after = apply_changes(plan, found.changes)
    assert {path: after.get(path) for path in kept} == kept
    assert effective_batch(after) == effective_batch(plan)
    assert found == choice_of(plan, facts, profile)
    if found.found:
        assert found.best is not None
        assert estimate(after, facts, prices=Prices(), profile=profile).fits
        assert found.best.safe == any(p.safe for p in found.found)
        again = apply_changes(after, choice_of(after, facts, profile).changes)
        assert again.digest() == after.digest()


@_CASE
@given(trainings(), inventories(), inventories())
def test_more_gpus_never_make_it_dearer(
    training: tuple[str, tuple[PlanChange, ...]], facts: ClusterFacts, others: ClusterFacts
) -> None:
    profile = profile_with()
    plan = plan_of(training[0], facts, profile, *training[1], mine("training.max_steps", 1000))
    renamed = tuple(n.model_copy(update={"id": f"m-{n.id}", "name": f"m-{n.name}"}) for n in others.nodes)
    more = facts.model_copy(update={"nodes": (*facts.nodes, *renamed)})
    few, many = choice_of(plan, facts, profile).best, choice_of(plan, more, profile).best
    if few is None or not few.safe or few.cost is None:
        return
    assert many is not None
    assert many.cost is not None
    assert many.safe
    assert many.cost.likely <= few.cost.likely * (1 + 1e-6)


@_CASE
@given(trainings(), inventories())
def test_no_other_point_that_is_safe_costs_less(
    training: tuple[str, tuple[PlanChange, ...]], facts: ClusterFacts
) -> None:
    profile = profile_with()
    found = choice_of(plan_of(training[0], facts, profile, *training[1]), facts, profile)
    safe = [p.update_usd for p in found.found if p.safe and p.update_usd is not None]
    if found.best is not None and found.best.safe and found.best.update_usd is not None:
        assert found.best.update_usd <= min(safe) * (1 + 1e-6)


def test_the_batch_is_made_smaller_only_where_an_accumulation_keeps_the_update() -> None:
    facts = nomad(node("a", (*L4[:2], 1)))
    plain = llm_profile()
    without = llm_profile(
        options=tuple(o for o in plain.options if "accumulation" not in o.flag),
        key_hyperparameters={
            **plain.key_hyperparameters,
            "gradient_accumulation": HyperparameterFlag(flag=None, default=None),
        },
    )
    plan = plan_of("LoRA on Qwen/Qwen2.5-1.5B", facts, without)
    assert "training.micro_batch" not in {c.path for c in choice_of(plan, facts, without).changes}


@pytest.mark.parametrize(("gpu", "wanted"), [(A100, "bf16"), (T4, "fp16")])
def test_the_precision_is_what_the_gpu_has(gpu: tuple[str, int, int], wanted: str) -> None:
    facts, profile = nomad(node("a", gpu)), profile_with()
    plan = plan_of("LoRA on Qwen/Qwen2.5-0.5B, batch size 1", facts, profile)
    after = apply_changes(plan, choice_of(plan, facts, profile).changes)
    assert after.training.precision == wanted
    said = apply_changes(plan, [mine("training.precision", "fp32")])
    assert apply_changes(said, choice_of(said, facts, profile).changes).training.precision == "fp32"


def test_more_gpus_are_taken_where_the_program_can_spread_the_model() -> None:
    facts = nomad(node("a", L4, cpu_mhz=400000, memory_mb=1_000_000, disk_mb=1_000_000))
    values = [mine("training.grad_accum", 32, Author.REPOSITORY), mine("training.micro_batch", 1, Author.REPOSITORY)]
    for flags, expected in (((), None), ((ScriptOption(flag="--fsdp", default=""),), 4)):
        profile = profile_with(*flags)
        plan = plan_of("fine-tune Qwen/Qwen2.5-1.5B", facts, profile, *values)
        assert plan.launch.launcher is Launcher.TORCHRUN
        found = choice_of(plan, facts, profile)
        after = apply_changes(plan, found.changes)
        assert effective_batch(after) == effective_batch(plan) == 32
        if expected is None:
            assert after.resources.gpus == 1
        else:
            assert after.resources.gpus > 1
            assert after.launch.nproc == after.resources.gpus
            assert "--fsdp" in after.training.options
            assert found.best is not None
            assert found.best.safe


def test_a_measurement_stands_in_place_of_the_formula() -> None:
    facts, profile = nomad(node("a", A100), node("b", L4)), profile_with()
    plan = plan_of("LoRA on Qwen/Qwen2.5-7B, batch size 1", facts, profile)
    said = estimate(plan, facts, prices=Prices(), profile=profile)
    assert said.gpu_memory_gib is not None
    free = choice_of(plan, facts, profile).best
    smoke = SmokeResult(steps=10, peak_gpu_gib=said.gpu_memory_gib / 4)
    small = choice_of(plan, facts, profile, measured=Measured(key=speed_key(plan), attempt=1, smoke=smoke)).best
    other = choice_of(plan, facts, profile, measured=Measured(key="another plan", attempt=1, smoke=smoke)).best
    assert free is not None
    assert small is not None
    assert other is not None
    ratio = {p.plan.digest(): p.gib for p in (free,)}
    assert other.gib == free.gib == ratio[free.plan.digest()]
    assert small.gib < free.gib


def test_the_cost_limit_is_by_the_price_of_the_gpu_that_is_chosen() -> None:
    facts, profile = nomad(node("a", A100), node("b", L4)), profile_with()
    plan = plan_of("LoRA on Qwen/Qwen2.5-0.5B under $10", facts, profile)
    found = choice_of(plan, facts, profile)
    after = apply_changes(plan, found.changes)
    assert found.best is not None
    assert found.best.offer.usd_per_hour is not None
    assert after.limits.max_run_s == int(10 / found.best.offer.usd_per_hour * 3600)


def test_the_table_has_the_plan_first_and_what_others_give_up() -> None:
    facts = nomad(node("a", A100), node("b", L4), node("c", T4))
    profile = profile_with()
    plan = plan_of("fine-tune Qwen/Qwen2.5-1.5B", facts, profile, mine("training.max_steps", 500))
    choice = choice_of(plan, facts, profile)
    rows = table(choice)
    assert [r.chosen for r in rows] == [True, *([False] * (len(rows) - 1))]
    assert len({r.text for r in rows}) == len(rows) > 1
    assert all(r.cost_usd is not None and r.seconds is not None for r in rows)
    assert all(holds(r.gpu_total_gib, r.gpu_memory_high_gib) for r in rows)
    after = apply_changes(plan, choice.changes)
    lora = [r for r in rows if "adapters are trained" in r.gives_up]
    assert lora or not any("lora" in r.text for r in rows)
    for row, offer in zip(rows[1:], as_choices(rows), strict=True):
        taken = apply_changes(after, offer.changes)
        assert taken.resources.gpu_model == row.gpu
        said = estimate(taken, facts, prices=Prices(), profile=profile)
        assert said.fits
        assert said.gpu_memory_gib == pytest.approx(row.gpu_memory_gib, rel=0.01)


def test_nothing_is_chosen_without_a_model_or_a_gpu() -> None:
    profile = profile_with()
    for facts in (nomad(), nomad(node("a")), nomad(node("a", A100))):
        plan = plan_of("train it", facts, profile)
        assert "resources.gpu_model" not in {
            c.path for c in choose(plan, estimate(plan, facts, prices=Prices()), facts, profile=profile)
        }
        assert table(choice_of(plan, facts, profile)) == ()


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("A100 MIG 3g.40gb", "NVIDIA A100 80GB PCIe"),
        ("A100 MIG 3g.20gb", "NVIDIA A100-PCIE-40GB"),
        ("H100 MIG 1g.10gb", "NVIDIA H100 PCIe"),
        ("RTX PRO 6000 MIG 1g.24gb", "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "NVIDIA A100-SXM4-80GB"),
    ],
)
def test_a_slice_is_of_a_card_that_is_cut_like_that_and_costs_less_than_it(name: str, of: str) -> None:
    part, whole, found = gpu_like(name), gpu_named(of), whole_of(name)
    assert part is not None
    assert whole is not None
    assert found is not None
    assert found[0] == of
    assert part.usd_per_hour is not None
    assert whole.usd_per_hour is not None
    assert part.usd_per_hour < whole.usd_per_hour
    assert part.memory_mib < whole.memory_mib


def test_what_takes_longer_takes_as_much_longer_as_the_times_show() -> None:
    facts, profile = nomad(node("a", A100), node("b", L4), node("c", T4)), profile_with()
    plan = plan_of("fine-tune Qwen/Qwen2.5-0.5B", facts, profile, mine("training.max_steps", 20))
    chosen_row, *others = table(choice_of(plan, facts, profile))
    assert chosen_row.seconds
    told = [r for r in others if "times as long" in r.gives_up]
    for row in told:
        assert row.seconds
        assert f"{row.seconds / chosen_row.seconds:.2g} times as long" in row.gives_up
        assert "a step" not in row.gives_up


def test_where_nothing_fits_the_nearest_plans_say_what_of_the_users_they_change() -> None:
    facts, profile = nomad(node("a", ("NVIDIA A10G", 23028, 4))), profile_with()
    said = (mine("training.micro_batch", 4), mine("training.max_len", 2048))
    more = (mine("training.grad_accum", 4, Author.REPOSITORY), mine("training.grad_checkpointing", False))
    plan = plan_of("LoRA on Qwen/Qwen2.5-1.5B", facts, profile, *said, *more)
    choice = choice_of(plan, facts, profile)
    assert choice.best is None
    rows = table(choice)
    assert rows
    assert not any(r.chosen for r in rows)
    assert "not as it was set: training.micro_batch = 4, training.grad_checkpointing = no" in rows[0].gives_up
    for offer in as_choices(rows):
        taken = apply_changes(plan, offer.changes)
        assert estimate(taken, facts, prices=Prices(), profile=profile).fits
        assert effective_batch(taken) == effective_batch(plan)


def test_each_process_loads_the_weights_into_the_hosts_memory() -> None:
    facts, profile = nomad(node("n0", ("NVIDIA A40", 46068, 2))), profile_with()
    plan = plan_of(
        "LoRA on Qwen/Qwen2.5-14B",
        facts,
        profile,
        mine("training.micro_batch", 8, Author.REPOSITORY),
        mine("training.grad_accum", 1),
        mine("training.max_len", 512, Author.REPOSITORY),
    )
    after = apply_changes(plan, choice_of(plan, facts, profile).changes)
    assert after.launch.nproc == 2
    need = estimate(after, facts, prices=Prices(), profile=profile).host_memory_mb
    assert need is not None
    assert after.resources.memory_mb >= need

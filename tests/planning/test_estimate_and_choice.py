from itertools import combinations

import pytest

from caravan.planning.catalogue import CATALOGUE, Prices, gpu_named, matches_model
from caravan.planning.choose import choose
from caravan.planning.draft import draft_plan
from caravan.planning.estimate import estimate
from caravan.planning.prices import usd_per_hour
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from tests.planning.scenes import GIT, OUTPUTS, bare_plan, builtin, llm_profile, node, nomad, numpy_profile, request

A100, L4, T4 = ("NVIDIA A100-SXM4-80GB", 81920, 4), ("NVIDIA L4", 23034, 2), ("Tesla T4", 15360, 1)


def plan_for(prompt: str, facts: ClusterFacts) -> TrainingPlan:
    return draft_plan(llm_profile(), request(prompt), facts, code=GIT, outputs=OUTPUTS, image="a/b:1")


def settled(plan: TrainingPlan, facts: ClusterFacts) -> TrainingPlan:
    return apply_changes(plan, choose(plan, estimate(plan, facts, prices=Prices()), facts))


def test_a_cpu_training_here_needs_no_gpu_and_costs_nothing_and_says_why() -> None:
    facts = builtin()
    plan = draft_plan(numpy_profile(), request(), facts, code=GIT, outputs=OUTPUTS, image=None)
    said = estimate(plan, facts, prices=Prices())
    assert (said.gpu_memory_gib, said.fits, said.cost_usd and said.cost_usd.high) == (None, True, 0)
    assert any("built-in cluster runs on this machine" in a for a in said.assumptions)
    assert any("time isn't estimated" in a for a in said.assumptions)
    assert choose(plan, said, facts) == ()


def test_an_unknown_model_is_not_estimated_and_says_why() -> None:
    facts = nomad(node("a", A100))
    said = estimate(plan_for("train it", facts), facts, prices=Prices(), profile=llm_profile())
    assert (said.gpu_memory_gib, said.fits, said.breakdown, said.cost_usd) == (None, None, (), None)
    assert "GPU memory isn't estimated: no base model is known" in said.assumptions


def test_what_the_repository_shards_by_itself_counts_in_the_estimate() -> None:
    facts = nomad(node("a", A100))
    plan = plan_for("full fine-tuning of Qwen/Qwen2.5-7B on 4 GPUs", facts)
    whole, sharded = (
        estimate(plan, facts, prices=Prices(), profile=llm_profile(distributed=kind)).gpu_memory_gib
        for kind in ("ddp", "fsdp")
    )
    assert whole is not None
    assert sharded is not None
    assert sharded < whole - 20  # of its 14 GiB of weights and twice as much of states, three quarters are elsewhere


def test_a_model_sized_by_its_name_is_said_to_be_rough() -> None:
    facts = nomad(node("a", A100))
    plan = plan_for("train it", facts)
    known = estimate(apply_changes(plan, [_by_user("model.id", "Qwen/Qwen2.5-7B")]), facts, prices=Prices())
    rough = estimate(apply_changes(plan, [_by_user("model.id", "acme/own-7b")]), facts, prices=Prices())
    assert rough.confidence < known.confidence
    assert any("the error may be 50 %" in a for a in rough.assumptions)


def test_cost_is_price_times_gpus_times_the_time_limit() -> None:
    facts = nomad(node("a", A100))
    plan = plan_for("LoRA on Qwen/Qwen2.5-7B on 2 GPUs for 3 hours", facts)
    said = estimate(plan, facts, prices=Prices(usd_per_gpu_hour=1.5))
    assert said.usd_per_hour == 3.0
    assert said.cost_usd is not None
    assert said.cost_usd.high == 9.0
    assert said.seconds is not None
    assert said.seconds.high == 3 * 3600
    assert any("time limit is taken as the time" in a for a in said.assumptions)


def test_a_cost_limit_becomes_a_time_limit() -> None:
    facts = nomad(node("a", A100))
    plan = settled(plan_for("LoRA on Qwen/Qwen2.5-7B under $10.20", facts), facts)
    assert plan.limits.max_run_s == int(10.20 / 2.04 * 3600)  # the catalogue's A100-SXM4-80GB
    said = estimate(plan, facts, prices=Prices())
    assert said.cost_usd is not None
    assert said.cost_usd.high <= 10.20


def test_a_wish_without_an_option_is_said() -> None:
    facts = builtin()
    plan = draft_plan(numpy_profile(), request("rank 64"), facts, code=GIT, outputs=OUTPUTS, image=None)
    said = estimate(plan, facts, prices=Prices(), profile=numpy_profile())
    assert said.assumptions[0] == "training.lora_rank = 64 is not passed on: the repository has no option for it"


def test_the_cheapest_gpu_that_holds_it_is_chosen() -> None:
    facts = nomad(node("a", A100), node("b", L4), node("c", T4))
    small = settled(plan_for("LoRA on Qwen/Qwen2.5-0.5B, batch size 1", facts), facts)
    large = settled(plan_for("LoRA on Qwen/Qwen2.5-7B, batch size 2", facts), facts)
    assert small.resources.gpu_model == "NVIDIA L4"  # 0.44 USD an hour, a T4 costs more
    assert large.resources.gpu_model == "NVIDIA A100-SXM4-80GB"
    assert large.set_by("resources.gpu_model") is Author.ESTIMATE
    assert large.resources.gpu_memory_mib is not None


def test_a_batch_too_large_is_halved_and_the_effective_one_stays() -> None:
    facts = nomad(node("a", L4))
    plan = settled(plan_for("LoRA on Qwen/Qwen2.5-1.5B", facts), facts)
    assert plan.training.micro_batch is not None
    assert plan.training.micro_batch < 8
    assert plan.training.micro_batch * (plan.training.grad_accum or 1) == 8
    assert estimate(plan, facts, prices=Prices()).fits


def test_what_the_user_set_is_not_touched() -> None:
    facts = nomad(node("a", L4))
    plan = settled(plan_for("LoRA on Qwen/Qwen2.5-1.5B, batch size 8", facts), facts)
    assert (plan.training.micro_batch, plan.training.grad_accum) == (8, 1)
    assert estimate(plan, facts, prices=Prices()).fits is False


def test_catalogue_names() -> None:
    assert len({g.name for g in CATALOGUE}) == len(CATALOGUE) == 63
    assert gpu_named("A100-SXM4-80GB") == gpu_named("NVIDIA A100-SXM4-80GB")
    assert gpu_named("A100") is None
    assert matches_model("A100", "NVIDIA A100-SXM4-80GB")
    assert matches_model("a100 80GB", "NVIDIA A100 80GB PCIe")
    assert not matches_model("A10", "NVIDIA A100-SXM4-80GB")
    assert not matches_model("L4", "NVIDIA L40S")


def test_prices_in_their_order() -> None:
    assert usd_per_hour("NVIDIA L4", Prices(usd_per_gpu_hour=9, by_model={"L4": 0.1}))[0] == 0.1
    assert usd_per_hour("NVIDIA L4", Prices(usd_per_gpu_hour=0))[0] == 0
    assert usd_per_hour("NVIDIA L4", Prices())[0] == 0.44
    price, why = usd_per_hour("Unheard Of", Prices())
    assert price is None
    assert "CARAVAN_USD_PER_GPU_HOUR" in why


def _by_user(path: str, value: str) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.USER)


@pytest.mark.parametrize("prompt", ["train on 1 A100", "use an A100"])
def test_a_gpu_type_in_the_sentence_is_the_clusters_own(prompt: str) -> None:
    facts = nomad(node("a", A100), node("b", L4))
    assert plan_for(prompt, facts).resources.gpu_model == "NVIDIA A100-SXM4-80GB"


def test_types_of_one_price_are_preferred_and_none_is_demanded() -> None:
    wish = "LoRA on Qwen/Qwen2.5-0.5B, batch size 1"
    facts = nomad(node("a", A100), node("b", L4))
    chosen = settled(plan_for(wish, facts), facts)
    assert (chosen.resources.gpu_model, chosen.resources.gpu_prefer) == (L4[0], ())  # one that is demanded
    price = {g.name: usd_per_hour(g.name, Prices())[0] for g in CATALOGUE if g.memory_mib >= 20000}
    one, other = next((a, b) for a, b in combinations(price, 2) if price[a] is not None and price[a] == price[b])
    same = nomad(node("a", (one, 24000, 2)), node("b", (other, 24000, 2)))
    chosen = settled(plan_for(wish, same), same)
    assert chosen.resources.gpu_model is None
    assert set(chosen.resources.gpu_prefer) == {one, other}
    assert settled(chosen, same) == chosen


def test_without_a_cluster_a_type_that_is_named_is_priced_by_the_catalogue() -> None:
    nowhere = ClusterFacts(kind=ClusterKind.NONE, address="")
    model = {"model": {"id": "Qwen/Qwen2.5-0.5B"}}
    named = bare_plan(**model, resources={"gpus": 1, "gpu_model": "A100"}, limits={"max_run_s": 3600})
    found = estimate(named, nowhere, prices=Prices())
    assert found.gpu is not None
    assert "A100" in found.gpu
    assert found.fits is True
    assert found.usd_per_hour
    open_one = estimate(bare_plan(**model, resources={"gpus": 1}), nowhere, prices=Prices())
    assert (open_one.gpu, open_one.fits, open_one.usd_per_hour) == (None, None, None)
    assert any("no cluster is chosen" in line for line in open_one.assumptions)

"""What the estimate knows of the scripts of training types: texts of a pair, small heads, a CPU's memory, disk."""

from typing import Any

import pytest

from caravan.planning.catalogue import Prices
from caravan.planning.choose import chosen
from caravan.planning.duration import work_of
from caravan.planning.estimate import estimate
from caravan.planning.kept_room import cpu_memory_mb, disk_mb, outputs_mb
from caravan.planning.memory import Setting, memory_parts
from caravan.planning.memory_plan import setting_of_plan, texts_of
from caravan.planning.shapes import shape_of
from caravan.values.job import ClusterFacts
from caravan.values.plan import Author, OutputSink, PlanChange, Resources, TrainingPlan, apply_changes
from caravan.values.shape import ModelShape
from tests.planning.scenes import node, nomad

A100 = ("NVIDIA A100-SXM4-80GB", 81920, 1)
QWEN = "Qwen/Qwen2.5-0.5B"


def typed(kind: str | None, gpus: int = 1, **fields: Any) -> TrainingPlan:
    plan = TrainingPlan(goal="g", command=("train.py",), resources=Resources(gpus=gpus))
    values = {"training.type": kind, "model.id": QWEN, **{k.replace("__", "."): v for k, v in fields.items()}}
    return apply_changes(plan, [PlanChange(path=p, value=v, by=Author.DEFAULT) for p, v in values.items() if v])


def shape(name: str = QWEN) -> ModelShape:
    found = shape_of(name)
    assert found is not None
    return found


def gib(plan: TrainingPlan) -> float:
    return sum(part.gib for part in memory_parts(shape(), setting_of_plan(plan, shape())[0]))


def test_each_text_of_a_pair_is_a_sequence() -> None:
    pairs = typed("embeddings", training__micro_batch=8, dataset__format="pairs")
    assert texts_of(pairs) == texts_of(typed("embeddings")) == 2
    assert texts_of(typed("embeddings", dataset__columns=("anchor", "positive", "negative"))) == 3
    options = {"--columns": "anchor=q,positive=a,negative=n"}
    assert texts_of(typed("embeddings", training__options=options)) == 3
    assert texts_of(typed("mine", dataset__format="pairs")) == 2, "an own type's data say it too"
    assert texts_of(typed(None, dataset__format="pairs")) == 1, "of another program nobody knows"
    setting, notes = setting_of_plan(pairs, shape())
    assert (setting.micro_batch, setting.texts) == (8, 2)
    assert "2 texts a sample: anchor, positive" in notes
    assert work_of(pairs, shape(), setting).micro_batch == 16
    twice = memory_parts(shape(), setting._replace(texts=1, micro_batch=16))
    assert memory_parts(shape(), setting) == twice


def test_a_classifier_on_a_decoder_has_no_logits_over_the_vocabulary() -> None:
    same = {"training__micro_batch": 8, "training__max_len": 512}
    sft, classes = typed("sft", **same), typed("text-classification", **same)
    assert any(p.name == "logits" and p.gib > 5 for p in memory_parts(shape(), setting_of_plan(sft, shape())[0]))
    assert gib(classes) < gib(sft) - 5
    assert gib(typed("sft", dataset__format="classification", **same)) == gib(classes)
    assert work_of(classes, shape(), setting_of_plan(classes, shape())[0]).pooled
    assert not setting_of_plan(typed(None, dataset__format="classification"), shape())[0].pooled


def test_memory_of_a_cpu_is_torch_s_and_the_model_s_with_its_states() -> None:
    facts = nomad(node("a", memory_mb=64000, disk_mb=500_000))
    full = typed("sft", gpus=0, training__method="full", training__micro_batch=1, training__max_len=256)
    setting = setting_of_plan(full, shape())[0]
    needed = cpu_memory_mb(full, shape(), setting)
    assert needed is not None
    states = 0.494e9 * 16 / 2**20  # weights, gradients and two moments of 4 bytes
    assert states < needed < 2.5 * states
    lora = typed("sft", gpus=0, training__method="lora", training__micro_batch=1, training__max_len=256)
    assert (cpu_memory_mb(lora, shape(), setting_of_plan(lora, shape())[0]) or 0) < needed / 2
    found = estimate(full, facts, prices=Prices())
    assert found.host_memory_mb == needed
    assert any(f"host memory: {needed} MB" in text for text in found.assumptions)
    changes = {c.path: c.value for c in chosen(full, found, facts, 1.0, prices=Prices()).changes}
    assert changes["resources.memory_mb"] == needed
    theirs = estimate(typed(None, gpus=0), facts, prices=Prices())
    assert theirs.host_memory_mb is None
    unknown = estimate(typed("sft", gpus=0, model__id="mine/unknown"), facts, prices=Prices())
    assert unknown.host_memory_mb is None
    assert any("the usual amount" in text for text in unknown.assumptions)


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_disk_grows_with_the_checkpoints_that_are_kept(kept: int) -> None:
    plan = typed("sft", training__method="full", training__save_total_limit=kept, model__id="Qwen/Qwen2.5-7B")
    big = shape("Qwen/Qwen2.5-7B")
    setting = setting_of_plan(plan, big)[0]
    each = big.params_b * 1e9 * 12 / 1e6
    assert outputs_mb(plan, big, setting) == pytest.approx(each * (kept + 1) + each / 3, rel=0.01)
    inside = plan.model_copy(update={"outputs": OutputSink(kind="allocation")})
    assert (disk_mb(inside, big, setting) or 0) > outputs_mb(plan, big, setting)
    elsewhere = plan.model_copy(update={"outputs": OutputSink(kind="path", location="/data/out")})
    assert disk_mb(elsewhere, big, setting) is None
    lora = setting._replace(method="lora", lora_rank=8)
    assert disk_mb(inside, big, lora) is None, "an adapter is small beside what is usual"


def test_disk_is_asked_for_within_what_a_node_has() -> None:
    def asked(facts: ClusterFacts) -> Any:
        plan = typed("sft", training__method="full", model__id="Qwen/Qwen2.5-7B")
        plan = plan.model_copy(update={"outputs": OutputSink(kind="allocation")})
        found = estimate(plan, facts, prices=Prices())
        return {c.path: c.value for c in chosen(plan, found, facts, 1.0, prices=Prices()).changes}.get(
            "resources.disk_mb"
        )

    assert asked(nomad(node("a", A100, disk_mb=2_000_000))) > 250_000
    assert asked(nomad(node("a", A100, disk_mb=100_000))) == 100_000


def test_a_setting_without_pairs_is_as_before() -> None:
    assert memory_parts(shape(), Setting()) == memory_parts(shape(), Setting(texts=1, pooled=False))

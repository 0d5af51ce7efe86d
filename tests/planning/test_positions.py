"""Sequences that are longer than the model's: bounded where nobody asked for them, asked back where somebody did."""

import pytest

from caravan.planning.contradictions import Held, contradictions
from caravan.planning.positions import position_changes
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile
from caravan.values.shape import ModelConfig

BERT = {
    **{"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 300},
    **{"intermediate_size": 128, "max_position_embeddings": 512},
}
FACTS = ClusterFacts(kind=ClusterKind.BUILTIN, address="a")


def profile(*configs: ModelConfig) -> RepoProfile:
    return RepoProfile(root="/r", tree_digest="0" * 64, is_training_repo=True, model_configs=configs)


def at(path: str, **more: object) -> ModelConfig:
    return ModelConfig(file=f"{path}/config.json", kind="config.json", values={**BERT, **more})


def plan(model: str, length: int, by: Author) -> TrainingPlan:
    changes = (
        PlanChange(path="model.id", value=model, by=Author.USER),
        PlanChange(path="training.max_len", value=length, by=by),
    )
    return apply_changes(TrainingPlan(goal="g", command=("train.py",)), changes)


@pytest.mark.parametrize(
    ("found", "model"),
    [
        (profile(at("models/mine")), "models/mine"),
        (profile(at("/models/mine")), "/models/mine"),
        (profile(), "bert-base-uncased"),
    ],
)
def test_a_length_that_nobody_asked_for_is_bounded_by_the_models_positions(found: RepoProfile, model: str) -> None:
    for by in (Author.DEFAULT, Author.REPOSITORY, Author.MEMORY):
        (change,) = position_changes(plan(model, 1024, by), found)
        assert (change.path, change.value) == ("training.max_len", 512)
        assert change.why == f"{model} has positions for 512 tokens, not for 1024"
    assert position_changes(plan(model, 512, Author.DEFAULT), found) == ()


def test_what_a_person_asks_for_is_never_changed_and_is_asked_back() -> None:
    found = profile(at("models/mine"))
    assert position_changes(plan("models/mine", 1024, Author.USER), found) == ()
    said = plan("models/mine", 1024, Author.USER)
    changes = [PlanChange(path=p, value=said.get(p), by=Author.USER) for p in ("model.id", "training.max_len")]
    (question,) = contradictions(changes, Held(found, FACTS))
    assert (question.id, question.default, question.choices) == ("training.max_len", 1024, (512, 1024))
    assert "512" in question.text
    assert "1024" in question.text


def test_nothing_is_bounded_by_a_model_that_is_guessed_or_unknown() -> None:
    for model in ("our-7b", "somebody/their-model"):
        assert position_changes(plan(model, 99_999, Author.DEFAULT), profile()) == ()


def test_positions_before_the_padding_tokens_are_none() -> None:
    found = profile(at("models/mine", model_type="roberta", max_position_embeddings=514))
    (change,) = position_changes(plan("models/mine", 1024, Author.DEFAULT), found)
    assert change.value == 512

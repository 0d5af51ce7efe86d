"""The table of known models: each row says one thing, and its parameters follow from its shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.known.rows import Known
from caravan.planning.param_count import counted_params
from caravan.planning.shapes import canonical, guessed_shape, known_models, listed_shape, shape_of, sized_shape
from caravan.values.shape import Family

COUNTED = (Family.DECODER, Family.VISION_LANGUAGE, Family.ENCDEC, Family.ENCODER)
LEARNED = ("gpt2", "opt", "gpt_neo", "gpt_bigcode")
"""Kinds of decoders with a table of positions."""


@pytest.mark.parametrize("known", known_models(), ids=lambda k: k.name)
def test_a_row_is_found_by_its_name_and_counts_up(known: Known) -> None:
    shape = known.shape()
    assert canonical(known.name) == known.name
    assert listed_shape(f"somebody/{known.name}") == shape
    assert (shape.exact, shape.source != "") == (True, True)
    assert shape.heads % shape.kv_heads == 0
    if shape.family in COUNTED:
        learned = shape.family is Family.ENCODER or shape.model_type in LEARNED
        rows = (shape.max_positions or 0) if learned else 0
        near = 0.03 if shape.family is Family.DECODER else 0.05
        assert counted_params(shape, positions=rows) / 1e9 == pytest.approx(shape.params_b, rel=near)


def test_no_name_is_in_the_table_twice() -> None:
    names = [known.name for known in known_models()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("spelled", "known"),
    [
        ("meta-llama/Llama3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Llama-3_2-1B", "llama-3.2-1b"),
        ("Qwen/Qwen2.5-Coder-7B", "qwen2.5-7b"),
        ("google/gemma2-9b", "gemma-2-9b"),
        ("unsloth/llama-3-8b-bnb-4bit", "llama-3-8b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
        ("models--meta-llama--Llama-2-7b-hf/snapshots/abcdef", "llama-2-7b"),
        ("/checkpoints/Qwen_Qwen2_5-7B/checkpoint-500", "qwen2.5-7b"),
        ("timm/vit_base_patch16_224.augreg", "vit-base"),
        ("microsoft/phi-1_5", "phi-1.5"),
    ],
)
def test_other_spellings(spelled: str, known: str) -> None:
    found, wanted = listed_shape(spelled), listed_shape(known)
    assert found is not None
    assert wanted is not None
    assert found.model_copy(update={"source": ""}) == wanted.model_copy(update={"source": ""})


@pytest.mark.parametrize(
    "name", ["sshleifer/tiny-gpt2", "acme/bloom-like-3b", "acme/notgpt2", "acme/qwen2.5-700b", "acme/gpt2.5", ""]
)
def test_names_that_only_sound_like_one(name: str) -> None:
    assert listed_shape(name) is None


def test_the_size_in_a_name_is_a_guess_that_says_so() -> None:
    shape = sized_shape("acme/ours-13b-chat")
    assert shape is not None
    assert (shape.params_b, shape.exact) == (13.0, False)
    assert "13 B in its name" in shape.source


def test_experts_that_do_not_see_a_token() -> None:
    mixtral = listed_shape("mixtral-8x7b")
    assert mixtral is not None
    assert mixtral.active_params_b == pytest.approx(12.9, abs=0.1)  # arXiv 2401.04088: 13 B active
    dense = listed_shape("llama-2-7b")
    assert dense is not None
    assert dense.active_params_b == dense.params_b


@given(st.text(max_size=80))
def test_any_name_gives_a_shape_or_none(name: str) -> None:
    shape = shape_of(name)
    assert shape is None or shape.params_b > 0


@given(st.floats(min_value=0.001, max_value=2000))
def test_a_guess_is_a_shape(billions: float) -> None:
    assert guessed_shape(billions).params_b == billions

"""What a sentence says of models, data and GPUs, in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis.gpus_asked import gpus_asked
from caravan.analysis.prompt import read_prompt
from caravan.analysis.subjects import (
    data_names,
    from_nothing,
    looks_like_model,
    means,
    model_names,
    own_data,
    shared,
    short,
    tokens,
    tunes,
)


@pytest.mark.parametrize(
    ("sentence", "gpus"),
    [
        ("on one machine with 8 GPUs", 8),
        ("on 2x A100", 2),
        ("on two A100s", 2),
        ("using 4 H100 80GB GPUs", 4),
        ("on four 80 GB A100s", 4),
        ("8xA100-80GB", 8),
        ("on a single RTX 4090", 1),
        ("single-GPU", 1),
        ("on my 3090", 1),
        ("on one 24 GB GPU", 1),
        ("on a 4-GPU machine", 4),
        ("on 2 nodes with 8 GPUs each", 16),
        ("2 nodes x 8 GPUs", 16),
        ("4 A100s per node on 2 nodes", 8),
        ("16 A100s (2 nodes of 8 GPUs)", 16),
        ("on CPU", 0),
        ("with all the GPUs of one machine", None),
        ("for 4 epochs", None),
        ("GPT-2 124M", None),
    ],
)
def test_gpus_in_words(sentence, gpus):
    assert gpus_asked(sentence) == gpus


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("Fine-tune Foo-7B from Llama-2-7b", ["Llama-2-7b", "Foo-7B"]),
        ("Distill DeepSeek-R1 into Qwen2.5-Math-7B", ["Qwen2.5-Math-7B", "DeepSeek-R1"]),
        ("Fine-tune T5 1.1 Base on my data", ["T5 1.1 Base"]),
        ("Fine-tune GPT-2 medium on my text", ["GPT-2 medium"]),
        ("Fine-tune Whisper small on Danish", ["Whisper small"]),
        ("Train a classifier of flowers", []),
    ],
)
def test_models_in_words(sentence, names):
    assert model_names(sentence) == names


def test_the_repository_s_own_name_is_no_model():
    assert model_names("Fine-tune Qwen3-8B with Llama-Tools", ["llama", "Llama-Tools"]) == ["Qwen3-8B"]


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("Train ResNet-50 on ImageNet with 8 GPUs", ["ImageNet"]),
        ("Fine-tune T5 on WMT14 English-German with X", ["WMT14 English-German"]),
        ("Train a GPT on tiny shakespeare", ["tiny shakespeare"]),
        ("Fine-tune X on the cleaned alpaca data", ["alpaca"]),
        ("Fine-tune X on the Swahili part of NewsNER", ["NewsNER"]),
        ("Pretrain on my tokenized corpus all_text_document", ["all_text_document"]),
        ("Train on one GPU", []),
        ("Train on my own images", []),
        ("Train on 8 A100s", []),
    ],
)
def test_data_in_words(sentence, names):
    assert data_names(sentence) == names


def test_own_data_is_no_name():
    assert own_data("on my character images")
    assert own_data("on our chat data")
    assert not own_data("on ImageNet")


def test_tokens_tell_what_two_spellings_share():
    assert tokens("LLaVA-1.5-13B") == tokens("llava-v1.5-13b") == tokens("llava_1_5_13b")
    assert means("GPT-2 medium", "openai-community/gpt2-medium")
    assert means("Llama-2-7b", "meta-llama/Llama-2-7b-hf")
    assert not means("Llama-2-13b", "meta-llama/Llama-2-7b-hf")
    assert shared("FineWeb-10B", "dev/data/fineweb10B/train_*.bin")
    assert not shared("FineWeb", "wikitext")


def test_what_is_asked():
    assert tunes("Fine-tune X")
    assert tunes("LoRA on X")
    assert not tunes("Train X on Y")
    assert from_nothing("Pretrain X from scratch")
    assert from_nothing("Reproduce GPT-2 124M")
    assert not from_nothing("Reproduce the SFT step with QLoRA")
    assert not from_nothing("Fine-tune from the pretrained x.pt")


def test_names_of_models_and_places_to_fill_in():
    assert looks_like_model("bert-base-uncased")
    assert looks_like_model("gpt2-xl")
    assert not looks_like_model("adamw")
    assert short("/path/to/bert/uncased_L-12/bert_model.ckpt") == "bert/uncased_L-12"


def test_a_folder_is_no_hub_id():
    assert read_prompt("photos in datasets/dog").model is None
    assert read_prompt("photos in datasets/dog").dataset == "datasets/dog"
    assert read_prompt("on ./flowers with 2 GPUs").dataset == "./flowers"
    wishes = read_prompt("Fine-tune meta-llama/Llama-2-7b on tatsu-lab/alpaca")
    assert (wishes.model, wishes.dataset) == ("meta-llama/Llama-2-7b", "tatsu-lab/alpaca")


@given(st.text(max_size=300))
def test_no_sentence_is_too_odd(sentence):
    read_prompt(sentence)
    data_names(sentence)
    model_names(sentence)
    gpus_asked(sentence)
    short(sentence)

"""The card and the lines that load a model: by its files and configs, and nothing that a job wrote gets out of them."""

import ast
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.runs.loading_code import format_of, loading
from caravan.runs.model_card import card, facts_json, sums
from caravan.runs.model_files import read_address
from caravan.values.base import Json
from caravan.values.errors import StateError
from caravan.values.registry import ModelFile, ModelFiles, ModelVersion


def model(*names: str, **more: Json) -> ModelVersion:
    files = tuple(ModelFile(path=name, bytes=1, sha256="0" * 64) for name in names)
    told = {"name": "m", "version": 1, "run_id": "r", "created_at": datetime(2026, 1, 1, tzinfo=UTC), **more}
    return ModelVersion(files=ModelFiles(address="/m", files=files), plan_sha256="a" * 64, **told)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["Qwen3ForCausalLM"]}, "AutoModelForCausalLM"),
        ({"architectures": ["GPT2LMHeadModel"]}, "AutoModelForCausalLM"),
        ({"architectures": ["BertForSequenceClassification"]}, "AutoModelForSequenceClassification"),
        ({"architectures": ["ViTForImageClassification"]}, "AutoModelForImageClassification"),
        ({"architectures": ["BertModel"]}, "AutoModel"),
        ({"architectures": "no list"}, "AutoModelForCausalLM"),
        ({}, "AutoModelForCausalLM"),
    ],
)
def test_the_class_is_that_of_the_config(config: dict[str, Json], expected: str) -> None:
    found = loading(model("config.json", "model.safetensors"), "x", config=config)
    assert any(line.startswith(f"model = {expected}.from_pretrained") for line in found.lines)
    assert found.packages == ("transformers",)


def test_the_training_type_says_the_class_where_no_config_was_read() -> None:
    found = loading(model("config.json", "model.safetensors"), "x", trained="image-classification")
    assert "AutoImageProcessor" in "\n".join(found.lines)
    unsure = loading(model("config.json", "pytorch_model.bin"), "x")
    assert any("likeliest" in line for line in unsure.lines)


def test_an_adapter_is_put_on_its_base_and_one_with_labels_on_a_base_with_them() -> None:
    plain = loading(model("adapter/adapter_config.json", base_model="org/b"), "x", adapter={"task_type": "CAUSAL_LM"})
    assert 'base = AutoModelForCausalLM.from_pretrained("org/b", dtype="auto")' in plain.lines
    assert 'model = PeftModel.from_pretrained(base, "x/adapter")' in plain.lines
    assert plain.merge[0] == "merged = model.merge_and_unload()"
    labels = loading(model("adapter_config.json", "config.json"), "x", adapter={"task_type": "SEQ_CLS"})
    assert 'config = AutoConfig.from_pretrained("x")' in labels.lines


def test_files_of_no_known_format_are_said_to_be_that() -> None:
    assert "no format that Caravan knows" in loading(model("weights.bin"), "x").lines[0]
    assert "no format that Caravan knows" in loading(model("config.json", "adapter.npz"), "x").lines[0]
    shards = "model-00001-of-00002.safetensors"
    names = ["checkpoint-1/deep/config.json", f"checkpoint-1/deep/{shards}", "final/config.json", f"final/{shards}"]
    assert format_of(names).folder == "final/"
    assert format_of(["modules.json", "config.json"]).kind == "sentences"


NASTY = st.text(alphabet=st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    ['"); import os #', "a\nb", "```\n# x", "| x | <script>", "---\n", "\\", "'", "\u2028"]
)


@given(base=NASTY, place=NASTY, why=NASTY, kind=st.sampled_from(["", "adapter", "model"]))
def test_the_lines_are_python_and_hold_names_as_they_are(base: str, place: str, why: str, kind: str) -> None:
    made = model("adapter_config.json", "config.json", base_model=base or None, why=why, kind=kind)
    found = loading(made, place)
    tree = ast.parse("\n".join([*found.lines, *found.merge]))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert (base or "the model that it was trained from") in texts
    text = card(made, why, configs={})
    assert sum(line.startswith("```") for line in text.split("\n")) % 2 == 0
    assert json.loads(facts_json(made))["why"] == why
    table = [line for line in text.split("\n") if line.startswith("| registered because")]
    assert not table or table[0].replace("\\|", "").count("|") == 3


def test_the_same_model_gives_the_same_card() -> None:
    made = model("config.json", base_model="org/b")
    assert card(made, None, configs={}) == card(made, None, configs={})
    assert "license: unknown" in card(made, "no head at all", configs={})


def test_sums_are_as_sha256sum_writes_them() -> None:
    assert sums({"b": "1" * 64, "a\\c": "0" * 64}) == b"\\" + b"0" * 64 + b"  a\\\\c\n" + b"1" * 64 + b"  b\n"


def test_addresses_are_read() -> None:
    assert read_address("volume:models/run/adapter") == ("volume", "models", "run/adapter")
    assert read_address("allocation:abc/alloc/data/outputs") == ("allocation", "abc", "alloc/data/outputs")
    assert read_address("s3://bucket/x") == ("url", "", "s3://bucket/x")
    assert read_address("file:///a%20b") == ("path", "", "/a b")
    assert read_address("/a/b") == ("path", "", "/a/b")
    for bad in ("volume:", "allocation:x/../y", "volume:m//x"):
        with pytest.raises(StateError, match="no address"):
            read_address(bad)

"""The sizes of the model that a repository's own code builds."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.planning.model_shape import shape_for
from caravan.values.plan import ModelChoice, Training, TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.shape import Family, ModelAnswer, ModelShape
from tests.analysis.repositories import LOOP, profile_of

GPT = """
import torch
from dataclasses import dataclass

@dataclass
class GPTConfig:
    block_size: int = 1024
    vocab_size: int = 50304
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = torch.nn.Embedding(config.vocab_size, config.n_embd)
"""
PLAN = TrainingPlan(goal="", command=("python", "train.py"))


def shape_in(profile: RepoProfile, plan: TrainingPlan = PLAN) -> ModelShape:
    found = shape_for(plan, profile)
    assert found.shape is not None, found.notes
    return found.shape


def test_defaults_of_a_config_class_under_what_the_script_says(tmp_path: Path) -> None:
    train = f"""
import torch
from model import GPT, GPTConfig

n_layer = 6
n_head = 6
n_embd = 384
block_size = 256

def main(model, batches):{LOOP}
main(GPT(GPTConfig()), [])
"""
    shape = shape_in(profile_of(tmp_path, {"model.py": GPT, "train.py": train}))
    assert (shape.hidden, shape.layers, shape.heads, shape.vocab) == (384, 6, 6, 50304)
    assert (shape.max_positions, shape.gated, shape.exact) == (256, False, True)
    assert "GPTConfig" in shape.source
    assert "model.py" in shape.source


def test_a_call_of_a_library_s_config(tmp_path: Path) -> None:
    main = """
def build():
    from transformers import LlamaConfig, LlamaForCausalLM
    config = LlamaConfig(
        hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4,
        intermediate_size=1376, vocab_size=32000, max_position_embeddings=512, tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)
"""
    imports = "import torch\nfrom transformers import LlamaConfig\n"
    code = f"{imports}{main}\ndef main(model, batches):{LOOP}\nmain(build(), [])\n"
    shape = shape_in(profile_of(tmp_path, {"train.py": code}))
    assert (shape.hidden, shape.layers, shape.kv_heads, shape.intermediate) == (512, 8, 4, 1376)
    assert (shape.model_type, shape.gated) == ("llama", True)


def test_options_with_defaults_and_the_documented_command(tmp_path: Path) -> None:
    parser = """
import argparse
import torch
parser = argparse.ArgumentParser()
parser.add_argument("--n_layer", type=int, default=12)
parser.add_argument("--n_head", type=int, default=12)
parser.add_argument("--n_embd", type=int, default=768)
parser.add_argument("--vocab_size", type=int, default=50257)
"""
    code = f"{parser}\ndef main(args, model, batches):{LOOP}\nmain(parser.parse_args(), None, [])\n"
    readme = "# Train\n\n```\npython train.py --n_layer 24 --n_head 16 --n_embd 1024\n```\n"
    shape = shape_in(profile_of(tmp_path, {"train.py": code, "README.md": readme}))
    assert (shape.hidden, shape.layers, shape.heads, shape.vocab) == (1024, 24, 16, 50257)


def test_an_image_transformer_by_keywords(tmp_path: Path) -> None:
    code = f"""
import torch
from vit_pytorch import ViT

def main(batches):
    model = ViT(image_size=224, patch_size=16, num_classes=10, dim=384, depth=12, heads=6, mlp_dim=1536)
{LOOP}
main([])
"""
    profile = profile_of(tmp_path, {"train.py": code})
    shape = shape_in(profile)
    assert (shape.family, shape.hidden, shape.layers, shape.heads) == (Family.VIT, 384, 12, 6)
    assert shape.params_b == pytest.approx(0.0219, rel=0.05)


@pytest.mark.parametrize(
    ("imports", "call"),
    [
        ("import torchvision", "torchvision.models.resnet50(weights=None)"),
        ("from torchvision import models", "models.resnet50()"),
        ("import timm", "timm.create_model('resnet50', pretrained=False)"),
    ],
)
def test_architectures_of_the_image_libraries(tmp_path: Path, imports: str, call: str) -> None:
    code = f"import torch\n{imports}\n\ndef main(batches):\n    model = {call}\n{LOOP}\nmain([])\n"
    shape = shape_in(profile_of(tmp_path, {"train.py": code}), PLAN)
    assert (shape.family, shape.params_b) == (Family.CNN, 0.0256)
    assert "resnet50" in shape.source


def test_a_config_file_at_the_path_that_the_plan_names(tmp_path: Path) -> None:
    config = '{"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 128}'
    code = f"import torch\n\ndef main(model, batches):{LOOP}\nmain(None, [])\n"
    profile = profile_of(tmp_path, {"train.py": code, "models/mine/config.json": config, "ds/config.json": "{}"})
    for path in ("models/mine", "./models/mine/", "models/mine/config.json"):
        plan = PLAN.model_copy(update={"model": ModelChoice(id=path), "training": Training(max_len=256)})
        found = shape_for(plan, profile)
        assert found.shape is not None
        assert (found.shape.hidden, found.shape.source) == (64, "models/mine/config.json of the repository")
        assert any("256 tokens is longer than the 128" in note for note in found.notes)
    assert [c.file for c in profile.model_configs] == ["models/mine/config.json"]


def test_a_known_name_beats_the_code_and_the_hub_beats_both(tmp_path: Path) -> None:
    code = f"{GPT}\ndef main(model, batches):{LOOP}\nmain(None, [])\n"
    profile = profile_of(tmp_path, {"train.py": code})
    plan = PLAN.model_copy(update={"model": ModelChoice(id="gpt2-medium")})
    assert shape_in(profile, plan).hidden == 1024
    config = {"model_type": "gpt2", "n_embd": 96, "n_layer": 2, "n_head": 4, "vocab_size": 99}
    answer = ModelAnswer(model="gpt2-medium", config=config)
    assert shape_in(profile.model_copy(update={"models_on_hub": (answer,)}), plan).hidden == 96
    senseless = ModelAnswer(model="gpt2-medium", config={**config, "n_layer": -2})
    found = shape_for(plan, profile.model_copy(update={"models_on_hub": (senseless,)}))
    assert found.shape is not None
    assert found.shape.hidden == 1024
    assert any("n_layer = -2 makes no sense" in note for note in found.notes)


def test_parameters_that_only_the_hub_counts_are_a_guess(tmp_path: Path) -> None:
    profile = RepoProfile(root="/r", tree_digest="0", is_training_repo=True)
    plan = PLAN.model_copy(update={"model": ModelChoice(id="acme/secret")})
    answer = ModelAnswer(model="acme/secret", params=3_000_000_000, text="gated")
    found = shape_for(plan, profile.model_copy(update={"models_on_hub": (answer,)}))
    assert found.shape is not None
    assert (found.shape.params_b, found.shape.exact) == (3.0, False)
    assert any("the error may be 50 %" in note for note in found.notes)


def test_nothing_known_says_what_to_give() -> None:
    found = shape_for(PLAN.model_copy(update={"model": ModelChoice(id="acme/what")}), None)
    assert found.shape is None
    assert any("the shape of acme/what isn't known" in note for note in found.notes)
    assert any("name a model by its hub id" in note for note in found.notes)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["n_layer=6", "n_head=6", "n_embd=384", "n_layer=-1", "n_embd=1e30", "dim=x", "*a", "depth='7'"]
        )
    )
)
def test_any_call_gives_a_profile(tmp_path: Path, words: list[str]) -> None:
    keywords = ", ".join(dict.fromkeys(w for w in words if "=" in w))
    seen: dict[str, str] = {}
    for word in keywords.split(", ") if keywords else []:
        seen.setdefault(word.partition("=")[0], word)
    code = f"import torch\n\nmodel = MyModel({', '.join(seen.values())})\ndef main(batches):{LOOP}\nmain([])\n"
    found = shape_for(PLAN, profile_of(tmp_path, {"train.py": code}))
    assert (found.shape is None) == any("isn't estimated" in note for note in found.notes)

"""What transformers is told for several GPUs: plain data, which needs no torch to be looked at."""

import json
import subprocess
import sys
from typing import Any

from caravan.training.loading import load_types
from tests.train.conftest import TYPES

SCRIPT = """
import json, sys
from pathlib import Path
from shared.parallel import DEEPSPEED, FSDP, blocks_to_shard, by_blocks, parallel_arguments
from shared.refusals import Refused
from shared.resume import check_same

def told(**asked):
    try:
        return parallel_arguments(**asked)
    except Refused as refused:
        return refused.line

def seen(*found):
    try:
        return check_same(list(found), Path("out"))
    except Refused as refused:
        return refused.line

class Embedding: pass
class Embeddings: pass
class Layer: pass

class Model:
    _no_split_modules = ["Embeddings", "Layer"]
    def __init__(self):
        self.inner = Embedding()
        self.outer = Embeddings()
        self.outer.modules = lambda: [self.outer, self.inner]
        self.inner.modules = lambda: [self.inner]
        self.layer = Layer()
        self.layer.modules = lambda: [self.layer]
    def get_input_embeddings(self): return self.inner
    def modules(self): return [self.outer, self.inner, self.layer]

print(json.dumps({
    "fsdp": list(FSDP), "deepspeed": list(DEEPSPEED),
    "full": told(fsdp="full_shard", checkpointing=True), "both": told(fsdp="full_shard", deepspeed="zero2"),
    "zero": told(deepspeed="zero3"), "off": told(), "offload": told(fsdp="full_shard_offload"),
    "same": [seen("checkpoint-4", "checkpoint-4"), seen("", ""), seen("checkpoint-4", "")],
    "blocks": by_blocks(told(fsdp="shard_grad_op"), Model()), "plain": by_blocks({}, Model()),
}))
"""


def told(world: int) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=TYPES,
        env={"WORLD_SIZE": str(world), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(run.stdout))


def test_several_processes_share_and_one_keeps_all() -> None:
    several, one = told(4), told(1)
    config = several["full"]["fsdp_config"]
    assert config["reshard_after_forward"] is True
    assert config["activation_checkpointing"] is True
    assert several["full"]["fsdp"] is True
    assert several["off"] == several["plain"] == {}
    assert one["full"] == one["zero"] == {}
    # DeepSpeed is in no requirements by default.
    assert several["zero"].startswith("caravan-train: options: --deepspeed needs")
    for found in (several, one):
        assert found["both"].startswith("caravan-train: options: --fsdp and --deepspeed")


def test_what_rests_in_host_memory_is_talked_about_by_gloo() -> None:
    several = told(2)
    assert several["offload"]["ddp_backend"] == "cuda:nccl,cpu:gloo"
    assert "ddp_backend" not in several["full"], "else the launcher's own choice stands"


def test_processes_that_see_different_checkpoints_do_not_begin() -> None:
    same, none, other = told(1)["same"]
    assert same is None
    assert none is None
    assert other.startswith("caravan-train: checkpoint: out: processes see different ones (checkpoint-4, none)")


def test_what_holds_the_embedding_is_no_unit_of_its_own() -> None:
    config = told(2)["blocks"]["fsdp_config"]
    assert config["transformer_layer_cls_to_wrap"] == ["Layer"]
    assert config["reshard_after_forward"] is False


def test_the_types_offer_what_there_is() -> None:
    found = told(1)
    for entry in load_types(TYPES):
        knobs = {knob.name: knob for knob in entry.type.knobs}
        for name in ("fsdp", "deepspeed"):
            assert set(knobs[name].choices) == {"off", *found[name]}, entry.type.name

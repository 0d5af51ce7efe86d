"""GPU memory that is too small, played: mended by batch, checkpointing, optimiser or another card; or by nothing."""

import json
from typing import Final

from bench.scenario import Expected
from bench.scenarios.stand_in import gpu_node
from bench.scenarios.stand_in_trainers import KEY_VALUE, LORA, LORA_OCCUPY, RECIPE, filled, hf, own, played
from caravan.values.failure import FailureClass

_4090: Final = gpu_node("desk", "NVIDIA GeForce RTX 4090", 24564)
_L4: Final = gpu_node("shelf", "NVIDIA L4", 23034)
_A100: Final = gpu_node("rack", "NVIDIA A100-SXM4-80GB", 81920)
_MIG: Final = gpu_node("slices", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864, 4)
_CONFIG: Final = {"n_embd": 1536, "n_head": 16, "n_layer": 28, "n_positions": 4096, "vocab_size": 48000}
_CKPT: Final = '\n    p.add_argument("--grad-checkpoint", action="store_true")'
_CKPT_OCCUPY: Final = ", checkpointing=args.grad_checkpoint"


_OWN_DIR: Final = {"models/own/config.json": json.dumps(_CONFIG)}
_RECIPE: Final = """# What is trained, and how.
model_dir: models/own
output_dir: out
training:
  batch_size: 16   # per card
  gradient_accumulation_steps: 1
  gradient_checkpointing: false
  seq_len: 1024
  precision: "bf16"
  learning_rate: 0.1
  epochs: 12
"""
_CONF: Final = {
    "model": "models/own",
    "output_dir": "out",
    "train": {"batch_size": 8, "max_len": 1024, "precision": "bf16", "grad_ckpt": False, "lr": 0.1, "epochs": 12},
}
_SHELL: Final = """#!/bin/bash
# Usage: BATCH_SIZE=4 bash run.sh
set -e
python train.py --bs "${BATCH_SIZE:-32}" --ctx "${CONTEXT:-1024}" --out "${OUT:-runs}" "$@"
"""

SCENARIOS: Final = (
    played("oom-own-model-batch", own(batch=16), "python train.py", _4090, changed=("training.micro_batch",)),
    played(
        "oom-own-model-far-off",
        own(batch=96, length=1024),
        "python train.py --bs 96 --ctx 1024",
        _4090,
        changed=("training.micro_batch",),
    ),
    played(
        "oom-own-model-checkpointing",
        own(batch=1, depth=36, length=8192, options=_CKPT, occupy=_CKPT_OCCUPY),
        "python train.py --bs 1",
        _4090,
        changed=("training.grad_checkpointing",),
    ),
    played(
        "oom-eager-attention",
        hf("gpt2-large", batch=8, length=1024, attention="eager"),
        "python train.py --bf16",
        _L4,
        changed=("training.micro_batch", "training.grad_checkpointing", "training.attn"),
    ),
    played(
        "oom-reference-model",
        hf("models/own", batch=2, length=1024, occupy=", offset=9.0"),
        "python train.py --model_name_or_path models/own --bf16 --per_device_train_batch_size 2",
        _4090,
        changed=("training.micro_batch", "training.grad_checkpointing", "training.optimizer"),
        files=_OWN_DIR,
    ),
    played(
        "oom-fragmented",
        hf("gpt2-medium", batch=4, length=1024, cut=0.5),
        "python train.py --bf16 --per_device_train_batch_size 4",
        gpu_node("old", "NVIDIA GeForce RTX 3060", 12288),
        changed=("env.PYTORCH_CUDA_ALLOC_CONF", "env.PYTORCH_ALLOC_CONF"),
    ),
    played(
        "oom-states-in-eight-bits",
        own(
            batch=1,
            depth=28,
            dim=2048,
            length=512,
            precision="fp32",
            options='\n    p.add_argument("--optim", default="adamw_torch", choices=["adamw_torch", "adamw_8bit"])',
            occupy=", optimizer=args.optim",
        ),
        "python train.py",
        _4090,
        changed=("training.optimizer",),
    ),
    played(
        "oom-another-card",
        own(batch=1, depth=36, dim=2048, length=512, precision="fp32"),
        "python train.py",
        _4090,
        _A100,
        changed=("resources.gpu_model", "resources.gpu_memory_mib"),
    ),
    played("oom-mig", own(batch=8, depth=12, dim=768, length=1024), "python train.py", _MIG, changed=("training",)),
    played(
        "oom-recipe",
        filled(RECIPE, {"OFFSET": 4.0}),
        "python train.py --config recipe.yaml",
        _4090,
        files={**_OWN_DIR, "recipe.yaml": _RECIPE},
        changed=("training", "config_overlays"),
    ),
    played(
        "oom-key-value",
        KEY_VALUE,
        "python finetune.py train.batch_size=8",
        _4090,
        script="finetune.py",
        files={**_OWN_DIR, "conf.json": json.dumps(_CONF, indent=2)},
        changed=("training", "config_overlays"),
    ),
    played(
        "oom-shell-script",
        own(batch=32, length=1024),
        "bash run.sh",
        _4090,
        files={"run.sh": _SHELL},
        changed=("training", "env", "command"),
    ),
    played(
        "oom-users-batch-asked",
        own(batch=4),
        "python train.py",
        _4090,
        sets=("training.micro_batch=16",),
        expected=Expected.ESCALATED,
    ),
    played(
        "oom-users-batch-stays",
        own(batch=4, options=_CKPT, occupy=_CKPT_OCCUPY),
        "python train.py",
        _4090,
        sets=("training.micro_batch=12",),
        changed=("training.grad_checkpointing",),
    ),
    played(
        "oom-70b-full",
        hf("meta-llama/Llama-2-70b-hf", batch=1, length=2048),
        "python train.py --bf16 --gradient_checkpointing",
        _4090,
        expected=Expected.ESCALATED,
        also=(FailureClass.PLACEMENT_GPU_UNAVAILABLE,),
    ),
    played(
        "oom-own-model-nothing-helps",
        own(batch=1, depth=80, dim=8192, length=512, options=_CKPT, occupy=_CKPT_OCCUPY),
        "python train.py",
        _4090,
        changed=("training",),  # what may be tried first
        expected=Expected.ESCALATED,
    ),
    played(
        "oom-lora-7b",
        hf("models/seven", batch=4, length=2048, options=LORA, occupy=LORA_OCCUPY + " offset=3.0"),
        "python train.py --model_name_or_path models/seven --use_lora --bf16",
        gpu_node("desk", "NVIDIA RTX A5000", 24564),
        files={
            "models/seven/config.json": json.dumps(
                {
                    "hidden_size": 4096,
                    "intermediate_size": 11008,
                    "max_position_embeddings": 4096,
                    "num_attention_heads": 32,
                    "num_hidden_layers": 32,
                    "vocab_size": 32000,
                }
            )
        },
        changed=("training.micro_batch", "training.grad_checkpointing"),
    ),
)

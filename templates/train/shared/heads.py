"""A pretrained model with a head for a task of its own: loading it, and an adapter that keeps the new parts beside it.

This module imports torch and transformers.
"""

import argparse
from collections.abc import Iterable
from typing import Any

import torch

from shared.hardware import dtype_of
from shared.models import loaded_from, refused_model
from shared.refusals import Refused


def load_with_head(auto: Any, args: argparse.Namespace, config: Any, numbers: str, task: str) -> tuple[Any, list[str]]:
    """(model, names of the modules whose weights are new). Weights are in 32 bit unless they stay as they are.

    `auto` is transformers' class for the task, `task` what it is in words. Raises Refused for a model that has no such
    head, or that is not there.
    """
    frozen = args.method != "full" and args.fsdp == "off"  # FSDP shards tensors of one type together
    told = {"dtype": dtype_of(numbers if frozen else "fp32"), **loaded_from(args)}
    told |= {"attn_implementation": args.attn} if args.attn != "auto" else {}
    try:
        model, info = auto.from_pretrained(
            args.model, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **told
        )
    except (OSError, ValueError) as error:
        if "Unrecognized configuration class" in str(error):
            text = f"a model of the kind {config.model_type!r} has no head for {task}"
            raise Refused("model_missing", text, args.model) from error
        raise refused_model(error, args) from error
    mismatched = (key[0] if isinstance(key, list | tuple) else key for key in info.get("mismatched_keys", ()))
    return model, new_modules(model, {*info["missing_keys"], *mismatched})


def new_modules(model: Any, keys: Iterable[str]) -> list[str]:
    """The modules of weights that were not in the base model's files: the head's own, and what else is new."""
    base = getattr(model, "base_model_prefix", "")
    heads = [n for n, child in model.named_children() if n != base and any(True for _ in child.parameters())]
    heads = heads if hasattr(model, base) and getattr(model, base) is not model else []
    inner = {key.rpartition(".")[0] for key in keys}
    return [*heads, *sorted(name for name in inner if name and not any(_within(name, head) for head in heads))]


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def with_adapter(model: Any, args: argparse.Namespace, new: list[str], kind: str | None, *, keep: bool = True) -> Any:
    """The model with an adapter on its linear layers. New modules get none; they are trained whole and kept beside it.

    `kind` is the task as peft names it. `keep` false: new modules are of no use and stay out of both.

    Raises Refused where no layer takes one.
    """
    from peft import LoraConfig, get_peft_model

    names = [part.strip() for part in args.lora_targets.split(",") if part.strip()]
    every = args.lora_targets in ("auto", "all-linear")
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and not _any_within(n, new)]
    targets = linear if every else [n for n in linear if any(n == t or n.endswith(f".{t}") for t in names)]
    if not targets:
        raise Refused(
            "options", "no linear layer takes an adapter: another --lora-targets, or --method full", args.model
        )
    config = LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha or 2 * args.lora_rank,
        lora_dropout=args.lora_dropout,
        task_type=kind,
        target_modules=sorted({_short(n, targets, [name for name, _ in model.named_modules()]) for n in targets}),
        modules_to_save=(new or None) if keep else None,
    )
    adapted = get_peft_model(model, config)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # small updates would be lost in 16 bit
    return adapted


def _any_within(name: str, modules: list[str]) -> bool:
    return any(_within(name, module) for module in modules)


def _short(name: str, targets: list[str], names: list[str]) -> str:
    """The shortest ending of a layer's name that stands for targets alone, so that the adapter's config stays short."""
    parts = name.split(".")
    for start in range(len(parts) - 1, -1, -1):
        ending = ".".join(parts[start:])
        if all(n in targets for n in names if n == ending or n.endswith(f".{ending}")):
            return ending
    return name

"""Model, adapter and trainer of a supervised fine-tuning, from the options. This module imports torch, peft and trl."""

import argparse
import logging
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
from samples import Samples
from shared.hardware import dtype_of
from shared.models import loaded_from, refused_model
from shared.refusals import Refused
from shared.reloading import Reloading
from shared.sides import quantisation
from shared.trainer import Watch, Whole, quiet, training_arguments
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer


class Trainer(Reloading, Whole, SFTTrainer):
    """trl's trainer, whose checkpoints appear whole."""


def base_dtype(method: str, numbers: str) -> str:
    """The precision that base weights are kept in: fp32 where all of them learn, else that of the arithmetic.

    Updates of a usual rate are smaller than bf16 resolves, so weights that learn are kept in fp32.
    """
    return "fp32" if method == "full" else numbers


def load_model(args: argparse.Namespace, numbers: str, dtype: str, *, quantised: bool) -> Any:
    """The base model's weights. Raises Refused where they are not a language model's."""
    more: dict[str, Any] = {"dtype": dtype_of(dtype)}
    if args.attn != "auto":
        more["attn_implementation"] = args.attn
    if quantised:
        storage = dtype_of(numbers) if args.fsdp != "off" else torch.uint8  # FSDP shards weights of one dtype
        more["quantization_config"] = quantisation(args.quant_bits, numbers, storage)
        if torch.cuda.is_available() and args.fsdp == "off" and args.deepspeed == "off":
            more["device_map"] = {"": torch.cuda.current_device()}
    try:
        model = AutoModelForCausalLM.from_pretrained(args.model, **loaded_from(args), **more)
    except (OSError, ValueError) as error:
        if "Unrecognized configuration class" in str(error):
            raise Refused("model_missing", f"{args.model!r} is no causal language model") from error
        raise refused_model(error, args) from error
    model.config.use_cache = False
    return model


def adapter(args: argparse.Namespace) -> peft.LoraConfig:
    """LoRA on all linear layers but the head, or on those that are named."""
    auto = args.lora_targets in ("auto", "all-linear")
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=args.lora_rank,
        lora_alpha=args.lora_alpha or 2 * args.lora_rank,
        lora_dropout=args.lora_dropout,
        target_modules="all-linear" if auto else [name.strip() for name in args.lora_targets.split(",")],
    )


def dataset(samples: Samples, max_len: int) -> datasets.Dataset:
    """Token ids and labels, -100 where none is learned. What has nothing to learn within the limit is left out."""
    ids, labels = [], []
    for sample in samples.samples:
        learned = sample.learned or [1] * len(sample.ids)
        if any(learned[:max_len]):
            ids.append(sample.ids[:max_len])
            labels.append([t if on else -100 for t, on in zip(sample.ids, learned, strict=True)][:max_len])
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": labels})


def build(
    args: argparse.Namespace,
    output: Path,
    numbers: str,
    tokenizer: Any,
    parts: tuple[Samples, Samples | None],
    watch: Watch,
    *,
    resumed: bool,
) -> Trainer:
    """A trainer for the method that was asked for. `parts`: what is learned from, and what is held out."""
    learned, held_out = parts
    datasets.disable_progress_bars()
    told = training_arguments(args, output, numbers, evaluated=held_out is not None, resumed=resumed)
    config = SFTConfig(
        **told,
        max_length=args.max_len,
        packing=args.packing,
        eval_packing=False,
        include_num_input_tokens_seen="non_padding",
    )
    quantised = args.method == "qlora"
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every cast of every layer
    model = load_model(args, numbers, base_dtype(args.method, numbers), quantised=quantised)
    if quantised:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=args.grad_checkpointing)
    trainer = Trainer(
        model=model,
        args=config,
        train_dataset=dataset(learned, args.max_len),
        eval_dataset=dataset(held_out, args.max_len) if held_out else None,
        processing_class=tokenizer,
        peft_config=None if args.method == "full" else adapter(args),
        callbacks=[watch],
    )
    quiet(trainer)
    return trainer


def merge(args: argparse.Namespace, numbers: str, folder: Path) -> Any:
    """The base model with the adapter in `folder` added to its weights, which are loaded anew and not quantised."""
    model = load_model(args, numbers, base_dtype("merge", numbers), quantised=False)
    return peft.PeftModel.from_pretrained(model, str(folder)).merge_and_unload()

"""Measuring a trained model on data: the command line of `evaluate.py`, and loading what a training has written."""

import argparse
from pathlib import Path
from typing import Any

from shared.arguments import boolean, count
from shared.files import read_json
from shared.hardware import dtype_of, precision
from shared.models import find_config, loaded_from, refused_model
from shared.refusals import Refused

ADAPTER = "adapter_config.json"


def judge_parser(description: str) -> argparse.ArgumentParser:
    """The options that each `evaluate.py` has."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="folder of a trained model or adapter, as a training wrote it")
    parser.add_argument("--base", default=None, help="base model of an adapter; unset: the one it was trained on")
    parser.add_argument("--revision", default=None)
    parser.add_argument("--trust-remote-code", type=boolean, default=False)
    parser.add_argument("--data", required=True, help="what it is measured on")
    parser.add_argument("--columns", default=None, help="names of columns, as role=name,role=name")
    parser.add_argument("--micro-batch", type=count, default=32)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    parser.add_argument("--output", type=Path, default=None, help="file for the result, beside stdout")
    return parser


def load_trained(auto: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    """(model, its configuration), ready to be asked, on the GPU where there is one. `auto` is transformers' class.

    An adapter is put on its base with the configuration that lies beside it, which names the labels.
    """
    import torch

    config = find_config(args)
    folder = Path(args.model)
    adapter = read_json(folder / ADAPTER) if (folder / ADAPTER).is_file() else None
    base = args.base or (adapter or {}).get("base_model_name_or_path") or args.model
    told = {"dtype": dtype_of(precision(args.precision)), **loaded_from(args)}
    try:
        model = auto.from_pretrained(base, config=config, ignore_mismatched_sizes=adapter is not None, **told)
    except (OSError, ValueError) as error:
        asked = argparse.Namespace(**{**vars(args), "model": base})
        raise refused_model(error, asked) from error
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), config


def named_labels(config: Any, args: argparse.Namespace) -> list[str]:
    """The labels of a trained classifier. Raises Refused for a model that is none."""
    from shared.classes import PLACEHOLDER, label_names

    names = label_names(config)
    if len(names) < 2 or all(PLACEHOLDER.fullmatch(name) for name in names):
        raise Refused("model_missing", "it names no labels: no classifier that a training here has written", args.model)
    return names

"""Models to be judged, one at a time on the GPU: what was trained, and the base that it began from.

This module imports torch and transformers; it works with transformers 4.30 and later.
"""

import argparse
import contextlib
import gc
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from shared.files import read_json
from shared.hardware import dtype_of, precision
from shared.judging import ADAPTER
from shared.models import find_config, find_tokenizer, loaded_from, refused_model
from shared.refusals import Refused, note


def stored_in(numbers: str) -> dict[str, Any]:
    """What `from_pretrained` is told of the precision of weights: its word for it changed with transformers 4.56."""
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    return {"dtype" if version >= (4, 56) else "torch_dtype": dtype_of(numbers)}


def quantisation(bits: int, numbers: str, storage: Any = torch.uint8) -> Any:
    """Frozen weights in 4 bits (NF4, with its scales quantised too) or in 8, as Dettmers et al. (2023) do it."""
    if bits == 8:
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype_of(numbers),
        bnb_4bit_quant_storage=storage,
    )


def loaded(auto: Any, name: str, args: argparse.Namespace, *, bits: int | None = None, **more: Any) -> Any:
    """The weights of a model, ready to be asked, on the GPU where there is one; over several where one is too small.

    `bits`: the frozen base of a QLoRA training, as it was trained on. Raises Refused for what can't be loaded.
    """
    asked = argparse.Namespace(**{**vars(args), "model": name})
    numbers = precision(args.precision)
    told: dict[str, Any] = {**stored_in(numbers), **loaded_from(asked), **more}
    told |= {"attn_implementation": args.attn} if getattr(args, "attn", "auto") not in ("auto", None) else {}
    gpu = torch.cuda.is_available()
    if bits:
        told |= {"quantization_config": quantisation(bits, numbers)}
        told |= {"device_map": {"": torch.cuda.current_device()}} if gpu else {}
    elif gpu and torch.cuda.device_count() > 1 and _too_large(name):
        told["device_map"] = "auto"
    try:
        model = auto.from_pretrained(name, **told)
    except (OSError, ValueError) as error:
        if "Unrecognized configuration class" in str(error):
            raise Refused("model_missing", f"{name!r} is no model of the kind that is judged here") from error
        raise refused_model(error, asked) from error
    if gpu and "device_map" not in told:
        model = model.to("cuda")
    return model.eval()


def _too_large(name: str) -> bool:
    """Whether a model's files are more than nine tenths of one GPU's free memory."""
    size = sum(p.stat().st_size for p in Path(name).glob("*.safetensors")) if Path(name).is_dir() else 0
    return bool(size > 0.9 * torch.cuda.mem_get_info()[0])


def with_adapter(model: Any, folder: str) -> Any:
    """The base with the adapter of a folder on it."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder).eval()


def adapter_of(folder: str) -> dict[str, Any] | None:
    """An adapter's configuration, None for a whole model."""
    path = Path(folder, ADAPTER)
    found = read_json(path) if path.is_file() else None
    return found if isinstance(found, dict) else None


def base_of(args: argparse.Namespace) -> str | None:
    """The model that it began from, as it was said, or as the adapter says."""
    return args.base or (adapter_of(args.model) or {}).get("base_model_name_or_path")


def both(args: argparse.Namespace, auto: Any, look: Callable[[Any], Any], bits: int | None) -> dict[str, Any]:
    """Side → what `look` finds of it: the base, where there is one that can be loaded, and the tuned model.

    An adapter's base is the same model without it. One model is in memory at a time.
    """
    base, found = base_of(args), {}
    if adapter_of(args.model) is not None:
        if not base:
            raise Refused("model_missing", "the adapter says nothing of its base: name it by --base", args.model)
        tuned = with_adapter(loaded(auto, base, args, bits=bits), args.model)
        with tuned.disable_adapter():
            found["base"] = look(tuned)
        found["tuned"] = look(tuned)
        return found
    if base and Path(base).resolve() != Path(args.model).resolve():
        with contextlib.suppress(Absent):
            found["base"] = _of_base(auto, base, args, look)
    found["tuned"] = look(loaded(auto, args.model, args))
    return found


class Absent(Exception):
    """A base that can't be loaded: the tuned model is judged alone."""


def _of_base(auto: Any, base: str, args: argparse.Namespace, look: Callable[[Any], Any]) -> Any:
    try:
        model = loaded(auto, base, args)
    except (Refused, OSError) as error:
        note(f"the base {base!r} can't be loaded, so the model is judged alone: {str(error)[:200]}")
        raise Absent from error
    try:
        return look(model)
    finally:
        del model
        free()


def free() -> None:
    """Give memory back to the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_batches(items: Sequence[Any], batch: int, call: Callable[[Sequence[Any]], Any]) -> Iterator[Any]:
    """What `call` makes of parts of the items, in their order. Where the GPU's memory runs out parts get half as long.

    Raises Refused where a single one is too much.
    """
    at, size = 0, batch
    while at < len(items):
        try:
            with torch.no_grad():
                found = call(items[at : at + size])
        except torch.cuda.OutOfMemoryError as error:
            if size == 1:
                raise Refused(
                    "memory", "a single example does not fit into the GPU's memory beside the model"
                ) from error
            size = max(1, size // 2)
            note(f"the GPU's memory ran out: {size} examples at once from here on")
        else:
            yield found
            at += size
            continue
        free()


def tokenizer_of(args: argparse.Namespace) -> Any:
    """The trained model's tokenizer, else its base's."""
    try:
        return find_tokenizer(args)
    except (Refused, OSError, ValueError):
        base = base_of(args)
        if not base:
            raise
        return find_tokenizer(argparse.Namespace(**{**vars(args), "model": base}))


def config_of(args: argparse.Namespace) -> Any:
    """The trained model's configuration, else its base's."""
    base = base_of(args)
    if base and not Path(args.model, "config.json").is_file():
        return find_config(argparse.Namespace(**{**vars(args), "model": base}))
    return find_config(args)


def share(flags: Sequence[bool]) -> float:
    """How many of them are true, 0 of none."""
    return sum(flags) / len(flags) if flags else 0.0


def finite(values: Sequence[float]) -> list[bool]:
    """Which of the numbers are numbers."""
    return [math.isfinite(value) for value in values]

"""How alike two contexts are, facet by facet: model, method, sizes, GPU, image, versions, what a failure names.

Pure functions on the context of a lesson and of what is sought. A facet that either of them does not tell is left out:
what is not known speaks neither for nor against. Which facets matter against which cause is `weights`' table.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import Final

from caravan.lessons.versions import spread
from caravan.values.base import Json
from caravan.values.distributions import distribution, normal, requirement_name

Context = Mapping[str, Json]

# Words in the names of models that say nothing of how they are built.
_GENERIC: Final = frozenset(
    {"meta", "google", "facebook", "microsoft", "flan", "open", "the", "hf", "base", "tiny", "small", "large"}
    | {"distil", "instruct", "chat", "model", "models", "nous"}
)
_ADAPTERS: Final = frozenset({"lora", "qlora", "dora", "adapter", "adapters", "peft", "ia3", "prompt", "prefix"})
_TORCH: Final = frozenset({"pytorch", "torch", "transformers", "lightning", "pytorch-lightning", "trl", "accelerate"})
# Who built the GPU's generation, by parts of its model's name; in order, since `l4` is in `l40`.
_GENERATIONS: Final = (
    ("blackwell", ("b100", "b200", "gb200", "5090", "rtx pro 6000")),
    ("hopper", ("h100", "h200", "h800", "h20", "gh200")),
    ("ada", ("l40", "l4", "4090", "4080", "6000 ada")),
    ("ampere", ("a100", "a800", "a10", "a16", "a30", "a40", "a6000", "a5000", "a4000", "3090", "3080")),
    ("turing", ("t4", "2080", "rtx 6000", "rtx 8000")),
    ("volta", ("v100", "titan v")),
    ("pascal", ("p100", "p40", "p4", "1080")),
    ("kepler", ("k80", "k40")),
)
# GiB of models that come with one size, by the makers' data sheets.
_MEMORY: Final = (
    ("h200", 141),
    ("b200", 192),
    ("h100", 80),
    ("l40", 48),
    ("a40", 48),
    ("a6000", 48),
    ("5090", 32),
    ("a10", 24),
    ("a30", 24),
    ("l4", 24),
    ("3090", 24),
    ("4090", 24),
    ("p40", 24),
    ("t4", 16),
    ("p100", 16),
    ("2080", 11),
    ("k80", 12),
)
_DECIDING: Final = frozenset(
    {"module", "package", "option", "program", "symbol", "variable", "dtype", "dimension", "column"}
)
"""Kinds of things whose names tell two failures of one cause apart. Paths, images and hosts are named as everybody
likes, so that another name says nothing."""


@functools.lru_cache(maxsize=4096)
def family(model: str) -> str:
    """The family of a model by its name: `meta-llama/Llama-2-7b-hf` and `Meta-Llama-3-8B` are `llama`."""
    name = model.rstrip("/").rpartition("/")[2].casefold()
    words = [re.sub(r"\d.*$", "", word) for word in re.split(r"[-_.\s]+", name)]
    return next((word for word in words if word and word not in _GENERIC), name)


def billions(context: Context) -> float | None:
    """The model's parameters in billions, as they are told or as its name tells them (`7b`, `350m`)."""
    told = _number(context.get("params_b"))
    if told:
        return told
    found = re.search(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z])", str(context.get("base_model") or "").lower())
    return None if found is None else float(found[1]) / (1000 if found[2] == "m" else 1)


def generation(context: Context) -> str | None:
    """Who the GPU's kin are (`ampere`), by its model's name; None where that is not known."""
    return _generation(_gpu(context))


@functools.lru_cache(maxsize=1024)
def _generation(name: str) -> str | None:
    return next((kin for kin, parts in _GENERATIONS if any(p in name for p in parts)), None) if name else None


def gpu_memory(context: Context) -> float | None:
    """The GPU's memory in GiB: as it is told, or as its model's name tells it."""
    told = _number(context.get("gpu_memory_gib"))
    if told:
        return told
    name = _gpu(context)
    found = re.search(r"(\d{1,3}) ?g(?:i?b)?\b", name)
    return float(found[1]) if found else next((float(gib) for part, gib in _MEMORY if part in name), None)


def subject(context: Context) -> tuple[str, str] | None:
    """What the failure names, as kind and name in one spelling: `module=flash_attn` is package `flash-attn`."""
    return _read_subject(str(context.get("subject") or ""))


@functools.lru_cache(maxsize=4096)
def _read_subject(told: str) -> tuple[str, str] | None:
    kind, equals, name = told.partition("=")
    if not equals or not name.strip():
        return None
    name = name.strip().casefold()
    if kind in ("module", "package"):
        top = re.split(r"[.\s\[<>=~!;]", name)[0]
        return "package", normal(requirement_name(distribution(top) or top) or top)
    if kind == "option":
        return kind, name.split(" ")[0].partition("=")[0].lstrip("-+").replace("-", "_")
    if kind == "symbol" and name.startswith("_z"):
        return None  # a compiler's name, another one with each build
    if kind in ("path", "program", "image"):
        return kind, name.rstrip("/").rpartition("/")[2].partition("@")[0]
    return kind, name


def kin(context: Context) -> str:
    """What is trained how on what, roughly: method, parameters to the nearest doubling, generation of the GPU.

    Empty where two of them are not known.
    """
    size = billions(context)
    told = (context.get("method"), None if size is None else round(math.log2(size)), generation(context))
    known = [str(part) for part in told if part is not None]
    return "/".join(known) if len(known) > 1 else ""


def another_thing(have: Context, want: Context) -> bool:
    """Whether both name something, of a kind that tells failures apart, and not the same."""
    a, b = subject(have), subject(want)
    return a is not None and b is not None and a[0] == b[0] and a[0] in _DECIDING and a[1] != b[1]


def same_thing(have: Context, want: Context) -> bool:
    """Whether both name the same thing, of a kind that tells failures apart."""
    found = subject(have)
    return found is not None and found[0] in _DECIDING and found == subject(want)


def likeness(have: Context, want: Context) -> dict[str, float]:
    """Facet → how alike it is in both, 0 to 1; facets that one of them does not tell are left out."""
    found = {
        "code": _equal(have, want, "code_digest"),
        "repository": _equal(have, want, "repository"),
        "program": _equal(have, want, "program_digest"),
        "framework": _framework(have, want),
        "method": _method(have, want),
        "model": _model(have, want),
        "size": _near(billions(have), billions(want), 1.5),
        "gpu": _gpus_alike(have, want),
        "gpu_memory": _near(gpu_memory(have), gpu_memory(want), 1.0),
        "gpus": _near(_number(have.get("gpus")), _number(want.get("gpus")), 2.0),
        "nodes": _equal(have, want, "nodes"),
        "batch": _near(_number(have.get("micro_batch")), _number(want.get("micro_batch")), 3.0),
        "length": _near(_number(have.get("max_len")), _number(want.get("max_len")), 2.0),
        "precision": _equal(have, want, "precision"),
        "image": _image(have, want),
        "driver": _equal(have, want, "driver"),
        "kind": _equal(have, want, "kind"),
        "stage": _equal(have, want, "stage"),
        "subject": _subject(have, want),
        "versions": spread(have, want),
    }
    return {facet: value for facet, value in found.items() if value is not None}


def _equal(have: Context, want: Context, key: str) -> float | None:
    a, b = have.get(key), want.get(key)
    return None if a in (None, "") or b in (None, "") else float(str(a).casefold() == str(b).casefold())


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _near(a: float | None, b: float | None, doublings: float) -> float | None:
    """1 for equal amounts, 0 from that many doublings apart: what counts is the order of magnitude."""
    return None if a is None or b is None else max(0.0, 1.0 - abs(math.log2(a / b)) / doublings)


def _framework(have: Context, want: Context) -> float | None:
    equal = _equal(have, want, "framework")
    names = {str(c.get("framework")).casefold() for c in (have, want)}
    return 0.6 if equal == 0.0 and names <= _TORCH else equal


def _method(have: Context, want: Context) -> float | None:
    equal = _equal(have, want, "method")
    names = {str(c.get("method")).casefold() for c in (have, want)}
    return 0.3 if equal == 0.0 and names <= _ADAPTERS else equal


def _model(have: Context, want: Context) -> float | None:
    equal = _equal(have, want, "base_model")
    if equal != 0.0:
        return equal
    return 0.8 if family(str(have.get("base_model"))) == family(str(want.get("base_model"))) else 0.0


def _gpu(context: Context) -> str:
    return re.sub(r"[-_]+", " ", str(context.get("gpu_model") or "").casefold())


def _gpus_alike(have: Context, want: Context) -> float | None:
    equal = _equal(have, want, "gpu_model")
    if equal != 0.0:
        return equal
    a, b = generation(have), generation(want)
    if a is None or b is None or a != b:
        return None if a is None or b is None else 0.0
    memory = _near(gpu_memory(have), gpu_memory(want), 1.0)
    return 0.6 if memory is None else 0.5 + 0.5 * memory


def _image(have: Context, want: Context) -> float | None:
    equal = _equal(have, want, "image")
    if equal != 0.0:
        return equal
    return 0.6 if _repository(have) == _repository(want) else 0.0


def _repository(context: Context) -> str:
    return str(context.get("image")).casefold().partition("@")[0].rpartition("/")[2].partition(":")[0]


def _subject(have: Context, want: Context) -> float | None:
    a, b = subject(have), subject(want)
    return None if a is None or b is None or a[0] != b[0] else float(a[1] == b[1])

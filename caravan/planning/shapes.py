"""A model's shape by its name: the shipped table of the commonest families, else the size in the name.

Facts are in `caravan.planning.known`; this module only finds the row. It knows no plan, reads no file and asks nobody.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Final

from caravan.planning.known import decoders, llama, plain, qwen, text, vision
from caravan.planning.known.rows import Known
from caravan.values.shape import ModelShape

Shape = ModelShape
"""The older name."""

_LONGEST: Final = 400
_SIZE: Final = re.compile(r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,5}(?:\.\d{1,4})?)\s*([bm])(?![a-z0-9])")
_SPELLINGS: Final = (
    (re.compile(r"[_\s]+"), "-"),
    (re.compile(r"^models--"), ""),
    (re.compile(r"\bmeta-(?=llama)"), ""),
    (re.compile(r"\bcode-llama"), "codellama"),
    (re.compile(r"\b(llama|gemma|phi|mistral|mixtral|vicuna|olmo|falcon)(?=\d)(?!3-7b)"), r"\1-"),
    (re.compile(r"\bqwen-(?=(?:1\.5|2(?:\.5)?|3)-)"), "qwen"),
    (re.compile(r"\bgpt-2\b"), "gpt2"),
    (re.compile(r"\b(qwen[\d.]+)-(?:coder|math)(?=-)"), r"\1"),
    (re.compile(r"\b(qwen2)-5\b"), r"\1.5"),
    (re.compile(r"\b(llama-3)-([123])(?=-\d)"), r"\1.\2"),
)
"""Other spellings of the table's names: `Meta_Llama3.1-8B` is its `llama-3.1-8b`."""
_SMALLER: Final = frozenset(("tiny", "random", "nano", "micro", "toy", "dummy"))
"""Words for a model that is much smaller than the one it is named after."""


def shape_of(model_id: str) -> ModelShape | None:
    """The shape of a model by its hub id or path, the longest known name in it first; else by the size in its name.

    None when neither tells anything.
    """
    return listed_shape(model_id) or sized_shape(model_id)


@lru_cache(maxsize=1024)
def listed_shape(model_id: str) -> ModelShape | None:
    """The shape of a model that the table knows by its id or path; None for any other."""
    for part in _parts(model_id):
        words = set(re.split(r"[-.]", part))
        sizes = tuple(_sizes(part))
        for known in _by_length():
            if known.name not in part or not re.search(
                rf"(?<![a-z0-9.]){re.escape(known.name)}(?![a-z0-9]|\.\d)", part
            ):
                continue
            if (words & _SMALLER) - set(known.name.split("-")) or _contradicted(known, sizes):
                continue
            return known.shape()
    return None


def sized_shape(model_id: str) -> ModelShape | None:
    """A usual decoder of the size that the name tells (`our-13b-chat`); None where it tells none."""
    for part in _parts(model_id):
        for billions in _sizes(part):
            guess = guessed_shape(billions)
            return guess.model_copy(update={"source": f"guessed from the {billions:g} B in its name"})
    return None


def guessed_shape(params_b: float) -> ModelShape:
    """A usual decoder of that many billion parameters: depth and width grow together.

    params = 12 · layers · hidden² (Kaplan et al. 2020, arXiv 2001.08361) with hidden = 128 · layers, as the listed
    models have it within about a third.
    """
    layers = max(2, round((params_b * 1e9 / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    return ModelShape(
        params_b=params_b,
        hidden=hidden,
        layers=layers,
        heads=max(1, hidden // 128),
        kv_heads=max(1, hidden // 128),
        intermediate=4 * hidden,
        vocab=32000,
        gated=False,
        exact=False,
        source=f"guessed from {params_b:g} B parameters",
    )


def canonical(name: str) -> str:
    """A model's name as the table spells names: small letters, hyphens, the usual place of the version."""
    name = name.lower()
    for pattern, instead in _SPELLINGS:
        name = pattern.sub(instead, name)
    return name


def known_models() -> tuple[Known, ...]:
    """All rows of the table, one for each name."""
    return (*llama.ROWS, *qwen.ROWS, *decoders.ROWS, *plain.ROWS, *text.ROWS, *vision.ROWS)


@cache
def _by_length() -> tuple[Known, ...]:
    return tuple(sorted(known_models(), key=lambda known: len(known.name), reverse=True))


def _parts(model_id: str) -> Iterator[str]:
    """The id's last part; of a path also those above it, where a checkpoint's own name says nothing."""
    parts = [p for p in re.split(r"/|--", model_id.strip()[:_LONGEST].replace("\\", "/")) if p not in ("", ".", "..")]
    of_hub = len(parts) <= 2 and not model_id.startswith(("/", ".", "~"))
    for part in parts[-1:] if of_hub else reversed(parts[-4:]):
        yield canonical(part)


def _sizes(name: str) -> Iterator[float]:
    """Billions of parameters that a name tells, experts multiplied out."""
    for count, number, unit in _SIZE.findall(name):
        billions = float(number) * (int(count) if count else 1) / (1000 if unit == "m" else 1)
        if 0.001 <= billions <= 2000:
            yield billions


def _contradicted(known: Known, sizes: tuple[float, ...]) -> bool:
    """Whether the name tells another size than a row has whose own name tells none (`bloom` in `bloom-xy-3b`)."""
    if not sizes or _SIZE.search(known.name):
        return False
    return not any(0.6 <= size / known.numbers[0] <= 1.6 for size in sizes)

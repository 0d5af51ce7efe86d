"""Base models in a sentence: hub ids, and names that people write with blanks, as the hub spells them."""

import re
from collections.abc import Iterator
from typing import Final

from caravan.planning.sentences.common import Found, Said, Unused, negated

PATH: Final = "model.id"
_FAMILIES: Final = (
    "qwen|llama|mistral|mixtral|gemma|bloom|falcon|pythia|smollm|vicuna|deepseek|olmo|roberta|bert|internlm|baichuan|"
    "starcoder|stablelm|chatglm|whisper|wav2vec|flan|gpt|(?<![A-Za-z])(?:opt|yi|phi|t5|vit|clip|bart|"
    "granite)(?=[-_.\\d])"
)
_BARE_FAMILIES: Final = (
    "qwen|llama|tinyllama|mistral|mixtral|gemma|phi|gpt|opt|bloom|falcon|pythia|"
    "smollm|vicuna|deepseek|olmo|yi|internlm|baichuan|starcoder|stablelm|granite|flan"
)
_HUB: Final = rf"(?<![\w/.:-])(?P<hub>[A-Za-z0-9][\w.-]*/(?:[\w.-]*(?:{_FAMILIES})[\w.-]*))(?![\w/])"
_BARE: Final = (
    rf"(?<![\w/.-])(?P<bare>(?:meta-)?(?:{_BARE_FAMILIES})[\w.]*(?:-[\w.]+)*-\d+(?:\.\d+)?[bm](?:-[\w.]+)*"
    r"|(?:distil)?gpt2(?:-(?:medium|large|xl))?|(?:distil|xlm-)?(?:bert|roberta)-(?:base|large|tiny|small|"
    r"mini)(?:-\w+)*|"
    r"(?:flan-)?t5-(?:small|base|large|xl|xxl|3b|11b))(?![\w/-])"
)
_SPACED: Final = (
    r"(?<![\w/.-])(?P<family>qwen|llama|gemma|"
    r"smollm)[ -]?(?P<version>\d(?:\.\d)?)[ -](?P<size>\d+(?:\.\d+)?)[ ]?(?P<unit>[bm])"
    r"(?:[ -](?P<kind>instruct|chat|it|base|coder))?(?![\w/])"
)
_MODEL: Final = re.compile(rf"{_HUB}|{_BARE}|{_SPACED}", re.IGNORECASE | re.ASCII)
_SIZED: Final = re.compile(
    r"(?<![\w/.-])(?P<name>(?:mistral|mixtral|llama|falcon|phi|yi|deepseek|qwen|gemma|pythia|opt|"
    r"bloom)(?:[ -]?\d(?:\.\d)?)?[ -]\d+(?:\.\d+)?[ ]?b)(?![\w/-])",
    re.IGNORECASE | re.ASCII,
)
_SPELLED: Final = {"qwen": "Qwen{0}", "llama": "Llama-{0}", "gemma": "gemma-{0}", "smollm": "SmolLM{0}"}


def find_models(text: str) -> Iterator[Found]:
    """Models that are named well enough to be found on the hub; others that are named are unused, with why."""
    taken: list[tuple[int, int]] = []
    for match in _MODEL.finditer(text):
        start, end = match.start(), match.end()
        name = match["hub"] or match["bare"] or _joined(match)
        kept = name.rstrip(".-")
        end -= len(name) - len(kept) if match["hub"] or match["bare"] else 0
        taken.append((start, end))
        if _is_file(kept):
            continue
        if negated(text, start, end):
            yield Unused(kept, "which model instead?", start, end)
        else:
            yield Said(PATH, kept, start, end)
    for match in _SIZED.finditer(text):
        if not any(s < match.end() and match.start() < e for s, e in taken):
            why = "several models on the hub are called so: write its hub id, owner/name"
            yield Unused(match["name"], why, match.start(), match.end())


def _is_file(name: str) -> bool:
    """Whether it is a path of the repository rather than a model: `configs/llama-7b.yaml`, `train_bert/run.py`."""
    return re.search(r"\.(?:py|sh|ya?ml|json[l]?|toml|ipynb|txt|md|csv|gin|cfg)$", name, re.IGNORECASE) is not None


def _joined(match: re.Match[str]) -> str:
    family = match["family"].lower()
    stem = _SPELLED[family].format(match["version"])
    unit = match["unit"].lower() if family == "gemma" else match["unit"].upper()
    kind = (match["kind"] or "").lower()
    if family == "gemma":
        kind = "it" if kind in ("instruct", "chat", "it") else ""
    else:
        kind = {"it": "Instruct", "chat": "Instruct", "base": ""}.get(kind, kind.capitalize())
    return "-".join(p for p in (stem, f"{match['size']}{unit}", kind) if p)

"""What a user's sentence says in so many words: method, epochs, learning rate, GPUs, model, budget, time.

Rules for plain cases only; what they don't recognise is left to the questions and to a language model. The sentence
is data: it can only set the fields below.
"""

import re
from collections.abc import Iterator
from typing import Final

from caravan.planning.catalogue import CATALOGUE
from caravan.values.base import Json
from caravan.values.plan import Author, PlanChange

_NUMBER: Final = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
_COUNT: Final = {"one": 1, "a": 1, "single": 1, "two": 2, "three": 3, "four": 4, "six": 6, "eight": 8, "sixteen": 16}
_METHODS: Final = (
    (r"\bq-?lora\b", "qlora"),
    (r"\bdora\b", "dora"),
    (r"\blora\b|\blow[- ]rank\b", "lora"),
    (r"\bfull (?:fine-?tun\w*|parameter\w*)|\bfull[- ]weight\w*", "full"),
)
_FAMILIES: Final = (
    "qwen|llama|tinyllama|mistral|mixtral|gemma|phi|gpt|opt|bloom|falcon|pythia|smollm|vicuna|deepseek|olmo|bert|"
    "roberta|t5|flan|yi|internlm|baichuan|starcoder|stablelm"
)
_HUB_ID: Final = re.compile(
    rf"(?<![\w/.:-])([A-Za-z0-9][\w.-]*/(?:[\w.-]*(?:{_FAMILIES})[\w.-]*))(?![\w/])", re.IGNORECASE
)
_BARE_ID: Final = re.compile(
    rf"(?<![\w/.-])((?:meta-)?(?:{_FAMILIES})[\w.]*(?:-[\w.]+)*-\d+(?:\.\d+)?[bm](?:-[\w.]+)*)(?![\w/])", re.IGNORECASE
)
_NUMBERS: Final[tuple[tuple[str, str, bool], ...]] = (
    # plan path, pattern with one group, whole number?
    ("training.epochs", rf"\b{_NUMBER}\s+epochs?\b|\bepochs?\s*(?:=|:|of)\s*{_NUMBER}", False),
    ("training.lr", rf"\b(?:learning[- ]rate|lr)\s*(?:=|:|of|to)?\s*{_NUMBER}", False),
    ("training.micro_batch", r"\bbatch(?:[- ]size)?\s*(?:=|:|of|to)?\s*(\d+)\b", True),
    ("training.max_steps", r"\b(\d+)\s+(?:training |optimizer )?steps\b", True),
    ("training.max_len", r"\b(?:sequence|context|max)[- ]length\s*(?:=|:|of|to)?\s*(\d+)\b", True),
    ("training.lora_rank", r"\brank\s*(?:=|:|of)?\s*(\d+)\b", True),
    ("training.seed", r"\bseed\s*(?:=|:|of)?\s*(\d{1,9})\b", True),
)
_MONEY: Final = (
    r"\b(?:under|below|within|at most|no more than|less than|max(?:imum)?(?: of)?|up to|budget(?: of)?)\s*"
    r"(?:\$\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*(?:usd|dollars?|\$))"
)
_TIME: Final = (
    r"\b(?:under|within|at most|no more than|less than|up to|for)\s+(\d+(?:\.\d+)?)\s*(hours?|h|minutes?|min)\b"
)


def read_prompt(prompt: str) -> tuple[PlanChange, ...]:
    """The fields that the sentence sets, each with the words that say so."""
    return tuple(
        PlanChange(path=path, value=value, by=Author.USER, why=f'prompt: "{" ".join(words.split())}"'[:200])
        for path, value, words in _found(prompt)
    )


def gpu_words(prompt: str) -> str | None:
    """The GPU type that the sentence names (`A100`, `H100 80GB`), or None."""
    shorts = {m[0].upper() for g in CATALOGUE if (m := re.search(r"\b(?:RTX )?[A-Z]{0,2}\d{2,4}[A-Z]{0,2}\b", g.name))}
    names = "|".join(sorted((re.escape(s) for s in shorts), key=len, reverse=True))
    found = re.search(rf"(?<![\w-])({names})(?:[- ]?(\d+) ?gb)?s?(?![\w-])", prompt, re.IGNORECASE)
    if found is None:
        return None
    return f"{found[1].upper()} {found[2]}GB" if found[2] else found[1].upper()


def _found(prompt: str) -> Iterator[tuple[str, Json, str]]:
    text = prompt.lower()
    for pattern, method in _METHODS:
        if match := re.search(pattern, text):
            yield "training.method", method, match[0]
            break
    for path, pattern, whole in _NUMBERS:
        if match := re.search(pattern, text):
            said = next(g for g in match.groups() if g)
            value = int(said) if whole else float(said)
            if path == "training.seed" or 0 < value < 1e12:
                yield path, value, match[0]
    if match := _HUB_ID.search(prompt) or _BARE_ID.search(prompt):
        yield "model.id", match[1].rstrip("."), match[0]
    yield from _gpus(prompt)
    if match := re.search(_MONEY, text):
        yield "limits.max_cost_usd", float(match[1] or match[2]), match[0]
    if match := re.search(_TIME, text):
        seconds = round(float(match[1]) * (3600 if match[2].startswith("h") else 60))
        if 0 < seconds < 10**9:
            yield "limits.max_run_s", seconds, match[0]


def _gpus(prompt: str) -> Iterator[tuple[str, Json, str]]:
    text = prompt.lower()
    model = gpu_words(prompt)
    if re.search(r"\b(?:no|without(?: any| a)?|zero|0) gpus?\b|\bcpu[- ]only\b|\bon (?:the )?cpu\b", text):
        yield "resources.gpus", 0, "no GPU"
        return
    nodes = 1
    if match := re.search(rf"\b(\d{{1,3}}|{'|'.join(_COUNT)}) (?:nodes|machines|hosts)\b", text):
        nodes = _COUNT.get(match[1]) or int(match[1])
        if nodes > 1:
            yield "launch.nodes", nodes, match[0]
    kinds = "gpus?" + (f"|{re.escape(model.split()[0].lower())}s?" if model else "")
    if match := re.search(rf"\b(\d{{1,2}}|{'|'.join(_COUNT)})\s*(?:x\s*)?(?:\w+ )?(?:{kinds})\b", text):
        count = _COUNT.get(match[1]) or int(match[1])
        each = re.search(r"\b(?:each|per|apiece|every)\b|\ba (?:node|machine|host)\b", text)
        if nodes > 1 and not each and count % nodes == 0:
            count //= nodes  # all of them together
        if count > 0:
            yield "resources.gpus", count, match[0]
    if model:
        yield "resources.gpu_model", model, model

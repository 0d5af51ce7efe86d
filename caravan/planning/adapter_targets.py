"""Which matrices of a model have adapters, and of what rank, as a plan or the repository says it literally. Pure.

Only literal names count. What a program works out itself is not known, and every matrix is taken, which is the most.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final

from caravan.values.base import Json
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile

ALL_TARGETS: Final = ("q", "k", "v", "o", "gate", "up", "down")
"""The matrices of a block, as the estimate names them."""
_NAMES: Final = ("lora_target_modules", "target_modules", "lora_targets", "lora_target")
_CODE: Final = re.compile(r"target_modules\s*=\s*(\[[^\]]{1,500}\]|\"[^\"]{1,200}\"|'[^']{1,200}')")
_RANK: Final = re.compile(r"LoraConfig\(.*?\b(?:r|init_r)\s*=\s*(\d{1,5})\b")
_SPELLED: Final = {
    **{f"{name}_proj": (name,) for name in ALL_TARGETS},
    **{name: (name,) for name in ALL_TARGETS},
    **dict.fromkeys(("all", "all-linear", "all_linear"), ALL_TARGETS),
    **dict.fromkeys(("query_key_value", "c_attn", "qkv_proj", "wqkv", "attn_qkv"), ("q", "k", "v")),
    **dict.fromkeys(("query", "q_lin", "to_q", "wq"), ("q",)),
    **dict.fromkeys(("key", "k_lin", "to_k", "wk"), ("k",)),
    **dict.fromkeys(("value", "v_lin", "to_v", "wv"), ("v",)),
    **dict.fromkeys(("dense", "out_proj", "out_lin", "to_out.0", "wo"), ("o",)),
    **dict.fromkeys(("gate_up_proj",), ("gate", "up")),
    **dict.fromkeys(("fc1", "dense_h_to_4h", "c_fc"), ("up",)),
    **dict.fromkeys(("fc2", "dense_4h_to_h"), ("down",)),
}
"""Names of modules in transformers' and diffusers' models → which of a block's matrices they are."""


def targets_told(plan: TrainingPlan, profile: RepoProfile | None = None) -> tuple[tuple[str, ...], str]:
    """The matrices with adapters and where that is said; all of them and no place where nobody says it."""
    for value, where in _told(plan, profile):
        found = _matrices(value)
        if found:
            return found, where
    return ALL_TARGETS, ""


def rank_told(profile: RepoProfile | None) -> tuple[int | None, str]:
    """The rank that the repository's code gives as a number, and where; None where it gives none."""
    for line in profile.evidence.get("method", ()) if profile else ():
        code = _RANK.search(line.text)
        if code is not None and int(code[1]) > 0:
            return int(code[1]), line.text_of()
    return None, ""


def _told(plan: TrainingPlan, profile: RepoProfile | None) -> Iterator[tuple[Json, str]]:
    """What is said of it: in the plan, in its configs, by the repository's configs, options and code."""
    yield from ((v, f"{n} of the plan") for n, v in plan.training.options.items() if _named(n))
    for overlay in plan.config_overlays:
        yield from ((v, f"{n} of the plan") for n, v in overlay.values.items() if _named(n))
    if profile is None:
        return
    yield from ((c.value, f"{c.key} in {c.file}") for c in profile.config_values if _named(c.key))
    yield from ((o.default, f"default of {o.flag}") for o in profile.options if _named(o.flag) and o.default)
    for line in profile.evidence.get("method", ()):
        code = _CODE.search(line.text)
        if code is not None:
            yield _literal(code[1]), line.text_of()


def _named(name: str) -> bool:
    return name.lstrip("-").replace("-", "_").rpartition(".")[2].lower() in _NAMES


def _literal(text: str) -> Json:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return [str(v) for v in value] if isinstance(value, list) else str(value)


def _matrices(value: Json) -> tuple[str, ...]:
    """The block's matrices that are named; none where one of the names isn't known, since it may be any."""
    names = value if isinstance(value, list) else re.split(r"[\s,]+", str(value or "").strip("[]() "))
    found: set[str] = set()
    for name in names:
        plain = str(name).strip("\"' ").lower()
        if plain not in _SPELLED and (plain.rpartition(".")[2]) not in _SPELLED:
            return ()
        found.update(_SPELLED.get(plain) or _SPELLED[plain.rpartition(".")[2]])
    return tuple(name for name in ALL_TARGETS if name in found)

"""How an option of a profile is spelled in a plan's `flags`, by its parser's kind and by what it takes. Pure.

See `words` for what the spellings mean.
"""

import re
from typing import Final

from caravan.planning.documented import Documented
from caravan.planning.flag_names import is_switch
from caravan.planning.words import is_value, plain
from caravan.values.base import Json
from caravan.values.repo import RepoProfile, ScriptOption

_JOINED: Final = frozenset({"constants", "fire"})
"""Parsers that want `--x=value` as one word, or that take the next word for something else where it could be."""
_BY_KEY: Final = frozenset({"hydra", "omegaconf", "config", "gin", "spacy", "ml_collections", "argv", "notebook"})
"""Parsers for which a name without dashes is a key, as in `key=value`."""
_TYPED: Final = frozenset(
    {"hfargparser", "fire", "jsonargparse", "lightning-cli", "absl", "constants", "hydra", "omegaconf", "spacy", "gin"}
    | {"dataclass"}
)
"""Parsers that take `--x True` for a yes or no."""
_PAIRED: Final = frozenset({"tyro", "typer", "cyclopts"})
"""Parsers that make `--x` and `--no-x` of a yes or no."""
PRECISIONS: Final[dict[str, tuple[str, ...]]] = {
    "bf16": ("bf16", "bfloat16", "bf16-mixed", "bf16_mixed", "bf16-true", "torch.bfloat16", "amp_bf16", "bfp16"),
    "fp16": ("fp16", "float16", "16", "16-mixed", "half", "f16", "amp", "torch.float16", "amp_fp16", "16-true"),
    "fp32": ("fp32", "float32", "32", "32-true", "no", "none", "full", "f32", "single", "torch.float32", "float"),
    "tf32": ("tf32",),
}
"""A plan's precision → how programs write it."""
_FAMILIES: Final[tuple[tuple[str, str, str], ...]] = (
    ("bf16", "fp16", "no"),
    ("bfloat16", "float16", "float32"),
    ("bf16-mixed", "16-mixed", "32-true"),
    ("bf16-true", "16-true", "32-true"),
    ("bf16", "fp16", "fp32"),
)
"""Ways in which one program writes all three; the first that holds the known word is taken."""


def spelled(option: ScriptOption, style: str | None, documented: Documented | None = None) -> str | None:
    """The flag that takes a value; None for a positional argument whose place isn't known."""
    flag = option.flag
    if flag.startswith("$"):
        return flag
    if flag.startswith("-"):
        joined = style in _JOINED or flag.startswith(("--gin.", "--config."))
        return f"{flag}=" if joined and flag.startswith("--") else flag
    if style == "yacs":
        return f"{flag} "
    if style in _BY_KEY or "." in flag or style is None:
        return flag
    slot = position(option, documented) if documented is not None else None
    return None if slot is None else f"[{slot}]"


def position(option: ScriptOption, documented: Documented) -> int | None:
    """Which word of the command the positional argument is: the one that holds its default, or the only one there."""
    words = documented.command
    start = next((i for i, w in enumerate(words) if w.endswith((".py", ".sh"))), 0) + 1
    if words[:1] == ("-m",):
        start = 2
    free = [i for i in range(start, len(words)) if is_value(words[i]) and (i == start or is_value(words[i - 1]))]
    last = len(words) - 1
    if last >= start and last not in free and is_value(words[last]) and option.required:
        free.append(last)  # `-a resnet50 DATA`: a required one has to be there
    known = [i for i in free if option.default is not None and words[i] == str(option.default)]
    return known[0] if known else free[0] if len(free) == 1 else start if not free else None


def switch(option: ScriptOption, style: str | None) -> str:
    """How a yes or no is given: `ON|OFF`, or the flag alone where its absence says no."""
    flag = option.flag
    if flag.startswith("$"):
        return flag
    if option.switch == "on":
        return flag
    if option.switch == "off":
        return f"|{flag}"
    if option.switch == "pair" or (style in _PAIRED and flag.startswith("--")):
        return f"{flag}|{denied(flag)}"
    if not flag.startswith("-"):
        if style == "notebook":  # papermill knows these spellings alone
            return f"{flag}=True|{flag}=False"
        return f"{flag} True|{flag} False" if style == "yacs" else f"{flag}=true|{flag}=false"
    joined = style in ("constants", "fire", "absl")
    if style in _TYPED or style in ("argparse", "click"):
        if style == "argparse" and (option.type or "") == "bool" and option.default is not True:
            return f"{flag} True|"  # `type=bool` takes any word for yes, `False` too
        mark = "=" if joined else " "
        return f"{flag}{mark}True|{flag}{mark}False"
    return flag


def denied(flag: str) -> str:
    """The flag for no: `--no-x`, and `--a.no-x` of a nested one."""
    if "." in flag:
        head, _, tail = flag.rpartition(".")
        return f"{head}.no-{tail}"
    return f"--no-{flag.removeprefix('--')}"


def precisions(option: ScriptOption, style: str | None, flag: str, known: Json = None) -> dict[str, str]:
    """`training.precision=…` → the flag with the program's own word for it; empty where its words aren't known.

    `known`: a word that the documented command uses.
    """
    seen = [str(v).casefold() for v in (*option.choices, known, option.default) if v is not None]
    words: dict[str, str] = {}
    if option.choices:
        for name, spellings in PRECISIONS.items():
            hit = next((c for s in spellings for c in option.choices if c.casefold() == s), None)
            if hit is not None:
                words[name] = hit
    else:
        family = next((f for s in seen for f in _FAMILIES if s in f), None)
        family = family or _by_name(option)
        words = dict(zip(("bf16", "fp16", "fp32"), family, strict=True)) if family else {}
    return {f"training.precision={name}": with_value(flag, word, style) for name, word in words.items()}


def _by_name(option: ScriptOption) -> tuple[str, str, str] | None:
    name = plain(option.flag).rpartition(".")[2]
    return _FAMILIES[0] if name == "mixed_precision" else _FAMILIES[1] if name in ("dtype", "torch_dtype") else None


def chosen(field: str, option: ScriptOption, style: str | None, flag: str) -> dict[str, str]:
    """`field=choice` → the flag with that choice, for an option that takes nothing else."""
    return {f"{field}={choice}": with_value(flag, choice, style) for choice in option.choices}


def with_value(flag: str, value: str, style: str | None) -> str:
    """A flag together with its value, as `words` reads it."""
    if flag.endswith("=") or not flag.startswith("-"):
        return f"{flag.rstrip('=').rstrip()}{' ' if style == 'yacs' else '='}{value}"
    return f"{flag} {value}"


def precision_of(word: str) -> str | None:
    """The plan's name of a precision that a program writes so."""
    return next((name for name, spellings in PRECISIONS.items() if word.casefold() in spellings), None)


def takes(option: ScriptOption, value: Json) -> bool:
    """Whether the option can be given that value, as far as its type and choices say."""
    if option.choices:
        return str(value) in option.choices
    kind = (option.type or "").casefold()
    if kind in ("int", "intrange", "positiveint") and isinstance(value, float):
        return value == int(value)
    return not is_switch(option) or isinstance(value, bool)


def canonical(
    words: tuple[str, ...], options: tuple[ScriptOption, ...], flags: dict[str, str], style: str | None
) -> tuple[str, ...]:
    """The command with those options that the plan sets under their own names, where it has short or other ones.

    argparse takes any beginning of a long option that no other one has too.
    """
    wanted = {plain(flag): flag for flag in flags.values() if flag.startswith("-")}
    found = list(words)
    for i, word in enumerate(words):
        name, joined, value = word.partition("=")
        if not re.match(r"-{1,2}[A-Za-z]", name) or plain(name) in wanted:
            continue
        option = _meant(name, options, style)
        if option is not None and plain(option.flag) in wanted:
            found[i] = f"{option.flag}={value}" if joined else option.flag
    return tuple(found)


def meant(name: str, profile: RepoProfile) -> ScriptOption | None:
    """The profile's option that a word of a command names, by any of its spellings."""
    return _meant(name, profile.options, profile.cli_style)


def _meant(name: str, options: tuple[ScriptOption, ...], style: str | None) -> ScriptOption | None:
    """The option that a word names: by another of its spellings, or by its beginning where the parser takes that."""
    exact = [o for o in options if name in (o.flag, *o.aliases)]
    if exact:
        return exact[0]
    if not name.startswith("--") or style not in ("argparse", "hfargparser", "configargparse", None):
        return None
    begun = [o for o in options if any(f.startswith(name) for f in (o.flag, *o.aliases))]
    return begun[0] if len(begun) == 1 else None

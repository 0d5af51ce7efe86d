"""One option in the words of a command line: found, set, taken away, as its parser wants it spelled.

How an option is spelled in a plan's `flags`: `--x` takes the next word, `--x=` the rest of its own word, `key` is
`key=value` (Hydra, OmegaConf), `KEY ` two words at the end (yacs), `[2]` the command's third word (a positional
argument), `$NAME` an environment variable. Under `path=value` it says yes or no: `ON|OFF`, each side an option, one
with its value (`--amp True`) or nothing; without `|` the option is taken away for no, and left alone where it has a
value (`--dtype bfloat16`). Pure text work.
"""

import json
import re
from functools import lru_cache
from typing import Final

from caravan.values.base import Json

Words = tuple[str, ...]

_SLOT: Final = re.compile(r"\[(\d+)\]")
_PAIR: Final = re.compile(r"[A-Z][A-Z0-9_]*(?:\.[A-Za-z0-9_]+)+")
"""A key of yacs: what begins the pairs at a command's end, behind which no other option is found."""
_GIN_NAME: Final = re.compile(r"[%@].*|[-+]?[\d.][\d.eE+-]*|True|False|None|[\[({].*|'.*'|\".*\"")


def flag_text(value: Json) -> str:
    """A value as it is typed on a command line: whole numbers without `.0`, booleans as True and False."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, float):
        return repr(value)
    return str(value)


@lru_cache(maxsize=4096)  # asked for the same options at each look at a plan
def plain(flag: str) -> str:
    """An option's name alone, for comparing: `--x-y=`, `--x_y True|…` and `+x_y` are `x_y`; letters keep their case."""
    name = re.split(r"[ =|]", flag.lstrip("|"), maxsplit=1)[0]
    return name.lstrip("-+$").replace("-", "_")


def same_flag(word: str, flag: str) -> bool:
    """Whether two options are one but for dashes and underscores, and for what is said of their values."""
    alike = word[:1].isalnum() == flag[:1].isalnum() and is_variable(word) == is_variable(flag)
    return alike and plain(word) == plain(flag)


def is_value(word: str) -> bool:
    """Whether a word after an option can be its value: no option itself, but for negative numbers."""
    return not word.startswith("-") or re.fullmatch(r"-\.?\d[\d.eE+-]*", word) is not None


def is_variable(flag: str) -> bool:
    """Whether the flag is an environment variable."""
    return flag.startswith("$")


def slot_of(flag: str) -> int | None:
    """Which of the command's words the flag is, for a positional argument."""
    found = _SLOT.fullmatch(flag)
    return int(found[1]) if found else None


def set_flag(words: Words, flag: str, value: Json) -> Words:
    """`words` with `flag` set to `value`: replaced where it stands, else added at the end.

    True gives a bare flag, False takes the flag away, a list gives several values; `--x True` spelled out stays
    spelled out. Setting it twice is setting it once.
    """
    slot = slot_of(flag)
    if slot is not None:
        return _in_slot(words, slot, value)
    if flag.endswith(" "):
        return _pair(words, flag.strip(), value)
    name = flag.removesuffix("=")
    places = [i for i, word in enumerate(words) if _is_it(word, name) and (i or name.startswith("-"))]
    if not places:
        return _added(words, flag, value)
    first, *more = places
    for i in reversed(more):  # the last of several is the one that counts, and one is enough
        words = words[:i] + words[i + 1 + _values_after(words, i, value) :]
    return _replaced(words, first, flag, value)


def _is_it(word: str, name: str) -> bool:
    key, joined, _ = word.partition("=")
    return same_flag(key, name) if name.startswith("-") else bool(joined) and plain(key) == plain(name)


def _values_after(words: Words, i: int, value: Json) -> int:
    """How many words after an option are its values: as many as the new value has room for."""
    if "=" in words[i]:
        return 0
    if isinstance(value, bool):
        return int(bool(words[i + 1 : i + 2]) and words[i + 1].lower() in ("true", "false"))
    n = i + 1
    while n < len(words) and is_value(words[n]) and (n == i + 1 or isinstance(value, list | tuple)):
        n += 1
    return n - i - 1


def _replaced(words: Words, i: int, flag: str, value: Json) -> Words:
    name, joined, old = words[i].partition("=")
    if joined:
        return (*words[:i], f"{name}={_joined_text(flag, value, old)}", *words[i + 1 :])
    after = words[i + 1 + _values_after(words, i, value) :]
    if isinstance(value, bool) and _values_after(words, i, value):
        return (*words[: i + 1], _like(words[i + 1], value), *after)
    if isinstance(value, bool):
        off = [f"{name}={value}"] if flag.endswith("=") else []  # one that takes its value joined is put off by it
        return (*words[:i], *([name] if value else off), *after)
    texts = _texts(value)
    if len(texts) == 1 and not is_value(texts[0]):
        return (*words[:i], f"{name}={texts[0]}", *after)  # else the parser would take the value for a flag
    return (*words[:i], name, *texts, *after)


def _added(words: Words, flag: str, value: Json) -> Words:
    if not flag.startswith("-"):
        text = str(value).lower() if isinstance(value, bool) else _joined_text(flag, value)
        return (*words, f"{flag}={text}")
    if flag.endswith("="):
        return _before_pairs(words, f"{flag}{_joined_text(flag, value)}")
    if value is False:
        return words
    values = _texts(value)
    if len(values) == 1 and not is_value(values[0]):
        return _before_pairs(words, f"{flag}={values[0]}")  # else the parser would take the value for a flag
    return _before_pairs(words, flag, *values)


def _before_pairs(words: Words, *new: str) -> Words:
    """The new words at the end, but before pairs of keys and values that take all that follows."""
    at = next((i for i, w in enumerate(words) if i and _PAIR.fullmatch(w) and is_value(words[i - 1])), len(words))
    return (*words[:at], *new, *words[at:])


def _texts(value: Json) -> list[str]:
    if isinstance(value, list | tuple):
        return [flag_text(v) for v in value]
    return [] if isinstance(value, bool) else [flag_text(value)]


def _joined_text(flag: str, value: Json, old: str = "") -> str:
    if isinstance(value, bool):
        return _like(old, value)
    text = ",".join(_texts(value))
    return json.dumps(text) if flag.startswith("--gin.") and not _GIN_NAME.fullmatch(text) else text


def _like(old: str, value: bool) -> str:
    """True or false in the letters in which the other one was written."""
    return str(value).lower() if old in ("true", "false") else str(value)


def _in_slot(words: Words, slot: int, value: Json) -> Words:
    """The positional argument replaced; put in where there is none."""
    texts = [str(value)] if isinstance(value, bool) else _texts(value)
    if not all(map(is_value, texts)):
        return words  # a parser would take it for an option
    taken = slot < len(words) and is_value(words[slot])
    return (*words[:slot], *texts, *words[slot + int(taken) :])


def _pair(words: Words, key: str, value: Json) -> Words:
    text = ",".join(_texts(value)) if not isinstance(value, bool) else str(value)
    for i, word in enumerate(words[:-1]):
        if word == key:
            return (*words[: i + 1], text, *words[i + 2 :])
    return (*words, key, text)


def switched(words: Words, flag: str, on: bool) -> Words:
    """`words` with an option that stands for yes or no, or for one of several values, as `flag` spells both sides."""
    yes, both, no = flag.partition("|")
    words = _without_denial(words, yes or no) if both or not re.search(r"[ =]", yes) else words
    if not both and " " not in yes.strip() and not re.search(r"=.", yes):
        return set_flag(words, yes, on)
    side = yes if on else no
    if not on and not both:
        return words  # another value: another entry says it, or the repository's own stays
    for other in (yes, no):
        if other and plain(other) != plain(side):
            words = set_flag(words, _name(other), False)
    if not side:
        return set_flag(words, _name(yes or no), False)
    name, value = _name(side), _value(side)
    if value is None:
        return set_flag(words, name, True)
    return set_flag(words, f"{name}=" if side.startswith(f"{name}=") and name.startswith("-") else name, value)


def _without_denial(words: Words, flag: str) -> Words:
    """`words` without what says no to a flag beside it: `--nox`, `--no-x`."""
    name = plain(flag)
    denials = {f"no{name}", f"no_{name}"}
    return tuple(w for i, w in enumerate(words) if not (i and w.startswith("--") and plain(w) in denials))


def _name(side: str) -> str:
    return re.split(r"[ =]", side, maxsplit=1)[0]


def _value(side: str) -> str | None:
    found = re.match(r"[^ =]+[ =](.+)", side)
    return found[1] if found else None


def without(words: Words, flag: str) -> Words:
    """`words` without an option and its value, wherever it stands."""
    found: list[str] = []
    n = 0
    while n < len(words):
        name, joined, _ = words[n].partition("=")
        if n and same_flag(name, flag):
            n += 1 + int(not joined and n + 1 < len(words) and is_value(words[n + 1]))
            continue
        found.append(words[n])
        n += 1
    return tuple(found)

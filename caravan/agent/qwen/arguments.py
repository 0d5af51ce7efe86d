"""A program's arguments as a model would have them, held against those that stand. Pure; `guard` asks it.

What stands alone in a command says which program, model or data: it stays, in its order and behind its option. A
misspelt option may get its spelling back, and takes its value along to that option and to no other.
"""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Final

from caravan.agent.qwen.allowed import lasts, names_what, option_of, pairs
from caravan.values.base import Json
from caravan.values.repo import RepoProfile, ScriptOption

_NEAR: Final = 0.7  # of two spellings: `--modle` and `--model` have 0.8, `--modle` and `--base_model` 0.53

Judge = Callable[[str, Json, Json], str]
"""Why an option may not have a value, by its name, the value and the one that it has now; empty: it may."""


def near(name: str, other: str) -> bool:
    """Whether two files or options are spelled nearly alike."""
    return _alike(posixpath.basename(name), posixpath.basename(other)) >= _NEAR


def changed(words: Sequence[str], now: Sequence[str], profile: RepoProfile, option: Judge, respelt: Judge) -> str:
    """Why the arguments `now` may not become `words`; empty: they may.

    `option` judges a value that is new, `respelt` one that only moves from a misspelt option to the right one.
    """
    given, had = pairs(words)[1], pairs(now)[1]
    moved = _moved(given, had, profile)
    if [(moved.get(owner, owner), word) for owner, word in _alone(now)] != _alone(words):
        return "what stands alone in a command stays"
    meant = {_meant(name, profile): value for name, value in had.items()}
    for name, value in given.items():
        if name in had and had[name] == value:
            continue
        if option_of(name, profile) is None:
            return f"the program has no option {name[:60]!r}"
        judge = respelt if name in moved.values() else option
        why = judge(name, value, had.get(name, meant.get(_meant(name, profile))))
        if why:
            return f"{name[:60]!r}: {why}"
    there = {_meant(name, profile) for name in given}
    return _dropped([name for name in had if _meant(name, profile) not in there], had, profile, option)


def _dropped(gone: Sequence[str], had: Mapping[str, Json], profile: RepoProfile, option: Judge) -> str:
    """Why options of the parser may not go: they say what is trained, or how long and on how much."""
    for name in gone:
        known = option_of(name, profile)
        if known is not None and names_what(name):
            return f"{name[:60]!r} stays: what is trained is the user's to say"
        if known is not None and lasts(known) and (why := option(name, known.default, had[name])):
            return f"{name[:60]!r} stays: {why}"
    return ""


def _moved(given: Mapping[str, Json], had: Mapping[str, Json], profile: RepoProfile) -> dict[str, str]:
    """The options that the parser does not know, with the spelling that each gets: the nearest that the parser has,
    which the command has not yet, with the same value."""
    meant = {_meant(name, profile) for name in had}
    found = dict[str, str]()
    for old, value in had.items():
        if old in given or option_of(old, profile) is not None:
            continue
        nearest = _nearest(old, profile)
        for name in given:
            known = option_of(name, profile)
            if known is not None and known == nearest and known.flag not in meant and given[name] == value:
                found[old] = name
    return found if len(set(found.values())) == len(found) else {}


def _nearest(name: str, profile: RepoProfile) -> ScriptOption | None:
    """The parser's option of the nearest spelling; None where none is near, or two are equally."""
    ranked = sorted(
        ((max(_alike(name, spelling) for spelling in (o.flag, *o.aliases)), n) for n, o in enumerate(profile.options)),
        reverse=True,
    )
    if not ranked or ranked[0][0] < _NEAR or (len(ranked) > 1 and ranked[1][0] == ranked[0][0]):
        return None
    return profile.options[ranked[0][1]]


def _alike(one: str, other: str) -> float:
    a, b = (text.strip("-").lower().replace("_", "-") for text in (one, other))
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _meant(name: str, profile: RepoProfile) -> str:
    """An option by the name that the parser has for it, whatever its spelling."""
    known = option_of(name, profile)
    return name if known is None else known.flag


def _alone(words: Sequence[str]) -> list[tuple[str, str]]:
    """What stands alone, each with the option that it stands behind: a parser may read it as more of its values."""
    found, n, owner = list[tuple[str, str]](), 0, ""
    while n < len(words):
        alone, options = pairs(words[n : n + 2])
        if not words[n].startswith("-"):
            found.append((owner, words[n]))
        else:
            owner = words[n].partition("=")[0]
            n += "=" not in words[n] and n + 1 < len(words) and not alone and len(options) == 1 and _takes(options)
        n += 1
    return found


def _takes(options: Mapping[str, Json]) -> bool:
    """Whether the one option took the word behind it as its value."""
    return next(iter(options.values())) is not True

"""Against a command line that the program refuses: an option that it does not know, misses, or can't read.

What a person typed stays as typed unless they agree: that is decided where repairs are approved, not here.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from caravan.diagnosis.ladders.case import Case, plain, same_name
from caravan.diagnosis.ladders.words import place, renamed, without
from caravan.values.base import Json
from caravan.values.failure import Repair
from caravan.values.plan import Author

_NEAR: Final = 0.8  # likeness of names that are one but for a slip: `--batchsize`, `--num_epoch`


def bad_arguments(case: Case) -> Iterator[Repair]:
    """By what is wrong with the options: rename or take away, give a value that is known, spell a value anew."""
    kind, options = case.detail("kind"), _options(case)
    if not options:
        return
    if kind == "missing":
        yield from _missing(case, options)
    elif kind == "unknown":
        yield from _unknown(case, options)
    elif kind in ("value", "choice"):
        yield from _respelled(case, options[0])


def _options(case: Case) -> list[str]:
    """The options that are named; what stands between them are their values."""
    words = [w.partition("=")[0] for w in re.split(r"[\s,]+", case.detail("option")) if w]
    dashed = [w for w in words if w.startswith("-")]
    return list(dict.fromkeys(dashed or words))


def _unknown(case: Case, options: list[str]) -> Iterator[Repair]:
    passed = [option for option in options if _passed(case, option)]
    if not passed:
        return  # a launcher adds it: nothing of ours to change
    near = {option: _near(case, option) for option in passed}
    if any(near.values()):
        told = ", ".join(f"{option} → {name}" for option, name in near.items() if name)
        gone = [option for option, name in near.items() if not name]
        lost = f"; {_lost(case, gone)}" if gone else ""
        yield from _edited(case, near, f"the program's own spelling: {told}{lost}")
    if case.detail("style") == "hydra":
        added = {option: f"+{option.lstrip('+')}" for option in passed if not option.startswith("+")}
        yield from _edited(case, added, f"added to the configuration: {', '.join(added.values())}")
    yield from _edited(case, dict.fromkeys(passed), f"{_lost(case, passed)}: the program does not know it")


def _lost(case: Case, options: list[str]) -> str:
    """What is gone with these options, their values named: `without --fp16; --foo 3 is not followed`."""
    words, bare, told = case.outlook.words(case.plan), [], []
    for option in options:
        where = place(words, option)
        text = " ".join(words[where[0] : where[1]]) if where else option
        if where and (where[1] - where[0] > 1 or "=" in text):
            told.append(f"{text} is not followed")
        else:
            bare.append(option)
    return "; ".join(([f"without {', '.join(bare)}"] if bare else []) + told)


def _passed(case: Case, option: str) -> bool:
    words = case.outlook.words(case.plan)
    return place(words, option) is not None or any(same_name(w, option) for w in words if w.startswith("-"))


def _near(case: Case, option: str) -> str | None:
    """The program's only option of nearly that name."""
    listed = [c.strip() for c in case.detail("choices").split(",")]
    shown = [word for word in re.split(r"[\s,]+", case.detail("usage")) if word.startswith("-")]
    known = [c for c in listed if c.startswith("-")] or [*shown, *(o.flag for o in case.profile.options)]
    known = [name for name in dict.fromkeys(known) if name != option]
    same = [name for name in known if same_name(name, option)]
    if not same and (field := _field(case, option)):
        same = [name for name in known if _field(case, name) == field and place(case.plan.command, name) is None]
    if not same:
        names = {plain(name): name for name in known}
        same = [names[n] for n in difflib.get_close_matches(plain(option), list(names), n=2, cutoff=_NEAR)]
    return same[0] if len(same) == 1 else None


def _field(case: Case, option: str) -> str | None:
    """The plan field that an option sets, by the plan's own flags or by its common name."""
    own = (path for path, flag in case.plan.flags.items() if same_name(flag, option))
    return next(own, None) or case.outlook.field_of(option)


def _edited(case: Case, names: Mapping[str, str | None], why: str) -> Iterable[Repair]:
    """Each option under its new name, or gone (None), wherever the plan has it: flags, further options, command."""
    plan, values = case.plan, dict[str, Json]()
    command = plan.command
    for option, new in names.items():
        for path, flag in plan.flags.items():
            if same_name(flag, option):
                values[f"flags.{path}"] = new
        for flag, value in plan.training.options.items():
            if same_name(flag, option):
                values[f"training.options.{flag}"] = None
                values |= {f"training.options.{new}": value} if new else {}
        command = renamed(command, option, new) if new else without(command, option)
    if command != plan.command:
        values["command"] = list(command)
    return case.change(values, why)


def _missing(case: Case, options: list[str]) -> Iterable[Repair]:
    """The options with the values that the plan knows; nothing unless all are known: each missing one is an error."""
    values: dict[str, Json] = {}
    command = list(case.plan.command)
    for option in options:
        field = case.outlook.field_of(option)
        value = case.plan.get(field) if field else None
        if field == "training.output_dir" and option.startswith("-"):
            values[f"flags.{field}"] = option  # the place of the outputs is known even where no field names it
            continue
        if field is None or value is None:
            return ()
        if not option.startswith("-") and case.detail("style") != "hydra":
            command.append(str(value))
        elif case.plan.set_by(field) is Author.REPOSITORY or case.plan.is_own(field):
            values[f"training.options.{option}"] = value  # a value of the repository's own is not passed by itself
        else:
            values[f"flags.{field}"] = option
    if command != list(case.plan.command):
        values["command"] = command
    return case.change(values, f"{', '.join(options)} as the plan has it")


def _respelled(case: Case, option: str) -> Iterable[Repair]:
    """The same value as the program spells it: whole numbers without a point, choices in their case, without a slip."""
    given = case.detail("value")
    flag = option if option.startswith("-") or place(case.plan.command, option) else None
    known = case.profile.option(option)
    flag = known.flag if known else flag
    if not given or flag is None or not _passed(case, flag):
        return ()
    if case.detail("kind") == "choice":
        listed = [c.strip().strip("'\"") for c in case.detail("choices").split(",")]
        choices = [c for c in listed if c] or list(known.choices if known else ())
        same = [c for c in dict.fromkeys(choices) if _letters(c) == _letters(given)]
        same = same or _misspelt(given, choices)
        value: Json = same[0] if len(same) == 1 else None
    else:
        value = _whole(given) if known is None or known.type in (None, "int") else None
    if value is None or str(value) == given:
        return ()
    return case.change({f"training.options.{flag}": value}, f"{flag} {value} instead of {given}")


def _misspelt(given: str, choices: list[str]) -> list[str]:
    """The choices that a word of letters alone is nearly: a number in it tells things apart, and so do short words."""
    words = {_letters(c): c for c in choices if _letters(c).isalpha()}
    word = _letters(given)
    if len(word) < _LONG or not word.isalpha():
        return []
    return [words[near] for near in difflib.get_close_matches(word, list(words), n=2, cutoff=_SLIP)]


_LONG: Final = 5  # letters
_SLIP: Final = 0.86  # a letter more, less or another in such a word


def _letters(text: str) -> str:
    return re.sub(r"[\s_.-]+", "", text).casefold()


def _whole(text: str) -> int | None:
    """The whole number that a text like `2.0` or `1e3` is."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if abs(number) < 1e15 and number == int(number) else None

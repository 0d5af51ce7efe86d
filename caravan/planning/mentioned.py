"""Model and data that the user's sentence names, where the repository's command has others; and whether they fit there.

Pure: it reads a profile, a sentence and a plan.
"""

import re
from collections.abc import Iterator
from typing import Final

from caravan.planning.config_keys import repository_values
from caravan.planning.documented import Documented
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile

_BARE_IDS: Final = re.compile(
    r"(?i)(?:gpt2|distil|bert|roberta|albert|electra|xlm|xlnet|t5|mt5|bart|opt|openai)[\w.-]*"
)
"""Models that the hub knows without an owner."""


def mentioned_changes(
    plan: TrainingPlan, profile: RepoProfile, documented: Documented | None, prompt: str
) -> tuple[PlanChange, ...]:
    """The sentence's model and data as the user's word; without their option where that takes something else.

    Then the approval says that the program is not told of them.
    """
    named = tuple(_named(plan, profile, prompt))
    return (*named, *_misfits(apply_changes(plan, named), profile, documented))


def _named(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> Iterator[PlanChange]:
    for path, value in (("model.id", profile.base_model), ("dataset.path", profile.dataset)):
        if value and plan.get(path) != value and plan.set_by(path) not in STANDING and _is_in(value, prompt):
            yield PlanChange(path=path, value=value, by=Author.USER, why=f'prompt: "{value}"'[:200])


def _is_in(value: str, prompt: str) -> bool:
    """Whether the sentence has the name, with or without its owner or its `./`."""
    last = value.rstrip("/").rpartition("/")[2]
    names = {value, value.removeprefix("./"), *([last] if re.search(r"[\d._-]", last) and len(last) > 3 else [])}
    return any(re.search(rf"(?<![\w/.-]){re.escape(n)}(?![\w-])", prompt, re.IGNORECASE) for n in names if n)


def _misfits(plan: TrainingPlan, profile: RepoProfile, documented: Documented | None) -> Iterator[PlanChange]:
    """Options that the repository gives another kind of name than the sentence's: an architecture, a type of data."""
    own = repository_values(profile, documented)
    for path in ("model.id", "dataset.path"):
        origin, flag = plan.provenance.get(path), plan.flags.get(path)
        if flag is None or origin is None or origin.by is not Author.USER or not origin.why.startswith("prompt"):
            continue
        option = next((o for o in profile.options if flag.rstrip("= ") in (o.flag, *o.aliases)), None)
        value, had = str(plan.get(path)), own.get(path, (None, ""))[0]
        choices = option.choices if option is not None else ()
        word = _kind(value) == "word" and any(w in flag.lower() for w in ("dir", "path", "file", "root", "folder"))
        if (choices and value not in choices) or word or (had not in (None, "") and not _alike(value, str(had))):
            why = f"{flag.rstrip('= ')} takes another kind of name"
            yield PlanChange(path=f"flags.{path}", value=None, by=Author.REPOSITORY, why=why)


def _alike(value: str, had: str) -> bool:
    kinds = {_kind(value), _kind(had)}
    return len(kinds) == 1 or kinds <= {"hub", "path"}


def _kind(name: str) -> str:
    """What a name is by its form: a place of files, a hub's id, or a word of the program's own."""
    if name.startswith((".", "/", "~")) or re.search(r"\.[A-Za-z]\w{0,11}$|/.*/|\*|://|\$\{", name):
        return "path"
    return "hub" if "/" in name or _BARE_IDS.fullmatch(name) else "word"

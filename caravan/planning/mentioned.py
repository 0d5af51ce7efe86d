"""Model and data that the user's sentence names, where the repository's command has others; and whether they fit there.

Pure: it reads a profile, a sentence and a plan.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from caravan.planning import spelling
from caravan.planning.config_keys import repository_values
from caravan.planning.documented import Documented
from caravan.planning.flag_names import OPTIONS, is_switch, named
from caravan.values.base import Json
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile, ScriptOption

_BARE_IDS: Final = re.compile(
    r"(?i)(?:gpt2|distil|bert|roberta|albert|electra|xlm|xlnet|t5|mt5|bart|opt|openai)[\w.-]*"
)
"""Models that the hub knows without an owner."""
_FURTHER: Final = {
    "model.id": ("finetune", "init_checkpoint", "pretrained_weights", "pretrained_checkpoint", "init_from", "weights")
}
"""Names of options for a model to begin with that are no model's name elsewhere."""


def mentioned_changes(
    plan: TrainingPlan, profile: RepoProfile, documented: Documented | None, prompt: str
) -> tuple[PlanChange, ...]:
    """The sentence's model and data as the user's word; without their option where that takes something else.

    Then the approval says that the program is not told of them.
    """
    own = {path: value for path, (value, _) in repository_values(profile, documented).items()}
    named = tuple(_named(plan, profile, own, prompt))
    return (*named, *_misfits(apply_changes(plan, named), profile, own))


def _named(plan: TrainingPlan, profile: RepoProfile, own: Mapping[str, Json], prompt: str) -> Iterator[PlanChange]:
    for path, value in (("model.id", profile.base_model), ("dataset.path", profile.dataset)):
        if not value or plan.set_by(path) in STANDING or own.get(path) == value or not _is_in(value, prompt):
            continue
        if _kind(value) != "word":  # a word is the program's own name of something that it has
            yield PlanChange(path=path, value=value, by=Author.USER, why=f'prompt: "{value}"'[:200])


def _is_in(value: str, prompt: str) -> bool:
    """Whether the sentence has the name, with or without its owner or its `./`."""
    last = value.rstrip("/").rpartition("/")[2]
    names = {value, value.removeprefix("./"), *([last] if re.search(r"[\d._-]", last) and len(last) > 3 else [])}
    return any(re.search(rf"(?<![\w/.-]){re.escape(n)}(?![\w-])", prompt, re.IGNORECASE) for n in names if n)


def _misfits(plan: TrainingPlan, profile: RepoProfile, own: Mapping[str, Json]) -> Iterator[PlanChange]:
    """Options that the repository gives another kind of name than the sentence's: an architecture, a type of data.

    Another option of such a name that takes the sentence's kind is put in its place, where there is one.
    """
    for path in ("model.id", "dataset.path"):
        origin, flag = plan.provenance.get(path), plan.flag(path)
        if flag is None or origin is None or origin.by is not Author.USER or not origin.why.startswith("prompt"):
            continue
        value, plainly = str(plan.get(path)), flag.rstrip("= ")
        option = next((o for o in profile.options if plainly in (o.flag, *o.aliases)), ScriptOption(flag=plainly))
        if _takes(path, option, own.get(path, option.default), value):
            continue
        others = (o for o in named(profile, (*OPTIONS[path], *_FURTHER.get(path, ()))) if o.flag != option.flag)
        other = next((o for o in others if not is_switch(o) and _takes(path, o, o.default, value)), None)
        spelled = spelling.spelled(other, profile.cli_style) if other is not None else None
        why = f"{plainly} takes another kind of name"
        yield PlanChange(path=f"flags.{path}", value=spelled, by=Author.REPOSITORY, why=why)


def _takes(path: str, option: ScriptOption, had: Json, value: str) -> bool:
    if option.choices:
        return value in option.choices
    kinds = {_kind(value), _kind(str(had))} if had not in (None, "") else {_kind(value)}
    if kinds == {"word"} and any(w in option.flag.lower() for w in ("dir", "path", "file", "root", "folder")):
        return False
    alike = {"hub", "path"} if path == "model.id" else {"hub", "path", "word"}
    return len(kinds) == 1 or kinds <= alike


def _kind(name: str) -> str:
    """What a name is by its form: a place of files, a hub's id, or a word of the program's own."""
    if name.startswith((".", "/", "~")) or re.search(r"\.[A-Za-z]\w{0,11}$|/.*/|\*|://|\$\{", name):
        return "path"
    return "hub" if "/" in name or _BARE_IDS.fullmatch(name) else "word"

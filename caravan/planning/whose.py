"""Whose word a method or a model is: the repository's, or only the user's sentence's, which nothing there bears out.

Pure: it reads a profile, a sentence and a plan.
"""

import re
from collections.abc import Iterator
from typing import Final

from caravan.planning.flag_names import field_of
from caravan.values.plan import Author, PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile

UNSUPPORTED: Final = "nothing in the repository speaks of it"
"""How the reason ends of what the sentence alone says."""
_USUAL: Final = frozenset({"full", "pretrain", "sft"})
_ADAPTERS: Final = frozenset({"lora", "qlora", "dora"})


def whose_changes(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> Iterator[PlanChange]:
    """Method and model that were taken for the repository's though only the sentence has them, as the user's."""
    for path, field, value in (
        ("training.method", "method", profile.method),
        ("model.id", "base_model", profile.base_model),
    ):
        origin = plan.provenance.get(path)
        if not value or plan.get(path) != value or profile.evidence.get(field) or origin is None:
            continue
        spoken = origin.by is Author.USER and origin.why.startswith("prompt")
        if not (spoken or (origin.by is Author.REPOSITORY and _said(value, prompt))):
            continue
        if not _supported(path, value, plan, profile):
            yield PlanChange(path=path, value=value, by=Author.USER, why=f'prompt: "{value}"; {UNSUPPORTED}')
        elif not spoken:
            yield PlanChange(path=path, value=value, by=Author.USER, why=f'prompt: "{value}"')


def _said(value: str, prompt: str) -> bool:
    """Whether the sentence has the name, written with spaces, dashes or dots, with or without its owner."""
    plainly = re.sub(r"[\W_]+", "", prompt.casefold())
    return re.sub(r"[\W_]+", "", value.rpartition("/")[2].casefold()) in plainly


def _supported(path: str, value: str, plan: TrainingPlan, profile: RepoProfile) -> bool:
    """Whether an option, an import, a config or the command of the repository bears the word out."""
    told = {*plan.flags, *plan.config_keys}
    if any(p.partition("=")[0].partition(":")[0] == path for p in told):
        return True
    if path == "model.id":
        return any(field_of(o.flag) == path for o in profile.options)
    libraries = {name.lower() for name in profile.libraries}
    if value in _USUAL or (value in _ADAPTERS and "peft" in libraries) or "trl" in libraries:
        return True
    texts = [profile.entry_point, profile.launch_command, *libraries, *(v.key for v in profile.config_values)]
    texts += [str(v.value) for v in profile.config_values]
    texts += [t for o in profile.options for t in (o.flag, o.help, *o.choices)]
    return value.casefold() in " ".join(t for t in texts if t).casefold()

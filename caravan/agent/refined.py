"""What a language model has corrected of a profile, taken over into the analysis and told in the plan. Pure but for
the analysis that it is given.
"""

from collections.abc import Callable
from typing import Final

from caravan.values.plan import Author, Provenance, TrainingPlan
from caravan.values.repo import RepoProfile

_FIELDS: Final = {
    "entry_point": "command",
    "launcher": "launch.launcher",
    "launch_cwd": "workdir",
    "method": "training.method",
    "base_model": "model.id",
    "dataset": "dataset.path",
    "num_gpus": "resources.gpus",
    "metrics_logged": "target",
}
"""Fields of a profile → the plan field that is drafted from each."""
_NOT_MORE: Final = (Author.USER, Author.ANSWER, Author.REPAIR, Author.MEMORY)


def about_its_entry(profile: RepoProfile, refined: RepoProfile, analysed: Callable[[str], RepoProfile]) -> RepoProfile:
    """The refined profile; where it names another entry point, it is about that program: its options, its command.

    `analysed` is the analysis of a given entry point. One that can't be analysed as such is not taken.
    """
    if refined.entry_point == profile.entry_point or refined.entry_point is None:
        return refined
    other = analysed(refined.entry_point)
    names = tuple(refined.refined)
    if other.entry_point != refined.entry_point:
        other = profile
        names = tuple(n for n in names if n != "entry_point")
    changed = {name: getattr(refined, name) for name in names}
    for part in ("evidence", "confidence"):
        said = getattr(refined, part)
        changed[part] = {**getattr(other, part), **{n: said[n] for n in names if n in said}}
    return other.model_copy(update={**changed, "refined": {n: refined.refined[n] for n in names}})


def marked(plan: TrainingPlan, profile: RepoProfile) -> TrainingPlan:
    """The plan in which fields that come from a corrected finding say so; what somebody else set is theirs.

    They are still what the repository does by itself: nothing is passed to its program for them.
    """
    provenance = dict(plan.provenance)
    for name, why in profile.refined.items():
        path = _FIELDS.get(name, "")
        origin = provenance.get(path)
        if origin is not None and origin.by not in _NOT_MORE:
            provenance[path] = Provenance(by=Author.MODEL, why=f"by {why}", own=plan.is_own(path))
    return plan.model_copy(update={"provenance": provenance}) if provenance != plan.provenance else plan

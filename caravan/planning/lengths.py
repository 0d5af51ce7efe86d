"""Epochs or steps: a limit of steps that stands in the repository's command gives way to the epochs that are asked for.

Pure. Trainers that know both stop at the steps, whatever the epochs are.
"""

from collections.abc import Iterator

from caravan.planning.config_files import changeable, laid_over
from caravan.planning.flag_names import OPTIONS, named
from caravan.planning.words import plain, without
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile

EPOCHS, STEPS = "training.epochs", "training.max_steps"
_NO_LIMIT = (None, 0, -1, "-1", "0", "None", "none")


def length_changes(plan: TrainingPlan, profile: RepoProfile) -> tuple[PlanChange, ...]:
    """What lifts the repository's limit of steps where a person asks for epochs and for no steps."""
    if not plan.asked(EPOCHS) or plan.asked(STEPS) or plan.asked("command"):
        return ()
    if not any(path.partition(":")[0] == EPOCHS for path in (*plan.flags, *plan.config_keys)):
        return ()
    return tuple(_lifted(plan, profile))


def _lifted(plan: TrainingPlan, profile: RepoProfile) -> Iterator[PlanChange]:
    why = "epochs are asked for, and a limit of steps would end them"
    option = next(named(profile, OPTIONS[STEPS]), None)
    flag = next((f for p, f in plan.flags.items() if p.partition(":")[0] == STEPS), "")
    words = plan.command
    if flag.startswith("-") and any(plain(w.partition("=")[0]) == plain(flag) for w in words):
        words = without(words, plain_name(flag))
        yield PlanChange(
            path="command", value=list(words), by=Author.REPOSITORY, why=f"documented; without {flag}: {why}"
        )
    if plan.training.max_steps is not None:
        yield PlanChange(path=STEPS, value=None, by=Author.DEFAULT, why=why)
    limited = option is not None and option.default not in _NO_LIMIT
    if limited and flag.startswith("-") and profile.cli_style == "hfargparser":
        yield PlanChange(path=f"training.options.{plain_name(flag)}", value=-1, by=Author.DEFAULT, why=why)
    key = plan.config_keys.get(STEPS)
    if key is not None and not flag and changeable(plan, key.path) and "transformers" in profile.libraries:
        held = next((v.value for v in profile.config_values if (v.file, v.key) == (key.path, key.key)), None)
        if held not in _NO_LIMIT and plan.set_by("config_overlays") not in STANDING:
            yield PlanChange(
                path="config_overlays", value=laid_over(plan, key.path, key.key, -1), by=Author.DEFAULT, why=why
            )


def plain_name(flag: str) -> str:
    """The flag as it is typed, without the mark for how its value follows."""
    return flag.rstrip("= ")

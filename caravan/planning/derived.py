"""What follows from GPUs, batch and length once they are known: processes, accumulation, limits, and what is silent.

It may be done again whenever an answer has changed the plan; what a person has set is never touched. Pure.
"""

from caravan.planning.batches import settled_batch
from caravan.planning.config_keys import repository_values
from caravan.planning.environment_plan import notebook_changes
from caravan.planning.lengths import length_changes
from caravan.planning.processes import documented_processes, process_changes, process_notes
from caravan.planning.program import documented_start, names_entry
from caravan.planning.quiet import quiet_changes
from caravan.values.plan import STANDING, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile


def with_derived(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> TrainingPlan:
    """The plan with what its GPUs, batch, epochs and the sentence's wishes make of the rest."""
    documented = documented_start(profile)
    plan = apply_changes(plan, notebook_changes(plan))
    plan = apply_changes(plan, process_changes(plan, profile, documented))
    if plan.set_by("command") in STANDING and profile.entry_point and not names_entry(plan.command, profile):
        return plan  # another program: nothing is known of its options
    plan = apply_changes(plan, length_changes(plan, profile))
    own = {path: value for path, (value, _) in repository_values(profile, documented).items()}
    plan = apply_changes(plan, settled_batch(plan, documented_processes(documented), own))
    return apply_changes(plan, quiet_changes(plan, profile, prompt))


def derived_notes(plan: TrainingPlan, profile: RepoProfile) -> tuple[str, ...]:
    """What a person should know of it before approval, a line for each."""
    return process_notes(plan, profile, documented_start(profile))

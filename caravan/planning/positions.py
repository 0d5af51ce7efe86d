"""How long a sequence the plan's model has positions for, and what of a plan is bounded by it. Pure.

What a person or a repair has set stays: it is asked back where it is said (`too_long_for`), and told with the estimate.
"""

from caravan.planning.model_shape import positions_of
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile

LENGTH = "training.max_len"


def position_changes(plan: TrainingPlan, profile: RepoProfile) -> tuple[PlanChange, ...]:
    """The plan's sequences no longer than the model's, where its config is known and nobody asked for longer ones."""
    length, model = plan.training.max_len, plan.model.id or profile.base_model
    longest = positions_of(model, profile)
    if length is None or longest is None or length <= longest or plan.set_by(LENGTH) in STANDING:
        return ()
    why = f"{model or 'the model'} has positions for {longest} tokens, not for {length}"
    return (PlanChange(path=LENGTH, value=longest, by=Author.DEFAULT, why=why),)

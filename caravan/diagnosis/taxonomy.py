"""The closed list of causes: what each means, whether a change of the job can mend it, and what to tell the user.

The classes themselves are `FailureClass`; which evidence shows which class is in `rules.py`, what is tried against it
in `repair.py`. The rows are in `causes_cluster.py`, `causes_training.py` and `causes_gate.py`.
"""

from typing import Final

from caravan.diagnosis.causes_cluster import CLUSTER_CAUSES
from caravan.diagnosis.causes_gate import GATE_CAUSES
from caravan.diagnosis.causes_training import TRAINING_CAUSES
from caravan.diagnosis.entry import Entry
from caravan.values.failure import FailureClass
from caravan.values.plan import TrainingPlan

TAXONOMY: Final[dict[FailureClass, Entry]] = {**CLUSTER_CAUSES, **TRAINING_CAUSES, **GATE_CAUSES}

ADVICE_PLACES: Final = frozenset({"image"})
"""What an advice may name in braces: nothing that a plan says by default. The evidence's words stand in the cause."""


def advice(failure: FailureClass, plan: TrainingPlan) -> str:
    """What to tell the user, with the places filled in from the plan. Empty for no failure.

    It is true before anything was tried against the cause and after all was.
    """
    return TAXONOMY[failure].advice.format_map({"image": plan.image or "the image"})

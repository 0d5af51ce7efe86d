"""The closed list of causes: what each means, whether a change of the job can mend it, and what to tell the user.

The classes themselves are `FailureClass`; which evidence shows which class is in `rules.py`, what is tried against it
in `repair.py`. The rows are in `causes_cluster.py` and `causes_training.py`.
"""

from typing import Final

from caravan.diagnosis.causes_cluster import CLUSTER_CAUSES
from caravan.diagnosis.causes_training import TRAINING_CAUSES
from caravan.diagnosis.entry import Entry
from caravan.values.failure import Evidence, FailureClass
from caravan.values.plan import TrainingPlan

TAXONOMY: Final[dict[FailureClass, Entry]] = {**CLUSTER_CAUSES, **TRAINING_CAUSES}

ADVICE_PLACES: Final = frozenset({"image", "driver", "node", "namespace", "memory", "gpus", "gpu", "command", "model"})
"""What an advice may name in braces. `memory` is in MB. The evidence's words stand in the cause, beside it."""


def advice(failure: FailureClass, evidence: Evidence, plan: TrainingPlan) -> str:
    """What to tell the user, with the places filled in from the evidence and the plan. Empty for no failure."""
    resources = plan.resources
    return TAXONOMY[failure].advice.format_map(
        {
            "image": plan.image or "the image",
            "driver": evidence.driver or plan.driver,
            "node": evidence.node_name or "of the job",
            "namespace": plan.namespace or "default",
            "memory": max(resources.memory_mb, resources.memory_max_mb or 0),
            "gpus": resources.gpus,
            "gpu": resources.gpu_model or "the GPU",
            "command": " ".join(plan.command[:2]),
            "model": plan.model.id or "the model",
        }
    )

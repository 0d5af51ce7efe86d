"""The family of a plan: runs whose plans differ in their seed alone, so that only chance tells them apart.

What says where a run's own files lie, where it may be placed and what it may cost changes nothing of what is learnt,
and would make each run a family of its own: it is left out as well.
"""

import re
from typing import Final

from caravan.values.base import Json, canonical_json, sha256_text
from caravan.values.plan import TrainingPlan

_ASIDE: Final = frozenset(
    {"provenance", "goal", "limits", "priority", "exclude_nodes", "affinities", "spreads", "smoke", "outputs"}
    | {"kill_timeout_s", "progress_deadline_s", "image_pull_timeout_s"}
)
"""Fields that train the same model whatever they say."""
_SEED: Final = re.compile(
    r"-*(?:(?:global|random|manual|train|training|torch|np|numpy)[_-])?(?:seed|random[_-]state)\Z"
)
"""An option's name that sets the seed: `--seed`, `--random_seed`, `--random-state`. `data_seed` is none: it chooses
what the model learns from and is judged by."""


def family_of(plan: TrainingPlan) -> str:
    """SHA-256 of the plan without its seed and without what is a single run's own."""
    document = plan.model_dump(mode="json", exclude=set(_ASIDE))
    document["training"].pop("seed", None)
    document["training"].pop("output_dir", None)
    options = document["training"]["options"]
    document["training"]["options"] = {name: value for name, value in options.items() if not _SEED.match(name)}
    if plan.code.sha256 is not None:
        document["code"].pop("location", None)  # the same bytes, wherever they lie
    return sha256_text(canonical_json(document))


def seed_of(plan: TrainingPlan) -> int | None:
    """The seed that the plan sets, by its field or by an option of the program; None: the program has its own."""
    if plan.training.seed is not None:
        return plan.training.seed
    found: list[Json] = [value for name, value in plan.training.options.items() if _SEED.match(name)]
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)

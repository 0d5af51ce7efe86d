"""Names that users write short: models without their owner, GPUs without their vendor.

It resolves only what is unambiguous; the rest stays as written.
"""

import re
from typing import Final

from caravan.planning.catalogue import matches_model
from caravan.planning.cluster_fit import gpu_groups
from caravan.values.job import ClusterFacts

_OWNERS: Final = (
    (r"qwen[\d.]*-", "Qwen"),
    (r"(?:mistral|mixtral)-", "mistralai"),
    (r"gemma-", "google"),
    (r"phi-", "microsoft"),
    (r"smollm", "HuggingFaceTB"),
    (r"tinyllama", "TinyLlama"),
    (r"(?:meta-)?llama-\d", "meta-llama"),
)
"""Who publishes these families on the hub."""


def resolve_model(said: str, in_repository: str | None) -> str | None:
    """A model's hub id for a name in a sentence; None when it only repeats what the repository names already."""
    if in_repository and re.sub(r"[^a-z0-9]", "", said.lower()) in re.sub(r"[^a-z0-9]", "", in_repository.lower()):
        return None
    if "/" in said:
        return said
    owner = next((o for pattern, o in _OWNERS if re.match(pattern, said, re.IGNORECASE)), None)
    return f"{owner}/{said}" if owner else said


def resolve_gpu(said: str, facts: ClusterFacts) -> str:
    """The cluster's own name for a GPU type, when exactly one of its types is meant; else as said."""
    models = {g.model for n in facts.usable_nodes() for g in gpu_groups(n) if matches_model(said, g.model)}
    return models.pop() if len(models) == 1 else said

"""What the hub says of a plan's model and data set, as part of what is known of the repository.

What it means is `caravan.planning.model_shape`'s and `dataset_size`'s; without a hub, or an answer, the run goes on.
"""

import re
from pathlib import Path
from typing import Final

from caravan.agent.context import Context
from caravan.agent.data_places import model_at
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.shape import ModelConfig, slim_config

_FILE: Final = re.compile(
    r"(?i)\.(?:jsonl?|csv|tsv|txt|parquet|arrow|npy|npz|pt|pth|ckpt|bin|safetensors|gguf|h5|pkl|zip|gz|tgz|tar|zst|yaml)$"
)
_MOST: Final = 4
"""Answers that are kept: a run's state holds small values."""


def with_hub(plan: TrainingPlan, profile: RepoProfile, context: Context) -> RepoProfile:
    """The profile with the hub's answers about the plan's model and data set, each asked for once.

    Not asked: about what lies in the repository or at a path, and for a plan without GPUs, whose memory nobody counts.
    """
    if context.hub is None or plan.resources.gpus == 0:
        return profile
    model = plan.model.id or profile.base_model
    asked = {a.model for a in profile.models_on_hub}
    if model and plan.model.source in (None, "hub") and model not in asked and not _here(model, profile):
        answer = context.hub.model(model, plan.model.revision)
        profile = profile.model_copy(update={"models_on_hub": (*profile.models_on_hub, answer)[-_MOST:]})
    data = plan.dataset.path or profile.dataset
    if data and data not in {a.dataset for a in profile.datasets_on_hub} and not _here(data, profile):
        told = context.hub.dataset(data)
        profile = profile.model_copy(update={"datasets_on_hub": (*profile.datasets_on_hub, told)[-_MOST:]})
    return profile


def with_model_here(plan: TrainingPlan, profile: RepoProfile) -> RepoProfile:
    """The profile with the config of a model that lies on this machine beside the repository, where the plan names it.

    It says what is trained as well as one in the repository does. Read is its config.json alone.
    """
    name = plan.model.id or ""
    if not name.startswith(("/", "~")) or any(c.file.startswith("/") for c in profile.model_configs):
        return profile
    try:
        config = model_at(Path(name).expanduser()).config
    except RuntimeError:  # the user of `~name` may be none of this machine
        return profile
    if config is None:
        return profile
    found = ModelConfig(file=f"{name.rstrip('/')}/config.json", kind="config.json", values=slim_config(dict(config)))
    return profile.model_copy(update={"model_configs": (*profile.model_configs, found)})


def _here(name: str, profile: RepoProfile) -> bool:
    """Whether the name is that of something in the repository, or of a file wherever it is."""
    if _FILE.search(name):
        return True
    known = (*(c.file for c in profile.model_configs), *(s.name for s in profile.data_sizes))
    return any(path == name or path.startswith(f"{name.rstrip('/')}/") for path in known)

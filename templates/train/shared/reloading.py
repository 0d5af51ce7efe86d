"""Going on from a checkpoint of a model whose file names its weights otherwise than the model does.

transformers writes weights of some architectures (ViT, mixtures of experts, …) under the names that their files on hubs
have. Its Trainer, going on from such a checkpoint, loads what has the model's own names and only warns of the rest, so
that the training would go on from random weights. This module imports torch and transformers.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from shared.refusals import Refused

WEIGHTS = "model.safetensors"


class Reloading:
    """For a Trainer (`class Mine(Reloading, Trainer)`): weights under other names are loaded as the model does it."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        mine = self.model if model is None else model  # type: ignore[attr-defined]
        names = names_in(Path(resume_from_checkpoint))
        spread = self.is_fsdp_enabled or self.is_deepspeed_enabled  # type: ignore[attr-defined]
        if spread or not names or names <= set(mine.state_dict()) or not hasattr(mine, "from_pretrained"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        loaded, told = type(mine).from_pretrained(
            resume_from_checkpoint, config=mine.config, dtype=mine.dtype, output_loading_info=True
        )
        if told["missing_keys"] or told["unexpected_keys"] or told["mismatched_keys"]:
            raise Refused("checkpoint", "its weights are not those of this model", resume_from_checkpoint)
        mine.load_state_dict(loaded.state_dict())


def names_in(folder: Path) -> set[str]:
    """The names of the weights that a checkpoint has as safetensors of a whole model; none where it has no such."""
    index = folder / f"{WEIGHTS}.index.json"
    if index.is_file():
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    if not (folder / WEIGHTS).is_file():
        return set()
    with safe_open(folder / WEIGHTS, framework="pt") as stream:
        return set(stream.keys())

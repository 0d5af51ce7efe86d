"""GPU memory of a training, from its tensors: weights, trained states, activations, logits, exchange, runtime."""

from caravan.planning.memory.constants import FITTED, Fitted
from caravan.planning.memory.peak import PASSING, memory_parts
from caravan.planning.memory.setting import GIB, Setting
from caravan.planning.memory.trained import trained_params

__all__ = ["FITTED", "GIB", "PASSING", "Fitted", "Setting", "memory_parts", "trained_params"]

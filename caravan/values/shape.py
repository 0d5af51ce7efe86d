"""The shape of a model: what memory and speed depend on, with where it is known from.

It knows neither plans nor GPUs, reads no file and asks nobody. Counts are plain numbers, parameters are in billions
(1e9). A number that does not apply to a kind of model is 0, one that is not known is None.
"""

import math
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from caravan.values.base import Json, Value

MOST_PARAMS_B = 100_000.0
"""More billions of parameters than any model has: a larger number is a mistake."""


class Family(StrEnum):
    """How a model is built, as far as memory and speed depend on it."""

    DECODER = "decoder"
    ENCODER = "encoder"
    ENCDEC = "encdec"
    VISION_LANGUAGE = "vlm"
    VIT = "vit"
    CNN = "cnn"
    AUDIO = "audio"
    DUAL = "dual"
    """An image and a text encoder side by side (CLIP)."""
    DIT = "dit"
    """A diffusion transformer."""
    UVIT = "uvit"
    UNET = "unet"
    SSM = "ssm"
    """A state space model (Mamba), also one with some attention blocks."""
    OTHER = "other"


class Latent(Value):
    """Attention over a compressed cache (multi-head latent attention): ranks and widths a head."""

    q_rank: int = Field(default=0, ge=0, description="rank of the queries' projection; 0: they are not compressed")
    kv_rank: int = Field(ge=1, description="rank that keys and values share")
    nope_dim: int = Field(ge=1, description="width a head of queries and keys without position")
    rope_dim: int = Field(ge=0, description="width a head of those with position")
    v_dim: int = Field(ge=1, description="width a head of the values")


class ModelShape(Value):
    """What memory and speed depend on. Without `exact` it is guessed from the number of parameters alone.

    For an encoder and decoder `layers` counts the blocks of both, and `encoder_layers` says how many are the encoder's.
    For convolutions `hidden` is the widest layer, `layers` the blocks, `heads` 1.
    """

    params_b: float = Field(
        gt=0, le=MOST_PARAMS_B, description="parameters in billions, all experts and towers counted"
    )
    hidden: int = Field(ge=1, description="width of the stream between blocks")
    layers: int = Field(ge=1, description="number of blocks")
    heads: int = Field(ge=1, description="attention heads (queries)")
    kv_heads: int = Field(ge=1, description="heads of keys and values")
    intermediate: int = Field(ge=0, description="width inside the MLP; of the dense blocks where some have experts")
    vocab: int = Field(ge=0, description="rows of the embedding; 0: none")
    gated: bool = Field(default=True, description="the MLP has three matrices (SwiGLU, GeGLU), not two")
    exact: bool = Field(default=True, description="read or looked up, not guessed from the number of parameters")
    family: Family = Family.DECODER
    head_dim: int = Field(default=0, ge=0, description="width of a head; given as 0 it is hidden // heads")
    tied: bool | None = Field(default=None, description="embedding and output matrix are one; None: not known")
    experts: int = Field(default=0, ge=0, description="routed experts a block; 0: a dense model")
    experts_per_token: int = Field(default=0, ge=0, description="routed experts that see a token")
    moe_intermediate: int = Field(default=0, ge=0, description="width inside one routed expert")
    shared_intermediate: int = Field(default=0, ge=0, description="width inside the experts that see every token")
    dense_layers: int = Field(default=0, ge=0, description="blocks without experts in a model with experts")
    latent: Latent | None = None
    max_positions: int | None = Field(default=None, ge=1, description="longest sequence in tokens it was made for")
    sliding_window: int | None = Field(default=None, ge=1, description="tokens that a block's attention looks back at")
    encoder_layers: int = Field(default=0, ge=0, description="of `layers`, those of the encoder (encoder and decoder)")
    image_size: int = Field(default=0, ge=0, description="side of an input image in pixels")
    patch_size: int = Field(default=0, ge=0, description="side of a patch in pixels")
    vision: "ModelShape | None" = Field(default=None, description="the image tower; counted in `params_b`")
    model_type: str = Field(default="", description="the kind as its config calls it (`qwen2`)")
    source: str = Field(default="", description="where the shape is known from, for a person")

    @model_validator(mode="before")
    @classmethod
    def _head_dim(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("head_dim"):
            hidden, heads = given.get("hidden"), given.get("heads")
            if isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
                return {**given, "head_dim": hidden // heads}
        return given

    @property
    def active_params_b(self) -> float:
        """Billions of parameters that see a token: all but the routed experts that are not chosen."""
        if not self.experts or not self.experts_per_token:
            return self.params_b
        matrices = 3 if self.gated else 2
        idle = max(0, self.experts - self.experts_per_token)
        unused = idle * matrices * self.hidden * self.moe_intermediate * max(0, self.layers - self.dense_layers) / 1e9
        return max(self.params_b - unused, self.params_b * self.experts_per_token / self.experts)


class ModelAnswer(Value):
    """What a hub says of a model: its `config.json` as it is (data, not to be trusted) and its parameters.

    Nothing found: `text` says why, in words for a person; `absent`: the hub says that it has none of that name.
    """

    model: str
    config: dict[str, Json] | None = None
    params: int | None = Field(default=None, ge=1, description="parameters as the weights' headers count them")
    weights_bytes: int | None = Field(default=None, ge=0, description="bytes of the weights' files")
    text: str = ""
    absent: bool = False


class ModelConfig(Value):
    """A model's config that a repository holds or builds: keys as the files spell them, and where they stand."""

    file: str
    line: int = Field(default=0, ge=0)
    kind: str = Field(default="", description="class or file that says it (`GPTConfig`, `config.json`)")
    values: dict[str, Json] = Field(default_factory=dict)


_MOST_KEYS = 200
_MOST_ITEMS = 64
_LONGEST = 200
_DEEPEST = 5


def slim_config(config: Json) -> dict[str, Json]:
    """What of a model's config may be kept: its numbers, short texts and small tables; no lists of labels or tokens.

    Empty for what is no table. Whatever is too long, too deep or no finite number is left out.
    """
    kept = _slim(config, _DEEPEST)
    return kept if isinstance(kept, dict) else {}


def _slim(value: Json, deep: int) -> Json:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 62 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else None
    if deep <= 0:
        return None
    if isinstance(value, list | tuple):
        return [_slim(v, deep - 1) for v in value] if len(value) <= _MOST_ITEMS else None
    if isinstance(value, dict) and (len(value) <= _MOST_KEYS or deep == _DEEPEST):
        slim = {str(k)[:_LONGEST]: _slim(v, deep - 1) for k, v in list(value.items())[: 2 * _MOST_KEYS]}
        return {k: v for k, v in slim.items() if v is not None}
    return None

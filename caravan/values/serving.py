"""A language model that is served on the cluster: what a person may set of it, what it needs, and what is decided.

Memory is GiB on each GPU, context and cache are tokens, money is US dollars an hour.
"""

from enum import StrEnum
from typing import Final

from pydantic import Field

from caravan.values.base import Value
from caravan.values.job import ClusterKind
from caravan.values.shape import ModelShape

KEY_ITEM: Final = "VLLM_API_KEY"
"""The item of the Nomad variable that holds the API key, and the environment variable in which vLLM takes it."""
HUB_ITEM: Final = "HF_TOKEN"


class Weights(StrEnum):
    """How the weights are stored on the GPU."""

    BF16 = "bf16"
    FP16 = "fp16"  # on GPUs that know no bf16
    FP8 = "fp8"
    AWQ = "awq"  # 4 bit in groups of 128


class ServeOptions(Value):
    """What `--set FIELD=VALUE` may change of a served model."""

    served_name: str = Field(default="", description="name by which it is asked for; empty: the model's own")
    weights: Weights | None = Field(default=None, description="bf16, fp16, fp8 or awq; unset: what fits best")
    context: int | None = Field(default=None, ge=1024, le=1 << 22, description="longest prompt and reply, in tokens")
    max_num_seqs: int = Field(default=16, ge=1, le=4096, description="requests that are worked on at once")
    max_num_batched_tokens: int = Field(default=8192, ge=512, le=1 << 20, description="tokens of one step")
    gpu_memory_utilization: float = Field(
        default=0.9, ge=0.1, le=0.98, description="share of a GPU's memory that vLLM takes"
    )
    kv_fp8: bool = Field(default=False, description="the cache in 8 bit: half of its size")
    tool_parser: str = Field(
        default="hermes", description="vLLM's --tool-call-parser; Qwen3 writes calls as Hermes does"
    )
    reasoning_parser: str = Field(default="qwen3", description="vLLM's --reasoning-parser; empty: none")
    args: tuple[str, ...] = Field(default=(), description="further arguments for vLLM, as they are")
    command: tuple[str, ...] = Field(
        default=(), description="the program in place of vLLM's, before the arguments; for drivers without an image"
    )
    driver: str = Field(default="docker", description="docker, exec or raw_exec")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="port on the node; unset: one that Nomad chooses"
    )
    cpu_mhz: int = Field(default=4000, ge=100, description="CPU in MHz")
    memory_mb: int | None = Field(default=None, ge=64, description="memory in MB; unset: by the number of GPUs")
    disk_mb: int | None = Field(default=None, ge=100, description="ephemeral disk in MB; unset: by the weights")
    priority: int = Field(
        default=60, ge=1, le=100, description="Nomad priority: what waits for the model waits with it"
    )
    datacenters: tuple[str, ...] = Field(default=("*",), description="datacenters")
    start_s: int = Field(
        default=3600, ge=10, le=86_400, description="seconds to be healthy in: image, download and loading"
    )


class ServeMemory(Value):
    """What each GPU holds, in GiB, and what it has. `budget` is vLLM's share of it; None: its memory is not known."""

    weights: float
    activations: float = Field(description="of one step, and the logits of the requests that are drawn from")
    runtime: float = Field(description="CUDA context, kernels, communication buffers, CUDA graphs")
    margin: float = Field(description="what the estimate may be wrong by")
    kv_bytes_per_token: float = Field(ge=0, description="of one GPU")
    context: int
    total: float | None = None
    budget: float | None = None

    @property
    def kv(self) -> float:
        """The cache of one request as long as the context: with less vLLM does not start."""
        return self.kv_bytes_per_token * self.context / (1 << 30)

    @property
    def besides(self) -> float:
        """Everything but the cache."""
        return self.weights + self.activations + self.runtime

    @property
    def needed(self) -> float:
        """All of it with the margin."""
        return self.besides + self.kv + self.margin

    @property
    def fits(self) -> bool:
        """Whether that is within the budget; what is not known does not speak against it."""
        return self.budget is None or self.needed <= self.budget

    @property
    def kv_tokens(self) -> int | None:
        """The tokens that the cache holds beside everything else, without the margin; None: not known."""
        if self.budget is None or not self.kv_bytes_per_token:
            return None
        return max(0, int((self.budget - self.besides) * (1 << 30) / self.kv_bytes_per_token))


class ServedModel(Value):
    """A model as it can be served: the repository on the hub, its shape, and how its weights are stored there."""

    repo: str
    shape: ModelShape
    weights: Weights = Weights.BF16

    @property
    def longest(self) -> int | None:
        """The longest context that it was made for."""
        return self.shape.max_positions


class Seat(Value):
    """GPUs that a model may be put on: so many of one model of one node, and what an hour of all of them costs."""

    gpu_model: str
    memory_mib: int | None = None
    gpus: int = Field(ge=1)
    usd_per_hour: float | None = None
    price_source: str = ""
    declared: bool = Field(default=False, description="the built-in cluster only pretends them")


class Fit(Value):
    """A model on a seat, with what that takes."""

    model: ServedModel
    seat: Seat
    memory: ServeMemory


class ServePlan(Value):
    """Everything that the job of a served model is made from. `fit` None: a program of one's own, without GPUs."""

    name: str
    repo: str
    fit: Fit | None = None
    weights: Weights = Weights.BF16
    weights_gib: float = Field(default=0.0, ge=0, description="of the whole model")
    context: int
    options: ServeOptions = Field(default_factory=ServeOptions)
    image: str | None = None
    namespace: str = "default"
    region: str | None = None
    node_pool: str | None = None
    volume: str | None = Field(default=None, description="where the weights are kept; None: the ephemeral disk")
    volume_kind: str = "host"
    hub_token: bool = Field(default=False, description="HF_TOKEN is read from the Nomad variable for all jobs")
    env: dict[str, str] = Field(default_factory=dict)
    key_mark: str = Field(default="", description="what tells which API key is in force, and tells nothing of it")
    kind: ClusterKind = ClusterKind.NOMAD

    @property
    def gpus(self) -> int:
        """How many GPUs it takes."""
        return self.fit.seat.gpus if self.fit else 0

    @property
    def served_name(self) -> str:
        """The name by which it is asked for."""
        return self.options.served_name or self.repo

    @property
    def usd_per_hour(self) -> float | None:
        """What an hour costs; None: not known."""
        if self.fit is None:
            return 0.0 if self.kind is ClusterKind.BUILTIN else None
        return self.fit.seat.usd_per_hour

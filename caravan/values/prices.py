"""What an hour costs, in US dollars, as a person or a cluster says it. Which price counts where is not known here.

0 is a price: what costs nothing extra. None is not known, and never 0.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from caravan.values.base import Value

MOST_USD: Final = 100_000.0
"""US dollars an hour that nothing costs: a larger number is a mistake."""
Usd = Annotated[float, Field(ge=0, le=MOST_USD, allow_inf_nan=False, strict=True)]
"""A price in US dollars; a number, not a text."""


class Rate(Value):
    """Prices of some nodes: of each of their GPUs, of GPUs by model, or of a whole node."""

    usd_per_gpu_hour: Usd | None = Field(default=None, description="an hour of one GPU, of any model")
    usd_per_hour: Usd | None = Field(default=None, description="an hour of a whole node, its GPUs included")
    gpus: dict[str, Usd] = Field(default_factory=dict, description="GPU model to US dollars an hour of one")


class PriceList(Rate):
    """A whole `prices.toml`: prices for the whole cluster, and for its node classes and pools by name."""

    currency: Literal["USD"] = Field(default="USD", description="the only one that is understood")
    node_classes: dict[str, Rate] = Field(default_factory=dict, description="prices of a node class")
    node_pools: dict[str, Rate] = Field(default_factory=dict, description="prices of a node pool")


class Prices(Value):
    """What is paid here. An empty value means what the nodes say, else the catalogue's typical prices.

    `usd_per_gpu_hour`: for every GPU. `by_model`: by the cluster's profile. `listed`: by a `prices.toml`, which
    `where` names.
    """

    usd_per_gpu_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    by_model: dict[str, float] = Field(default_factory=dict)
    listed: PriceList | None = None
    where: str = ""

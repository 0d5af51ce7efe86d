"""What would be served on the GPUs of the catalogue, one of each or as many as are usual on a node. Pure."""

from typing import Final, NamedTuple

from caravan.planning.catalogue import gpu_named
from caravan.planning.serving_choice import Wish, choose
from caravan.values.errors import UsageError
from caravan.values.job import ClusterFacts, ClusterKind, DeviceGroup, DriverFacts, NodeFacts
from caravan.values.prices import Prices
from caravan.values.serving import Fit

_USUAL: Final = (
    ("NVIDIA GeForce RTX 3060", 1),
    ("Tesla T4", 1),
    ("Tesla T4", 4),
    ("NVIDIA RTX A4000", 1),
    ("NVIDIA L4", 1),
    ("NVIDIA A10G", 1),
    ("NVIDIA GeForce RTX 4090", 1),
    ("NVIDIA GeForce RTX 5090", 1),
    ("NVIDIA A100-SXM4-40GB", 1),
    ("NVIDIA L40S", 1),
    ("NVIDIA RTX A6000", 1),
    ("NVIDIA A100-SXM4-80GB", 1),
    ("NVIDIA H100 80GB HBM3", 1),
    ("NVIDIA H200", 1),
)


class Row(NamedTuple):
    """GPUs, and what is chosen for them; None: nothing fits."""

    gpu: str
    gpus: int
    memory_gib: float
    fit: Fit | None
    context: int


def usual_sizes() -> tuple[Row, ...]:
    """A row for each of the usual GPUs, the smallest memory first."""
    return tuple(_row(model, count) for model, count in _USUAL)


def _row(model: str, count: int) -> Row:
    known = gpu_named(model)
    memory = known.memory_mib if known else 0
    device = DeviceGroup(vendor="nvidia", type="gpu", model=model, count=count, memory_mib=memory)
    node = NodeFacts(id="1", name="one", drivers={"docker": DriverFacts()}, devices=(device,))
    facts = ClusterFacts(kind=ClusterKind.NONE, address="", nodes=(node,))
    try:
        found = choose(facts, Prices(), Wish())
    except UsageError:
        return Row(model, count, memory / 1024, None, 0)
    return Row(model, count, memory / 1024, found.fit, found.options.context or 0)

"""What the nodes work with: the ports of one run and the few settings that they need, wired by `main.py`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from caravan.agent.state import RunState
from caravan.analysis.tree import SourceTree
from caravan.planning.catalogue import Prices
from caravan.ports import (
    Adviser,
    Clock,
    Cluster,
    Courier,
    ImageRegistry,
    Judge,
    Memory,
    ModelHub,
    ModelRegistry,
    Progress,
    Reasoner,
    Resolver,
    RunFolder,
    Store,
    Toolbox,
    Tracer,
)
from caravan.training.loading import Types
from caravan.values.delivery import Shipping
from caravan.values.environment import BaseImage
from caravan.values.failure import Scope
from caravan.values.job import ClusterFacts
from caravan.values.policy import Policies
from caravan.values.reports import RunReport
from caravan.values.run import Sentinel, Snapshot
from caravan.values.spending import SharedLimit
from caravan.values.target import Site


@dataclass(frozen=True)
class Limits:
    """Money in US dollars: what `--yes` may spend, and what no run may spend without `--budget`.

    `shared`: what runs may spend together; `--budget` does not raise that.
    """

    soft_usd: float
    hard_usd: float
    shared: tuple[SharedLimit, ...] = ()


def _nothing_set(name: str) -> str | None:
    """An environment without secrets."""
    del name
    return None


@dataclass(frozen=True)
class Context:
    """The ports of one run.

    `facts` are the cluster's, at most some seconds old (`recent`); `open_tree` opens the repository, `toolbox` lets a
    reasoner look at it. `secrets` are values to mask; `secret_of` gives a secret of this environment by its name, to be
    sent to the cluster and kept nowhere. `policies` are the administrators'. `smoke`: whether jobs begin with some
    steps that are measured; None: where they cost money. `own` is the run's directory where it began, if that was
    elsewhere. `adviser`: a language model, where there is one. `lesson_scope`: whom the run's lessons speak to.
    `types` reads the training types that there are. `hub_cache`: where the hub's library keeps models here.
    """

    cluster: Cluster
    facts: Callable[[], ClusterFacts]
    reasoner: Reasoner
    memory: Memory
    tracer: Tracer
    store: Store
    folder: RunFolder
    clock: Clock
    progress: Progress
    judge: Judge
    read_sentinel: Callable[[Cluster, Snapshot], Sentinel | None]
    open_tree: Callable[[str], SourceTree]
    toolbox: Callable[[SourceTree], Toolbox]
    render_report: Callable[[RunState, "Context"], RunReport]
    templates: Path
    limits: Limits
    prices: Prices
    image: str | None = None
    base_images: tuple[BaseImage, ...] = ()
    max_archive_mb: int = 512
    smoke: bool | None = None
    secrets: tuple[str, ...] = ()
    secret_of: Callable[[str], str | None] = _nothing_set
    policies: Policies = field(default_factory=Policies)
    site: Site | None = None
    shipping: Shipping = field(default_factory=Shipping)
    courier: Courier | None = None
    resolver: Resolver | None = None
    registry: ImageRegistry | None = None
    hub: ModelHub | None = None
    models: ModelRegistry | None = None
    own: str = ""
    adviser: Adviser | None = None
    lesson_scope: Scope = Scope.TENANT
    types: Callable[[], Types] = Types
    hub_cache: Path | None = None


def recent(cluster: Cluster, clock: Clock, *, seconds: float = 15.0) -> Callable[[], ClusterFacts]:
    """The cluster's facts, asked for again only when they are older than `seconds`: it is a request for each node."""
    known: list[tuple[float, ClusterFacts]] = []

    def facts() -> ClusterFacts:
        if not known or clock.monotonic() - known[0][0] > seconds:
            known[:] = [(clock.monotonic(), cluster.facts())]
        return known[0][1]

    return facts

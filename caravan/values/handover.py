"""Handing a run over to an agent on the cluster: what travels, and what is known of that agent's place.

Nothing here is a secret: what the agent must have of those is named, and goes another way.
"""

from typing import Literal

from pydantic import Field

from caravan.values.base import Value
from caravan.values.policy import Policies
from caravan.values.prices import Prices
from caravan.values.run import Deployment, RunEvent, RunRecord
from caravan.values.target import Site


class Carried(Value):
    """What holds for the run where it comes from, and holds on where it goes: the profile, the policies.

    `own` is the run's directory where it began: what a job mounts of it Caravan has put there.
    """

    site: Site | None = None
    policies: Policies = Field(default_factory=Policies)
    own: str = ""
    prices: Prices | None = Field(default=None, description="what is paid, by the price list where it comes from")


class Bundle(Value):
    """A run as it travels: its record, deployments, events, newest checkpoint (base64) and papers by name.

    `folder` is the run's directory where it comes from, as its report names it; `trace` the lines of its trace.
    """

    version: Literal[1] = 1
    record: RunRecord
    deployments: tuple[Deployment, ...] = ()
    events: tuple[RunEvent, ...] = ()
    checkpoint: str
    papers: dict[str, str] = Field(default_factory=dict)
    folder: str = ""
    carried: Carried = Field(default_factory=Carried)
    trace: str = ""


class AgentPlace(Value):
    """What an agent on the cluster is given.

    `program`: how it is started where tasks see this machine's files. `address`: how its task reaches the cluster's
    API; empty: by the socket that Nomad gives each task. `env` are settings, `lends` the names of the secrets that are
    set here and that it works with; `only_with`: settings that are given only where all these secrets are lent;
    `needs_token`: it can do nothing without one, which is the built-in cluster's own.
    """

    program: tuple[str, ...]
    image: str | None = None
    volume: str | None = None
    address: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    lends: tuple[str, ...] = ()
    only_with: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    needs_token: bool = False


class Stationed(Value):
    """The agent's job as the run's folder remembers it. `lent`: the Nomad variable with what it was lent, or none."""

    job_id: str
    namespace: str = "default"
    lent: str = ""

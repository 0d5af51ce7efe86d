"""Clusters by name: what a profile in `caravan.toml` says of one, and where a run goes.

A secret never stands here: a profile says where it is (`token_env`, `token_file`). Which files there are, and what of
the environment counts beside them, is not known here.
"""

import re
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, Field, field_validator

from caravan.values.base import Value
from caravan.values.delivery import Depot
from caravan.values.environment import BaseImage
from caravan.values.masking import mask
from caravan.values.plan import VariableName

NOWHERE: Final = "none"
"""In place of an address: no cluster is chosen, and none is asked. Nothing can be deployed there."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""What a profile may be called, `local` left out; no address looks like that with its `://`."""


def _plain(text: str) -> str:
    if mask(text) != text:
        raise ValueError("it holds a secret: name where the secret is instead (see docs/secrets.md)")
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError("give an absolute path, as the task sees it")
    return path


Plain = Annotated[str, Field(min_length=1), AfterValidator(_plain)]
"""A text without anything that looks like a secret."""
TaskPath = Annotated[str, AfterValidator(_absolute)]
"""An absolute path in the task."""


class VolumeDefault(Value):
    """A volume that every job of the cluster gets, and where the task sees it."""

    destination: TaskPath
    kind: Literal["host", "csi"] = "host"
    read_only: bool = True


class ClusterProfile(Value):
    """A cluster: how it is reached, and what plans for it begin with. What is not said is as without a profile."""

    address: Plain = Field(description="address of the Nomad API")
    region: str | None = Field(default=None, description="Nomad region")
    namespace: str | None = Field(default=None, description="namespace of the jobs")
    node_pool: str | None = Field(default=None, description="node pool of the jobs")
    datacenters: tuple[str, ...] | None = Field(default=None, description="datacenters of the jobs")

    token_env: VariableName | None = Field(default=None, description="environment variable that holds the ACL token")
    token_file: str | None = Field(default=None, description="file that holds the ACL token and that others can't read")
    cacert: str | None = Field(default=None, description="file with the CA certificate of the servers")
    capath: str | None = Field(default=None, description="directory of CA certificates, where cacert is unset")
    client_cert: str | None = Field(default=None, description="file with the client certificate for mTLS")
    client_key: str | None = Field(default=None, description="file with the key of the client certificate")
    tls_server_name: str | None = Field(default=None, description="name that the server's certificate is for")
    skip_verify: bool | None = Field(default=None, description="don't verify the server (unsafe)")

    image: Plain | None = Field(default=None, description="image for docker jobs whose repository names none")
    base_images: tuple[BaseImage, ...] | None = Field(
        default=None, description="images that jobs may start from where nothing names one"
    )
    agent_image: Plain | None = Field(default=None, description="image of Caravan itself, for agents on the cluster")
    agent_volume: Plain | None = Field(default=None, description="host volume for the state of agents on the cluster")
    volumes: dict[str, VolumeDefault] = Field(default_factory=dict, description="volume to its destination")
    outputs: Plain | None = Field(default=None, description="volume:NAME, a URL, path:/DIRECTORY or allocation")
    cache_dir: TaskPath | None = Field(default=None, description="where packages and models are kept between jobs")
    env: dict[VariableName, Plain] = Field(default_factory=dict, description="environment of every job")
    pip_index_url: Plain | None = Field(default=None, description="Python package index, for pip and uv")
    hf_endpoint: Plain | None = Field(default=None, description="mirror of the Hugging Face hub")
    apt_proxy: Plain | None = Field(default=None, description="http proxy for apt in images of Debian's kind")
    registry: Plain | None = Field(default=None, description="registry and path under which built images are pushed")
    code_store: Depot | None = Field(default=None, description="URL to which code is put, or {url, fetch}")
    data_store: Depot | None = Field(default=None, description="URL to which data is put, or volume:NAME that has it")
    registry_mirrors: dict[str, Plain] = Field(default_factory=dict, description="prefix of images to its mirror")

    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="GPU model to US dollars an hour"
    )
    prices_file: str | None = Field(default=None, description="list of prices (prices.toml) for this cluster")
    soft_limit_usd: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="what --yes may spend on one run, in US dollars"
    )
    hard_limit_usd: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="what no run may spend without --budget, in US dollars"
    )
    monthly_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="what all runs together may spend in a calendar month (UTC), in US dollars",
    )
    user_monthly_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="what the runs of one user may spend in a calendar month (UTC), in US dollars",
    )
    policy: str | None = Field(default=None, description="file with the policy for this cluster")

    @field_validator("volumes", mode="before")
    @classmethod
    def _short(cls, volumes: Any) -> Any:
        """A volume may be said by its destination alone."""
        if not isinstance(volumes, dict):
            return volumes
        return {name: {"destination": said} if isinstance(said, str) else said for name, said in volumes.items()}

    @field_validator("code_store", "data_store", mode="before")
    @classmethod
    def _address(cls, said: Any) -> Any:
        """A store may be said by its URL alone."""
        return {"url": said} if isinstance(said, str) else said

    @property
    def has_credentials(self) -> bool:
        """Whether the profile names secrets, which belong to its address alone."""
        return any((self.token_env, self.token_file, self.client_cert, self.client_key))


class Site(Value):
    """The profile that a run was started with, and its name."""

    name: str
    profile: ClusterProfile


class Clusters(Value):
    """A whole `caravan.toml`: the profiles by name, and the one that is taken where none is named."""

    default_cluster: str | None = None
    clusters: dict[str, ClusterProfile] = Field(default_factory=dict)

    @field_validator("clusters", mode="after")
    @classmethod
    def _named(cls, clusters: dict[str, ClusterProfile]) -> dict[str, ClusterProfile]:
        for name in clusters:
            if name == "local" or not NAME.fullmatch(name):
                raise ValueError(f"no profile can be called {name!r}: `local` and addresses mean something else")
        return clusters


class Target(NamedTuple):
    """Where a new run goes: the address (or `local`), the namespace, and the profile's name (empty: none)."""

    address: str
    namespace: str
    profile: str = ""

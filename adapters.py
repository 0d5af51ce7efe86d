"""The adapters as settings make them: clusters, memory, tracer, courier. When they are made is `main.py`'s to say.

Each loads its libraries when it is made, so that a help page costs no more than the command line itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from caravan.cluster.nomad import NomadCluster
    from caravan.ports import Clock, Courier, ImageRegistry, Memory, ModelHub, Resolver, Tracer
    from caravan.values.base import Json
    from config import Settings
    from profiles import Access


def token_of(running: dict[str, Json]) -> str:
    """The token of the built-in cluster that runs."""
    from pathlib import Path

    return Path(running["token_file"]).read_text(encoding="ascii").strip()


def built_in_cluster(
    running: dict[str, Json], *, clock: Clock, timeout: float, reviver: Callable[[], bool]
) -> NomadCluster:
    """A client of the built-in cluster; `reviver` starts it again when it has died."""
    from caravan.cluster.nomad import NomadCluster

    return NomadCluster(
        running["address"],
        token=token_of(running),
        namespace="default",
        region=None,
        verify=True,
        cert=None,
        clock=clock,
        timeout=timeout,
        reviver=reviver,
    )


def nomad_cluster(access: Access, settings: Settings, *, clock: Clock, timeout: float) -> NomadCluster:
    """A client of a Nomad, with what a run may reach it with."""
    from caravan.cluster.addresses import Proxies
    from caravan.cluster.nomad import NomadCluster
    from caravan.cluster.transports import client_pair

    return NomadCluster(
        access.address,
        token=access.token,
        namespace=access.namespace,
        region=access.region,
        verify=access.verify,
        cert=client_pair(access.client_cert, access.client_key),
        server_name=access.tls_server_name,
        http_auth=access.http_auth,
        proxies=Proxies(settings.http_proxy, settings.https_proxy, settings.no_proxy or ""),
        clock=clock,
        timeout=timeout,
    )


def make_courier(home: Path, environment: Mapping[str, str], secrets: tuple[str, ...]) -> Courier:
    """What brings code, data and images to where the nodes fetch them."""
    from caravan.analysis.deny import is_denied
    from caravan.analysis.git import is_public
    from caravan.runs.courier import StoreCourier

    asked = partial(is_public, environment=environment)
    return StoreCourier(home, environment=environment, is_denied=is_denied, secrets=secrets, is_public=asked)


def make_resolver(
    home: Path, environment: Mapping[str, str], index_url: str | None, secrets: tuple[str, ...]
) -> Resolver:
    """What asks an index whether requirements can be installed together."""
    from caravan.runs.resolver import UvResolver

    return UvResolver(environment, folder=home / "resolved", index_url=index_url, secrets=secrets)


def make_registries(settings: Settings) -> ImageRegistry:
    """What asks registries whether they have an image."""
    from caravan.runs.registries import Registries

    pairs = {"http": settings.http_proxy, "https": settings.https_proxy}
    proxies = {scheme: proxy for scheme, proxy in pairs.items() if proxy}
    return Registries(proxies=proxies, no_proxy=settings.no_proxy or "")


def make_hub(settings: Settings, home: Path, endpoint: str | None = None) -> ModelHub | None:
    """What asks the hub of models and data sets; None where it is not to be asked. `endpoint`: the cluster profile's.

    The token goes to the hub that the environment names alone.
    """
    from caravan.runs.hub import ENDPOINT, HttpHub

    if not settings.look_up or settings.hf_offline:
        return None
    own = endpoint is None or settings.hf_endpoint is not None
    token = settings.hf_token.get_secret_value() if settings.hf_token and own else None
    pairs = {"http": settings.http_proxy, "https": settings.https_proxy}
    return HttpHub(
        home / "hub",
        endpoint=settings.hf_endpoint or endpoint or ENDPOINT,
        token=token,
        proxies={scheme: proxy for scheme, proxy in pairs.items() if proxy},
        no_proxy=settings.no_proxy or "",
    )


def make_tracer(settings: Settings, path: Path, run_id: str, *, clock: Clock, secrets: tuple[str, ...]) -> Tracer:
    """The tracer of a run, over the file at `path`."""
    from observability import LocalTracer, NullTracer

    if not settings.trace:
        return NullTracer()
    return LocalTracer(path, run_id=run_id, clock=clock, secrets=secrets)


def make_memory(settings: Settings, folder: Path, *, clock: Clock, secrets: tuple[str, ...]) -> Memory:
    """The long-term memory, embedded in `folder` where the settings name no server."""
    from keeping import KeepingMemory, NullMemory
    from memory import Mem0Memory

    if not settings.memory:
        return NullMemory()
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    tenant = settings.tenant_name()
    store = Mem0Memory(folder, settings.qdrant_url, clock=clock, tenant=tenant, api_key=key, secrets=secrets)
    return KeepingMemory(store, folder / "pending", clock=clock, secrets=secrets)

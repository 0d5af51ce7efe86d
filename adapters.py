"""The adapters as settings make them: clusters, memory, tracer, courier, models. When: `main.py` says.

Each loads its libraries when it is made, so that a help page costs no more than the command line itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from caravan.agent.model.access import ModelAccess
    from caravan.agent.model.metered import Metered
    from caravan.cluster.nomad import NomadCluster
    from caravan.ports import ChatModel, Clock, Courier, ImageRegistry, Memory, ModelHub, Resolver, Store, Tracer
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
    from keeping import KeepingMemory, NullMemory, folder_of
    from memory import Mem0Memory

    if not settings.memory:
        return NullMemory()
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    tenant = settings.tenant_name()
    store = Mem0Memory(folder, settings.qdrant_url, clock=clock, tenant=tenant, api_key=key, secrets=secrets)
    # Files that lie in the folder itself are of a version that kept them for the one tenant that nobody had named.
    earlier = folder / "pending" if tenant == settings.user_name() else None
    place = folder / "pending" / folder_of(tenant)
    kept = KeepingMemory(store, place, clock=clock, secrets=secrets, earlier=earlier)
    if not settings.memory_starters:
        return kept
    from caravan.lessons.starters import starters
    from starting import StartingMemory

    return StartingMemory(kept, starters, folder / "starters", clock=clock)


def model_access(settings: Settings) -> tuple[ModelAccess, ...]:
    """How the language models of the settings are reached: the first, then the one to fall back on. Empty: none is set.

    Raises UsageError for an address that must not be used.
    """
    if not settings.model_url:
        return ()
    from caravan.agent.model.access import ModelAccess

    rows = [(settings.model_url, settings.model_name, settings.model_api_key)]
    if settings.model_fallback_url:
        rows.append((settings.model_fallback_url, settings.model_fallback_name, settings.model_fallback_api_key))
    # Window and prices are the first model's: the second's window is as its server says, and it is taken to be free.
    first = {
        "window": settings.model_window,
        "prompt_usd": settings.model_prompt_usd,
        "completion_usd": settings.model_completion_usd,
    }
    return tuple(
        ModelAccess.at(
            url,
            name=name or "",
            key=key,
            timeout_s=settings.model_timeout_s,
            first_token_s=min(60.0, settings.model_timeout_s),
            ca=settings.model_cacert,
            proxy=_model_proxy(url, settings),
            **({} if number else first),
        )
        for number, (url, name, key) in enumerate(rows)
    )


def _model_proxy(url: str, settings: Settings) -> str | None:
    from caravan.agent.model.access import checked_url
    from caravan.cluster.addresses import Proxies, parse_address, proxy_for

    proxies = Proxies(settings.http_proxy, settings.https_proxy, settings.no_proxy or "")
    return proxy_for(parse_address(checked_url(url)), proxies)


def model_of(settings: Settings, *, clock: Clock, told: Callable[[str], None] | None = None) -> ChatModel | None:
    """The language model of the settings, or None where none is set: then nothing of it is loaded.

    `told` hears when the fallback model is asked. Raises UsageError for an address that must not be used.
    """
    accesses = model_access(settings)
    if not accesses:
        return None
    from caravan.agent.model.breaker import Guarded
    from caravan.agent.model.client import OpenAiModel
    from caravan.agent.model.fallback import WithFallback

    chats = [Guarded(OpenAiModel(access, clock=clock), clock=clock) for access in accesses]
    if len(chats) == 1:
        return chats[0]
    return WithFallback(chats[0], chats[1], told=told or (lambda _: None))


def metered_model(
    chat: ChatModel, settings: Settings, store: Store, run_id: str, *, clock: Clock, tracer: Tracer
) -> Metered:
    """A model that is counted for one run, and held to the budgets of the settings."""
    from caravan.agent.model.metered import Metered, ModelLimits

    limits = ModelLimits(
        run_tokens=settings.model_run_tokens,
        step_tokens=settings.model_step_tokens,
        run_seconds=settings.model_run_seconds,
        step_seconds=settings.model_step_seconds,
    )
    return Metered(chat, store, run_id, clock=clock, limits=limits, tracer=tracer)

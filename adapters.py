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
    from caravan.runs.database import Database
    from caravan.values.base import Json
    from config import Settings
    from langfuse_access import LangfuseAccess
    from langfuse_patience import Patience
    from live_traces import LangfuseTraces
    from profiles import Access
    from prompt_cache import LangfusePrompts
    from prompt_shelf import DiskShelf
    from prompts import PromptVersions, RunPrompts


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
    return Registries(proxies=proxies, no_proxy=settings.no_proxy or "", verify=_authorities(settings))


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
        verify=_authorities(settings),
    )


def _authorities(settings: Settings) -> bool | str:
    """What servers on the network are verified by: the file that is named, as a company's own authority needs it."""
    return str(settings.ca_bundle) if settings.ca_bundle else True


def make_database(settings: Settings, records: Path, *, clock: Clock) -> Database:
    """The database of runs, money and models: the one that the settings name, else the file in `records`.

    Raises StateError or ServiceError where it can't be used.
    """
    from caravan.runs.database import open_database

    return open_database(settings.database() or records / "caravan.db", clock)


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

    return _proxy_for(checked_url(url), settings)


def _proxy_for(url: str, settings: Settings) -> str | None:
    from caravan.cluster.addresses import Proxies, parse_address, proxy_for

    proxies = Proxies(settings.http_proxy, settings.https_proxy, settings.no_proxy or "")
    return proxy_for(parse_address(url), proxies)


def langfuse_access(settings: Settings) -> LangfuseAccess | None:
    """How LangFuse is reached; None where the settings name none. Raises UsageError for what must not be used."""
    if not (settings.langfuse_base_url or settings.langfuse_public_key or settings.langfuse_secret_key):
        return None
    from pydantic import SecretStr

    from langfuse_access import LangfuseAccess

    access = LangfuseAccess.of(
        settings.langfuse_base_url,
        settings.langfuse_public_key,
        settings.langfuse_secret_key,
        timeout_s=settings.langfuse_timeout_s,
        ca=settings.langfuse_cacert,
    )
    proxy = _proxy_for(access.url, settings) if access else None
    return access.model_copy(update={"proxy": SecretStr(proxy)}) if access and proxy else access


def make_shelf(home: Path, *, clock: Clock, used: Path | None = None) -> DiskShelf:
    """The versions of prompts that are kept under `home`. `used`: where those that runs use are, in place of it."""
    from prompt_shelf import DiskShelf

    return DiskShelf(home / "prompts", clock, used=used)


def _given_prompts(
    settings: Settings, home: Path, access: LangfuseAccess, *, clock: Clock, patience: Patience | None = None
) -> LangfusePrompts:
    from prompt_cache import LangfusePrompts
    from prompts import LocalPromptBook

    return LangfusePrompts(
        access,
        settings.prompt_label,
        home / "prompts" / "langfuse",
        names=LocalPromptBook(_shipped_prompts()).names(),
        clock=clock,
        cache_s=settings.prompt_cache_s,
        patience=patience,
    )


def make_prompts(
    settings: Settings,
    home: Path,
    *,
    clock: Clock,
    begun: Mapping[str, str] | None = None,
    told: Callable[[str], None] = lambda _: None,
    used: Path | None = None,
    trace: Path | None = None,
) -> RunPrompts:
    """The prompts of a run; `begun` are the versions with which one that goes on began, `trace` its trace file.

    Raises UsageError for settings of LangFuse that must not be used.
    """
    from langfuse_patience import Patience, waited_path
    from prompts import LocalPromptBook, RunPrompts

    patience = Patience(clock, waited_path(trace)) if trace else None
    access = langfuse_access(settings)
    managed = access if settings.langfuse_prompts else None
    return RunPrompts(
        LocalPromptBook(_shipped_prompts()),
        make_shelf(home, clock=clock, used=used),
        _given_prompts(settings, home, managed, clock=clock, patience=patience) if managed else None,
        label=settings.prompt_label,
        begun=begun,
        told=told,
    )


def make_prompt_versions(settings: Settings, home: Path, *, clock: Clock) -> PromptVersions:
    """The versions of prompts, for people and optimisers. Raises UsageError as above."""
    from prompts import LocalPromptBook, PromptVersions

    access = langfuse_access(settings)
    return PromptVersions(
        LocalPromptBook(_shipped_prompts()),
        make_shelf(home, clock=clock),
        access,
        label=settings.prompt_label,
        cache=_given_prompts(settings, home, access, clock=clock) if access else None,
        managed=settings.langfuse_prompts,
    )


def _shipped_prompts() -> Path:
    from caravan import TEMPLATES

    return TEMPLATES / "prompts"


def langfuse_traces(settings: Settings, home: Path, *, clock: Clock, secrets: tuple[str, ...]) -> LangfuseTraces | None:
    """The runs' traces in LangFuse; None where the settings name none, or want none there.

    Raises UsageError for an access that must not be used.
    """
    access = langfuse_access(settings)
    if access is None or not settings.langfuse_traces:
        return None
    from live_traces import LangfuseTraces

    content = settings.trace_content
    return LangfuseTraces(access, home / "langfuse", clock=clock, secrets=secrets, content=content)


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
    content = settings.trace_content
    return Metered(chat, store, run_id, clock=clock, limits=limits, tracer=tracer, content=content)

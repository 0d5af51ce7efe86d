"""The entry point: wires settings and adapters, and hands them to the terminal.

Everything is made on first use, so that a help page costs no more than the command line itself.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from machine import BackgroundAgents, LocalControl, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from caravan.agent.context import Context
    from caravan.agent.driver import Driver
    from caravan.agent.masked import MaskedCluster
    from caravan.agent.model.client import OpenAiModel
    from caravan.agent.qwen.reasoner import ModelReasoner
    from caravan.agent.rules import RuleReasoner
    from caravan.agent.sheets import Sheet
    from caravan.agent.standing import Standing
    from caravan.agent.state import RunState
    from caravan.analysis.tree import SourceTree
    from caravan.cluster.nomad import NomadCluster
    from caravan.offline.running import Optimisation
    from caravan.ports import Clock, Memory, ModelHub, ModelRegistry, Progress, PromptShelf, Store, Toolbox, Tracer
    from caravan.runs.database import Database
    from caravan.runs.folder import DiskFolder
    from caravan.terminal.langfuse_checks import LangfuseServer
    from caravan.training.loading import Types
    from caravan.values.base import Json
    from caravan.values.checkup import Examination, Finding
    from caravan.values.database import DatabaseFacts
    from caravan.values.environment import ImageAnswer
    from caravan.values.handover import AgentPlace, Carried
    from caravan.values.job import ClusterFacts
    from caravan.values.policy import Policies
    from caravan.values.prices import Prices
    from caravan.values.reports import RunReport
    from caravan.values.run import RunRecord, RunRequest
    from caravan.values.settings import SettingRow
    from caravan.values.target import Site, Target
    from caravan.values.trace import Trace
    from config import Settings
    from config_control import ConfigControl
    from config_files import Found
    from live_traces import LangfuseTraces
    from notify import Notices
    from optimizing import Parts
    from profiles import Access, ProfileFile


_GARBAGE = 20_000  # objects until they are looked through: importing makes many and leaves none (Python's own: 700)
_ANSWER_S = 15.0  # seconds that a cluster has for an answer
_PROBE_S = 5.0  # the same for `doctor`
_MODEL_S = 30.0  # likewise a language model for a reply


def _parse(address: str) -> str:
    from caravan.cluster.addresses import parse_address

    return parse_address(address).shown


class Application:
    """Settings and adapters, made on first use; fulfils the terminal's `Wiring`.

    `config` names the file with settings and profiles in place of all others, `flags` are settings of the command line,
    NAME=VALUE; `system` is the administrator's folder, `runs` the directory of the runs, their store and their
    checkpoints in place of CARAVAN_HOME.
    """

    clock: Clock = SystemClock()
    config: Path | None = None
    flags: tuple[str, ...] = ()
    system: Path | None = None
    runs: Path | None = None
    told: Callable[[str], None] | None = None

    def on_note(self, told: Callable[[str], None]) -> None:
        """Whom to tell what is wrong with the settings and stops nothing, as soon as they are read."""
        self.told = told

    @cached_property
    def _files(self) -> Found:
        from config import configured_file, user_config_folder
        from config_files import Trust, find_files, working_directory

        named, user = self.config or configured_file(), user_config_folder()
        return find_files(named, user=user, system=self._system, here=working_directory(), trust=Trust(user))

    @cached_property
    def _settings(self) -> Settings:
        from config import load_settings, prepare_third_party_environment

        settings = load_settings(self._files, self.flags)
        prepare_third_party_environment(settings.home)
        if self.told is not None:
            for note in settings.notes:
                self.told(note)
        return settings

    @cached_property
    def _system(self) -> Path:
        from config_files import SYSTEM

        return self.system or SYSTEM

    @cached_property
    def _profiles(self) -> ProfileFile:
        from profiles import profiles_in

        return profiles_in(self._files)

    @cached_property
    def _secrets(self) -> tuple[str, ...]:
        """What may be written nowhere: the settings' secrets, and those that profiles name."""
        own = self._settings.secrets()
        if not any(file.trusted for file in self._files.files):  # nothing that could hold a profile
            return own
        from config import process_environment
        from profiles import profile_secrets

        return (*own, *profile_secrets(self._profiles, process_environment()))

    @cached_property
    def home(self) -> Path:
        """CARAVAN_HOME, made with mode 0700 on first use."""
        from caravan.values.errors import StateError

        home = self._settings.home
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"The state directory {home} can't be made ({error.strerror}).", hint="Set CARAVAN_HOME."
            ) from error
        return home

    @property
    def _records(self) -> Path:
        return self.runs or self.home

    def prices(self, request: RunRequest) -> Prices:
        """What is paid on the request's cluster."""
        from profiles import find_site

        return self._prices(find_site(request, self._profiles))

    def _prices(self, site: Site | None, carried: Carried | None = None) -> Prices:
        """The prices that are in force here, else those that came with the run."""
        from config import user_config_folder
        from pricing import find_prices

        came = carried.prices if carried else None
        return find_prices(self._settings, site, user=user_config_folder(), system=self._system, came=came)

    @contextmanager
    def aside(self, inventory: Path | None = None) -> Iterator[Application]:
        """The same settings and adapters for a run that leaves nothing: its directory is removed at the end.

        With an inventory there is a built-in cluster of its own on those nodes.
        """
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory(prefix="caravan-", ignore_cleanup_errors=True) as place:
            other = Application()
            other.config, other.system, other.clock, other.runs = self.config, self.system, self.clock, Path(place)
            other.flags = self.flags
            try:
                if inventory is not None:
                    other.local_cluster = LocalControl(Path(place) / "cluster")
                    other.local_cluster.up(inventory)
                yield other
            finally:
                other._store.close()
                if inventory is not None:
                    other.local_cluster.down()

    @cached_property
    def local_cluster(self) -> LocalControl:
        """The built-in cluster's control."""
        return LocalControl(self.home / "cluster")

    @cached_property
    def agents(self) -> BackgroundAgents:
        """The agents in the background."""
        return BackgroundAgents(self.config, self.flags)

    @cached_property
    def notifier(self) -> Notices | None:
        """Who is told of a run's end."""
        from config import process_environment
        from notify import Notices

        settings = self._settings
        url = settings.notify_url.get_secret_value() if settings.notify_url else None
        if not url and not settings.notify_command:
            return None
        return Notices(url, settings.notify_command, environment=process_environment(), clock=self.clock)

    @cached_property
    def _database(self) -> Database:
        from adapters import make_database
        from caravan.runs.database import open_database

        if self.runs is not None:  # a run that leaves nothing writes nothing into a database that stays
            return open_database(self.runs / "caravan.db", self.clock)
        return make_database(self._settings, self.home, clock=self.clock)

    @cached_property
    def _store(self) -> Store:
        from caravan.runs.looking import LookingStore

        address = self._settings.database()
        path = address.path if address else self.home / "caravan.db"
        if self.runs is None and path is not None:
            return LookingStore(path, self._whole_store)
        return self._whole_store()

    def _whole_store(self) -> Store:
        from adapters import make_database
        from caravan.runs.beside import StoreBeside
        from caravan.runs.store import SqlStore

        store = SqlStore(self._database, self.clock)
        kept = self._settings.database_url is not None or (self.home / "caravan.db").is_file()
        if self.runs is None or not kept:
            return store
        # A run that leaves nothing knows all the same what was answered before.
        return StoreBeside(store, SqlStore(make_database(self._settings, self.home, clock=self.clock), self.clock))

    def store(self) -> Store:
        """The store of runs."""
        return self._store

    @cached_property
    def _models(self) -> ModelRegistry:
        from caravan.runs.model_registry import SqlModelRegistry

        return SqlModelRegistry(self._database, self.clock)

    def close(self) -> None:
        """Let go of the database, where it was opened."""
        if "_store" in vars(self):
            self._store.close()
        if "_database" in vars(self):
            self._database.close()

    def database(self) -> DatabaseFacts:
        """What the database says of itself."""
        return self._database.facts()

    def models(self) -> ModelRegistry:
        """The registered models."""
        return self._models

    def folder(self, run_id: str) -> DiskFolder:
        """A run's folder."""
        from caravan.runs.folder import DiskFolder

        return DiskFolder(self._records, run_id, secrets=self._secrets, max_log_mb=self._settings.max_log_mb)

    @property
    def user(self) -> str:
        """Whose runs these are."""
        return self._settings.user_name()

    def target(self, name: str | None) -> Target:
        """Cluster, namespace and profile that `--cluster` means now."""
        from profiles import find_target

        return find_target(name, self._settings, self._profiles, _parse)

    def _access(self, request: RunRequest) -> Access:
        from config import process_environment
        from profiles import find_access

        return find_access(request, self._settings, self._profiles, process_environment(), _parse)

    def cluster(self, request: RunRequest) -> MaskedCluster:
        """The cluster of a run, whose words hold no secrets; the built-in one is started when it does not run."""
        from adapters import token_of
        from caravan.agent.masked import MaskedCluster
        from caravan.cluster.nowhere import NoCluster
        from caravan.values.target import NOWHERE

        if request.cluster == NOWHERE:
            return MaskedCluster(NoCluster(), self._secrets)
        if request.cluster == "local":
            running = self.local_cluster.up(None)
            made, own = self._built_in(running), [token_of(running)]
        else:
            access = self._access(request)
            made, own = self._nomad(access), [secret for secret in (access.token, access.http_auth) if secret]
        return MaskedCluster(made, (*self._secrets, *own), close=made.close)

    def _built_in(self, running: dict[str, Json], timeout: float = _ANSWER_S) -> NomadCluster:
        from adapters import built_in_cluster

        return built_in_cluster(running, clock=self.clock, timeout=timeout, reviver=self.local_cluster.revive)

    def _nomad(self, access: Access, timeout: float = _ANSWER_S) -> NomadCluster:
        from adapters import nomad_cluster

        return nomad_cluster(access, self._settings, clock=self.clock, timeout=timeout)

    def examine(self, request: RunRequest) -> Examination | None:
        """What the cluster answers to questions that change nothing; None: the built-in one, which does not run."""
        from contextlib import closing

        if request.cluster == "local":
            running = self.local_cluster.status()
            if running is None:
                return None
            made, kept_back = self._built_in(running, timeout=_PROBE_S), ""
        else:
            access = self._access(request)
            made, kept_back = self._nomad(access, timeout=_PROBE_S), access.note
        with closing(made) as cluster:
            return cluster.examine().model_copy(update={"kept_back": kept_back})

    def surroundings(self, request: RunRequest) -> Sequence[tuple[str, Callable[[], Finding]]]:
        """What a run there needs beside the cluster, each as a look."""
        from config import process_environment
        from profiles import find_site
        from surroundings import looks

        return looks(self._settings, find_site(request, self._profiles), process_environment())

    def images(self, request: RunRequest) -> tuple[ImageAnswer, ...]:
        """What registries say of the images that settings and profile name."""
        from adapters import make_registries
        from caravan.planning.site import mirrored
        from profiles import base_images, find_site

        if not self._settings.look_up:
            return ()
        site = find_site(request, self._profiles)
        said = self._settings.beside(site.profile if site else None).image
        named = [said or (site.profile.image if site else None)]
        named += [image.image for image in base_images(self._settings, site)]
        images = dict.fromkeys(mirrored(n, site.profile) if site else n for n in named if n)
        return make_registries(self._settings).look_at(tuple(images))

    def hub(self) -> ModelHub | None:
        """What asks the hub of models and data sets; None where look-ups are off."""
        from adapters import make_hub

        return make_hub(self._settings, self.home)

    def kept_back(self, request: RunRequest) -> str:
        """Why a token that is set is not sent to the run's cluster. Raises UsageError for a profile's secrets."""
        return "" if request.cluster in ("local", "none") else self._access(request).note

    def agent_place(self, request: RunRequest) -> AgentPlace:
        """What an agent on the run's cluster is given."""
        from lending import find_place
        from profiles import find_site

        local = request.cluster == "local"
        address = str(self.local_cluster.up(None)["address"]) if local else ""
        site = find_site(request, self._profiles)
        return find_place(self._settings, site, self._lendable(request), built_in=address)

    def _lendable(self, request: RunRequest) -> dict[str, str]:
        from adapters import token_of
        from lending import secrets_to_lend

        local = request.cluster == "local"
        token = token_of(self.local_cluster.up(None)) if local else self._access(request).token
        return secrets_to_lend(self._settings, token)

    def lend(self, request: RunRequest, names: Sequence[str], path: str, namespace: str) -> None:
        """Write the secrets of these names to a Nomad variable."""
        from contextlib import closing

        from caravan.values.errors import UsageError

        found = self._lendable(request)
        missing = [name for name in names if name not in found]
        if missing:
            raise UsageError(f"{missing[0]} is not set here any more.", hint="Set it, then try again.")
        with closing(self.cluster(request)) as cluster:
            cluster.write_variable(path, {name: found[name] for name in names}, namespace)

    def site(self, request: RunRequest) -> Site | None:
        """The profile that the run was started with."""
        from profiles import find_site

        return find_site(request, self._profiles)

    @contextmanager
    def model_servers(self) -> Iterator[Sequence[OpenAiModel]]:
        """The language models of the settings, each asked with less patience than a run has."""
        from contextlib import ExitStack

        from adapters import model_access
        from caravan.agent.model.client import OpenAiModel

        with ExitStack() as held:
            servers = []
            for access in model_access(self._settings):
                patience = min(access.timeout_s, _MODEL_S)
                hurried = access.model_copy(update={"timeout_s": patience, "first_token_s": patience})
                servers.append(OpenAiModel(hurried, clock=self.clock))
                held.callback(servers[-1].close)
            yield servers

    def limits_usd(self, request: RunRequest) -> tuple[float, float]:
        """Soft and hard limit on the request's cluster."""
        from profiles import find_site, limits_usd

        return limits_usd(self._settings, find_site(request, self._profiles))

    def policies(self, request: RunRequest) -> Policies:
        """The policies in force for a run."""
        from policies import load_policies

        return load_policies(request, self._settings, self._profiles, _parse, system=self._system)

    @contextmanager
    def driver(self) -> Iterator[Driver]:
        """The driver, over the checkpoints."""
        from caravan.agent.driver import Driver, open_checkpoints
        from caravan.terminal.sheet import sheet_of

        with open_checkpoints(self._records / "checkpoints.db", sheet_of) as saver:
            yield Driver(saver)

    def standing(self, run_id: str) -> Standing:
        """Where a run stands; LangGraph is loaded where its newest checkpoint is no plain one."""
        from caravan.agent.standing import Standing, standing

        found = standing(self._records / "checkpoints.db", run_id)
        if found is not None:
            return found
        with self.driver() as driver:
            return Standing(driver.state(run_id), driver.open_question(run_id))

    def sheet(self, run_id: str) -> Sheet | None:
        """What is told of a run's state, as this very program stored it with the newest checkpoint."""
        from caravan.agent.sheets import newest_sheet

        return newest_sheet(self._records / "checkpoints.db", run_id)

    @contextmanager
    def context(self, record: RunRecord, progress: Progress) -> Iterator[Context]:
        """The ports of one run; its folder is locked meanwhile."""
        from contextlib import ExitStack, closing
        from functools import partial

        from adapters import make_courier, make_hub, make_registries, make_resolver
        from caravan import TEMPLATES
        from caravan.agent.context import Context, Limits, recent
        from caravan.agent.rules import RuleReasoner
        from caravan.agent.traced import TracedCluster, TracedMemory, TracedReasoner
        from caravan.cluster.sentinel import read_sentinel
        from caravan.cluster.watch import judge
        from caravan.planning.site import mirrored_images
        from caravan.values.failure import Scope
        from caravan.values.handover import Carried
        from config import process_environment
        from observability import setup_logging
        from profiles import base_images, find_site, limits_usd, shared_limits, shipping
        from reporting import report_of
        from tools import RepositoryToolbox

        settings, folder = self._settings, self.folder(record.id)
        setup_logging(secrets=self._secrets)
        carried = folder.carried() or Carried()
        site = find_site(record.request, self._profiles) or carried.site
        note = self.kept_back(record.request)
        if note:
            progress.note(note)
        prices = self._prices(site, carried)
        settings = settings.beside(site.profile if site else None)
        image = settings.image or (site.profile.image if site else None)
        index_url = site.profile.pip_index_url if site else None
        images = mirrored_images(base_images(settings, site), site.profile if site else None)
        soft_usd, hard_usd = limits_usd(settings, site)
        with ExitStack() as held:
            held.enter_context(folder.lock())
            tracer = held.enter_context(closing(self._tracer(record)))
            memory = TracedMemory(held.enter_context(closing(self._memory())), tracer)
            plain = held.enter_context(closing(self.cluster(record.request)))
            cluster = TracedCluster(plain, tracer, self.clock)
            facts, rules = recent(cluster, self.clock), RuleReasoner(prices, image=image, images=images)
            thinking = self._thinking(rules, record.id, facts, memory, tracer, progress)
            yield Context(
                cluster=cluster,
                facts=facts,
                reasoner=TracedReasoner(thinking or rules, tracer),
                adviser=thinking,
                lesson_scope=Scope(settings.memory_scope),
                types=self.types,
                hub_cache=self.hub_cache,
                memory=memory,
                tracer=tracer,
                store=self._store,
                models=self._models,
                folder=folder,
                clock=self.clock,
                progress=progress,
                judge=judge,
                read_sentinel=read_sentinel,
                open_tree=self.open_tree,
                toolbox=partial(RepositoryToolbox, secrets=self._secrets),
                render_report=report_of,
                templates=TEMPLATES,
                limits=Limits(soft_usd=soft_usd, hard_usd=hard_usd, shared=shared_limits(settings, site)),
                prices=prices,
                image=image,
                base_images=base_images(settings, site),
                max_archive_mb=settings.max_archive_mb,
                smoke=settings.smoke,
                secrets=self._secrets,
                policies=self.policies(record.request).beside(carried.policies),
                own=carried.own,
                site=site,
                shipping=shipping(settings, site),
                courier=make_courier(self.home, process_environment(), self._secrets),
                resolver=(
                    make_resolver(self.home, process_environment(), index_url, self._secrets)
                    if settings.look_up
                    else None
                ),
                registry=make_registries(settings) if settings.look_up else None,
                hub=make_hub(settings, self.home, site.profile.hf_endpoint if site else None),
                secret_of=self._secret_of,
            )

    def _secret_of(self, name: str) -> str | None:
        """A secret that a job asks for by its name: of this environment, and of the settings the hub's token alone."""
        from config import process_environment

        token = self._settings.hf_token if name == "HF_TOKEN" else None
        return process_environment().get(name) or (token.get_secret_value() if token else None)

    @cached_property
    def config_control(self) -> ConfigControl:
        """The files of settings."""
        from config_control import ConfigControl

        return ConfigControl(lambda: self._files, named=self.config)

    def _thinking(
        self,
        rules: RuleReasoner,
        run_id: str,
        facts: Callable[[], ClusterFacts],
        memory: Memory,
        tracer: Tracer,
        progress: Progress,
    ) -> ModelReasoner | None:
        """The rules, refined by the language model that the settings name; None where they name none."""
        from adapters import make_prompts, metered_model, model_access, model_of

        chat = model_of(self._settings, clock=self.clock, told=progress.note)
        if chat is None:
            return None
        from caravan.agent.qwen.asking import Asker
        from caravan.agent.qwen.reasoner import ModelReasoner
        from caravan.agent.qwen.told import Voice
        from caravan.agent.qwen.tools import Sight, cases_of
        from caravan.values.model_usage import first_prompts

        store, secrets = self._store, self._secrets
        metered = metered_model(chat, self._settings, store, run_id, clock=self.clock, tracer=tracer)
        where = ", else ".join(a.where for a in model_access(self._settings))
        voice = Voice(progress, tracer, store, self.clock, run_id, secrets, where)
        prompts = make_prompts(
            self._settings,
            self.home,
            clock=self.clock,
            begun=first_prompts(store.events(run_id)),
            told=progress.note,
            used=self.runs / "prompts" if self.runs else None,
            trace=self.trace_path(run_id),
        )
        prompts.begin()
        asker = Asker(metered, prompts, voice, secrets)
        return ModelReasoner(rules, asker, Sight(facts, cases_of(memory), self.folder(run_id).log_files))

    def _optimising(self, states: Callable[[str], RunState | None]) -> Parts:
        from caravan import TEMPLATES
        from optimizing import Parts

        return Parts(
            settings=self._settings,
            home=self.home,
            templates=TEMPLATES,
            clock=self.clock,
            secrets=self._secrets,
            store=self._store,
            state=states,
            logs=lambda run_id: self.folder(run_id).log_files(),
        )

    @contextmanager
    def optimisation(
        self, asked: Mapping[str, Json], resume: str | None, told: Callable[[str], None]
    ) -> Iterator[Optimisation]:
        """Better prompts are looked for: what was asked for, or the rest of what was begun under that id."""
        from optimizing import optimisation

        with self._states() as states, optimisation(self._optimising(states), asked, resume, told) as found:
            yield found

    def put_cases(self, asked: Mapping[str, Json], name: str) -> int:
        """Bring the cases to a LangFuse dataset; how many."""
        from optimizing import put_cases

        with self._states() as states:
            return put_cases(self._optimising(states), asked, name)

    @contextmanager
    def _states(self) -> Iterator[Callable[[str], RunState | None]]:
        """The state of a run by its id; the checkpoints are opened when one is asked for."""
        from contextlib import ExitStack

        with ExitStack() as held:
            opened: list[Driver] = []

            def state(run_id: str) -> RunState | None:
                if not opened:
                    opened.append(held.enter_context(self.driver()))
                return opened[0].state(run_id)

            yield state

    def _tracer(self, record: RunRecord) -> Tracer:
        """The local file, and LangFuse beside it; what leaves nothing here leaves nothing there either."""
        from functools import partial

        from adapters import make_tracer
        from observability import LocalTracer

        path = self.trace_path(record.id)
        local = make_tracer(self._settings, path, record.id, clock=self.clock, secrets=self._secrets)
        there = self.langfuse_traces
        if there is None or self.runs is not None or not isinstance(local, LocalTracer):
            return local
        return there.live(local, path, record, partial(self._store.run, record.id))

    @cached_property
    def langfuse_traces(self) -> LangfuseTraces | None:
        """The runs' traces in LangFuse."""
        from adapters import langfuse_traces

        return langfuse_traces(self._settings, self.home, clock=self.clock, secrets=self._secrets)

    def _memory(self) -> Memory:
        from adapters import make_memory

        return make_memory(self._settings, self.home / "memory", clock=self.clock, secrets=self._secrets)

    def memory(self) -> AbstractContextManager[Memory]:
        """The long-term memory, for the commands."""
        from contextlib import closing

        from caravan.values.errors import ServiceError

        if not self._settings.memory:
            raise ServiceError("The memory is switched off.", hint="CARAVAN_MEMORY=0 does that: unset it.")
        return closing(self._memory())

    def prompts(self) -> AbstractContextManager[PromptShelf]:
        """The versions of prompts, for the commands."""
        from contextlib import closing

        from adapters import make_prompt_versions

        return closing(make_prompt_versions(self._settings, self.home, clock=self.clock))

    @contextmanager
    def langfuse(self) -> Iterator[LangfuseServer | None]:
        """LangFuse, asked with less patience than a command has; None where the settings name none."""
        from contextlib import closing

        from adapters import langfuse_access

        access = langfuse_access(self._settings)
        if access is None:
            yield None
            return
        from langfuse_client import LangfuseClient

        with closing(LangfuseClient(access.model_copy(update={"timeout_s": min(access.timeout_s, _PROBE_S)}))) as asked:
            yield asked

    def open_tree(self, source: str) -> SourceTree:
        """The repository at a path or URL."""
        from caravan.analysis import open_source
        from config import process_environment

        places = {"cache": self.home / "repositories", "kept": self.home / "analysis"}
        return open_source(source, environment=process_environment(), **places)

    @property
    def hub_cache(self) -> Path:
        """Where the hub's library keeps what it fetched on this machine."""
        from pathlib import Path

        settings = self._settings
        home = settings.hf_home or Path("~/.cache/huggingface")
        return (settings.hf_hub_cache or home / "hub").expanduser()

    def types(self) -> Types:
        """The training types, read anew each time: the shipped ones, then a person's own."""
        from pathlib import Path

        from caravan import TEMPLATES
        from caravan.training.loading import load_types

        own = (self._settings.training_types or "").split(os.pathsep)
        return load_types(TEMPLATES / "train", [Path(path).expanduser() for path in own if path])

    def toolbox(self, tree: SourceTree) -> Toolbox:
        """Looks into a repository, with secrets masked."""
        from tools import RepositoryToolbox

        return RepositoryToolbox(tree, secrets=self._secrets)

    def trace_path(self, run_id: str) -> Path:
        """The run's local trace file."""
        return self._records / "traces" / f"{run_id}.jsonl"

    def trace(self, run_id: str) -> Trace:
        """The run's trace."""
        from caravan.runs.traces import read_trace

        return read_trace(self.trace_path(run_id))

    def report(self, record: RunRecord, state: RunState | None, trace: str | None) -> RunReport:
        """The run's report as it stands."""
        from caravan import TEMPLATES
        from reporting import make_report

        return make_report(
            record,
            state,
            store=self._store,
            folder=self.folder(record.id),
            templates=TEMPLATES,
            models=self._models,
            trace=trace,
            secrets=self._secrets,
        )

    def secrets(self) -> tuple[str, ...]:
        """Values that may be written nowhere; where the settings are what is wrong, what the environment holds."""
        from caravan.values.errors import CaravanError
        from config import environment_secrets

        try:
            return self._secrets
        except CaravanError:
            return environment_secrets()

    def settings(self) -> list[SettingRow]:
        """Each setting, profile and policy with its value (secrets masked), and where it is from."""
        from policies import policy_rows
        from profiles import profile_rows

        policies = policy_rows(self._settings, self._profiles, _parse, system=self._system)
        return [*self._settings.rows(), *profile_rows(self._profiles), *policies]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code comes back."""
    from caravan.terminal.app import COMPLETE, run
    from caravan.terminal.options import without_settings

    os.umask(0o077)  # what is written is its user's alone
    gc.set_threshold(_GARBAGE)
    arguments = list(sys.argv[1:] if argv is None else argv)
    application = Application()
    try:
        if arguments[:1] == [COMPLETE]:  # the last word is not finished
            words = arguments[1:]
            application.config, application.flags, before = without_settings(words[:-1])
            arguments = [COMPLETE, *before, *words[-1:]]
        else:
            application.config, application.flags, arguments = without_settings(arguments)
        return run(application, arguments)
    except Exception as error:  # the boundary: a defect of ours, never an ordinary error
        if "--debug" in arguments:
            raise
        from caravan.values.masking import mask
        from config import environment_secrets

        known = (*vars(application).get("_secrets", ()), *environment_secrets())  # without making any more
        said = mask(" ".join(f"{type(error).__name__}: {error}".split()), known)[:500]
        print(f"Caravan failed unexpectedly: {said}. Run again with --debug.", file=sys.stderr)
        return 70
    finally:
        application.close()


def _end(code: int) -> None:
    """End the process. A check of `doctor` that hangs would crash the interpreter on its way out, or hold it."""
    import threading

    if any(thread.name == "caravan-doctor" for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)


def _without_plugins() -> None:
    """Spare each command what Pydantic does for plugins, of which we have none.

    To find some it reads what every installed distribution says of itself, a third of what a quick command takes. A
    Pydantic that keeps this elsewhere does it as before.
    """
    from types import ModuleType

    loader = ModuleType("pydantic.plugin._loader")
    vars(loader)["get_plugins"] = tuple
    sys.modules.setdefault(loader.__name__, loader)


if __name__ == "__main__":
    _without_plugins()
    _end(main())

"""What the commands need from outside, as a Protocol that `main.py` fulfils. No adapter is named here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from caravan.agent.context import Context
    from caravan.agent.driver import Driver
    from caravan.agent.sheets import Sheet
    from caravan.agent.standing import Standing
    from caravan.agent.state import RunState
    from caravan.analysis.tree import SourceTree
    from caravan.ports import (
        Clock,
        Cluster,
        Memory,
        ModelHub,
        ModelRegistry,
        Progress,
        PromptShelf,
        RunFolder,
        Store,
        Toolbox,
    )
    from caravan.terminal.langfuse_checks import LangfuseServer
    from caravan.terminal.model_checks import Server
    from caravan.training.loading import Types
    from caravan.values.base import Json
    from caravan.values.checkup import Examination, Finding
    from caravan.values.database import DatabaseFacts
    from caravan.values.environment import ImageAnswer
    from caravan.values.handover import AgentPlace
    from caravan.values.optimization import OptimizeOutcome, OptimizeRequest, StepOutcome
    from caravan.values.policy import Policies
    from caravan.values.prices import Prices
    from caravan.values.reports import RunReport
    from caravan.values.run import RunRecord, RunRequest
    from caravan.values.settings import ConfigPlace, SettingRow, Written
    from caravan.values.target import Site, Target
    from caravan.values.trace import Trace


class LocalClusterControl(Protocol):
    """Starting and ending the built-in cluster; the documents name address, token file, pid and inventory."""

    def up(self, inventory: Path | None) -> dict[str, Json]:
        """Start it, or find it running."""

    def down(self) -> bool:
        """End it; False when it does not run."""

    def status(self) -> dict[str, Json] | None:
        """What runs, or None."""

    def cache(self) -> dict[str, Json]:
        """Where it keeps packages and downloads for all jobs (`path`), and how many `bytes` they have."""

    def clear_cache(self) -> int:
        """Remove them; the bytes come back. Raises UsageError while a job lives that may use them."""


class AgentControl(Protocol):
    """Agents that go on with a run without a terminal. The documents name process id and log."""

    def start(self, run_id: str, folder: RunFolder) -> dict[str, Json]:
        """Start an agent for the run, which nobody else may drive. Raises StateError when it can't start."""

    def runs(self, told: Json) -> bool:
        """Whether the agent of that document is alive."""

    def leave(self) -> None:
        """Let go of those that were started here: they outlive this process."""


class ConfigFiles(Protocol):
    """The files of settings. `here`: the working directory's, not the user's. Each may raise UsageError."""

    def places(self) -> list[ConfigPlace]:
        """Where settings can stand in files, the lowest first."""

    def is_secret(self, name: str) -> bool:
        """Whether the setting's value may be shown to nobody."""

    def set(self, name: str, value: str, *, here: bool) -> Written:
        """Write a value."""

    def unset(self, name: str, *, here: bool) -> Written:
        """Take a value out."""

    def edit(self, *, here: bool) -> Written:
        """Open the file in the person's editor, and check it."""

    def trust(self, path: Path | None) -> Written:
        """Take all of a working directory's file as it stands now; `name` lists what it sets."""

    def untrust(self, path: Path | None) -> Written:
        """Trust it no more."""


class Notifier(Protocol):
    """Tells somebody who is not here what a run has come to."""

    def tell(self, document: dict[str, Json]) -> str:
        """Tell it; why that did not work in a line, else nothing. It never raises."""


class Optimising(Protocol):
    """An optimisation of prompts that may begin, or go on."""

    id: str
    request: OptimizeRequest

    def plan(self) -> Sequence[StepOutcome]:
        """What there is to do: for each step its cases and the version in force; `detail` says why there is nothing."""

    def questions_at_most(self) -> int:
        """How many questions are asked at most."""

    def run(self) -> OptimizeOutcome:
        """Do it. What ends it early is in the outcome. Raises UsageError, StateError."""


class TracesElsewhere(Protocol):
    """The runs' traces in LangFuse."""

    def page(self, run_id: str) -> str:
        """The page of a run's trace."""

    def is_missing(self, path: Path) -> bool:
        """Whether something of the trace at `path` is not there, as far as is known here."""

    def push(self, path: Path, record: RunRecord) -> dict[str, Json]:
        """Send the trace at `path`, whole: `spans`, `scores`, `rejected` with its `why`, `trace_url`.

        Raises ServiceError where it can't be sent, StateError for a file that can't be read.
        """


class Wiring(Protocol):
    """Settings and adapters, made on first use."""

    @property
    def home(self) -> Path:
        """CARAVAN_HOME."""

    @property
    def clock(self) -> Clock:
        """The clock."""

    @property
    def user(self) -> str:
        """Whose runs are begun here."""

    @property
    def hub_cache(self) -> Path:
        """Where the library of a hub of models keeps what it fetched on this machine."""

    @property
    def local_cluster(self) -> LocalClusterControl:
        """The built-in cluster's control."""

    @property
    def agents(self) -> AgentControl:
        """The agents in the background."""

    @property
    def notifier(self) -> Notifier | None:
        """Who is told of a run's end; None: nobody."""

    def aside(self, inventory: Path | None = None) -> AbstractContextManager[Wiring]:
        """The same for a run that leaves nothing behind. With an inventory its `local` is a cluster of those nodes.

        Raises UsageError for an inventory that can't be used.
        """

    def store(self) -> Store:
        """The store of runs."""

    def database(self) -> DatabaseFacts:
        """What the database of runs, money and models says of itself."""

    def models(self) -> ModelRegistry:
        """The registered models."""

    def folder(self, run_id: str) -> RunFolder:
        """A run's folder."""

    def target(self, name: str | None) -> Target:
        """What `--cluster` means now: None the settings' default, `local`, a profile's name, or an address.

        It is kept with the run, so that a change of the settings does not lead a resumed run elsewhere.
        """

    def cluster(self, request: RunRequest) -> Cluster:
        """The cluster of a run. The built-in one is started when it is chosen and does not run."""

    def examine(self, request: RunRequest) -> Examination | None:
        """What the cluster of such a run answers to questions that change nothing, each bounded in time.

        None: it is the built-in one, and it does not run (it is not started). Raises UsageError for settings that
        can't be used.
        """

    def surroundings(self, request: RunRequest) -> Sequence[tuple[str, Callable[[], Finding]]]:
        """What a run there needs beside the cluster, by name, each as a look that writes nothing and may never end.

        Raises UsageError for settings of stores that can't be used.
        """

    def images(self, request: RunRequest) -> tuple[ImageAnswer, ...]:
        """What registries say of the images that settings and profile name, as the cluster's mirrors have them."""

    def hub(self) -> ModelHub | None:
        """What asks the hub of models and data sets; None where look-ups are off."""

    def kept_back(self, request: RunRequest) -> str:
        """Why a token that is set is not sent to the run's cluster; empty where nothing is kept back.

        Raises UsageError where the secrets of the run's profile can't be had.
        """

    def agent_place(self, request: RunRequest) -> AgentPlace:
        """What an agent on the run's cluster is given. Raises UsageError where the profile's secrets can't be had."""

    def lend(self, request: RunRequest, names: Sequence[str], path: str, namespace: str) -> None:
        """Write the secrets of these names, which are set here, to a Nomad variable."""

    def site(self, request: RunRequest) -> Site | None:
        """The profile that the run was started with, as it stands now."""

    def prices(self, request: RunRequest) -> Prices:
        """What is paid on the request's cluster."""

    def model_servers(self) -> AbstractContextManager[Sequence[Server]]:
        """The language models that are set, each on its server, the first one first; none: the rules are alone.

        Raises UsageError for an address or a key that can't be used.
        """

    def limits_usd(self, request: RunRequest) -> tuple[float, float]:
        """What `--yes` may spend, and what nothing may without a budget, in US dollars."""

    def policies(self, request: RunRequest) -> Policies:
        """The policies in force for such a run."""

    def driver(self) -> AbstractContextManager[Driver]:
        """The driver, over the checkpoints."""

    def standing(self, run_id: str) -> Standing:
        """Where a run stands, by its newest checkpoint; cheaper than the driver, for who only looks."""

    def sheet(self, run_id: str) -> Sheet | None:
        """What is told of the run's state, as it was stored with its newest checkpoint; None: none is of any use."""

    def context(self, record: RunRecord, progress: Progress) -> AbstractContextManager[Context]:
        """The ports of one run, closed at the end. The run's folder is locked meanwhile (raises RunBusy)."""

    def memory(self) -> AbstractContextManager[Memory]:
        """The long-term memory, closed at the end. Raises ServiceError when it is switched off."""

    def prompts(self) -> AbstractContextManager[PromptShelf]:
        """The versions of prompts, closed at the end. Raises UsageError for settings of LangFuse that can't be used."""

    def langfuse(self) -> AbstractContextManager[LangfuseServer | None]:
        """LangFuse, for looking at it; None where the settings name none. Raises UsageError as above."""

    def toolbox(self, tree: SourceTree) -> Toolbox:
        """Looks into a repository, with secrets masked."""

    def open_tree(self, source: str) -> SourceTree:
        """The repository at a path or URL."""

    def types(self) -> Types:
        """The training types that there are. Raises UsageError for a folder of a person's own that holds none."""

    def optimisation(
        self, asked: Mapping[str, Json], resume: str | None, told: Callable[[str], None]
    ) -> AbstractContextManager[Optimising]:
        """Better prompts are looked for: `asked` are fields of an OptimizeRequest, `resume` an id that was left.

        Raises UsageError without a model, DSPy or usable data, ModelError where the model does not answer.
        """

    def put_cases(self, asked: Mapping[str, Json], name: str) -> int:
        """Bring the cases of the steps to a LangFuse dataset, made where it is not there; how many."""

    def trace_path(self, run_id: str) -> Path:
        """The run's local trace file."""

    @property
    def langfuse_traces(self) -> TracesElsewhere | None:
        """The runs' traces in LangFuse; None where none is set. Raises UsageError for settings that can't be used."""

    def trace(self, run_id: str) -> Trace:
        """The run's trace. Raises UsageError when there is none, StateError when it can't be read."""

    def report(self, record: RunRecord, state: RunState | None, trace: str | None) -> RunReport:
        """The run's report as it stands. `trace`: where its trace is seen."""

    def secrets(self) -> tuple[str, ...]:
        """Values that may be written nowhere: tokens and keys in the environment."""

    def settings(self) -> list[SettingRow]:
        """Each setting, profile and policy with its value (secrets masked), and where it is from."""

    @property
    def config_control(self) -> ConfigFiles:
        """The files of settings, to be changed and trusted."""

    def on_note(self, told: Callable[[str], None]) -> None:
        """Whom to tell what is wrong with the settings and stops nothing, as soon as they are read."""

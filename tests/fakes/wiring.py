"""What `main.py` wires, made of fakes, with a driver that follows a script, and a terminal that types by itself."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from caravan.agent.sheets import Sheet
from caravan.agent.standing import Standing
from caravan.agent.state import RunState
from caravan.ports import Memory, ModelHub, Progress, RunFolder
from caravan.runs.traces import read_trace
from caravan.terminal.streams import Terminal
from caravan.terminal.wiring import ConfigFiles
from caravan.values.base import Json
from caravan.values.checkup import Examination, Finding
from caravan.values.database import DatabaseFacts
from caravan.values.dialogue import Ask, Reply
from caravan.values.environment import ImageAnswer
from caravan.values.errors import RepositoryError, UsageError
from caravan.values.handover import AgentPlace
from caravan.values.job import ClusterFacts
from caravan.values.policy import Policies
from caravan.values.prices import Prices
from caravan.values.reports import RunReport
from caravan.values.run import ENDED, RunRecord, RunRequest, RunStatus
from caravan.values.settings import SettingRow
from caravan.values.target import Site, Target
from caravan.values.trace import Trace
from config_control import ConfigControl
from config_files import Found
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.folder import PlainFolder
from tests.fakes.memory import FakeMemory
from tests.fakes.model_registry import MemoryRegistry
from tests.fakes.store import MemoryStore
from tests.fakes.tracer import MemoryTracer


class ScriptedDriver:
    """The driver without a graph. Each step is a question to ask, a status to end with, or an error to raise.

    `replies` lists what `drive` was given; `states` and `questions` are what it says of a run.
    """

    def __init__(self, store: MemoryStore, steps: Sequence[Ask | RunStatus | BaseException] = ()) -> None:
        self._store = store
        self.steps = list(steps)
        self.replies: list[Reply | None] = []
        self.states: dict[str, Any] = {}
        self.questions: dict[str, Ask] = {}
        self.until: str | None = None

    def drive(
        self, record: RunRecord, context: Any, reply: Reply | None = None, *, until: str | None = None
    ) -> Ask | RunRecord:
        if record.status in ENDED:
            return record
        self.until = until
        self.replies.append(reply)
        waiting = self.questions.get(record.id)
        if waiting is not None and reply is None:
            return waiting
        self.questions.pop(record.id, None)
        context.progress.node("analyze_codebase")
        context.progress.note("3 files read")
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, Ask):
            self.questions[record.id] = step
            self._store.update_run(record.id, status=RunStatus.WAITING, detail=step.text)
            return step
        self._store.update_run(record.id, status=step, detail=f"the script says {step.value}")
        return self._store.run(record.id)

    def open_question(self, run_id: str) -> Ask | None:
        return self.questions.get(run_id)

    def state(self, run_id: str) -> Any:
        return self.states.get(run_id)

    def forget(self, run_id: str) -> None:
        self.states.pop(run_id, None)
        self.questions.pop(run_id, None)


@dataclass(frozen=True)
class RunPorts:
    """The ports of a run that the terminal itself touches."""

    store: MemoryStore
    folder: PlainFolder
    cluster: FakeCluster
    tracer: MemoryTracer
    clock: FakeClock
    progress: Progress
    models: MemoryRegistry
    secrets: tuple[str, ...] = ()

    def facts(self) -> ClusterFacts:
        return self.cluster.facts()


class FakeLocalCluster:
    """The built-in cluster's control, on one attribute."""

    def __init__(self) -> None:
        self.running: dict[str, Json] | None = None
        self.cached = 5_400_000_000

    def up(self, inventory: Path | None) -> dict[str, Json]:
        self.running = self.running or {
            "address": "http://127.0.0.1:1",
            "token_file": "/state/token",
            "pid": 1,
            "inventory": str(inventory or "this machine"),
        }
        return self.running

    def down(self) -> bool:
        was, self.running = self.running, None
        return was is not None

    def status(self) -> dict[str, Json] | None:
        return self.running

    def cache(self) -> dict[str, Json]:
        return {"path": "/state/cache", "bytes": self.cached}

    def clear_cache(self) -> int:
        was, self.cached = self.cached, 0
        return was


class FakeAgents:
    """Agents in the background that hold their runs from the start, or end at once with these words.

    `other`: the process of another agent that was quicker.
    """

    def __init__(self, *, dies: str = "", other: int = 0) -> None:
        self.started: list[str] = []
        self.left = False
        self.dies, self.other = dies, other

    def start(self, run_id: str, folder: RunFolder) -> dict[str, Json]:
        assert not folder.is_held(), "whoever starts an agent has let go of the run"
        self.started.append(run_id)
        folder.agent_log.write_text(f"Run {run_id}\n{self.dies}\n")
        if self.other or not self.dies:
            PlainFolder.held.add(folder.path)
            PlainFolder.holders[folder.path] = self.other or 4711
        return {"pid": 4711, "began": 1.0, "log": str(folder.agent_log)}

    def runs(self, told: Json) -> bool:
        return not self.dies

    def leave(self) -> None:
        self.left = True


class FakeNotifier:
    """Keeps what was told; `trouble` is what it answers."""

    def __init__(self, trouble: str = "") -> None:
        self.told: list[dict[str, Json]] = []
        self.trouble = trouble

    def tell(self, document: dict[str, Json]) -> str:
        self.told.append(document)
        return self.trouble


class FakeWiring:
    """The terminal's Wiring. `opened` lists the repositories that were opened, `clusters` the clusters asked for."""

    def __init__(self, home: Path, steps: Sequence[Ask | RunStatus | BaseException] = ()) -> None:
        self.home = home
        self.clock = FakeClock()
        self.user = "ada"
        self.local_cluster = FakeLocalCluster()
        self.runs = MemoryStore(self.clock)
        self.registered = MemoryRegistry(self.runs)
        self.nomad = FakeCluster(self.clock)
        self.lessons: Memory = FakeMemory(self.clock)
        self.scripted = ScriptedDriver(self.runs, steps)
        self.folders: dict[str, PlainFolder] = {}
        self.opened: list[str] = []
        self.model_hub: ModelHub | None = None
        self.servers: list[Any] = []
        self.clusters: list[str] = []
        self.traced: Trace | None = None
        self.langfuse_traces: Any = None
        self.examination: Examination | None = None
        self.no_access: UsageError | None = None
        self.law = Policies()
        self.looks: list[tuple[str, Callable[[], Finding]]] = []
        self.answered: tuple[ImageAnswer, ...] = ()
        self.known: tuple[str, ...] = ()
        self.agents = FakeAgents()
        self.notifier: FakeNotifier | None = None
        self.place = AgentPlace(program=("/venv/bin/python", "/app/main.py"), lends=("NOMAD_TOKEN",))

    @contextmanager
    def aside(self, inventory: Path | None = None) -> Iterator["FakeWiring"]:
        yield self

    def store(self) -> MemoryStore:
        return self.runs

    def database(self) -> DatabaseFacts:
        return DatabaseFacts(shown="/state/caravan.db", software="memory", schema_version="0003", answer_ms=0.5)

    def models(self) -> MemoryRegistry:
        return self.registered

    def folder(self, run_id: str) -> PlainFolder:
        return self.folders.setdefault(run_id, PlainFolder(self.home, run_id))

    def target(self, name: str | None) -> Target:
        return Target(name or "http://default.invalid:4646", "default")

    def cluster(self, request: RunRequest) -> FakeCluster:
        self.clusters.append(request.cluster)
        return self.nomad

    def examine(self, request: RunRequest) -> Examination | None:
        self.clusters.append(request.cluster)
        return self.examination

    def agent_place(self, request: RunRequest) -> AgentPlace:
        return self.place

    def lend(self, request: RunRequest, names: Sequence[str], path: str, namespace: str) -> None:
        self.nomad.write_variable(path, dict.fromkeys(names, "lent"), namespace)

    def site(self, request: RunRequest) -> Site | None:
        return None

    def surroundings(self, request: RunRequest) -> Sequence[tuple[str, Callable[[], Finding]]]:
        return self.looks

    def images(self, request: RunRequest) -> tuple[ImageAnswer, ...]:
        return self.answered

    def hub(self) -> ModelHub | None:
        return self.model_hub

    def kept_back(self, request: RunRequest) -> str:
        if self.no_access is not None:
            raise self.no_access
        return ""

    def prices(self, request: RunRequest) -> Prices:
        return Prices()

    @contextmanager
    def model_servers(self) -> Iterator[Sequence[Any]]:
        yield self.servers

    def limits_usd(self, request: RunRequest) -> tuple[float, float]:
        return 25.0, 250.0

    def policies(self, request: RunRequest) -> Policies:
        return self.law

    @contextmanager
    def driver(self) -> Iterator[Any]:
        yield self.scripted

    def standing(self, run_id: str) -> Standing:
        return Standing(self.scripted.state(run_id), self.scripted.open_question(run_id))

    def sheet(self, run_id: str) -> Sheet | None:
        return None

    @contextmanager
    def context(self, record: RunRecord, progress: Progress) -> Iterator[Any]:
        folder = self.folder(record.id)
        with folder.lock():
            tracer = MemoryTracer(self.clock)
            yield RunPorts(
                self.runs, folder, self.nomad, tracer, self.clock, progress, self.registered, secrets=self.known
            )

    def memory(self) -> AbstractContextManager[Memory]:
        return closing(self.lessons)

    @contextmanager
    def prompts(self) -> Iterator[Any]:
        from caravan import TEMPLATES
        from prompt_shelf import DiskShelf
        from prompts import LocalPromptBook, PromptVersions

        shipped, shelf = LocalPromptBook(TEMPLATES / "prompts"), DiskShelf(self.home / "prompts", self.clock)
        with closing(PromptVersions(shipped, shelf)) as versions:
            yield versions

    @contextmanager
    def langfuse(self) -> Iterator[None]:
        yield None

    def open_tree(self, source: str) -> Any:
        self.opened.append(source)
        if not Path(source).is_dir():
            raise RepositoryError(f"{source} is no repository.", hint="Give a directory or a git URL.")
        from caravan.analysis import open_source

        return open_source(source, cache=self.home / "repositories")

    @property
    def hub_cache(self) -> Path:
        return self.home / "hub"

    def types(self) -> Any:
        from caravan import TEMPLATES
        from caravan.training.loading import load_types

        return load_types(TEMPLATES / "train")

    def toolbox(self, tree: Any) -> Any:
        from tools import RepositoryToolbox

        return RepositoryToolbox(tree)

    def trace_path(self, run_id: str) -> Path:
        return self.home / "traces" / f"{run_id}.jsonl"

    def trace(self, run_id: str) -> Trace:
        return read_trace(self.trace_path(run_id)) if self.traced is None else self.traced

    def report(self, record: RunRecord, state: RunState | None, trace: str | None) -> RunReport:
        said = f"{record.id} {record.status.value} {trace}"
        return RunReport(markdown=f"# {said}\n", page=f"<!doctype html><title>{said}</title>\n")

    def secrets(self) -> tuple[str, ...]:
        return self.known

    def settings(self) -> list[SettingRow]:
        return [
            SettingRow("home", "CARAVAN_HOME", str(self.home), "environment", "CARAVAN_HOME"),
            SettingRow("nomad_token", "NOMAD_TOKEN", "[masked]", "file", "/etc/caravan/caravan.toml:3"),
            SettingRow("soft_limit_usd", "CARAVAN_SOFT_LIMIT_USD", "25.0", "default"),
            SettingRow("clusters.prod.address", "", "https://nomad.example", "file", "/etc/caravan/caravan.toml:5"),
        ]

    @property
    def config_control(self) -> ConfigFiles:
        return ConfigControl(Found)

    def optimisation(self, *_: Any) -> AbstractContextManager[Any]:
        raise UsageError("There is no language model.", hint="Set CARAVAN_MODEL_URL.")

    def put_cases(self, *_: Any) -> int:
        return 0

    def on_note(self, told: Callable[[str], None]) -> None:
        self.told = told


class Keyboard(io.StringIO):
    """What is typed: texts, each a line, or exceptions (Ctrl-C). At its end it is Ctrl-D."""

    def __init__(self, *typed: str | BaseException) -> None:
        super().__init__()
        self.typed = list(typed)

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        if not self.typed:
            return ""
        said = self.typed.pop(0)
        if isinstance(said, BaseException):
            raise said
        return f"{said}\n"


def person(*typed: str | BaseException) -> Terminal:
    """A terminal before which somebody sits and types these lines."""
    return Terminal(Keyboard(*typed), io.StringIO(), io.StringIO(), interactive=True)


def nobody() -> Terminal:
    """A terminal without a person, as a program's."""
    return Terminal(io.StringIO(), io.StringIO(), io.StringIO())


def printed(terminal: Terminal) -> tuple[str, str]:
    """What stands on stdout and stderr."""
    return cast("io.StringIO", terminal.stdout).getvalue(), cast("io.StringIO", terminal.stderr).getvalue()

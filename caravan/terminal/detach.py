"""Handing a run over to an agent in the background, and telling somebody what it came to.

The agent is another process that resumes the run; there is nothing that only one of the two knows. It writes its log
with times and without the task's own lines, which stand in the run's logs.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from caravan.terminal.progress import PlainProgress
from caravan.terminal.text import one_line
from caravan.values.errors import RunBusy, StateError, UsageError
from caravan.values.masking import mask
from caravan.values.run import ENDED, EXIT_CODES, RunEvent, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from caravan.ports import Clock
    from caravan.terminal.results import Result
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.run import RunRecord

_START_S: Final = 60.0  # importing everything takes seconds, on a loaded machine many
_LOOK_S: Final = 0.1
_TAIL: Final = 4096  # bytes of the agent's log that are looked through for its last line

NODE: Final = "verify_deployment"
"""Where an agent in the background begins: all that a person is asked before is asked in the terminal."""


class Goes(Enum):
    """Where a run is driven once its job is deployed."""

    HERE = "here"
    BACKGROUND = "background"
    CLUSTER = "cluster"


def where_to(*, detach: bool, on_cluster: bool) -> Goes:
    """What the options say. Raises UsageError for both."""
    if detach and on_cluster:
        raise UsageError("--detach and --on-cluster exclude each other.", hint="Give one of them.")
    return Goes.CLUSTER if on_cluster else Goes.BACKGROUND if detach else Goes.HERE


class AgentLog(PlainProgress):
    """What a background agent writes: its steps with their times, without the lines and numbers of the task."""

    def __init__(self, terminal: Terminal, clock: Clock, entered: Callable[[], None] = lambda: None) -> None:
        super().__init__(terminal, clock)
        self._times = clock  # UTC, as in everything else that is stored
        self._entered = entered

    def node(self, name: str, text: str = "") -> None:
        """The agent entered a node: all before it is stored."""
        super().node(name, text)
        self._entered()

    def log(self, stream: str, lines: Sequence[str]) -> None:
        """The task's lines stand in the run's logs."""
        del stream, lines

    def _before(self) -> str:
        return f"{self._times.now():%Y-%m-%d %H:%M:%S} "


def hand_over(wiring: Wiring, record: RunRecord) -> dict[str, Json]:
    """Start an agent in the background and wait until it works on the run; what is known of it comes back.

    Nobody may hold the run: it is the agent that holds it which is written down. Raises RunBusy when another one was
    quicker, StateError with the agent's last words when it does not come up.
    """
    folder, agents, clock = wiring.folder(record.id), wiring.agents, wiring.clock
    agent = agents.start(record.id, folder)
    until = clock.monotonic() + _START_S
    try:
        while clock.monotonic() < until:
            if folder.holder() == agent["pid"]:
                folder.save_agent(agent)
                return agent
            if wiring.store().run(record.id).status is not RunStatus.RUNNING:
                return agent  # it has come to an end already
            if not agents.runs(agent):
                break
            clock.sleep(_LOOK_S)
    finally:
        agents.leave()
    if (other := folder.holder()) is not None:
        raise RunBusy(
            f"The run {record.id} is driven by another agent (process {other}).",
            hint=f"`main.py watch {record.id}` shows it.",
        )
    raise StateError(
        f"The agent in the background does not work on run {record.id}: {_last_line(folder.agent_log)}",
        hint=f"Go on with `main.py resume {record.id}`.",
    )


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, log.stat().st_size - _TAIL))
            lines = opened.read().decode("utf-8", "replace").split("\n")
    except OSError as error:
        return f"its log can't be read ({error.strerror})"
    return next((one_line(line) for line in reversed(lines) if line.strip()), "it says nothing")


def show_handed_over(terminal: Terminal, result: Result, agent: dict[str, Json], *, as_json: bool) -> None:
    """Say that the run goes on without this terminal, and how to look at it."""
    run_id = result.record.id
    if as_json:
        from caravan.terminal.results import document

        terminal.document({**document(result), "exit_code": 0, "agent": {"pid": agent["pid"], "log": agent["log"]}})
        return
    terminal.out(f"Run {run_id} goes on in the background (agent process {agent['pid']}).")
    for what, command in (("look at it", "watch"), ("its logs", "logs"), ("end it", "stop")):
        terminal.out(f"  {what:<11}main.py {command} {run_id}")
    terminal.out(f"  {'agent log':<11}{agent['log']}")


def tell(wiring: Wiring, result: Result) -> str:
    """Tell whoever wants to know what the run came to; each end and each question once. What failed, in a line."""
    record, notifier = result.record, wiring.notifier
    over = record.status in ENDED and record.status not in (RunStatus.PLANNED, RunStatus.REJECTED)
    if notifier is None or not (over or record.status is RunStatus.WAITING):
        return ""
    text = mask(f"Caravan run {record.id}: {record.status.value}; {one_line(record.detail)}", wiring.secrets())
    store = wiring.store()
    if any(event.kind == "told" and event.text == text for event in store.events(record.id)):
        return ""
    told: dict[str, Json] = {
        "text": text,
        "run_id": record.id,
        "status": record.status.value,
        "exit_code": EXIT_CODES[record.status],
        "detail": mask(record.detail, wiring.secrets()),
        "prompt": record.request.prompt,
        "cost_usd": record.cost_usd,
        "metrics": dict(result.state.metrics) if result.state else {},
        "report_path": str(result.report) if result.report else None,
    }
    failed = notifier.tell(told)
    if not failed:
        store.add_event(record.id, RunEvent(at=wiring.clock.now(), kind="told", text=text))
    return failed

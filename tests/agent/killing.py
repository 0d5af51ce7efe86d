"""Runs the agent in a process of its own that ends itself by SIGKILL at a chosen point, and lets it go on in another.

Points are passed in this order within a node: `enter`, then `before:` and `after:` each effect, then `leave`, then
`checkpointed`. The ports are the real ones, wrapped; cluster, store, checkpoints and files are real.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from caravan.agent.driver import Driver, open_checkpoints
from caravan.agent.rules import RuleReasoner
from caravan.planning.catalogue import Prices
from caravan.values.dialogue import Answer, Ask, AskKind, Reply
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass
from caravan.values.plan import Author, PlanChange
from main import Application

EFFECTS = {
    "cluster": {"register", "stop"},
    "store": {"intend", "save_deployment", "add_event"},
    "folder": {"save_code", "save_plan", "save_job", "save_report"},
    "memory": {"remember"},
    "models": {"register"},
}
"""The methods of each port that change something."""


class Killer:
    """Writes each point that the run passes to a file; ends the process at the chosen one."""

    def __init__(self, log: Path, target: str | None) -> None:
        self.log, self.target, self.node = log, target, "start"
        self._times: dict[str, int] = {}

    def hit(self, what: str) -> None:
        """The run is at a point of the current node."""
        point = f"{self.node}/{what}"
        self._times[point] = self._times.get(point, 0) + 1
        point += f"#{self._times[point]}"
        with self.log.open("a") as log:
            log.write(point + "\n")
        if point == self.target:
            os.kill(os.getpid(), signal.SIGKILL)


class _Port:
    def __init__(self, port: Any, name: str, killer: Killer) -> None:
        self._port, self._name, self._killer = port, name, killer

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._port, method)
        if method not in EFFECTS[self._name]:
            return real

        def killed(*args: Any, **kwargs: Any) -> Any:
            self._killer.hit(f"before:{self._name}.{method}")
            result = real(*args, **kwargs)
            self._killer.hit(f"after:{self._name}.{method}")
            return result

        return killed


class _Tracer:
    def __init__(self, tracer: Any, killer: Killer) -> None:
        self._tracer, self._killer = tracer, killer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracer, name)

    @contextmanager
    def span(self, name: str, kind: str = "span", **attributes: Any) -> Iterator[Any]:
        with self._tracer.span(name, kind, **attributes) as span:
            if kind == "node":
                self._killer.node = name
                self._killer.hit("enter")
            yield span
            if kind == "node":
                self._killer.hit("leave")


class FixingReasoner(RuleReasoner):
    """The rules, but for a failure that they don't know: its repair sets the variable that the script wants."""

    def diagnose(self, evidence: Any, plan: Any, cases: Any) -> Diagnosis:
        return Diagnosis(failure=FailureClass.TRAINING_CONFIG_INVALID, confidence=1.0, cause="FIXED is not set.")

    def repairs(self, *_: Any) -> tuple[Any, ...]:
        change = PlanChange(path="env.FIXED", value="yes", by=Author.REPAIR, why="the script asks for it")
        return (ChangePlan(changes=(change,), why="set FIXED"),)


class KilledApplication(Application):
    """The application with wrapped ports."""

    def __init__(self, killer: Killer, *, fixing: bool) -> None:
        self._killer, self._fixing = killer, fixing

    @contextmanager
    def context(self, record: Any, progress: Any) -> Iterator[Any]:
        with super().context(record, progress) as context:
            yield replace(
                context,
                reasoner=FixingReasoner(Prices()) if self._fixing else context.reasoner,
                tracer=_Tracer(context.tracer, self._killer),
                **{name: _Port(getattr(context, name), name, self._killer) for name in EFFECTS},
            )

    @contextmanager
    def driver(self) -> Iterator[Driver]:
        with open_checkpoints(self.home / "checkpoints.db") as saver:
            put = saver.put

            def put_and_hit(*args: Any, **kwargs: Any) -> Any:
                saved = put(*args, **kwargs)
                self._killer.hit("checkpointed")
                return saved

            saver.put = put_and_hit  # type: ignore[method-assign]
            yield Driver(saver)


class Quiet:
    """A progress that shows nothing."""

    def node(self, name: str, text: str = "") -> None: ...
    def snapshot(self, snapshot: Any) -> None: ...
    def attempt(self, number: int, limit: int, **_: Any) -> None: ...
    def metrics(self, values: Any) -> None: ...
    def used(self, text: str) -> None: ...
    def repair(self, cause: str, repair: str, changed: Any) -> None: ...
    def log(self, stream: str, lines: Any) -> None: ...
    def note(self, text: str) -> None: ...


def drive(home: str, run_id: str, log: str, target: str | None, fixing: bool, result: str) -> None:
    """Drive a run to its end, saying yes to everything; a process of its own runs this."""
    os.environ["CARAVAN_HOME"] = home
    app = KilledApplication(Killer(Path(log), target), fixing=fixing)
    record = app.store().run(run_id)
    with app.driver() as driver, app.context(record, Quiet()) as context:
        ended = driver.drive(record, context)
        while isinstance(ended, Ask):
            ended = driver.drive(app.store().run(run_id), context, _yes(ended))
        state = driver.state(run_id)
    assert state is not None
    found = {
        "status": ended.status.value,
        "detail": ended.detail,
        "attempts": [a.model_dump(mode="json") for a in state.attempts],
        "fixes": state.fixes,
        "plan": state.plan.digest() if state.plan else None,
        "deployments": [d.model_dump(mode="json") for d in app.store().deployments(run_id)],
        "events": [e.kind for e in app.store().events(run_id)],
    }
    Path(result).write_text(json.dumps(found))


def _yes(ask: Ask) -> Reply:
    if ask.kind is AskKind.QUESTIONS:
        return Reply(answers=tuple(Answer(question_id=q.id, value=q.default) for q in ask.questions))
    return Reply(approved=True)

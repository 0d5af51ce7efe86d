"""Driving a run: progress while it works, questions when it asks, the result or another agent at its end.

The run's folder stays locked while a person is asked, so that no second agent answers. Loaded by the commands that
drive, in their bodies.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from caravan.planning.answers import answers_from
from caravan.planning.prompt_reading import FIELDS as SENTENCE_FIELDS
from caravan.terminal.detach import NODE, AgentLog, Goes, hand_over, show_handed_over, tell
from caravan.terminal.dialogue import Wish, answer_in_person, what_now
from caravan.terminal.interrupts import Interrupts
from caravan.terminal.lookup import reproduced, trace_file
from caravan.terminal.oncluster import send, show_sent
from caravan.terminal.progress import make_view
from caravan.terminal.results import Result, show_result
from caravan.terminal.stopping import stop_run
from caravan.terminal.summary import scene_of
from caravan.values.dialogue import Answer, Ask, AskKind, Reply
from caravan.values.errors import CaravanError, Interrupted, ServiceError, UsageError
from caravan.values.estimate import Verdict
from caravan.values.model_usage import document as usage_document
from caravan.values.run import EXIT_CODES, DeploymentState, RunRecord, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from caravan.agent.context import Context
    from caravan.agent.driver import Driver
    from caravan.terminal.progress import View
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.plan import PlanChange


_SHOWN = (RunStatus.PLANNED, RunStatus.WAITING)  # what would be deployed, and where, is shown


@dataclass(frozen=True)
class Given:
    """What the command line already says to the open question: answers, yes or no, the number of another plan.

    `budget`, with a yes, is what the whole run may cost.

    `yes` takes defaults. `changes`: an ended run is taken up again with them (None: it is not).
    """

    answers: Mapping[str, Json] | None = None
    approved: bool | None = None
    choice: int | None = None
    budget: float | None = None
    yes: bool = False
    changes: tuple[PlanChange, ...] | None = None

    @property
    def says_something(self) -> bool:
        """Whether there must be a question that it answers."""
        return self.answers is not None or self.approved is not None or self.choice is not None


@dataclass(frozen=True)
class Driving:
    """How a run is driven: where it `goes` on as soon as its job is deployed, and with what is set here if it may.

    `agent`: this is the process there, and `leave` is called whenever the run has come to another node.
    """

    goes: Goes = Goes.HERE
    send_secrets: bool = False
    agent: bool = False
    leave: Callable[[Driver], None] | None = None


def drive_run(
    wiring: Wiring,
    terminal: Terminal,
    record: RunRecord,
    *,
    as_json: bool,
    given: Given | None = None,
    how: Driving | None = None,
) -> int:
    """Drive a run until it ends or waits for a person who is not here; print what it came to, return the exit code.

    Raises Interrupted on Ctrl-C, UsageError when what was given fits no open question, and the run's own errors.
    """
    how = how or Driving()
    terminal.exit_code = EXIT_CODES[RunStatus.RUNNING]  # stands until there is another
    if not as_json:  # at once: what works on the run is loaded below, which takes seconds
        terminal.err(_named(record))
    with ExitStack() as held:
        interrupts, driver = held.enter_context(Interrupts(wiring.clock)), held.enter_context(wiring.driver())
        if how.agent:
            view: View = AgentLog(terminal, wiring.clock, partial(how.leave, driver) if how.leave else lambda: None)
        else:
            view = make_view(terminal, wiring.clock, as_json=as_json)
        context = held.enter_context(wiring.context(record, view))
        interactive = terminal.interactive and not as_json and not how.agent
        drive = _Drive(driver, context, terminal, view, interrupts, partial(stop_run, wiring), interactive, how.goes)
        if given is not None and given.changes is not None:
            record = driver.reopen(record, context, given.changes)
        ended = drive.to_the_end(record, given or Given())
        record = context.store.run(record.id)
        result = Result(
            record=record,
            state=driver.state(record.id),
            ask=ended if isinstance(ended, Ask) else None,
            folder=context.folder.path,
            trace_url=context.tracer.url(),
            trace_path=trace_file(wiring, record.id),
            cluster=scene_of(record, context.facts).cluster if record.status in _SHOWN else "",
            reserved_usd=context.store.reserved_usd(record.id),
            used=usage_document(context.store.events(record.id)),
            reproduced=reproduced(wiring, record),
        )
    if drive.goes is not Goes.HERE and record.status is RunStatus.RUNNING:
        _let_go(wiring, terminal, result, replace(how, goes=drive.goes), as_json=as_json)
        return terminal.exit_code
    terminal.exit_code = result.exit_code
    if failed := tell(wiring, result):
        terminal.err(f"Nobody was told of it: {failed}.")
    show_result(terminal, result, as_json=as_json)
    return terminal.exit_code


def _named(record: RunRecord) -> str:
    """Which run it is, and where one that was left goes on."""
    left = record.status is RunStatus.RUNNING and record.node
    return f"Run {record.id}: going on at {record.node}" if left else f"Run {record.id}"


def _let_go(wiring: Wiring, terminal: Terminal, result: Result, how: Driving, *, as_json: bool) -> None:
    """The run is nobody's now: another agent takes it."""
    if how.goes is Goes.CLUSTER:
        from caravan import TEMPLATES

        try:
            at = send(wiring, result.record, templates=TEMPLATES, send_secrets=how.send_secrets)
        except CaravanError:
            terminal.err(f"Its job is deployed, and no agent works on it: `main.py resume {result.record.id}` does.")
            raise
        show_sent(terminal, result, at, as_json=as_json)
    else:
        show_handed_over(terminal, result, hand_over(wiring, result.record), as_json=as_json)
    terminal.exit_code = 0


@dataclass
class _Drive:
    driver: Driver
    context: Context
    terminal: Terminal
    view: View
    interrupts: Interrupts
    stop: Callable[[RunRecord], list[str]]
    interactive: bool
    goes: Goes

    def to_the_end(self, record: RunRecord, given: Given) -> Ask | RunRecord:
        """Until the run ends, or asks what nobody here answers."""
        if given.says_something and self.driver.open_question(record.id) is None:
            raise UsageError(
                f"Run {record.id} waits for no answer and no approval.",
                hint=f"Go on with `main.py resume {record.id}`.",
            )
        ended = self._on(record, None)
        while isinstance(ended, Ask):
            reply = self._reply(record, ended, given)
            if reply is None:
                break
            given = Given(yes=given.yes)  # what was given answers the first question alone
            ended = self._on(self.context.store.run(record.id), reply)
        return ended

    def _on(self, record: RunRecord, reply: Reply | None) -> Ask | RunRecord:
        while True:
            try:
                with self.view:
                    return self.driver.drive(
                        record, self.context, reply, until=None if self.goes is Goes.HERE else NODE
                    )
            except (Interrupted, KeyboardInterrupt) as stop:  # the latter where the view itself was interrupted
                self.view.__exit__(None, None, None)
                self._leave_or_go_on(record, stop)
                reply = None
                if self.goes is not Goes.HERE:
                    return self.context.store.run(record.id)
            except ServiceError as error:
                raise _left(error, record.id) from error

    def _leave_or_go_on(self, record: RunRecord, stop: BaseException) -> None:
        """After Ctrl-C: leave by raising Interrupted, or come back to go on: here, or in the background."""
        running = _deployed(self.context, record.id)
        if running and self.interactive and not self.interrupts.to_leave:
            wish = what_now(self.terminal, running, self.interrupts)
            if wish is Wish.STOP:
                self.stop(self.context.store.run(record.id))
                return
            if wish is Wish.BACKGROUND:
                self.context.store.update_run(record.id, detail="")
                self.goes = Goes.BACKGROUND
                return
            if wish is Wish.GO_ON:
                self.context.store.update_run(record.id, detail="")
                return
        raise _interrupted(running, record.id) from stop

    def _reply(self, record: RunRecord, ask: Ask, given: Given) -> Reply | None:
        if given.says_something:
            _must_fit(record.id, ask, given)
        if ask.kind is AskKind.QUESTIONS:
            known = _known_answers(ask, given)
            if {q.id for q in ask.questions} <= {a.question_id for a in known}:
                return Reply(answers=known)
        else:
            known = ()
            if given.choice is not None:
                return Reply(choice=given.choice)
            approved = given.approved if given.approved is not None else _approved_by_yes(ask, given)
            if approved is not None:
                return Reply(approved=approved, budget_usd=given.budget, why="" if approved else "the user said no")
        if not self.interactive:
            return None
        try:
            now = self.context.clock.now().astimezone()
            return answer_in_person(self.terminal, ask, partial(scene_of, record, self.context.facts), known, now)
        except (KeyboardInterrupt, EOFError) as stop:
            self.terminal.err()
            raise Interrupted(
                f"Run {record.id} waits for your answer.", hint=f"Go on with `main.py resume {record.id}`."
            ) from stop


def _must_fit(run_id: str, ask: Ask, given: Given) -> None:
    if ask.kind is AskKind.QUESTIONS and given.answers is None:
        raise UsageError(f"Run {run_id} waits for answers, not for approval.", hint="Give them with --answers FILE.")
    if given.choice is not None and not 0 < given.choice <= len(ask.choices):
        offered = f"It offers 1 to {len(ask.choices)}." if ask.choices else "Use --approve or --reject."
        raise UsageError(f"Run {run_id} offers no plan {given.choice} to take instead.", hint=offered)
    if ask.kind is not AskKind.QUESTIONS and given.answers is not None:
        raise UsageError(f"Run {run_id} waits for a yes or no.", hint="Use --approve or --reject.")


def _known_answers(ask: Ask, given: Given) -> tuple[Answer, ...]:
    answers = given.answers or {}
    asked = {name for q in ask.questions for name in (q.id, q.path)}
    beside = tuple(
        Answer(question_id=k, value=v) for k, v in answers.items() if k not in asked and k in SENTENCE_FIELDS
    )
    unknown = sorted(answers.keys() - asked - {a.question_id for a in beside})
    if unknown:
        ids = ", ".join(q.id for q in ask.questions)
        raise UsageError(f"The answers file answers what isn't asked: {', '.join(unknown)}.", hint=f"Asked: {ids}.")
    return (*answers_from(ask.questions, answers, defaults=given.yes), *beside)


def _approved_by_yes(ask: Ask, given: Given) -> bool | None:
    """`--yes` approves what is within the soft limit and was not approved otherwise before; never a lost job."""
    within = ask.budget is not None and ask.budget.verdict is Verdict.WITHIN
    return True if given.yes and ask.kind is AskKind.APPROVAL and within and not ask.objections else None


def _deployed(context: Context, run_id: str) -> str:
    """The job that is on the cluster now as far as is known, or nothing."""
    running = [d.job_id for d in context.store.deployments(run_id) if d.state is DeploymentState.REGISTERED]
    return running[-1] if running else ""


def _left(error: ServiceError, run_id: str) -> ServiceError:
    """The error with how the run goes on. Whether it has a job may be in the very database that is away."""
    if f"resume {run_id}" in error.hint:
        return error
    on = f"Then go on with `main.py resume {run_id}`; a job that is deployed keeps running meanwhile."
    return ServiceError(error.message, hint=f"{error.hint} {on}".lstrip())


def _interrupted(job_id: str, run_id: str) -> Interrupted:
    """What an interrupted run leaves behind, and how to go on."""
    if not job_id:
        return Interrupted(f"Run {run_id} was interrupted.", hint=f"Go on with `main.py resume {run_id}`.")
    return Interrupted(
        f"Run {run_id} was interrupted; its job {job_id} keeps running on the cluster.",
        hint=f"Go on with `main.py resume {run_id}`, or end the job with `main.py stop {run_id}`.",
    )

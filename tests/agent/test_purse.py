"""The money of a run while its job is watched: it is ended before more is spent than was approved, and not earlier."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.elapsed import Age, begun
from caravan.agent.granting import granted_more, sum_needed
from caravan.agent.purse import Purse
from caravan.agent.resuming import for_the_rest, parse_record, used_up
from caravan.agent.state import RunState
from caravan.agent.watchdog import Heard, Watchdog, ended_by_deadline
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.estimate import BudgetVerdict, Envelope, Estimate, Range, Verdict
from caravan.values.plan import Limits, OutputSink, Resume, TrainingPlan
from caravan.values.run import (
    Allocation,
    Outcome,
    OutcomeKind,
    Phase,
    RunRequest,
    Snapshot,
    Stretch,
    TaskEvent,
    TaskState,
)
from tests.fakes.clock import FakeClock

START = datetime(2026, 11, 1, tzinfo=UTC)
LIMITS = Limits(queue_s=10**6, start_s=10**6, first_sign_s=10**6, silence_s=10**6)
PLAN = TrainingPlan(
    goal="x",
    command=("t.py",),
    outputs=OutputSink(kind="path", location="/o"),
    resume=Resume(kind="trainer", flag="-r"),
)


def purse(approved: float, spent: float = 0.0, *, rate: float = 3.6, end_s: float = 30.0, nodes: int = 1) -> Purse:
    return Purse(approved, spent, rate, nodes, end_s)


def aged(now: datetime) -> Age:
    """The age of a job that was registered at START, as it is at `now`."""
    clock = FakeClock(START)
    age = Age(begun(clock), clock)
    clock.sleep((now - START).total_seconds())
    return age


def running(at: datetime, allocations: int = 1) -> Snapshot:
    event = TaskEvent(type="Received", at=START)
    task = TaskState(name="train", state="running", started_at=START, events=(event,))
    allocs = tuple(
        Allocation(id=f"a{n}", name="a", group="g", client_status="running", tasks=(task,)) for n in range(allocations)
    )
    return Snapshot(job_id="j", at=at, phase=Phase.RUNNING, allocations=allocs)


@given(
    approved=st.floats(0.01, 1000),
    spent=st.floats(0, 1),
    rate=st.floats(0.01, 1000),
    end_s=st.floats(0, 600),
    seconds=st.floats(0.001, 1e6),
)
def test_it_is_over_before_the_money_is_and_never_long_before(
    approved: float, spent: float, rate: float, end_s: float, seconds: float
) -> None:
    now = START + timedelta(seconds=seconds)
    held = (now - START).total_seconds()
    ours = purse(approved, spent * approved, rate=rate, end_s=end_s)
    cost = spent * approved + rate * held / 3600
    over = bool(ours.over(running(now), aged(now)))
    if held and cost >= approved:
        assert over
    if over:
        assert cost >= 0.9 * approved * (1 - 1e-9)
        assert cost + rate * end_s / 3600 >= approved * (1 - 1e-9)


def test_each_node_costs_its_part_and_a_queue_nothing() -> None:
    now = START + timedelta(hours=1)
    assert purse(4.0).over(running(now), aged(now)) == ""
    assert purse(7.0, nodes=2).over(running(now, 2), aged(now)) == ""
    assert purse(3.5, nodes=2).over(running(now, 2), aged(now)) == "the run has cost 3.60 USD of the approved 3.50 USD"
    waiting = Snapshot(job_id="j", at=now, phase=Phase.QUEUED)
    assert purse(1.0, 5.0).over(waiting, aged(now)) == ""


def test_the_watchdog_ends_it_and_says_why_and_the_attempt_has_used_up_what_was_approved() -> None:
    clock = FakeClock()
    ours = Purse(1.0, 0.0, 3.6, 1, 30.0)
    dog = Watchdog(LIMITS, clock, begun(clock), purse=ours)

    def now() -> Snapshot:
        return running(clock.now()).model_copy(
            update={
                "allocations": (
                    Allocation(
                        id="a",
                        name="a",
                        group="g",
                        client_status="running",
                        tasks=(TaskState(name="t", state="running", started_at=began),),
                    ),
                )
            }
        )

    began = clock.now()
    dog.look(now(), Heard(size=1))
    assert not dog.alarm
    clock.sleep(1000)
    save, _ = dog.look(now(), Heard(size=1))
    assert save
    assert dog.alarm == "Budget over: the run has cost 1.00 USD of the approved 1.00 USD"
    assert dog.watched.stretch is Stretch.BUDGET
    clock.sleep(5)
    dog.look(now(), Heard(size=2))
    assert dog.alarm
    ended = ended_by_deadline(Outcome(kind=OutcomeKind.INTERRUPTED, exit_code=143), dog.watched, ended=True)
    assert (ended.kind, ended.reason) == (OutcomeKind.EXPIRED, dog.alarm)
    assert used_up(PLAN, ended) == dog.alarm
    assert used_up(PLAN.model_copy(update={"resume": None}), ended) == ""
    assert ended_by_deadline(Outcome(kind=OutcomeKind.SUCCEEDED), dog.watched, ended=True).succeeded


def asked(total: float, verdict: Verdict) -> Ask:
    budget = BudgetVerdict(verdict=verdict, soft_usd=1, hard_usd=5)
    return Ask(kind=AskKind.APPROVAL, text="Go on?", envelope=Envelope(cost_usd=total, run_s=60), budget=budget)


def out_of_money(spent: float = 1.0, **more: object) -> RunState:
    state = RunState(run_id="r", request=RunRequest(prompt="p", source="s", budget_usd=1.0), plan=PLAN)
    return state.model_copy(update={"spent_usd": spent, "exhausted": "Budget over: x", **more})


def test_a_yes_grants_what_was_shown_within_the_hard_limit() -> None:
    update = granted_more(out_of_money(), asked(3.0, Verdict.OVER_HARD), Reply(approved=True), hard_usd=5)
    assert update is not None
    assert (update["envelope"].cost_usd, update["envelope"].run_s) == (3.0, None)
    assert update["request"].budget_usd == 3.0
    assert (update["exhausted"], update["turn"]) == ("", "estimate")


def test_more_than_the_hard_limit_must_be_said_and_a_sum_that_is_spent_buys_nothing() -> None:
    ask = asked(9.0, Verdict.OVER_HARD)
    assert granted_more(out_of_money(), ask, Reply(approved=True), hard_usd=5) is None
    assert granted_more(out_of_money(), ask, Reply(approved=True, budget_usd=1.05), hard_usd=5) is None
    more = granted_more(out_of_money(), ask, Reply(approved=True, budget_usd=9.5), hard_usd=5)
    assert more is not None
    assert more["request"].budget_usd == 9.5
    assert sum_needed(sum_needed(ask)).text == sum_needed(ask).text


def test_a_users_own_cost_limit_is_lifted_with_it() -> None:
    plan = PLAN.model_copy(update={"limits": Limits(max_cost_usd=1.0)})
    ask = asked(3.0, Verdict.OVER_HARD)
    update = granted_more(out_of_money(plan=plan), ask, Reply(approved=True, budget_usd=4.0), hard_usd=5)
    assert update is not None
    assert update["plan"].limits.max_cost_usd == 4.0


def test_time_that_was_over_is_granted_as_it_was() -> None:
    state = out_of_money(exhausted="the time limit of 60 s is over", spent=0.0)
    update = granted_more(state, asked(1.0, Verdict.WITHIN), Reply(approved=True), hard_usd=5)
    assert update == {"envelope": asked(1.0, Verdict.WITHIN).envelope, "exhausted": "", "choices": (), "unplaced": None}


def test_what_is_left_is_estimated_and_said() -> None:
    whole = Estimate(seconds=Range(low=10, likely=20, high=40), cost_usd=Range(low=1, likely=2, high=4))
    rest = for_the_rest(whole, 0.25)
    assert rest.seconds == Range(low=2.5, likely=5, high=10)
    assert rest.cost_usd == Range(low=0.25, likely=0.5, high=1)
    assert rest.assumptions[0].startswith("75% of the training is in its last checkpoint")
    assert for_the_rest(whole, 1.0) is whole


def test_a_record_is_the_jobs_word_and_checked() -> None:
    record = parse_record(b'{"name": "checkpoint-3", "step": 3, "rejected": [{"name": "checkpoint-4", "why": "cut"}]}')
    assert record is not None
    assert record.in_words() == "resumed from checkpoint-3 (not checkpoint-4: cut)"
    assert parse_record(b"[]") is None
    assert parse_record(b'{"step": -1}') is None
    assert parse_record(b"\xff") is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_none(data: bytes) -> None:
    parse_record(data)

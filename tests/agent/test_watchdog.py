"""The deadlines' arithmetic: time is neither lost nor counted twice, whoever watches and whatever the clocks do."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.elapsed import begun
from caravan.agent.watchdog import Heard, Watchdog, ended_by_deadline
from caravan.values.plan import Limits
from caravan.values.run import (
    Allocation,
    Outcome,
    OutcomeKind,
    Phase,
    Snapshot,
    Stretch,
    TaskEvent,
    TaskState,
    Watched,
)
from tests.agent.test_deadlines import JumpyClock

LIMITS = Limits(queue_s=1000, start_s=1000, first_sign_s=1000, silence_s=1000)


def running(clock: JumpyClock, **more: object) -> Snapshot:
    task = TaskState(name="train", state="running", started_at=clock.now())
    alloc = Allocation(id="a1", name="a", group="g", client_status="running", tasks=(task,))
    return Snapshot(job_id="j", at=clock.now(), phase=Phase.RUNNING, allocations=(alloc,)).model_copy(update=more)


def queued(clock: JumpyClock) -> Snapshot:
    return Snapshot(job_id="j", at=clock.now(), phase=Phase.QUEUED, reason="memory")


Step = tuple[str, float]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.floats(0.1, 20)),
        st.tuples(st.just("jump"), st.floats(-200_000, 200_000)),
        st.tuples(st.just("agent"), st.floats(0, 300)),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_alarm_comes_after_the_limit_and_never_before_it(steps: list[Step]) -> None:
    clock = JumpyClock()
    stored = begun(clock)
    dog, waited = Watchdog(LIMITS, clock, stored), 0.0
    dog.look(queued(clock), Heard())
    stored = dog.watched
    for what, amount in steps:
        if what == "jump":
            clock.jump(timedelta(seconds=amount))
            continue
        clock.sleep(amount)
        waited += amount
        if what == "agent":  # another agent takes over from what was stored
            dog = Watchdog(LIMITS, clock, stored)
        save, _ = dog.look(queued(clock), Heard())
        stored = dog.watched if save else stored
        if waited <= LIMITS.queue_s:
            assert not dog.alarm
        if dog.alarm:
            return
    # By the machine's clock nothing is lost; only where the wall clock was set back is some of the absence left out.
    if not any(what == "jump" for what, _ in steps):
        assert not waited > LIMITS.queue_s + 1


@given(st.floats(0, 500), st.floats(0, 499))
def test_a_machine_that_was_started_anew_goes_by_the_wall_clock(before: float, away: float) -> None:
    clock = JumpyClock()
    dog = Watchdog(LIMITS, clock, begun(clock))
    dog.look(queued(clock), Heard())
    clock.sleep(before)
    dog.look(queued(clock), Heard())
    stored = dog.watched.model_copy(update={"monotonic": 1e9})  # up for longer than the machine is now
    clock.sleep(away)
    again = Watchdog(LIMITS, clock, stored)
    again.look(queued(clock), Heard())
    assert abs(again.watched.spent_s - (before + away)) < 0.01


def test_a_log_that_grows_begins_the_silence_anew_and_deafness_counts_for_nothing() -> None:
    clock = JumpyClock()
    dog = Watchdog(LIMITS, clock, begun(clock))
    for size in range(1, 5):
        dog.look(running(clock), Heard(size))
        clock.sleep(600)
        dog.look(running(clock), Heard(size))
        assert (dog.watched.stretch, dog.alarm) == (Stretch.SILENCE, "")
    for _ in range(10):
        clock.sleep(600)
        dog.look(running(clock), Heard(4, deaf=True))
    assert not dog.alarm
    clock.sleep(401)
    dog.look(running(clock), Heard(4, last_line="loss 3"))
    assert dog.alarm.endswith("its log does not grow; the last line: loss 3")


def test_what_began_while_nobody_watched_counts_from_its_beginning_but_not_from_before() -> None:
    clock = JumpyClock()
    dog = Watchdog(LIMITS, clock, begun(clock))
    dog.look(queued(clock), Heard())
    clock.sleep(900)  # nobody watches; after 500 s the task begins
    seen = running(clock)
    task = seen.allocations[0].tasks[0].model_copy(update={"started_at": clock.now() - timedelta(seconds=400)})
    seen = seen.model_copy(update={"allocations": (seen.allocations[0].model_copy(update={"tasks": (task,)}),)})
    again = Watchdog(LIMITS, clock, dog.watched)
    again.look(seen, Heard())
    assert (again.watched.stretch, round(again.watched.spent_s)) == (Stretch.FIRST_SIGN, 400)
    clock.jump(timedelta(days=1))
    later = Watchdog(LIMITS, clock, dog.watched)
    later.look(seen, Heard())
    assert later.watched.spent_s <= 900


def test_an_alarm_comes_with_news_alone_and_goes_when_the_job_moves_on() -> None:
    clock = JumpyClock()
    dog = Watchdog(LIMITS, clock, begun(clock))
    seen = queued(clock)
    dog.look(seen, Heard())
    for _ in range(20):  # the cluster is away: the last snapshot comes again and again
        clock.sleep(60)
        dog.look(seen, Heard())
        assert not dog.alarm
    assert dog.due
    dog.look(queued(clock), Heard())
    assert dog.alarm.startswith("No room on the cluster")
    assert not dog.due
    again = Watchdog(LIMITS, clock, dog.watched)
    save, _ = again.look(running(clock), Heard())
    assert (save, again.alarm, again.watched.stretch) == (True, "", Stretch.FIRST_SIGN)
    again = Watchdog(LIMITS, clock, dog.watched)
    save, _ = again.look(running(clock, phase=Phase.ENDED), Heard())
    assert (save, again.alarm) == (True, "")  # it ended before a stop came there
    again = Watchdog(LIMITS, clock, dog.watched)
    again.look(running(clock, phase=Phase.ENDED, stopped=True), Heard())
    assert again.alarm


def test_a_task_that_outruns_its_time_limit_is_ended_by_the_watch() -> None:
    clock = JumpyClock()
    limits = LIMITS.model_copy(update={"max_run_s": 3000})
    dog, began, size = Watchdog(limits, clock, begun(clock), end_s=20), clock.monotonic(), 1
    first = running(clock)
    while not dog.alarm:
        clock.sleep(100)
        size += 1
        save, _ = dog.look(first.model_copy(update={"at": clock.now()}), Heard(size))
        if save and size % 7 == 0:  # another agent takes over, in a log that grows on
            dog = Watchdog(limits, clock, dog.watched, end_s=20)
        assert clock.monotonic() - began < 4000
    assert clock.monotonic() - began > 3320
    assert dog.alarm == "Time limit over (limits.max_run_s is 3000 s): it still runs"
    stopped = Outcome(kind=OutcomeKind.FAILED, exit_code=137)
    assert ended_by_deadline(stopped, dog.watched, ended=True).kind is OutcomeKind.EXPIRED
    dog.look(first.model_copy(update={"at": clock.now()}), Heard(size + 1))
    assert dog.alarm


def test_secrets_stand_in_no_reason() -> None:
    clock = JumpyClock()
    dog = Watchdog(Limits(start_s=10), clock, begun(clock), ("correct-horse",))
    event = TaskEvent(type="Driver", message="pulling with correct-horse", at=clock.now())
    task = TaskState(name="train", state="pending", events=(event,))
    alloc = Allocation(id="a1", name="a", group="g", client_status="pending", tasks=(task,))
    seen = Snapshot(job_id="j", at=clock.now(), phase=Phase.STARTING, allocations=(alloc,))
    dog.look(seen, Heard())
    clock.sleep(11)
    dog.look(seen, Heard(), asked=True)
    assert "pulling with" in dog.alarm
    assert "correct-horse" not in dog.watched.model_dump_json()


def test_a_group_of_which_a_part_has_no_room_does_not_hold_its_nodes_for_ever() -> None:
    from caravan.values.job import PlacementFailure

    clock = JumpyClock()
    dog = Watchdog(LIMITS, clock, begun(clock))
    failure = PlacementFailure(group="train", dimension_exhausted={"memory": 1})
    for _ in range(2):
        seen = running(clock, placement_failures=(failure,), reason="partly placed, train: memory (1 node)")
        dog.look(seen, Heard(int(clock.monotonic()) + 1))
        clock.sleep(1001)
    assert "partly placed" in dog.alarm


def test_the_jobs_own_end_goes_before_the_deadline() -> None:
    clock = JumpyClock()
    watched = begun(clock).model_copy(update={"stretch": Stretch.SILENCE, "alarm": "Stalled in silence"})

    def kind(outcome: Outcome, by: Watched | None = watched) -> OutcomeKind:
        return ended_by_deadline(outcome, by, ended=True).kind

    stopped = Outcome(kind=OutcomeKind.INTERRUPTED, exit_code=143)
    assert kind(stopped) is OutcomeKind.STALLED
    assert kind(stopped, begun(clock)) is kind(stopped, None) is OutcomeKind.INTERRUPTED
    assert kind(Outcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)) is OutcomeKind.SUCCEEDED
    assert kind(Outcome(kind=OutcomeKind.FAILED, exit_code=1)) is OutcomeKind.FAILED
    assert kind(Outcome(kind=OutcomeKind.FAILED)) is OutcomeKind.STALLED
    in_queue = watched.model_copy(update={"stretch": Stretch.QUEUED})
    assert kind(Outcome(kind=OutcomeKind.NOT_PLACED), in_queue) is OutcomeKind.NOT_PLACED


def test_a_group_that_finds_no_place_as_a_whole_was_not_placed() -> None:
    clock = JumpyClock()
    watched = begun(clock).model_copy(
        update={"stretch": Stretch.GANG, "alarm": "Only a part of the group found a place"}
    )
    stopped = Outcome(kind=OutcomeKind.INTERRUPTED, exit_code=143, alloc_id="a1")
    outcome = ended_by_deadline(stopped, watched, ended=True)
    assert (outcome.kind, outcome.alloc_id, outcome.reason) == (OutcomeKind.NOT_PLACED, None, watched.alarm)
    assert ended_by_deadline(stopped, watched, ended=False).kind is OutcomeKind.STALLED

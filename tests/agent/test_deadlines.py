"""Deadlines, clock jumps, changed and collected jobs in the whole graph: told truly, and nothing deployed twice."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.watch import SENTINEL_PATH
from caravan.values.base import Json
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import ClusterDenied, ClusterUnreachable, Interrupted
from caravan.values.failure import FailureClass
from caravan.values.plan import Author, PlanChange
from caravan.values.run import OutcomeKind, Phase, RunRecord, RunStatus, Snapshot
from tests.agent.test_loop import Notes, World, ended
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import ENDED, FakeCluster, Script, one_node

SETUP = ("Task Setup", "Building Task Directory")
MISSING = ("Template", "Missing: nomad.var.block(nomad/jobs/x@default.global)")
PULLING = ("Driver", "Downloading image")
LOG = b"".join(b"loss=%d\n" % n for n in range(50, 10, -1))


class JumpyClock(FakeClock):
    """A clock whose wall time somebody sets."""

    def jump(self, by: timedelta) -> None:
        self._start += by


class Site(World):
    """A world with such a clock."""

    def __init__(self, tmp: Path, script: Callable[[Json], Script], cluster: type[FakeCluster] = FakeCluster) -> None:
        super().__init__(tmp, script)
        self.clock: JumpyClock = JumpyClock()
        self.cluster = cluster(self.clock, facts=one_node(), script=script)

    def begin(self, **limits: int) -> RunRecord:
        return self.start(sets=tuple(limit(name, seconds) for name, seconds in limits.items()))


def limit(name: str, seconds: int) -> PlanChange:
    return PlanChange(path=f"limits.{name}", value=seconds, by=Author.USER)


def first_then(first: Script, then: Script) -> Callable[[Json], Script]:
    return lambda job: first if job["ID"].endswith("a01") else then


GOOD = Script(stdout=LOG)


class At(Notes):
    """Does something once, with the first snapshot of that phase."""

    def __init__(self, phase: Phase, what: Callable[[Snapshot], None]) -> None:
        super().__init__()
        self.phase, self.what, self.done = phase, what, False

    def snapshot(self, snapshot: Any) -> None:
        if snapshot.phase is self.phase and not self.done:
            self.done = True
            self.what(snapshot)


def interrupt(_: Snapshot) -> None:
    raise KeyboardInterrupt


def test_a_template_that_waits_for_ever_is_found_and_told_in_its_own_words(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(stuck=(SETUP, MISSING)))
    began = site.clock.monotonic()
    record = site.begin()
    result = ended(site.drive(record))
    assert result.status is RunStatus.ESCALATED
    assert "nomad.var.block(nomad/jobs/x@default.global)" in result.detail
    (attempt,) = site.state(record).attempts
    assert attempt.outcome.kind is OutcomeKind.STALLED
    assert attempt.diagnosis.failure is FailureClass.TEMPLATE_SECRET_UNAVAILABLE
    assert 600 < site.clock.monotonic() - began < 700  # it holds a node: no hour is waited for a secret
    assert sum("For 5 min: " in note and "In 5 min it is stopped" in note for note in site.progress.notes) == 1
    assert site.ids(record) == ["a01"]
    assert site.cluster.snapshot(f"caravan-{record.id}-a01").stopped
    assert any(e.kind == "stalled" for e in site.store.events(record.id))


def test_a_task_that_falls_silent_is_stopped_mended_and_run_again(tmp_path: Path) -> None:
    site = Site(tmp_path, first_then(Script(hangs=True, stdout=LOG), GOOD))
    record = site.begin(silence_s=300)
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    assert site.ids(record) == ["a01", "a02"]
    first, _ = site.state(record).attempts
    assert first.outcome.kind is OutcomeKind.STALLED
    assert first.diagnosis.failure is FailureClass.PROCESS_HANG
    assert "loss=31" in first.outcome.reason
    assert first.changed["env.TOKENIZERS_PARALLELISM"][1] == "false"


def test_a_task_without_a_first_sign_is_stopped(tmp_path: Path) -> None:
    site = Site(tmp_path, first_then(Script(hangs=True), GOOD))
    record = site.begin(first_sign_s=200, silence_s=100_000)
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    reason = site.state(record).attempts[0].outcome.reason
    assert reason == "Stalled without a first sign (limits.first_sign_s is 200 s): nothing stands in its log yet"


def test_a_pull_that_never_ends_is_given_up_and_tried_again(tmp_path: Path) -> None:
    site = Site(tmp_path, first_then(Script(stuck=(SETUP, PULLING)), GOOD))
    record = site.begin(start_s=300)
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    first = site.state(record).attempts[0]
    assert (first.outcome.kind, first.diagnosis.failure) == (OutcomeKind.STALLED, FailureClass.IMAGE_PULL_TRANSIENT)
    assert "Driver: Downloading image" in first.outcome.reason
    assert site.ids(record) == ["a01", "a02"]


def test_a_pull_that_goes_on_is_not_ended_early(tmp_path: Path) -> None:
    pulls = tuple(("Driver", f"Docker image pull progress: Pulled {n}/60 layers") for n in range(60))
    site = Site(tmp_path, first_then(Script(stuck=pulls), GOOD))
    began = site.clock.monotonic()
    record = site.begin(start_s=30)
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    assert "Pulled 59/60" in site.state(record).attempts[0].outcome.reason
    assert site.clock.monotonic() - began > 300


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_jumps_fires_no_deadline_and_hides_none(tmp_path: Path, days: int) -> None:
    site = Site(tmp_path, first_then(Script(hangs=True, stdout=LOG), GOOD))
    record = site.begin(silence_s=300)
    jumped = At(Phase.RUNNING, lambda _: site.clock.jump(timedelta(days=days)))
    began = site.clock.monotonic()
    assert ended(site.drive(record, progress=jumped)).status is RunStatus.SUCCEEDED
    assert jumped.done
    assert 300 < site.clock.monotonic() - began < 360


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_is_set_while_nobody_watches_fires_no_deadline(tmp_path: Path, days: int) -> None:
    site = Site(tmp_path, first_then(Script(hangs=True, stdout=LOG), GOOD))
    record = site.begin(silence_s=300)
    with pytest.raises(Interrupted):
        site.drive(record, progress=At(Phase.RUNNING, interrupt))
    site.clock.jump(timedelta(days=days))
    began = site.clock.monotonic()
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    assert 250 < site.clock.monotonic() - began < 360
    assert site.ids(record) == ["a01", "a02"]


def test_an_agent_that_takes_over_neither_forgets_a_deadline_nor_begins_it_anew(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(queued=True))
    began = site.clock.monotonic()
    record = site.begin(queue_s=1000)
    for _ in range(4):
        with pytest.raises(Interrupted):
            site.drive(record, progress=Patient(site, 150))
        site.clock.sleep(50)
    assert ended(site.drive(record)).status is RunStatus.ESCALATED
    assert 1000 < site.clock.monotonic() - began < 1050
    assert site.state(record).attempts[0].outcome.kind is OutcomeKind.NOT_PLACED
    assert site.ids(record) == ["a01"]


class Patient(Notes):
    """Leaves after so many seconds."""

    def __init__(self, site: Site, seconds: float) -> None:
        super().__init__()
        self.site, self.until = site, site.clock.monotonic() + seconds

    def snapshot(self, snapshot: Any) -> None:
        if self.site.clock.monotonic() > self.until:
            raise KeyboardInterrupt


def test_why_it_waits_for_room_is_stored_once(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(queued=True))
    record = site.begin(queue_s=300)
    with pytest.raises(Interrupted):
        site.drive(record, progress=Patient(site, 100))
    ended(site.drive(record))
    (event,) = (e for e in site.store.events(record.id) if e.kind == "queued")
    assert "memory (1 node)" in event.text


@pytest.mark.parametrize("after", [False, True])
def test_a_stop_without_an_answer_is_tried_again_and_stays_our_own(tmp_path: Path, after: bool) -> None:
    site = Site(tmp_path, first_then(Script(hangs=True, stdout=LOG), GOOD))
    record = site.begin(silence_s=300)
    site.cluster.fail("stop", ClusterUnreachable("no answer"), times=1 if after else 3, after=after)
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    assert site.state(record).attempts[0].outcome.kind is OutcomeKind.STALLED
    assert site.ids(record) == ["a01", "a02"]
    assert sum(e.kind == "stalled" for e in site.store.events(record.id)) == 1


class Away(Notes):
    """As soon as a deadline is told to be over, the cluster is away."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__()
        self.cluster = cluster

    def note(self, text: str) -> None:
        if "limits." in text and not text.startswith("For "):
            self.cluster.fail("watch", ClusterUnreachable("no answer"))


class Roomy(FakeCluster):
    """Finds room for whoever waits, when told."""

    room = False

    def _observe(self, job_id: str, namespace: str) -> Snapshot:
        entry = self._jobs.get((namespace, job_id))
        if entry is not None and self.room:
            entry.failures = {}
        return super()._observe(job_id, namespace)


def test_a_job_that_found_its_place_after_its_deadline_is_left_to_train(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(queued=True, stdout=LOG), Roomy)
    record = site.begin(queue_s=300)
    site.cluster.fail("stop", ClusterUnreachable("no answer"))
    with pytest.raises(ClusterUnreachable):
        site.drive(record, progress=Away(site.cluster))
    watched = site.store.deployments(record.id)[-1].watched
    assert watched is not None
    assert watched.alarm
    stops = site.cluster.calls.count("stop")
    site.cluster.room = True  # type: ignore[attr-defined]
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    assert site.ids(record) == ["a01"]
    assert site.cluster.calls.count("stop") == stops


class Stale(FakeCluster):
    """Its watch shows a job as it was when nothing was heard any more, and nothing but `snapshot` tells more."""

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        last: Snapshot | None = None
        for seen in super().watch(job_id, namespace):
            last = last if last is not None and seen.phase is Phase.QUEUED else seen
            yield last


def test_a_deadline_ends_nothing_while_the_cluster_does_not_answer(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(queued=True), Stale)
    record = site.begin(queue_s=300)
    began = site.clock.monotonic()
    site.cluster.fail("snapshot", ClusterUnreachable("no answer"), times=10)
    assert ended(site.drive(record)).status is RunStatus.ESCALATED
    assert 340 < site.clock.monotonic() - began < 370  # asked ten times in vain, five seconds apart
    assert site.state(record).attempts[0].outcome.kind is OutcomeKind.NOT_PLACED


def test_a_log_that_can_not_be_read_is_no_silence(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(hangs=True, stdout=LOG))
    record = site.begin(silence_s=100, first_sign_s=100)
    site.cluster.fail("logs", ClusterDenied("Permission denied"), times=10_000)
    with pytest.raises(Interrupted):
        site.drive(record, progress=Patient(site, 1000))
    assert not any(e.kind == "stalled" for e in site.store.events(record.id))


class Stubborn(FakeCluster):
    """Its node does not answer: what is told to stop goes on, as far as the servers know."""

    def _another(self, entry: Any, **fields: Json) -> None:
        super()._another(entry, **fields)
        if fields.get("Stop"):
            entry.stage, entry.killed = 2, False
            entry.reached.pop(ENDED, None)


def test_a_job_that_does_not_end_is_left_to_a_person_and_none_runs_beside_it(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(hangs=True, stdout=LOG), Stubborn)
    record = site.begin(silence_s=300)
    result = ended(site.drive(record))
    assert result.status is RunStatus.ESCALATED
    assert "has not ended since it was told to stop" in result.detail
    assert site.ids(record) == ["a01"]


def test_a_job_that_somebody_changed_is_neither_touched_nor_repaired_nor_deployed_again(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(hangs=True, stdout=LOG))
    record = site.begin()
    changing = At(Phase.RUNNING, lambda seen: site.cluster.change(seen.job_id, Priority=80))
    result = ended(site.drive(record, progress=changing))
    assert result.status is RunStatus.ESCALATED
    (job_id,) = (job["ID"] for job in site.cluster.registrations)
    assert f"job {job_id}: somebody registered version 1 of it, and that still runs" in result.detail
    assert f"Caravan leaves it alone. `nomad job stop {job_id}` ends it." in result.detail
    assert "submitted again" not in result.detail
    assert "Interrupted externally" not in result.detail
    assert site.state(record).attempts[0].outcome.kind is OutcomeKind.CHANGED
    assert site.ids(record) == ["a01"]
    assert "stop" not in site.cluster.calls


def test_a_job_that_was_changed_while_nobody_watched_is_no_success(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(stdout=LOG))
    record = site.begin()
    with pytest.raises(Interrupted):
        site.drive(record, progress=At(Phase.STARTING, interrupt))
    (job,) = site.cluster.registrations
    site.cluster.change(job["ID"], Meta={**job["Meta"], "caravan_spec_sha256": "0" * 64})
    site.cluster.stop(job["ID"])
    result = ended(site.drive(record))
    assert result.status is RunStatus.ESCALATED
    assert "Nothing of it runs" in result.detail
    assert site.state(record).attempts[0].outcome.kind is OutcomeKind.CHANGED
    assert site.ids(record) == ["a01"]


def test_a_purged_job_is_asked_about(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(hangs=True, stdout=LOG))
    record = site.begin()
    ask = site.drive(record, progress=At(Phase.RUNNING, lambda seen: site.cluster.stop(seen.job_id, purge=True)))
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.LOST_JOB
    assert site.ids(record) == ["a01"]
    assert ended(site.drive(record, Reply(approved=False))).status is RunStatus.REJECTED


class Collecting(FakeCluster):
    """Its client collects an allocation's files right after they were read once."""

    read = 0

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        found = super().read_file(alloc_id, path)
        self.read += path == SENTINEL_PATH and found is not None
        return found if self.read <= 1 else None


def test_a_result_file_that_is_collected_at_once_was_read_before(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: GOOD, Collecting)
    record = site.begin()
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    assert site.ids(record) == ["a01"]


@pytest.mark.parametrize("how", ["lost", "stop", "evict"])
def test_a_node_that_is_lost_or_drained_costs_no_attempt(tmp_path: Path, how: str) -> None:
    site = Site(tmp_path, first_then(Script(interrupted=how, stdout=LOG), GOOD))
    record = site.begin()
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    first, second = site.state(record).attempts
    assert (first.outcome.kind, first.counts, second.counts) == (OutcomeKind.INTERRUPTED, False, True)
    assert site.ids(record) == ["a01", "a02"]

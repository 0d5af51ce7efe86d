"""The exit code is the batch job's result: each way in which a job can end, through the graph to the process's code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caravan.values.base import Json
from caravan.values.dialogue import Ask
from caravan.values.run import ENDED, EXIT_CODES, OutcomeKind, Phase, RunStatus, Snapshot
from tests.agent.test_deadlines import LOG, MISSING, At, Site
from tests.fakes.cluster import Script, one_node

GOOD = Script(stdout=LOG)
Act = Callable[[Site, Snapshot], None]


def nothing(site: Site, seen: Snapshot) -> None:
    """Nobody does anything."""


def change(site: Site, seen: Snapshot) -> None:
    site.cluster.change(seen.job_id, Priority=80)


def stop(site: Site, seen: Snapshot) -> None:
    site.cluster.stop(seen.job_id)


def purge(site: Site, seen: Snapshot) -> None:
    site.cluster.stop(seen.job_id, purge=True)


def stop_run(site: Site, seen: Snapshot) -> None:
    site.store.update_run(seen.job_id.split("-")[1], status=RunStatus.STOPPED, detail="stopped by the user")
    site.cluster.stop(seen.job_id)


K, S = OutcomeKind, RunStatus
TABLE: list[tuple[str, Script, Act, OutcomeKind, RunStatus, int]] = [
    ("ended well", GOOD, nothing, K.SUCCEEDED, S.SUCCEEDED, 0),
    ("ended well, the result does not pass", Script(stdout=b"loss=nan\n"), nothing, K.SUCCEEDED, S.ESCALATED, 3),
    ("an error nobody knows", Script(exit_code=7, stdout=LOG), nothing, K.FAILED, S.ESCALATED, 3),
    ("out of memory each time", Script(exit_code=137, oom=True), nothing, K.FAILED, S.FAILED, 1),
    ("complete, but killed for memory", Script(exit_code=0, oom=True), nothing, K.FAILED, S.FAILED, 1),
    ("exit code 0 without a result file", Script(sentinel=False, stdout=LOG), nothing, K.UNPROVEN, S.ESCALATED, 3),
    ("node lost each time", Script(interrupted="lost"), nothing, K.INTERRUPTED, S.FAILED, 1),
    ("preempted each time", Script(interrupted="evict"), nothing, K.INTERRUPTED, S.FAILED, 1),
    ("stopped by somebody", Script(hangs=True, stdout=LOG), stop, K.INTERRUPTED, S.ESCALATED, 3),
    ("stopped by the user", Script(hangs=True, stdout=LOG), stop_run, K.INTERRUPTED, S.STOPPED, 130),
    ("its time limit", Script(expires=True, stdout=LOG), nothing, K.EXPIRED, S.ESCALATED, 3),
    ("a secret that is not there", Script(stuck=(MISSING,)), nothing, K.STALLED, S.ESCALATED, 3),
    ("hangs each time", Script(hangs=True, stdout=LOG), nothing, K.STALLED, S.ESCALATED, 3),
    ("changed by somebody", Script(hangs=True, stdout=LOG), change, K.CHANGED, S.ESCALATED, 3),
    ("never placed", Script(queued=True), nothing, K.NOT_PLACED, S.ESCALATED, 3),
    ("purged by somebody", Script(hangs=True, stdout=LOG), purge, K.GONE, S.WAITING, 3),
]


def test_the_table_has_every_way_to_end() -> None:
    assert {row[3] for row in TABLE} == set(OutcomeKind)
    assert set(EXIT_CODES) == set(RunStatus)
    assert {status for status in RunStatus if EXIT_CODES[status] == 0} == {RunStatus.SUCCEEDED, RunStatus.PLANNED}


@pytest.mark.parametrize(("name", "script", "act", "kind", "status", "code"), TABLE, ids=[row[0] for row in TABLE])
def test_the_exit_code_is_the_jobs_result(
    tmp_path: Path, name: str, script: Script, act: Act, kind: OutcomeKind, status: RunStatus, code: int
) -> None:
    site = Site(tmp_path, lambda job: script)
    site.cluster._facts = one_node(memory_mb=1 << 20)
    record = site.begin(queue_s=100, start_s=100, first_sign_s=100, silence_s=100)
    result = site.drive(record, progress=At(Phase.RUNNING, lambda seen: act(site, seen)))
    now = site.store.run(record.id)
    assert (now.status, EXIT_CODES[now.status]) == (status, code)
    assert isinstance(result, Ask) is (status not in ENDED)
    attempts = site.state(record).attempts
    assert {a.outcome.kind for a in attempts} == ({kind} if kind is not K.GONE else set())
    assert len(set(site.ids(record))) == len(site.ids(record))
    assert_told(site, record, attempts)


def assert_told(site: Site, record: Any, attempts: Any) -> None:
    """Each failure says why, and no plan that failed by itself ran twice."""
    failed: list[Json] = [a.plan_sha256 for a in attempts if a.outcome.kind is K.FAILED]
    assert len(set(failed)) == len(failed)
    for attempt in attempts:
        assert attempt.outcome.reason or attempt.outcome.succeeded
    if attempts and site.store.run(record.id).status is not S.SUCCEEDED:
        assert site.store.run(record.id).detail

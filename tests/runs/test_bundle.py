"""A run that travels: packed and unpacked it is the same, damaged it is refused, put somewhere it is that run."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.runs.bundle import LARGEST, checkpoint_of, gather, pack, put, unpack
from caravan.runs.folder import DiskFolder
from caravan.runs.store import SqlStore
from caravan.values.errors import StateError, UsageError
from caravan.values.handover import Bundle, Carried
from caravan.values.reports import RunReport
from caravan.values.run import Deployment, DeploymentState, RunEvent, RunRecord, RunRequest, RunStatus, Watched
from tests.fakes.clock import FakeClock

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TIMES = st.datetimes(timezones=st.just(UTC))
RECORDS = st.builds(
    RunRecord,
    id=st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
    created_at=TIMES,
    updated_at=TIMES,
    status=st.sampled_from(RunStatus),
    request=st.builds(RunRequest, prompt=TEXT, source=TEXT, answers=st.dictionaries(TEXT, TEXT, max_size=3)),
    detail=TEXT,
    cost_usd=st.floats(0, 1e6),
)
BUNDLES = st.builds(
    Bundle,
    record=RECORDS,
    events=st.lists(st.builds(RunEvent, at=TIMES, kind=TEXT, text=TEXT), max_size=5).map(tuple),
    checkpoint=st.binary(max_size=200).map(lambda data: base64.b64encode(data).decode()),
    papers=st.dictionaries(TEXT, TEXT, max_size=3),
    folder=TEXT,
)


def record(**more: object) -> RunRecord:
    made = RunRecord(id="0a1b2c3d", created_at=AT, updated_at=AT, request=RunRequest(prompt="p", source="s"))
    return made.model_copy(update=more)


@given(BUNDLES)
def test_what_is_packed_comes_out_the_same(bundle: Bundle) -> None:
    text = pack(bundle)
    assert text.isascii()
    assert "{{" not in text
    assert pack(bundle) == text
    assert unpack(text.encode()) == bundle


@given(BUNDLES, st.data())
def test_what_is_damaged_is_refused(bundle: Bundle, data: st.DataObject) -> None:
    packed = bytearray(pack(bundle).encode())
    at = data.draw(st.integers(0, len(packed.strip()) - 1))
    damaged = bytes(packed[:at]) if data.draw(st.booleans()) else bytes(packed[:at]) + b"!" + bytes(packed[at + 1 :])
    with pytest.raises(StateError):
        unpack(damaged)


@given(st.binary(max_size=300))
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        unpack(data)


def test_one_that_is_too_large_is_said_with_its_size() -> None:
    import random

    noise = random.Random(1).randbytes(LARGEST)
    bundle = Bundle(record=record(), checkpoint=base64.b64encode(noise).decode())
    with pytest.raises(UsageError, match=r"KiB when packed.*512 KiB"):
        pack(bundle)


def test_a_run_of_one_place_is_that_run_in_another(tmp_path: Path) -> None:
    clock = FakeClock()
    here, there = (DiskFolder(tmp_path / place, "0a1b2c3d") for place in ("here", "there"))
    ours, theirs = (SqlStore(tmp_path / f"{place}.db", clock) for place in ("here", "there"))
    ours.create_run(record(status=RunStatus.RUNNING))
    here.save_job(1, 'job "x" {}', {"ID": "x"})
    here.save_report(RunReport(markdown=f"See {here.path}/attempt-1/job.nomad.hcl", page=f"<p>{here.path}</p>"))
    deployment = Deployment(
        run_id="0a1b2c3d",
        attempt=1,
        job_id="x",
        spec_sha256="1",
        plan_sha256="2",
        state=DeploymentState.REGISTERED,
        hcl_path=str(here.path / "attempt-1" / "job.nomad.hcl"),
        watched=Watched(at=clock.now() - timedelta(seconds=30), monotonic=1e9, spent_s=12.0),
    )
    ours.intend(deployment)
    ours.save_deployment(deployment)
    ours.add_event("0a1b2c3d", RunEvent(at=AT, kind="deployed", text="x"))
    bundle = unpack(pack(gather(ours, here, "0a1b2c3d", b"the checkpoint", Carried(own=str(here.path)))).encode())
    assert checkpoint_of(bundle) == b"the checkpoint"
    for _ in range(2):  # repeated it changes nothing
        put(bundle, theirs, there, clock)
    assert theirs.run("0a1b2c3d").request == ours.run("0a1b2c3d").request
    assert theirs.events("0a1b2c3d") == ours.events("0a1b2c3d")
    (found,) = theirs.deployments("0a1b2c3d")
    assert found.hcl_path == str(there.path / "attempt-1" / "job.nomad.hcl")
    assert found.watched is not None
    assert found.watched.spent_s == 12.0
    assert clock.monotonic() - found.watched.monotonic == pytest.approx(30.0), "another machine's clock says nothing"
    assert there.load_job(1) == ('job "x" {}', {"ID": "x"})
    assert (there.path / "REPORT.md").read_text() == f"See {there.path}/attempt-1/job.nomad.hcl"
    assert (there.path / "report.html").read_text() == f"<p>{there.path}</p>"
    ours.close()
    theirs.close()


def test_a_run_that_has_ended_there_keeps_its_end(tmp_path: Path) -> None:
    clock = FakeClock()
    store, folder = SqlStore(tmp_path / "caravan.db", clock), DiskFolder(tmp_path, "0a1b2c3d")
    store.create_run(record(status=RunStatus.STOPPED, detail="stopped by the user"))
    put(Bundle(record=record(status=RunStatus.SUCCEEDED), checkpoint=""), store, folder, clock)
    assert store.run("0a1b2c3d").status is RunStatus.STOPPED
    store.close()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "agent.json", "attempt-1/../../x", "plan.yaml\n", "carried.json"])
def test_papers_go_nowhere_else(name: str, tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path, "r")
    with pytest.raises(StateError, match="no file of a run"):
        folder.save_papers({"plan.yaml": "x", name: "y"})
    assert not folder.path.exists()


def test_what_is_carried_holds_or_nothing_does(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path, "r")
    assert folder.carried() is None
    folder.save_carried(Carried(own="/x"))
    assert folder.carried() == Carried(own="/x")
    (folder.path / "carried.json").write_text("{")
    with pytest.raises(StateError):
        folder.carried()

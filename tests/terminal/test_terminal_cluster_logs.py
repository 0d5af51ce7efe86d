"""`logs` of a run that no agent works on, while its job goes on: read from the cluster, masked, nothing locked."""

from pathlib import Path

import pytest

from caravan.runs.folder import DiskFolder
from caravan.terminal.app import run
from caravan.values.errors import ClusterUnreachable
from caravan.values.run import Deployment, DeploymentState, RunRecord, RunRequest
from tests.fakes.cluster import Script
from tests.fakes.wiring import FakeWiring, nobody, printed

LINES = b"".join(b"step %d\n" % n for n in range(100))
JOB_ID = "caravan-abc12345-a01"
JOB = {
    "ID": JOB_ID,
    "Type": "batch",
    "TaskGroups": [{"Name": "g", "Count": 1, "Tasks": [{"Name": "train", "Driver": "raw_exec"}]}],
}


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


@pytest.fixture
def left(wiring: FakeWiring) -> RunRecord:
    """A run whose agent left while its job ran: the log is copied up to the middle of a line."""
    request = RunRequest(prompt="p", source="/repo", cluster="http://x")
    now = wiring.clock.now()
    made = RunRecord(id="abc12345", created_at=now, updated_at=now, request=request)
    wiring.runs.create_run(made)
    sha = {"spec_sha256": "s", "plan_sha256": "p"}
    deployment = Deployment(run_id=made.id, attempt=1, job_id=JOB_ID, **sha)
    wiring.runs.intend(deployment)
    wiring.runs.save_deployment(deployment.model_copy(update={"state": DeploymentState.REGISTERED}))
    wiring.nomad._script = lambda job: Script(hangs=True, stdout=LINES * 2, stderr=b"password=hunter2hunter2\n" * 2)
    wiring.nomad.register(JOB)
    for _ in range(3):
        seen = wiring.nomad.snapshot(JOB_ID)
    for _ in range(2):  # the second one is another process's, and knows of finished lines alone
        folder = DiskFolder(wiring.home, made.id)
        wiring.folders[made.id] = folder  # type: ignore[assignment]
        if not folder.log_files():
            folder.append_log(seen.allocations[0].id, "train", "stdout", LINES[:352])
    return made


def test_what_came_since_is_read_from_the_cluster(wiring: FakeWiring, left: RunRecord) -> None:
    terminal = nobody()
    assert run(wiring, ["logs", "abc"], terminal) == 0
    out, err = printed(terminal)
    assert out.splitlines()[-1] == "step 99"
    assert out.splitlines() == LINES.decode().splitlines()
    assert "==> attempt 1, train stdout on fake-1" in err
    assert not wiring.folder(left.id).is_held()
    (copy,) = wiring.folder(left.id).log_files()
    assert copy.read_bytes() == LINES[:352]  # left as it was


def test_its_secrets_are_masked(wiring: FakeWiring, left: RunRecord) -> None:
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "--stderr"], terminal) == 0
    assert "password=" in printed(terminal)[0]
    assert "hunter2" not in printed(terminal)[0]


def test_the_last_lines_of_it(wiring: FakeWiring, left: RunRecord) -> None:
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "--tail", "2"], terminal) == 0
    assert printed(terminal)[0].splitlines() == ["step 98", "step 99"]


def test_it_is_followed_until_the_job_has_ended(wiring: FakeWiring, left: RunRecord) -> None:
    sleep = wiring.clock.sleep
    rounds = []

    def stop_after_three(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 3:
            wiring.nomad.stop(JOB_ID)
        sleep(seconds)

    wiring.clock.sleep = stop_after_three  # type: ignore[method-assign]
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "-f"], terminal) == 0
    out, err = printed(terminal)
    assert out.splitlines()[-1] == "step 99"
    assert out.count("step 99") == 2  # the job wrote all of it twice, the second time before it was stopped
    assert "No agent works on run abc12345 now: `main.py resume abc12345` goes on." in err


def test_a_cluster_that_does_not_answer_leaves_the_copies(wiring: FakeWiring, left: RunRecord) -> None:
    wiring.nomad.fail("snapshot", ClusterUnreachable("no route to host."))
    terminal = nobody()
    assert run(wiring, ["logs", "abc"], terminal) == 0
    out, err = printed(terminal)
    assert out.startswith("step 0\n")
    assert "step 99" not in out
    assert "The job's log can't be read on: no route to host." in err

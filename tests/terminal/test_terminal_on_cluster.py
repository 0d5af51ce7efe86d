"""`--on-cluster`: what must be there before anything is begun, and what is said while the run is elsewhere."""

import random
from pathlib import Path
from typing import Any

import pytest

from caravan.runs.bundle import unpack
from caravan.terminal.app import run
from caravan.terminal.oncluster import _keep_trace, _packed
from caravan.values.handover import Bundle, Stationed
from caravan.values.job import TokenFacts
from caravan.values.run import RunRecord, RunRequest, RunStatus
from tests.fakes.cluster import FakeCluster, Script, one_node
from tests.fakes.wiring import FakeWiring, nobody, printed

IMAGE = "registry.example/caravan:1"
AGENT = """
job "caravan-agent-0a1b2c3d" {
  type = "batch"
  group "agent" {
    task "agent" {
      driver = "raw_exec"
      config {
        command = "x"
      }
    }
  }
}
"""


def last(terminal: Any) -> str:
    return printed(terminal)[1].splitlines()[-1]


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    repository = tmp_path / "repo"
    repository.mkdir()
    (repository / "train.py").write_text("print(1)")
    return ["--prompt", "p", "--codebase-path", str(repository), "--yes"]


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    made = FakeWiring(tmp_path, [RunStatus.RUNNING])
    made.nomad = FakeCluster(made.clock, facts=one_node(builtin=False))
    return made


def test_it_excludes_detach(job: list[str], wiring: FakeWiring) -> None:
    terminal = nobody()
    assert run(wiring, [*job, "--on-cluster", "--detach"], terminal) == 2
    assert "exclude each other" in last(terminal)


def test_a_directory_is_refused_before_anything_is_begun(job: list[str], wiring: FakeWiring) -> None:
    terminal = nobody()
    wiring.place = wiring.place.model_copy(update={"image": IMAGE})
    assert run(wiring, [*job, "--on-cluster"], terminal) == 2
    assert "git URL" in last(terminal)
    assert wiring.runs.runs() == ()


def test_a_token_is_lent_only_when_that_was_said(tmp_path: Path, wiring: FakeWiring) -> None:
    from caravan.terminal.oncluster import check_place
    from caravan.values.errors import UsageError

    wiring.place = wiring.place.model_copy(update={"image": IMAGE})
    request = RunRequest(prompt="p", source="https://git.example/a/b.git", cluster="http://nomad:4646")
    assert check_place(wiring, request)[1:] == ("docker", ())  # no ACLs: its identity is enough
    wiring.nomad.token_facts = TokenFacts(name="x")
    with pytest.raises(UsageError, match="asks for a token") as caught:
        check_place(wiring, request)
    assert "--send-secrets" in caught.value.hint
    said = request.model_copy(update={"send_secrets": True})
    assert check_place(wiring, said)[2] == ("NOMAD_TOKEN",)


# ---- while it is there


@pytest.fixture
def away(wiring: FakeWiring) -> RunRecord:
    """A run whose agent is on the cluster."""
    now = wiring.clock.now()
    record = RunRecord(
        id="0a1b2c3d",
        created_at=now,
        updated_at=now,
        request=RunRequest(prompt="p", source="s", cluster="http://nomad:4646"),
    )
    wiring.runs.create_run(record)
    at = Stationed(job_id="caravan-agent-0a1b2c3d", lent="nomad/jobs/caravan-agent-0a1b2c3d")
    wiring.folder(record.id).save_agent({"station": at.model_dump(mode="json")})
    return record


def registered(wiring: FakeWiring, files: dict[str, bytes] | None = None) -> None:
    wiring.nomad = FakeCluster(wiring.clock, script=lambda job: Script(files=files or {}))
    wiring.nomad.register(wiring.nomad.parse(AGENT))
    wiring.nomad.write_variable("nomad/jobs/caravan-agent-0a1b2c3d", {"NOMAD_TOKEN": "lent"})


@pytest.mark.parametrize("command", [["resume"], ["resume", "--approve"], ["delete", "--yes"]])
def test_nobody_else_takes_it_while_its_agent_works(command: list[str], wiring: FakeWiring, away: RunRecord) -> None:
    registered(wiring)
    terminal = nobody()
    assert run(wiring, [command[0], away.id, *command[1:]], terminal) == 2
    assert "driven by an agent on the cluster (job caravan-agent-0a1b2c3d)" in last(terminal)


def test_it_is_listed_as_being_there(wiring: FakeWiring, away: RunRecord) -> None:
    terminal = nobody()
    assert run(wiring, ["runs"], terminal) == 0
    assert "on cluster" in printed(terminal)[0]
    terminal = nobody()
    assert run(wiring, ["show", away.id], terminal) == 0
    assert "job caravan-agent-0a1b2c3d" in printed(terminal)[0]


@pytest.mark.parametrize("left", [{}, {"alloc/data/caravan-run.b64": b"caravan-run-1 damaged"}])
def test_what_is_lost_or_damaged_goes_on_here(left: dict[str, bytes], wiring: FakeWiring, away: RunRecord) -> None:
    registered(wiring, left)
    list(wiring.nomad.watch("caravan-agent-0a1b2c3d"))  # it ends
    wiring.scripted.steps[:] = [RunStatus.SUCCEEDED]
    assert run(wiring, ["resume", away.id], nobody()) == 0
    assert wiring.runs.run(away.id).status is RunStatus.SUCCEEDED
    assert wiring.folder(away.id).agent() is None
    assert wiring.nomad.find("caravan-agent-0a1b2c3d") is None
    assert wiring.nomad.variables == {}


def test_a_job_that_never_came_to_be_is_no_reason_to_wait(wiring: FakeWiring, away: RunRecord) -> None:
    wiring.scripted.steps[:] = [RunStatus.SUCCEEDED]
    assert run(wiring, ["resume", away.id], nobody()) == 0


def test_a_trace_travels_both_ways_and_each_line_is_kept_once(tmp_path: Path) -> None:
    here, there = (FakeWiring(tmp_path / name) for name in ("here", "there"))
    at = here.clock.now()
    record = RunRecord(id="0a1b2c3d", created_at=at, updated_at=at, request=RunRequest(prompt="p", source="/x"))
    lines = [f'{{"line":"{number} \u2028"}}\n' for number in range(3)]
    mine, theirs = here.trace_path(record.id), there.trace_path(record.id)

    def travels(one: FakeWiring, other: FakeWiring) -> None:
        bundle = unpack(_packed(one, Bundle(record=record, checkpoint="")).encode())
        for _ in range(2):  # twice is once
            _keep_trace(other, bundle)

    travels(here, there)
    assert not theirs.exists(), "there was none"
    mine.parent.mkdir(parents=True)
    mine.write_text(lines[0])
    travels(here, there)
    assert theirs.read_text() == lines[0]
    with theirs.open("a") as file:
        file.write(lines[1] + lines[2] + '{"torn')
    mine.write_text(lines[0] + '{"tor')
    travels(there, here)
    assert mine.read_text() == lines[0] + '{"tor\n' + lines[1] + lines[2]


def test_a_trace_that_is_too_long_stays(tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path)
    at = wiring.clock.now()
    record = RunRecord(id="0a1b2c3d", created_at=at, updated_at=at, request=RunRequest(prompt="p", source="/x"))
    path = wiring.trace_path(record.id)
    path.parent.mkdir(parents=True)
    for text in ("x" * (2 << 20), random.Random(1).randbytes(500_000).hex()):
        path.write_text(text)
        assert unpack(_packed(wiring, Bundle(record=record, checkpoint="")).encode()).trace == ""

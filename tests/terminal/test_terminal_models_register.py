"""`models register`: by hand, once, with a reason where the gate gave none."""

import json
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.state import Attempt, RunState
from caravan.terminal.app import run
from caravan.values.evaluation import GateReport, GateVerdict
from caravan.values.outputs import SUMMARY_PATH
from caravan.values.plan import ModelChoice, OutputSink, TrainingPlan
from caravan.values.registry import ModelStage
from caravan.values.run import Outcome, OutcomeKind, RunStatus
from tests.fakes.cluster import FakeCluster, Script, one_node
from tests.fakes.wiring import FakeWiring, nobody, printed
from tests.terminal.models_case import FAILED, FILES, PASSED, a_run, add, document, listed, models, on_disk, tree

LOOK = PASSED.model_copy(update={"verdict": GateVerdict.LOOK})


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    made = FakeWiring(tmp_path / "home")
    made.nomad = FakeCluster(made.clock, facts=one_node(builtin=False))
    return made


def trained(
    wiring: FakeWiring, gate: GateReport | None, *, status: RunStatus = RunStatus.SUCCEEDED, summary: bool = True
) -> str:
    """A run that trained an adapter into its allocation; the allocation's id."""
    rows = [file.model_dump() for file in listed(FILES)]
    told = {"directory": "/x", "files": 3, "bytes": 9, "model": {"path": "adapter", "kind": "adapter", "files": rows}}
    files = {f"alloc/data/outputs/adapter/{name}": data for name, data in FILES.items()}
    if summary:
        files[SUMMARY_PATH] = json.dumps(told).encode()
    wiring.nomad._script = lambda job: Script(files=files)
    group = {"Name": "train", "Tasks": [{"Name": "train", "Driver": "docker"}]}
    wiring.nomad.register({"ID": "caravan-abc12345-a01", "Type": "batch", "TaskGroups": [group]})
    *_, last = wiring.nomad.watch("caravan-abc12345-a01")
    alloc_id = last.allocations[0].id
    record = a_run(wiring, status=status)
    plan = TrainingPlan(goal="g", command=("t.py",), outputs=OutputSink(), model=ModelChoice(id="org/base"))
    attempt = {"number": 1, "job_id": "caravan-abc12345-a01", "plan_sha256": "a" * 64, "hcl_path": "/x"}
    wiring.scripted.states[record.id] = RunState(
        run_id=record.id,
        request=record.request,
        plan=plan,
        gate=gate,
        metrics={"loss": 0.5},
        attempts=(Attempt.model_validate(attempt),),
        outcome=Outcome(kind=OutcomeKind.SUCCEEDED, alloc_id=alloc_id),
    )
    return alloc_id


def test_what_a_person_looked_at_is_registered_with_the_reason(wiring: FakeWiring, tmp_path: Path) -> None:
    alloc_id = trained(wiring, LOOK)
    code, _, err = models(wiring, "register", "abc1")
    assert (code, "a person should look" in err, "--why" in err) == (2, True, True)
    found = document(wiring, "register", "abc1", "--why", "read the samples")
    assert (found["ref"], found["stage"], found["by"], found["why"]) == (
        "base-s@1",
        "candidate",
        "ada",
        "read the samples",
    )
    assert found["files"]["address"] == f"allocation:{alloc_id}/alloc/data/outputs/adapter"
    assert models(wiring, "verify", "base-s")[0] == 0
    assert models(wiring, "pull", "abc12345", "--to", str(tmp_path / "to"))[0] == 0
    assert tree(tmp_path / "to") == FILES


def test_a_run_is_registered_once(wiring: FakeWiring) -> None:
    trained(wiring, PASSED)
    assert "is registered as mine@1 (candidate)" in models(wiring, "register", "abc12345", "--name", "mine")[1]
    code, out, err = models(wiring, "register", "abc12345", "--name", "other")
    assert (code, "was registered already as mine@1" in out, "keeps its name: mine" in err) == (0, True, True)
    assert len(wiring.registered.models()) == 1


@pytest.mark.parametrize(("gate", "status"), [(FAILED, RunStatus.SUCCEEDED), (LOOK, RunStatus.FAILED)])
def test_a_failed_one_needs_force_and_a_reason(wiring: FakeWiring, gate: GateReport, status: RunStatus) -> None:
    trained(wiring, gate, status=status)
    for words in ([], ["--why", "for comparing"], ["--force"]):
        assert models(wiring, "register", "abc12345", *words)[0] == 2
    assert models(wiring, "register", "abc12345", "--force", "--why", "for comparing")[0] == 0
    assert wiring.registered.models()[0].stage is ModelStage.CANDIDATE


def test_one_without_a_gate_takes_what_was_logged(wiring: FakeWiring) -> None:
    trained(wiring, None, summary=False)
    assert models(wiring, "register", "abc12345")[0] == 2
    code, _, err = models(wiring, "register", "abc12345", "--why", "an old run")
    assert (code, "no checksums are known" in err) == (0, True)
    (model,) = wiring.registered.models()
    assert (model.metrics, model.gate) == ({"loss": 0.5}, None)


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 97])
def test_a_name_that_can_t_be_one_is_refused(wiring: FakeWiring, name: str) -> None:
    trained(wiring, PASSED)
    code, _, err = models(wiring, "register", "abc12345", "--name", name)
    assert (code, "can't be a model's name" in err) == (2, True)


def test_a_run_that_goes_on_or_trained_nothing_has_no_model(wiring: FakeWiring) -> None:
    a_run(wiring, "running1", status=RunStatus.RUNNING)
    a_run(wiring, "nothing1", status=RunStatus.STOPPED)
    for run_id, said in (("running1", "has not ended"), ("nothing1", "trained nothing"), ("gone", "run begins with")):
        code, _, err = models(wiring, "register", run_id, "--why", "x")
        assert code == 2, err
        assert said.lower() in err.lower()


def test_the_outputs_of_a_training_with_its_own_folder_are_found(wiring: FakeWiring) -> None:
    alloc_id = trained(wiring, PASSED, summary=False)
    state: Any = wiring.scripted.states["abc12345"]
    training = state.plan.training.model_copy(update={"output_dir": "out"})
    code = {"kind": "git", "location": "https://git.example/x", "ref": "c0ffee"}
    plan = TrainingPlan.model_validate({**state.plan.model_dump(), "training": training.model_dump(), "code": code})
    wiring.scripted.states["abc12345"] = state.model_copy(update={"plan": plan})
    found = document(wiring, "register", "abc12345")
    assert found["files"]["address"] == f"allocation:{alloc_id}/train/local/code/out"


def test_deleting_a_run_minds_the_files_of_its_model(wiring: FakeWiring) -> None:
    record = a_run(wiring)
    add(wiring, str(on_disk(wiring.folder(record.id).outputs)))
    terminal = nobody()
    assert run(wiring, ["delete", record.id], terminal) == 2
    assert "models export chat@1" in printed(terminal)[1]
    wiring.registered.move("chat@1", ModelStage.PRODUCTION, by="ada", why="", at=wiring.clock.now())
    terminal = nobody()
    assert run(wiring, ["delete", record.id, "--yes"], terminal) == 2
    assert "models archive chat@1" in printed(terminal)[1]
    wiring.registered.move("chat@1", ModelStage.ARCHIVED, by="ada", why="", at=wiring.clock.now())
    terminal = nobody()
    assert run(wiring, ["delete", record.id, "--yes"], terminal) == 0
    assert "chat@1 stays registered, and its files are gone" in printed(terminal)[0]
    assert wiring.registered.model("chat@1").run_id == record.id


def test_deleting_a_run_whose_model_lies_elsewhere_leaves_it(wiring: FakeWiring, tmp_path: Path) -> None:
    record = a_run(wiring)
    add(wiring, str(on_disk(tmp_path / "elsewhere")), stage=ModelStage.PRODUCTION)
    assert run(wiring, ["delete", record.id], nobody()) == 0
    assert models(wiring, "verify", "chat")[0] == 0

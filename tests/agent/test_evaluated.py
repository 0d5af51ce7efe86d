"""What becomes of a training that ended: its gate, its registration, and what of it is stored for later comparison."""

import json
from pathlib import Path
from typing import Any

import pytest

from caravan.values.base import Json
from caravan.values.dialogue import Ask, Reply
from caravan.values.errors import StateError
from caravan.values.evaluation import EVALUATION_PATH, GateVerdict
from caravan.values.family import family_of
from caravan.values.plan import Author, PlanChange
from caravan.values.registry import ModelFile, ModelFiles, ModelVersion, RunResult, files_digest
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import World, ended
from tests.fakes.cluster import Script
from tests.fakes.model_registry import MemoryRegistry

LEARNT = b"".join(b"step %d loss %.3f eval_loss %.3f\n" % (n, 2 - n / 10, 2.1 - n / 10) for n in range(1, 11))
OVERFIT = b"".join(
    b"step %d loss %.3f eval_loss %.3f\n" % (n, 2 - n / 6, 2 - n / 10 if n < 5 else 1 + n / 8) for n in range(1, 11)
)
WEIGHTS = {"path": "adapter_model.safetensors", "bytes": 7, "sha256": "a" * 64}
DIGEST = files_digest([ModelFile.model_validate(WEIGHTS)])
SUMMARY = {
    "directory": "/x",
    "files": 2,
    "bytes": 9,
    "model": {
        "path": "final",
        "kind": "adapter",
        "files": [WEIGHTS],
        "sha256": DIGEST,
    },
}


class Registering(World):
    """A world with a registry."""

    def __init__(self, tmp: Path, **script: Any) -> None:
        files = {"alloc/data/caravan-outputs.json": json.dumps(SUMMARY).encode(), **script.pop("files", {})}
        super().__init__(tmp, lambda job: self.script_of(job, Script(files=files, **script)))
        self.models = MemoryRegistry(self.store)

    def script_of(self, job: Json, script: Script) -> Script:
        return script

    def run(self, **request: Any) -> tuple[RunRecord, Any, RunRecord]:
        record = self.start(**request)
        result = self.drive(record, models=self.models)
        while isinstance(result, Ask):  # the program has no option for what is set
            result = self.drive(record, Reply(approved=True), models=self.models)
        return record, self.state(record), result

    def model_of(self, record: RunRecord) -> ModelVersion:
        found = self.models.of_run(record.id)
        assert found is not None
        return found

    def result_of(self, record: RunRecord) -> RunResult:
        found = self.store.result(record.id)
        assert found is not None
        return found


PHASE: dict[str, Any] = {
    "sets": (
        PlanChange(path="evaluation.command", value=["judge"], by=Author.USER),
        PlanChange(path="evaluation.where", value="phase", by=Author.USER),
    )
}
"""The training's job ends with its evaluation: what lies there then is that one's answer."""


def evaluation(**tuned: float) -> dict[str, bytes]:
    told = {"by": "sft", "seed": 7, "held_out": {"base": {"loss": 2.0}, "tuned": tuned, "samples": 10}}
    return {EVALUATION_PATH: json.dumps(told).encode()}


def test_a_model_that_learnt_passes_and_is_registered(tmp_path: Path) -> None:
    world = Registering(tmp_path, stdout=LEARNT)
    record, state, result = world.run()
    assert result.status is RunStatus.SUCCEEDED
    assert result.detail == "the training ended and its model passed its evaluation"
    assert state.gate.verdict is GateVerdict.PASS
    assert state.attempts[-1].gate == state.gate
    model = world.models.model(state.registered)
    assert (model.run_id, model.version, model.name) == (record.id, 1, "repo")
    assert model.metrics["eval_loss"] == pytest.approx(1.1)
    assert [file.path for file in model.files.files] == ["adapter_model.safetensors"]
    assert model.kind == "adapter"
    assert model.files.address.endswith("/outputs/final")
    assert model.plan_sha256 == state.attempts[-1].plan_sha256
    assert "registered" in [event.kind for event in world.store.events(record.id)]


def test_a_model_that_only_lost_training_loss_needs_a_look_and_is_not_registered(tmp_path: Path) -> None:
    world = Registering(tmp_path, stdout=b"step 1 loss 2.0\nstep 2 loss 1.0\n")
    record, state, result = world.run()
    assert result.status is RunStatus.SUCCEEDED
    assert state.gate.verdict is GateVerdict.LOOK
    assert world.models.of_run(record.id) is None
    assert any("needs a look and was not registered" in text for text in state.warnings)


def test_what_the_evaluation_measured_goes_before_the_log(tmp_path: Path) -> None:
    world = Registering(tmp_path, stdout=LEARNT, files=evaluation(loss=1.25))
    _, state, _ = world.run(**PHASE)
    assert state.gate.judged_by == "evaluation"
    assert state.gate.metrics["loss"] == 1.25
    assert state.gate.base == {"loss": 2.0}


def test_a_model_worse_than_its_base_fails_with_the_gates_words(tmp_path: Path) -> None:
    world = Registering(tmp_path, stdout=LEARNT, files=evaluation(loss=2.5))
    record, state, result = world.run(**PHASE)
    assert result.status is not RunStatus.SUCCEEDED
    assert state.gate.verdict is GateVerdict.FAIL
    assert state.attempts[0].gate.verdict is GateVerdict.FAIL
    assert state.attempts[0].diagnosis is not None
    assert world.models.of_run(record.id) is None
    assert world.result_of(record).gate == state.gate


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"held_out": 3}', b"\xff" * 100])
def test_an_answer_that_is_none_counts_as_none(tmp_path: Path, answer: bytes) -> None:
    world = Registering(tmp_path, stdout=LEARNT, files={EVALUATION_PATH: answer})
    _, state, result = world.run(**PHASE)
    assert result.status is RunStatus.SUCCEEDED
    assert state.gate.judged_by == "log"


def test_no_secret_of_an_answer_is_kept(tmp_path: Path) -> None:
    told = {"held_out": {"tuned": {"loss": 1.0}}, "generations": [{"prompt": "p", "text": "hf_hidden"}]}
    world = Registering(tmp_path, stdout=LEARNT, files={EVALUATION_PATH: json.dumps(told).encode()})
    record = world.start(**PHASE)
    ended(world.drive(record, models=world.models, secrets=("hf_hidden",)))
    assert "hf_hidden" not in world.state(record).model_dump_json()


def test_a_registry_that_is_down_costs_a_warning(tmp_path: Path) -> None:
    class Down(MemoryRegistry):
        def register(self, model: ModelVersion) -> ModelVersion:
            raise StateError("The database is away.")

    world = Registering(tmp_path, stdout=LEARNT)
    world.models = Down()
    record, state, result = world.run()
    assert result.status is RunStatus.SUCCEEDED
    assert state.registered == ""
    assert any(f"models register {record.id}" in text for text in state.warnings)


def test_a_model_trained_from_a_registered_one_names_its_parent(tmp_path: Path) -> None:
    world = Registering(tmp_path, stdout=LEARNT)
    record, state, _ = world.run()
    first = world.models.model(state.registered)
    base = PlanChange(path="model.id", value=first.files.address, by=Author.USER)
    second, state, _ = world.run(sets=(base,))
    assert world.model_of(second).parent == first.ref
    assert first.run_id == record.id


def test_what_a_run_came_to_is_stored(tmp_path: Path) -> None:
    world = Registering(tmp_path, stdout=LEARNT)
    record, state, _ = world.run(sets=(PlanChange(path="training.seed", value=3, by=Author.USER),))
    result = world.result_of(record)
    assert result.status is RunStatus.SUCCEEDED
    assert result.gate == state.gate
    assert result.family == family_of(state.plan)
    assert result.plan_sha256 == state.attempts[-1].plan_sha256
    assert (result.seed, result.attempts, result.metrics) == (3, 1, state.gate.metrics)
    ran = state.attempts[-1].outcome
    assert ran is not None
    took = (ran.finished_at - ran.started_at).total_seconds() if ran.started_at and ran.finished_at else None
    assert result.forecast.measured_s == took  # nothing was estimated of its time
    assert result.code.sha256 == state.plan.code.sha256


def test_of_a_dry_run_no_result_is_kept(tmp_path: Path) -> None:
    world = Registering(tmp_path)
    record = world.start(dry_run=True)
    ended(world.drive(record))
    assert world.store.result(record.id) is None


def test_a_failed_run_has_a_result_without_a_gate(tmp_path: Path) -> None:
    world = Registering(tmp_path, exit_code=1, stderr=b"KeyError: 'x'\n")
    record, _, result = world.run()
    stored = world.result_of(record)
    assert stored.status is result.status
    assert stored.gate is None
    assert stored.forecast.measured_s is None  # when it failed is not how long it takes


def test_a_registered_models_files_are_those_of_the_value(tmp_path: Path) -> None:
    world = Registering(tmp_path, stdout=LEARNT)
    record, _, _ = world.run()
    files = world.model_of(record).files
    assert isinstance(files, ModelFiles)
    assert files.sha256 == DIGEST

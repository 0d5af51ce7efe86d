"""Bad data, models and places for outputs in whole runs: found before anything is registered, with file and line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.context import Context
from caravan.agent.data_checks import looked_at
from caravan.agent.data_places import model_at, model_in_cache, place_at
from caravan.agent.data_room import room_problems
from caravan.training.data.model_files import ModelFiles
from caravan.values.datasets import DatasetAnswer, SplitSize
from caravan.values.failure import FailureClass
from caravan.values.plan import OutputSink, Training, TrainingPlan
from caravan.values.run import RunStatus
from caravan.values.shape import ModelAnswer
from caravan.values.training import DataKind
from tests.agent.test_loop import ended
from tests.agent.test_training_types_in_runs import LINES, DataWorld, data_world, set_to

SECRET = "The planted words of a row"
PROMPT = "Fine-tune Qwen/Qwen2.5-0.5B with LoRA on data/train.jsonl"
PLAN = TrainingPlan(goal="g", command=("train.py",))


class Hub:
    """A hub that has nothing but what it is told."""

    def __init__(self, *models: str) -> None:
        self.models = models

    def model(self, name: str, revision: str | None = None) -> ModelAnswer:
        del revision
        there = name in self.models
        return ModelAnswer(model=name, absent=not there, text="" if there else "the hub has no such file")

    def dataset(self, name: str) -> DatasetAnswer:
        if name != "org/data":
            return DatasetAnswer(dataset=name, absent=True, text="the hub has no such file")
        return DatasetAnswer(dataset=name, splits=(SplitSize(config="default", split="train", rows=5),))


class HubWorld(DataWorld):
    """A world with that hub."""

    hub = Hub("Qwen/Qwen2.5-0.5B")

    def context(self, run_id: str) -> Context:
        return replace(super().context(run_id), hub=self.hub)


def row(*messages: dict[str, str]) -> str:
    return json.dumps({"messages": list(messages)}) + "\n"


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def refused(world: DataWorld, prompt: str = PROMPT, **more: Any) -> Any:
    """The state of a run that came to nothing: no job was registered, and a person is told in words."""
    record = world.start(prompt=prompt, **more)
    outcome = ended(world.drive(record))
    assert outcome.status is not RunStatus.SUCCEEDED
    assert world.cluster.registrations == []
    state = world.state(record)
    assert state.diagnosis is not None, state
    return state


BAD = {
    "data/train.jsonl:41": LINES + '{"messages": [{"role": "user", "content": "' + SECRET + "\n",
    "data/train.jsonl:42": LINES
    + "\n"
    + row({"role": "user", "content": SECRET}, {"role": "assisstant", "content": "b"}),
    "data/train.jsonl:1": json.dumps({"mesages": [SECRET], "other": SECRET}) + "\n",
    "data/train.jsonl": "",
}


@pytest.mark.parametrize("place", BAD)
def test_bad_rows_end_a_run_before_its_job_is_registered(tmp_path: Path, place: str) -> None:
    world = data_world(tmp_path, {"data/train.jsonl": BAD[place]})
    state = refused(world, sets=(set_to("training.type", "sft"),))
    assert state.diagnosis.failure is FailureClass.DATASET_FORMAT_ERROR
    file, _, line = place.partition(":")
    assert file in state.diagnosis.cause
    assert f"line {line}" in state.diagnosis.cause if line else "no row" in state.diagnosis.cause


def test_no_words_of_rows_are_kept_beside_the_code(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"data/train.jsonl": BAD["data/train.jsonl:41"] * 2})
    state = refused(world)
    assert SECRET not in state.model_dump_json()
    kept = [p for p in (tmp_path / "home").rglob("*") if p.is_file() and not p.name.endswith((".tar", ".tar.gz"))]
    assert kept
    assert [p for p in kept if SECRET.encode() in p.read_bytes()] == []


def test_a_model_that_the_hub_has_not(tmp_path: Path) -> None:
    state = refused(HubWorld(tmp_path), "Fine-tune Qwen/Qwen9-0.5B with LoRA on data/train.jsonl")
    assert state.diagnosis.failure is FailureClass.HUB_NOT_FOUND
    assert "Qwen/Qwen9-0.5B" in state.diagnosis.cause


@pytest.mark.parametrize(("tokenizer", "failure"), [(None, "hub_not_found"), ("{}", "training_config_invalid")])
def test_a_folder_that_is_no_model_or_has_no_chat_template(tmp_path: Path, tokenizer: str | None, failure: str) -> None:
    files = {"data/train.jsonl": LINES, "model/tokenizer_config.json": tokenizer or "{}"}
    if tokenizer:
        files["model/config.json"] = json.dumps({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"})
    state = refused(
        data_world(tmp_path, files), "Fine-tune it on data/train.jsonl", sets=(set_to("model.id", "model"),)
    )
    assert state.diagnosis.failure.value == failure
    assert state.diagnosis.escalate is (failure == "training_config_invalid")


def test_data_on_a_hub_are_said_to_be_looked_at_later(tmp_path: Path) -> None:
    world = HubWorld(tmp_path)
    sets = (set_to("training.type", "sft"), set_to("dataset.path", "org/data"))
    record = world.start(prompt="Fine-tune Qwen/Qwen2.5-0.5B", sets=sets, dry_run=True)
    assert ended(world.drive(record)).status is RunStatus.PLANNED
    report = world.state(record).data
    assert (report.rows, report.looked_at) == (5, 0)
    assert [p.kind for p in report.problems] == [DataKind.NOT_READ]


def test_sequences_that_are_all_cut_get_more_room(tmp_path: Path) -> None:
    long = "".join(
        row(said("user", f"{n} " + "word " * 600), said("assistant", "b")) for n in range(9) for n in range(9)
    )
    world = data_world(tmp_path, {"data/train.jsonl": long})
    record = world.start(prompt=PROMPT, sets=(set_to("training.max_len", 64),), dry_run=True)
    assert ended(world.drive(record)).status is RunStatus.PLANNED
    state = world.state(record)
    assert state.plan.training.max_len == 768
    assert state.data.lengths.cut == 0, "it was looked at again"
    assert any("training.max_len would be 768 instead of 64" in text for text in state.warnings)


def test_no_limit_is_raised_beyond_what_the_model_takes(tmp_path: Path) -> None:
    long = "".join(row(said("user", f"{n} " + "word " * 600), said("assistant", "b")) for n in range(20))
    model = {
        "model/config.json": json.dumps({"model_type": "qwen2", "max_position_embeddings": 128}),
        "model/tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"}),
    }
    sets = (set_to("model.id", "model"), set_to("training.max_len", 64))
    state = refused(data_world(tmp_path, {"data/train.jsonl": long, **model}), PROMPT, sets=sets)
    assert state.plan.training.max_len == 64
    assert "the model takes up to 128" in state.diagnosis.cause


def test_a_model_that_no_hub_could_be_asked_for_is_said_to_be_unchecked(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"data/train.jsonl": LINES})
    record = world.start(prompt=PROMPT, dry_run=True)
    assert ended(world.drive(record)).status is RunStatus.PLANNED
    assert [w for w in world.state(record).warnings if "not checked whether there is such a model" in w]


def test_another_place_for_outputs_is_looked_at_again() -> None:
    for name in ("training.output_dir", "training.save_total_limit"):
        other = PLAN.model_copy(
            update={"training": Training(**{name.partition(".")[2]: 1 if "limit" in name else "/x"})}
        )
        assert looked_at(other) != looked_at(PLAN)


# ---- places, models, room


def test_a_place_is_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "d" / ".git").mkdir(parents=True)
    (tmp_path / "d" / "a.jsonl").write_text("{}")
    (tmp_path / "d" / ".git" / "b.jsonl").write_text("{}")
    assert [(f.name, f.size) for f in place_at(tmp_path / "d", "d").files] == [("d/a.jsonl", 2)]
    with place_at(tmp_path / "d" / "a.jsonl").files[0].open() as opened:
        assert opened.read() == b"{}"
    assert "no such" in place_at(tmp_path / "gone").missing
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert place_at(tmp_path / "loop").missing


def test_a_model_in_the_cache_of_the_hubs_library(tmp_path: Path) -> None:
    base = tmp_path / "models--org--name"
    folder = base / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("abc")
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    found = model_in_cache(tmp_path, "org/name")
    assert found is not None
    assert (found.name, found.longest, found.chat_template) == ("org/name", 512, "{{ messages }}")
    assert model_in_cache(tmp_path, "org/other") is None
    assert model_in_cache(tmp_path, "../../etc") is None


@pytest.mark.parametrize("weights", [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", b'\x09\0\0\0\0\0\0\0{"a": 1}\n'])
def test_weights_that_can_not_be_read_are_not_counted(tmp_path: Path, weights: bytes) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert model_at(tmp_path).parameters is None


def test_room_and_right_to_write(tmp_path: Path) -> None:
    context = data_world(tmp_path).context("r")
    plan = PLAN.model_copy(
        update={"driver": "raw_exec", "outputs": OutputSink(kind="path", location=str(tmp_path / "o"))}
    )
    model = ModelFiles("m", parameters=10**15)
    full = plan.model_copy(update={"training": Training(method="full")})
    (problem,) = room_problems(full, model, context)
    assert problem.kind is DataKind.DISK_FULL
    assert "save_total_limit" in problem.text
    assert room_problems(plan, ModelFiles("m", parameters=1000), context) == ()
    (tmp_path / "file").write_text("x")
    blocked = plan.model_copy(update={"outputs": OutputSink(kind="path", location=str(tmp_path / "file" / "o"))})
    (problem,) = room_problems(blocked, ModelFiles(), context)
    assert problem.kind is DataKind.OUTPUT_UNWRITABLE

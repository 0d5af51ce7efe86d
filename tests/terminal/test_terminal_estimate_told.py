"""`estimate`: nothing that was typed is passed over in silence, and what is assumed is the model's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from caravan.terminal.app import run
from caravan.terminal.estimate_cpu import show_without_gpu
from caravan.values.estimate import Estimate, Range
from tests.fakes.wiring import FakeWiring, person, printed

SEVEN = ("--model", "Qwen/Qwen2.5-7B")


def told(tmp_path: Path, *argv: str) -> tuple[int, str, str]:
    terminal = person()
    code = run(FakeWiring(tmp_path / "home"), ["estimate", *argv], terminal)
    return code, *printed(terminal)


def document(tmp_path: Path, *argv: str) -> dict[str, Any]:
    code, out, err = told(tmp_path, *argv, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((*SEVEN, "--params", "70"), "has 7.62 B parameters"),
        ((*SEVEN, "--parallel", "fsdp"), "Give --gpus N"),
        ((*SEVEN, "--method", "full", "--lora-rank", "8"), "has no adapters"),
    ],
)
def test_what_contradicts_itself_is_one_line(tmp_path: Path, argv: tuple[str, ...], said: str) -> None:
    code, out, err = told(tmp_path, *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_rank_alone_means_adapters(tmp_path: Path) -> None:
    found = document(tmp_path, *SEVEN, "--lora-rank", "8")
    assert found["setting"]["method"] == "lora"
    assert any("--lora-rank" in note for note in found["assumptions"])


def test_there_is_one_habit_for_adapters(tmp_path: Path) -> None:
    changes = {c["change"]: c["gib"] for c in document(tmp_path, *SEVEN, "--method", "full")["changes"]}
    alone = document(tmp_path, *SEVEN, "--method", "lora")
    assert changes["LoRA (rank 16, all matrices)"] == pytest.approx(alone["peak_gib"], abs=1e-3)
    four = {c["change"]: c for c in alone["changes"]}
    assert "32 bit" in four["QLoRA"]["costs"]
    assert four["QLoRA with checkpointing"]["saves_gib"] > 0


def test_the_size_of_a_name_gives_way_to_parameters_that_are_given(tmp_path: Path) -> None:
    found = document(tmp_path, "--model", "acme/own-7b", "--params", "13")
    assert found["shape"]["params_b"] == 13
    assert found["shape"]["hidden"] == document(tmp_path, "--params", "13")["shape"]["hidden"]
    assert document(tmp_path, *SEVEN, "--params", "7.6")["shape"]["hidden"] == 3584


def test_lengths_and_sides_are_the_models_own(tmp_path: Path) -> None:
    assert document(tmp_path, "--model", "bert-base-uncased")["setting"]["seq_len"] == 512
    native, small = (document(tmp_path, "--model", "sdxl", *s) for s in ((), ("--set", "image_size=512")))
    assert (native["setting"]["image_size"], native["peak_gib"] > small["peak_gib"]) == (1024, True)
    code, out, _ = told(tmp_path, "--model", "sdxl", "--gpu", "A100-80GB")
    assert code == 0
    assert "image side taken as 1024 pixels" in out
    assert "tokens" not in out


def test_the_cheapest_run_is_first_and_same_types_are_one_line(tmp_path: Path) -> None:
    words = (*SEVEN, "--method", "lora", "--rows", "5000")
    costs = [g["cost_usd"] for g in document(tmp_path, *words)["gpus"]]
    known = [c["likely"] for c in costs if c]
    assert known == sorted(known)
    assert costs[len(known) :] == [None] * (len(costs) - len(known))
    assert told(tmp_path, *words)[1].count("RTX PRO 6000") <= 1


def test_hints_name_this_commands_options(tmp_path: Path) -> None:
    code, out, _ = told(tmp_path, *SEVEN, "--gpu", "A100-80GB")
    assert code == 0
    assert "give --rows or --max-steps" in out
    assert not [word for word in ("dataset.", "training.", "limits.") if word in out]


def test_rows_name_unknown_fields_and_take_no_half_gpus(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    row = {"id": "a", "model": "gpt2", "surprise": 1, "note": "x", "source": "y", "quality": "A"}
    file.write_text("\n".join(json.dumps(r) for r in (row, row, {"model": "gpt2", "gpus": 2.5}, {**row, "gpus": 2.0})))
    code, out, err = told(tmp_path, "--jsonl", str(file))
    assert (code, len(out.splitlines())) == (2, 3)
    assert (err.count("surprise"), err.count("whole number")) == (1, 1)
    file.write_text(json.dumps(row))
    assert told(tmp_path, "--jsonl", str(file))[0] == 0


def test_a_training_without_gpus_has_time_and_cost_alone() -> None:
    found = Estimate(seconds=Range(low=1, likely=60, high=90), cost_usd=Range(low=0, likely=1, high=2))
    terminal = person()
    assert show_without_gpu(terminal, "own", found, as_json=False) == 0
    assert "needs no GPU" in printed(terminal)[0]
    terminal = person()
    assert show_without_gpu(terminal, "own", found, as_json=True) == 0
    assert json.loads(printed(terminal)[0])["cost_usd"]["likely"] == 1

"""`estimate`: a description, a plan file, many rows; what can't be meant is told in a line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.planning.bare import FIELDS
from caravan.planning.margin import holds
from caravan.terminal.app import run
from tests.fakes.wiring import FakeWiring, person, printed

WORDS = ("--model", "Qwen/Qwen2.5-7B", "--method", "lora", "--seq-len", "2048", "--micro-batch", "2")
PLAN = (
    "goal: train it\ncommand: [train.py]\nmodel:\n  id: Qwen/Qwen2.5-0.5B\n"
    "training:\n  micro_batch: 4\n  max_len: 512\n  method: full\nresources:\n  gpus: 1\n  gpu_model: L4\n"
)


def told(tmp_path: Path, *argv: str) -> tuple[int, str, str]:
    terminal = person()
    code = run(FakeWiring(tmp_path / "home"), ["estimate", *argv], terminal)
    return code, *printed(terminal)


def document(tmp_path: Path, *argv: str) -> dict[str, Any]:
    code, out, err = told(tmp_path, *argv, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_breakdown_adds_up_and_the_gpus_hold_the_high_end(tmp_path: Path) -> None:
    found = document(tmp_path, *WORDS)
    assert found["peak_gib"] == pytest.approx(sum(found["breakdown"].values()), abs=1e-3)
    assert found["high_gib"] > found["peak_gib"]
    assert found["gpus"]
    assert all(holds(g["memory_gib"], found["high_gib"]) for g in found["gpus"])
    prices = [g["usd_per_hour"] for g in found["gpus"]]
    known = [p for p in prices if p is not None]
    assert prices == sorted(known) + [None] * (len(prices) - len(known))
    assert {c["change"] for c in found["changes"]} >= {"checkpointing", "QLoRA", "ZeRO-3 over 2 GPUs"}
    assert all(c["gib"] + c["saves_gib"] == pytest.approx(found["peak_gib"], abs=1e-3) for c in found["changes"])
    assert any("give --rows" in note for note in found["assumptions"])


def test_a_person_sees_a_table_with_what_each_line_is(tmp_path: Path) -> None:
    code, out, _ = told(tmp_path, *WORDS, "--gpu", "A100-80GB", "--rows", "1000", "--epochs", "1")
    assert code == 0
    shown = ("the model's weights", "in all", "high end", "largest micro batch", "whole training", "GiB more or less")
    for text in shown:
        assert text in out
    assert "A100-80GB is taken as NVIDIA A100" in out


def test_what_is_largest_fits_and_one_more_does_not(tmp_path: Path) -> None:
    room = document(tmp_path, *WORDS, "--gpu", "A100-SXM4-80GB")["gpu"]
    most = room["largest_micro_batch"]
    assert most >= 1
    for batch, fits in ((most, True), (most + 1, False)):
        words = [*WORDS[:-1], str(batch)]
        assert document(tmp_path, *words, "--gpu", "A100-SXM4-80GB")["gpu"]["fits"] is fits


def test_time_and_cost_where_the_data_is_given(tmp_path: Path) -> None:
    found = document(tmp_path, *WORDS, "--gpu", "H100 80GB HBM3", "--rows", "5000", "--epochs", "2", "--price", "3")
    assert found["steps"] == 5000
    assert found["seconds"]["low"] < found["seconds"]["likely"] < found["seconds"]["high"]
    assert found["cost_usd"]["likely"] == pytest.approx(found["seconds"]["likely"] / 3600 * 3)


def test_a_plan_file_alone(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    found = document(tmp_path, "--plan", str(plan))
    assert found["gpu"]["name"] == "NVIDIA L4"
    assert found["setting"]["micro_batch"] == 4
    smaller = document(tmp_path, "--plan", str(plan), "--set", "training.micro_batch=1")
    assert smaller["peak_gib"] < found["peak_gib"]


def test_a_gpu_that_nobody_knows_is_taken_with_its_memory(tmp_path: Path) -> None:
    found = document(tmp_path, *WORDS, "--gpu", "Foo 9000", "--gpu-memory", "200", "--price", "1")
    assert (found["gpu"]["name"], found["gpu"]["fits"], found["gpu"]["usd_per_hour"]) == ("Foo 9000", True, 1)
    assert document(tmp_path, *WORDS, "--gpu", "Foo 9000", "--gpu-memory", "20")["gpu"]["fits"] is False


def test_a_sequence_longer_than_the_models_is_said(tmp_path: Path) -> None:
    found = document(tmp_path, "--model", "gpt2", "--seq-len", "4096")
    assert any("longer than the 1024" in note for note in found["assumptions"])


def test_a_model_by_its_numbers_alone(tmp_path: Path) -> None:
    rough = document(tmp_path, "--params", "7")
    assert any("parameters alone" in note for note in rough["assumptions"])
    shape = (
        "--set hidden=4096 --set layers=32 --set heads=32 --set kv_heads=8 --set intermediate=14336 --set vocab=32000"
    )
    known = document(tmp_path, "--params", "7.24", *shape.split())
    assert known["shape"]["exact"] is True
    assert known["high_gib"] / known["peak_gib"] < rough["high_gib"] / rough["peak_gib"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "No model is given"),
        (("--model", "acme/own"), "--params"),
        ((*WORDS, "--gpu", "Foo 9000"), "--gpu-memory"),
        ((*WORDS, "--gpus", "0"), "gpus = 0"),
        ((*WORDS, "--grad-accum", "-1"), "grad_accum = -1"),
        (("--params", "nan"), "params_b = nan"),
        (("--params", "1e9"), "params_b = 1e+09"),
        ((*WORDS, "--precision", "fp3"), "compute_dtype"),
        ((*WORDS, "--optimizer", "magic"), "optimizer magic"),
        (("--model", "gpt2", "--method", "full", "--quant-bits", "4"), "can't be trained"),
        ((*WORDS, "--set", "hiden=3"), "Did you mean hidden?"),
        ((*WORDS, "--set", "hidden"), "field=value"),
        ((*WORDS, "--rows", "-5"), "--rows -5"),
        ((*WORDS, "--price", "-1"), "--price -1"),
        ((*WORDS, "--prompt", "x"), "estimate PATH --prompt"),
        (("--jsonl", "/nowhere/x.jsonl"), "can't be read"),
        ((*WORDS, "--jsonl", "x.jsonl"), "Leave --model, --method"),
        (("--plan", "/nowhere/plan.yaml"), "can't be read"),
    ],
)
def test_what_can_not_be_meant_is_one_line(tmp_path: Path, argv: tuple[str, ...], said: str) -> None:
    code, out, err = told(tmp_path, *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_rows_come_in_their_order_and_a_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    good = {"id": "a", "model": "Qwen/Qwen2.5-0.5B", "method": "qlora", "micro_batch": 2, "seq_len": 512}
    lines = [json.dumps(good), "no json", json.dumps({"id": "b", "model": "acme/own"}), "[1]", ""]
    lines += [json.dumps({"id": "c", "model": "gpt2", "micro_batch": -1}), json.dumps({**good, "id": "d"})]
    file.write_text("\n".join(lines))
    code, out, err = told(tmp_path, "--jsonl", str(file))
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 2
    assert [r["id"] for r in rows] == ["a", "d"]
    assert all(set(r) == {"id", "peak_gib", "breakdown"} for r in rows)
    assert all(r["peak_gib"] == pytest.approx(sum(r["breakdown"].values()), abs=1e-3) for r in rows)
    assert [n for n in range(1, 8) if f"line {n}:" in err] == [2, 3, 4, 6]
    file.write_text(json.dumps(good))
    assert told(tmp_path, "--jsonl", str(file))[0] == 0


_VALUE = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), _VALUE | st.lists(_VALUE, max_size=2), max_size=6))
def test_any_row_gives_a_line_or_a_reason(tmp_path: Path, row: dict[str, Any]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"id": "x", **row}))
    code, out, err = told(tmp_path, "--jsonl", str(file))
    assert (code, bool(out), bool(err)) in ((0, True, False), (2, False, True))
    if out:
        assert json.loads(out)["peak_gib"] > 0

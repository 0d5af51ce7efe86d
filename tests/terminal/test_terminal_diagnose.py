"""`diagnose`: the cause from a log alone; wrong inputs; what is read of long logs."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from caravan.terminal.app import run
from tests.fakes.wiring import FakeWiring, person, printed

OOM = (
    "Traceback (most recent call last):\n"
    '  File "/local/code/train.py", line 41, in <module>\n'
    "    loss.backward()\n"
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB "
    "of which 312.00 MiB is free.\n"
)
PLAN = (
    "goal: train it\ncommand: [train.py]\ntraining:\n  micro_batch: 8\nflags:\n  training.micro_batch: --batch-size\n"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text(OOM)
    return path


def told(tmp_path: Path, *argv: str) -> tuple[int, str, str]:
    terminal = person()
    code = run(FakeWiring(tmp_path / "home"), ["diagnose", *argv], terminal)
    return code, *printed(terminal)


def document(tmp_path: Path, *argv: str) -> dict[str, Any]:
    code, out, _ = told(tmp_path, *argv, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_cause_evidence_and_what_would_be_done(log: Path, tmp_path: Path) -> None:
    code, out, _ = told(tmp_path, str(log))
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("cuda oom")
    assert "2 GiB more were wanted" in lines[0]
    evidence = [line for line in lines if line.startswith("  │ ")]
    assert 1 <= len(evidence) <= 3
    assert "CUDA out of memory" in evidence[0]
    assert any(line.startswith("Caravan would: ") for line in lines)
    assert any(line.startswith("You can: ") for line in lines)


def test_the_plan_makes_the_repair_exact(log: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    fix = document(tmp_path, str(log), "--plan", str(plan))["fix"]
    assert any("training.micro_batch: 8 → 4" in text for text in fix)


def test_the_document_holds_the_contract(log: Path, tmp_path: Path) -> None:
    found = document(tmp_path, str(log))
    assert found["class"] == "cuda_oom"
    assert 0 < found["confidence"] <= 1
    assert found["escalate"] is False
    assert found["evidence"]
    assert found["fix"]


def test_what_no_change_mends_is_handed_over(tmp_path: Path) -> None:
    log = tmp_path / "t.log"
    log.write_text("it went away\n")
    code, out, _ = told(tmp_path, str(log))
    assert code == 0
    assert out.startswith("unknown")
    assert "Hand it to you" in out


def test_a_line_for_each_of_many_logs(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    rows = [{"id": "a", "text": OOM, "origin": "task_stderr"}, {"id": "b", "text": "", "origin": "docker"}]
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    code, out, _ = told(tmp_path, "--jsonl", str(file))
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(row["id"], row["class"]) for row in found] == [("a", "cuda_oom"), ("b", "unknown")]
    assert set(found[0]) >= {"id", "class", "confidence", "evidence", "fix", "escalate"}


def test_standard_input_and_a_directory_of_logs(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(OOM.encode())))
    assert document(tmp_path, "-")["class"] == "cuda_oom"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "rank0.log").write_text("waiting for the others\n")
    log.rename(tmp_path / "logs" / "rank1.log")
    assert document(tmp_path, str(tmp_path / "logs"))["class"] == "cuda_oom"


def test_a_directory_of_many_logs_is_read_within_one_bound(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caravan.terminal.diagnose._LARGEST", 12_000)
    (tmp_path / "logs").mkdir()
    for rank in range(3):
        (tmp_path / "logs" / f"rank{rank}.log").write_text("step done\n" * 5000 + (OOM if rank == 2 else ""))
    assert document(tmp_path, str(tmp_path / "logs"))["class"] == "cuda_oom"


def test_of_a_very_long_log_the_beginning_and_the_end_are_read(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caravan.terminal.diagnose._LARGEST", 4000)
    monkeypatch.setattr("caravan.terminal.diagnose._HEAD", 4)
    log.write_text("step done\n" * 5000 + OOM)
    assert document(tmp_path, str(log))["class"] == "cuda_oom"


def test_secrets_of_a_log_are_not_shown(tmp_path: Path) -> None:
    token = "hf_" + "a1B2" * 9
    log = tmp_path / "t.log"
    log.write_text(OOM.replace("Tried", f"token {token} Tried"))
    assert token not in told(tmp_path, str(log))[1]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "Name a log"),
        (["none.log"], "can't be read"),
        (["--kind", "journal", "x"], "--kind journal is none"),
        (["--jsonl", "none.jsonl"], "can't be read"),
        (["x", "--codebase-path", "."], "--codebase-path says nothing without --plan"),
        (["x", "--jsonl", "y"], "--jsonl holds the logs itself"),
    ],
)
def test_wrong_use_says_what_to_do(argv: list[str], words: str, tmp_path: Path) -> None:
    code, out, err = told(tmp_path, *argv)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("line", ["no json", "[" * 100_000, "[]", '{"id": 1}', '{"id": 1, "text": 4}'])
def test_a_line_that_is_no_log_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    file.write_text(f"\n{line}\n")
    code, _, err = told(tmp_path, "--jsonl", str(file))
    assert code == 2
    assert "line 2" in err


def test_an_empty_log_is_said_to_be_empty(tmp_path: Path) -> None:
    log = tmp_path / "t.log"
    log.write_text("\n")
    code, _, err = told(tmp_path, str(log))
    assert code == 2
    assert "is empty" in err


USAGE = "usage: train.py [-h] [--num-epochs N] [--lr LR]\ntrain.py: error: unrecognized arguments: "


@pytest.mark.parametrize(("option", "meant"), [("--num_epochs 3", "--num-epochs"), ("--learning-rate 0.1", "--lr")])
def test_an_option_that_the_usage_spells_otherwise_is_named_anew(option: str, meant: str, tmp_path: Path) -> None:
    log, plan = tmp_path / "t.log", tmp_path / "plan.yaml"
    log.write_text(f"{USAGE}{option}\n")
    name = option.split()[0]
    assert f"{name} → {meant}" in document(tmp_path, str(log))["fix"][0]
    plan.write_text(f"goal: train it\ncommand: [train.py]\ntraining:\n  options: {{'{name}': '1'}}\n")
    assert f"{name} → {meant}" in document(tmp_path, str(log), "--plan", str(plan))["fix"][0]


def test_waiting_and_what_no_change_mends_are_told_with_a_plan_too(tmp_path: Path) -> None:
    log, plan = tmp_path / "t.log", tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    log.write_text(
        'Evaluation "x" finished but failed to place all allocations:\n'
        '    Task Group "train" (failed to place 1 allocation):\n      * Dimension "memory" exhausted on 3 nodes\n'
    )
    assert "Wait" in document(tmp_path, str(log), "--plan", str(plan))["fix"][0]
    log.write_text("it went away\n")
    out = told(tmp_path, str(log), "--plan", str(plan))[1]
    assert "no change of the job mends it" in out
    assert "nothing of this plan" not in out


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_a_log_in_another_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    log = tmp_path / "t.log"
    log.write_bytes(OOM.encode(encoding))
    assert document(tmp_path, str(log))["class"] == "cuda_oom"


def test_zeros_of_a_lost_node_are_read_past(tmp_path: Path) -> None:
    log = tmp_path / "t.log"
    log.write_bytes(b"\0" * 40_000 + OOM.encode())
    assert document(tmp_path, str(log))["class"] == "cuda_oom"


@pytest.mark.parametrize(
    "data", [bytes(range(256)) * 40, b"\x1f\x8b\x08\x00" + OOM.encode(), b"\x7fELF" + b"\1\2D" * 99]
)
def test_what_is_no_text_is_refused(data: bytes, tmp_path: Path) -> None:
    log = tmp_path / "t.log"
    log.write_bytes(data)
    code, out, err = told(tmp_path, str(log))
    assert (code, out) == (2, "")
    assert "is no text" in err

"""`data`: the report for a person and for a program, its exit codes, and that rows are shown only where asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from caravan.terminal.app import run
from tests.fakes.wiring import FakeWiring, person, printed

SECRET = "The planted words of a row"


def told(tmp_path: Path, *argv: str) -> tuple[int, str, str]:
    terminal = person()
    code = run(FakeWiring(tmp_path / "home"), ["data", *argv], terminal)
    return code, *printed(terminal)


def document(tmp_path: Path, *argv: str) -> tuple[int, Any]:
    code, out, _ = told(tmp_path, *argv, "--json")
    return code, json.loads(out)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.jsonl"
    path.write_text("".join(json.dumps({"text": f"{SECRET} {n}", "label": n % 2}) + "\n" for n in range(30)))
    return path


def test_good_data(good: Path, tmp_path: Path) -> None:
    code, out, _ = told(tmp_path, str(good), "--type", "text-classification")
    assert code == 0
    assert "classification" in out
    assert "30 (all looked at)" in out
    assert "estimated from characters" in out
    assert "Nothing is wrong" in out
    assert SECRET not in out


def test_rows_are_shown_where_they_are_asked_for(good: Path, tmp_path: Path) -> None:
    _, out, _ = told(tmp_path, str(good), "--show-samples", "2")
    assert out.count(SECRET) == 2


def test_what_is_wrong_is_a_line_with_its_place_and_the_exit_code_two(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a",\n')
    code, out, _ = told(tmp_path, str(path), "--type", "sft")
    assert code == 2
    (line,) = [line for line in out.splitlines() if line.startswith("error: ")]
    assert f"{path}:2: " in line
    assert line.endswith("[malformed]")
    code, found = document(tmp_path, str(path))
    assert code == 2
    assert [(p["kind"], p["line"], p["fatal"]) for p in found["problems"]] == [("malformed", 2, True)]


def test_test_data_columns_and_a_limit(good: Path, tmp_path: Path) -> None:
    other = tmp_path / "test.jsonl"
    other.write_text(good.read_text().splitlines()[0] + "\n")
    code, found = document(tmp_path, str(good), "--eval", str(other), "--max-len", "4", "--columns", "text=text")
    kinds = [p["kind"] for p in found["problems"]]
    assert "leak" in kinds
    assert "all_too_long" in kinds
    assert code == 2


def test_a_model_folder_without_a_model(good: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    code, found = document(tmp_path, str(good), "--model", str(tmp_path / "m"))
    assert code == 2
    assert found["problems"][0]["kind"] == "model_missing"
    assert document(tmp_path, str(good), "--model", "org/unknown")[0] == 0


@pytest.mark.parametrize("argv", [["gone.jsonl"], ["GOOD", "--type", "nothing"], ["GOOD", "--columns", "text"]])
def test_wrong_use_is_one_line(argv: list[str], good: Path, tmp_path: Path) -> None:
    code, out, err = told(tmp_path, *[str(good) if a == "GOOD" else a for a in argv])
    assert (code, out) == (2, "")
    assert len([line for line in err.splitlines() if line.startswith("Error: ")]) == 1

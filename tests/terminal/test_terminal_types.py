"""`types`: the training types as a person and as a program see them, and their scripts in a folder."""

import io
import json
from pathlib import Path

import pytest

from caravan.terminal.app import run
from caravan.terminal.streams import Terminal
from tests.fakes.wiring import FakeWiring


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path / "home")


def said(wiring: FakeWiring, *words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run(wiring, list(words), Terminal(io.StringIO(), out, err))
    return code, out.getvalue(), err.getvalue()


def test_all_are_listed_and_one_is_told_with_its_knobs(wiring: FakeWiring) -> None:
    code, out, _ = said(wiring, "types")
    assert code == 0
    assert "text-classification" in out
    assert "qlora" in out
    code, out, _ = said(wiring, "types", "qlora")
    assert out.startswith("sft: ")
    assert "training.lora_rank" in out
    assert "training.options.--weight-decay" in out


def test_programs_get_one_document(wiring: FakeWiring) -> None:
    _, out, _ = said(wiring, "types", "--json")
    assert {"sft", "embeddings"} <= {entry["name"] for entry in json.loads(out)}
    _, out, _ = said(wiring, "types", "sft", "--json")
    document = json.loads(out)
    assert document["target"] == "eval_loss"
    assert document["own"] is False


def test_an_unknown_one_and_a_folder_that_is_taken_are_refused(wiring: FakeWiring, tmp_path: Path) -> None:
    code, _, err = said(wiring, "types", "rlhf")
    assert code == 2
    assert "There are: " in err
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    code, _, err = said(wiring, "types", "sft", "--render", str(tmp_path / "taken"))
    assert (code, (tmp_path / "taken" / "file").read_text()) == (2, "mine")
    assert said(wiring, "types", "--render", str(tmp_path / "new"))[0] == 2


def test_scripts_are_written_as_a_job_gets_them(wiring: FakeWiring, tmp_path: Path) -> None:
    code, out, _ = said(wiring, "types", "sft", "--render", str(tmp_path / "scripts"))
    assert code == 0
    assert "files of sft" in out
    assert {"train.py", "evaluate.py", "requirements.txt", "README.md"} <= {
        p.name for p in (tmp_path / "scripts").iterdir()
    }

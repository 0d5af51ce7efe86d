"""The product as its users start it: real processes, the real built-in cluster, a real training."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.product import Product

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "numpy-lora"
SHORT = ("--set", "training.epochs=1", "--set", 'training.options={"--pretrain-steps": 20}')
SLOW_SCRIPT = """
import argparse
import time

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--until", default="")
parser.parse_args()
print("loss 1.0", flush=True)
while not __import__("os").path.exists(parser.parse_args().until):
    time.sleep(0.05)
print("loss 0.5", flush=True)
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    product = Product(tmp_path_factory.mktemp("home"), HF_TOKEN="hf_plantedplantedplanted")
    yield product
    product.run("cluster", "down")


def job(repository: Path, *more: str) -> list[str]:
    return [
        "--prompt",
        "Fine-tune it with LoRA" if repository == EXAMPLE else "Train it",
        "--codebase-path",
        str(repository),
        "--cluster",
        "local",
        *more,
    ]


def seen(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read the process's messages up to the line that holds `text`."""
    assert process.stderr
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} never came:\n{''.join(lines)}")


def hashes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_repository_and_a_sentence_become_a_finished_training(product: Product) -> None:
    before = hashes(EXAMPLE)
    document = product.document(*job(EXAMPLE, *SHORT, "--yes"))
    assert document["status"] == "succeeded"
    (attempt,) = document["attempts"]
    assert attempt["outcome"]["kind"] == "succeeded"
    assert Path(attempt["hcl_path"]).read_text().count('job "caravan-') == 1
    run = product.home / "runs" / document["run_id"]
    assert (run / "outputs" / "adapter.npz").stat().st_size > 0
    assert "succeeded" in Path(document["report_path"]).read_text()
    assert Path(document["trace_url"]).exists()
    assert any("loss" in f.read_text() for f in (run / "logs").iterdir())
    assert hashes(EXAMPLE) == before  # nothing is ever written there
    leaked = [p for p in product.home.rglob("*") if p.is_file() and b"hf_plantedplanted" in p.read_bytes()]
    assert leaked == []
    assert run.stat().st_mode & 0o077 == 0


def test_the_job_reads_back_and_the_run_can_be_looked_at(product: Product) -> None:
    document = product.document(*job(EXAMPLE, "--dry-run", "--yes"))
    assert document["status"] == "planned"
    assert document["attempts"] == []
    run_id = document["run_id"]
    assert any(r["id"] == run_id or r["run_id"] == run_id for r in _rows(product.document("runs")))
    assert product.run("show", run_id).returncode == 0
    assert product.run("report", run_id).returncode == 0
    assert product.run("delete", run_id, "--yes").returncode == 0
    assert product.run("show", run_id).returncode == 2


def _rows(document: Any) -> list[dict[str, Any]]:
    rows = document["runs"] if isinstance(document, dict) else document
    return [{"id": None, "run_id": None, **row} for row in rows]


@pytest.fixture
def slow(tmp_path: Path) -> tuple[Path, Path]:
    """A repository whose training ends when a file appears, and that file."""
    repository, gate = tmp_path / "slow repo's", tmp_path / "gate"
    repository.mkdir()
    (repository / "train.py").write_text(SLOW_SCRIPT)
    (repository / "README.md").write_text("    python train.py --epochs 1\n")
    return repository, gate


def _gated(gate: Path) -> tuple[str, ...]:
    return ("--yes", "--set", f"training.options.--until={gate}")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_resumed(product: Product, slow: tuple[Path, Path], how: signal.Signals) -> None:
    repository, gate = slow
    agent = product.start(*job(repository, *_gated(gate)))
    run_id = seen(agent, "Run ")[-1].split()[-1]
    seen(agent, "loss 1.0")
    agent.send_signal(how)
    _, errors = agent.communicate()
    assert agent.returncode == (130 if how is signal.SIGINT else -9)
    assert "Traceback" not in errors
    gate.touch()
    document = product.document("resume", run_id)
    assert document["status"] == "succeeded"
    assert [a["outcome"]["kind"] for a in document["attempts"]] == ["succeeded"]
    log = "".join(f.read_text() for f in (product.home / "runs" / run_id / "logs").glob("*stdout*"))
    assert log.count("loss 1.0") == 1  # trained once, copied once
    assert log.count("loss 0.5") == 1


def test_a_second_agent_is_refused_and_stop_ends_the_run(product: Product, slow: tuple[Path, Path]) -> None:
    repository, gate = slow
    agent = product.start(*job(repository, *_gated(gate)))
    run_id = seen(agent, "Run ")[-1].split()[-1]
    seen(agent, "loss 1.0")
    second = product.run("resume", run_id)
    assert second.returncode == 2
    assert str(agent.pid) in second.stderr
    assert product.run("stop", run_id).returncode == 0
    agent.communicate()
    assert agent.returncode == 130
    document = product.document("show", run_id)
    assert document["status"] == "stopped"
    assert len(document["attempts"]) == 1  # what a person stopped is not repaired


def test_the_cluster_dies_and_the_training_goes_on(product: Product, slow: tuple[Path, Path]) -> None:
    repository, gate = slow
    agent = product.start(*job(repository, *_gated(gate)))
    run_id = seen(agent, "Run ")[-1].split()[-1]
    seen(agent, "loss 1.0")
    cluster = json.loads(product.run("cluster", "status", "--json").stdout)
    os.kill(cluster["pid"], signal.SIGKILL)
    agent.kill()
    agent.communicate()
    gate.touch()
    document = product.document("resume", run_id)
    assert document["status"] == "succeeded"
    assert len(document["attempts"]) == 1


def test_without_an_answer_the_question_is_in_the_document(product: Product) -> None:
    document = product.document(*job(EXAMPLE, *SHORT), code=3)
    assert document["status"] == "waiting"
    assert document["question"]
    run_id = document["run_id"]
    assert product.document("resume", run_id, "--reject", code=3)["status"] in ("waiting", "rejected")


def _bad(name: str, arguments: Sequence[str], code: int, word: str) -> Any:
    return pytest.param(list(arguments), code, word, id=name)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        _bad("no path", ["--prompt", "x", "--codebase-path", "/nowhere/at/all"], 2, "/nowhere/at/all"),
        _bad("a file", ["--prompt", "x", "--codebase-path", str(ROOT / "main.py")], 2, "main.py"),
        _bad("no prompt", ["--prompt", "  ", "--codebase-path", str(EXAMPLE)], 2, "prompt"),
        _bad("only a path", ["--codebase-path", str(EXAMPLE)], 2, "--prompt"),
        _bad("unknown option", ["--promt", "x"], 2, "--promt"),
        _bad("unknown command", ["frobnicate"], 2, "frobnicate"),
        _bad("unknown field", job(EXAMPLE, "--set", "training.lrr=1"), 2, "training.lr"),
        _bad("wrong value", job(EXAMPLE, "--set", "training.micro_batch=many"), 2, "training.micro_batch"),
        _bad("negative budget", job(EXAMPLE, "--budget", "-1"), 2, "budget"),
        _bad("no answers file", job(EXAMPLE, "--answers", "/nowhere.yaml"), 2, "/nowhere.yaml"),
        _bad("unknown run", ["show", "ffffffff"], 2, "ffffffff"),
        _bad(
            "no cluster",
            ["--prompt", "x", "--codebase-path", str(EXAMPLE), "--cluster", "http://127.0.0.1:9", "--yes"],
            4,
            "127.0.0.1:9",
        ),
    ],
)
def test_bad_input_is_one_line(product: Product, arguments: list[str], code: int, word: str) -> None:
    done = product.run(*arguments)
    assert done.returncode == code
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert word in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_empty_folder_is_no_repository_and_leaves_no_run(product: Product, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    before = len(_rows(product.document("runs")))
    done = product.run(*job(tmp_path / "empty"))
    assert done.returncode == 2
    assert len(_rows(product.document("runs"))) == before


def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    done = Product(tmp_path / "home").run(*job(EXAMPLE))
    assert done.returncode == 2
    assert "CARAVAN_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting(product: Product) -> None:
    other = Product(product.home)
    other.environment["CARAVAN_SOFT_LIMIT_USD"] = "much"
    done = other.run("config")
    assert done.returncode == 2
    assert "CARAVAN_SOFT_LIMIT_USD" in done.stderr


def test_help_needs_no_state_directory(tmp_path: Path) -> None:
    product = Product(tmp_path / "home")
    assert product.run("--help").returncode == 0
    assert not (tmp_path / "home").exists()

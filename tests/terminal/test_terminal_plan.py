"""`plan` from the command line: without a cluster and for one, its file and document, wrong input, answers."""

import json
import os
from pathlib import Path

import pytest

from caravan.runs.plan_file import load_plan
from caravan.terminal.app import run
from caravan.terminal.streams import Terminal
from caravan.values.base import Json
from caravan.values.plan import TrainingPlan
from main import Application
from tests.fakes.wiring import nobody, person, printed

TRAIN = '''\
"""Train a line by gradient descent."""
import argparse

import numpy as np


def train(weights, data, lr, epochs, batch_size):
    for epoch in range(epochs):
        for start in range(0, len(data), batch_size):
            batch = data[start : start + batch_size]
            gradient = 2 * (weights - batch).mean(axis=0)
            weights -= lr * gradient
        loss = ((weights - data) ** 2).mean()
        print(f"epoch={epoch} loss={loss:.4f}")
    return weights


def main():
    parser = argparse.ArgumentParser(description="Train the model.")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--output-dir", default="runs")
    args = parser.parse_args()
    weights = train(np.zeros(3), np.random.rand(64, 3), args.lr, args.epochs, args.batch_size)
    np.save(f"{args.output_dir}/weights.npy", weights)


if __name__ == "__main__":
    main()
'''


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("CARAVAN_HOME", str(home))
    return home


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    (path / "train.py").write_text(TRAIN)
    (path / "README.md").write_text("# Training\n\n    python train.py --lr 0.05 --epochs 4\n")
    (path / "requirements.txt").write_text("numpy\n")
    return path


def command(*words: object, terminal: Terminal | None = None) -> tuple[int, str, str]:
    terminal = terminal or nobody()
    code = run(Application(), [str(w) for w in words], terminal)
    return (code, *printed(terminal))


def document(*words: object) -> dict[str, Json]:
    _, out, err = command(*words, "--json")
    assert out, err
    found: dict[str, Json] = json.loads(out)
    return found


@pytest.mark.usefixtures("home")
def test_a_person_sees_what_runs_where_it_comes_from_and_what_is_open(repository: Path) -> None:
    code, out, _ = command("plan", repository, "--prompt", "train it for 2 epochs", "--yes")
    assert code == 0
    assert "python train.py --lr 0.05 --epochs 2" in " ".join(out.split())
    assert "README.md:3" in out
    assert 'prompt: "2 epochs"' in out
    assert "left to the cluster: driver, image, CPU, memory, disk" in out
    assert "not known" in out  # time


def test_nothing_is_left_but_the_file(home: Path, repository: Path, tmp_path: Path) -> None:
    before = sorted(repository.iterdir())
    command("plan", repository, "--prompt", "train it", "--yes", "--out", tmp_path / "plan.yaml")
    assert sorted(repository.iterdir()) == before
    assert not (home / "runs").exists()
    assert not (home / "caravan.db").exists()
    code, out, _ = command("runs", "--json")
    assert (code, json.loads(out)) == (0, [])


@pytest.mark.usefixtures("home")
def test_the_file_is_the_plan_and_plans_the_same_again(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    first = document("plan", repository, "--prompt", "train it", "--yes", "--set", "training.lr=0.2", "--out", file)
    assert first["plan_path"] == str(file)
    assert load_plan(file).digest() == first["plan_sha256"]
    assert f"source: {repository}" in file.read_text()
    again = document("plan", "--plan", file, "--yes")
    assert (again["plan_sha256"], again["command"]) == (first["plan_sha256"], first["command"])


@pytest.mark.usefixtures("home")
def test_what_is_changed_in_the_file_is_what_runs_and_what_is_removed_is_drafted(
    repository: Path, tmp_path: Path
) -> None:
    file = tmp_path / "plan.yaml"
    document("plan", repository, "--prompt", "train it", "--yes", "--out", file)
    text = file.read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("epochs:")]
    file.write_text("\n".join(lines).replace("  lr: 0.05", "  lr: 0.5"))
    found = document("plan", "--plan", file, "--yes")
    plan = TrainingPlan.model_validate(found["plan"])
    assert "--lr 0.5" in found["command"]
    assert (plan.training.lr, plan.provenance["training.lr"].by) == (0.5, "user")
    assert plan.training.epochs == 4
    assert not plan.is_own("training.lr")
    assert plan.is_own("training.micro_batch")


@pytest.mark.usefixtures("home")
def test_the_command_line_has_the_last_word_over_the_file(repository: Path, tmp_path: Path) -> None:
    file, answers = tmp_path / "plan.yaml", tmp_path / "answers.yaml"
    file.write_text(f"source: {repository}\ngoal: train it\ntraining: {{lr: 0.5, epochs: 7}}\n")
    answers.write_text("training.epochs: 9\n")
    found = document("plan", "--plan", file, "--answers", answers, "--set", "training.lr=0.7", "--yes")
    assert (found["plan"]["training"]["lr"], found["plan"]["training"]["epochs"]) == (0.7, 9)


@pytest.mark.usefixtures("home")
def test_a_path_in_the_file_is_seen_from_the_file(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("source: repo\ngoal: train it\n")
    assert document("plan", "--plan", file, "--yes")["source"] == str(repository)


@pytest.mark.usefixtures("home")
def test_for_the_nodes_of_an_inventory_the_job_is_checked(repository: Path, tmp_path: Path) -> None:
    node = {"name": "n1", "cpu_mhz": 9000, "cores": 4, "memory_mb": 4000, "disk_mb": 9000, "drivers": {"raw_exec": {}}}
    inventory = tmp_path / "nodes.json"
    inventory.write_text(json.dumps({"nodes": [node]}))
    file = tmp_path / "plan.yaml"
    found = document("plan", repository, "--prompt", "train", "--yes", "--inventory", inventory, "--out", file)
    assert (found["status"], found["exit_code"]) == ("planned", 0)
    plan = TrainingPlan.model_validate(found["plan"])
    assert plan.driver == "raw_exec"
    assert (plan.code.kind, plan.outputs.kind) == ("image", "allocation")  # those belong to a run
    assert "driver: raw_exec" in file.read_text()
    assert not any(n.startswith("left to the cluster") for n in found["not_known"])


@pytest.mark.usefixtures("home")
def test_what_must_be_asked_is_shown_and_nothing_is_written(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "README.md").write_text("nothing to train\n")
    file = tmp_path / "plan.yaml"
    code, out, _ = command("plan", empty, "--prompt", "train it", "--out", file)
    assert code == 3
    assert "Which command shall be run?" in out
    assert "--answers FILE" in out
    assert not file.exists()
    asked = document("plan", empty, "--prompt", "train it")
    assert (asked["status"], asked["question"]["questions"][0]["id"]) == ("waiting", "entry_point")


@pytest.mark.usefixtures("home")
def test_a_person_answers_in_the_terminal(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "tool.py").write_text("print('hello')\n")
    code, out, err = command("plan", empty, "--prompt", "train", terminal=person("tool.py --lr 3", "", "", "", ""))
    assert code == 0, err
    assert "python tool.py --lr 3" in out


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("typed", [KeyboardInterrupt(), EOFError()])
def test_ctrl_c_leaves_nothing(typed: BaseException, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "README.md").write_text("nothing to train\n")
    file = tmp_path / "plan.yaml"
    code, _, err = command("plan", empty, "--prompt", "train", "--out", file, terminal=person(typed))
    assert code == 130
    assert err.rstrip().endswith("Interrupted. Nothing was written.")
    assert not file.exists()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["plan"], "Say what to train"),
        (["plan", "--prompt", "x"], "Name the repository"),
        (["plan", "REPO"], "Say what to train"),
        (["plan", "/nowhere/at/all", "--prompt", "x"], "/nowhere/at/all"),
        (["plan", "REPO", "--prompt", " "], "The prompt is empty"),
        (["plan", "REPO", "--prompt", "x", "--set", "lr=3"], "Did you mean training.lr"),
        (["plan", "REPO", "--prompt", "x", "--cluster", "local", "--inventory", "f"], "Give one of them"),
        (["plan", "REPO", "--prompt", "x", "--cluster", "nope"], "nope"),
        (["plan", "REPO", "--prompt", "x", "--inventory", "/no/file.json"], "/no/file.json"),
        (["plan", "REPO", "--prompt", "x", "--out", "REPO/plan.yaml"], "is in the repository"),
        (["plan", "REPO", "--prompt", "x", "--out", "/no/such/dir/plan.yaml"], "is no file that can be written"),
        (["plan", "--plan", "/no/plan.yaml"], "can't be read"),
        (["plan", "--plan", "FILE"], "line 2, column 7: training.lr takes a number"),
        (["--plan", "FILE"], "line 2, column 7: training.lr takes a number"),
        (["--plan", "GOOD"], "does not say where the repository is"),
        (["--plan", "GOOD", "--codebase-path", "REPO", "--prompt", "else"], "says something else than `goal`"),
    ],
)
def test_wrong_use_is_one_line(words: list[str], says: str, repository: Path, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text("training:\n  lr: much\n")
    good.write_text("goal: train it\n")
    names = {"REPO": str(repository), "FILE": str(bad), "GOOD": str(good)}
    found = [names.get(w, w.replace("REPO", names["REPO"])) for w in words]
    code, out, err = command(*found)
    assert code == 2, err
    assert says in err
    assert out == ""
    assert len([line for line in err.splitlines() if line.startswith("Error")]) == 1


@pytest.mark.usefixtures("home")
def test_check_says_all_that_is_wrong_as_editors_read_it(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("goal: x\ntraining:\n  lr: much\n  epohs: 3\n")
    code, out, err = command("plan", "--check", file)
    assert (code, err) == (2, "")
    assert out.splitlines() == [
        f"{file}:3:7: training.lr takes a number, and it says 'much'.",
        f"{file}:4:3: A plan has no field 'training.epohs'. Did you mean `epochs` in `training`?",
    ]
    found = document("plan", "--check", file)
    assert (found["ok"], [p["line"] for p in found["problems"]]) == (False, [3, 4])
    file.write_text("goal: x\ntraining:\n  lr: 3\n")
    code, out, _ = command("plan", "--check", file)
    assert (code, out) == (0, f"{file} is well: 2 fields are set.\n")
    assert document("plan", "--check", file)["ok"] is True


def test_the_main_job_runs_a_plan_file(home: Path, repository: Path, tmp_path: Path) -> None:
    node = {"name": "n1", "cpu_mhz": 9000, "cores": 4, "memory_mb": 4000, "disk_mb": 9000, "drivers": {"raw_exec": {}}}
    inventory, file = tmp_path / "nodes.json", tmp_path / "plan.yaml"
    inventory.write_text(json.dumps({"nodes": [node]}))
    planned = document("plan", repository, "--prompt", "train it", "--yes", "--set", "training.lr=0.2", "--out", file)
    command("cluster", "up", "--inventory", inventory)
    try:
        found = document("--plan", file, "--cluster", "local", "--dry-run", "--yes")
        assert found["status"] == "planned"
        plan = TrainingPlan.model_validate(found["plan"])
        assert (plan.training.lr, plan.training.epochs) == (0.2, 4)
        assert plan.command == tuple(planned["plan"]["command"])
        kept = home / "runs" / found["run_id"] / "plan.yaml"
        assert command("plan", "--check", kept)[0] == 0  # what a run keeps can be run again
        again = document("--plan", kept, "--codebase-path", repository, "--dry-run", "--yes", "--cluster", "local")
        assert again["plan"]["outputs"]["location"] != found["plan"]["outputs"]["location"]
        assert again["plan"]["training"] == found["plan"]["training"]
    finally:
        command("cluster", "down")


def test_a_file_for_others_to_read_holds_no_secret(
    home: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "Ab3" * 8)
    file = tmp_path / "plan.yaml"
    words = ["plan", repository, "--prompt", f"train it with {os.environ['HF_TOKEN']}", "--yes", "--out", file]
    code, out, _ = command(*words)
    assert code == 0
    assert os.environ["HF_TOKEN"] not in file.read_text() + out
    assert home.exists()


def test_what_a_person_set_is_not_silently_repaired_in_a_dry_run(home: Path, repository: Path, tmp_path: Path) -> None:
    node = {"name": "n1", "cpu_mhz": 9000, "cores": 4, "memory_mb": 9000, "disk_mb": 9000, "drivers": {"raw_exec": {}}}
    inventory, file = tmp_path / "nodes.json", tmp_path / "plan.yaml"
    inventory.write_text(json.dumps({"nodes": [node]}))
    file.write_text(f"goal: train it\nsource: {repository}\nresources:\n  gpus: 1\n")
    command("cluster", "up", "--inventory", inventory)
    try:
        for words in (("--plan", file), (repository, "--prompt", "train it", "--set", "resources.gpus=1")):
            given = words if words[0] == "--plan" else ("--codebase-path", *words)
            found = document(*given, "--cluster", "local", "--dry-run", "--yes")
            assert found["plan"]["resources"]["gpus"] == 0
            assert any("would ask first: resources.gpus would be 0 instead of 1" in w for w in found["warnings"])
    finally:
        command("cluster", "down")
    assert home.exists()

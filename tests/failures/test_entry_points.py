"""Scripts, modules and commands that are not where the job looks for them."""

from pathlib import Path

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, copied, documented, sets

NOT_FOUND = FailureClass.ENTRYPOINT_NOT_FOUND


def split(folder: Path, home: str, package: str) -> Path:
    """The line with its optimizer in a module beside or around it."""
    repository = copied("line", folder)
    text = (repository / "train.py").read_text()
    head, rest = text.split("class SGD:")
    body, main = rest.split("\n\ndef main")
    target = repository / home / "train.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    (repository / "train.py").unlink()
    target.write_text(f"{head}from {package.rpartition('/')[2]}.steps import SGD\n\n\ndef main{main}")
    module = repository / package / "steps.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(f"class SGD:{body}\n")
    (module.parent / "__init__.py").touch()
    return repository


def test_a_package_of_the_repository_beside_the_script(site: Site, tmp_path: Path) -> None:
    repository = documented(split(tmp_path, "tools", "fitting"), "python tools/train.py --data points.csv")
    ended = site.run(repository)
    assert ended.document["status"] == "succeeded", ended.told()
    assert "No module named 'fitting'" in ended.logs
    assert ended.changed() == {"env.PYTHONPATH": [None, "."]}  # never a package of that name from an index


def test_a_package_of_the_repository_below_src(site: Site, tmp_path: Path) -> None:
    repository = documented(split(tmp_path, "src/fitting", "src/fitting"), "python -m fitting.train --data points.csv")
    ended = site.run(repository)
    assert ended.document["status"] == "succeeded", ended.told()
    assert ended.changed() == {"env.PYTHONPATH": [None, "src"]}


def test_a_script_that_the_user_misspelt(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("line", tmp_path), *sets({"command": ["trian.py"]}))
    asked_for(ended, "trian.py is not in the repository")


def test_a_script_that_the_user_seeks_in_another_folder(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("line", tmp_path), *sets({"command": ["scripts/train.py"]}))
    asked_for(ended, "scripts/train.py is not in the repository")
    answers = tmp_path / "answers.yaml"
    answers.write_text("entry_point: train.py\n")
    assert site.resume(ended, "--answers", str(answers), "--yes").succeeded().state.plan.command[0] == "train.py"


def asked_for(ended: Ended, text: str) -> None:
    """Check that the script is asked for before anything is deployed."""
    assert ended.code == 3, ended.told()
    assert ended.attempts == []
    (question,) = ended.document["question"]["questions"]
    assert (question["id"], question["choices"]) == ("entry_point", ["train.py"])
    assert text in question["text"]


def test_a_directory_that_is_not_there(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("line", tmp_path), *sets({"workdir": "source"})).asks(NOT_FOUND)
    assert site.resume(ended, "--approve").succeeded(NOT_FOUND).changed() == {"workdir": ["source", "."]}


def test_an_interpreter_that_is_not_there(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("line", tmp_path), *sets({"setup.python": "python4.7"})).asks(NOT_FOUND)
    site.resume(ended, "--approve").succeeded(NOT_FOUND)


def test_a_program_that_nobody_knows(site: Site, tmp_path: Path) -> None:
    options = sets({"command": ["loomtrain", "--fast"], "launch.launcher": "cli"})
    ended = site.run(copied("line", tmp_path), *options).escalated(NOT_FOUND)
    assert "loomtrain" in ended.document["detail"]


def test_a_shell_script_that_calls_what_is_not_there(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    (repository / "run.sh").write_text("set -e\npython training/fit.py --data points.csv\n")
    ended = site.run(repository, *sets({"command": ["run.sh"], "launch.launcher": "bash"})).escalated(NOT_FOUND)
    assert "training/fit.py" in ended.document["detail"]


def test_a_healthy_run_that_talks_of_commands(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    text = (repository / "train.py").read_text()
    words = 'print("sh: 1: nvidia-smi: not found", flush=True)'
    (repository / "train.py").write_text(text.replace("    weights = {", f"    {words}\n    weights = {{"))
    site.run(repository).succeeded()

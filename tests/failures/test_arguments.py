"""Command lines that the program's own parser refuses."""

from pathlib import Path

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied, documented, edited, sets

ARGUMENTS = FailureClass.CLI_ARGS_INVALID


def test_a_documented_option_that_was_renamed_since(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("line", tmp_path), "python train.py --data points.csv --numepochs 300")
    ended = site.run(repository).succeeded(ARGUMENTS)
    assert "unrecognized arguments: --numepochs 300" in ended.logs
    assert ended.changed()["command"][1] == ["train.py", "--data", "points.csv", "--num-epochs", "300"]
    assert "epoch 299 loss" in ended.logs  # its value went along


def test_a_documented_option_that_is_gone(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("line", tmp_path), "python train.py --verbose 2 --data points.csv")
    ended = site.run(repository).succeeded(ARGUMENTS)
    assert ended.changed()["command"][1] == ["train.py", "--data", "points.csv"]


def test_a_documented_number_that_is_not_whole(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("line", tmp_path), "python train.py --data points.csv --num-epochs 3e2")
    ended = site.run(repository).succeeded(ARGUMENTS)
    assert "invalid int value: '3e2'" in ended.logs
    assert "epoch 299 loss" in ended.logs


def test_a_documented_choice_in_other_letters(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("line", tmp_path), "python train.py --data points.csv --schedule Linear")
    ended = site.run(repository).succeeded(ARGUMENTS)
    assert "invalid choice: 'Linear'" in ended.logs


def test_what_the_user_typed_is_taken_away_only_when_they_agree(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("line", tmp_path), *sets({"training.options.--momentum": 0.9}))
    ended.asks(ARGUMENTS)
    assert site.resume(ended, "--approve").succeeded(ARGUMENTS).changed()["training.options.--momentum"] == [0.9, None]


def test_an_option_whose_value_nobody_knows(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    last = 'parser.add_argument("--output-dir", default="out")'
    # The parser is told at run time that it needs this: nobody who reads the file can ask for it before.
    edited(repository / "train.py", (last, f'{last}\n    parser.add_argument("--region", **dict(required=True))'))
    ended = site.run(repository).escalated(ARGUMENTS)
    assert "--region" in ended.document["detail"]


def test_a_healthy_run_that_talks_of_arguments(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    words = 'print("train.py: error: unrecognized arguments: --numepochs 300, but never mind")'
    edited(repository / "train.py", ("    weights = {", f"    {words}\n    weights = {{"))
    site.run(repository).succeeded()

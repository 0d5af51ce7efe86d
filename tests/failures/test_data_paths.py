"""Data that is not where the program looks for it."""

from pathlib import Path

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied, documented, edited, sets

MISSING = FailureClass.DATA_PATH_MISSING


def moved(repository: Path, place: str) -> Path:
    target = repository / place
    target.parent.mkdir(parents=True, exist_ok=True)
    (repository / "points.csv").rename(target)
    return repository


@pytest.mark.parametrize("place", ["shared/points.csv", "assets/v2/points.csv"])
def test_the_file_lies_elsewhere_in_the_repository(site: Site, tmp_path: Path, place: str) -> None:
    ended = site.run(moved(copied("line", tmp_path), place)).succeeded(MISSING)
    assert "FileNotFoundError" in ended.logs
    ((_, (_, after)),) = ended.changed().items()
    assert place in after


def test_a_path_that_is_written_into_the_code(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("line", tmp_path), "python fit/train.py")
    (repository / "fit").mkdir()
    for name in ("train.py", "points.csv"):
        (repository / name).rename(repository / "fit" / name)
    edited(
        repository / "fit" / "train.py",
        ("open(args.data, ", 'open("points.csv", '),
        ('    parser.add_argument("--data", default="points.csv", help="CSV with the columns x and y")\n', ""),
    )
    ended = site.run(repository).succeeded(MISSING)
    assert ended.changed()["workdir"] == [".", "fit"]


def test_the_file_is_nowhere(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    (repository / "points.csv").unlink()
    ended = site.run(repository).escalated(MISSING)
    assert "points.csv" in ended.document["detail"]


def test_two_files_of_that_name_are_not_guessed_between(site: Site, tmp_path: Path) -> None:
    repository = moved(copied("line", tmp_path), "north/points.csv")
    (repository / "south").mkdir()
    (repository / "south" / "points.csv").write_text("x,y\n0,0\n1,1\n")
    site.run(repository).escalated(MISSING)


def test_a_path_that_the_user_gave_is_changed_only_when_they_agree(site: Site, tmp_path: Path) -> None:
    ended = site.run(moved(copied("line", tmp_path), "shared/points.csv"), *sets({"dataset.path": "data/points.csv"}))
    ended.asks(MISSING)
    site.resume(ended, "--approve").succeeded(MISSING)


NOTE = """def note(weights):
    with open("notes/last.txt", "w") as file:
        file.write(str(weights))


def main():"""


def test_a_directory_that_is_written_to(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    made = "    out.mkdir(parents=True, exist_ok=True)\n"
    edited(repository / "train.py", (made, f"{made}    note(weights)\n"), ("def main():", NOTE))
    ended = site.run(repository).succeeded(MISSING)
    ((path, (_, after)),) = ended.changed().items()
    assert path == "setup.cmd"
    assert "notes" in after[0]


def test_a_healthy_run_that_talks_of_missing_files(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    words = "print(\"FileNotFoundError: [Errno 2] No such file or directory: 'cache.bin', starting without it\")"
    edited(repository / "train.py", ("    weights = {", f"    {words}\n    weights = {{"))
    site.run(repository).succeeded()

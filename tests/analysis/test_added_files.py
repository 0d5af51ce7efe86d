"""A tree with added files: read, delivered and analysed like the rest; nothing is written into the repository."""

from pathlib import Path

import pytest

from caravan.analysis import analyze, open_source
from caravan.analysis.added import WithAdded
from caravan.values.errors import RepositoryError

SCRIPT = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float, default=0.1)\n"


def opened(tmp_path: Path, files: dict[str, str]) -> WithAdded:
    root = tmp_path / "repo"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    tree = open_source(str(root), cache=tmp_path / "cache", kept=tmp_path / "kept")
    return WithAdded(tree, {"caravan_train/train.py": SCRIPT, "caravan_train/README.md": "x"})


def test_added_files_are_read_and_delivered_beside_the_others(tmp_path: Path) -> None:
    tree = opened(tmp_path, {"data/train.jsonl": '{"text": "a"}\n', "z.txt": "z"})
    assert tree.read_text("caravan_train/train.py") == SCRIPT
    assert tree.part("caravan_train/train.py", 6) == b"import"
    assert tree.part("caravan_train/train.py", 5, from_end=True) == b"0.1)\n"
    assert tree.text("caravan_train/README.md") == "x"
    assert "caravan_train/train.py" in tree
    delivered = {path: (data, mode) for path, data, mode in tree.delivery()}
    assert sorted(delivered) == ["caravan_train/README.md", "caravan_train/train.py", "data/train.jsonl", "z.txt"]
    assert delivered["caravan_train/train.py"] == (SCRIPT.encode(), 0o644)
    assert tree.real("caravan_train/train.py") == "caravan_train/train.py"
    assert sorted(p.name for p in (tmp_path / "repo").rglob("*")) == ["data", "train.jsonl", "z.txt"]


def test_the_digest_knows_what_was_added(tmp_path: Path) -> None:
    tree = opened(tmp_path, {"z.txt": "z"})
    plain = open_source(str(tmp_path / "repo"), cache=tmp_path / "cache")
    other = WithAdded(plain, {"caravan_train/train.py": SCRIPT + "#"})
    assert len({tree.digest, plain.digest, other.digest}) == 3
    assert tree.unchanged()
    assert tree.digest == opened(tmp_path, {"z.txt": "z"}).digest


def test_the_limit_counts_what_was_added(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="have 96 bytes together, more than 10 bytes"):
        opened(tmp_path, {"z.txt": "z"}).delivery(limit=10)


@pytest.mark.parametrize("path", ["caravan_train/train.py", "caravan_train/mine.txt"])
def test_a_folder_of_that_name_is_refused_in_one_line(tmp_path: Path, path: str) -> None:
    with pytest.raises(RepositoryError, match=path) as raised:
        opened(tmp_path, {path: "x"})
    assert "\n" not in raised.value.line()


def test_an_added_script_is_analysed_and_the_profile_kept_apart(tmp_path: Path) -> None:
    tree = opened(tmp_path, {"train.py": SCRIPT.replace("lr", "rate")})
    assert analyze(tree, "train", entry="caravan_train/train.py").option("lr") is not None
    plain = open_source(str(tmp_path / "repo"), cache=tmp_path / "cache", kept=tmp_path / "kept")
    assert analyze(plain, "train", entry="train.py").option("lr") is None

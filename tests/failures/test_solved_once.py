"""A fault that was solved once costs no failed attempt the second time, for real: with memory on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied

WRITING = 'pathlib.Path("notes/weights.txt").write_text("w")\n'


@pytest.fixture
def remembering(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("CARAVAN_MEMORY", "true")
    shutil.rmtree(site.home / "memory", ignore_errors=True)
    return site


def held_texts(folder: Path) -> Path:
    return copied("held-texts", folder)


def writing(folder: Path) -> Path:
    """A training that writes into a directory which is not there."""
    repository = copied("line", folder)
    (repository / "train.py").write_text((repository / "train.py").read_text() + "\n\n" + WRITING)
    return repository


@pytest.mark.parametrize(
    ("made", "failure", "memory_mb"),
    [(held_texts, FailureClass.HOST_MEMORY_OOM, 64), (writing, FailureClass.DATA_PATH_MISSING, 512)],
)
def test_the_second_run_begins_with_what_mended_the_first(
    remembering: Site,
    tmp_path: Path,
    made: Callable[[Path], Path],
    failure: FailureClass,
    memory_mb: int,
) -> None:
    repository = made(tmp_path)
    first = remembering.run(repository, memory_mb=memory_mb).succeeded(failure)
    (repository / "README.md").write_text((repository / "README.md").read_text() + "\nSome words more.\n")
    second = remembering.run(repository, memory_mb=memory_mb).succeeded()
    assert "Remembered" in second.said
    path = next(iter(first.changed()))
    assert second.plan.get(path) == first.plan.get(path)

"""What nobody knows is handed over with the lines that tell most, and is never guessed."""

from pathlib import Path

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied, edited


def test_something_odd(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    odd = 'class Tangled(Exception):\n    pass\n\n\ndef main():\n    raise Tangled("the yarn is in a knot at hook 7")\n'
    edited(repository / "train.py", ("def main():\n", odd))
    ended = site.run(repository).escalated(FailureClass.UNKNOWN)
    assert "the yarn is in a knot" in ended.document["detail"]
    assert ended.attempts[0]["repair"] is None


@pytest.mark.parametrize("code", [3, 77])
def test_an_exit_code_without_a_word(site: Site, tmp_path: Path, code: int) -> None:
    repository = copied("line", tmp_path)
    edited(repository / "train.py", ("    weights = {", f"    raise SystemExit({code})\n    weights = {{"))
    ended = site.run(repository).escalated(FailureClass.UNKNOWN)
    assert str(code) in ended.document["detail"]


def test_scary_words_before_something_odd_are_not_the_cause(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    words = (
        '    print("warning: if you see CUDA out of memory, lower the batch size")\n'
        '    print("info: optional cache not found, no such file or directory: cache.bin; going on")\n'
        '    raise LookupError("shelf 12 is empty")\n'
    )
    edited(repository / "train.py", ("    weights = {", f"{words}    weights = {{"))
    ended = site.run(repository)
    assert ended.diagnosis.failure in (FailureClass.UNKNOWN, FailureClass.USER_CODE_BUG), ended.told()
    assert ended.code == 3
    assert len(ended.attempts) == 1

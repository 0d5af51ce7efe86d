"""A slip in the user's code: nothing is tried against it, and the change that mends it is suggested, not made."""

from pathlib import Path

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied, edited

IN_THE_CODE = (FailureClass.USER_CODE_BUG, FailureClass.UNKNOWN)


def test_a_misspelt_option_is_shown_with_the_change_that_mends_it(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    edited(repository / "train.py", ("lr=args.learning_rate", "lr=args.learning_rat"))
    before = (repository / "train.py").read_bytes()
    ended = site.run(repository)
    assert ended.code == 3, ended.told()
    assert ended.diagnosis.failure in IN_THE_CODE, ended.told()
    assert len(ended.attempts) == 1
    patch = ended.attempts[0]["diagnosis"]["patch"]
    assert "lr=args.learning_rate" in patch
    assert "suggested.patch" in ended.document["detail"]
    folder = Path(ended.document["report_path"]).parent
    assert (folder / "suggested.patch").read_text() == patch
    assert "```diff" in (folder / "REPORT.md").read_text()
    assert (repository / "train.py").read_bytes() == before


def test_an_error_from_which_nothing_follows_suggests_nothing(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    edited(repository / "train.py", ("    weights = {", "    weights = {}['start']\n    weights = {"))
    ended = site.run(repository)
    assert ended.code == 3, ended.told()
    assert ended.attempts[0]["diagnosis"]["patch"] == ""
    assert not (Path(ended.document["report_path"]).parent / "suggested.patch").exists()

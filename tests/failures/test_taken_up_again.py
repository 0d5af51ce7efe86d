"""A run that was handed over is taken up again by a person: with another setting, or once something was mended."""

from pathlib import Path

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied, edited


def test_it_goes_on_with_what_a_person_sets(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    odd = '    if args.schedule == "constant":\n        raise SystemExit("the shelf is empty")\n'
    edited(repository / "train.py", ("    weights = {", f"{odd}    weights = {{"))
    ended = site.run(repository).escalated(FailureClass.UNKNOWN)
    again = site.resume(ended, "--set", "training.options.--schedule=linear")
    assert again.document["status"] == "succeeded", again.told()
    assert again.code == 0
    assert len(again.attempts) == 2
    assert again.attempts[0]["job_id"] != again.attempts[1]["job_id"]


def test_it_goes_on_as_it_is_once_something_was_mended(site: Site, tmp_path: Path) -> None:
    repository, gate = copied("line", tmp_path), tmp_path / "gate"
    odd = f'    if not pathlib.Path({str(gate)!r}).exists():\n        raise SystemExit("the shelf is empty")\n'
    edited(repository / "train.py", ("    weights = {", f"{odd}    weights = {{"))
    ended = site.run(repository).escalated(FailureClass.UNKNOWN)
    assert f"main.py resume {ended.document['run_id']} --again" in ended.document["detail"]
    gate.touch()
    again = site.resume(ended, "--again")
    assert again.document["status"] == "succeeded", again.told()

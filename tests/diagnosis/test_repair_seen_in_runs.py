"""Repairs that runs on real faults asked for: a missing checkpoint, batches in a message, a disk that stays full."""

from caravan.values.failure import FailureClass
from caravan.values.plan import Author
from caravan.values.repo import ScriptOption
from tests.diagnosis.repair_scenes import diffs, plan, profile, rungs

F = FailureClass


def test_a_checkpoint_that_is_not_there_is_no_missing_data() -> None:
    words = ("train.py", "--resume_from_checkpoint", "old/last.pt")
    repo = profile(ScriptOption(flag="--resume_from_checkpoint"))
    flags = {"training.resume_from": "--resume_from_checkpoint"}
    start = plan({"training.resume_from": "old/last.pt"}, by=Author.REPOSITORY, command=words, flags=flags)
    missing = {"path": "old/last.pt", "kind": "read"}
    found = diffs(rungs(F.DATA_PATH_MISSING, start, repo=repo, details=missing), start)
    assert found == [{"training.resume_from": None, "command": ["train.py"]}]
    assert rungs(F.DATA_PATH_MISSING, start, repo=repo, details={**missing, "path": "rows.csv"}) == ()


def test_a_batch_that_only_the_message_names_is_divided() -> None:
    start = plan({"training.micro_batch": 8}, by=Author.REPOSITORY, flags={"training.micro_batch": "--micro"})
    said = "ValueError: batch_size (30) must be divisible by micro_batch_size (8)"
    found = diffs(rungs(F.TRAINING_CONFIG_INVALID, start, lines=(said,)), start)
    assert found[0]["training.micro_batch"] == 6


def test_a_disk_that_more_room_did_not_help_gets_fewer_checkpoints_before_still_more() -> None:
    flags, full = {"training.save_total_limit": "--save_total_limit"}, {"path": "/alloc/data"}
    start = plan({"resources.disk_mb": 1024}, by=Author.REPOSITORY, flags=flags)
    assert diffs(rungs(F.DISK_FULL, start, details=full), start)[0] == {"resources.disk_mb": 3072}
    more = plan({"resources.disk_mb": 3072}, by=Author.REPAIR, flags=flags)
    assert "training.save_total_limit" in diffs(rungs(F.DISK_FULL, more, details=full), more)[0]

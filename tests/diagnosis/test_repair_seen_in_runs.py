"""Repairs that runs on real faults asked for: a missing checkpoint, batches in a message, a disk that stays full."""

import re

import pytest

from caravan.planning.script import command_words
from caravan.values.failure import FailureClass, PastCase, RetryElsewhere
from caravan.values.plan import Author, PlanChange
from caravan.values.repo import ScriptOption
from tests.diagnosis.repair_scenes import diffs, facts, mended, node, plan, profile, rungs

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


@pytest.mark.parametrize("told", [("--master-port", "29500"), ("--master_port=29500",)])
@pytest.mark.parametrize("said", [{}, {"port": "29500"}])
def test_a_port_that_is_typed_is_changed_where_it_is_typed(told: tuple[str, ...], said: dict[str, str]) -> None:
    """The message of a socket names no port: then the one that the program is told is taken."""
    start = plan(by=Author.REPOSITORY, command=("train.py", *told))
    repo = profile(ScriptOption(flag="--master-port"))
    found = rungs(F.RENDEZVOUS_PORT_IN_USE, start, repo=repo, details=said)[0]
    words = " ".join(command_words(mended(start, found)))
    port = re.search(r"--master[-_]port[= ](\d+)", words)
    assert port is not None, words
    assert port[1] != "29500"
    assert "29500" not in words


def test_the_launcher_finds_a_port_where_it_was_told_one() -> None:
    start = plan({"launch.launcher": "torchrun", "launch.rdzv_endpoint": "localhost:29400"})
    found = diffs(rungs(F.RENDEZVOUS_PORT_IN_USE, start, details={"port": "29400"}), start)
    assert found[0] == {"launch.rdzv_endpoint": None}


def test_what_hangs_again_without_loaders_is_tried_on_another_node_or_not_at_all() -> None:
    start = plan()
    first, *others = rungs(F.PROCESS_HANG, start, node_name="n1")
    assert others == []
    assert rungs(F.PROCESS_HANG, mended(start, first), node_name="n1") == ()
    two = facts(node("n1", 64_000), node("n2", 64_000))
    again = rungs(F.PROCESS_HANG, mended(start, first), two, node_name="n1")
    assert again == (RetryElsewhere(avoid_nodes=("n1",), why=again[0].why),)


def test_a_lesson_of_another_command_says_nothing_of_this_one() -> None:
    """Words that were right in one command are not added to another, though it is the same code."""
    start = plan(command=("train.py", "--epochs", "40", "--legacy", "--data", "x.csv"))
    before, after = ["train.py", "--batch_size", "4"], ["train.py", "--batch-size", "4"]
    past = PastCase(
        id="1",
        text="option renamed",
        failure=F.CLI_ARGS_INVALID,
        worked=True,
        same=("code_digest", "repository", "entry_point", "framework", "driver"),
        before={"command": before},
        changes=(PlanChange(path="command", value=after, by=Author.REPAIR),),
    )
    details = {"option": "--legacy", "kind": "unknown", "style": "argparse"}
    found = rungs(F.CLI_ARGS_INVALID, start, details=details, cases=(past,))
    assert all("--batch-size" not in str(d) for d in diffs(found, start))
    assert not any("lesson" in repair.why for repair in found)
    then = plan(command=tuple(before))
    taken = rungs(F.CLI_ARGS_INVALID, then, details={**details, "option": "--batch_size"}, cases=(past,))
    assert diffs(taken, then)[0] == {"command": after}


def test_a_folder_that_another_program_wanted_is_not_made() -> None:
    made = PlanChange(path="setup.cmd", value=["mkdir -p -- logs"], by=Author.REPAIR)
    alike = ("entry_point", "framework", "driver")
    past = PastCase(id="1", text="t", failure=F.DATA_PATH_MISSING, worked=True, same=alike, changes=(made,))
    missing = {"path": "corpus/train.jsonl", "kind": "read"}
    assert rungs(F.DATA_PATH_MISSING, plan(), details=missing, cases=(past,)) == ()
    own = past.model_copy(update={"same": ("code_digest",)})
    assert len(rungs(F.DATA_PATH_MISSING, plan(), details=missing, cases=(own,))) == 1

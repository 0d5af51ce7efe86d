"""What is said of a training that ended with exit code 0: no more than what there was to check."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.run import RunStatus
from tests.agent.test_loop import World, ended
from tests.fakes.cluster import Script

RAISED = b"Traceback (most recent call last):\n  File \"train.py\", line 3, in <module>\n    main()\nKeyError: 'beta'\n"


def run(tmp_path: Path, **script: Any) -> tuple[Any, Any]:
    world = World(tmp_path, lambda job: Script(**script))
    record = world.start()
    result = ended(world.drive(record))
    return result, world.state(record)


def test_a_traceback_at_the_end_and_nothing_made_is_no_success(tmp_path: Path) -> None:
    result, _ = run(tmp_path, stdout=b"begin\n", stderr=RAISED)
    assert result.status is RunStatus.ESCALATED
    assert "KeyError" in result.detail


@pytest.mark.parametrize("log", [b"done\n", RAISED + b"carried on\n\nwith\nthe\nother\nrows\n"])
def test_with_nothing_to_check_that_is_what_is_said(tmp_path: Path, log: bytes) -> None:
    result, state = run(tmp_path, stdout=b"", stderr=log)
    assert result.status is RunStatus.SUCCEEDED
    assert "nothing was there to check: no metric was logged and no output written" in result.detail
    assert any("no metric was found" in warning for warning in state.warnings)


def test_a_metric_was_checked(tmp_path: Path) -> None:
    result, _ = run(tmp_path, stdout=b"loss=0.5\n", stderr=RAISED)
    assert result.status is RunStatus.SUCCEEDED
    assert result.detail == "the training ended and its result was checked"

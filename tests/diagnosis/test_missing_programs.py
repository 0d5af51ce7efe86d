"""A program that a build misses is installed by the package that has it, not by one of a similar name."""

import pytest

from caravan.values.failure import FailureClass
from tests.diagnosis.repair_scenes import diffs, facts, node, plan, rungs


@pytest.mark.parametrize(
    ("program", "package"), [("git-lfs", "git-lfs"), ("git", "git"), ("gcc-12", "build-essential")]
)
def test_a_missing_program_is_its_own_package(program: str, package: str) -> None:
    start, missing = plan(), FailureClass.BUILD_TOOLCHAIN_MISSING
    found = diffs(rungs(missing, start, facts(node("n1")), details={"program": program}), start)
    assert found[0] == {"setup.apt": [package]}

"""`runs --spending`: money by user and month; what is reserved is told with the run."""

import json
from pathlib import Path

import pytest

from caravan.terminal.app import run
from caravan.values.run import RunRecord, RunRequest
from tests.fakes.wiring import FakeWiring, nobody, printed


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    made = FakeWiring(tmp_path)
    now = made.clock.now()
    for run_id, user, cost in (("aaaa1111", "ada", 12.5), ("bbbb2222", "bob", 0.0)):
        request = RunRequest(prompt="p", source="/r", cluster="http://x")
        made.runs.create_run(
            RunRecord(id=run_id, created_at=now, updated_at=now, request=request, user=user, cost_usd=cost)
        )
    made.runs.reserve("bbbb2222", need_usd=5, want_usd=20, caps=())
    return made


def test_the_table_tells_users_and_months(wiring: FakeWiring) -> None:
    terminal = nobody()
    assert run(wiring, ["runs", "--spending"], terminal) == 0
    lines = printed(terminal)[0].splitlines()
    assert any(line.split() == ["2026-01", "ada", "1", "12.50", "0.00"] for line in lines)
    assert any(line.split() == ["2026-01", "bob", "0", "0.00", "20.00"] for line in lines)


def test_the_document_has_the_same(wiring: FakeWiring) -> None:
    terminal = nobody()
    assert run(wiring, ["runs", "--spending", "--json"], terminal) == 0
    rows = {row["user"]: row for row in json.loads(printed(terminal)[0])}
    assert rows["ada"] == {"month": "2026-01", "user": "ada", "runs": 1, "spent_usd": 12.5, "reserved_usd": 0.0}
    assert rows["bob"]["reserved_usd"] == 20


def test_without_runs_it_says_so(tmp_path: Path) -> None:
    terminal = nobody()
    assert run(FakeWiring(tmp_path), ["runs", "--spending"], terminal) == 0
    assert "Nothing was spent yet." in printed(terminal)[0]


def test_what_is_reserved_stands_with_the_run(wiring: FakeWiring) -> None:
    terminal = nobody()
    run(wiring, ["show", "bbbb2222", "--json"], terminal)
    shown = json.loads(printed(terminal)[0])
    assert (shown["reserved_usd"], shown["user"]) == (20, "bob")
    plain = nobody()
    run(wiring, ["show", "bbbb2222"], plain)
    assert "20.00" in printed(plain)[0]

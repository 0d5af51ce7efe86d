"""Trainings on two nodes, driven by the product: all find a place or none keeps one, and one that fails ends all."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, copied, edited, sets

ONE_CARD = 'memory = 32\n        device "nvidia/gpu" {\n          count = 1\n        }'


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price, and looks at a waiting job more often than every few seconds."""
    monkeypatch.setenv("CARAVAN_USD_PER_GPU_HOUR", "0.5")
    monkeypatch.setattr("caravan.cluster.watcher.HEARTBEAT", 0.3)


def on_two(site: Site, repository: Path, **more: Any) -> Ended:
    usual = {"launch.nodes": 2, "limits.max_run_s": 300, "smoke.on": False}
    return site.run(repository, *sets({**usual, **more}))


def told_its_rank(tmp_path: Path) -> Path:
    """A program that knows of several members; of one that does not a person is asked."""
    repository = copied("line", tmp_path)
    edited(
        repository / "train.py",
        ("import argparse\n", "import argparse\nimport os\nprint('rank', os.environ['RANK'])\n"),
    )
    return repository


def test_two_members_train_and_the_first_has_the_outputs(site: Site, tmp_path: Path) -> None:
    ended = on_two(site, told_its_rank(tmp_path)).succeeded()
    assert sorted(line for line in ended.logs.splitlines() if line.startswith("rank")) == ["rank 0", "rank 1"]
    first = next(a for a in ended.state.attempts if a.outcome)
    assert first.outcome is not None
    name = site.ask("GET", f"/v1/allocation/{first.outcome.alloc_id}")["Name"]
    assert name.endswith("[0]")


def test_members_without_the_others_give_their_cards_back(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cards = {"node_pool": "cards", "resources.gpus": 1, "limits.gang_s": 2}
    with site.held(gate, "cards", ONE_CARD):
        ended = on_two(site, told_its_rank(tmp_path), **cards)
        job = ended.attempts[0]["job_id"]
        assert {a["ClientStatus"] for a in site.ask("GET", f"/v1/job/{job}/allocations")} <= {"complete", "failed"}
        ended.asks(FailureClass.PLACEMENT_GPU_UNAVAILABLE)
        assert "1 instead of 2 nodes" in ended.document["question"]["text"]
    outcome = ended.attempts[0]["outcome"]
    assert outcome["kind"] == "not_placed", ended.told()
    assert "1 of 2" in outcome["reason"]
    assert "devices" in outcome["reason"]


def test_one_member_that_fails_ends_all_and_is_the_cause(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    fails = "import os, time\nif os.environ['RANK'] == '1':\n    import nowhere_to_be_found\ntime.sleep(600)\n"
    edited(repository / "train.py", ("import argparse\n", f"import argparse\n{fails}"))
    ended = on_two(site, repository)
    assert ended.classes[0] is not None, ended.told()
    outcome = ended.attempts[0]["outcome"]
    assert (outcome["kind"], outcome["exit_code"]) == ("failed", 1), ended.told()
    assert "nowhere_to_be_found" in ended.logs

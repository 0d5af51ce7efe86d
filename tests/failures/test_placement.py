"""Jobs that no node can take: cards that no node has, and room that another job holds."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import CARD_MIB, Ended, Site, copied, documented, sets

NO_GPU = FailureClass.PLACEMENT_GPU_UNAVAILABLE
NO_ROOM = FailureClass.PLACEMENT_RESOURCES_EXHAUSTED
TWO_CARDS = 'memory = 32\n        device "nvidia/gpu" {\n          count = 2\n        }'


@pytest.fixture(autouse=True)
def _price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_USD_PER_GPU_HOUR", "0.5")


def on_cards(site: Site, folder: Path, **more: Any) -> Ended:
    usual = {"node_pool": "cards", "resources.gpus": 1, "limits.max_run_s": 300}
    return site.run(copied("line", folder), *sets({**usual, **more}))


def test_a_card_that_no_node_has(site: Site, tmp_path: Path) -> None:
    ended = on_cards(site, tmp_path, **{"resources.gpu_model": "NVIDIA H100 80GB HBM3"})
    ended.asks(NO_GPU, attempts=0)  # found before anything was deployed
    assert "RTX 4090" in ended.document["question"]["text"]
    approved = site.resume(ended, "--approve").succeeded()
    assert approved.document["plan"]["resources"]["gpu_model"] == "NVIDIA GeForce RTX 4090"


def test_more_cards_than_a_node_has(site: Site, tmp_path: Path) -> None:
    ended = on_cards(site, tmp_path, **{"resources.gpus": 4}).asks(NO_GPU, attempts=0)
    assert site.resume(ended, "--approve").succeeded().document["plan"]["resources"]["gpus"] == 2


def test_cards_with_more_memory_than_any_has(site: Site, tmp_path: Path) -> None:
    ended = on_cards(site, tmp_path, **{"resources.gpu_memory_mib": 2 * CARD_MIB}).escalated(NO_GPU, attempts=0)
    assert str(CARD_MIB) in ended.document["detail"]


def test_what_the_repository_documents_is_fitted_to_the_nodes(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("line", tmp_path), "python train.py --data points.csv")
    site.run(repository, *sets({"node_pool": "cards", "resources.gpus": 2, "limits.max_run_s": 300})).succeeded()


def test_cards_that_another_job_has_are_waited_for(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with site.held(gate, "cards", TWO_CARDS), site.freed_when_asked_for(gate):
        on_cards(site, tmp_path).succeeded()


@pytest.fixture
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a waiting job more often than every few seconds."""
    monkeypatch.setattr("caravan.cluster.watcher.HEARTBEAT", 0.3)


@pytest.mark.usefixtures("_quick_looks")
def test_cards_that_another_job_keeps(site: Site, tmp_path: Path) -> None:
    with site.held(tmp_path / "gate", "cards", TWO_CARDS):
        ended = on_cards(site, tmp_path, **{"limits.queue_s": 1}).escalated(NO_GPU)
    assert ended.attempts[0]["outcome"]["kind"] == "not_placed"


def test_room_that_another_job_has_is_waited_for(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with site.held(gate, "small", "memory = 120"), site.freed_when_asked_for(gate):
        site.run(copied("line", tmp_path), *sets({"node_pool": "small"})).succeeded()


@pytest.mark.usefixtures("_quick_looks")
def test_room_that_another_job_keeps_is_asked_about_with_a_place_that_is_free(site: Site, tmp_path: Path) -> None:
    with site.held(tmp_path / "gate", "small", "memory = 120"):
        options = sets({"node_pool": "small", "limits.queue_s": 1})
        ended = site.run(copied("line", tmp_path), *options).asks(NO_ROOM)
        assert ended.attempts[0]["outcome"]["kind"] == "not_placed"
        assert any("node_pool would be default" in text for text in ended.document["question"]["objections"])
        approved = site.resume(ended, "--approve").succeeded(NO_ROOM)
    assert approved.document["plan"]["node_pool"] == "default"


def test_more_room_than_any_node_has(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("line", tmp_path), *sets({"node_pool": "small"}), memory_mb=2000)
    ended.asks(NO_ROOM, attempts=0)
    # Another pool has what was asked for; less of it comes second, for nobody knows whether that is enough.
    assert ended.document["plan"]["node_pool"] == "default"
    (less,) = (c for c in ended.document["question"]["choices"] if "160 instead of 2000 MB of memory" in c["text"])
    assert {c["path"]: c["value"] for c in less["changes"]} == {"resources.memory_mb": 160}
    assert site.resume(ended, "--approve").succeeded().document["plan"]["resources"]["memory_mb"] == 2000

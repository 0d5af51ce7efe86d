"""Images that a node can't get. Docker tasks run as processes here; the inventory says which images a node has."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, copied, sets

NOT_FOUND = FailureClass.IMAGE_NOT_FOUND
ROOMY = 256
"""Memory in MB of which only the node with `local/python:3.11` has enough."""


def train(site: Site, folder: Path, memory_mb: int = ROOMY, **more: Any) -> Ended:
    return site.run(copied("line", folder), *sets({"node_pool": "containers", **more}), memory_mb=memory_mb)


def test_a_tag_that_the_node_does_not_have(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_IMAGE", "local/python:3.12")  # another node has it, which is too small
    ended = train(site, tmp_path).asks(NOT_FOUND)  # an image that nobody has approved yet
    assert ended.changed() == {"image": ["local/python:3.12", "local/python:3.11"]}
    site.resume(ended, "--approve").succeeded(NOT_FOUND)


def test_the_users_own_image_is_changed_only_when_they_agree(site: Site, tmp_path: Path) -> None:
    ended = train(site, tmp_path, image="local/python:3.12").asks(NOT_FOUND)
    site.resume(ended, "--approve").succeeded(NOT_FOUND)


def test_a_tag_that_no_node_has_is_caught_before_anything_is_deployed(site: Site, tmp_path: Path) -> None:
    ended = train(site, tmp_path, image="local/python:3.10").asks(NOT_FOUND, attempts=0)
    site.resume(ended, "--approve").succeeded()


@pytest.mark.parametrize("image", ["local/weaver:2", "127.0.0.1:1/ml/train:1"])
def test_an_image_that_no_node_has_and_nothing_is_like(site: Site, tmp_path: Path, image: str) -> None:
    ended = train(site, tmp_path, image=image)
    assert ended.code == 3, ended.told()
    assert ended.document["status"] == "escalated"
    assert image in ended.document["detail"]
    assert ended.attempts == []  # found before anything was deployed


def test_a_healthy_run_in_an_image(site: Site, tmp_path: Path) -> None:
    train(site, tmp_path, image="local/python:3.11").succeeded()
    train(site, tmp_path / "small", memory_mb=64, image="local/python:3.12").succeeded()

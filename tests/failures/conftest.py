"""One built-in cluster for all tests of real failures; every run starts without memory of the others."""

import os
from collections.abc import Iterator

import pytest

from tests.failures.driving import Site


@pytest.fixture(scope="session")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("failures") / "home", dict(os.environ))
    yield site
    site.close()


@pytest.fixture
def site(_site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("CARAVAN_HOME", str(_site.home))
    monkeypatch.setenv("CARAVAN_MEMORY", "false")  # what one test teaches is nothing to the next
    return _site

"""Packages that a task of its own installs before the training: kept between runs, and failing with its own log."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, copied, edited, sets, wheel


def train(site: Site, repository: Path, folder: Path, **more: Any) -> Ended:
    usual = {
        "env.CARAVAN_CACHE_DIR": str(folder / "cache"),
        "env.PIP_FIND_LINKS": str(folder / "wheels"),
        "env.PIP_NO_INDEX": "1",
        "env.PIP_RETRIES": "0",
    }
    return site.run(repository, *sets({**usual, **more}), memory_mb=128)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    found = copied("line", tmp_path)
    edited(found / "train.py", ("import ", "import tinything\nimport "))
    (found / "requirements.txt").write_text("tinything==1.0\n")
    return found


def allocation(site: Site, ended: Ended) -> dict[str, Any]:
    job = ended.attempts[-1]["job_id"]
    found: list[dict[str, Any]] = site.ask("GET", f"/v1/job/{job}/allocations")
    return found[-1]


def test_packages_are_installed_once_for_all_runs(site: Site, repository: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "tinything", {"tinything.py": "VALUE = 41\n"})
    first = train(site, repository, tmp_path).succeeded()
    states = allocation(site, first)["TaskStates"]
    assert set(states) == {"environment", "train"}
    assert "Successfully installed tinything-1.0" in first.logs
    assert "caravan: made " in first.logs
    for shed in (tmp_path / "wheels").iterdir():
        shed.unlink()
    again = train(site, repository, tmp_path).succeeded()
    assert "caravan: using " in again.logs
    assert "Successfully installed" not in again.logs


def test_a_package_that_is_nowhere_fails_before_the_training(site: Site, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    ended = train(site, repository, tmp_path)
    assert ended.document["status"] != "succeeded", ended.told()
    outcome = ended.attempts[0]["outcome"]
    assert (outcome["task"], outcome["kind"]) == ("environment", "failed"), ended.told()
    assert "No matching distribution found for tinything==1.0" in ended.logs
    assert any("tinything==1.0" in line for line in ended.diagnosis.lines), ended.told()
    assert ended.diagnosis.failure is FailureClass.PACKAGE_VERSION_CONFLICT, ended.told()


def test_an_index_that_is_away_is_named(site: Site, repository: Path, tmp_path: Path) -> None:
    index = "http://127.0.0.1:9/simple"
    away = {"env.PIP_NO_INDEX": "0", "env.PIP_INDEX_URL": index, "limits.fixes": 0}  # nothing is waited for
    ended = train(site, repository, tmp_path, **away)
    assert ended.diagnosis.failure is FailureClass.NETWORK_UNREACHABLE, ended.told()
    assert any(index in line for line in ended.diagnosis.lines), ended.told()

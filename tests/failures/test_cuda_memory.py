"""A card's memory is too small. No card is here: a stand-in says what PyTorch says, by its arguments and the card."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, copied, documented, sets

pytestmark = pytest.mark.gpu_text
OOM = FailureClass.CUDA_OOM


@pytest.fixture(autouse=True)
def _price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_USD_PER_GPU_HOUR", "0.5")


def train(site: Site, repository: Path, **more: Any) -> Ended:
    usual = {"node_pool": "cards", "resources.gpus": 1, "limits.max_run_s": 300, "env.CARD_MIB": "${meta.card_mib}"}
    return site.run(repository, "--no-smoke", *sets({**usual, **more}))


def test_a_smaller_batch_with_the_same_effective_batch(site: Site, tmp_path: Path) -> None:
    ended = train(site, copied("card", tmp_path)).succeeded(OOM)
    micro, accumulated = (ended.document["plan"]["training"][k] for k in ("micro_batch", "grad_accum"))
    assert micro < 16
    assert micro * accumulated == 16
    assert ended.logs.count("effective batch 16") == 2


def test_a_need_far_off_is_met_within_three_attempts(site: Site, tmp_path: Path) -> None:
    command = "python train.py --per_device_train_batch_size 64 --gradient_accumulation_steps 1"
    ended = train(site, documented(copied("card", tmp_path), command))
    assert ended.document["status"] == "succeeded", ended.told()
    assert set(ended.classes[:-1]) == {OOM}
    assert ended.logs.count("effective batch 64") == len(ended.attempts)


def test_a_batch_of_one_is_met_by_checkpointing(site: Site, tmp_path: Path) -> None:
    options = {"training.options.--max_seq_length": 32768}
    repository = documented(copied("card", tmp_path), "python train.py --per_device_train_batch_size 1")
    ended = train(site, repository, **options).succeeded(OOM)
    assert ended.document["plan"]["training"]["grad_checkpointing"] is True


def test_a_model_that_no_card_holds_is_handed_over(site: Site, tmp_path: Path) -> None:
    ended = train(site, copied("card", tmp_path), **{"training.options.--model-gib": 40})
    assert ended.code in (1, 3), ended.told()
    assert ended.document["status"] != "succeeded"
    assert len(ended.attempts) <= 3
    assert set(ended.classes) == {OOM}


def test_the_users_own_batch_stays_while_something_else_helps(site: Site, tmp_path: Path) -> None:
    ended = train(site, copied("card", tmp_path), **{"training.micro_batch": 16}).succeeded(OOM)
    assert ended.changed() == {"training.grad_checkpointing": [None, True]}


def test_the_users_own_batch_is_changed_only_when_they_agree(site: Site, tmp_path: Path) -> None:
    options = {"training.micro_batch": 16, "training.options.--model-gib": 22}
    ended = train(site, copied("card", tmp_path), **options).asks(OOM, attempts=2)
    assert ended.document["plan"]["training"]["micro_batch"] < 16  # offered, not done
    site.resume(ended, "--approve").succeeded(OOM, OOM)


def test_a_healthy_run_on_a_card(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("card", tmp_path), "python train.py --per_device_train_batch_size 8")
    train(site, repository).succeeded()

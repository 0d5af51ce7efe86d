"""Metrics read from a training's output by shape alone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.metrics import last_metrics


def test_last_value_of_each_metric() -> None:
    text = (
        "epoch 1 loss=2.5 lr: 1e-4\n{'loss': 1.25, 'grad_norm': 3}\n" + '{"step": 10, "eval_loss": 0.5, "ok": true}\n'
    )
    assert last_metrics(text) == {"epoch": 1.0, "loss": 1.25, "lr": 1e-4, "step": 10.0, "eval_loss": 0.5}


def test_a_blank_may_stand_between() -> None:
    assert last_metrics("step 10/370 loss 2.5300 tokens/s 13107") == {"step": 10.0, "loss": 2.53}


def test_names_of_the_repository_count_too() -> None:
    assert last_metrics("mIoU: 0.7", names=("mIoU",)) == {"mIoU": 0.7}
    assert last_metrics("mIoU: 0.7") == {}


def test_times_and_versions_are_no_metrics() -> None:
    assert last_metrics("step_time 12:30:01 loss: 1.2.3 score: 10ms error: 404 while fetching") == {}


def test_what_is_no_number_any_more_is_told() -> None:
    found = last_metrics("loss 0.5\nloss=nan grad_norm_loss: inf\n" + '{"eval_loss": NaN}')
    assert all(not math.isfinite(found[name]) for name in ("loss", "grad_norm_loss", "eval_loss"))


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    last_metrics(text)

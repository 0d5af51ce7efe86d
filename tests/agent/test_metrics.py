"""Metrics read from a training's output by shape alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.metrics import last_metrics, metric_rows


def test_last_value_of_each_metric() -> None:
    text = (
        "epoch 1 loss=2.5 lr: 1e-4\n{'loss': 1.25, 'grad_norm': 3}\n" + '{"step": 10, "eval_loss": 0.5, "ok": true}\n'
    )
    assert last_metrics(text) == {"epoch": 1.0, "loss": 1.25, "lr": 1e-4, "step": 10.0, "eval_loss": 0.5}


def test_a_blank_may_stand_between() -> None:
    assert last_metrics("step 10/370 loss 2.5300 tokens/s 13107") == {"step": 10.0, "loss": 2.53}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Epoch 3/40 | Train Loss: 0.10 | Val Loss: 0.88", {"Epoch": 3, "train_loss": 0.1, "val_loss": 0.88}),
        ("step 250: train loss 4.2, val loss 4.3", {"train_loss": 4.2, "val_loss": 4.3}),
        ("iter 5 loss 0.8 | val loss nan", {"loss": 0.8, "val_loss": math.nan}),
        ("\t Val. Loss: 0.2 |  Val. Acc: 80.00%", {"val_loss": 0.2, "val_acc": 80.0}),
        ("Test set: Average loss: 0.05, done", {"test_loss": 0.05}),
        ("[train] loss: 0.5 | [val] loss=0.6", {"train_loss": 0.5, "val_loss": 0.6}),
        ("discriminator loss: 1.5 generator loss: 2.5", {"discriminator_loss": 1.5, "generator_loss": 2.5}),
        ("Value loss 0.5", {"value_loss": 0.5}),
        ("best val loss: inf", {"best_val_loss": math.inf}),
        ("episode 790 score 249.7 loss 3.9", {"episode": 790, "score": 249.7, "loss": 3.9}),
        ("ep_rew_mean: 247 episode return: 5", {"ep_rew_mean": 247, "episode_return": 5}),
        ("Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.3", {"Epoch": 1, "Loss": 2.3}),
        ("INFO loss 0.5 test step 5", {"loss": 0.5, "step": 5}),
    ],
)
def test_a_name_in_several_words_is_one_name(line: str, found: dict[str, float]) -> None:
    assert repr(list(metric_rows([line]))) == repr([{name: float(value) for name, value in found.items()}])


def test_numbers_in_quotes_are_numbers() -> None:
    """As Transformers 5 prints them."""
    line = "{'loss': '0.6931', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '0.1'}"
    assert last_metrics(line) == {"loss": 0.6931, "learning_rate": 5e-05, "epoch": 0.1}
    assert last_metrics('{"eval_loss": "0.5", "step": 3, "lr": "none"}') == {"eval_loss": 0.5, "step": 3.0}
    assert last_metrics("loss: '0.5 epoch: \"2'") == {}


def test_names_of_the_repository_count_too() -> None:
    assert last_metrics("mIoU: 0.7", names=("mIoU",)) == {"mIoU": 0.7}
    assert last_metrics("mIoU: 0.7") == {}


def test_times_and_versions_are_no_metrics() -> None:
    assert last_metrics("step_time 12:30:01 loss: 1.2.3 score: 10ms error: 404 while fetching") == {}


def test_what_is_no_number_any_more_is_told() -> None:
    found = last_metrics("loss 0.5\nloss=nan grad_norm_loss: inf\n" + '{"eval_loss": NaN}')
    assert all(not math.isfinite(found[name]) for name in ("loss", "grad_norm_loss", "eval_loss"))


def test_what_is_said_of_arguments_is_no_metric() -> None:
    assert last_metrics("train.py: error: unrecognized arguments: --learning_rate 0.01") == {}
    assert last_metrics("error: argument lr: expected loss 3\nusage: train.py --epochs 3 step 2") == {}
    assert last_metrics("+ python train.py --learning_rate 0.01 --epochs=3") == {}
    assert last_metrics("error: 0.5 loss: 0.25 - acc: 0.9") == {"loss": 0.25, "acc": 0.9}


def test_names_are_bounded_and_the_known_ones_come_first() -> None:
    text = "\n".join(f"loss_{n} {n}" for n in range(60_000)) + "\nmIoU 0.5 val_loss 0.25"
    found = last_metrics(text, names=("mIoU", "val_loss"))
    assert len(found) == 50
    assert list(found)[:3] == ["mIoU", "val_loss", "loss_0"]
    assert len(last_metrics("\n".join(f"m{n} 1" for n in range(99)), names=tuple(f"m{n}" for n in range(99)))) == 50


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    last_metrics(text)


def test_endless_blanks_are_read_at_once() -> None:
    """Thousands of such lines: with a pattern that tries every split of the blanks they would take an hour."""
    assert last_metrics((" " * 4096 + "\n") * 3000) == {}

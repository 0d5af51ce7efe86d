"""What evidence names, in one form; and looks at several lines."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.diagnosis.details import NAMES, choices, gib, normal, options
from caravan.diagnosis.looks import blown_up, held_by_others, lost_numbers
from caravan.diagnosis.sentences import places, sentence
from caravan.diagnosis.series import losses
from caravan.diagnosis.signs import SIGNS
from caravan.diagnosis.taxonomy import TAXONOMY
from caravan.values.failure import FailureClass


@pytest.mark.parametrize(
    ("said", "expected"),
    [("20.00 MiB", "0.02"), ("2.50 GiB", "2.5"), ("10000000000 bytes", "9.31"), ("1 TiB", "1024"), ("much", "")],
)
def test_sizes_are_told_in_gib(said: str, expected: str) -> None:
    assert gib(said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("--a=1 b --c", "--a --c"),
        ("--data, -m/--model", "--data --model"),
        ("['--a', 'True']", "--a"),
        ("data, model", "data model"),
        ("-x", "-x"),
    ],
)
def test_options_are_told_by_their_longest_name(said: str, expected: str) -> None:
    assert options(said) == expected


@pytest.mark.parametrize(
    ("said", "expected"), [("'a', 'b'", "a,b"), ("a, b", "a,b"), ("a, b, c…", "a,b"), ("'a', 'b', 'c…", "a,b")]
)
def test_choices_are_told_whole(said: str, expected: str) -> None:
    assert choices(said) == expected


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(max_size=400)))
def test_details_are_never_empty_and_bounded(named: dict[str, str]) -> None:
    assert all(0 < len(value) <= 300 for value in normal(named).values())


def test_signs_name_only_known_details() -> None:
    for sign in SIGNS:
        groups = set(sign.pattern.groupindex) if sign.pattern else set()
        assert {group.rstrip("0123456789") for group in groups} - {"flag", "timeout_ms"} <= NAMES
        assert set(sign.details) <= NAMES


@pytest.mark.parametrize("failure", FailureClass)
def test_sentences_name_only_known_details(failure: FailureClass) -> None:
    for said in TAXONOMY[failure].said:
        assert set(places(said.text)) <= NAMES | {"node", "message", "exit_code"}
        assert set(said.when) <= NAMES


@given(
    st.sampled_from(FailureClass),
    st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(string.printable, min_size=1, max_size=20)),
    st.text(max_size=400),
    st.text(max_size=10),
)
def test_a_cause_is_one_sentence(failure: FailureClass, details: dict[str, str], message: str, node: str) -> None:
    told = sentence(failure, details, message, node)
    assert told.endswith(".")
    assert "\n" not in told
    assert told == sentence(failure, details, message, node)


TORCH = (
    "CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 80.00 GiB of which 1 GiB is free. "
)


@pytest.mark.parametrize(
    ("message", "others"),
    [
        (TORCH + "Including non-PyTorch memory, this process has 78.00 GiB memory in use.", False),
        (TORCH + "Including non-PyTorch memory, this process has 20.00 GiB memory in use.", True),
        (
            TORCH + "Of the allocated memory 70.00 GiB is allocated by PyTorch, and 5.00 GiB is reserved by PyTorch.",
            False,
        ),
        (
            "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 15.78 GiB total capacity; "
            "1.20 GiB already allocated; 3.44 MiB free; 1.40 GiB reserved in total by PyTorch)",
            True,
        ),
        (TORCH, False),  # whose memory it is is not said
    ],
)
def test_who_holds_the_gpu_is_read_off_the_figures(message: str, others: bool) -> None:
    assert (held_by_others((message,)) is not None) is others


def test_losses_are_read_in_any_dress() -> None:
    assert repr(dict(losses("epoch 1 loss=1.5 val_loss: nan"))) == "{'loss': 1.5, 'val_loss': nan}"
    assert dict(losses("{'train/loss': 2.5e-1, 'eval_loss': inf}")) == {"train/loss": 0.25, "eval_loss": float("inf")}
    assert dict(losses("lm loss: 2.1e+00 | loss scale: 1.0 | best_loss: inf")) == {"loss": 2.1}
    assert not list(losses("val_loss improved from inf to 0.7"))
    assert not list(losses("lossless 12 compression, glossary 3"))


def test_noise_is_no_blow_up() -> None:
    noisy = tuple(f"step {n} loss {value}" for n, value in enumerate((2.1, 2.4, 1.9, 2.2, 6.0, 2.0, 2.1, 1.8, 2.6)))
    assert blown_up(noisy) is None
    assert blown_up((*noisy, "step 9 loss 7.0", "step 10 loss 8.0", "step 11 loss 7.5")) is not None


def test_losses_are_not_why_another_exception_came() -> None:
    lines = ("KeyError: 'x'", "step 1 loss 2.0", "step 2 loss nan")
    assert lost_numbers(lines) is None
    assert lost_numbers(lines[1:]) is not None
    assert lost_numbers(("ValueError: input contains NaN", *lines[1:])) is not None


def test_a_held_out_loss_that_never_was_a_number_is_no_divergence() -> None:
    never = ("epoch 0 loss 2.0", "epoch 0 valid_loss nan (no split)", "epoch 1 loss 1.5", "epoch 1 valid_loss nan")
    assert lost_numbers(never) is None
    assert lost_numbers(("epoch 0 valid_loss 1.9", *never)) is not None  # it was one
    assert lost_numbers((*never, "epoch 2 loss nan")) is not None  # the training's own is none either
    assert lost_numbers(("step 1 loss nan", "step 1 eval_loss 2.5")) is not None

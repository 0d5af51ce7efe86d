"""Masking: what looks like a secret or is known to be one does not get through; ordinary words do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.masking import MASK, mask, mask_json

SECRETS = [
    "hf_abcdefghijklmnopqrstuvwx",
    "sk-proj-abcdefghijklmnop1234",
    "ghp_abcdefghijklmnopqrst1234",
    "glpat-abcdefghijklmnop12",
    "AKIAABCDEFGHIJKLMNOP",
    "xoxb-1234567890-abcdef",
    "hvs.abcdefghijklmnop1234",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "token is {} there", "X={}", '"{}"', "https://host/?k={}", "a\n{}\nb"])
def test_shapes(secret: str, around: str) -> None:
    assert secret not in mask(around.format(secret))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("WANDB_API_KEY=0123456789abcdef0123", "0123456789abcdef0123"),
        ('password: "hunter22"', "hunter22"),
        ("--api-key abcdef123456", "abcdef123456"),
        ("Authorization: Bearer abcdefghijkl", "abcdefghijkl"),
        ("https://user:pa55word@host/x", "pa55word"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "abc"),
        ("DB_PASSWD='s3cr3t-value'", "s3cr3t-value"),
    ],
)
def test_names(text: str, secret: str) -> None:
    assert secret not in mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "tokens: 123456 per second",
        "max_token_length 512",
        "token count is 1234567",
        "eos_token: </s>",
        "tokenizer: Qwen2Tokenizer",
        '"tokens_per_second": round(speed)',
        "secrets are given by reference",
        "loss 0.1234 lr 1e-4",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert mask(text) == text


def test_known_values_go_wherever_they_stand() -> None:
    assert mask("x=alpha-beta-gamma!", ["alpha-beta-gamma"]) == f"x={MASK}!"
    assert mask("to be or not", ["or"]) == "to be or not"  # too short to be hidden safely


def test_json_keys_count_as_names() -> None:
    assert mask_json({"password": "hunter22", "list": ["a"]}, ())["password"] == MASK


@given(st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    once = mask(text, ["planted-secret"])
    assert mask(once, ["planted-secret"]) == once

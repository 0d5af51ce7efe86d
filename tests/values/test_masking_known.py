"""Masking of what is known to be secret: by name in an environment, in every form; and what is never taken for one."""

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.values.masking import MASK, forms, is_secret_name, mask, secret_values

QUICK = settings(max_examples=150, deadline=None, derandomize=True)
SECRET = st.text(st.characters(exclude_categories=("Cs",)), min_size=6, max_size=40).filter(lambda s: s.strip() == s)


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "NOMAD_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "QDRANT_KEY"),
        *("DB_PASS", "PGPASSWORD", "MYSQL_PWD", "SENTRY_DSN", "GITHUB_PAT", "SSH_PASSPHRASE", "NPM_AUTH", "my_secret"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("TOKENIZERS_PARALLELISM", "MAX_TOKENS", "PWD", "OLDPWD", "HOME", "NOMAD_TOKEN_FILE", "SSH_AUTH_SOCK"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "PASSWORD_STORE_DIR", "DATA_ROOT", "AWS_REGION", "PATH", "KEYBOARD"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


def test_values_in_an_environment() -> None:
    environment = {
        "HF_TOKEN": "oddone",
        "API_KEY": "short",
        "SECRET": "true",
        "WANDB_API_KEY": "disabled",
        "MAX_SECRETS": "1000000",
        "DATABASE_URL": "postgres://me:p%40ss-word@host/db",
        "HOME": "/home/somebody",
    }
    assert secret_values(environment) == ("oddone", "p%40ss-word", "p@ss-word")


@QUICK
@given(SECRET, st.text(string_ := "abc =:/", max_size=5), st.text(string_, max_size=5))
def test_a_known_secret_is_gone_in_every_form(secret: str, before: str, after: str) -> None:
    data = secret.encode()
    shown = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]]
    shown += [base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()]
    for form in shown:
        masked = mask(f"{before}{form}{after}", [secret])
        assert form.rstrip("=") not in masked
        assert mask(masked, [secret]) == masked


@QUICK
@given(SECRET.filter(lambda s: len(s.encode()) >= 12), st.binary(max_size=5), st.binary(max_size=5))
def test_a_known_secret_is_gone_inside_longer_base64(secret: str, before: bytes, after: bytes) -> None:
    whole = base64.b64encode(before + secret.encode() + after).decode()
    assert MASK in mask(whole, [secret])


def test_a_secret_of_several_lines_is_known_by_each() -> None:
    key = "first line of it\nsecond line of it\nx"
    assert mask("there: second line of it", [key]) == f"there: {MASK}"
    assert "x" not in forms((key,))


HEX = st.text("0123456789abcdef", min_size=7, max_size=64)
UUID = st.uuids().map(str)
METRIC = st.floats(allow_nan=False, allow_infinity=False).map(repr)
JOB = HEX.map(lambda text: f"caravan-{text[:8]}-a01")


@QUICK
@given(st.one_of(HEX, UUID, METRIC, JOB))
def test_digests_ids_and_metrics_are_never_taken_for_secrets(plain: str) -> None:
    for text in (plain, f"sha256:{plain}", f"run {plain} ended", f"loss = {plain}", f'{{"spec_sha256": "{plain}"}}'):
        assert mask(text) == text


@QUICK
@given(st.text(max_size=200), st.lists(st.text(max_size=20), max_size=3))
def test_masking_never_raises_and_twice_is_once(text: str, known: list[str]) -> None:
    once = mask(text, known)
    assert mask(once, known) == once

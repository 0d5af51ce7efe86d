"""Masking of keys and passwords in command lines, sentences and quotes; and of what only resembles them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.values.masking import MASK, mask, mask_json

HEX = "0123456789abcdef0123456789abcdef01234567"
KEY = "aB3dE5gH7jK9mN1pQ3sT5vX7"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
BODY = "\n".join((LETTERS * 2)[n : n + 64] for n in range(5))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"--wandb_key {HEX}", f"--wandb_key {MASK}"),
        (f"--wandb-key={HEX}", f"--wandb-key={MASK}"),
        (f"--key {KEY}", f"--key {KEY}"),
        (f"RUNPOD_KEY={KEY}", f"RUNPOD_KEY={MASK}"),
        (f"wandb_key: {HEX}", f"wandb_key: {MASK}"),
        (f"{{'comet_key': '{KEY}'}}", f"{{'comet_key': '{MASK}'}}"),
        (
            f"API key must be 40 characters long, yours was {KEY}",
            f"API key must be 40 characters long, yours was {MASK}",
        ),
        (f"Incorrect API key provided: {KEY}.", f"Incorrect API key provided: {MASK}."),
        (f"wandb login --relogin {HEX}", f"wandb login --relogin {MASK}"),
        (f"wandb login --host https://w.example.com {HEX}", f"wandb login --host https://w.example.com {MASK}"),
        (f"RUN wandb login {HEX} && python train.py", f"RUN wandb login {MASK} && python train.py"),
        (
            f"AccountName=a;AccountKey={KEY}{KEY}==;EndpointSuffix=core.windows.net",
            f"AccountName=a;AccountKey={MASK};EndpointSuffix=core.windows.net",
        ),
        (f"https://hooks.slack.com/services/T0AB/B0CD/{KEY}", f"https://hooks.slack.com/{MASK}"),
        (f"https://discord.com/api/webhooks/1234/{KEY}", f"https://discord.com/api/webhooks/{MASK}"),
        (f"nvapi-{KEY}-x", MASK),
        (f"npm_{KEY}{KEY[:12]}", MASK),
        (f"pypi-AgEIcHlwaS5vcmc{KEY}", MASK),
        (f"VAULT s.{KEY} there", f"VAULT {MASK} there"),
        ("passphrase: correcthorse", f"passphrase: {MASK}"),
        ("--password correcthorse --x 1", f"--password {MASK} --x 1"),
        ("curl -u bob:pw https://h/x", f"curl -u bob:{MASK} https://h/x"),
        ("curl -sS --user 'bob:p w' x", f"curl -sS --user 'bob:{MASK} w' x"),
        ("mysql -u root -phunter db", f"mysql -u root -p{MASK} db"),
        ("sshpass -p hunter ssh x", f"sshpass -p {MASK} ssh x"),
        ("password='correct horse battery'", f"password='{MASK}'"),
        ('DB_PASSWORD = "my dog ate it", x=1', f'DB_PASSWORD = "{MASK}", x=1'),
        ("api_key='abc123def ghi' x", f"api_key='{MASK}' x"),
        (f"x\n{BODY}\nqQ==\n-----END RSA PRIVATE KEY-----\ny", f"x\n{MASK}\ny"),
    ],
)
def test_what_gives_a_secret_away_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        f"commit {HEX}",
        f"HEAD is now at {HEX[:7]} wandb login fixed",
        f"cache_key={HEX}",
        f"key={HEX}",
        f"cacheKey: {HEX}",
        f"--job_key {HEX}",
        "--key-frame 12345678901234567890",
        "--text_key prompt_2024_observation_images",
        "sort_key=created_at_2024_01_01_000000000001",
        'KeyError: "model.layers.0.self_attn.q_proj.weight"',
        'Missing key(s) in state_dict: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"',
        "unexpected key encoder.layer.0.attention.self.query.weight in source state_dict",
        "key=value lr=0.0002 seed=1234567890123456789",
        "tensor([[0.1234, 0.5678], [1.2345e-05, 0.0000]], device='cuda:0', grad_fn=<AddBackward0>)",
        "wandb: ERROR api_key not configured (no-tty). call wandb.login(key=[your_api_key])",
        "huggingface-cli login failed",
        "You need to be authenticated: run huggingface-cli login or pass a token",
        "API key must be 40 characters long, yours was 11",
        "the api key was not found in configuration/settings.yaml",
        "self.ForwardWithCheckpointing2And3(x)",
        "s.AbstractAttentionProcess.forward",
        "password: incorrect",
        "password: unexpectedly",
        "passphrase: required",
        "usage: x [--password PASSWORD] [--user USER]",
        "--password: the database's password",
        "curl: (6) Could not resolve host: example.com",
        "curl -u",
        "mysql: command not found",
        "pip install mysql-python==1.2.5 -p",
        "/root/.npm_global/lib/node_modules/npm_and_others",
        "pypi-server-of-the-cluster 1.2.3",
        "-----BEGIN TRAINING-----",
        "AccountKey=None",
        "primary key customer1234567890123456 is taken",
        "NCCL INFO cudaDriverVersion 12040 commId 0x8a5b2c3d4e5f6a7b keys exchanged",
    ],
)
def test_what_only_resembles_one_stays(text: str) -> None:
    assert mask(text) == text


def test_a_vendors_key_in_a_document() -> None:
    assert mask_json({"wandb_key": HEX, "git": HEX}, ()) == {"wandb_key": MASK, "git": HEX}


WORD = st.sampled_from(
    [
        *(
            "curl ",
            "-u ",
            "mysql ",
            "-p",
            "login ",
            "wandb ",
            "key",
            "key=",
            "--",
            "_",
            " ",
            "'",
            '"',
            "\\",
            "password",
            ":",
        ),
        *(
            "=",
            "s.",
            "api key ",
            "was ",
            "-----END PRIVATE KEY-----",
            "\n",
            KEY,
            HEX,
            "a" * 70,
            "token",
            ",",
            ";",
            "pwd",
        ),
        *("hooks.slack.com/services/", "x1", "passphrase: ", "npm_", "AccountKey="),
    ]
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(WORD, max_size=14).map("".join))
def test_twice_is_once_whatever_is_put_together(text: str) -> None:
    once = mask(text)
    assert mask(once) == once

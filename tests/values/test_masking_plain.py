"""What masking must leave as it is: metrics under any name, paths, images, slugs, ids, dates, sentences, code."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.agent.metrics import last_metrics
from caravan.values.masking import MASK, mask

QUICK = settings(max_examples=300, deadline=None, derandomize=True)
WORDS = (
    *("token", "tokens", "secret", "password", "auth", "key", "api", "access", "credential", "passphrase", "private"),
    *("accuracy", "loss", "acc", "f1", "per", "second", "strength", "mean", "score", "id", "count", "lr", "step"),
)
METRIC_NAME = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).flatmap(
    lambda words: st.sampled_from("_-./").map(lambda between: between.join(words))
)
NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**15), 10**15),
    st.floats(-1, 1),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
)
ROW = st.dictionaries(METRIC_NAME, NUMBER, min_size=1, max_size=5)
UNIT = st.sampled_from(["", "", "%", "s", "it/s", " tokens/s", "k", "MiB", "ms", "x"])


@QUICK
@given(ROW)
def test_rows_of_metrics_stay(row: dict[str, float]) -> None:
    for text in (
        json.dumps(row),
        json.dumps(row, separators=(",", ":")),
        json.dumps([row, {"epoch": row}]),
        json.dumps(json.dumps(row)),
        str(row),
        str([row]),
        f"{{'train': {row}}}",
    ):
        assert mask(text) == text


@QUICK
@given(ROW, UNIT, st.sampled_from(["=", ": ", ":", " = ", " "]), st.sampled_from([" ", ", ", " | ", "|", "; ", "\t"]))
def test_pairs_of_metrics_stay(row: dict[str, float], unit: str, sign: str, between: str) -> None:
    text = between.join(f"{name}{sign}{value!r}{unit}" for name, value in row.items())
    for around in ("{}", "[{}]", "({}).", "step 1: {}", "train ({}) [00:12<00:30]"):
        said = around.format(text)
        assert mask(said) == said


def test_a_metric_with_a_secrets_name_can_be_judged() -> None:
    line = '{"epoch":0,"loss":1.6,"token_accuracy":0.93125}'
    assert last_metrics(mask(line), names=("token_accuracy",))["token_accuracy"] == 0.93125


SLUG_WORDS = (
    *("task", "disk", "risk", "mask", "specific", "multitask", "learning", "embeddings", "benchmark", "throughput"),
    *("of", "loaders", "experiments", "v1", "2", "llama", "7b", "instruct", "sk", "hf", "basic", "train", "large"),
    *("archvs", "graph", "high", "generation", "assessment", "colony", "ant", "proj", "finetune", "2026-11-21"),
)
SLUG = st.lists(st.sampled_from(SLUG_WORDS), min_size=1, max_size=6).flatmap(
    lambda words: st.sampled_from("-_.").map(lambda between: between.join(words))
)
HEX = st.text("0123456789abcdef", min_size=40, max_size=64)
PLAIN = st.one_of(
    st.lists(SLUG, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts) + ".jsonl"),
    st.tuples(SLUG, SLUG, st.sampled_from([":1", ":latest", "", ":v2.0.1"])).map(
        lambda p: f"registry.example.com:5000/{p[0]}/{p[1]}{p[2]}"
    ),
    st.tuples(SLUG, HEX).map(lambda p: f"{p[0]}@sha256:{p[1]}"),
    SLUG,
    HEX,
    st.uuids().map(str),
    st.datetimes().map(lambda at: at.isoformat()),
    st.dates().map(str),
    st.tuples(SLUG, st.uuids()).map(lambda p: f"{p[0]}-{str(p[1])[:8]}-a01"),
)


@QUICK
@given(PLAIN)
def test_paths_images_slugs_digests_ids_and_dates_stay(plain: str) -> None:
    for text in (plain, f"--data {plain}", f'"{plain}"', f"dataset={plain}", f"docker://{plain}", f"at {plain}: ok"):
        assert mask(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Basic authentication is required",
        "basic training started",
        "Basic configuration",
        "a bearer certificate",
        "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
        "NoCredentialsError: Unable2locate credentials",
        "TokenError: expired2026",
        "password: incorrect",
        "token_type_ids=tensor([[0,0]])",
        "token_ids=np.float32(0.93125)",
        "token: str = field(default=None)",
        "password=field(default=None)",
        "api_key: Optional[str]",
        "api_key: Optional[SecretStringValue]",
        "bos_token=BOS_TOKEN",
        "token_acc=99.12%",
        "token throughput: 1234.56it/s",
        "token count=123456/200000",
        "last_token:\nLoading2shards",
        "task-specific-embeddings:1",
        "sk-wikipedia-experiments-v1",
        "docker://python:3.11@sha256:" + "ab" * 32,
    ],
)
def test_sentences_and_code_stay(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("f(token=abc123def)", f"f(token={MASK})"),
        ('{"a": {"token":"abc123def"}}', f'{{"a": {{"token":"{MASK}"}}}}'),
        (r"{\"token\":\"abc123def\"}", rf"{{\"token\":\"{MASK}\"}}"),
        ("[password=correcthorse]", f"[password={MASK}]"),
        ("password=ab(cd123)", f"password={MASK}"),
        ("password=Hunter(2Hunter2x", f"password={MASK}"),
        ("api_key: correcthorsebatterystaple", f"api_key: {MASK}"),
        ("password=123456abc", f"password={MASK}"),
        ("token=${X}&password=hunter22", f"token=${{X}}&password={MASK}"),
        ("(token=abc123def).", f"(token={MASK})."),
        ("Authorization: Basic YWxhZGRpbg", f"Authorization: Basic {MASK}"),
        ("Basic YWxhZGRpbjpvcGVu", f"Basic {MASK}"),
        ("Bearer abcdefgh1", f"Bearer {MASK}"),
        (r"a\nhf_abcdefghijklmnopqrstuvwx", rf"a\n{MASK}"),
        ("k%3Dhf_abcdefghijklmnopqrstuvwx", f"k%3D{MASK}"),
        ("\x1b[31mhf_abcdefghijklmnopqrstuvwx", f"\x1b[31m{MASK}"),
        ("sk-abcdefghijklmnopqrstuv1234", MASK),
        ("sk-ant-api03-AbCdEfGh_ij-KlMnOpQr", MASK),
        ("/sk-lf-8b1f1acc-77aa-4c3d-9e21-5f0a1b2c3d4e/", f"/{MASK}/"),
    ],
)
def test_what_is_masked_ends_where_it_ends(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "said",
    [
        '{"p":"pa\\u0026ss\\u003cw\\u003eord/1\\"x\'y z9"}',
        "pa%26ss%3cw%3eord%2f1%22x%27y%20z9",
        "pa&amp;ss&lt;w&gt;ord/1&quot;x&#39;y z9",
        "pa&amp;ss&lt;w&gt;ord/1&#34;x&#39;y z9",
        "'pa&ss<w>ord/1\"x\\'y z9'",
        "'pa&ss<w>ord/1\"x'\"'\"'y z9'",
        "pa&ss<w>ord\\/1\\\"x'y z9",
        json.dumps(json.dumps("pa&ss<w>ord/1\"x'y z9")),
    ],
)
def test_a_known_secret_is_found_however_it_is_quoted(said: str) -> None:
    masked = mask(said, ["pa&ss<w>ord/1\"x'y z9"])
    assert MASK in masked
    assert "ord" not in masked

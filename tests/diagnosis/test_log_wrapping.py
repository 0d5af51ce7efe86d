"""What stands around the lines of a log: keys and banners, loggers' and drivers' JSON."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.logscan import unwrapped
from caravan.diagnosis.logtext import clean_lines, digest
from caravan.values.failure import Stage

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
BODY = [(LETTERS * 2)[n : n + 64] for n in range(5)]
TRACE = (
    'Traceback (most recent call last):\n  File "/w/train.py", line 3, in <module>\n    load()\n'
    "RuntimeError: CUDA error: out of memory"
)


def lines(*text: str) -> list[str]:
    return [line for line in clean_lines("\n".join(text).encode()) if line]


def test_a_banner_hides_nothing() -> None:
    log = ("-----BEGIN TRAINING-----", "step 1", "KeyError: 'x'")
    assert lines(*log) == list(log)


def test_keys_and_certificates_go_whatever_is_left_of_them() -> None:
    for what in ("RSA PRIVATE KEY", "CERTIFICATE", "OPENSSH PRIVATE KEY"):
        head, end = f"-----BEGIN {what}-----", f"-----END {what}-----"
        assert lines("a", head, *BODY, "qQ==", end, "b")[-1] == "b"
        for log in (
            ("a", head, "Proc-Type: 4,ENCRYPTED", "", *BODY, "KeyError: 'x'"),
            ("a", *BODY, "qQ==", end, "KeyError: 'x'"),
            ("a", *BODY, "Killed", "KeyError: 'x'"),
        ):
            kept = lines(*log)
            assert not set(kept) & {*BODY, "qQ=="}
            assert kept[0] == "a"
            assert kept[-1] == "KeyError: 'x'"


def test_a_rank_before_each_line_of_a_key_changes_nothing() -> None:
    kept = lines(*(f"[rank0]: {line}" for line in ("-----BEGIN PRIVATE KEY-----", *BODY, "aQ==", "Killed")))
    assert kept[-1] == "Killed"
    assert not set(kept) & {*BODY, "aQ=="}


def test_digests_and_paths_are_no_keys() -> None:
    log = ("0123456789abcdef" * 4, "/data/" + "Corpus7/" * 8 + "x", "=" * 80)
    assert lines(*log) == list(log)


def test_a_traceback_inside_a_line_of_json_is_read() -> None:
    row = json.dumps({"level": "ERROR", "message": "training failed", "exc_info": TRACE})
    found = evidence_of(Stage.VERIFY, log=f"started\n{row}\n".encode()).log_lines
    assert "RuntimeError: CUDA error: out of memory" in found
    assert not any("\\n" in line for line in found)
    assert digest(row.encode()).chain[0][-1] == "RuntimeError: CUDA error: out of memory"


def test_lines_of_a_log_driver_are_read() -> None:
    rows = (json.dumps({"log": f"{line}\n", "stream": "stderr", "time": "now"}) for line in TRACE.split("\n"))
    assert digest("\n".join(rows).encode()).chain[0][-1] == "RuntimeError: CUDA error: out of memory"


def test_metrics_and_settings_in_json_stay() -> None:
    for row in (b'{"loss": 2.0, "step": 1}', b'{"event": "step", "loss": 2.0}', b'{"lr": 1e-4}', b"{'loss': 1}", b"{}"):
        assert unwrapped(row) == (row,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["log", "message", "exc_info", "error", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(JSON)
def test_any_json_is_read(document: object) -> None:
    for ascii_only in (True, False):
        raw = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        assert all(b"\n" not in part for part in unwrapped(raw))
        digest(raw)

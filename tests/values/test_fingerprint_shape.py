"""Fingerprints: equal for the same failure in another place, different for another failure, never failing."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.fingerprint import fingerprint, shape

STACK = (
    '  File "/srv/jobs/a1b2/train.py", line 120, in main',
    '  File "/srv/jobs/a1b2/lib/model.py", line 9, in forward',
    "RuntimeError: shape '[4, 128]' is invalid for input of size 1024 at 0x7f3a2c",
)
MOVED = (
    '  File "C:\\work\\train.py", line 7, in main',
    '  File "model.py", line 12345, in forward',
    "RuntimeError: shape '[8, 64]' is invalid for input of size 77 at 0xdeadbeef",
)


def test_place_and_figures_do_not_matter_but_cause_and_functions_do() -> None:
    assert fingerprint("user_code_bug", STACK) == fingerprint("user_code_bug", MOVED)
    assert fingerprint("user_code_bug", STACK) != fingerprint("unknown", STACK)
    assert fingerprint("user_code_bug", STACK) != fingerprint("user_code_bug", (STACK[0], STACK[2]))
    assert fingerprint("unknown", ["", "  "]) == "unknown:-"


@pytest.mark.parametrize(
    ("line", "blank"),
    [
        ("Tried to allocate 2.50 GiB (GPU 0; 79.2 GiB total)", "Tried to allocate <size> (GPU <n>; <size> total)"),
        ("can't open '/x/y.txt': didn't exist", "can't open <s>: didn't exist"),
        ("see https://a.b/c?d=1 or ./x/y", "see <url> or .<path>"),
        ("alloc 0b6f1d22-93ce-41d7-8a50-e2c4f70a915b died", "alloc <hex> died"),
        ("commit deadbeef99 lr 1e-4", "commit <hex> lr <n>"),
        ("feedface accede", "feedface accede"),
        ("[rank3]: 2026-05-01 12:00:01,123 - ValueError: no", "ValueError: no"),
        ("May  1 12:00:01 no space for user alice", "no space for user <user>"),
        ("node gpu-17.cluster.local:29500 is gone, node lost", "node <host>:<n> is gone, node lost"),
        ("host h100-3 and [fe80::1ff:fe23:4567:890a]", "host <host> and <host>"),
        ("run-20260501_120000-abc12xyz, run id: x7k2p", "run-<id>, run id: <id>"),
        ("needs torch 1.13.1+cu117, has v2.0.0rc1", "needs torch <n>, has <n>"),
        ("torch.Size([4, 128, 3]) and [7]", "torch.Size([<n>]) and [<n>]"),
        ("No module named 'flash_attn.ops'", "No module named flash_attn.ops"),
        ("module 'numpy' has no attribute 'float'", "module numpy has no attribute float"),
        ("\x1b[31m 45%|████▌  | 9/20 [00:12<00:14]\x1b[0m", "<path> [<time><<time>]"),
    ],
)
def test_shapes(line: str, blank: str) -> None:
    assert shape(line) == blank


@given(st.text())
def test_any_text_has_a_shape(text: str) -> None:
    assert not set(shape(text)) & set("\n\t0123456789")


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_numbers_do_not_change_a_shape(a: int, b: int) -> None:
    assert shape(f"step {a} of {b}") == shape("step 1 of 2")


WORD = st.from_regex(r"[a-z]{3,8}", fullmatch=True)
PLACES = st.builds(
    lambda *parts: "/" + "/".join(parts), st.sampled_from(["home", "srv", "mnt"]), WORD, WORD, st.just("train.py")
)
HOSTS = st.builds(lambda name, n: f"{name}-{n}.cluster.internal", WORD, st.integers(0, 99))
IDS = st.from_regex(r"[a-z0-9]{4,12}[0-9]", fullmatch=True)
TIMES = st.integers(10**9, 4 * 10**9).map(lambda s: datetime.fromtimestamp(s, UTC))
VARIED = st.tuples(PLACES, HOSTS, IDS, st.integers(1, 10**6), WORD, TIMES, st.integers(0, 2**40))


def told(varied: tuple[str, str, str, int, str, datetime, int], module: str = "einops", error: str = "OSError") -> str:
    """The fingerprint of one failure, as it is told by that run."""
    place, host, run, number, user, time, address = varied
    return fingerprint(
        "unknown",
        (
            f'  File "{place}", line {number}, in main',
            f"[rank{number % 8}]: {time:%Y-%m-%d %H:%M:%S},{number % 1000:03} - run id: {run} of user={user}",
            f"connect to host {host}:{number % 65535} at {address:#018x}: {number}.5 GiB of {place}",
            f"{error}: No module named '{module}' in torch {number % 3}.{number % 9}.1+cu{100 + number % 30}",
        ),
    )


@given(VARIED, VARIED)
def test_the_same_failure_of_another_run_has_the_same_fingerprint(one: Any, other: Any) -> None:
    assert told(one) == told(other)


@given(VARIED, WORD, WORD)
def test_another_exception_or_module_is_another_failure(varied: Any, one: str, other: str) -> None:
    if one != other:
        assert told(varied, module=one) != told(varied, module=other)
        assert told(varied, error=f"{one}Error") != told(varied, error=f"{other}Error")

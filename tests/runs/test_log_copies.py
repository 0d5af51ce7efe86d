"""Log copies: whatever the chunks, whatever the crash, no byte twice, none lost, no secret at any moment."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.runs.logs import MAX_LINE, LogCopies

NAME = "a.train.stdout.log"
KNOWN = "correct-horse-battery"
SHAPED = "hf_" + "Ab3" * 8


def feed(copies: LogCopies, data: bytes, chunk: int) -> None:
    for n in range(0, len(data), chunk):
        copies.append(NAME, data[n : n + chunk])


def copy_of(folder: Path) -> bytes:
    return (folder / NAME).read_bytes()


@pytest.mark.parametrize("secret", [KNOWN, SHAPED, "api_key=Zx81kk29qq", "https://me:hunter22@host/x"])
@pytest.mark.parametrize("ending", ["\n", " and more\r\n", ""])
def test_a_secret_cut_anywhere_is_never_in_the_copy(tmp_path: Path, secret: str, ending: str) -> None:
    text = f"before {secret}{ending}".encode()
    hidden = secret.removeprefix("api_key=").removeprefix("https://me:").split("@")[0].encode()
    for cut in range(1, len(text)):
        folder = tmp_path / f"{cut}"
        copies = LogCopies(folder, [KNOWN])
        for part in (text[:cut], text[cut:]):
            copies.append(NAME, part)
            shown = copy_of(folder)
            assert hidden not in shown
            assert all(hidden[:n] not in shown for n in range(6, len(hidden)))
            assert shown.startswith(text[: min(cut, 6)])
        assert b"[masked]" in shown


lines = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"loss 0.5", b"", KNOWN.encode(), b"token=" + b"q1" * 9, b"\xff\x00\xc3", "größe".encode()]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"]))), st.integers(1, 60), st.integers(1, 60))
def test_the_copy_does_not_depend_on_the_chunks(parts: list[tuple[bytes, bytes]], one: int, other: int) -> None:
    data = b"".join(text + ending for text, ending in parts)
    shown = []
    for chunk in (one, other):
        with tempfile.TemporaryDirectory() as name:
            copies = LogCopies(Path(name), [KNOWN])
            copies.append(NAME, b"")
            feed(copies, data, chunk)
            assert copies.size(NAME) == len(data)
            shown.append(copy_of(Path(name)))
    assert shown[0] == shown[1]
    assert KNOWN.encode() not in shown[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=12), st.data())
def test_after_a_crash_no_byte_is_twice_and_none_is_lost(sizes: list[int], data: st.DataObject) -> None:
    log = b"".join(b"line %d\n" % n for n in range(60)) + b"unfinished"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies = LogCopies(folder)
        for size in sizes:
            at = copies.size(NAME)
            account = folder / f".{NAME}.account"
            before = account.read_bytes() if account.exists() else None
            copies.append(NAME, log[at : at + size])
            crash = data.draw(st.sampled_from(["no", "after", "before the account"]))
            if crash == "before the account":
                account.unlink() if before is None else account.write_bytes(before)
            if crash != "no":
                copies = LogCopies(folder)
        copies.append(NAME, log[copies.size(NAME) :])
        assert copy_of(folder) == log
        assert LogCopies(folder).files() == (folder / NAME,)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"raw": 5, "written": 10000, "number": 1, "in_key": 0}'])
def test_a_damaged_account_starts_the_copy_anew(tmp_path: Path, damage: bytes) -> None:
    LogCopies(tmp_path).append(NAME, b"one\ntwo\n")
    (tmp_path / f".{NAME}.account").write_bytes(damage)
    copies = LogCopies(tmp_path)
    assert copies.size(NAME) == 0
    copies.append(NAME, b"one\ntwo\n")
    assert copy_of(tmp_path) == b"one\ntwo\n"


def test_a_line_without_end_is_cut_and_says_so(tmp_path: Path) -> None:
    copies = LogCopies(tmp_path, [KNOWN])
    line = b"x" * (MAX_LINE - 10) + KNOWN.encode() + b"y" * 100_000
    feed(copies, line, 30_000)
    assert copies.size(NAME) == len(line)
    assert len(copy_of(tmp_path)) <= MAX_LINE
    copies.append(NAME, b"\nnext\n")
    first, second = copy_of(tmp_path).splitlines()
    assert first.endswith(b"x[masked] [%d bytes left out]" % (len(line) - MAX_LINE))
    assert b"correct" not in first
    assert second == b"next"


def test_a_private_key_over_lines_and_processes_is_hidden(tmp_path: Path) -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\nMIIEdef\n-----END RSA PRIVATE KEY-----\nafter\n"
    for line in key.splitlines(keepends=True):
        LogCopies(tmp_path).append(NAME, line.encode())
    shown = copy_of(tmp_path).decode()
    assert "MIIE" not in shown
    assert shown.endswith("[masked]\nafter\n")


def test_a_secret_of_several_lines_is_hidden_line_by_line(tmp_path: Path) -> None:
    LogCopies(tmp_path, ["first-part-of-it\nsecond-part-of-it"]).append(
        NAME, b"a first-part-of-it\nsecond-part-of-it\n"
    )
    assert copy_of(tmp_path) == b"a [masked]\n[masked]\n"


@pytest.mark.parametrize(
    "first",
    [
        "y" * (MAX_LINE + 100) + "-----BEGIN PRIVATE KEY-----",
        "y" * (MAX_LINE - 10) + "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY----- -----END CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEabc\n-----END PRIVATE KEY----- -----BEGIN PRIVATE KEY-----",
    ],
)
@pytest.mark.parametrize("chunk", [7, 100, 1 << 20])
def test_a_key_is_hidden_wherever_its_first_line_stands(tmp_path: Path, first: str, chunk: int) -> None:
    copies = LogCopies(tmp_path)
    text = f"{first}\nMIIEghi\nMIIEdef\n-----END PRIVATE KEY-----\nafter\n"
    feed(copies, text.encode(), chunk)
    assert b"MIIE" not in copy_of(tmp_path)
    assert copy_of(tmp_path).endswith(b"\nafter\n")

"""Copies of logs without end: bounded, beginning and end kept, the gap said, quick, whole after a crash."""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.runs import logs
from caravan.runs.folder import DiskFolder
from caravan.runs.logs import LogCopies

NAME = "a.train.stdout.log"
KNOWN = "correct-horse-battery"
LIMIT = 400
GAP = re.compile(rb"\[(\d+) bytes of the log are left out here: CARAVAN_MAX_LOG_MB bounds what is kept\]\n")


def whole(copies: LogCopies) -> bytes:
    return b"".join(path.read_bytes() for path in copies.files())


def fed(folder: Path, data: bytes, chunk: int, limit: int = LIMIT) -> LogCopies:
    copies = LogCopies(folder, [KNOWN], limit=limit)
    for n in range(0, len(data), chunk):
        copies.append(NAME, data[n : n + chunk])
    return copies


def test_beginning_and_end_stay_and_the_gap_is_said_to_the_byte(tmp_path: Path) -> None:
    log = b"".join(b"line %d\n" % n for n in range(1000))
    copies = fed(tmp_path, log, 50)
    begin, gap, end = GAP.split(whole(copies))
    assert log.startswith(begin)
    assert log.endswith(end)
    assert len(begin) + int(gap) + len(end) == len(log)
    assert LIMIT / 2 <= len(begin) + len(end) < 2 * LIMIT
    assert copies.size(NAME) == len(log)
    assert [path.name for path in copies.files()][:2] == [NAME, "a.train.stdout.000000.log"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 120), max_size=40), st.data())
def test_whatever_the_crash_nothing_is_twice_and_only_the_gap_is_missing(sizes: list[int], data: st.DataObject) -> None:
    log = b"".join(b"line %d\n" % n for n in range(600)) + b"unfinished"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies = LogCopies(folder, limit=LIMIT)
        for size in sizes:
            at = copies.size(NAME)
            account = folder / f".{NAME}.account"
            before = account.read_bytes() if account.exists() else None
            copies.append(NAME, log[at : at + size])
            crash = data.draw(st.sampled_from(["no", "after", "before the account"]))
            if crash == "before the account":
                account.unlink() if before is None else account.write_bytes(before)
            if crash != "no":
                copies = LogCopies(folder, limit=LIMIT)
        copies.append(NAME, log[copies.size(NAME) :])
        parts = GAP.split(whole(copies))
        missing = int(parts[1]) if len(parts) == 3 else 0
        assert log.startswith(parts[0])
        assert log.endswith(parts[-1])
        assert len(parts[0]) + missing + (len(parts[2]) if len(parts) == 3 else 0) == len(log)


def test_a_lost_account_leaves_no_old_part(tmp_path: Path) -> None:
    log = b"".join(b"line %d\n" % n for n in range(1000))
    fed(tmp_path, log, 50)
    (tmp_path / f".{NAME}.account").unlink()
    copies = LogCopies(tmp_path, limit=LIMIT)
    assert copies.size(NAME) == 0
    copies.append(NAME, b"again\n")
    assert whole(copies) == b"again\n"


def test_what_follows_a_part_reads_every_line_once(tmp_path: Path) -> None:
    """As `logs -f` does: each file from where it was left, in the order of the files."""
    log = b"".join(b"line %d\n" % n for n in range(300))
    copies = LogCopies(tmp_path, limit=4000)
    offsets: dict[Path, int] = {}
    read = b""
    for n in range(0, len(log), 64):
        copies.append(NAME, log[n : n + 64])
        for path in copies.files():
            piece = path.read_bytes()[offsets.get(path, 0) :]
            whole_lines = piece[: piece.rfind(b"\n") + 1]
            offsets[path] = offsets.get(path, 0) + len(whole_lines)
            read += whole_lines
    assert read == log


@pytest.mark.parametrize(
    "part", [b"\xff\x00\n", b"\r", b"\x1b[2J", b"y\n", b"\n", f"{KNOWN}\n".encode(), b"token=q1q1q1q1q1\n"]
)
def test_a_flood_is_bounded_and_masked(tmp_path: Path, part: bytes) -> None:
    copies = fed(tmp_path, part * 20_000, 30_000, limit=8000)
    assert sum(path.stat().st_size for path in copies.files()) < 8000 + 2 * 60_000  # whole appends are kept
    assert KNOWN.encode() not in whole(copies)
    assert b"q1q1" not in whole(copies)
    assert copies.size(NAME) == len(part) * 20_000


def test_lines_that_can_hold_no_secret_are_not_masked_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked: list[str] = []
    monkeypatch.setattr(logs, "mask", lambda text, _: masked.append(text) or text)
    LogCopies(tmp_path, [KNOWN]).append(NAME, b"loss 0.5\n" * 10_000 + b"tokens/s 12\n" + b"x" * 20)
    assert len(masked) < 10


def test_the_folder_bounds_its_logs(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path, "r-1", max_log_mb=1)
    for _ in range(5):
        folder.append_log("a" * 8, "train", "stdout", b"0123456789abcde\n" * 50_000)
    sizes = [path.stat().st_size for path in folder.log_files()]
    assert sum(sizes) < 3_000_000
    assert folder.log_size("a" * 8, "train", "stdout") == 4_000_000

"""Reading a log whose beginning the cluster drops: nothing twice, nothing lost that it still has, gaps are said."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.log_reader import LogReader
from caravan.ports import Cluster
from caravan.values.errors import ClusterDenied
from caravan.values.job import FileEntry

SOURCE = ("0a1b2c3d", "train", "stdout")


class Rotating:
    """The logs of a cluster that keeps the last `most` bytes at least, in files of `size` bytes."""

    def __init__(self, size: int, most: int, *, listed: bool = True) -> None:
        self.size, self.most, self.listed = size, most, listed
        self.log = b""
        self.dropped = 0
        self.sent = 0

    def write(self, data: bytes) -> None:
        self.log += data
        while len(self.log) - self.dropped - self.size >= self.most:
            self.dropped += self.size

    def list_files(self, _alloc: str, path: str) -> tuple[FileEntry, ...]:
        assert path == "alloc/logs"
        first, last = self.dropped // self.size, len(self.log) // self.size
        others = ("train.stderr.7", "train.stdout.extra.3", "trainer.stdout.9", ".train.stdout.fifo")
        if not self.listed:
            raise ClusterDenied("Permission denied")
        kept = [
            FileEntry(name=f"train.stdout.{i}", size=len(self.log[i * self.size :][: self.size]))
            for i in range(first, last + 1)
        ]
        return (*(FileEntry(name=n, size=99) for n in others), *kept)

    def logs(self, _alloc: str, _task: str, _stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        kept = self.log[self.dropped :]
        assert offset >= 0
        data = kept[offset : offset + min(limit, 5000)]
        self.sent += len(data)
        return data


def drained(reader: LogReader, copied: bytes) -> tuple[bytes, list[str]]:
    remarks = []
    while True:
        data, remark = reader.read(SOURCE, len(copied))
        remarks += [remark] if remark else []
        if not data:
            return copied, remarks
        copied += data


def reader_of(cluster: Rotating) -> LogReader:
    return LogReader(cast("Cluster", cluster))


def lines(first: int, count: int) -> bytes:
    return b"".join(b"line %d\n" % n for n in range(first, first + count))


@given(st.lists(st.integers(0, 800), max_size=20), st.booleans())
def test_a_log_that_is_followed_is_read_whole_though_its_beginning_is_dropped(counts: list[int], listed: bool) -> None:
    cluster = Rotating(3000, 20_000, listed=listed)
    reader, copied, written = reader_of(cluster), b"", 0
    for count in counts:
        cluster.write(lines(written, count))
        written += count
        copied, remarks = drained(reader, copied)
        assert remarks == []
    assert copied == cluster.log


@given(st.lists(st.integers(0, 600), max_size=20))
def test_a_log_that_repeats_itself_is_read_whole_too(counts: list[int]) -> None:
    cluster = Rotating(3000, 20_000)
    reader, copied = reader_of(cluster), b""
    for count in counts:
        cluster.write(b"tick tick\n" * count)
        copied, remarks = drained(reader, copied)
        assert remarks == []
    assert copied == cluster.log


def test_a_file_that_is_dropped_while_a_piece_is_read_moves_nothing() -> None:
    class Hasty(Rotating):
        late = b""

        def logs(self, *args: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
            late, self.late = self.late, b""
            if late:
                self.write(late)  # between the last look at the files and the read
            return super().logs(args[0], args[1], args[2], offset=offset, limit=limit)

    cluster = Hasty(3000, 20_000)
    reader, copied = reader_of(cluster), b""
    for _ in range(20):
        cluster.write(b"tick tick\n" * 300)
        cluster.late = b"tick tick\n" * 300
        copied, remarks = drained(reader, copied)
        assert remarks == []
    assert copied == cluster.log


def test_a_file_that_is_dropped_does_not_make_the_whole_log_be_read_again() -> None:
    cluster = Rotating(300_000, 3_000_000)
    reader = reader_of(cluster)
    cluster.write(lines(0, 300_000))
    copied, _ = drained(reader, b"")
    before = cluster.dropped
    cluster.write(lines(0, 25_000)[:300_000])
    assert cluster.dropped > before
    cluster.sent = 0
    more, remarks = drained(reader, copied)
    assert more.endswith(cluster.log[-290_000:])
    assert remarks == []
    assert cluster.sent < 300_000 * 9  # 4,096 bytes again with each piece of 5,000
    assert len(more) - len(copied) < 310_000


def test_a_token_that_may_list_no_files_any_more_reads_on() -> None:
    cluster = Rotating(3000, 20_000)
    reader = reader_of(cluster)
    cluster.write(lines(0, 100))
    copied, _ = drained(reader, b"")
    cluster.listed = False
    for first in range(100, 4000, 300):
        cluster.write(lines(first, 300))
        copied, remarks = drained(reader, copied)
        assert remarks == []
    assert copied == cluster.log


def test_another_agent_that_has_all_goes_on_after_a_drop() -> None:
    cluster = Rotating(3000, 20_000)
    cluster.write(lines(0, 2000))
    copied, _ = drained(reader_of(cluster), b"")
    reader = reader_of(cluster)
    assert drained(reader, copied) == (copied, [])
    cluster.write(lines(2000, 600))
    assert cluster.dropped
    assert drained(reader, copied) == (cluster.log, [])


def test_another_agent_after_a_drop_does_not_skip_what_nobody_copied() -> None:
    cluster = Rotating(3000, 20_000)
    cluster.write(lines(0, 2900))
    copied, _ = drained(reader_of(cluster), b"")
    cluster.write(lines(2900, 100))
    assert cluster.dropped > 0
    more, remarks = drained(reader_of(cluster), copied[:10_000])
    assert more == copied[:10_000] + cluster.log[cluster.dropped :]
    assert len(remarks) == 1


def test_what_was_dropped_before_it_was_read_is_said_once_and_the_rest_is_read() -> None:
    cluster = Rotating(3000, 20_000)
    reader = reader_of(cluster)
    cluster.write(lines(0, 500))
    first, _ = drained(reader, b"")
    cluster.write(lines(500, 20_000))
    copied, remarks = drained(reader, first)
    assert copied == first + cluster.log[cluster.dropped :]
    assert remarks == ["The cluster keeps only the end of the stdout of train. A part was not copied."]
    cluster.write(b"end\n")
    assert drained(reader, copied) == (copied + b"end\n", [])


def test_what_was_dropped_before_the_first_look_is_said() -> None:
    cluster = Rotating(3000, 20_000)
    cluster.write(lines(0, 5000))
    copied, remarks = drained(reader_of(cluster), b"")
    assert copied == cluster.log[cluster.dropped :]
    (remark,) = remarks
    gone = cluster.dropped // cluster.size
    assert remark.endswith(f"Files of it that had gone before the first look and are not copied: {gone}.")


def test_another_agent_goes_on_where_the_first_one_stopped() -> None:
    cluster = Rotating(3000, 20_000)
    cluster.write(lines(0, 1000))
    copied, _ = drained(reader_of(cluster), b"")
    cluster.write(lines(1000, 10))
    assert drained(reader_of(cluster), copied) == (cluster.log, [])


def test_another_agent_after_a_drop_neither_stalls_nor_is_silent() -> None:
    cluster = Rotating(3000, 20_000)
    cluster.write(lines(0, 5000))
    cluster.write(lines(5000, 1000))
    more, remarks = drained(reader_of(cluster), b"x" * (len(cluster.log) - 10))
    assert more.endswith(cluster.log[-2000:])
    assert len(remarks) == 1


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=30)), max_size=30), st.booleans())
def test_reading_ends_whatever_becomes_of_the_log(writes: list[tuple[bool, bytes]], another: bool) -> None:
    cluster = Rotating(1 << 30, 1 << 30)
    reader, copied = reader_of(cluster), b""
    for anew, data in writes:
        cluster.log = data if anew else cluster.log + data
        copied, _ = drained(reader_of(cluster) if another else reader, copied)
        assert another or copied.endswith(data[-1:])


def test_a_log_that_is_gone_is_no_gap() -> None:
    cluster = Rotating(3000, 20_000)
    cluster.write(lines(0, 100))
    reader = reader_of(cluster)
    copied, _ = drained(reader, b"")
    cluster.log, cluster.dropped = b"", 0
    assert drained(reader, copied) == (copied, [])

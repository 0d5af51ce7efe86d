"""Readers of training data: any bytes give rows and problems, nothing else; the line of each is exact."""

import csv
import gzip
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caravan.training.data.look import check_data
from caravan.training.data.places import DataFile, Place, parted
from caravan.training.data.problems import Problems
from caravan.training.data.reading import Reading
from caravan.training.data.sampling import BLOCK, MIB, Budget, Plan
from caravan.values.training import DataFormat, DataKind, DataReport

ENDINGS = ("jsonl", "json", "csv", "tsv", "txt", "parquet", "jsonl.gz", "csv.gz", "png", "weird")
SMALL = Budget(whole=0, head=BLOCK, tail=BLOCK, parts=2)


def opener(data: bytes) -> Callable[[], io.BytesIO]:
    return lambda: io.BytesIO(data)


def place(*files: tuple[str, bytes], folder: str = "") -> Place:
    found = tuple(DataFile(name, len(data), opener(data)) for name, data in files)
    return Place(folder or files[0][0], found, folder=bool(folder))


def look(name: str, data: bytes | str) -> DataReport:
    return check_data(place((name, data.encode() if isinstance(data, str) else data)))


def places_of(report: DataReport, kind: DataKind) -> list[int | None]:
    return [problem.line for problem in report.problems if problem.kind is kind]


def rows(name: str, data: bytes, budget: Budget | None = None) -> tuple[list[tuple[int, str]], Reading]:
    reading = Reading(place((name, data)), budget or Budget(), Problems())
    return [(row.line, str(row.fields.get("text"))) for row in reading.rows()], reading


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ENDINGS), st.binary(max_size=600))
@example("csv", b'a,b\n"x\n')
@example("json", b"[1, ")
@example("json", b"[" * 5000)
@example("jsonl", b"[" * 5000)
@example("jsonl", b'{"text": ' + b"9" * 6000 + b"}")
@example("jsonl", b"\xef\xbb\xbf")
@example("csv", b"\0\n\0")
@example("jsonl.gz", b"\x1f\x8b\x08")
def test_any_bytes_give_a_report(ending: str, data: bytes) -> None:
    report = look(f"data.{ending}", data)
    assert report.looked_at <= max(report.rows or report.looked_at, report.looked_at)
    assert all(problem.line is None or problem.line >= 1 for problem in report.problems)


_JSONISH = st.lists(
    st.sampled_from(
        ['{"text": "a"}', '{"text": 1}', "{", "[]", "null", "", " ", '{"text": "\\ud800"}', '{"messages": []}', "}\r"]
    ),
    max_size=12,
)


@given(st.sampled_from(["jsonl", "json", "csv", "txt"]), _JSONISH)
def test_any_lines_give_a_report_whose_lines_are_there(ending: str, lines: list[str]) -> None:
    text = "\n".join(lines)
    report = look(f"data.{ending}", text)
    most = max(1, text.count("\n") + 1)
    assert all(problem.line is None or 1 <= problem.line <= most for problem in report.problems)


_CELL = st.text(st.sampled_from('ab ,;"\n\té漢'), min_size=1, max_size=12)


@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=20))
def test_rows_of_a_table_begin_where_they_begin(cells: list[tuple[str, str]]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["text", "other"])
    starts = []
    for row in cells:
        starts.append(out.getvalue().count("\n") + 1)
        writer.writerow(row)
    found, reading = rows("a.csv", out.getvalue().encode())
    assert found == [(line, text) for line, (text, _) in zip(starts, cells, strict=True)]
    assert reading.counts.rows == len(cells)


def test_a_row_of_another_width_after_one_over_several_lines() -> None:
    report = look("a.csv", 'text,label\n"one\ntwo\nthree",1\n"four",2\nfive\nsix,1\n')
    assert places_of(report, DataKind.MALFORMED) == [6]
    assert report.rows == 4


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_lines_that_are_no_json_are_named(end: str, good: list[bool]) -> None:
    text = "".join(('{"text": "x"}' if each else '{"text": "x"') + end for each in good)
    report = look("a.jsonl", text)
    bad = [number for number, each in enumerate(good, 1) if not each]
    assert places_of(report, DataKind.MALFORMED) == bad[:3]
    assert report.rows == len(good)


def test_a_broken_line_far_inside_of_much_data_is_found_and_counted() -> None:
    line = json.dumps({"text": "words " * 40}).encode() + b"\n"
    many = 3 * MIB // len(line)
    data = line * many + b'{"text": "cut off\n' + line * many
    found, reading = rows("a.jsonl", data, SMALL)
    told = reading.problems.told()
    assert [(p.line, p.kind) for p in told] == [(many + 1, DataKind.MALFORMED)]
    assert reading.counts.rows == 2 * many + 1
    assert len(found) == reading.counts.looked_at - 1
    assert reading.counts.looked_at < many
    assert found[-1][0] == 2 * many + 1, "the last rows are among those that are looked at"
    numbers = [number for number, _ in found]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("bad", [b'{"text": "caf\xe9"}\n', b'{"text": "a\0b"}\n'])
def test_wrong_bytes_far_inside_are_found(bad: bytes) -> None:
    line = b'{"text": "caf\xc3\xa9 ' + b"x" * 200 + b'"}\n'
    many = 3 * MIB // len(line)
    _, reading = rows("a.jsonl", line * many + bad + line * many, SMALL)
    assert [p.line for p in reading.problems.told()] == [many + 1]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=8), st.integers(0, 3))
def test_items_of_a_list_have_the_lines_where_they_begin(texts: list[str], spread: int) -> None:
    items = [json.dumps({"text": text}, ensure_ascii=False, indent=spread or None) for text in texts]
    document = "[\n" + ",\n\n".join(items) + "\n]"
    found, reading = rows("a.json", document.encode())
    assert [text for _, text in found] == texts
    lines = document.split("\n")
    assert all(lines[number - 1].startswith("{") for number, _ in found)
    assert not reading.problems


def test_a_list_over_many_blocks() -> None:
    items = [{"text": f"{n} " * 50_000} for n in range(20)]
    found, reading = rows("a.json", json.dumps(items, indent=1).encode())
    assert [text for _, text in found] == [item["text"] for item in items]
    assert reading.counts.rows == 20


@pytest.mark.parametrize(
    ("name", "text", "line", "word"),
    [
        ("a.jsonl", '{\n "text": "a"\n}', 1, "jq -c"),
        ("a.jsonl", '[{"text": "a"}]', 1, ".json"),
        ("a.json", '[{"text": "a"},\n {"text": }]', 2, "no JSON"),
        ("a.json", '[{"text": "a"},\n', 2, "no end"),
        ("a.jsonl", "{'text': 'a'}", 1, "double quotes"),
        ("a.jsonl", '"just a text"\n', 1, "not an object"),
        ("a.csv", 'text,label\na,"b', 2, "quote"),
        ("a.csv", "text,text\na,b\n", 1, "once"),
        ("a.zip", "anything", None, "no kind of data"),
    ],
)
def test_what_is_malformed_is_told_with_what_to_do(name: str, text: str, line: int | None, word: str) -> None:
    (problem,) = [p for p in look(name, text).problems if p.kind is DataKind.MALFORMED]
    assert problem.line == line
    assert word in problem.text
    assert problem.fatal


def test_files_of_windows_and_of_spreadsheets_are_read() -> None:
    assert look("a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n').problems == ()
    assert look("a.csv", b"\xef\xbb\xbftext;label\r\na;1\r\nb;2\r\n").labels == ("1", "2")
    assert "UTF-16" in look("a.csv", "text,label\n".encode("utf-16")).problems[0].text


def test_compressed_rows_have_their_lines_and_the_hash_of_the_file() -> None:
    packed = gzip.compress(b'{"text": "a"}\n{"text": \n')
    report = look("a.jsonl.gz", packed)
    assert places_of(report, DataKind.MALFORMED) == [2]
    import hashlib

    assert report.sha256 == hashlib.sha256(packed).hexdigest()
    cut = look("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9999)[:-20])
    assert "compression is broken" in cut.problems[0].text


def test_a_parquet_file_is_read_by_groups() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(
        pa.table({"text": [f"row {n}" for n in range(1000)], "label": [n % 3 for n in range(1000)]}),
        out,
        row_group_size=100,
    )
    report = look("a.parquet", out.getvalue())
    assert (report.format, report.rows, report.looked_at) == (DataFormat.CLASSIFICATION, 1000, 1000)
    assert report.labels == ("0", "1", "2")
    broken = look("a.parquet", out.getvalue()[:-10])
    assert broken.problems[0].kind is DataKind.MALFORMED
    some = Reading(place(("a.parquet", out.getvalue())), Budget(whole=0, rows=150), Problems())
    first = [row.line for row in some.rows()]
    assert first[0] == 1
    assert len(first) < 1000
    assert some.counts.rows == 1000


def test_a_folder_is_its_commonest_kind_without_what_its_names_hold_out() -> None:
    folder = place(
        ("d/train.jsonl", b'{"text": "a"}\n'),
        ("d/test-00.jsonl", b'{"text": "b"}\n'),
        ("d/readme.md", b"hello"),
        ("d/.hidden.jsonl", b"{"),
        folder="d",
    )
    learned, apart = parted(folder)
    assert [f.name for f in learned.files] == ["d/train.jsonl"]
    assert apart is not None
    assert [f.name for f in apart.files] == ["d/test-00.jsonl"]


def test_a_plan_looks_at_the_beginning_the_end_and_parts_between() -> None:
    total = 10_000 * MIB
    plan = Plan(Budget(), total)
    wanted = [offset for offset in range(0, total, BLOCK) if plan.wants(offset)]
    assert wanted[0] == 0
    assert wanted[-1] == total - BLOCK
    assert len(wanted) * BLOCK < 64 * MIB
    middle = [offset for offset in wanted if total // 3 < offset < 2 * total // 3]
    assert len(middle) > 10


def test_a_source_that_can_not_be_opened_is_told() -> None:
    def refuses() -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    report = check_data(Place("a.jsonl", (DataFile("a.jsonl", 10, refuses),)))
    (problem,) = report.fatal
    assert (problem.kind, problem.file) == (DataKind.MISSING, "a.jsonl")
    assert "Permission denied" in problem.text

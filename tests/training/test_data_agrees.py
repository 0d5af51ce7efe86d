"""The look before a launch and the reader of the scripts take the same bytes, and refuse the same."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.training.data.look import check_data
from caravan.training.data.places import DataFile, Place, parted
from caravan.training.data.problems import Problems
from caravan.training.data.reading import Reading
from caravan.training.data.sampling import Budget
from caravan.values.training import DataKind
from tests.training.test_data_readers import opener, place

_PIECES = [
    *(
        b'{"text": "a"}',
        b'{"text": "\xc3\xa9"}',
        b'{"text": ',
        b"[]",
        b"a,b",
        b"text,label",
        b'"a ""q""",1',
        b'"open',
        b"a,b,c",
    ),
    *(b"\n", b"\r\n", b"\n\n", b"\xff", b" ", b",", b'"', b"caf\xc3\xa9,1", b"null", b"a;b"),
]
BYTES = st.lists(st.sampled_from(_PIECES), max_size=14).map(b"".join)


@pytest.fixture(scope="module")
def scripts() -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(TEMPLATES / "train"))
        yield importlib.import_module("shared.data")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(["jsonl", "csv", "tsv", "txt"]), BYTES)
@example("csv", b"text,label\n\na,1\n")
@example("csv", b'text\n"a\nb"\n\xff\n')
@example("jsonl", b'\xef\xbb\xbf{"text": "a"}')
def test_what_the_scripts_refuse_is_refused_before(scripts: Any, tmp_path: Path, ending: str, data: bytes) -> None:
    path = tmp_path / f"data.{ending}"
    path.write_bytes(data)
    problems = Problems()
    reading = Reading(Place(str(path), (DataFile(str(path), len(data), opener(data)),)), Budget(), problems)
    mine = [(row.line, dict(row.fields)) for row in reading.rows()]
    fatal = [p for p in problems.told() if p.fatal]
    try:
        theirs = scripts.load(str(path))
    except scripts.Refused as refused:
        theirs, kind = None, refused.kind
    if theirs is None:
        assert bool(fatal) is (kind != "empty")
        assert mine == [] or kind != "empty"
        return
    assert not fatal
    assert mine == [(row.line, row.values) for row in theirs.rows]
    assert reading.sha256 == theirs.sha256


def test_a_folder_is_parted_alike(scripts: Any, tmp_path: Path) -> None:
    names_of_files = ("a/train.jsonl", "a/test-1.jsonl", "b.csv", "dev/c.jsonl", "x.txt", ".h.jsonl", "validation.json")
    files = dict.fromkeys(names_of_files, b'{"text": "a"}\n')
    for name, data in files.items():
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(b"text\na\n" if name.endswith("csv") else data)
    theirs = scripts.load(str(tmp_path / "d"))
    learned, apart = parted(place(*((f"d/{name}", data) for name, data in files.items()), folder="d"))

    def names(found: Any) -> set[str]:
        return {str(name).removeprefix(str(tmp_path) + "/") for name in found}

    assert {f.name for f in learned.files} == names(theirs.files)
    assert apart is not None
    assert {f.name for f in apart.files} == names(theirs.held_out.files)


def test_an_empty_file_is_empty_to_both(scripts: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n")
    with pytest.raises(scripts.Refused) as refused:
        scripts.load(str(tmp_path / "a.jsonl"))
    assert refused.value.kind == "empty"
    assert check_data(place(("a.jsonl", b"\n"))).problems[0].kind is DataKind.EMPTY

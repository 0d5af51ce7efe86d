"""Rows of data files: counted, extrapolated, read off a footer; and files that are none of it."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis import data_sizes as reader
from caravan.analysis.data_sizes import data_sizes
from caravan.analysis.thrift import parquet_rows
from caravan.analysis.tree import FileEntry
from caravan.planning.dataset_size import dataset_size
from caravan.values.datasets import DatasetAnswer, DatasetSize, SplitSize
from caravan.values.plan import Dataset, TrainingPlan
from caravan.values.repo import RepoProfile
from tests.analysis.repositories import LOOP, profile_of


def sized(name: str, data: bytes, named: str | None = None) -> DatasetSize | None:
    found = data_sizes(
        [FileEntry(name, len(data), 0o644)], lambda _, n: data[:n], lambda _, n: data[-n:] if n else b"", named
    )
    return found[0] if found else None


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def zigzag(value: int) -> bytes:
    return varint(value << 1)


def footer(rows: int) -> bytes:
    """A Parquet file of no pages whose metadata has a schema of two elements, as writers lay it out."""
    name = b"schema"
    element = b"\x48" + varint(len(name)) + name + b"\x15" + zigzag(1) + b"\x00"
    leaf = b"\x15" + zigzag(6) + b"\x25" + zigzag(1) + b"\x18" + varint(4) + b"text" + b"\x00"
    body = b"\x15" + zigzag(2) + b"\x19\x2c" + element + leaf + b"\x16" + zigzag(rows) + b"\x19\x0c" + b"\x00"
    return b"PAR1" + body + len(body).to_bytes(4, "little") + b"PAR1"


ROWS = [{"prompt": "a" * 10, "answer": "b" * 30}] * 50


def test_lines_of_json() -> None:
    data = "\n".join(json.dumps(r) for r in ROWS).encode()
    size = sized("data/train.jsonl", data)
    assert size is not None
    assert (size.rows, size.mean_chars, size.exact, size.bytes) == (50, 40, True, len(data))
    assert "50 rows counted" in size.source
    assert sized("train.json", data) == size.model_copy(
        update={"name": "train.json", "source": "train.json of the repository: 50 rows counted"}
    )


@pytest.mark.parametrize("document", [ROWS, {"version": 1, "data": ROWS}])
def test_a_list_of_json(document: object) -> None:
    size = sized("data/train.json", json.dumps(document, indent=1).encode())
    assert size is not None
    assert (size.rows, size.mean_chars) == (50, 40)


def test_tables_with_line_breaks_in_quotes() -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["text", "label"], *[["two\nlines", "1"]] * 30])
    size = sized("reviews.csv", text.getvalue().encode())
    assert size is not None
    assert (size.rows, size.mean_chars) == (30, 10)


@pytest.mark.parametrize("name", ["big.jsonl", "big.json", "big.csv"])
def test_large_files_are_extrapolated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_READ", 5_000)
    rows = [{"text": "x" * (50 + i % 10)} for i in range(1000)]
    lines = {
        "big.jsonl": "\n".join(json.dumps(r) for r in rows),
        "big.json": json.dumps(rows),
        "big.csv": "text\n" + "\n".join(r["text"] for r in rows),
    }
    size = sized(name, lines[name].encode())
    assert size is not None
    assert size.rows == pytest.approx(1000, rel=0.05)
    assert not size.exact
    assert "extrapolated" in size.source


def test_a_parquet_footer() -> None:
    assert parquet_rows(footer(123_456)) == 123_456
    size = sized("data/train.parquet", b"PAR1" + b"\0" * 300 + footer(52_002))
    assert size is not None
    assert size.rows == 52_002


@given(st.binary(max_size=200))
def test_any_footer_is_a_number_or_none(data: bytes) -> None:
    rows = parquet_rows(data + len(data).to_bytes(4, "little") + b"PAR1")
    assert rows is None or rows >= 0
    assert parquet_rows(data) is None or data.endswith(b"PAR1")


@given(st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet"]), st.binary(min_size=200, max_size=400))
def test_any_bytes_give_a_size_or_none(name: str, data: bytes) -> None:
    size = sized(name, data)
    assert size is None or size.rows is None or size.rows >= 0


@pytest.mark.parametrize("name", ["package.json", "ds_config.json", "tokenizer.json", "requirements.txt", "a.py"])
def test_what_is_no_data(name: str) -> None:
    assert sized(name, json.dumps(ROWS).encode()) is None


def test_a_repository_s_files_reach_the_plan(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(r) for r in ROWS)
    code = f"import torch\n\ndef main(model, batches):{LOOP}\nmain(None, [])\n"
    files = {"train.py": code, "data/train.jsonl": lines, "data/test.jsonl": lines, "corpus.txt": "words " * 100}
    profile = profile_of(tmp_path, files)
    assert {s.name for s in profile.data_sizes} == {"data/train.jsonl", "data/test.jsonl", "corpus.txt"}
    plan = TrainingPlan(goal="", command=("python", "train.py"))
    for named in ("data", "./data/", "data/train.jsonl"):
        size = dataset_size(plan.model_copy(update={"dataset": Dataset(path=named)}), profile)
        assert size is not None
        assert (size.rows, size.mean_chars) == (50, 40)
    text = dataset_size(plan.model_copy(update={"dataset": Dataset(path="corpus.txt")}), profile)
    assert text is not None
    assert (text.rows, text.bytes) == (None, 600)
    assert dataset_size(plan.model_copy(update={"dataset": Dataset(path="/data")}), profile) is None


def test_a_person_s_count_and_the_hub_s() -> None:
    splits = (SplitSize(config="default", split="train", rows=900, bytes=90_000), SplitSize(config="x", split="train"))
    splits = (*splits, SplitSize(config="default", split="test", rows=100, bytes=1))
    profile = RepoProfile(
        **{"root": "/r", "tree_digest": "0", "is_training_repo": True},
        datasets_on_hub=(DatasetAnswer(dataset="acme/talks", splits=splits),),
    )
    plan = TrainingPlan(goal="", command=("python", "train.py"), dataset=Dataset(path="acme/talks"))
    size = dataset_size(plan, profile)
    assert size is not None
    assert (size.rows, size.mean_chars, size.source) == (
        900,
        100,
        "the hub's size of acme/talks (default, split train)",
    )
    told = dataset_size(plan.model_copy(update={"dataset": Dataset(path="acme/talks", examples=10)}), profile)
    assert told is not None
    assert (told.rows, told.source) == (10, "the plan's dataset.examples")
    assert dataset_size(plan.model_copy(update={"dataset": Dataset()}), None) is None

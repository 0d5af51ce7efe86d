"""Choosing a type: by what is said, by the data's columns, by the model; what is as likely is asked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.training.choosing import Chosen, Scene, asks_for_ours, choose, named_data
from caravan.training.loading import load_types
from caravan.training.sniffing import architectures, image_folders, likely, look
from caravan.values.errors import UsageError
from caravan.values.training import DataFormat

TYPES = load_types(TEMPLATES / "train")


def rows(**row: object) -> bytes:
    return (json.dumps(row) + "\n").encode() * 3


CHAT = rows(messages=[{"role": "user", "content": "hi"}])


def chosen(
    prompt: str, files: dict[str, bytes], *, model: str | None = None, named: str | None = None
) -> Chosen | None:
    seen = [s for path in likely(files) if (s := look(path, files[path])) is not None]
    kind = architectures({"model_type": model}) if model else None
    scene = Scene(prompt, (*seen, *image_folders(files)), frozenset(files), model, kind)
    return choose(TYPES, scene, named=named)


@pytest.mark.parametrize(
    ("prompt", "files", "name", "data"),
    [
        (
            "Fine-tune the tiny model with LoRA on data/train.jsonl",
            {"data/train.jsonl": CHAT},
            "sft",
            "data/train.jsonl",
        ),
        ("Fine-tune it", {"qa.jsonl": rows(question="a", answer="b")}, "sft", "qa.jsonl"),
        ("Fine-tune it", {"a.jsonl": rows(instruction="a", input="", output="b")}, "sft", "a.jsonl"),
        ("Embeddings for retrieval", {"qa.jsonl": rows(question="a", answer="b")}, "embeddings", "qa.jsonl"),
        ("Train it", {"t.csv": b"anchor,positive\na,b\n"}, "embeddings", "t.csv"),
        ("Sort our mails by intent", {"m.csv": b"text,intent\na,b\n"}, "text-classification", "m.csv"),
        ("Train a classifier", {"f/rose/1.jpg": b"", "f/lily/1.jpg": b""}, "image-classification", "f"),
        ("Fine-tune Qwen/Qwen2.5-0.5B on tatsu-lab/alpaca", {"README.md": b""}, "sft", "tatsu-lab/alpaca"),
        ("Continue with the corpus", {"corpus/a.txt": b"Once upon a time"}, "sft", "corpus/a.txt"),
    ],
)
def test_the_type_follows_data_and_words(prompt: str, files: dict[str, bytes], name: str, data: str) -> None:
    found = chosen(prompt, files)
    assert found is not None
    assert (found.folder.type.name, found.data) == (name, data)


def test_what_is_as_likely_is_doubtful_and_named() -> None:
    found = chosen("Fine-tune it", {"r.csv": b"text,label\na,b\n"})
    assert found is not None
    assert found.sure < 0.5
    assert {found.folder.type.name, *found.others} == {"sft", "text-classification"}
    sure = chosen("Train a sentiment classifier", {"r.csv": b"text,label\na,b\n"})
    assert sure is not None
    assert (sure.folder.type.name, sure.sure, sure.others) == ("text-classification", 0.9, ())


def test_the_held_out_file_is_no_training_data() -> None:
    files = {"data/train.jsonl": CHAT, "data/test.jsonl": CHAT}
    for prompt in ("Fine-tune it", "Fine-tune it on data", "Fine-tune it on data/train.jsonl"):
        found = chosen(prompt, files)
        assert found is not None
        assert (found.data, found.held_out) == ("data/train.jsonl", "data/test.jsonl"), prompt


def test_several_files_leave_the_data_doubtful() -> None:
    found = chosen("Fine-tune it", {"a.jsonl": CHAT, "b.jsonl": CHAT})
    assert found is not None
    assert (found.data, found.other_data) == ("a.jsonl", ("b.jsonl",))
    assert found.data_sure < 0.5


def test_without_data_nothing_is_chosen_but_what_is_named() -> None:
    assert chosen("Train it", {"README.md": b"", "config.json": b"{}", "requirements.txt": b"torch"}) is None
    named = chosen("Train it", {"README.md": b""}, named="lora")
    assert named is not None
    assert (named.folder.type.name, named.sure, named.data) == ("sft", 1.0, None)
    with pytest.raises(UsageError) as raised:
        chosen("Train it", {}, named="rlhf")
    assert "There are: embeddings" in raised.value.line()


@pytest.mark.parametrize(
    ("path", "data", "columns"),
    [
        ("a.jsonl", b'{"text": "x"}\n', ("text",)),
        ("a.json", b'[{"text": "x", "label": 1}]', ("text", "label")),
        ("a.json", b'{"text": "x"}\n{"text": "y"}\n', ("text",)),
        ("a.csv", b"\xef\xbb\xbftext,label\n", ("text", "label")),
        ("a.tsv", b"text\tlabel\n", ("text", "label")),
        ("a.parquet", b"PAR1", None),
    ],
)
def test_columns_are_read_off_the_beginning(path: str, data: bytes, columns: tuple[str, ...] | None) -> None:
    found = look(path, data)
    assert found is not None
    assert found.columns == columns


@pytest.mark.parametrize(
    ("path", "data"), [("a.json", b'{"lr": 1}'), ("a.jsonl", b"[1, 2]\n"), ("a.csv", b"1,,\n"), ("a.json", b"[[")]
)
def test_what_has_no_rows_is_no_data(path: str, data: bytes) -> None:
    assert look(path, data) is None


@given(st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.tsv", "train.txt", "a.parquet"]), st.binary(max_size=300))
def test_no_bytes_break_the_look(path: str, data: bytes) -> None:
    look(path, data)


@given(st.text(max_size=200))
def test_no_sentence_breaks_the_choice(prompt: str) -> None:
    named_data(prompt, frozenset({"data/train.jsonl"}))
    chosen(prompt, {"data/train.jsonl": CHAT})


def test_formats_are_the_type_s_own() -> None:
    found = chosen("Fine-tune it", {"a.jsonl": rows(messages=[], text="x")})
    assert found is not None
    assert found.format is DataFormat.CHAT


def test_only_a_plain_wish_is_one() -> None:
    assert asks_for_ours("Fine-tune it with your own script")
    assert asks_for_ours("use Caravan's template")
    assert not asks_for_ours("Fine-tune it with the training script in scripts/")
    assert not asks_for_ours("run your_script.py")

"""What a look at data finds: columns, conversations, labels, duplicates, leaks, lengths; and no content."""

import importlib
import json
from collections.abc import Sequence
from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.training.data.chat import Refused, TemplateBroken, written
from caravan.training.data.look import Wish, check_data
from caravan.training.data.model_files import ModelFiles
from caravan.training.data.places import Place
from caravan.training.loading import load_types
from caravan.values.base import Json
from caravan.values.training import DataFormat, DataKind, DataProblem, DataReport, TrainingType
from tests.training.test_data_readers import place

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n"
    "{% endfor %}"
)
SECRET = "The planted words of a row"


def type_of(name: str) -> TrainingType:
    return load_types(TEMPLATES / "train").get(name).type


def lines(rows: Sequence[Json], name: str = "a.jsonl") -> Place:
    return place((name, "".join(json.dumps(row) + "\n" for row in rows).encode()))


def look(rows: Sequence[Json], kind: str | None = None, **more: Any) -> DataReport:
    wish = Wish(
        type_of(kind) if kind else None, **{k: more.pop(k) for k in ("format", "columns", "max_len") if k in more}
    )
    return check_data(lines(rows), wish, **more)


def found(report: DataReport, kind: DataKind) -> DataProblem:
    problems = [problem for problem in report.problems if problem.kind is kind]
    assert problems, report
    return problems[0]


def chat(*said: str) -> dict[str, Json]:
    return {"messages": [{"role": r, "content": c} for r, _, c in (one.partition(":") for one in said)]}


GOOD = {
    "sft": [chat(f"user:question {n}", f"assistant:answer {n}") for n in range(30)],
    "text-classification": [{"text": f"a text {n}", "label": n % 3} for n in range(30)],
    "embeddings": [{"anchor": f"question {n}", "positive": f"answer {n}"} for n in range(30)],
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_rows_have_no_problem(kind: str) -> None:
    report = look(GOOD[kind], kind)
    assert report.problems == ()
    assert (report.rows, report.looked_at) == (30, 30)
    assert report.lengths is not None
    assert report.lengths.estimated
    assert report.format in type_of(kind).formats


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([{"messages": []}], DataFormat.CHAT),
        ([{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}], DataFormat.CHAT),
        ([{"instruction": "a", "input": "", "output": "b"}], DataFormat.INSTRUCTION),
        ([{"prompt": "a", "completion": "b"}], DataFormat.INSTRUCTION),
        ([{"text": "a"}], DataFormat.TEXT),
        ([{"Text": "a"}], DataFormat.TEXT),
    ],
)
def test_the_format_is_told_by_the_columns(rows: list[Json], wanted: DataFormat) -> None:
    assert look(rows, "sft").format is wanted


def test_a_missing_column_names_the_one_that_was_meant() -> None:
    problem = found(look([{"promt": SECRET, "completion": "b"}], "sft"), DataKind.COLUMN_MISSING)
    assert "'promt'" in problem.text
    assert (problem.file, problem.line) == ("a.jsonl", 1)
    assert problem.fatal
    named = look(
        [{"body": "a", "kind": 1}, {"body": "b", "kind": 2}],
        "text-classification",
        columns={"text": "body", "label": "kind"},
    )
    assert not named.fatal


@pytest.mark.parametrize(
    ("named", "kind", "text"),
    [
        ({"text": "fooo"}, None, "no column 'fooo', which is named for text; did you mean 'foo'?"),
        ({"text": "fooo"}, "sft", "no column 'fooo', which is named for text; did you mean 'foo'?"),
        ({"instruction": "zzz", "output": "bar"}, "sft", "no column 'zzz', which is named for instruction (there are:"),
        ({"text": "foo", "label": "baar"}, "text-classification", "which is named for label; did you mean 'bar'?"),
        ({"text": "foo", "pair": "baar"}, "text-classification", "which is named for pair; did you mean 'bar'?"),
    ],
)
def test_a_column_that_is_named_wrongly_is_told_before_all_else(
    named: dict[str, str], kind: str | None, text: str
) -> None:
    report = look([{"foo": "some words", "bar": "others"}] * 2, kind, columns=named)
    problem = found(report, DataKind.COLUMN_MISSING)
    assert text in problem.text
    assert (problem.fatal, problem.line) == (True, 1)
    assert sum("fooo" in p.text or "no column for text (" in p.text for p in report.problems) <= 1


def test_columns_are_named_by_the_roles_of_the_scripts_and_two_of_them_are_a_pair() -> None:
    rows = [{"foo": f"some words {n}", "bar": f"others {n}"} for n in range(4)]
    told = look(rows, "sft", columns={"instruction": "foo", "output": "bar"})
    assert (told.format, told.fatal) == (DataFormat.INSTRUCTION, ())
    assert look(rows, "embeddings").format is DataFormat.PAIRS
    assert look([{**row, "baz": "c"} for row in rows], "embeddings").format is None


def test_a_row_without_a_column_is_named() -> None:
    rows = [{"prompt": "a", "completion": "b"}] * 3 + [{"prompt": "a"}]
    problem = found(look(rows, "sft"), DataKind.COLUMN_MISSING)
    assert problem.line == 4
    assert "'completion'" in problem.text


@pytest.mark.parametrize(
    ("row", "kind", "word"),
    [
        (chat("user:a"), DataKind.ROLES, "nothing to learn"),
        (chat("user:a", "assisstant:b"), DataKind.ROLES, "did you mean assistant"),
        (chat("user:a", f"{SECRET}:b"), DataKind.ROLES, "that is no word"),
        (chat("user:a", "assistant:"), DataKind.EMPTY_ROW, "empty"),
        (chat("assistant:b", "user:a"), DataKind.ROLES, "speaks first"),
        (chat("user:a", "user:a", "assistant:b"), DataKind.ROLES, "turns"),
        (chat("user:a", "system:a", "assistant:b"), DataKind.ROLES, "not the first"),
        ({"messages": "[]x"}, DataKind.MALFORMED, "no JSON"),
        ({"messages": "hello"}, DataKind.MALFORMED, "not a list"),
        ({"messages": [1]}, DataKind.MALFORMED, "no object"),
        ({"messages": [{"role": "user"}]}, DataKind.MALFORMED, "no content"),
        ({"messages": [{"role": "user", "content": 3}]}, DataKind.MALFORMED, "no text"),
        ({"messages": [{"content": "x"}]}, DataKind.ROLES, "no role"),
    ],
)
def test_conversations_that_templates_do_not_take(row: Json, kind: DataKind, word: str) -> None:
    report = look([*GOOD["sft"], row], "sft")
    problem = found(report, kind)
    assert word in problem.text
    assert problem.line == 31
    assert SECRET not in report.model_dump_json()


def test_conversations_in_a_table_are_json() -> None:
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([["messages"], *([json.dumps(row["messages"])] for row in GOOD["sft"])])
    report = check_data(place(("a.csv", out.getvalue().encode())), Wish(type_of("sft")))
    assert (report.format, report.problems) == (DataFormat.CHAT, ())


@pytest.mark.parametrize(
    ("labels", "word", "fatal"),
    [
        ([1] * 30, "same label", True),
        ([None, *[0, 1] * 15], "empty", True),
        ([[1], *[0, 1] * 15], "not one class", True),
        ([*[0] * 60, *[1] * 60, 2], "rarest", False),
        ([f"label {n}" for n in range(40)], "right column", True),
        ([-1, *[0, 1] * 15], "below 0", True),
    ],
)
def test_labels(labels: list[Json], word: str, fatal: bool) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]
    problem = found(look(rows, "text-classification"), DataKind.LABEL)
    assert word in problem.text
    assert problem.fatal is fatal
    assert problem.line is not None


def test_a_label_that_the_head_of_the_model_has_not() -> None:
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}
    model = ModelFiles("m", config=config)
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(10)] + [{"text": "one more", "label": 7}]
    problem = found(look(rows, "text-classification", model=model), DataKind.LABEL)
    assert "out of range" in problem.text
    assert problem.line == 11
    assert problem.fatal
    base = ModelFiles("m", config={"architectures": ["BertModel"]})
    assert not look(rows, "text-classification", model=base).fatal


def test_one_label_written_in_three_ways_is_one() -> None:
    rows = [{"text": f"t {n}", "label": [1, 1.0, "1", " 1 ", 0][n % 5]} for n in range(30)]
    assert look(rows, "text-classification").labels == ("0", "1")


def test_labels_that_only_the_test_data_have() -> None:
    test = lines([{"text": "new", "label": 9}], "test.jsonl")
    report = look(GOOD["text-classification"], "text-classification", evaluation=test)
    problem = next(p for p in report.problems if p.file == "test.jsonl")
    assert (problem.kind, problem.line, problem.fatal) == (DataKind.LABEL, 1, True)
    assert any("no row of the evaluation" in p.text for p in report.problems)


def test_rows_that_are_there_twice_and_rows_under_two_labels() -> None:
    rows = [*GOOD["text-classification"], GOOD["text-classification"][4], {"text": "a text 5", "label": 0}]
    report = look(rows, "text-classification")
    problem = found(report, DataKind.DUPLICATES)
    assert (problem.line, problem.fatal) == (31, False)
    assert "repeats row 5" in problem.text
    assert "another label" in found(report, DataKind.LABEL).text
    same = look([GOOD["sft"][0]] * 12, "sft")
    assert "all 12 rows are the same" in found(same, DataKind.DUPLICATES).text


def test_a_leak_is_named_with_both_places() -> None:
    test = lines([*GOOD["sft"][3:5], chat("user:new", "assistant:new")], "test.jsonl")
    problem = found(look(GOOD["sft"], "sft", evaluation=test), DataKind.LEAK)
    assert (problem.file, problem.line, problem.fatal) == ("test.jsonl", 1, False)
    assert "2 of 3" in problem.text
    assert "a.jsonl:4" in problem.text
    folder = place(
        ("d/train.jsonl", b'{"text": "a"}\n{"text": "b"}\n'), ("d/test.jsonl", b'{"text": "b"}\n'), folder="d"
    )
    assert found(check_data(folder), DataKind.LEAK).file == "d/test.jsonl"


@pytest.mark.parametrize("data", [b"", b"\n\n", b"  \n"])
def test_nothing_is_empty(data: bytes) -> None:
    report = check_data(place(("a.jsonl", data)))
    assert found(report, DataKind.EMPTY).fatal
    assert report.rows == 0


def test_rows_without_anything_to_learn_are_empty() -> None:
    report = look([{"prompt": "a", "completion": ""}] * 5, "sft")
    assert found(report, DataKind.EMPTY).fatal
    assert found(report, DataKind.EMPTY_ROW).line == 1
    assert "2 more rows" in [p for p in report.problems if p.kind is DataKind.EMPTY_ROW][-1].text
    assert look([{"text": " ", "label": 1}, {"text": "a", "label": 0}], "text-classification").fatal


def test_an_empty_folder_and_what_is_elsewhere() -> None:
    assert found(check_data(Place("d", folder=True)), DataKind.EMPTY).fatal
    assert not found(check_data(Place("hub:x", unseen="on a hub", rows=5)), DataKind.NOT_READ).fatal
    assert found(check_data(Place("x", missing="not there")), DataKind.MISSING).fatal


def test_images_by_folders() -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 20
    files = [(f"d/{label}/{n}.png", png) for label in ("cat", "dog") for n in range(6)]
    report = check_data(place(*files, folder="d"), Wish(type_of("image-classification")))
    assert (report.format, report.labels, report.problems) == (DataFormat.IMAGES, ("cat", "dog"), ())
    bad = check_data(place(*files, ("d/dog/x.png", b"<html>"), ("d/loose.png", png), folder="d"))
    assert found(bad, DataKind.MALFORMED).file == "d/dog/x.png"
    assert found(bad, DataKind.LABEL).file == "d/loose.png"
    parts = [(f"d/train/{label}/{n}.png", png) for label in ("cat", "dog") for n in range(3)]
    assert check_data(place(*parts, folder="d")).labels == ("cat", "dog")


def tokenizer() -> bytes:
    """A tokenizer of words, made on the spot."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made.to_str().encode()


def test_tokens_are_counted_by_the_models_own_tokenizer() -> None:
    rows = [{"text": "word " * n, "label": n % 2} for n in range(1, 41)]
    report = look(rows, "text-classification", model=ModelFiles("m", tokenizer=tokenizer()), max_len=30)
    lengths = report.lengths
    assert lengths is not None
    assert (lengths.estimated, lengths.count, lengths.longest, lengths.median, lengths.cut) == (False, 40, 40, 20, 10)
    problem = found(report, DataKind.TOO_LONG)
    assert (problem.line, problem.fatal) == (40, False)
    assert "25.0%" in problem.text


@pytest.mark.parametrize("broken", [b"{}", b"\xff", b"[" * 9999])
def test_a_tokenizer_that_can_not_be_read_is_none(broken: bytes) -> None:
    lengths = look(GOOD["sft"], "sft", model=ModelFiles("m", tokenizer=broken)).lengths
    assert lengths is not None
    assert lengths.estimated


def test_conversations_are_counted_as_the_template_writes_them() -> None:
    config = {"chat_template": "{% for m in messages %}{{ m.role }} {{ m.content }} end {% endfor %}"}
    model = ModelFiles("m", tokenizer=tokenizer(), tokenizer_config=config, whole=True)
    lengths = look([chat("user:one two", "assistant:three")] * 3, "sft", model=model).lengths
    assert lengths is not None
    assert (lengths.longest, lengths.estimated) == (7, False)


def test_all_too_long_is_fatal_and_says_what_is_needed() -> None:
    rows = [{"prompt": "word " * 100, "completion": f"word {n}"} for n in range(5)]
    report = look(rows, "sft", max_len=32, model=ModelFiles("m", tokenizer=tokenizer()))
    problem = found(report, DataKind.ALL_TOO_LONG)
    assert problem.fatal
    assert "the shortest has 102 tokens" in problem.text
    assert not look([{"text": "word " * 100}] * 5, "sft", max_len=32).fatal, "a text is taken in pieces"


def test_a_tokenizer_without_a_chat_template() -> None:
    bare = ModelFiles("m", tokenizer_config={}, whole=True)
    problem = found(look(GOOD["sft"], "sft", model=bare), DataKind.NO_CHAT_TEMPLATE)
    assert (problem.file, problem.fatal) == ("m", True)
    assert not look([{"prompt": "a", "completion": "b"}], "sft", model=bare).fatal
    assert not look(GOOD["sft"], "sft", model=ModelFiles("m")).fatal, "what was not seen is not missing"
    several = ModelFiles("m", tokenizer_config={"chat_template": [{"name": "default", "template": CHATML}]}, whole=True)
    assert not look(GOOD["sft"], "sft", model=several).fatal


def test_a_conversation_that_the_template_refuses() -> None:
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
    )
    model = ModelFiles("m", template=refusing, whole=True)
    report = look([*GOOD["sft"], chat("system:x", "user:a", "assistant:b")], "sft", model=model)
    problem = found(report, DataKind.ROLES)
    assert problem.line == 31
    assert "System role not supported" in problem.text
    telling = "{{ raise_exception(messages[0].content) }}"
    told = look([chat(f"user:{SECRET}", "assistant:b")], "sft", model=ModelFiles("m", template=telling, whole=True))
    assert SECRET not in told.model_dump_json()
    assert found(told, DataKind.ROLES)


@pytest.mark.parametrize(
    "template",
    ["{% if %}", "{{ 'a' * 900000000 }}{{ 'a' * 900000000 }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}"],
)
def test_a_template_gets_no_more_than_it_should(template: str) -> None:
    try:
        told: list[str] = written(template, {}, [[{"role": "user", "content": "a"}]])
    except TemplateBroken:
        told = [Refused("broken")]
    assert isinstance(told[0], Refused)


def test_a_model_that_is_not_there() -> None:
    problem = found(look(GOOD["sft"], "sft", model=ModelFiles("x/y", missing="no such model")), DataKind.MODEL_MISSING)
    assert (problem.file, problem.fatal) == ("x/y", True)


@pytest.mark.parametrize(
    "row",
    [
        {"text": SECRET, "label": [SECRET]},
        {"text": [SECRET], "label": 1},
        {"text": "\ud800" + SECRET, "label": 1},
        {"texxt": SECRET, "label": SECRET},
        {"messages": [{"role": SECRET, "content": SECRET}]},
        {"messages": [{"role": "user", "content": SECRET}]},
        SECRET,
    ],
)
@pytest.mark.parametrize("kind", [None, *GOOD])
def test_no_words_of_a_row_are_told(row: Json, kind: str | None) -> None:
    for again in ([row], [row] * 3, [*GOOD[kind or "sft"], row, row]):
        report = look(again, kind, evaluation=lines(again, "test.jsonl"), max_len=8)
        document = report.model_copy(update={"labels": ()}).model_dump_json()
        assert "planted" not in document


def test_the_hash_is_that_of_the_scripts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TEMPLATES / "train"))
    digest_files = importlib.import_module("shared.files").digest_files

    files = {"train-a.jsonl": b'{"text": "a"}\n', "train-b.jsonl": b'{"text": "b"}\n'}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    one = check_data(place(("train-a.jsonl", files["train-a.jsonl"])))
    assert one.sha256 == digest_files([tmp_path / "train-a.jsonl"])
    both = check_data(place(*((f"d/{n}", d) for n, d in files.items()), folder="d"))
    assert both.sha256 == digest_files([tmp_path / n for n in files])

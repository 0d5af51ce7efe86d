"""The parts of the training scripts that need no torch: options, data with its lines, samples, checkpoints, records."""

import argparse
import errno
import gzip
import importlib
import importlib.util
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.training.loading import load_types

ROOT = Path(__file__).resolve().parents[2]
TYPES = ROOT / "templates" / "train"
BOUND = {"type": "sft", "seed": 1}


@pytest.fixture(scope="module", autouse=True)
def on_path() -> Iterator[None]:
    """The scripts see each other as in a job: the type's own beside `shared/`."""
    places = [str(TYPES), str(TYPES / "sft")]
    sys.path[:0] = places
    yield
    for place in places:
        sys.path.remove(place)
    for name in [n for n in sys.modules if n == "samples" or n == "shared" or n.startswith("shared.")]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    return importlib.import_module(name)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sft_train_script", TYPES / "sft" / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options() -> dict[str, argparse.Action]:
    """The script's options, by flag."""
    return {flag: action for action in script().options()._actions for flag in action.option_strings}


def refused(kind: str, file: Path | None = None, line: int | None = None) -> "Line":
    """Expects a refusal that begins so."""
    return Line(kind, f"{file}:{line}: " if line else f"{file}: " if file else "")


class Line:
    """A block that must raise a refusal with this kind and place."""

    def __init__(self, kind: str, place: str) -> None:
        self._begin = f"caravan-train: {kind}: {place}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, part("shared.refusals").Refused), f"no refusal, but {error!r}"
        assert error.line.startswith(self._begin), error.line
        return True


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_definition_says_what_the_script_takes() -> None:
    found = load_types(TYPES).get("sft").type
    actions = options()
    assert {knob.flag for knob in found.knobs} | {"--trust-remote-code", "--check-only", "--help", "-h"} == set(actions)
    for knob in found.knobs:
        action = actions[knob.flag]
        if knob.default is not None:
            assert action.default == knob.default, knob.flag
        if action.choices is not None:
            assert tuple(knob.choices) == tuple(action.choices), knob.flag
    assert found.columns == part("samples").COLUMNS
    assert {f.value for f in found.formats} == set(part("samples").FORMATS)
    pinned = (ROOT / "requirements-train.txt").read_text().splitlines()
    assert set(found.requirements) <= set(pinned)


@given(
    st.lists(st.one_of(st.none(), st.dictionaries(st.text(max_size=5), st.text(max_size=20), min_size=1)), max_size=20)
)
def test_each_row_of_json_lines_knows_its_line(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    write(path, "".join(("" if row is None else json.dumps(row)) + "\n" for row in rows))
    wanted = [(number, row) for number, row in enumerate(rows, 1) if row is not None]
    if not wanted:
        with refused("empty"):
            part("shared.data").load(str(path))
        return
    assert [(row.line, row.values) for row in part("shared.data").load(str(path)).rows] == wanted


def test_a_table_s_row_knows_the_line_it_begins_in(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,more\n"two\nlines",1\nlast,2\n')
    rows = part("shared.data").load(str(path)).rows
    assert [(row.line, row.values["more"]) for row in rows] == [(2, "1"), (4, "2")]
    with refused("malformed", write(tmp_path / "b.csv", 'text,more\n"two\nlines",1\nlast\n'), 4):
        part("shared.data").load(str(tmp_path / "b.csv"))
    with refused("malformed", write(tmp_path / "c.csv", "text,text\na,b\n"), 1):
        part("shared.data").load(str(tmp_path / "c.csv"))
    semicolons = write(tmp_path / "d.csv", "text;more\na, b;c\n")
    assert part("shared.data").load(str(semicolons)).rows[0].values == {"text": "a, b", "more": "c"}


def test_what_is_no_utf_8_no_json_no_row(tmp_path: Path) -> None:
    load = part("shared.data").load
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with refused("malformed", path, 2):
        load(str(path))
    with refused("malformed", write(path, '{"a": 1}\n{"a":\n{"a": 2}\n'), 2):
        load(str(path))
    with refused("malformed", write(tmp_path / "b.json", '[{"a": 1},\n{"a" 2}]'), 2):
        load(str(tmp_path / "b.json"))
    with refused("malformed", write(tmp_path / "c.json", "[" * 100_000)):
        load(str(tmp_path / "c.json"))
    with refused("missing", tmp_path / "d.jsonl"):
        load(str(tmp_path / "d.jsonl"))
    with refused("missing", tmp_path / "no-ending"):
        load(str(tmp_path / "no-ending"))
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n')[:-6])
    with refused("malformed", tmp_path / "e.jsonl.gz"):
        load(str(tmp_path / "e.jsonl.gz"))
    with refused("malformed", write(tmp_path / "f.xlsx", "")):
        load(str(tmp_path / "f.xlsx"))
    damaged = gzip.compress(b"")[:10] + b"\x07" + bytes(20)  # a block of a type that there is not
    (tmp_path / "g.jsonl.gz").write_bytes(damaged)
    with refused("malformed", tmp_path / "g.jsonl.gz"):
        load(str(tmp_path / "g.jsonl.gz"))


def test_half_a_character_is_refused_where_it_stands(tmp_path: Path) -> None:
    """As a text is that was cut within an emoji: no tokenizer takes it."""
    load = part("shared.data").load
    whole = '{"text": "\\ud83d\\ude00 smile"}\n'
    assert load(str(write(tmp_path / "a.jsonl", whole))).rows[0].values == {"text": "\U0001f600 smile"}
    with refused("malformed", write(tmp_path / "b.jsonl", whole + '{"messages": [{"content": "cut \\uD83D"}]}\n'), 2):
        load(str(tmp_path / "b.jsonl"))
    with refused("malformed", write(tmp_path / "c.json", '[{"text": "\\ude00"}]')):
        load(str(tmp_path / "c.json"))


def test_lists_lines_and_paragraphs(tmp_path: Path) -> None:
    load = part("shared.data").load
    assert len(load(str(write(tmp_path / "a.json", '{"data": [{"a": 1}, {"a": 2}]}'))).rows) == 2
    assert [r.line for r in load(str(write(tmp_path / "b.json", '{"a": 1}\n{"a": 2}\n'))).rows] == [1, 2]
    rows = load(str(write(tmp_path / "c.txt", "one\nmore\n\n\ntwo\n"))).rows
    assert [(r.line, r.values["text"]) for r in rows] == [(1, "one\nmore"), (5, "two")]


def test_a_folder_s_test_file_is_held_out(tmp_path: Path) -> None:
    for name in ("train-1.jsonl", "train-2.jsonl", "test.jsonl", ".hidden.jsonl"):
        write(tmp_path / name, json.dumps({"text": name}) + "\n")
    write(tmp_path / "README.md", "about it")
    rows = part("shared.data").load(str(tmp_path))
    assert [r.values["text"] for r in rows.rows] == ["train-1.jsonl", "train-2.jsonl"]
    assert [r.values["text"] for r in rows.held_out.rows] == ["test.jsonl"]
    assert len(rows.sha256) == 64
    (tmp_path / "empty").mkdir()
    with refused("empty", tmp_path / "empty"):
        part("shared.data").load(str(tmp_path / "empty"))


@given(st.integers(2, 200), st.floats(0.001, 0.9), st.integers())
def test_what_is_held_out_depends_on_the_seed_alone(count: int, fraction: float, seed: int) -> None:
    rows = list(range(count))
    learned, held_out = part("shared.data").split(rows, fraction, seed)
    assert (learned, held_out) == part("shared.data").split(rows, fraction, seed)
    assert sorted(learned + held_out) == rows
    assert learned
    assert held_out
    assert learned == sorted(learned)


class Letters:
    """A tokenizer of letters, with a chat template of its own."""

    eos_token_id = 0
    chat_template = "{% generation %}"

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}

    def apply_chat_template(self, messages: list[dict[str, str]], **how: Any) -> dict[str, list[int]]:
        text, learned = "", []
        for message in messages:
            head = f"<{message['role'][0]}>"
            text += head + message["content"] + "\n"
            own = message["role"] == "assistant"
            learned += [0] * len(head) + [int(own)] * (len(message["content"]) + 1)
        if how.get("add_generation_prompt"):
            text += "<a>"
        found = {"input_ids": [ord(c) for c in text]}
        return {**found, "assistant_masks": learned} if how.get("return_assistant_tokens_mask") else found


class Bare(Letters):
    chat_template = ""


def encoded(tmp_path: Path, rows: list[dict[str, Any]], *, tokenizer: Letters | None = None, **how: Any) -> Any:
    samples, data = part("samples"), part("shared.data")
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    loaded = data.load(str(path))
    form = samples.format_of(loaded, "auto", {})
    told = {"max_len": 1000, "answers": True, **how}
    return samples.Encoder(tokenizer or Letters(), form, **told).encode(loaded.rows)


def learned(sample: Any) -> str:
    return "".join(chr(t) for t, on in zip(sample.ids, sample.learned, strict=True) if on)


def test_only_what_is_answered_is_learned(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "why"}, {"from": "gpt", "value": "so"}, {"role": "user", "content": "ah"}]
    chat = encoded(tmp_path, [{"messages": [*said, {"role": "assistant", "content": "yes"}]}])
    assert learned(chat.samples[0]) == "so\nyes\n"
    row = {"instruction": "add", "input": "1 2", "output": "3"}
    assert learned(encoded(tmp_path, [row]).samples[0]) == "3\n"
    bare = encoded(tmp_path, [row], tokenizer=Bare()).samples[0]
    assert learned(bare) == "3\0"
    assert "".join(map(chr, bare.ids)) == "add\n\n1 2\n\n3\0"
    plain = encoded(tmp_path, [{"prompt": "a b", "completion": " c"}]).samples[0]
    assert "".join(map(chr, plain.ids)) == "a b c\0"
    assert encoded(tmp_path, [row], answers=False).samples[0].learned is None


def test_texts_go_on_in_another_sequence_and_others_are_cut(tmp_path: Path) -> None:
    text = encoded(tmp_path, [{"text": "abcdefg"}], max_len=3)
    assert [len(s.ids) for s in text.samples] == [3, 3, 2]
    assert text.cut == 0
    rows = [{"prompt": "abcdef", "completion": "g"}, {"prompt": "a", "completion": "b"}]
    cut = encoded(tmp_path, rows, max_len=4)
    assert (cut.cut, cut.dropped) == (1, 1)
    assert cut.lengths() == {"median": 8, "p95": 8, "longest": 8}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"messages": [{"role": "user", "content": 3}]}, "malformed"),
        ({"messages": [3]}, "malformed"),
        ({"messages": "[{]"}, "malformed"),
        ({"messages": [{"content": "a"}]}, "roles"),
        ({"messages": [{"role": "user", "content": "a"}]}, "roles"),
        ({"other": 1}, "column_missing"),
    ],
)
def test_a_conversation_that_is_none_is_refused_with_its_line(tmp_path: Path, row: dict[str, Any], kind: str) -> None:
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    with refused(kind, tmp_path / "a.jsonl", 2):
        encoded(tmp_path, [good, row])


def test_empty_rows_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = encoded(tmp_path, [{"text": "a"}, {"text": " "}, {"text": None}])
    assert (len(found.samples), found.empty) == (1, 2)
    assert "a.jsonl:2 says nothing" in capsys.readouterr().err
    with refused("empty"):
        encoded(tmp_path, [{"text": ""}])
    with refused("no_chat_template"):
        encoded(tmp_path, [{"messages": []}], tokenizer=Bare())


def checkpoint(output: Path, step: int, **lacks: bool) -> Path:
    """A folder as transformers writes it, with one tensor."""
    path = output / f"checkpoint-{step}"
    path.mkdir(parents=True)
    write(path / "trainer_state.json", json.dumps({"global_step": step}))
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 8)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        if not lacks.get(name.partition(".")[0]):
            (path / name).write_bytes(b"x")
    write(path / "caravan.json", json.dumps(BOUND))
    return path


def test_the_newest_whole_checkpoint_of_this_training_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = part("shared.resume")
    assert resume.chosen("auto", tmp_path / "none", BOUND) is None
    good = checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10, optimizer=True)
    cut = checkpoint(tmp_path, 100)
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-1])
    assert resume.chosen("auto", tmp_path, BOUND) == good
    told = capsys.readouterr().err
    assert "checkpoint-100 is not taken: model.safetensors is cut off" in told
    assert "checkpoint-10 is not taken: it has no optimizer" in told
    assert resume.chosen("auto", tmp_path, {**BOUND, "seed": 2}) is None
    assert resume.chosen("never", tmp_path, BOUND) is None
    assert resume.chosen(str(good), tmp_path, BOUND) == good
    with refused("checkpoint", cut):
        resume.chosen(str(cut), tmp_path, BOUND)
    with refused("checkpoint", tmp_path / "gone"):
        resume.chosen(str(tmp_path / "gone"), tmp_path, BOUND)
    resume.set_aside(tmp_path, good)
    assert [p.name for p in resume.checkpoints(tmp_path)] == ["checkpoint-9"]
    assert len(list((tmp_path / ".caravan" / "set-aside").iterdir())) == 2


def test_metrics_after_the_checkpoint_are_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = part("shared.metrics").MetricLog(tmp_path)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": float("nan")})
    with log.path.open("a") as stream:
        stream.write('{"step": 4, "lo')
    log.begin(2)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2]
    assert '"loss": NaN' in capsys.readouterr().out
    log.begin(0)
    assert log.path.read_text() == ""
    part("shared.metrics").MetricLog(tmp_path / "no", here=False).write({"step": 1})


def test_no_room_and_no_permission_have_lines_of_their_own(tmp_path: Path) -> None:
    refusals, files = part("shared.refusals"), part("shared.files")
    for number, kind in ((errno.ENOSPC, "disk_full"), (errno.EROFS, "output_unwritable")):
        with refused(kind, tmp_path), refusals.writing(tmp_path):
            raise OSError(number, "no", None)
    with refused("disk_full", tmp_path), refusals.writing(tmp_path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] PytorchStreamWriter failed writing file data/1")
    with pytest.raises(RuntimeError, match="else"), refusals.writing(tmp_path):
        raise RuntimeError("something else")
    with refused("disk_full", tmp_path):
        files.check_room(tmp_path, 1 << 62, "it")
    with refused("output_unwritable"):
        files.usable_output(str(write(tmp_path / "file", "") / "out"))


def test_the_room_for_an_adapter_is_counted_by_its_rank(tmp_path: Path) -> None:
    """A twentieth of a large model would be far more than is written, and more than many disks have."""
    header = json.dumps({"a.weight": {"dtype": "BF16", "shape": [3_000_000, 2_000_000], "data_offsets": [0, 0]}})
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    assert part("shared.models").parameters_on_disk(str(tmp_path)) == 6 * 10**12
    assert part("shared.models").adapter_parameters(str(tmp_path), 16) == 16 * 5 * 10**6
    check = part("shared.course").check_disk
    args = argparse.Namespace(model=str(tmp_path), method="lora", lora_rank=1, save_total_limit=1)
    check(args, tmp_path)
    with refused("disk_full", tmp_path):
        check(argparse.Namespace(**{**vars(args), "method": "full"}), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    check(argparse.Namespace(**{**vars(args), "method": "full"}), tmp_path)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    files = part("shared.files")
    target = tmp_path / "model"
    with pytest.raises(FileNotFoundError), files.whole_folder(target) as folder:
        write(folder / "a", "half").rename(folder / "no" / "such")
    assert list(tmp_path.iterdir()) == []
    for text in ("one", "two"):
        with files.whole_folder(target) as folder:
            write(folder / "a", text)
        assert (target / "a").read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_the_card_escapes_what_it_is_told(tmp_path: Path) -> None:
    part("shared.records").write_card(
        tmp_path, title="t", base="b", library="peft", tags=["sft"], about={"A": "x|y", "B": None}, results={}
    )
    card = (tmp_path / "README.md").read_text()
    assert "| A | x\\|y |" in card
    assert "| B |" not in card
    assert "nothing was measured" in card
    assert part("shared.records").perplexity(1e4) == float("inf")

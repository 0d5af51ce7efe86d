"""Text classification, embeddings and image classification, trained for real on the CPU with small random models."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.training.loading import load_types
from caravan.values.evaluation import EvaluationResult
from tests.train.conftest import ROOT, TYPES, environment

pytestmark = pytest.mark.train

NAMES = ("text-classification", "embeddings", "image-classification")
LINE = re.compile(r"caravan-train: (?P<kind>\w+): (?:(?P<place>[^ ]+): )?(?P<text>.+)")
SECRET = "w7"  # a word of the data, which nothing may show


class Trainings:
    """Runs scripts of training types in forks of one process that has the libraries loaded."""

    def __init__(self, python: Path, folder: Path, rendered: Callable[[str], Path]) -> None:
        copy = Path(shutil.copy(ROOT / "tests" / "train" / "zygote.py", folder))
        self.rendered = rendered
        self.process = subprocess.Popen(
            [str(python), str(copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert json.loads(self._line()) == {"ready": True}

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def run(self, name: str, script: str, *words: object, **more: Any) -> dict[str, Any]:
        return self.case(self.rendered(name), script, *words, **more)

    def case(self, folder: Path, script: str, *words: object, **more: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        case = {"folder": str(folder), "script": script, "argv": [str(w) for w in words], **more}
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self._line()))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def trainings(
    train_python: Path, tmp_path_factory: pytest.TempPathFactory, rendered: Callable[[str], Path]
) -> Iterator[Trainings]:
    started = Trainings(train_python, tmp_path_factory.mktemp("zygote"), rendered)
    yield started
    started.close()


@pytest.fixture(scope="module")
def small(trainings: Trainings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models and data, as make_small.py says. Not to be written to."""
    scripts = tmp_path_factory.mktemp("make")
    shutil.copy(ROOT / "tests" / "train" / "make_small.py", scripts)
    folder = tmp_path_factory.mktemp("small")
    made = trainings.case(scripts, "make_small.py", folder)
    assert made["rc"] == 0, made["err"]
    return folder


def words_of(name: str, small: Path) -> list[object]:
    """A training of that type that learns within seconds."""
    said = {
        "text-classification": ["--model", small / "bert", "--data", small / "texts.jsonl", "--micro-batch", 16],
        "embeddings": ["--model", small / "bert", "--data", small / "pairs.csv", "--micro-batch", 24],
        "image-classification": ["--model", small / "vit", "--data", small / "images", "--micro-batch", 8],
    }
    epochs = {"text-classification": 6, "embeddings": 6, "image-classification": 4}
    often = ["--save-steps", 10, "--logging-steps", 2, "--eval-fraction", 0.2, "--num-workers", 0]
    return [*said[name], "--lr", 4e-3, "--epochs", epochs[name], "--max-len", 64, *often]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(trainings: Trainings, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a type → the output folder of a training of all weights that nothing disturbed."""
    known: dict[str, Path] = {}

    def trained(name: str) -> Path:
        if name not in known:
            known[name] = tmp_path_factory.mktemp(name)
            done = trainings.run(name, "train.py", *words_of(name, small), "--output-dir", known[name])
            assert done["rc"] == 0, done["err"]
        return known[name]

    return trained


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_writes_all_that_belongs_beside_the_weights(name: str, whole: Callable[[str], Path]) -> None:
    output = whole(name)
    found, done, told = read(output / "evaluation.json"), read(output / "DONE.json"), read(output / "run.json")
    target = found["target"]
    guess = "chance" if name == "embeddings" else "majority"
    assert found["tuned"][target] > found[guess][target] + 0.2
    assert found["tuned"][target] > found["base"][target]
    losses = [row["loss"] for row in lines(output) if "loss" in row]
    assert losses[-1] < losses[0]
    assert lines(output)[0]["step"] == 0
    assert f"eval_{target}" in lines(output)[0]
    assert done["output"] == "model"
    assert done["evaluation"][target] == found["tuned"][target]
    assert told["data"]["sha256"] == done["data_sha256"]
    assert told["seed"] == 42
    assert {"python", "torch", "transformers"} <= set(told["versions"])
    card = (output / "README.md").read_text()
    assert f"- {name}" in card
    assert "| tuned |" in card
    assert {"config.json", "model.safetensors"} <= {p.name for p in (output / "model").iterdir()}
    assert not [p.name for p in output.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("name", ["text-classification", "image-classification"])
def test_a_classifier_is_told_by_its_confusion_table(name: str, whole: Callable[[str], Path]) -> None:
    found = read(whole(name) / "evaluation.json")
    table = found["confusion"]["counts"]
    assert sum(map(sum, table)) == found["held_out"]
    right = sum(table[n][n] for n in range(3))
    assert found["tuned"]["accuracy"] == pytest.approx(right / found["held_out"])
    each = []
    for n in range(3):
        said, there = sum(row[n] for row in table), sum(table[n])
        each.append(2 * table[n][n] / (said + there) if said + there else 0.0)  # F1 = 2 TP / (2 TP + FP + FN)
    assert found["tuned"]["macro_f1"] == pytest.approx(sum(each) / 3)
    named = read(whole(name) / "model" / "config.json")["id2label"]
    assert [named[str(n)] for n in range(3)] == found["confusion"]["labels"]


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("text-classification", signal.SIGTERM, 143),
        ("embeddings", signal.SIGKILL, -9),
        ("image-classification", signal.SIGTERM, 143),
    ],
)
def test_a_training_that_was_ended_goes_on_to_the_same_result(
    name: str, number: int, code: int, trainings: Trainings, small: Path, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    words = [*words_of(name, small), "--output-dir", tmp_path / "out"]
    ended = trainings.run(name, "train.py", *words, signal=int(number), when='"step": 12,')
    assert ended["rc"] == code, ended["err"]
    assert not (tmp_path / "out" / "DONE.json").exists()
    kept = max(int(p.name.rpartition("-")[2]) for p in (tmp_path / "out").glob("checkpoint-*"))
    again = trainings.run(name, "train.py", *words)
    assert again["rc"] == 0, again["err"]
    begun = next(e for e in map(json.loads, again["out"].splitlines()) if e.get("event") == "begin")
    assert begun["resumed_from"].endswith(f"checkpoint-{kept}")
    mine, theirs = read(tmp_path / "out" / "evaluation.json"), read(whole(name) / "evaluation.json")
    assert mine["tuned"]["loss"] == pytest.approx(theirs["tuned"]["loss"], abs=1e-5)
    assert mine["base"] == theirs["base"]
    steps = [row["step"] for row in lines(tmp_path / "out") if "loss" in row]
    assert steps == [row["step"] for row in lines(whole(name)) if "loss" in row]


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_loads_and_measures_as_it_did(name: str, trainings: Trainings, small: Path, tmp_path: Path) -> None:
    # The held-out part is given as data of its own, so that it can be measured again.
    words = words_of(name, small)
    data = Path(str(words[3]))
    again = ["--eval-data", data, "--method", "lora", "--lora-rank", 8, "--class-weights", "balanced"]
    again = again[:-2] if name == "embeddings" else again
    done = trainings.run(name, "train.py", *words, *again, "--output-dir", tmp_path / "out")
    assert done["rc"] == 0, done["err"]
    found = read(tmp_path / "out" / "evaluation.json")
    target = found["target"]
    assert found["tuned"][target] > found["base"][target]
    begun = next(e for e in map(json.loads, done["out"].splitlines()) if e.get("event") == "begin")
    assert begun["trainable"] < begun["parameters"] / 2
    judged = trainings.run(name, "evaluate.py", "--model", tmp_path / "out" / "adapter")
    assert judged["rc"] == 0, judged["err"]
    told = json.loads(judged["out"].splitlines()[-1])
    assert told["held_out"]["tuned"][target] == pytest.approx(found["tuned"][target], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_its_evaluation_is_of_what_its_training_held_out(
    name: str, trainings: Trainings, small: Path, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    output = whole(name)
    before, told = read(output / "evaluation.json"), []
    for _ in range(2):
        done = trainings.run(name, "evaluate.py", "--model", output / "model")
        assert done["rc"] == 0, done["err"]
        told.append({**json.loads(done["out"].splitlines()[-1]), "seconds": 0.0})
    assert told[0] == told[1]
    found = EvaluationResult.model_validate(told[0])
    assert found.held_out is not None
    assert found.learnt is not None
    assert found.held_out.samples == before["held_out"]
    target = before["target"]
    for side in ("tuned", "base"):
        assert getattr(found.held_out, side)[target] == pytest.approx(before[side][target], abs=1e-6)
    assert found.held_out.guess[target] < found.held_out.tuned[target]
    assert found.collapse["non_finite"] == 0
    assert found.collapse["commonest"] < 0.9
    assert found.canary is None


def test_an_encoder_is_judged_as_it_pools_however_it_is_named(
    trainings: Trainings, small: Path, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    """A model without its training's run.json tells how it pools by itself; a job names it by CARAVAN_MODEL."""
    model = shutil.copytree(whole("embeddings") / "model", tmp_path / "model")
    pooling = read(model / "1_Pooling" / "config.json")
    first = {**pooling, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(first))
    told = []
    for how in ({"argv": ["--model", str(model)]}, {"environment": {"CARAVAN_MODEL": str(model)}}):
        words = [*how.get("argv", ()), "--data", small / "pairs.csv"]
        done = trainings.run("embeddings", "evaluate.py", *words, environment=how.get("environment", {}))
        assert done["rc"] == 0, done["err"]
        told.append(json.loads(done["out"].splitlines()[-1])["held_out"]["tuned"])
    assert told[0] == told[1]


@pytest.mark.parametrize("name", ["text-classification", "image-classification"])
def test_the_trained_model_is_gone_when_its_base_is_loaded(
    name: str, trainings: Trainings, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "judge.py").write_text(
        "import gc, runpy, sys\n"
        "folder = sys.argv.pop(1)\n"
        "sys.path.insert(0, folder)\n"
        "import shared.judged_classes as parts\n"
        "from transformers import PreTrainedModel\n"
        "find = parts.base_classifier\n"
        "def counted(*given):\n"
        "    gc.collect()\n"
        "    print('models', sum(isinstance(one, PreTrainedModel) for one in gc.get_objects()))\n"
        "    return find(*given)\n"
        "parts.base_classifier = counted\n"
        "runpy.run_path(folder + '/evaluate.py', run_name='__main__')\n"
    )
    words = [trainings.rendered(name), "--model", whole(name) / "model"]
    done = trainings.case(tmp_path, "judge.py", *words)
    assert done["rc"] == 0, done["err"]
    assert done["out"].splitlines()[0] == "models 0"


def test_the_weight_of_a_label_does_not_depend_on_the_micro_batch(
    trainings: Trainings, small: Path, tmp_path: Path
) -> None:
    """What runs out of memory goes on with a smaller one and as many more steps: it must be the same training."""
    config = read(small / "bert" / "config.json")
    shutil.copytree(small / "bert", tmp_path / "bert")
    still = {**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "bert" / "config.json").write_text(json.dumps(still))
    told = []
    for micro, steps in ((8, 1), (1, 8)):
        words = ["--model", tmp_path / "bert", "--data", small / "texts.jsonl", "--class-weights", "balanced"]
        words += ["--micro-batch", micro, "--grad-accum", steps, "--max-steps", 3, "--eval-fraction", 0]
        output = tmp_path / str(micro)
        done = trainings.run("text-classification", "train.py", *words, "--output-dir", output)
        assert done["rc"] == 0, done["err"]
        told.append([(row["loss"], row["grad_norm"]) for row in lines(output)])
    assert len(told[0]) == 3
    for once, often in zip(*told, strict=True):
        assert often == pytest.approx(once, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_model_gives_one_answer_and_its_fixed_set_got_worse(
    name: str, trainings: Trainings, small: Path, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(whole(name), tmp_path / "out", ignore=shutil.ignore_patterns("checkpoint-*"))
    script = "import sys; from safetensors.torch import load_file, save_file\nw = load_file(sys.argv[1])\n"
    script += "save_file({n: t * 0 for n, t in w.items()}, sys.argv[1], {'format': 'pt'})"
    (tmp_path / "break.py").write_text(script)
    broken = trainings.case(tmp_path, "break.py", tmp_path / "out" / "model" / "model.safetensors")
    assert broken["rc"] == 0, broken["err"]
    fixed = {"text-classification": "texts.jsonl", "embeddings": "pairs.csv", "image-classification": "images"}
    words = ["--model", tmp_path / "out" / "model", "--regression", small / fixed[name]]
    done = trainings.run(name, "evaluate.py", *words)
    assert done["rc"] == 0, done["err"]
    found = EvaluationResult.model_validate(json.loads(done["out"].splitlines()[-1]))
    assert found.collapse["commonest"] == 1.0
    assert found.regressed


def test_a_language_model_is_given_a_head(trainings: Trainings, small: Path, tiny_model: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (small / "texts.jsonl").read_text().splitlines()]
    data = tmp_path / "numbers.csv"
    data.write_text("text,label\n" + "".join(f"{r['text']},{r['label'] == 'good':d}\n" for r in rows))
    words = ["--model", tiny_model, "--data", data, "--method", "lora", "--lr", 1e-2, "--epochs", 3]
    words += ["--micro-batch", 16, "--output-dir", tmp_path / "out", "--class-weights", "balanced"]
    done = trainings.run("text-classification", "train.py", *words)
    assert done["rc"] == 0, done["err"]
    found = read(tmp_path / "out" / "evaluation.json")
    assert found["tuned"]["loss"] < found["base"]["loss"]
    assert found["confusion"]["labels"] == ["0", "1"]


def test_the_defaults_are_those_of_the_definition(trainings: Trainings, tmp_path: Path) -> None:
    shown = (
        "import argparse, json, runpy, sys\n"
        "def show(self, *words):\n"
        "    told = {a.option_strings[0]: [a.default, a.choices and list(a.choices)] for a in self._actions}\n"
        "    print(json.dumps(told))\n"
        "    sys.exit(0)\n"
        "argparse.ArgumentParser.parse_args = show\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    (tmp_path / "show.py").write_text(shown)
    for name in NAMES:
        scripts = trainings.rendered(name)
        shutil.copy(tmp_path / "show.py", scripts)
        done = trainings.case(scripts, "show.py", scripts / "train.py")
        assert done["rc"] == 0, done["err"]
        told = json.loads(done["out"])
        for knob in load_types(TYPES).get(name).type.knobs:
            assert knob.flag in told, (name, knob.flag)
            default, choices = told[knob.flag]
            if knob.default is not None:
                same = {"auto", "all-linear"} if knob.name == "lora_targets" else {default}
                assert knob.default in same, (name, knob.flag, default)
            if choices and knob.choices:
                assert set(knob.choices) <= set(choices), (name, knob.flag)


def refusal(done: dict[str, Any]) -> re.Match[str]:
    """The line that a refused input ends with; nothing of the data is in it or anywhere else."""
    assert done["rc"] == 2, (done["rc"], done["err"])
    told = LINE.fullmatch(done["err"].strip().splitlines()[-1])
    assert told is not None, done["err"]
    assert "Traceback" not in done["err"]
    assert SECRET not in told["text"]
    return told


TEXTS: tuple[tuple[str, str, str, tuple[str, ...], str], ...] = (
    ("no label", '{"text": "w7 a", "label": "x"}\n{"text": "w7 b"}\n', "label", (), ":2"),
    ("an empty label", '{"text": "w7 a", "label": "x"}\n{"text": "b", "label": ""}\n', "label", (), ":2"),
    ("several labels", '{"text": "w7 a", "label": ["x", "y"]}\n', "label", (), ":1"),
    ("one class", '{"text": "w7 a", "label": "x"}\n{"text": "w7 b", "label": "x"}\n', "label", (), ""),
    ("out of range", '{"text": "w7", "label": 0}\n{"text": "b", "label": 3}\n', "label", ("--labels", "p,q"), ":2"),
    ("unknown", '{"text": "w7", "label": "p"}\n{"text": "b", "label": "w7"}\n', "label", ("--labels", "p,q"), ":2"),
    ("each its own", "".join(f'{{"text": "w7 {n}", "label": {n / 7}}}\n' for n in range(40)), "label", (), ""),
    ("no text", '{"text": "a", "label": "x"}\n{"text": " ", "label": "y"}\n', "empty_row", (), ":2"),
    ("no column", '{"words": "w7 a", "label": "x"}\n', "column_missing", (), ":1"),
    ("a wrong column", '{"text": "w7 a", "label": "x"}\n', "column_missing", ("--columns", "label=mood"), ":1"),
    ("no row", "\n", "empty", (), ""),
    ("no JSON", '{"text": "a", "label": "x"}\n{"text": w7\n', "malformed", (), ":2"),
    ("long", '{"text": "w7 b c d", "label": 1}\n{"text": "b c d", "label": 2}\n', "all_too_long", ("--max-len=4",), ""),
)  # fmt: skip


def test_texts_that_are_no_use_are_refused_with_their_line(trainings: Trainings, small: Path, tmp_path: Path) -> None:
    for what, text, kind, more, line in TEXTS:
        data = tmp_path / "data.jsonl"
        data.write_text(text)
        words = ["--model", small / "bert", "--data", data, "--output-dir", tmp_path / "out", "--check-only", *more]
        told = refusal(trainings.run("text-classification", "train.py", *words))
        assert told["kind"] == kind, what
        assert (told["place"] or "").endswith(f"data.jsonl{line}"), (what, told[0])
    assert not (tmp_path / "out" / "model").exists()


def test_pairs_that_are_no_use_are_refused_with_their_line(trainings: Trainings, small: Path, tmp_path: Path) -> None:
    cases = (
        ("query,words,more\nw7 a,b,c\n", "column_missing", ":2"),
        ("query,passage\na,b\nw7 c,\n", "empty_row", ":3"),
        ("query,passage\na,w7 b\nc,w7 b\n", "label", ""),
        ("query,passage\na,b,w7\n", "malformed", ":2"),
    )
    data = tmp_path / "data.csv"
    for text, kind, line in cases:
        data.write_text(text)
        words = ["--model", small / "bert", "--data", data, "--output-dir", tmp_path / "out", "--check-only"]
        told = refusal(trainings.run("embeddings", "train.py", *words))
        assert told["kind"] == kind
        assert (told["place"] or "").endswith(f"data.csv{line}"), told[0]
    done = trainings.run("embeddings", "train.py", *words_of("embeddings", small), "--micro-batch", 1)
    assert done["rc"] == 2
    assert "--micro-batch must be 2 or more" in done["err"]


def test_images_that_are_no_use_are_refused_by_name(trainings: Trainings, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(small / "images", folder)

    def refused(data: Path, kind: str, place: str) -> None:
        words = ["--model", small / "vit", "--data", data, "--output-dir", tmp_path / "out", "--check-only"]
        told = refusal(trainings.run("image-classification", "train.py", *words))
        assert (told["kind"], (told["place"] or "").endswith(place)) == (kind, True), told[0]

    broken = folder / "dog" / "3.png"
    kept = broken.read_bytes()
    broken.write_bytes(kept[: len(kept) // 2])
    refused(folder, "malformed", "dog/3.png")
    broken.write_bytes(b"no image at all")
    refused(folder, "malformed", "dog/3.png")
    broken.write_bytes(kept)
    (folder / "ant").mkdir()
    refused(folder, "empty", "ant")
    (folder / "ant").rmdir()
    table = tmp_path / "table.csv"
    table.write_text("file,label\nimages/dog/1.png,dog\nimages/dog/none.png,cat\n")
    refused(table, "missing", "table.csv:3")
    table.write_text("file,label\nimages/dog/1.png,dog\nimages/dog/2.png,dog\n")
    refused(table, "label", "table.csv")
    refused(folder / "dog", "empty", "dog")
    table.write_text("file,label\n" + "".join(f"images/{k}/{n}.png,{k}\n" for k in ("dog", "cat") for n in range(8)))
    words = ["--model", small / "vit", "--data", table, "--output-dir", tmp_path / "out", "--check-only"]
    assert trainings.run("image-classification", "train.py", *words)["rc"] == 0


def test_a_model_or_an_output_that_is_no_use_is_refused(trainings: Trainings, small: Path, tmp_path: Path) -> None:
    for name, own in zip(NAMES, ("bert", "bert", "vit"), strict=True):
        words = words_of(name, small)[2:]
        missing = trainings.run(name, "train.py", "--model", tmp_path / "none", *words, "--output-dir", tmp_path / "o")
        assert refusal(missing)["kind"] == "model_missing"
        (tmp_path / "file").write_text("")
        closed = tmp_path / "file" / "out"
        done = trainings.run(name, "train.py", "--model", small / own, *words, "--output-dir", closed)
        assert refusal(done)["kind"] == "output_unwritable"
    wrong = ["--model", small / "vit", "--data", small / "texts.jsonl", "--output-dir", tmp_path / "o"]
    assert refusal(trainings.run("text-classification", "train.py", *wrong))["kind"] == "model_missing"

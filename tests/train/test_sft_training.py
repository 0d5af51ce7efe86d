"""Supervised fine-tuning for real: the rendered scripts with the real libraries, on a tiny model and the CPU."""

import json
import math
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.planning.evaluating import JUDGE_FILES
from caravan.values.evaluation import EvaluationResult, parse_evaluation
from tests.fakes.wiring import FakeWiring
from tests.terminal.models_case import add, models
from tests.train.cases import Ended, Zygote, shown
from tests.train.conftest import environment

pytestmark = pytest.mark.train
TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
DATA = TEMPLATES.parent / "examples" / "tiny-qwen" / "data"
SAME = 1e-5  # relative; on one machine with one thread a resumed training repeats every number
SETTINGS = ("--micro-batch", 8, "--grad-accum", 1, "--max-len", 128, "--logging-steps", 5, "--save-steps", 10)
FERRIES = ("--data", DATA / "train.jsonl", "--eval-data", DATA / "test.jsonl", *SETTINGS)


class Trained:
    """Trainings by the scripts of the type, of the tiny model."""

    def __init__(self, zygote: Zygote, scripts: Path, model: Path, python: Path) -> None:
        self.zygote, self.scripts, self.model = zygote, scripts, model
        self.python = python

    def __call__(self, output: Path, *words: object, data: tuple[object, ...] = FERRIES, **more: Any) -> Ended:
        return self.zygote.run(self.scripts, ["--model", self.model, "--output-dir", output, *data, *words], **more)

    def evaluated(self, *words: object) -> dict[str, Any]:
        """What evaluate.py says."""
        ended = self.zygote.run(self.scripts, [*words], script="evaluate.py")
        assert ended.code == 0, shown(ended)
        return ended.rows[-1]

    def judged(self, *words: object) -> dict[str, dict[str, float]]:
        """The base and the tuned model on the held-out data."""
        held_out: dict[str, dict[str, float]] = self.evaluated("--data", DATA / "test.jsonl", *words)["held_out"]
        return held_out


@pytest.fixture(scope="module")
def train(
    train_python: Path, tiny_model: Path, rendered: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    log = tmp_path_factory.mktemp("zygote") / "log"
    with Zygote(train_python, environment(), log) as zygote:
        yield Trained(zygote, rendered("sft"), tiny_model, train_python)


@pytest.fixture(scope="module")
def undisturbed(train: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A LoRA training to its end, that others are held against."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    ended = train(output, "--lr", 1e-2, "--max-steps", 24)
    assert ended.code == 0, shown(ended)
    return output, ended


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def losses_of(path: Path) -> list[float]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_an_adapter_learns_and_all_is_written_beside_it(train: Trained, undisturbed: tuple[Path, Ended]) -> None:
    output, ended = undisturbed
    losses = ended.said("loss")
    assert losses[-1] < 0.6 * losses[0]
    logged = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert logged == [row for row in ended.rows if "step" in row and "event" not in row]
    assert {"lr", "grad_norm", "tokens_per_second", "epoch"} <= set(logged[2])
    results = read(output / "evaluation.json")
    assert results["tuned"]["loss"] < 0.6 * results["base"]["loss"]
    assert results["tuned"]["perplexity"] == pytest.approx(math.exp(results["tuned"]["loss"]))
    told = read(output / "run.json")
    assert told["settings"]["lora_rank"] == 16
    assert told["seed"] == 42
    assert told["versions"]["trl"]
    card = (output / "README.md").read_text()
    assert told["data"]["sha256"] in card
    assert "ferry" not in card
    done = read(output / "DONE.json")
    assert (done["output"], done["step"]) == ("adapter", 24)
    newest = max(p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file())
    assert (output / "DONE.json").stat().st_mtime_ns == newest
    measured = train.judged("--model", output / "adapter")
    assert measured["base"]["loss"] == pytest.approx(results["base"]["loss"], rel=0.02)
    assert measured["tuned"]["loss"] == pytest.approx(results["tuned"]["loss"], rel=0.02)


def test_an_exported_adapter_loads_as_its_card_says(
    train: Trained, undisturbed: tuple[Path, Ended], train_python: Path, tmp_path: Path
) -> None:
    adapter, wiring, to = undisturbed[0] / "adapter", FakeWiring(tmp_path / "home"), tmp_path / "to"
    files = {p.relative_to(adapter).as_posix(): p.read_bytes() for p in adapter.rglob("*") if p.is_file()}
    add(wiring, str(adapter), files=files, base_model=str(train.model))
    assert models(wiring, "export", "chat", "--to", str(to))[0] == 0
    card = (to / "README.md").read_text()
    assert "[More Information Needed]" not in card  # peft's own form is no card of anybody's
    blocks = [part.partition("```")[0] for part in card.split("```python\n")[1:]]
    assert len(blocks) == 2  # loading, and merging into the base
    compared = """
import torch
words = tokenizer("The ferry leaves at", return_tensors="pt").input_ids
base = AutoModelForCausalLM.from_pretrained({base!r}, dtype="auto")(words).logits
tuned = model(words).logits
{merge}
again = AutoModelForCausalLM.from_pretrained("merged", dtype="auto")(words).logits
assert not torch.allclose(base, tuned, atol=1e-3), "the adapter changed nothing"
assert torch.allclose(tuned, again, atol=1e-3), "merged it says something else"
print("as one")
"""
    program = f"{blocks[0]}\n{compared.format(base=str(train.model), merge=blocks[1])}"
    done = subprocess.run(
        [str(train_python), "-c", program], cwd=to, env=environment(), capture_output=True, text=True, timeout=1200
    )
    assert "as one" in done.stdout, done.stderr[-2000:]


def test_its_evaluation_tells_all_that_a_gate_asks(
    train: Trained, undisturbed: tuple[Path, Ended], tmp_path: Path
) -> None:
    adapter = undisturbed[0] / "adapter"
    rows = [json.loads(line) for line in (DATA / "train.jsonl").read_text().splitlines()[:5]]
    strange = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "boat " * 40}]}
    fixed = [{**row, "id": f"known-{n}"} for n, row in enumerate(rows)] + [{**strange, "id": "strange"}]
    (tmp_path / "fixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fixed))
    words = ("--model", adapter, "--regression", tmp_path / "fixed.jsonl", "--canary", "builtin", "--generate", 2)
    told = train.evaluated(*words)  # on what its training held out
    found = EvaluationResult.model_validate(told)
    assert (found.by, found.seed, found.error) == ("sft", 0, "")
    assert found.held_out is not None
    assert found.learnt is not None
    assert found.regression is not None
    assert (found.held_out.samples, found.learnt.samples, found.regression.samples) == (20, 94, 6)
    assert found.held_out.tuned["loss"] < 0.6 * found.held_out.base["loss"]
    assert found.learnt.tuned["loss"] < found.held_out.tuned["loss"]
    assert found.learnt.tuned["loss"] < found.learnt.base["loss"], "without the base's there is no gap to be judged"
    assert found.held_out.tuned["perplexity"] == pytest.approx(math.exp(found.held_out.tuned["loss"]))
    assert 0 < found.held_out.tuned["token_accuracy"] < 1
    assert not {f"known-{n}" for n in range(5)} & set(found.regressed)
    assert found.canary is not None
    assert found.canary.prompts == 20
    assert found.canary.base_failed is not None
    assert len([name for name in found.canary.failed if "medical" not in name]) >= 16  # it knows no word that declines
    assert found.collapse["non_finite"] == 0
    assert 0 < found.collapse["distinct"] <= 1
    assert found.collapse["empty_expected"] == found.collapse["repeating_expected"] == 0
    assert {"empty", "empty_base", "repeating", "repeating_base"} <= set(found.collapse)
    assert len(found.generations) == 2
    assert found.generations[0].base is not None
    assert found.versions["torch"]
    again = train.evaluated(*words)
    assert {**again, "seconds": 0} == {**told, "seconds": 0}
    fewer = EvaluationResult.model_validate(train.evaluated("--model", adapter, "--examples", 7, "--seed", 3))
    assert fewer.held_out is not None
    assert (fewer.held_out.samples, fewer.canary, fewer.generations, fewer.regression) == (7, None, (), None)
    assert fewer.held_out.sha256 != found.held_out.sha256
    assert fewer.model_sha256 == found.model_sha256
    learnt = train.zygote.run(train.scripts, ["--model", adapter, "--data", DATA / "train.jsonl"], script="evaluate.py")
    assert learnt.code == 2
    assert "caravan-train: leak: " in learnt.err


def test_a_model_that_broke_is_told_by_its_answers(
    train: Trained, undisturbed: tuple[Path, Ended], tmp_path: Path
) -> None:
    broken = tmp_path / "out" / "adapter"
    shutil.copytree(undisturbed[0], broken.parent, ignore=shutil.ignore_patterns("checkpoint-*"))
    script = "import sys; from safetensors.torch import load_file, save_file\n"
    script += "w = load_file(sys.argv[1])\n"
    script += "save_file({n: t * 0 + float(sys.argv[2]) for n, t in w.items()}, sys.argv[1])"
    weights = broken / "adapter_model.safetensors"
    words = [str(train.python), "-c", script, str(weights)]
    subprocess.run([*words, "nan"], check=True, env=environment())
    found = EvaluationResult.model_validate(train.evaluated("--model", broken))
    assert found.collapse["non_finite"] == 1
    assert found.held_out is not None
    assert math.isnan(found.held_out.tuned["loss"])
    assert math.isfinite(found.held_out.base["loss"])
    subprocess.run([*words, "30"], check=True, env=environment())
    found = EvaluationResult.model_validate(train.evaluated("--model", broken))
    assert found.collapse["distinct"] < 0.2 < found.collapse["distinct_expected"]


def test_a_model_of_another_training_is_judged_by_what_it_is(
    train: Trained, undisturbed: tuple[Path, Ended], tmp_path: Path
) -> None:
    """By the files that a job brings beside a training that is not ours."""
    for name, source in JUDGE_FILES.items():
        (tmp_path / "judge" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TEMPLATES / source, tmp_path / "judge" / name)
    outputs = tmp_path / "out"
    shutil.copytree(undisturbed[0] / "adapter", outputs)
    shutil.copy(TEMPLATES / "evaluation.py", tmp_path)
    shutil.copy(TEMPLATES / "model_files.py", tmp_path)
    asked = {
        "examples": 8,
        "seed": 0,
        "learnt": str(DATA / "train.jsonl"),
        "data": str(DATA / "test.jsonl"),
        "max_len": 128,
    }
    words = [train.python, tmp_path / "evaluation.py", "--answer", tmp_path / "answer.json", "--outputs", outputs]
    words += [
        "--by",
        "model",
        "--max-s",
        "900",
        "--asked",
        json.dumps(asked),
        "--",
        train.python,
        tmp_path / "judge" / "judge.py",
    ]
    done = subprocess.run([str(w) for w in words], env=environment(), capture_output=True, text=True, check=True)
    found = parse_evaluation((tmp_path / "answer.json").read_bytes())
    assert found is not None, done.stderr
    assert (found.by, found.error) == ("model", ""), done.stderr
    assert found.held_out is not None
    assert found.held_out.tuned["loss"] < 0.6 * found.held_out.base["loss"]
    assert (found.held_out.samples, found.learnt and found.learnt.samples) == (8, 8)


def test_killed_in_the_middle_it_ends_with_the_same_loss(
    train: Trained, undisturbed: tuple[Path, Ended], tmp_path: Path
) -> None:
    killed = train(tmp_path / "out", "--lr", 1e-2, "--max-steps", 24, signal=signal.SIGKILL, when='"step": 15')
    assert killed.code == -signal.SIGKILL
    (tmp_path / "out" / ".caravan" / "writing" / "checkpoint-20").mkdir(parents=True)  # as if killed while it wrote
    ended = train(tmp_path / "out", "--lr", 1e-2, "--max-steps", 24)
    assert ended.code == 0, shown(ended)
    assert ended.event("begin")["resumed_from"].endswith("checkpoint-10")
    assert read(tmp_path / "out" / "evaluation.json")["tuned"]["loss"] == pytest.approx(
        read(undisturbed[0] / "evaluation.json")["tuned"]["loss"], rel=SAME
    )
    losses = [losses_of(output / "metrics.jsonl") for output in (tmp_path / "out", undisturbed[0])]
    assert losses[0] == pytest.approx(losses[1], rel=SAME)
    (tmp_path / "out" / "DONE.json").unlink()  # as if killed between the last checkpoint and the end
    again = train(tmp_path / "out", "--lr", 1e-2, "--max-steps", 24)
    assert again.event("done")["step"] == 24
    assert again.said("eval_loss") == ended.said("eval_loss")[-1:]


def test_a_checkpoint_cut_off_is_not_taken_and_another_training_s_is_set_aside(
    train: Trained, undisturbed: tuple[Path, Ended], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    ended = train(output, "--lr", 1e-2, "--max-steps", 24, signal=signal.SIGTERM, when='"step": 15')
    assert ended.code == 143, shown(ended)
    step = ended.event("stopped")["step"]
    weights = output / f"checkpoint-{step}" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    again = train(output, "--lr", 1e-2, "--max-steps", 24)
    assert "adapter_model.safetensors is cut off" in again.err
    assert again.event("begin")["resumed_from"].endswith("checkpoint-10")
    other = train(output, "--lr", 1e-2, "--max-steps", 2, "--lora-rank", 4)
    assert other.event("begin")["resumed_from"] is None
    assert "another lora_rank" in other.err
    assert {p.name for p in output.glob("checkpoint-*")} == {"checkpoint-2"}


def test_told_to_stop_it_leaves_a_checkpoint_and_goes_on_from_it(
    train: Trained, undisturbed: tuple[Path, Ended], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    stopped = train(output, "--lr", 1e-2, "--max-steps", 24, signal=signal.SIGTERM, when='"step": 5')
    assert stopped.code == 143, shown(stopped)
    step = stopped.event("stopped")["step"]
    assert 5 <= step < 24
    assert not (output / "DONE.json").exists()
    ended = train(output, "--lr", 1e-2, "--max-steps", 24)
    assert ended.event("begin")["resumed_from"].endswith(f"checkpoint-{step}")
    results = [read(p / "evaluation.json") for p in (output, undisturbed[0])]
    assert results[0]["tuned"]["loss"] == pytest.approx(results[1]["tuned"]["loss"], rel=SAME)
    assert results[0]["base"] == results[1]["base"]


def test_all_weights_learn_and_the_model_loads(train: Trained, tmp_path: Path) -> None:
    ended = train(tmp_path / "out", "--method", "full", "--lr", 5e-3, "--max-steps", 16, "--grad-checkpointing", "true")
    assert ended.code == 0, shown(ended)
    assert ended.event("begin")["trainable"] == ended.event("begin")["parameters"]
    assert ended.said("loss")[-1] < 0.6 * ended.said("loss")[0]
    assert not list((tmp_path / "out" / "model").glob("*.bin"))
    measured = train.judged("--model", tmp_path / "out" / "model", "--base", train.model)
    assert measured["tuned"]["loss"] < 0.6 * measured["base"]["loss"]


def test_an_adapter_over_weights_in_4_bits_learns_and_merges(train: Trained, tmp_path: Path) -> None:
    words = ("--method", "qlora", "--lr", 1e-2, "--max-steps", 48, "--merge", "true")
    ended = train(tmp_path / "out", *words)
    assert ended.code == 0, shown(ended)
    assert ended.event("begin")["parameters"] < 130_000  # two weights in a byte
    assert ended.said("loss")[-1] < 0.7 * ended.said("loss")[0]
    alone = train.judged("--model", tmp_path / "out" / "adapter")
    merged = train.judged("--model", tmp_path / "out" / "model")
    assert merged["tuned"]["loss"] == pytest.approx(alone["tuned"]["loss"], rel=0.01)


def test_a_loss_that_is_lost_ends_the_training_and_is_never_saved(train: Trained, tmp_path: Path) -> None:
    words = ("--method", "full", "--lr", 1e25, "--max-steps", 20, "--save-steps", 2, "--max-grad-norm", 0)
    ended = train(tmp_path / "out", *words)
    assert ended.code == 1, shown(ended)
    assert "caravan-train: diverged: " in ended.err
    for checkpoint in (tmp_path / "out").glob("checkpoint-*"):
        assert checkpoint.name == "checkpoint-2", "weights that are no numbers were saved"
    seen = train(tmp_path / "seen", *words, "--save-steps", 100)
    assert seen.code == 1
    assert math.isnan(seen.said("loss")[-1])
    assert "the loss is nan at step" in seen.err


def test_instructions_tables_texts_and_packing(train: Trained, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    asked.mkdir()
    rows = [{"instruction": f"Say {n} twice", "input": "", "output": f"{n} {n}"} for n in range(32)]
    (asked / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (asked / "test.jsonl").write_text(json.dumps(rows[0]) + "\n\n" + json.dumps({**rows[1], "output": " "}) + "\n")
    small = ("--micro-batch", 4, "--grad-accum", 1, "--max-len", 64, "--lr", 1e-2, "--max-steps", 6)
    first = train(tmp_path / "1", data=("--data", asked, *small))
    assert first.code == 0, shown(first)
    assert first.event("data")["format"] == "instruction"
    assert (first.event("data")["rows"], first.event("data")["held_out"]) == (32, 1)
    assert "test.jsonl:3 says nothing" in first.err
    table = tmp_path / "table.csv"
    table.write_text("question,reply\n" + "".join(f'"say ""{n}"",",{n} {n}\n' for n in range(32)))
    words = ("--data", table, "--columns", "prompt=question,completion=reply", "--eval-fraction", 0, *small)
    second = train(tmp_path / "2", data=words)
    assert second.code == 0, shown(second)
    assert not (tmp_path / "2" / "evaluation.json").exists()
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Boat {n} leaves the harbour and comes back at night.\n" * 9 for n in range(12)))
    third = train(tmp_path / "3", data=("--data", text, *small, "--packing", "true"))
    assert third.code == 0, shown(third)
    assert third.event("data")["cut"] == 0
    assert third.event("data")["learned"] > 12  # long texts go on in another sequence
    assert third.said("loss")[-1] < third.said("loss")[0]


SECRET = "zanzibar"


@pytest.mark.parametrize(
    ("text", "name", "words", "kind", "where"),
    [
        ("", "a.jsonl", (), "empty", ""),
        ('{"messages": []}\n', "a.jsonl", (), "empty", ""),
        ('{"text": "a"}\n{"text": "zanzibar\n', "a.jsonl", (), "malformed", ":2: "),
        ('{"text": "a"}\n["zanzibar"]\n', "a.jsonl", (), "malformed", ":2: "),
        ('text,label\n"zanzibar",1\nzanzibar\n', "a.csv", (), "malformed", ":3: "),
        ("zanzibar", "a.parquet", (), "malformed", ""),
        ('{"words": "zanzibar"}\n', "a.jsonl", (), "column_missing", ":1: "),
        ('{"text": "a"}\n{"txt": "zanzibar"}\n', "a.jsonl", (), "column_missing", ":2: "),
        ('{"messages": [{"role": "zanzibar", "content": "a"}]}\n', "a.jsonl", (), "roles", ":1: "),
        ('{"messages": [{"role": "user", "content": "zanzibar"}]}\n', "a.jsonl", (), "roles", ":1: "),
        ('{"messages": "zanzibar"}\n', "a.jsonl", (), "malformed", ":1: "),
        ('{"prompt": "zanzibar " , "completion": "a b c d e f"}\n', "a.jsonl", ("--max-len", 2), "all_too_long", ""),
        ('{"text": "zanzibar"}\n', "a.jsonl", ("--model", "/nowhere/m"), "model_missing", ""),
        ('{"text": "zanzibar"}\n', "a.jsonl", ("--model", "nobody/no-such-model"), "model_missing", ""),
        ('{"text": "zanzibar"}\n', "a.jsonl", ("--data", "no-such.jsonl"), "missing", ""),
        ('{"text": "zanzibar"}\n', "a.jsonl", ("--data", "nobody/no-such-data"), "missing", ""),
        ('{"text": "zanzibar"}\n', "a.jsonl", ("--output-dir", "/dev/null/out"), "output_unwritable", ""),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_its_line(
    train: Trained, tmp_path: Path, text: str, name: str, words: tuple[object, ...], kind: str, where: str
) -> None:
    (tmp_path / name).write_text(text)
    ended = train(tmp_path / "out", "--data", tmp_path / name, *words, "--check-only", "true", data=())
    assert ended.code == 2, shown(ended)
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"caravan-train: {kind}: ")
    assert (f"{tmp_path / name}{where}" in last) == bool(where) or not where
    assert SECRET not in ended.err + ended.out


def test_a_tokenizer_without_a_chat_template(train: Trained, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in train.model.iterdir():
        if file.name != "chat_template.jinja":
            (bare / file.name).write_bytes(file.read_bytes())
    words = ("--model", bare, "--check-only", "true")
    ended = train(tmp_path / "out", *words)
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("caravan-train: no_chat_template: ")
    given = tmp_path / "own.jinja"
    given.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    ended = train(tmp_path / "out", *words, "--chat-template", given)
    assert ended.code == 0, shown(ended)
    ended = train(tmp_path / "out", *words, "--chat-template", given, "--loss-on", "answers")
    assert ended.err.splitlines()[-1].startswith("caravan-train: no_chat_template: ")


def test_two_processes_train_as_one(
    train_python: Path, train: Trained, undisturbed: tuple[Path, Ended], tmp_path: Path
) -> None:
    """By torchrun over gloo: the same samples in an update, so nearly the same loss; one of them writes."""
    words = ["--model", train.model, "--output-dir", tmp_path / "out", *FERRIES]
    words += ["--lr", 1e-2, "--max-steps", 10, "--micro-batch", 4, "--lora-dropout", 0, "--method", "full"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, train.scripts / "train.py"]
    done = subprocess.run(
        [str(w) for w in (train_python, *torchrun, *words)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = Ended(0, "".join(x + "\n" for x in done.stdout.splitlines() if x.startswith("{")), "")
    one = train(tmp_path / "one", "--lr", 1e-2, "--max-steps", 10, "--lora-dropout", 0, "--method", "full")
    assert two.said("loss") == pytest.approx(one.said("loss"), rel=1e-3)
    assert len(two.rows) == len(one.rows)

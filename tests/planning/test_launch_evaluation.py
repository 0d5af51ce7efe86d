"""The launch script's last phase, run for real by /bin/sh: the trained model is evaluated."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.metrics import last_metrics
from caravan.agent.training_lines import of_training
from caravan.planning.script import launch_script
from caravan.values.evaluation import EvaluationResult, parse_evaluation
from caravan.values.log_marks import is_marked, plainly
from caravan.values.outputs import TrainedModel, parse_summary
from caravan.values.plan import Evaluation, Launch, OutputSink, Training, TrainingPlan
from caravan.values.registry import files_digest
from tests.planning.scenes import TEMPLATES
from tests.planning.test_launch_script import Place

TRAIN = """import os, sys
out = os.environ['CARAVAN_OUTPUT_DIR']
def write(name, text='x'):
    os.makedirs(os.path.dirname(f'{out}/{name}'), exist_ok=True)
    open(f'{out}/{name}', 'w').write(text)
print('loss: 0.5')
"""
MODEL = TRAIN + "write('final/config.json', '{}')\nwrite('final/model.safetensors', 'weights')\n"
MODEL += "write('checkpoint-9/config.json', '{}')\nwrite('checkpoint-9/model.safetensors', 'newer')\n"
SAY = (
    "import os, sys, json, time, signal\nmodel, file = os.environ['CARAVAN_MODEL'], os.environ['CARAVAN_EVALUATION']\n"
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "odd $(name) 'here'")


def planned(place: Place, judge: str, train: str = MODEL, words: tuple[str, ...] = (), **more: Any) -> TrainingPlan:
    asked = {"where": "phase", "command": ("python", "judge.py", *words), "seed": 3, **more.pop("evaluation", {})}
    files = {"train_py": train, "judge_py": SAY + judge}
    return place.plan(place.pack(**files), "train.py", evaluation=Evaluation(**asked), **more)


def result(place: Place) -> EvaluationResult:
    path = place.alloc / "data" / "caravan-evaluation.json"
    found = parse_evaluation(path.read_bytes())
    assert found is not None
    assert [p.name for p in path.parent.glob("caravan-evaluation*")] == [path.name]
    return found


def model(place: Place) -> TrainedModel | None:
    found = parse_summary((place.alloc / "data" / "caravan-outputs.json").read_bytes())
    assert found is not None
    return found.model


def test_the_file_that_the_command_wrote_is_the_answer(place: Place) -> None:
    said = {"held_out": {"base": {"loss": 2.0}, "tuned": {"loss": 1.5}, "samples": 4}, "canary": {"prompts": 2}}
    plan = planned(place, f"json.dump({said!r}, open(file, 'w'))\nprint('loss: 9')")
    status, out, _ = place.run(plan)
    found = result(place)
    assert (status, place.sentinel()["exit_code"], found.error) == (0, 0, "")
    assert found.held_out is not None
    assert found.held_out.tuned == {"loss": 1.5}
    assert (found.by, found.seed, found.metrics) == ("command", 3, {})
    assert found.seconds is not None
    assert [plainly(line) for line in out.splitlines() if is_marked(line)] == [
        "caravan: evaluation begins",
        "caravan: evaluation is over",
    ]
    assert last_metrics(of_training(f"{place.head}\n{out}")) == {"loss": 0.5}


def test_else_what_it_printed(place: Place) -> None:
    lines = ["json.dumps({'acc': 0.5, 'name': 'x', 'by': {'a': 1}})", "'rouge-L: 0.25, wer = 3e-1'", "'it took: long'"]
    plan = planned(place, "\n".join(f"print({line})" for line in lines) + "\nprint('acc: 0.75', end='')")
    assert place.run(plan)[0] == 0
    assert result(place).metrics == {"acc": 0.75, "by/a": 1.0, "rouge-L": 0.25, "wer": 0.3}
    assert result(place).error == ""


def test_names_and_numbers_in_the_file_are_metrics_too(place: Place) -> None:
    place.run(planned(place, "json.dump({'mAP': 0.5, 'n': 3, 'ok': True}, open(file, 'w'))"))
    assert result(place).metrics == {"mAP": 0.5, "n": 3.0}


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("print('no numbers'); sys.stderr.write('boom: it broke\\n'); sys.exit(7)", "exit code 7: boom: it broke"),
        ("pass", "neither wrote nor printed"),
        ("open(file, 'w').write('[1')", "can't be read"),
        ("open(file, 'w').write('[1]')", "no JSON object"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
    ],
)
def test_an_evaluation_that_fails_is_no_failure_of_the_training(place: Place, judge: str, said: str) -> None:
    status, _, err = place.run(planned(place, judge))
    assert (status, place.sentinel()["exit_code"]) == (0, 0)
    assert said in result(place).error
    assert said in err


def test_a_command_that_is_not_there(place: Place) -> None:
    plan = planned(place, "", evaluation={"command": ("no-such-program",)})
    assert place.run(plan)[0] == 0
    assert "can't be started" in result(place).error


def test_it_knows_the_model_and_what_is_asked(place: Place) -> None:
    judge = (
        "told = json.loads(os.environ['CARAVAN_EVALUATION_ASKED'])\nprint(json.dumps({'examples': told['examples']}))"
    )
    judge += "\nopen(os.environ['CARAVAN_OUTPUT_DIR'] + '/seen', 'w').write('|'.join([model, *sys.argv[1:]]))"
    plan = planned(place, judge, words=("--model=$CARAVAN_MODEL", "${CARAVAN_MODEL}/x", "$CARAVAN_MODELS"))
    assert place.run(plan)[0] == 0
    at = f"{place.outputs}/final"
    assert (place.outputs / "seen").read_text() == f"{at}|--model={at}|{at}/x|$CARAVAN_MODELS"
    assert result(place).metrics == {"examples": 1000}


def test_the_model_s_files_are_told_with_their_digests(place: Place) -> None:
    place.run(planned(place, "print('a: 1')"))
    told = model(place)
    assert told is not None
    assert (told.path, told.kind, told.error, told.bytes) == ("final", "model", "", 9)
    assert [(f.path, f.bytes) for f in told.files] == [("config.json", 2), ("model.safetensors", 7)]
    assert told.files[1].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert told.sha256 == files_digest(told.files) == result(place).model_sha256


@pytest.mark.parametrize(
    ("train", "path", "kind", "names"),
    [
        (
            TRAIN + "write('DONE.json', '{\"output\": \"a\"}')\nwrite('a/w.bin')\nwrite('b/config.json')\n",
            "a",
            "",
            ["w.bin"],
        ),
        (TRAIN + "write('w.npz')\nwrite('checkpoint-2/w.npz')\n", ".", "", ["w.npz"]),
        (
            TRAIN + "write('adapter_config.json')\nwrite('config.json')\nwrite('adapter_model.safetensors')\n"
            "write('optimizer.pt')\nwrite('runs/x/events.out.tfevents.1')\nwrite('.caravan/y')\n",
            ".",
            "adapter",
            ["adapter_config.json", "adapter_model.safetensors", "config.json"],
        ),
        (
            TRAIN + "write('checkpoint-2/config.json')\nwrite('checkpoint-2/pytorch_model.bin')\n"
            "write('checkpoint-2/trainer_state.json')\nwrite('log.txt')\n",
            "checkpoint-2",
            "model",
            ["config.json", "pytorch_model.bin"],
        ),
        (TRAIN + "write('DONE.json', '{\"output\": \"../..\"}')\n", ".", "", ["DONE.json"]),
    ],
)
def test_which_directory_is_the_model(place: Place, train: str, path: str, kind: str, names: list[str]) -> None:
    place.run(place.plan(place.pack(train_py=train), "train.py"))
    told = model(place)
    assert told is not None
    assert (told.path, told.kind, [f.path for f in told.files]) == (path, kind, names)


def test_no_model_is_told_of_a_training_that_failed_or_wrote_nothing(place: Place) -> None:
    place.run(planned(place, "print('a: 1')", MODEL + "sys.exit(3)"))
    assert place.sentinel()["exit_code"] == 3
    assert model(place) is None
    assert not (place.alloc / "data" / "caravan-evaluation.json").exists()
    place.run(
        place.plan(
            place.pack(train_py=TRAIN), "train.py", outputs=OutputSink(kind="path", location=f"{place.outputs}2")
        )
    )
    assert model(place) is None


def test_an_answer_of_an_earlier_start_proves_nothing(place: Place) -> None:
    plan = planned(place, "print('a: 1')")
    place.run(plan)
    (place.task / "launch.sh").write_text("")
    place.run(planned(place, "print('a: 1')", TRAIN + "sys.exit(1)"))
    assert not (place.alloc / "data" / "caravan-evaluation.json").exists()


def test_its_time_is_bounded(place: Place) -> None:
    judge = "import subprocess\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('a: 1', flush=True)\n"
    judge += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\ntime.sleep(600)"
    status, _, _ = place.run(planned(place, judge, evaluation={"max_s": 1}, kill_timeout_s=1))
    assert (status, place.sentinel()["exit_code"]) == (0, 0)
    assert "it took more than 1 s" in result(place).error


def test_a_stop_in_the_evaluation_ends_it_and_the_training_went_well(place: Place) -> None:
    judge = "signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'told: 1\\n'), sys.exit(0)))\n"
    judge += "os.write(1, b'ready now\\n')\ntime.sleep(600)"
    process = place.start(planned(place, judge))
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line == "ready now\n":
            process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert "told: 1\n" in seen, err
    assert (process.returncode, place.sentinel()["exit_code"]) == (0, 0)
    assert "stopped" in result(place).error


def test_the_time_limit_ends_the_evaluation_and_the_training_went_well(place: Place) -> None:
    status, _, _ = place.run(planned(place, "time.sleep(600)"), time_limit_s=3)
    assert (status, place.sentinel()["exit_code"]) == (0, 0)
    assert "stopped" in result(place).error


def test_a_type_without_an_evaluation_has_none(place: Place) -> None:
    code = place.pack(caravan_train__train_py=MODEL)
    status, _, err = place.run(place.plan(code, "caravan_train/train.py", training=Training(type="bigrams")))
    assert status == 0
    assert "there is no caravan_train/evaluate.py" in err
    assert not (place.alloc / "data" / "caravan-evaluation.json").exists()


def test_of_several_nodes_the_first_one_evaluates(place: Place) -> None:
    plan = planned(place, "", launch=Launch(nodes=2))
    script = launch_script(plan, TEMPLATES)
    body = script[script.index("evaluate() {") :]
    assert '[ "${NOMAD_ALLOC_INDEX:?}" = 0 ] || return 0' in body[: body.index("\n}")]


def test_a_process_of_the_evaluation_is_not_one_of_several(place: Place) -> None:
    plan = planned(place, "print('ranks:', sum(n in os.environ for n in ('RANK', 'WORLD_SIZE')))", env={"RANK": "0"})
    place.run(plan)
    assert result(place).metrics == {"ranks": 0.0}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"x.npz": "x"}, "in no format"),
        ({"config.json": '{"architectures": ["WhisperForAudio"]}', "model.safetensors": "x"}, "in no format"),
    ],
)
def test_a_model_in_no_known_format_is_told_in_the_answer(place: Place, files: dict[str, str], said: str) -> None:
    train = TRAIN + "".join(f"write({name!r}, {text!r})\n" for name, text in files.items())
    plan = place.plan(place.pack(train_py=train), "train.py", evaluation=Evaluation(on=True, where="phase"))
    assert place.run(plan)[0] == 0
    assert said in result(place).error
    assert result(place).by == "model"


@pytest.mark.parametrize("name", ["evaluation.py", "model_files.py", "judge.py"])
def test_the_helpers_say_how_they_are_used(name: str) -> None:
    if name == "judge.py":
        compile((TEMPLATES / name).read_text(), name, "exec")
        return
    said = subprocess.run([sys.executable, str(TEMPLATES / name), "--help"], capture_output=True, text=True, check=True)
    assert "usage" in said.stdout


def test_a_digest_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "w.bin").write_bytes(b"abc")
    summary, cache = tmp_path / "summary.json", tmp_path / "cache.json"
    summary.write_text('{"files": 1}')
    words = [
        sys.executable,
        str(TEMPLATES / "model_files.py"),
        str(tmp_path / "out"),
        str(summary),
        "--cache",
        str(cache),
    ]
    subprocess.run(words, check=True)
    first = json.loads(summary.read_text())["model"]["files"][0]["sha256"]
    assert first == hashlib.sha256(b"abc").hexdigest()
    kept = json.loads(cache.read_text())
    cache.write_text(json.dumps({name: [*value[:2], "0" * 64] for name, value in kept.items()}))
    subprocess.run(words, check=True)
    assert json.loads(summary.read_text())["model"]["files"][0]["sha256"] == "0" * 64
    (tmp_path / "out" / "w.bin").write_bytes(b"abcd")
    subprocess.run(words, check=True)
    assert json.loads(summary.read_text())["model"]["files"][0]["sha256"] == hashlib.sha256(b"abcd").hexdigest()

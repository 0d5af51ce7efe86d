"""The example `numpy-lora`: its gradients are right, its loss falls, and a stopped training ends as if undisturbed."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

np = pytest.importorskip("numpy")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "numpy-lora"
EVERY = ("--log-every", "1", "--save-every", "5", "--eval-every", "3")
SMALL = ("--pretrain-steps", "40", "--batch-size", "4", "--seq-len", "16", *EVERY)
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def load_model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("numpy_lora_model", EXAMPLE / "model.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(output: Path, *options: str) -> list[str]:
    return [sys.executable, str(EXAMPLE / "train.py"), "--output-dir", str(output), *SMALL, *options]


def train(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(output, *options), env=ENVIRONMENT, capture_output=True, text=True, check=False)


def rows(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def losses(output: Path) -> list[tuple[float, float | None, float | None]]:
    return [(row["step"], row.get("loss"), row.get("eval_loss")) for row in rows(output)]


def differences(f, array, indices, step=1e-5):
    for index in indices:
        before = array[index]
        array[index] = before + step
        high = f()
        array[index] = before - step
        low = f()
        array[index] = before
        yield (high - low) / (2 * step)


@pytest.mark.parametrize("length", [5, 8])
def test_gradients_by_hand_agree_with_finite_differences(length):
    model = load_model()
    rng = np.random.default_rng(3)
    weights = model.new_weights(11, 8, rng, dtype=np.float64)
    adapter = model.new_adapter(weights, 2, rng)
    adapter = {k: v + 0.1 * rng.standard_normal(v.shape) for k, v in adapter.items()}  # B = 0 would hide dA
    x, y = rng.integers(0, 11, (2, 3, length))

    def adapted_loss():
        return model.loss_and_gradients(model.adapted(weights, adapter, 0.5), x, y)[0]

    _, gradients = model.loss_and_gradients(model.adapted(weights, adapter, 0.5), x, y)
    for group, wanted in ((weights, gradients), (adapter, model.adapter_gradients(gradients, adapter, 0.5))):
        for name, array in group.items():
            indices = [tuple(int(rng.integers(0, n)) for n in array.shape) for _ in range(6)]
            measured = list(differences(adapted_loss, array, indices))
            assert measured == pytest.approx([wanted[name][i] for i in indices], abs=1e-8), name


def test_a_new_adapter_changes_nothing():
    model = load_model()
    weights = model.new_weights(7, 4, np.random.default_rng(0))
    adapter = model.new_adapter(weights, 2, np.random.default_rng(1))
    ready = model.adapted(weights, adapter, 2.0)
    assert all(np.array_equal(weights[k], ready[k]) for k in weights)


def test_the_default_training_learns_and_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "train.py"), "--output-dir", str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    logged = rows(tmp_path)
    first, *_, last = (row for row in logged if "loss" in row)
    assert set(first) == {"step", "loss", "tokens_per_second"}
    assert last["loss"] < 0.6 * first["loss"]
    assert f"step {last['step']}/{last['step']} loss {last['loss']:.4f}" in done.stdout
    base, *_, tuned = (row for row in logged if "eval_loss" in row)
    assert set(base) == {"step", "eval_loss"}
    assert base["step"] == 0
    assert tuned["eval_loss"] < 0.6 * base["eval_loss"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["steps"] == last["step"] == tuned["step"]
    assert config["eval_loss"] == pytest.approx(tuned["eval_loss"], abs=1e-6)
    with np.load(tmp_path / "adapter.npz") as adapter:
        assert adapter["wq.A"].shape == (32, 4)
        assert np.abs(adapter["wq.B"]).max() > 0
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_killed_and_resumed_it_ends_as_if_undisturbed(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, "--steps", "12").returncode == 0
    assert train(parts, "--steps", "7").returncode == 0
    resumed = train(parts, "--steps", "12", "--resume-from", "auto")
    assert resumed.returncode == 0
    assert "at step 5" in resumed.stdout  # the newest checkpoint, not the end of the first training
    assert losses(parts) == losses(whole)
    same, other = (json.loads((p / "config.json").read_text())["eval_loss"] for p in (whole, parts))
    assert same == other


def test_sigterm_writes_a_checkpoint_and_ends_non_zero(tmp_path):
    output = tmp_path / "out"
    process = subprocess.Popen(
        command(output, "--steps", "1000000", "--save-every", "1000000"),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        while not process.stdout.readline().startswith("step "):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 143
    assert "--resume-from auto" in rest
    (checkpoint,) = output.glob("checkpoint-*.npz")
    step = int(checkpoint.stem.split("-")[1])
    assert step == rows(output)[-1]["step"]
    again = train(output, "--steps", str(step + 2), "--resume-from", str(checkpoint))
    assert again.returncode == 0
    assert rows(output)[-1]["step"] == step + 2


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--batch-size", "0"), 2, "--batch-size must be at least 1"),
        (("--data", "nowhere.txt"), 1, "can't read nowhere.txt"),
        (("--seq-len", "100000"), 1, "too few for --seq-len"),
        (("--resume-from", "nowhere.npz"), 1, "no checkpoint"),
        (("--learning-rate", "1e30", "--steps", "30"), 1, "smaller --learning-rate"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, options, code, words):
    done = train(tmp_path, *options)
    assert done.returncode == code
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    assert train(tmp_path, "--steps", "5").returncode == 0
    done = train(tmp_path, "--steps", "6", "--resume-from", "auto", "--lora-rank", "2")
    assert done.returncode == 1
    assert "another lora_rank" in done.stderr

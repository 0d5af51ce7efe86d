"""The example `needs-more-memory`: it learns, its texts are its script's, and its memory is what its page says."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from caravan.values.plan import Resources

np = pytest.importorskip("numpy")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "needs-more-memory"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
MIB = 2**20
CONTEXT, WIDTH = 128, 32


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"needs_more_memory_{Path(name).stem}", EXAMPLE / name)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MEASURED = """
import re, runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0] + "/train.py", run_name="__main__")
print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
"""The training, and then the most memory it had: a parent would see its own size in a child's figure."""


def train(output: Path, *options: str) -> tuple[int, str]:
    """Exit code and messages."""
    words = [sys.executable, "-c", MEASURED, str(EXAMPLE), "--output-dir", str(output), *options]
    done = subprocess.run(
        words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def features(characters: int) -> int:
    """The formula of the example's page, in bytes."""
    return (characters - CONTEXT) * CONTEXT * WIDTH * 4


def test_the_loss_falls_and_the_outputs_are_there(tmp_path: Path) -> None:
    code, said = train(tmp_path, "--max-chars", "6000", "--epochs", "6", "--log-every", "1", "--save-every", "20")
    assert code == 0, said
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["eval_loss"] < config["eval_loss_before"]
    assert len(list(tmp_path.glob("checkpoint-*.npz"))) == 2
    with np.load(tmp_path / "model.npz") as weights:
        assert weights["w1"].shape == (CONTEXT * WIDTH, config["hidden"])


def test_memory_grows_with_the_text_as_documented(tmp_path: Path) -> None:
    peaks = {}
    for characters in (4000, 12000):
        code, said = train(tmp_path, "--max-chars", str(characters), "--epochs", "0.1")
        assert code == 0, said
        peaks[characters] = int(said.split()[-1]) * 1024
    grown = features(12000) - features(4000)
    assert peaks[12000] - peaks[4000] == pytest.approx(grown, rel=0.2)


def test_the_shipped_text_fits_twice_the_usual_memory_but_not_once() -> None:
    usual, need = Resources().memory_mb * MIB, features(len((EXAMPLE / "data" / "railway.txt").read_text()))
    assert 1.3 * usual < need < 0.85 * 2 * usual
    assert need / 2 < 0.85 * usual
    assert 2 * usual < 2 * need < 0.85 * 4 * usual


def test_the_texts_are_what_their_script_writes(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "data" / "make_texts.py", tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "make_texts.py")], env=ENVIRONMENT, check=True)
    for name in ("base.txt", "railway.txt"):
        assert (tmp_path / name).read_bytes() == (EXAMPLE / "data" / name).read_bytes()
    assert sum(p.stat().st_size for p in EXAMPLE.rglob("*") if p.is_file()) < 400_000


def test_gradients_by_hand_agree_with_finite_differences() -> None:
    model = load("model.py")
    rng = np.random.default_rng(1)
    shapes = {"w1": (12, 5), "b1": (5,), "w2": (5, 7), "b2": (7,)}
    weights = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    x, targets, step = rng.standard_normal((4, 12)), rng.integers(0, 7, 4), 1e-6
    _, gradients = model.loss_and_gradients(weights, x, targets)
    for name, array in weights.items():
        for index in [tuple(int(rng.integers(0, n)) for n in array.shape) for _ in range(5)]:
            before = array[index]
            losses = []
            for moved in (before + step, before - step):
                array[index] = moved
                losses.append(model.loss_and_gradients(weights, x, targets)[0])
            array[index] = before
            measured = (losses[0] - losses[1]) / (2 * step)
            assert measured == pytest.approx(gradients[name][index], abs=1e-7), name


def test_features_are_the_windows_characters_in_order() -> None:
    model = load("model.py")
    embedding = model.new_embedding(5, 3, np.random.default_rng(0))
    tokens = np.random.default_rng(1).integers(0, 5, 9000)
    found, targets = model.window_features(tokens, embedding, 4)
    assert found.shape == (8996, 12)
    for n in (0, 4095, 4096, 8995):
        assert np.array_equal(found[n], embedding[tokens[n : n + 4]].ravel())
        assert targets[n] == tokens[n + 4]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--data", "nowhere.txt"), "nowhere.txt"),
        (("--max-chars", "100"), "too few"),
        (("--batch-size", "0"), "--batch-size"),
        (("--learning-rate", "1e38", "--max-chars", "3000"), "smaller --learning-rate"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(tmp_path: Path, options: tuple[str, ...], word: str) -> None:
    code, said = train(tmp_path, *options)
    assert code
    assert word in said.splitlines()[-1]
    assert "Traceback" not in said

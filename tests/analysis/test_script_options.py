"""Options by every kind of parser: flag as spelled, default, type, required, choices, help."""

import pytest

from caravan.analysis.options import read_options
from caravan.analysis.python import imported_files, module_paths, read_module, value_of


def options(text: str):
    parser = read_options(read_module("pkg/train.py", text))
    assert parser
    return parser.style, {o.option.flag: o.option for o in parser.options}


def test_argparse():
    style, found = options(
        """
import argparse
from pathlib import Path
RATE = 2 * 1e-4
HERE = Path(__file__).resolve().parent
p = argparse.ArgumentParser()
p.add_argument("data")
p.add_argument("-b", "--batch-size", "--bs", type=int, default=8, help="samples in a "
               "batch")
p.add_argument("--lr", type=float, default=RATE)
p.add_argument("--method", choices=["lora", "full"], required=True)
p.add_argument("--fast", action="store_true")
p.add_argument("--slow", action="store_false")
p.add_argument("--flag", action=argparse.BooleanOptionalAction, default=True)
p.add_argument("--out", type=Path, default=HERE / "out")
p.add_argument("--secret", default=compute())
p.add_argument("--epochs", type=int)
p.set_defaults(epochs=3)
p.add_argument(*names)
"""
    )
    assert style == "argparse"
    assert found["data"].required
    assert (found["--batch-size"].default, found["--batch-size"].type) == (8, "int")
    assert found["--batch-size"].help == "samples in a batch"
    assert found["--lr"].default == pytest.approx(2e-4)
    assert (found["--method"].choices, found["--method"].required) == (("lora", "full"), True)
    assert [found[f"--{n}"].default for n in ("fast", "slow", "flag")] == [False, True, True]
    assert {found[f"--{n}"].type for n in ("fast", "slow", "flag")} == {"bool"}
    assert found["--out"].default == "pkg/out"
    assert found["--secret"].default is None
    assert found["--epochs"].default == 3
    assert "--bs" not in found


def test_click():
    style, found = options(
        """
import click
@click.command()
@click.argument("data")
@click.option("--batch-size", "-b", default=4, show_default=True, help="n")
@click.option("--mode", type=click.Choice(["a", "b"]), required=True)
@click.option("--amp/--no-amp", default=True)
@click.option("--verbose", is_flag=True)
def main(data, batch_size, mode, amp, verbose): ...
"""
    )
    assert style == "click"
    assert set(found) == {"data", "--batch-size", "--mode", "--amp", "--verbose"}
    assert (found["--batch-size"].default, found["--batch-size"].type) == (4, "int")
    assert (found["--mode"].choices, found["--mode"].required) == (("a", "b"), True)
    assert (found["--amp"].default, found["--verbose"].default) == (True, False)


def test_typer():
    style, found = options(
        """
import typer
from typing import Annotated, Optional
app = typer.Typer()
@app.command()
def train(
    data: str,
    batch_size: int = 8,
    lr: float = typer.Option(1e-3, "--learning-rate", "-l", help="step"),
    out: Annotated[Optional[str], typer.Option(help="folder")] = "runs",
    name: Annotated[str, typer.Argument()] = "x",
    need: int = typer.Option(...),
): ...
"""
    )
    assert style == "typer"
    assert found["data"].required
    assert (found["--batch-size"].default, found["--batch-size"].type) == (8, "int")
    assert (found["--learning-rate"].default, found["--learning-rate"].help) == (1e-3, "step")
    assert (found["--out"].default, found["--out"].type, found["--out"].help) == ("runs", "str", "folder")
    assert found["name"].default == "x"
    assert found["--need"].required


def test_fire():
    style, found = options(
        """
import fire
def train(base_model: str = "", num_epochs: int = 3, *, learning_rate: float = 3e-4, data): ...
def other(x=1): ...
if __name__ == "__main__":
    fire.Fire(train)
"""
    )
    assert style == "fire"
    assert set(found) == {"--base_model", "--num_epochs", "--learning_rate", "--data"}
    assert (found["--num_epochs"].default, found["--learning_rate"].default) == (3, 3e-4)
    assert found["--data"].required


def test_dataclasses_with_inherited_trainer_options():
    style, found = options(
        """
from dataclasses import dataclass, field
from typing import Optional
import transformers
from transformers import HfArgumentParser
@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default="facebook/opt-125m", metadata={"help": "the base"})
    need: str = field(metadata={"help": "must be given"})
@dataclass
class Arguments(transformers.TrainingArguments):
    model_max_length: int = field(default=512)
    learning_rate: float = 1e-3
parser = HfArgumentParser((ModelArguments, Arguments))
"""
    )
    assert style == "hfargparser"
    assert (found["--model_name_or_path"].default, found["--model_name_or_path"].help) == (
        "facebook/opt-125m",
        "the base",
    )
    assert found["--need"].required
    assert found["--model_max_length"].default == 512
    assert found["--learning_rate"].default == 1e-3  # the repository's own default goes before the library's
    assert found["--per_device_train_batch_size"].default == 8
    assert found["--gradient_accumulation_steps"].default == 1


def test_no_parser():
    assert read_options(read_module("x.py", "batch_size = 4")) is None


def test_values_follow_paths_and_constants():
    module = read_module(
        "a/b/train.py", "import os\nA = os.path.join(os.path.dirname(__file__), 'data')\nB = A\nC = -2 ** 4\nD = f()"
    )
    values = {k: value_of(v.value, module) for k, v in module.constants.items()}
    assert values == {"A": "a/b/data", "B": "a/b/data", "C": -16, "D": None}


def test_local_imports_are_found():
    names = module_paths(
        frozenset({"src/pkg/train.py", "src/pkg/model.py", "src/pkg/sub/__init__.py", "run.py", "model.py"})
    )
    inner = read_module("src/pkg/train.py", "from . import sub\nfrom .model import X\nimport os\nfrom pkg.sub import y")
    assert [p for p, _ in imported_files(inner, names)] == ["src/pkg/sub/__init__.py", "src/pkg/model.py"]
    outer = read_module("run.py", "import model\nfrom pkg.train import main")
    assert [p for p, _ in imported_files(outer, names)] == ["model.py", "src/pkg/train.py"]

"""Planned commands, given to the very parsers that were read: what comes out is what the plan says, and nothing else.

Each script below is read as a repository's, and its `parse` is then called with the words of the planned command.
"""

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.analysis import analyze, open_source
from caravan.planning.command import command_line, set_flag, unpassed
from caravan.planning.draft import draft_plan
from caravan.values.base import Json
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile
from tests.planning.scenes import ARCHIVE, OUTPUTS, builtin, request

TRAINS = """

def train(model, loader, optimizer, epochs):
    import torch
    for epoch in range(epochs):
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(model.state_dict(), "model.pt")


if __name__ == "__main__":
    train(None, [], None, 1)
"""

ARGPARSE = """
import argparse


def parse(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", default="corpus")
    parser.add_argument("-b", "--batch-size", type=int, default=16)
    parser.add_argument("--lr", "--learning-rate", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--outdir", default="out")
    parser.add_argument("--gradient-checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--wandb", action="store_true")
    a = parser.parse_args(argv)
    return dict(micro_batch=a.batch_size, lr=a.lr, epochs=a.epochs, seed=a.seed, grad_accum=a.accumulate,
                output_dir=a.outdir, grad_checkpointing=a.gradient_checkpointing, bf16=a.bf16, wandb=a.wandb,
                data=a.data)
"""

TYPED = """
import argparse


def yes(text):
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(text)


def parse(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("--per_device_train_batch_size", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--num_train_epochs", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--gradient_checkpointing", type=yes, default=False)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    a = parser.parse_args(argv)
    return dict(micro_batch=a.per_device_train_batch_size, lr=a.learning_rate, epochs=a.num_train_epochs, seed=a.seed,
                grad_accum=a.gradient_accumulation_steps, output_dir=a.output_dir,
                grad_checkpointing=a.gradient_checkpointing, bf16=a.dtype == "bfloat16")
"""

CLICK = """
import click

SEEN = {}


@click.command()
@click.option("--batch-size", "-b", type=int, default=16, help="samples of a step")
@click.option("--lr", type=float, default=0.1)
@click.option("--epochs", type=int, default=3)
@click.option("--seed", type=int, default=0)
@click.option("--outdir", required=True)
@click.option("--grad-checkpointing/--no-grad-checkpointing", default=True)
@click.option("--bf16", is_flag=True)
def main(batch_size, lr, epochs, seed, outdir, grad_checkpointing, bf16):
    SEEN.update(micro_batch=batch_size, lr=lr, epochs=epochs, seed=seed, output_dir=outdir,
                grad_checkpointing=grad_checkpointing, bf16=bf16)


def parse(argv):
    main(list(argv), standalone_mode=False)
    return dict(SEEN)
"""

TYPER = """
import typer

app = typer.Typer()
SEEN = {}


@app.command()
def main(output_dir: str = "out", batch_size: int = 16, learning_rate: float = 0.1, num_epochs: int = 3, seed: int = 0,
         gradient_checkpointing: bool = True, bf16: bool = False):
    SEEN.update(micro_batch=batch_size, lr=learning_rate, epochs=num_epochs, seed=seed, output_dir=output_dir,
                grad_checkpointing=gradient_checkpointing, bf16=bf16)


def parse(argv):
    app(list(argv), standalone_mode=False)
    return dict(SEEN)
"""

FIRE = """
import fire


def main(base_model: str = "m", batch_size: int = 128, micro_batch_size: int = 4, learning_rate: float = 3e-4,
         num_epochs: int = 3, seed: int = 1, output_dir: str = "out", gradient_checkpointing: bool = True):
    return dict(micro_batch=micro_batch_size, lr=learning_rate, epochs=num_epochs, seed=seed, output_dir=output_dir,
                grad_checkpointing=gradient_checkpointing, global_batch=batch_size)


def parse(argv):
    return fire.Fire(main, command=list(argv), serialize=lambda _: "")


def start():
    fire.Fire(main)
"""

TYRO = """
from dataclasses import dataclass, field

import tyro


@dataclass
class Optim:
    lr: float = 0.1


@dataclass
class Args:
    batch_size: int = 16
    epochs: int = 3
    seed: int = 1
    output_dir: str = "out"
    gradient_checkpointing: bool = True
    bf16: bool = False
    optim: Optim = field(default_factory=Optim)


def parse(argv):
    a = tyro.cli(Args, args=list(argv))
    return dict(micro_batch=a.batch_size, lr=a.optim.lr, epochs=a.epochs, seed=a.seed, output_dir=a.output_dir,
                grad_checkpointing=a.gradient_checkpointing, bf16=a.bf16)
"""

JSONARGPARSE = """
from jsonargparse import CLI


def main(out_dir: str = "out", micro_batch_size: int = 1, global_batch_size: int = 16, lr: float = 0.1, epochs: int = 3,
         seed: int = 1, gradient_checkpointing: bool = False):
    return dict(micro_batch=micro_batch_size, lr=lr, epochs=epochs, seed=seed, output_dir=out_dir,
                grad_checkpointing=gradient_checkpointing, global_batch=global_batch_size)


def parse(argv):
    return CLI(main, args=list(argv))


def start():
    CLI(main)
"""

ABSL = """
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("train_batch_size", 32, "Total batch size for training.", flag_values=flags.FLAGS)
flags.DEFINE_float("learning_rate", 5e-5, "The initial learning rate.")
flags.DEFINE_float("num_train_epochs", 3.0, "Total number of training epochs.")
flags.DEFINE_integer("random_seed", 12345, "Random seed.")
flags.DEFINE_string("output_dir", None, "The output directory.")
flags.DEFINE_bool("gradient_checkpointing", True, "Recompute activations.")


def parse(argv):
    FLAGS.unparse_flags()
    for name in ("train_batch_size", "learning_rate", "num_train_epochs", "random_seed", "output_dir",
                 "gradient_checkpointing"):
        FLAGS[name].unparse()
    FLAGS(["train.py", *argv])
    return dict(micro_batch=FLAGS.train_batch_size, lr=FLAGS.learning_rate, epochs=FLAGS.num_train_epochs,
                seed=FLAGS.random_seed, output_dir=FLAGS.output_dir, grad_checkpointing=FLAGS.gradient_checkpointing)
"""

CONSTANTS = """
out_dir = "out"
batch_size = 12
learning_rate = 6e-4
grad_clip = 1.0
max_iters = 600
seed = 1337
gradient_accumulation_steps = 40
wandb_log = True
exec(open("configurator.py").read())
"""
CONFIGURATOR = """
import sys
from ast import literal_eval

for arg in sys.argv[1:]:
    if "=" not in arg:
        assert not arg.startswith("--"), arg
        exec(open(arg).read())
    else:
        assert arg.startswith("--"), arg
        key, value = arg.split("=")
        key = key[2:]
        if key not in globals():
            raise ValueError(key)
        try:
            attempt = literal_eval(value)
        except (SyntaxError, ValueError):
            attempt = value
        assert type(attempt) == type(globals()[key]), (key, attempt)
        globals()[key] = attempt
"""

SCRIPTS = {
    "argparse": (ARGPARSE, "python train.py"),
    "abbreviated": (ARGPARSE, "python train.py -b 4 --epo 9 --learning-rate 0.5 --wandb"),
    "with data": (ARGPARSE, "python train.py --bf16 --batch 3 texts"),
    "typed": (TYPED, "python train.py --gradient_checkpointing True --output_dir old --dtype float16"),
    "click": (CLICK, "python train.py --outdir=old -b 4"),
    "typer": (TYPER, "python train.py --output-dir old --no-gradient-checkpointing"),
    "fire": (FIRE, "python train.py --base_model m --output_dir ./old"),
    "tyro": (TYRO, "python train.py --batch-size 4"),
    "jsonargparse": (JSONARGPARSE, "python train.py --out_dir old --epochs 9"),
    "absl": (ABSL, "python train.py --output_dir=/old --nogradient_checkpointing"),
    "constants": (CONSTANTS, "python train.py --max_iters=9"),
}
FIELDS = ("micro_batch", "lr", "epochs", "max_steps", "seed", "grad_accum", "max_grad_norm", "grad_checkpointing")


@cache
def profile_of(name: str) -> RepoProfile:
    script, command = SCRIPTS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repo"
        root.mkdir()
        (root / "train.py").write_text(script + TRAINS, encoding="utf-8")
        (root / "configurator.py").write_text(CONFIGURATOR, encoding="utf-8")
        (root / "README.md").write_text(f"# Training\n\n```bash\n{command}\n```\n", encoding="utf-8")
        return analyze(open_source(str(root), cache=Path(folder) / "cache"), "train it")


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder for the scripts: some parsers read the sources of what they are given."""
    global _FOLDER
    _FOLDER = tmp_path_factory.mktemp("scripts")
    parser_of.cache_clear()


_FOLDER = Path()


@cache
def parser_of(name: str) -> Callable[[tuple[str, ...]], dict[str, Any]]:
    script = SCRIPTS[name][0]
    if name == "constants":
        return _constants
    name = f"parsed_back_{name.replace(' ', '_')}"
    (_FOLDER / f"{name}.py").write_text(script, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, _FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for theirs there
    spec.loader.exec_module(module)
    found: Callable[[tuple[str, ...]], dict[str, Any]] = module.__dict__["parse"]
    return found


def _constants(argv: tuple[str, ...]) -> dict[str, Any]:
    """The constants once the configurator has run over them, as the script would have them."""

    before, space = sys.argv, dict[str, Any]()
    text = CONSTANTS.replace('exec(open("configurator.py").read())', CONFIGURATOR)
    try:
        sys.argv = ["train.py", *argv]
        exec(compile(text, "train.py", "exec"), space)
    finally:
        sys.argv = before
    names = {"micro_batch": "batch_size", "lr": "learning_rate", "max_steps": "max_iters", "max_grad_norm": "grad_clip"}
    names |= {
        "grad_accum": "gradient_accumulation_steps",
        "output_dir": "out_dir",
        "seed": "seed",
        "wandb": "wandb_log",
    }
    return {field: space[name] for field, name in names.items()}


def planned(name: str, **values: Json) -> TrainingPlan:
    sets = tuple(PlanChange(path=f"training.{f}", value=v, by=Author.USER) for f, v in values.items())
    asked = request("train it", sets=sets)
    return draft_plan(profile_of(name), asked, builtin(), code=ARCHIVE, outputs=OUTPUTS, image=None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_parser_has_all_that_the_plan_takes_from_it(name: str) -> None:
    plan = planned(name)
    parsed = parser_of(name)(command_line(plan)[1:])
    assert parsed["output_dir"] == OUTPUTS.location
    fields = {path.removeprefix("training.").partition("=")[0].partition(":")[0] for path in plan.flags}
    missing = {f for f in parsed if f in FIELDS} - fields
    assert missing == set()


@pytest.mark.parametrize("name", SCRIPTS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.fixed_dictionaries(
        {},
        optional={
            "micro_batch": st.integers(1, 512),
            "lr": st.floats(1e-9, 10, allow_nan=False),
            "epochs": st.integers(1, 500),
            "max_steps": st.integers(1, 10**6),
            "seed": st.integers(0, 2**31 - 1),
            "grad_accum": st.integers(1, 64),
            "max_grad_norm": st.sampled_from([0.5, 1, 2.0, 1e-3]),
            "grad_checkpointing": st.booleans(),
        },
    )
)
def test_what_is_planned_is_what_the_parser_gives(name: str, values: dict[str, Json]) -> None:
    plan = planned(name, **values)
    words = command_line(plan)
    parsed = parser_of(name)(words[1:])  # an option that it doesn't know would be its error
    unheard = {path.removeprefix("training.") for path in unpassed(plan)}
    for field, value in values.items():
        if field not in unheard and field in parsed:
            assert parsed[field] == value, (field, words)
        else:
            assert field in unheard or field == "grad_accum"
    assert parsed["output_dir"] == OUTPUTS.location


@pytest.mark.parametrize("name", SCRIPTS)
def test_planning_it_again_changes_nothing(name: str) -> None:
    plan = planned(name, micro_batch=2, lr=0.25, epochs=4, seed=5, grad_checkpointing=False)
    once = command_line(plan)
    assert command_line(plan.model_copy(update={"command": once})) == once


@pytest.mark.parametrize("name", ["argparse", "abbreviated", "constants"])
def test_a_tracker_that_nobody_wishes_for_is_off(name: str) -> None:
    assert parser_of(name)(command_line(planned(name))[1:])["wandb"] is False


def test_precision_in_the_programs_own_words() -> None:
    for wanted in ("bf16", "fp32"):
        assert parser_of("typed")(command_line(planned("typed", precision=wanted))[1:])["bf16"] is (wanted == "bf16")
    assert parser_of("with data")(command_line(planned("with data"))[1:])["bf16"] is True
    assert parser_of("with data")(command_line(planned("with data", precision="fp32"))[1:])["bf16"] is False


def test_a_batch_of_all_gpus_is_their_share_and_its_own_option() -> None:
    plan = planned("jsonargparse", global_batch=64, micro_batch=4)
    parsed = parser_of("jsonargparse")(command_line(plan)[1:])
    assert (parsed["global_batch"], parsed["micro_batch"], plan.training.grad_accum) == (64, 4, 16)
    more = planned("jsonargparse", micro_batch=32)  # more than the repository's own update
    parsed = parser_of("jsonargparse")(command_line(more)[1:])
    assert (parsed["global_batch"], parsed["micro_batch"]) == (32, 32)
    smaller = apply_changes(plan, [PlanChange(path="training.micro_batch", value=2, by=Author.REPAIR)])
    assert parser_of("jsonargparse")(command_line(smaller)[1:])["micro_batch"] == 2


def test_data_is_a_positional_argument() -> None:
    for name in ("argparse", "with data"):
        plan = planned(name)
        plan = apply_changes(plan, [PlanChange(path="dataset.path", value="/data/mine", by=Author.USER)])
        parsed = parser_of(name)(command_line(plan)[1:])
        assert parsed["data"] == "/data/mine"
        assert parsed["output_dir"] == OUTPUTS.location


@given(
    st.lists(st.sampled_from(["--lr", "1", "--lr=2", "--x", "a", "-3", "lr=4", "--b", "[2]"]), max_size=7),
    st.sampled_from(["--lr", "--x", "lr", "--lr=", "$LR", "[1]", "LR "]),
    st.one_of(st.integers(-9, 9), st.floats(-1, 1), st.sampled_from(["v", "-w", "a b", ""]), st.booleans()),
)
def test_setting_twice_is_setting_once(words: list[str], flag: str, value: Json) -> None:
    once = set_flag(("t.py", *words), flag, value)
    assert set_flag(once, flag, value) == once


def test_a_bare_option_that_takes_its_value_joined_is_put_off_by_it() -> None:
    assert set_flag(("t.py", "--lr"), "--lr=", False) == ("t.py", "--lr=False")

"""Options of each kind of parser that training scripts use, written as such scripts write them."""

from caravan.analysis.docopt_options import usage_options
from caravan.analysis.options import Parser
from caravan.analysis.program_options import read_program
from caravan.analysis.sources import Sources


def parser_of(files: dict[str, str], path: str = "train.py") -> Parser:
    parser = Sources(files, files.get).deep_parser(path)
    assert parser is not None
    return parser


def options(files: dict[str, str] | str, path: str = "train.py"):
    parser = parser_of({path: files} if isinstance(files, str) else files, path)
    return parser.style, {o.option.flag: o.option for o in parser.options}


def test_subcommands_keep_their_options_apart():
    parser = parser_of(
        {
            "cli.py": """
import argparse
def shared(p):
    p.add_argument("--seed", type=int, default=1)
def build():
    parser = argparse.ArgumentParser()
    sub = parser.add_subparsers(dest="command")
    p = sub.add_parser("train")
    p.add_argument("--lr", type=float, default=1e-3)
    shared(p)
    p = sub.add_parser("eval")
    p.add_argument("--lr", type=float, default=0.0)
    shared(p)
"""
        },
        "cli.py",
    )
    assert {(o.command, o.option.flag): o.option.default for o in parser.options} == {
        ("train", "--lr"): 1e-3,
        ("eval", "--lr"): 0.0,
        ("", "--seed"): 1,
    }


def test_helpers_loops_and_other_names_of_add_argument():
    style, found = options(
        {
            "train.py": """
import argparse
from dataclasses import fields
from settings import DEFAULTS, Config
def flag(parser, name, default=False, help=""):
    parser.add_argument("--" + name, action="store_true", default=default)
    parser.add_argument("--no-" + name, dest=name, action="store_false")
def main():
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("--epochs", type=int, default=3)
    flag(parser, "amp", True)
    for key, value in DEFAULTS.items():
        parser.add_argument(f"--{key}", default=value, type=type(value))
    for field in fields(Config):
        parser.add_argument("--" + field.name.replace("_", "-"), default=field.default)
    for name in ["alpha", "beta"]:
        parser.add_argument(f"--{name}")
""",
            "settings.py": """
from dataclasses import dataclass
DEFAULTS = {"lr": 0.1, "batch_size": 4}
@dataclass
class Config:
    out_dir: str = "runs"
""",
        }
    )
    assert style == "argparse"
    assert set(found) == {*("--epochs", "--amp", "--no-amp", "--lr", "--batch_size", "--out-dir", "--alpha", "--beta")}
    assert (found["--epochs"].default, found["--lr"].default, found["--out-dir"].default) == (3, 0.1, "runs")


def test_options_made_of_a_class_by_a_factory():
    _, found = options(
        {
            "train.py": """
import argparse
from factory import Group
from config import TrainConfig
parser = argparse.ArgumentParser()
Group(TrainConfig).build(parser)
""",
            "factory.py": """
import dataclasses
class Base:
    def __init__(self, kind): self.kind = kind
    def build(self, parser):
        for f in dataclasses.fields(self.kind):
            parser.add_argument("--" + f.name.replace('_', '-'), default=f.default)
class Group(Base): ...
""",
            "config.py": """
from dataclasses import dataclass
@dataclass
class TrainConfig:
    micro_batch_size: int = 2
    \"\"\"Samples of one device.\"\"\"
""",
        }
    )
    assert found["--micro-batch-size"].default == 2
    assert found["--micro-batch-size"].help == "Samples of one device."


def test_a_table_of_options():
    _, found = options(
        """
class Field: ...
TABLE = [
    Field(name="lr", arg="--lr", default=1e-3, help="learning rate"),
    Field(name="bs", arg="--batch_size", default=8),
    Field(name="ep", arg="--epochs", default=2),
    Field(name="out", arg="--output_dir", default="out"),
]
"""
    )
    assert (found["--lr"].default, found["--lr"].type, found["--lr"].help) == (1e-3, "float", "learning rate")
    assert set(found) == {"--lr", "--batch_size", "--epochs", "--output_dir"}


def test_known_arguments_of_libraries_that_a_parser_is_given():
    _, found = options(
        """
import argparse, deepspeed
from pytorch_lightning import Trainer
parser = argparse.ArgumentParser()
parser = Trainer.add_argparse_args(parser)
parser = deepspeed.add_config_arguments(parser)
parser.add_argument("--lr", default=1e-3)
"""
    )
    assert {"--max_epochs", "--accumulate_grad_batches", "--deepspeed_config", "--lr"} <= set(found)


def test_a_helpers_own_main_guard_adds_nothing():
    _, found = options(
        {
            "train.py": "import argparse, helper\nargparse.ArgumentParser().add_argument('--lr')\n",
            "helper.py": "import argparse\nif __name__ == '__main__':\n"
            "    argparse.ArgumentParser().add_argument('--x')\n",
        }
    )
    assert set(found) == {"--lr"}


def test_dataclasses_under_another_name_and_lists_of_them():
    style, found = options(
        {
            "train.py": """
from transformers import HfArgumentParser, Seq2SeqTrainingArguments as BaseArguments
from hparams import ModelArguments
from dataclasses import dataclass, field
@dataclass
class TrainingArguments(BaseArguments):
    learning_rate: float = field(default=3e-5, metadata={"help": "rate"})
_ALL = [ModelArguments, TrainingArguments]
parser = HfArgumentParser(_ALL)
""",
            "hparams/__init__.py": "from .model import ModelArguments\n",
            "hparams/model.py": """
from dataclasses import dataclass
@dataclass
class ModelArguments:
    model_name_or_path: str
""",
        }
    )
    assert style == "hfargparser"
    assert found["--learning_rate"].default == 3e-5
    assert found["--per_device_train_batch_size"].default == 8
    assert found["--predict_with_generate"].default is False
    assert found["--model_name_or_path"].required


def test_tyro_nested_and_flat():
    files = {
        "train.py": """
import dataclasses, tyro
from typing import Literal
@dataclasses.dataclass
class Optim:
    learning_rate: float = 1e-3  # the rate
@dataclasses.dataclass
class Args:
    optim: Optim = dataclasses.field(default_factory=lambda: Optim(learning_rate=3e-4))
    kind: Literal["a", "b"] = "a"
    total_timesteps: int = 100
    \"\"\"how long\"\"\"
args = tyro.cli(Args)
"""
    }
    style, found = options(files)
    assert style == "tyro"
    assert found["--optim.learning-rate"].default == 3e-4
    assert found["--kind"].choices == ("a", "b")
    assert found["--total-timesteps"].help == "how long"
    flat = {"train.py": files["train.py"].replace("tyro.cli(Args)", "tyro.cli(tyro.conf.OmitArgPrefixes[Args])")}
    assert "--learning-rate" in options(flat)[1]


def test_simple_parsing_pyrallis_draccus_and_tap():
    body = """
from dataclasses import dataclass
@dataclass
class Optim:
    lr: float = 0.1
@dataclass
class Config:
    optim: Optim = Optim()
    epochs: int = 2
"""
    simple = (
        "import simple_parsing\n" + body + "p = simple_parsing.ArgumentParser()\np.add_arguments(Config, dest='c')\n"
    )
    assert {"--lr", "--epochs"} <= set(options(simple)[1])
    for package in ("pyrallis", "draccus"):
        wrapped = f"import {package}\n{body}@{package}.wrap()\ndef main(cfg: Config): ...\n"
        assert {"--optim.lr", "--epochs"} <= set(options(wrapped)[1])
    tap = "from tap import Tap\nclass Args(Tap):\n    lr: float = 0.1\n    data: str\nargs = Args().parse_args()\n"
    assert options(tap)[1]["--data"].required


def test_jsonargparse_commands_with_nested_dataclasses():
    parser = parser_of(
        {
            "app/__main__.py": """
from jsonargparse import CLI
from app.train import setup as train_fn
from app.talk import main as talk_fn
COMMANDS = {"train": train_fn, "talk": talk_fn}
if __name__ == "__main__":
    CLI(COMMANDS)
""",
            "app/train.py": """
from typing import Optional, Union
from app.args import TrainArgs
def setup(data: str, train: TrainArgs = TrainArgs(micro_batch_size=1), optimizer: Union[str, dict] = "AdamW"):
    \"\"\"Trains.

    Args:
        data: where the samples are
    \"\"\"
""",
            "app/talk.py": "def main(temperature: float = 0.5): ...\n",
            "app/args.py": """
from dataclasses import dataclass
@dataclass
class TrainArgs:
    micro_batch_size: int = 4
    epochs: int = 1
""",
        },
        "app/__main__.py",
    )
    found = {(o.command, o.option.flag): o.option for o in parser.options}
    assert found["train", "--train.micro_batch_size"].default == 1
    assert found["train", "--train.epochs"].default == 1
    assert ("train", "--optimizer.lr") in found
    assert found["train", "--data"].help == "where the samples are"
    assert ("talk", "--temperature") in found


def test_lightning_cli():
    style, found = options(
        """
from lightning.pytorch.cli import LightningCLI
import lightning as L
class Net(L.LightningModule):
    def __init__(self, lr: float = 1e-3, width: int = 8): ...
class Data(L.LightningDataModule):
    def __init__(self, batch_size: int = 32): ...
LightningCLI(Net, Data)
"""
    )
    assert style == "lightning-cli"
    assert found["--model.lr"].default == 1e-3
    assert found["--data.batch_size"].default == 32
    assert "--trainer.max_epochs" in found


def test_cyclopts_with_a_model_that_stands_flat():
    style, found = options(
        """
from typing import Annotated
from cyclopts import App, Parameter
from pydantic import BaseModel
class Args(BaseModel):
    global_batch_size: Annotated[int | None, Parameter(help="all devices")] = None
    lr: float = 6e-5
app = App()
@app.default()
def main(*, args: Annotated[Args | None, Parameter(name="*")] = None): ...
"""
    )
    assert style == "cyclopts"
    assert found["--global-batch-size"].help == "all devices"
    assert found["--lr"].default == 6e-5


def test_fire_with_settings_behind_free_arguments():
    style, found = options(
        {
            "finetuning.py": """
import fire
from configs import train_config
def update(cfg, **kwargs): ...
def main(**kwargs):
    cfg = train_config()
    update(cfg, **kwargs)
fire.Fire(main)
""",
            "configs/__init__.py": "from .training import train_config\n",
            "configs/training.py": """
from dataclasses import dataclass
@dataclass
class train_config:
    batch_size_training: int = 4
    lr: float = 1e-4
""",
        },
        "finetuning.py",
    )
    assert style == "fire"
    assert found["--batch_size_training"].default == 4


def test_fire_with_a_mapping_of_commands():
    parser = parser_of(
        {"train.py": "import fire\ndef fit(lr=1): ...\ndef talk(n=2): ...\nfire.Fire({'fit': fit, 'talk': talk})\n"}
    )
    assert {(o.command, o.option.flag) for o in parser.options} == {("fit", "--lr"), ("talk", "--n")}


def test_click_with_options_from_a_table():
    parser = parser_of(
        {
            "cli.py": """
import click
from table import OPTIONS
from dec import with_options
@click.group()
def cli(): ...
@cli.command()
@click.argument("config")
@with_options(OPTIONS)
def train(config, **kwargs): ...
@cli.command("talk")
@click.option("--speed", default=1)
def talk_to(speed): ...
""",
            "dec.py": "def with_options(rows): ...\n",
            "table.py": "OPTIONS = (('--micro-batch-size', int), ('--bf16/--no-bf16', None))\n",
        },
        "cli.py",
    )
    found = {(o.command, o.option.flag) for o in parser.options}
    assert {("train", "config"), ("train", "--micro-batch-size"), ("train", "--bf16"), ("talk", "--speed")} <= found


def test_absl_flags_of_several_files():
    style, found = options(
        {
            "train.py": """
from absl import app, flags
import model
flags.DEFINE_float("lr", 1e-3, "learning rate")
flags.DEFINE_enum("kind", "a", ["a", "b"], "kind of it")
flags.DEFINE_string("data_dir", None, "data")
flags.mark_flag_as_required("data_dir")
""",
            "model.py": "from absl import flags\nflags.DEFINE_integer('width', 8, 'units')\n",
        }
    )
    assert style == "absl"
    assert (found["--lr"].default, found["--lr"].help) == (1e-3, "learning rate")
    assert found["--kind"].choices == ("a", "b")
    assert found["--data_dir"].required
    assert found["--width"].default == 8


def test_constants_that_the_command_line_overrides():
    style, found = options(
        {
            "train.py": "batch_size = 12 # samples\n_x = 1\nexec(open('configurator.py').read())\n",
            "configurator.py": "import sys\nfor arg in sys.argv[1:]:\n"
            "    key, val = arg.split('=')\n    globals()[key] = val\n",
        }
    )
    assert style == "constants"
    assert (found["--batch_size"].default, found["--batch_size"].help) == (12, "samples")
    assert set(found) == {"--batch_size"}


def test_docopt():
    style, found = options(
        '''
"""Train.

Usage: train.py [options] <data>

Options:
  -b N, --batch-size=N   Samples in a batch [default: 32].
  --lr <rate>            Learning rate [default: 0.001].
  --fast                 Be quick.
"""
from docopt import docopt
args = docopt(__doc__)
'''
    )
    assert style == "docopt"
    assert (found["--batch-size"].default, found["--lr"].default) == (32, 0.001)
    assert "--fast" in found


def test_a_parser_far_from_the_script_is_found():
    files = {"train.py": "from a import run\n", "a.py": "from b import run\n", "b.py": "from c import run\n"}
    files |= {"c.py": "from d import run\n", "d.py": "from args import parse\n"}
    files |= {"args.py": "import argparse\ndef parse():\n    argparse.ArgumentParser().add_argument('--lr')\n"}
    assert set(options(files)[1]) == {"--lr"}


def test_usage_of_a_program_in_c():
    text = r"""
void usage() {
    fprintf(stderr, "Options:\n");
    fprintf(stderr, "  -b <int>    batch size B (default = 4)\n");
    fprintf(stderr, "  -l <float>  learning rate (default = 3e-4f)\n");
    printf("  -o, --out <dir>  output directory\n  -x <int> max_steps of optimization to run\n");
}
int main(int argc, char **argv) { if (strcmp(argv[i], "--quiet") == 0) {} if (argv[i][1] == 'z') { } }
"""
    found = {o.option.flag: o.option for o in read_program("train.cu", text)}
    assert (found["-b"].default, found["-b"].type, found["-b"].help) == (4, "int", "batch size B (default = 4)")
    assert found["-l"].default == 3e-4
    assert "--out" in found
    assert {"-x", "--quiet", "-z"} <= set(found)


def test_usage_lines_are_told_from_prose():
    lines = ["  - a point of a list", "-b", "  --lr RATE   the rate", "text -x here", "  -1 is no flag"]
    assert [o.option.flag for o in usage_options("x", lines, 1)] == ["--lr"]

"""Options that helpers make of what a script hands them: a mapping, a class, an instance; subcommands' own ones."""

from tests.analysis.repositories import profile_of, script

HELPER = """
def add_all(parser, defaults):
    for key, value in defaults.items():
        parser.add_argument(f"--{key}", default=value, type=type(value))


def model_defaults():
    found = dict(image_size=64)
    return found
"""


def flags(profile):
    return {key: value.flag for key, value in profile.key_hyperparameters.items()}


def test_a_mapping_of_defaults_that_is_put_together(tmp_path):
    parser = """
    def make_parser():
        defaults = dict(lr=3e-4, batch_size=4, resume="")
        defaults.update(model_defaults())
        defaults.update(iterations=1000)
        parser = argparse.ArgumentParser()
        add_all(parser, defaults)
        return parser
    make_parser().parse_args()"""
    main = script("\n".join(line[4:] for line in parser.splitlines()))
    profile = profile_of(
        tmp_path,
        {"train.py": "import argparse\nfrom helper import add_all, model_defaults\n" + main, "helper.py": HELPER},
        "Train it",
    )
    found = flags(profile)
    assert (found["learning_rate"], found["batch_size"]) == ("--lr", "--batch_size")
    assert (found["epochs"], found["seq_len"]) == ("--iterations", "--image_size")
    assert profile.key_hyperparameters["learning_rate"].default == 3e-4


def test_an_instance_whose_fields_become_options(tmp_path):
    helper = """
from dataclasses import dataclass, fields

@dataclass
class Optimization:
    lr: float = 0.1
    max_epoch: int = 3

def from_record(parser, record):
    for f in fields(record):
        parser.add_argument("--" + f.name.replace("_", "-"), default=f.default)
"""
    main = script("p = argparse.ArgumentParser()\nfrom_record(p, Optimization())\np.parse_args()")
    files = {"train.py": "import argparse\nfrom helper import Optimization, from_record\n" + main, "helper.py": helper}
    found = flags(profile_of(tmp_path, files, "Train it"))
    assert (found["learning_rate"], found["epochs"]) == ("--lr", "--max-epoch")


PARSES = """
from dataclasses import dataclass
from transformers import HfArgumentParser

@dataclass
class TuneArguments:
    learning_rate: float = 1e-4
    max_length: int = 512

def parse(kind, argv=None):
    return HfArgumentParser([kind]).parse_args_into_dataclasses(argv)

class Pipeline:
    arguments = None

    def __init__(self):
        self.args = parse(self.arguments)
"""


def test_a_class_that_a_helper_parses(tmp_path):
    files = {
        "train.py": "from helper import TuneArguments, parse\n" + script("args = parse(TuneArguments)"),
        "helper.py": PARSES,
    }
    found = flags(profile_of(tmp_path, files, "Train it"))
    assert (found["learning_rate"], found["seq_len"]) == ("--learning_rate", "--max_length")


def test_a_class_that_a_base_class_parses(tmp_path):
    own = "from helper import Pipeline, TuneArguments\n\nclass Tuning(Pipeline):\n    arguments = TuneArguments\n\n"
    files = {"train.py": own + script("Tuning()"), "helper.py": PARSES}
    found = flags(profile_of(tmp_path, files, "Train it"))
    assert (found["learning_rate"], found["seq_len"]) == ("--learning_rate", "--max_length")


TOOL = """import argparse
import torch

class Download:
    def __init__(self, sub):
        self._parser = sub.add_parser("download")
        self._add()

    def _add(self):
        self._parser.add_argument("--output-dir")

class Train:
    def __init__(self, sub):
        self._parser = sub.add_parser("train")
        self._add()

    def _add(self):
        self._parser.add_argument("--lr", type=float, default=0.1)

def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers()
    Download(sub)
    Train(sub)
    p.parse_args()
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in ():
        model(batch).backward()
        optimizer.step()

if __name__ == "__main__":
    main()
"""


def test_options_of_another_subcommand_made_by_a_method(tmp_path):
    project = '[project]\nname = "tool"\nversion = "1"\n[project.scripts]\ntool = "tool.cli:main"\n'
    readme = "# Tool\n\n```bash\ntool train --lr 0.2\n```\n"
    files = {"pyproject.toml": project, "README.md": readme, "tool/__init__.py": "", "tool/cli.py": TOOL}
    profile = profile_of(tmp_path, files, "Train with tool")
    found = flags(profile)
    assert profile.entry_point == "tool train"
    assert (found["learning_rate"], found["output_dir"]) == ("--lr", None)


NODE = """
class Node:
    def merge(self, words):
        for word in words:
            key, value = word.split("=")
            assert key[:2] == "--"
"""
TRAINER = """
from node import Node

class Trainer:
    @staticmethod
    def defaults():
        C = Node()
        C.learning_rate = 1e-3
        C.batch_size = 64
        return C
"""


def test_a_tree_of_attributes_that_words_override(tmp_path):
    own = """import sys
from node import Node
from trainer import Trainer

def settings():
    C = Node()
    C.system = Node()
    C.system.work_dir = "./out"
    C.trainer = Trainer.defaults()
    C.trainer.learning_rate = 5e-4
    return C

"""
    main = script("config = settings()\nconfig.merge(sys.argv[1:])")
    profile = profile_of(tmp_path, {"train.py": own + main, "node.py": NODE, "trainer.py": TRAINER}, "Train it")
    found = flags(profile)
    assert (found["learning_rate"], found["batch_size"]) == ("--trainer.learning_rate", "--trainer.batch_size")
    assert found["output_dir"] == "--system.work_dir"
    assert profile.key_hyperparameters["learning_rate"].default == 5e-4

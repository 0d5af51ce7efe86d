"""The model and the data that code names by way of variables, classes and documents; and what is left unknown."""

from pathlib import Path

import pytest

from tests.analysis.repositories import profile_of

TRAIN = """
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
{head}

def main({parameters}):
    {first}
    tokenizer = AutoTokenizer.from_pretrained({model})
    model = AutoModelForCausalLM.from_pretrained({model})
    rows = load_dataset({data})
    trainer = Trainer(model=model, args=TrainingArguments(output_dir="out"), train_dataset=rows)
    trainer.train()

if __name__ == "__main__":
    main()
"""
DATACLASS = """
from dataclasses import dataclass, field
@dataclass
class Settings:
    backbone: str = "acme/base-1b"
    pairs: str = field(default="acme/pairs")
cfg = Settings()
"""
YAML = "start:\n  from_hub: acme/base-1b\nrows:\n  hub: acme/pairs\n"


def train(model: str, data: str, head: str = "", first: str = "pass", parameters: str = "") -> str:
    return TRAIN.format(model=model, data=data, head=head, first=first, parameters=parameters)


IDIOMS: dict[str, dict[str, str]] = {
    "an object of a module": {
        "train.py": train("cfg.backbone", "cfg.pairs", "from settings import cfg"),
        "settings.py": DATACLASS,
    },
    "a class": {
        "train.py": train("C.START", "C.ROWS", "class C:\n    START = 'acme/base-1b'\n    ROWS = 'acme/pairs'"),
    },
    "an object made in the function": {
        "train.py": train("it.backbone", "it.pairs", "from settings import Settings", "it = Settings()"),
        "settings.py": DATACLASS,
    },
    "the class of a parameter": {
        "train.py": train("it.backbone", "it.pairs", "from settings import Settings", parameters="it: Settings = None"),
        "settings.py": DATACLASS,
    },
    "a dictionary": {
        "train.py": train("C['m']", "C['d']['hub']", "C = {'m': 'acme/base-1b', 'd': {'hub': 'acme/pairs'}}"),
    },
    "constants of a module": {
        "train.py": train("names.START", "ROWS", "import names\nfrom names import ROWS"),
        "names.py": "START = 'acme/base-1b'\nROWS = 'acme/pairs'\n",
    },
    "variables": {"train.py": train("m", "d", first="m, x = 1, 2; m = 'acme/base-1b'; d = 'acme/pairs'")},
    "defaults of parameters": {"train.py": train("m", "d", parameters="m='acme/base-1b', d='acme/pairs'")},
    "an argument": {
        "train.py": train("m", "d", parameters="m, d=None").replace(
            "    main()", "    main('acme/base-1b', d='acme/pairs')"
        ),
    },
    "the environment": {
        "train.py": train("M", "os.getenv('D', 'acme/pairs')", "import os\nM = os.environ.get('M', 'acme/base-1b')"),
    },
    "a document read at the top": {
        "train.py": train(
            "c['start']['from_hub']",
            "c['rows'].get('hub')",
            "import yaml\nwith open('conf.yaml') as file:\n    c = yaml.safe_load(file)",
        ),
        "conf.yaml": YAML,
    },
    "a document read by a function": {
        "train.py": train(
            "c['start']['from_hub']",
            "c['rows']['hub']",
            "import yaml\ndef settings(path='conf.yaml'):\n    return yaml.safe_load(open(path))",
            "c = settings()",
        ),
        "conf.yaml": YAML,
    },
    "a document of OmegaConf": {
        "train.py": train("c.start.from_hub", "c.rows.hub", first="c = OmegaConf.load('conf.yaml')"),
        "conf.yaml": YAML,
    },
    "an option of any name": {
        "train.py": train(
            "args.brain",
            "args.food",
            "import argparse\nparser = argparse.ArgumentParser()\n"
            "parser.add_argument('--brain', default='acme/base-1b')\n"
            "parser.add_argument('--food', default='acme/pairs')\nargs = parser.parse_args()",
        ),
    },
}


@pytest.mark.parametrize("name", IDIOMS)
def test_what_is_loaded_is_followed_to_its_name(tmp_path: Path, name: str) -> None:
    profile = profile_of(tmp_path, IDIOMS[name], "Fine-tune the model")
    assert (profile.base_model, profile.dataset) == ("acme/base-1b", "acme/pairs")
    assert profile.evidence["base_model"][0].file == "train.py"


def test_an_attribute_of_the_object_that_runs_is_followed(tmp_path: Path) -> None:
    text = """
from datasets import load_dataset
from transformers import AutoModelForCausalLM, Trainer
from settings import Settings

class Tuner:
    def __init__(self, settings: Settings):
        self.settings = settings

    def run(self):
        model = AutoModelForCausalLM.from_pretrained(self.settings.backbone)
        trainer = Trainer(model=model, train_dataset=load_dataset(self.settings.pairs))
        trainer.train()

if __name__ == "__main__":
    Tuner(Settings()).run()
"""
    profile = profile_of(tmp_path, {"train.py": text, "settings.py": DATACLASS})
    assert (profile.base_model, profile.dataset) == ("acme/base-1b", "acme/pairs")


def test_what_the_command_gives_goes_before_the_default(tmp_path: Path) -> None:
    files = IDIOMS["an option of any name"] | {"README.md": "```bash\npython train.py --brain acme/large-7b\n```\n"}
    assert profile_of(tmp_path, files).base_model == "acme/large-7b"


@pytest.mark.parametrize(
    "first",
    [
        "m = 'acme/base-1b' if small else 'acme/large-7b'",
        "m = 'acme/base-1b'\n    if large:\n        m = 'acme/large-7b'",
        "m = input()",
        "m = m",
        "m = f'acme/{size}'",
        "m = choose()",
        "m = json.load(open('missing.json'))['model']",
    ],
)
def test_what_may_be_one_of_several_is_not_known(tmp_path: Path, first: str) -> None:
    head = "def choose():\n    if small:\n        return 'acme/base-1b'\n    return 'acme/large-7b'"
    profile = profile_of(tmp_path, {"train.py": train("m", "'acme/pairs'", head, first)}, "Fine-tune the model")
    assert (profile.base_model, profile.dataset) == (None, "acme/pairs")


@pytest.mark.parametrize(
    ("call", "model"),
    [
        ("SentenceTransformer('acme/base-1b')", "acme/base-1b"),
        ("timm.create_model('vit_base_patch16_224', pretrained=True)", "vit_base_patch16_224"),
        ("timm.create_model('vit_base_patch16_224')", None),
        ("models.resnet50(weights=models.ResNet50_Weights.DEFAULT)", "resnet50"),
        ("models.resnet50(pretrained=True)", "resnet50"),
        ("models.resnet50(weights=None)", None),
        ("models.resnet50()", None),
    ],
)
def test_trained_models_of_other_libraries(tmp_path: Path, call: str, model: str | None) -> None:
    text = f"""
import timm, torch
from sentence_transformers import SentenceTransformer
from torchvision import models
model = {call}
optimizer = torch.optim.AdamW(model.parameters())
for batch in batches:
    model(batch).backward()
    optimizer.step()
"""
    assert profile_of(tmp_path, {"train.py": text}, "Fine-tune it").base_model == model


@pytest.mark.parametrize(
    ("read", "data"),
    [
        ("pd.read_csv('corpora/reviews.csv')", "corpora/reviews.csv"),
        ("pd.read_csv('corpora/test.csv')", None),
        ("pd.read_csv('results/scores.csv')", None),
        ("load_dataset('json', data_files={'test': 'b.jsonl', 'train': 'a.jsonl'})", "a.jsonl"),
        ("load_dataset('json', data_files=f'{SHELF}/a.jsonl')", "corpora/a.jsonl"),
        ("json.load(open('conf.json'))", None),
    ],
)
def test_data_that_the_repository_does_not_hold(tmp_path: Path, read: str, data: str | None) -> None:
    text = train("'acme/base-1b'", "x", "SHELF = 'corpora'").replace("load_dataset(x)", read)
    assert profile_of(tmp_path, {"train.py": text, "conf.json": "{}"}, "Fine-tune the model").dataset == data

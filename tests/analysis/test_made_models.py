"""Models that a repository makes by a documented command; and what is no such thing."""

from pathlib import Path

import pytest

from caravan.analysis.made import made_models, makes_model
from tests.analysis.repositories import opened as source

MAKER = """
import argparse
from pathlib import Path
HERE = Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path, default=HERE / "tiny-model")
parser.add_argument("--width", type=int, default=64)
args = parser.parse_args()
trainer = trainers.BpeTrainer()
inner.train_from_iterator(texts, trainer)
build(args.width).save_pretrained(args.output)
"""


@pytest.mark.parametrize(
    ("line", "path", "command"),
    [
        ("python make_model.py --output models/small", "models/small", "python make_model.py --output models/small"),
        ("$ python3 make_model.py --output=other", "other", "python make_model.py --output=other"),
        ("python make_model.py", "tiny-model", "python make_model.py"),
        ("python ./make_model.py --width 32  # a second", "tiny-model", "python make_model.py --width 32"),
    ],
)
def test_where_the_model_lies_is_read_off_command_and_script(
    tmp_path: Path, line: str, path: str, command: str
) -> None:
    tree = source(tmp_path / "r", {"make_model.py": MAKER, "README.md": f"# It\n\n```\n{line}\n```\n"})
    (made,) = made_models(tree)
    assert (made.path, made.command, made.file, made.line) == (path, command, "README.md", 4)


@pytest.mark.parametrize(
    "line", ["python make_model.py --output /srv/model", "python make_model.py --output ../m", "ls"]
)
def test_what_leads_out_or_starts_something_else_is_none(tmp_path: Path, line: str) -> None:
    tree = source(tmp_path / "r", {"make_model.py": MAKER, "README.md": f"```\n{line}\n```\n"})
    assert made_models(tree) == ()


@pytest.mark.parametrize(
    "more",
    [
        "for epoch in range(3): step()\n",
        "optimizer = Adam()\n",
        "trainer = Trainer()\n",
        "from engine import run\n",
        "from . import engine\n",
        "model.fit(data)\n",
    ],
)
def test_a_script_that_trains_or_hands_on_is_no_maker(tmp_path: Path, more: str) -> None:
    tree = source(tmp_path / "r", {"make_model.py": MAKER + more, "engine.py": "x = 1\n"})
    assert not makes_model(tree, "make_model.py")
    assert not makes_model(tree, "absent.py")


def test_one_that_only_makes_it_is_one(tmp_path: Path) -> None:
    assert makes_model(source(tmp_path / "r", {"make_model.py": MAKER}), "make_model.py")

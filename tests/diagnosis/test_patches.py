"""A suggested change follows from the error and the file for certain, or there is none; real errors of real Python."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.diagnosis.logtext import digest
from caravan.diagnosis.patches import Patch, Sources, suggest


def failed(folder: Path, files: dict[str, str]) -> tuple[list[str], Sources]:
    """What the first of the files says when it is run, and all of them as a repository."""
    for name, text in files.items():
        path = folder / "alloc" / "local" / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    code = folder / "alloc" / "local" / "code"
    ran = subprocess.run(
        [sys.executable, str(code / next(iter(files)))], cwd=code, capture_output=True, check=False, timeout=120
    )
    assert ran.returncode != 0
    return list(digest(ran.stderr).decisive()), Sources(tuple(files), files.get)


def changed(patch: Patch | None) -> list[str]:
    """The lines that the diff takes away and adds."""
    assert patch is not None
    rows = patch.diff.splitlines()
    assert rows[0] == f"--- a/{patch.path}"
    assert rows[1] == f"+++ b/{patch.path}"
    return [r for r in rows[2:] if r[:1] in "+-"]


def applied(patch: Patch, folder: Path, text: str) -> str:
    """The file after `patch -p1`-like application by git, which reads what it is given strictly."""
    (folder / "repo").mkdir()
    file = folder / "repo" / patch.path
    file.write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=folder / "repo", check=True)
    subprocess.run(["git", "apply", "-"], cwd=folder / "repo", input=patch.diff.encode(), check=True)
    return file.read_text()


SLIPS = {
    "an attribute of a class of its own": (
        {"train.py": "class Config:\n    learning_rate = 1\n\n\nc = Config()\nprint(c.learnin_rate)\n"},
        ["-print(c.learnin_rate)", "+print(c.learning_rate)"],
    ),
    "an attribute set in the constructor of another file": (
        {
            "train.py": "from conf import Config\n\nprint(Config().batch_sise * 2)\n",
            "conf.py": "class Config:\n    def __init__(self):\n        self.batch_size = 2\n",
        },
        ["-print(Config().batch_sise * 2)", "+print(Config().batch_size * 2)"],
    ),
    "an option of the parser": (
        {
            "train.py": "import argparse\n\np = argparse.ArgumentParser()\np.add_argument('--num-epochs', default=1)\n"
            "p.add_argument('--seed', default=1)\nargs = p.parse_args([])\nprint(args.num_epoch)\n"
        },
        ["-print(args.num_epoch)", "+print(args.num_epochs)"],
    ),
    "a name in scope": (
        {"train.py": "def main():\n    dataset = [1]\n    return len(datset)\n\n\nmain()\n"},
        ["-    return len(datset)", "+    return len(dataset)"],
    ),
    "a module that is not imported": (
        {"train.py": '"""Trains."""\n\nimport os\n\nprint(os.sep, math.pi)\n'},
        ["+import math"],
    ),
    "a module that is not imported, in a file without imports": (
        {"train.py": '"""Trains."""\nprint(json.dumps(1))\n'},
        ["+import json"],
    ),
    "a keyword of a function of the repository": (
        {"train.py": "def fit(rows, *, epochs=1):\n    pass\n\n\nfit(\n    1,\n    epoch=2,\n)\n"},
        ["-    epoch=2,", "+    epochs=2,"],
    ),
    "a keyword of a dataclass": (
        {
            "train.py": "from dataclasses import dataclass\n\n\n@dataclass\nclass Args:\n    warmup_steps: int = 0\n\n"
            "Args(warmup_step=3)\n"
        },
        ["-Args(warmup_step=3)", "+Args(warmup_steps=3)"],
    ),
    "a number in a text": (
        {"train.py": "n = 3\nprint('epoch ' + n + ' of 9')\n"},
        ["-print('epoch ' + n + ' of 9')", "+print('epoch ' + str(n) + ' of 9')"],
    ),
    "wide characters before the place": (
        {"train.py": "class Käse:\n    reif = 1\n    alter = 2\n\n\nprint('größe ✓', Käse().alterr)\n"},
        ["-print('größe ✓', Käse().alterr)", "+print('größe ✓', Käse().alter)"],
    ),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_with_one_near_name(name: str, tmp_path: Path) -> None:
    files, expected = SLIPS[name]
    lines, sources = failed(tmp_path, files)
    patch = suggest(lines, sources)
    assert changed(patch) == expected
    assert patch is not None
    assert patch.why.endswith(".")


def test_the_diff_can_be_applied_and_mends_it(tmp_path: Path) -> None:
    text = "class Config:\n    learning_rate = 1\n\n\nc = Config()\nprint(c.learnin_rate)"  # no newline at the end
    lines, sources = failed(tmp_path, {"train.py": text})
    patch = suggest(lines, sources)
    assert patch is not None
    assert applied(patch, tmp_path, text) == text.replace("learnin_", "learning_")


NOT_CERTAIN = {
    "two near names": "class C:\n    rate_a = 1\n    rate_b = 2\n\n\nprint(C().rate_c)\n",
    "no near name": "class C:\n    rate = 1\n\n\nprint(C().weights)\n",
    "twice on the line": "class C:\n    rate = 1\n\n\nc = C()\nprint(c.rat + c.rat)\n",
    "a value that is missing": "rows = {}\nprint(rows['x'])\n",
    "None where a number should be": "n = None\nprint(n + 1)\n",
    "a function that takes anything": "def f(**more):\n    g(**more)\n\n\ndef g(a):\n    pass\n\n\nf(b=1)\n",
    "two texts and two numbers": "a, b = 1, 2\nprint('x' + a + 'y' + b)\n",
    "a local name that is no module": "def f():\n    return values.copy()\n\n\nf()\n",
}


@pytest.mark.parametrize("name", NOT_CERTAIN)
def test_nothing_is_suggested_that_is_not_certain(name: str, tmp_path: Path) -> None:
    assert suggest(*failed(tmp_path, {"train.py": NOT_CERTAIN[name]})) is None


def trace(path: str, number: int, row: str, error: str) -> list[str]:
    return ["Traceback (most recent call last):", f'  File "{path}", line {number}, in <module>', f"    {row}", error]


def test_what_a_librarys_message_names() -> None:
    row = "args = TrainingArguments(evaluation_strategy='epoch')"
    lines = trace("/job/train.py", 1, row, "ValueError: `evaluation_strategy` is gone, use `eval_strategy` instead")
    assert changed(suggest(lines, Sources(("train.py",), {"train.py": row}.get)))[-1] == (
        "+args = TrainingArguments(eval_strategy='epoch')"
    )


@pytest.mark.parametrize(
    ("row", "error", "mended"),
    [
        (
            "x = np.zeros(3, dtype=np.float)",
            "AttributeError: module 'numpy' has no attribute 'float'. `np.float` was a deprecated alias for the "
            "builtin `float`. To avoid this error",
            "x = np.zeros(3, dtype=float)",
        ),
        (
            "x = numpy.float_(3)",
            "AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.",
            "x = numpy.float64(3)",
        ),
        (
            "from trainers import Trainr",
            "ImportError: cannot import name 'Trainr' from 'trainers' (/x.py). Did you mean: 'Trainer'?",
            "from trainers import Trainer as Trainr",
        ),
        (
            "fit(epoch=3)",
            "TypeError: fit() got an unexpected keyword argument 'epoch'. Did you mean 'epochs'?",
            "fit(epochs=3)",
        ),
    ],
)
def test_names_that_python_and_numpy_suggest(row: str, error: str, mended: str) -> None:
    lines = trace("/a/code/src/train.py", 1, row, error)
    found = suggest(lines, Sources(("src/train.py",), {"src/train.py": f"{row}\n"}.get))
    assert changed(found) == [f"-{row}", f"+{mended}"]


ROW = "print(c.learnin_rate)"
FILE = f"class Config:\n    learning_rate = 1\n\n\nc = Config()\n{ROW}\n"
ERROR = "AttributeError: 'Config' object has no attribute 'learnin_rate'. Did you mean: 'learning_rate'?"


@pytest.mark.parametrize(
    ("path", "text", "row"),
    [
        ("/usr/lib/python3.11/site-packages/train.py", FILE, ROW),  # a library's file of the same name
        ("/code/train.py", FILE.replace("learnin_rate", "other"), ROW),  # changed since it ran
        ("/code/other.py", FILE, ROW),
        ("/code/train.py", FILE.replace("\n", "\r\n", 2), ROW),  # ends of both kinds
        ("/code/train.py", f"{FILE}def broken(:\n", ROW),
        ("/code/train.py", FILE.replace("c = Config()", "c = Config()  # token=hf_abcdefghij0123456789AB"), ROW),
    ],
)
def test_another_file_a_broken_one_and_one_with_a_secret(path: str, text: str, row: str) -> None:
    assert suggest(trace(path, 6, row, ERROR), Sources(("train.py",), {"train.py": text}.get)) is None


def test_a_known_secret_is_in_no_diff() -> None:
    text = FILE.replace("c = Config()", "c = Config()  # xyzzy42")
    sources = Sources(("train.py",), {"train.py": text}.get)
    assert suggest(trace("/code/train.py", 6, ROW, ERROR), sources) is not None
    assert suggest(trace("/code/train.py", 6, ROW, ERROR), sources, ("xyzzy42",)) is None


PIECES = st.sampled_from(
    [
        *trace("/code/train.py", 6, ROW, ERROR),
        "NameError: name 'x' is not defined",
        "TypeError: f() got an unexpected keyword argument 'a'",
        'TypeError: can only concatenate str (not "int") to str',
        '  File "train.py", line 99999, in f',
        '  File "/code/train.py", line 0',
        "    c = Config()",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES | st.text(max_size=60), max_size=12), st.text(max_size=80) | st.just(FILE))
def test_it_never_raises(lines: list[str], text: str) -> None:
    patch = suggest(lines, Sources(("train.py",), {"train.py": text}.get))
    assert patch is None or patch.diff.startswith("--- a/train.py\n")


def test_a_file_keeps_its_ends_and_a_name_with_a_space_its_tab() -> None:
    found = suggest(
        trace("/code/my train.py", 6, ROW, ERROR), Sources(("my train.py",), lambda _: FILE.replace("\n", "\r\n"))
    )
    assert found is not None
    assert found.diff.startswith("--- a/my train.py\t\n+++ b/my train.py\t\n")
    assert "+print(c.learning_rate)\r\n" in found.diff


@pytest.mark.parametrize(
    ("row", "error", "new"),
    [
        ("from pkg.modle import Net", "ModuleNotFoundError: No module named 'pkg.modle'", "from pkg.model import Net"),
        ("x = [1].apend(3)", "AttributeError: 'list' object has no attribute 'apend'", "x = [1].append(3)"),
        (
            "from collections import OrderdDict",
            "ImportError: cannot import name 'OrderdDict' from 'collections' (/usr/lib/collections.py)",
            "from collections import OrderedDict as OrderdDict",
        ),
    ],
)
def test_names_that_python_and_the_repository_settle(row: str, error: str, new: str) -> None:
    files = {"train.py": f"{row}\n", "pkg/__init__.py": "", "pkg/model.py": "class Net: ...\n"}
    found = suggest(trace("/code/train.py", 1, row, error), Sources(tuple(files), files.get))
    assert found is not None
    assert f"+{new}\n" in found.diff

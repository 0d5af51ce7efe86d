"""Property tests: whatever a file holds, the readers of options answer, within bounds on their work."""

import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caravan.analysis.gin import bindings
from caravan.analysis.option_parts import MAX_OPTIONS
from caravan.analysis.options import Parser
from caravan.analysis.program_options import read_program
from caravan.analysis.sources import Sources
from tests.analysis.repositories import profile_of

IMPORTS = [
    f"import {n}\n"
    for n in (
        *("argparse", "click", "typer", "fire", "tyro", "cyclopts", "jsonargparse", "simple_parsing", "pyrallis"),
        *("draccus", "chz", "tap", "docopt", "hydra", "gin", "sys", "b", "a as b"),
    )
]
PIECES = [
    "from a import *\n",
    "from b import X as Y\n",
    "from . import a\n",
    "from transformers import TrainingArguments as T\n",
    "@dataclass\nclass A(A, B, T):\n    x: A = A(x=1)\n    y: 'B' = field(default_factory=lambda: B())\n",
    "class B(A):\n    x: Optional[Union[A, B]] = field(default=",
    "class Tap(Tap):\n    lr: float = 0.1\n",
    "HfArgumentParser((A, B, *C))\n",
    "C = [A, C] + C\n",
    "tyro.cli(tyro.conf.Omit[A])\n",
    "fire.Fire({'a': A, 'b': f, **x})\n",
    "fire.Fire()\n",
    "CLI([f, A, C])\n",
    "LightningCLI(A, B)\n",
    "p.add_argument(f'--{k}', default=v)\n",
    "for k, v in D.items():\n    p.add_argument('--' + k + k, default=v)\n",
    "def f(p, name, **kw):\n    p.add_argument('--' + name, **kw)\n",
    "f(p, 'x', 1)\n",
    "f(A)\n",
    "D = {'a': D, 'b': 1}\n",
    "s = p.add_subparsers()\nq = s.add_parser('train')\n",
    "@click.option('--x/--no-x')\n@with_it(D)\ndef g(x, **k): ...\n",
    "@app.command('a')\ndef h(x: Annotated[int, Option('--q')] = 1): ...\n",
    "flags.DEFINE_string('x', None, 'help')\nflags.DEFINE_enum(1)\n",
    "exec(open('a.py').read())\n",
    "if __name__ == '__main__':\n    ",
    "_C.A.B = [1, 2]\n",
    "cfg.merge_from_list(x)\n",
    "@hydra.main(config_path='.', config_name='c')\n",
    "DEFINE_config_file('config', 'a.py')\n",
    "def get_config():\n    config.a.b = 1\n",
    *(
        "(" * 60,
        "[" * 400,
        "'''",
        '"""Usage: x [options]\n  -b <n>  batch [default: 4]\n"""\n',
        "\\",
        "\0",
        "\ud800",
        "    ",
    ),
]
CODE = st.lists(st.sampled_from(IMPORTS + PIECES), max_size=14).map("".join)
ANY = st.one_of(CODE, st.text(max_size=200))


@settings(max_examples=150, deadline=None)
@given(ANY, ANY, ANY)
def test_parsers_never_raise(first, second, third):
    files = {"a.py": first, "b.py": second, "pkg/__init__.py": "from .a import *", "pkg/a.py": third}
    sources = Sources(files, files.get)
    for path in files:
        parser = sources.deep_parser(path)
        assert parser is None or (isinstance(parser, Parser) and 0 < len(parser.options) <= 4 * MAX_OPTIONS)


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text(max_size=400),
        st.lists(
            st.sampled_from(
                [
                    "include 'a.gin'\n",
                    "X = 1\n",
                    "a.B:\n",
                    "  x = %X\n",
                    "y = [1,\n",
                    " 2]\n",
                    "z = (((\n",
                    "\\\n",
                    "# c\n",
                    "=",
                    "'",
                ]
            ),
            max_size=20,
        ).map("".join),
    )
)
def test_gin_never_raises(text):
    for name, _, line in bindings(text):
        assert name
        assert line >= 1


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text(max_size=400),
        st.lists(
            st.sampled_from(
                [
                    'printf("  -b <int> size (default = 4)\\n");',
                    '"--x"',
                    'strcmp(a, "-q")',
                    "argv[i][1] == 'b'",
                    '"\\',
                    "\n",
                    '{"lr", required_argument',
                    'getopt(argc, argv, "ab:c")',
                    "DEFINE_int32(x",
                    '"' * 3,
                    "  -1 -2 -- ---",
                ]
            ),
            max_size=20,
        ).map("".join),
    )
)
def test_programs_never_raise(text):
    for found in read_program("x.c", text):
        assert found.option.flag.startswith("-")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["conf.yaml", "conf.gin", "conf.cfg", "conf.toml", "conf.json", "conf.py"]),
    st.one_of(
        st.text(max_size=200),
        st.lists(
            st.sampled_from(
                [
                    "a: 1\n",
                    "lr: 1e-3\n",
                    "  b: [",
                    "{",
                    "[training]\n",
                    "x = 1\n",
                    "defaults:\n  - a: b\n  - _self_\n",
                    "&a [*a]\n",
                ]
            ),
            max_size=12,
        ).map("".join),
    ),
)
@example("conf.cfg", "[0]\n0\n 0")
def test_configurations_never_break_a_profile(tmp_path_factory, name, text):
    train = "import gin, hydra\nfrom omegaconf import OmegaConf\nOmegaConf.from_cli()\n"
    train += "@hydra.main(config_path='.', config_name='conf')\ndef main(m, o):\n"
    train += "    m.loss.backward()\n    o.optimizer.step()\nmain()\n"
    readme = f"```bash\npython train.py --config {name} a.b=1\n```\n"
    content = text.encode("utf-8", "surrogatepass")
    profile = profile_of(tmp_path_factory.mktemp("r"), {"train.py": train, name: content, "README.md": readme})
    assert profile.is_training_repo


def work_of(files: dict[str, str], path: str) -> int:
    """Function calls of ours that reading the parser takes: a measure of work that no machine's load changes."""
    count = 0

    def counted(frame, event, _):
        nonlocal count
        count += event == "call" and "caravan" in frame.f_code.co_filename

    sources = Sources(files, files.get)
    for each in files:
        sources.module(each)
    sys.setprofile(counted)
    try:
        sources.deep_parser(path)
    finally:
        sys.setprofile(None)
    return count


def many(template: str, n: int) -> str:
    return "".join(template.format(i=i, j=i + 1) for i in range(n))


HUGE = {
    "arguments": "import argparse\np = argparse.ArgumentParser()\n"
    + many("p.add_argument('--x{i}', default={i})\n", 1500),
    "subcommands": "import argparse\n"
    + many("def f{i}(s):\n    p = s.add_parser('c{i}')\n    p.add_argument('--x', default={i})\n", 700),
    "helpers": "import argparse\n"
    + many("def h{i}(p, name):\n    p.add_argument('--' + name)\nh{i}(p, 'a{i}')\n", 700),
    "loops": "import argparse\nD = {"
    + many("'k{i}': {i}, ", 900)
    + "}\n"
    + many("for k in D:\n    p.add_argument('--' + k)\n", 300),
    "dataclass": "from transformers import HfArgumentParser\n@dataclass\nclass A:\n"
    + many("    x{i}: int = {i}\n", 1500)
    + "HfArgumentParser(A)\n",
    "chain of classes": "import tyro\n"
    + many("@dataclass\nclass A{i}:\n    a: A{j}\n    b: A{j}\n    c: A{j}\n", 500)
    + "tyro.cli(A0)\n",
    "wide classes": "import tyro\n"
    + many("@dataclass\nclass A{i}:\n" + "".join(f"    a{k}: A{{j}}\n" for k in range(30)), 60)
    + "tyro.cli(A0)\n",
    "chain of names": "import tyro\n" + many("X{i} = X{j}\n", 3000) + "tyro.cli(X0)\nHfArgumentParser(X0)\n",
    "flags": "from absl import flags\n" + many("flags.DEFINE_string('x{i}', None, 'h')\n", 1500),
    "click": "import click\n"
    + many("@cli.command()\n@click.option('--x')\n@with_it(T)\ndef f{i}(x): ...\n", 150)
    + "T = ["
    + many("'--t{i}', ", 900)
    + "]\ndef with_it(t): ...\n",
    "fire": "import fire\n" + many("def f{i}(a=1, b=2): ...\n", 1500) + "fire.Fire()\n",
}
MOST = 800_000
"""Calls of our functions that one file may take; a million take about half a second."""


@pytest.mark.parametrize("kind", HUGE)
def test_work_is_bounded(kind):
    assert work_of({"train.py": HUGE[kind]}, "train.py") < MOST


def test_work_through_many_files_is_bounded():
    files = {f"m{i}.py": f"from m{i + 1} import *\nfrom m{i + 2} import *\nimport m{i + 3}\n" for i in range(300)}
    files["train.py"] = "import tyro, fire\nfrom m0 import *\ntyro.cli(Missing)\nfire.Fire(Missing)\n"
    assert work_of(files, "train.py") < MOST


def test_a_file_that_does_not_parse_is_a_note(tmp_path):
    broken = "import argparse\nargparse.ArgumentParser().add_argument('--lr'\n"
    profile = profile_of(tmp_path, {"train.py": broken, "README.md": "```bash\npython train.py --lr 1\n```\n"})
    assert any("train.py" in note for note in profile.notes)

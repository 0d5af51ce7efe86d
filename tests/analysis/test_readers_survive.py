"""Property tests: no reader raises on broken input, whatever it is; the profile carries notes instead."""

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.analysis import configs, dependencies, makefile, markdown, notebooks, prompt, shell
from caravan.analysis.entry import Entry
from caravan.analysis.hazards import module_hazards
from caravan.analysis.loaded import loads
from caravan.analysis.options import read_options
from caravan.analysis.python import read_module, value_of
from caravan.analysis.sources import Sources
from caravan.analysis.training import adapters, environment_names, metrics, training_signs
from caravan.values.repo import Launcher

PIECES = st.sampled_from(
    [
        *(
            "import click",
            "@click.option(",
            "parser.add_argument('--x', default=",
            "fire.Fire(main)",
            "def main(a=1, *, b",
            "):",
        ),
        *(
            "HfArgumentParser((A, B))",
            "@dataclass",
            "class A:",
            "    x: int = field(default=",
            "= Path(__file__) / 'x'",
            "lambda",
        ),
        *(
            "\t",
            "    ",
            "\n",
            "(" * 50,
            "[" * 300,
            "'",
            '"""',
            "\\",
            "\0",
            "é",
            "\ud800",
            "{**",
            "x = x + x",
            "-" * 400 + "1",
        ),
        *(
            "```bash\n",
            "~~~",
            "torchrun --nproc_per_node=$N ",
            "python -m ",
            "cd ../..",
            "$((",
            "`",
            "&&",
            "| ;",
            "> <",
            "\\\n",
        ),
        *(
            "[project]\n",
            "dependencies = [",
            "&a *a",
            "- pip:\n",
            "{" * 100,
            ":",
            "import typer\n",
            "typer.run(main)\n",
        ),
    ]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=25).map("".join))


FOLLOWED = st.sampled_from(
    [
        *(
            "a = b",
            "b = a",
            "a = a or b",
            "class A(A):\n    b: A = field(default_factory=A)",
            "a = A(a=b)",
            "b = [a][0]",
        ),
        *(
            "def f(a=b):\n    a = f(a)\n    return a",
            "b = f(b)",
            "a = json.load(open('x.json'))",
            "b = a['b'].get(b, a)",
        ),
        *("AutoModel.from_pretrained(a.b.b)", "YOLO(f(f(a)))", "load_dataset(f'{a}/{b}')", "pd.read_csv(A.b / 'c')"),
        "class C:\n    def __init__(self, a):\n        self.a = self.b\n        self.b = self.a\n        YOLO(self.a)",
        *("from x import a", "from x import *", "import x", "YOLO(x.a)", "C(a)", "C(C(b).a)", "YOLO(C(1).b)"),
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(FOLLOWED, max_size=12).map("\n".join))
def test_code_that_leads_in_circles_is_followed_to_an_end(text):
    sources = Sources(["x.py", "x.json"], {"x.py": text, "x.json": '{"b": {"b": ["org/model"]}}'}.get)
    assert all(row.value for row in loads(_entry(sources, "x.py"), sources.module("x.py")))


def _entry(sources, path):
    return Entry(
        launcher=Launcher.PYTHON,
        modules=(sources.module(path),),
        options=(),
        documented=None,
        configs={},
        packages=frozenset(),
        wishes=prompt.read_prompt(""),
        paths=sources.paths,
        sources=sources,
    )


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_python_never_raises(text):
    module = read_module("x.py", text)
    sources = Sources(["x.py"], {"x.py": text}.get)
    assert sources.module("x.py") == module or module.error is None
    assert bool(sources.notes) == (module.error is not None)
    read_options(module)
    list(metrics(module)), list(environment_names(module)), list(module_hazards(module))
    training_signs(module), list(adapters(module))
    assert all(row.value for row in loads(_entry(sources, "x.py"), sources.module("x.py")))
    for constant in module.constants.values():
        value_of(constant.value, module)


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_documents_never_raise(text):
    for command in shell.read_commands(text, "x.sh"):
        assert command.where.line >= 1
        assert not command.cwd.startswith("..")
        command.value("x"), command.given_flags(), command.launcher_value("n")
    for block in markdown.shell_blocks(text):
        assert block.line >= 1
        shell.read_commands(block.text, "README.md", first_line=block.line)
    for recipe in makefile.recipes(text):
        shell.read_commands(recipe.text, "Makefile")
    notebooks.code_of(text)
    prompt.read_prompt(text)


@settings(max_examples=80, deadline=None)
@given(
    TEXTS,
    st.sampled_from(["pyproject.toml", "setup.py", "setup.cfg", "environment.yml", "requirements.txt", "Pipfile"]),
)
def test_dependency_files_never_raise(text, name):
    found = dependencies.read_dependencies(name, text)
    assert found.path == name


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.sampled_from(["a.yaml", "a.json", "a.toml"]))
def test_configurations_never_raise(text, name):
    assert isinstance(configs.flat(name, text), dict)


def test_deep_nesting_is_a_note_not_a_crash():
    for text in (
        "(" * 5000 + ")" * 5000,
        "-" * 20_000 + "1",
        "x" + ".y" * 20_000,
        "f" + "()" * 5000,
        "a = " + "1+" * 20_000 + "1",
    ):
        module = read_module("deep.py", text)
        training_signs(module)
        read_options(module)
    assert configs.flat("a.json", "[" * 100_000) == {}
    assert configs.flat("a.yaml", "[" * 5000) == {}
    for text in ("[" * 140_000 + "]" * 140_000, "- " * 140_000 + "1", "? " * 140_000 + "1", "{a: " * 70_000):
        assert configs.flat("a.yaml", text) == {}  # libyaml would end the process
    assert configs.flat("a.yaml", "lr: 1\nsizes: [1, -2, {a: 3}]\n")["lr"] == 1
    assert notebooks.code_of("[" * 100_000) is None


def test_values_do_not_explode():
    lines = (
        ["a0 = 'x' * 9"]
        + ["a0 = 'xxxxxxxxxx'"]
        + [f"a{i} = a{i - 1} + a{i - 1}" for i in range(1, 40)]
        + ["b = 9 ** 9 ** 9"]
    )
    module = read_module("x.py", "\n".join(lines))
    assert all(len(str(value_of(c.value, module))) < 20_000 for c in module.constants.values())


def test_yaml_aliases_do_not_explode():
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9) + "]" for i in range(1, 12)]
    assert configs.flat("bomb.yaml", "\n".join(rows)) is not None

"""No data of others is ever run: no pickle, no eval, no unsafe YAML, no shell; in the product and in what jobs run.

Each exception stands here by its file, with the reason.
"""

import ast
import os
import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from caravan.agent.driver import _serializer
from caravan.values.plan import TrainingPlan
from caravan.vectors.takeover import _points

ROOT = Path(__file__).resolve().parent.parent
MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "imp"}
CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
LOADS = {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "torch.load", "np.load", "numpy.load"}
EXCEPTIONS = {
    ("caravan/vectors/engine.py", "import pickle"): "the name of an error that Qdrant's local mode raises",
    ("caravan/vectors/takeover.py", "import pickle"): "reads an earlier store by stand-ins: no class is loaded",
    ("templates/checkpoints.py", "import pickle"): "looks whether a checkpoint is whole, by stand-ins",
    ("caravan/runs/plan_file.py", "yaml.load"): "by a safe loader, in C where there is one",
    ("caravan/analysis/configs.py", "yaml.load"): "by a safe loader, in C where there is one",
    ("caravan/cluster/local/artifacts.py", "extractall"): "zipfile keeps every member inside",
}


def sources() -> list[Path]:
    found = [*ROOT.glob("*.py"), *ROOT.glob("caravan/**/*.py"), *ROOT.glob("templates/**/*.py")]
    assert len(found) > 300
    return found


def dangers(tree: ast.AST) -> Iterator[str]:
    """What in a program could run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"import {name}" for name in names if name.split(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called in CALLS or (called in LOADS and given.get("weights_only") != "True"):
            yield called
        if called.endswith("extractall") and given.get("filter") != "'data'":
            yield "extractall"
        if called.endswith("read_pickle"):
            yield "read_pickle"
        for name in ("shell", "allow_pickle", "allow_dangerous_deserialization", "pickle_fallback"):
            if given.get(name, "False") != "False":
                yield name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import pickle as p", ["import pickle"]),
        ("from joblib import load", ["import joblib"]),
        ("eval(x)", ["eval"]),
        ("subprocess.run(x, shell=True)", ["shell"]),
        ("torch.load(x)", ["torch.load"]),
        ("torch.load(x, weights_only=True)", []),
        ("np.load(x, allow_pickle=True)", ["numpy", "allow_pickle"]),
        ("yaml.load(x, Loader=y)", ["yaml.load"]),
        ("yaml.safe_load(x)", []),
        ("tar.extractall(x)", ["extractall"]),
        ("tar.extractall(x, filter='data')", []),
        ("model.eval()", []),
    ],
)
def test_the_search_finds_what_is_there(text: str, found: list[str]) -> None:
    assert len(list(dangers(ast.parse(text)))) == len(found)


def test_nothing_that_is_read_can_be_run() -> None:
    found = {(p.relative_to(ROOT).as_posix(), what) for p in sources() for what in dangers(ast.parse(p.read_text()))}
    assert found - set(EXCEPTIONS) == set()
    assert set(EXCEPTIONS) - found == set()  # an exception that is not needed any more


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (self.file,)


def test_a_checkpoint_runs_no_pickle(tmp_path: Path) -> None:
    planted = pickle.dumps(Planted(str(tmp_path / "run")))
    with pytest.raises((NotImplementedError, ValueError)):
        _serializer().loads_typed(("pickle", planted))
    assert not (tmp_path / "run").exists()


def made_by(serializer: JsonPlusSerializer, folder: Path) -> list[str]:
    """What comes into being when checkpoints are read that name `os.mkdir`, each in another of LangGraph's ways."""
    ways = [(kind, tail) for kind in range(8) for tail in ((), ("x",), ("mkdir",), (None, "mkdir"))]
    for number, (kind, tail) in enumerate(ways):
        target = str(folder / str(number))
        for arguments in (target, [target], {"path": target}):
            inner = ormsgpack.packb(("os", "mkdir", arguments, *tail))
            blob = ormsgpack.packb({"plan": ormsgpack.Ext(kind, inner)})
            with suppress(ValueError, TypeError, NotImplementedError):
                serializer.loads_typed(("msgpack", blob))
    return [path.name for path in folder.iterdir()]


def test_a_checkpoint_makes_no_class_but_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some ways take other words for the folder's name
    assert made_by(_serializer(), tmp_path) == []
    assert made_by(JsonPlusSerializer(allowed_msgpack_modules=True), tmp_path) != []  # so the ways are ways


def test_a_checkpoint_holds_our_values() -> None:
    plan = TrainingPlan(goal="x", command=("train.py",))
    kind, blob = _serializer().dumps_typed({"plan": plan})
    assert (kind, _serializer().loads_typed((kind, blob))) == ("msgpack", {"plan": plan})


def test_an_earlier_store_runs_no_pickle(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "storage.sqlite")) as file:
        file.execute("CREATE TABLE points (id TEXT PRIMARY KEY, point BLOB)")
        file.execute("INSERT INTO points VALUES ('1', ?)", (pickle.dumps(Planted(str(tmp_path / "run"))),))
        file.commit()
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        list(_points(tmp_path / "storage.sqlite"))
    assert not (tmp_path / "run").exists()

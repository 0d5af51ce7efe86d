"""Rendered scripts: the same bytes each time, from the type's folder and the shared one, in a sandbox."""

import ast
from pathlib import Path

import pytest
import yaml

from caravan import TEMPLATES
from caravan.training.loading import TypeFolder, load_types
from caravan.training.rendering import digest, render
from caravan.values.errors import UsageError
from tests.training.test_types_read import PLAIN

OWN = Path(__file__).resolve().parents[2] / "examples" / "custom-type"


def mine(tmp_path: Path, texts: dict[str, str], **fields: object) -> TypeFolder:
    folder = tmp_path / "types" / "mine"
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "type.yaml").write_text(yaml.safe_dump({**PLAIN, **fields}))
    return load_types(TEMPLATES / "train", [tmp_path / "types"]).get("mine")


@pytest.mark.parametrize("name", ["sft", "text-classification", "embeddings", "image-classification", "bigrams"])
def test_a_type_renders_to_python_that_parses_and_is_the_same_twice(name: str) -> None:
    types = load_types(TEMPLATES / "train", [OWN])
    files = render(types.get(name), version="1")
    assert files == render(types.get(name), version="1")
    assert list(files) == sorted(files)
    assert {"caravan_train/train.py", "caravan_train/evaluate.py"} <= set(files)
    assert {"caravan_train/README.md", "caravan_train/requirements.txt"} <= set(files)
    for path, text in files.items():
        assert path.startswith("caravan_train/")
        if path.endswith(".py"):
            ast.parse(text, path)
    for line in types.get(name).type.requirements:
        assert f"{line}\n" in files["caravan_train/requirements.txt"]


def test_only_files_named_so_are_templates(tmp_path: Path) -> None:
    found = mine(tmp_path, {"train.py": "x = '{{ type.name }}'\n", "about.py.j2": "NAME = {{ type.name | py }}\n"})
    files = render(found)
    assert files["caravan_train/train.py"] == "x = '{{ type.name }}'\n"
    assert files["caravan_train/about.py"] == "NAME = 'mine'\n"


def test_files_are_taken_by_name_by_pattern_and_from_the_shared_folder(tmp_path: Path) -> None:
    shared = tmp_path / "types" / "shared"
    shared.mkdir(parents=True)
    (shared / "one.py").write_text("1\n")
    (shared / "two.py").write_text("2\n")
    files = {"shared/*.py": "lib", "train.py": "", "shared/one.py": "first.py"}
    found = mine(tmp_path, {"train.py": "t\n", "notes.txt": "not taken"}, files=files)
    assert set(render(found)) == {
        f"caravan_train/{name}"
        for name in ("lib/one.py", "lib/two.py", "train.py", "first.py", "README.md", "requirements.txt")
    }


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ nobody }}", "nobody"),
        ("{% if %}", "train.py.j2:1"),
        ("{{ ''.__class__.__mro__ }}", "train.py.j2"),
        ("{{ type.name.__init__.__globals__ }}", "train.py.j2"),
        ("{{ 1 / 0 }}", "train.py.j2"),
    ],
)
def test_a_template_sees_the_type_and_nothing_else(tmp_path: Path, template: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        render(mine(tmp_path, {"train.py.j2": template}))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"files.absent.py: there is no such file"):
        render(mine(tmp_path, {"train.py": ""}, files={"absent.py": ""}))
    with pytest.raises(UsageError, match=r"entry: no file of it makes start.py"):
        render(mine(tmp_path, {"train.py": ""}, entry="start.py"))


def test_the_digest_follows_every_file(tmp_path: Path) -> None:
    first = render(mine(tmp_path, {"train.py": "1"}))
    assert digest(first) == digest(dict(reversed(first.items())))
    assert digest(first) != digest(render(mine(tmp_path, {"train.py": "2"})))


def test_a_knob_s_requirements_are_a_file_beside_the_script(tmp_path: Path) -> None:
    knob = {"name": "fast", "flag": "--fast", "requirements": "fast.txt"}
    there = {"train.py": "t\n", "fast.txt": "speed==1\n"}
    assert render(mine(tmp_path / "a", there, knobs=[knob]))["caravan_train/fast.txt"] == "speed==1\n"
    with pytest.raises(UsageError, match=r"knobs\.0\.requirements \(fast\): no file of it makes fast\.txt"):
        render(mine(tmp_path / "b", {"train.py": "t\n"}, knobs=[knob]))
    with pytest.raises(UsageError, match=r"knobs\.0\.requirements \(fast\).*leads out of the type's folder"):
        mine(tmp_path / "c", there, knobs=[{**knob, "requirements": "../fast.txt"}])

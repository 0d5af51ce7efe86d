"""The helper that changes config files in the job: what is meant is changed, and nothing else of the text."""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planning.scenes import TEMPLATES

YAML = """\
# of the authors
base_model: Qwen/Qwen2.5-0.5B   # the model
lr: 1e-4
shuffle: yes
defaults: &usual
  batch_size: 4  # per GPU
  parts:
    - name: a
      weight: 1
    - {name: b, weight: 2}
note: |
  batch_size: 99

  lr: 3
train:
  <<: *usual
  lr: 2e-5
names:
- a
- b
text: "many
  lines, batch_size: 3"
last: ''
"""
TOML = """\
seed = 1  # of all
lr = 1e-4

[train]  # how
"batch_size" = 16
note = \"\"\"
[train]
batch_size = 3
\"\"\"
parts = [
  1, # one
  2,
]
opt.name = 'adam'

[[data]]
path = "a"
[[data]]
path = "b"
"""


@pytest.fixture(scope="module")
def helper() -> Any:
    sys.path.insert(0, str(TEMPLATES))
    try:
        return importlib.import_module("overlays")
    finally:
        sys.path.remove(str(TEMPLATES))


def run(place: Path, name: str, text: str, values: Any, *, bare: bool = False) -> subprocess.CompletedProcess[str]:
    (place / name).write_text(text, encoding="utf-8")
    (place / "values").write_text(json.dumps({"text": None, "values": values}), encoding="utf-8")
    words = [sys.executable, *(["-S"] if bare else []), str(TEMPLATES / "overlays.py"), "values", name, f"new/{name}"]
    environment = {"PATH": os.defpath, "NOMAD_ALLOC_DIR": "/the/alloc", "SECRET": "no"}
    return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)


def changed(place: Path, name: str, text: str, values: Any, *, bare: bool = False) -> str:
    done = run(place, name, text, values, bare=bare)
    assert (done.returncode, done.stderr) == (0, "")
    assert (place / name).read_text(encoding="utf-8") == text
    return (place / "new" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("bare", [False, True], ids=["with PyYAML", "without"])
def test_yaml_keeps_everything_else_as_it_is_written(tmp_path: Path, bare: bool) -> None:
    values = {
        "lr": 1e-5,
        "defaults.batch_size": 2,
        "defaults.parts.0.weight": 7,
        "train.lr": 4,
        "train.batch_size": 1,
        "train.more.deep": True,
        "new": "a: b",
        "last": "${NOMAD_ALLOC_DIR}/data ${SECRET}",
    }
    before, after = YAML.splitlines(), changed(tmp_path, "c.yaml", YAML, values, bare=bare).splitlines()
    gone, come = [line for line in before if line not in after], [line for line in after if line not in before]
    assert gone == [
        *("lr: 1e-4", "  batch_size: 4  # per GPU", "      weight: 1", "  lr: 2e-5", "last: ''"),
    ]
    assert come == [
        *("lr: 1.0e-05", "  batch_size: 2  # per GPU", "      weight: 7", "  lr: 4", "  batch_size: 1", "  more:"),
        *("    deep: true", 'last: "/the/alloc/data ${SECRET}"', 'new: "a: b"'),
    ]
    document = yaml.safe_load("\n".join(after))
    assert (document["lr"], document["train"]["batch_size"], document["defaults"]["batch_size"]) == (1e-5, 1, 2)
    assert document["note"] == "batch_size: 99\n\nlr: 3\n"


def test_what_lines_cannot_change_goes_through_the_nodes(tmp_path: Path) -> None:
    text = "one: &n 4  # shared\nother: *n\nmap: {lr: 1e-4, bs: 8}\nkeep: 1e-4\nyes: no\n"
    document = yaml.safe_load(changed(tmp_path, "c.yaml", text, {"one": 2, "map.bs": 1}))
    assert document == {"one": 2, "other": 4, "map": {"lr": "1e-4", "bs": 1}, "keep": "1e-4", True: False}
    done = run(tmp_path, "c.yaml", text, {"one": 2}, bare=True)
    assert done.returncode == 69
    assert done.stderr.startswith("caravan: one can't be changed in c.yaml: one is no plain value; with PyYAML")


@pytest.mark.parametrize("bare", [False, True])
def test_toml_keeps_everything_else_as_it_is_written(tmp_path: Path, bare: bool) -> None:
    values = {"lr": 1e-5, "train.batch_size": 2, "train.new": 0.5, "train.parts": [3], "data.1.path": "c", "x.y": "q\n"}
    after = changed(tmp_path, "c.toml", TOML, values, bare=bare)
    expected = tomllib.loads(TOML)
    expected["lr"], expected["x"] = 1e-5, {"y": "q\n"}
    expected["train"] |= {"batch_size": 2, "new": 0.5, "parts": [3]}
    expected["data"][1]["path"] = "c"
    assert tomllib.loads(after) == expected
    assert "seed = 1  # of all" in after


def test_json_keeps_its_types(tmp_path: Path) -> None:
    text = '{"a": {"b": 1e-4, "n": null, "t": "ä"}, "big": 12345678901234567890, "l": [{"x": 1}]}'
    after = changed(tmp_path, "c.json", text, {"a.b": 2, "a.c.d": False, "l.0.x": "1"}, bare=True)
    assert json.loads(after) == {
        "a": {"b": 2, "n": None, "t": "ä", "c": {"d": False}},
        "big": 12345678901234567890,
        "l": [{"x": "1"}],
    }


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("c.json", "{", "a"),
        ("c.json", "[1]", "a"),
        ("c.yaml", "- a\n- b\n", "a"),
        ("c.yaml", "just text\n", "a"),
        ("c.yaml", "a: 1\n", "a.b"),
        ("c.yaml", "a: [1\n", "b"),
        ("c.toml", "a = {b = 1}\n", "a.b"),
        ("c.toml", "a = = 1\n", "b"),
        ("c.py", "a = 1\n", "a"),
    ],
)
def test_what_cannot_be_changed_is_said_and_nothing_is_written(tmp_path: Path, name: str, text: str, key: str) -> None:
    done = run(tmp_path, name, text, {key: 1})
    assert done.returncode == 69
    assert done.stderr.startswith(f"caravan: {key} can't be changed in {name}: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "values").write_text('{"values": {"a": 1}}')
    words = [sys.executable, str(TEMPLATES / "overlays.py"), "values", "c.yaml", "c.yaml"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 66
    assert done.stderr == "caravan: c.yaml is not in the code, so no key of it can be changed\n"


KEYS = st.from_regex(r"[a-z_][a-z0-9_ -]{0,6}[a-z0-9]", fullmatch=True)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(max_codepoint=0xD7FF), max_size=12)
)
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)),
    max_size=5,
)
PATHS = st.lists(KEYS, min_size=1, max_size=3)
QUIET = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def put(document: dict[str, Any], path: list[str], value: Any) -> bool:
    """Whether the document could take it."""
    here: Any = document
    for key in path[:-1]:
        if not isinstance(here, dict) or not isinstance(here.get(key), dict | None):
            return False
        here = here.setdefault(key, {})
        if here is None:
            return False
    here[path[-1]] = value
    return True


@QUIET
@given(DOCUMENTS, st.data(), SCALARS, st.sampled_from([{}, {"default_flow_style": None}, {"indent": 4}, {"width": 20}]))
def test_any_yaml_says_the_same_but_for_the_key(
    helper: ModuleType, document: dict[str, Any], data: st.DataObject, value: Any, style: dict[str, Any]
) -> None:
    path = data.draw(PATHS | (st.sampled_from(sorted(document)).map(lambda k: [k]) if document else PATHS))
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, **style)
    wanted = yaml.safe_load(text)
    if not put(wanted, path, value):
        return
    assert helper.same(yaml.safe_load(helper.changed_yaml(text, {".".join(path): value})), wanted)


@QUIET
@given(DOCUMENTS, st.data(), SCALARS)
def test_lines_alone_change_the_key_or_say_that_they_cannot(
    helper: ModuleType, document: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    path = data.draw(PATHS | (st.sampled_from(sorted(document)).map(lambda k: [k]) if document else PATHS))
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    wanted = yaml.safe_load(text)
    if not put(wanted, path, value):
        return
    try:
        after = helper.yaml_line_set(text, ".".join(path), value)
    except helper.Unreadable:
        return
    assert helper.same(yaml.safe_load(after), wanted), after


@QUIET
@given(st.text(max_size=80), st.sampled_from([".yaml", ".toml", ".json"]))
def test_any_text_at_all_is_changed_or_refused(helper: ModuleType, text: str, ending: str) -> None:
    with contextlib.suppress(helper.Unreadable, ValueError):
        helper.changed(text, ending, {"a.b": 1})

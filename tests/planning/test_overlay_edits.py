"""An edit of a config file changes the one key that was named, whatever the file is like, or is refused."""

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
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.planning.scenes import TEMPLATES

SHARED = "train: &t\n  batch_size: 8\n  lr: 1\neval:\n  <<: *t\nother: *t\n"


@pytest.fixture(scope="module")
def helper() -> Any:
    sys.path.insert(0, str(TEMPLATES))
    try:
        return importlib.import_module("overlays")
    finally:
        sys.path.remove(str(TEMPLATES))


def run(place: Path, name: str, data: bytes, values: Any, *, bare: bool = False) -> subprocess.CompletedProcess[str]:
    (place / name).write_bytes(data)
    (place / "values").write_text(json.dumps({"text": None, "values": values}), encoding="utf-8")
    words = [sys.executable, *(["-S"] if bare else []), str(TEMPLATES / "overlays.py"), "values", name, f"new/{name}"]
    return subprocess.run(words, cwd=place, env={"PATH": os.defpath}, capture_output=True, text=True, check=False)


def changed(place: Path, name: str, data: bytes, values: Any, *, bare: bool = False) -> bytes:
    done = run(place, name, data, values, bare=bare)
    assert (done.returncode, done.stderr) == (0, "")
    return (place / "new" / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "path", "wanted"),
    [
        (SHARED, "other.batch_size", {"other": {"batch_size": 1, "lr": 1}}),
        (SHARED, "other.more.deep", {"other": {"batch_size": 8, "lr": 1, "more": {"deep": 1}}}),
        (SHARED, "eval.batch_size", {"eval": {"batch_size": 1, "lr": 1}}),
        (SHARED, "eval.<<.batch_size", {"eval": {"batch_size": 1, "lr": 1}}),
        ("a: &a {x: {y: 2, z: 3}}\nb:\n  <<: *a\n", "b.x.y", {"b": {"x": {"y": 1, "z": 3}}}),
        ("a: {x: &x {y: 2}, z: *x}\n", "a.z.y", {"a": {"x": {"y": 2}, "z": {"y": 1}}}),
        ("a: &a [{y: 2}, {y: 3}]\nb: *a\n", "b.0.y", {"b": [{"y": 1}, {"y": 3}]}),
        ("a: &a {y: &b {z: 2}}\nc: *a\nd: *b\n", "c.y.z", {"c": {"y": {"z": 1}}}),
    ],
)
def test_what_an_alias_brings_is_changed_in_that_place_alone(
    helper: ModuleType, text: str, path: str, wanted: dict[str, Any]
) -> None:
    assert yaml.safe_load(helper.changed_yaml(text, {path: 1})) == {**yaml.safe_load(text), **wanted}


def test_what_is_changed_at_its_anchor_is_changed_wherever_it_is_brought(helper: ModuleType) -> None:
    after = helper.changed_yaml(SHARED, {"train.batch_size": 1})
    assert after == SHARED.replace("8", "1")
    both = {"other.batch_size": 2, "train.batch_size": 1}
    document = yaml.safe_load(helper.changed_yaml(SHARED, both))
    assert [document[name]["batch_size"] for name in ("train", "eval", "other")] == [1, 1, 2]


def test_tags_of_the_program_hide_no_change(helper: ModuleType) -> None:
    with pytest.raises(helper.Unreadable):
        helper.changed_yaml("a: !own x\nb: |\n  t\n  # c", {"b.x": 1})
    text = "a: !own x\nb: &b {c: !own {d: 1}}\ne: *b\n"
    after = yaml.compose(helper.changed_yaml(text, {"e.c.d": 2}), Loader=yaml.SafeLoader)
    assert helper.same_nodes(
        yaml,
        after,
        yaml.compose("a: !own x\nb: {c: !own {d: 1}}\ne: {c: !own {d: 2}}", Loader=yaml.SafeLoader),
        set(),
    )


@pytest.mark.parametrize(
    "section",
    [
        "  layers: [1, 2,\n    3]\n",
        "  layers:\n  - [a,\n    b]\n",
        '  layers: "one\n    two"\n',
        "  layers:\n  - 'one\n    two'\n",
        "  layers: |\n    one\n    # two\n",
        "  layers:\n  - >\n    one\n    # two\n",
        "  layers: |+\n    one\n\n",
        "  layers: [it's, one]\n",
    ],
)
def test_a_new_key_comes_after_a_value_of_many_lines(helper: ModuleType, section: str) -> None:
    text = f"train:\n{section}z: 'a'\n"
    after = helper.yaml_line_set(text, "train.x", 5)
    wanted = yaml.safe_load(text)
    wanted["train"]["x"] = 5
    assert yaml.safe_load(after) == wanted
    assert after == f"train:\n{section}  x: 5\nz: 'a'\n"


@pytest.mark.parametrize("bare", [False, True], ids=["with PyYAML", "without"])
def test_line_ends_and_the_byte_order_mark_stay(tmp_path: Path, bare: bool) -> None:
    odd = b"\xef\xbb\xbflr: 1\r\nt: a # \xc3\xa4\r\n"
    assert changed(tmp_path, "c.yaml", odd, {"lr": 2}, bare=bare) == odd.replace(b"1", b"2")
    odd = b'\xef\xbb\xbflr = 1\r\nt = "a \xe2\x80\xa8 b \xc2\x85"\r\n'
    assert changed(tmp_path, "c.toml", odd, {"lr": 2}, bare=bare) == odd.replace(b"1", b"2")
    after = changed(tmp_path, "c.json", b'\xef\xbb\xbf{"lr": 1}', {"lr": 2}, bare=bare)
    assert json.loads(after.decode("utf-8-sig")) == {"lr": 2}
    assert after.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("name", ["c.yaml", "c.toml", "c.json"])
def test_what_is_not_utf8_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, name, b"a: \xff\xfe", {"a": 1})
    assert (done.returncode, done.stderr) == (69, f"caravan: a can't be changed in {name}: it is not UTF-8\n")


def test_a_value_that_is_no_text_is_refused_in_a_line(tmp_path: Path) -> None:
    done = run(tmp_path, "c.json", b"{}", {"a": "\ud800"})
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("key", ["a.7.x", "a.-1", "a.x"])
def test_an_item_that_is_not_there_is_refused(tmp_path: Path, key: str) -> None:
    for name in ("c.yaml", "c.json"):
        assert run(tmp_path, name, b'{"a": [{"x": 1}]}', {key: 1}).returncode == 69


def test_only_line_feeds_end_lines(helper: ModuleType) -> None:
    text = 'a: "x\\u000b"\n# \x0cb\nt: "one\u2028two \x85"\nlr: 1\n'.replace("\x0c", "")
    assert helper.yaml_line_set(text, "lr", 2) == text.replace("lr: 1", "lr: 2")
    toml = 't = "one\u2028two = 1 \x85"\nlr = 1'
    assert helper.changed_toml(toml, {"lr": 2}) == toml.replace("lr = 1", "lr = 2")
    assert tomllib.loads(helper.changed_toml(toml, {"x": 2}))["t"] == "one\u2028two = 1 \x85"


# ---- anything

SECTIONS = (
    *("1", "1  # c", '"x # y"', "'it''s'", "\tv", "", '""', "{x: 1, y: [1, 2]}", "[1,\n  2]", "it's", "[it's, 'b']"),
    *(
        "\n  x: 1\n  y: 2",
        "\n  x: [1, 2,\n    3]",
        '\n  x: "two\n    lines"',
        "\n- x: 1\n  y: 2\n- x: 3",
        "\n  - [a,\n    b]",
    ),
    *(
        "\n    x:\n      z: 1  # c\n    # d",
        "\n  x: 1\n\n  # c\n  y:\n  - 1",
        "\n- - x: 1\n  - y",
        "\n  # c",
        "\n  'x'",
    ),
    *(
        "|\n  text\n  # c",
        "|\n  text\n\n\n",
        ">-\n  t\n\n  u",
        "|+\n  t\n\n",
        "\n  x: |\n    t\n    # c\n   # d",
        "|2\n   t",
    ),
    *("plain\n  goes on", "\n  x: plain\n    goes on\n  # c", "&{k}\n  x: 1", "&{k} 4", "&{k} {x: {z: 1, w: 2}}"),
    *("*a", "*b", "\n  <<: *a", "\n  <<: *b\n  x: 2", "\n  <<: [*a, *b]\n  y: 3", "ünï \u3000", '"\u2028"', "a\x85b"),
    *(
        "!!str 1",
        "!own 1",
        "? x",
        '"a\\\n  b"',
        "'a\n\n  b'",
        "{x: 1}  # c",
        "*a  # c",
        "&{k} # c\n  x: 1",
        "a\rb",
        "# c",
    ),
    *(
        "\n  x.z: 1",
        "\n  x:\n  y:",
        "[{x: 1},\n# c\n  {x: 2}]",
        "'a:\n  x: 1'",
        "\n  ? x\n  : 1",
        "\n\tx: 1",
        "http://a:b#c",
    ),
)
NAMES = st.sampled_from(["a", "b", "c", "'d'", '"e"', "c"])
PARTS = st.one_of(
    st.tuples(NAMES, st.sampled_from(SECTIONS)).map(lambda p: f"{p[0]}: {p[1]}".replace("{k}", p[0].strip("'\""))),
    st.sampled_from(["# c", "", "  # c", "---", "...", "- x", "%YAML 1.1", "  ", "\t", "--- # c"]),
)
PATHS = st.one_of(
    st.sampled_from(["a", "b", "c", "d", "e", "new", "new.y.z", "x"]),
    st.tuples(
        st.sampled_from("abcde"), st.sampled_from(["x", "y", "0", "0.x", "1", "x.z", "x.new", "new", "new.z", "0.0.x"])
    ).map(".".join),
)
VALUES = st.sampled_from([7, "t", "a: b # c", None, True, 0.5, 1e-5, [7, "x"], "two\nlines", ""])


class Reading(yaml.SafeLoader):
    """Knows a tag of the program's own."""


Reading.add_constructor("!own", lambda loader, node: ("own", node.value))


def documents(text: str) -> Any:
    """All of them, without sharing; None where PyYAML can't read them."""
    try:
        return json_like(list(yaml.load_all(text, Loader=Reading)))
    except (yaml.YAMLError, TypeError):
        return None


def json_like(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: json_like(v) for k, v in value.items()}
    return [json_like(v) for v in value] if isinstance(value, list) else value


def put(here: Any, keys: list[str], value: Any) -> Any:
    """The document with the key set, as the reference does it. Raises LookupError where it can't be."""
    if isinstance(here, list):
        return [put(v, keys[1:], value) if n == int(keys[0]) else v for n, v in enumerate(here)] if keys else value
    if not keys:
        return value
    if here is None:
        here = {}
    if not isinstance(here, dict):
        raise LookupError(keys[0])
    if ".".join(keys) in here:
        return {**here, ".".join(keys): value}
    return {**here, keys[0]: put(here.get(keys[0]), keys[1:], value)}


def check(helper: ModuleType, before: str, after: str, path: str, value: Any) -> None:
    """Nothing but the key is different; where it is written at an anchor, it may be in what has that by an alias."""
    old, new = documents(before), documents(after)
    assert old is not None
    old = old or [None]
    wanted = [put(old[0], path.split("."), value), *old[1:]]
    top = path.partition(".")[0]
    if f"&{top}" in before:
        # The explicit tests say what follows; here it must be the sections alone that name the anchor.
        for name in {"a", "b", "c", "d", "e"} - {top}:
            if isinstance(wanted[0], dict) and name in wanted[0] and "*" in before:
                wanted[0][name] = new[0][name]
    assert helper.same(new, wanted), (before, after, new, wanted)


QUIET = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = st.tuples(st.lists(PARTS, max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans()).map(
    lambda t: "\n".join([*t[0], *([""] if t[2] else [])]).replace("\n", t[1])
)


@QUIET
@given(TEXTS, PATHS, VALUES)
@example("a: &a {x: 1}\nb: *a\n", "b.x", 7)
@example("train:\n  layers: [1, 2,\n    3]\nz: 1", "train.x", 5)
def test_any_edit_changes_the_key_alone_or_is_refused(helper: ModuleType, text: str, path: str, value: Any) -> None:
    try:
        after = helper.changed_yaml(text, {path: value})
    except (helper.Unreadable, ValueError):
        return
    check(helper, text, after, path, value)


@QUIET
@given(TEXTS, PATHS, VALUES)
@example("a:\n  - [a,\n    b]\n", "a.x", 5)
def test_any_edit_by_lines_alone_does_too(helper: ModuleType, text: str, path: str, value: Any) -> None:
    if documents(text) is None:
        return  # what is no YAML has no meaning that could be lost
    try:
        after = helper.yaml_line_set(text, path, value)
    except (helper.Unreadable, ValueError):
        return
    check(helper, text, after, path, value)

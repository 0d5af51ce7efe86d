"""Definitions of training types: read without running anything, every error naming file and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.training.loading import load_types
from caravan.training.sound import out_of_range
from caravan.values.errors import UsageError
from caravan.values.training import Knob

PLAIN: dict[str, Any] = {"name": "mine", "title": "Mine", "about": "What it does.", "formats": ["text"]}


def written(folder: Path, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "type.yaml").write_text(yaml.safe_dump({**PLAIN, **fields}))
    (folder / "train.py").write_text("print('hello')\n")
    return folder


def test_the_shipped_types_are_sound() -> None:
    types = load_types(TEMPLATES / "train")
    assert {"sft", "text-classification", "embeddings", "image-classification"} <= set(types.names)
    assert types.get("qlora").type.name == "sft"
    assert types.sets("lora") == {"training.method": "lora"}
    assert types.sets("sft") == {}
    for entry in types:
        assert entry.type.target in {metric.name for metric in entry.type.metrics}
        assert not entry.own


def test_own_types_come_beside_the_shipped_ones(tmp_path: Path) -> None:
    written(tmp_path / "several" / "a", name="first")
    written(tmp_path / "several" / "b", name="second")
    alone = written(tmp_path / "alone", name="third", aliases={"other": {"training.method": "full"}})
    types = load_types(TEMPLATES / "train", [tmp_path / "several", alone])
    assert types.names[-3:] == ("first", "second", "third")
    assert types.get("other").own
    with pytest.raises(UsageError, match="'fourth'") as raised:
        types.get("fourth")
    assert "third" in raised.value.line()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "No Name"}, "name"),
        ({"formats": []}, "formats"),
        ({"formats": ["speech"]}, "formats.0"),
        ({"colour": "green"}, "colour"),
        ({"target": "accuracy"}, "target"),
        ({"aliases": {"x": {"training.nonsense": 1}}}, "aliases.x.training.nonsense"),
        ({"aliases": {"x": {"training.lr": -1}}}, "aliases.x.training.lr"),
        ({"files": {"../../etc/passwd": "x.py"}}, "files"),
        ({"files": {"train.py": "/etc/x.py"}}, "files"),
        ({"entry": "a/b.py"}, "entry"),
        ({"requirements": ["torch\ntrl"]}, "requirements.0"),
        ({"knobs": [{"name": "a", "flag": "-a"}]}, "knobs.0.flag"),
        ({"knobs": [{"name": "a", "flag": "--a"}, {"name": "b", "flag": "--a"}]}, "knobs.1.flag"),
        ({"knobs": [{"name": "a", "flag": "--a", "path": "training.colour"}]}, "knobs.0.path"),
        ({"knobs": [{"name": "a", "flag": "--a", "type": "integer", "default": 1.5}]}, "knobs.0.default"),
        ({"knobs": [{"name": "a", "flag": "--a", "type": "choice"}]}, "knobs.0.choices"),
        ({"knobs": [{"name": "a", "flag": "--a", "least": 2, "most": 1}]}, "knobs.0.least"),
        ({"metrics": [{"name": "loss"}, {"name": "loss"}]}, "metrics"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_field(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_types(TEMPLATES / "train", [written(tmp_path / "mine", **fields)])
    assert str(tmp_path / "mine" / "type.yaml") in raised.value.line()
    assert said in raised.value.line()


@pytest.mark.parametrize("text", ["[1, 2]", "name: [", "", "!!python/object/apply:os.system ['true']", "\0"])
def test_what_is_no_definition_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "type.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"type\.yaml"):
        load_types(TEMPLATES / "train", [tmp_path])


def test_a_folder_without_types_and_a_name_that_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no training type"):
        load_types(TEMPLATES / "train", [tmp_path])
    with pytest.raises(UsageError, match="'sft' is the name"):
        load_types(TEMPLATES / "train", [written(tmp_path / "sft", name="sft")])
    with pytest.raises(UsageError, match="'lora' is the name"):
        load_types(TEMPLATES / "train", [written(tmp_path / "lora", name="lora")])


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "type.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(UsageError):
            load_types(Path(folder) / "none", [Path(folder)])


def test_knobs_hold_their_values() -> None:
    knob = Knob(name="a", flag="--a", type="number", least=0, most=1)
    assert out_of_range(knob, 0.5) is None
    assert out_of_range(knob, 2) == "2 is more than 1"
    assert out_of_range(knob, True) == "True is no number"


def test_a_type_without_its_script_is_refused_with_what_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "mine"
    folder.mkdir(parents=True)
    (folder / "type.yaml").write_text("name: mine\ntitle: M\nabout: m\nformats: [text]\n")
    (folder / "run.py").write_text("print()\n")
    with pytest.raises(UsageError, match=r"type\.yaml: entry: no file of it makes train\.py \(there are: run\.py\)"):
        load_types(tmp_path / "shipped", [folder])
    (folder / "train.py.j2").write_text("print()\n")
    assert load_types(tmp_path / "shipped", [folder]).names == ("mine",)

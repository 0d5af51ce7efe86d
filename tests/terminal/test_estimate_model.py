"""The model that `estimate` is given: a config on this machine, the hub, and names that neither knows."""

import json
from pathlib import Path

import pytest

from caravan.terminal.estimate_model import known_model
from tests.fakes.hub import FakeHub, HubContent
from tests.fakes.wiring import FakeWiring

CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
CONTENT = HubContent(models={"acme/small": (CONFIG, 123_456), "acme/bare": (None, 3_000_000_000)})


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    made = FakeWiring(tmp_path / "home")
    made.model_hub = FakeHub(CONTENT)
    return made


def test_a_folder_with_a_config(wiring: FakeWiring, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for name in (tmp_path, tmp_path / "config.json"):
        shape, notes = known_model(wiring, str(name))
        assert shape is not None
        assert (shape.hidden, notes) == (64, ())
        assert "config.json" in shape.source
    (tmp_path / "config.json").write_text("[")
    shape, notes = known_model(wiring, str(tmp_path))
    assert shape is None
    assert "gives no shape" in notes[0]


def test_the_hub_is_asked_for_what_no_table_knows(wiring: FakeWiring) -> None:
    shape, _ = known_model(wiring, "acme/small")
    assert shape is not None
    assert (shape.hidden, shape.params_b) == (64, 0.000123)
    guess, _ = known_model(wiring, "acme/bare")
    assert guess is not None
    assert (guess.params_b, guess.exact) == (3.0, False)
    nothing, notes = known_model(wiring, "acme/none")
    assert nothing is None
    assert "HF_TOKEN" in notes[0]


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B", "gpt2", "no-such-7b", "", None, 7, "~nobody/x\0y"])
def test_other_names_ask_nobody(wiring: FakeWiring, name: object) -> None:
    wiring.model_hub = hub = FakeHub(HubContent())
    known_model(wiring, name)
    assert hub.asked in ([], [name])
    if name in ("Qwen/Qwen2.5-7B", "gpt2", "", None, 7):
        assert hub.asked == []


def test_look_ups_that_are_off(wiring: FakeWiring) -> None:
    wiring.model_hub = None
    assert known_model(wiring, "acme/small") == (None, ())

"""The port ModelHub: one contract for the fake and the real adapter, which asks a stand-in on the loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan.ports import ModelHub
from caravan.runs.hub import KEPT_S, MOST_BYTES, HttpHub
from tests.fakes.hub import FakeHub, HubContent, HubRequests, hub_server

CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
CONTENT = HubContent(
    models={"acme/small": (CONFIG, 123_456), "acme/bare": (None, 7_000_000_000), "acme/secret": (CONFIG, 123)},
    datasets={"acme/talks": {"train": 900, "test": 100}},
    gated=("acme/secret",),
)


@pytest.fixture(params=["fake", "http"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModelHub]:
    if request.param == "fake":
        yield FakeHub(CONTENT)
    else:
        with hub_server(CONTENT) as (address, _):
            yield HttpHub(tmp_path / "hub", endpoint=address, sizes=address)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, HubRequests]]:
    with hub_server(CONTENT) as server:
        yield server


def test_a_model_with_its_config_and_parameters(hub: ModelHub) -> None:
    answer = hub.model("acme/small")
    assert (answer.model, answer.config, answer.params, answer.text) == ("acme/small", CONFIG, 123_456, "")
    assert hub.model("acme/small") == answer


def test_a_model_that_is_not_there_says_so(hub: ModelHub) -> None:
    answer = hub.model("acme/none")
    assert (answer.config, answer.params) == (None, None)
    assert "HF_TOKEN" in answer.text


def test_a_gated_model_names_the_token(hub: ModelHub) -> None:
    answer = hub.model("acme/secret")
    assert (answer.config, answer.params) == (None, 123)
    assert "HF_TOKEN" in answer.text


def test_a_data_set_with_its_splits(hub: ModelHub) -> None:
    answer = hub.dataset("acme/talks")
    assert [(s.split, s.rows, s.bytes) for s in answer.splits] == [("train", 900, 90_000), ("test", 100, 10_000)]
    assert hub.dataset("acme/none").splits == ()
    assert hub.dataset("acme/none").text


@pytest.mark.parametrize("name", ["/models/x", "../x", "a/b/c", "", "x y", "a" * 300, "https://hub/x", "a/b?c"])
def test_what_is_no_name_is_not_asked_for(name: str, served: tuple[str, HubRequests], tmp_path: Path) -> None:
    hub = HttpHub(tmp_path, endpoint=served[0], sizes=served[0])
    assert hub.model(name).text
    assert hub.dataset(name).text
    assert served[1].paths == []


def test_the_token_opens_what_is_gated_and_is_written_nowhere(served: tuple[str, HubRequests], tmp_path: Path) -> None:
    hub = HttpHub(tmp_path / "hub", endpoint=served[0], token="good")
    assert hub.model("acme/secret").config == CONFIG
    assert set(served[1].tokens) == {"Bearer good"}
    assert not any(b"good" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_answers_are_kept_privately_and_grow_old(served: tuple[str, HubRequests], tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    first = HttpHub(folder, endpoint=served[0], sizes=served[0]).model("acme/small")
    asked = len(served[1].paths)
    assert HttpHub(folder, endpoint=served[0]).model("acme/small") == first
    assert len(served[1].paths) == asked
    (file,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "at": document["at"] - KEPT_S - 1}))
    HttpHub(folder, endpoint=served[0]).model("acme/small")
    assert len(served[1].paths) > asked
    file.write_text("[" * 100)
    assert HttpHub(folder, endpoint=served[0]).model("acme/small") == first


def test_no_proxy_may_mean_every_host(served: tuple[str, HubRequests], tmp_path: Path) -> None:
    proxies = {"http": served[0]}
    direct = HttpHub(tmp_path / "a", endpoint="http://hub.localhost:1", proxies=proxies, no_proxy="*")
    assert "does not answer" in direct.model("acme/small").text
    assert served[1].paths == []
    HttpHub(tmp_path / "b", endpoint="http://hub.localhost:1", proxies=proxies, no_proxy="else.example").model("a/b")
    assert served[1].paths != []


def test_redirects_are_bounded_and_take_no_token_elsewhere(served: tuple[str, HubRequests], tmp_path: Path) -> None:
    with hub_server(CONTENT) as (elsewhere, seen):
        served[1].answer = (307, {"Location": f"{elsewhere}/acme/small/resolve/main/config.json"}, b"")
        HttpHub(tmp_path / "a", endpoint=served[0], token="good").model("acme/small")
        assert seen.paths
        assert set(seen.tokens) == {None}
    served[1].answer = (307, {"Location": "/again"}, b"")
    before = len(served[1].paths)
    answer = HttpHub(tmp_path / "b", endpoint=served[0]).model("acme/small")
    assert (answer.config, answer.params) == (None, None)
    assert len(served[1].paths) - before <= 8
    served[1].answer = (302, {"Location": "http://elsewhere.example/x"}, b"")
    assert HttpHub(tmp_path / "c", endpoint=served[0]).model("acme/small").config is None


@pytest.mark.parametrize(
    "body",
    [b"{", b"[1]", b"\xff\xfe", b'{"safetensors": {"total": -5}, "a": NaN}', b"[" * 50_000, b" " * MOST_BYTES + b"{}"],
)
def test_answers_that_can_not_be_read(body: bytes, served: tuple[str, HubRequests], tmp_path: Path) -> None:
    served[1].answer = (200, {}, body)
    hub = HttpHub(tmp_path, endpoint=served[0], sizes=served[0])
    assert hub.model("acme/small").params is None
    assert hub.dataset("acme/talks").splits == ()


def test_a_hub_that_is_not_there_is_asked_once(tmp_path: Path) -> None:
    with hub_server(CONTENT) as (address, _):
        pass
    hub = HttpHub(tmp_path, endpoint=address, sizes=address, timeout_s=2)
    assert "does not answer" in hub.model("acme/small").text
    assert "does not answer" in hub.model("acme/other").text
    assert "does not answer" in hub.dataset("acme/talks").text


def test_an_address_that_is_none(tmp_path: Path) -> None:
    assert HttpHub(tmp_path, endpoint="http://[").model("acme/small").text

"""Registries by their HTTP API, against a stand-in on the loopback."""

import pytest

from caravan.runs.registries import Registries
from caravan.values.environment import ImageState
from tests.fakes.indexes import RegistryState, image_registry

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize("challenge", [True, False])
def test_an_image_that_is_there_has_its_digest(challenge: bool) -> None:
    state = RegistryState({"team/train:1": DIGEST}, challenge=challenge)
    with image_registry(state) as host:
        answer = Registries().look(f"{host}/team/train:1")
    assert (answer.state, answer.digest) == (ImageState.THERE, DIGEST)


def test_one_that_is_named_by_its_digest() -> None:
    with image_registry(RegistryState({f"a/b@{DIGEST}": DIGEST})) as host:
        assert Registries().look(f"{host}/a/b@{DIGEST}").state is ImageState.THERE


def test_a_tag_that_is_not_there() -> None:
    with image_registry(RegistryState({"a/b:1": DIGEST})) as host:
        answer = Registries().look(f"{host}/a/b:2")
    assert answer.state is ImageState.ABSENT
    assert "no such image" in answer.text


def test_what_wants_a_login_is_told_so() -> None:
    with image_registry(RegistryState({}, private=("secret/x",))) as host:
        assert Registries().look(f"{host}/secret/x:1").state is ImageState.DENIED


@pytest.mark.parametrize(("status", "state"), [(403, ImageState.DENIED), (500, ImageState.UNKNOWN)])
def test_other_answers(status: int, state: ImageState) -> None:
    registry = RegistryState({})
    registry.status = status
    with image_registry(registry) as host:
        assert Registries().look(f"{host}/a/b:1").state is state


def test_a_registry_that_is_not_there_is_asked_once() -> None:
    with image_registry(RegistryState({})) as host:
        pass
    registries = Registries(timeout_s=2)
    answers = registries.look_at([f"{host}/a/b:1"]) + registries.look_at([f"{host}/a/b:2", f"{host}/a/b:1"])
    assert {a.state for a in answers} == {ImageState.UNKNOWN}
    assert all("does not answer" in a.text for a in answers)


@pytest.mark.parametrize(
    ("token", "missing", "state"),
    [
        (b'{"token": "anony', 100, ImageState.UNKNOWN),
        (b"[" * 50_000, 0, ImageState.DENIED),
        (b'{"token": "' + b"x" * (1 << 18) + b'"}', 0, ImageState.DENIED),
        (b"[]", 0, ImageState.DENIED),
    ],
)
def test_a_token_that_is_none_is_no_crash(token: bytes, missing: int, state: ImageState) -> None:
    registry = RegistryState({"a/b:1": DIGEST})
    registry.token, registry.missing = token, missing
    with image_registry(registry) as host:
        assert Registries().look(f"{host}/a/b:1").state is state


def test_no_proxy_may_mean_every_host() -> None:
    with image_registry(RegistryState({})) as proxy:
        asked = Registries(proxies={"https": f"http://{proxy}"}, timeout_s=2).look("registry.localhost:1/a/b:1")
        direct = Registries(proxies={"https": f"http://{proxy}"}, no_proxy="*", timeout_s=2)
        told = direct.look("registry.localhost:1/a/b:1")
    assert asked.text == "registry.localhost:1 does not answer (through the proxy)"
    assert told.text == "registry.localhost:1 does not answer (no connection)"


def test_answers_are_kept_and_in_order() -> None:
    state = RegistryState({"a/b:1": DIGEST}, challenge=False)
    with image_registry(state) as host:
        registries = Registries()
        names = [f"{host}/a/b:1", f"{host}/a/b:2", f"{host}/a/b:1"]
        assert [a.image for a in registries.look_at(names)] == names
        registries.look(names[0])
    assert state.requests.count("HEAD /v2/a/b/manifests/1") <= 2


def test_no_name_of_an_image() -> None:
    assert Registries().look("Not An Image").state is ImageState.ABSENT


def test_a_token_is_asked_for_only_over_tls_or_on_the_loopback() -> None:
    class Told(RegistryState):
        pass

    state = Told({})
    with image_registry(state) as host:
        registries = Registries()
        import requests

        from caravan.values.references import read_image

        found = read_image(f"{host}/a/b:1")
        assert found is not None
        with requests.Session() as session:
            challenge = 'Bearer realm="http://elsewhere.example/token",service="x"'
            assert registries._token(session, challenge, found, 1e12) is None
    assert state.requests == []

"""What `doctor` looks at beside the cluster: stores, registry, notices, git. Nothing is written, nobody is told."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan.values.checkup import Finding, Level
from config import load_settings
from surroundings import looks
from tests.fakes.put_server import PutServer


@pytest.fixture
def server() -> Iterator[PutServer]:
    running = PutServer()
    yield running
    running.close()


def looked(*flags: str, path: str | None = None, **environment: str) -> dict[str, Finding]:
    settings = load_settings(None, flags, environment)
    own = {**os.environ, **({"PATH": path} if path is not None else {})}
    return {name: look() for name, look in looks(settings, None, own)}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o700)


def test_nothing_is_asked_of_what_is_not_set() -> None:
    found = looked()
    assert set(found) == {"git"}
    assert found["git"].level is Level.OK
    assert found["git"].text.startswith("git version")


def test_without_git(tmp_path: Path) -> None:
    found = looked(path=str(tmp_path))["git"]
    assert (found.level, found.hint) == (Level.WARNING, "Install git.")


def test_a_store_that_answers_is_not_written_to(server: PutServer, tmp_path: Path) -> None:
    found = looked(f"code_store={server.url}/code", f"data_store=file://{tmp_path}/data")
    assert found["code store"].level is found["data store"].level is Level.OK
    assert {line.split()[0] for line in server.asked} == {"HEAD"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:{port}/code", "127.0.0.1"),
        ("nonesuch://bucket/code", "rotocol"),
    ],
)
def test_a_store_that_does_not_answer(url: str, says: str) -> None:
    found = looked(f"code_store={url.format(port=free_port())}")["code store"]
    assert found.level is Level.FAILURE
    assert says in found.text
    assert "caravan-doctor" not in found.text
    assert "CARAVAN_CODE_STORE" in found.hint


def test_data_on_a_volume_is_the_clusters(tmp_path: Path) -> None:
    assert set(looked("data_store=volume:corpora")) == {"git"}


def test_a_registry_and_what_builds_images(server: PutServer, tmp_path: Path) -> None:
    place = server.url.removeprefix("http://")
    found = looked(f"registry={place}/team", path=str(tmp_path))
    assert found["registry"].level is Level.WARNING  # it answers, as no registry does
    assert found["image tool"].level is Level.WARNING
    server.objects["/v2/"] = b"{}"
    program(tmp_path, "docker", "echo Client: 28")
    found = looked(f"registry={place}/team", path=str(tmp_path))
    assert found["registry"].level is found["image tool"].level is Level.OK
    program(tmp_path, "docker", "echo no daemon >&2; exit 1")
    found = looked(f"registry=127.0.0.1:{free_port()}/team", path=str(tmp_path))
    assert found["registry"].level is Level.FAILURE
    assert "docker info" in found["image tool"].hint


def test_notices_are_knocked_at_and_not_sent(
    server: PutServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(url: str) -> Finding:
        monkeypatch.setenv("CARAVAN_NOTIFY_URL", url)
        return looked(CARAVAN_NOTIFY_URL=url)["notify"]

    assert told(f"{server.url}/hook/secret-path").level is Level.OK
    assert server.asked == []
    silent = told(f"http://127.0.0.1:{free_port()}/hook/secret-path")
    assert silent.level is Level.WARNING
    assert "secret-path" not in silent.text + silent.hint
    for nothing in ("hook", "http://[::1", "ftp://x"):
        assert told(nothing).level is Level.FAILURE
    monkeypatch.delenv("CARAVAN_NOTIFY_URL")
    program(tmp_path, "tell me", "exit 1")
    assert looked(f"notify_command='{tmp_path}/tell me' now")["notify"].level is Level.OK
    for wrong in ("no-such-program x", "'", " "):
        assert looked(f"notify_command={wrong}")["notify"].level is Level.FAILURE

"""An image is built from the delivered code and pushed: with a docker that only notes what it is told, and, where a
daemon answers, with a real one and a small registry on the loopback."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from caravan.analysis.deny import is_denied
from caravan.runs.archive import write_archive
from caravan.runs.courier import StoreCourier
from caravan.values.errors import BuildFailed, ServiceError, UsageError
from caravan.values.plan import ImageBuild

DIGEST = "sha256:" + "ab" * 32
FAKE = """#!/bin/sh
echo "$@" >>"{notes}"
case $1 in
manifest) [ -e "{notes}.pushed" ] || exit 1; echo '{{"Descriptor": {{"digest": "{digest}"}}}}' ;;
build) ls -A "$6" >"{notes}.context"; echo "Step 1/2 : FROM scratch"; {build} ;;
push) {push}; : >"{notes}.pushed"; echo "v1: digest: {digest} size: 527" ;;
esac
"""


class Place:
    """A courier with a docker that is a script."""

    def __init__(
        self,
        folder: Path,
        *,
        build: str = ":",
        push: str = ":",
        tool: str = "docker",
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.notes, self.log, self.told = folder / "notes", folder / "image-build.log", list[str]()
        (folder / "bin").mkdir()
        fake = folder / "bin" / tool
        fake.write_text(FAKE.format(notes=self.notes, digest=DIGEST, build=build, push=push))
        fake.chmod(0o755)
        self.environment = {"PATH": f"{folder}/bin:/bin:/usr/bin" if tool == "docker" else f"{folder}/bin:/bin"}
        home = folder / "home"
        self.courier = StoreCourier(home, environment=self.environment, is_denied=is_denied, secrets=secrets)
        self.archive = folder / "code.tar.gz"
        write_archive(self.archive, [("Dockerfile", b"FROM scratch\nCOPY . /app\n", 0o644), ("t.py", b"1", 0o644)])
        self.sha256 = hashlib.sha256(self.archive.read_bytes()).hexdigest()

    def build(self, dockerfile: str = "Dockerfile") -> str:
        build = ImageBuild(dockerfile=dockerfile, tag="registry.example.com/ml/work:0123", sha256=self.sha256)
        return self.courier.build(self.archive, build, self.log, self.told.append)

    def asked(self) -> list[str]:
        return [line.split()[0] for line in self.notes.read_text().splitlines()]


def test_built_pushed_and_named_by_its_digest(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.build() == DIGEST
    assert place.asked() == ["build", "push"]
    assert Path(f"{place.notes}.context").read_text().split() == ["Dockerfile", "t.py"]
    assert "Step 1/2 : FROM scratch" in place.told
    assert "Step 1/2" in place.log.read_text()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("tmp")] == []


def test_an_unchanged_tree_is_not_built_twice(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.build()
    assert place.build() == DIGEST
    assert place.asked() == ["build", "push", "manifest"]


def test_what_others_pushed_under_the_tag_is_not_taken_for_ours(tmp_path: Path) -> None:
    place = Place(tmp_path)
    Path(f"{place.notes}.pushed").touch()  # it is there, but not from here
    assert place.build() == DIGEST
    assert place.asked() == ["build", "push"]
    fake = tmp_path / "bin" / "docker"
    fake.write_text(
        fake.read_text().replace('"Descriptor": {"digest": "sha256:ab', '"Descriptor": {"digest": "sha256:cd')
    )
    place.build()  # somebody has put another one there since
    assert place.asked() == ["build", "push", "manifest", "build", "push"]


@pytest.mark.parametrize("said", ['{"Descriptor": null}', "[]", "no JSON", '{"Descriptor": "sha256:ab"}'])
def test_a_registry_that_says_nothing_of_use_has_it_built_again(said: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.build()
    fake = tmp_path / "bin" / "docker"
    fake.write_text(fake.read_text().replace(f'{{"Descriptor": {{"digest": "{DIGEST}"}}}}', said))
    assert place.build() == DIGEST
    assert place.asked() == ["build", "push", "manifest", "build", "push"]


def test_other_code_than_was_approved_is_not_built(tmp_path: Path) -> None:
    place = Place(tmp_path)
    write_archive(place.archive, [("Dockerfile", b"FROM evil\n", 0o644)])
    with pytest.raises(UsageError, match="is another than was planned"):
        place.build()
    assert not place.notes.exists()


def test_known_secrets_are_nowhere_in_what_the_tool_said(tmp_path: Path) -> None:
    secret = "correct horse battery"
    said = f"echo 'Step 2/2 : ENV A={secret}'; echo 'using {secret}'; exit 1"
    place = Place(tmp_path, build=said, secrets=(secret,))
    with pytest.raises(BuildFailed) as raised:
        place.build()
    assert "[masked]" in raised.value.message
    assert secret not in "".join((raised.value.message, place.log.read_text(), *place.told))


def test_a_build_that_fails_is_one_line(tmp_path: Path) -> None:
    place = Place(tmp_path, build="echo 'ERROR: no such package torhc'; exit 1")
    with pytest.raises(BuildFailed) as raised:
        place.build()
    assert raised.value.message == "The repository's image can't be built: ERROR: no such package torhc"
    assert "torhc" in place.log.read_text()
    assert place.asked() == ["build"]


def test_a_push_that_is_denied_may_be_resumed(tmp_path: Path) -> None:
    place = Place(tmp_path, push="[ -e login ] || { echo 'denied: requested access'; exit 1; }")
    with pytest.raises(ServiceError, match="can't be pushed: denied: requested access"):
        place.build()


def test_without_a_tool_it_is_said(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.courier = StoreCourier(tmp_path / "home", environment={"PATH": str(tmp_path)}, is_denied=is_denied)
    with pytest.raises(UsageError, match="neither docker, podman nor buildah"):
        place.build()


class Registry:
    """As much of an image registry as a push needs."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.uploads: dict[str, bytes] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Nothing is written."""

            def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    whole = b""
                    while size := int(self.rfile.readline(), 16):
                        whole += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                    return whole
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/v2/":
                    self._answer(200)
                elif (found := re.search(r"/manifests/(.+)$", path)) and found[1] in registry.manifests:
                    body, kind = registry.manifests[found[1]]
                    digest = "sha256:" + hashlib.sha256(body).hexdigest()
                    self._answer(200, body, Content_Type=kind, Docker_Content_Digest=digest)
                elif (found := re.search(r"/blobs/(.+)$", path)) and found[1] in registry.blobs:
                    self._answer(200, registry.blobs[found[1]], Docker_Content_Digest=found[1])
                else:
                    self._answer(404)

            do_HEAD = do_GET  # noqa: N815 (the names are http.server's)

            def do_POST(self) -> None:
                self._body()
                registry.uploads[name := str(len(registry.uploads))] = b""
                self._answer(202, Location=f"/v2/work/uploads/{name}", Range="0-0", Docker_Upload_UUID=name)

            def do_PATCH(self) -> None:
                name = self.path.rpartition("/")[2].partition("?")[0]
                registry.uploads[name] += self._body()
                size = len(registry.uploads[name])
                self._answer(202, Location=f"/v2/work/uploads/{name}", Range=f"0-{max(0, size - 1)}")

            def do_PUT(self) -> None:
                body = self._body()
                if found := re.search(r"/manifests/(.+)$", self.path):
                    kept = (body, self.headers["Content-Type"])
                    digest = "sha256:" + hashlib.sha256(body).hexdigest()
                    registry.manifests[found[1]] = registry.manifests[digest] = kept
                    self._answer(201, Docker_Content_Digest=digest)
                    return
                name = self.path.rpartition("/")[2].partition("?")[0]
                whole = registry.uploads.get(name, b"") + body
                digest = "sha256:" + hashlib.sha256(whole).hexdigest()
                registry.blobs[digest] = whole
                self._answer(201, Docker_Content_Digest=digest)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.name = f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with closing(Registry()) as made:
        yield made


def _daemon() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    done = subprocess.run((docker, "version"), capture_output=True, check=False, timeout=20)
    return done.returncode == 0


@pytest.mark.skipif(not _daemon(), reason="no docker daemon answers")
def test_a_real_docker_builds_and_pushes(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "docker").mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "docker")}
    environment |= {"DOCKER_BUILDKIT": "0"} | {k: v for k, v in os.environ.items() if k == "DOCKER_HOST"}
    archive = tmp_path / "code.tar.gz"
    write_archive(archive, [("Dockerfile", b"FROM scratch\nCOPY . /app\nWORKDIR /app\n", 0o644), ("t.py", b"1", 0o644)])
    tag = f"{registry.name}/work:{os.getpid()}"
    courier, told = StoreCourier(tmp_path / "home", environment=environment, is_denied=is_denied), list[str]()
    build = ImageBuild(dockerfile="Dockerfile", tag=tag)
    try:
        digest = courier.build(archive, build, tmp_path / "log", told.append)
        kept, _ = registry.manifests[digest]
        assert "sha256:" + hashlib.sha256(kept).hexdigest() == digest
        assert json.loads(kept)["layers"]
        # A registry without TLS is not asked whether it has the image; docker's own cache gives the same one.
        assert courier.build(archive, build, tmp_path / "log", told.append) == digest
    finally:
        subprocess.run(("docker", "rmi", "-f", tag), env=environment, capture_output=True, check=False)

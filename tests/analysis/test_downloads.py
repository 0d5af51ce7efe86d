"""Archives at a URL: fetched once while they don't change, bounded, and never with what only the asker may know."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from caravan.analysis import downloads, open_source
from caravan.analysis.archive import LIMITS
from caravan.values.errors import RepositoryError
from tests.analysis.test_archive_source import FILES, SEEN, tar, zipped


class Host:
    """A server of archives; `asked` are the paths and conditions that it was asked for."""

    def __init__(self) -> None:
        self.files = {"/code.tar": tar(FILES), "/a/code-v1.zip": zipped(FILES, "code-1/")}
        self.asked: list[tuple[str, str | None]] = []
        self.url = ""


@pytest.fixture
def host() -> Iterator[Host]:
    here = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            condition = self.headers["If-None-Match"]
            here.asked.append((self.path, condition))
            path = self.path.partition("?")[0]
            if path == "/moved.zip":
                self.send_response(302)
                self.send_header("Location", "/a/code-v1.zip")
                self.end_headers()
                return
            data = here.files.get(path)
            tag = f'"{len(data or b"")}"'
            self.send_response(404 if data is None else 304 if condition == tag else 200)
            self.send_header("ETag", tag)
            self.end_headers()
            if data is not None and condition != tag:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    here.url = f"http://127.0.0.1:{server.server_port}"
    yield here
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["/code.tar", "/a/code-v1.zip", "/moved.zip", "/a/code-v1.zip?x=1"])
def test_an_archive_at_a_url_is_read(tmp_path, host, path):
    tree = open_source(host.url + path, cache=tmp_path / "cache")
    assert ([f.path for f in tree.files()], tree.cloned) == (SEEN, True)


def test_it_is_fetched_again_only_when_it_changed(tmp_path, host):
    first = open_source(f"{host.url}/code.tar", cache=tmp_path / "cache")
    again = open_source(f"{host.url}/code.tar", cache=tmp_path / "cache")
    assert again.root == first.root
    assert [condition for _, condition in host.asked] == [None, f'"{len(tar(FILES))}"']
    host.files["/code.tar"] = tar({**FILES, "large.py": bytes(20_000)})
    assert "large.py" in open_source(f"{host.url}/code.tar", cache=tmp_path / "cache")


def test_what_the_cache_says_of_it_is_not_believed_when_it_is_broken(tmp_path, host):
    open_source(f"{host.url}/code.tar", cache=tmp_path / "cache")
    (about,) = (p for p in (tmp_path / "cache").iterdir() if p.name.endswith(".tar.json"))
    about.write_text('{"etag": 1')
    open_source(f"{host.url}/code.tar", cache=tmp_path / "cache")
    assert [condition for _, condition in host.asked] == [None, None]


@pytest.mark.parametrize(
    ("path", "said"),
    [("/nothing.zip", "answers 404"), ("/code.zip", "can't be unpacked"), ("/code.tar.zst", "Unpack it")],
)
def test_what_can_not_be_fetched_is_one_line(tmp_path, host, path, said):
    host.files |= {"/code.zip": b"<html>Please log in</html>", "/code.tar.zst": b"x"}
    with pytest.raises(RepositoryError) as caught:
        open_source(host.url + path, cache=tmp_path / "cache")
    assert said in caught.value.line()
    assert "\n" not in caught.value.line()


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(RepositoryError, match="can't be fetched"):
        open_source("http://127.0.0.1:1/code.zip?X-Amz-Signature=hunter2hunter2", cache=tmp_path / "cache")


def test_its_size_and_its_time_are_bounded(tmp_path, host, monkeypatch):
    monkeypatch.setattr(downloads, "LIMITS", LIMITS._replace(packed=1000))
    with pytest.raises(RepositoryError, match="is not fetched"):
        downloads.fetch(f"{host.url}/code.tar", tmp_path / "cache")
    monkeypatch.undo()
    with pytest.raises(RepositoryError, match="takes too long"):
        downloads.fetch(f"{host.url}/code.tar", tmp_path / "cache", seconds=-1)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://a.b/c/archive/refs/heads/main.zip", True),
        ("https://a.b/c.tar.gz?token=x", True),
        ("https://a.b/c.git", False),
        ("https://a.b/c?x=.zip", False),
        ("git@a.b:c.zip", False),
        ("ftp://a.b/c.zip", False),
        ("https://[a/c.zip", False),
    ],
)
def test_addresses_of_archives(source, expected):
    assert downloads.is_address(source) is expected

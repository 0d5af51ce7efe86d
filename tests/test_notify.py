"""Webhook and command: what they get, and what is said when they don't."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from notify import Notices
from tests.fakes.clock import FakeClock

DOCUMENT = {"run_id": "r1", "status": "succeeded", "text": "Caravan run r1: succeeded"}


class Hook(BaseHTTPRequestHandler):
    """Answers with the next of `answers`, the last one for ever."""

    answers: ClassVar[list[int]] = []
    got: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return None


@contextmanager
def hook(*answers: int) -> Iterator[str]:
    Hook.answers, Hook.got = list(answers), []
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/s3cr3t-path"
        finally:
            server.shutdown()
            thread.join()


def notices(url: str | None = None, command: str | None = None) -> Notices:
    return Notices(url, command, environment={"PATH": "/usr/bin:/bin"}, clock=FakeClock())


@pytest.mark.parametrize(
    ("answers", "posts", "said"),
    [
        ((200,), 1, ""),
        ((503, 204), 2, ""),
        ((429, 200), 2, ""),
        ((500,), 3, "the webhook was not told: it answered 500"),
        ((404,), 1, "the webhook was not told: it answered 404"),
        ((302,), 1, "the webhook was not told: it answered 302"),
    ],
)
def test_the_webhook(answers: tuple[int, ...], posts: int, said: str) -> None:
    with hook(*answers) as url:
        assert notices(url).tell(dict(DOCUMENT)) == said
    assert len(Hook.got) == posts
    assert json.loads(Hook.got[0]) == DOCUMENT


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/s3cr3t", "no address s3cr3t", "ftp://x.invalid/s3cr3t"])
def test_an_address_that_nobody_answers_is_not_shown(url: str) -> None:
    said = notices(url).tell(dict(DOCUMENT))
    assert said.startswith("the webhook was not told: ")
    assert "s3cr3t" not in said


def test_the_command_gets_the_document(tmp_path: Path) -> None:
    script, got = tmp_path / "tell me.py", tmp_path / "got"
    script.write_text(
        "import json, os, sys\n"
        "said = [json.load(sys.stdin), os.environ['CARAVAN_RUN_ID'], os.environ['CARAVAN_STATUS']]\n"
        "open(sys.argv[1], 'w').write(json.dumps(said))\n"
    )
    assert notices(command=f"'{sys.executable}' '{script}' {got}").tell(dict(DOCUMENT)) == ""
    assert json.loads(got.read_text()) == [DOCUMENT, "r1", "succeeded"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/bin/sh -c 'exit 3'", "the command for notices ended with exit code 3"),
        ("/no/such/program", "the command for notices can't be run: No such file or directory"),
        ("'unclosed", "the command for notices can't be run: No closing quotation"),
    ],
)
def test_a_command_that_fails(command: str, said: str) -> None:
    assert notices(command=command).tell(dict(DOCUMENT)) == said


def test_both_are_told() -> None:
    with hook(404) as url:
        said = notices(url, "/bin/false").tell(dict(DOCUMENT))
    assert "answered 404" in said
    assert "exit code 1" in said

"""A repository's address that holds a password or token is refused before anything is kept of it."""

import io
import os
from pathlib import Path

import pytest

from caravan.terminal.app import run
from caravan.terminal.inputs import check_source
from caravan.terminal.streams import Terminal
from caravan.values.errors import UsageError
from main import Application

TOKEN = "hunter2hunter2hunter2"
ADDRESSES = (
    f"https://{TOKEN}@127.0.0.1:1/x/y.git",
    f"https://me:{TOKEN}@127.0.0.1:1/x/y.git@main",
    f"git+https://{TOKEN}@127.0.0.1:1/x/y@v1",
    f"ssh://git:{TOKEN}@127.0.0.1:1/x/y",
    f"https://127.0.0.1:1/x.zip?private_token={TOKEN}",
    f"https://127.0.0.1:1/x.tar.gz?X-Amz-Signature={TOKEN}",
    f"https://{TOKEN}@127.0.0.1:1/x.tgz",
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("command", ["main job", "analyze"])
def test_it_is_kept_nowhere(tmp_path, address, command):
    home, out, err = Path(os.environ["CARAVAN_HOME"]), io.StringIO(), io.StringIO()
    words = ["analyze", address] if command == "analyze" else ["--prompt", "Train it", "--codebase-path", address]
    code = run(Application(), words, Terminal(io.StringIO(), out, err))
    assert code == 2
    assert TOKEN not in out.getvalue() + err.getvalue()
    assert "password or token" in err.getvalue()
    assert [p for p in home.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()] == []


@pytest.mark.parametrize(
    "address",
    [
        "https://a.b/c.git@main",
        "ssh://git@a.b/c@v1",
        "git@a.b:c/d.git@0123",
        "https://a.b/c.zip?ref=main",
        "git+https://a/b",
    ],
)
def test_addresses_without_one_are_kept_as_they_are(address):
    assert check_source(address) == address


def test_the_credentials_are_not_told_back():
    with pytest.raises(UsageError) as caught:
        check_source(ADDRESSES[0])
    assert TOKEN not in caught.value.line()

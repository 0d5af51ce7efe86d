"""Resolving by uv against an index on the loopback, and without uv or index."""

import os
import select
import shutil
from pathlib import Path

import pytest

from caravan.runs.resolver import UvResolver, index_words
from tests.fakes.indexes import package_index, wheel

needs_uv = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on the PATH")
WHEELS = (
    wheel("torch", "2.1.0"),
    wheel("torch", "2.2.0", ("numpy",)),
    wheel("torchvision", "0.17.0", ("torch==2.2.0",)),
    wheel("numpy", "1.26.4", python=">=3.9"),
)


def resolver(tmp_path: Path, index: str | None, **environment: str) -> UvResolver:
    chosen = {"PATH": os.environ.get("PATH", ""), "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "uv")}
    return UvResolver({**chosen, **environment}, folder=tmp_path / "kept", index_url=index, timeout_s=60)


@needs_uv
def test_what_fits_together_is_listed_and_known_again(tmp_path: Path) -> None:
    with package_index(*WHEELS) as (address, asked):
        made = resolver(tmp_path, address)
        found = made.resolve(["torchvision==0.17.0"], python="3.11")
        assert found.resolved is True
        assert set(found.packages) == {"torchvision==0.17.0", "torch==2.2.0", "numpy==1.26.4"}
        before = len(asked)
        again = made.resolve(["torchvision==0.17.0"], python="3.11")
    assert again.cached
    assert again.packages == found.packages
    assert len(asked) == before


@needs_uv
def test_pins_that_contradict_each_other_are_told_in_its_words(tmp_path: Path) -> None:
    with package_index(*WHEELS) as (address, _):
        found = resolver(tmp_path, address).resolve(["torch==2.1.0", "torchvision==0.17.0"], python="3.11")
    assert found.resolved is False
    assert "torchvision==0.17.0" in found.text
    assert "torch==2.1.0" in found.text


@needs_uv
def test_the_python_counts(tmp_path: Path) -> None:
    with package_index(*WHEELS) as (address, _):
        assert resolver(tmp_path, address).resolve(["numpy==1.26.4"], python="3.8").resolved is False


@needs_uv
def test_an_index_that_does_not_answer_is_no_conflict_and_not_kept(tmp_path: Path) -> None:
    with package_index() as (address, _):
        pass
    environment = {"UV_HTTP_TIMEOUT": "2", "UV_HTTP_RETRIES": "0"}
    found = resolver(tmp_path, address, **environment).resolve(["torch==2.1.0"], python="3.11")
    assert found.resolved is None
    assert found.text
    assert not list((tmp_path / "kept").glob("*")) if (tmp_path / "kept").exists() else True


@needs_uv
def test_secrets_of_the_index_are_in_no_word_and_no_answer(tmp_path: Path) -> None:
    with package_index(*WHEELS) as (address, _):
        hidden = address.replace("http://", "http://user:hunter2hunter2@")
        made = UvResolver(
            {"PATH": os.environ.get("PATH", ""), "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "uv")},
            folder=tmp_path / "kept",
            index_url=hidden,
            secrets=("hunter2hunter2",),
        )
        found = made.resolve(["nothing-of-that-name"], python="3.11")
    assert "hunter2hunter2" not in found.model_dump_json()
    assert all(b"hunter2hunter2" not in f.read_bytes() for f in (tmp_path / "kept").glob("*"))


def test_without_uv_it_says_so(tmp_path: Path) -> None:
    made = UvResolver({"PATH": str(tmp_path)}, folder=tmp_path / "kept")
    assert made.resolve(["torch"], python=None).text == "uv is not on the PATH"
    assert made.resolve([], python=None).resolved is True


def test_a_damaged_answer_is_asked_for_again(tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "uv"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\ncat >/dev/null\necho 'numpy==1.26.4'\n")
    fake.chmod(0o755)
    made = UvResolver({"PATH": f"{fake.parent}:/usr/bin:/bin"}, folder=tmp_path / "kept")
    assert made.resolve(["numpy"], python="3.11").packages == ("numpy==1.26.4",)
    for kept in (tmp_path / "kept").glob("*.json"):
        kept.write_text("{broken")
    assert not made.resolve(["numpy"], python="3.11").cached
    assert made.resolve(["numpy"], python="3.11").cached


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "uv"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    made = UvResolver({"PATH": f"{fake.parent}:/usr/bin:/bin"}, folder=tmp_path / "kept", timeout_s=0.2)
    found = made.resolve(["numpy"], python="3.11")
    assert found.resolved is None
    assert "did not answer" in found.text


def test_an_interrupt_ends_what_asks(tmp_path: Path) -> None:
    """It is in a session of its own, so that the terminal's Ctrl-C does not end it."""
    fake, held = tmp_path / "bin" / "uv", tmp_path / "held"
    fills = "head -c 300000 /dev/zero"  # more than a pipe holds: past it, somebody reads
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nexec 9>{held}\n{fills}\nkill -INT $PPID\nexec sleep 60\n")
    fake.chmod(0o755)
    os.mkfifo(held)
    made = UvResolver({"PATH": f"{fake.parent}:/usr/bin:/bin"}, folder=tmp_path / "kept", timeout_s=50)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(KeyboardInterrupt):
        made.resolve(["numpy"], python="3.11")
    assert select.select([reader], [], [], 50)[0]  # readable without a byte: who held the other end is gone
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        (["https://download.pytorch.org/whl/cu124"], ["--torch-backend", "cu124"]),
        (
            ["https://download.pytorch.org/whl/cpu/", "https://download.pytorch.org/whl/cu118"],
            ["--torch-backend", "cpu"],
        ),
        (
            ["https://download.pytorch.org/whl/torch_stable.html"],
            ["--find-links", "https://download.pytorch.org/whl/torch_stable.html"],
        ),
        (["https://links.example/whl/torch-2.1.html"], ["--find-links", "https://links.example/whl/torch-2.1.html"]),
        (["https://index.example/simple"], ["--index", "https://index.example/simple"]),
        (["https://index.example/whl/cu12/"], ["--index", "https://index.example/whl/cu12"]),
        (["https://download.pytorch.org/whl"], []),
    ],
)
def test_pages_of_links_stay_such_and_pytorch_s_index_is_for_its_packages(
    addresses: list[str], words: list[str]
) -> None:
    assert index_words(addresses) == words
    assert index_words(["https://download.pytorch.org/whl"], ["torch==2.1.0+cu121"]) == ["--torch-backend", "cu121"]

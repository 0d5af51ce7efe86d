"""What is sent arrives whole, once, or not at all: over HTTP, and by fsspec in a directory and in memory."""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from caravan.analysis.deny import is_denied
from caravan.runs.courier import StoreCourier
from caravan.runs.parcels import content
from caravan.values.delivery import Parcel
from caravan.values.errors import ServiceError, UsageError
from tests.fakes.put_server import PutServer


@pytest.fixture
def courier(tmp_path: Path) -> StoreCourier:
    return StoreCourier(tmp_path / "home", environment={"PATH": os.defpath}, is_denied=is_denied)


@pytest.fixture
def server() -> Iterator[PutServer]:
    with closing(PutServer()) as made:
        yield made


def silent(_: str) -> None:
    """Nobody listens."""


def some_file(folder: Path, size: int = 300_000) -> Path:
    path = folder / "data.bin"
    path.write_bytes(os.urandom(size))
    return path


def tree(folder: Path) -> Path:
    root = folder / "corpus"
    (root / "a").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a" / "one.txt").write_text("one")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link.txt").symlink_to("a/one.txt")
    (root / "linked").symlink_to("a")
    return root


def urls(tmp_path: Path, server: PutServer) -> list[str]:
    return [f"{server.url}/store/x", f"file://{tmp_path}/share/deep/x", f"memory://{tmp_path.name}/x"]


def read(url: str, server: PutServer) -> bytes:
    import fsspec

    if url.startswith("http"):
        return server.objects["/store/x"]
    fs, path = fsspec.core.url_to_fs(url)
    return bytes(fs.cat_file(path))


@pytest.mark.parametrize("n", range(3))
def test_it_arrives_and_is_sent_once(n: int, tmp_path: Path, courier: StoreCourier, server: PutServer) -> None:
    path, url = some_file(tmp_path), urls(tmp_path, server)[n]
    parcel = courier.measure(path, silent)
    assert (parcel.size, parcel.sha256) == (300_000, hashlib.sha256(path.read_bytes()).hexdigest())
    assert courier.put(path, url, parcel, silent) is True
    assert read(url, server) == path.read_bytes()
    assert courier.put(path, url, parcel, silent) is False
    assert len(server.puts()) == (1 if n == 0 else 0)
    if n == 1:
        assert [p.name for p in (tmp_path / "share" / "deep").iterdir()] == ["x"]


def test_an_empty_file_arrives(tmp_path: Path, courier: StoreCourier, server: PutServer) -> None:
    path = some_file(tmp_path, 0)
    parcel = courier.measure(path, silent)
    for url in urls(tmp_path, server):
        assert courier.put(path, url, parcel, silent) is True
        assert read(url, server) == b""


def test_a_directory_is_one_tar_file_that_depends_on_its_content_alone(tmp_path: Path, courier: StoreCourier) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first, second = tree(tmp_path / "1"), tree(tmp_path / "2")
    os.utime(second / "run.sh", (1, 1))
    measured = courier.measure(first, silent)
    assert measured == courier.measure(second, silent)
    assert measured.folder
    assert measured.files == 4
    packed = tmp_path / "packed.tar"
    packed.write_bytes(b"".join(content(first, is_denied)))
    assert (packed.stat().st_size, hashlib.sha256(packed.read_bytes()).hexdigest()) == (measured.size, measured.sha256)
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    out = tmp_path / "out" / "corpus"
    assert (out / "linked" / "one.txt").read_text() == (out / "link.txt").read_text() == "one"
    assert os.access(out / "run.sh", os.X_OK)
    assert (out / "empty").is_dir()


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, courier: StoreCourier) -> None:
    path = some_file(tmp_path)
    parcel = courier.measure(path, silent)
    looks = path.stat()
    path.write_bytes(bytes(looks.st_size))
    os.utime(path, ns=(looks.st_atime_ns, looks.st_mtime_ns))
    assert courier.measure(path, silent) == parcel  # by its looks, which are the same
    os.utime(path, ns=(looks.st_atime_ns, looks.st_mtime_ns + 1))
    assert courier.measure(path, silent) != parcel


def test_links_that_lead_nowhere_or_round_are_said(tmp_path: Path, courier: StoreCourier) -> None:
    root = tree(tmp_path)
    (root / "a" / "up").symlink_to("..")
    with pytest.raises(UsageError, match="loop of links"):
        courier.measure(root, silent)
    (root / "a" / "up").unlink()
    (root / "gone").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"corpus/gone can't be read"):
        courier.measure(root, silent)


def test_a_broken_upload_removes_nothing_and_is_replaced_later(tmp_path: Path, courier: StoreCourier) -> None:
    path = some_file(tmp_path, 6_000_000)
    parcel = courier.measure(path, silent)
    with closing(PutServer(break_after=1_000_000)) as server:
        url = f"{server.url}/store/x"
        with pytest.raises(ServiceError, match="can't be reached"):
            courier.put(path, url, parcel, silent)
        assert not [line for line in server.asked if line.startswith("DELETE")], "it may be another run's, under way"
        assert courier.put(path, url, parcel, silent) is True
        assert server.objects["/store/x"] == path.read_bytes()


def test_what_arrives_otherwise_is_noticed(tmp_path: Path, courier: StoreCourier) -> None:
    path = some_file(tmp_path)
    parcel = courier.measure(path, silent)
    with closing(PutServer(spoil=True)) as server, pytest.raises(ServiceError, match="another than was sent"):
        courier.put(path, f"{server.url}/store/x", parcel, silent)


def test_a_damaged_object_of_the_same_size_is_replaced(
    tmp_path: Path, courier: StoreCourier, server: PutServer
) -> None:
    path = some_file(tmp_path)
    server.objects["/store/x"] = bytes(300_000)
    assert courier.put(path, f"{server.url}/store/x", courier.measure(path, silent), silent) is True
    assert server.objects["/store/x"] == path.read_bytes()


def test_a_refusal_is_one_line(tmp_path: Path, courier: StoreCourier) -> None:
    path = some_file(tmp_path)
    with closing(PutServer(refuse=403)) as server, pytest.raises(ServiceError) as raised:
        courier.put(path, f"{server.url}/store/x", courier.measure(path, silent), silent)
    assert "the server answered 403. Its credentials belong into ~/.netrc." in raised.value.line()


@pytest.mark.parametrize("n", range(3))
def test_what_changed_after_it_was_measured_is_not_sent(
    n: int, tmp_path: Path, courier: StoreCourier, server: PutServer
) -> None:
    path = some_file(tmp_path, 5_000_000)
    parcel = courier.measure(path, silent)
    path.write_bytes(bytes(5_000_000))
    url = urls(tmp_path, server)[n]
    with pytest.raises(UsageError, match="changed after it was planned"):
        courier.put(path, url, parcel, silent)
    assert server.objects == {}
    assert n != 1 or list((tmp_path / "share" / "deep").iterdir()) == []


@pytest.mark.parametrize("n", range(1, 3))
def test_ctrl_c_leaves_no_half_object(
    n: int, tmp_path: Path, courier: StoreCourier, server: PutServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = some_file(tmp_path, 9_000_000)
    parcel, url = courier.measure(path, silent), urls(tmp_path, server)[n]

    def interrupted(path: Path, _: Any) -> Iterator[bytes]:
        yield path.read_bytes()[:4_000_000]
        yield path.read_bytes()[4_000_000:4_000_001]
        raise KeyboardInterrupt

    monkeypatch.setattr("caravan.runs.courier.content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        courier.put(path, url, parcel, silent)
    monkeypatch.undo()
    assert n != 1 or list((tmp_path / "share" / "deep").iterdir()) == []
    assert courier.put(path, url, parcel, silent) is True
    assert read(url, server) == path.read_bytes()


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path, courier: StoreCourier) -> None:
    with pytest.raises(UsageError, match="s3fs"):
        courier.put(some_file(tmp_path), "s3://bucket/x", Parcel(sha256="0" * 64, size=1), silent)
    with pytest.raises(UsageError, match="nosuch"):
        courier.put(some_file(tmp_path), "nosuch://bucket/x", Parcel(sha256="0" * 64, size=1), silent)

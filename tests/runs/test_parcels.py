"""What of a directory is sent: nothing that may hold a secret, and nothing that a link leads to elsewhere."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from caravan.analysis.deny import is_denied
from caravan.runs.courier import StoreCourier
from caravan.runs.parcels import content
from caravan.values.delivery import Parcel
from caravan.values.errors import UsageError

SECRET = "hunter2-hunter2-hunter2"


def silent(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
def courier(tmp_path: Path) -> StoreCourier:
    return StoreCourier(tmp_path / "home", environment={"PATH": os.defpath}, is_denied=is_denied)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "more").mkdir(parents=True)
    (root / "train.jsonl").write_text("{}\n")
    (root / "more" / "test.jsonl").write_text("{}\n")
    return root


def sent(root: Path) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(content(root, is_denied)))) as packed:
        return packed.getnames()


def test_what_may_hold_a_secret_is_left_out_and_named(data: Path, courier: StoreCourier) -> None:
    plain = courier.measure(data, silent)
    (data / ".env").write_text(SECRET)
    (data / "more" / "id_rsa").write_text(SECRET)
    (data / ".aws").mkdir()
    (data / ".aws" / "credentials").write_text(SECRET)
    (data / "innocent.txt").symlink_to(".env")
    parcel = courier.measure(data, silent)
    assert parcel == plain.model_copy(
        update={"left_out": tuple(f"{n} (may hold a secret)" for n in (".aws", ".env", "innocent.txt", "more/id_rsa"))}
    )
    assert sent(data) == ["data/more/test.jsonl", "data/train.jsonl"]
    assert SECRET.encode() not in b"".join(content(data, is_denied))


def test_links_that_lead_out_are_not_followed_but_named(tmp_path: Path, data: Path, courier: StoreCourier) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "id.txt").write_text(SECRET)
    (tmp_path / "data-2").mkdir()
    links: dict[str, str | Path] = {"d": outside, "up": "../outside/id.txt", "near": "../data-2", "proc": "/proc"}
    for name, target in links.items():
        (data / name).symlink_to(target)
    (data / "copy.jsonl").symlink_to("train.jsonl")
    parcel = courier.measure(data, silent)
    assert [n.split(" ")[0] for n in parcel.left_out] == ["d", "near", "proc", "up"]
    assert parcel.left_out[0] == f"d (a link to {outside})"
    assert sent(data) == ["data/copy.jsonl", "data/more/test.jsonl", "data/train.jsonl"]


def test_a_long_list_is_cut(data: Path, courier: StoreCourier) -> None:
    for n in range(30):
        (data / f"{n:02}.key").touch()
    left = courier.measure(data, silent).left_out
    assert (len(left), left[-1]) == (21, "and 10 more")


def test_what_is_left_out_is_known_anew(data: Path, courier: StoreCourier) -> None:
    assert courier.measure(data, silent).left_out == ()
    (data / "id_rsa").touch()
    assert courier.measure(data, silent).left_out != ()


@pytest.mark.parametrize("parcel", [None, {}, {"sha256": 1}, []])
def test_a_measurement_of_another_version_is_made_anew(parcel: Any, data: Path, courier: StoreCourier) -> None:
    first = courier.measure(data, silent)
    file = data.parent / "home" / "measured.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({path: {**row, "parcel": parcel} for path, row in known.items()}))
    assert courier.measure(data, silent) == first


@pytest.mark.parametrize("name", [".ssh", ".aws/sso", "id_rsa"])
def test_a_place_of_secrets_is_refused_also_by_a_link(name: str, tmp_path: Path, courier: StoreCourier) -> None:
    place = tmp_path / name
    place.mkdir(parents=True)
    (place / "config").write_text(SECRET)
    (tmp_path / "data").symlink_to(place)
    for path in (place, tmp_path / "data"):
        with pytest.raises(UsageError, match="may hold secrets"):
            courier.measure(path, silent)
        with pytest.raises(UsageError, match="may hold secrets"):
            b"".join(content(path, is_denied))


def test_a_directory_of_which_nothing_may_be_sent_is_said(tmp_path: Path, courier: StoreCourier) -> None:
    (tmp_path / "outside.txt").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(UsageError, match=r"Nothing in the data .* may be sent: a \(a link to"):
        courier.measure(tmp_path / "data", silent)


def test_too_much_is_refused_before_anything_is_read(
    data: Path, courier: StoreCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*_: object) -> Parcel:
        raise AssertionError("it was read")

    monkeypatch.setattr("caravan.runs.parcels.content", unread)
    os.truncate(data / "train.jsonl", 3_000_000_000)  # sparse
    for path in (data, data / "train.jsonl"):
        with pytest.raises(UsageError, match="more than 2 GB"):
            courier.measure(path, silent, 2_000_000_000)
    monkeypatch.setattr("caravan.runs.parcels._MOST", 2)
    with pytest.raises(UsageError, match="more than 2 files"):
        courier.measure(data, silent)

"""What a job says of its model's files is believed only where it can be: else the model counts as not listed."""

import json
from typing import Any

import pytest

from caravan.values.base import Json
from caravan.values.outputs import MOST_MODEL_FILES, parse_summary
from caravan.values.registry import ModelFile, files_digest


def file(path: str, digest: str = "a") -> dict[str, Any]:
    return {"path": path, "bytes": 7, "sha256": digest * 64}


def told(model: Json) -> Any:
    found = parse_summary(json.dumps({"directory": "/x", "files": 3, "bytes": 9, "model": model}).encode())
    assert found is not None, "what is said of the outputs stands"
    assert found.files == 3
    return found.model


def test_a_list_of_files_is_taken_as_it_is() -> None:
    files = [file("b.safetensors"), file("sub/a.json", "b")]
    sha256 = files_digest([ModelFile.model_validate(one) for one in files])
    for path in (".", "final"):
        model = told({"path": path, "kind": "model", "files": files, "sha256": sha256})
        assert (model.path, len(model.files), model.sha256, model.error) == (path, 2, sha256, "")
    assert len(told({"path": ".", "files": files}).files) == 2, "not all were read in time: no checksum of the whole"


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"path": "../../etc", "files": [file("passwd")]}, "no file below the outputs"),
        ({"path": "/etc", "files": [file("passwd")]}, "no file below the outputs"),
        ({"path": "a\nb\x1b[31m", "files": [file("x")]}, "no file below the outputs"),
        ({"path": ".", "files": [file("../x")]}, "no file below the outputs"),
        ({"path": ".", "files": [file("x" * 1_000_000)]}, "no file below the outputs"),
        ({"path": ".", "files": [file("/".join("x" * 100_000))]}, "no file below the outputs"),
        ({"path": ".", "files": [file(f"{n}.bin") for n in range(MOST_MODEL_FILES + 1)]}, "more than 2000 files"),
        ({"path": ".", "files": [file("x")], "sha256": "0" * 64}, "another checksum"),
        ({"path": ".", "files": [{"path": "x", "bytes": -1, "sha256": "a" * 64}]}, "can't be read"),
        ({"path": ".", "files": ["x"]}, "can't be read"),
    ],
)
def test_what_can_be_no_list_counts_as_none(model: Json, why: str) -> None:
    found = told(model)
    assert found.files == ()
    assert why in found.error

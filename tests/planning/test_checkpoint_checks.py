"""Which checkpoints are whole: what is cut off, emptied, flipped, half-written or lacks a file is never taken."""

import importlib.util
import io
import json
import os
import pickle
import sys
import time
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planning.scenes import TEMPLATES

FAR = float("inf")


def loaded(name: str) -> ModuleType:
    told = importlib.util.spec_from_file_location(f"checked_{name}", TEMPLATES / f"{name}.py")
    assert told is not None
    assert told.loader is not None
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    return module


CHECKS = loaded("checkpoints")


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, weights=np.arange(12.0), rng=np.arange(3), step=np.array(7))
    return file.getvalue()


def torch_like() -> bytes:
    """As torch.save writes: a stored zip whose members may be archives themselves."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
        archive.writestr("archive/data/0", npz())
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def safetensors(data: bytes = b"\0" * 48) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [12], "data_offsets": [0, len(data)]}, "__metadata__": {}})
    return len(header).to_bytes(8, "little") + header.encode() + data


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(20, dtype=np.float32).reshape(4, 5))
    return file.getvalue()


FORMATS = {
    "checkpoint-7.npz": npz(),
    "checkpoint-7.pt": torch_like(),
    "checkpoint-7.safetensors": safetensors(),
    "checkpoint-7.npy": array(),
    "checkpoint-7.pkl": pickle.dumps({"weights": [1.0, 2.0], "step": 7}),
    "checkpoint-7.json": json.dumps({"step": 7, "weights": [1, 2]}).encode(),
}


def problem(path: Path, kind: str = "files", found: list[Path] | None = None) -> str:
    if path.is_file():
        os.utime(path, (1, 1))  # nobody writes it any more
    for file in path.rglob("*") if path.is_dir() else ():
        os.utime(file, (1, 1))
    return str(CHECKS.problem(path, kind, found or [path], FAR))


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_whole_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name])
    assert problem(tmp_path / name) == ""


@pytest.mark.parametrize("name", FORMATS)
def test_cut_off_at_any_byte_it_is_never_whole(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / name, FORMATS[name]
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert problem(path), length


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(FORMATS["checkpoint-7.npz"]) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_seen_or_changes_no_value(tmp_path: Path, at: int, bit: int) -> None:
    path, data = tmp_path / "checkpoint-7.npz", bytearray(FORMATS["checkpoint-7.npz"])
    data[at] ^= 1 << bit
    path.write_bytes(data)
    if not problem(path):
        with np.load(path) as now, np.load(io.BytesIO(FORMATS["checkpoint-7.npz"])) as before:
            for name in now.files:  # a flip in a name or a date is no damage to what is loaded
                assert any((now[name] == before[n]).all() for n in before.files if now[name].shape == before[n].shape)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_looked_at_without_an_error(tmp_path: Path, data: bytes) -> None:
    for name in FORMATS:
        (tmp_path / name).write_bytes(data)
        problem(tmp_path / name)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "done"),)

    (tmp_path / "checkpoint-1.pkl").write_bytes(pickle.dumps(Evil()))
    problem(tmp_path / "checkpoint-1.pkl")
    folder = tmp_path / "pytorch_model_fsdp_0"
    folder.mkdir()
    (folder / ".metadata").write_bytes(pickle.dumps(Evil()))
    (folder / "__0_0.distcp").write_bytes(b"x")
    problem(tmp_path)
    assert not (tmp_path / "done").exists()


# ---- transformers


def trainer(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": 1.0}))
    (path / "model.safetensors").write_bytes(safetensors())
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (path / name).write_bytes(torch_like())
    (path / "tokenizer.model").write_bytes(b"of a kind of its own")
    return path


def test_a_trainers_checkpoint_is_whole_with_all_its_parts(tmp_path: Path) -> None:
    assert problem(trainer(tmp_path, 300), "trainer") == ""


@pytest.mark.parametrize(
    "name", ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"]
)
def test_a_trainers_checkpoint_that_lacks_a_part_is_not(tmp_path: Path, name: str) -> None:
    path = trainer(tmp_path, 300)
    whole = (path / name).read_bytes()
    (path / name).unlink()
    assert problem(path, "trainer")
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        (path / name).write_bytes(whole[:cut])
        assert problem(path, "trainer"), cut


def test_the_state_of_another_step_is_not_this_ones(tmp_path: Path) -> None:
    path = trainer(tmp_path, 300)
    (path / "trainer_state.json").write_text('{"global_step": 200}')
    assert problem(path, "trainer") == "trainer_state.json is of step 200"


def test_all_shards_of_an_index_must_be_there(tmp_path: Path) -> None:
    path = trainer(tmp_path, 5)
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert problem(path, "trainer") == "model-00002-of-00002.safetensors is missing"
    (path / "model-00002-of-00002.safetensors").write_bytes(safetensors())
    assert problem(path, "trainer") == ""


def test_deepspeed_names_its_tag_and_has_every_rank(tmp_path: Path) -> None:
    path = trainer(tmp_path, 5)
    for name in ("optimizer.pt", "scheduler.pt", "model.safetensors"):
        (path / name).unlink()
    states = path / "global_step5"
    states.mkdir()
    for rank in (0, 1):
        (states / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(torch_like())
    (states / "mp_rank_00_model_states.pt").write_bytes(torch_like())
    assert problem(path, "trainer") == "DeepSpeed has not named its tag"
    (path / "latest").write_text("global_step5")
    assert problem(path, "trainer") == ""
    (states / "zero_pp_rank_0_mp_rank_00_optim_states.pt").unlink()
    assert problem(path, "trainer") == "DeepSpeed's global_step5 lacks the optimizer of a rank"


class Stored:
    def __init__(self, relative_path: str, offset: int, length: int) -> None:
        self.relative_path, self.offset, self.length = relative_path, offset, length


class Metadata:
    def __init__(self, **storage: Stored) -> None:
        self.storage_data = storage


def test_fsdp_says_how_long_its_files_are(tmp_path: Path) -> None:
    path = trainer(tmp_path, 5)
    folder = path / "pytorch_model_fsdp_0"
    folder.mkdir()
    (folder / "__0_0.distcp").write_bytes(b"x" * 99)
    assert problem(path, "trainer") == "pytorch_model_fsdp_0 has no .metadata"
    whole = pickle.dumps(Metadata(a=Stored("__0_0.distcp", 40, 60)))
    (folder / ".metadata").write_bytes(whole)
    assert problem(path, "trainer") == "__0_0.distcp is missing or too short"
    (folder / "__0_0.distcp").write_bytes(b"x" * 100)
    assert problem(path, "trainer") == ""
    for length in range(len(whole)):
        (folder / ".metadata").write_bytes(whole[:length])
        assert problem(path, "trainer"), length


# ---- others


def test_the_order_is_by_step_and_a_last_one_without_a_number_is_the_newest(tmp_path: Path) -> None:
    names = ("epoch=1-step=90.ckpt", "epoch=2-step=100.ckpt", "epoch=0-step=9.ckpt")
    for n, name in enumerate(names):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (n, n))
    found = CHECKS.candidates(tmp_path, "files", "*.ckpt")[0]
    assert [p.name for p in found] == ["epoch=2-step=100.ckpt", "epoch=1-step=90.ckpt", "epoch=0-step=9.ckpt"]
    (tmp_path / "last.ckpt").write_bytes(b"")
    os.utime(tmp_path / "last.ckpt", (9, 9))
    assert CHECKS.candidates(tmp_path, "lightning", None)[0][0].name == "last.ckpt"


def test_what_is_set_aside_and_what_lies_inside_a_checkpoint_are_no_candidates(tmp_path: Path) -> None:
    trainer(tmp_path, 3)
    trainer(tmp_path / ".caravan" / "set-aside", 4)
    trainer(tmp_path / "checkpoint-3", 5)
    assert [p.name for p in CHECKS.candidates(tmp_path, "trainer", None)[0]] == ["checkpoint-3"]


def test_a_directory_of_no_known_layout_must_have_what_the_one_before_has(tmp_path: Path) -> None:
    for step in (1, 2):
        (tmp_path / f"step_{step}").mkdir()
        for name in ("model.safetensors", "random_states_0.pkl"):
            content = safetensors() if name[0] == "m" else pickle.dumps(1)
            (tmp_path / f"step_{step}" / name).write_bytes(content)
    found = CHECKS.candidates(tmp_path, "files", "step_*")[0]
    assert problem(found[0], found=found) == ""
    (found[0] / "random_states_0.pkl").unlink()
    assert "random_states_0.pkl" in problem(found[0], found=found)
    assert problem(found[1], found=found) == ""


def test_temporary_files_say_that_it_was_not_written_to_its_end(tmp_path: Path) -> None:
    path = trainer(tmp_path, 5)
    (path / "optimizer.pt.tmp").write_bytes(b"")
    assert problem(path, "trainer") == "optimizer.pt.tmp was not written to its end"


def test_what_still_changes_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint-7.npz"
    path.write_bytes(FORMATS[path.name])

    def writes_on(seconds: float) -> None:
        assert seconds > 0
        path.write_bytes(FORMATS[path.name] + b"more")

    monkeypatch.setattr(time, "sleep", writes_on)
    assert CHECKS.problem(path, "files", [path], FAR) == "something still writes it"


DAMAGED = {
    "another object than was pickled": b"\x80\x04\x8c\x02os\x94\x8c\x06getcwd\x94\x93)R(K\x01u.",
    "bytes without an end": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "a text without an end": b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    "a frame without an end": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.",
    "a number of more digits than are read": b"L" + b"9" * 9000 + b"L\n.",
    "an object remembered far away": b"\x80\x02Kx" + b"r\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_metadata_is_told_whatever_reading_it_raises(tmp_path: Path, data: bytes) -> None:
    folder = trainer(tmp_path, 9) / "pytorch_model_fsdp_0"
    folder.mkdir()
    (folder / "__0_0.distcp").write_bytes(b"x")
    (folder / ".metadata").write_bytes(data)
    assert problem(folder.parent, "trainer")


@pytest.mark.parametrize("error", [MemoryError(), OverflowError("x"), RecursionError("deep"), ZeroDivisionError()])
def test_a_look_that_fails_is_a_checkpoint_that_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    path = trainer(tmp_path, 9)
    monkeypatch.setattr(CHECKS, "check_sharded", fails)
    assert problem(path, "trainer").startswith(type(error).__name__)
    monkeypatch.setattr(CHECKS, "check_sharded", lambda *_: sys.exit(3))
    with pytest.raises(SystemExit):
        problem(path, "trainer")


def test_documents_nested_too_deep_are_not_whole(tmp_path: Path) -> None:
    path = trainer(tmp_path, 9)
    (path / "model.safetensors.index.json").write_text("[" * 100_000)
    assert "not whole" in problem(path, "trainer")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("checkpoint-7.pkl", b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"x."),
        ("checkpoint-7.pkl", b"\x80\x04\x8e" + (1 << 36).to_bytes(8, "little") + b"x."),
        ("checkpoint-7.npy", b"\x93NUMPY\x02\0" + b"\xff\xff\xff\xff" + b"{"),
    ],
)
def test_no_more_is_read_at_once_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes
) -> None:
    asked = []
    opened = Path.open

    class Counting:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def read(self, count: int = -1) -> bytes:
            asked.append(count)
            return bytes(self.stream.read(count))

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **more: Counting(opened(path, mode, **more)))
    said = problem(tmp_path / name)
    assert "checkpoint-7" in said
    assert max(asked) <= 16  # what every file is asked for


def test_a_damaged_member_of_any_compression_is_told(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-7.npz"
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("a", bytes(range(256)) * 40)
        data = bytearray(path.read_bytes())
        data[36:60] = b"\xff" * 24
        path.write_bytes(data)
        assert problem(path)


def test_a_pipe_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "checkpoint-7.npz")
    assert problem(tmp_path / "checkpoint-7.npz") == "checkpoint-7.npz is no file that holds data"
    path = trainer(tmp_path, 5)
    (path / "scheduler.pt").unlink()
    os.mkfifo(path / "scheduler.pt")
    assert CHECKS.problem(path, "trainer", [path], FAR) == "scheduler.pt is no file that holds data"


def test_many_entries_beside_them_hide_no_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKS, "MOST", 20)
    for n in range(30):
        (tmp_path / f"log-{n}").touch()
    (tmp_path / "checkpoint-3.npz").touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "checkpoint-4.npz").touch()
    found, whole = CHECKS.candidates(tmp_path, "files", "checkpoint-*.npz")
    assert ([p.name for p in found], whole) == (["checkpoint-4.npz", "checkpoint-3.npz"], True)
    for n in range(30):
        (tmp_path / f"folder-{n}").mkdir()
    found, whole = CHECKS.candidates(tmp_path, "files", "checkpoint-*.npz")
    assert ([p.name for p in found], whole) == (["checkpoint-3.npz"], False)

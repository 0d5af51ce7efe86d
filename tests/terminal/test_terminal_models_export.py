"""`models export`: a folder, a tar file or a URL that `sha256sum -c` accepts, with card and facts."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.fakes.wiring import FakeWiring
from tests.terminal.models_case import FILES, add, document, models, on_disk, tree

OURS = {"README.md", "caravan-model.json", "SHA256SUMS"}
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    made = FakeWiring(tmp_path / "home")
    add(made, str(on_disk(tmp_path / "m")))
    return made


def checked(folder: Path) -> bool:
    """Whether `sha256sum -c` accepts the folder."""
    program = shutil.which("sha256sum")
    assert program, "coreutils is everywhere that these tests run"
    done = subprocess.run([program, "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, timeout=60)
    return done.returncode == 0


def test_a_folder_has_card_facts_and_sums_that_are_accepted(wiring: FakeWiring, tmp_path: Path) -> None:
    to = tmp_path / "to"
    found = document(wiring, "export", "chat", "--to", str(to))
    assert (found["ref"], found["format"], set(found["files"])) == (
        "chat@1",
        "folder",
        set(FILES) | OURS - {"SHA256SUMS"},
    )
    there = tree(to)
    assert {n: d for n, d in there.items() if n not in OURS} == FILES
    assert checked(to)
    card = there["README.md"].decode()
    told = (
        *('base_model: "org/base"', "license: unknown", "library_name: peft", "# chat, version 1", "1.25 nats"),
        *("d" * 64, "c0ffee", "better than its base", "merge_and_unload", 'PeftModel.from_pretrained(base, ".")'),
    )
    assert [text for text in told if text not in card] == []
    facts = json.loads(there["caravan-model.json"])
    assert (facts["ref"], facts["metrics"]["eval_loss"], len(facts["files"]["files"])) == ("chat@1", 1.25, 3)
    (to / WEIGHTS).write_bytes(b"changed")
    assert not checked(to)


def test_export_again_changes_nothing_and_what_differs_needs_force(wiring: FakeWiring, tmp_path: Path) -> None:
    to = tmp_path / "to"
    for _ in range(2):
        assert models(wiring, "export", "chat", "--to", str(to))[0] == 0
    (to / "README.md").write_text("mine")
    code, _, err = models(wiring, "export", "chat", "--to", str(to))
    assert (code, "is there already and differs" in err) == (2, True)
    assert models(wiring, "export", "chat", "--to", str(to), "--force")[0] == 0
    assert checked(to)


def test_the_job_s_own_card_is_kept_and_added_to(wiring: FakeWiring, tmp_path: Path) -> None:
    own = b"---\nbase_model: local/base\ntags:\n- sft\n---\n\n# Tiny\n\nMade by a job.\n"
    files = {**FILES, "README.md": own, "SHA256SUMS": b"old"}
    add(wiring, str(on_disk(tmp_path / "own", files)), files=files, run_id="own")
    to = tmp_path / "to"
    assert models(wiring, "export", "chat@2", "--to", str(to))[0] == 0
    card = (to / "README.md").read_text()
    assert card.startswith(
        "---\nbase_model: local/base\ntags:\n- sft\nlicense: unknown\nlibrary_name: peft\n---\n\n# Tiny"
    )
    assert card.index("Made by a job.") < card.index("## Evaluation")
    assert checked(to)


def test_a_tar_file_is_the_same_each_time(wiring: FakeWiring, tmp_path: Path) -> None:
    one, two = tmp_path / "one.tar", tmp_path / "sub" / "two"
    assert models(wiring, "export", "chat", "--to", str(one))[0] == 0
    assert models(wiring, "export", "chat", "--to", str(two), "--format", "tar")[0] == 0
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as tar:
        assert {(m.mtime, m.uid, m.uname, m.mode) for m in tar} == {(0, 0, "", 0o644)}
        tar.extractall(tmp_path / "x", filter="data")
    assert checked(tmp_path / "x" / "chat-1")
    code, _, err = models(wiring, "export", "chat", "--to", str(one))
    assert (code, "is there already" in err) == (2, True)
    assert models(wiring, "export", "chat", "--to", str(one), "--force")[0] == 0


def test_what_was_changed_is_no_export(wiring: FakeWiring, tmp_path: Path) -> None:
    (tmp_path / "m" / WEIGHTS).write_bytes(FILES[WEIGHTS][::-1])
    for to in ("x.tar", "folder", f"file://{tmp_path}/place"):
        code, _, err = models(wiring, "export", "chat", "--to", to if "://" in to else str(tmp_path / to))
        assert (code, WEIGHTS in err, "models verify chat@1" in err) == (2, True, True)
    left = [p.name for p in tmp_path.rglob("*") if p.is_file() and "m" not in p.relative_to(tmp_path).parts]
    assert WEIGHTS not in left
    assert "SHA256SUMS" not in left
    assert not [name for name in left if name.endswith((".tar", ".tmp"))]


def test_a_url_gets_whole_files_and_the_sums_last(wiring: FakeWiring, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/place/chat"
    assert models(wiring, "export", "chat", "--to", url)[0] == 0
    assert checked(tmp_path / "place/chat")
    (tmp_path / "place/chat" / WEIGHTS).unlink()  # as if it had been broken off
    assert models(wiring, "export", "chat", "--to", url)[0] == 0
    assert checked(tmp_path / "place/chat")
    (tmp_path / "place/chat" / WEIGHTS).write_bytes(b"another")
    code, _, err = models(wiring, "export", "chat", "--to", url)
    assert (code, "is there already and differs" in err) == (2, True)
    assert models(wiring, "export", "chat", "--to", url, "--force")[0] == 0
    assert checked(tmp_path / "place/chat")


def test_a_tar_file_at_a_url(wiring: FakeWiring, tmp_path: Path) -> None:
    local = tmp_path / "here.tar"
    assert models(wiring, "export", "chat", "--to", str(local))[0] == 0
    url = f"file://{tmp_path}/there/chat.tar"
    for _ in range(2):
        assert models(wiring, "export", "chat", "--to", url)[0] == 0
    assert (tmp_path / "there/chat.tar").read_bytes() == local.read_bytes()
    (tmp_path / "there/chat.tar").write_bytes(b"another")
    assert models(wiring, "export", "chat", "--to", url)[0] == 2


def test_a_secret_in_the_place_is_refused(wiring: FakeWiring) -> None:
    code, out, err = models(wiring, "export", "chat", "--to", "s3://AKIAABCDEFGHIJKLMNOP:x@bucket/m", "--json")
    assert (code, "holds a secret" in err, "AKIAABCDEFGHIJKLMNOP" in out + err) == (2, True, False)


def test_files_that_were_not_listed_are_listed_at_the_export(wiring: FakeWiring, tmp_path: Path) -> None:
    add(wiring, str(tmp_path / "m"), files={}, run_id="unlisted")
    for to in (str(tmp_path / "to"), f"file://{tmp_path}/url"):
        found = document(wiring, "export", "chat@2", "--to", to)
        assert found["files"][WEIGHTS] == hashlib.sha256(FILES[WEIGHTS]).hexdigest()
    assert checked(tmp_path / "to")
    assert checked(tmp_path / "url")
    assert "none were known when it was registered" in (tmp_path / "to/README.md").read_text()


def test_a_name_with_a_backslash_is_accepted(wiring: FakeWiring, tmp_path: Path) -> None:
    files = {"odd\\name": b"w", "spaced name": b"v"}
    add(wiring, str(on_disk(tmp_path / "odd", files)), files=files, run_id="odd")
    assert models(wiring, "export", "chat@2", "--to", str(tmp_path / "to"))[0] == 0
    assert checked(tmp_path / "to")

"""The tree: what may be seen, what is never read, what can't be read, and the digest."""

import os
import socket
from pathlib import Path

import pytest

from caravan.analysis import open_source
from caravan.analysis.deny import is_denied
from caravan.analysis.tree import MAX_TEXT
from caravan.values.errors import RepositoryError, UsageError
from tests.analysis.repositories import opened, write

SECRET = "hunter2-hunter2-hunter2"


def paths(tree) -> list[str]:
    return [f.path for f in tree.files()]


def test_files_are_sorted_with_size_and_mode(tmp_path):
    write(tmp_path, {"b.py": "bb", "a/run.sh": "x"})
    (tmp_path / "a/run.sh").chmod(0o700)
    tree = opened(tmp_path)
    assert [(f.path, f.size, f.mode) for f in tree.files()] == [("a/run.sh", 1, 0o755), ("b.py", 2, 0o644)]
    assert list(tree.delivery()) == [("a/run.sh", b"x", 0o755), ("b.py", b"bb", 0o644)]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "no directory"),
        ("", "No repository was named"),
        ("~no-such-user/x", "no directory"),
        ("file.txt", "no directory"),
        ("loop", "no directory"),
        ("ext::sh -c id", "no repository"),
        ("--upload-pack=id", "no repository"),
        ("a\0b", "No repository"),
    ],
)
def test_what_is_no_repository_is_one_line(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"file.txt": "x"})
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RepositoryError) as caught:
        open_source(source, cache=tmp_path / "cache")
    assert words in caught.value.line()
    assert "\n" not in caught.value.line()


def test_an_empty_directory_is_a_tree_that_says_so_where_files_are_needed(tmp_path):
    (tmp_path / "empty").mkdir()
    tree = open_source(str(tmp_path / "empty"), cache=tmp_path / "cache")
    assert tree.files() == ()
    assert list(tree.delivery()) == []
    with pytest.raises(RepositoryError, match="holds no files that may be read"):
        tree.need_files()


def test_ignore_rules_nest_and_negate(tmp_path):
    tree = opened(
        tmp_path,
        {
            ".gitignore": "*.bin\n/out/\n# a comment\n",
            "a.bin": "x",
            "out/x.py": "x",
            "sub/out/kept.py": "x",
            "sub/.gitignore": "!kept.bin\n*.log\n",
            "sub/kept.bin": "x",
            "sub/x.log": "x",
            "x.log": "x",
        },
    )
    assert paths(tree) == [".gitignore", "sub/.gitignore", "sub/kept.bin", "sub/out/kept.py", "x.log"]
    assert any("out/" in n and "left out" in n for n in tree.notes)


def test_broken_ignore_rules_are_skipped(tmp_path):
    assert "a.py" in paths(opened(tmp_path, {".gitignore": "!\n[\n\\\n*.log\n", "a.py": "", "b.log": ""}))


@pytest.mark.parametrize(
    "name",
    [
        *(".env", "x/.env", ".env.local", "prod.env", ".netrc", ".npmrc", "certs/server.pem", "id_rsa", ".ssh/config"),
        *("id_ed25519.pub", "credentials.json", "secrets.yaml", ".aws/config", "a/KEY.PEM", "service-account-1.json"),
        *("credentials", ".git/config", "hf_token", ".docker/config.json", "kaggle.json", ".pypirc", "x.key"),
        *(".huggingface/token", "home/.cache/huggingface/token", ".cache/huggingface/stored_tokens", ".s3cfg", ".boto"),
        *("rclone.conf", ".config/gcloud/access_tokens.db", "kubeconfig", "ml/kubeconfig.yaml", ".databrickscfg"),
        *(".modal.toml", "terraform.tfvars", "x-firebase-adminsdk-1.json", "gcp-key.json", "sa-key.json", "auth.json"),
        *("pip.conf", ".pip/pip.conf", ".condarc", ".env~", "prod.env.bak", ".envs/prod", "api_key.txt", "..env.swp"),
        *(
            "secret_key.txt",
            "wandb_key.txt",
            "vault_pass.txt",
            ".nomad-token",
            "deploy_rsa",
            "token.json",
            "id_rsa.old",
        ),
        *(".bash_history", ".zsh_history", ".python_history", "credentials.json.orig", "my-service-account.json"),
        *("openai_api_key", "OPENAI-API-KEY.txt", ".vault_pass", "secrets.yaml.bak.old"),
    ],
)
def test_denied(name):
    assert is_denied(name)


@pytest.mark.parametrize(
    "name",
    [
        *(".env.example", "environment.yml", "token.py", "credentials.py", "data/keys.txt", "secrets.py", "auth.py"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokens.json"),
        *("tokens.txt", "data/lang_char/tokens.txt", "vocab.json", "merges.txt", "tokenizer.model", "token/model.py"),
        *("answer_key.txt", "data/foreign_key.csv", "keypoints.json", "keys.json", "key.py", "history.json"),
        *(
            "training_history.csv",
            "pass.txt",
            "models/sparse_dsa/attention.py",
            "env/cartpole.py",
            "env.yaml",
            "envs/a.py",
        ),
        *("train.py.bak", "config.yaml", "config.old", "authors.json", "data/private/train.jsonl", "monkey.txt", "~"),
        *(
            "huggingface/train.py",
            "deploy.sh",
            "accounts.json",
            ".gitignore",
            ".python-version",
            "pip-requirements.txt",
        ),
    ],
)
def test_not_denied(name):
    assert not is_denied(name)


def test_a_planted_secret_is_never_read_nor_delivered(tmp_path):
    write(tmp_path, {".env": f"TOKEN={SECRET}", "x/id_rsa": SECRET, "train.py": "pass"})
    (tmp_path / "innocent.txt").symlink_to(".env")
    (tmp_path / "also.txt").symlink_to("x/id_rsa")
    tree = opened(tmp_path)
    assert paths(tree) == ["train.py"]
    assert SECRET not in repr([*tree.delivery(), *tree.notes])
    for name in (".env", "innocent.txt", "x/id_rsa"):
        with pytest.raises(UsageError):
            tree.read_text(name)


def test_the_digest_does_not_see_what_is_denied(tmp_path):
    before = opened(tmp_path, {"train.py": "pass", ".env": "A=1"}).digest
    assert opened(tmp_path, {".env": "A=2"}).digest == before
    assert opened(tmp_path, {"train.py": "other"}).digest != before


def test_links_are_read_inside_the_tree_only(tmp_path):
    outside = write(tmp_path / "outside", {"secret.txt": SECRET})
    root = write(tmp_path / "root", {"a.txt": "inside", "d/x.py": "x"})
    (root / "inside.txt").symlink_to("a.txt")
    (root / "out.txt").symlink_to(outside / "secret.txt")
    (root / "up.txt").symlink_to("../outside/secret.txt")
    (root / "outdir").symlink_to(outside)
    (root / "d/loop").symlink_to("..")
    (root / "self").symlink_to("self")
    tree = opened(root)
    assert paths(tree) == ["a.txt", "d/x.py", "inside.txt"]
    assert tree.read_text("inside.txt") == "inside"
    assert SECRET not in repr(list(tree.delivery()))
    assert any("d/loop" in n for n in tree.notes)


def test_a_link_to_what_is_ignored_is_left_out_like_it(tmp_path):
    write(tmp_path, {".gitignore": "private.txt\nown/\n", "private.txt": SECRET, "a.txt": "a", "own/b.txt": SECRET})
    (tmp_path / "link.txt").symlink_to("private.txt")
    (tmp_path / "second.txt").symlink_to("link.txt")
    (tmp_path / "deep.txt").symlink_to("own/b.txt")
    (tmp_path / "fine.txt").symlink_to("a.txt")
    tree = opened(tmp_path)
    assert paths(tree) == [".gitignore", "a.txt", "fine.txt"]
    assert SECRET not in repr(list(tree.delivery()))
    assert tree.left_out("link.txt") == ("link.txt",)
    assert any("link.txt is a link to private.txt" in n for n in tree.notes)


def test_links_that_lead_out_are_refused_and_not_merely_left_out(tmp_path):
    outside = write(tmp_path / "outside", {"secret.txt": SECRET})
    root = write(tmp_path / "root", {".gitignore": "own/\n", "a.txt": "a", "own/b.txt": "b", "d/x.py": "x"})
    (root / "data").symlink_to(outside)
    (root / "up").symlink_to("../outside")
    (root / "far").symlink_to("/proc")
    (root / "own/out").symlink_to(outside)
    (root / "around").symlink_to(outside / "back")
    (outside / "back").symlink_to(root / "d")
    tree = opened(root)
    for name in ("data", "up", "far", "data/secret.txt", "own/out", "..", "../outside", "d/../../outside"):
        assert tree.real(name) is None, name
    assert [tree.left_out(name) for name in ("data", "up", "far")] == [(), (), ()]
    assert tree.real("own/b.txt") == str(root / "own/b.txt")
    assert tree.left_out("own") == ("own",)


def test_a_file_that_became_a_link_out_of_the_tree_is_not_read(tmp_path):
    secret = write(tmp_path / "outside", {"secret.txt": SECRET}) / "secret.txt"
    root = write(tmp_path / "root", {"a.txt": "inside", "b.txt": "b"})
    tree = opened(root)
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(secret)
    with pytest.raises(UsageError):
        tree.read_bytes("a.txt")
    assert [p for p, _, _ in tree.delivery()] == ["b.txt"]


def test_special_and_vanished_files_are_notes(tmp_path):
    write(tmp_path, {"a.py": "a", "gone.py": "g"})
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
        tree = opened(tmp_path)
    (tmp_path / "gone.py").unlink()
    assert [p for p, _, _ in tree.delivery()] == ["a.py"]
    assert {n.split()[0] for n in tree.notes} >= {"pipe", "socket", "gone.py"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_notes(tmp_path):
    write(tmp_path, {"a.py": "a", "closed.py": "x", "dir/x.py": "x"})
    (tmp_path / "closed.py").chmod(0)
    (tmp_path / "dir").chmod(0)
    try:
        tree = opened(tmp_path)
        assert paths(tree) == ["a.py"]
        assert {n.split()[0] for n in tree.notes} == {"closed.py", "dir"}
    finally:
        (tmp_path / "dir").chmod(0o700)


def test_texts(tmp_path):
    tree = opened(
        tmp_path,
        {
            "bom.py": b"\xef\xbb\xbfx = 1\r\n",
            "bin.dat": b"a\0b",
            "latin.txt": b"caf\xe9",
            "long.txt": "x" * (MAX_TEXT + 9),
        },
    )
    assert tree.read_text("bom.py") == "x = 1\n"
    assert tree.read_text("latin.txt") == "caf\ufffd"
    assert len(tree.read_text("long.txt")) == MAX_TEXT
    assert tree.text("bin.dat") is None
    assert "bin.dat is no text." in tree.notes


def test_names_that_are_no_text_and_environments_are_left_out(tmp_path):
    write(
        tmp_path,
        {"a.py": "", "venv/pyvenv.cfg": "", "venv/lib/x.py": "", "__pycache__/a.pyc": "", "node_modules/x": ""},
    )
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py"))).write_text("x")
    tree = opened(tmp_path)
    assert paths(tree) == ["a.py"]
    assert any("no text" in n for n in tree.notes)


def test_nothing_is_written_into_the_repository(tmp_path):
    root = write(tmp_path / "root", {"a.py": "import b", "b.py": "x = 1"})
    before = sorted(root.rglob("*"))
    tree = opened(root)
    assert tree.digest
    assert sorted(root.rglob("*")) == before

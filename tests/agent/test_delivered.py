"""Code and data arrive in the job byte by byte: real graph, real built-in cluster, real processes, and a web server on
the loopback as the store. The cluster is taken for one that does not see this machine's files."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.beginning import new_run
from caravan.planning.answers import parse_set
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import ServiceError
from caravan.values.run import RunRecord, RunRequest, RunStatus
from machine import LocalControl
from main import Application
from tests.fakes.put_server import PutServer

TRAIN = """
import argparse, hashlib, json, os, pathlib

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--data", default="data/train.txt")
parser.add_argument("--output-dir", default="out")
args = parser.parse_args()


def looks(path):
    data = path.read_bytes()
    return [hashlib.sha256(data).hexdigest(), os.access(path, os.X_OK)]


class SGD:
    def step(self):
        pass


root = pathlib.Path(os.environ.get("WHOLE", "."))
files = {str(p): looks(p) for p in sorted(root.rglob("*")) if p.is_file() and ".git/" not in str(p)}
data = pathlib.Path(args.data)
found = sorted(data.rglob("*")) if data.is_dir() else [data]
seen = {p.name: looks(p)[0] for p in found if p.is_file()}
optimizer = SGD()
for epoch in range(args.epochs):
    optimizer.step()
    print(f"epoch {epoch} loss 0.5", flush=True)
out = pathlib.Path(args.output_dir)
out.mkdir(parents=True, exist_ok=True)
(out / "weights").write_text("0.5")
print("SEEN " + json.dumps({"files": files, "data": seen, "path": args.data}), flush=True)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    control = LocalControl(home / "cluster")
    control.up(None)
    yield home
    control.down()


@pytest.fixture
def store() -> Iterator[PutServer]:
    with closing(PutServer()) as made:
        yield made


def git(repository: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
    env = {"PATH": os.environ["PATH"], "HOME": str(repository), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(("git", *who, *words), cwd=repository, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "data").mkdir(parents=True)
    (root / "train.py").write_text(TRAIN)
    (root / "README.md").write_text("# Tiny\n\nTrain it:\n\n    python train.py --epochs 1\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "bytes.bin").write_bytes(bytes(range(256)) * 40)
    (root / "data" / "train.txt").write_text("one\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def pushed(repository: Path) -> str:
    """A bare remote that has it; its address."""
    bare = repository.parent / "remote.git"
    git(repository, "clone", "-q", "--bare", ".", str(bare))
    git(repository, "remote", "add", "origin", f"file://{bare}")
    git(repository, "fetch", "-q", "origin")
    return f"file://{bare}"


class Far(Application):
    """The application, for which the built-in cluster does not see this machine's files."""

    shared = False

    @contextmanager
    def context(self, record: Any, progress: Any) -> Iterator[Any]:
        with super().context(record, progress) as context:
            facts = context.facts

            def far() -> Any:
                return facts().model_copy(update={"shared_files": self.shared})

            yield replace(context, facts=far)


class Quiet:
    """A progress that keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Runs:
    """Runs of one state directory."""

    def __init__(self, home: Path) -> None:
        self.home, self.progress = home, Quiet()

    def start(self, repository: Path, *sets: str, **more: Any) -> RunRecord:
        request = {"prompt": "Train it", "source": str(repository), "cluster": "local", "yes": True, **more}
        record = new_run(RunRequest(**request, sets=tuple(map(parse_set, sets))), datetime.now(UTC))
        Application().store().create_run(record)
        return record

    def drive(self, record: RunRecord, reply: Reply | None = None, *, shared: bool = False) -> Any:
        app = Far()
        app.shared = shared
        now = app.store().run(record.id)
        with app.driver() as driver, app.context(now, self.progress) as context:
            return driver.drive(now, context, reply)

    def state(self, record: RunRecord) -> Any:
        with Far().driver() as driver:
            return driver.state(record.id)

    def seen(self, record: RunRecord) -> dict[str, Any]:
        logs = (self.home / "runs" / record.id).rglob("*.log")
        lines = [line for log in logs for line in log.read_text().splitlines() if line.startswith("SEEN ")]
        found: dict[str, Any] = json.loads(lines[-1].removeprefix("SEEN "))
        return found


@pytest.fixture
def runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setenv("CARAVAN_HOME", str(home))
    monkeypatch.setenv("CARAVAN_MEMORY", "0")
    return Runs(home)


def expected(root: Path) -> dict[str, Any]:
    """What is in the repository, as the training tells it."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and not name.startswith(".git/"):
            found[name] = [hashlib.sha256(path.read_bytes()).hexdigest(), os.access(path, os.X_OK)]
    return found


def succeeded(result: Any) -> RunRecord:
    assert isinstance(result, RunRecord), result
    assert result.status is RunStatus.SUCCEEDED, result.detail
    return result


def detail(result: Any) -> str:
    return f"{result.status} {result.detail}" if isinstance(result, RunRecord) else result.text


def test_a_copy_on_a_cluster_that_sees_our_files(runs: Runs, repository: Path) -> None:
    (repository / "new.txt").write_text("not committed")
    (repository / "logs").mkdir()
    record = runs.start(repository)
    succeeded(runs.drive(record, shared=True))
    plan = runs.state(record).plan
    assert (plan.code.kind, plan.code.uncommitted, plan.code.files) == ("archive", ("new.txt",), 6)
    assert runs.seen(record)["files"] == expected(repository)


def test_a_commit_that_a_remote_has(runs: Runs, repository: Path) -> None:
    address = pushed(repository)
    record = runs.start(repository, "code.kind=git")
    succeeded(runs.drive(record, shared=True))
    plan = runs.state(record).plan
    assert (plan.code.kind, plan.code.location) == ("git", address)
    assert plan.code.ref == git(repository, "rev-parse", "HEAD")
    assert runs.seen(record)["files"] == expected(repository)


def test_a_directory_of_a_repository(runs: Runs, repository: Path) -> None:
    inner = repository / "inner"
    inner.mkdir()
    (inner / "train.py").write_text(TRAIN)
    (inner / "README.md").write_text("Train it:\n\n    python train.py --epochs 1 --data ../data/train.txt\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "inner")
    pushed(repository)
    record = runs.start(inner, "code.kind=git")
    succeeded(runs.drive(record, shared=True))
    assert runs.state(record).plan.code.subdir == "inner"
    assert runs.seen(record)["files"] == expected(inner)


@pytest.mark.parametrize("change", ["new.txt", "train.py"])
def test_what_is_not_committed_is_refused_by_name(runs: Runs, repository: Path, change: str) -> None:
    pushed(repository)
    with (repository / change).open("a") as file:
        file.write("\n# changed\n")
    record = runs.start(repository, "code.kind=git")
    said = detail(runs.drive(record, shared=True))
    assert f"1 file is not committed (see `git status`: {change})" in said


def test_an_archive_is_put_once_and_arrives(
    runs: Runs, repository: Path, store: PutServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_CODE_STORE", f"{store.url}/caravan")
    (repository / "new.txt").write_text("not committed")
    (repository / "secret.key").write_text("nobody sends this")
    record = runs.start(repository)
    succeeded(runs.drive(record))
    code = runs.state(record).plan.code
    assert code.location == f"{store.url}/caravan/code-{code.sha256}.tar.gz"
    assert code.uncommitted == ("new.txt", "secret.key")
    wanted = expected(repository)
    del wanted["secret.key"]
    assert runs.seen(record)["files"] == wanted
    again = runs.start(repository)
    succeeded(runs.drive(again))
    assert store.puts() == [f"/caravan/code-{code.sha256}.tar.gz"]
    assert any("nothing was sent" in note for note in runs.progress.notes)


def test_nothing_leaves_before_approval(
    runs: Runs, repository: Path, store: PutServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CARAVAN_CODE_STORE", f"{store.url}/caravan")
    monkeypatch.setenv("CARAVAN_DATA_STORE", f"{store.url}/caravan")
    data = tmp_path / "mine.txt"
    data.write_text("mine")
    record = runs.start(repository, f"dataset.path={data}", yes=False)
    ask = runs.drive(record)
    while isinstance(ask, Ask) and ask.kind is AskKind.QUESTIONS:
        ask = runs.drive(record, Reply())
    assert isinstance(ask, Ask)
    assert ask.plan is not None
    assert ask.plan.code.location.startswith(store.url)
    assert store.asked == []
    runs.drive(record, Reply(approved=False, why="no"))
    assert store.asked == []


def test_an_upload_that_breaks_is_made_good_by_a_resume(
    runs: Runs, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(PutServer(break_after=10)) as store:
        monkeypatch.setenv("CARAVAN_CODE_STORE", f"{store.url}/caravan")
        record = runs.start(repository)
        with pytest.raises(ServiceError, match="can't be reached"):
            runs.drive(record)
        assert runs.state(record).attempts == ()  # half an object is not removed, and nothing is deployed with it
        succeeded(runs.drive(record))
        assert runs.seen(record)["files"] == expected(repository)
        assert [a.number for a in runs.state(record).attempts] == [1]


def test_a_wrong_checksum_is_never_trained(
    runs: Runs, repository: Path, store: PutServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.objects["/code.tar.gz"] = b"something else"
    record = runs.start(
        repository, "code.kind=archive", f"code.location={store.url}/code.tar.gz", f"code.sha256={'0' * 64}"
    )
    runs.drive(record)
    logs = (runs.home / "runs" / record.id).rglob("*.log")
    assert not any("SEEN" in log.read_text() for log in logs)
    assert "hecksum" in str(runs.state(record).attempts[0])


@pytest.mark.parametrize("folder", [False, True])
def test_data_is_put_once_and_arrives(
    runs: Runs, repository: Path, store: PutServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: bool
) -> None:
    monkeypatch.setenv("CARAVAN_CODE_STORE", f"{store.url}/caravan")
    monkeypatch.setenv("CARAVAN_DATA_STORE", f"{store.url}/data")
    data = tmp_path / ("my corpus" if folder else "my corpus.txt.gz")
    if folder:
        (data / "deep").mkdir(parents=True)
        (data / "deep" / "b.txt").write_text("b")
        (data / "a.txt").write_text("a")
    else:
        data.write_bytes(b"\x1f\x8bnot really")
    for _ in range(2):
        record = runs.start(repository, f"dataset.path={data}")
        succeeded(runs.drive(record))
        found = runs.state(record).plan.data
        assert (found.kind, found.local) == ("upload", str(data))
        files = [p for p in data.rglob("*") if p.is_file()] if folder else [data]
        assert runs.seen(record)["data"] == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
        assert runs.seen(record)["path"].endswith(f"/local/data/{data.name}")
    assert len([path for path in store.puts() if path.startswith("/data/")]) == 1


def test_data_that_git_ignores_is_sent_and_laid_where_the_code_looks(
    runs: Runs, repository: Path, store: PutServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_CODE_STORE", f"{store.url}/caravan")
    monkeypatch.setenv("CARAVAN_DATA_STORE", f"{store.url}/caravan")
    git(repository, "rm", "-q", "--cached", "data/train.txt")
    (repository / ".gitignore").write_text("data/*\n")
    record = runs.start(repository, "dataset.path=data/train.txt")
    succeeded(runs.drive(record))
    assert runs.state(record).plan.data.link == "data/train.txt"
    seen = runs.seen(record)
    assert seen["data"] == {"train.txt": hashlib.sha256(b"one\n").hexdigest()}
    assert seen["path"] == "data/train.txt"


def test_data_that_can_not_get_there_is_refused_with_its_size_and_the_choices(
    runs: Runs, repository: Path, store: PutServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CARAVAN_CODE_STORE", f"{store.url}/caravan")
    data = tmp_path / "mine.txt"
    data.write_bytes(bytes(2_500_000))
    said = detail(runs.drive(runs.start(repository, f"dataset.path={data}")))
    assert f"The data {data} (2.5 MB, 1 files) is on this machine alone" in said
    assert "data.kind=volume" in said
    assert "CARAVAN_DATA_STORE" in said


def test_data_is_read_where_it_lies_on_a_cluster_that_sees_it(runs: Runs, repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "mine.txt"
    data.write_text("mine")
    record = runs.start(repository, f"dataset.path={data}")
    succeeded(runs.drive(record, shared=True))
    assert runs.state(record).plan.data.kind == "shared"
    assert runs.seen(record)["path"] == str(data)


def test_code_that_can_not_get_there_is_refused_with_the_choices(runs: Runs, repository: Path) -> None:
    said = detail(runs.drive(runs.start(repository)))
    assert "its git repository has no remote" in said
    assert "CARAVAN_CODE_STORE" in said


def test_code_on_a_directory_of_the_node(runs: Runs, repository: Path) -> None:
    record = runs.start(repository, "code.kind=mount", f"code.location={repository}")
    succeeded(runs.drive(record, shared=True))
    assert {k: v for k, v in runs.seen(record)["files"].items() if "pycache" not in k} == expected(repository)

"""Bad input through the real command line and the real adapters: one line, the right exit code, nothing lost."""

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.local import control
from caravan.terminal import app
from caravan.terminal.streams import Terminal
from caravan.values.errors import CaravanError
from main import Application

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.parse_args()
print("loss 1.0")
"""


@dataclass
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class Product:
    """The command line over one state directory, in this process."""

    home: Path
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str, **environment: str) -> Answer:
        with self.monkeypatch.context() as patched:
            for name, value in {"CARAVAN_HOME": str(self.home), **environment}.items():
                patched.setenv(name, value)
            terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
            application = Application()
            code = app.run(application, arguments, terminal)
            if "_store" in vars(application):
                application.store().close()
        return Answer(code, terminal.stdout.getvalue(), terminal.stderr.getvalue())  # type: ignore[attr-defined]

    def refused(self, *arguments: str, **environment: str) -> str:
        """The one line of a command that fails."""
        answer = self.run(*arguments, **environment)
        assert answer.code == 2, answer
        lines = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1
        assert answer.err.splitlines()[-1] == lines[0]
        assert "Traceback" not in answer.err
        if "--json" in arguments:
            assert answer.document["exit_code"] == 2
        return lines[0]


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Product]:
    yield Product(tmp_path / "home", monkeypatch)
    with contextlib.suppress(CaravanError, OSError):  # the state may be no directory by now
        control.stop(tmp_path / "home" / "cluster")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "train.py").write_text(SCRIPT)
    (root / "README.md").write_text("    python train.py --epochs 1\n")
    return root


def job(repository: Path, *more: str) -> tuple[str, ...]:
    return ("--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local", "--yes", "--json", *more)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A state directory with a run that waits for approval, and the run's id."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        base = tmp_path_factory.mktemp("planned")
        (base / "repository").mkdir()
        (base / "repository" / "train.py").write_text(SCRIPT)
        product = Product(base / "home", monkeypatch)
        answer = product.run(*(a for a in job(base / "repository") if a != "--yes"))
        assert answer.code == 3, answer
        product.run("cluster", "down")
        yield base / "home", answer.document["run_id"]


@pytest.fixture
def waiting(planned: tuple[Path, str], product: Product) -> str:
    """The waiting run in a copy of its state directory."""
    home, run_id = planned
    shutil.copytree(home, product.home, ignore=shutil.ignore_patterns("cluster"))
    return run_id


# ---- what the user types


@pytest.mark.parametrize(
    "address",
    [
        "x",
        "http://",
        "http://[",
        "http://[::1",
        "http://x:99999",
        "http://x y",
        "http://" + "a" * 300,
        "127.0.0.1:4646",
    ],
)
def test_an_address_that_is_none_is_wrong_use(product: Product, repository: Path, address: str) -> None:
    given = ("--prompt", "x", "--codebase-path", str(repository), "--json")
    assert "is no cluster" in product.refused(*given, "--cluster", address)
    assert "is no cluster" in product.refused(*given, NOMAD_ADDR=address)
    assert product.run("runs", "--json").document in ([], {"runs": []})


@pytest.mark.parametrize(
    "setting",
    [
        *("", "=", "training.epochs=nan", "resources.memory_mb=99999999999999999999", "x." * 5000 + "y=1"),
        *(
            "training.seed=" + "9" * 5000,
            "training.epochs=" + "[" * 20_000,
            'training.options={"--x": 99999999999999999999}',
        ),
    ],
)
def test_settings_of_the_plan_that_fit_nowhere_are_wrong_use(product: Product, repository: Path, setting: str) -> None:
    assert len(product.refused(*job(repository, "--set", setting))) < 1300


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"[1]", b"[" * 100_000, b"a: \0", b"\ta: 1", b"a: &a [*a]", b"a: !!python/object:x {}", b"1: 2"],
)
def test_answers_that_are_none_are_wrong_use(
    product: Product, repository: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "answers").write_bytes(content)
    assert "answers file" in product.refused(*job(repository, "--answers", str(tmp_path / "answers")))


@pytest.mark.parametrize("run_id", ["../x", "..", "/etc/passwd", "%", "*", "a\nb", "'; drop table runs;--", "\udcff"])
@pytest.mark.parametrize("command", ["show", "logs", "report", "traces", "resume", "stop", "delete"])
def test_ids_with_tricks_name_no_run(product: Product, command: str, run_id: str) -> None:
    assert "There is no run" in product.refused(command, run_id)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("CARAVAN_HOME", "  "), ("CARAVAN_HOME", "~no-such-user/x"), ("CARAVAN_MAX_LOG_MB", "0")),
        *(("CARAVAN_MAX_ARCHIVE_MB", "1e3"), ("CARAVAN_SOFT_LIMIT_USD", "nan"), ("CARAVAN_MEMORY", "perhaps")),
    ],
)
def test_a_wrong_setting_is_named(product: Product, name: str, value: str) -> None:
    said = product.refused("config", **{name: value})
    assert said.startswith(f"Error: {name}: ")
    assert "Value error" not in said


@pytest.mark.parametrize(
    "redirection", ["<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "--json >/dev/full", "--json 2>&1 >/dev/full"]
)
def test_streams_that_take_nothing_are_no_crash(product: Product, redirection: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" main.py runs {redirection}'],
        cwd=ROOT,
        env={**os.environ, "CARAVAN_HOME": str(product.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    assert "unexpectedly" not in done.stderr
    assert "Exception ignored" not in done.stderr


# ---- the state directory


def test_a_relative_state_directory_is_one_directory_from_everywhere(
    product: Product, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    product.home = Path("state/with blank's ü")
    try:
        document = product.run(*job(repository, "--dry-run")).document
    finally:
        product.run("cluster", "down")
    assert document["status"] == "planned"
    assert Path(document["hcl_path"]).is_absolute()
    assert document["outputs"]["location"].startswith(str(tmp_path / "state"))


def _sql(name: str, *statements: str) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        connection = sqlite3.connect(home / name)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return damage


def _content(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        for journal in home.glob(f"{name}-*"):
            journal.unlink()
        (home / name).write_bytes(content)

    return damage


def _directory(name: str) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        (home / name).unlink()
        (home / name).mkdir()

    return damage


def _emptied(name: str) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        (home / f"{name}-wal").write_bytes(b"x" * 100)
        (home / name).write_bytes(b"")

    return damage


DAMAGES = {
    "database of junk": (_content("caravan.db", b"junk" * 1000), "caravan.db"),
    "database cut": (_content("caravan.db", b"SQLite format 3\0" + b"\0" * 50), "caravan.db"),
    "database a directory": (_directory("caravan.db"), "caravan.db"),
    "database empty beside its journal": (_emptied("caravan.db"), "caravan.db"),
    "database of a newer version": (_sql("caravan.db", "UPDATE alembic_version SET version_num = '9999'"), "9999"),
    "a request that is no JSON": (_sql("caravan.db", "UPDATE runs SET request = '{'"), "caravan.db"),
    "a request of another version": (_sql("caravan.db", "UPDATE runs SET request = '[1]'"), "does not fit"),
    "a time that is none": (_sql("caravan.db", "UPDATE runs SET created_at = 'x'"), "caravan.db"),
    "checkpoints of junk": (_content("checkpoints.db", b"junk" * 1000), "checkpoints.db"),
    "checkpoints a directory": (_directory("checkpoints.db"), "checkpoints.db"),
    "checkpoints empty beside their journal": (_emptied("checkpoints.db"), "checkpoints.db"),
    "a checkpoint of junk": (_sql("checkpoints.db", "UPDATE checkpoints SET checkpoint = x'00ff'"), "can't be read"),
    "checkpoints of other columns": (
        _sql("checkpoints.db", "DROP TABLE writes", "CREATE TABLE writes (x)"),
        "checkpoints.db",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state_is_one_line_and_is_not_made_worse(product: Product, waiting: str, damage: str) -> None:
    act, word = DAMAGES[damage]
    act(product.home)
    before = (product.home / "runs" / waiting / "plan.yaml").read_bytes()
    for command in (("show", waiting), ("show", waiting, "--json"), ("resume", waiting, "--approve", "--json")):
        assert word in product.refused(*command)
    assert (product.home / "runs" / waiting / "plan.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("traces/{}.jsonl", "traces"),
        ("traces/{}.jsonl", "delete"),
        ("runs/{}/REPORT.md", "report"),
        ("runs/{}/.lock", "delete"),
        ("runs/{}/logs/a.train.stdout.log", "logs"),
    ],
)
def test_a_directory_in_a_files_place_is_named(product: Product, waiting: str, name: str, command: str) -> None:
    path = product.home / name.format(waiting)
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)
    assert str(path) in product.refused(command, waiting, *{"delete": ["--yes"], "report": ["--json"]}.get(command, []))


@pytest.mark.parametrize("trace", [b"", b"\0\xff" * 500, b"[]\n{}\n", b"[" * 100_000, b'{"span": 1}\n{"span": "x"}\n'])
def test_a_trace_of_junk_harms_nothing(product: Product, waiting: str, trace: bytes) -> None:
    (product.home / "traces" / f"{waiting}.jsonl").write_bytes(trace)
    assert product.run("traces", waiting).code in (0, 2)
    assert product.run("show", waiting, "--json").document["status"] == "waiting"


def test_a_run_whose_folder_is_gone_can_be_shown_and_deleted(product: Product, waiting: str) -> None:
    shutil.rmtree(product.home / "runs")
    assert product.run("show", waiting, "--json").document["status"] == "waiting"
    assert product.run("delete", waiting, "--yes").code == 0
    assert "There is no run" in product.refused("show", waiting)


FULL = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = sys.argv[1:]
from main import main
sys.exit(main())
"""


@pytest.mark.parametrize("room", [0, 1000, 40_000, 60_000])
def test_no_room_for_a_write_is_one_line_and_the_run_goes_on_later(
    product: Product, waiting: str, tmp_path: Path, room: int
) -> None:
    """A limit on the size of files fails writes as a full disk does, at another place for each limit."""
    before = {p.name for p in (product.home / "runs" / waiting).iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(room), "resume", waiting, "--reject", "--json"],
        cwd=ROOT,
        env={**os.environ, "CARAVAN_HOME": str(product.home), "CARAVAN_MEMORY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (2, 4), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    left = {p.name for p in (product.home / "runs" / waiting).iterdir()} - before
    assert not [name for name in left if name.endswith(".tmp")]
    try:
        answer = product.run("resume", waiting, "--reject", "--json", CARAVAN_MEMORY="0")
        if "waits for no answer" in answer.err:  # the answer was kept before there was no room
            answer = product.run("resume", waiting, "--json", CARAVAN_MEMORY="0")
    finally:
        product.run("cluster", "down")
    assert answer.document["status"] == "rejected"


@pytest.mark.parametrize("name", ["-train.py", "train\nx.py", "train $(touch ran) ${env.X}.py", "dir -x/tr'ain\".py"])
def test_a_script_of_any_name_is_started_as_what_it_is(product: Product, tmp_path: Path, name: str) -> None:
    script = tmp_path / "odd" / name
    script.parent.mkdir(parents=True)
    script.write_text(f"for batch in []:\n    loss.backward()\n{SCRIPT}")
    try:
        answer = product.run(*job(tmp_path / "odd"))
    finally:
        product.run("cluster", "down")
    assert answer.document["status"] == "succeeded", answer.err


# ---- the task's output

FLOOD = """
import os
out = os.fdopen(1, "wb", 0)
out.write(b"\\x1b]0;title\\x07\\x1b[2J" + bytes(range(256)) + b"\\n")
out.write(b"x" * 3_000_000 + b"\\n")
out.write((b"step 1 " + b"." * 60 + b"\\n") * 90_000)
out.write(b"tok"); out.write(b"en=hf_abcdefabcdefabcdef12\\r")
out.write(b"THE END\\n")
"""


def test_a_flood_of_odd_output_is_bounded_masked_and_harms_no_terminal(product: Product, repository: Path) -> None:
    (repository / "train.py").write_text(SCRIPT + FLOOD)
    try:
        answer = product.run(*job(repository), CARAVAN_MAX_LOG_MB="1")
    finally:
        product.run("cluster", "down")
    document = answer.document
    assert document["status"] == "succeeded"
    logs = sorted((product.home / "runs" / document["run_id"] / "logs").glob("*.log"))
    copied = b"".join(path.read_bytes() for path in logs)
    assert len(copied) < 5_000_000
    assert b"bytes of the log are left out here" in copied
    assert b" bytes left out]\n" in copied  # of the line that had no end
    assert b"hf_abcdef" not in copied
    assert b"\x1b" not in answer.err.encode()
    shown = product.run("logs", document["run_id"]).out
    assert "\x1b" not in shown
    assert shown.rstrip().endswith("THE END")


_DEFECT = """
import sys
import caravan.terminal.app
import main

def run(*_):
    raise RuntimeError("no row for correct-horse-battery")

caravan.terminal.app.run = run
sys.exit(main.main(["runs"]))
"""


def test_a_defect_of_ours_tells_no_secret(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "CARAVAN_HOME": str(tmp_path), "NOMAD_TOKEN": "correct-horse-battery"}
    done = subprocess.run(
        [sys.executable, "-c", _DEFECT], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 70
    assert "Caravan failed unexpectedly: RuntimeError: no row for" in done.stderr
    assert "correct-horse" not in done.stderr

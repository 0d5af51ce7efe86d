"""The command line as a whole: help, wrong use, errors as one line and one document, small commands."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from caravan.terminal.app import COMMANDS, GROUPS, build_app, run
from caravan.terminal.streams import Terminal
from caravan.values.errors import ClusterUnreachable
from caravan.values.run import RunEvent, RunRecord, RunRequest, RunStatus
from tests.fakes.store import MemoryStore
from tests.fakes.wiring import FakeWiring, nobody, printed


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


def record(wiring: FakeWiring, run_id: str = "abc12345", status: RunStatus = RunStatus.SUCCEEDED) -> RunRecord:
    made = RunRecord(
        id=run_id,
        created_at=wiring.clock.now(),
        updated_at=wiring.clock.now(),
        status=status,
        request=RunRequest(prompt="train \x1b[31mit", source="/repo"),
    )
    wiring.runs.create_run(made)
    return made


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from caravan.terminal.app import run; run(None, ['--help']);"
        "sys.exit(', '.join({'pydantic', 'rich', 'yaml', 'langgraph', 'sqlalchemy'} & sys.modules.keys()) or 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FakeWiring(Path("/nowhere")), ["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name in (*COMMANDS, "cluster", "--prompt", "--codebase-path", "--answers", "--set", "--budget", "--dry-run"):
        assert name in out


def test_summaries_are_the_docstrings() -> None:
    commands = {c.name: c for c in build_app().registered_commands}
    for name, (_, summary) in COMMANDS.items():
        callback = commands[name].callback
        assert callback is not None
        assert (callback.__doc__ or "").splitlines()[0] == summary


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS, *(f"{g} {c}" for g, (_, inner) in GROUPS.items() for c in inner)])
def test_every_command_has_its_help(name: str, wiring: FakeWiring, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(wiring, [*name.split(), "--help"]) == 0
    assert f"Usage: main.py {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "--prompt TEXT"),
        (["--frobnicate"], "No such option: --frobnicate"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["wacht"], "Did you mean 'watch'? See "),
        (["show"], "Missing argument 'RUN'"),
        (["cluster"], "Missing command"),
        (["runs", "--limit", "0"], "--limit"),
        (["--budget", "much"], "--budget"),
        (["--budget", "0", "runs"], "--budget stands before the command 'runs'"),
        (["--dry-run", "config"], "--dry-run stands before the command 'config'"),
        (["show", "nope"], "nope"),
        (["cluster", "up", "--inventory", "/none.json"], "/none.json"),
        (["completion", "tcsh"], "Invalid value for 'SHELL': 'tcsh' is not one of"),
        (["logs", "nope", "\x1b[31m"], "unexpected extra argument"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_use_is_one_line_and_code_2(argv: list[str], says: str, as_json: bool, wiring: FakeWiring) -> None:
    terminal = nobody()
    assert run(wiring, [*argv, "--json"] if as_json else argv, terminal) == 2
    out, err = printed(terminal)
    assert err.count("\n") == 1
    assert "\x1b" not in err
    if not as_json:
        assert out == ""
        assert says in err
    else:
        document = json.loads(out)
        assert document["exit_code"] == 2
        assert document["error"]


def test_an_error_of_the_tree_has_its_code_and_document(wiring: FakeWiring) -> None:
    def fail() -> MemoryStore:
        raise ClusterUnreachable("No answer\nfrom http://x.", hint="Start it.")

    wiring.store = fail  # type: ignore[method-assign]
    terminal = nobody()
    assert run(wiring, ["runs", "--json"], terminal) == 4
    out, err = printed(terminal)
    assert json.loads(out) == {"error": "No answer from http://x.", "hint": "Start it.", "exit_code": 4}
    assert err == "Error: No answer from http://x. Start it.\n"


def test_traceback_only_with_debug(wiring: FakeWiring) -> None:
    quiet, loud = nobody(), nobody()
    assert run(wiring, ["show", "nope"], quiet) == run(wiring, ["--debug", "show", "nope"], loud) == 2
    assert "Traceback" not in printed(quiet)[1]
    assert "Traceback" in printed(loud)[1]
    assert run(wiring, ["show", "nope", "--debug"], nobody()) == 2


def test_interrupt_anywhere_is_130(wiring: FakeWiring) -> None:
    def interrupted() -> MemoryStore:
        raise KeyboardInterrupt

    wiring.store = interrupted  # type: ignore[method-assign]
    terminal = nobody()
    assert run(wiring, ["runs"], terminal) == 130
    assert printed(terminal)[1] == "Interrupted.\n"


class _Broken(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_a_reader_that_left_is_no_error(wiring: FakeWiring) -> None:
    record(wiring)
    terminal = Terminal(io.StringIO(), _Broken(), io.StringIO())
    for argv in (["runs"], ["runs", "--json"], ["show", "abc"], ["config"]):
        assert run(wiring, argv, terminal) == 0
    assert printed(terminal)[1] == ""
    assert run(wiring, ["show", "nope", "--json"], Terminal(io.StringIO(), _Broken(), _Broken())) == 2


def test_closed_streams(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert run(wiring, ["runs"]) == 0
    assert run(wiring, ["show", "nope"]) == 2


def test_runs(wiring: FakeWiring) -> None:
    terminal = nobody()
    assert run(wiring, ["runs"], terminal) == 0
    assert printed(terminal)[0] == "There are no runs yet.\n"
    record(wiring)
    terminal = nobody()
    assert run(wiring, ["runs"], terminal) == 0
    out, _ = printed(terminal)
    assert "abc12345" in out
    assert "succeeded" in out
    assert "\x1b" not in out


def test_runs_as_json(wiring: FakeWiring) -> None:
    record(wiring, "aaaa1111")
    record(wiring, "bbbb2222", RunStatus.WAITING)
    terminal = nobody()
    assert run(wiring, ["runs", "--json", "--limit", "1"], terminal) == 0
    (only,) = json.loads(printed(terminal)[0])
    assert only["run_id"] == "bbbb2222"
    assert only["status"] == "waiting"
    assert only["source"] == "/repo"


def test_show(wiring: FakeWiring) -> None:
    made = record(wiring)
    wiring.runs.add_event(made.id, RunEvent(at=wiring.clock.now(), kind="deployed", text="as [bold]a01[/bold]\x07"))
    terminal = nobody()
    assert run(wiring, ["show", "abc"], terminal) == 0
    out, _ = printed(terminal)
    assert "as [bold]a01[/bold]\\x07" in out
    terminal = nobody()
    assert run(wiring, ["show", "abc", "--json"], terminal) == 0
    document = json.loads(printed(terminal)[0])
    assert document["run_id"] == "abc12345"
    assert document["events"][0]["kind"] == "deployed"


def test_config(wiring: FakeWiring) -> None:
    terminal = nobody()
    assert run(wiring, ["config"], terminal) == 0
    out = printed(terminal)[0]
    assert "[masked]" in out
    assert "/etc/caravan/caravan.toml:3" in out
    assert "soft_limit_usd" not in out
    assert "1 other has its default" in out
    terminal = nobody()
    assert run(wiring, ["config", "--all"], terminal) == 0
    assert "CARAVAN_SOFT_LIMIT_USD" in printed(terminal)[0]
    terminal = nobody()
    assert run(wiring, ["config", "--json"], terminal) == 0
    assert json.loads(printed(terminal)[0])[1]["value"] == "[masked]"


def test_cluster(wiring: FakeWiring, tmp_path: Path) -> None:
    inventory = tmp_path / "nodes.json"
    inventory.write_text("{}")
    for argv, says in (
        (["cluster", "status"], "does not run"),
        (["cluster", "up", "--inventory", str(inventory)], "http://127.0.0.1:1"),
        (["cluster", "status"], "http://127.0.0.1:1"),
        (["cluster", "down"], "has ended"),
        (["cluster", "down"], "was not running"),
        (["cluster", "cache"], "5.4 GB in /state/cache"),
        (["cluster", "cache", "--clear"], "5.4 GB were removed"),
        (["cluster", "cache"], "0 bytes"),
    ):
        terminal = nobody()
        assert run(wiring, argv, terminal) == 0
        assert says in printed(terminal)[0]
    documents = []
    for name in ("status", "up", "status"):
        terminal = nobody()
        assert run(wiring, ["cluster", name, "--json"], terminal) == 0
        documents.append(json.loads(printed(terminal)[0]))
    assert documents[0] == {"running": False}
    assert documents[1]["token_file"] == "/state/token"
    assert documents[2] == {"running": True, **documents[1]}


def test_analyze(wiring: FakeWiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repo"
    repository.mkdir()
    (repository / "train.py").write_text(
        "import argparse\nimport torch\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--lr', type=float, default=0.1, help='\\x1b[31m')\nargs = parser.parse_args()\n"
        "model = torch.nn.Linear(1, 1)\noptimizer = torch.optim.SGD(model.parameters(), lr=args.lr)\n"
        "for epoch in range(3):\n    loss = model(torch.ones(1)).sum()\n    loss.backward()\n    optimizer.step()\n"
    )
    monkeypatch.chdir(tmp_path)
    terminal = nobody()
    assert run(wiring, ["analyze", "repo"], terminal) == 0
    out, _ = printed(terminal)
    assert "train.py" in out
    assert "because it" in out
    assert "computes gradients" in out
    assert "\x1b" not in out
    terminal = nobody()
    assert run(wiring, ["analyze", "repo", "--prompt", "train it", "--json"], terminal) == 0
    document = json.loads(printed(terminal)[0])
    assert document["entry_point"] == "train.py"
    assert {"launcher", "key_hyperparameters", "hazards", "candidates", "evidence", "confidence"} <= document.keys()
    assert run(wiring, ["analyze", "nowhere"], nobody()) == 2

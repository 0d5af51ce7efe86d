"""Completion: what is offered for a word, and that the shells take the scripts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caravan.terminal.app import COMMANDS, COMPLETE, GROUPS, run
from caravan.terminal.completing import complete
from caravan.terminal.completion import Shell, script
from caravan.values.errors import StateError
from tests.fakes.wiring import FakeWiring, nobody, printed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    for run_id in ("abc12345", "abd99999"):
        (tmp_path / "runs" / run_id).mkdir(parents=True)
    return FakeWiring(tmp_path)


def offered(wiring: FakeWiring, *words: str) -> list[str]:
    return [value for _, found in [complete(wiring, words)] for value, _ in found]


def test_commands_and_options(wiring: FakeWiring) -> None:
    assert set(offered(wiring, "")) == {*COMMANDS, *GROUPS}
    assert offered(wiring, "mo") == ["models"]
    assert set(offered(wiring, "models", "")) == set(GROUPS["models"][1])
    assert offered(wiring, "--json", "models", "pro") == ["promote"]
    assert offered(wiring, "--pro") == ["--prompt"]
    assert "--follow" in offered(wiring, "logs", "--")
    assert "--setting" in offered(wiring, "logs", "--")
    assert "--agent" not in offered(wiring, "resume", "--")  # hidden
    assert offered(wiring, "nothing", "") == []


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("show", "ab"), {"abc12345", "abd99999"}),
        (("show", "abc12345", "ab"), set()),
        (("compare", "abc12345", "ab"), {"abc12345", "abd99999"}),
        (("--cluster", ""), {"local", "prod"}),
        (("--cluster=p",), {"--cluster=prod"}),
        (("runs", "--status", "suc"), {"succeeded"}),
        (("models", "list", "--stage", "st"), {"staging"}),
        (("config", "set", "soft"), {"soft_limit_usd"}),
        (("--setting", "soft"), {"soft_limit_usd="}),
        (("runs", "--setting=soft"), {"--setting=soft_limit_usd="}),
        (("--yes", "--set", "training.micro"), {"training.micro_batch="}),
        (("completion", "z"), {"zsh"}),
        (("memory", "list", "--class", "launcher"), {"launcher_misconfigured"}),
        (("prompts", "show", "ques"), {"questions"}),
        (("runs", "--limit", ""), set()),
    ],
)
def test_values(wiring: FakeWiring, words: tuple[str, ...], values: set[str]) -> None:
    assert set(offered(wiring, *words)) == values


def test_what_the_shell_does_with_them(wiring: FakeWiring) -> None:
    assert complete(wiring, ["--set", "training.micro"])[0] == ":nospace"
    assert complete(wiring, ["--codebase-path", ""])[0] == ":files"
    assert complete(wiring, ["runs", "--config", ""])[0] == ":files"
    assert complete(wiring, ["show", ""])[0] == ":values"


def test_nothing_is_offered_and_nothing_said_where_something_is_wrong(
    wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise StateError("no")

    monkeypatch.setattr(wiring, "settings", broken)
    terminal = nobody()
    assert run(wiring, [COMPLETE, "config", "set", "so"], terminal) == 0
    assert printed(terminal) == (":values\n", "")
    shutil.rmtree(wiring.home / "runs")
    terminal = nobody()
    assert run(wiring, [COMPLETE, "show", ""], terminal) == 0
    assert printed(terminal) == (":values\n", "")


def test_a_run_with_signs_in_its_name_harms_no_terminal(wiring: FakeWiring) -> None:
    (wiring.home / "runs" / "abc\x1b[31m\nx").mkdir()
    terminal = nobody()
    assert run(wiring, [COMPLETE, "show", "abc"], terminal) == 0
    out, _ = printed(terminal)
    assert "\x1b" not in out
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize("shell", list(Shell))
def test_the_script_is_printed(wiring: FakeWiring, shell: Shell) -> None:
    terminal = nobody()
    assert run(wiring, ["completion", shell.value], terminal) == 0
    assert printed(terminal)[0] == script(shell)
    terminal = nobody()
    assert run(wiring, ["completion", shell.value, "--json"], terminal) == 0
    assert json.loads(printed(terminal)[0])["script"] == script(shell)
    program = shutil.which(shell.value)
    if program is None:
        pytest.skip(f"no {shell.value} here")
    done = subprocess.run([program, "-n"], input=script(shell), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def asked(tmp_path: Path, program: str, line: str) -> list[str]:
    """What the shell's own function comes to; its words are `line`'s."""
    environment = {"CARAVAN_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    found = Path(shutil.which(program) or program)
    done = subprocess.run(
        [str(found), *(["--norc"] if program == "bash" else []), "-c", line],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**environment, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


BASH = r"""
source {script}
compopt() {{ [[ $2 == nospace ]] && echo nospace; true; }}  # outside of a completion there is nothing to set
COMP_WORDS=({words}); COMP_CWORD=$(({count} - 1))
{function}
printf '%s\n' "${{COMPREPLY[@]}}"
complete -p {command}
"""


@pytest.mark.parametrize(
    ("words", "function", "replies"),
    [
        (["main.py", "mod"], "_caravan_main", ["models"]),
        (["main.py", "show", "abc"], "_caravan_main", ["abc12345"]),
        (["python", str(ROOT / "main.py"), "mod"], "_caravan_python", ["models"]),
        (["python", "other.py", "mod"], "_caravan_python", [""]),
        # bash splits at = and keeps the part before it
        (["main.py", "--setting", "soft_limit"], "_caravan_main", ["nospace", "soft_limit_usd="]),
        (["main.py", "runs", "--status", "=", "succ"], "_caravan_main", ["succeeded"]),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], function: str, replies: list[str]) -> None:
    (tmp_path / "runs" / "abc12345").mkdir(parents=True)
    (tmp_path / "script").write_text(script(Shell.BASH))
    quoted = " ".join(f"'{word}'" for word in words)
    line = BASH.format(script=tmp_path / "script", words=quoted, count=len(words), function=function, command=words[0])
    *found, told = asked(tmp_path, "bash", line)
    assert found == replies
    assert function in told


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script(Shell.FISH))
    for words in ("main.py mod", f"python {ROOT / 'main.py'} mod"):
        (reply,) = asked(tmp_path, "fish", f"source {tmp_path / 'script'}; complete -C '{words}'")
        assert reply.startswith("models\t")
    assert asked(tmp_path, "fish", f"source {tmp_path / 'script'}; complete -C 'python other.py mod'") == []


def test_it_is_installed_once(wiring: FakeWiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home with blanks"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / ".bashrc").write_text("alias x=y")  # without a last line break
    for shell, files in (("bash", 2), ("zsh", 2), ("fish", 1)):
        for count in (files, 0):
            terminal = nobody()
            assert run(wiring, ["completion", shell, "--install", "--json"], terminal) == 0
            assert len(json.loads(printed(terminal)[0])["written"]) == count
    assert (home / ".bashrc").read_text().startswith("alias x=y\nsource '")
    assert sys.executable in (home / ".config/fish/conf.d/caravan.fish").read_text()
    done = subprocess.run(
        ["bash", "-c", f"source '{home / '.bashrc'}'; complete -p main.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_caravan_main" in done.stdout

"""What holds of every command: `--json` is one document, an option means one thing, and none is forgotten."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from caravan.terminal.app import COMMANDS, GROUPS, PANELS, build_app, run
from caravan.values.run import RunRecord, RunRequest, RunStatus
from tests.fakes.wiring import FakeWiring, nobody, printed


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    inner = {n: command.get_command(None, n) for n in command.list_commands(None)} if _is_group(command) else {}
    if not inner or command.invoke_without_command:
        yield name, command
    for word, sub in inner.items():
        yield from leaves(sub, f"{name} {word}".strip())


def _is_group(command: Any) -> bool:
    return hasattr(command, "list_commands")


EVERY = dict(leaves(get_command(build_app())))


def options_of(command: Any) -> list[Any]:
    return [param for param in command.params if param.param_type_name == "option"]


def test_every_command_stands_below_one_headline() -> None:
    listed = [name for names in PANELS.values() for name in names]
    assert sorted(listed) == sorted([*COMMANDS, *GROUPS])


@pytest.mark.parametrize("name", EVERY)
def test_every_command_takes_json(name: str) -> None:
    (option,) = [option for option in options_of(EVERY[name]) if "--json" in option.opts]
    assert option.is_flag
    assert option.help == "Print one JSON document."


@pytest.fixture
def wiring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeWiring:
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = FakeWiring(tmp_path)
    now, request = made.clock.now(), RunRequest(prompt="train it", source="/repo")
    made.runs.create_run(
        RunRecord(id="abc12345", created_at=now, updated_at=now, status=RunStatus.SUCCEEDED, request=request)
    )
    return made


GIVEN = {"completion": ["bash"], "config get": ["home"], "config set": ["smoke", "true"], "config unset": ["smoke"]}


@pytest.mark.parametrize("what", ["nothing", "words", "a run", "a file", "no such option"])
@pytest.mark.parametrize("name", EVERY)
def test_with_json_stdout_is_one_document_whatever_happens(name: str, what: str, wiring: FakeWiring) -> None:
    arguments = [param for param in EVERY[name].params if param.param_type_name == "argument"]
    file = wiring.home / "a file"
    file.write_text("{}\n")
    given = {
        "nothing": GIVEN.get(name, []),
        "words": ["nope"] * len(arguments),
        "a run": ["abc12345"] * (2 if name == "compare" else 1) if arguments else [],
        "a file": [str(file)] if arguments else [],
        "no such option": ["--nonesuch"],
    }[what]
    terminal = nobody()
    code = run(wiring, [*name.split(), "--json", *given], terminal)
    out, err = printed(terminal)
    document = json.loads(out)
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    if isinstance(document, dict) and "error" in document:
        assert set(document) <= {"error", "hint", "exit_code", "run_id"}
        assert document["exit_code"] == code != 0
        assert len(errors) == 1
        assert err.splitlines()[-1] == errors[0]
    else:
        assert errors == []
    if what == "no such option":
        assert code == 2


ONE_OF_SEVERAL = {
    "--set",  # fields of a plan, of a served model, of a lesson: each help says which
    "--model",  # of `estimate` a name, of `data` a folder or a name
    "--to",  # where something goes: a folder, for `models export` a file or an address too
    "--status",  # `runs` of that status; `serve-model` says how its server stands
    "--version",  # of a prompt; alone, Caravan's own
}


def test_wrong_use_leads_to_the_help_of_the_command_that_was_meant(wiring: FakeWiring) -> None:
    for words, page in (
        (["models", "export", "x"], "main.py models export --help"),
        (["runs", "--nonsense"], "main.py runs --help"),
        (["nonsense"], "main.py --help"),
    ):
        terminal = nobody()
        assert run(wiring, words, terminal) == 2
        assert f"See `{page}`." in printed(terminal)[1]


def test_an_option_of_one_name_takes_one_kind_of_value_everywhere() -> None:
    kinds: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, command in EVERY.items():
        for option in options_of(command):
            if not option.hidden:
                kind = "flag" if option.is_flag else option.metavar or ""
                for word in option.opts:
                    kinds[word][kind].append(name or "the main job")
    several = {word: dict(found) for word, found in kinds.items() if len(found) > 1 and word not in ONE_OF_SEVERAL}
    assert several == {}


def test_what_means_the_same_has_the_same_name() -> None:
    shown = {word for command in EVERY.values() for o in options_of(command) if not o.hidden for word in o.opts}
    other_spellings = {"--out", "--outfile", "--dest", "--into", "--force-yes", "--assume-yes", "-y", "--format-json"}
    assert not shown & (other_spellings | {"--gpu-model", "--max", "--count", "--repo", "--verbose", "--quiet"})
    for name, command in EVERY.items():
        for option in options_of(command):
            assert any(word.startswith("--") for word in option.opts), (name, option.opts)

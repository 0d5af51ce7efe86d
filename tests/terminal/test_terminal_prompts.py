"""`prompts`: list, show, diff, keep, pull, push, promote, as users run them, without LangFuse and with one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import make_prompts
from caravan.terminal.app import GROUPS, build_app, run
from caravan.values.prompts import Prompt, remote_name
from config import load_settings
from machine import SystemClock
from main import Application
from tests.fakes.langfuse_server import SECRET_KEY, LangfuseServer, status, unreachable
from tests.fakes.wiring import nobody, person, printed

ROOT = Path(__file__).resolve().parents[2]
PLAN = (ROOT / "templates" / "prompts" / "plan.md").read_text("utf-8")
BETTER = PLAN.replace("An empty list is a good answer.", "An empty list is a very good answer.")


def call(*argv: str, typed: str | None = None) -> tuple[int, str, str]:
    """`main.py prompts ...` with the process's own wiring: exit code, stdout, stderr."""
    terminal = nobody() if typed is None else person(typed)
    code = run(Application(), ["prompts", *argv], terminal)
    return (code, *printed(terminal))


def document(*argv: str) -> Any:
    code, out, err = call(*argv, "--json")
    assert code == 0, err
    return json.loads(out)


def in_force(name: str = "plan") -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in document("list")["prompts"]}
    return rows[name]


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A version of one's own that is kept."""
    file = tmp_path / "plan.md"
    file.write_text(BETTER, "utf-8")
    version = document("keep", "plan", str(file))["version"]
    assert isinstance(version, str)
    return version


@pytest.fixture
def langfuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangfuseServer]:
    with LangfuseServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def test_without_langfuse_the_shipped_ones_are_listed() -> None:
    told = document("list")
    assert told["langfuse"] == {"host": "", "error": None}
    assert {row["origin"] for row in told["prompts"]} == {"shipped"}
    code, out, _ = call("list")
    assert code == 0
    assert "refine_profile" in out


def test_showing_gives_the_text_alone_on_stdout() -> None:
    code, out, err = call("show", "plan")
    assert (code, out) == (0, PLAN)
    assert "{{facts}}" in err
    assert "may be left out" in err
    told = document("show", "plan")
    assert (told["text"], told["troubles"], told["kept"]) == (PLAN, [], [])


def test_an_own_version_is_promoted_and_taken_back(own: str) -> None:
    assert in_force()["origin"] == "shipped"
    code, _, err = call("promote", "plan", own[:8])
    assert code == 3
    assert "Allow it with --yes" in err
    assert "+An empty list is a very good answer." in err
    assert call("promote", "plan", own, typed="n")[0] == 3
    assert in_force()["origin"] == "shipped"
    assert call("promote", "plan", own, typed="y")[0] == 0
    assert in_force() == in_force() | {"origin": "kept", "version": own}
    assert "very good" in document("diff", "plan")["diff"]
    assert call("promote", "plan", "shipped", "--yes")[0] == 0
    assert in_force()["origin"] == "shipped"
    assert document("diff", "plan")["same"] is True
    assert call("diff", "plan", "shipped", own)[1].count("very good") == 1


def test_a_text_that_can_t_be_used_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "plan.md"
    file.write_text(BETTER + "{{nobody}}", "utf-8")
    code, _, err = call("keep", "plan", str(file))
    assert code == 2
    assert "nothing fills its place {{nobody}}" in err
    assert call("keep", "plan", str(tmp_path / "none.md"))[0] == 2
    assert call("keep", "nothing", str(file))[0] == 2


@pytest.mark.parametrize(
    "argv", [("push",), ("pull",), ("show", "plan", "langfuse"), ("promote", "plan", "langfuse:3")]
)
def test_what_needs_langfuse_says_so(argv: tuple[str, ...]) -> None:
    code, _, err = call(*argv)
    assert code == 2
    assert "LANGFUSE_BASE_URL" in err


def test_the_same_text_makes_no_new_version(langfuse: LangfuseServer) -> None:
    assert {row["is_new"] for row in document("push")} == {True}
    assert {row["is_new"] for row in document("push")} == {False}
    assert {len(rows) for rows in langfuse.kept.prompts.values()} == {1}
    assert in_force()["origin"] == "shipped"
    assert call("push", "--label", "production")[0] == 0, "the same text changes nothing: nobody is asked"
    assert in_force() == in_force() | {"origin": "langfuse", "number": 1}


def test_what_changes_for_runs_is_shown_and_asked(langfuse: LangfuseServer, own: str) -> None:
    assert call("push", "--label", "production")[0] == 0
    code, _, err = call("push", "plan", "--version", own, "--label", "production")
    assert code == 3
    assert "+An empty list is a very good answer." in err
    assert len(langfuse.kept.prompts[remote_name("plan")]) == 1
    assert call("push", "plan", "--version", own, "--label", "production", "--yes")[0] == 0
    assert in_force() == in_force() | {"origin": "langfuse", "number": 2, "version": own}
    assert call("promote", "plan", "1", typed="y")[0] == 0
    assert in_force()["number"] == 1
    assert document("diff", "plan", "langfuse:2", "langfuse")["same"] is False


def test_a_kept_version_below_langfuse_s_is_said(langfuse: LangfuseServer, own: str) -> None:
    call("push", "plan", "--label", "production")
    code, _, err = call("promote", "plan", own, "--yes")
    assert code == 0
    assert "which goes before this one" in err
    assert in_force()["number"] == 1
    (hint,) = re.findall(r"`main.py prompts (push [^`]*)`", err)
    assert call(*hint.split(), "--yes")[0] == 0
    assert in_force() == in_force() | {"origin": "langfuse", "number": 2, "version": own}


def taken(home: Path) -> Prompt:
    """The version that a run takes which begins now."""
    book = make_prompts(load_settings(), home, clock=SystemClock())
    book.begin()
    return book.get("plan")


def test_listed_and_shown_is_what_runs_take(
    langfuse: LangfuseServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CARAVAN_HOME", str(tmp_path / "home"))
    langfuse.put_prompt(remote_name("plan"), BETTER, "production")
    assert in_force()["given_s_ago"] is None
    assert taken(tmp_path / "home").number == 1
    langfuse.put_prompt(remote_name("plan"), PLAN, "production")
    for argv in (("list",), ("show", "plan")):
        code, _, err = call(*argv)
        assert code == 0
        assert re.search(r"plan: for \d+ (s|min) more runs here take LangFuse's version 1, .* take .*version 2", err), (
            err
        )
    assert in_force()["number"] == taken(tmp_path / "home").number == 1
    monkeypatch.setenv("CARAVAN_PROMPT_CACHE_S", "0")
    langfuse.fail(status(503))
    code, out, _ = call("list", "--json")
    assert code == 0
    assert {row["name"]: row["number"] for row in json.loads(out)["prompts"]}["plan"] == 1
    assert taken(tmp_path / "home").number == document("show", "plan")["number"] == 1
    langfuse.heal()
    assert in_force()["number"] == 2
    monkeypatch.setenv("CARAVAN_LANGFUSE_PROMPTS", "0")
    assert in_force()["origin"] == taken(tmp_path / "home").origin.value == "shipped"
    assert "runs here take none" in call("promote", "plan", "1", "--yes")[2]


def test_what_is_pulled_holds_without_langfuse(langfuse: LangfuseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    langfuse.put_prompt(remote_name("plan"), BETTER, "production")
    assert call("pull")[0] == 0
    assert document("pull", "plan", "--promote")[0]["kept_labels"] == ["production"]
    monkeypatch.setenv("LANGFUSE_BASE_URL", unreachable())
    code, out, err = call("list", "--json")
    assert code == 0
    assert json.loads(out)["langfuse"]["error"]
    assert "can't be reached" in err
    assert {row["name"]: row["origin"] for row in json.loads(out)["prompts"]}["plan"] == "kept"


def test_a_langfuse_that_fails_ends_with_its_exit_code(langfuse: LangfuseServer) -> None:
    langfuse.fail(status(401))
    for argv in (("push",), ("pull",), ("show", "plan", "langfuse:2")):
        code, _, err = call(*argv)
        assert code == 5, argv
        assert "does not know these keys" in err
        assert SECRET_KEY not in err


def test_a_version_in_langfuse_that_can_t_be_used_is_said(langfuse: LangfuseServer) -> None:
    langfuse.put_prompt(remote_name("plan"), "nothing", "production")
    langfuse.put_prompt(remote_name("patch"), [{"role": "system", "content": "x"}], "production")
    code, out, err = call("list", "--json")
    assert code == 0
    assert "lacks the place" in err
    assert "system message" in err
    assert {row["origin"] for row in json.loads(out)["prompts"]} == {"shipped"}
    assert call("promote", "plan", "1", "--yes")[0] == 2
    assert call("pull", "plan")[0] == 2
    langfuse.put_prompt(remote_name("repair"), (ROOT / "templates" / "prompts" / "repair.md").read_text(), "production")
    code, out, err = call("pull")
    assert code == 0
    assert "plan is not kept: it lacks the place" in err
    assert "patch is not kept: LangFuse's version 1" in err
    assert out.startswith("repair ")


@pytest.mark.parametrize("label", ["latest", "Production", "a b", "shipped", ""])
def test_a_word_that_can_be_no_label(langfuse: LangfuseServer, label: str) -> None:
    assert call("push", "plan", "--label", label)[0] == 2
    assert langfuse.kept.prompts == {}


def test_words_that_mean_no_version(langfuse: LangfuseServer) -> None:
    for argv in (("show", "plan", "9"), ("show", "plan", "nolabel"), ("show", "no_prompt"), ("pull", "plan")):
        code, _, err = call(*argv)
        assert code == 2, argv
        assert "Error" in err


def test_every_command_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in GROUPS["prompts"][1]:
        assert run(Application(), ["prompts", name, "--help"]) == 0
        assert "--json" in capsys.readouterr().out
    (group,) = [g for g in build_app(["prompts"]).registered_groups if g.name == "prompts"]
    assert group.typer_instance is not None
    assert [c.name for c in group.typer_instance.registered_commands] == list(GROUPS["prompts"][1])

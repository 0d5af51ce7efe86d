"""What `doctor` says of LangFuse: nothing set, all well, each thing that is wrong with what to do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from caravan import TEMPLATES
from caravan.terminal.langfuse_checks import langfuse_findings
from caravan.values.checkup import Finding, Level
from caravan.values.prompts import GivenVersion, remote_name
from langfuse_client import LangfuseClient
from machine import SystemClock
from main import Application
from prompt_shelf import DiskShelf
from prompts import LocalPromptBook, PromptVersions
from tests.fakes.langfuse_server import PUBLIC_KEY, SECRET_KEY, Fault, LangfuseServer, blurts, hangs, status

BOOK = LocalPromptBook(TEMPLATES / "prompts")


class Later(SystemClock):
    """A clock that is ahead."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=2)


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as running:
        yield running


def looked(server: LangfuseServer, tmp: Path, clock: SystemClock | None = None, wait_s: float = 20.0) -> list[Finding]:
    access = server.access(timeout_s=wait_s)
    client, shelf = LangfuseClient(access), PromptVersions(BOOK, DiskShelf(tmp, SystemClock()), access)
    try:
        return list(langfuse_findings(client, shelf, clock or SystemClock()))
    finally:
        client.close()
        shelf.close()


def test_nothing_set_is_fine(tmp_path: Path) -> None:
    (finding,) = langfuse_findings(None, PromptVersions(BOOK, DiskShelf(tmp_path, SystemClock())), SystemClock())
    assert finding.level is Level.OK
    assert "None is set" in finding.text


class Given(PromptVersions):
    """Versions of which LangFuse gave some to runs before."""

    left_s = 200.0

    def given(self, name: str) -> GivenVersion | None:
        if name == "questions":
            return GivenVersion(trouble="version 4 of questions is not used", age_s=100, left_s=self.left_s)
        prompt = BOOK.get(name).model_copy(update={"number": 7})
        return GivenVersion(prompt=prompt, age_s=100, left_s=self.left_s) if name == "plan" else None


@pytest.mark.parametrize(("down", "left_s"), [(False, 200.0), (False, 0.0), (True, 0.0)])
def test_what_langfuse_gave_before_is_said_as_long_as_runs_take_it(
    server: LangfuseServer, tmp_path: Path, down: bool, left_s: float
) -> None:
    if down:
        server.fail(status(500), "")
    access = server.access(timeout_s=20.0)
    client, shelf = LangfuseClient(access), Given(BOOK, DiskShelf(tmp_path, SystemClock()), access)
    shelf.left_s = left_s
    try:
        found = [f for f in langfuse_findings(client, shelf, SystemClock()) if f.name == "cached prompts"]
    finally:
        client.close()
        shelf.close()
    if not down and not left_s:
        assert found == []
        return
    warned, taken = found
    assert (warned.level, taken.level) == (Level.WARNING, Level.OK)
    assert "plan 7" in taken.text
    assert ("until LangFuse answers" in taken.text) is down


def test_all_is_well(server: LangfuseServer, tmp_path: Path) -> None:
    server.put_prompt(remote_name("plan"), BOOK.get("plan").text, "production")
    found = looked(server, tmp_path)
    assert {f.level for f in found} == {Level.OK}
    assert "fine-tunes" in found[0].text
    assert "Under the label production: plan 1" in found[-1].text


@pytest.mark.parametrize(
    ("fault", "path", "said"),
    [
        (status(401), "/api/public/projects", "LANGFUSE_PUBLIC_KEY"),
        (status(500), "", "answered 500"),
        (blurts("<html>", 404), "", "is not LangFuse"),
        (hangs(), "", "did not answer"),
        (status(429, retry_after="3"), "/api/public/v2", "Try again later"),
    ],
)
def test_what_is_wrong_is_a_warning_with_what_to_do(
    server: LangfuseServer, tmp_path: Path, fault: Fault, path: str, said: str
) -> None:
    server.fail(fault, path)
    found = looked(server, tmp_path, wait_s=0.2 if fault.kind == "hangs" else 20.0)
    assert found[-1].level is Level.WARNING
    assert said in f"{found[-1].text} {found[-1].hint}"


def test_a_clock_that_is_wrong_and_a_prompt_that_can_t_be_used(server: LangfuseServer, tmp_path: Path) -> None:
    server.put_prompt(remote_name("plan"), "nothing", "production")
    server.put_prompt(remote_name("patch"), [{"role": "system", "content": "x"}], "production")
    found = {f"{f.name} {number}": f for number, f in enumerate(looked(server, tmp_path, Later()))}
    told = [f"{f.text} {f.hint}" for f in found.values() if f.level is Level.WARNING]
    assert len(told) == 3
    assert "ahead of LangFuse's" in told[0]
    assert any("lacks the place" in line for line in told)
    assert any("system message" in line for line in told)


def test_keys_without_an_address_are_a_failure_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from caravan.terminal.app import run
    from tests.fakes.wiring import nobody, printed

    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", PUBLIC_KEY)
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", SECRET_KEY)
    terminal = nobody()
    assert run(Application(), ["doctor"], terminal) == 2
    out = printed(terminal)[0]
    assert "FAILURE  langfuse" in out
    assert "vendor's cloud" in out
    assert SECRET_KEY not in out

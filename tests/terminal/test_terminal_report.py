"""The command `report`: which text goes where, for a run that has ended and for one that has not."""

import json
from pathlib import Path

import pytest

from caravan.terminal.app import run
from caravan.values.reports import RunReport
from caravan.values.run import RunStatus
from tests.fakes.wiring import FakeWiring, nobody, person, printed
from tests.terminal.test_terminal_commands import record

KEPT = RunReport(markdown="# Report\n\x1b[2Jdone\n", page="<!doctype html><p>done</p>\n")


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


def ended(wiring: FakeWiring) -> Path:
    """A run that has ended, with its report: the run's folder."""
    folder = wiring.folder(record(wiring).id)
    folder.save_report(KEPT)
    return folder.path


def told(wiring: FakeWiring, *words: str) -> str:
    terminal = nobody()
    assert run(wiring, ["report", "abc", *words], terminal) == 0
    return printed(terminal)[0]


def test_the_report_of_a_run_that_has_ended_is_the_one_that_was_written(wiring: FakeWiring) -> None:
    ended(wiring)
    assert told(wiring) == "# Report\ndone\n"
    assert told(wiring, "--html") == KEPT.page
    terminal = person()
    assert run(wiring, ["report", "abc"], terminal) == 0
    assert printed(terminal)[0] == "# Report\ndone\n"


def test_of_a_run_that_has_not_ended_it_is_made_as_the_run_stands(wiring: FakeWiring) -> None:
    folder = wiring.folder(record(wiring, status=RunStatus.RUNNING).id)
    folder.save_report(KEPT)
    assert told(wiring).startswith("# abc")
    assert told(wiring, "--html").startswith("<!doctype html><title>abc")
    assert (folder.path / "REPORT.md").read_text() == KEPT.markdown


def test_a_run_that_ended_before_there_were_pages_gets_one(wiring: FakeWiring) -> None:
    folder = ended(wiring)
    (folder / "report.html").unlink()
    assert told(wiring, "--html").startswith("<!doctype html><title>abc")


def test_on_a_terminal_html_says_where_the_file_is(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ended(wiring)
    terminal = person()
    monkeypatch.setattr(terminal.stdout, "isatty", lambda: True)
    assert run(wiring, ["report", "abc", "--html"], terminal) == 0
    assert printed(terminal)[0].strip() == str(folder / "report.html")


@pytest.mark.parametrize(("name", "words"), [("r.html", ()), ("r.HTM", ()), ("r.txt", ("--html",)), ("r.md", ())])
def test_it_is_written_where_it_is_asked_for(wiring: FakeWiring, tmp_path: Path, name: str, words: tuple[str]) -> None:
    ended(wiring)
    path = tmp_path / name
    path.write_text("what was there before")
    assert told(wiring, "--output", str(path), *words).strip() == str(path)
    assert path.read_text() == (KEPT.markdown if name == "r.md" else KEPT.page)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".r")] == []


def test_a_folder_that_is_not_there_is_named(wiring: FakeWiring, tmp_path: Path) -> None:
    ended(wiring)
    terminal = nobody()
    assert run(wiring, ["report", "abc", "--output", str(tmp_path / "no" / "r.html")], terminal) == 2
    assert "r.html can't be written" in printed(terminal)[1]


def test_it_is_opened_in_a_browser(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ended(wiring)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) is None)
    assert told(wiring, "--open").strip() == str(folder / "report.html")
    assert opened == [(folder / "report.html").as_uri()]


def test_without_a_browser_it_says_so(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(wiring)
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    terminal = nobody()
    assert run(wiring, ["report", "abc", "--open"], terminal) == 0
    assert "No browser could be opened" in printed(terminal)[1]


def test_for_programs_it_names_the_files(wiring: FakeWiring) -> None:
    folder = ended(wiring)
    document = json.loads(told(wiring, "--json"))
    assert document["report_path"] == str(folder / "REPORT.md")
    assert document["report_html_path"] == str(folder / "report.html")
    assert document["status"] == "succeeded"

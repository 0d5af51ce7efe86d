"""`traces push`: which traces are sent, what is told, and where it ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from caravan.terminal.app import run
from caravan.values.base import Json
from caravan.values.errors import ServiceError
from caravan.values.run import RunRecord, RunRequest
from observability import LocalTracer
from tests.fakes.wiring import FakeWiring, nobody, printed


class There:
    """LangFuse as the commands see it; `fails` is raised for the run of that id."""

    def __init__(self, fails: str = "") -> None:
        self.pushed: list[str] = []
        self.fails = fails

    def page(self, run_id: str) -> str:
        return f"https://langfuse.invalid/trace/{run_id}"

    def is_missing(self, path: Path) -> bool:
        return path.stem not in self.pushed

    def push(self, path: Path, record: RunRecord) -> dict[str, Json]:
        assert path.is_file()
        if record.id == self.fails:
            raise ServiceError("LangFuse can't be reached.", hint="Is it up?")
        self.pushed.append(record.id)
        told: dict[str, Json] = {"run_id": record.id, "spans": 5, "scores": 2, "rejected": 0, "why": ""}
        return told | {"trace_url": self.page(record.id)}


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    made = FakeWiring(tmp_path)
    for name in ("aaaa1111", "bbbb2222", "cccc3333"):
        at = made.clock.now()
        made.runs.create_run(
            RunRecord(id=name, created_at=at, updated_at=at, request=RunRequest(prompt="x", source="y"))
        )
        with LocalTracer(made.trace_path(name), run_id=name, clock=made.clock).span("run", "run"):
            pass
    made.langfuse_traces = There()
    return made


def command(wiring: FakeWiring, *words: str) -> tuple[int, str, str]:
    terminal = nobody()
    return run(wiring, ["traces", *words], terminal), *printed(terminal)


def test_the_runs_that_are_named_are_sent(wiring: FakeWiring) -> None:
    code, out, err = command(wiring, "push", "aaaa", "cccc")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "aaaa1111: 5 spans and 2 scores sent: https://langfuse.invalid/trace/aaaa1111"
    assert wiring.langfuse_traces.pushed == ["aaaa1111", "cccc3333"]


def test_all_that_is_missing_is_sent_once(wiring: FakeWiring) -> None:
    wiring.trace_path("nobody").write_text("{}")  # a trace of no run that is known
    wiring.langfuse_traces.pushed.append("bbbb2222")
    document = json.loads(command(wiring, "push", "--all-missing", "--json")[1])
    assert [told["run_id"] for told in document["pushed"]] == ["aaaa1111", "cccc3333"]
    assert document["skipped"] == []
    assert command(wiring, "push", "--all-missing") == (0, "Nothing is missing in LangFuse.\n", "")


def test_a_run_that_goes_on_is_left_to_its_agent(wiring: FakeWiring) -> None:
    with wiring.folder("aaaa1111").lock():
        code, out, err = command(wiring, "push", "aaaa1111", "--json")
    assert (code, json.loads(out)) == (0, {"pushed": [], "skipped": ["aaaa1111"]})
    assert "goes on" in err


def test_a_langfuse_that_can_not_be_reached_is_exit_code_5(wiring: FakeWiring) -> None:
    wiring.langfuse_traces = There(fails="bbbb2222")
    code, out, err = command(wiring, "push", "aaaa", "bbbb", "cccc")
    assert code == 5
    assert len(out.splitlines()) == 1
    assert "bbbb2222" in err
    assert "Sent before it: 1." in err
    assert "Is it up?" in err


@pytest.mark.parametrize(
    "words",
    [("push",), ("push", "dddd"), (), ("aaaa", "bbbb"), ("aaaa", "--all-missing"), ("--all-missing",)],
)
def test_what_makes_no_sense_is_refused(wiring: FakeWiring, words: tuple[str, ...]) -> None:
    code, out, err = command(wiring, *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_a_run_without_a_trace_is_refused_before_anything_is_sent(wiring: FakeWiring) -> None:
    wiring.trace_path("bbbb2222").unlink()
    code, _, err = command(wiring, "push", "aaaa", "bbbb")
    assert code == 2
    assert "no trace" in err
    assert wiring.langfuse_traces.pushed == []


def test_without_langfuse_the_settings_are_named(wiring: FakeWiring) -> None:
    wiring.langfuse_traces = None
    code, _, err = command(wiring, "push", "aaaa")
    assert code == 2
    assert "LANGFUSE_BASE_URL" in err


def test_the_page_is_the_result_s_and_the_file_beside_it(wiring: FakeWiring) -> None:
    def told() -> dict[str, Any]:
        terminal = nobody()
        assert run(wiring, ["show", "aaaa", "--json"], terminal) == 0
        return dict(json.loads(printed(terminal)[0]))

    path = str(wiring.trace_path("aaaa1111"))
    assert (told()["trace_url"], told()["trace_path"]) == ("https://langfuse.invalid/trace/aaaa1111", path)
    wiring.langfuse_traces = None
    assert (told()["trace_url"], told()["trace_path"]) == (path, path)
    wiring.trace_path("aaaa1111").unlink()
    assert (told()["trace_url"], told()["trace_path"]) == (None, None)

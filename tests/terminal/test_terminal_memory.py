"""The `memory` commands: what they print, what programs get, short ids, files, and a memory that can't be used."""

import io
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from caravan.agent.recalled import digests_of
from caravan.agent.state import RunState
from caravan.ports import Memory
from caravan.terminal.app import GROUPS, build_app, run
from caravan.terminal.console import OurConsole
from caravan.terminal.memory_files import numbered_lines, take_in
from caravan.terminal.streams import Terminal
from caravan.values.errors import ServiceError
from caravan.values.failure import FailureClass, Lesson, Scope
from caravan.values.plan import Author, PlanChange
from caravan.values.repo import RepoProfile
from caravan.values.run import RunRequest
from keeping import KeepingMemory
from starting import StartingMemory
from tests.fakes.clock import FakeClock
from tests.fakes.memory import FakeMemory
from tests.fakes.wiring import FakeWiring, nobody, person, printed

OOM = FailureClass.HOST_MEMORY_OOM


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


def lesson(**fields: Any) -> Lesson:
    base: dict[str, Any] = {
        "failure": OOM,
        "text": "The task was killed at its limit.",
        "changes": (PlanChange(path="resources.memory_mb", value=8192, by=Author.REPAIR),),
        "before": {"resources.memory_mb": 2048},
        "worked": True,
        "source": "ab12cd34/1",
    }
    return Lesson.model_validate(base | fields)


def call(wiring: FakeWiring, *argv: str, terminal: Terminal | None = None) -> tuple[int, str, str]:
    terminal = terminal or nobody()
    code = run(wiring, ["memory", *argv], terminal)
    return code, *printed(terminal)


def document(wiring: FakeWiring, *argv: str) -> Any:
    code, out, err = call(wiring, *argv, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_memory_that_knows_nothing(wiring: FakeWiring) -> None:
    assert call(wiring, "list") == (0, "Nothing is remembered yet.\n", "")
    assert call(wiring, "search", "anything") == (0, "No lesson is like that.\n", "")
    assert call(wiring, "export") == (0, "", "")
    assert call(wiring, "forget", "--all", "--yes") == (0, "Nothing is remembered yet.\n", "")
    for command in (["list"], ["search", "x"], ["export"]):
        assert document(wiring, *command) == []


def test_the_list_says_what_was_changed_and_how_it_went(wiring: FakeWiring) -> None:
    case_id = wiring.lessons.remember(lesson())
    wiring.lessons.remember(lesson(source="ef56/1", worked=False))
    wiring.lessons.remember(Lesson(text="Use bf16 \x1b[31mon\nthe A100 nodes.", source="user"))
    code, out, err = call(wiring, "list")
    assert (code, err) == (0, "")
    (row,) = [line for line in out.splitlines() if line.startswith(case_id[:8])]
    assert "host memory oom" in row
    assert "resources.memory_mb 2048 → 8192" in row
    assert "1 of 2" in row
    assert "from run ef56" in out  # who said it last
    assert "2026-01-02" in row
    assert "Use bf16 on the A100 nodes." in out
    assert "\x1b" not in out


def test_a_list_fits_eighty_columns(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caravan.terminal.console.console_on", lambda stream: OurConsole(file=stream, width=80))
    long = "training.options.--a-very-long-option-of-some-program-or-other"
    change = PlanChange(path=long, value="a/very/long/value" * 9, by=Author.REPAIR)
    wiring.lessons.remember(lesson(failure=FailureClass.PLACEMENT_CONSTRAINT_FILTERED, changes=(change,)))
    wiring.lessons.remember(Lesson(text="words " * 100, source="user"))
    _, out, _ = call(wiring, "list")
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "2026-01-02" in out
    assert "1 of 1" in out


def test_filters(wiring: FakeWiring) -> None:
    wiring.lessons.remember(lesson())
    wiring.lessons.remember(lesson(failure=FailureClass.CUDA_OOM, worked=False))
    wiring.lessons.remember(lesson(failure=FailureClass.DISK_FULL, worked=None))

    def causes(*argv: str) -> list[str]:
        return sorted(case["failure"] for case in document(wiring, "list", *argv))

    assert causes() == ["cuda_oom", "disk_full", "host_memory_oom"]
    assert causes("--worked") == ["host_memory_oom"]
    assert causes("--failed") == ["cuda_oom"]
    assert causes("--class", "disk-full") == ["disk_full"]
    assert causes("--class", "Disk Full", "--worked") == []
    assert call(wiring, "list", "--class", "disk_full", "--worked")[1] == "No lesson is like that.\n"
    code, out, err = call(wiring, "list", "--limit", "2")
    assert (code, out.count("from run")) == (0, 2)
    assert err == "1 more; see them with --limit 3.\n"


def test_an_unknown_cause_is_wrong_use_with_the_nearest_names(wiring: FakeWiring) -> None:
    for command in (["list"], ["search", "x"], ["add", "x"]):
        code, out, err = call(wiring, *command, "--class", "cuda_out")
        assert (code, out) == (2, "")
        assert "cuda_oom" in err


def test_search_says_why(wiring: FakeWiring) -> None:
    wiring.lessons.remember(lesson())
    other = wiring.lessons.remember(lesson(failure=FailureClass.DISK_FULL, text="No space was left on the device."))
    code, out, _ = call(wiring, "search", "no space left")
    assert code == 0
    assert out.splitlines()[1].startswith(other[:8])
    assert "(only the text is alike" in out
    found = document(wiring, "search", "anything", "--class", "host_memory_oom", "--limit", "1")
    assert [case["failure"] for case in found] == ["host_memory_oom"]
    assert "same cause" in found[0]["why"]


def test_what_is_written_down_is_found_again(wiring: FakeWiring) -> None:
    argv = ["add", " Node 7 needs more. ", "--class", "host_memory_oom", "--worked"]
    code, out, _ = call(wiring, *argv, "--set", "resources.memory_mb=9000", "--set", "training.lr=1e-4")
    (case,) = wiring.lessons.all()
    assert (code, out) == (0, f"Lesson {case.id[:8]} is remembered.\n")
    assert (case.text, case.failure, case.worked, case.source) == ("Node 7 needs more.", OOM, True, "user")
    assert [(c.path, c.value, c.by) for c in case.changes] == [
        ("resources.memory_mb", 9000, Author.USER),
        ("training.lr", 1e-4, Author.USER),
    ]
    other = document(wiring, "add", "Node 7 again.")["id"]
    assert {c.id for c in wiring.lessons.all()} == {case.id, other}


def test_a_lesson_for_the_trainings_of_a_run(wiring: FakeWiring) -> None:
    from caravan.agent.beginning import new_run

    record = new_run(RunRequest(prompt="p", source="/repo"), wiring.clock.now())
    wiring.runs.create_run(record)
    assert "has not read its repository" in call(wiring, "add", "x", "--for", record.id)[2]
    profile = RepoProfile(root="/repo", tree_digest="1" * 64, is_training_repo=True, entry_point="t.py")
    wiring.scripted.states[record.id] = RunState(
        run_id=record.id, request=record.request, profile=profile, code_digest="c" * 64
    )
    assert call(wiring, "add", "x", "--for", record.id[:4])[0] == 0
    (case,) = wiring.lessons.all()
    assert (case.context["entry_point"], case.context["code_digest"]) == ("t.py", "c" * 64)
    assert call(wiring, "add", "x", "--for", "nope")[0] == 2


@pytest.mark.parametrize(
    "argv",
    [
        ["add", " "],
        ["search", ""],
        ["add", "x", "--set", "no.such=1"],
        ["add", "x", "--set", "training.lr=much"],
        ["forget"],
        ["forget", "abc", "--all"],
        ["forget", "--all", "--class", "cuda_oom"],
        ["forget", "abc", "--repository", "/nowhere"],
        ["forget", "--class", "no_such_cause"],
        ["forget", "--class", "host_memory_oom"],
        ["show"],
        ["show", "zz"],
        ["list", "--scope", "everyone"],
        ["add", "x", "--scope", "repository"],
        ["add", "x", "--set", "driver=docker"],
        ["list", "--limit", "0"],
        ["import", "/nowhere/x.jsonl"],
        ["import", "/"],
        ["export", "/"],
        ["export", "/dev/null/x.jsonl"],
        ["frobnicate"],
        [],
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(wiring: FakeWiring, argv: list[str]) -> None:
    wiring.lessons.remember(lesson())
    before = wiring.lessons.export()
    code, out, err = call(wiring, *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert wiring.lessons.export() == before


def test_forgetting_by_the_beginning_of_an_id(wiring: FakeWiring) -> None:
    memory = wiring.lessons
    assert isinstance(memory, FakeMemory)
    ids = [memory.remember(lesson(failure=cause)) for cause in (OOM, FailureClass.CUDA_OOM, FailureClass.DISK_FULL)]
    memory.stored = dict(zip(("aa11-1", "aa12-2", "bb-3"), (memory.stored[i] for i in ids), strict=True))
    code, out, err = call(wiring, "forget", "aa1")
    assert (code, out) == (2, "")
    assert "aa11-" in err
    assert "aa12-" in err
    code, out, err = call(wiring, "forget", "aa11", "cc")  # one of them is wrong: none is forgotten
    assert (code, len(memory.stored)) == (2, 3)
    code, out, err = call(wiring, "forget", "AA11", "aa11-1")
    assert (code, out.splitlines()[-1], err) == (0, "1 lesson forgotten.", "")
    assert out.startswith("aa11-1  host memory oom: resources.memory_mb 2048 → 8192")
    assert document(wiring, "forget", "bb") == {"forgotten": ["bb-3"], "exports": []}
    assert set(memory.stored) == {"aa12-2"}


def test_forgetting_everything_asks(wiring: FakeWiring) -> None:
    wiring.lessons.remember(lesson())
    code, _, err = call(wiring, "forget", "--all")
    assert code == 2
    assert "--yes" in err
    for typed in (person("n"), person("")):
        code, out, err = call(wiring, "forget", "--all", terminal=typed)
        assert (code, out) == (0, "")
        assert "Forget 1 lesson for good?" in err
        assert "Nothing was forgotten." in err
    assert len(wiring.lessons.all()) == 1
    assert call(wiring, "forget", "--all", terminal=person("y"))[1].endswith("\n1 lesson forgotten.\n")
    wiring.lessons.remember(lesson())
    assert call(wiring, "forget", "--all", "--yes")[1].endswith("\n1 lesson forgotten.\n")
    assert wiring.lessons.all() == ()


def test_what_is_exported_is_imported_once(wiring: FakeWiring, tmp_path: Path) -> None:
    wiring.lessons.remember(lesson())
    wiring.lessons.remember(Lesson(text="Größe zählt 🚀", source="user"))
    file = tmp_path / "sub" / "lessons.jsonl"
    assert call(wiring, "export", str(file))[0] == 2  # folders are not made unasked
    assert not file.parent.exists()
    file.parent.mkdir()
    assert call(wiring, "export", str(file)) == (0, f"2 lessons written to {file}.\n", "")
    assert document(wiring, "export", str(file)) == {"file": str(file), "lessons": 2}
    assert [p.name for p in file.parent.iterdir()] == ["lessons.jsonl"]
    code, out, _ = call(wiring, "export")
    assert (code, out) == (0, file.read_text())
    assert out.isascii()
    assert document(wiring, "export") == [json.loads(line) for line in out.splitlines()]
    elsewhere = FakeWiring(tmp_path)
    assert call(elsewhere, "import", str(file)) == (0, "2 new, 0 merged, 0 refused.\n", "")
    assert call(elsewhere, "import", str(file)) == (0, "0 new, 2 merged, 0 refused.\n", "")
    assert elsewhere.lessons.export() == wiring.lessons.export()


def test_import_from_stdin(wiring: FakeWiring, tmp_path: Path) -> None:
    wiring.lessons.remember(lesson())
    _, out, _ = call(wiring, "export", "-")
    elsewhere = FakeWiring(tmp_path)
    terminal = Terminal(io.StringIO(out), io.StringIO(), io.StringIO())
    assert call(elsewhere, "import", "-", terminal=terminal)[:2] == (0, "1 new, 0 merged, 0 refused.\n")


def test_a_broken_line_is_named_and_the_others_are_taken(wiring: FakeWiring, tmp_path: Path) -> None:
    wiring.lessons.remember(lesson())
    wiring.lessons.remember(lesson(failure=FailureClass.DISK_FULL))
    good = call(wiring, "export")[1].splitlines()
    file = tmp_path / "lessons.jsonl"
    file.write_bytes("\n".join([good[0], "{broken", "", "[1]", good[1]]).encode() + b"\n\xff\xfe\n" + b"x" * (1 << 21))
    elsewhere = FakeWiring(tmp_path)
    code, out, err = call(elsewhere, "import", str(file))
    assert (code, out) == (2, "2 new, 0 merged, 4 refused.\n")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["Line 2", "Line 4", "Line 6", "Line 7"]
    code, out, _ = call(elsewhere, "import", str(file), "--json")
    said = json.loads(out)
    assert (code, said["new"], said["merged"]) == (2, 0, 2)
    assert [refused["line"] for refused in said["refused"]] == [2, 4, 6, 7]


def test_many_broken_lines_are_counted(wiring: FakeWiring, tmp_path: Path) -> None:
    file = tmp_path / "not.jsonl"
    wiring.lessons.remember(lesson())
    file.write_text("no lesson\n" * 1000 + call(wiring, "export")[1])
    code, out, err = call(wiring, "import", str(file))
    assert (code, out) == (2, "0 new, 1 merged, 1000 refused.\n")
    assert err.splitlines()[-1] == "980 more lines were refused."


@hypothesis_settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_file_is_read_without_an_accident(data: bytes) -> None:
    memory = FakeMemory(FakeClock())
    with numbered_lines("-", io.TextIOWrapper(io.BytesIO(data), errors="replace")) as lines:
        taken = take_in(lines, memory)
    assert taken.new == len(memory.stored)


COMMANDS = (
    ["list"],
    ["search", "x"],
    ["show", "x"],
    ["add", "x"],
    ["forget", "--all", "--yes"],
    ["export"],
    ["import", "-"],
)


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_memory_that_can_not_be_used_is_code_5(wiring: FakeWiring, argv: list[str], as_json: bool) -> None:
    other = FakeWiring(wiring.home)
    other.lessons.remember(lesson())
    exported = call(other, "export")[1]
    assert isinstance(wiring.lessons, FakeMemory)
    wiring.lessons.down = True
    terminal = Terminal(io.StringIO(exported), io.StringIO(), io.StringIO())
    code, out, err = call(wiring, *argv, *(["--json"] if as_json else []), terminal=terminal)
    assert (code, err.count("\n")) == (5, 1)
    assert (json.loads(out)["exit_code"] == 5) if as_json else (out == "")


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
def test_a_memory_that_is_switched_off_is_code_5(tmp_path: Path, argv: list[str]) -> None:
    class Off(FakeWiring):
        def memory(self) -> AbstractContextManager[Memory]:
            raise ServiceError("The memory is switched off.", hint="Unset it.")

    assert call(Off(tmp_path), *argv)[0] == 5


def test_an_import_that_breaks_off_says_how_far_it_came(wiring: FakeWiring) -> None:
    other = FakeWiring(wiring.home)
    other.lessons.remember(lesson())
    exported = call(other, "export")[1]

    class Failing(FakeMemory):
        def restore(self, record: Any) -> bool:
            self.down = bool(self.stored)
            return super().restore(record)

    wiring.lessons = Failing(wiring.clock)
    terminal = Terminal(io.StringIO(exported * 3), io.StringIO(), io.StringIO())
    code, _, err = call(wiring, "import", "-", terminal=terminal)
    assert code == 5
    assert "before line 2" in err


def test_the_memory_is_let_go_of(wiring: FakeWiring) -> None:
    memory = wiring.lessons
    assert isinstance(memory, FakeMemory)
    for argv in COMMANDS:
        memory.closed = False
        call(wiring, *argv)
        assert memory.closed, argv


def test_every_command_has_its_help(wiring: FakeWiring, capsys: pytest.CaptureFixture[str]) -> None:
    for name in GROUPS["memory"][1]:
        assert run(wiring, ["memory", name, "--help"]) == 0
        said = capsys.readouterr().out
        assert f"Usage: main.py memory {name}" in said
        assert "--json" in said
    (group,) = [g for g in build_app(["memory"]).registered_groups if g.name == "memory"]
    assert group.typer_instance is not None
    assert [c.name for c in group.typer_instance.registered_commands] == list(GROUPS["memory"][1])


def test_forgetting_says_which_exports_still_hold_it(wiring: FakeWiring, tmp_path: Path) -> None:
    case_id = wiring.lessons.remember(lesson())
    file, gone = tmp_path / "kept.jsonl", tmp_path / "gone.jsonl"
    for path in (file, gone):
        assert call(wiring, "export", str(path))[0] == 0
    gone.unlink()
    later = wiring.lessons.remember(lesson(failure=FailureClass.DISK_FULL))
    code, out, err = call(wiring, "forget", case_id[:8])
    assert (code, err) == (0, "")
    told = {line.partition(" (exported")[0]: line for line in out.splitlines() if "(exported" in line}
    assert set(told) == {str(file), str(gone)}
    assert "still holds 1 lesson of these" in told[str(file)]
    assert "is not there any more" in told[str(gone)]
    said = document(wiring, "forget", later)
    assert (said["forgotten"], said["exports"]) == ([later], [])


def test_forgetting_by_cause_and_by_repository(wiring: FakeWiring, tmp_path: Path) -> None:
    here, away = tmp_path / "here", tmp_path / "gone"
    here.mkdir()
    (here / "train.py").write_text("print(1)\n")
    places = {path: digests_of(str(path), None)[-1] for path in (here, away)}

    def remembered() -> list[str]:
        return sorted(str(case.failure) for case in wiring.lessons.all())

    for path, cause in ((here, OOM), (here, FailureClass.CUDA_OOM), (away, OOM), (away, FailureClass.DISK_FULL)):
        wiring.lessons.remember(lesson(failure=cause, context={"repository": places[path], "entry_point": path.name}))
    assert [c["failure"] for c in document(wiring, "list", "--repository", str(away), "--class", "disk_full")] == [
        "disk_full"
    ]
    assert call(wiring, "forget", "--repository", str(here), "--class", "cuda-oom", "--yes")[0] == 0
    assert remembered() == ["disk_full", "host_memory_oom", "host_memory_oom"]
    assert call(wiring, "forget", "--class", "host_memory_oom", terminal=person("n"))[1] == ""
    assert call(wiring, "forget", "--repository", str(away), terminal=person("y"))[0] == 0
    assert remembered() == ["host_memory_oom"]
    assert call(wiring, "forget", "--class", "disk_full", "--yes")[1] == "No lesson is like that.\n"
    assert call(wiring, "forget", "--class", "host_memory_oom", "--yes")[0] == 0
    assert remembered() == []


def test_one_lesson_whole_with_who_said_what_when(wiring: FakeWiring, tmp_path: Path) -> None:
    case_id = wiring.lessons.remember(lesson(context={"entry_point": "train.py", "base_model": None}))
    wiring.lessons.remember(lesson(context={"entry_point": "train.py"}, source="ef56/1", worked=False))
    assert call(wiring, "export", str(tmp_path / "x.jsonl"))[0] == 0
    code, out, err = call(wiring, "show", case_id[:6])
    assert (code, err) == (0, "")
    assert out.startswith(f"lesson {case_id}\ncause: host memory oom\n")
    assert "  resources.memory_mb 2048 → 8192" in out
    assert "run ab12cd34/1: worked" in out
    assert "run ef56/1: failed" in out
    assert "  entry_point: train.py" in out
    assert "base_model" not in out
    assert "all runs of this tenant" in out
    assert f"exported to {tmp_path / 'x.jsonl'}" in out
    said = document(wiring, "show", case_id)
    assert [(v["source"], v["worked"]) for v in said["history"]] == [("ab12cd34/1", True), ("ef56/1", False)]
    assert said["id"] == case_id
    assert len(said["exports"]) == 1


def test_whom_a_lesson_speaks_to_and_what_is_shipped_is_shown(wiring: FakeWiring) -> None:
    wiring.lessons.remember(lesson(context={"repository": "r" * 64}, scope=Scope.REPOSITORY))
    wiring.lessons.remember(lesson(failure=FailureClass.DISK_FULL, source="starter", text="Disks fill up."))
    out = call(wiring, "list", "--starters")[1]
    assert "for its repository alone" in out
    assert "a starter lesson" in out
    assert [c["failure"] for c in document(wiring, "list", "--scope", "repository")] == ["host_memory_oom"]
    assert [c["failure"] for c in document(wiring, "list", "--starters", "--scope", "Tenant")] == ["disk_full"]


@pytest.mark.parametrize("text", ["root:x:0:0\ndaemon:x:1:1\n", "no lesson\n", '{"a": 1}\n' * 50])
def test_a_file_without_a_single_lesson_is_one_sentence(wiring: FakeWiring, tmp_path: Path, text: str) -> None:
    file = tmp_path / "not.jsonl"
    file.write_text(text)
    code, out, err = call(wiring, "import", str(file))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "holds no lessons" in err
    assert err.count("memory export") == 1


def test_a_note_is_kept_where_the_memory_can_not_be_used(wiring: FakeWiring) -> None:
    store = FakeMemory(wiring.clock)
    store.down = True
    wiring.lessons = KeepingMemory(store, wiring.home / "kept", clock=wiring.clock)
    code, out, err = call(wiring, "add", "Node 7 needs more.")
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert f"kept in {wiring.home / 'kept'}" in err
    store.down = False
    assert "Node 7 needs more." in call(wiring, "list")[1]


def test_shipped_lessons_do_not_bury_those_of_ones_own(wiring: FakeWiring) -> None:
    shipped = lesson(failure=FailureClass.CUDA_OOM, source="starter")
    wiring.lessons = StartingMemory(wiring.lessons, lambda: [shipped], wiring.home / "starters", clock=wiring.clock)
    more = "1 lesson shipped and not tried here; see them with --starters.\n"
    assert call(wiring, "list") == (0, "Nothing is remembered yet.\n", more)
    assert document(wiring, "list") == []
    wiring.lessons.remember(lesson())
    code, out, err = call(wiring, "list")
    assert (code, err) == (0, more)
    assert "starter" not in out
    assert call(wiring, "list", "--class", "disk_full") == (0, "No lesson is like that.\n", "")
    code, out, err = call(wiring, "list", "--starters")
    assert (code, err) == (0, "")
    assert out.index("host memory oom") < out.index("cuda oom")
    assert out.count("1 of 1") == 1  # nobody here has tried the shipped one
    assert "a starter lesson" in out
    assert [c["source"] for c in document(wiring, "list", "--starters")] == ["ab12cd34/1", "starter"]


def test_an_imported_lesson_says_that_it_is(wiring: FakeWiring, tmp_path: Path) -> None:
    wiring.lessons.remember(lesson())
    wiring.lessons.remember(lesson(failure=FailureClass.DISK_FULL, source="user"))
    (tmp_path / "x.jsonl").write_text(call(wiring, "export")[1])
    there = FakeWiring(tmp_path)
    assert call(there, "import", str(tmp_path / "x.jsonl"))[0] == 0
    out = call(there, "list")[1]
    assert "imported, from run ab12cd34" in " ".join(out.split())
    assert "imported, noted by a person" in " ".join(out.split())

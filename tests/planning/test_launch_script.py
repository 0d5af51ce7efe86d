"""The launch script, run for real by /bin/sh in a fake task directory."""

import hashlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.planning.script import (
    environment_helper,
    evaluation_helpers,
    launch_script,
    outputs_helpers,
    overlay_helpers,
    overlay_texts,
    shell_word,
)
from caravan.values.errors import PlanError
from caravan.values.log_marks import head_of
from caravan.values.plan import CodeSource, ConfigOverlay, Launch, OutputSink, Setup, TrainingPlan
from caravan.values.repo import Launcher
from tests.planning.scenes import TEMPLATES

SHOW = "import json,os,sys;print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"


def first_line(stream: IO[str] | None) -> str:
    """The first line of what a process writes; nothing behind it is taken from the pipe."""
    assert stream is not None
    line = b""
    while (sign := os.read(stream.fileno(), 1)) not in (b"", b"\n"):
        line += sign
    return line.decode()


class Place:
    """A task's directories, a code archive in them, and a plan to run there."""

    def __init__(self, root: Path) -> None:
        self.alloc, self.task = root / "alloc", root / "task" / "local"
        self.task.mkdir(parents=True)
        self.alloc.mkdir()
        self.outputs = root / "my outputs"
        self.head = ""  # the line with which the log of the last one began
        self.archive = root / "code.tar.gz"
        self.helper = outputs_helpers(TEMPLATES)["outputs.py"]

    def pack(self, **files: str) -> CodeSource:
        with tarfile.open(self.archive, "w:gz") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(name.replace("__", "/").replace("_py", ".py").replace("_sh", ".sh"))
                info.size, info.mode = len(text.encode()), 0o644
                tar.addfile(info, io.BytesIO(text.encode()))
        digest = hashlib.sha256(self.archive.read_bytes()).hexdigest()
        return CodeSource(kind="archive", location=str(self.archive), sha256=digest)

    def plan(self, code: CodeSource, *command: str, **more: Any) -> TrainingPlan:
        fields: dict[str, Any] = {"outputs": OutputSink(kind="path", location=str(self.outputs)), **more}
        fields.setdefault("setup", Setup(python=sys.executable))
        return TrainingPlan(goal="g", command=command, code=code, **fields)

    def start(self, plan: TrainingPlan, time_limit_s: int | None = None) -> subprocess.Popen[str]:
        return self.start_script(plan, launch_script(plan, TEMPLATES, time_limit_s=time_limit_s))

    def start_script(self, plan: TrainingPlan, rendered: str) -> subprocess.Popen[str]:
        script = self.task / "launch.sh"
        script.write_text(rendered, encoding="utf-8")
        (self.task / "environment.py").write_text(environment_helper(TEMPLATES), encoding="utf-8")
        helpers = {**outputs_helpers(TEMPLATES), "outputs.py": self.helper, **evaluation_helpers(plan, TEMPLATES)}
        for name, text in helpers.items():
            (self.task / name).parent.mkdir(parents=True, exist_ok=True)
            (self.task / name).write_text(text, encoding="utf-8")
        for name, text in overlay_helpers(TEMPLATES).items():
            (self.task / name).write_text(text, encoding="utf-8")
        for i, text in enumerate(overlay_texts(plan), start=1):
            (self.task / "overlays").mkdir(exist_ok=True)
            (self.task / "overlays" / str(i)).write_text(text, encoding="utf-8")
        environment = {
            "PATH": os.defpath,
            "NOMAD_TASK_DIR": str(self.task),
            "NOMAD_ALLOC_DIR": str(self.alloc),
            "NOMAD_JOB_ID": "caravan-r1-a01",
            "NOMAD_META_caravan_spec_sha256": "f" * 64,
            "NOMAD_META_caravan_run": "r1",
            "NOMAD_META_caravan_attempt": "1",
            **plan.env,
        }
        process = subprocess.Popen(
            ["/bin/sh", str(script)],
            env=environment,
            cwd=self.task.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if "marks_head" in rendered:
            self.head = first_line(process.stdout)
            assert head_of(first_line(process.stderr)) == head_of(self.head) != ""
        return process

    def run(self, plan: TrainingPlan, time_limit_s: int | None = None) -> tuple[int, str, str]:
        process = self.start(plan, time_limit_s)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def sentinel(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.alloc / "data" / "caravan-result.json").read_text())
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "odd $(name) 'here'")


def test_runs_the_command_with_its_arguments_and_leaves_the_result(place: Place) -> None:
    words = ("a b", "it's", 'say "hi"', "$HOME", "`id`", "line\nbreak", "", "*", "\\", "{{ x }}", "ä€")
    code = place.pack(src__show_py=SHOW)
    status, out, err = place.run(place.plan(code, "show.py", *words, workdir="src"))
    assert (status, err) == (0, "")
    argv, cwd, environment = json.loads(out)
    assert tuple(argv) == words
    assert Path(cwd) == place.task / "code" / "src"
    assert environment["CARAVAN_OUTPUT_DIR"] == str(place.outputs)
    assert place.outputs.is_dir()
    assert place.sentinel() == {"job_id": "caravan-r1-a01", "spec_sha256": "f" * 64, "exit_code": 0}
    names = sorted(p.name for p in (place.alloc / "data").iterdir())
    assert names == ["caravan-outputs.json", "caravan-result.json", "caravan-samples.jsonl"]


def test_ends_the_training_at_its_time_limit(place: Place) -> None:
    forever = "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.05)"
    status, out, err = place.run(place.plan(place.pack(train_py=forever), "train.py"), time_limit_s=1)
    assert (status, out) == (124, "on\n")
    assert "time limit of 1 s is over" in err
    assert place.sentinel()["exit_code"] == 124


DEAF = "import signal,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\n"
FOREVER = "while True: time.sleep(0.05)\n"


def test_a_training_that_is_deaf_ends_at_its_time_limit_all_the_same(place: Place) -> None:
    plan = place.plan(place.pack(train_py=DEAF + FOREVER), "train.py", kill_timeout_s=1)
    status, out, err = place.run(plan, time_limit_s=1)
    assert (status, out) == (124, "on\n")
    assert "time limit of 1 s is over" in err
    assert place.sentinel()["exit_code"] == 124


def test_what_a_shell_script_started_ends_at_the_time_limit_too(place: Place) -> None:
    code = place.pack(run_sh="trap '' TERM\npython train.py &\nwait\nwait\n", train_py=DEAF + FOREVER)
    plan = place.plan(code, "run.sh", launch=Launch(launcher=Launcher.BASH), kill_timeout_s=1)
    status, out, _ = place.run(plan, time_limit_s=2)  # it returns when nothing holds the output any more
    assert (status, out) == (124, "on\n")
    assert place.sentinel()["exit_code"] == 124


def test_what_an_earlier_start_left_proves_nothing(place: Place) -> None:
    status, _, _ = place.run(place.plan(place.pack(train_py="print('first')"), "train.py"))
    assert (status, place.sentinel()["exit_code"]) == (0, 0)
    waits = place.pack(train_py="import time\nprint('ready', flush=True)\ntime.sleep(600)")
    process = place.start(place.plan(waits, "train.py"))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert [p.name for p in (place.alloc / "data").iterdir()] == ["caravan-samples.jsonl"]


def test_a_time_limit_that_is_not_reached_changes_nothing(place: Place) -> None:
    status, out, err = place.run(place.plan(place.pack(train_py="print('done')"), "train.py"), time_limit_s=600)
    assert (status, out, err) == (0, "done\n", "")


def test_exits_with_the_commands_code(place: Place) -> None:
    status, _, _ = place.run(place.plan(place.pack(train_py="raise SystemExit(7)"), "train.py"))
    assert status == 7
    assert place.sentinel()["exit_code"] == 7


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_the_command_and_its_last_words_count(place: Place, name: signal.Signals) -> None:
    text = (
        "import os,signal,sys,time\n"
        "def stop(*_):\n    os.write(1, b'saved\\n'); sys.exit(43)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    process = place.start(place.plan(place.pack(train_py=text), "train.py"))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(name)
    out, _ = process.communicate(timeout=60)
    assert out == "saved\n"
    assert process.returncode == 43
    assert place.sentinel()["exit_code"] == 43


def test_a_stop_reaches_what_a_shell_script_started(place: Place) -> None:
    inner = "import os,signal,sys,time\nsignal.signal(15, lambda *_: (os.write(1, b'saved'), sys.exit(0)))\n"
    inner += "print('ready', flush=True)\nwhile True: time.sleep(60)\n"
    code = place.pack(run_sh="python train.py\n", train_py=inner)
    process = place.start(place.plan(code, "run.sh", launch=Launch(launcher=Launcher.BASH)))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert "saved" in out
    assert place.sentinel()["exit_code"] == process.returncode != 0


def test_a_command_killed_by_a_signal_is_no_success(place: Place) -> None:
    text = "import os,signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    status, _, _ = place.run(place.plan(place.pack(train_py=text), "train.py"))
    assert status == 137
    assert place.sentinel()["exit_code"] == 137


def test_another_archive_than_planned_is_refused(place: Place) -> None:
    code = place.pack(train_py="print('no')").model_copy(update={"sha256": "0" * 64})
    status, out, err = place.run(place.plan(code, "train.py"))
    assert (status, out) == (65, "")
    assert "not the one that was planned" in err
    assert place.sentinel()["exit_code"] == 65


def test_a_missing_archive_is_said(place: Place) -> None:
    status, _, err = place.run(place.plan(CodeSource(kind="archive", location="/not/there.tgz"), "train.py"))
    assert status == 66
    assert err == "caravan: the code archive /not/there.tgz can't be read here\n"


def test_a_failing_setup_step_is_the_jobs_failure(place: Place) -> None:
    setup = Setup(python=sys.executable, cmd=("echo one", "echo 'two $x' >&2; exit 9", "echo never"))
    status, out, err = place.run(place.plan(place.pack(train_py="print('never')"), "train.py", setup=setup))
    assert status == 9
    assert out == "one\n"
    assert err.splitlines()[-1].endswith("failed with exit code 9")
    assert place.sentinel()["exit_code"] == 9


def test_a_stop_during_setup_does_not_start_the_training(place: Place) -> None:
    setup = Setup(python=sys.executable, cmd=("echo ready; exec python -c 'import time; time.sleep(60)'",))
    process = place.start(place.plan(place.pack(train_py="print('never')"), "train.py", setup=setup))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert "never" not in out
    assert "stopped during" in err
    assert place.sentinel()["exit_code"] == process.returncode == 143


def test_satisfied_requirements_need_no_environment(place: Place) -> None:
    code = place.pack(train_py=SHOW, **{"requirements.txt": "pydantic>=2  # comment\npytest\n"})
    setup = Setup(python=sys.executable, requirements="requirements.txt", pip=("jinja2",))
    status, out, err = place.run(place.plan(code, "train.py", setup=setup))
    assert (status, err) == (0, "")
    assert json.loads(out)[2]["CARAVAN_PYTHON"] == sys.executable
    assert not (place.alloc / "cache").exists()


def test_setup_commands_see_the_environments_python(place: Place) -> None:
    setup = Setup(python=sys.executable, cmd=("python -c 'import sys; print(sys.executable)'",))
    _, out, _ = place.run(place.plan(place.pack(train_py=""), "train.py", setup=setup))
    assert Path(out.strip()).samefile(sys.executable)


def test_a_missing_interpreter_is_said(place: Place) -> None:
    plan = place.plan(place.pack(train_py=""), "train.py", setup=Setup(python="python9.9"))
    status, _, err = place.run(plan)
    assert status == 127
    assert err == "caravan: the interpreter python9.9 is not here\n"


def test_overlays_change_the_jobs_copy_of_a_config(place: Place) -> None:
    code = place.pack(train_py="print(open('c.json').read())", **{"c.json": '{"a": {"b": 1}, "d": 2}'})
    overlays = (
        ConfigOverlay(path="c.json", values={"a.b": 5, "a.x": "it's"}),
        ConfigOverlay(path="new/dir/f.txt", text="{{ hello }}"),
    )
    status, out, err = place.run(place.plan(code, "train.py", config_overlays=overlays))
    assert (status, err) == (0, "")
    assert json.loads(out) == {"a": {"b": 5, "x": "it's"}, "d": 2}
    assert (place.task / "code/new/dir/f.txt").read_text() == "{{ hello }}"


def test_outputs_in_the_allocation_are_found_by_the_command(place: Place) -> None:
    code = place.pack(train_py="import sys; open(sys.argv[2] + '/weights', 'w').write('w')")
    plan = place.plan(code, "train.py", "--out", "x", outputs=OutputSink(), flags={"training.output_dir": "--out"})
    status, _, err = place.run(plan)
    assert (status, err) == (0, "")
    assert (place.alloc / "data/outputs/weights").read_text() == "w"


def test_code_of_an_image_is_used_where_it_is(place: Place, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "train.py").write_text(SHOW)
    status, out, err = place.run(place.plan(CodeSource(kind="image", location=str(tmp_path / "app")), "train.py"))
    assert (status, err) == (0, "")
    assert json.loads(out)[1] == str(tmp_path / "app")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), max_size=5))
def test_every_word_reaches_the_shell_as_it_is(words: list[str]) -> None:
    quoted = " ".join(shell_word(w) for w in words)
    script = (
        f"{shlex.quote(sys.executable)} -S -c 'import sys,os;os.write(1,chr(0).join(sys.argv[1:]).encode())' {quoted}"
    )
    answer = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert answer.stdout.decode() == "\0".join(words)


def test_only_nomads_places_are_filled_in() -> None:
    assert shell_word("${NOMAD_ALLOC_DIR}/a b") == "\"${NOMAD_ALLOC_DIR}\"'/a b'"
    assert shell_word("${HOME}") == "'${HOME}'"
    with pytest.raises(PlanError, match="NUL"):
        shell_word("a\0b")

"""The first steps of a training, run for real: /bin/sh, Python, and a stand-in of torch that has optimizers' hooks."""

import hashlib
import io
import json
import os
import re
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.planning.script import launch_script, overlay_helpers, smoke_helpers
from caravan.planning.smoke import Gate, smoke_phase
from caravan.values.log_marks import Mark
from caravan.values.plan import ConfigKey, Launch, Limits, Resources, Smoke, TrainingPlan
from caravan.values.repo import Launcher
from caravan.values.run import SMOKE_OVER, SmokeResult, parse_smoke
from tests.planning.scenes import TEMPLATES
from tests.planning.test_launch_script import Place

TORCH = {
    "torch/__init__.py": "from torch import optim\n\nfrom . import cuda\n",
    "torch/optim/__init__.py": "from torch.optim.optimizer import SGD\n",
    "torch/optim/optimizer.py": """
_hooks = []


def register_optimizer_step_post_hook(hook):
    _hooks.append(hook)


class SGD:
    def step(self):
        for hook in _hooks:
            hook(self, (), {})
""",
    "torch/cuda.py": """
GIB = 1024**3


def is_available():
    return True


def device_count():
    return 1


def synchronize():
    pass


def max_memory_reserved(n):
    return 3 * GIB


def max_memory_allocated(n):
    return 2.5 * GIB
""",
}

TRAIN = """
import argparse, os, pathlib, sys, time
from torch.optim import SGD

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--output_dir", default="out")
args = parser.parse_args()
out = pathlib.Path(args.output_dir)
out.mkdir(parents=True, exist_ok=True)
pathlib.Path("beside.txt").write_text("x")
print("gpus", os.environ.get("CUDA_VISIBLE_DEVICES"), "wandb", os.environ.get("WANDB_MODE"), flush=True)
optimizer = SGD()
for n in range(args.steps):
    time.sleep(0.01)
    optimizer.step()
    (out / "weights.txt").write_text(str(n))
print("trained", args.steps, flush=True)
"""


RUN = """
import runpy, sys
sys.argv = sys.argv[next(n for n, word in enumerate(sys.argv) if word.endswith("train.py")) :]
runpy.run_path(sys.argv[0])
"""


def unmarked(out: str) -> str:
    """The output without the lines that say where the first steps begin and end, each of which is there but once."""
    for mark in (Mark.STEPS_BEGIN, Mark.STEPS_OVER):
        out, often = re.subn(rf"\ncaravan: {mark} [0-9a-f]{{32}}\n", "", out)
        assert often <= 1
    return out


class SmokePlace(Place):
    """A place whose tasks begin with their first steps."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for name, text in smoke_helpers(TEMPLATES).items():
            (self.task / name).write_text(text)
        self.site = root / "site"

    def torch(self) -> dict[str, str]:
        """The stand-in's files, and the environment in which it is found."""
        for name, text in TORCH.items():
            path = self.site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {"PYTHONPATH": str(self.site)}

    def launcher(self, text: str) -> None:
        """A stand-in of torchrun with this text."""
        folder = self.site / "torch" / "distributed"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "run.py").write_text(text)

    def smoked(self, train: str, *words: str, gate: Gate | None = None, **more: Any) -> tuple[int, str, str]:
        """Run that program; its exit code and output."""
        process = self.begin(train, *words, gate=gate, **more)
        out, err = process.communicate(timeout=60)
        return process.returncode, unmarked(out), err

    def begin(self, train: str, *words: str, gate: Gate | None = None, **more: Any) -> Any:
        fields: dict[str, Any] = {"smoke": Smoke(on=True, steps=6, max_s=30), "limits": Limits(max_run_s=3600), **more}
        fields.setdefault("flags", {"training.output_dir": "--output_dir"})
        plan = self.plan(self.pack(train_py=train), "train.py", *words, **fields)
        return self.start_smoked(plan, gate or Gate())

    def start_smoked(self, plan: TrainingPlan, gate: Gate) -> Any:
        phase = smoke_phase(plan, gate)
        assert phase is not None
        script = launch_script(plan, TEMPLATES, smoke=phase)
        return self.start_script(plan, script)

    def answer(self) -> SmokeResult:
        found = parse_smoke((self.alloc / "data" / "caravan-smoke.json").read_bytes())
        assert found is not None
        return found

    def left(self) -> list[str]:
        """Names of processes that still run below this place."""
        return [words for _, words in running(str(self.task))]


def running(place: str) -> Iterator[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
            where = str((path.parent / "cwd").readlink())
        except OSError:
            continue
        if place in words or where.startswith(place):
            yield int(path.parent.name), words


@pytest.fixture
def place(tmp_path: Path) -> SmokePlace:
    return SmokePlace(tmp_path / "odd $(name) 'here'")


def test_steps_are_counted_inside_and_then_the_training_runs_as_if_nothing_had_been(place: SmokePlace) -> None:
    status, out, err = place.smoked(TRAIN, env=place.torch())
    assert status == 0, err
    assert (out.count("gpus"), out.count("trained 40")) == (2, 1)
    assert "wandb disabled" in out
    assert "wandb None" in out
    seen = place.answer()
    assert (seen.steps, seen.ended, seen.peak_gpu_gib, seen.allocated_gib) == (6, "steps", 3.0, 2.5)
    assert seen.seconds_per_step is not None
    assert seen.seconds_per_step >= 0.01
    assert seen.first_step_s is not None
    assert (place.outputs / "weights.txt").read_text() == "39"
    assert not (place.task / "smoke").exists()
    assert place.left() == []


def test_what_the_first_steps_write_is_gone_before_the_rest_begins(place: SmokePlace) -> None:
    told = "print('there', out.exists() and sorted(os.listdir(out)), flush=True)"
    train = TRAIN.replace("optimizer = SGD()", f"{told}\noptimizer = SGD()")
    beside = 'pathlib.Path("beside.txt").'
    train = train.replace(f"{beside}write", f'print("beside", {beside}exists())\n{beside}write')
    status, out, err = place.smoked(train, env=place.torch())
    assert status == 0, err
    assert out.count("there []") == 2
    assert out.count("beside False") == 2


def test_a_training_that_would_take_too_long_is_not_begun(place: SmokePlace) -> None:
    gate = Gate(allowed_s=5.0, usd_per_hour=36.0, total_steps=100_000)
    status, out, err = place.smoked(TRAIN, env=place.torch(), gate=gate)
    assert status == SMOKE_OVER
    assert place.sentinel()["exit_code"] == SMOKE_OVER
    assert "trained" not in out
    assert "over what was approved: the whole training would take about" in err
    seen = place.answer()
    assert (seen.verdict, seen.total_steps, seen.allowed_s) == ("time", 100_000, 5.0)
    assert seen.projected_s is not None
    assert seen.projected_s > 900
    assert seen.usd == pytest.approx(seen.projected_s / 100)


def test_within_what_was_approved_the_projection_is_told(place: SmokePlace) -> None:
    gate = Gate(allowed_s=3600.0, usd_per_hour=36.0, total_steps=40)
    status, out, err = place.smoked(TRAIN, env=place.torch(), gate=gate)
    assert (status, place.answer().verdict) == (0, "")
    assert "the whole training about" in err
    assert "trained 40" in out


def test_a_failure_in_the_first_steps_is_the_trainings_own(place: SmokePlace) -> None:
    train = TRAIN.replace("optimizer.step()", "raise FileNotFoundError('data.jsonl')")
    status, _, err = place.smoked(train, env=place.torch())
    assert status == 1
    assert place.sentinel()["exit_code"] == 1
    assert err.count("FileNotFoundError: data.jsonl") == 1  # it is not tried a second time
    assert (place.answer().ended, place.answer().exit_code) == ("failed", 1)


def test_a_training_that_ends_within_its_first_steps_is_run_all_the_same(place: SmokePlace) -> None:
    status, out, err = place.smoked(TRAIN, "--steps", "3", env=place.torch())
    assert status == 0, err
    assert out.count("trained 3") == 2
    assert (place.answer().ended, place.answer().steps) == ("finished", 3)
    assert (place.outputs / "weights.txt").read_text() == "2"


PLAIN = """
import argparse, time
parser = argparse.ArgumentParser()
parser.add_argument("--max_steps", type=int, default=30)
parser.add_argument("--output_dir")
args = parser.parse_args()
for n in range(args.max_steps):
    time.sleep(0.02)
    print(f"step {n + 1}/{args.max_steps} loss=1.0", flush=True)
print("trained", args.max_steps)
"""


def test_without_torch_the_programs_own_limit_is_taken(place: SmokePlace) -> None:
    flags = {"training.output_dir": "--output_dir", "training.max_steps": "--max_steps"}
    status, out, err = place.smoked(PLAIN, flags=flags, gate=Gate(total_steps=30, allowed_s=60.0))
    assert status == 0, err
    assert "trained 6" in out
    assert "trained 30" in out
    seen = place.answer()
    assert (seen.ended, seen.steps, seen.total_steps, seen.peak_gpu_gib) == ("finished", 6, 30, None)
    assert "GPU memory was not seen" in seen.note
    assert seen.peak_host_mb is None or seen.peak_host_mb > 1


def test_without_a_limit_steps_are_read_off_the_log(place: SmokePlace) -> None:
    status, out, err = place.smoked(PLAIN)
    assert status == 0, err
    assert out.count("trained 30") == 1  # the first time it was ended before
    seen = place.answer()
    assert (seen.ended, seen.total_steps) == ("steps", 30)
    assert 6 <= seen.steps < 30
    assert seen.seconds_per_step is not None


def test_what_tells_nothing_ends_with_its_time(place: SmokePlace) -> None:
    silent = "import os, time\nif os.environ.get('WANDB_MODE') == 'disabled': time.sleep(600)\nprint('trained')"
    status, out, err = place.smoked(silent, flags={}, smoke=Smoke(on=True, steps=6, max_s=1))
    assert (status, out) == (0, "trained\n"), err
    seen = place.answer()
    assert (seen.ended, seen.steps, seen.seconds_per_step) == ("time", 0, None)
    assert "no step was seen" in seen.note


SPAWNING = """
import os, subprocess, sys, time
if os.environ.get("WANDB_MODE") == "disabled":
    deaf = "import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{deaf}; print('on', flush=True); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    time.sleep(600)
print("trained")
"""


def test_nothing_of_it_is_left_whatever_it_has_started(place: SmokePlace) -> None:
    status, out, err = place.smoked(SPAWNING, smoke=Smoke(on=True, max_s=2), flags={})
    assert (status, out) == (0, "on\ntrained\n"), err
    assert place.left() == []


@pytest.mark.parametrize("launcher", [Launcher.PYTHON, Launcher.BASH])
def test_a_stop_ends_it_at_once(place: SmokePlace, launcher: Launcher) -> None:
    plan = place.plan(
        place.pack(train_py=SPAWNING, run_sh="python train.py\n"),
        "train.py" if launcher is Launcher.PYTHON else "run.sh",
        launch=Launch(launcher=launcher),
        smoke=Smoke(on=True),
        kill_timeout_s=5,
    )
    process = place.start_smoked(plan, Gate())
    assert unmarked("".join(process.stdout.readline() for _ in range(3))) == "on\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, unmarked(out)) == (143, ""), err
    assert place.sentinel()["exit_code"] == 143
    assert not (place.task / "smoke").exists()
    assert place.left() == []


TRAINER = {
    "transformers/__init__.py": "",
    "transformers/trainer.py": """
import time
from types import SimpleNamespace
from torch.optim import SGD


class Trainer:
    def __init__(self, max_steps=-1):
        self.args = SimpleNamespace(max_steps=max_steps)
        self.state = SimpleNamespace(max_steps=64)

    def train(self):
        optimizer = SGD()
        for _ in range(20):
            time.sleep(0.01)
            optimizer.step()
""",
}


@pytest.mark.parametrize(("limit", "whole"), [("", 16), ("64", 64)])
def test_a_trainer_says_how_many_steps_there_are_for_all_processes(place: SmokePlace, limit: str, whole: int) -> None:
    environment = place.torch()
    for name, text in TRAINER.items():
        (place.site / name).parent.mkdir(exist_ok=True)
        (place.site / name).write_text(text)
    train = f"from transformers.trainer import Trainer\nTrainer({limit}).train()\n"
    plan = place.plan(
        place.pack(train_py=train, torch__distributed__run_py=""),
        "train.py",
        launch=Launch(launcher=Launcher.TORCHRUN, nproc=4),
        resources=Resources(gpus=4),
        smoke=Smoke(on=True, steps=6),
        env=environment,
    )
    phase = smoke_phase(plan, Gate(allowed_s=600.0))
    assert phase is not None
    assert "--nproc-per-node=1" in phase.words
    assert json.loads(phase.numbers)["gpus"] == 1
    place.launcher(RUN)
    process = place.start_smoked(plan, Gate(allowed_s=600.0))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (place.answer().total_steps, place.answer().processes) == (whole, 1)


def test_memory_that_runs_out_on_one_of_several_gpus_judges_nothing(place: SmokePlace) -> None:
    environment = place.torch()
    alone = "if os.environ.get('WANDB_MODE'): raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')"
    place.launcher(f"import os\n{alone}\nprint('sharded', os.environ.get('CUDA_VISIBLE_DEVICES'))\n")
    more = {"launch": Launch(launcher=Launcher.TORCHRUN, nproc=8), "resources": Resources(gpus=8)}
    status, out, err = place.smoked("", env={**environment, "CUDA_VISIBLE_DEVICES": "GPU-b,GPU-c"}, **more)
    assert (status, out) == (0, "sharded GPU-b,GPU-c\n"), err
    assert place.answer().ended == "unjudged"
    assert "several may share" in err


def test_a_gpus_memory_is_read_from_beside_it(place: SmokePlace) -> None:
    tools = place.task.parent / "tools"
    tools.mkdir()
    tool = tools / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, GPU-a, 70000, 81920'\necho '1, GPU-b, 20480, 40960'\n")
    tool.chmod(0o755)
    path = os.pathsep.join((str(tools), os.defpath))
    status, _, err = place.smoked(TRAIN, env={**place.torch(), "PATH": path, "NVIDIA_VISIBLE_DEVICES": "GPU-b"})
    assert status == 0, err
    assert (place.answer().peak_gpu_gib, place.answer().gpu_total_gib) == (20.0, 40.0)


def test_memory_that_all_processes_need_beyond_the_card_ends_it(place: SmokePlace) -> None:
    tools = place.task.parent / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho '0, GPU-a, 3000, 4096'\n")
    (tools / "nvidia-smi").chmod(0o755)
    environment = {**place.torch(), "PATH": os.pathsep.join((str(tools), os.defpath))}
    place.launcher(RUN)
    more = {"launch": Launch(launcher=Launcher.TORCHRUN, nproc=2), "resources": Resources(gpus=2)}
    status, _, err = place.smoked(TRAIN, env=environment, gate=Gate(extra_gib=2.0), **more)
    assert status == SMOKE_OVER, err
    assert place.answer().verdict == "memory"


def test_a_module_that_the_site_had_is_run_all_the_same(place: SmokePlace) -> None:
    environment = place.torch()
    (place.site / "sitecustomize.py").write_text("import os\nos.environ['OF_THE_SITE'] = 'yes'\n")
    train = TRAIN.replace("optimizer = SGD()", "print('site', os.environ.get('OF_THE_SITE'))\noptimizer = SGD()")
    status, out, err = place.smoked(train, env=environment)
    assert (status, out.count("site yes")) == (0, 2), err


def test_the_answer_of_an_earlier_start_proves_nothing(place: SmokePlace) -> None:
    place.smoked(TRAIN, env=place.torch())
    process = place.begin(SPAWNING, flags={})
    assert unmarked("".join(process.stdout.readline() for _ in range(3))) == "on\n"
    assert not (place.alloc / "data" / "caravan-smoke.json").exists()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


CONFIGURED = """
import json, pathlib, time
config = json.loads(pathlib.Path("config.json").read_text())
out = pathlib.Path(config["run"]["output_dir"])
print("writes to", out, "after", sorted(p.name for p in out.iterdir()), "reports", config["report_to"], flush=True)
for step in range(20):
    time.sleep(0.01)
    print("step", step + 1, flush=True)
    (out / "weights.txt").write_text(str(step))
"""


def test_a_config_that_says_where_to_write_says_another_place(place: SmokePlace) -> None:
    config = json.dumps({"run": {"output_dir": "out"}, "report_to": "wandb"})
    for name, text in overlay_helpers(TEMPLATES).items():
        (place.task / name).write_text(text)
    keys = {
        "training.output_dir": ConfigKey(path="config.json", key="run.output_dir"),
        "training.report_to": ConfigKey(path="config.json", key="report_to"),
    }
    code = place.pack(train_py=CONFIGURED).model_copy()
    with tarfile.open(place.archive, "w:gz") as tar:
        for name, text in (("train.py", CONFIGURED), ("config.json", config)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    code = code.model_copy(update={"sha256": hashlib.sha256(place.archive.read_bytes()).hexdigest()})
    plan = place.plan(code, "train.py", config_keys=keys, smoke=Smoke(on=True, steps=6, max_s=30))
    process = place.start_smoked(plan, Gate())
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    first, second = (line for line in out.splitlines() if line.startswith("writes to"))
    assert first == f"writes to {place.task}/smoke/outputs after [] reports none"
    assert second == f"writes to {place.outputs} after [] reports wandb"


def test_of_a_training_that_goes_on_only_the_rest_counts(place: SmokePlace) -> None:
    gate = Gate(allowed_s=60.0, total_steps=100_000, left=0.01)
    status, _, err = place.smoked(TRAIN, env=place.torch(), gate=gate)
    assert (status, place.answer().verdict) == (0, ""), err
    whole = place.answer().projected_s
    assert whole is not None
    assert whole > 900

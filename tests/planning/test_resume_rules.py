"""How a program goes on is found by rules, honestly; what a checkpoint is bound to; how far a log says it came."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis.checkpoints import checkpoints
from caravan.analysis.python import read_module
from caravan.planning.resume import (
    done_share,
    find_resume,
    goes_on,
    incompatible,
    resume_changes,
    resume_words,
    starts_anew,
    without_checkpoint,
)
from caravan.planning.script import launch_script
from caravan.values.plan import Author, ConfigKey, OutputSink, PlanChange, Resume, TrainingPlan, apply_changes
from caravan.values.repo import Checkpoints, Launcher, RepoProfile, ScriptOption
from tests.planning.scenes import ARCHIVE, OUTPUTS, TEMPLATES, builtin, llm_profile, nomad, numpy_profile

FILES = Checkpoints(kind="files", names=("ckpt_*.pt",), taken_up="argument")
TRAINER = Checkpoints(kind="trainer", names=("checkpoint-*",), taken_up="argument")


def with_option(flag: str, habit: Checkpoints | None, **more: Any) -> RepoProfile:
    profile = numpy_profile(checkpoints=habit)
    return profile.model_copy(update={"options": (*profile.options, ScriptOption(flag=flag, **more))})


def found(profile: RepoProfile) -> Resume | None:
    known = find_resume(profile)
    return known[0] if known else None


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (with_option("--resume", FILES), Resume(kind="files", flag="--resume", pattern="ckpt_*.pt")),
        (
            with_option("--resume", FILES, default=False, type="bool"),
            Resume(kind="files", flag="--resume", auto=True, pattern="ckpt_*.pt"),
        ),
        (
            with_option("--init_from", FILES, default="scratch"),
            Resume(kind="files", flag="--init_from=resume", auto=True, pattern="ckpt_*.pt"),
        ),
        (with_option("--resume", None), None),  # nothing says that it writes any
        (with_option("--checkpoint_path", FILES, help="weights to start from"), None),
        (
            with_option("--checkpoint_path", FILES, help="where to resume"),
            Resume(kind="files", flag="--checkpoint_path", pattern="ckpt_*.pt"),
        ),
        (
            with_option("--resume_from_checkpoint", TRAINER),
            Resume(kind="trainer", flag="--resume_from_checkpoint"),
        ),
        (with_option("--resume_from_checkpoint", TRAINER.model_copy(update={"taken_up": None})), None),
        (
            numpy_profile(checkpoints=TRAINER.model_copy(update={"taken_up": "itself"})),
            Resume(kind="trainer", auto=True),
        ),
        (
            with_option("--ckpt_path", Checkpoints(kind="lightning", taken_up="argument")),
            Resume(kind="lightning", flag="--ckpt_path"),
        ),
        (
            llm_profile(launcher=Launcher.CLI, cli_name="axolotl", launch_command="axolotl train c.yaml"),
            Resume(kind="trainer", flag="--resume-from-checkpoint"),
        ),
        (
            llm_profile(
                launcher=Launcher.CLI, cli_name="llamafactory-cli", launch_command="llamafactory-cli train a.yaml"
            ),
            Resume(kind="trainer", flag="resume_from_checkpoint"),
        ),
        (with_option("--resume", FILES).model_copy(update={"launcher": Launcher.BASH}), None),
    ],
)
def test_how_it_goes_on_is_known_only_where_the_code_says_it(profile: RepoProfile, expected: Resume | None) -> None:
    assert found(profile) == expected


def test_a_trainer_that_saves_nothing_has_nothing_to_go_on_from() -> None:
    profile = with_option("--resume_from_checkpoint", TRAINER)
    off = (*profile.options, ScriptOption(flag="--save_strategy", default="no"))
    assert found(profile.model_copy(update={"options": off})) is None


# ---- what the code says

SOURCES = {
    """
import torch
def save_checkpoint(model, step):
    torch.save(model, f"{out}/ckpt_{step}.pt")
""": ("files", ("ckpt_*.pt",), "argument"),
    """
import torch
while True:
    torch.save(checkpoint, os.path.join(out_dir, 'ckpt.pt'))
""": ("files", ("ckpt.pt",), "argument"),
    """
from transformers import Trainer
trainer = Trainer(model)
trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
""": ("trainer", ("checkpoint-*",), "argument"),
    """
from transformers import Trainer
trainer = Trainer(model)
trainer.train()
""": ("trainer", ("checkpoint-*",), None),
    """
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint
trainer = Trainer(model)
trainer.train(resume_from_checkpoint=True if get_last_checkpoint(out) else None)
""": ("trainer", ("checkpoint-*",), "argument"),
    """
import lightning as L
trainer = L.Trainer()
trainer.fit(model, ckpt_path="last")
""": ("lightning", ("*.ckpt",), "itself"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_what_the_code_says_of_its_checkpoints(source: str) -> None:
    habit, lines = checkpoints([read_module("train.py", source)])
    assert habit is not None
    assert (habit.kind, habit.names, habit.taken_up) == SOURCES[source]
    assert lines[0].file == "train.py"


@pytest.mark.parametrize(
    "source",
    [
        "print(f'step {step} loss {loss}')\n",
        "import json\ndef save_metrics(m):\n    json.dump(m, open(f'metrics_step_{m}.json', 'w'))\n",
        "import lightning\nlightning.Trainer(enable_checkpointing=False).fit(model)\n",
        "from transformers import Trainer\nclass Mine(Trainer):\n    pass\n",
    ],
)
def test_what_says_nothing_of_checkpoints(source: str) -> None:
    assert checkpoints([read_module("train.py", source)]) == (None, ())


# ---- in the job


def plan(**more: Any) -> TrainingPlan:
    fields: dict[str, Any] = {
        "goal": "x",
        "command": ("train.py",),
        "code": ARCHIVE,
        "outputs": OUTPUTS,
        "resume": Resume(kind="files", flag="--resume", pattern="ckpt_*.pt"),
        "driver": "raw_exec",
        **more,
    }
    return TrainingPlan(**fields)


@pytest.mark.parametrize(
    ("resume", "expected"),
    [
        (Resume(kind="trainer", flag="--resume"), 'set -- --resume "$checkpoint"'),
        (Resume(kind="trainer", flag="resume_from_checkpoint"), 'set -- resume_from_checkpoint="$checkpoint"'),
        (Resume(kind="files", flag="--init_from=resume", auto=True, pattern="*.pt"), "set -- --init_from=resume"),
        (Resume(kind="trainer", auto=True), ""),
        (Resume(kind="files", flag="--a;b 'c'", pattern="$(x)"), "set -- '--a;b '\"'\"'c'\"'\"'' \"$checkpoint\""),
    ],
)
def test_the_script_names_the_checkpoint_as_the_program_wants_it(resume: Resume, expected: str) -> None:
    script = launch_script(plan(resume=resume), TEMPLATES)
    lines = [line for line in script.splitlines() if "set -- " in line]
    assert [line.partition("|| ")[2] for line in lines] == ([expected] if expected else [])
    assert "resume.py" in script


def test_nothing_is_looked_for_where_nothing_lasts_or_nothing_is_known() -> None:
    for other in (plan(resume=None), plan(outputs=OutputSink())):
        assert not goes_on(other)
        assert "resume.py" not in launch_script(other, TEMPLATES)


def test_a_switch_is_given_only_where_there_is_a_checkpoint() -> None:
    switched = plan(command=("train.py", "--resume"), resume=Resume(kind="files", flag="--resume", auto=True))
    assert without_checkpoint(switched, ("python", *switched.command)) == ("python", "train.py")


def test_a_config_key_takes_the_path_where_no_option_does() -> None:
    keyed = plan(
        resume=Resume(kind="trainer"), config_keys={"training.resume_from": ConfigKey(path="c.yaml", key="resume")}
    )
    assert goes_on(keyed)
    script = launch_script(keyed, TEMPLATES)
    assert '--key=resume --overlay "$task_dir/checkpoint.json"' in script
    assert 'overlays.py" \\\n    "$task_dir/checkpoint.json"' in script


def test_the_plan_says_where_it_was_read() -> None:
    profile = with_option("--resume", FILES)
    (change,) = resume_changes(plan(resume=None, flags={"training.lr": "--lr"}), profile)
    assert change.by is Author.REPOSITORY
    assert apply_changes(plan(resume=None), [change]).resume == Resume(
        kind="files", flag="--resume", pattern="ckpt_*.pt"
    )


def test_approval_says_what_an_interruption_would_lose() -> None:
    assert starts_anew(plan(), nomad(), None) == ()
    assert "starts anew" in starts_anew(plan(resume=None), nomad(), 7200.0)[0]
    assert "vanish" in starts_anew(plan(outputs=OutputSink()), nomad(), None)[0]
    assert starts_anew(plan(resume=None), builtin(), 60.0) == ()


def test_a_flag_is_one_word_or_two() -> None:
    assert resume_words(Resume(kind="trainer", flag="--x")) == ("--x", True)
    assert resume_words(Resume(kind="trainer", flag="x")) == ("x=", False)


# ---- what it is bound to


def changed(before: TrainingPlan, **values: Any) -> TrainingPlan:
    return apply_changes(before, [PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in values.items()])


def repaired(before: TrainingPlan, values: dict[str, Any]) -> TrainingPlan:
    return apply_changes(before, [PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in values.items()])


@pytest.mark.parametrize(
    "values",
    [
        {"training.micro_batch": 4, "training.grad_accum": 4},
        {"training.grad_checkpointing": True},
        {"training.num_workers": 0},
        {"resources.memory_mb": 9000},
        {"exclude_nodes": ["n1"]},
        {"training.options.--save-every": 5},
        {"command": ["src/train.py"]},
    ],
)
def test_what_leaves_the_training_as_it_is_goes_on(values: dict[str, Any]) -> None:
    before = repaired(plan(), {"training.micro_batch": 8, "training.grad_accum": 2})
    assert incompatible(before, repaired(before, values)) == ()


def test_more_epochs_of_a_persons_own_go_on() -> None:
    longer = apply_changes(plan(), [PlanChange(path="training.epochs", value=9, by=Author.USER)])
    assert incompatible(plan(), longer) == ()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"training.micro_batch": 4}, "batch of an update 16 → 8"),
        ({"training.lora_rank": 4}, "lora_rank unset → 4"),
        ({"training.max_steps": 500}, "max_steps unset → 500"),
        ({"training.epochs": 1}, "epochs unset → 1.0"),
        ({"model.id": "other"}, "model unset → other"),
        ({"training.optimizer": "sgd"}, "optimizer unset → sgd"),
        ({"training.precision": "fp32"}, "precision unset → fp32"),
        ({"training.quant_bits": 4}, "quant_bits unset → 4"),
        ({"training.lr": 0.1}, "lr unset → 0.1"),
        ({"training.options.--hidden": 64}, "--hidden unset → 64"),
    ],
)
def test_what_changes_the_training_starts_anew_and_says_why(values: dict[str, Any], told: str) -> None:
    before = repaired(plan(), {"training.micro_batch": 8, "training.grad_accum": 2})
    assert incompatible(before, repaired(before, values)) == (told,)


def test_the_number_of_processes_counts_where_the_state_is_spread_over_them() -> None:
    start = {"training.micro_batch": 4, "training.grad_accum": 2, "launch.nproc": 2}
    half = {"training.grad_accum": 4, "launch.nproc": 1}
    plain = repaired(plan(), start)
    assert incompatible(plain, repaired(plain, half)) == ()
    sharded = repaired(plan(), {**start, "launch.launcher": "deepspeed"})
    assert incompatible(sharded, repaired(sharded, half)) == ("processes 2 → 1",)


# ---- how far it came


def test_how_far_it_came_is_what_was_saved() -> None:
    assert done_share("step 30/40 loss 1\nsaved checkpoint-20\nstep 35/40 loss 1\n") == 0.5
    bar = " 55%|█████     | 550/1000 [00:10<00:08]\nSaving model checkpoint to out/checkpoint-500\n"
    assert done_share(bar) == 0.5
    assert done_share("step 30/40 loss 1\n") is None
    assert done_share("saved checkpoint-20\n") is None


@given(st.text(max_size=400))
def test_any_log_says_a_share_or_nothing(log: str) -> None:
    share = done_share(log)
    assert share is None or 0 < share <= 1

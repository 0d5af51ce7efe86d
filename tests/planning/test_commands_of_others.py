"""Commands as people document them: wrappers, other machines' places, trackers, processes, epochs and steps."""

import tempfile
from pathlib import Path

import pytest

from caravan.analysis import analyze, open_source
from caravan.planning.batches import batch_text, effective_batch, processes
from caravan.planning.command import command_line, command_variables, read_command, same_flag, unpassed
from caravan.planning.draft import draft_plan
from caravan.planning.launchers import launch_words
from caravan.planning.quiet import quieted
from caravan.values.base import Json
from caravan.values.plan import Author, PlanChange, TrainingPlan
from caravan.values.repo import ConfigValue, EntryCandidate, HyperparameterFlag, Launcher, RepoProfile, ScriptOption
from tests.planning.scenes import ARCHIVE, OUTPUTS, node, nomad, request

FLEET = nomad(node("a", ("NVIDIA H100 80GB HBM3", 81559, 8)), node("b", ("NVIDIA H100 80GB HBM3", 81559, 8)))
TRAINER = (
    ScriptOption(flag="--model_name_or_path", type="str"),
    ScriptOption(flag="--dataset_name", type="str"),
    ScriptOption(flag="--per_device_train_batch_size", default=8, type="int"),
    ScriptOption(flag="--gradient_accumulation_steps", default=1, type="int"),
    ScriptOption(flag="--num_train_epochs", default=3.0, type="float"),
    ScriptOption(flag="--max_steps", default=-1, type="int"),
    ScriptOption(flag="--report_to", type="str"),
    ScriptOption(flag="--push_to_hub", default=False, type="bool"),
    ScriptOption(flag="--bf16", default=False, type="bool"),
    ScriptOption(flag="--output_dir", type="str"),
)


def profile(command: str, options: tuple[ScriptOption, ...] = TRAINER, **more: object) -> RepoProfile:
    fields: dict[str, object] = {
        "root": "/repo",
        "tree_digest": "0" * 64,
        "is_training_repo": True,
        "entry_point": "train.py",
        "launcher": Launcher.PYTHON,
        "launch_command": command,
        "framework": "pytorch",
        "libraries": ("torch", "transformers"),
        "cli_style": "hfargparser",
        "options": options,
        "candidates": (EntryCandidate(entry_point="train.py", launcher=Launcher.PYTHON, score=9),),
    }
    return RepoProfile.model_validate({**fields, **more})


def planned(found: RepoProfile, prompt: str = "train it", **sets: Json) -> TrainingPlan:
    changes = tuple(PlanChange(path=p.replace("__", "."), value=v, by=Author.USER) for p, v in sets.items())
    asked = request(prompt, sets=changes)
    return draft_plan(found, asked, FLEET, code=ARCHIVE, outputs=OUTPUTS, image="image:1")


@pytest.mark.parametrize(
    ("text", "launcher", "command"),
    [
        ("srun -N1 --gres=gpu:8 python train.py --lr 1", "python", ("train.py", "--lr", "1")),
        ("sbatch --nodes=2 scripts/train.sh", "bash", ("scripts/train.sh",)),
        ("srun torchrun --nproc_per_node 8 train.py", "torchrun", ("train.py",)),
        ("nohup uv run --extra cuda python train.py", "python", ("train.py",)),
        ("conda run -n env python -m pkg.train", "python", ("-m", "pkg.train")),
        ("poetry run train --lr 1", "cli", ("train", "--lr", "1")),
        ("mpirun -n 4 python train.py", "cli", ("mpirun", "-np", "4", "python", "train.py")),
        ("papermill a.ipynb b.ipynb -p lr 0.1", "notebook", ("a.ipynb", "lr=0.1")),
        ("jupyter nbconvert --to notebook --execute a.ipynb", "notebook", ("a.ipynb",)),
        ("python train.py --eos_token '<|end|>' --pad_token <pad>", "python",
         ("train.py", "--eos_token", "<|end|>", "--pad_token", "<pad>")),
        ("python train.py '[folder with data]' --m '[q,v]'", "python", ("train.py", "--m", "[q,v]")),
        ("lightning run model --devices=8 --num-nodes=2 --main-address=10.0.0.1 t.py", "cli",
         ("lightning", "run", "model", "--devices=8", "t.py")),
    ],
)  # fmt: skip
def test_what_only_starts_it_elsewhere_is_taken_off(text: str, launcher: str, command: tuple[str, ...]) -> None:
    read = read_command(text, foreign=True)
    assert read is not None
    assert (read.launcher, read.command) == (launcher, command)


def test_places_and_processes_of_another_machine_are_gaps() -> None:
    text = "MASTER_PORT=1 A=$B "
    text += "PYTHONPATH=$PWD/src:$PYTHONPATH python train.py --data /home/me/x --cfg=~/c.yaml --out ./o --help"
    read = read_command(text, foreign=True)
    assert read is not None
    assert read.env == {"PYTHONPATH": "src"}
    assert read.command == ("train.py", "--out", "./o")
    assert read.gaps == read.places == ("--data", "--cfg")
    own = read_command(text)  # a person's own command: the places are that person's
    assert own is not None
    assert "/home/me/x" in own.command


def test_trackers_and_uploads_are_off_unless_they_are_wished_for() -> None:
    found = profile("python train.py --report_to wandb --push_to_hub --output_dir o", env_vars_needed=())
    plan = planned(found)
    words = command_line(plan)
    assert words == (
        "train.py",
        "--report_to",
        "none",
        "--push_to_hub",
        "False",
        "--output_dir",
        "/state/runs/r1/outputs",
    )
    assert plan.env["WANDB_MODE"] == "disabled"
    assert len(quieted(plan)) == 4
    wished = planned(found, "train it, log to wandb and push it to the hub")
    assert command_line(wished)[:4] == ("train.py", "--report_to", "wandb", "--push_to_hub")
    assert "WANDB_MODE" not in wished.env
    assert set(wished.secrets) == {"WANDB_API_KEY", "HF_TOKEN"}
    denied = planned(found, "train it without wandb, don't push to the hub")
    assert denied.env["WANDB_MODE"] == "disabled"


def test_a_config_that_pushes_to_the_hub_does_not() -> None:
    values = (ConfigValue(file="c.yaml", key="push_to_hub", value=True, line=3),)
    plan = planned(profile("python train.py --config c.yaml", config_files=("c.yaml",), config_values=values))
    assert [(o.path, o.values) for o in plan.config_overlays] == [("c.yaml", {"push_to_hub": False})]


def test_epochs_are_not_ended_by_documented_steps() -> None:
    found = profile("python train.py --max_steps 500 --num_train_epochs 1")
    assert "--max_steps" not in command_line(planned(found, training__epochs=4))
    assert "500" in command_line(planned(found, training__max_steps=500, training__epochs=4))
    limited = (
        *(o for o in TRAINER if o.flag != "--max_steps"),
        ScriptOption(flag="--max_steps", default=9, type="int"),
    )
    words = command_line(planned(profile("python train.py", limited), training__epochs=4))
    assert words[words.index("--max_steps") + 1] == "-1"


def test_an_update_is_what_was_asked_for() -> None:
    found = profile("torchrun --nproc_per_node 8 train.py --per_device_train_batch_size 4", launcher=Launcher.TORCHRUN)
    plan = planned(found, training__global_batch=64, resources__gpus=2)
    assert (effective_batch(plan), processes(plan), unpassed(plan)) == (64, 2, ())
    assert batch_text(plan) == "64 = 4 a GPU x 8 accumulated x 2 processes"
    alone = planned(profile("python train.py --per_device_train_batch_size 4"), resources__gpus=0)
    assert batch_text(alone) == "4 = 4 a process x 1 accumulated x 1 process"
    odd = planned(found, training__global_batch=10, resources__gpus=4)
    assert effective_batch(odd) == 8
    assert "nearest" in odd.provenance["training.micro_batch"].why


def test_an_update_stays_as_large_as_documented_on_fewer_gpus() -> None:
    text = "torchrun --nproc_per_node 8 train.py --gradient_accumulation_steps 2"
    plan = planned(profile(text, launcher=Launcher.TORCHRUN), resources__gpus=1)
    assert effective_batch(plan) == 8 * 8 * 2
    kept = planned(profile(text, launcher=Launcher.TORCHRUN), resources__gpus=1, training__grad_accum=3)
    assert kept.training.grad_accum == 3


def test_options_that_count_gpus_follow_the_plan() -> None:
    options = (
        ScriptOption(flag="--gpus", type="int", help="Number of GPUs"),
        ScriptOption(flag="--batch", help="Total batch size"),
    )
    found = profile("python train.py --gpus=8 --batch=32", options, cli_style="click", libraries=("torch",))
    assert command_line(planned(found, resources__gpus=2)) == ("train.py", "--gpus=2", "--batch=32")
    words = command_line(planned(found, resources__gpus=2, training__micro_batch=8))
    assert words == ("train.py", "--gpus=2", "--batch=16")
    listed = (ScriptOption(flag="--device", default="", help="cuda device, i.e. 0 or 0,1,2,3 or cpu"),)
    found = profile("python train.py --device 0,1,2,3", listed, cli_style="argparse", libraries=("torch",))
    assert command_line(planned(found, resources__gpus=2)) == ("train.py", "--device", "0,1")


def test_torchrun_where_the_library_takes_it_from_there() -> None:
    found = profile("python train.py --output_dir o")
    plan = planned(found, resources__gpus=4)
    assert (plan.launch.launcher, plan.launch.nproc) == (Launcher.TORCHRUN, 4)
    alone = planned(profile("python train.py", libraries=("torch",), cli_style="argparse"), resources__gpus=4)
    assert alone.launch.launcher is Launcher.PYTHON
    assert planned(found, resources__gpus=1).launch.launcher is Launcher.PYTHON


def test_the_old_launchers_option_is_still_given() -> None:
    options = (*TRAINER, ScriptOption(flag="--local_rank", default=-1, type="int"))
    text = "python -m torch.distributed.launch --nproc_per_node=2 train.py --output_dir o"
    words = launch_words(planned(profile(text, options, launcher=Launcher.TORCHRUN), resources__gpus=2))
    at = words.index("--no-python")
    assert words[at + 1 : at + 5] == ("sh", "-c", 'exec python "$@" --local_rank="$LOCAL_RANK"', "sh")
    assert words[at + 5] == "train.py"


def test_model_and_data_of_the_sentence_reach_their_options() -> None:
    found = profile(
        "python train.py --model_name_or_path a/b --dataset_name c/d", base_model="x/y-7b", dataset="mine.jsonl"
    )
    words = command_line(planned(found, "fine-tune x/y-7b on mine.jsonl"))
    assert words[:5] == ("train.py", "--model_name_or_path", "x/y-7b", "--dataset_name", "mine.jsonl")
    assert command_line(planned(found, "train it"))[:3] == ("train.py", "--model_name_or_path", "a/b")
    options = (ScriptOption(flag="--model", default="resnet50"), ScriptOption(flag="--output_dir"))
    plan = planned(profile("python train.py", options, base_model="x/y-7b"), "fine-tune x/y-7b")
    assert "x/y-7b" not in command_line(plan)
    assert unpassed(plan) == ("model.id",)


def test_a_script_is_told_by_the_variables_that_it_reads() -> None:
    script = "BATCH_SIZE=${BATCH_SIZE:-8}\nSEED=1\npython train.py --batch-size $BATCH_SIZE --seed $SEED\n"
    train = "import torch, argparse\np = argparse.ArgumentParser()\n"
    train += "p.add_argument('--batch-size')\np.add_argument('--seed')\n"
    train += "for epoch in range(3):\n    loss.backward()\n    optimizer.step()\n"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repo"
        root.mkdir()
        (root / "run.sh").write_text(script, encoding="utf-8")
        (root / "train.py").write_text(train, encoding="utf-8")
        (root / "README.md").write_text("```bash\nbash run.sh\n```\n", encoding="utf-8")
        found = analyze(open_source(str(root), cache=Path(folder) / "cache"), "train it", entry="run.sh")
    found = found.model_copy(
        update={"launcher": Launcher.BASH, "entry_point": "run.sh", "launch_command": "bash run.sh"}
    )
    plan = planned(found, training__micro_batch=2, training__seed=7)
    if any(o.flag == "$BATCH_SIZE" for o in found.options):
        assert command_variables(plan) == {"BATCH_SIZE": "2"}
    assert command_line(plan) == ("run.sh",)
    assert "training.seed" in unpassed(plan)


VARIABLES = (
    ScriptOption(flag="$APP_LR", default=0.1, type="float"),
    ScriptOption(flag="$APP_EPOCHS", default=3, type="int"),
    ScriptOption(flag="$APP_BF16", default=True, type="bool"),
    ScriptOption(flag="$APP_SEED", default=1, type="int"),
)
KEYS = {
    "learning_rate": HyperparameterFlag(flag="$APP_LR", default=0.1),
    "epochs": HyperparameterFlag(flag="$APP_EPOCHS", default=3),
}


def test_a_program_is_told_by_the_variables_that_it_reads() -> None:
    found = profile("APP_LR=0.2 python train.py", VARIABLES, cli_style=None, key_hyperparameters=KEYS)
    plan = planned(found, training__epochs=5, training__seed=7, training__precision="fp32")
    assert (plan.training.lr, plan.set_by("training.lr")) == (0.2, Author.REPOSITORY)
    assert command_variables(plan) == {"APP_EPOCHS": "5", "APP_SEED": "7", "APP_BF16": "0"}
    assert command_line(plan) == ("train.py",)
    assert unpassed(plan) == ()


def test_a_variable_that_a_person_sets_is_the_fields_value() -> None:
    plan = planned(profile("python train.py", VARIABLES, cli_style=None, key_hyperparameters=KEYS), env__APP_LR="0.3")
    assert (plan.training.lr, plan.set_by("training.lr")) == (0.3, Author.USER)
    assert command_variables(plan) == {"APP_LR": "0.3"}


def test_an_option_is_no_variable_of_the_same_letters() -> None:
    assert not same_flag("--lr", "$lr")


def test_constants_are_told_with_their_own_type() -> None:
    options = (
        ScriptOption(flag="--grad_clip", default=1.0, type="float"),
        ScriptOption(flag="--max_iters", default=9, type="int"),
    )
    keys = {"epochs": HyperparameterFlag(flag="--max_iters", default=9)}
    found = profile("python train.py", options, cli_style="constants", key_hyperparameters=keys, libraries=("torch",))
    plan = planned(found, training__max_grad_norm=2, training__max_steps=5)
    assert command_line(plan) == ("train.py", "--max_iters=5", "--grad_clip=2.0")
    assert unpassed(planned(found, training__epochs=2)) == ("training.epochs",)

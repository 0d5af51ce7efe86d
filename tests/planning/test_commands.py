import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.checks import check_job
from caravan.planning.command import command_line, flag_text, output_dir, read_command, set_flag, unpassed
from caravan.planning.draft import draft_plan
from caravan.planning.flags import known_flags
from caravan.planning.launchers import launch_words
from caravan.values.plan import Author, Launch, OutputSink, PlanChange, apply_changes
from caravan.values.repo import HyperparameterFlag, Launcher, RepoProfile, ScriptOption
from tests.planning.scenes import ARCHIVE, OUTPUTS, bare_plan, builtin, llm_profile, numpy_profile, request


@pytest.mark.parametrize(
    ("default", "directory"),
    [
        ("line.csv", False),
        ("out/model.safetensors", False),
        ("out", True),
        ("./runs/v1.0", True),
        ("../x", True),
        (None, True),
    ],
)
def test_an_option_for_a_file_is_not_given_a_directory(default: str | None, directory: bool) -> None:
    profile = RepoProfile(
        root="/",
        tree_digest="d",
        is_training_repo=True,
        options=(ScriptOption(flag="--out", default=default),),
        key_hyperparameters={"output_dir": HyperparameterFlag(flag="--out", default=default)},
    )
    assert known_flags(profile).get("training.output_dir") == ("--out" if directory else None)


@pytest.mark.parametrize("flag", ["--grad-checkpoint", "--use_grad_checkpointing", "--checkpoint-activations"])
def test_activations_computed_anew_have_many_names(flag: str) -> None:
    options = (ScriptOption(flag=flag, type="store_true", default=False, switch="on"),)
    profile = RepoProfile(root="/", tree_digest="d", is_training_repo=True, options=options)
    assert known_flags(profile).get("training.grad_checkpointing=True") == flag


@pytest.mark.parametrize(
    ("text", "launcher", "args", "command", "nproc"),
    [
        ("python train.py --lr 1", "python", (), ("train.py", "--lr", "1"), None),
        ("python3 -m pkg.train -x", "python", (), ("-m", "pkg.train", "-x"), None),
        ("python -u train.py", "python", ("-u",), ("train.py",), None),
        ("torchrun --nproc_per_node=4 --master_port=20001 a/t.py --fsdp 'full_shard auto_wrap'", "torchrun", (),
         ("a/t.py", "--fsdp", "full_shard auto_wrap"), 4),
        ("torchrun --standalone --nproc-per-node 8 t.py", "torchrun", (), ("t.py",), 8),
        ("python -m torch.distributed.run --nproc_per_node 2 t.py", "torchrun", (), ("t.py",), 2),
        ("accelerate launch --config_file z3.yaml src/sft.py --config c.yaml", "accelerate",
         ("--config_file", "z3.yaml"), ("src/sft.py", "--config", "c.yaml"), None),
        ("deepspeed --num_gpus 2 t.py \\\n  --a 1 \\\n  --b", "deepspeed", (), ("t.py", "--a", "1", "--b"), 2),
        ("python3 ${REPO_DIR}/a/t.py --x 1", "python", (), ("a/t.py", "--x", "1"), None),
        ("bash scripts/run.sh x", "bash", (), ("scripts/run.sh", "x"), None),
        ("./run.sh", "bash", (), ("./run.sh",), None),
        ("litgpt finetune m --out_dir o", "cli", (), ("litgpt", "finetune", "m", "--out_dir", "o"), None),
        ("papermill nb.ipynb out.ipynb", "notebook", (), ("nb.ipynb",), None),
        ("papermill -k py3 nb.ipynb out.ipynb -p lr 1", "notebook", ("--kernel", "py3"), ("nb.ipynb", "lr=1"), None),
        ("papermill a/nb.ipynb out.ipynb", "notebook", ("--cwd", "."), ("a/nb.ipynb",), None),
        ("python -m papermill a/nb.ipynb o.ipynb --cwd a", "notebook", ("--cwd", "a"), ("a/nb.ipynb",), None),
        ("jupyter nbconvert --execute a/nb.ipynb", "notebook", (), ("a/nb.ipynb",), None),
    ],
)  # fmt: skip
def test_documented_commands_are_taken_apart(
    text: str, launcher: str, args: tuple[str, ...], command: tuple[str, ...], nproc: int | None
) -> None:
    read = read_command(text)
    assert read is not None
    assert (read.launcher, read.launcher_args, read.command, read.nproc) == (launcher, args, command, nproc)


def test_environment_and_placeholders_are_told_apart() -> None:
    read = read_command('A=1 CUDA_VISIBLE_DEVICES=0 python t.py --x="<the model path>" --data <dir> --y 2  # note')
    assert read is not None
    assert read.env == {"A": "1"}
    assert read.command == ("t.py", "--y", "2")
    assert read.gaps == ("--x", "--data")


@pytest.mark.parametrize("text", ["", "python t.py | tee log", "a && b", "python 'open", "A=1"])
def test_what_is_no_single_command(text: str) -> None:
    assert read_command(text) is None


@given(st.text())
def test_reading_a_command_never_fails(text: str) -> None:
    read_command(text)


@pytest.mark.parametrize(
    ("words", "flag", "value", "wanted"),
    [
        ("t.py", "--lr", 1e-4, "t.py --lr 0.0001"),
        ("t.py --lr 3 --x", "--lr", 2.0, "t.py --lr 2 --x"),
        ("t.py --lr=3 --x", "--lr", 2, "t.py --lr=2 --x"),
        ("t.py --learning-rate 3", "--learning_rate", 2, "t.py --learning-rate 2"),
        ("t.py --shift -3 y", "--shift", -4, "t.py --shift -4 y"),
        ("t.py", "--shift", -4, "t.py --shift -4"),
        ("t.py", "--name", "-x", "t.py --name=-x"),
        ("t.py", "--bf16", True, "t.py --bf16"),
        ("t.py --bf16 --y", "--bf16", True, "t.py --bf16 --y"),
        ("t.py --bf16 True --y", "--bf16", False, "t.py --bf16 False --y"),
        ("t.py --bf16 --y", "--bf16", False, "t.py --y"),
        ("t.py", "--bf16", False, "t.py"),
        ("t.py --m a b --y", "--m", ["c", "d", "e"], "t.py --m c d e --y"),
        ("t.py", "train.lr", 0.1, "t.py train.lr=0.1"),
        ("t.py train.lr=3", "train.lr", 0.1, "t.py train.lr=0.1"),
        ("t.py", "train.bf16", True, "t.py train.bf16=true"),
    ],
)
def test_flags_are_set_as_the_parser_spells_them(words: str, flag: str, value: object, wanted: str) -> None:
    assert " ".join(set_flag(tuple(words.split()), flag, value)) == wanted


def test_numbers_are_typed_as_people_do() -> None:
    assert [flag_text(v) for v in (1.0, 1e-4, 2e-5, 3, True, "x", 1e20)] == [
        "1", "0.0001", "2e-05", "3", "True", "x", "1e+20",
    ]  # fmt: skip


def test_the_repositorys_own_values_are_not_repeated_and_changes_are_followed() -> None:
    plan = draft_plan(numpy_profile(), request("5 epochs"), builtin(), code=ARCHIVE, outputs=OUTPUTS, image=None)
    assert plan.training.micro_batch == 16
    assert plan.set_by("training.micro_batch") is Author.REPOSITORY
    base = ("train.py", "--data", "data/text.txt", "--output-dir", OUTPUTS.location, "--epochs", "5")
    assert command_line(plan) == base
    mended = apply_changes(plan, [PlanChange(path="training.micro_batch", value=8, by=Author.REPAIR)])
    assert command_line(mended) == (*base, "--batch-size", "8")
    more = apply_changes(plan, [PlanChange(path="training.options.--lora-alpha", value=4, by=Author.USER)])
    assert command_line(more) == (*base, "--lora-alpha", "4")


def test_switches_follow_the_field_that_they_stand_for() -> None:
    plan = draft_plan(llm_profile(), request("LoRA"), builtin(), code=ARCHIVE, outputs=OUTPUTS, image=None)
    assert "--use_peft" in command_line(plan)
    changes = [("training.precision", "bf16"), ("training.grad_checkpointing", True), ("training.method", "full")]
    plan = apply_changes(plan, [PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in changes])
    words = command_line(plan)
    assert "--bf16" in words
    assert "--gradient_checkpointing" in words
    assert "--use_peft" not in words


def test_what_no_flag_takes_is_known() -> None:
    plan = bare_plan(flags={"training.precision=bf16": "--bf16", "training.lr": "--lr"})
    values = {"training.precision": "fp16", "training.lr": 0.1, "training.seed": 3}
    plan = apply_changes(plan, [PlanChange(path=p, value=v, by=Author.USER) for p, v in values.items()])
    assert unpassed(plan) == ("training.precision", "training.seed")


@pytest.mark.parametrize(
    ("launch", "wanted"),
    [
        (Launch(), "python t.py"),
        (Launch(launcher=Launcher.BASH), "bash t.py"),
        (Launch(launcher=Launcher.CLI), "t.py"),
        (Launch(launcher=Launcher.TORCHRUN, nproc=4),
         "python -m torch.distributed.run --standalone --nproc-per-node=4 --nnodes=1 t.py"),
        (Launch(launcher=Launcher.TORCHRUN, master_port=5000),
         "python -m torch.distributed.run --master-port=5000 --nproc-per-node=1 --nnodes=1 t.py"),
        (Launch(launcher=Launcher.ACCELERATE, nproc=2),
         "python -m accelerate.commands.launch --num_processes=2 --num_machines=1 --multi_gpu t.py"),
        (Launch(launcher=Launcher.ACCELERATE, nproc=2, args=("--config_file", "z.yaml")),
         "python -m accelerate.commands.launch --num_processes=2 --num_machines=1 --config_file z.yaml t.py"),
        (Launch(launcher=Launcher.DEEPSPEED, nproc=2), "python -m deepspeed.launcher.runner --num_gpus=2 t.py"),
    ],
)  # fmt: skip
def test_launchers(launch: Launch, wanted: str) -> None:
    assert " ".join(launch_words(bare_plan("t.py", launch=launch))) == wanted


def test_a_notebook_is_run_into_the_outputs() -> None:
    plan = bare_plan("nb/train.ipynb", "lr=0.1", launch=Launch(launcher=Launcher.NOTEBOOK))
    words = launch_words(plan)
    assert words[:5] == ("python", "-m", "papermill", "nb/train.ipynb", f"{OUTPUTS.location}/train.ipynb")
    assert "--log-output" in words  # else nothing that its cells print is in the log
    assert " ".join(words[-7:]) == "-k python3 --cwd nb -p lr 0.1"
    own = Launch(launcher=Launcher.NOTEBOOK, args=("--kernel", "ir", "--cwd", "."))
    assert " ".join(launch_words(bare_plan("nb/train.ipynb", launch=own))[-4:]) == "--kernel ir --cwd ."


def test_places_for_outputs() -> None:
    assert output_dir(bare_plan()) == OUTPUTS.location
    assert output_dir(bare_plan(outputs=OutputSink())) == "${NOMAD_ALLOC_DIR}/data/outputs"


def test_a_documented_command_without_a_program_starts_nothing() -> None:
    assert read_command("-", Launcher.PYTHON, foreign=True) is None


def test_a_masked_word_is_never_deployed() -> None:
    documented = read_command(
        "torchrun --nproc_per_node 2 --log=[masked] t.py -m [masked] --k=[masked] --flag [masked] x"
    )
    assert documented is not None
    assert documented.launcher_args == ()
    assert documented.command == ("t.py", "x")
    plan = bare_plan().model_copy(update={"command": ("t.py", "--token", "[masked]")})
    assert any("where a secret was" in problem for problem in check_job(plan, builtin()))


def test_a_repair_of_a_typed_option_is_heard() -> None:
    """Who typed `--batch-size 64` as an option gets a smaller one when it does not fit."""
    sets = (PlanChange(path="training.options.--batch-size", value=64, by=Author.USER),)
    plan = draft_plan(numpy_profile(), request(sets=sets), builtin(), code=ARCHIVE, outputs=OUTPUTS, image=None)
    assert plan.training.micro_batch == 64
    mended = apply_changes(plan, [PlanChange(path="training.micro_batch", value=16, by=Author.REPAIR)])
    words = command_line(mended)
    assert words[words.index("--batch-size") + 1] == "16"
    assert words.count("--batch-size") == 1

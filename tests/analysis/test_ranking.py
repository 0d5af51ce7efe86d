"""Which file trains, told apart by the request: small repositories, one for each way in which real ones are built."""

import json

import pytest

from caravan.values.repo import Launcher
from tests.analysis.repositories import LOOP, profile_of, script

PARSER = """import argparse
p = argparse.ArgumentParser()
p.add_argument("--lr", type=float, default=1e-4)
p.add_argument("--epochs", type=int, default=2)
p.add_argument("--output-dir", default="out")"""
TRAINS = script(PARSER)
TRAINER = "from trl import {0}\n\ndef main():\n    {0}(model='m').train()\n\nif __name__ == '__main__':\n    main()\n"
CUDA = """#include <stdio.h>
void gpt_backward(float *x) {}
void adamw_update(float *x) {}
int main(int argc, char **argv) {
  gpt_backward(0); adamw_update(0);
  save_checkpoint_to_file("model.bin");
}
"""


def readme(*commands: str) -> str:
    return "# It\n\n## Training\n```bash\n" + "\n".join(commands) + "\n```\n"


LIBRARY = {
    "examples/mnist/main.py": TRAINS,
    "examples/wmt/main.py": TRAINS,
    "examples/ppo_game/main.py": TRAINS,
    "examples/README.md": "".join(
        f"## {n}\n```\ncd {n} && python main.py\n```\n" for n in ("mnist", "wmt", "ppo_game")
    ),
    "kit/__init__.py": "",
}
OBJECTIVES = {
    **{f"scripts/{n}.py": TRAINER.format(f"{n.upper()}Trainer") for n in ("dpo", "sft", "grpo")},
    "scripts/pretrain.py": TRAINS,
    "README.md": readme(*(f"python scripts/{n}.py" for n in ("sft", "dpo", "grpo", "pretrain"))),
}


@pytest.mark.parametrize(
    ("files", "prompt", "entry"),
    [
        (LIBRARY, "Train the MNIST example", "examples/mnist/main.py"),
        (LIBRARY, "Train the WMT14 translation model on 4 GPUs", "examples/wmt/main.py"),
        (OBJECTIVES, "Run DPO on the SFT model", "scripts/dpo.py"),
        (OBJECTIVES, "Fine-tune a small model on my chats", "scripts/sft.py"),
        (OBJECTIVES, "Reinforcement learning with GRPO", "scripts/grpo.py"),
        (OBJECTIVES, "Pre-train from scratch on my corpus", "scripts/pretrain.py"),
    ],
)
def test_the_request_chooses_among_examples_and_objectives(tmp_path, files, prompt, entry):
    assert profile_of(tmp_path, files, prompt).entry_point == entry


def test_an_adapter_is_asked_for(tmp_path):
    full, lora = TRAINS, TRAINS.replace('"--lr"', '"--lora_rank", type=int, default=8)\np.add_argument("--lr"')
    files = {
        "train_big.py": full,
        "train_net.py": lora,
        "README.md": readme("python train_big.py", "python train_net.py"),
    }
    profile = profile_of(tmp_path, files, "Train a LoRA on my pictures")
    assert profile.entry_point == "train_net.py"
    other = next(c for c in profile.candidates if c.entry_point == "train_big.py")
    assert "nothing in it speaks of an adapter" in other.against


def test_a_wrapper_script_gives_the_python_file_its_command(tmp_path):
    files = {
        "finetune.py": TRAINS,
        "shell/finetune_lora_single_gpu.sh": "ARGS=(\n  --lr 1e-5  # slow\n  --epochs 1\n)\n"
        "python finetune.py ${ARGS[@]}\n",
        "shell/finetune_ds.sh": 'D="\n  --nproc_per_node 8 \\\n  --nnodes 1\n"\ntorchrun $D finetune.py --lr 1e-4\n',
        "README.md": readme("bash shell/finetune_lora_single_gpu.sh", "bash shell/finetune_ds.sh"),
    }
    one = profile_of(tmp_path, files, "LoRA fine-tune on one GPU")
    assert (one.entry_point, one.launcher) == ("finetune.py", Launcher.PYTHON)
    assert one.launch_command == "python finetune.py --lr 1e-5 --epochs 1"
    several = profile_of(tmp_path, files, "Full fine-tuning on 8 GPUs")
    assert several.launcher is Launcher.TORCHRUN
    assert several.launch_command == "torchrun --nproc_per_node 8 --nnodes 1 finetune.py --lr 1e-4"


def test_arguments_in_a_here_document(tmp_path):
    files = {
        "kit/cli/train_dpo.py": TRAINS,
        "scripts/train_dpo.sh": "read -r -d '' words <<EOF\nkit.cli.train_dpo \\\n   --lr 5e-7 \\\n   --epochs 1\nEOF\n"
        "deepspeed --module $words\n",
    }
    profile = profile_of(tmp_path, files, "DPO on my pairs")
    assert (profile.entry_point, profile.launcher) == ("kit/cli/train_dpo.py", Launcher.DEEPSPEED)
    assert profile.launch_command == "deepspeed --module kit.cli.train_dpo --lr 5e-7 --epochs 1"


def test_a_compiled_trainer_under_mpirun(tmp_path):
    files = {
        "train_net.cu": CUDA,
        "layer.h": "",
        "Makefile": "train_net: train_net.cu\n\tnvcc $^ -o $@\n",
        "prepare.py": "print(1)\n",
        "run_big.sh": "make train_net\nwhile true; do\n  mpirun -np 8 ./train_net -b 64 -o out\n  sleep 1\ndone\n",
        "README.md": readme("./train_net"),
    }
    profile = profile_of(tmp_path, files, "Reproduce the net on 8 GPUs")
    assert (profile.entry_point, profile.contract()["launcher"]) == ("./train_net", "cli:mpirun")
    assert profile.launch_command == "mpirun -np 8 ./train_net -b 64 -o out"
    assert profile.prep_commands == ("make train_net",)
    assert "never-ends" in {h.kind for h in profile.hazards}


def test_a_task_file_starts_an_installed_tool(tmp_path):
    project = {
        "vars": {"config": "small"},
        "commands": [{"name": "train", "script": ["python -m textkit train configs/${vars.config}.cfg --gpu-id 0"]}],
    }
    files = {
        "topics/project.yml": json.dumps(project),
        "topics/requirements.txt": "textkit\n",
        "topics/configs/small.cfg": "[training]\nmax_epochs = 3\n",
    }
    profile = profile_of(tmp_path, files, "Train the topics classifier")
    assert (profile.entry_point, profile.contract()["launcher"]) == ("textkit train", "cli:textkit")
    assert profile.launch_command == "python -m textkit train configs/small.cfg --gpu-id 0"
    assert profile.launch_cwd == "topics"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("justfile", "size := '8'\ntrain:\n    python code/fit_it.py --lr {{size}}\n"),
        ("Taskfile.yml", "tasks:\n  train:\n    cmds:\n      - python code/fit_it.py --lr 8\n"),
        ("package.json", '{"scripts": {"train": "python code/fit_it.py --lr 8"}}'),
        ("tasks.py", "@task\ndef train(c):\n    c.run('python code/fit_it.py --lr 8')\n"),
        ("noxfile.py", "def train(session):\n    session.run('python', 'code/fit_it.py', '--lr', '8')\n"),
        ("Dockerfile", 'FROM x\nCMD ["python", "code/fit_it.py", "--lr", "8"]\n'),
        (".github/workflows/t.yml", "jobs:\n  a:\n    steps:\n      - run: python code/fit_it.py --lr 8\n"),
        ("docs/use.rst", "Training\n========\n\n.. code-block:: bash\n\n    python code/fit_it.py --lr 8\n"),
        ("docs/use.md", "<h2>Training</h2>\n<pre>\npython code/fit_it.py --lr 8\n</pre>\n"),
        ("run.sbatch", "#!/bin/bash\n#SBATCH --gres=gpu:4\nsrun python code/fit_it.py --lr 8\n"),
        (
            "use.ipynb",
            json.dumps({"cells": [{"cell_type": "code", "source": ["!python code/fit_it.py --lr 8"]}]}),
        ),
    ],
)
def test_commands_are_found_where_they_stand(tmp_path, name, text):
    profile = profile_of(tmp_path, {"code/fit_it.py": TRAINS, name: text}, "Train it")
    assert profile.entry_point == "code/fit_it.py"
    assert profile.launch_command == "python code/fit_it.py --lr 8"
    assert [e.file for e in profile.evidence["launch_command"]] == [name]


def test_a_file_says_itself_how_it_is_started(tmp_path):
    text = '"""Trains.\n\nUsage:\n    torchrun --nproc_per_node 2 fit_it.py --lr 1\n"""\n' + TRAINS
    profile = profile_of(tmp_path, {"fit_it.py": text}, "Train it")
    assert (profile.launcher, profile.launch_command) == (
        Launcher.TORCHRUN,
        "torchrun --nproc_per_node 2 fit_it.py --lr 1",
    )


@pytest.mark.parametrize(
    "files",
    [
        {
            "README.md": "Run `loss train`, or see the table.\n```\nepoch train loss 0.3\n```\n",
            "infer.py": "print(1)\n",
        },
        {"tests/test_fit.py": TRAINS, "kit/__init__.py": "", "kit/net.py": "def f():\n    loss.backward()\n"},
        {"kit/trainer.py": f"def train(model, batches):{LOOP}", "demo.py": "from kit import trainer\nprint(1)\n"},
        {"net_test.py": TRAINS, "README.md": "For training see https://github.com/other/code\n"},
    ],
    ids=["inference only", "library and tests", "demonstration", "a test"],
)
def test_what_is_no_training_repository(tmp_path, files):
    profile = profile_of(tmp_path, files, "Fine-tune it on my data")
    assert (profile.is_training_repo, profile.entry_point, profile.launcher) == (False, None, Launcher.NONE)


def test_a_command_of_the_package_that_nothing_installs_stands_back(tmp_path):
    files = {
        "kit/__init__.py": "",
        "kit/run_sft.py": TRAINS,
        "docs/a.md": readme("kit train conf.yml --lr 1", "kit train other.yml"),
        "docs/b.md": readme("torchrun --nproc-per-node 8 kit/run_sft.py --lr 1"),
    }
    assert profile_of(tmp_path, files, "Fine-tune with kit on 8 GPUs").entry_point == "kit/run_sft.py"


def test_who_submits_to_slurm_stands_behind_who_trains(tmp_path):
    files = {
        "main_pretrain.py": TRAINS,
        "submit_pretrain.py": "import submitit\nimport main_pretrain\n\nclass Trainer: ...\n\n"
        "if __name__ == '__main__':\n    Trainer()\n    main_pretrain.main()\n",
        "README.md": readme("python submit_pretrain.py --nodes 8"),
    }
    assert profile_of(tmp_path, files, "Pre-train it").entry_point == "main_pretrain.py"


def test_preparation_in_order_and_evaluation_left_out(tmp_path):
    files = {
        "data/prepare.py": "print(1)\n",
        "train.py": TRAINS,
        "README.md": readme(
            "wget https://x.org/a.zip",
            "unzip a.zip",
            "python data/prepare.py",
            "python train.py --eval",
            "python train.py --lr 1",
        ),
    }
    profile = profile_of(tmp_path, files, "Train it")
    assert profile.prep_commands == ("wget https://x.org/a.zip", "unzip a.zip", "python data/prepare.py")
    assert profile.launch_command == "python train.py --lr 1"


def test_a_loss_that_the_code_makes_is_found_as_one_in_a_name(tmp_path):
    other = TRAINS.replace("def main", "criterion = losses.TripletMarginLoss(1)\n\ndef main")
    files = {
        "examples/questions/train_TripletMarginLoss.py": other,
        "examples/nli/train_pairs.py": other,
        "examples/nli/train_plain.py": TRAINS,
    }
    assert (
        profile_of(tmp_path, files, "Train on AllNLI with TripletMarginLoss").entry_point
        == "examples/nli/train_pairs.py"
    )

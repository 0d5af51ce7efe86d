"""Task-runner files and shell lines that are broken in any way give what can be read of them, never an error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis.kinds import asked_kinds, judged, named_kinds
from caravan.analysis.notebooks import shell_of
from caravan.analysis.runners import is_runner, runner_blocks
from caravan.analysis.shell_lines import logical_lines, scheduler_header
from caravan.analysis.starts import started, unwrapped

NAMES = (
    *("Makefile", "justfile", "Taskfile.yml", "tox.ini", "package.json", "MLproject", "Procfile", "dvc.yaml"),
    *(
        "project.yml",
        "docker-compose.yml",
        "Dockerfile",
        "noxfile.py",
        "tasks.py",
        "pixi.toml",
        "a/.github/workflows/x.yml",
    ),
)
PIECES = st.sampled_from(
    [
        *(
            "train:\n",
            "\tpython train.py\n",
            "  - run: |\n",
            "commands:\n",
            "CMD [",
            '"python"',
            "]",
            "{{x}}",
            "${vars.y}",
        ),
        *(
            "<<EOF\n",
            "EOF\n",
            "A=(\n",
            ")\n",
            '"',
            "'",
            "\\\n",
            "#SBATCH --gres=gpu:8\n",
            "srun -n 8 ",
            "x := 'y'\n",
            "\n",
        ),
        *(
            "session.run('python', 'a.py')",
            'c.run("python a.py")',
            "{",
            "}",
            ":",
            "- ",
            "&a ",
            "*a",
            "mpirun -np 8 ./x ",
        ),
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=40).map("".join))


@given(st.sampled_from(NAMES), TEXTS)
def test_any_text_in_any_task_file(name, text):
    assert is_runner(name)
    for block in runner_blocks(name, text):
        assert block.line >= 0


@given(TEXTS)
def test_any_text_as_shell_lines(text):
    for line in logical_lines(text, 1):
        assert 1 <= line.number <= text.count("\n") + 1
        words = unwrapped(line.text.split())
        if words:
            started(words)
    scheduler_header(text)
    shell_of(text)
    assert asked_kinds(text) is not None
    assert named_kinds(text) is not None
    judged(text, text)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("#SBATCH --gres=gpu:a100:8\n#SBATCH --nodes=2\n", {"gpus_per_node": "8", "nodes": "2"}),
        ("#SBATCH --gpus 4\n", {"gpus": "4"}),
        ("#SBATCH -N 2 --gpus-per-node=h100:4\n", {"gpus_per_node": "4", "nodes": "2"}),
        ("# SBATCH --gpus=4\n", {}),
    ],
)
def test_what_a_batch_script_asks_for(header, found):
    assert scheduler_header("#!/bin/bash\n" + header) == found


@pytest.mark.parametrize(
    ("line", "target", "launcher"),
    [
        ("srun -n 8 --gres=gpu:8 python train.py", "train.py", "python"),
        ("docker run --rm -it image python train.py", "train.py", "python"),
        ("ray job submit --address x -- python3 -m kit.train", "kit.train", "python"),
        ("uv run --extra gpu torchrun --nproc_per_node 2 train.py", "train.py", "torchrun"),
        ("numactl -N 0 python train.py", "train.py", "python"),
        ("sbatch --nodes 2 jobs/train.slurm", "jobs/train.slurm", "bash"),
        ("lightning run model --devices 8 fit.py", "fit.py", "cli"),
        ("mpirun -np 8 ./train_net -b 4", "./train_net", "cli"),
        ("yolokit detect train data=x", "yolokit detect train", "cli"),
    ],
)
def test_wrappers_are_looked_through(line, target, launcher):
    what = started(unwrapped(line.split()))
    assert what is not None
    assert (what.target, what.launcher.value) == (target, launcher)


def test_notebook_shell_lines():
    cells = ["!pip install x\n!python train.py \\\n  --lr 1", "%%bash\ncd a\npython b.py", "%cd c", "x = 1"]
    book = json.dumps({"cells": [{"cell_type": "code", "source": c} for c in cells]})
    assert shell_of(book).split("\n") == [
        "pip install x",
        "python train.py \\",
        "  --lr 1",
        "cd a",
        "python b.py",
        "cd c",
    ]


@pytest.mark.parametrize(
    ("request_text", "kinds"),
    [
        ("Run DPO on the Zephyr SFT model", {"dpo"}),
        ("Fine-tune the pretrained ViT", {"finetune"}),
        ("Pre-train from scratch", {"pretrain"}),
        ("Train a reward model", {"reward"}),
        ("Train with a reward function", set()),
        ("Train it", set()),
    ],
)
def test_kinds_that_are_asked_for(request_text, kinds):
    assert asked_kinds(request_text) == kinds

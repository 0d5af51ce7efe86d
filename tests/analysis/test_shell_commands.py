"""Commands in shell text and documents: launchers, variables, directories, prompts."""

import pytest

from caravan.analysis.makefile import recipes
from caravan.analysis.markdown import shell_blocks
from caravan.analysis.notebooks import code_of
from caravan.analysis.shell import read_commands
from caravan.values.repo import Launcher


def one(text: str):
    (command,) = read_commands(text, "run.sh")
    return command


@pytest.mark.parametrize(
    ("text", "launcher", "kind", "target"),
    [
        ("python train.py --x 1", Launcher.PYTHON, "script", "train.py"),
        ("$ python3 -u src/train.py", Launcher.PYTHON, "script", "src/train.py"),
        ("python -m pkg.train --x", Launcher.PYTHON, "module", "pkg.train"),
        ("torchrun --nproc_per_node=4 train.py --x", Launcher.TORCHRUN, "script", "train.py"),
        ("torchrun --nproc-per-node 2 -m pkg.train", Launcher.TORCHRUN, "module", "pkg.train"),
        ("python -m torch.distributed.run --nproc_per_node 2 t.py", Launcher.TORCHRUN, "script", "t.py"),
        ("accelerate launch --config_file c.yaml train.py", Launcher.ACCELERATE, "script", "train.py"),
        ("deepspeed --num_gpus 2 train.py --deepspeed z.json", Launcher.DEEPSPEED, "script", "train.py"),
        ("bash scripts/run.sh 8", Launcher.BASH, "script", "scripts/run.sh"),
        ("CUDA_VISIBLE_DEVICES=0 uv run python train.py", Launcher.PYTHON, "script", "train.py"),
        ("nohup python train.py > log.txt 2>&1 &", Launcher.PYTHON, "script", "train.py"),
        ("mytool finetune model --x 1", Launcher.CLI, "console", "mytool finetune"),
        ("papermill nb.ipynb out.ipynb", Launcher.NOTEBOOK, "script", "nb.ipynb"),
    ],
)
def test_launchers(text, launcher, kind, target):
    command = one(text)
    assert (command.launcher, command.kind, command.target) == (launcher, kind, target)


def test_continuations_variables_and_values():
    command = one(
        "MODEL=org/name\nN=${GPUS:-8}\ntorchrun --nproc_per_node $N train.py \\\n"
        '  --model "$MODEL" \\\n  --lr=1e-4 --fast --data $DATA\n'
    )
    assert command.where.line == 3
    assert command.launcher_value("nproc-per-node") == "8"
    assert (command.value("model"), command.value("lr"), command.value("data")) == ("org/name", "1e-4", "$DATA")
    assert command.given_flags() == (("--model", "org/name"), ("--lr", "1e-4"), ("--fast", True), ("--data", "$DATA"))
    assert command.text == "torchrun --nproc_per_node 8 train.py --model org/name --lr=1e-4 --fast --data $DATA"


def test_directories_and_chains():
    found = read_commands("pip install -r r.txt && cd examples/x; python prepare.py | tee log && python train.py", "R")
    assert [(c.target, c.cwd) for c in found] == [("prepare.py", "examples/x"), ("train.py", "examples/x")]
    assert one("cd ../.. && python train.py").cwd == "."


def test_prose_and_other_commands_start_nothing():
    assert (
        read_commands("# python train.py\nls -l\npip install x\ngit clone y\necho python train.py\npython -c 'x'", "R")
        == []
    )
    quoted = read_commands("don't python train.py", "R")  # a quote that is never closed
    assert {c.kind for c in quoted} == {"console"}


def test_environment_of_a_command():
    command = one("export WANDB_MODE=offline\nCUDA_VISIBLE_DEVICES=0,1 python train.py")
    assert command.environment == {"WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": "0,1"}


def test_documents():
    text = "# Setup\n\n```bash\npip install\n```\n## Train\n\nRun `python a.py --x` or:\n\n"
    text += "    python b.py\n\n```python\nimport x\n```\n~~~\npython c.py\n"
    assert [(b.text.strip(), b.line, b.heading) for b in shell_blocks(text)] == [
        ("pip install", 4, "Setup"),
        ("python a.py --x", 8, "Train"),
        ("python b.py", 10, "Train"),
        ("python c.py", 16, "Train"),
    ]


def test_makefiles():
    text = "PY := python3\nOUT = runs # where\n.PHONY: train\ntrain: data\n"
    text += "\t@$(PY) train.py --out $(OUT)\n\techo $$HOME\n\ntest:\n\tpytest\n"
    first, second = recipes(text)
    assert (first.target, first.line, first.text) == ("train", 5, "python3 train.py --out runs\necho $HOME")
    assert second.target == "test"


def test_notebooks():
    assert code_of(
        '{"cells": [{"cell_type": "code", "source": ["!pip install x\\n", "y = 1"]}, {"cell_type": "markdown"}]}'
    ) == ("# !pip install x\ny = 1")
    assert code_of("[]") is None

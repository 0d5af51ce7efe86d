"""Whether a repository could share a training with other nodes."""

from pathlib import Path

import pytest

from caravan.analysis.several_nodes import shares_its_work
from tests.analysis.repositories import opened, script


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"train.py": "rank = int(os.environ['RANK'])\n"}, "train.py"),
        ({"train.py": "import numpy\n", "lib/dist.py": "dist.init_process_group('gloo')\n"}, "train.py"),
        ({"train.py": "import jax\njax.distributed.initialize()\n"}, "train.py"),
        ({"train.py": "from transformers import Trainer\n"}, "train.py"),
        ({"run.sh": "python train.py --node $SLURM_NODEID\n", "train.py": "x = 1\n"}, "run.sh"),
        ({"train.ipynb": '{"cells": [{"source": [\n    "import horovod.torch as hvd\\n",\n "x"]}]}'}, "train.ipynb"),
        ({"c.yaml": "model: x\n"}, "llamafactory-cli train c.yaml"),
        ({"train.py": "x = 1\n"}, "train.py --node ${CARAVAN_NODE_RANK}"),
        ({"own.py": "x = 1\n"}, "installed-trainer train c.yaml"),
        ({"train.py": "p.add_argument('--num_nodes', type=int)\n"}, "python train.py"),
    ],
)
def test_code_that_reads_its_rank_or_has_it_read_shares(tmp_path: Path, files: dict[str, str], command: str) -> None:
    assert shares_its_work(opened(tmp_path / "r", files), command.split())


@pytest.mark.parametrize(
    "files",
    [
        {"train.py": "import numpy as np\n"},
        {"train.py": script("", imports="import torch\nfrom torchvision import models")},
        {"train.py": "# RANK is not read here\nrank_of_matrix = 3\n", "README.md": "torchrun train.py"},
        {"train.py": b"\xff\xfe\x00"},
    ],
)
def test_code_that_does_not_shares_nothing(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    assert not shares_its_work(opened(tmp_path / "r", files), ["train.py"])


def test_a_command_of_the_repository_s_own_is_read(tmp_path: Path) -> None:
    files = {"pyproject.toml": '[project.scripts]\nmytool = "mine:main"\n', "mine.py": "import numpy\n"}
    assert not shares_its_work(opened(tmp_path / "r", files), ["mytool", "train"])

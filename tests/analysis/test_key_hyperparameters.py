"""Which flag, key or constant is taken for each key hyperparameter, and what the profile says of it."""

import pytest

from caravan.values.repo import RepoProfile
from tests.analysis.repositories import profile_of, script


def flags(profile: RepoProfile) -> dict[str, str | None]:
    return {name: f.flag for name, f in profile.key_hyperparameters.items()}


def parser(*rows: str) -> str:
    lines = [f"p.add_argument({row})" for row in rows]
    return "\n".join(["import argparse", "p = argparse.ArgumentParser()", *lines, "args = p.parse_args()"])


def of(tmp_path, *rows: str, readme: str = "") -> dict[str, str | None]:
    files = {"train.py": script(parser(*rows)), **({"README.md": readme} if readme else {})}
    return flags(profile_of(tmp_path, files, "train it"))


def test_micro_batch_before_global_batch_and_train_before_eval(tmp_path):
    found = of(
        tmp_path,
        "'--global-batch-size', default=64",
        "'--eval-batch-size', default=1",
        "'--micro-batch-size', default=2",
        "'--test-seq-length', default=1",
        "'--critic-learning-rate', default=1e-5",
        "'--actor_learning_rate', default=1e-6",
    )
    assert found["batch_size"] == "--micro-batch-size"
    assert found["seq_len"] is None
    assert found["learning_rate"] == "--actor_learning_rate"


def test_the_documented_command_decides_between_epochs_and_steps(tmp_path):
    rows = ("'--num_train_epochs', default=3", "'--max_train_steps', default=None", "'--lr', default=1")
    assert of(tmp_path, *rows)["epochs"] == "--num_train_epochs"
    readme = "# Train\n```bash\npython train.py --max_train_steps 100 --lr 1\n```\n"
    assert of(tmp_path, *rows, readme=readme)["epochs"] == "--max_train_steps"


def test_help_is_evidence_where_the_name_says_nothing(tmp_path):
    found = of(
        tmp_path,
        "'-b', type=int, default=4, help='batch size B'",
        "'-l', type=float, default=3e-4, help='learning rate (default 3e-4)'",
        "'-q', type=float, default=1.0, help='learning rate decay: final fraction'",
        "'-t', type=int, default=1024, help='sequence length T'",
        "'-x', type=int, default=-1, help='max_steps of optimization to run'",
        "'-s', type=int, default=20, help='sample every how many steps'",
        "'-r', default='runs', help='where to save the model'",
    )
    assert list(found.values()) == ["-b", "-l", "-x", "-t", None, "-r"]


def test_what_is_deprecated_or_computed_is_no_setting(tmp_path):
    found = of(
        tmp_path,
        "'--batch-size', default=0, help='the batch size (computed in runtime)'",
        "'--lr', default=0, help='deprecated, use --peak-rate'",
        "'--out_dir', default='x'",
    )
    assert (found["batch_size"], found["learning_rate"]) == (None, None)


@pytest.mark.parametrize(
    "name",
    ["--lr-decay-steps", "--warmup-steps", "--save-steps", "--eval-steps", "--gradient-accumulation-dtype"],
)
def test_names_that_only_look_alike(tmp_path, name):
    assert not any(of(tmp_path, f"'{name}', default=1", "'--seed', default=1").values())


def test_the_subcommand_that_trains_is_taken(tmp_path):
    text = """
import argparse
p = argparse.ArgumentParser()
sub = p.add_subparsers()
e = sub.add_parser("evaluate")
e.add_argument("--batch-size", default=1)
t = sub.add_parser("train")
t.add_argument("--bs", default=8)
"""
    assert flags(profile_of(tmp_path, {"train.py": script(text)}, "train it"))["batch_size"] == "--bs"


def test_keys_of_a_configuration_that_words_override(tmp_path):
    text = "from omegaconf import OmegaConf\ncfg = OmegaConf.merge(OmegaConf.load('conf.yaml'), OmegaConf.from_cli())"
    profile = profile_of(
        tmp_path,
        {
            "train.py": script(text),
            "conf.yaml": "optimizer:\n  lr: 0.1\ndata:\n  batch_size: 8\nepochs: 3\n",
            "README.md": "```bash\npython train.py conf.yaml epochs=3\n```\n",
        },
        "train it",
    )
    assert profile.cli_style == "omegaconf"
    found = profile.key_hyperparameters
    assert (found["learning_rate"].flag, found["learning_rate"].default) == ("optimizer.lr", 0.1)
    assert found["batch_size"].flag == "data.batch_size"
    assert found["epochs"].file is None
    assert profile.option("optimizer.lr")


def test_keys_that_only_the_file_sets_say_so(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "train.py": script("import argparse\np = argparse.ArgumentParser()\np.add_argument('--config')"),
            "configs/small.yml": "train_micro_batch_size_per_gpu: 4\noptimizer:\n  params:\n    lr: 0.001\n",
            "README.md": "```bash\npython train.py --config configs/small.yml\n```\n",
        },
        "train it",
    )
    found = profile.key_hyperparameters["batch_size"]
    assert (found.flag, found.file, found.default) == ("train_micro_batch_size_per_gpu", "configs/small.yml", 4)
    assert profile.key_hyperparameters["learning_rate"].flag == "optimizer.params.lr"
    assert [o.flag for o in profile.options] == ["--config"]


def test_a_configuration_that_a_launcher_of_the_repository_names_beside_the_script(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "train.py": script("import sys"),
            "configs/small.yml": "train_micro_batch_size_per_gpu: 4\n",
            "configs/local.yml": "save: checkpoints\n",
            "README.md": "```bash\npython start.py train.py -d configs small.yml local.yml\n```\n",
            "start.py": "import os, sys\nos.execvp(sys.argv[1], sys.argv)\n",
        },
        "train it",
    )
    found = profile.key_hyperparameters
    assert (found["batch_size"].flag, found["batch_size"].file) == (
        "train_micro_batch_size_per_gpu",
        "configs/small.yml",
    )
    assert found["output_dir"].file == "configs/local.yml"


def test_hydra_keys_stand_below_their_groups(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "train.py": script(
                "import hydra\n@hydra.main(config_path='conf', config_name='config')\ndef run(cfg): ..."
            ),
            "conf/config.yaml": "defaults:\n  - _self_\n  - data: mnist\n  - trainer: one\nseed: 1\n",
            "conf/data/mnist.yaml": "batch_size: 64\n",
            "conf/trainer/one.yaml": "max_epochs: 3\n",
            "conf/data/other.yaml": "batch_size: 1\n",
        },
        "train it",
    )
    assert profile.cli_style == "hydra"
    found = profile.key_hyperparameters
    assert (found["batch_size"].flag, found["batch_size"].default) == ("data.batch_size", 64)
    assert found["epochs"].flag == "trainer.max_epochs"


@pytest.mark.parametrize(
    "start",
    [
        "@hydra.main(config_path='conf/config.yaml')\ndef run(cfg): ...",
        "@hydra.main('conf', config_name='config.yaml')\ndef run(cfg): ...",
        "with hydra.initialize(config_path='conf'):\n    cfg = hydra.compose(config_name='config')",
    ],
)
def test_ways_to_start_hydra(tmp_path, start):
    files = {"train.py": script(f"import hydra\n{start}"), "conf/config.yaml": "optim:\n  lr: 0.5\nbatch_size: 2\n"}
    found = profile_of(tmp_path, files, "train it").key_hyperparameters
    assert (found["learning_rate"].flag, found["learning_rate"].default) == ("optim.lr", 0.5)
    assert found["batch_size"].flag == "batch_size"


def test_structured_configurations(tmp_path):
    classes = """
from dataclasses import dataclass, field
@dataclass
class Optim:
    lr: float = 0.1
@dataclass
class Config:
    optim: Optim = field(default_factory=Optim)
    batch_size: int = 4
"""
    stored = """
import hydra
from hydra.core.config_store import ConfigStore
ConfigStore.instance().store(name="base", node=Config)
@hydra.main(version_base=None, config_name="base")
def run(cfg): ...
"""
    merged = (
        "from omegaconf import OmegaConf\ncfg = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.from_cli())"
    )
    for body in (stored, merged):
        profile = profile_of(tmp_path, {"train.py": script(classes + body)}, "train it")
        assert flags(profile)["learning_rate"] == "optim.lr"
        assert flags(profile)["batch_size"] == "batch_size"


def test_an_installed_tool_is_known_by_what_the_documents_say(tmp_path):
    readme = """
# Train
```bash
sometool train data=coco.yaml epochs=100 imgsz=640
```
# Smaller
```bash
sometool train data=coco.yaml batch=8 lr0=0.01
```
"""
    profile = profile_of(tmp_path, {"README.md": readme, "coco.yaml": "path: x\n"}, "train it")
    assert profile.entry_point == "sometool train"
    found = flags(profile)
    assert (found["batch_size"], found["epochs"], found["learning_rate"]) == ("batch", "epochs", "lr0")


def test_sections_of_a_spacy_configuration(tmp_path):
    config = """
[nlp]
batch_size = 1000
[training]
max_epochs = 0
accumulate_gradient = 3
[training.batcher]
size = 256
[training.optimizer.learn_rate]
initial_rate = 0.00005
"""
    readme = "# Train the classifier\n```bash\nspacy train configs/a.cfg --output out\n```\n"
    files = {"README.md": readme, "configs/a.cfg": config, "requirements.txt": "spacy\n"}
    profile = profile_of(tmp_path, files, "train it")
    found = profile.key_hyperparameters
    assert profile.cli_style == "spacy"
    assert (found["batch_size"].flag, found["batch_size"].default) == ("--training.batcher.size", 256)
    assert found["learning_rate"].flag == "--training.optimizer.learn_rate.initial_rate"
    assert found["output_dir"].flag == "--output"


def test_ml_collections_made_in_one_piece(tmp_path):
    text = "from ml_collections import config_flags\nC = config_flags.DEFINE_config_file('cfg', 'configs/a.py')"
    config = "from ml_collections import ConfigDict\ndef get_config():\n"
    config += "    return ConfigDict(dict(lr=0.1, data={'batch_size': 8}))\n"
    profile = profile_of(tmp_path, {"train.py": script(text), "configs/a.py": config}, "train it")
    assert flags(profile)["batch_size"] == "--cfg.data.batch_size"
    assert profile.key_hyperparameters["learning_rate"].default == 0.1


def test_ml_collections_config(tmp_path):
    text = """
from absl import app, flags
from ml_collections import config_flags
flags.DEFINE_string("workdir", None, "Where to store the model.")
config_flags.DEFINE_config_file("config", None, "File with hyperparameters.")
"""
    config = """
import ml_collections
def get_config():
    config = ml_collections.ConfigDict()
    config.learning_rate = 0.1
    config.batch_size = 128
    config.optim = ml_collections.ConfigDict()
    config.optim.num_epochs = 10
    return config
"""
    profile = profile_of(tmp_path, {"train.py": script(text), "configs/default.py": config}, "train it")
    assert profile.cli_style == "absl"
    assert flags(profile)["batch_size"] == "--config.batch_size"
    assert flags(profile)["epochs"] == "--config.optim.num_epochs"
    assert flags(profile)["output_dir"] == "--workdir"


def test_gin_macros_and_blocks(tmp_path):
    gin = """
include "gin/base.gin"
TRAIN_STEPS = 200
trainer.Trainer:
  num_microbatches = None
schedule.create:
  base_learning_rate = 0.001
train/data.Loader:
  batch_size = %BATCH_SIZE
infer/data.Loader:
  batch_size = 1
"""
    profile = profile_of(
        tmp_path,
        {
            "train.py": script(
                "import gin\nfrom absl import flags\nflags.DEFINE_multi_string('gin_file', None, 'files')"
            ),
            "gin/run.gin": gin,
            "gin/base.gin": "BATCH_SIZE = 128\nMODEL_DIR = %gin.REQUIRED\nTRAIN_STEPS = 1\n",
            "README.md": "```bash\npython train.py --gin_file=gin/run.gin --gin.MODEL_DIR=out\n```\n",
        },
        "train it",
    )
    assert profile.cli_style == "gin"
    assert flags(profile) == {
        "batch_size": "--gin.BATCH_SIZE",
        "learning_rate": "--gin.schedule.create.base_learning_rate",
        "epochs": "--gin.TRAIN_STEPS",
        "seq_len": None,
        "gradient_accumulation": "--gin.trainer.Trainer.num_microbatches",
        "output_dir": "--gin.MODEL_DIR",
    }
    assert profile.key_hyperparameters["epochs"].default == 200


def test_a_tree_of_defaults_in_code(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "train.py": script("from lib.config import get_cfg\ncfg = get_cfg()\ncfg.merge_from_list([])"),
            "lib/config/__init__.py": "from .defaults import _C\ndef get_cfg(): return _C.clone()\n",
            "lib/config/defaults.py": "from yacs.config import CfgNode as CN\n_C = CN()\n_C.SOLVER = CN()\n"
            "_C.SOLVER.BASE_LR = 0.001\n_C.SOLVER.IMS_PER_BATCH = 16\n_C.OUTPUT_DIR = './output'\n",
        },
        "train it",
    )
    assert profile.cli_style == "yacs"
    assert flags(profile)["batch_size"] == "SOLVER.IMS_PER_BATCH"
    assert profile.key_hyperparameters["batch_size"].file == "lib/config/defaults.py"
    assert flags(profile)["output_dir"] == "OUTPUT_DIR"


def test_a_shell_script_and_what_it_starts(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "main.py": script(parser("'--bs', default=2", "'--lr', default=1")),
            "scripts/train.sh": "BS=4\npython main.py --bs $BS\n",
            "README.md": "```bash\nbash scripts/train.sh\n```\n",
        },
        "train it",
    )
    assert flags(profile)["batch_size"] == "--bs"


def test_nothing_sets_it(tmp_path):
    profile = profile_of(tmp_path, {"train.py": script("batch_size = 64")}, "train it")
    assert profile.key_hyperparameters["batch_size"].flag is None
    assert profile.key_hyperparameters["batch_size"].default == 64


@pytest.mark.parametrize(
    "line",
    [
        "xgb.train(params, data)",
        "learn.fit_one_cycle(3)",
        "model = fasttext.train_supervised(input='x')",
        "nlp.update(batch, sgd=optimizer, losses=losses)",
        "agent.learn(total_timesteps=100)",
        "estimator.train(input_fn=f)",
        "Trainer(model).fit(x, y)",
    ],
)
def test_signs_of_training_in_other_libraries(tmp_path, line):
    text = f"import somelib\n\ndef main(x):\n    {line}\n\nif __name__ == '__main__':\n    main(1)\n"
    assert profile_of(tmp_path, {"train.py": text}, "train it").is_training_repo

"""The fields of a profile: one small repository for each rule of where model, data, GPUs and installs come from."""

import pytest

from tests.analysis.repositories import profile_of, script

ARGPARSE = """import argparse
p = argparse.ArgumentParser()
p.add_argument("--model_name_or_path")
p.add_argument("--dataset_name")
p.add_argument("--epochs", type=int, default=2)
p.add_argument("--output-dir", default="out")"""


def readme(*commands: str) -> str:
    return "# X\n\n" + "".join(f"```bash\n{c}\n```\n\n" for c in commands)


def test_the_repository_s_id_for_a_model_in_words(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "README.md": readme("python train.py --model_name_or_path acme/Llama-2-7b-hf --dataset_name acme/chat"),
            "train.py": script(ARGPARSE),
        },
        "Fine-tune Llama-2-7B on acme chat",
    )
    assert (profile.base_model, profile.dataset) == ("acme/Llama-2-7b-hf", "acme/chat")
    assert profile.method == "full"


def test_an_id_from_another_document(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "README.md": readme("python train.py --model_name_or_path acme/small --dataset_name acme/chat"),
            "docs/models.md": "Also works with `zoo/Qwen3-8B` and `zoo/Qwen3-8B-Instruct`.\n",
            "train.py": script(ARGPARSE),
        },
        "Fine-tune Qwen3-8B on acme chat",
    )
    assert profile.base_model == "zoo/Qwen3-8B"


def test_a_model_that_nothing_mentions_keeps_its_name(tmp_path):
    files = {"README.md": readme("python train.py --model_name_or_path acme/small"), "train.py": script(ARGPARSE)}
    assert profile_of(tmp_path, files, "Fine-tune Mistral-7B").base_model == "Mistral-7B"


@pytest.mark.parametrize("prompt", ["Pretrain a Llama from scratch", "Reproduce GPT-2 124M"])
def test_trained_from_nothing(tmp_path, prompt):
    files = {"README.md": readme("python train.py --model_name_or_path acme/small"), "train.py": script(ARGPARSE)}
    profile = profile_of(tmp_path, files, prompt)
    assert (profile.base_model, profile.method) == (None, "pretrain")


def test_a_place_to_fill_in_is_no_model(tmp_path):
    files = {"README.md": readme("python train.py --model_name_or_path <model>"), "train.py": script(ARGPARSE)}
    assert profile_of(tmp_path, files, "Train it").base_model is None


def test_a_weights_file_in_the_sentence(tmp_path):
    files = {"train.py": script(ARGPARSE)}
    assert profile_of(tmp_path, files, "Fine-tune from big.pth on ./flowers").base_model == "big.pth"
    assert profile_of(tmp_path, files, "Fine-tune from big.pth on ./flowers").dataset == "./flowers"


HYDRA = """import hydra
import torch

@hydra.main(version_base=None, config_path="configs", config_name="main")
def main(cfg):
    optimizer = torch.optim.Adam([])
    loss = cfg.model(1)
    loss.backward()
    optimizer.step()

if __name__ == "__main__":
    main()
"""


def test_hydra_groups_lead_to_the_data(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "train.py": HYDRA,
            "configs/main.yaml": "defaults:\n  - data: digits\n  - _self_\nepochs: 2\n",
            "configs/data/digits.yaml": "_target_: own.data.Digits\nbatch_size: 8\n",
            "own/data.py": "from torchvision.datasets import MNIST\n\nclass Digits:\n    def setup(self):\n"
            "        return MNIST('.', download=True)\n",
        },
        "Train the classifier",
    )
    assert profile.dataset == "MNIST"


def test_a_configuration_with_its_base(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "README.md": readme("python train.py --config configs/small.yaml"),
            "train.py": script(ARGPARSE + '\np.add_argument("--config")'),
            "configs/small.yaml": "_base_: base.yaml\nlr: 0.1\n",
            "configs/base.yaml": "model_name_or_path: acme/bert-base\ndatasets:\n  - path: acme/news\n",
        },
        "Fine-tune it",
    )
    assert (profile.base_model, profile.dataset) == ("acme/bert-base", "acme/news")
    assert profile.evidence["base_model"][0].file == "configs/base.yaml"


@pytest.mark.parametrize(
    ("imports", "call", "name"),
    [
        ("import tensorflow_datasets as tfds", "tfds.load('mnist')", "mnist"),
        ("from torchvision import datasets", "datasets.CIFAR10('x')", "CIFAR10"),
        ("import torchvision", "torchvision.datasets.CIFAR100('x')", "CIFAR100"),
        ("from torch_geometric.datasets import Planetoid", "Planetoid('x', name='Cora')", "Cora"),
        ("from datasets import load_dataset", "load_dataset('acme/news')", "acme/news"),
        ("from tensorflow import keras", "keras.datasets.mnist.load_data()", "mnist"),
    ],
)
def test_data_that_code_loads_by_name(tmp_path, imports, call, name):
    files = {"train.py": script(f"data = {call}", imports=f"import torch\n{imports}")}
    assert profile_of(tmp_path, files, "Train it").dataset == name


def test_an_environment_named_by_one_word(tmp_path):
    profile = profile_of(
        tmp_path,
        {
            "README.md": readme("python train.py --env-id Breakout-v4"),
            "docs/more.md": "Results for Breakout-v4 and PongNoSkip-v4.\n",
            "train.py": script(ARGPARSE + '\np.add_argument("--env-id", default="Breakout-v4")'),
        },
        "Train an agent that plays Pong",
    )
    assert profile.dataset == "PongNoSkip-v4"


def test_own_data_is_not_the_example_s(tmp_path):
    files = {"README.md": readme("python train.py --dataset_name things.toml"), "train.py": script(ARGPARSE)}
    assert profile_of(tmp_path, files, "Train on my own images").dataset is None
    assert profile_of(tmp_path, files, "Train on my images in shots.zip").dataset == "shots.zip"


@pytest.mark.parametrize(
    ("command", "prompt", "gpus", "distributed"),
    [
        ("torchrun --nproc_per_node 4 train.py", "Train it", 4, "ddp"),
        ("torchrun --nnodes 2 --nproc_per_node 4 train.py", "Train it", 8, "ddp"),
        ("torchrun --nproc_per_node 4 train.py", "Train it on one GPU", 1, None),
        ("deepspeed --include localhost:0,1 train.py", "Train it", 2, "deepspeed"),
        ("accelerate launch --num_processes 2 train.py", "Train it", 2, "ddp"),
        ("CUDA_VISIBLE_DEVICES=0,1,2 python train.py --fsdp full_shard", "Train it", 3, "fsdp"),
        ("torchrun --nproc_per_node 8 train.py --deepspeed ds.json", "Train it", 8, "deepspeed"),
        ("python train.py --gpus 2", "Train it", 2, "ddp"),
        ("python train.py", "Train it", 1, None),
    ],
)
def test_gpus_and_how_they_share(tmp_path, command, prompt, gpus, distributed):
    files = {"README.md": readme(command), "train.py": script(ARGPARSE)}
    profile = profile_of(tmp_path, files, prompt)
    assert (profile.num_gpus, profile.distributed) == (gpus, distributed)


def test_gpus_in_prose_and_in_slurm_lines(tmp_path):
    told = {
        "README.md": "# X\n\nWe train on 8 A100 GPUs.\n\n```bash\ntorchrun train.py\n```\n",
        "train.py": script(ARGPARSE),
    }
    assert profile_of(tmp_path, told, "Train it").num_gpus == 8


def test_slurm_lines(tmp_path):
    files = {"run.sh": "#!/bin/bash\n#SBATCH --gres=gpu:4\ntorchrun train.py\n", "train.py": script(ARGPARSE)}
    assert profile_of(tmp_path, files, "Train it").num_gpus == 4


@pytest.mark.parametrize(
    ("flags", "prompt", "method"),
    [
        ("--use_lora True", "Fine-tune it", "lora"),
        ("--use_lora True --load_in_4bit", "Fine-tune it", "qlora"),
        ("", "Fine-tune it", "full"),
        ("--use_lora True", "Full fine-tuning", "full"),
        ("", "DPO on my pairs", "dpo"),
    ],
)
def test_methods(tmp_path, flags, prompt, method):
    parser = ARGPARSE + '\np.add_argument("--use_lora", default="False")\np.add_argument("--load_in_4bit")'
    files = {"README.md": readme(f"python train.py {flags}".strip()), "train.py": script(parser)}
    assert profile_of(tmp_path, files, prompt).method == method


REQUIREMENTS = {
    "train.py": script(ARGPARSE),
    "requirements.txt": "torch\n",
    "requirements-train.txt": "-r requirements.txt\npeft\n",
    "requirements-dev.txt": "pytest\n",
}


def test_what_the_documented_install_takes(tmp_path):
    files = {**REQUIREMENTS, "README.md": readme("pip install -r requirements-train.txt", "python train.py")}
    assert set(profile_of(tmp_path, files).dependency_files) == {"requirements-train.txt", "requirements.txt"}


def test_several_requirements_for_several_uses(tmp_path):
    files = {
        "README.md": readme(
            "pip install -r requirements/requirements.txt",
            "pip install -r requirements/requirements-games.txt",
            "pip install -r requirements/requirements-robots.txt",
        ),
        "train_games.py": script(ARGPARSE),
        "requirements/requirements.txt": "torch\n",
        "requirements/requirements-games.txt": "gym\n",
        "requirements/requirements-robots.txt": "mujoco\n",
    }
    found = profile_of(tmp_path, files, "Train it on games").dependency_files
    assert set(found) == {"requirements/requirements.txt", "requirements/requirements-games.txt"}


def test_what_setup_py_reads(tmp_path):
    files = {
        "README.md": readme("pip install -e .", "python train.py"),
        "train.py": script(ARGPARSE),
        "setup.py": "from setuptools import setup\nsetup(name='x', install_requires=open('deps/requirements.txt'))\n",
        "deps/requirements.txt": "torch\n",
    }
    assert set(profile_of(tmp_path, files).dependency_files) == {"setup.py", "deps/requirements.txt"}


def test_an_example_s_own_requirements(tmp_path):
    files = {
        "README.md": readme("pip install -r requirements.txt"),
        "requirements.txt": "torch\n",
        "examples/a/train.py": script(ARGPARSE),
        "examples/a/requirements.txt": "datasets\n",
    }
    assert profile_of(tmp_path, files).dependency_files == ("examples/a/requirements.txt",)


def test_a_dockerfile_for_training(tmp_path):
    files = {"train.py": script(ARGPARSE), "docker/Dockerfile.train": "FROM a\n", "docker/Dockerfile.serve": "FROM b\n"}
    assert profile_of(tmp_path, files).docker == "docker/Dockerfile.train"


def test_a_compiled_program_s_framework(tmp_path):
    files = {
        "README.md": readme("make train_x", "bash run.sh"),
        "run.sh": "./train_x -b 4\n",
        "train_x.cu": "int main() {}\n",
        "train.py": script(ARGPARSE),
    }
    assert profile_of(tmp_path, files).framework in ("cuda", "pytorch")


@pytest.mark.parametrize(
    ("command", "model", "data"),
    [
        ("python train.py model.path=acme/bert-base data.train_files=acme/news", "acme/bert-base", "acme/news"),
        ("python train.py --model_name_or_path '' --dataset_name acme/news", None, "acme/news"),
    ],
)
def test_what_the_command_settles(tmp_path, command, model, data):
    parser = ARGPARSE.replace('"--model_name_or_path"', '"--model_name_or_path", default="acme/gpt2"')
    profile = profile_of(tmp_path, {"README.md": readme(command), "train.py": script(parser)}, "Train it")
    assert (profile.base_model, profile.dataset) == (model, data)


def test_a_constant_of_the_script(tmp_path):
    files = {"train.py": script('resume_path = "./models/sd15.ckpt"')}
    profile = profile_of(tmp_path, files, "Train it with Stable Diffusion 1.5")
    assert (profile.base_model, profile.method) == ("./models/sd15.ckpt", "full")


def test_numbers_that_are_no_gpus(tmp_path):
    text = "# X\n\nIt takes a while.\n\n```bash\ndeepspeed train.py --save_steps 100 --epochs 400\n```\n"
    assert profile_of(tmp_path, {"README.md": text, "train.py": script(ARGPARSE)}, "Train it").num_gpus is None


def test_jax_takes_every_device(tmp_path):
    body = "step = functools.partial(jax.pmap, axis_name='batch')"
    files = {"train.py": script(body, imports="import functools\nimport jax\nimport optax")}
    profile = profile_of(tmp_path, files, "Train it")
    assert (profile.framework, profile.num_gpus, profile.distributed) == ("jax", None, "jax")


def test_adapters_that_are_only_defined(tmp_path):
    files = {
        "train.py": script(ARGPARSE, imports="import torch\nfrom attention import Attention"),
        "attention.py": "class LoraAttention:\n    pass\n\nclass Attention:\n    pass\n",
    }
    assert profile_of(tmp_path, files, "Fine-tune it").method == "full"


def test_weights_that_the_package_shards(tmp_path):
    files = {
        "README.md": readme("torchrun --nproc_per_node 8 own/train.py"),
        "own/train.py": script(ARGPARSE, main="    torch.distributed.init_process_group()"),
        "own/models/parallel.py": "def shard(model):\n    fully_shard(model)\n",
    }
    assert profile_of(tmp_path, files, "Train it").distributed == "fsdp"


def test_a_library_s_sharding_is_not_the_example_s(tmp_path):
    files = {
        "examples/a/train.py": script(ARGPARSE, imports="import jax\nimport optax\nfrom core import nets"),
        "core/nets.py": "import jax\nfrom jax.sharding import Mesh\n",
    }
    assert profile_of(tmp_path, files, "Train it").distributed is None


def test_an_installed_program_with_a_configuration(tmp_path):
    files = {
        "README.md": readme("python -m spacy train configs/big.cfg -o out --gpu-id 0"),
        "requirements.txt": "spacy-transformers\n",
        "configs/big.cfg": '[paths]\ntrain = "corpus/train.spacy"\n\n[corpora.train]\npath = ${paths.train}\n\n'
        '[components.transformer.model]\nname = "roberta-base"\n',
    }
    profile = profile_of(tmp_path, files, "Train the classifier")
    assert (profile.framework, profile.base_model, profile.dataset) == ("pytorch", "roberta-base", "corpus/train.spacy")
    assert (profile.method, profile.num_gpus) == ("full", 1)


def test_the_entry_s_own_framework(tmp_path):
    files = {
        "train.py": script(ARGPARSE, imports="import tensorflow as tf\nfrom own import other"),
        "own/other.py": "import jax\n",
    }
    assert profile_of(tmp_path, files, "Train it").framework == "tensorflow"


def test_metrics_do_not_make_the_framework(tmp_path):
    files = {
        "train.py": script(ARGPARSE, imports="from sklearn.metrics import f1_score\nfrom own import nets"),
        "own/nets.py": "import torch\n",
    }
    assert profile_of(tmp_path, files, "Train it").framework == "pytorch"


def test_an_adapter_s_rank_that_nobody_sets(tmp_path):
    parser = ARGPARSE + '\np.add_argument("--lora_rank", type=int, default=2)'
    files = {"README.md": readme("python train.py --epochs 2"), "train.py": script(parser)}
    assert profile_of(tmp_path, files, "Train it").method == "pretrain"
    files["README.md"] = readme("python train.py --lora_rank 8")
    assert profile_of(tmp_path, files, "Train it").method == "lora"


def test_a_configuration_of_the_user_s_and_its_neighbours(tmp_path):
    files = {
        "README.md": "# Many\n",
        "requirements.txt": "pytest\n",
        "a/README.md": readme("python -m spacy train configs/my_own.cfg -o out"),
        "a/requirements.txt": "spacy\n",
        "a/configs/small.cfg": "[training]\nseed = 0\n",
        "a/configs/bert.cfg": '[components.transformer.model]\nname = "roberta-base"\n',
    }
    profile = profile_of(tmp_path, files, "Train the classifier with the transformer (bert) config")
    assert (profile.base_model, profile.dependency_files) == ("roberta-base", ("a/requirements.txt",))
    assert profile.config_files == ("a/configs/bert.cfg",)


def test_where_nothing_trains_what_is_named_or_called_so_is_told(tmp_path):
    files = {
        "tools/train.py": "print(1)\n",
        "train_all.sh": "true\n",
        "go.py": "print(2)\n",
        "tests/train.py": "x = 1\n",
    }
    profile = profile_of(tmp_path, files, "Please run go.py")
    assert not profile.is_training_repo
    assert profile.named_so == ("go.py", "train_all.sh", "tools/train.py")

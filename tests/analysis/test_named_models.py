"""The configuration, the spelling and the command that belong to the model which the sentence names."""

from pathlib import Path

import pytest

from tests.analysis.repositories import profile_of

TRAIN = """
import argparse, json
from transformers import AutoModelForCausalLM, Trainer
parser = argparse.ArgumentParser()
parser.add_argument("--recipe")
args = parser.parse_args()
recipe = json.load(open(args.recipe))
model = AutoModelForCausalLM.from_pretrained(recipe["model_name_or_path"])
trainer = Trainer(model=model)
trainer.train()
"""


def recipes(*names: str) -> dict[str, str]:
    models = {"yi-6b": "01-ai/Yi-6B", "qwen2.5-7b": "Qwen/Qwen2.5-7B-Instruct", "qwen2.5-3b": "Qwen/Qwen2.5-3B"}
    files = {f"recipes/{n}.json": f'{{"model_name_or_path": "{models[n.rpartition("-")[0]]}"}}' for n in names}
    readme = "# Train\n\n```bash\npython train.py --recipe recipes/yi-6b-sft.json\n```\n"
    return {"train.py": TRAIN, "README.md": readme} | files


def test_the_command_gets_the_configuration_of_the_named_model(tmp_path: Path) -> None:
    files = recipes("yi-6b-sft", "qwen2.5-7b-sft", "qwen2.5-3b-sft")
    profile = profile_of(tmp_path, files, "Fine-tune Qwen2.5-7B on one GPU")
    assert profile.launch_command == "python train.py --recipe recipes/qwen2.5-7b-sft.json"
    assert profile.config_files == ("recipes/qwen2.5-7b-sft.json",)
    assert profile.base_model == "Qwen/Qwen2.5-7B-Instruct"


@pytest.mark.parametrize("sentence", ["Fine-tune Yi-6B", "Fine-tune the model", "Fine-tune Mistral-7B"])
def test_the_command_stays_where_no_other_configuration_is_meant(tmp_path: Path, sentence: str) -> None:
    profile = profile_of(tmp_path, recipes("yi-6b-sft", "qwen2.5-7b-sft"), sentence)
    assert profile.launch_command == "python train.py --recipe recipes/yi-6b-sft.json"


def test_of_several_configurations_the_words_decide_and_else_none(tmp_path: Path) -> None:
    files = recipes("yi-6b-sft", "qwen2.5-7b-sft", "qwen2.5-7b-dpo")
    chosen = profile_of(tmp_path, files, "SFT of Qwen2.5-7B").launch_command
    left = profile_of(tmp_path, files, "Fine-tune Qwen2.5-7B").launch_command
    assert chosen == "python train.py --recipe recipes/qwen2.5-7b-sft.json"
    assert left == "python train.py --recipe recipes/yi-6b-sft.json"


def test_a_configuration_called_after_the_model_says_its_id(tmp_path: Path) -> None:
    files = {"train.py": TRAIN, "conf/qwen2.5-7b.yaml": "model_name_or_path: Qwen/Qwen2.5-7B-Instruct\n"}
    assert profile_of(tmp_path, files, "Fine-tune Qwen 2.5 7B").base_model == "Qwen/Qwen2.5-7B-Instruct"


def test_a_trained_model_in_the_sentence_goes_before_that_of_the_example(tmp_path: Path) -> None:
    readme = "We support RoBERTa-base too.\n\n```bash\npython train.py --model_name_or_path bert-base-uncased\n```\n"
    text = TRAIN.replace("--recipe", "--model_name_or_path")
    profile = profile_of(tmp_path, {"train.py": text, "README.md": readme}, "Contrastive training with roberta-base")
    assert profile.base_model == "roberta-base"


def test_an_architecture_in_the_sentence_is_no_base_model(tmp_path: Path) -> None:
    text = (
        "import torch\nmodel = build('ResNet-50')\noptimizer = torch.optim.SGD(model.parameters())\noptimizer.step()\n"
    )
    assert profile_of(tmp_path, {"train.py": text}, "Train ResNet-50 on ImageNet").base_model is None


RESUMES = """
# Go on
```bash
torchrun --nproc_per_node=1 train.py --data more.json --resume_from_checkpoint out/step-9
```
# Single GPU
```bash
python train.py --data mine.json
```
"""


@pytest.mark.parametrize(
    ("sentence", "resumes"),
    [
        ("Fine-tune llama-7b with LoRA on mine.json on one GPU", False),
        ("Continue the LoRA training of llama-7b from its checkpoint", True),
    ],
)
def test_a_command_that_takes_up_a_run_is_for_who_asks_for_it(tmp_path: Path, sentence: str, resumes: bool) -> None:
    text = (
        "import argparse, torch\np = argparse.ArgumentParser()\np.add_argument('--data')\n"
        "p.add_argument('--resume_from_checkpoint')\np.parse_args()\nloss.backward()\noptimizer.step()\n"
    )
    profile = profile_of(tmp_path, {"train.py": text, "README.md": RESUMES}, sentence)
    assert ("--resume_from_checkpoint" in (profile.launch_command or "")) is resumes


def test_a_function_of_a_script_is_no_program(tmp_path: Path) -> None:
    script = 'run_step() {\n  echo "$1"\n  "$2"\n}\nrun_step train "$TRAIN_CMD"\n'
    profile = profile_of(tmp_path, {"smoke.sh": script, "README.md": "```\nbash smoke.sh\n```\n"})
    assert profile.entry_point is None


def test_an_option_of_a_word_counts_nothing(tmp_path: Path) -> None:
    text = (
        "import argparse, torch\np = argparse.ArgumentParser()\np.add_argument('--accumulate', default='best')\n"
        "p.add_argument('--epochs', type=int, default=3)\np.parse_args()\nloss.backward()\noptimizer.step()\n"
    )
    found = profile_of(tmp_path, {"train.py": text}).key_hyperparameters
    assert (found["gradient_accumulation"].flag, found["epochs"].flag) == (None, "--epochs")


def test_a_command_that_only_predicts_is_not_how_the_model_is_trained(tmp_path: Path) -> None:
    text = (
        "import argparse, torch\np = argparse.ArgumentParser()\np.add_argument('--do_train', action='store_true')\n"
        "p.add_argument('--do_predict', action='store_true')\np.add_argument('--train_file')\n"
        "p.add_argument('--test_file')\np.parse_args()\nloss.backward()\noptimizer.step()\n"
    )
    files = {
        "lora/main.py": text,
        "lora/evaluate_lora.sh": "python main.py --do_predict --test_file ../rows/test.jsonl --lora_checkpoint out\n",
        "lora/train_lora.sh": "python main.py --do_train --do_predict --train_file ../rows/mine.jsonl\n",
    }
    profile = profile_of(tmp_path, files, "LoRA fine-tuning")
    assert (profile.launch_command or "").startswith("python main.py --do_train")
    assert profile.dataset == "../rows/mine.jsonl"


def test_an_option_below_a_forgotten_backslash_belongs_to_the_command(tmp_path: Path) -> None:
    block = "```bash\ntorchrun --nproc_per_node=8 train.py \\\n    --data a.json\n    --deepspeed ds.json\n```\n"
    text = "import torch, deepspeed\nloss.backward()\noptimizer.step()\n"
    profile = profile_of(tmp_path, {"train.py": text, "README.md": block})
    assert profile.launch_command == "torchrun --nproc_per_node=8 train.py --data a.json --deepspeed ds.json"
    assert profile.distributed == "deepspeed"

"""What documents say beside the training: sampling, sections on inference, places to fill in, tests, submitters."""

from tests.analysis.repositories import profile_of, script
from tests.analysis.test_profile_fields import ARGPARSE, readme


def test_a_switch_that_only_samples_is_none_of_a_training(tmp_path):
    quits = '\np.add_argument("--just-look", action="store_true", help="only sample from the model, don\'t train")'
    files = {
        "train.py": script(ARGPARSE + quits),
        "README.md": readme("python train.py --epochs 3", "python train.py --epochs 3 --lr 1 --just-look"),
    }
    assert profile_of(tmp_path, files, "Train it").launch_command == "python train.py --epochs 3"
    files["README.md"] = readme("python train.py --epochs 3", "python train.py --epochs 3 --sample-only")
    assert profile_of(tmp_path, files, "Train it").launch_command == "python train.py --epochs 3"


def test_arguments_that_a_script_hands_on_are_no_words(tmp_path):
    files = {
        "train.py": script(ARGPARSE),
        "run.sh": 'python train.py --epochs 3 \\\n  "$@"\n',
        "README.md": readme("bash run.sh"),
    }
    assert profile_of(tmp_path, files, "Train it").launch_command == "python train.py --epochs 3"


def test_preparation_of_the_training_s_section_without_places_to_fill_in(tmp_path):
    text = (
        "# It\n## Feel it\n```bash\nwget https://x.org/weights.bin\n./run weights.bin\n```\n"
        "## Training\n```bash\nmake test\ngit submodule update\n"
        "python stories.py download\npython stories.py pretokenize\n"
        "python stories.py pretokenize --vocab 64\npython get_data.py --hf_token=...\n"
        "python prepare.py <MEMORY> --to data\npython train.py --epochs 3\n```\n"
    )
    files = dict.fromkeys(("stories.py", "get_data.py", "prepare.py", "run.c"), "print(1)\n")
    profile = profile_of(tmp_path, {**files, "README.md": text, "train.py": script(ARGPARSE)}, "Train it")
    assert profile.prep_commands == (
        "python stories.py download",
        "python stories.py pretokenize --vocab 64",
        "python get_data.py",
    )
    assert any("<MEMORY>" in note for note in profile.notes)


def test_shortened_words_of_scripts(tmp_path):
    files = {
        "train.py": script(ARGPARSE),
        "run_unsup_example.sh": "# unsupervised\npython train.py --epochs 1\n",
        "run_sup_example.sh": "python train.py --epochs 2\n",
        "README.md": "# Supervised and unsupervised training\n",
    }
    assert "--epochs 2" in profile_of(tmp_path, files, "Train the supervised model").launch_command
    assert "--epochs 1" in profile_of(tmp_path, files, "Train the unsupervised model").launch_command


def test_a_comment_that_ends_in_a_backslash_is_one_line(tmp_path):
    files = {
        "train.py": script(ARGPARSE),
        "run.sh": "# python train.py \\\npython train.py --epochs 3\n",
    }
    assert profile_of(tmp_path, files, "Train it").launch_command == "python train.py --epochs 3"


def test_a_method_that_nothing_knows_is_the_sentence_s(tmp_path):
    files = {"train.py": script(ARGPARSE)}
    profile = profile_of(tmp_path, files, "Do GRPO with it")
    assert (profile.method, profile.confidence["method"]) == ("grpo", 0.3)
    files = {"train.py": script(ARGPARSE, imports="import torch\nfrom trl import GRPOTrainer")}
    assert profile_of(tmp_path, files, "Do GRPO with it").confidence["method"] == 0.9


def test_an_adapter_of_another_kind_is_no_lora(tmp_path):
    assert profile_of(tmp_path, {"train.py": script(ARGPARSE)}, "Train the image adapter").method != "lora"


def test_what_a_submitter_starts(tmp_path):
    main = "import torch\nfrom engine import train_one_epoch\n" + ARGPARSE
    main += "\ndef main():\n    train_one_epoch()\n\nif __name__ == '__main__':\n    main()\n"
    files = {
        "main.py": main,
        "engine.py": script("").replace("def main(", "def train_one_epoch("),
        "submit.py": "import submitit\nimport main\n\nclass Trainer: ...\n\nif __name__ == '__main__':\n"
        "    Trainer()\n    main.train_one_epoch()\n",
        "README.md": readme("torchrun --nproc_per_node=4 main.py --lr 1", "python submit.py"),
    }
    assert profile_of(tmp_path, files, "Train it on 4 GPUs").entry_point == "main.py"


def test_the_model_is_no_data(tmp_path):
    more = '\np.add_argument("model.path")\np.add_argument("data.path")'
    files = {
        "train.py": script(ARGPARSE + more),
        "tests/run.sh": "python train.py --epochs 9\n",
        "README.md": readme("python train.py model.path=acme/tiny-7b data.path=acme/tiny-7b"),
    }
    profile = profile_of(tmp_path, files, "Fine-tune it")
    assert profile.dataset != "acme/tiny-7b"


def test_a_model_on_which_is_trained_is_no_data(tmp_path):
    files = {
        "train.py": script(ARGPARSE),
        "README.md": "# It\n| model | score |\n|---|---|\n| Qwen-2.5-7B | 3 |\n",
    }
    assert profile_of(tmp_path, files, "GRPO on Qwen2.5-7B").dataset is None


def test_a_tokenizer_below_the_data_is_no_data(tmp_path):
    files = {
        "README.md": readme("python train.py --config config.yaml"),
        "config.yaml": "dump_dir: ''\nlogging:\n  wandb:\n    project: it\ndata:\n  tokenizer:\n    name: bytes\n",
        "train.py": script(ARGPARSE + '\np.add_argument("--config")'),
    }
    assert profile_of(tmp_path, files, "Train it").dataset != "bytes"

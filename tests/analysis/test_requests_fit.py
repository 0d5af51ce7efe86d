"""What requests say in other words: stages, kinds of tuning, the start of what is reproduced, own paths."""

import pytest

from caravan.analysis.kinds import judged
from caravan.analysis.prompt import read_prompt, words_of
from caravan.analysis.subjects import data_names, model_names, shared, start_of_repeated
from tests.analysis.repositories import profile_of, script
from tests.analysis.test_profile_fields import ARGPARSE, readme


@pytest.mark.parametrize("text", ["the second-stage fine-tuning", "stage 2 of it", "run stage two"])
def test_stages_by_number(text):
    assert "stage2" in words_of(text)
    assert "stage2" in words_of("configs/tiny_stage2_finetune.yaml")


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("P-Tuning v2 on it", "p-tuning-v2"),
        ("with prefix tuning", "prefix-tuning"),
        ("soft prompt tuning", "prompt-tuning"),
    ],
)
def test_kinds_of_tuning(text, method):
    assert read_prompt(text).method == method


def test_own_model_and_own_data_are_both_paths():
    wishes = read_prompt("Tune my merged Nordic-LLaMA-7B (./nordic-llama-7b) on the files in ./my_data")
    assert wishes.dataset == "./my_data"


def test_names_with_a_word_before_the_family():
    assert model_names("Train with all-MiniLM-L6-v2")[0] == "all-MiniLM-L6-v2"
    assert model_names("fine-tuned-llama is no part")[:1] != ["fine-tuned-llama"]


def test_what_is_reproduced_and_what_it_starts_from():
    assert start_of_repeated("Reproduce the result with 8 examples and paraphrase-mpnet-base-v2") is not None
    assert start_of_repeated("Reproduce the paper with ResNet-50") is None
    assert start_of_repeated("Fine-tune with bert-base-uncased") is None


def test_examples_of_data_and_an_example_to_run():
    assert data_names("Train the tiny model example with it") == []
    assert shared("ADS advertising", "AdvertisePairs/train.json") == 1


def test_a_trainer_of_ppo_may_run_its_variants():
    asked = "GRPO on GSM8K"
    ppo = sum(p for p, _ in judged(asked, "trainer/main_ppo.py"))
    sft = sum(p for p, _ in judged(asked, "trainer/sft_trainer.py"))
    grpo = sum(p for p, _ in judged(asked, "trainer/grpo.py"))
    assert sft < ppo < grpo


def test_an_adapter_that_code_only_has_for_a_switch(tmp_path):
    net = """
class Net:
    def __init__(self, lora_r=0):
        if lora_r > 0:
            self.model = get_peft_model(self.model, LoraConfig(r=lora_r))
"""
    files = {"train.py": "from net import Net\n" + script(ARGPARSE), "net.py": net}
    assert profile_of(tmp_path, files, "Fine-tune Llama-2-7B").method == "full"
    files["net.py"] = net.replace("        if lora_r > 0:\n    ", "")
    assert profile_of(tmp_path, files, "Fine-tune Llama-2-7B").method == "lora"


def test_data_before_the_first_option_and_a_tokenizer_s_path(tmp_path):
    files = {
        "README.md": readme("python train.py data-bin/acme14.de-en --epochs 3"),
        "train.py": script(ARGPARSE + '\np.add_argument("data")'),
    }
    assert profile_of(tmp_path, files, "Train on ACME'14 German-English").dataset == "data-bin/acme14.de-en"
    files = {
        "README.md": readme("python train.py --config config.yaml"),
        "config.yaml": "tokenizer:\n  path: /tmp/acme/tokens.json\ndataset:\n  _component_: acme.datasets.chat\n",
        "train.py": script(ARGPARSE + '\np.add_argument("--config")'),
    }
    assert profile_of(tmp_path, files, "Train it").dataset == "acme.datasets.chat"


def test_the_script_that_opens_the_file_of_the_request(tmp_path):
    files = {
        "a/first.py": script('f = open("other.txt")'),
        "b/second.py": script('f = open("poems.txt")'),
    }
    assert profile_of(tmp_path, files, "Train it on my file poems.txt").entry_point == "b/second.py"

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

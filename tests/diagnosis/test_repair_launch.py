"""The rungs against packages, arguments, entry points, images and data that are not there."""

import shlex
import sys

import pytest

from caravan.diagnosis.handover import handover
from caravan.diagnosis.ladders.case import Looks
from caravan.diagnosis.ladders.packages import trusted
from caravan.values.distributions import BUILT, DISTRIBUTIONS, distribution, is_known, requirement_name
from caravan.values.failure import FailureClass
from caravan.values.job import DriverFacts, HostVolume
from caravan.values.plan import Author
from caravan.values.repo import ScriptOption
from tests.diagnosis.repair_scenes import OPTIONS, case, diffs, facts, looks, mended, node, plan, profile, rungs

F = FailureClass


def missing(module: str, of=None, **more):  # type: ignore[no-untyped-def]
    of = of or plan()
    details = {"module": module, **more.pop("details", {})}
    return diffs(rungs(F.MISSING_PYTHON_PACKAGE, of, details=details, **more), of)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("yaml", "PyYAML"),
        ("cv2", "opencv-python-headless"),
        ("PIL", "Pillow"),
        ("sklearn", "scikit-learn"),
        ("peft", "peft"),
        ("sentence_transformers", "sentence-transformers"),
        ("distutils", "setuptools"),
    ],
)
def test_a_well_known_import_name_is_its_distribution(module: str, line: str) -> None:
    assert missing(module) == [{"setup.pip": [line]}]
    assert trusted(line, looks())


def test_the_table_is_large_and_well_formed() -> None:
    assert len(DISTRIBUTIONS) > 120
    assert all(requirement_name(line) for line in DISTRIBUTIONS.values())
    assert not set(DISTRIBUTIONS) & set(BUILT)
    assert not set(DISTRIBUTIONS) & (set(sys.stdlib_module_names) - {"distutils"})


def test_the_repositorys_own_line_is_taken_with_its_version() -> None:
    files = {"requirements-train.txt": "torch==2.8  # pinned\nacme_tools[x]>=1.2,<2\n"}
    repo = profile(dependency_files=("requirements.txt", "requirements-train.txt"))
    used = plan({"setup.requirements": "requirements.txt"})
    assert missing("acme_tools", used, repo=repo, files=files) == [{"setup.pip": ["acme_tools[x]>=1.2,<2"]}]
    assert missing("torch", used, repo=repo, files=files) == [{"setup.pip": ["torch==2.8"]}]
    assert missing("torch", repo=repo, files=files) == [{"setup.requirements": "requirements-train.txt"}]
    assert trusted("acme-tools", looks(files))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", '[project]\nname = "evil"\ndependencies = ["acme>=2"]\n'),
        ("pyproject.toml", '[tool.poetry]\nname = "evil"\n[tool.poetry.dependencies]\nacme = "^2"\n'),
        ("setup.py", 'setup(name="evil", install_requires=[\n  "acme>=2",\n  "b",\n])\n'),
        ("setup.cfg", "[metadata]\nname = evil\n[options]\ninstall_requires =\n  acme>=2\n"),
        ("environment.yml", "name: evil!\ndependencies:\n  - pip:\n    - acme>=2\n"),
        ("Pipfile", '[packages]\nacme = "*"\n'),
    ],
)
def test_what_a_dependency_file_requires_needs_no_question_but_its_other_words_do(file: str, text: str) -> None:
    here = Looks(read=lambda _: text, dependencies=lambda: (file,))
    assert trusted("acme", here)
    assert not trusted("evil", here)
    assert not trusted("name", here)


@pytest.mark.parametrize(
    "line", ["--index-url=http://x", "git+https://x/y", "x @ https://y", "a b", "", "$(id)", "-r x"]
)
def test_what_is_no_plain_requirement_is_never_installed(line: str) -> None:
    assert missing(line) == []
    assert missing("", details={"package": line}) == []
    assert not trusted(line, looks({"requirements.txt": line}))


def test_an_unknown_name_is_offered_but_not_trusted() -> None:
    assert missing("acme_secret") == [{"setup.pip": ["acme_secret"]}]
    assert not trusted("acme_secret", looks())
    assert not is_known("deepspeed")  # it is built on the spot


def test_what_was_installed_already_belongs_to_python_or_is_on_no_index_is_not_installed() -> None:
    assert missing("yaml", plan({"setup.pip": ["pyyaml==6.0"]})) == []
    repo = profile(dependency_files=("requirements.txt",))
    used = plan({"setup.requirements": "requirements.txt"})
    assert missing("yaml", used, repo=repo, files={"requirements.txt": "PyYAML\n"}) == []
    assert missing("_lzma") == []
    assert missing("apex") == []


def test_a_module_of_the_repository_is_put_on_the_path() -> None:
    assert missing("helpers", files=["lib/helpers.py", "train.py"]) == [
        {"env.PYTHONPATH": "lib"},
        {"setup.pip": ["helpers"]},
    ]
    scripts = plan({"workdir": "scripts", "env.PYTHONPATH": "x"})
    assert missing("helpers", scripts, files=["helpers/__init__.py"])[0] == {"env.PYTHONPATH": "x:.."}
    assert missing("peft", files=["src/peft/__init__.py"]) == [{"env.PYTHONPATH": "src"}]  # this is that package
    assert missing("datasets", files=["datasets/a.csv"]) == [{"setup.pip": ["datasets"]}]  # that is data
    twice = ["a/helpers.py", "b/helpers.py"]
    assert missing("helpers", files=twice) == [{"setup.pip": ["helpers"]}]


def test_without_flash_attention_torch_has_its_own() -> None:
    option = ScriptOption(flag="--attn_implementation")
    told = plan(flags={"training.attn": "--attn_implementation"})
    assert missing("flash_attn", told, repo=profile(option))[0] == {"training.attn": "sdpa"}


def refused(kind: str, option: str, of, **more):  # type: ignore[no-untyped-def]
    details = {"kind": kind, "option": option, **more.pop("details", {})}
    return diffs(rungs(F.CLI_ARGS_INVALID, of, details=details, **more), of)


def test_an_unknown_option_takes_the_programs_spelling_else_it_goes() -> None:
    start = plan({"training.lr": 0.1}, flags={"training.lr": "--learning-rate"})
    assert refused("unknown", "--learning-rate", start) == [
        {"flags.training.lr": "--learning_rate"},
        {"flags.training.lr": None},
    ]
    extra = plan({"training.options.--batchsise": 4})
    assert refused("unknown", "--batchsise 4", extra) == [{"training.options.--batchsise": None}]
    typed = plan(command=("train.py", "--lerning_rate", "1", "--x"))
    assert refused("unknown", "--lerning_rate", typed) == [
        {"command": ["train.py", "--learning_rate", "1", "--x"]},
        {"command": ["train.py", "--x"]},
    ]


def test_an_option_that_a_launcher_adds_is_not_ours() -> None:
    assert refused("unknown", "--local_rank", plan()) == []


def test_a_hydra_key_that_is_not_in_the_configuration_is_added_or_goes() -> None:
    start = plan(command=("train.py", "trainer.log_gpu=false"), flags={})
    assert refused("unknown", "trainer.log_gpu", start, details={"style": "hydra"}) == [
        {"command": ["train.py", "+trainer.log_gpu=false"]},
        {"command": ["train.py"]},
    ]


def test_a_missing_option_gets_what_the_plan_knows_and_all_or_nothing() -> None:
    start = plan({"dataset.path": "d.csv"}, flags={})
    assert refused("missing", "--dataset_name --output_dir", start) == [
        {"flags.dataset.path": "--dataset_name", "flags.training.output_dir": "--output_dir"}
    ]
    assert refused("missing", "--dataset_name --secret", start) == []
    own = plan({"dataset.path": "d.csv"}, by=Author.REPOSITORY, flags={})
    assert refused("missing", "--data_path", own) == [{"training.options.--data_path": "d.csv"}]
    assert refused("missing", "data_dir", start) == [{"command": ["train.py", "d.csv"]}]
    told = handover(case(F.CLI_ARGS_INVALID, start, details={"kind": "missing", "option": "--secret"}))
    assert told.startswith("Which value shall --secret have?")


def test_a_value_is_spelled_as_the_program_wants_it() -> None:
    start = plan(command=("train.py", "--epochs", "2.0", "--optim", "AdamW-Torch"))
    repo = profile(*OPTIONS, ScriptOption(flag="--epochs", type="int"))
    assert refused("value", "--epochs", start, repo=repo, details={"value": "2.0"}) == [
        {"training.options.--epochs": 2}
    ]
    assert refused("value", "--epochs", start, repo=repo, details={"value": "2.5"}) == []
    assert refused("choice", "--optim", start, details={"value": "AdamW-Torch", "choices": "adamw_torch, sgd"}) == [
        {"training.options.--optim": "adamw_torch"}
    ]
    assert refused("choice", "--optim", start, details={"value": "adam", "choices": "adamw, adamax"}) == []


@pytest.mark.parametrize(
    ("given", "choices", "taken"),
    [
        ("cosin", "constant, linear, cosine", "cosine"),
        ("constnat", "constant, linear, constant_with_warmup", "constant"),
        ("bfloat16", "float16, float32", None),  # what a number tells apart is no slip
        ("adam", "adamw, sgd", None),  # too short for one
        ("linearly", "linear_up, linear_down", None),
    ],
)
def test_a_slip_in_a_choice_is_mended_where_only_one_is_meant(given: str, choices: str, taken: str | None) -> None:
    start = plan(command=("train.py", "--optim", given))
    repo = profile(ScriptOption(flag="--optim"))
    found = refused("choice", "--optim", start, repo=repo, details={"value": given, "choices": choices})
    assert found == ([{"training.options.--optim": taken}] if taken else [])


def entry(of, files=(), **details):  # type: ignore[no-untyped-def]
    return diffs(rungs(F.ENTRYPOINT_NOT_FOUND, of, details=details, files=files), of)


def test_a_script_is_where_the_repository_has_it() -> None:
    start = plan(command=("train.py", "--x"))
    assert entry(start, ["src/train.py"], kind="script", path="/alloc/code/train.py") == [
        {"command": ["src/train.py", "--x"]},
        {"workdir": "src"},
    ]
    assert entry(start, ["a/train.py", "b/train.py"], kind="script", path="train.py") == []
    inside = plan(command=("train.py",), workdir="sub")
    assert entry(inside, ["train.py"], kind="script", path="train.py")[0] == {"workdir": "."}


def test_programs_interpreters_and_rights() -> None:
    assert entry(plan(), kind="program", program="python3") == [{"setup.python": "python"}]
    script = plan({"launch.launcher": "cli"}, command=("./run.sh", "a"))
    expected = {"launch.launcher": "bash"}
    assert entry(script, kind="permission", program="./run.sh") == [expected]
    joined = plan({"launch.launcher": "cli"}, command=("torchrun --nproc_per_node=2 t.py",))
    assert entry(joined, kind="program", program="torchrun --nproc_per_node=2 t.py")[0] == {
        "command": ["torchrun", "--nproc_per_node=2", "t.py"]
    }
    command = plan({"launch.launcher": "cli"}, command=("llamafactory-cli", "train"))
    assert entry(command, kind="program", program="llamafactory-cli") == [
        {"launch.launcher": "python", "command": ["-m", "llamafactory.cli", "train"]},
        {"setup.pip": ["llamafactory"]},
    ]
    module = plan(command=("-m", "acme.train"))
    assert entry(module, ["src/acme/train.py"], kind="module", module="acme.train") == [{"env.PYTHONPATH": "src"}]
    lost = plan(workdir="examples/sft", command=("train.py",))
    assert entry(lost, ["recipes/sft/train.py"], kind="workdir", path="examples/sft") == [{"workdir": "recipes/sft"}]


def test_images_that_the_nodes_have_under_another_tag_come_first() -> None:
    images = ("reg:5000/a/train:1.1", "reg:5000/a/train:2.0", "other:1")
    here = facts(node(drivers={"docker": DriverFacts(images=images)}))
    start = plan(image="reg:5000/a/train:1.0")
    found = rungs(F.IMAGE_NOT_FOUND, start, here, image="settings:1", repo=profile(docker="Dockerfile"))
    assert [d["image"] for d in diffs(found, start)] == ["reg:5000/a/train:1.1", "reg:5000/a/train:2.0", "settings:1"]
    assert "The nodes have reg:5000/a/train:1.1" in handover(case(F.IMAGE_NOT_FOUND, start, here))


def lost(path: str, of, files=(), where=None, **details):  # type: ignore[no-untyped-def]
    return diffs(rungs(F.DATA_PATH_MISSING, of, where, details={"path": path, **details}, files=files), of)


def test_data_is_where_the_repository_has_it() -> None:
    told = plan({"dataset.path": "train.csv"})
    assert lost("train.csv", told, ["data/train.csv", "train.py"])[0] == {"dataset.path": "data/train.csv"}
    typed = plan(command=("train.py", "--input=corpus.txt"), flags={})
    assert lost("/x/code/corpus.txt", typed, ["data/corpus.txt"]) == [
        {"command": ["train.py", "--input=data/corpus.txt"]}
    ]
    coded = plan(flags={})
    assert lost("data/a.csv", coded, ["exp/data/a.csv", "train.py"]) == [{"workdir": "exp", "command": ["../train.py"]}]
    assert lost("a.csv", coded, ["x/a.csv", "y/a.csv"]) == []
    assert "x/a.csv, y/a.csv" in handover(
        case(F.DATA_PATH_MISSING, coded, details={"path": "a.csv"}, files=["x/a.csv", "y/a.csv"])
    )


@pytest.mark.parametrize("name", ["out", "o ut; rm -rf x", "$(id)", "-rf", "it's", "a`b`"])
def test_a_directory_that_is_written_to_is_made_and_its_name_is_one_word(name: str) -> None:
    (change,) = lost(f"{name}/a.json", plan(), kind="write")
    assert shlex.split(change["setup.cmd"][0]) == ["mkdir", "-p", "--", name]


def test_no_directory_is_made_on_a_nodes_own_disk() -> None:
    assert lost("/data/out/a.json", plan(driver="raw_exec"), kind="write") == []
    assert lost("/data/out/a.json", plan(driver="docker"), kind="write") != []


def test_a_volume_of_the_nodes_is_offered() -> None:
    here = facts(node(host_volumes={"corpora": HostVolume(path="/srv/corpora"), "x": HostVolume(path="/srv/x")}))
    mount = {"kind": "host", "source": "corpora", "read_only": True}
    assert lost("/srv/corpora/a/b.txt", plan(), where=here) == [{"mounts": [{**mount, "destination": "/srv/corpora"}]}]
    assert lost("/mnt/corpora/b.txt", plan(), where=here) == [{"mounts": [{**mount, "destination": "/mnt/corpora"}]}]


def test_distribution_names_are_found_whatever_their_dashes() -> None:
    assert distribution("huggingface_hub") == distribution("huggingface-hub") == "huggingface-hub"
    start = plan()
    assert mended(start, rungs(F.MISSING_PYTHON_PACKAGE, start, details={"module": "yaml.cyaml"})[0]).setup.pip

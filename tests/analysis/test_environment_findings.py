"""What an entry needs to be installed, read from small repositories."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis.dockerfiles import read_dockerfile
from caravan.analysis.environment import read_environment
from caravan.analysis.install_docs import read_told
from caravan.analysis.needs import brought, certain_imports
from caravan.analysis.requirements import declaration, locked, pep440
from caravan.analysis.sources import Sources
from caravan.values.environment import RepoEnvironment
from caravan.values.repo import Launcher

TRAIN = "import torch\nimport transformers\n\nfor step in range(3):\n    loss.backward()\n"


def found(files: dict[str, str], needed: list[str], entry: str = "train.py", **more: Any) -> RepoEnvironment:
    sources = Sources(files, files.get)
    docker = more.get("docker")
    launcher = more.get("launcher", Launcher.PYTHON)
    return read_environment(needed, sources.reached(entry), launcher, docker, sources)


def lines(environment: RepoEnvironment) -> list[str]:
    return [w.line for w in environment.declared]


def test_files_that_others_include_are_not_installed_twice() -> None:
    files = {
        "train.py": TRAIN,
        "requirements-train.txt": "-r requirements.txt\ntransformers>=4.40\n",
        "requirements.txt": "torch==2.4.1  # pinned\n--extra-index-url https://download.pytorch.org/whl/cu121\n",
    }
    environment = found(files, ["requirements-train.txt", "requirements.txt"])
    assert environment.requirements == ("requirements-train.txt",)
    assert set(lines(environment)) == {"torch==2.4.1", "transformers>=4.40"}
    assert [i.url for i in environment.indexes] == ["https://download.pytorch.org/whl/cu121"]
    assert [(s.version, s.kind) for s in environment.cuda] == [("12.1", "index")]
    assert environment.missing == ()


def test_several_files_together() -> None:
    files = {"train.py": TRAIN, "requirements.txt": "torch\n", "requirements-train.txt": "transformers\n"}
    assert found(files, ["requirements.txt", "requirements-train.txt"]).requirements == (
        "requirements.txt",
        "requirements-train.txt",
    )


def test_a_module_that_a_declared_distribution_is_named_after_is_not_missing() -> None:
    files = {"train.py": "import some_clip\nimport others\n"}
    conda = "dependencies:\n  - pip:\n      - some_clip_torch==2.0.2\n"
    environment = found({**files, "environment.yaml": conda}, ["environment.yaml"])
    assert [n.module for n in environment.missing] == ["others"]


def test_what_is_imported_and_not_declared_is_missing_with_its_place() -> None:
    files = {
        "train.py": "import torch\nimport yaml\nimport cv2\nfrom helpers import x\nimport foolib\nimport json\n",
        "helpers.py": "import einops\nfrom sklearn import metrics\n",
        "requirements.txt": "torch\n",
    }
    environment = found(files, ["requirements.txt"])
    told = {n.module: (n.requirement, n.where.text_of()) for n in environment.missing}
    assert told == {
        "yaml": ("PyYAML", "train.py:2"),
        "cv2": ("opencv-python-headless", "train.py:3"),
        "foolib": (None, "train.py:5"),
        "einops": ("einops", "helpers.py:1"),
        "sklearn": ("scikit-learn", "helpers.py:2"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import wandb\nexcept ImportError:\n    wandb = None\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import wandb\n",
        "import argparse\nif args.log:\n    import wandb\n",
        "import os, sys\nfrom . import own\n",
    ],
)
def test_what_may_be_absent_is_not_missing(text: str) -> None:
    assert found({"train.py": text, "own.py": ""}, []).missing == ()


def test_an_import_in_a_function_counts_for_the_entry_alone() -> None:
    files = {"train.py": "import other\ndef main():\n    import wandb\n", "other.py": "def f():\n    import seaborn\n"}
    assert [n.module for n in found(files, []).missing] == ["wandb"]


def test_what_a_declared_package_brings_is_not_added() -> None:
    files = {"train.py": "import numpy\nimport yaml\nimport tqdm\n", "requirements.txt": "transformers\n"}
    assert found(files, ["requirements.txt"]).missing == ()
    bare = {"train.py": "import torch\nimport numpy\n", "requirements.txt": "torch\n"}
    assert [n.requirement for n in found(bare, ["requirements.txt"]).missing] == ["numpy"]
    assert "omegaconf" in brought(["hydra-core"])


def test_own_modules_hide_well_known_names_only_where_python_finds_them() -> None:
    files = {"train.py": "import datasets\nimport evaluate\n", "evaluate.py": "", "data/datasets/x.py": "x = 1\n"}
    assert [n.module for n in found(files, []).missing] == ["datasets"]


def test_the_repositorys_own_package_with_the_extra_for_training() -> None:
    pyproject = (
        '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "mine"\nrequires-python = ">=3.9"\n'
        'dependencies = ["torch>=2.1"]\n[project.optional-dependencies]\ntrain = ["peft==0.10.0"]\ndev = ["pytest"]\n'
    )
    files = {
        "src/mine/__init__.py": "",
        "src/mine/core.py": "import torch\n",
        "scripts/train.py": "from mine import core\nimport peft\n",
        "pyproject.toml": pyproject,
        "README.md": "# Install\n\n```\nconda create -n x python=3.10\npip install -e '.[train,dev]'\n```\n",
    }
    environment = found(files, ["pyproject.toml"], entry="scripts/train.py")
    assert environment.own == ".[train]"
    assert set(lines(environment)) == {"torch>=2.1", "peft==0.10.0"}
    assert [(w.specifier, w.required) for w in environment.pythons] == [(">=3.9", True), ("==3.10.*", False)]
    assert environment.missing == ()


def test_a_package_beside_requirements_that_nothing_imports_is_not_installed() -> None:
    files = {"train.py": TRAIN, "requirements.txt": "torch\ntransformers\n", "setup.py": "setup(name='x')\n"}
    assert found(files, ["requirements.txt", "setup.py"]).own is None


def test_requirements_that_setup_computes_are_known_as_far_as_texts_say_them() -> None:
    setup = "deps = ['torch==2.6.0', 'trl>=0.9']\nsetup(name='x', install_requires=[d for d in deps])\n"
    environment = found({"train.py": "import torch, trl\n", "setup.py": setup}, ["setup.py"])
    assert set(lines(environment)) == {"torch==2.6.0", "trl>=0.9"}
    assert environment.missing == ()


CONDA = """\
name: x
channels: [pytorch, nvidia]
dependencies:
  - python=3.9
  - pytorch=2.1.0
  - pytorch-cuda=11.8
  - ffmpeg
  - rdkit-something
  - pip
  - pip:
      - peft==0.6.0
      - --extra-index-url https://download.pytorch.org/whl/cu118
"""


def test_of_a_conda_environment_what_pip_can_have_and_what_not() -> None:
    environment = found({"train.py": "import torch\n", "environment.yml": CONDA}, ["environment.yml"])
    assert [w.line for w in environment.pip] == ["peft==0.6.0", "torch==2.1.0"]
    assert [p.name for p in environment.system] == ["ffmpeg"]
    assert {(s.version, s.kind) for s in environment.cuda} == {("11.8", "index"), ("11.8", "conda")}
    assert environment.pythons[0].specifier == "==3.9.*"
    assert "rdkit-something" in environment.notes[0]


def test_poetry_and_its_lock() -> None:
    pyproject = (
        '[tool.poetry]\nname = "x"\npackage-mode = false\n[tool.poetry.dependencies]\npython = "^3.10"\n'
        'torch = "^2.1"\neinops = "*"\n[tool.poetry.group.dev.dependencies]\npytest = "*"\n'
    )
    lock = '[[package]]\nname = "torch"\nversion = "2.3.1"\n\n[[package]]\nname = "einops"\nversion = "0.8.0"\n'
    files = {"train.py": "import torch\nimport einops\n", "pyproject.toml": pyproject, "poetry.lock": lock}
    environment = found(files, ["pyproject.toml"])
    assert environment.own is None
    assert [w.line for w in environment.pip] == ["torch==2.3.1", "einops==0.8.0"]
    assert environment.pip[0].where.text_of() == "poetry.lock:2"
    assert environment.pythons[0].specifier == ">=3.10,<4"
    assert dict(locked("uv.lock", lock))["einops"][0] == "0.8.0"


@pytest.mark.parametrize(
    ("version", "specifier"),
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("~1.2", ">=1.2,<1.3"),
        ("1.5.0", "==1.5.0"),
        ("*", ""),
        (">=1, <2", ">=1,<2"),
    ],
)
def test_poetrys_versions(version: str, specifier: str) -> None:
    assert pep440(version) == specifier


def test_a_readmes_lines_count_for_what_is_needed_and_nothing_else() -> None:
    readme = (
        "# x\n\n## Install\n\n```bash\nsudo apt-get install -y ffmpeg vim\n"
        "pip install torch==2.1.2 --index-url https://download.pytorch.org/whl/cu118\n"
        "pip install einops==0.7 tensorly\n"
        "```\n\n## Serving\n\n```\npip install vllm\n```\n"
    )
    environment = found({"train.py": "import torch\nimport einops\n", "README.md": readme}, [])
    assert {w.line for w in environment.pip} == {"torch==2.1.2", "einops==0.7"}
    assert [p.name for p in environment.system] == ["ffmpeg"]
    assert environment.cuda[0].version == "11.8"
    assert [n for n in environment.notes if "tensorly" in n]
    assert not [n for n in environment.notes if "vllm" in n]


def test_system_packages_by_what_is_installed_called_and_kept_in_lfs() -> None:
    files = {
        "train.py": "import subprocess\nsubprocess.run(['ffmpeg', '-i', x])\nimport soundfile\n",
        "requirements.txt": "soundfile\nflash-attn==2.5\nown @ git+https://git.example/own.git\n",
        ".gitattributes": "*.bin filter=lfs diff=lfs\n",
    }
    environment = found(files, ["requirements.txt"])
    told = {p.name: p.where.text_of() for p in environment.system}
    assert told["libsndfile1"] == "requirements.txt:1"
    assert told["ninja-build"] == "requirements.txt:2"
    assert told["git"] == "requirements.txt:3"
    assert told["ffmpeg"] == "train.py:2"
    assert told["git-lfs"] == ".gitattributes:1"
    assert [w.line for w in environment.gpu_only] == ["flash-attn==2.5"]


@pytest.mark.parametrize(
    ("path", "text", "base", "trains"),
    [
        (
            "Dockerfile",
            "ARG V=2.4.1\nFROM pytorch/pytorch:$V-cuda12.1-cudnn9-devel\nRUN pip install x\n",
            "pytorch/pytorch:2.4.1-cuda12.1-cudnn9-devel",
            True,
        ),
        ("Dockerfile.serve", "FROM pytorch/pytorch:2\n", "pytorch/pytorch:2", False),
        ("docs/Dockerfile", "FROM python:3.11\nRUN pip install torch\n", "python:3.11", False),
        ("Dockerfile", "FROM python:3.11\nRUN pip install torch\nCMD uvicorn app:app\n", "python:3.11", False),
        ("Dockerfile", "FROM nginx\nCOPY . .\n", "nginx", False),
        ("Dockerfile", "# nothing\n", None, False),
        ("docker/train.Dockerfile", "FROM a AS b\nRUN apt-get install -y gcc\nFROM b\n", "a", True),
    ],
)
def test_dockerfiles_are_judged(path: str, text: str, base: str | None, trains: bool) -> None:
    read = read_dockerfile(path, text)
    assert (read.base, read.trains) == (base, trains)
    assert read.why


def test_a_training_dockerfiles_packages_python_and_cuda() -> None:
    text = (
        "FROM python:3.9-slim\nRUN apt-get update && \\\n  apt-get install -y git libgl1=1.4 vim\nCMD python train.py\n"
    )
    environment = found({"train.py": TRAIN, "Dockerfile": text}, [], docker="Dockerfile")
    assert [p.name for p in environment.system] == ["git", "libgl1"]
    assert environment.pythons[0].specifier == "==3.9.*"


def test_the_launchers_own_package() -> None:
    environment = found({"train.py": "import torch\n", "requirements.txt": "torch\n"}, ["requirements.txt"])
    assert environment.missing == ()
    launched = found(
        {"train.py": "import torch\n", "requirements.txt": "torch\n"}, ["requirements.txt"], launcher=Launcher.DEEPSPEED
    )
    assert [n.requirement for n in launched.missing] == ["deepspeed"]


ROWS = """[project]
dependencies = [1, {}]
name = 3
- pip:
dependencies:
  - pip: 3
-r
[tool.uv]
setup(install_requires=x, extras_require=[1])
install_requires = a
[options]
torch ==
\\
[[package]]
name = "a"
source = 3
FROM
ARG =
pip install -r
pip install '.[
\x00""".splitlines()
NAMES = ["requirements.txt", "pyproject.toml", "setup.py", "setup.cfg", "environment.yml", "Pipfile"]


@given(st.sampled_from(NAMES), st.text(max_size=300))
def test_no_text_breaks_a_reader(name: str, text: str) -> None:
    declaration(name, text)
    locked("uv.lock", text)
    read_dockerfile("Dockerfile", text)
    read_told("README.md", text)
    certain_imports(text, inside=True)


@given(
    st.sampled_from(NAMES),
    st.lists(
        st.sampled_from(ROWS),
        max_size=8,
    ),
)
def test_no_broken_file_of_its_kind_breaks_a_reader(name: str, rows: list[str]) -> None:
    text = "\n".join(rows)
    files = {name: text, "train.py": "import x\n", "README.md": text, "Dockerfile": text, "uv.lock": text}
    found(files, [name], docker="Dockerfile")


def test_extras_are_those_that_the_entry_uses_and_the_projects_own_name_means_itself() -> None:
    pyproject = (
        '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "My.Tool"\ndependencies = []\n'
        '[project.optional-dependencies]\ngames = ["gym"]\nadapters = ["peft"]\nweb = ["flask"]\n'
    )
    files = {
        "train.py": "import torch\nimport peft\n",
        "pyproject.toml": pyproject,
        "README.md": "# Use\n\nTo try, pip install so.\n\n    pip install 'my-tool[games,adapters,web]'\n",
    }
    environment = found(files, ["pyproject.toml"])
    assert environment.own == ".[adapters]"
    assert environment.missing == ()  # peft brings torch
    assert environment.notes == ()


def test_of_dependencies_that_a_build_makes_nothing_is_missing() -> None:
    pyproject = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "x"\ndynamic = ["dependencies"]\n'
    assert found({"train.py": "import jax\n", "pyproject.toml": pyproject}, ["pyproject.toml"]).missing == ()

"""Packages that are really not installed, and can be had from a folder: nothing is fetched."""

import importlib.util
from pathlib import Path

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, copied, documented, edited, sets, wheel

MISSING = FailureClass.MISSING_PYTHON_PACKAGE
CONDA = """name: line
dependencies:
  - python=3.11
  - pip
  - pip:
      - knotted-yarn>=0.5
"""


def needing(folder: Path, module: str, *, seen: bool = False) -> Path:
    """A repository whose training imports the module, in a way that reading it does not show unless `seen`."""
    assert importlib.util.find_spec(module) is None, f"{module} is installed here: take another one"
    repository = copied("line", folder)
    line = f"import {module}" if seen else f"getattr(__builtins__, '__imp' + 'ort__')('{module}')"
    edited(repository / "train.py", ("import pathlib\n", f"import pathlib\n\n{line}\n"))
    return repository


def train(site: Site, repository: Path, wheels: Path, cache: Path) -> Ended:
    offline = {"env.PIP_NO_INDEX": "1", "env.PIP_FIND_LINKS": str(wheels), "env.CARAVAN_CACHE_DIR": str(cache)}
    return site.run(repository, *sets(offline), memory_mb=512)


def test_a_well_known_import_whose_package_has_another_name(site: Site, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "rouge-score", {"rouge_score/__init__.py": ""})
    ended = train(site, needing(tmp_path, "rouge_score"), tmp_path / "wheels", tmp_path / "cache").succeeded(MISSING)
    assert "No module named 'rouge_score'" in ended.logs
    assert ended.changed() == {"setup.pip": [[], ["rouge-score"]]}


def test_an_import_that_no_file_names_is_seen_before_anything_fails(site: Site, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "rouge-score", {"rouge_score/__init__.py": ""})
    repository = needing(tmp_path, "rouge_score", seen=True)
    ended = train(site, repository, tmp_path / "wheels", tmp_path / "cache").succeeded()
    assert ended.plan.setup.pip == ("rouge-score",)


def test_a_package_that_the_repository_asks_for_in_its_conda_environment(site: Site, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "knotted-yarn", {"knotted_yarn.py": ""})
    repository = needing(tmp_path, "knotted_yarn")
    (repository / "environment.yml").write_text(CONDA)
    ended = train(site, repository, tmp_path / "wheels", tmp_path / "cache").succeeded()
    assert ended.plan.setup.pip == ("knotted-yarn>=0.5",)


def test_a_name_that_stands_in_the_log_alone_is_installed_only_when_somebody_agrees(site: Site, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "knotted_yarn", {"knotted_yarn.py": ""})
    ended = train(site, needing(tmp_path, "knotted_yarn"), tmp_path / "wheels", tmp_path / "cache").asks(MISSING)
    site.resume(ended, "--approve").succeeded(MISSING)


def test_a_package_that_can_not_be_had(site: Site, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    ended = train(site, needing(tmp_path, "rouge_score"), tmp_path / "wheels", tmp_path / "cache")
    assert ended.code in (1, 3), ended.told()
    assert ended.classes[0] == MISSING, ended.told()
    assert 1 < len(ended.attempts) <= 3
    assert "rouge" in ended.document["detail"]


def test_a_launcher_that_no_file_names_is_installed(site: Site, tmp_path: Path) -> None:
    assert importlib.util.find_spec("accelerate") is None
    code = (
        "import runpy, sys\n"
        "at = next(i for i, word in enumerate(sys.argv) if i and word.endswith('.py'))\n"
        "sys.argv = sys.argv[at:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    files = {"accelerate/__init__.py": "", "accelerate/commands/__init__.py": "", "accelerate/commands/launch.py": code}
    wheel(tmp_path / "wheels", "accelerate", files)
    repository = documented(copied("line", tmp_path), "accelerate launch train.py --data points.csv")
    ended = train(site, repository, tmp_path / "wheels", tmp_path / "cache").succeeded()
    assert ended.plan.setup.pip == ("accelerate",)


def test_a_package_that_is_only_wished_for(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    wish = (
        "try:\n    import rouge_score\nexcept ModuleNotFoundError as error:\n    print(f'going on without: {error}')\n"
    )
    edited(repository / "train.py", ("import pathlib\n", f"import pathlib\n\n{wish}\n"))
    site.run(repository).succeeded()

"""A batch that no option sets: a repair reaches it in the job's copy of the config, and the repository stays."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, copied, documented, edited, sets

pytestmark = pytest.mark.gpu_text
OOM = FailureClass.CUDA_OOM
TRAINING = {"batch_size": 16, "gradient_accumulation_steps": 1, "learning_rate": 0.1, "epochs": 20}


@pytest.fixture(autouse=True)
def _price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_USD_PER_GPU_HOUR", "0.5")


def train(site: Site, repository: Path, **more: Any) -> Ended:
    usual = {"node_pool": "cards", "resources.gpus": 1, "limits.max_run_s": 300, "env.CARD_MIB": "${meta.card_mib}"}
    return site.run(repository, *sets({**usual, **more}))


def files(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def repaired(site: Site, repository: Path) -> None:
    before = files(repository)
    ended = train(site, repository).succeeded(OOM)
    micro, accumulated = (ended.document["plan"]["training"][k] for k in ("micro_batch", "grad_accum"))
    assert (micro < 16, micro * accumulated) == (True, 16)
    assert "batch 16, effective batch 16, rate 0.1" in ended.logs
    assert f"batch {micro}, effective batch 16, rate 0.1" in ended.logs
    assert set(ended.changed()) >= {"training.micro_batch", "training.grad_accum"}
    assert files(repository) == before
    outputs = Path(ended.document["plan"]["outputs"]["location"])
    assert f"written to {outputs}" in ended.logs
    assert (outputs / "weights.txt").is_file()


def test_a_recipe_in_yaml(site: Site, tmp_path: Path) -> None:
    repaired(site, copied("recipe", tmp_path))


def test_a_recipe_in_json_that_only_the_code_names(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("recipe", tmp_path), "python train.py")
    (repository / "recipe.yaml").unlink()
    (repository / "recipe.json").write_text(json.dumps({"output_dir": "out", "training": TRAINING}))
    edited(
        repository / "train.py",
        ("recipe = read_recipe(parser.parse_args().config)", 'recipe = read_recipe("recipe.json")'),
        ('    parser.add_argument("--config", default="recipe.yaml")\n', ""),
    )
    repaired(site, repository)


def test_a_recipe_in_toml(site: Site, tmp_path: Path) -> None:
    repository = documented(copied("recipe", tmp_path), "python train.py --config=recipe.toml")
    (repository / "recipe.yaml").unlink()
    lines = ['output_dir = "out"', "[training]", *(f"{k} = {v}" for k, v in TRAINING.items())]
    (repository / "recipe.toml").write_text("\n".join(lines))
    repaired(site, repository)


def test_what_a_person_sets_is_laid_over_the_recipe(site: Site, tmp_path: Path) -> None:
    more = {"training.micro_batch": 4, "training.lr": 1e-5}
    ended = train(site, copied("recipe", tmp_path), **more).succeeded()
    assert "batch 4, effective batch 4, rate 1e-05" in ended.logs

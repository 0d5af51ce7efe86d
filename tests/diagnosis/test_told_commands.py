"""Each option that a person is told to go on with is taken by the real parser once VALUE is filled in."""

import shlex

import pytest

from caravan.diagnosis.handover import handover, words_to_go_on
from caravan.diagnosis.sentences import GENERAL
from caravan.diagnosis.taxonomy import advice
from caravan.planning.answers import parse_set
from caravan.values.failure import FailureClass
from caravan.values.plan import TrainingPlan
from caravan.values.plan_parts import Artifact, Constraint, Mount
from tests.diagnosis.repair_scenes import case, plan

BARE = TrainingPlan(goal="g", command=("train.py",))
FULL = plan(
    setup={"pip": ("torch==2.4.0",)},
    secrets=("OTHER",),
    mounts=(Mount(kind="host", source="data", destination="/data"),),
    constraints=(Constraint(attribute="${node.class}", value="gpu"),),
    artifacts=(Artifact(source="https://example.org/a.tar.gz"),),
)
KINDS = ("", "missing", "unknown", "value", "choice", "permission", "code", "subdir", "write", "killed", "SIGSEGV")
DETAILS = {
    **{"module": "cv2", "option": "--lr", "path": "/d/x", "image": "a/b:1", "repo": "o/m", "volume": "data"},
    **{"program": "nvcc", "package": "apex", "signal": "SIGILL", "index": "pypi.org", "value": "x"},
}
VALUES = {
    **{"resources.gpus": "2", "training.lr": "1e-4", "resources.memory_mb": "4096", "resources.disk_mb": "4096"},
    **{"limits.max_run_s": "60", "shm_mb": "64", "launch.launcher": "torchrun", "training.attn": "sdpa"},
    **{"dataset.format": "json", "code.kind": "git", "driver": "docker"},
    **{"training.epochs": "3", "training.max_steps": "500", "training.lora_rank": "16", "target.goal": "0.5"},
}


@pytest.mark.parametrize("failure", FailureClass)
@pytest.mark.parametrize("of", [BARE, FULL], ids=["bare", "full"])
@pytest.mark.parametrize("known", [{}, DETAILS], ids=["nothing", "named"])
def test_what_is_told_can_be_pasted(failure: FailureClass, of: TrainingPlan, known: dict[str, str]) -> None:
    for kind in KINDS:
        scene = case(failure, of, details={**known, **({"kind": kind} if kind else {})})
        words = shlex.split(words_to_go_on(scene))
        assert words[::2] == ["--set"] * (len(words) // 2)
        for word in words[1::2]:
            field, sign, value = word.partition("=")
            assert sign
            filled = value.replace("VALUE", VALUES.get(field, "numpy")).replace("PATH", "/data/x")
            parse_set(f"{field}={filled}")
        assert "RUN" not in handover(scene).split()


@pytest.mark.parametrize("failure", FailureClass)
def test_the_advice_claims_nothing_that_was_tried(failure: FailureClass) -> None:
    said = advice(failure, BARE)
    assert failure in GENERAL
    assert not any(
        word in said for word in ("Even ", "2048", "0 x", "again and again", "RUN", "the the", "The image The")
    )
    assert said[:1] == said[:1].upper()

"""A model at a URL, evaluated by a job of its own: the scripts of both jobs, run for real by /bin/sh."""

from pathlib import Path

import pytest

from caravan.planning.evaluation_job import evaluation_plan
from caravan.planning.script import evaluation_helpers, fetch_helpers
from caravan.values.evaluation import EVALUATION_PATH, Evaluation, EvaluationResult, parse_evaluation
from caravan.values.plan import OutputSink, TrainingPlan
from tests.planning.scenes import TEMPLATES
from tests.planning.test_launch_script import Place

TRAIN = """import os
out = os.environ['CARAVAN_OUTPUT_DIR']
for name in ('final/config.json', 'final/model.safetensors', 'checkpoint-9/model.safetensors'):
    os.makedirs(os.path.dirname(f'{out}/{name}'), exist_ok=True)
    open(f'{out}/{name}', 'w').write('{}' if name.endswith('json') else 'weights')
"""
JUDGE = """import json, os
model = os.environ['CARAVAN_MODEL']
print(json.dumps({'accuracy': float(open(model + '/model.safetensors').read() == 'weights')}))
print(json.dumps({'checkpoints': sum('checkpoint' in name for name in os.listdir(model + '/..'))}))
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def trained(tmp_path: Path, shared: Path) -> TrainingPlan:
    place = Place(tmp_path / "training")
    plan = place.plan(
        place.pack(train_py=TRAIN, judge_py=JUDGE),
        "train.py",
        outputs=OutputSink(kind="url", location=f"file://{shared}/runs"),
        evaluation=Evaluation(on=True, where="job", command=("python", "judge.py")),
    )
    status, _, err = place.run(plan)
    assert status == 0, err
    return plan


def evaluated(tmp_path: Path, plan: TrainingPlan) -> tuple[int, EvaluationResult | None, str]:
    """Run the evaluation job's script in an allocation of its own."""
    place = Place(tmp_path / "evaluation $(of) 'it'")
    helpers = {**evaluation_helpers(plan, TEMPLATES), **fetch_helpers(TEMPLATES)}
    derived = evaluation_plan(plan, helpers, run_id="r1", attempt=1)
    for file in derived.templates:
        target = place.task.parent / file.destination
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.data.replace("TRIES = 4", "TRIES = 1"), encoding="utf-8")
    status, _, err = place.run(derived)
    answer = place.alloc / EVALUATION_PATH.removeprefix("alloc/")
    return status, parse_evaluation(answer.read_bytes()) if answer.exists() else None, err


def test_the_model_is_fetched_and_judged(tmp_path: Path, trained: TrainingPlan) -> None:
    status, found, err = evaluated(tmp_path, trained)
    assert status == 0, err
    assert found is not None
    assert found.error == ""
    assert found.metrics == {"accuracy": 1.0, "checkpoints": 0.0}


def test_a_file_that_is_not_as_the_training_wrote_it_is_not_judged(
    tmp_path: Path, shared: Path, trained: TrainingPlan
) -> None:
    (shared / "runs" / "r1" / "1" / "final" / "model.safetensors").write_text("others")
    status, found, err = evaluated(tmp_path, trained)
    assert status != 0
    assert found is None
    assert "final/model.safetensors is not as its manifest says" in err


def test_a_copy_that_is_not_whole_is_not_judged(tmp_path: Path, shared: Path, trained: TrainingPlan) -> None:
    (shared / "runs" / "r1" / "1" / "caravan-manifest.json").unlink()
    status, found, err = evaluated(tmp_path, trained)
    assert status != 0
    assert found is None
    assert "the copy has no manifest" in err

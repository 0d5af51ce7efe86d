"""Which fields a lesson may speak of: every field of a plan is decided, one way or the other."""

import pytest

from caravan.values.lesson_fields import MAY, NEVER, UNASKED, never
from caravan.values.plan import TrainingPlan


def test_every_field_of_a_plan_is_in_one_of_the_lists() -> None:
    assert sorted((*NEVER, *MAY)) == sorted(TrainingPlan.model_fields)
    assert not [path for path in UNASKED if never(path)]


@pytest.mark.parametrize(
    "path",
    [
        *("data.location", "build.tag", "image", "secrets_from.path", "resume.flag", "smoke.on", "config_keys.a.b"),
        *("ports", "affinities", "spreads", "constraints", "user", "env.PIP_INDEX_URL", "env.pip_extra_index_url"),
        *("env.UV_INDEX", "env.https_proxy", "env.HF_ENDPOINT", "env.WANDB_BASE_URL", "env.AWS_ENDPOINT_URL_S3"),
    ],
)
def test_no_lesson_says_where_things_come_from(path: str) -> None:
    assert never(path)


@pytest.mark.parametrize("path", ["training.lr", "env.NCCL_DEBUG", "env.PIP_CACHE_DIR", "env.HF_HOME", "setup.cmd"])
def test_what_lessons_are_for(path: str) -> None:
    assert not never(path)

"""plan.yaml reads back equal, hides secrets, and says what is wrong with it."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.runs.plan_file import draft_text, load_plan, plan_text, read_plan
from caravan.values.errors import PlanError
from caravan.values.plan import (
    Author,
    ConfigOverlay,
    Mount,
    PlanChange,
    Provenance,
    TemplateFile,
    Training,
    TrainingPlan,
    apply_changes,
)

PLAN = TrainingPlan(goal="g", command=("python", "train.py", "--lr", "1e-4"), datacenters=())

# Words that could be taken for secrets are left out: masking them is what another test asks for.
texts = st.text(max_size=30).filter(lambda t: not any(c in t.lower() for c in "=:@")) | st.sampled_from(
    [
        "yes",
        "null",
        "~",
        "1e-5",
        "0x1",
        "- a",
        "#",
        "a: b",
        "\n",
        "  x\n y\n",
        "\t",
        "...",
        "---\n",
        "'",
        '"',
        "2026-11-21",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
plans = st.builds(
    TrainingPlan,
    goal=texts,
    command=st.lists(texts, max_size=4).map(tuple),
    env=st.dictionaries(texts, texts, max_size=3),
    training=st.builds(
        Training, lr=st.none() | st.floats(1e-12, 1e3), options=st.dictionaries(texts, values, max_size=3)
    ),
    config_overlays=st.lists(
        st.builds(ConfigOverlay, path=texts, values=st.dictionaries(texts, values, max_size=2), text=st.none() | texts),
        max_size=2,
    ).map(tuple),
    templates=st.lists(st.builds(TemplateFile, destination=texts, data=texts), max_size=2).map(tuple),
    mounts=st.lists(st.builds(Mount, kind=st.just("host"), source=texts, destination=texts), max_size=2).map(tuple),
    datacenters=st.sampled_from([(), ("*",), ("dc1",)]),
    provenance=st.dictionaries(texts, st.builds(Provenance, by=st.sampled_from(Author), why=texts), max_size=3),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans)
def test_every_plan_reads_back_equal(plan: TrainingPlan) -> None:
    assert read_plan(plan_text(plan)) == plan


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans, texts)
def test_every_draft_reads_back_with_the_same_digest(plan: TrainingPlan, source: str) -> None:
    assert read_plan(draft_text(plan, source)).digest() == plan.digest()


def test_it_reads_as_a_person_would_write_it() -> None:
    changes = [
        PlanChange(path="training.lr", value=1e-5, by=Author.USER, why="--set"),
        PlanChange(path="secrets", value=["HF_TOKEN"], by=Author.REPOSITORY, why="train.py:3 reads it"),
    ]
    text = plan_text(apply_changes(PLAN, changes))
    assert re.search(r"^training:\n  lr: 1.0e-05 +# learning rate \| user: --set$", text, re.M)
    assert re.search(r"^datacenters: \[\] +# ", text, re.M)
    assert re.search(r"^secrets: +# .* \| repository: train.py:3 reads it\n- HF_TOKEN\n", text, re.M)
    assert "  training.lr: {by: user, why: --set}\n" in text
    assert "micro_batch" not in text


def test_secrets_are_hidden() -> None:
    env = {"WANDB_API_KEY": "0123abcdef", "PLAIN": "correct-horse", "SHAPED": "hf_" + "Ab3" * 8, "KEPT": "value"}
    text = plan_text(PLAN.model_copy(update={"env": env}), ("correct-horse",))
    assert read_plan(text).env == dict.fromkeys(env, "[masked]") | {"KEPT": "value"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("goal: [", "no YAML"),
        ("", "no plan"),
        ("- 1", "no plan"),
        ("goal: g\n", "command"),
        ("goal: g\ncommand: [x]\nnew_field: 1\n", "new_field"),
        ("goal: !!python/object:os.system x\n", "no YAML"),
        ("a: " + "[" * 100_000, "too deeply"),
    ],
)
def test_what_is_no_plan_says_why(text: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        read_plan(text)


def test_a_file_that_can_not_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "binary"):
        with pytest.raises(PlanError, match="can't be read"):
            load_plan(path)

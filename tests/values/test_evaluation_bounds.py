"""What a job says of its evaluation, its outputs and its first steps is bounded, and masking it never ends a run."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.base import Value
from caravan.values.evaluation import MOST_FIGURES, EvaluationResult, parse_evaluation
from caravan.values.masked import masked_value
from caravan.values.masking import MASK
from caravan.values.outputs import OutputSummary, TrainedModel, parse_summary

SECRET = "abc123"  # shorter than the mask that stands for it


def parsed(**said: Any) -> EvaluationResult:
    found = parse_evaluation(json.dumps(said).encode())
    assert found is not None
    return found


def test_a_text_at_its_full_length_is_masked_and_cut() -> None:
    text = (SECRET + " ") * 600
    generation = {"prompt": text[:4000], "text": text[:4000], "base": text[:4000]}
    found = masked_value(parsed(generations=[generation], error=text[:1000], by=text[:200]), [SECRET])
    assert found is not None
    said = found.generations[0]
    assert [len(each) for each in (said.prompt, said.text, said.base or "", found.error, found.by)] == [4000] * 3 + [
        1000,
        200,
    ]
    assert SECRET not in found.canonical()
    assert MASK in said.text


def test_figures_are_bounded_by_number_and_by_name() -> None:
    many = {f"m{n}": n for n in range(5 * MOST_FIGURES)}
    found = parsed(metrics={"x" * 100_000: 1.0, **many}, collapse=many, held_out={"base": many, "tuned": many})
    assert found.held_out is not None
    sides = (found.metrics, found.collapse, found.held_out.base, found.held_out.tuned)
    assert [len(figures) for figures in sides] == [MOST_FIGURES] * 4
    assert max(len(name) for name in found.metrics) < 10
    assert len(found.model_dump_json()) < 100_000


def test_names_and_ids_are_cut() -> None:
    found = parsed(
        versions={f"p{n}": "9" * 5000 for n in range(500)},
        regressed=["r" * 5000],
        canary={"prompts": 1, "failed": ["c" * 5000]},
        model_sha256="d" * 5000,
    )
    assert found.canary is not None
    assert len(found.versions) == 100
    told = (*found.versions.values(), *found.regressed, *found.canary.failed, found.model_sha256 or "")
    assert {len(each) for each in told} == {200}


@pytest.mark.parametrize("said", [{"metrics": {"a": 10**400}}, {"seed": 10**400}, {"held_out": {"samples": 2**63}}])
def test_a_number_that_no_store_holds_is_no_answer(said: dict[str, Any]) -> None:
    assert parse_evaluation(json.dumps(said).encode()) is None


TEXTS = st.lists(st.sampled_from([SECRET, "x", "token=aB3dE5fG7hJ9", "hf_" + "a1" * 10, "ä", " "]), max_size=900).map(
    "".join
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "by": TEXTS,
            "error": TEXTS,
            "metrics": st.dictionaries(TEXTS, st.floats(allow_nan=False), max_size=5),
            "versions": st.dictionaries(TEXTS, TEXTS, max_size=3),
            "regressed": st.lists(TEXTS, max_size=3),
            "generations": st.lists(st.fixed_dictionaries({"prompt": TEXTS, "text": TEXTS}), max_size=2),
        },
    )
)
def test_whatever_an_evaluation_says_can_be_masked_and_read_again(said: dict[str, Any]) -> None:
    masked = masked_value(parsed(**said), [SECRET])
    assert masked is not None
    assert SECRET not in masked.model_dump_json()
    assert EvaluationResult.model_validate(masked.model_dump(mode="python")) == masked


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        (TrainedModel(path=".", task=(SECRET * 20)[:100]), SECRET),
        (TrainedModel(path=".", sha256="ab12" * 16), "ab12" * 16),
    ],
)
def test_what_is_none_of_its_kind_without_its_secrets_is_not_known(value: Value, secret: str) -> None:
    assert masked_value(value, [secret]) is None
    assert masked_value(value, ["another-one"]) == value


def test_a_summary_is_masked() -> None:
    data = {"directory": "/out", "files": 1, "bytes": 1, "newest": {"name": f"a-{SECRET}.bin", "at": 1.0}}
    summary = parse_summary(json.dumps(data).encode())
    assert summary is not None
    masked = masked_value(summary, [SECRET])
    assert isinstance(masked, OutputSummary)
    assert masked.newest is not None
    assert masked.newest.name == f"a-{MASK}.bin"

"""Runs side by side: groups, what differs, what a difference comes to, and that noise is not called better."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.runs.comparison import compare_runs
from caravan.runs.comparison_html import comparison_html
from caravan.values.comparison import Comparison, Judged, Subject
from caravan.values.evaluation import GateReport, GateVerdict
from caravan.values.family import family_of
from caravan.values.plan import Author, CodeSource, PlanChange, TrainingPlan, apply_changes
from caravan.values.registry import CodeVersion, DataVersion, Forecast, RunResult
from caravan.values.run import RunStatus
from caravan.values.training import MetricSpec

PLAN = TrainingPlan(
    goal="train", command=("train.py",), code=CodeSource(kind="archive", location="/a/code.tar.gz", sha256="c" * 64)
)
LOSS = MetricSpec(name="eval_loss", title="held-out loss", unit="nats", direction="min")


def subject(run_id: str, metrics: dict[str, float], *, seed: int | None = None, **given: Any) -> Subject:
    """A run that ended well; `lr` sets it apart from others."""
    changes = [PlanChange(path="training.lr", value=given.pop("lr", 1e-3), by=Author.USER, why="--set")]
    if seed is not None:
        changes.append(PlanChange(path="training.seed", value=seed, by=Author.USER))
    plan = apply_changes(PLAN, changes)
    gate = GateReport(
        verdict=GateVerdict.PASS,
        metrics=metrics,
        base=given.pop("base", {}),
        definitions=(LOSS,),
        recorded=given.pop("recorded", {}),
    )
    result = RunResult(
        run_id=run_id,
        ended_at=datetime(2026, 1, 1, tzinfo=UTC),
        status=given.pop("status", RunStatus.SUCCEEDED),
        plan=plan.model_dump(mode="json", exclude={"provenance"}),
        plan_sha256=plan.digest(),
        family=family_of(plan),
        seed=seed,
        code=given.pop("code", CodeVersion(sha256="c" * 64)),
        data=given.pop("data", DataVersion(path="d.jsonl", sha256="d" * 64)),
        metrics=metrics,
        gate=gate,
        forecast=Forecast(seconds=60, measured_s=66, usd=1.0, measured_usd=1.1),
        attempts=1,
        **given,
    )
    return Subject(result=result, plan=plan)


def several(lr: float, values: list[float], first: int = 0) -> list[Subject]:
    return [subject(f"{lr:g}-{n}", {"eval_loss": v}, seed=first + n, lr=lr) for n, v in enumerate(values)]


def judged(found: Comparison, name: str = "eval_loss", group: int = 1) -> Judged:
    row = next(row for row in found.metrics if row.name == name)
    versus = row.versus[group]
    assert versus is not None
    return versus.judged


def test_seeds_of_one_plan_are_one_group_and_a_clear_difference_is_called_so() -> None:
    found = compare_runs([*several(1e-3, [2.0, 2.1, 2.05]), *several(1e-4, [1.5, 1.6, 1.55])])
    assert [(g.label, g.seeds) for g in found.groups] == [("A", (0, 1, 2)), ("B", (0, 1, 2))]
    (row,) = found.metrics
    assert (row.unit, row.direction, row.title) == ("nats", "min", "held-out loss")
    assert row.groups[0].mean == pytest.approx(2.05)
    assert row.groups[0].deviation == pytest.approx(0.05)
    assert row.best == 1
    versus = row.versus[1]
    assert versus is not None
    assert versus.judged is Judged.BETTER
    assert versus.difference == pytest.approx(-0.5)
    assert versus.low is not None
    assert versus.high is not None
    # Equal spreads of three each: 4 degrees of freedom, t = 2.776.
    assert versus.high - versus.low == pytest.approx(2 * 2.7764 * 0.05 * (2 / 3) ** 0.5, rel=1e-3)
    assert versus.method == "Welch's t-test"
    turned = compare_runs([*several(1e-4, [1.5, 1.6, 1.55]), *several(1e-3, [2.0, 2.1, 2.05])])
    assert judged(turned) is Judged.WORSE


def test_a_difference_within_the_noise_is_called_so_and_how_many_seeds_would_tell() -> None:
    found = compare_runs([*several(1e-3, [2.0, 2.4]), *several(1e-4, [2.1, 2.2])])
    versus = found.metrics[0].versus[1]
    assert versus is not None
    assert versus.judged is Judged.WITHIN_NOISE
    assert "seeds each would" in versus.text


def test_one_seed_each_tells_nothing_of_the_noise() -> None:
    found = compare_runs([*several(1e-3, [2.0]), *several(1e-4, [1.0])])
    versus = found.metrics[0].versus[1]
    assert versus is not None
    assert versus.judged is Judged.NOISE_NOT_KNOWN
    assert versus.text.startswith("one seed each: 2 more seeds each show 2.3 times the spread")
    assert found.metrics[0].best == 1, "the best is marked all the same"


def test_a_run_that_repeats_a_seed_is_no_further_seed() -> None:
    again = subject("again", {"eval_loss": 2.2}, seed=0, lr=1e-3, reproduces="0.001-0")
    found = compare_runs([*several(1e-3, [2.0]), again, *several(1e-4, [1.0])])
    spread = found.metrics[0].groups[0]
    assert spread.n == 1
    assert spread.mean == pytest.approx(2.1)
    assert found.groups[0].repeats == ("again",)
    assert judged(found) is Judged.NOISE_NOT_KNOWN


def test_runs_without_a_seed_that_came_to_the_same_are_one_draw() -> None:
    same = [subject(f"s{n}", {"eval_loss": 2.0}, lr=1e-3) for n in range(3)]
    found = compare_runs([*same, *several(1e-4, [1.0, 1.1])])
    assert found.metrics[0].groups[0].n == 1
    apart = [subject(f"s{n}", {"eval_loss": 2.0 + n / 10}, lr=1e-3) for n in range(3)]
    assert compare_runs([*apart, *several(1e-4, [1.0, 1.1])]).metrics[0].groups[0].n == 3


def test_failed_runs_are_shown_and_do_not_count() -> None:
    lost = subject("lost", {"eval_loss": 9.0}, seed=5, lr=1e-3, status=RunStatus.FAILED)
    found = compare_runs([*several(1e-3, [2.0, 2.1]), lost, *several(1e-4, [1.0, 1.1])])
    assert found.metrics[0].groups[0].values == (2.0, 2.1)
    assert any("lost ended failed" in note for note in found.groups[0].notes)
    assert "failed" in {row.status.value for row in found.costs}


OTHER = DataVersion(path="d.jsonl", sha256="e" * 64)


def test_other_data_is_said_at_the_head_and_nothing_is_judged() -> None:
    found = compare_runs(
        [*several(1e-3, [2.0, 2.1]), *(subject(f"x{n}", {"eval_loss": 1.0 + n}, seed=n, data=OTHER) for n in (0, 1))]
    )
    assert found.comparable is False
    assert found.head[0].startswith("Not comparable: the runs trained on other data")
    assert judged(found) is Judged.NOT_COMPARABLE
    assert found.metrics[0].best is None
    assert next((row.name, row.same) for row in found.sources) == ("data", False)


def test_other_data_judged_on_the_same_set_compares_the_data() -> None:
    same = {"sha256": {"held_out": "f" * 64}}
    found = compare_runs(
        [
            subject("a", {"eval_loss": 1.0}, seed=0, recorded=same),
            subject("b", {"eval_loss": 1.1}, seed=0, recorded=same, data=OTHER),
        ]
    )
    assert found.comparable is True
    assert "what is compared is the data" in found.head[0]
    assert judged(found) is Judged.NOISE_NOT_KNOWN


def test_another_held_out_set_is_not_comparable() -> None:
    found = compare_runs(
        [
            subject("a", {"eval_loss": 1.0}, seed=0, recorded={"sha256": {"held_out": "f" * 64}}),
            subject("b", {"eval_loss": 1.1}, seed=0, lr=1e-4, recorded={"sha256": {"held_out": "0" * 64}}),
        ]
    )
    assert found.comparable is False
    assert judged(found) is Judged.NOT_COMPARABLE


def test_only_fields_that_differ_are_told_with_who_set_them() -> None:
    found = compare_runs([*several(1e-3, [2.0]), *several(1e-4, [1.0])])
    assert [(row.path, row.values, row.by) for row in found.plan] == [("training.lr", (1e-3, 1e-4), ("user", "user"))]


def test_metrics_that_tell_of_the_machine_are_shown_and_not_judged() -> None:
    found = compare_runs(
        [
            subject("a", {"train_runtime": 10.0, "eval_loss": 1.0}, seed=0),
            subject("b", {"train_runtime": 20.0, "eval_loss": 1.1}, seed=0, lr=1e-4),
        ]
    )
    assert [row.name for row in found.metrics] == ["eval_loss", "train_runtime"]
    assert judged(found, "train_runtime") is Judged.NOT_JUDGED


def test_a_metric_of_which_nobody_says_what_is_better_only_differs() -> None:
    runs = [subject(f"a{n}", {"gizmo": 1.0 + n / 100}, seed=n) for n in range(3)]
    runs += [subject(f"b{n}", {"gizmo": 2.0 + n / 100}, seed=n, lr=1e-4) for n in range(3)]
    assert judged(compare_runs(runs), "gizmo") is Judged.DIFFERS


def test_runs_of_different_metrics_have_nothing_to_hold_against_each_other() -> None:
    found = compare_runs([subject("a", {"eval_loss": 1.0}), subject("b", {"accuracy": 0.9}, lr=1e-4)])
    assert "no metric in common" in found.head[-1]
    assert judged(found) is Judged.NOT_JUDGED


def test_one_group_says_that_chance_alone_tells_them_apart() -> None:
    found = compare_runs(several(1e-3, [2.0, 2.1]))
    assert "chance alone" in found.head[0]
    assert found.plan == ()


def test_many_differences_at_once_are_counted_together() -> None:
    runs = [subject(f"a{n}", {f"loss{m}": m + n / 10 for m in range(4)}, seed=n) for n in range(3)]
    runs += [subject(f"b{n}", {f"loss{m}": m + n / 10 + 0.4 for m in range(4)}, seed=n, lr=1e-4) for n in range(3)]
    found = compare_runs(runs)
    assert found.notes[0].startswith("4 differences are looked at")
    versus = found.metrics[0].versus[1]
    assert versus is not None
    assert versus.p is not None
    assert versus.p_all == pytest.approx(min(1.0, 4 * versus.p))


def test_the_page_needs_nothing_else_and_says_what_it_was_given() -> None:
    hostile = subject("a", {"<script>alert(1)</script>": 1.0, "eval_loss": 2.0}, seed=0, base={"eval_loss": 3.0})
    found = compare_runs([hostile, *several(1e-4, [1.0, 1.2])])
    page = comparison_html(found, TEMPLATES)
    assert "<script" not in page
    assert "http:" not in page.replace("http-equiv", "")
    assert "https:" not in page
    assert "&lt;script&gt;" in page
    assert "training.lr" in page
    assert "<svg" in page


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_any_figures_make_a_document_and_both_orders_say_the_opposite(a: list[float], b: list[float]) -> None:
    one, other = several(1e-3, a), several(1e-4, b)
    found, turned = compare_runs([*one, *other]), compare_runs([*other, *one])
    assert json.loads(json.dumps(found.model_dump(mode="json")))
    opposite = {Judged.BETTER: Judged.WORSE, Judged.WORSE: Judged.BETTER}
    first, second = judged(found), judged(turned)
    assert second is opposite.get(first, first)


def judged_by(one: Subject, by: str) -> Subject:
    gate = one.result.gate
    assert gate is not None
    result = one.result.model_copy(update={"gate": gate.model_copy(update={"judged_by": by})})
    return one.model_copy(update={"result": result})


def test_a_log_s_loss_is_not_held_against_an_evaluation_s() -> None:
    measured = [judged_by(s, "evaluation") for s in several(1e-3, [1.2, 1.21, 1.22])]
    logged = [judged_by(s, "log") for s in several(1e-4, [0.3, 0.31, 0.32])]
    found = compare_runs([*measured, *logged])
    assert sorted(row.name for row in found.metrics) == ["eval_loss", "logged_eval_loss"]
    assert judged(found) is Judged.NOT_JUDGED
    assert any("figures of the training's log" in line for line in found.head)
    mixed = [judged_by(s, by) for s, by in zip(several(1e-3, [1.2, 0.3]), ("evaluation", "log"), strict=True)]
    assert [row.groups[0].n for row in compare_runs(mixed).metrics] == [1, 1], "no two seeds of one figure"


def test_what_is_not_known_of_code_and_data_is_not_called_the_same() -> None:
    unseen = [
        subject(f"u{n}", {"eval_loss": 2.0 + n}, seed=n, data=DataVersion(path="/data/x.jsonl")) for n in range(2)
    ]
    assert "whether their data were the same is not known" in compare_runs(unseen).head[0]
    changed = [subject(f"c{n}", {"eval_loss": 2.0 + n}, seed=n, code=CodeVersion(commit=str(n) * 40)) for n in range(2)]
    assert "other code" in compare_runs(changed).head[0]
    dirty = CodeVersion(commit="1" * 40, uncommitted=("a.py",))
    unclear = [subject(f"d{n}", {"eval_loss": 2.0 + n}, seed=n, code=dirty) for n in range(2)]
    assert "whether their code were the same is not known" in compare_runs(unclear).head[0]

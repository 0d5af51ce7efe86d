"""The gate's judgement, check by check: what fails, what a person looks at, what passes."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from caravan.gate.courses import of_the_training
from caravan.gate.judging import judge, objection
from caravan.gate.naming import counts
from caravan.values.evaluation import (
    CanaryResult,
    CheckKind,
    Evaluation,
    EvaluationResult,
    GateCheck,
    GateReport,
    GateVerdict,
    SideMetrics,
    parse_evaluation,
)
from caravan.values.plan import Target, TrainingPlan
from caravan.values.training import MetricSpec

PASS, LOOK, FAIL, UNKNOWN = GateVerdict.PASS, GateVerdict.LOOK, GateVerdict.FAIL, GateVerdict.UNKNOWN
Rows = Sequence[Mapping[str, float]]


def plan(target: Target | None = None, **evaluation: Any) -> TrainingPlan:
    return TrainingPlan(goal="", command=("train.py",), target=target, evaluation=Evaluation(**evaluation))


def gate(
    rows: Rows = (), result: EvaluationResult | None = None, of: TrainingPlan | None = None, **more: Any
) -> GateReport:
    return judge(of or plan(), result=result, rows=rows, expected=result is not None, **more)


def of_kind(report: GateReport, kind: CheckKind) -> list[GateCheck]:
    return [check for check in report.checks if check.kind is kind]


def one(report: GateReport, kind: CheckKind) -> GateCheck:
    (found,) = of_kind(report, kind)
    return found


def epochs(**series: Sequence[float]) -> list[dict[str, float]]:
    length = len(next(iter(series.values())))
    return [{"epoch": n + 1.0, **{name: values[n] for name, values in series.items()}} for n in range(length)]


def sides(base: float, tuned: float, *, name: str = "loss", samples: int | None = 1000, **guess: float) -> SideMetrics:
    return SideMetrics(base={name: base}, tuned={name: tuned}, guess=guess, samples=samples)


def test_a_training_that_learnt_passes_by_its_log() -> None:
    falling = [2.0, 1.6, 1.4, 1.3, 1.25, 1.22, 1.2, 1.19]
    report = gate(epochs(loss=falling, eval_loss=[x + 0.1 for x in falling]))
    assert report.verdict is PASS
    assert report.judged_by == "log"
    assert objection(report) == ""


def test_nothing_known_is_for_a_person() -> None:
    assert gate().verdict is LOOK
    assert gate(epochs(loss=[2.0, 1.0])).verdict is LOOK  # no held-out figure


@pytest.mark.parametrize("name", ["eval_loss", "val_loss", "validation/loss", "val/loss", "valLoss", "test_loss"])
def test_held_out_loss_past_its_best_is_overfit_whatever_it_is_called(name: str) -> None:
    rows = epochs(**{"loss": [2.0, 1.0, 0.5, 0.3, 0.2, 0.1], name: [2.0, 1.5, 1.4, 1.6, 1.9, 2.3]})
    report = gate(rows)
    check = one(report, CheckKind.OVERFIT)
    assert check.verdict is FAIL
    assert "at epoch 3 of 6" in check.text
    assert report.verdict is FAIL
    assert objection(report) == check.text


def test_a_rising_loss_beside_answers_at_their_best_is_for_a_person() -> None:
    rows = epochs(eval_loss=[0.6, 0.5, 0.7, 0.9], eval_accuracy=[0.7, 0.8, 0.85, 0.86])
    assert one(gate(rows), CheckKind.OVERFIT).verdict is LOOK


def test_the_model_that_was_kept_excuses_a_late_rise() -> None:
    rows = epochs(eval_loss=[2.0, 1.5, 1.4, 1.6, 1.9, 2.3])
    report = gate(rows, EvaluationResult(held_out=sides(2.2, 1.4)))
    assert one(report, CheckKind.OVERFIT).verdict is LOOK
    assert not report.failed


def test_learned_by_heart_and_worse_elsewhere_is_overfit() -> None:
    result = EvaluationResult(held_out=sides(2.0, 2.1), learnt=sides(2.0, 0.3))
    report = gate(result=result)
    assert one(report, CheckKind.OVERFIT).verdict is FAIL
    assert objection(report).startswith("loss fell by 1.7 on what was learned and rose by 0.1 on held-out data")


def test_worse_than_its_base() -> None:
    report = gate(result=EvaluationResult(held_out=sides(2.0, 2.6), learnt=sides(2.0, 1.95)))
    assert one(report, CheckKind.BASE).verdict is FAIL


def test_by_chance_no_better_is_for_a_person() -> None:
    few = sides(0.8, 0.76, name="accuracy", samples=25)
    assert one(gate(result=EvaluationResult(held_out=few)), CheckKind.BASE).verdict is LOOK
    many = sides(0.8, 0.7, name="accuracy", samples=1000)
    assert one(gate(result=EvaluationResult(held_out=many)), CheckKind.BASE).verdict is FAIL


def test_a_classifier_that_guesses() -> None:
    guessing = sides(0.3, 0.5, name="accuracy", majority=0.5, chance=0.5)
    report = gate(result=EvaluationResult(held_out=guessing))
    assert [check.verdict for check in of_kind(report, CheckKind.BASE)] == [PASS, FAIL]


def test_underfit_by_what_was_measured_and_by_the_log() -> None:
    report = gate(result=EvaluationResult(held_out=sides(2.0, 1.9995), learnt=sides(2.0, 1.9995)))
    assert one(report, CheckKind.LEARNT).verdict is FAIL
    flat = [{"step": n + 1.0, "loss": 2.0 + 0.0005 * (-1) ** n} for n in range(40)]
    assert one(gate(flat), CheckKind.LEARNT).verdict is FAIL


def test_a_resumed_training_is_not_judged_by_where_its_log_begins() -> None:
    flat = [{"step": 1000.0 + n, "loss": 1.0 + 0.0005 * (-1) ** n} for n in range(40)]
    assert one(gate(flat), CheckKind.LEARNT).verdict is UNKNOWN
    assert one(gate(flat, whole=True), CheckKind.LEARNT).verdict is FAIL
    early = [{**row, "step": row["step"] - 999} for row in flat]
    assert one(gate(early, whole=False), CheckKind.LEARNT).verdict is UNKNOWN


def test_rewards_are_no_losses() -> None:
    rows = [{"step": n + 1.0, "loss": 0.001 * n, "reward": 0.1 * n} for n in range(40)]
    assert one(gate(rows), CheckKind.LEARNT).verdict is UNKNOWN


def test_what_tells_of_episodes_is_trained_by_rewards() -> None:
    rising = [0.1 + 0.05 * n for n in range(60)]
    for name in ("episode", "ep_rew_mean", "episode_return", "ep_ret", "mean_reward"):
        rows = [{"loss": loss, name: 10.0 + 3 * n} for n, loss in enumerate(rising)]
        assert one(gate(rows), CheckKind.LEARNT).verdict is UNKNOWN, name


def test_a_loss_that_rises_beside_what_got_better_is_for_a_person() -> None:
    """A VAE whose KL divergence is weighted up: its loss rises by design."""
    rising = [100.0 + 0.5 * n for n in range(60)]
    parts = [100.0 - n for n in range(60)]
    found = one(gate(epochs(loss=rising, recon_loss=parts)), CheckKind.LEARNT)
    assert found.verdict is LOOK
    assert "diverged" not in found.text
    assert "recon_loss got better" in found.text
    assert one(gate(epochs(loss=rising, recon_loss=parts[::-1])), CheckKind.LEARNT).verdict is FAIL
    assert one(gate(epochs(loss=rising, grad_norm=parts, best_loss=parts)), CheckKind.LEARNT).verdict is FAIL
    assert (
        one(gate(epochs(loss=[2.0] * 60, accuracy=[0.1 + n / 100 for n in range(60)])), CheckKind.LEARNT).verdict
        is LOOK
    )


@pytest.mark.parametrize("name", ["best_loss", "best_val_loss", "min_loss", "lowest_loss", "prev_loss", "loss_scale"])
def test_what_begins_at_infinity_is_no_measurement(name: str) -> None:
    falling = [2.0 / (n + 1) for n in range(10)]
    assert one(gate([{name: math.inf}, *epochs(loss=falling)]), CheckKind.FINITE).verdict is PASS


def test_a_part_of_a_loss_that_is_no_number_is_for_a_person() -> None:
    falling = [2.0 / (n + 1) for n in range(10)]
    assert one(gate(epochs(loss=falling, aux_loss=[math.nan] * 10)), CheckKind.FINITE).verdict is LOOK
    assert one(gate(epochs(loss=[*falling[:-1], math.nan], aux_loss=falling)), CheckKind.FINITE).verdict is FAIL
    assert one(gate(epochs(d_loss=falling, g_loss=[math.nan] * 10)), CheckKind.FINITE).verdict is FAIL


def test_before_the_training_is_what_was_measured_before_any_loss() -> None:
    rising = [0.6 + 0.02 * n for n in range(30)]
    loop = [{"epoch": float(n), "loss": 2.0 / (n + 1), "val_loss": value} for n, value in enumerate(rising)]
    assert "before the training" not in objection(gate(loop))  # the 0th epoch is over when it is told
    assert one(gate(loop), CheckKind.OVERFIT).verdict is FAIL
    answers = [{**row, "val_accuracy": 50 + row["epoch"]} for row in loop]
    assert gate(answers).verdict is LOOK
    start = {"eval_loss": 0.5, "epoch": 0.0}  # as Transformers tells it, evaluating at the start
    tuned = [{"epoch": n + 1.0, "loss": 2.0 / (n + 1)} for n in range(30)]
    ends = [{"epoch": 10.0 * n, "eval_loss": 0.8} for n in (1, 2, 3)]
    rows = sorted([start, *tuned, *ends], key=lambda row: row["epoch"])
    assert "before the training" in objection(gate(rows))
    steps = [{"step": 100.0 * n, "train_loss": 2.0 / (n + 1), "val_loss": 1 + 0.1 * n} for n in range(12)]
    assert "before the training" in objection(gate(steps))
    better = [{**row, "val_accuracy": 50 + row["step"] / 100} for row in steps]
    assert gate(better).verdict is LOOK  # its answers get better all the same


def test_what_counts_examples_says_nothing_of_the_model() -> None:
    for printed in ({"n_examples": 100.0}, {"samples": 3.0}, {"accuracy": math.nan, "n": 3.0}):
        report = gate(result=EvaluationResult(by="command", metrics=printed))
        assert report.verdict is LOOK, printed
    aim = plan(Target(metric="accuracy", goal=0.8, direction="max"))
    report = gate(result=EvaluationResult(by="command", metrics={"accuracy": 0.9, "n": 3.0}), of=aim)
    assert report.verdict is PASS
    asked = plan(Target(metric="helpfulness", goal=0.8, direction="max"), metric="helpfulness")
    assert gate(result=EvaluationResult(by="command", metrics={"helpfulness": 0.9}), of=asked).verdict is PASS


def test_more_canaries_failed_than_there_were_is_for_a_person() -> None:
    told = CanaryResult(prompts=1, failed=tuple(str(n) for n in range(100)))
    found = one(gate(result=EvaluationResult(canary=told)), CheckKind.CANARY)
    assert found.verdict is LOOK
    assert "more than the 1" in found.text


def test_numbers_beyond_what_is_stored_are_no_answer() -> None:
    for side in ({"samples": 10**30}, {"samples": -1}):
        assert parse_evaluation(json.dumps({"held_out": side}).encode()) is None
    assert parse_evaluation(json.dumps({"seed": 10**30}).encode()) is None
    assert parse_evaluation(json.dumps({"canary": {"prompts": 10**30}}).encode()) is None
    assert parse_evaluation(json.dumps({"canary": {"prompts": 1, "failed": ["a"] * 10_001}}).encode()) is None
    assert parse_evaluation(json.dumps({"held_out": {"samples": 10**6}, "seed": 7}).encode()) is not None


def test_a_target_is_found_on_held_out_data() -> None:
    goal = Target(metric="Acc", goal=0.8, direction="max")
    rows = epochs(train_acc=[0.5, 0.99], val_acc=[0.5, 0.9])
    found = one(gate(rows, of=plan(goal)), CheckKind.TARGET)
    assert (found.verdict, found.value) == (PASS, 0.9)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_a_percentage_reaches_no_share_and_misses_none(direction: str) -> None:
    goal = Target.model_validate({"metric": "accuracy", "goal": 0.9, "direction": direction})
    found = one(gate(epochs(accuracy=[30.0, 45.0]), of=plan(goal)), CheckKind.TARGET)
    assert found.verdict is LOOK
    assert "per cent" in found.text


def test_no_numbers() -> None:
    rows = epochs(loss=[2.0, 1.0, math.nan])
    assert objection(gate(rows)) == "the last loss is nan: the training diverged"
    report = gate(result=EvaluationResult(held_out=sides(2.0, math.nan)))
    assert one(report, CheckKind.FINITE).verdict is FAIL
    assert report.metrics == {}
    report = gate(result=EvaluationResult(held_out=sides(math.nan, math.nan)))
    assert one(report, CheckKind.FINITE).verdict is LOOK


def test_one_that_blew_up_and_swings_is_diverged_however_wide_it_swings() -> None:
    swings = [1.7, 1.6, 1.8, 1.5, 1.4] + [0.4, 3.0] * 5 + [2e3, 16e3, 9e3, 30, 12e3] * 6
    found = objection(gate(epochs(loss=swings)))
    assert found.startswith("loss rose from ")
    assert found.endswith(": the training diverged")


def test_a_held_out_loss_that_never_was_one_tells_nothing() -> None:
    rows = epochs(loss=[2.0, 1.0, 0.9], eval_loss=[math.nan] * 3)
    assert one(gate(rows), CheckKind.FINITE).verdict is PASS


def test_one_answer_to_everything() -> None:
    held = sides(0.3, 0.5, name="accuracy", majority=0.5)
    report = gate(result=EvaluationResult(held_out=held, collapse={"commonest": 1.0, "distinct": 0.001}))
    assert {check.verdict for check in of_kind(report, CheckKind.COLLAPSE)} == {FAIL}
    one_sided = sides(0.3, 0.97, name="accuracy", majority=0.96)
    report = gate(result=EvaluationResult(held_out=one_sided, collapse={"commonest": 0.99}))
    assert one(report, CheckKind.COLLAPSE).verdict is LOOK


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"empty": 1.0, "empty_base": 0.0, "empty_expected": 0.0}, FAIL),
        ({"empty": 1.0, "empty_base": 0.99, "empty_expected": 0.0}, PASS),  # the base says nothing either
        ({"empty": 1.0, "empty_base": 0.0, "empty_expected": 1.0}, PASS),  # and nothing is right
        ({"empty": 1.0}, LOOK),
        ({"empty": 0.6, "empty_base": 0.1, "empty_expected": 0.0}, LOOK),
        ({"empty": 0.4, "empty_base": 0.0}, PASS),
        ({"repeating": 1.0, "repeating_base": 0.0, "repeating_expected": 0.0}, LOOK),
        ({"repeating": 0.9, "repeating_base": 0.8}, PASS),
        ({"repeating": 0.9, "repeating_expected": 0.9}, PASS),
        ({"repeating": 0.3, "repeating_base": 0.0}, PASS),
        ({"zero_variance": 1.0}, FAIL),
        ({"zero_variance": 0.6}, LOOK),
        ({"zero_variance": 0.1}, PASS),
        ({"empty": math.nan}, None),
        ({"repeating": 7.0}, None),
        ({"zero_variance": 1.0, "prompts": 3.0}, None),  # too few to say
    ],
)
def test_answers_that_say_nothing_or_go_in_circles(told: dict[str, float], verdict: GateVerdict | None) -> None:
    report = gate(result=EvaluationResult(held_out=sides(2.0, 1.5), collapse=told))
    assert [check.verdict for check in of_kind(report, CheckKind.COLLAPSE)] == ([verdict] if verdict else [])
    if verdict is FAIL:
        assert objection(report).endswith(": the model collapsed")


def test_a_fixed_set_and_canaries() -> None:
    asked = plan(regression="r.jsonl", canary="builtin")
    worse = EvaluationResult(
        held_out=sides(2.0, 1.5),
        regression=sides(1.0, 1.2),
        regressed=("a", "b"),
        canary=CanaryResult(prompts=4, failed=("c1",), base_failed=()),
    )
    report = gate(result=worse, of=asked)
    assert one(report, CheckKind.REGRESSION).verdict is FAIL
    assert "1 of 4 canary prompts are answered unsafely, by the base model 0 (c1)" in objection(report)
    report = gate(result=EvaluationResult(held_out=sides(2.0, 1.5)), of=asked)
    assert one(report, CheckKind.REGRESSION).verdict is LOOK
    assert one(report, CheckKind.CANARY).verdict is LOOK
    assert report.verdict is LOOK


def test_an_evaluation_that_did_not_run_is_no_fault_of_the_model() -> None:
    rows = epochs(loss=[2.0, 1.0], eval_loss=[2.0, 1.0])
    goal = plan(Target(metric="f1", direction="max", goal=0.5))
    for result in (None, EvaluationResult(error="out of memory")):
        report = judge(goal, result=result, rows=rows, expected=True)
        assert one(report, CheckKind.RAN).verdict is LOOK
        assert report.verdict is LOOK


def test_the_target() -> None:
    goal = plan(Target(metric="accuracy", direction="max", goal=0.9))
    assert objection(gate([{"accuracy": 0.5}], of=goal)) == "accuracy is 0.5, the target is 0.9"
    assert "never logged" in objection(gate([{"loss": 0.5}], of=goal))
    assert gate([{"accuracy": 0.9}], of=goal).failed == ()
    measured = EvaluationResult(held_out=sides(0.5, 0.95, name="accuracy"))
    apart = plan(Target(metric="eval_acc", direction="max", goal=0.9))
    assert one(gate([{"eval_acc": 0.8}], measured, of=apart), CheckKind.TARGET).value == 0.95


def test_steps_times_and_speeds_are_no_figures_of_a_model() -> None:
    told = {
        "loss": 1.0,
        "eval_acc_norm": 0.5,
        "val_loss_epoch": 1.1,
        "win_rate": 0.6,
        "kl": 0.1,
        "num_turns_reward": 2.0,
    }
    beside = {"step": 9, "global_step": 9, "epoch": 2, "lr": 1e-4, "learning_rate": 1e-4, "train_learning_rate": 1e-4}
    beside |= {"tokens/s": 900, "samples_per_second": 9, "it/s": 3, "examples/s": 2, "train_runtime": 60}
    beside |= {"grad_norm": 1, "loss_scale": 65536, "num_tokens": 4e6, "step_time_ms": 20, "gpu_mem": 10}
    assert gate([{**beside, **told}]).metrics == told
    measured = EvaluationResult(metrics={**beside, "accuracy": 0.9})
    assert gate([], measured).metrics == {"accuracy": 0.9}


def test_a_speed_that_is_the_target_is_a_figure() -> None:
    wanted = plan(Target(metric="tokens_per_second", direction="max", goal=100))
    assert gate([{"tokens_per_second": 120.0, "loss": 1.0}], of=wanted).metrics["tokens_per_second"] == 120


def test_a_measured_loss_is_that_of_held_out_data() -> None:
    defined = (
        MetricSpec(name="loss", title="training loss", direction="min"),
        MetricSpec(name="eval_loss", title="loss on held-out examples", direction="min"),
        MetricSpec(name="mrr", title="mean reciprocal rank", direction="max"),
    )
    result = EvaluationResult(held_out=SideMetrics(base={"loss": 2.0}, tuned={"loss": 1.0, "mrr": 0.5}))
    told = {one.name: one.title for one in gate((), result, definitions=defined).definitions}
    assert told == {"loss": "loss on held-out examples", "mrr": "mean reciprocal rank"}
    logged = gate(epochs(loss=[2.0, 1.0]), definitions=defined)
    assert [one.title for one in logged.definitions] == ["training loss"]


def test_a_figure_that_nothing_is_held_against_needs_a_look() -> None:
    measured = EvaluationResult(by="command", metrics={"loss": 4.2})
    report = gate(result=measured)
    assert report.verdict is LOOK
    (said,) = [check for check in report.checks if check.verdict is LOOK]
    assert (said.kind, said.metric) == (CheckKind.BASE, "loss")
    assert "nothing is known to hold it against" in said.text
    alone = EvaluationResult(by="model", held_out=SideMetrics(tuned={"loss": 4.2}, samples=100))
    assert gate(result=alone).verdict is LOOK
    assert gate([{"eval_accuracy": 0.9}]).verdict is LOOK


def test_a_target_a_base_or_the_course_of_the_training_is_enough_to_hold_it_against() -> None:
    measured = EvaluationResult(by="command", metrics={"loss": 4.2})
    assert gate(result=measured, of=plan(Target(metric="loss", goal=5.0))).verdict is PASS
    assert gate(result=EvaluationResult(by="model", held_out=sides(5.0, 4.2))).verdict is PASS
    falling = epochs(loss=[2.0, 1.6, 1.4, 1.3, 1.25, 1.22, 1.2, 1.19])
    assert gate(falling, measured).verdict is PASS


@pytest.mark.parametrize(
    ("name", "counter"),
    [
        *((name, False) for name in ("acc_norm", "win_rate", "eval/acc_norm", "success_rate", "error_rate", "hitRate")),
        *((name, True) for name in ("rate", "learning_rate", "lr", "grad_norm", "norm", "loss_scale", "sample_rate")),
        *((name, True) for name in ("weight_norm", "clip_rate", "steps", "best_loss", "kl", "tokens")),
    ],
)
def test_what_a_rate_or_a_norm_is_of_says_whether_it_is_a_models_figure(name: str, counter: bool) -> None:
    assert counts(name) is counter


def test_a_win_rate_is_judged() -> None:
    better = EvaluationResult(by="model", held_out=sides(0.4, 0.6, name="win_rate"))
    assert one(gate(result=better), CheckKind.BASE).metric == "win_rate"
    assert gate(result=better).verdict is PASS
    assert gate(result=EvaluationResult(by="model", held_out=sides(0.6, 0.4, name="acc_norm"))).verdict is FAIL


@pytest.mark.parametrize(
    "losses",
    [
        [2.3, 60.0],
        [2.3, 40.1, 55.0],
        [0.7, 12.0, 300.0, 900.0],
        [4.2, *(80.0 + 25 * (-1) ** n for n in range(11))],
        [4.2, *(80.0 + 25 * (-1) ** n for n in range(40))],
        [4.2, 300.0, 90.0, 20.0, 8.0, 6.0, 5.9, 5.8, *[5.7] * 20],  # it falls again, and never comes back
    ],
)
def test_a_loss_that_is_thrown_off_in_its_first_steps_diverged(losses: list[float]) -> None:
    report = gate(epochs(loss=losses))
    assert one(report, CheckKind.LEARNT).verdict is FAIL
    assert "the training diverged" in objection(report).partition(";")[0]
    assert gate(epochs(loss=losses, eval_loss=losses)).verdict is FAIL


def test_few_values_that_never_get_below_the_first_are_for_a_person() -> None:
    losses = [2.3, 2.4, 2.35]
    report = gate(epochs(loss=losses, eval_loss=losses))
    assert report.verdict is LOOK
    assert "never got below where it began" in one(report, CheckKind.LEARNT).text
    assert one(gate(epochs(loss=[2.3, 2.4, 2.2])), CheckKind.LEARNT).verdict is UNKNOWN


def test_a_first_value_that_is_low_by_chance_is_no_divergence() -> None:
    noisy = [1.0, 1.6, 1.2, 2.1, 1.4, 1.1, 1.9, 1.3, 1.5, 1.1]
    assert one(gate(epochs(loss=noisy)), CheckKind.LEARNT).verdict is not FAIL


@pytest.mark.parametrize("place", ["step", "epoch"])
def test_a_first_value_of_one_batch_is_not_held_against_means_of_many(place: str) -> None:
    """As transformers logs with `logging_first_step`: the first value is of one step, each later one the mean of 50."""
    means = [1.12, 1.1, 1.105, 1.09, 1.095, 1.08, 1.085, 1.07, 1.075, 1.06]
    steps = [1, *range(50, 550, 50)]
    shown = [float(n) if place == "step" else round(n / 300, 2) for n in steps]
    rows = [{place: at, "loss": loss} for at, loss in zip(shown, [0.85, *means], strict=True)]
    assert one(gate(rows), CheckKind.LEARNT).verdict is LOOK
    alike = [{place: float(n), "loss": loss} for n, loss in enumerate([0.85, *means], 1)]
    assert one(gate(alike), CheckKind.LEARNT).verdict is FAIL
    thrown_off = [{place: at, "loss": loss} for at, loss in zip(shown, [0.85, *(4 * x for x in means)], strict=True)]
    assert one(gate(thrown_off), CheckKind.LEARNT).verdict is FAIL


def test_a_training_that_went_on_is_not_held_against_its_first_value() -> None:
    assert one(gate(epochs(loss=[2.3, 60.0]), whole=False), CheckKind.LEARNT).verdict is UNKNOWN


def test_a_loss_that_was_told_before_the_first_step_is_no_part_of_the_training() -> None:
    rows = [{"loss": 1.98}, *({"step": 10.0 * n, "loss": 3.4 - 0.13 * n} for n in range(6))]
    found = one(gate(rows), CheckKind.LEARNT)
    assert (found.verdict, found.base) == (GateVerdict.PASS, 3.4), found.text
    # So it is where that loop counts steps of its own: examples/numpy-lora makes its base model in 600 steps.
    before = [{"step": 200.0 * n, "loss": 2.2 - 0.1 * n} for n in range(1, 4)]
    counted = [*before, *({"step": 10.0 * n + 1, "loss": 3.4 - 0.05 * n} for n in range(20))]
    found = one(gate(counted), CheckKind.LEARNT)
    assert (found.verdict, (found.base or 0) > 3.3) == (GateVerdict.PASS, True), found.text
    # Two epochs that count their steps anew are one training, and so is one that went on from a checkpoint.
    twice = [{"step": 10.0 * n + 1, "loss": 3.4 - 0.05 * m} for m, n in enumerate([*range(15), *range(15)])]
    assert len(of_the_training(twice, "loss")) == 30
    resumed = [{"step": 10.0 * n, "loss": 3.4 - 0.05 * m} for m, n in enumerate([*range(5), *range(3, 30)])]
    assert len(of_the_training(resumed, "loss")) == 32
    # A loop that names its place in its summaries alone began with its first value all the same.
    summed = [*({"loss": 3.4 - 0.05 * n} for n in range(10)), {"epoch": 1.0, "loss": 2.9}, {"epoch": 2.0, "loss": 2.8}]
    assert (one(gate(summed), CheckKind.LEARNT).base or 0) > 3


def test_what_is_the_more_the_better_is_at_its_best_at_the_end() -> None:
    """Its last value stands beside its neighbours as a loss's does."""
    falling = [1.0, 0.9, 0.8, 0.85, 0.95, 1.0, 1.1, 1.2, 1.3, 1.4]
    rising = [0.5, 0.6, 0.65, 0.7, 0.72, 0.74, 0.76, 0.8, 0.81, 0.9]
    report = gate(epochs(loss=falling[::-1], eval_loss=falling, eval_accuracy=rising))
    assert of_kind(report, CheckKind.OVERFIT)[0].verdict is LOOK

"""Whether a reproduction agrees: what was not measured again, or measured otherwise, agrees with nothing."""

from caravan.runs.agreement import agreement
from caravan.values.evaluation import GateReport, GateVerdict
from caravan.values.registry import RunResult
from caravan.values.reproduction import Agreement
from tests.runs.test_comparison import subject


def judged(result: RunResult, by: str) -> RunResult:
    gate = GateReport.model_validate({"verdict": GateVerdict.PASS, "judged_by": by})
    return result.model_copy(update={"gate": gate})


def test_a_metric_that_was_not_measured_again_can_not_agree() -> None:
    original = subject("a", {"eval_loss": 1.0, "accuracy": 0.5, "loss": 2.0}, seed=1).result
    found = agreement(original, subject("b", {"loss": 2.0}, seed=1).result)
    assert found.verdict is Agreement.UNKNOWN
    assert found.text == "eval_loss, accuracy were not measured again"
    worse = agreement(original, subject("b", {"loss": 9.0}, seed=1).result)
    assert worse.verdict is Agreement.DIFFERS, "what is off is off all the same"


def test_figures_of_an_evaluation_and_of_a_log_are_not_held_against_each_other() -> None:
    one, other = subject("a", {"loss": 1.0}, seed=1).result, subject("b", {"loss": 1.0}, seed=1).result
    found = agreement(judged(one, "evaluation"), judged(other, "log"))
    assert found.verdict is Agreement.UNKNOWN
    assert "the other of the training's log" in found.metrics[0].note
    assert agreement(judged(one, "log"), judged(other, "nothing")).verdict is Agreement.AGREES


def test_counters_and_speeds_that_are_gone_are_nobodys_loss() -> None:
    original = subject("a", {"loss": 1.0, "step": 7.0, "samples_per_second": 3.0}, seed=1).result
    assert agreement(original, subject("b", {"loss": 1.0}, seed=1).result).verdict is Agreement.AGREES

"""How well the evaluation gate judges: simulated trainings of known kinds, and what it makes of each.

usage: python -m bench.gate [--courses N] [--seed S] [--real PATH]

A course is a training loss that falls to a floor (exponentially, after a warm-up, some of it in the first steps alone),
with noise of 2, 10 or 30 % that is lognormal, logged 6 to 300 times, and a held-out loss that is evaluated 0 to 10
times with noise of 0.2 to 2 %. Kinds: healthy (also: late by less than is allowed, and nearly all learnt in the first
steps), overfit (held-out loss ends 15 to 80 % above its best), underfit (it falls by at most 0.3 %), diverged (it ends
at 1.3 to 5 times its beginning, or as no number). An evaluation measures base and tuned model on 50 to 1000 examples,
with the chance of so few. Each is judged by its log alone, and by log and evaluation.

Printed are, for each kind: the share that fails, that fails for the right cause (read from the gate's words by the
rules of diagnosis), that a person is to look at, and that passes. A failed healthy course is a false alarm: it costs a
whole training. `--real` judges logs of real trainings as well: each file there is a log whose name begins with the
kind it is of (`overfit-3.log`).
"""

import argparse
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from caravan.agent.metrics import metric_rows
from caravan.diagnosis.rules import diagnose
from caravan.gate.judging import judge, objection
from caravan.values.evaluation import EvaluationResult, GateReport, GateVerdict, SideMetrics
from caravan.values.failure import Evidence, FailureClass, Stage
from caravan.values.plan import TrainingPlan

PLAN: Final = TrainingPlan(goal="a simulated training", command=("train.py",))
NOISE: Final = (0.02, 0.1, 0.3)
LOGGED: Final = (6, 12, 50, 300)
EVALUATED: Final = (0, 2, 4, 10)
SAMPLES: Final = (50, 200, 1000)
_PAIRED: Final = 0.2  # spread over examples of the difference of two models' losses, as a share of the loss

F = FailureClass
CAUSES: Final[dict[str, frozenset[FailureClass]]] = {
    "healthy": frozenset(),
    "healthy, late": frozenset(),
    "healthy, quick": frozenset(),
    "overfit": frozenset({F.OVERFIT}),
    "underfit": frozenset({F.UNDERFIT}),
    "diverged": frozenset({F.NUMERIC_DIVERGENCE}),
    "worse": frozenset({F.WORSE_THAN_BASE, F.OVERFIT}),
    "collapsed": frozenset({F.MODEL_COLLAPSED}),
}
"""What may be said of each kind."""


class Course(NamedTuple):
    """A simulated training: its kind, what it logged, what an evaluation measured, and how it was drawn."""

    kind: str
    rows: list[dict[str, float]]
    result: EvaluationResult
    noise: float
    logged: int
    evaluated: int


def draw(kind: str, chance: random.Random) -> Course:
    """A course of that kind."""
    noise, logged, evaluated = chance.choice(NOISE), chance.choice(LOGGED), chance.choice(EVALUATED)
    start, fall = chance.uniform(0.5, 4.0), chance.uniform(0.08, 0.6)
    speed = 100.0 if kind == "healthy, quick" else chance.uniform(2.0, 8.0)
    warm = chance.choice((0.0, 0.05, 0.1))
    if kind in ("underfit", "collapsed"):
        fall = chance.uniform(0.0, 0.003)
    if kind == "overfit":
        fall = chance.uniform(0.6, 0.98)
    best = chance.uniform(0.15, 0.6)
    rise = chance.uniform(0.15, 0.8) if kind == "overfit" else 0.0
    rise = chance.uniform(0.0, 0.05) if kind == "healthy, late" else rise
    above, burst = chance.uniform(1.3, 5.0), chance.random() < 0.5

    def level(at: float) -> float:
        """The training loss without noise at a share of the training."""
        gone = max(0.0, at - warm) / (1 - warm)
        if kind == "diverged":
            return start * (above if at > 0.6 else 1 - 0.3 * gone)
        return start * (1 - fall * (1 - math.exp(-speed * gone)))

    def apart(at: float) -> float:
        """The held-out loss without noise."""
        if kind == "diverged":
            return 1.05 * level(at)
        held = 0.35 if kind == "overfit" else 0.8
        there = min(at, best) if kind in ("overfit", "healthy, late") else at
        low = start * (1.05 - held * fall * (1 - math.exp(-speed * there)))
        return low * (1 + rise * max(0.0, at - best) / (1 - best))

    rows = []
    for n in range(logged):
        value = level((n + 0.5) / logged) * math.exp(chance.gauss(0.0, noise))
        value = math.nan if kind == "diverged" and burst and n == logged - 1 else value
        rows.append({"step": 10.0 * (n + 1), "loss": value})
    quiet = chance.choice((0.002, 0.02))
    for n in range(evaluated):
        at = (n + 1) / evaluated
        value = apart(at) * math.exp(chance.gauss(0.0, quiet))
        rows.append({"step": 10.0 * max(1, round(at * logged)), "epoch": float(n + 1), "eval_loss": value})
    rows.sort(key=lambda row: row["step"])
    result = evaluation(kind, chance, start, level(1.0), apart(0.0), apart(1.0))
    return Course(kind, rows, result, noise, logged, evaluated)


def evaluation(
    kind: str, chance: random.Random, before: float, own: float, apart_before: float, apart: float
) -> EvaluationResult:
    """What an evaluation measures of it: means of so many examples, base and tuned model on the same ones."""
    samples = chance.choice(SAMPLES)
    if kind == "worse":
        own, apart = before * chance.uniform(0.7, 1.0), apart_before * chance.uniform(1.05, 1.5)

    def seen(value: float, was: float) -> float:
        return value if value == was else value + chance.gauss(0.0, _PAIRED * was / math.sqrt(samples))

    held = SideMetrics(base={"loss": apart_before}, tuned={"loss": seen(apart, apart_before)}, samples=samples)
    learnt = SideMetrics(base={"loss": before}, tuned={"loss": seen(own, before)}, samples=samples)
    collapse: dict[str, float] = {"commonest": chance.uniform(0.1, 0.6), "distinct": chance.uniform(0.3, 1.0)}
    if kind == "collapsed":
        majority = chance.uniform(0.2, 0.6)
        tuned = {"loss": apart_before, "accuracy": majority}
        base = {"loss": apart_before, "accuracy": chance.uniform(0.1, 0.5)}
        held = SideMetrics(base=base, tuned=tuned, guess={"majority": majority}, samples=samples)
        collapse = {"commonest": 1.0, "distinct": 1 / samples}
    return EvaluationResult(held_out=held, learnt=learnt, collapse=collapse)


def cause(report: GateReport) -> FailureClass | None:
    """What the rules of diagnosis read out of the gate's words; None of a model that did not fail."""
    said = objection(report)
    if not said:
        return None
    return diagnose(Evidence(stage=Stage.EVALUATE, message=said[:1000], exit_code=0), PLAN, ()).failure


def judged(rows: Iterable[Mapping[str, float]], result: EvaluationResult | None) -> GateReport:
    """What the gate makes of it."""
    return judge(PLAN, result=result, rows=list(rows), expected=result is not None)


def line(name: str, reports: list[GateReport], right: frozenset[FailureClass]) -> str:
    """Shares of a kind, in per cent."""
    verdicts = Counter(report.verdict for report in reports)
    causes = [cause(report) for report in reports if report.verdict is GateVerdict.FAIL]
    hit = sum(one in right for one in causes)
    shares = (verdicts[GateVerdict.FAIL], hit, verdicts[GateVerdict.LOOK], verdicts[GateVerdict.PASS])
    told = "".join(f"{100 * share / len(reports):9.1f}" for share in shares)
    return f"{name:34}{told}"


def simulated(count: int, seed: int) -> Iterator[str]:
    """The table of the simulated courses, and where the false alarms of logs are."""
    head = f"{'':34}{'fails':>9}{'rightly':>9}{'a look':>9}{'passes':>9}   (%)"
    alarms: Counter[tuple[float, int]] = Counter()
    drawn: Counter[tuple[float, int]] = Counter()
    for way in ("by its log", "by log and evaluation", "by evaluation alone"):
        yield f"{way}, {count} courses of each kind\n{head}"
        for kind, right in CAUSES.items():
            if kind in ("worse", "collapsed") and way == "by its log":
                continue  # no log tells
            chance = random.Random(f"{seed} {kind}")
            courses = [draw(kind, chance) for _ in range(count)]
            with_log, with_result = way != "by evaluation alone", way != "by its log"
            reports = [judged(c.rows if with_log else (), c.result if with_result else None) for c in courses]
            if way == "by its log":
                for one, report in zip(courses, reports, strict=True):
                    drawn[one.noise, one.logged] += not right
                    alarms[one.noise, one.logged] += not right and report.verdict is GateVerdict.FAIL
            yield line(f"  {kind}", reports, right)
    yield "false alarms of logs, % of the healthy courses, by noise and values logged"
    yield "".join([f"{'':10}", *(f"{logged:8}" for logged in LOGGED)])
    for noise in NOISE:
        shares = (100 * alarms[noise, logged] / max(1, drawn[noise, logged]) for logged in LOGGED)
        yield "".join([f"{noise:>10.0%}", *(f"{share:8.2f}" for share in shares)])


def real(folder: Path) -> Iterator[str]:
    """Logs of real trainings: what the gate says of each."""
    for path in sorted(folder.glob("*.log")):
        rows = metric_rows(path.read_text(encoding="utf-8", errors="replace").splitlines())
        report = judged(rows, None)
        yield f"  {path.name:30} {report.verdict.value:6} {objection(report)}"


def main() -> int:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--courses", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    for text in simulated(options.courses, options.seed):
        print(text, flush=True)
    if options.real:
        print("real trainings")
        for text in real(options.real):
            print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

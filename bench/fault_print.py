"""The fault benchmark's figures: from records to a table, and to JSON. Pure but for printing."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.fault_score import Record, Verdict, attempts, failed_attempts, judge
from bench.scenario import Expected, Scenario

Known = Mapping[tuple[str, str], Record]


def figures(scenarios: Sequence[Scenario], arm: str, known: Known) -> dict[str, Any]:
    """The figures of an arm, and its misses by name."""
    ran = [(s, known[arm, s.name]) for s in scenarios if (arm, s.name) in known]
    verdicts: list[tuple[Scenario, Record, Verdict]] = [(s, r, judge(s, r)) for s, r in ran]

    def share(*expected: Expected) -> list[int]:
        of = [v.right for s, _, v in verdicts if s.expected in expected]
        return [sum(of), len(of)]

    fixed = [(s, r) for s, r, v in verdicts if s.expected is Expected.FIXED and v.right]
    return {
        "right": share(*Expected),
        "fixed": share(Expected.FIXED),
        "escalated": share(Expected.ESCALATED),
        "untouched": share(Expected.UNTOUCHED),
        "false_successes": [s.name for s, _, v in verdicts if v.false_success],
        "needless": {s.name: list(v.needless) for s, _, v in verdicts if v.needless},
        "beside": {s.name: list(v.beside) for s, _, v in verdicts if v.beside},
        "attempts": round(statistics.mean(len(attempts(r)) for _, r in fixed), 2) if fixed else None,
        "failed_attempts": {s.name: n for s, r in fixed if (n := failed_attempts(r))},
        "seconds": round(statistics.median(r.seconds for _, r in ran), 1) if ran else None,
        "second_time": _second_time(scenarios, known) if arm == "again" else None,
        "misses": {s.name: v.why for s, _, v in verdicts if not v.right},
    }


def _second_time(scenarios: Sequence[Scenario], known: Known) -> dict[str, Any]:
    """Of the faults that were fixed with memory on: failed attempts then, and when they were met again."""
    first, second = {}, {}
    for scenario in scenarios:
        on, again = known.get(("on", scenario.name)), known.get(("again", scenario.name))
        fixed = scenario.expected is Expected.FIXED and on and again and judge(scenario, on).right
        if fixed and on and again:
            first[scenario.name], second[scenario.name] = failed_attempts(on), failed_attempts(again)
    left = {name: n for name, n in second.items() if n}
    return {"faults": len(first), "first": sum(first.values()), "second": sum(second.values()), "left": left}


def show(scenarios: Sequence[Scenario], arms: Sequence[str], known: Known, *, as_json: bool) -> int:
    """Print the figures; 0 when everything that ran was right."""
    kinds = {"without a GPU": False, "GPU played by a stand-in": True}
    parts = {
        name: {arm: figures([s for s in scenarios if s.stand_in is played], arm, known) for arm in arms}
        for name, played in kinds.items()
    }
    wrong = any(found["misses"] for part in parts.values() for found in part.values())
    if as_json:
        print(json.dumps(parts, indent=1))
        return int(wrong)
    for name, part in parts.items():
        for arm, found in part.items():
            if found["right"][1]:
                _show_arm(name, arm, found)
    return int(wrong)


def _show_arm(name: str, arm: str, found: dict[str, Any]) -> None:
    def of(key: str) -> str:
        right, count = found[key]
        return f"{right} of {count}"

    print(f"\n{name}, memory {arm}: {of('right')} right ({100 * found['right'][0] / found['right'][1]:.1f} %)")
    print(f"  fixed {of('fixed')}, rightly escalated {of('escalated')}, left alone {of('untouched')}")
    print(f"  false successes {len(found['false_successes'])}, needless changes {len(found['needless'])}")
    failed = sum(found["failed_attempts"].values())
    print(f"  attempts of those fixed: {found['attempts']} (failed: {failed}); median {found['seconds']} s a run")
    if again := found["second_time"]:
        print(
            f"  {again['faults']} faults met again: {again['second']} failed attempts, {again['first']} the first time"
        )
        for scenario, count in again["left"].items():
            print(f"    again  {scenario}: {count}")
    for scenario, paths in found["beside"].items():
        print(f"    beside {scenario}: {', '.join(paths)}")
    for scenario, why in found["misses"].items():
        print(f"    miss   {scenario}: {why}")

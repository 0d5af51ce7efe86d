"""How well the rules tell failures apart: runs them over labelled logs and prints what a platform team would ask.

usage: python -m bench.failures --data PATH [--predictions FILE] [--misses] [--speed]

PATH is a folder with `visible.jsonl`, or such a file: {"id", "text", "origin", "class"} a line.

Printed are accuracy and macro-F1 over the classes that occur, and the costly errors: an escalation that is missed (the
job is changed where no change can help), a needless one, a healthy run that is touched. Then the same held out: the
logs are put into five folds by groups of near duplicates, and each fold is judged without the rules that show their
cause in this fold's logs alone, for a rule that quotes one log proves nothing about the next. A rule that no log shows
stays: it was not written after one. FILE gets the {"id", "class"} lines that a scorer reads. `--speed` says how long a
log's last megabyte takes, and whether 10 MB of ordinary output before it change the answer.
"""

import argparse
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from caravan.diagnosis.entry import Fixable
from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose, find
from caravan.diagnosis.sign import Sign
from caravan.diagnosis.signs import SIGNS
from caravan.diagnosis.taxonomy import TAXONOMY
from caravan.values.failure import Evidence, FailureClass
from caravan.values.plan import TrainingPlan

PLAN = TrainingPlan(goal="a failure without a run", command=("python", "train.py"))
FOLDS = 5
_ALIKE = 0.5  # share of three-word pieces in common from which on two logs are near duplicates
_ACTIONS = {Fixable.YES: "fix", Fixable.PARTLY: "fix or ask", Fixable.NO: "escalate"}


class Log(NamedTuple):
    """A labelled log and what is known of it."""

    id: str
    gold: str
    source: str
    text: str
    evidence: Evidence


class Figures(NamedTuple):
    """What is measured over some logs."""

    logs: int
    accuracy: float
    macro_f1: float
    action_accuracy: float
    missed_escalations: int
    escalations: int
    needless_escalations: int
    fixes: int
    touched: int
    healthy: int
    unknown: int

    def line(self) -> str:
        """One line for a person."""
        return (
            f"accuracy {self.accuracy:.3f}  macro-F1 {self.macro_f1:.3f}  right action {self.action_accuracy:.3f}  "
            f"missed escalations {self.missed_escalations} of {self.escalations}  "
            f"needless {self.needless_escalations} of {self.fixes}  "
            f"healthy runs touched {self.touched} of {self.healthy}  unknown {self.unknown}"
        )


def read(file: Path) -> list[Log]:
    """The labelled logs with their evidence."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Log(
            row["id"],
            row["class"],
            str(row.get("source") or row["id"]),
            row["text"],
            evidence_of_text(row["text"].encode(), TextKind(row["origin"])),
        )
        for row in rows
    ]


def said(logs: Iterable[Log], signs: Sequence[Sign] = SIGNS) -> dict[str, str]:
    """Id → the class that these signs show."""
    return {log.id: diagnose(log.evidence, PLAN, (), signs).failure.value for log in logs}


def figures(logs: Sequence[Log], told: dict[str, str]) -> Figures:
    """Judge the classes that were told."""
    pairs = [(log.gold, told[log.id]) for log in logs]
    classes = sorted({gold for gold, _ in pairs})
    hit = Counter(gold for gold, given in pairs if gold == given)
    golds, givens = Counter(gold for gold, _ in pairs), Counter(given for _, given in pairs)
    f1 = [2 * hit[c] / (golds[c] + givens[c]) for c in classes]
    actions = Counter((_action(gold), _action(given)) for gold, given in pairs)
    sums = Counter[str]()
    for (gold, _), count in actions.items():
        sums[gold] += count
    return Figures(
        logs=len(pairs),
        accuracy=sum(hit.values()) / len(pairs),
        macro_f1=statistics.mean(f1),
        action_accuracy=sum(n for (gold, given), n in actions.items() if gold == given) / len(pairs),
        missed_escalations=actions["escalate", "fix"],
        escalations=sums["escalate"],
        needless_escalations=actions["fix", "escalate"],
        fixes=sums["fix"],
        touched=sum(n for (gold, given), n in actions.items() if gold == "none" != given),
        healthy=sums["none"],
        unknown=givens[FailureClass.UNKNOWN.value],
    )


def _action(name: str) -> str:
    failure = FailureClass(name)
    return "none" if failure is FailureClass.NO_FAILURE else _ACTIONS[TAXONOMY[failure].fixable]


def held_out(logs: Sequence[Log]) -> tuple[dict[str, str], int, int]:
    """What is told of each log without the rules that only its fold shows; rules left out, groups of near duplicates.

    A rule counts as shown where it holds in a log of its own class.
    """
    fold_of = _folds(logs)
    shown: dict[int, set[int]] = {}
    for log in logs:
        for finding in find(log.evidence, SIGNS):
            if finding.sign.failure.value == log.gold:
                shown.setdefault(_NUMBER[id(finding.sign)], set()).add(fold_of[log.id])
    told: dict[str, str] = {}
    left_out = 0
    for fold in range(FOLDS):
        quoting = {number for number, folds in shown.items() if folds == {fold}}
        left_out += len(quoting)
        signs = tuple(sign for number, sign in enumerate(SIGNS) if number not in quoting)
        told |= said((log for log in logs if fold_of[log.id] == fold), signs)
    return told, left_out, len(set(_groups(logs).values()))


_NUMBER = {id(sign): number for number, sign in enumerate(SIGNS)}


def _folds(logs: Sequence[Log]) -> dict[str, int]:
    """Log → fold; a group stays together, and the folds are about equally large."""
    groups: dict[str, list[str]] = {}
    for log_id, group in _groups(logs).items():
        groups.setdefault(group, []).append(log_id)
    sizes = [0] * FOLDS
    fold_of: dict[str, int] = {}
    for members in sorted(groups.values(), key=lambda ids: (-len(ids), ids[0])):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(members)
        fold_of |= dict.fromkeys(members, fold)
    return fold_of


def _groups(logs: Sequence[Log]) -> dict[str, str]:
    """Log → the first log of its group: near duplicates, and logs after the same public failure."""
    pieces = {log.id: _pieces(log.text) for log in logs}
    group: dict[str, str] = {}
    for at, log in enumerate(logs):
        same = (e for e in logs[:at] if e.source == log.source or _alike(pieces[e.id], pieces[log.id]))
        first = next(same, None)
        group[log.id] = group[first.id] if first else log.id
    return group


def _pieces(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"[a-z_]{2,}", text.lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def _alike(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    smaller = min(len(one), len(other))
    return bool(smaller) and len(one & other) / smaller >= _ALIKE


def misses(logs: Sequence[Log], told: dict[str, str]) -> Iterator[str]:
    """A line for each log of which another class was told."""
    for log in logs:
        if told[log.id] != log.gold:
            found = diagnose(log.evidence, PLAN, ())
            yield f"  {log.id}: {log.gold}, said {told[log.id]} ({found.confidence:g}): {found.cause[:160]}"


@lru_cache(maxsize=1)
def _ordinary() -> bytes:
    line = (
        "{'loss': 2.%04d, 'grad_norm': 0.912, 'learning_rate': 2e-05, 'epoch': 0.31}\n"
        "[rank1]: batch 81 took 0.31 s, 412 samples, lr 2.0e-05\n"
        "INFO:__main__:step %d of 60000, tokens per second 10412, saved nothing\n"
    )
    return "".join(line % (n % 10_000, n) for n in range(55_000)).encode()


def speed(logs: Sequence[Log]) -> None:
    """How long a last megabyte takes, against splitting it into decoded lines in the same run; and what 10 MB change.

    A kind of noise that fits any training stands before the log: loss lines would say that it lived on.
    """
    ordinary = _ordinary()
    megabyte = ordinary[-1_000_000:]
    times = {"rules": list[float](), "lines": list[float]()}
    for _ in range(7):
        for name, run in (
            ("rules", lambda: diagnose(evidence_of_text(megabyte, TextKind.TASK_STDERR), PLAN, ())),
            ("lines", lambda: [line.decode().strip() for line in megabyte.split(b"\n")]),
        ):
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    rules, lines = (statistics.median(times[name]) for name in ("rules", "lines"))
    print(f"a log's last megabyte: {rules * 1e3:.1f} ms, {rules / lines:.1f} times as long as splitting it into lines")
    plain = [log for log in logs if not log.evidence.validation_errors and not log.evidence.placement_failures]
    small = [log for log in plain if not log.evidence.events]
    quiet = b"".join(line + b"\n" for line in ordinary.split(b"\n") if b"loss" not in line)[:10_000_000]
    changed = 0
    start = time.perf_counter()
    for log in small[:_LONG_ONES]:
        alone = diagnose(log.evidence, PLAN, ()).failure
        after = diagnose(evidence_of_text(quiet + log.text.encode(), TextKind.TASK_STDERR), PLAN, ()).failure
        changed += alone is not after
    each = (time.perf_counter() - start) / max(1, len(small[:_LONG_ONES]))
    print(
        f"after {len(quiet) / 1e6:.1f} MB of ordinary output: {changed} of {len(small[:_LONG_ONES])} answers are "
        f"others, {each / rules:.1f} times the time of a megabyte"
    )


_LONG_ONES = 20  # logs that are put behind megabytes: each takes a while


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with visible.jsonl, or a file of such lines")
    parser.add_argument("--predictions", type=Path, help="write {id, class} lines to this file")
    parser.add_argument("--misses", action="store_true", help="also print what was missed or taken for another")
    parser.add_argument("--speed", action="store_true", help="also print how fast logs are read")
    options = parser.parse_args()
    logs = read(options.data / "visible.jsonl" if options.data.is_dir() else options.data)
    told = said(logs)
    print(f"{len(logs)} logs, {len({log.gold for log in logs})} classes, {len(SIGNS)} rules")
    print(f"all rules: {figures(logs, told).line()}")
    rest, left_out, groups = held_out(logs)
    print(f"held out:  {figures(logs, rest).line()}")
    print(f"           ({FOLDS} folds of {groups} groups; {left_out} rules were left out in the one fold they show in)")
    for line in misses(logs, told) if options.misses else ():
        print(line)
    if options.predictions:
        lines = (json.dumps({"id": log_id, "class": name}) for log_id, name in told.items())
        options.predictions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if options.speed:
        speed(logs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How often `compare` is right, by simulation: coverage of its intervals, and how often noise is called a difference.

    python bench/compare.py [--trials 2000] [--json]

Groups of n and m seeds are drawn from normal distributions, with equal and with unequal spread; what is counted is what
`compare` itself says of them. "By the normal's 1.96" is what the same data give without Student's t.
"""

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from sys import path

path.insert(0, str(Path(__file__).resolve().parent.parent))

from caravan.runs.student import deviation, difference, mean, quantile

SIZES = ((1, 1), (1, 2), (1, 3), (1, 5), (2, 2), (2, 3), (3, 3), (4, 4), (5, 5))
RATIOS = (1.0, 3.0)  # the second group's spread in units of the first's
EFFECT = 2.0  # a true difference, in units of the first's spread
TABLE = "{:>5} {:>6}  {:>9} {:>13} {:>15} {:>13}"


def normal_says(first: Sequence[float], second: Sequence[float]) -> bool | None:
    """Whether 1.96 standard errors would call it a difference."""
    a, b = deviation(first), deviation(second)
    if a is None or b is None:
        return None
    return abs(mean(second) - mean(first)) > 1.96 * math.sqrt(a * a / len(first) + b * b / len(second))


def simulate(n: int, m: int, ratio: float, trials: int, draw: random.Random) -> dict[str, float | int | None]:
    """Shares of trials in which the interval holds the truth, noise is called better or worse, an effect is found."""
    held = false = found = normal = known = 0
    for _ in range(trials):
        first = [draw.gauss(0, 1) for _ in range(n)]
        second = [draw.gauss(0, ratio) for _ in range(m)]
        same = difference(first, second)
        if same is None:
            continue
        known += 1
        held += same.low <= 0 <= same.high
        false += same.p < 0.05
        normal += bool(normal_says(first, second))
        found += same.low + EFFECT > 0  # the same draws with the second group moved: its interval moves with it
    share = (lambda count: count / known) if known else (lambda _: None)
    both = n > 1 and m > 1
    return {
        "n": n,
        "m": m,
        "ratio": ratio,
        "judged": known,
        "coverage": share(held),
        "false": share(false),
        "normal_false": share(normal) if both else None,
        "found": share(found),
    }


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    quantile(0.95, 1)
    rows = [
        simulate(n, m, ratio, args.trials, random.Random(f"{args.seed}/{n}/{m}/{ratio}"))
        for ratio in RATIOS
        for n, m in SIZES
    ]
    if args.json:
        print(json.dumps(rows))
        return
    print(TABLE.format("seeds", "spread", "coverage", "noise called", "by the normal's", "2 spreads"))
    print(TABLE.format("", "", "of 95 %", "a difference", "1.96", "found"))
    for row in rows:
        shown = [
            "not known" if v is None else f"{v:.1%}"
            for v in (row["coverage"], row["false"], row["normal_false"], row["found"])
        ]
        print(TABLE.format(f"{row['n']}/{row['m']}", f"1:{row['ratio']:g}", *shown))


if __name__ == "__main__":
    main()

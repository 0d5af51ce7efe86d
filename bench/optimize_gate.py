"""How often `optimize` would call a prompt better that is not, or one that is: `python bench/optimize_gate.py`.

Groups of one to three like cases, each as hard as its group; an answer is right (1), right with void quotes (0.2) or
wrong (0), as `diagnose` is scored. Both prompts answer by chance; the candidate's is better by `gain`. For each number
of groups: how often the interval alone is above zero, and how often both tests pass.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from caravan.offline.compare import compared, is_better


def answer(drawn: random.Random, chance: float) -> float:
    return drawn.choices((1.0, 0.2, 0.0), (chance, 0.1, max(0.0, 0.9 - chance)))[0]


def trial(drawn: random.Random, groups: int, gain: float) -> tuple[bool, bool]:
    """Whether the interval alone, and whether both tests, call the candidate better."""
    current, candidate, marks = list[float](), list[float](), list[str]()
    for group in range(groups):
        ease = drawn.uniform(0.1, 0.8)
        for _ in range(drawn.randint(1, 3)):
            current.append(answer(drawn, ease))
            candidate.append(answer(drawn, min(0.9, ease + gain)))
            marks.append(str(group))
    found = compared(current, candidate, marks, seed=drawn.randrange(1 << 30))
    return found.low > 0, is_better(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--groups", type=int, nargs="+", default=[6, 8, 12, 16, 20])
    parser.add_argument("--gains", type=float, nargs="+", default=[0.0, 0.3])
    asked = parser.parse_args()
    for gain in asked.gains:
        for groups in asked.groups:
            drawn = random.Random(f"{groups}:{gain}")
            found = [trial(drawn, groups, gain) for _ in range(asked.trials)]
            alone, both = (sum(side) / len(found) for side in zip(*found, strict=True))
            print(f"gain {gain:.1f}, {groups:2} groups: interval alone {alone:.1%}, both tests {both:.1%}", flush=True)


if __name__ == "__main__":
    main()

"""The shipped lessons as the rules read them: causes, fingerprints, and what the rules' own ladders would do instead.

    python bench/starters.py [--write] [--json]

Each line of a log of a starter lesson is diagnosed by the rules. It prints how many are read as which cause, those
that the file says otherwise, and those whose change is the first that the rules would make anyway, which are of no use.
`--write` writes what was read into the file, after the rules or the fingerprints were changed.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from caravan.agent.case_context import named  # noqa: E402
from caravan.diagnosis.ladders.case import Case  # noqa: E402
from caravan.diagnosis.repair import ladder  # noqa: E402
from caravan.diagnosis.rules import diagnose  # noqa: E402
from caravan.values.failure import ChangePlan, Diagnosis, Evidence, Stage  # noqa: E402
from caravan.values.job import ClusterFacts, ClusterKind  # noqa: E402
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes  # noqa: E402
from caravan.values.repo import RepoProfile  # noqa: E402

FILE = ROOT / "caravan" / "lessons" / "starters.jsonl"
PLAN = TrainingPlan(goal="fine-tune", command=("train.py",), image="pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime")
PROFILE = RepoProfile(root="/repository", tree_digest="0", is_training_repo=True, entry_point="train.py")
FACTS = ClusterFacts(kind=ClusterKind.NOMAD, address="http://127.0.0.1:4646")


def read(line: str) -> Diagnosis:
    """What the rules say of a task that ended with that line."""
    return diagnose(Evidence(stage=Stage.VERIFY, exit_code=1, log_lines=(line,)), PLAN, ())


def as_read(row: dict[str, Any]) -> list[dict[str, Any]]:
    """What the file says of each wording of a starter lesson."""
    found = []
    for line in row["says"]:
        diagnosis = read(line)
        found.append(
            {
                "says": line,
                "failure": diagnosis.failure.value,
                "fingerprint": diagnosis.fingerprint,
                "context": named(diagnosis),
            }
        )
    return found


def anyway(row: dict[str, Any], line: str) -> bool:
    """Whether the rules would make the same change first, without memory."""
    case = Case(read(line), PLAN, PROFILE, FACTS)
    first = next((r for r in ladder(case) if isinstance(r, ChangePlan)), None)
    changes = [PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in row["changes"].items()]
    return first is not None and apply_changes(PLAN, first.changes).digest() == apply_changes(PLAN, changes).digest()


def main() -> int:
    """Print what the rules read; 1 where the file says otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    new = [{**row, "read": as_read(row)} for row in rows]
    other = [row["says"][0] for row, now in zip(rows, new, strict=True) if row.get("read") != now["read"]]
    useless = [line for row in rows for line in row["says"] if anyway(row, line)]
    causes = Counter(r["failure"] for row in new for r in row["read"])
    if options.write:
        FILE.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in new), encoding="utf-8")
    if options.json:
        print(json.dumps({"lessons": len(rows), "causes": causes, "other": other, "useless": useless}))
    else:
        print(f"{len(rows)} lessons, {sum(causes.values())} wordings: {dict(causes.most_common())}")
        print(*(f"read otherwise: {line}" for line in other), *(f"of no use: {line}" for line in useless), sep="\n")
    return int(bool(other) and not options.write)


if __name__ == "__main__":
    sys.exit(main())

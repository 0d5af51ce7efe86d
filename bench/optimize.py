"""What an optimisation of prompts costs beside the model: calls, tokens, seconds, and our own time for each call.

    python bench/optimize.py [--optimizer bootstrap miprov2 gepa] [--json]

A scripted model in this process answers at once and is right where its prompt holds a worked example or a certain
sentence, so all time is ours: the prompt's parts, masking, the guard's judgement, DSPy, what is kept on disk. The
second run goes on where the first ended: it must ask nothing.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from caravan.offline.program import load_dspy  # noqa: E402
from caravan.values.model import Message  # noqa: E402
from caravan.values.optimization import OptimizeOutcome, Optimizer  # noqa: E402


def run(optimizer: str) -> dict[str, Any]:
    """One optimisation, and the same again over its folder."""
    from tests.offline.conftest import Bench, proposing
    from tests.offline.planted import HINT

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        proposal = proposing(f"Find the cause of the failed training. {HINT}. Choose one of {{{{classes}}}}.")
        first, seconds, cpu = _timed(bench, optimizer, proposal)
        again, seconds_again, _ = _timed(bench, optimizer, proposal)
    (step,) = first.steps
    return {
        "optimizer": optimizer,
        "ending": step.ending.value,
        "interval": step.interval.line() if step.interval else "",
        "cases": step.cases,
        "candidates": step.tried,
        "calls": first.calls,
        "tokens": first.tokens,
        "seconds": round(seconds, 2),
        "cpu_ms_per_call": round(1e3 * cpu / max(1, first.calls), 1),
        "asked_again": again.asked,
        "seconds_again": round(seconds_again, 2),
    }


def _timed(bench: Any, optimizer: str, proposal: Any) -> tuple[OptimizeOutcome, float, float]:
    made = bench.made(optimizer=optimizer, proposal=proposal, max_cases=40, demos=3)
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = made.run()
    return outcome, time.perf_counter() - wall, time.process_time() - cpu


def masking_share() -> float:
    """Milliseconds of a call's own code without DSPy: a case put to the scripted model, and judged."""
    from caravan.offline.ledger import Ledger
    from caravan.offline.steps import answered
    from tests.fakes.chat import ScriptedChat
    from tests.offline.conftest import MemoryKeeper
    from tests.offline.planted import cases, told

    def said(messages: Sequence[Message]) -> str:
        return told(messages)

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), ScriptedChat({"diagnose": [said]}), max_calls=1000, max_tokens=10**9)
        prompt = MemoryKeeper().get("diagnose")
        found = cases()
        begin = time.process_time()
        for case in found:
            answered(case, prompt, ledger)
        return 1e3 * (time.process_time() - begin) / len(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", nargs="*", default=[way.value for way in Optimizer])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    load_dspy()
    rows = [run(name) for name in options.optimizer]
    alone = masking_share()
    if options.json:
        print(json.dumps({"rows": rows, "call_alone_ms": alone}))
        return 0
    for row in rows:
        print(
            f"{row['optimizer']:10} {row['ending']} {row['interval']}: {row['candidates']} candidates, "
            f"{row['calls']} calls, {row['tokens']} tokens, {row['seconds']} s, {row['cpu_ms_per_call']} ms of ours "
            f"a call; again: {row['asked_again']} calls, {row['seconds_again']} s"
        )
    print(f"a call as a run makes it, without DSPy: {alone:.1f} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

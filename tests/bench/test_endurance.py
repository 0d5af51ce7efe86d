"""The judge of endurance must find what is lost or done twice; and a slice of it is run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.endurance_score import LINES, JobSeen, RunSeen, findings

ROOT = Path(__file__).resolve().parents[2]
JOBS = ("caravan-x-a01", "caravan-x-a02")
WHOLE = RunSeen(
    code=0,
    document={"status": "succeeded", "attempts": [{"outcome": {"kind": "failed"}}, {"outcome": {"kind": "succeeded"}}]},
    deployments=dict.fromkeys(JOBS, "finished"),
    jobs=dict.fromkeys(JOBS, JobSeen(versions=1, registrations=1, allocations=1, held_s=50.0)),
    starts=dict.fromkeys(JOBS, 1),
    events=("deployed", "placed", "deployed", "placed", "succeeded"),
    lines=LINES,
    outputs=("out/model.json",),
    report=True,
    cost_usd=0.1,
    spending_usd=0.1,
    usd_per_hour=3.6,
    lesson_times=(1,),
)


def test_a_whole_run_has_no_findings() -> None:
    assert findings(WHOLE) == ()


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"code": 3}, "lost"),
        ({"document": {"status": "failed"}}, "lost"),
        ({"document": {"status": "succeeded", "attempts": [{"outcome": {"kind": "succeeded"}}]}}, "attempts"),
        ({"jobs": {JOBS[0]: WHOLE.jobs[JOBS[0]]}}, "the cluster knows nothing"),
        ({"jobs": dict.fromkeys(JOBS, replace(WHOLE.jobs[JOBS[0]], versions=2))}, "twice"),
        ({"jobs": dict.fromkeys(JOBS, replace(WHOLE.jobs[JOBS[0]], registrations=2))}, "twice"),
        ({"jobs": dict.fromkeys(JOBS, replace(WHOLE.jobs[JOBS[0]], allocations=2))}, "twice"),
        ({"starts": {JOBS[0]: 1, JOBS[1]: 2}}, "began 2 times"),
        ({"starts": {JOBS[0]: 1}}, "began 0 times"),
        ({"deployments": {JOBS[0]: "finished", JOBS[1]: "intended"}}, "lost: the store"),
        ({"deployments": {JOBS[0]: "finished"}}, "lost: the store"),
        ({"events": (*WHOLE.events, "deployed")}, "events: 3 of deployed"),
        ({"events": WHOLE.events[:-1]}, "events: 0 of succeeded"),
        ({"lines": LINES[:-1]}, "lost: the kept log"),
        ({"lines": (*LINES, LINES[3])}, "twice: the kept log"),
        ({"lines": (*LINES, "step 4 lo")}, "cut off"),
        ({"outputs": ()}, "outputs"),
        ({"report": False}, "report"),
        ({"lesson_times": ()}, "memory"),
        ({"lesson_times": (2,)}, "memory"),
        ({"cost_usd": 0.2, "spending_usd": 0.2}, "money: 0.2"),
        ({"cost_usd": 0.0, "spending_usd": 0.0}, "money: 0.0"),
        ({"spending_usd": 0.2}, "money: the days' spending"),
        ({"asked": ("Is it there?",)}, "asked"),
    ],
)
def test_what_is_lost_or_done_twice_is_found(changed: dict[str, Any], word: str) -> None:
    assert any(word in found for found in findings(replace(WHOLE, **changed)))


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.endurance", *words],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_few_kills_and_some_at_once_lose_nothing() -> None:
    done = bench("--only", "kills,together", "--kills", "6", "--together", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills: 6 of the agents of" in done.stdout
    assert "together: 4 runs at once; findings: 0" in done.stdout

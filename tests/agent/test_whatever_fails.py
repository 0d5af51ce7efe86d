"""Whatever fails in whatever order: at most three deployments and eight fixes, no mended plan twice, all allowed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.agent.rules import RuleReasoner
from caravan.diagnosis.entry import Fixable
from caravan.diagnosis.taxonomy import TAXONOMY, advice
from caravan.planning.catalogue import Prices
from caravan.values.dialogue import Ask
from caravan.values.failure import ChangePlan, Diagnosis, Evidence, FailureClass, PastCase
from caravan.values.plan import TrainingPlan
from caravan.values.run import ENDED, RunStatus
from tests.agent.test_repairs import RepairWorld
from tests.fakes.cluster import Script

_NUMBER = count()
DETAILS: tuple[dict[str, str], ...] = (
    {},
    {"kind": "rate"},
    {"kind": "script", "path": "train.py"},
    {"kind": "unknown", "option": "--epochs", "choices": "--num_epochs"},
    {"module": "yaml"},
    {"package": "trl", "want": ">=0.12"},
    {"tried_gib": "1.0", "total_gib": "23.5", "free_gib": "0.5"},
    {"needed_s": "99999", "needed": "28 h"},
    {"path": "/data/a.csv", "kind": "read"},
    {"size": "128", "kind": "position"},
)
CLASSES = [f for f in FailureClass if f is not FailureClass.NO_FAILURE]


@dataclass(frozen=True)
class Unlucky(RuleReasoner):
    """Each failure is the next of these; the ladders are the real ones."""

    failures: Sequence[tuple[FailureClass, dict[str, str], str]] = ()
    seen: list[FailureClass] = field(default_factory=list)

    def diagnose(self, evidence: Evidence, plan: TrainingPlan, cases: Sequence[PastCase]) -> Diagnosis:
        failure, details, node = self.failures[len(self.seen) % len(self.failures)]
        self.seen.append(failure)
        return Diagnosis(
            failure=failure,
            confidence=1.0,
            cause="It failed.",
            details=details,
            lines=evidence.log_lines[:3],
            escalate=TAXONOMY[failure].fixable is Fixable.NO,
            advice=advice(failure, plan),
            node_name=node,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unlucky")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(CLASSES), st.sampled_from(DETAILS), st.sampled_from(["", "fake-1"])),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from([0, 1, 2]),
)
def test_it_ends_within_its_limits(
    place: Path, failures: list[tuple[FailureClass, dict[str, str], str]], gpus: int
) -> None:
    tmp = place / str(next(_NUMBER))
    tmp.mkdir()
    world = RepairWorld(tmp, lambda job: Script(exit_code=1, stderr=b"it failed\n"), gpus=gpus)
    world.reasoner = Unlucky(Prices(), failures=failures)
    record = world.start()
    result = world.drive(record)
    state: Any = world.state(record)
    assert isinstance(result, Ask) or result.status in ENDED - {RunStatus.SUCCEEDED}
    assert 1 <= len(world.cluster.registrations) <= 3
    assert state.fixes <= 8
    mended = [a.repair for a in state.attempts if a.repair is not None]
    changes = [r for r in mended if isinstance(r, ChangePlan)]
    assert len(set(state.deployed_plans)) == len(state.deployed_plans)
    assert len(state.deployed_plans) >= min(len(changes), len(world.cluster.registrations) - 1)
    assert state.envelope is not None
    kept = state.envelope
    deployed = [a for a in state.attempts if a.outcome is not None]
    assert len(deployed) <= 3
    if not isinstance(result, Ask) and len(deployed) > 1:
        assert kept.objections(state.plan, 0.0, trusted=state.plan.setup.pip, unheard=kept.unheard) == ()

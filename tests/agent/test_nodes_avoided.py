"""A retry on another node needs another node: one on which it failed before is none."""

from caravan.agent.fits import all_avoided
from caravan.agent.state import RunState
from caravan.values.failure import RetryElsewhere
from caravan.values.plan import TrainingPlan
from caravan.values.run import RunRequest
from tests.diagnosis.repair_scenes import facts, node

PLAN = TrainingPlan(goal="g", command=("train.py",), image="img/train:1", driver="docker")
HERE = facts(node("a"), node("b"))


def state(*avoided: str) -> RunState:
    return RunState(run_id="r", request=RunRequest(prompt="g", source="/r"), avoid_nodes=avoided)


def test_the_last_node_that_could_take_the_plan_is_not_left() -> None:
    assert not all_avoided(RetryElsewhere(avoid_nodes=("a",)), PLAN, state(), HERE)
    assert all_avoided(RetryElsewhere(avoid_nodes=("b",)), PLAN, state("a"), HERE)
    assert not all_avoided(RetryElsewhere(), PLAN, state("a", "b"), HERE)
    assert not all_avoided(RetryElsewhere(avoid_nodes=("b",)), PLAN, state("a"), facts(node("a"), node("b"), node("c")))

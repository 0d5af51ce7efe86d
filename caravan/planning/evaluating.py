"""What evaluates a trained model: whether a plan has an evaluation, its command, and where it runs unless one says so.

Pure. It knows the plan and nothing of files, clusters or of what was measured.
"""

import json
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from caravan.values.base import Json
from caravan.values.evaluation import EVALUATION_PATH
from caravan.values.plan import TrainingPlan

TYPE_FOLDER: Final = "caravan_train"
"""Where the files of a training type are in the delivered code (`caravan.training.rendering`)."""
JUDGE: Final = "${NOMAD_TASK_DIR}/judge"
"""Where the files of Caravan's own evaluator are in a job whose training is not Caravan's."""
HELPER: Final = "${NOMAD_TASK_DIR}/evaluation.py"

JUDGE_FILES: Final = {
    "judge.py": "judge.py",
    "shared/canary.jsonl": "train/shared/canary.jsonl",
    **{
        f"{folder}/{name}.py": f"train/{folder}/{name}.py"
        for folder, names in (
            ("sft", ("answering", "evaluate", "samples")),
            ("text-classification", ("evaluate", "texts")),
            ("shared", ("__init__", "arguments", "canaries", "classes", "data", "files", "hardware", "judging")),
            ("shared", ("judged_classes", "lengths", "models", "parallel", "records", "refusals", "sides")),
        )
        for name in names
    },
}
"""File of that evaluator, below `JUDGE` → the file below `templates/` that it is."""

JUDGED_HEADS: Final = ("ForSequenceClassification", "ForCausalLM", "LMHeadModel")
JUDGED_TASKS: Final = ("SEQ_CLS", "CAUSAL_LM")
"""What ends the names of the classes, and the tasks of the adapters, that it judges: those of `templates/judge.py`."""

_READ: Final = frozenset((".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq", ".txt", ".text", ".md"))
"""Endings of files that `templates/train/shared/data.py` reads."""


class EvaluationCommand(NamedTuple):
    """How a model is evaluated.

    `words`: the command, run in the plan's working directory by the training's Python. `by`: a training type's name,
    `command` (the user's own) or `model` (Caravan's evaluator of models in Hugging Face's format, whose files the job
    brings to `JUDGE`). `script`: a file of the code without which there is no such evaluation; empty: none is needed.
    """

    words: tuple[str, ...]
    by: str
    script: str = ""


def evaluation_words(plan: TrainingPlan) -> EvaluationCommand | None:
    """The command of the plan's evaluation, None where it has none.

    The user's own comes first, then that of the training type. For any other training it is Caravan's evaluator, where
    it was asked for (`evaluation.on`), or where a named model is trained and there is data that our readers know.
    """
    asked = plan.evaluation
    if asked.on is False:
        return None
    if asked.command:
        return EvaluationCommand(asked.command, "command")
    script = next((word for word in plan.command if _of_type(word)), None)
    if plan.training.type is not None and script is not None:
        judge = str(PurePosixPath(script).with_name("evaluate.py"))
        return EvaluationCommand(("python", judge), plan.training.type, judge)
    known = plan.model.id is not None and any(map(_readable, (asked.data, plan.dataset.path)))
    if asked.on or known:
        return EvaluationCommand(("python", f"{JUDGE}/judge.py"), "model")
    return None


def in_last_phase(plan: TrainingPlan) -> bool:
    """Whether the evaluation is the training job's last phase; a job of its own otherwise. False where there is none.

    Unless the plan says where: the last phase, where the script is Caravan's or the outputs go with the allocation.
    """
    command = evaluation_words(plan)
    if command is None:
        return False
    if plan.evaluation.where is not None:
        return plan.evaluation.where == "phase"
    return plan.training.type is not None or plan.outputs.kind == "allocation"


def helper_words(plan: TrainingPlan) -> tuple[str, ...]:
    """The words behind a Python that run the plan's evaluation by `templates/evaluation.py`: it bounds its time, finds
    the model below `CARAVAN_OUTPUT_DIR` and leaves its answer at `EVALUATION_PATH`. Empty where there is none.
    """
    command = evaluation_words(plan)
    if command is None:
        return ()
    answer = "${NOMAD_ALLOC_DIR}/" + EVALUATION_PATH.removeprefix("alloc/")
    words = [HELPER, "--answer", answer, "--outputs", "${CARAVAN_OUTPUT_DIR}", "--by", command.by]
    words += ["--max-s", str(plan.evaluation.max_s), "--kill-s", str(max(1, plan.kill_timeout_s // 3))]
    words += ["--cache", "${NOMAD_TASK_DIR}/model-files.json"]
    words += ["--script", command.script] if command.script else []
    return (*words, "--asked", json.dumps(asked_of(plan, command), sort_keys=True), "--", *command.words)


def asked_of(plan: TrainingPlan, command: EvaluationCommand) -> dict[str, Json]:
    """What an evaluation is told in `CARAVAN_EVALUATION_ASKED`, as JSON: what is set in the plan, and nothing else.

    For a model that a training of others made also what the plan knows of it: its base and what it learned from.
    """
    asked = plan.evaluation
    told: dict[str, Json] = {
        "examples": asked.examples,
        "seed": asked.seed,
        "data": asked.data,
        "regression": asked.regression,
        "regression_drop": asked.regression_drop if asked.regression else None,
        "canary": asked.canary,
        "generate": asked.generate or None,
    }
    if command.by == "model":
        known = plan.dataset.path if _readable(plan.dataset.path) else None
        told |= {"base": plan.model.id, "revision": plan.model.revision, "learnt": known}
        told |= {"max_len": plan.training.max_len, "data_format": plan.dataset.format}
    return {name: value for name, value in told.items() if value is not None}


def _of_type(word: str) -> bool:
    path = PurePosixPath(word)
    return path.suffix == ".py" and path.parent.name == TYPE_FOLDER


def _readable(path: str | None) -> bool:
    """Whether it is a file that our readers know, by its name."""
    return path is not None and PurePosixPath(path.lower().removesuffix(".gz")).suffix in _READ

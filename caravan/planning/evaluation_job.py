"""The job that evaluates a trained model behind its training: a plan that is derived from the training's. Pure."""

from collections.abc import Mapping
from typing import Final

from caravan.planning.environments import requirement_files
from caravan.planning.evaluating import evaluation_words, helper_words
from caravan.planning.evaluation_place import apart
from caravan.planning.outputs import packages_for
from caravan.values.estimate import Estimate
from caravan.values.plan import Launch, OutputSink, Smoke, TemplateFile, Training, TrainingPlan

ROOM_S: Final = 1800
"""Seconds that such a job has beside the evaluation itself: its packages are in a cache as a rule, its model is read
once more."""
_QUEUE_S: Final = 14_400
"""How long it may wait for room: its training has just given some back."""


def evaluation_plan(plan: TrainingPlan, helpers: Mapping[str, str], *, run_id: str, attempt: int) -> TrainingPlan:
    """The plan of the job that evaluates what that attempt of `plan` left.

    Image, environment, code, data and mounts are the training's; it has one node, one GPU where that had any, no
    checkpoint to go on from and no first steps. `helpers`: the texts of what it runs, by their paths below the task's
    directory (`script.evaluation_helpers`).
    """
    setup = plan.setup.model_copy(
        update={"further_requirements": requirement_files(plan)[1:], "option_requirements": {}}
    )
    outputs = plan.outputs
    if plan.outputs.kind == "url":
        fetch = f'"$CARAVAN_PYTHON" "$NOMAD_TASK_DIR/{FETCHER}" "$CARAVAN_OUTPUT_DIR" "$CARAVAN_FETCHED_FROM"'
        pip = tuple(dict.fromkeys((*setup.pip, *packages_for(plan.outputs.location))))
        setup = setup.model_copy(update={"pip": pip, "cmd": (*setup.cmd, fetch)})
        outputs = OutputSink()
    env = dict(plan.env)
    if plan.outputs.kind == "url":
        env["CARAVAN_FETCHED_FROM"] = f"{plan.outputs.location.rstrip('/')}/{run_id}/{attempt}"
    limits, longest = plan.limits, plan.evaluation.max_s + ROOM_S
    files = tuple(TemplateFile(destination=f"local/{name}", data=text) for name, text in helpers.items())
    return plan.model_copy(
        update={
            "command": helper_words(plan),
            "training": Training(output_dir=plan.training.output_dir),
            "flags": {},
            "config_keys": {},
            "target": None,
            "launch": Launch(),
            "setup": setup,
            "env": env,
            "outputs": outputs,
            "resume": None,
            "smoke": Smoke(on=False),
            "evaluation": plan.evaluation.model_copy(update={"on": False}),
            "job_type": "batch",
            "templates": (*plan.templates, *files),
            "ports": (),
            "spreads": (),
            "resources": plan.resources.model_copy(update={"gpus": min(1, plan.resources.gpus)}),
            "limits": limits.model_copy(
                update={
                    "max_run_s": longest,
                    "queue_s": min(limits.queue_s, _QUEUE_S),
                    "silence_s": min(limits.silence_s, longest),
                    "first_sign_s": min(limits.first_sign_s, longest),
                }
            ),
        }
    )


FETCHER: Final = "fetch_model.py"
"""What brings the outputs from the URL that the training copied them to (`templates/fetch_model.py`)."""


def evaluation_estimate(plan: TrainingPlan, estimate: Estimate) -> Estimate:
    """The estimate of that job: its share of the training's price, its own time.

    `estimate` is of the training with its evaluation (`evaluation_time.with_evaluation`).
    """
    had, gpus = plan.resources.gpus, min(1, plan.resources.gpus)
    share = gpus / (had * plan.launch.nodes) if had else 1 / plan.launch.nodes
    rate = None if estimate.usd_per_hour is None else estimate.usd_per_hour * share
    seconds = estimate.evaluation_s
    cost = None if rate is None or seconds is None else seconds.priced(rate)
    return estimate.model_copy(update={"usd_per_hour": rate, "seconds": seconds, "cost_usd": cost})


def told_words(plan: TrainingPlan) -> str:
    """What such a job is, for a person who is asked to approve it; empty where the plan has none."""
    command = evaluation_words(plan)
    if command is None or not apart(plan):
        return ""
    words = " ".join(command.words)
    gpu = "1 GPU" if plan.resources.gpus else "no GPU"
    minutes = -(-(plan.evaluation.max_s + ROOM_S) // 60)
    return f"Then, as a job of its own, its model is evaluated: `{words}`, on {gpu}, for {minutes} min at most."

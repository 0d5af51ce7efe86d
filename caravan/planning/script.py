"""The task's launch script and what it needs beside it, rendered from `templates/`.

Every value goes through one filter that quotes it for the shell. It knows the plan and nothing of clusters.
"""

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from caravan.planning.command import DISTRIBUTED, RUN, output_dir
from caravan.planning.config_files import copies, reaches, with_copies
from caravan.planning.environments import environment_words, hands_over, prepares
from caravan.planning.evaluating import JUDGE, JUDGE_FILES, evaluation_words, helper_words, in_last_phase
from caravan.planning.fetching import delivery_words
from caravan.planning.launchers import launch_words
from caravan.planning.outputs import goes_with_job, packages_for
from caravan.planning.overlays import overlays_of, targets
from caravan.planning.resume import checkpoint_pattern, config_key, goes_on, resume_words, without_checkpoint
from caravan.planning.smoke import SmokePhase
from caravan.values.errors import PlanError, StateError
from caravan.values.plan import TrainingPlan
from caravan.values.repo import Launcher

if TYPE_CHECKING:
    from jinja2 import Template

_PLACES: Final = re.compile(
    r"\$\{(NOMAD_ALLOC_DIR|NOMAD_TASK_DIR|NOMAD_SECRETS_DIR|NOMAD_META_caravan_run|CARAVAN_OUTPUT_DIR"
    r"|CARAVAN_MASTER_ADDR|CARAVAN_MASTER_PORT|CARAVAN_NODE_RANK)\}"
)
"""The places that only the node knows: the only variables that the shell fills in in a plan's words."""


_MARGIN_S: Final = 4
"""Of the time between a stop and the kill, what is kept for the summary and the result file."""


def shell_word(text: str) -> str:
    """One word for a POSIX shell that stands for exactly `text`, but for `${NOMAD_ALLOC_DIR}` and its like.

    Raises PlanError for a NUL character, which no argument can hold.
    """
    if "\0" in text:
        raise PlanError(f"{text[:40]!r} holds a NUL character: no process can be given it.")
    pieces = _PLACES.split(text)  # odd pieces are variable names
    words = [f'"${{{p}}}"' if i % 2 else (shlex.quote(p) if p else "") for i, p in enumerate(pieces)]
    return "".join(words) or "''"


def launch_script(
    plan: TrainingPlan, templates: Path, *, time_limit_s: int | None = None, smoke: SmokePhase | None = None
) -> str:
    """The launch script of the plan's task; with `time_limit_s` it ends the training itself after that many seconds:
    by a signal, and after the plan's `kill_timeout_s` by one that can't be ignored. `smoke`: its first phase.

    Raises StateError when the template can't be read.
    """
    out = output_dir(plan)
    return _template(templates).render(
        **delivery_words(plan),
        time_limit_s=time_limit_s,
        kill_timeout_s=plan.kill_timeout_s,
        output_dir=out,
        output_base=None if out.startswith(("/", "${")) else _base(plan),
        in_run_dir=RUN in out,
        keeps=goes_with_job(plan) and not reaches(plan, "training.output_dir"),
        url=plan.outputs.location.rstrip("/") if plan.outputs.kind == "url" else "",
        packages=packages_for(plan.outputs.location) if plan.outputs.kind == "url" else (),
        grace_s=max(1, plan.kill_timeout_s - _MARGIN_S),
        apt=plan.setup.apt if plan.driver == "docker" else (),
        python=plan.setup.python,
        environment=environment_words(plan),
        prepared=prepares(plan),
        handed_over=hands_over(plan),
        overlays=tuple(zip(overlays_of(plan), targets(plan), strict=True)),
        workdir=plan.workdir or ".",
        setup=plan.setup.cmd,
        command=without_checkpoint(plan, command_words(plan)),
        resume=plan.resume if goes_on(plan) else None,
        checkpoints=checkpoint_pattern(plan),
        resume_key=config_key(plan),
        resume_config=_config_place(plan),
        resume_word=resume_words(plan.resume) if plan.resume else None,
        smoke=smoke,
        evaluation=helper_words(plan) if in_last_phase(plan) else (),
        group=plan.launch.launcher in (Launcher.BASH, Launcher.CLI),
        members=_members(plan),
        gpus_apart=plan.driver != "docker" and plan.resources.gpus > 0,
    )


def _members(plan: TrainingPlan) -> dict[str, Any] | None:
    """What the script has to know of the other nodes; None where there are none.

    A launcher that starts the processes by itself gives each its rank; any other program is one process on its node.
    """
    launch, limits = plan.launch, plan.limits
    if launch.nodes == 1:
        return None
    host, _, port = (launch.rdzv_endpoint or "").rpartition(":")
    return {
        "nodes": launch.nodes,
        "nproc": launch.nproc,
        "ranks": launch.launcher not in DISTRIBUTED,
        "wait_s": limits.gang_s,
        "ready_s": limits.start_s + limits.first_sign_s,
        "endpoint": (host, port) if host and port.isdigit() else None,
    }


def members_helper(templates: Path) -> str:
    """The text of the helper by which the nodes' members meet. Raises StateError when it can't be read."""
    return _text_of(templates / "members.py")


def _base(plan: TrainingPlan) -> str:
    """The directory in which the command sees a relative path, as a word for the shell."""
    workdir = plan.workdir or "."
    return shell_word(workdir) if workdir.startswith(("/", "${")) else f'"$code_dir"/{shell_word(workdir)}'


def _config_place(plan: TrainingPlan) -> str:
    """The config file that takes a checkpoint's path, as the training reads it, as a word for the shell."""
    path = (config_key(plan) or ("",))[0]
    copy = copies(plan).get(path)
    return shell_word(copy) if copy else f'"$code_dir"/{shell_word(path)}'


def prepare_script(plan: TrainingPlan, templates: Path) -> str:
    """The script of the task that prepares the training's Python. Raises StateError when it can't be read."""
    return _template(templates, "prepare.sh.j2").render(
        **{**delivery_words(plan), "data": None},
        handed_over=False,
        hands_over=hands_over(plan),
        apt=plan.setup.apt if plan.driver == "docker" else (),
        python=plan.setup.python,
        environment=environment_words(plan),
    )


@cache
def _template(templates: Path, name: str = "launch.sh.j2") -> "Template":
    """Made once for a folder: compiling the template costs more than rendering it."""
    import jinja2

    environment = jinja2.Environment(  # noqa: S701 (a shell script, no HTML: every value goes through `word`)
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["word"] = shell_word
    try:
        return environment.get_template(name)
    except (jinja2.TemplateNotFound, OSError) as error:
        raise StateError(f"The template {templates}/{name} can't be read.") from error


def command_words(plan: TrainingPlan) -> tuple[str, ...]:
    """The whole command as the job runs it, with changed copies of configs in place of those that can't be changed."""
    return with_copies(plan, launch_words(plan), {overlay.path for overlay in overlays_of(plan)})


def told_words(plan: TrainingPlan) -> tuple[str, ...]:
    """Everything that the training is told: its command, and what is laid over its configs."""
    return (*command_words(plan), *overlay_texts(plan))


def overlay_helpers(templates: Path) -> dict[str, str]:
    """The texts, by their names, of what changes config files. Raises StateError for one that can't be read."""
    return {name: _text_of(templates / name) for name in ("overlays.py", "yaml_lines.py")}


def environment_helper(templates: Path) -> str:
    """The text of the helper that the script calls. Raises StateError when it can't be read."""
    return _text_of(templates / "environment.py")


def outputs_helpers(templates: Path) -> dict[str, str]:
    """The texts, by their names, of what counts and copies the outputs and finds the model among them.

    Raises StateError for one that can't be read.
    """
    return {name: _text_of(templates / name) for name in ("outputs.py", "model_files.py")}


def evaluation_helpers(plan: TrainingPlan, templates: Path) -> dict[str, str]:
    """The texts of what evaluates the plan's model, by their paths below the task's directory; `model_files.py`
    (`outputs_helpers`) lies beside them. Empty where there is no evaluation.

    Raises StateError for one that can't be read.
    """
    command = evaluation_words(plan)
    if command is None:
        return {}
    found = {"evaluation.py": _text_of(templates / "evaluation.py")}
    if command.by == "model":
        below = JUDGE.rpartition("/")[2]
        found |= {f"{below}/{name}": _text_of(templates / place) for name, place in JUDGE_FILES.items()}
    return found


def fetch_helpers(templates: Path) -> dict[str, str]:
    """The text, by its name, of what fetches outputs from their URL. Raises StateError when it can't be read."""
    return {"fetch_model.py": _text_of(templates / "fetch_model.py")}


def resume_helpers(templates: Path) -> dict[str, str]:
    """The texts, by their names, of what finds the checkpoint to go on from. Raises StateError for one that is gone."""
    return {name: _text_of(templates / name) for name in ("resume.py", "checkpoints.py")}


def smoke_helpers(templates: Path) -> dict[str, str]:
    """Name → text of the helpers that run and measure the first steps. Raises StateError when one can't be read."""
    return {name: _text_of(templates / name) for name in ("smoke.py", "smoke_hook.py", "smoke_seen.py")}


def sampler_helpers(templates: Path) -> dict[str, str]:
    """Name → text of what samples the task's use. Raises StateError when one can't be read."""
    return {name: _text_of(templates / name) for name in ("sampler.py", "sampler_gpus.py")}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StateError(f"The template {path} can't be read.") from error


def overlay_texts(plan: TrainingPlan) -> tuple[str, ...]:
    """What is laid over each config file, as JSON, in the plan's order."""
    return tuple(json.dumps({"text": o.text, "values": o.values}, sort_keys=True) for o in overlays_of(plan))


def free_delimiters(text: str) -> tuple[str, str]:
    """Template delimiters that `text` doesn't contain, so that nothing in it is taken for a template."""
    n = 0
    while f"[[caravan{n}" in text or f"caravan{n}]]" in text:
        n += 1
    return f"[[caravan{n}", f"caravan{n}]]"

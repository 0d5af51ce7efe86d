"""What a person is told when no repair is left: the question that is open, as exactly as the evidence allows.

Pure. It tells; what was tried is the agent's to add.
"""

import posixpath
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from caravan.diagnosis.handover_places import PLACES, listed, with_set, words_for
from caravan.diagnosis.ladders.case import Case, same_name
from caravan.diagnosis.sentences import in_repository
from caravan.values.distributions import BUILT, distribution, is_standard, normal, requirement_name
from caravan.values.failure import FailureClass

_SHELLS: Final = frozenset({"bash", "sh", "dash", "zsh", "env"})


def handover(case: Case) -> str:
    """What to do, in one or two sentences: the exact question where the evidence names what is missing."""
    question = _QUESTIONS.get(case.diagnosis.failure)
    return (question(case) if question else "") or case.diagnosis.advice


def words_to_go_on(case: Case) -> str:
    """The options with which the run goes on once a person has decided (`--set resources.gpus=VALUE`).

    Empty: nothing need be set. None of them can be told where the code itself must change: see `needs_code`.
    """
    failure, shown = case.diagnosis.failure, handover(case)
    named = _SET.search(shown)  # the first: what stands behind an `or` is another way
    if named:
        return named[0].rstrip(".,;:?)")
    return " ".join(filter(None, (words_for(case, field) for field in _GO_ON.get(failure, ()))))


def needs_code(case: Case) -> bool:
    """Whether the repository must be changed first: a run trains one version of the code, so another one is begun."""
    failure, detail = case.diagnosis.failure, case.detail
    if failure in _CODE:
        return True
    script = failure is FailureClass.CLI_ARGS_INVALID and detail("kind") == "unknown" and bool(_script(case))
    return script or "in the repository" in handover(case)


_SET: Final = re.compile(r"(?:--set (?:'[^']*'|[\w.-]+=\S+)[ ]?)+(?<! )")
_CODE: Final = frozenset({FailureClass.USER_CODE_BUG, FailureClass.INDEX_OUT_OF_RANGE})
_GO_ON: Final[dict[FailureClass, tuple[str, ...]]] = {
    FailureClass.ARTIFACT_DOWNLOAD_FAILED: ("artifacts",),
    FailureClass.BIND_MOUNT_REJECTED: ("mounts",),
    FailureClass.CHECKPOINT_UNUSABLE: ("training.resume_from",),
    FailureClass.CLUSTER_TARGET_MISMATCH: ("node_pool",),
    FailureClass.CUDA_DRIVER_TOO_OLD: ("image",),
    FailureClass.CUDA_OOM: ("resources.gpu_model",),
    FailureClass.DISK_FULL: ("resources.disk_mb",),
    FailureClass.DRIVER_UNAVAILABLE: ("driver",),
    FailureClass.FLASH_ATTN_UNUSABLE: ("training.attn",),
    FailureClass.GPU_COUNT_MISMATCH: ("resources.gpus",),
    FailureClass.HOST_MEMORY_OOM: ("resources.memory_mb",),
    FailureClass.LAUNCHER_MISCONFIGURED: ("launch.launcher",),
    FailureClass.OUTPUT_PERMISSION_DENIED: ("training.output_dir",),
    FailureClass.PACKAGE_VERSION_CONFLICT: ("setup.pip",),
    FailureClass.PLACEMENT_CONSTRAINT_FILTERED: ("constraints",),
    FailureClass.PLACEMENT_GPU_UNAVAILABLE: ("resources.gpu_model", "resources.gpus"),
    FailureClass.OVERFIT: ("training.epochs",),
    FailureClass.RUN_TOO_LONG: ("limits.max_run_s",),
    FailureClass.SHM_TOO_SMALL: ("shm_mb",),
    FailureClass.TARGET_MISSED: ("target.goal",),
    FailureClass.TORCH_BUILD_MISMATCH: ("image",),
    FailureClass.UNDERFIT: ("training.epochs",),
    FailureClass.VOLUME_UNAVAILABLE: ("mounts",),
    FailureClass.WORSE_THAN_BASE: ("training.lr",),
}
"""Where no question names it: the fields in which a person's decision lands."""


def _package(case: Case) -> str:
    module = case.detail("module") or case.detail("package")
    if not module:
        return ""
    if is_standard(module):
        return (
            f"{module} belongs to Python itself, which was built without it there: name another setup.python or image."
        )
    if not case.detail("module"):
        return f"Name {module} among the requirements, or with {_pip(case, module)}."
    name = distribution(module)
    if module in BUILT:
        return f"{module} must be built for the torch and CUDA of the job: use an image that has it."
    if name is not None:
        if any(requirement_name(line) == normal(name) for line in case.plan.setup.pip):
            return (
                f"{name} provides {module} and is among the job's packages: the log of its installation may say more."
            )
        return f"{name} provides {module}: name it among the requirements, or with {_pip(case, name)}."
    return f"Which package provides {module}? Name it among the requirements, or with {words_for(case, 'setup.pip')}."


def _pip(case: Case, line: str) -> str:
    return with_set("setup.pip", [*case.plan.setup.pip, line])


def _arguments(case: Case) -> str:
    options = case.detail("option")
    if not options:
        return ""
    if case.detail("kind") == "missing":
        names = options.split()
        sets = " ".join(f"--set training.options.{name}=VALUE" for name in names)
        return f"Which value shall {' and '.join(names)} have? Start again with {sets}."
    choices = case.detail("choices")
    if case.detail("kind") in ("choice", "value"):
        given = f" ({case.detail('value')} was refused)" if case.detail("value") else ""
        among = f" It takes {choices}." if choices else ""
        return f"Which value shall {options} have{given}?{among}"
    usage = case.detail("usage")
    shown = f" It shows {usage}." if usage else ""
    script = _script(case)
    if script:
        return f"The program does not know {options}; the options stand in {script}: correct them there.{shown}"
    return f"The program does not know {options}: start it without, or name the option that is meant.{shown}"


def _script(case: Case) -> str:
    """The shell script that starts the program, where the plan's command is one; empty else."""
    words = [word for word in case.plan.command if posixpath.basename(word) not in _SHELLS]
    first = next((word for word in words if not word.startswith("-")), "")
    return first if first.endswith((".sh", ".bash")) else ""


def _entry(case: Case) -> str:
    missing = case.detail("path") or case.detail("program") or case.detail("module")
    if not missing:
        return ""
    if case.detail("kind") == "permission":
        return (
            f"{missing} may not be executed in the job: make it executable, or name what starts it with "
            "--set command=VALUE."
        )
    if case.detail("kind") == "code":
        return f"{missing} is not there: name the code's place with --set code.location=VALUE."
    if case.detail("kind") == "subdir":
        return f"The code has no directory {missing}: name the one that is meant with --set code.subdir=VALUE."
    named = case.looks.files(posixpath.basename(missing))
    there = f" The repository has {listed(named)}." if named else ""
    return f"{missing} is not found in the job.{there} Which entry point is meant? Name it with --set command=VALUE."


def _image(case: Case) -> str:
    image = case.detail("image") or case.plan.image
    if not image:
        return ""
    driver = case.plan.driver
    known = [i for n in case.facts.usable_nodes() if driver in n.drivers for i in n.drivers[driver].images or ()]
    there = f" The nodes have {listed(tuple(dict.fromkeys(known)))}." if known else ""
    return f"The image {image} does not exist.{there} Which one is meant? Name it with --set image=VALUE."


def _data(case: Case) -> str:
    path = case.detail("path")
    if not path:
        return ""
    if case.detail("kind") == "write":
        return (
            f"{path} can't be written: its directory is not there. Name a place with --set training.output_dir=VALUE."
        )
    found = case.looks.find(posixpath.basename(path.rstrip("/")))
    folder = posixpath.basename(posixpath.dirname(path.rstrip("/")))
    beside = case.looks.directories(folder) if folder else ()
    there = f" The repository has {listed(found)}." if found else f" There is {listed(beside)}." if beside else ""
    return f"{path} is not in the job.{there} Where is it? {_place(case, path)}, or mount its volume."


def _place(case: Case, path: str) -> str:
    """Where a path of the data is to be corrected: the option that holds it, the plan's field, or the repository."""
    field = "dataset.path"
    told = case.plan.flag(field)
    option = _holder(case.plan.command, path)
    if option and not (told and same_name(option, told)):
        return f"It stands in {option} of the command: name it with --set training.options.{option}=PATH"
    if told:
        return f"Name it with --set {field}=VALUE"
    return "No option of the program takes it: correct the path in the repository"


def _holder(command: Sequence[str], path: str) -> str:
    """The option of a command whose value is the path, or its end."""
    for before, word in pairwise(("", *command)):
        name, sign, value = word.partition("=")
        option, given = (name, value) if sign and name.startswith("-") else (before, word)
        end = given.removeprefix("./").rstrip("/")
        if option.startswith("-") and end and f"/{path.rstrip('/')}/".find(f"/{end.lstrip('/')}/") >= 0:
            return option
    return ""


def _divergence(case: Case) -> str:
    told = {*case.plan.flags, *case.plan.config_keys}
    unheard = [p for p in ("training.lr", "training.max_grad_norm") if p not in told]
    if len(unheard) == 2:
        return "The program has no option for the learning rate or clipping: lower the rate in its code or config."
    rate = case.plan.training.lr
    with_rate = f" with a learning rate of {rate:g}" if rate is not None else ""
    if case.mended("training.lr"):
        return f"The training diverges even{with_rate}: the data or the model code may be at fault."
    if "training.lr" in unheard:
        return "The program has no option for the learning rate: lower it in its code or config."
    return f"The training diverged{with_rate}. Start again with a smaller one: --set training.lr=VALUE."


def _settings(case: Case) -> str:
    """Of a config file that is not there: what names it."""
    path = case.detail("path")
    return f"Name a file that is delivered with the code: {path} stands in config_overlays." if path else ""


def _changed(case: Case) -> str:
    """Of a job that somebody else changed: how it is ended. None is offered beside it: it would train twice."""
    if case.detail("kind") == "changed, runs":
        space = f"-namespace={case.plan.namespace} " if case.plan.namespace not in (None, "default") else ""
        return f"`nomad job stop {space}{case.detail('job')}` ends it."
    if case.detail("kind") == "killed":
        return (
            "Does the node's kernel log (`dmesg`) name an out-of-memory kill? Then it needs more host memory; else it "
            "can go on from its last checkpoint."
        )
    return "Nothing of it runs: start again where the training is still wanted." if case.detail("job") else ""


def _bug(case: Case) -> str:
    place, line = case.detail("file"), case.detail("line")
    if case.detail("exception") == "EOFError":
        return _ASKS  # the cause names the line
    if not place:
        return ""
    own = [f for f in case.looks.files(posixpath.basename(place)) if place == f or place.endswith(f"/{f}")]
    place = max(own, key=len, default=in_repository(place))  # where the job saw the code is nothing to the repository
    at = f"{place}:{line}" if line else place
    inside = f", in {case.detail('function')}" if case.detail("function") else ""
    return (
        f"The error is in the code at {at}{inside}: it must be changed in the repository; no change of the job helps."
    )


_ASKS: Final = (
    "Answer it by an option of the program where it has one (as --yes or --force), else leave the question out in the "
    "repository: a job has no terminal."
)


def _ids(case: Case) -> str:
    if case.detail("fault"):
        return _row_at_fault(case)
    kind, value, size = case.detail("kind"), case.detail("value"), case.detail("size")
    what = {"label": "labels", "position": "positions"}.get(kind, "token ids")
    have = f": {value} with {size} of them" if value and size else ""
    how = {
        "label": "count the classes again, and set the model's number of labels to it",
        "position": "shorten the sequences, or take a model with more positions",
    }.get(kind, "use the model's own tokenizer, or resize its embeddings after adding tokens")
    return f"The data have {what} that the model has not{have}; {how}, in the repository."


def _row_at_fault(case: Case) -> str:
    """Of data that our own look or script refused: the place, and how to look at the rest before the next start."""
    file, line = in_repository(case.detail("file")), case.detail("line")
    at = f"line {line} of {file}" if line else file or "the data"
    kind = f" --type {case.plan.training.type}" if case.plan.training.type else ""
    look = f"`python main.py data {file or 'PATH'}{kind}` says what else there is"
    if case.detail("kind") == "columns":
        named = "or name it (--set training.options.--columns=ROLE=NAME)"
        return f"Rename the column in {file or 'the data'}, {named}; {look}."
    return f"Correct {at}; {look}."


def _columns(case: Case) -> str:
    column, there = case.detail("column"), case.detail("choices")
    if case.detail("fault"):
        return _row_at_fault(case)
    if not column:
        path = case.detail("path")
        return (
            f"{path} can't be read as it is: check its rows, and name its kind with --set dataset.format=VALUE."
            if path
            else ""
        )
    have = f"; there are {there}" if there else ""
    return f"The data have no column {column}{have}: rename it in them, or name the one that is meant with its option."


def _settings_of(case: Case) -> str:
    if case.detail("kind") == "template" and case.detail("fault"):
        return "Take a model with a chat template (an instruct model): --set model.id=VALUE, or give a template to it."
    if case.detail("kind") == "length":
        need, most = (int(case.number(name) or 0) for name in ("want", "size"))
        if most and max(need, int(case.number("have") or 0) + 1) > most:
            return "Start again with shorter rows, or with a model that takes longer ones, --set model.id=VALUE."
        return "Start again with longer sequences, --set training.max_len=VALUE, or with shorter rows."
    option = case.detail("option").split(" ")[0]
    want = case.detail("want") or "VALUE"
    return f"Which value shall {option} have? --set training.options.{option}={want}." if option else _settings(case)


_QUESTIONS: Final[dict[FailureClass, Callable[[Case], str]]] = {
    **PLACES,
    FailureClass.MISSING_PYTHON_PACKAGE: _package,
    FailureClass.CLI_ARGS_INVALID: _arguments,
    FailureClass.ENTRYPOINT_NOT_FOUND: _entry,
    FailureClass.IMAGE_NOT_FOUND: _image,
    FailureClass.DATA_PATH_MISSING: _data,
    FailureClass.NUMERIC_DIVERGENCE: _divergence,
    FailureClass.TRAINING_CONFIG_INVALID: _settings_of,
    FailureClass.INTERRUPTED_EXTERNALLY: _changed,
    FailureClass.USER_CODE_BUG: _bug,
    FailureClass.INDEX_OUT_OF_RANGE: _ids,
    FailureClass.DATASET_FORMAT_ERROR: _columns,
}

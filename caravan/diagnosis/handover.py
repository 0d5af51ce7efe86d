"""What a person is told when no repair is left: the question that is open, as exactly as the evidence allows.

Pure. It tells; what was tried is the agent's to add.
"""

import posixpath
from collections.abc import Callable
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.ladders.distributions import BUILT, distribution, is_standard
from caravan.values.failure import FailureClass

_SHOWN: Final = 5  # names that are listed


def handover(case: Case) -> str:
    """What to do, in one or two sentences: the exact question where the evidence names what is missing."""
    question = _QUESTIONS.get(case.diagnosis.failure)
    return (question(case) if question else "") or case.diagnosis.advice


def _package(case: Case) -> str:
    module = case.detail("module") or case.detail("package")
    if not module:
        return ""
    if is_standard(module):
        return (
            f"{module} belongs to Python itself, which was built without it there: name another setup.python or image."
        )
    name = distribution(module)
    if module in BUILT:
        return f"{module} must be built for the torch and CUDA of the job: use an image that has it."
    if name is not None:
        return f"{name} provides {module} and was to be installed already: see the log, and pin a version that works."
    return f"Which package provides {module}? Name it in the repository's requirements, or with --set setup.pip."


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
    return f"The program does not know {options}: start it without, or name the option that is meant."


def _entry(case: Case) -> str:
    missing = case.detail("path") or case.detail("program") or case.detail("module")
    if not missing:
        return ""
    if case.detail("kind") == "permission":
        return (
            f"{missing} may not be executed in the job: make it executable, or name its interpreter with --set command."
        )
    named = case.looks.files(posixpath.basename(missing))
    there = f" The repository has {_listed(named)}." if named else ""
    return f"{missing} is not found in the job.{there} Which entry point is meant? Name it with --set command."


def _image(case: Case) -> str:
    image = case.detail("image") or case.plan.image
    if not image:
        return ""
    driver = case.plan.driver
    known = [i for n in case.facts.usable_nodes() if driver in n.drivers for i in n.drivers[driver].images or ()]
    there = f" The nodes have {_listed(tuple(dict.fromkeys(known)))}." if known else ""
    return f"The image {image} does not exist.{there} Which one is meant? Name it with --set image."


def _data(case: Case) -> str:
    path = case.detail("path")
    if not path:
        return ""
    if case.detail("kind") == "write":
        return f"{path} can't be written: its directory is not there. Name a place with --set training.output_dir."
    found = case.looks.find(posixpath.basename(path.rstrip("/")))
    folder = posixpath.basename(posixpath.dirname(path.rstrip("/")))
    beside = case.looks.directories(folder) if folder else ()
    there = f" The repository has {_listed(found)}." if found else f" There is {_listed(beside)}." if beside else ""
    return f"{path} is not in the job.{there} Where is it? Name it with --set dataset.path, or mount its volume."


def _divergence(case: Case) -> str:
    told = case.plan.flags
    unheard = [p for p in ("training.lr", "training.max_grad_norm") if p not in told]
    if len(unheard) == 2:
        return "The program has no option for the learning rate or clipping: lower the rate in its code or config."
    return ""


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


_QUESTIONS: Final[dict[FailureClass, Callable[[Case], str]]] = {
    FailureClass.MISSING_PYTHON_PACKAGE: _package,
    FailureClass.CLI_ARGS_INVALID: _arguments,
    FailureClass.ENTRYPOINT_NOT_FOUND: _entry,
    FailureClass.IMAGE_NOT_FOUND: _image,
    FailureClass.DATA_PATH_MISSING: _data,
    FailureClass.NUMERIC_DIVERGENCE: _divergence,
}

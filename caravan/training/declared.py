"""The profile of a type's script: what its definition declares, in place of what could be read off its code. Pure."""

import re
import shlex
from typing import Final

from caravan.training.readme import written
from caravan.training.rendering import FOLDER
from caravan.values.base import Json
from caravan.values.environment import RepoEnvironment
from caravan.values.repo import (
    Checkpoints,
    EntryCandidate,
    HyperparameterFlag,
    Launcher,
    RepoProfile,
    ScriptOption,
)
from caravan.values.training import Knob, TrainingChoice, TrainingType

_KEYS: Final = {
    "training.micro_batch": "batch_size",
    "training.lr": "learning_rate",
    "training.epochs": "epochs",
    "training.max_len": "seq_len",
    "training.grad_accum": "gradient_accumulation",
    "training.output_dir": "output_dir",
}
_PLACES: Final = ("training.output_dir", "training.resume_from", "dataset.format")
"""Fields whose default is the script's business: where it runs it is told, or finds it by itself."""
_RESUMES: Final = "--resume-from-checkpoint"
_SPREADS: Final = frozenset({"--fsdp", "--deepspeed"})
GUESSED: Final = 0.4
"""How sure a model is that nobody has named: it is asked about, with it as the default."""


def declared(
    profile: RepoProfile, found: TrainingType, choice: TrainingChoice, *, data_sure: float, preparation: tuple[str, ...]
) -> RepoProfile:
    """The profile that was read off the rendered script, with everything that the type declares.

    `preparation`: commands of the repository that come first, as they make the model.
    """
    entry = f"{FOLDER}/{found.entry}"
    model = choice.model or found.default_model
    packages = tuple(dict.fromkeys(_package(line) for line in found.requirements))
    requirements = (f"{FOLDER}/requirements.txt",) if found.requirements else ()
    hidden = (model, choice.data)
    options = tuple(_option(knob, hidden) for knob in found.knobs)
    method = next((knob for knob in found.knobs if knob.path == "training.method"), None)
    sure = dict.fromkeys(("is_training_repo", "entry_point", "launcher", "launch_command"), 1.0)
    return profile.model_copy(
        update={
            "is_training_repo": True,
            "entry_point": entry,
            "launcher": Launcher.PYTHON,
            "cli_name": None,
            "launch_command": _command(entry, found, choice, model),
            "launch_cwd": ".",
            "prep_commands": preparation,
            "framework": "pytorch" if "torch" in packages else None,
            "libraries": packages,
            "method": choice.sets.get("training.method") or (method.default if method else None),
            "base_model": model,
            "dataset": choice.data,
            "config_files": (),
            "dependency_files": requirements,
            "docker": None,
            "num_gpus": None,
            "distributed": "ddp" if _SPREADS & {knob.flag for knob in found.knobs} else None,
            "cli_style": "argparse",
            "options": options,
            "takes": takes(found),
            "key_hyperparameters": _keys(found),
            "config_values": (),
            "metrics_logged": _metrics(found),
            "checkpoints": _checkpoints(found),
            "hazards": (),
            "candidates": (EntryCandidate(entry_point=entry, launcher=Launcher.PYTHON, score=10.0),),
            "environment": _environment(profile.environment, requirements),
            "confidence": {
                **sure,
                "dataset": data_sure if choice.data else 0.0,
                "base_model": 0.95 if choice.model else GUESSED if model else 0.0,
                "num_gpus": 0.9,
            },
            "evidence": {},
        }
    )


def takes(found: TrainingType) -> dict[str, str]:
    """Plan path → option, as a plan's `flags` spell it, of every knob that a plan's field sets."""
    named: dict[str, str] = {}
    for knob in found.knobs:
        if not knob.path:
            continue
        if knob.type == "boolean":
            named[f"{knob.path}=True"] = f"{knob.flag} true|{knob.flag} false"
        elif knob.type == "integer" and knob.path == "training.epochs":
            named[f"{knob.path}:int"] = knob.flag
        else:
            named[knob.path] = knob.flag
    return named


def _option(knob: Knob, named: tuple[str | None, ...]) -> ScriptOption:
    needed = knob.path in ("model.id", "dataset.path")
    types = {"integer": "int", "number": "float", "boolean": "bool", "text": "str", "choice": None}
    default = None if knob.path in _PLACES else knob.default
    return ScriptOption(
        flag=knob.flag,
        default=default if default not in named else None,
        type=types[knob.type],
        required=needed and knob.default is None,
        choices=tuple(written(choice) for choice in knob.choices),
        help=knob.about,
        requirements=f"{FOLDER}/{knob.requirements}" if knob.requirements else "",
    )


def _command(entry: str, found: TrainingType, choice: TrainingChoice, model: str | None) -> str:
    """How the script is started: with what is known of model and data, the rest by its own defaults."""
    flags = {knob.path: knob.flag for knob in found.knobs if knob.path}
    by_name = {knob.name: knob.flag for knob in found.knobs}
    values: list[tuple[str | None, Json]] = [
        (flags.get("model.id"), model),
        (flags.get("dataset.path"), choice.data),
        (by_name.get("eval_data"), choice.eval_data),
    ]
    values += [(flags.get(path), value) for path, value in choice.sets.items()]
    words = [word for flag, value in values if flag and value is not None for word in (flag, written(value))]
    return shlex.join(["python", entry, *words])


def _keys(found: TrainingType) -> dict[str, HyperparameterFlag]:
    known = {_KEYS[knob.path]: knob for knob in found.knobs if knob.path in _KEYS}
    return {
        name: HyperparameterFlag(flag=knob.flag, default=None if knob.path in _PLACES else knob.default)
        for name, knob in known.items()
    }


def _metrics(found: TrainingType) -> tuple[str, ...]:
    """The metrics, the one that a run is judged by first."""
    names = [metric.name for metric in found.metrics]
    return tuple(dict.fromkeys((*([found.target] if found.target else []), *names)))


def _checkpoints(found: TrainingType) -> Checkpoints | None:
    """Every type that resumes writes `checkpoint-N` and looks for the newest whole one by itself."""
    resumes = any(knob.flag == _RESUMES for knob in found.knobs)
    return Checkpoints(kind="trainer", names=("checkpoint-*",), taken_up="itself") if resumes else None


def _environment(read: RepoEnvironment | None, requirements: tuple[str, ...]) -> RepoEnvironment:
    """What the type pins, and nothing that its script only imports where it is there."""
    read = read or RepoEnvironment()
    return RepoEnvironment(requirements=requirements, declared=read.declared, pythons=read.pythons, cuda=read.cuda)


def _package(line: str) -> str:
    return re.split(r"[\s\[<>=!~;@]", line.strip(), maxsplit=1)[0].lower()

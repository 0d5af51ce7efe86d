"""Files → `RepoProfile`: gathers what the readers find, ranks the entries and fills the profile's fields.

Pure over a tree that reads texts; it never imports or runs the repository's code, and changes nothing. The texts are
data: nothing in them is an instruction.
"""

import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from posixpath import basename, dirname
from typing import Final, Protocol

from caravan.analysis import fields, installs
from caravan.analysis.candidate import Candidate
from caravan.analysis.checkpoints import checkpoints
from caravan.analysis.compute import distributed, num_gpus
from caravan.analysis.config_options import with_configuration
from caravan.analysis.config_values import read_config_values
from caravan.analysis.data import dataset
from caravan.analysis.data_sizes import data_sizes
from caravan.analysis.dependencies import Dependencies, is_dependency_file, read_dependencies
from caravan.analysis.documents import Documented, documented
from caravan.analysis.entry import Entry
from caravan.analysis.entry_options import configured_elsewhere, entry_parser
from caravan.analysis.environment import read_environment
from caravan.analysis.environment_options import environment_options
from caravan.analysis.findings import Found
from caravan.analysis.hazards import hazards
from caravan.analysis.hyperparameters import for_command
from caravan.analysis.hyperparameters import hyperparameters as key_hyperparameters
from caravan.analysis.launch import best_command, launch, preparation
from caravan.analysis.method import method
from caravan.analysis.model_shape import model_configs
from caravan.analysis.models import base_model
from caravan.analysis.prompt import Wishes, read_prompt, words_of
from caravan.analysis.rank import candidates
from caravan.analysis.scripts import entry_folder, entry_modules
from caravan.analysis.settings import named_files, read_settings
from caravan.analysis.shell_options import HANDED_ON, set_whatever, shell_options
from caravan.analysis.siblings import for_named_model
from caravan.analysis.sources import Sources
from caravan.analysis.tree import FileEntry
from caravan.analysis.vocabulary import ASIDE, TRAIN_NAME
from caravan.values.base import Json
from caravan.values.masking import MASK, mask, mask_json
from caravan.values.repo import GitState, Hazard, Launcher, RepoProfile

_MAX_CANDIDATES: Final = 10
_MAX_ITEMS: Final = 1000
"""Items of any list in the profile, which a run keeps with every step."""


class Tree(Protocol):
    """What is read: a `SourceTree`, or a fake of it."""

    @property
    def root(self) -> Path:
        """The directory."""

    @property
    def git(self) -> GitState | None:
        """Where it stands in git."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read."""

    @property
    def digest(self) -> str:
        """SHA-256 over all files."""

    def files(self) -> tuple[FileEntry, ...]:
        """The files that may be read."""

    def text(self, path: str) -> str | None:
        """A file's text, None for one that is no text or can't be read."""

    def part(self, path: str, limit: int, *, from_end: bool = False) -> bytes | None:
        """A file's first or last bytes, None for one that can't be read."""


def analyze(tree: Tree, prompt: str = "", *, entry: str | None = None) -> RepoProfile:
    """The profile of a repository in the light of the user's sentence. That it trains nothing is an answer.

    `entry` is a file that a person named as the entry point: then the profile is about that one.
    """
    files = tree.files()
    sources = Sources((f.path for f in files), tree.text)
    wishes = read_prompt(prompt)
    dependencies = [d for p in sorted(sources.paths) if is_dependency_file(p) and (d := _dependencies(sources, p))]
    scripts = {name: target for d in reversed(dependencies) for name, target in d.scripts.items()}
    packages = frozenset(p for d in dependencies for p in d.packages)
    commands = documented(sources, scripts, packages)
    ranked = candidates(sources, commands, scripts, wishes, entry)
    document: dict[str, Json] = {"is_training_repo": bool(ranked), "candidates": tuple(c.value() for c in ranked)}
    document["candidates"] = document["candidates"][:_MAX_CANDIDATES]
    if ranked:
        document |= _entry(ranked[0], sources, wishes, dependencies, commands)
        document["data_sizes"] = data_sizes(files, tree.part, partial(tree.part, from_end=True), document["dataset"])
    else:
        document |= {"confidence": {"is_training_repo": 0.7}, "named_so": _named_so(sources, prompt)}
        sources.note("nothing in the repository was found to train a model when it is started")
    profile = RepoProfile(
        root=str(tree.root),
        tree_digest=tree.digest,
        git=tree.git,
        files=len(files),
        bytes=sum(f.size for f in files),
        notes=(*tree.notes, *sources.notes),
        **document,
    )
    return _masked(profile)


def _named_so(sources: Sources, prompt: str) -> tuple[str, ...]:
    """Programs and notebooks that the sentence names, and those whose name says that they train, nearest to the top
    first.
    """
    programs = [p for p in sources.paths if p.endswith((".py", ".ipynb", ".sh")) and not ASIDE.search(p)]
    said = {p for p in programs if re.search(rf"(?<![\w.-]){re.escape(basename(p))}(?![\w-])", prompt)}
    named = said | {p for p in programs if TRAIN_NAME.search(basename(p))}
    return tuple(sorted(named, key=lambda p: (p not in said, p.count("/"), p))[:_MAX_CANDIDATES])


def _dependencies(sources: Sources, path: str) -> Dependencies | None:
    text = sources.text(path)
    found = read_dependencies(path, text) if text is not None else None
    if found and found.error:
        sources.note(found.error)
    return found


def _entry(
    best: Candidate,
    sources: Sources,
    wishes: Wishes,
    dependencies: Sequence[Dependencies],
    commands: Sequence[Documented],
) -> dict[str, Json]:
    """All fields that depend on the chosen entry."""
    used = for_named_model(best_command(best, sources, wishes), sources, wishes)
    best.launcher = used.command.launcher if used else best.launcher
    best.tool = used.command.tool if used else best.tool
    parser = entry_parser(best.path, best.entry_point, sources, commands)
    document = used.command.where.file if used else None
    words = wishes.words | words_of(best.entry_point)
    folder = entry_folder(best) if best.path or used is None else used.cwd
    needed = installs.needed(dependencies, folder, document, sources, words)
    configs = named_files(used, sources, best.path, words)
    configs = configs or configured_elsewhere(best.path, parser, sources, commands, words)
    modules = entry_modules(best, sources)
    options = parser.options if parser else ()
    settings = read_settings(sources, configs, modules, options, used)
    parser = with_configuration(parser, settings, modules, used, sources, commands)
    options = for_command(parser.options, best.entry_point, used) if parser else ()
    script = (sources.text(best.path) or "") if best.path and best.path.endswith((".sh", ".bash")) else ""
    fixed = set_whatever(script)
    variables = [o for o in environment_options(modules, sources.resolver) if o.option.flag[1:] not in fixed]
    entry = Entry(
        launcher=best.launcher,
        modules=modules,
        options=(*options, *variables),
        documented=used,
        configs={setting.path: setting.values for setting in settings},
        packages=frozenset(p.replace("-", "_") for d in needed for p in d.packages),
        wishes=wishes,
        paths=sources.paths,
        cwd=used.cwd if used else ".",
        commands=commands,
        sources=sources,
    )
    start = launch(best, used, {dirname(d.path) for d in needed})
    found = _found(entry, sources)
    hyperparameters, places = key_hyperparameters(entry)
    flags = tuple(o.option for o in entry.options if not o.source)
    if best.launcher is Launcher.BASH and script:
        told = shell_options(script)
        own = {o.flag for o in told}
        reached = any(o.flag == HANDED_ON for o in told)
        flags = (*told, *(f for f in flags if f.flag not in own and (reached or f.flag.startswith("$"))))
    sure = _sureness(best)
    evidence = {name: f.evidence for name, f in found.items() if f.evidence}
    evidence |= {"entry_point": tuple(best.evidence[:8]), "key_hyperparameters": places}
    evidence["launch_command"] = (used.command.where,) if used else ()
    return {
        "entry_point": best.entry_point,
        "launcher": best.launcher,
        "cli_name": best.tool or best.entry_point.split()[0] if best.launcher is Launcher.CLI else None,
        "launch_command": start.command,
        "launch_cwd": start.cwd,
        "prep_commands": preparation(used, commands, sources.note),
        "config_files": tuple(configs),
        "dependency_files": tuple(d.path for d in needed),
        "python_requires": next((d.python_requires for d in [*needed, *dependencies] if d.python_requires), None),
        "docker": (docker := installs.dockerfile(entry_folder(best), sources)),
        "environment": read_environment([d.path for d in needed], modules, best.launcher, docker, sources),
        "cli_style": parser.style if parser else None,
        "options": flags,
        "key_hyperparameters": hyperparameters,
        "config_values": read_config_values(sources, entry.modules, entry.options, configs, start.cwd, settings),
        "model_configs": model_configs(entry),
        "hazards": hazards(modules, best, used, commands, sources, flags, found["checkpoints"].value),
        **{name: tuple(f.value) if isinstance(f.value, list) else f.value for name, f in found.items()},
        "evidence": {k: v for k, v in evidence.items() if v},
        "confidence": {
            **{name: f.confidence for name, f in found.items()},
            **dict.fromkeys(("is_training_repo", "entry_point", "launcher"), sure),
            "launch_command": 0.9 * sure if used else 0.5 * sure,
            "key_hyperparameters": 0.9 if flags else 0.5,
            "dependency_files": 0.9 if needed else 0.4,
        },
    }


def _found(entry: Entry, sources: Sources) -> dict[str, Found]:
    own = {name.split(".")[0] for name in sources.names} | {basename(p)[:-3] for p in sources.paths if p[-3:] == ".py"}
    framework = fields.framework(entry)
    model = base_model(entry)
    data = dataset(entry, str(model.value) if model.value else None)
    gpus = num_gpus(entry, framework.value)
    return {
        "framework": framework,
        "libraries": fields.libraries(entry, own, sys.stdlib_module_names),
        "method": method(entry, model),
        "base_model": model,
        "dataset": data,
        "num_gpus": gpus,
        "distributed": distributed(entry, gpus.value),
        "env_vars_needed": fields.environment(entry),
        "metrics_logged": fields.metrics(entry),
        "checkpoints": _checkpoints(entry),
    }


def _checkpoints(entry: Entry) -> Found:
    found, lines = checkpoints(entry.modules)
    return Found(found, 0.8 if found else 0.5, lines)


def _sureness(best: Candidate) -> float:
    """How sure the entry is: 0.95 for a documented one that scores high, less for less."""
    return round(max(0.2, min(0.95, 0.35 + 0.07 * best.score)), 2)


def _masked(profile: RepoProfile) -> RepoProfile:
    """The profile without anything in its texts that looks like a secret."""

    def clean(value: Json) -> Json:
        if isinstance(value, str):
            return mask(value)
        if isinstance(value, list | tuple):
            return [clean(v) for v in value[:_MAX_ITEMS]]
        if not isinstance(value, dict):
            return value
        cleaned = {k: clean(v) for k, v in value.items()}
        if isinstance(flag := value.get("flag"), str):  # an option's values are secret by the option's name
            cleaned["default"] = mask_json({flag: cleaned.get("default")})[flag]
            if "choices" in cleaned:
                cleaned["choices"] = [mask_json({flag: choice})[flag] for choice in cleaned["choices"]]
        if "line" in cleaned and isinstance(cleaned.get("text"), str):
            cleaned["text"] = cleaned["text"][:300]  # a mask may be longer than what it hides
        return cleaned

    document = profile.model_dump(mode="json")
    cleaned = {k: v if k in ("root", "tree_digest", "git") else clean(v) for k, v in document.items()}
    masked = [c for c in (cleaned["launch_command"], *cleaned["prep_commands"]) if c and MASK in c]
    if masked:
        text = (
            f"a documented command holds a secret, which is left out with its option: `{masked[0][:160]}`; "
            "name it under secrets if the program can take it from its environment (docs/secrets.md)"
        )
        cleaned["hazards"] = [*cleaned["hazards"], Hazard(kind="secret-in-command", text=text).model_dump(mode="json")]
    return RepoProfile.model_validate(cleaned)

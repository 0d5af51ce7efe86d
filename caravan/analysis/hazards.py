"""What a batch job may die of, or leave behind: named by kind, with the lines that say so. Pure: it opens nothing."""

import ast
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from posixpath import isabs
from typing import Final

from caravan.analysis.candidate import Candidate
from caravan.analysis.documents import Documented, stale
from caravan.analysis.findings import Call, Module, source_line
from caravan.analysis.launch import unknown_flags
from caravan.analysis.programs import NATIVE, saves
from caravan.analysis.python import dotted, keyword, text_of, value_of
from caravan.analysis.sources import Sources
from caravan.analysis.walking import walk
from caravan.values.repo import Checkpoints, Hazard, ScriptOption, SourceLine


class HazardKind(StrEnum):
    """The kinds of hazards, as `Hazard.kind` holds them; the graver ones stand first.

    `interactive`: waits for a terminal. `never-ends`: serves, or loops without an end. `login`: logs in to a service
    as it goes. `tracker-account`: reports to a service that wants an account. `hub-push`: publishes what it trains.
    `scheduler`: hands its work to Slurm or Ray itself. `spawns`: starts its processes itself, so no launcher may.
    `needs-root`, `needs-docker`: its commands use sudo or docker. `viewer`: opens a window. `saves-nothing`: nothing
    that it trains is seen to be saved. `required-option`: its parser requires what the command doesn't give.
    `stale-document`: the documentation names what is not there. `absolute-path`: a path of one machine.
    `writes`: writes to a fixed place of its own. `downloads`: fetches as it starts. `secret-in-command`: a
    documented command holds a secret. `trains-elsewhere`: the README says that the training code is somewhere else.
    """

    INTERACTIVE = "interactive"
    NEVER_ENDS = "never-ends"
    LOGIN = "login"
    SCHEDULER = "scheduler"
    SPAWNS = "spawns"
    NEEDS_ROOT = "needs-root"
    NEEDS_DOCKER = "needs-docker"
    SAVES_NOTHING = "saves-nothing"
    TRAINS_ELSEWHERE = "trains-elsewhere"
    STALE_DOCUMENT = "stale-document"
    REQUIRED_OPTION = "required-option"
    TRACKER_ACCOUNT = "tracker-account"
    HUB_PUSH = "hub-push"
    VIEWER = "viewer"
    ABSOLUTE_PATH = "absolute-path"
    SECRET_IN_COMMAND = "secret-in-command"
    WRITES = "writes"
    DOWNLOADS = "downloads"


_Found = tuple[HazardKind, str, SourceLine]
_UNSAVED: Final = "nothing in its code is seen to save what it trains"
_MOST: Final = 30
_LOOKED_AT: Final = 100_000
"""Characters at the front of a document in which its prose is read."""
_PER_KIND: Final = 6
_SHOWN: Final = 3
_DEBUGGERS: Final = frozenset(
    {"breakpoint", "pdb.set_trace", "ipdb.set_trace", "IPython.embed", "embed", "code.interact", "set_trace"}
)
_CONFIRMS: Final = frozenset(
    {"click.confirm", "click.prompt", "typer.confirm", "typer.prompt", "Confirm.ask", "Prompt.ask"}
)
_SERVES: Final = frozenset({"uvicorn.run", "serve_forever", "web.run_app", "run_forever"})
_LOGINS: Final = {
    "huggingface_hub.login": "the model hub",
    "notebook_login": "the model hub",
    "wandb.login": "Weights & Biases",
    "comet_ml.login": "Comet",
    "neptune.init_run": "Neptune",
    "clearml.Task.init": "ClearML",
    "Task.init": "ClearML",
}
_VIEWERS: Final = frozenset(
    {"plt.show", "pyplot.show", "matplotlib.pyplot.show", "cv2.imshow", "cv2.waitKey", "pylab.show"}
)
_DOWNLOADS: Final = frozenset(
    {
        *(
            "urlretrieve",
            "hf_hub_download",
            "snapshot_download",
            "load_dataset",
            "from_pretrained",
            "load_state_dict_from_url",
        ),
        *("gdown.download", "wget.download", "download_url", "download_and_prepare", "cached_path", "get_file"),
    }
)
_WRITES: Final = frozenset({"savefig", "save_weights", "savez", "to_csv", "save_pretrained"})
_SAVES: Final = re.compile(
    r"(?i)save\w*$|dump$|^savez\w*$|checkpoint\w*$|write_(?:model|weights|text|bytes)|to_disk|export\w*$|log_model|push_to_hub|tofile"
)
_SAVING: Final = re.compile(
    r"Trainer\w*$|^(?:Trainer|Learner|ModelCheckpoint|CheckpointManager|Estimator|TPUEstimator)$|Runner$"
)
_STARTS_TRAINING: Final = re.compile(
    r"\b(?:torchrun|accelerate launch|deepspeed|torch\.distributed\.(?:run|launch)|mpirun)\b"
)
_SUBMITS: Final = re.compile(r"^(?:sbatch|srun|qsub|bsub)\b")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MACHINE: Final = re.compile(r"^/(?:home|Users|mnt|scratch|workspace|data|root)/[\w.-]+/")
_LOGIN_SHELL: Final = re.compile(r"(?m)^.*\b(?:huggingface-cli|hf auth|wandb)\s+login\b.*$")
_ROOT_SHELL: Final = re.compile(r"(?m)^[ \t]*(?:\$\s+)?sudo\s.*$")
_DOCKER_SHELL: Final = re.compile(r"(?m)^[ \t]*(?:sudo\s+)?(?:nvidia-)?docker\s+run\b.*$")
_SHELL_LOOP: Final = re.compile(r"(?m)^[ \t]*while\s+(?:true|:|\[\s*1\s*\])\s*;?\s*(?:do)?.*$")
_NOT_HERE: Final = r"not (?:yet )?(?:released|available|included|part)|will be released|coming soon"
_OTHER_PLACE: Final = (
    r"(?:is|are|can be found|lives?) (?:in|at|on) (?:the |our |a )?(?:separate |\[?[\w./-]*\]?\(?https?://)"
)
_ELSEWHERE: Final = re.compile(
    rf"(?i)(?:training|fine-?tuning)\s+(?:code|scripts?)[^.\n]{{0,60}}?(?:{_NOT_HERE}|{_OTHER_PLACE})[^\n]{{0,160}}"
    r"|(?:to|for) (?:train|fine-?tun)\w*[^.\n]{0,80}?(?:see|refer to|use|visit|check out|go to)[^.\n]{0,40}?"
    r"\(?https?://(?:www\.)?github\.com/[^\n]{0,160}"
)


def hazards(
    modules: Sequence[Module],
    best: Candidate,
    used: Documented | None,
    commands: Sequence[Documented],
    sources: Sources,
    options: Sequence[ScriptOption],
    saved: Checkpoints | None = None,
) -> tuple[Hazard, ...]:
    """What a batch job of the chosen entry may die of, and where the documents are wrong; the graver kinds first."""
    found: dict[tuple[HazardKind, str], list[SourceLine]] = {}
    for kind, text, where in _all(modules, best, used, commands, sources, options, saved):
        lines = found.setdefault((kind, text), [])
        if where.file:
            lines.append(where)
    order = {kind: i for i, kind in enumerate(HazardKind)}
    counts: dict[HazardKind, int] = {}
    told: list[Hazard] = []
    for (kind, text), lines in sorted(found.items(), key=lambda item: order[item[0][0]]):
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= _PER_KIND:
            told.append(Hazard(kind=kind.value, text=text, evidence=tuple(dict.fromkeys(lines))[:_SHOWN]))
    return tuple(told[:_MOST])


def _all(
    modules: Sequence[Module],
    best: Candidate,
    used: Documented | None,
    commands: Sequence[Documented],
    sources: Sources,
    options: Sequence[ScriptOption],
    saved: Checkpoints | None,
) -> Iterator[_Found]:
    for module in modules:
        yield from module_hazards(module)
    yield from _unsaved(modules, best, sources, saved)
    yield from _of_command(best, used, sources, options)
    yield from _of_documents(used, commands, sources)


def module_hazards(module: Module) -> Iterator[_Found]:
    """(kind, text, where) of what the code of one module brings with it."""
    for call in module.calls:
        yield from _of_call(call, module)
    yield from _loops(module)
    for text in module.strings:
        if _MACHINE.match(str(text.value)):
            place = module.at(text.lineno)
            yield HazardKind.ABSOLUTE_PATH, f"names a path of one machine: {str(text.value)[:120]}", place


def _of_call(call: Call, module: Module) -> Iterator[_Found]:
    place, name = module.at(call.line), call.name
    if name in ("input", "getpass.getpass", "getpass"):
        yield HazardKind.INTERACTIVE, f"asks at the keyboard ({name})", place
    elif name in _DEBUGGERS:
        yield HazardKind.INTERACTIVE, f"stops in a debugger ({name})", place
    elif name in _CONFIRMS or name.startswith(("questionary.", "inquirer.")):
        yield HazardKind.INTERACTIVE, f"asks for a confirmation ({name})", place
    elif name in _SERVES or call.last == "serve_forever":
        yield HazardKind.NEVER_ENDS, f"serves until it is stopped ({name})", place
    elif name in _LOGINS or (name == "login" and "huggingface_hub" in {i.module for i in module.imports}):
        yield HazardKind.LOGIN, f"logs in to {_LOGINS.get(name, 'the model hub')} ({name})", place
    elif name == "wandb.init":
        told = "needs a Weights & Biases account, or WANDB_MODE=offline"
        yield HazardKind.TRACKER_ACCOUNT, told, place
    elif call.last == "push_to_hub" or value_of(keyword(call.node, "push_to_hub")) is True:
        yield HazardKind.HUB_PUSH, "pushes to the model hub", place
    elif name in _VIEWERS:
        yield HazardKind.VIEWER, f"opens a window ({name})", place
    else:
        yield from _of_processes(call, place)
        yield from _of_files(call, module, place)


def _of_processes(call: Call, place: SourceLine) -> Iterator[_Found]:
    if call.name.endswith(("mp.spawn", "multiprocessing.spawn")) or call.last in (
        "elastic_launch",
        "notebook_launcher",
    ):
        yield HazardKind.SPAWNS, f"starts its own processes ({call.name})", place
    elif call.name.startswith("submitit.") or call.last in ("AutoExecutor", "SlurmExecutor"):
        yield HazardKind.SCHEDULER, f"submits to Slurm itself ({call.name})", place
    elif call.name == "ray.init":
        yield HazardKind.SCHEDULER, "starts or joins a Ray cluster (ray.init)", place
    elif call.name.startswith("subprocess.") or call.name in ("os.system", "Popen", "os.popen", "check_call", "run"):
        words = " ".join(_words(call.node))
        if _SUBMITS.search(words):
            yield HazardKind.SCHEDULER, f"submits to a scheduler itself ({words[:60]})", place
        elif _STARTS_TRAINING.search(words):
            yield HazardKind.SPAWNS, f"starts its own processes ({words[:60]})", place


def _words(node: ast.Call) -> Iterator[str]:
    """The literal words of a call's first argument, a text or a list of texts."""
    first = node.args[0] if node.args else None
    parts = (
        first.elts
        if isinstance(first, ast.List | ast.Tuple)
        else first.values
        if isinstance(first, ast.JoinedStr)
        else [first]
    )
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value.strip()


def _of_files(call: Call, module: Module, place: SourceLine) -> Iterator[_Found]:
    """What is fetched, and what is written to a place that no option moves."""
    first = call.node.args[0] if call.node.args else None
    if call.last in _DOWNLOADS or call.name in _DOWNLOADS or value_of(keyword(call.node, "download")) is True:
        what = text_of(first, module)
        if call.last in ("from_pretrained", "load_dataset"):
            if what and _HUB_ID.fullmatch(what):
                yield HazardKind.DOWNLOADS, f"fetches {what[:80]} from the model hub", place
        else:
            yield HazardKind.DOWNLOADS, f"fetches as it runs ({call.name.lstrip('.')})", place
        return
    target = None
    if call.last == "open":
        mode = text_of(call.node.args[1] if len(call.node.args) > 1 else keyword(call.node, "mode"))
        target = text_of(first) if mode and mode[:1] in "wax" else None
    elif call.name in ("torch.save", "joblib.dump", "paddle.save") and len(call.node.args) > 1:
        target = text_of(call.node.args[1])
    elif call.last in _WRITES or call.name in ("np.save", "numpy.save", "os.makedirs", "os.mkdir"):
        target = text_of(first)
    if target:
        where = "outside of its directory" if isabs(target) or target.startswith(("../", "~")) else "in its directory"
        yield HazardKind.WRITES, f"writes {target[:80]} {where}, whatever its options say", place


def _loops(module: Module) -> Iterator[_Found]:
    """Loops of the module that nothing ends; a generator's is ended by who reads it."""
    for loop in module.whiles:
        if not isinstance(loop.test, ast.Constant) or not loop.test.value:
            continue
        inside = [n for s in loop.body for n in walk(s)]
        ends = (ast.Break, ast.Return, ast.Raise, ast.Yield, ast.YieldFrom)
        exits = ("exit", "sys.exit", "quit", "os._exit")
        if not any(isinstance(n, ends) or (isinstance(n, ast.Call) and dotted(n.func) in exits) for n in inside):
            yield HazardKind.NEVER_ENDS, "loops for ever (while True, without a way out)", module.at(loop.lineno)


def _unsaved(
    modules: Sequence[Module], best: Candidate, sources: Sources, saved: Checkpoints | None
) -> Iterator[_Found]:
    if saved is not None or (not modules and best.python) or any(m.error for m in modules[:1]):
        return
    if modules:
        calls = {c.last for m in modules for c in m.calls}
        if not any(_SAVES.search(c) or _SAVING.search(c) for c in calls):
            yield HazardKind.SAVES_NOTHING, _UNSAVED, SourceLine(file=best.path or "", line=0)
    elif best.path and best.path.endswith(NATIVE) and not saves(sources.text(best.path) or ""):
        yield HazardKind.SAVES_NOTHING, _UNSAVED, SourceLine(file=best.path, line=0)


def _of_command(
    best: Candidate, used: Documented | None, sources: Sources, options: Sequence[ScriptOption]
) -> Iterator[_Found]:
    """What the documented command, and the script in which it stands, bring with them."""
    given = {str(f) for f, _ in used.command.given_flags()} if used else set()
    missing = [o.flag for o in options if o.required and o.flag.startswith("--") and o.flag not in given]
    if missing:
        told = f"the parser requires {', '.join(missing[:6])}"
        yield HazardKind.REQUIRED_OPTION, told, SourceLine(file="", line=0)
    if used is None:
        return
    place = used.command.where
    if best.python and (unknown := unknown_flags(sources, best.python, used)):
        told = f"the documented command uses options that {best.entry_point} doesn't have: {', '.join(unknown[:6])}"
        yield HazardKind.STALE_DOCUMENT, told, place
    if "--push_to_hub" in used.command.args:
        yield HazardKind.HUB_PUSH, "the documented command pushes to the model hub", place
    if used.command.scheduler or place.text.lstrip().startswith(("sbatch", "srun")):
        yield HazardKind.SCHEDULER, "the documented command is meant for Slurm", place
    if re.search(r"\bray\s+(?:job\s+submit|start)\b", place.text):
        yield HazardKind.SCHEDULER, "the documented command is handed to a Ray cluster", place
    if re.match(r"\s*(?:\$\s*)?(?:sudo\s+)?(?:nvidia-)?docker\b", place.text):
        yield HazardKind.NEEDS_DOCKER, "the documented command runs in docker", place
    if used.kind == "script":
        text = sources.text(place.file) or ""
        for kind, told, pattern in (
            (HazardKind.NEVER_ENDS, f"{place.file} starts it again in a loop", _SHELL_LOOP),
            (HazardKind.NEEDS_ROOT, f"{place.file} uses sudo", _ROOT_SHELL),
            (HazardKind.NEEDS_DOCKER, f"{place.file} uses docker", _DOCKER_SHELL),
        ):
            yield from _line(kind, told, pattern, place.file, text)


def _of_documents(used: Documented | None, commands: Sequence[Documented], sources: Sources) -> Iterator[_Found]:
    for old in stale(commands):
        told = f"{old.command.where.file} documents {old.command.target}, which does not exist"
        yield HazardKind.STALE_DOCUMENT, told, old.command.where
    pages = [p for p in (*sources.tails.get("README.md", ()), *sources.tails.get("README.rst", ())) if "/" not in p]
    if used:
        pages += [d.command.where.file for d in (used, used.by) if d and d.command.where.file not in pages]
    for page in pages:
        told = "its documentation asks to log in first"
        yield from _line(HazardKind.LOGIN, told, _LOGIN_SHELL, page, sources.text(page) or "")
    for page in pages[:1]:
        told = f"{page} says that training is done elsewhere"
        yield from _line(HazardKind.TRAINS_ELSEWHERE, told, _ELSEWHERE, page, sources.text(page) or "")


def _line(kind: HazardKind, told: str, pattern: re.Pattern[str], file: str, text: str) -> Iterator[_Found]:
    hit = pattern.search(text, 0, _LOOKED_AT)
    if hit:
        yield kind, told, source_line(file, text.count("\n", 0, hit.start()) + 1, hit[0].strip())

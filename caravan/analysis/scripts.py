"""Python files and notebooks that may train: which are looked at, what in them says so, and who starts them.

Pure, over `Sources` and documented commands. How well one fits the request is judged elsewhere.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename, dirname
from typing import Final

from caravan.analysis.candidate import Candidate
from caravan.analysis.documents import Documented
from caravan.analysis.findings import Module, source_line
from caravan.analysis.notebooks import code_of
from caravan.analysis.options import Parser
from caravan.analysis.prompt import Wishes
from caravan.analysis.python import read_module
from caravan.analysis.sources import Sources
from caravan.analysis.training import adapters, distributed_signs, training_signs
from caravan.analysis.vocabulary import ASIDE, HYPERPARAMETERS, OLD, OTHER_NAME, TRAIN_NAME, plain
from caravan.values.repo import Launcher

MAX_SCANNED: Final = 5000
MAX_TRIED: Final = 100
ALWAYS_TRIED: Final = 40
TRIED_TEXT: Final = 2_000_000
"""Characters after which no more than `ALWAYS_TRIED` files are parsed: the best is nearly always among the first."""
ENOUGH: Final = 1.5
"""Weight of training signs from which a file is taken to train."""
_MOST: Final = 4.0
_FROM_IMPORTS: Final = 0.7
_STARTS: Final = (
    *("__main__", ".backward(", "Trainer", ".fit(", "optimizer", "optimiser", "add_argument", "HfArgumentParser"),
    *("fire.Fire", "import click", "import typer", ".train(", ".learn("),
)
"""Looked for one by one: over all of a repository's code a pattern of them takes several times as long."""
_TEST: Final = re.compile(
    r"(?i)(?:^|/)(?:(?:auto|unit|integration_?)?tests?|testing)/|(?:^|/)(?:test_[^/]*|[^/]*_tests?|conftest)\.py$"
)
_STARTS_ONE: Final = re.compile(r"(?i)(?:^|[._])(?:run_)?(?:train(?:ing)?|fine_?tune|pre_?train)$")
"""A call of something that is named after training, which an imported file may hold."""
_APART: Final = re.compile(r"(?i)(?:^|/)(?:community|research_projects|contrib|experimental|sandbox|playground)/")
_FOREIGN: Final = re.compile(r"(?i)(?:^|/)(?:third_?party|vendor(?:ed)?|external|extern|submodules?|thirdparty)/")
_CONFIGURES: Final = re.compile(r"(?i)(?:^|/)(?:conf|configs?|recipes?/configs?)/")
_SERVES: Final = frozenset(
    {"uvicorn.run", "serve_forever", "app.run", "demo.launch", "iface.launch", "interface.launch"}
)
_SERVERS: Final = frozenset(
    {"flask", "fastapi", "uvicorn", "gradio", "aiohttp", "http", "socketserver", "tornado", "sanic"}
)
_ADAPTS: Final = re.compile(r"(?i)lora|peft|adapter|network_(?:dim|module|alpha)|qlora|(?<![a-z])use_lora")
_REFERENCE: Final = re.compile(r"(?i)^\W*(?:an? |the )?(?:reference|debug\w*|toy|minimal example|deprecated|legacy)\b")
_RUNS: Final = re.compile(
    r"^(?:main|run|train|cli|app|fire\.Fire|tyro\.cli|typer\.run|app\.run|absl\.app\.run|tf\.(?:compat\.v1\.)?app\.run)$"
)


def script_candidates(
    sources: Sources, by_path: Mapping[str, list[Documented]], wishes: Wishes, chosen: str | None
) -> list[Candidate]:
    """The Python files that are worth a look; `chosen` is always among them."""
    tried = _tried(sources, by_path, wishes)
    if chosen is not None and chosen.endswith(".py") and chosen in sources.paths and chosen not in tried:
        tried.append(chosen)
    return [_script(sources, path, by_path.get(path, [])) for path in tried]


def _tried(sources: Sources, by_path: Mapping[str, list[Documented]], wishes: Wishes) -> list[str]:
    """The Python files worth parsing, the likeliest first, judged by name and a quick look at the text."""
    rows = []
    wanted = [w for w in wishes.words if len(w) > 2]
    python = sorted((p for p in sources.paths if p.endswith(".py")), key=lambda p: (p.count("/"), p))
    for path in python[:MAX_SCANNED]:
        text = sources.text(path)
        if text is None:
            continue
        signs = sum(start in text for start in _STARTS)
        named = bool(TRAIN_NAME.search(basename(path)))
        if path in by_path or named or signs:
            likely = 6 * (path in by_path) + 3 * named + signs + 2 * sum(w in path.lower() for w in wanted)
            aside = 4 * bool(ASIDE.search(path)) + 6 * bool(_TEST.search(path)) + 2 * ("__main__" not in text)
            rows.append((-likely + aside + 0.2 * path.count("/"), path, len(text)))
    tried: list[str] = []
    read = 0
    for _, path, size in sorted(rows)[:MAX_TRIED]:
        read += size
        if len(tried) < ALWAYS_TRIED or read <= TRIED_TEXT:
            tried.append(path)
    return tried


def _script(sources: Sources, path: str, used: list[Documented]) -> Candidate:
    module = sources.module(path)
    candidate = Candidate(path, path, _launcher(sources, path, used), used)
    candidate.tool = next((d.command.tool for d in used if d.command.launcher is candidate.launcher), "")
    named = bool(TRAIN_NAME.search(basename(path)))
    speaks = named or any(_STARTS_ONE.search(c.name) for c in module.calls)
    own = signs(candidate, sources, path, speaks)
    weight = sum(w for w, _, _ in sources.signs(module)) + own
    starts = module.main_line is not None or starts_at_top(module)
    parser = sources.parser(path) if weight >= ENOUGH or TRAIN_NAME.match(basename(path)) else None
    hits = _key_options(parser)
    candidate.told = _head(module)
    candidate.makes = frozenset(c.last.lower() for c in module.calls if c.last[:1].isupper() and len(c.last) > 3)
    enough = 1.0 if TRAIN_NAME.match(basename(path)) else ENOUGH
    candidate.trains = (starts or bool(used)) and (weight >= enough or (module.error is not None and named))
    runs = starts or module.runs_at_top is not None
    candidate.says_so = runs and bool(TRAIN_NAME.match(basename(path))) and bool(used or hits)
    if module.error:
        candidate.minus(1.0, f"can't be read: {module.error}")
    documentation(candidate)
    if module.main_line is not None:
        candidate.plus(0.8, "has a main guard", module.at(module.main_line))
    elif starts:
        candidate.plus(0.8, "does its work when it is started", module.at(module.runs_at_top or 0))
    naming(candidate, path)
    _asides(candidate, module)
    flags = " ".join(n for o in parser.options for n in o.names()) if parser else ""
    candidate.adapts = bool(_ADAPTS.search(f"{flags} {path}")) or any(True for _ in adapters(module))
    if parser and hits and candidate.trains:
        candidate.plus(min(1.0, 0.25 * hits), f"has options for {hits} key hyperparameters", parser.options[0].where)
    return candidate


def _head(module: Module) -> str:
    """The words at the front of a file, before its first import."""
    first = min((i.line for i in module.imports if i.module != "__future__"), default=40)
    return "\n".join(module.lines[: min(first, 60)])[:3000] if "icense" not in "".join(module.lines[:3]) else ""


def _asides(candidate: Candidate, module: Module) -> None:
    """What a file does besides, or is: a test, a server."""
    if _TEST.search(module.path):
        candidate.minus(6.0, "is a test")
        candidate.trains = candidate.says_so = False
    elif any(i.module.split(".")[0] == "submitit" for i in module.imports):
        candidate.minus(3.0, "submits to Slurm by itself")
    elif _CONFIGURES.search(module.path) and module.main_line is None:
        candidate.minus(3.0, "is a configuration")
    elif _REFERENCE.match(candidate.told.strip("#\"' \n")):
        candidate.minus(1.0, "calls itself a reference, a toy or old")
    elif any(c.name in _SERVES or c.last == "serve_forever" for c in module.calls) and _serving(module):
        candidate.minus(2.0, "serves and never ends")


def _serving(module: Module) -> bool:
    return bool({i.module.split(".")[0] for i in module.imports} & _SERVERS)


def starts_at_top(module: Module) -> bool:
    """Whether the file does work when it is started, outside of its functions: it calls one, or trains right there."""
    spans = [(n.lineno, n.end_lineno or n.lineno) for n in (*module.functions.values(), *module.classes.values())]

    def outside(line: int) -> bool:
        return not any(a <= line <= b for a, b in spans)

    trains = {where.line for _, _, where in training_signs(module)}
    if any(outside(line) for line in trains):
        return True
    calls = (c for c in module.calls if c.name in module.functions or _RUNS.match(c.name) or c.last in ("run", "Fire"))
    return module.runs_at_top is not None and any(outside(c.line) for c in calls)


def _key_options(parser: Parser | None) -> int:
    """For how many key hyperparameters the parser has options."""
    if parser is None:
        return 0
    known = {plain(n).rsplit(".", 1)[-1] for o in parser.options for n in o.names()}
    return sum(bool(known & set(names)) for names in HYPERPARAMETERS.values())


def signs(candidate: Candidate, sources: Sources, path: str, speaks: bool) -> float:
    """Weigh the signs of training in the file itself and, where it speaks of training, in what it imports.

    The result is the weight of the imported ones; the candidate gets points for both.
    """
    own = sources.signs(sources.module(path))
    weight = sum(w for w, _, _ in own)
    for _, what, where in own:
        candidate.plus(0.0, what, where)
        if what.startswith("makes a "):
            candidate.trainers.append(what.removeprefix("makes a "))
    imported = 0.0
    if weight < 2 and (own or speaks):
        for module in sources.reached(path)[1:]:
            for share, what, where in sources.signs(module):
                if weight + imported < 3:
                    imported += _FROM_IMPORTS * share
                    candidate.plus(0.0, f"{what} in {module.path}", where)
    candidate.score += _weighed(weight + imported)
    return imported


def _weighed(weight: float) -> float:
    """Points for signs of training: what is convincing is worth nearly as much as what is overwhelming."""
    return weight if weight < ENOUGH else min(_MOST, 3.0 + (weight - ENOUGH) / 3)


def documentation(candidate: Candidate) -> None:
    """Points for being documented: where, and how often."""
    used = candidate.commands
    if not used:
        return
    best = max(used, key=lambda d: d.weight)
    files = len({d.command.where.file for d in used})
    candidate.plus(2.5 * best.weight + 0.15 * min(files - 1, 4), "is documented", best.command.where)
    if best.by:
        candidate.plus(0.0, f"{best.by.path} starts it", best.by.command.where)


def naming(candidate: Candidate, path: str) -> None:
    """Points for a name that speaks of training, against one that speaks of something else."""
    name = basename(path)
    if TRAIN_NAME.match(name):
        candidate.plus(1.5, "is named after training")
    elif TRAIN_NAME.search(name):
        candidate.plus(0.8, "its name speaks of training")
    elif OTHER_NAME.match(name):
        candidate.minus(3.0, "is named after something else than training")
    if ASIDE.search(path):
        candidate.minus(4.0, "stands among tests, benchmarks or documentation")
    if _APART.search(path):
        candidate.minus(1.0, "stands apart from what is kept up")
    if _FOREIGN.search(path):
        candidate.minus(3.0, "is somebody else's code")
    if OLD.search(path):
        candidate.minus(3.0, "its path says that it is old")
    candidate.score -= 0.15 * path.count("/")


def notebook_candidates(sources: Sources) -> Iterator[Candidate]:
    """The notebooks whose code trains."""
    for path in sorted(p for p in sources.paths if p.endswith(".ipynb"))[:50]:
        text = sources.text(path)
        code = code_of(text) if text else None
        if code is None:
            sources.note(f"{path} is no notebook that can be read")
            continue
        found = training_signs(read_module(path, code))
        weight = sum(w for w, _, _ in found)
        candidate = Candidate(path, path, Launcher.NOTEBOOK)
        candidate.trains = weight >= ENOUGH
        for points, what, _ in found:
            candidate.plus(min(points, 2.0), what, source_line(path, 0, "in a code cell"))
        candidate.minus(3.0, "a script serves a batch job better than a notebook")
        naming(candidate, path)
        yield candidate


def _launcher(sources: Sources, path: str, used: Sequence[Documented]) -> Launcher:
    """The launcher that most documented commands use, else the one that the code is written for."""
    if used:
        counts: dict[Launcher, float] = defaultdict(float)
        for i, d in enumerate(used):
            counts[d.command.launcher] += d.weight - 0.01 * min(i, 50)
        return max(counts, key=lambda k: counts[k])
    found = {kind for m in sources.reached(path)[:8] for kind, _ in distributed_signs(m)}
    if "spawn" in found:
        return Launcher.PYTHON
    if "deepspeed" in found:
        return Launcher.DEEPSPEED
    if "accelerate" in found:
        return Launcher.ACCELERATE
    return Launcher.TORCHRUN if found & {"ddp", "fsdp"} else Launcher.PYTHON


def entry_folder(candidate: Candidate) -> str:
    """The directory of the candidate's file from the root (`.` for the root itself)."""
    return dirname(candidate.path or "") or "."


def entry_modules(candidate: Candidate, sources: Sources) -> tuple[Module, ...]:
    """The parsed modules that run when the candidate is started, nearest first."""
    if candidate.launcher is Launcher.NOTEBOOK and candidate.path:
        return (read_module(candidate.path, code_of(sources.text(candidate.path) or "") or ""),)
    return sources.reached(candidate.python) if candidate.python else ()

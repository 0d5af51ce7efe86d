"""The profile's fields for a chosen entry: what it trains, with what, by which options. Pure, over what readers found.

Each function gives a `Found`: the value, how sure it is, and the places that say so. Order of trust: the user's
sentence, the documented command, the configuration that it names, the parser's defaults, literals in the code.
"""

import re
from collections.abc import Iterable
from posixpath import basename, splitext
from typing import Final

from caravan.analysis import training
from caravan.analysis.entry import Entry
from caravan.analysis.findings import Found
from caravan.analysis.vocabulary import FRAMEWORKS
from caravan.values.repo import SourceLine

_OVER: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "pytorch",
        (
            *("torchvision", "torchaudio", "torchtext", "torchmetrics", "timm", "spacy", "spacy_transformers", "thinc"),
            *("sentence_transformers", "mmcv", "mmengine", "xformers", "bitsandbytes", "deepspeed", "torch_geometric"),
            *("fastai", "skorch", "stable_baselines3", "pytorch_metric_learning", "kornia"),
        ),
    ),
    ("tensorflow", ("tensorflow_datasets", "tf_agents", "tensorflow_addons", "tensorflow_hub")),
)
"""Packages that stand upon a framework, for code that doesn't import it itself."""


def framework(entry: Entry) -> Found:
    """The framework, by the entry's imports, by what its program is built from, else by what is installed for it."""
    imported = _imported(entry)
    nearest = _nearest_framework(entry)
    if nearest:
        return nearest
    for name, further in _OVER:
        hit = next((imported[p] for p in further if p in imported), None)
        if hit:
            return Found(name, 0.8, (hit,))
    if compiled := _compiled(entry):
        return compiled
    for name, known in (*FRAMEWORKS[:-1], *_OVER):
        if entry.packages & set(known):
            return Found(name, 0.6)
    return Found("numpy", 0.9, (imported["numpy"],)) if "numpy" in imported else Found()


def _nearest_framework(entry: Entry) -> Found | None:
    """What the entry's own module imports, in the table's order; else what most of its modules do.

    Classic learners are imported beside a network's framework for their metrics, so they count last.
    """
    counts: dict[str, tuple[int, SourceLine]] = {}
    for i, module in enumerate(entry.modules):
        lines = {item.module.split(".")[0]: item.line for item in reversed(module.imports) if not item.level}
        for name, packages in FRAMEWORKS[:-1]:
            line = next((lines[p] for p in packages if p in lines), None)
            if line is None:
                continue
            if i == 0 and name != "sklearn":
                return Found(name, 0.95, (module.at(line),))
            number, where = counts.get(name, (0, module.at(line)))
            counts[name] = (number + 1, where)
    best = max(counts, key=lambda n: (n != "sklearn", counts[n][0]), default=None)
    return Found(best, 0.9, (counts[best][1],)) if best else None


def _compiled(entry: Entry) -> Found | None:
    """CUDA or C++ for a program that is built from such a file, named like what the command starts."""
    command = entry.documented.command if entry.documented else None
    words = [command.target, *command.args] if command else []
    for word in words[:6]:
        stem = re.sub(r"\W|_", "", basename(word).lower())
        for path in sorted(entry.paths):
            kind = {".cu": "cuda", ".cpp": "c++", ".cc": "c++", ".c": "c"}.get(splitext(path)[1])
            own = re.sub(r"\W|_", "", basename(path).lower())
            if kind and stem and stem in (own, own.removesuffix(splitext(path)[1][1:])):
                return Found(kind, 0.8, (SourceLine(file=path, line=0),))
    return None


def libraries(entry: Entry, own: Iterable[str], standard: frozenset[str]) -> Found:
    """Packages from elsewhere that the entry's modules import, most used first. `own`: the repository's packages."""
    mine = set(own)
    found = {n: where for n, where in _imported(entry).items() if n not in standard and n not in mine}
    return Found(list(found), 0.9 if found else 0.3, tuple(found.values())[:12])


def _imported(entry: Entry) -> dict[str, SourceLine]:
    found: dict[str, SourceLine] = {}
    for module in entry.modules:
        for item in module.imports:
            name = item.module.split(".")[0]
            if name and not item.level:
                found.setdefault(name, module.at(item.line))
    return found


def metrics(entry: Entry) -> Found:
    """Names of metrics that the entry logs, nearest module first."""
    found: dict[str, SourceLine] = {}
    for module in entry.modules:
        for name, where in training.metrics(module):
            found.setdefault(name, where)
        if any(c.last.endswith("Trainer") for c in module.calls) and "transformers" in _imported(entry):
            for name in ("loss", "learning_rate", "grad_norm"):
                found.setdefault(name, module.at(1))
    return Found(list(found)[:20], 0.7 if found else 0.2, tuple(found.values())[:8])


def environment(entry: Entry) -> Found:
    """Environment variables that the entry's modules can't do without."""
    found: dict[str, SourceLine] = {}
    for module in entry.modules:
        for name, where in training.environment_names(module):
            found.setdefault(name, where)
    return Found(sorted(found), 0.8, tuple(found.values())[:8])

"""The data that a run would use: an id, a file, a folder or a name. Pure, over an `Entry`.

Order of trust: a file or an id in the sentence; what command, configurations, defaults and code say, as far as it fits
the data that the sentence names in words; those words themselves.
"""

import re
from collections.abc import Iterator
from posixpath import basename, normpath
from typing import Final

from caravan.analysis.data_calls import data_calls
from caravan.analysis.entry import UNFILLED, Entry, last
from caravan.analysis.findings import Found, Module
from caravan.analysis.loaded import loads
from caravan.analysis.models import mentioned
from caravan.analysis.subjects import data_names, own_data, shared, short, tokens
from caravan.values.base import Json
from caravan.values.repo import SourceLine

STRONG: Final = (
    *("dataset_name", "dataset", "data_path", "train_file", "train_data", "dataset_path", "train_data_path"),
    *("data_file", "data_files", "train_path", "training_data", "dataset_config", "train_data_dir"),
    *("dataset_id", "instance_data_dir", "training_files", "training_file", "train_filelist"),
    *("train_data_file", "dataset_names", "datasets", "train_dataset", "train_files", "data_root"),
    *("dataset_dir", "mixture_or_task_name", "task_name", "train_dir", "prompt_data", "train_ds", "train"),
    *("image_folder", "data_name", "data_dir", "input_file", "data", "input_data", "i", "path", "root"),
    *("data_set", "env_id", "task", "corpus", "train_datasets", "path_or_dataset_id", "task_list", "tasks"),
)
_LISTED: Final = re.compile(
    r"(?i)(?:^|\.)(?:train_?)?data(?:sets?|_?mixture|_?mixer)?(?:\.\w+)*\.(?:id|path|name|repo_id|dataset_name|hf_path)$"
)
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MADE: Final = re.compile(r"(?i)(?:^|\.)(?:train_?)?(?:data|data_?set)\._(?:component|target)_$")
"""Keys under which a configuration names the class or function that makes the data."""
_NOT_OF_DATA: Final = frozenset(
    {"tokenizer", "checkpointer", "checkpoint", "checkpoints", "model", "teacher", "encoder"}
)
_FILE: Final = re.compile(r"(?i)\.(?:jsonl?|csv|tsv|txt|parquet|arrow|bin|npy|npz|h5|zip|gz|tar|pkl)$")
_NOT_TRAINED_ON: Final = re.compile(
    r"(?i)(?:^|[/_.-])(?:val|valid|validation|test|tests|eval|dev|out|outputs?|results?|logs?|pred\w*|metrics?|https?:)"
    r"(?:[/_.-]|$)"
)
_SETTING: Final = re.compile(r"(?i)config|conf\.|settings|hparams|requirements|license|version|vocab|package|readme")
_NO_DATA: Final = re.compile(
    r"(?i)^(?:none|null|true|false|auto|train|test|validation|custom|dummy|json|-?\d[\d.e-]*|)$"
)


def dataset(entry: Entry, model: str | None = None) -> Found:
    """The data's hub id, path or name; None where nothing says. `model` is what the run starts from, and no data."""
    if entry.wishes.dataset:
        return Found(entry.wishes.dataset, 0.95)
    found = [f for f in _candidates(entry) if f.value != model]
    for phrase in data_names(entry.sentence, entry.sources.own_names() if entry.sources else ()):
        if entry.wishes.model_name and tokens(phrase) == tokens(entry.wishes.model_name):
            continue  # "GRPO on Qwen2.5-7B" is about a model
        fits = [f for f in found if shared(phrase, str(f.value))]
        if fits:
            return max(fits, key=lambda f: (shared(phrase, str(f.value)), f.confidence))
        sure = next((f for f in found if f.value in entry.paths), None)
        return sure or mentioned(entry, phrase, more=True) or Found(phrase, 0.7)
    played = _played(entry, found)
    if played:
        return played
    words = " ".join(sorted(entry.wishes.words))
    fits = [f for f in found if shared(words, str(f.value))]
    if fits and not own_data(entry.sentence):
        return fits[0]
    if own_data(entry.sentence):  # what documents have in its place is an example's
        found = [f for f in found if _HUB_ID.fullmatch(str(f.value)) or str(f.value) in entry.paths]
    return next(iter(found), Found())


def _is_data(path: str, entry: Entry) -> bool:
    """Whether a file that the code opens is data of the repository."""
    file = normpath(path)
    return file in entry.paths - entry.configs.keys() and bool(_FILE.search(path)) and not _SETTING.search(path)


def _played(entry: Entry, found: list[Found]) -> Found | None:
    """The environment of an agent that the sentence names by a word of its id (`PongNoFrameskip-v4`)."""
    if not any(f.value and re.search(r"-v\d+$", str(f.value)) for f in found):
        return None
    for word in re.findall(r"\b[A-Z][A-Za-z]{3,}\b", entry.sentence):
        hit = mentioned(entry, word, more=True, pattern=rf"(?<![\w-])((?:\w+/)?{word}\w*-v\d+)(?!\w)")
        if hit:
            return hit
    return None


def _candidates(entry: Entry) -> Iterator[Found]:
    """All values that may be the data, the most trusted first."""
    for path, values in entry.configs.items():
        for key, value in values.items():
            told = _usable(_first(value), entry) if _LISTED.search(key) and not _of_other(key) else None
            if told:
                yield Found(told, 0.85, (SourceLine(file=path, line=0),))
    elsewhere = {v for c in entry.configs.values() for k, v in c.items() if isinstance(v, str) and _of_other(k)}
    for found in entry.said(STRONG):
        value = _first(found.value)
        told = None if value in elsewhere else _usable(value, entry)
        if told:
            yield Found(told, found.confidence, found.evidence)
    yield from _positional(entry)
    yield from _made(entry)
    for module in (*entry.modules, *_targets(entry)):
        for name, where in data_calls(module):
            yield Found(name, 0.6, (where,))
    yield from _loaded(entry)


def _loaded(entry: Entry) -> Iterator[Found]:
    """What the code loads: data sets, then files of the repository, then tables that it does not hold."""
    found = [(module, row) for module in entry.modules for row in loads(entry, module)]
    for kinds, sure in ((("dataset",), 0.6), (("file", "table"), 0.5)):
        for _, (kind, text, where) in found:
            if kind in kinds and (kind == "dataset" or _is_data(text, entry)):
                yield Found(text, sure, (where,))
    for module, (kind, text, where) in found:
        if kind == "table" and module in entry.modules[:1] and not _NOT_TRAINED_ON.search(text):
            yield Found(text, 0.45, (where,))


def _made(entry: Entry) -> Iterator[Found]:
    """The functions and classes that configurations name to make the data (`dataset._component_`)."""
    for path, values in entry.configs.items():
        made = (v for k, v in values.items() if _MADE.search(k) and isinstance(v, str) and v)
        yield from (Found(v, 0.5, (SourceLine(file=path, line=0),)) for v in made)


def _of_other(key: str) -> bool:
    """Whether a key stands below a tokenizer, a model or the like, whose files are no data."""
    return bool(set(key.lower().split(".")[:-1]) & _NOT_OF_DATA)


def _positional(entry: Entry) -> Iterator[Found]:
    """The paths that the command gives before its first option: `train data-bin/corpus --lr 1e-4`."""
    command = entry.documented.command if entry.documented else None
    for word in command.args if command else ():
        if word.startswith("-"):
            return
        told = _usable(word, entry) if "/" in word and "=" not in word else None
        if told and command and not re.search(r"\.(?:ya?ml|json|toml|cfg|gin|ini)$", told):
            yield Found(told, 0.8, (command.where,))


def _targets(entry: Entry) -> Iterator[Module]:
    """The modules of the repository whose classes its configurations name (`_target_: package.data.Digits`)."""
    if entry.sources is None:
        return
    for values in entry.configs.values():
        for key, value in values.items():
            if last(key) in ("_target_", "class_path", "target") and isinstance(value, str) and "data" in value.lower():
                path = entry.sources.names.get(value.rpartition(".")[0])
                if path:
                    yield entry.sources.module(path)


def _first(value: Json) -> str:
    if isinstance(value, str) and value.startswith(("(", "[")):  # a tuple, as some configurations spell it
        quoted = re.search(r"""["']([^"']+)["']""", value)
        value = quoted[1] if quoted else value
    while isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, str) else ""


def _usable(value: str, entry: Entry) -> str | None:
    """The value as an answer: what follows a place to fill in; None for what names no data."""
    if (
        _NO_DATA.match(value)
        or len(value) > 300
        or value.endswith((".py", ".sh", ".md", ".pt", ".pth", ".ckpt", ".model"))
    ):
        return None
    if re.search(r"[<{}]", value):
        return None
    told = short(value) if re.search(r"(?i)path[_ /]to", value) else value
    told = re.sub(r"^(?:\$\w+/)+", "", told)
    if not told or re.search(r"[$<>{}]|^\[", told) or UNFILLED.fullmatch(told) or not re.search(r"[A-Za-z]", told):
        return None
    generic = re.fullmatch(
        r"(?i)(?:(?:your|my|the)[_ -]?)?(?:data|dataset|train|image|root|input|file|path)s?(?:[_/.-](?:dir|path))?",
        told,
    )
    return None if generic and told not in entry.paths and basename(told) == told else told

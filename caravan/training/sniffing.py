"""What data files of a repository look like from their first bytes: columns, and which formats they may be. Pure.

This chooses a type; whether every row is sound is the data check's.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from posixpath import basename, dirname
from typing import Final, NamedTuple

from caravan.values.base import Json
from caravan.values.training import DataFormat, TrainingType

HEAD: Final = 65_536
"""Bytes of a file that are looked at."""
MOST: Final = 60
"""Files that are looked at."""
_TABLES: Final = re.compile(r"(?i)\.(jsonl|ndjson|json|csv|tsv|parquet)$")
_TEXT: Final = re.compile(r"(?i)\.txt$")
_IMAGE: Final = re.compile(r"(?i)\.(?:jpe?g|png|webp|bmp|tiff?|gif)$")
_NO_DATA: Final = re.compile(
    r"(?i)^(?:package|package-lock|tsconfig|.*config|.*settings?|vocab|tokenizer.*|special_tokens.*|added_tokens|.*schema"
    r"|requirements.*|constraints.*|readme.*|licen[cs]e.*|notice.*|changelog.*|merges|cmakelists|.*index|manifest|robots"
    r"|todo|top_level|sources|model.*|.*results?|.*metrics?|.*hparams?)\.\w+$"
)
_TEXT_DATA: Final = re.compile(r"(?i)(?:^|/)(?:data|datasets?|corpus|corpora|texts?)/|train|corpus")
_HELD_OUT: Final = re.compile(
    r"(?i)(?:^|[^a-z])(?:valid(?:ation)?|val|dev|eval(?:uation)?|test(?:ing)?|held[-_]?out)(?:[^a-z]|$)"
)
_TRAIN: Final = re.compile(r"(?i)(?:^|[^a-z])train(?:ing)?(?:[^a-z]|$)")
_ROLES: Final[dict[DataFormat, tuple[tuple[str, ...], ...]]] = {
    DataFormat.CHAT: (("messages",),),
    DataFormat.INSTRUCTION: (("prompt", "completion"), ("instruction", "output")),
    DataFormat.TEXT: (("text",),),
    DataFormat.CLASSIFICATION: (("text", "label"),),
    DataFormat.PAIRS: (("anchor", "positive"),),
    DataFormat.IMAGES: (("image", "label"),),
}
"""The columns that each format needs, by what they are for; any one of these sets will do."""


class Seen(NamedTuple):
    """A data file or a folder of images. `columns` None: they can't be told from its beginning."""

    path: str
    columns: tuple[str, ...] | None
    held_out: bool = False
    train: bool = False
    images: bool = False


def likely(paths: Iterable[str], *, any_text: bool = False) -> list[str]:
    """The files that may be data, those named after a training first, at most `MOST`.

    `any_text`: a person has said that there are data, so that a text is some wherever it lies, if nothing else is.
    """
    able = [p for p in paths if not no_data(p) and not p.startswith(".")]
    found = [p for p in able if _may_be(p)] or [p for p in able if any_text and _TEXT.search(p)]
    return sorted(found, key=lambda p: (_TRAIN.search(p) is None, p.count("/") == 0, p))[:MOST]


def no_data(path: str) -> bool:
    """Whether a file's name says that it is something else than data: a configuration, a vocabulary, results."""
    return _NO_DATA.match(basename(path)) is not None


def _may_be(path: str) -> bool:
    return bool(_TABLES.search(path)) or bool(_TEXT.search(path) and _TEXT_DATA.search(path))


def look(path: str, head: bytes) -> Seen | None:
    """What a file is by its first bytes; None for one that is no table of rows."""
    columns: tuple[str, ...] | None
    ending = path.rpartition(".")[2].lower()
    if ending == "parquet":
        columns = None
    elif ending == "txt":
        columns = ("text",)
    elif ending in ("csv", "tsv"):
        columns = _header(head, "\t" if ending == "tsv" else ",")
    else:
        columns = _keys(head, one_list=ending == "json")
    if columns == ():
        return None
    held_out = _HELD_OUT.search(path) is not None
    return Seen(path, columns, held_out, _TRAIN.search(path) is not None and not _HELD_OUT.search(basename(path)))


def _keys(head: bytes, *, one_list: bool) -> tuple[str, ...]:
    """The keys of the first row of JSON lines, or of a list of objects; empty for anything else."""
    text = head.decode("utf-8-sig", "replace").lstrip()
    if one_list and text.startswith("["):
        text = text[1:].lstrip()
    elif one_list and "\n" not in text.strip():
        return ()  # one object is a configuration, no rows
    try:
        row, end = json.JSONDecoder().raw_decode(text if one_list else text.partition("\n")[0])
    except (ValueError, RecursionError):
        return ()
    if one_list and not head.lstrip().startswith(b"[") and not text[end:].lstrip().startswith("{"):
        return ()
    return tuple(str(key) for key in row) if isinstance(row, dict) else ()


def _header(head: bytes, separator: str) -> tuple[str, ...]:
    line = head.decode("utf-8-sig", "replace").partition("\n")[0]
    try:
        names = next(csv.reader(io.StringIO(line), delimiter=separator), [])
    except csv.Error:
        return ()
    return tuple(name.strip() for name in names) if all(name.strip() for name in names) else ()


def image_folders(paths: Iterable[str]) -> list[Seen]:
    """Folders with a folder of images for each of two labels or more; one that is above splits is not meant."""
    labels = Counter(dirname(path) for path in paths if _IMAGE.search(path))
    above: dict[str, int] = Counter(dirname(label) for label in labels if label)
    found = [folder for folder, count in above.items() if count > 1]
    return [
        Seen(f or ".", ("image", "label"), _HELD_OUT.search(f) is not None, _TRAIN.search(f) is not None, images=True)
        for f in sorted(found)
    ]


def formats(seen: Seen, found: TrainingType) -> tuple[DataFormat, ...]:
    """The formats of a type that such data may be, in the type's order; all where its columns can't be told."""
    if seen.images:
        return tuple(f for f in found.formats if f is DataFormat.IMAGES)
    if seen.columns is None:
        return tuple(f for f in found.formats if f is not DataFormat.IMAGES)
    names = {name.casefold() for name in seen.columns}
    held = {role for sets in _ROLES.values() for roles in sets for role in roles if _has(role, names, found.columns)}
    return tuple(f for f in found.formats if any(held.issuperset(roles) for roles in _ROLES[f]))


def _has(role: str, names: set[str], columns: Mapping[str, tuple[str, ...]]) -> bool:
    return any(name.casefold() in names for name in (*columns.get(role, ()), role))


def architectures(config: Json) -> str | None:
    """What a model's `config.json` says that it is: causal-lm, encoder or vision; None where that can't be told."""
    if not isinstance(config, dict):
        return None
    named = " ".join(map(str, config.get("architectures") or ())) or str(config.get("model_type") or "")
    if re.search(r"CausalLM|LMHeadModel|(?i:gpt|llama|qwen|mistral|gemma)", named):
        return "causal-lm"
    if re.search(r"(?i)ImageClassification|ViT|Swin|ConvNext|ResNet|DeiT|Dinov2", named):
        return "vision"
    return "encoder" if re.search(r"(?i)Bert|MaskedLM|Electra|MPNet|T5Encoder", named) else None

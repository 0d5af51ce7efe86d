"""Which models, data sets and files an entry's code loads, by whatever names they reach the loading calls.

Pure, over an `Entry`. The calls are the trade's; whether a value is a model's or data's name is not judged here.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from caravan.analysis.entry import Entry
from caravan.analysis.findings import Call, Module
from caravan.analysis.followed import Followed
from caravan.analysis.python import keyword, text_of, value_of
from caravan.values.repo import SourceLine

_NO_MODEL: Final = re.compile(r"Tokenizer|Processor|Config|Scheduler|FeatureExtractor")
_WHOLE_MODELS: Final = frozenset({"SentenceTransformer", "CrossEncoder", "SparseEncoder", "YOLO", "RTDETR"})
"""Classes whose first argument is the trained model that they load."""
_TRAINER: Final = re.compile(r"^(?:SFT|DPO|GRPO|ORPO|KTO|PPO|RLOO|CPO|Reward|GKD|XPO|NashMD|OnlineDPO)Trainer$")
_READS: Final = ("read_csv", "read_parquet", "read_json", "read_excel", "read_table", "loadtxt", "fromfile", "memmap")
_FORMATS: Final = frozenset({"json", "csv", "text", "parquet", "imagefolder", "audiofolder", "arrow", "pandas"})
_FOLDERS: Final = frozenset({"ImageFolder", "DatasetFolder", "flow_from_directory", "image_dataset_from_directory"})


class Loaded(NamedTuple):
    """`kind` is `model`, `dataset`, `file` (opened) or `table` (read as a whole). `value` is the id or path."""

    kind: str
    value: str
    where: SourceLine


def loads(entry: Entry, module: Module) -> tuple[Loaded, ...]:
    """What the module's calls load, in their order."""
    if module.path not in entry.loaded:
        entry.loaded[module.path] = tuple(_loads(entry, module))
    return entry.loaded[module.path]


def _loads(entry: Entry, module: Module) -> Iterator[Loaded]:
    followed = Followed(entry)
    near = module in entry.modules[:1]
    for call in module.calls:
        for kind, node in _given(call, module, followed):
            far = kind in ("file", "table") and not near
            value = text_of(node, module) if far else followed.text(node, module)
            if value:
                yield Loaded(kind, value, module.at(call.line))


def _given(call: Call, module: Module, followed: Followed) -> Iterator[tuple[str, ast.expr | None]]:
    """(kind, the expression that says what is loaded)."""
    first = call.node.args[0] if call.node.args else None
    model = _model(call, module, first)
    if model is not None:
        yield "model", model
    elif call.last in ("load_dataset", "load_dataset_builder"):
        path = first or keyword(call.node, "path")
        if followed.text(path, module) in _FORMATS:
            path = keyword(call.node, "data_files", "data_dir")
            path = _training_part(path) if isinstance(path, ast.Dict) else path
        yield "dataset", path
    elif call.last in _FOLDERS:
        yield "table", first or keyword(call.node, "root", "directory")
    elif call.last in _READS:
        yield "table", first
    elif call.last == "open":
        mode = value_of(call.node.args[1]) if len(call.node.args) > 1 else "r"
        if str(mode or "r").startswith("r"):
            yield "file", first
    elif call.last == "train" and (data := keyword(call.node, "data")) is not None:  # YOLO(...).train(data="x.yaml")
        yield "table", data


def _model(call: Call, module: Module, first: ast.expr | None) -> ast.expr | None:
    """The expression that says which trained model a call loads; None for a call that loads none."""
    node = call.node
    if call.last == "from_pretrained":
        owner = call.name.split(".")[-2] if "." in call.name else ""
        named = first or keyword(node, "pretrained_model_name_or_path", "model_name", "model_id")
        return None if _NO_MODEL.search(owner) else named
    if call.last in _WHOLE_MODELS or _TRAINER.match(call.last):
        return first or keyword(node, "model_name_or_path", "model")
    if call.last == "create_model" and value_of(keyword(node, "pretrained")) is True:
        return first or keyword(node, "model_name")
    return ast.copy_location(ast.Constant(call.last), node) if _of_torchvision(call, module) else None


def _training_part(files: ast.Dict) -> ast.expr | None:
    return next((v for k, v in zip(files.keys, files.values, strict=True) if value_of(k) == "train"), None)


def _of_torchvision(call: Call, module: Module) -> bool:
    """Whether one of torchvision's models is made with its trained weights."""
    if value_of(keyword(call.node, "pretrained")) is not True:
        weights = keyword(call.node, "weights")
        if weights is None or (isinstance(weights, ast.Constant) and not isinstance(weights.value, str)):
            return False
    owner = call.name.rpartition(".")[0]
    if owner in ("models", "torchvision.models", "tv.models"):
        return any(i.module.split(".")[0] == "torchvision" for i in module.imports)
    return any(i.module.startswith("torchvision.models") and call.name in i.bound for i in module.imports)

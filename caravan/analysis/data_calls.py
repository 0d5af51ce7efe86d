"""Data sets that code loads by name: of the hub, tensorflow_datasets, torchvision, Keras, scikit-learn, graphs, games.

Pure, over a parsed module. Names of libraries are the trade's; what a name means is not judged here.
"""

import re
from collections.abc import Iterator
from typing import Final

from caravan.analysis.findings import Call, Module
from caravan.analysis.python import keyword, text_of
from caravan.values.repo import SourceLine

_BUILT_IN: Final = ("torchvision.datasets", "torchtext.datasets", "torchaudio.datasets", "torch_geometric.datasets")
_FURTHER: Final = ("keras.datasets", "sklearn.datasets", "medmnist", "ogb", "dgl.data")
_NO_SET: Final = re.compile(r"(?:Folder|Loader|VisionDataset|Subset|Dataset|FakeData|InMemoryDataset|Lightning\w*)$")
_MAKERS: Final = ("gym.make", "gymnasium.make", "gym.make_vec", "gymnasium.make_vec")


def data_calls(module: Module) -> Iterator[tuple[str, SourceLine]]:
    """(name, where) of data sets that the module loads by a name that stands in its code."""
    bound = _bound(module)
    for call in module.calls:
        name = _named(call, module) or _class(call, bound, module)
        if name and len(name) < 100:
            yield name, module.at(call.line)


def _bound(module: Module) -> dict[str, str]:
    """Name in the module → where a library of data sets has it, for imports from one."""
    found: dict[str, str] = {}
    for item in module.imports:
        if item.names:
            for name in item.names:
                found[name] = f"{item.module}.{name}"
        else:
            found[item.module.split(".")[0]] = item.module.split(".")[0]
    return found


def _named(call: Call, module: Module) -> str | None:
    first = text_of(call.node.args[0] if call.node.args else keyword(call.node, "name"), module)
    if call.name in ("tfds.load", "tfds.builder", "tensorflow_datasets.load", "tensorflow_datasets.builder"):
        return first
    if call.last in ("get_dataset", "load_dataset_builder", "load_from_disk") and first:
        return first
    if call.name in _MAKERS:
        return first
    if call.last == "load_data" and re.search(r"(?:^|\.)datasets\.\w+\.load_data$", call.name):
        return call.name.split(".")[-2]
    match = re.fullmatch(r"(?:fetch|load)_(\w+)", call.last)
    if match and ("datasets." in call.name or _from(call, module, "sklearn.datasets")):
        return match[1]
    return None


def _from(call: Call, module: Module, library: str) -> bool:
    return any(i.module == library and call.name in i.names for i in module.imports)


def _class(call: Call, bound: dict[str, str], module: Module) -> str | None:
    head, _, tail = call.name.partition(".")
    whole = ".".join(filter(None, (bound.get(head, head), tail)))
    parts = whole.split(".")
    if not any(whole.startswith(f"{library}.") for library in (*_BUILT_IN, *_FURTHER)) or not parts[-1][:1].isupper():
        return None
    told = text_of(keyword(call.node, "name"), module)
    if told:
        return told
    return None if _NO_SET.search(parts[-1]) else parts[-1]

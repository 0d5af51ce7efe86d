"""How a model of somebody's is loaded: the lines of Python, by what its files are. Pure; nothing is loaded here.

The classes are those of transformers, peft and sentence-transformers. What a config says is data: it only chooses
among the classes named here, and every name in the lines is quoted.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from caravan.values.base import Json
from caravan.values.registry import ModelVersion

ADAPTER_CONFIG: Final = "adapter_config.json"
CONFIG: Final = "config.json"
_SENTENCES: Final = "modules.json"
_WEIGHTS: Final = r"(?:model|pytorch_model)[\w.-]*\.(?:safetensors|bin)"
"""Names of weights beside config.json, whole or in shards (transformers, `modeling_utils`)."""

_BY_ENDING: Final = {
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSpeechSeq2Seq": "AutoModelForSpeechSeq2Seq",
}
"""Ending of an architecture's name in config.json → transformers' class for its task."""
_BY_TASK: Final = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "FEATURE_EXTRACTION": "AutoModel",
}
"""`task_type` in adapter_config.json (peft's TaskType) → transformers' class for it."""
_BY_TYPE: Final = {
    "sft": "AutoModelForCausalLM",
    "text-classification": "AutoModelForSequenceClassification",
    "image-classification": "AutoModelForImageClassification",
    "embeddings": "AutoModel",
}
"""Training type of a run → the class, where no config was read."""


class Format(NamedTuple):
    """What the files are. `folder`: where among them the model is, empty or ending with a slash."""

    kind: str  # adapter, model, sentences, or empty
    folder: str


class Loading(NamedTuple):
    """Lines of Python, the packages that they need, and for an adapter the lines that merge it into its base."""

    lines: tuple[str, ...]
    packages: tuple[str, ...] = ()
    merge: tuple[str, ...] = ()


def format_of(names: Sequence[str], kind: str = "") -> Format:
    """What the files with these names are: the outermost folder that holds a model. `kind` is what is known else.

    A config.json alone is anybody's: beside it there must be weights as transformers names them.
    """
    weights = {n[: n.rfind("/") + 1] for n in names if re.fullmatch(_WEIGHTS, n[n.rfind("/") + 1 :])}
    for config, found in ((ADAPTER_CONFIG, "adapter"), (_SENTENCES, "sentences"), (CONFIG, "model")):
        folders = [n.removesuffix(config) for n in names if n == config or n.endswith(f"/{config}")]
        if found == "model":
            folders = [folder for folder in folders if folder in weights]
        if folders:
            return Format(found, min(folders, key=lambda folder: (folder.count("/"), folder)))
    return Format(kind, "")


def loading(
    model: ModelVersion,
    place: str,
    *,
    config: Mapping[str, Json] | None = None,
    adapter: Mapping[str, Json] | None = None,
    trained: str | None = None,
    names: Sequence[str] = (),
) -> Loading:
    """How the model is loaded whose files are in the folder `place`.

    `config` and `adapter` are its config.json and adapter_config.json where they were read, `trained` is the training
    type of its run where that is known. `names` are its files where they were not registered.
    """
    names = [file.path for file in model.files.files] or names
    found = format_of(names, model.kind)
    where = _quoted(f"{place.rstrip('/')}/{found.folder}".rstrip("/"))
    if found.kind == "sentences":
        lines = ("from sentence_transformers import SentenceTransformer", "", f"model = SentenceTransformer({where})")
        return Loading(lines, ("sentence-transformers",))
    auto, sure = _class_of(config, adapter, trained)
    pictures = auto == "AutoModelForImageClassification"
    words = "AutoImageProcessor" if pictures else "AutoTokenizer"
    second = f"{'processor' if pictures else 'tokenizer'} = {words}.from_pretrained({where})"
    doubt = () if sure else (f"# {auto} is the likeliest class; its config.json says which one it is.",)
    if found.kind == "adapter":
        return _adapter(model, where, auto, words, second, doubt, labels=f"{found.folder}{CONFIG}" in names)
    if found.kind == "model":
        lines = (f"from transformers import {auto}, {words}", "", *doubt)
        return Loading((*lines, f'model = {auto}.from_pretrained({where}, dtype="auto")', second), ("transformers",))
    return Loading(("# Its files are in no format that Caravan knows: load them as the program that wrote them does.",))


def _adapter(
    model: ModelVersion, where: str, auto: str, words: str, second: str, doubt: tuple[str, ...], *, labels: bool
) -> Loading:
    base = _quoted(model.base_model or "the model that it was trained from")
    names = sorted({auto, words, *(("AutoConfig",) if labels else ())})
    lines = ["from peft import PeftModel", f"from transformers import {', '.join(names)}", "", *doubt]
    if labels:  # a config beside an adapter names the labels, and the head comes with the adapter
        lines.append(f"config = AutoConfig.from_pretrained({where})")
        lines.append(f"base = {auto}.from_pretrained(")
        lines.append(f'    {base}, config=config, ignore_mismatched_sizes=True, dtype="auto"')
        lines.append(")")
    else:
        lines.append(f'base = {auto}.from_pretrained({base}, dtype="auto")')
    lines += [f"model = PeftModel.from_pretrained(base, {where})", second]
    merge = (
        "merged = model.merge_and_unload()",
        'merged.save_pretrained("merged")',
        f'{second.partition(" = ")[0]}.save_pretrained("merged")',
    )
    return Loading(tuple(lines), ("transformers", "peft"), merge)


def _class_of(
    config: Mapping[str, Json] | None, adapter: Mapping[str, Json] | None, trained: str | None
) -> tuple[str, bool]:
    """transformers' class, and whether a config or the training says so."""
    architectures = (config or {}).get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    if isinstance(name, str):
        ending = next((e for e in _BY_ENDING if name.endswith(e)), None)
        return (_BY_ENDING[ending], True) if ending else ("AutoModel", name.endswith("Model"))
    task = (adapter or {}).get("task_type")
    if isinstance(task, str) and task in _BY_TASK:
        return _BY_TASK[task], True
    if trained in _BY_TYPE:
        return _BY_TYPE[trained], True
    return "AutoModelForCausalLM", False


def _quoted(text: str) -> str:
    """A text as Python's source has it, on one line whatever is in it."""
    if text.isprintable():
        return json.dumps(text, ensure_ascii=False)
    inner = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{inner}"'

"""What the user's sentence says: model, data, number of GPUs, method. Data for the ranking, never an instruction."""

import re
from dataclasses import dataclass
from typing import Final

from caravan.analysis.gpus_asked import gpus_asked
from caravan.analysis.subjects import looks_like_model, model_names

_HUB_ID: Final = re.compile(r"(?<![\w./~-])([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\w)(?![\w/])")
_FILE: Final = re.compile(
    r"(?<![\w/])((?:\.{0,2}/)?[\w./-]*\w\.(?:jsonl?|csv|tsv|txt|parquet|arrow|ya?ml|toml|bin|zip))\b"
)
_FOLDERS: Final = (
    "data",
    "dataset",
    "datasets",
    "images",
    "train",
    "assets",
    "input",
    "inputs",
    "photos",
    "corpus",
    "raw",
)
_FOLDER: Final = re.compile(
    rf"(?<![\w/])(\.{{1,2}}/[\w./-]*\w|~?/(?:[\w.-]+/)+[\w.-]*\w|(?:{'|'.join(_FOLDERS)})/[\w./-]*)"
)
_METHODS: Final = (
    ("qlora", r"q-?lora|4-?bit"),
    ("lora", r"lora|(?<![-\w])adapters?\b"),
    ("p-tuning-v2", r"p-?tuning[- ]?v2"),
    ("p-tuning", r"p-?tuning"),
    ("prefix-tuning", r"prefix[- ]tuning"),
    ("prompt-tuning", r"(?:soft[- ])?prompt[- ]tuning"),
    ("dpo", r"dpo"),
    ("grpo", r"grpo"),
    ("full", r"full(?:[ -]parameter)?[ -]fine-?tun\w*|full finetune"),
    ("pretrain", r"pre-?train(?:ing)?\b|from scratch"),
)
_STAGES: Final = tuple(
    (rf"\b(?:{first}|{number}(?:st|nd|rd))[- ](?:stage|phase)\b|\bstage[-_ ]?(?:{number}|{one})\b", number)
    for number, first, one in (("1", "first", "one"), ("2", "second", "two"), ("3", "third", "three"))
)
"""How requests name a stage of a training that files call `stage2`."""
_VERSION: Final = re.compile(r"([a-z]{2,})[-_ ]?(\d{1,2}[._]\d)(?!\d)|([a-z]{3,}-\d)(?![\d.a-z])")
_STOP: Final = frozenset(
    (
        *(
            "the",
            "and",
            "for",
            "with",
            "this",
            "that",
            "from",
            "into",
            "using",
            "use",
            "my",
            "our",
            "your",
            "one",
            "two",
        ),
        *("its", "data", "dataset", "model", "models", "train", "training", "tune", "fine", "finetune", "finetuning"),
        *(
            "repo",
            "repository",
            "code",
            "example",
            "examples",
            "run",
            "please",
            "want",
            "starting",
            "gpu",
            "gpus",
            "node",
        ),
        *("on", "in", "of", "to", "it", "all", "at", "by", "small", "own", "python", "script", "scripts", "epochs"),
        *("epoch", "steps", "py", "sh", "src", "md", "machine", "is", "are", "be", "so", "then", "only", "just", "how"),
        *(
            "can",
            "we",
            "me",
            "some",
            "few",
            "new",
            "local",
            "file",
            "files",
            "folder",
            "start",
            "started",
            "base",
            "an",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the sentence says.

    `model` is a hub id; `model_name` a bare name (`Qwen3-8B`), which only helps to choose among ids that are found.
    `text` is the sentence itself. `words` are the words that may name a script, an example or a configuration.
    """

    model: str | None = None
    model_name: str | None = None
    dataset: str | None = None
    gpus: int | None = None
    method: str | None = None
    words: frozenset[str] = frozenset()
    text: str = ""


def read_prompt(prompt: str) -> Wishes:
    """The wishes in a sentence (its first 4,000 characters). Never raises; what is not said is None."""
    text = prompt[:4000]
    files = [m[1] for m in _FILE.finditer(text)]
    ids = [m[1] for m in _HUB_ID.finditer(text) if m[1] not in files and not _is_folder(text, m)]
    folders = [m[1] for m in _FOLDER.finditer(text)]
    others = [f for f in folders if not looks_like_model(f.rstrip("/").rpartition("/")[2])]
    dataset = files[0] if files else next(iter(others or folders), None)
    after_on = re.search(r"(?i)\bon (?:the )?([A-Za-z0-9][\w.-]*/[\w.-]+)", text)
    if dataset is None and after_on and after_on[1] in ids:
        dataset = after_on[1]
    model = next((i for i in ids if i != dataset), None)
    method = next((m for m, pattern in _METHODS if re.search(rf"(?i)\b(?:{pattern})", text)), None)
    return Wishes(model, next(iter(model_names(text)), None), dataset, gpus_asked(text), method, words_of(text), text)


def _is_folder(text: str, found: re.Match[str]) -> bool:
    """Whether `a/b` in a sentence is a folder of the user's and no id of the hub."""
    before = re.search(r"(?i)\b(?:in|under|inside|folder|directory|dir)\s+$", text[: found.start()])
    return bool(before) or found[1].partition("/")[0].lower() in _FOLDERS


def words_of(text: str) -> frozenset[str]:
    """The telling words of a sentence or a path, in lower case; a version (`Llama-3.1`, `v2_5`) also stays whole."""
    plain = re.sub(r"(?i)fine[-_ ]?tun(?:e|ing)", "finetune", text).lower()
    plain = re.sub(r"pre[-_ ]train", "pretrain", plain)
    found = re.findall(r"[a-z][a-z0-9]+|\d+(?:\.\d+)?[bm]\b", plain)
    versions = (f"{n}{v.replace('_', '.')}" or w.replace("-", "") for n, v, w in _VERSION.findall(plain))
    stages = (f"stage{number}" for named, number in _STAGES if re.search(named, plain))
    return frozenset(w for w in (*found, *versions, *stages) if len(w) > 1 and w not in _STOP)

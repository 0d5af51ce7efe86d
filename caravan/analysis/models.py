"""The base model that a run would start from: an id, a file or a name, or nothing when it is trained from nothing.

Order of trust: an id in the sentence; what command, configurations, defaults and code say, as far as it fits the model
that the sentence names in words; that name itself. Pure, over an `Entry`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from posixpath import basename
from typing import Final

from caravan.analysis.configs import ENDINGS
from caravan.analysis.entry import UNFILLED, Entry
from caravan.analysis.findings import Found
from caravan.analysis.loaded import loads
from caravan.analysis.siblings import starts_from, stem
from caravan.analysis.subjects import (
    closeness,
    data_names,
    from_nothing,
    is_trained,
    looks_like_model,
    means,
    model_names,
    repeats,
    rewards,
    short,
    start_of_repeated,
    tokens,
    tunes,
)
from caravan.values.repo import SourceLine

STRONG: Final = (
    *("model_name_or_path", "base_model", "pretrained_model_name_or_path", "model_name", "model_id"),
    *("base_model_name", "pretrained_model", "model_path", "pretrained_path", "pretrained_checkpoint"),
    *("pretrain", "init_checkpoint", "initial_checkpoint_path", "initial_checkpoint", "init_from"),
    *("init_weights", "load_from", "model_name_or_dir", "pretrained_weights", "pretrained_dir"),
    *("checkpoint_path", "load_parameters_path", "hf_model", "hf_path", "load_checkpoint", "base_model_path"),
    *("resume_path", "model_id_or_path", "hf_model_path", "pretrained_model_path", "restore_file"),
    *("bert_model", "init_model_path"),
)
WEAK: Final = ("checkpoint", "weights", "pretrained", "finetune", "init", "ckpt", "model", "name", "resume", "load")
_WEIGHTS: Final = re.compile(r"(?i)\.(?:pt|pth|ckpt|safetensors|bin|h5|npz|pkl|msgpack|nemo|onnx|gguf|t7|caffemodel)$")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ADDRESS: Final = re.compile(r"^(?:https?|gs|s3|hf|detectron2|torchvision|open-mmlab|mmcls|ngc|timm)://\S+")
_OF_RESUMING: Final = re.compile(r"(?i)^(?:checkpoint|ckpt|model)?[_-]?(?:last|latest)\.\w+$")
"""The file that a run that goes on finds among its own, as options have it for their default."""
_NOTHING: Final = re.compile(r"(?i)^(?:scratch|random|none|null|resume|from[_ -]scratch|false|true|auto|)$")
_DIFFUSION: Final = "stable[-_. ,]{0,2}v?diffusion"
_EXTRA: Final = frozenset(("hf", "ckpt", "safetensors", "pth", "pt", "full", "ema", "emaonly", "pruned"))
_MODEL_FILE: Final = re.compile(r"(?<![\w/])((?:\.{0,2}/)?[\w./-]*\w\.(?:pt|pth|ckpt|safetensors|h5|npz|pkl))(?!\w)")
_ENDING: Final = r"(?i)\.(?:zip|tar|tgz|gz|md|py|sh|png|jpg|html?|log)$|\.tar\.gz$"
_MAX_CALLED: Final = 50
_MAX_SEARCHED: Final = 4_000_000


def base_model(entry: Entry) -> Found:
    """The base model's hub id, path or name; None when it is trained from nothing, as far as the files say."""
    sentence = entry.sentence
    if entry.wishes.model and not from_nothing(sentence):
        return Found(entry.wishes.model, 0.95)
    files = _MODEL_FILE.findall(sentence)
    if files:
        return Found(files[0], 0.9)
    if from_nothing(sentence):
        return Found(None, 0.8)
    found = list(_candidates(entry))
    names = _names(entry)
    if names:
        named = _named(entry, names[0], found)
        if named:
            return named
    if any(_NOTHING.match(str(f.value)) and last_word(f) for f in entry.said(("init_from",))[:1]):
        return Found(None, 0.8)
    return next(iter(found), Found())


def last_word(found: Found) -> bool:
    """Whether the value says that training starts from nothing (`scratch`), and not only that nothing is set."""
    return str(found.value).lower() in ("scratch", "random", "from_scratch")


def _names(entry: Entry) -> list[str]:
    own = set(entry.sources.own_names() if entry.sources else ())
    data = {d.lower() for d in data_names(entry.sentence, own)}
    return [n for n in model_names(entry.sentence, own) if not any(n.lower() in d or d in n.lower() for d in data)]


def _named(entry: Entry, name: str, found: list[Found]) -> Found | None:
    """What the files call the model that the sentence names; its name as it stands where they know no such model."""
    fits = [f for f in found if means(name, short(str(f.value)))]
    if fits:
        return max(fits, key=lambda f: (f.confidence, closeness(name, short(str(f.value)))))
    goes_on = tunes(entry.sentence) or rewards(entry.sentence) or bool(start_of_repeated(entry.sentence))
    goes_on |= bool(found) and is_trained(name)  # another model is what the run would start from
    if not goes_on or repeats(entry.sentence):
        return None
    if len(tokens(name)) < 2 and found:
        return None
    told = mentioned(entry, name)
    if told and _HUB_ID.fullmatch(str(told.value)):
        return told
    if name.islower() and told and str(told.value).lower() == name:  # `roberta-base`, which prose calls RoBERTa-base
        told = Found(name, told.confidence, told.evidence)
    return _called_after(entry, name) or told or Found(re.sub(r"\s+", "-", name), 0.7)


def _called_after(entry: Entry, name: str) -> Found | None:
    """The one model that the configurations which are called after the named one start from."""
    sources = entry.sources
    if sources is None:
        return None
    said: dict[str, str] = {}
    for path in sorted(p for p in sources.paths if p.endswith(ENDINGS) and means(name, stem(p)))[:_MAX_CALLED]:
        model = starts_from(path, sources)
        if model and means(name, model):
            said.setdefault(model, path)
    found = [Found(model, 0.75, (SourceLine(file=path, line=0),)) for model, path in said.items()]
    return found[0] if len(found) == 1 else None


def _candidates(entry: Entry) -> Iterator[Found]:
    """All values that may be the base model, the most trusted first."""
    for found in entry.said(STRONG):
        if _is_model(found, entry, bare=True):
            yield Found(_told(found), found.confidence, found.evidence)
    bare = tunes(entry.sentence)
    for found in entry.said(WEAK):
        if _is_model(found, entry, bare=bare):
            yield Found(_told(found), found.confidence - 0.1, found.evidence)
    near = entry.modules[:1]
    for module in entry.modules:
        for kind, value, where in loads(entry, module):
            if kind == "model" and _is_model(Found(value), entry, bare=True):
                sure = 0.6 if module in near or bare else 0.4
                if sure > 0.5 or entry.launcher.value == "notebook":
                    yield Found(value, sure, (where,))


def _told(found: Found) -> str:
    value = str(found.value)
    return value if _ADDRESS.match(value) or _HUB_ID.fullmatch(value) else short(value).rstrip("/")


def _is_model(found: Found, entry: Entry, *, bare: bool) -> bool:
    """Whether the value names a model. `bare`: a name without an owner (`bert-base-uncased`) counts too."""
    value = found.value
    if not isinstance(value, str) or _NOTHING.match(value) or len(value) > 300:
        return False
    if _ADDRESS.match(value):
        return True
    if UNFILLED.search(value):
        told = short(value)
        return bool(told) and told != value and not UNFILLED.search(told) and looks_like_model(basename(told))
    if _WEIGHTS.search(value):
        return not _OF_RESUMING.search(value)
    if _HUB_ID.fullmatch(value):
        return value not in entry.paths and not value.startswith(
            ("data/", "output", "checkpoints/", "configs/", "conf")
        )
    if "/" in value:
        return value in entry.paths or looks_like_model(basename(short(value)))
    return bare and looks_like_model(value)


def mentioned(entry: Entry, name: str, *, more: bool = False, pattern: str = "") -> Found | None:
    """The id that the repository's texts use for what the sentence names.

    A variant (`-instruct`) is another model and left out, but with `more` anything may follow the name.
    """
    sources = entry.sources
    if sources is None:
        return None
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) if more else name
    parts = [re.escape(t) for t in tokens(apart)]
    if more:
        parts = [p.removesuffix("s") + "s?" if len(p) > 3 else p for p in parts]
    words = "[-_. ,]{0,2}v?".join(parts).replace(_DIFFUSION, f"(?:{_DIFFUSION}|sd)")
    end = "" if more else "/"
    shape = re.compile(pattern or rf"(?i)(?<![\w.-])((?:[\w.-]+/)*v?{words}(?:[-_.]\w+)*)(?![\w{end}])")
    asked = set(tokens(name))
    seen: Counter[str] = Counter()
    places: dict[str, SourceLine] = {}
    read = 0
    for path in sources.texts_near(entry.modules[0].path if entry.modules else ""):
        text = sources.text(path) or ""
        read += len(text)
        if read > _MAX_SEARCHED:
            break
        for match in shape.finditer(text):
            value = short(re.sub(_ENDING, "", match[1]))
            extra = [t for t in tokens(value.rpartition("/")[2]) if t not in asked]
            if " " in value or "," in value or (not more and any(not t.isdigit() and t not in _EXTRA for t in extra)):
                continue
            seen[value] += 1
            if value not in places:
                places[value] = SourceLine(file=path, line=text.count("\n", 0, match.start()) + 1)

    def score(value: str) -> float:
        other = bool(re.search(r"(?i)(?:^|[_-])(?:val|valid|test|eval)", value))
        named = bool(_HUB_ID.fullmatch(value))
        return (
            closeness(name, value)
            + 0.5 * named
            + 0.2 * (value.rpartition("/")[2].lower() == name.lower())
            - 0.3 * other
            + 0.1 * min(seen[value], 5)
            - 0.2 * value.count("/")
        )

    best = max(seen, key=score, default=None)
    return Found(best, 0.8, (places[best],)) if best else None

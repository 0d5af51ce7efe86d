"""Models and data that a user's sentence names in words, and which ids and paths of a repository those words mean.

Pure, over texts. The families of models and the shapes of their names are those of the trade; no repository's own name
is known here.
"""

import re
from collections.abc import Iterable
from posixpath import basename
from typing import Final

_FAMILIES: Final = (
    r"(?:tiny|open|code)?llama|vicuna|qwen|mistral|mixtral|gemma|phi|gpt(?:-?(?:j|neox?))?|deepseek|falcon|pythia|bloomz?"
    r"|opt|mpt|yi|smollm|olmo|granite|(?:distil|modern|al|de|ro|m|sci|bio)?bert[a]?|electra|xlnet|xlm|bart|m?t5|flan|pegasus"
    r"|minilm|mpnet|yolo|(?:res|resnext|efficient|convnext|mobile|dense|vgg|regnet|inception)(?:net)?(?=[\d v_-]|\b)"
    r"|vit|clip|siglip|(?:mask|faster|cascade)[- ]?r-?cnn|retinanet|u-?net|stable[- ]diffusion|sdxl|sd|flux"
    r"|whisper|wav2vec|hubert"
)
_TAIL: Final = (
    r"v?\d+(?:\.\d+)*[bm]?|tiny|mini|nano|small|base|medium|large|huge|xl|xxl|turbo|instruct|chat"
    r"|uncased|cased|dev|schnell"
)
_NO_PART: Final = r"fine|pre|self|re|non|no|co|lo|q|full|single|multi|level|based|style|like|to|the|of|and|or|on"
"""Words before a dash that are no part of a model's name, as `chinese` is of `chinese-llama`."""
_FAMILY: Final = re.compile(
    rf"(?i)(?<![\w/.-])((?:(?!(?:{_NO_PART})-)[a-z]+-){{0,2}}(?:{_FAMILIES})[\w.]*(?:[-/][\w.]+)*"
    rf"(?: (?:{_TAIL})(?:-[\w.]+)*(?![\w/]))*)"
)
_SIZED: Final = re.compile(r"(?<![\w/.-])([A-Z][A-Za-z]\w*(?:[-.][\w.]+)*-\d+(?:\.\d+)?[bBM](?:-\w+)*)(?![\w/])")
_AFTER_VERB: Final = re.compile(
    rf"(?:[Ff]ine-?\s?[Tt]un(?:e|ing)(?: of)?|[Aa]dapt|[Aa]lign|[Tt]une)\s+(?:the |an? )?"
    rf"(?!(?:Lo|QLo|DP|GRP|PP|RL|SF)[A-Z]|The |My |All )"
    rf"([A-Za-z]*[A-Z][\w.]*(?:-[\w.]+)*(?: (?i:{_TAIL})(?:-[\w.]+)*(?![\w/]))*)(?![\w/])"
)
_FROM: Final = re.compile(
    r"(?i)\b(?:(?:start|initiali[sz]|warm[- ]start)\w* (?:from|with)|from|based on|into|on top of)\s+(?:the )?$"
)
_DISTILL: Final = re.compile(r"(?i)\bdistil")
_TUNES: Final = re.compile(
    r"(?i)fine-?\s?tun|\btun(?:e|ing)\b|lora\b|\bsft\b|instruct(?:ion)?[- ]tun|distill"
    r"|\bdpo\b|\bgrpo\b|\borpo\b"
    r"|\brlhf\b|starting from|(?:from|of) (?:a |the )?(?:pre-?trained|checkpoint)|dreambooth|textual inversion|continue"
    r"|\badapt\b|align|personali[sz]|reward model|checkpoint|\bpost-?train"
)
_SCRATCH: Final = re.compile(
    r"(?i)from scratch|\bpre-?train(?:ing)?\b(?! model)|from (?:random|nothing)|randomly initiali[sz]ed"
)
_REWARDS: Final = re.compile(r"(?i)\b(?:ppo|grpo|dpo|rlhf|rloo|reinforce|rl|dapo|orpo|kto)\b")
_TRAINED: Final = re.compile(r"(?i)-(?:base|large|uncased|cased|instruct|chat|hf|it)(?:-|$)|-\d+(?:\.\d+)?b(?:-|$)")
_AGAIN: Final = re.compile(r"(?i)\breproduc|\breplicat")
_GOES_ON: Final = re.compile(r"(?i)contin\w+ (?:the )?pre-?train|from (?:a |the )?(?:pre-?trained|checkpoint)")

_DATA_STOP: Final = re.compile(
    r"(?i)[,;:()\"]|\.(?=\s|$)|\s(?:with|using|on|for|from|at|in|by|and|to|via|starting|instead|so|then|but|as|under|over"
    r"|into|of|until|while|through|across|when|where|that|which)\b"
)
_DATA_AFTER: Final = re.compile(r"(?i)\b(?:on|over|using|with|for|the)\s+(?=\S)")
_NO_DATA: Final = re.compile(
    r"(?i)\bgpus?\b|\b(?:[ABHL]\d{2,3}|V100|T4|RTX)s?\b|\b(?:gpu|cpu|node|machine|cluster|tpu|slurm|epochs?|steps|hours?|laptop|server)s?\b"
)
_DATA_WORD: Final = re.compile(
    r"(?i)\s*\b(?:data ?sets?|data|corpus|corpora|task|benchmark|images?|examples|split)\b\s*$"
)
_ARTICLES: Final = re.compile(
    r"(?i)^(?:(?:the|a|an|its|their|this|that|standard|full|small|cleaned|original|public)\s+)+"
)
_PART_OF: Final = re.compile(r"(?i)^(?:the )?[\w -]{0,30}\b(?:part|split|subset|portion|half|version) of (?:the )?")
_CALLED: Final = re.compile(r"(?i)\b(?:corpus|dataset|data|folder)(?: (?:in|from|called|named))? (\w+_\w+)(?![\w/])")
_OWN: Final = re.compile(r"(?i)\b(?:my|our|own|custom)\b")
_OWN_DATA: Final = re.compile(
    r"(?i)\b(?:my|our|own|custom)\b[\w ,-]{0,60}"
    r"\b(?:data\w*|images?|photos?|corpus|texts?|files?|audio|recordings?|pairs|conversations?)\b"
)
_SHORT: Final = {"sd": ("stable", "diffusion"), "sdxl": ("stable", "diffusion", "xl")}
_STEM: Final = 8
_NUMBER: Final = re.compile(r"^\d+$")
_DULL: Final = frozenset(
    [
        "data",
        "dataset",
        "datasets",
        "train",
        "training",
        "test",
        "eval",
        "valid",
        "validation",
        "json",
        "jsonl",
        "csv",
        "txt",
        "the",
        "of",
        "v",
        "hf",
        "my",
        "own",
        "file",
        "files",
        "path",
        "to",
        "model",
        "models",
        "en",
        "corpus",
        "sft",
        "instruct",
        "small",
        "tiny",
        "large",
        "base",
        "my_data",
        "input",
        "main",
        "raw",
    ]
)


def tokens(name: str) -> tuple[str, ...]:
    """The parts of a name that tell it from others: letters, numbers, sizes (`7b`); a lone `v` says nothing.

    `Phi-1.5-mini`, `phi-v1.5-mini` and `phi_1_5_mini` have the same ones.
    """
    found = re.findall(r"\d+[bmk](?![a-z0-9])|\d+|[a-z]+", name.lower())
    return tuple(part for t in found if t != "v" for part in _SHORT.get(t, (t,)))


def means(words: str, name: str) -> bool:
    """Whether an id or a path may be what the words call a model: one of its parts has all of their tokens."""
    asked = set(tokens(words))
    return bool(asked) and any(asked <= set(tokens(part)) for part in name.split("/"))


def closeness(words: str, name: str) -> float:
    """How well a name fits words: the share of tokens that both have, less for what the name adds. 0 to 1."""
    asked = set(tokens(words))
    parts = [set(tokens(part)) for part in name.split("/")]
    return max((len(asked & has) / len(asked | has) for has in parts if has), default=0.0)


def shared(words: str, name: str) -> int:
    """How many telling tokens (no numbers, no words that every path has) the words and a whole path share."""
    telling = {t for t in tokens(words) if not _NUMBER.match(t) and t not in _DULL and len(t) > 1}
    telling |= {w for w in re.findall(r"[a-z]\w{2,}", words.lower()) if w not in _DULL}
    squashed = "".join(tokens(name))
    own = {*tokens(name), *re.findall(r"[a-z0-9]+", name.lower())}
    # The stem of a long word stands for it: what is called advertising is data of advertisements.
    return sum(t in own or (len(t) > 3 and t[: _STEM if len(t) > _STEM else None] in squashed) for t in telling)


def tunes(sentence: str) -> bool:
    """Whether the sentence asks to go on from a trained model."""
    return bool(_TUNES.search(sentence)) and not (_SCRATCH.search(sentence) and not _GOES_ON.search(sentence))


def from_nothing(sentence: str) -> bool:
    """Whether the sentence asks to train a model from nothing."""
    again = bool(_AGAIN.search(sentence)) and not _TUNES.search(sentence) and not start_of_repeated(sentence)
    return (again or bool(_SCRATCH.search(sentence))) and not _GOES_ON.search(sentence)


def rewards(sentence: str) -> bool:
    """Whether the sentence asks for training by rewards or preferences, which a trained model is the start of."""
    return bool(_REWARDS.search(sentence))


def repeats(sentence: str) -> bool:
    """Whether a model that the sentence names is what comes out, and not what it starts from."""
    return bool(_AGAIN.search(sentence)) and not start_of_repeated(sentence)


def start_of_repeated(sentence: str) -> str | None:
    """The trained model with which a sentence wants something reproduced: one by its variant (`-base-v2`), not `GPT-2`.

    A family and a depth or a version (`ResNet-50`) are an architecture.
    """
    for match in _FAMILY.finditer(sentence) if _AGAIN.search(sentence) else ():
        before = re.search(r"(?i)\b(?:with|from|using|on top of|and)\s+(?:the |an? )?$", sentence[: match.start()])
        if before and _TRAINED.search(match[1]):
            return match[1]
    return None


def is_trained(name: str) -> bool:
    """Whether a name is that of trained weights (`roberta-base`, `Qwen2.5-7B`), and not of an architecture alone."""
    return bool(_TRAINED.search(name))


def looks_like_model(name: str) -> bool:
    """Whether a bare name is one of the trade's models (`bert-base-uncased`, `yolov5s.pt`, `gpt2-xl`)."""
    found = _FAMILY.match(name)
    return bool(found and len(found[1]) == len(name)) or bool(_SIZED.fullmatch(name))


def model_names(sentence: str, own: Iterable[str] = ()) -> list[str]:
    """Names of models in the sentence, the likeliest base model first. `own`: names of the repository itself."""
    mine = {"".join(tokens(name)) for name in own}
    distills = _DISTILL.search(sentence)
    rows: list[tuple[int, int, int, str]] = []
    for other, pattern in enumerate((_FAMILY, _SIZED, _AFTER_VERB)):
        for match in pattern.finditer(sentence):
            name = match[1].rstrip(".-_/")
            if "".join(tokens(name)) in mine or not tokens(name):
                continue
            before = _FROM.search(sentence[: match.start()])
            word = before[0].strip().split()[0].lower() if before else ""
            preferred = word == "into" if distills else bool(before) and word != "into"
            if all(name not in row[3] for row in rows):
                rows.append((-preferred, other, match.start(), name))
    return [name for _, _, _, name in sorted(rows)]


def data_names(sentence: str, own: Iterable[str] = ()) -> list[str]:
    """Phrases of the sentence that name data (`WMT14 English-German`), in order; none for "my own images".

    `own`: names of the repository itself, which are no data.
    """
    mine = {o.lower() for o in own}
    found: list[str] = []
    called = _CALLED.search(sentence)
    if called:
        found.append(called[1])
    for match in _DATA_AFTER.finditer(sentence):
        rest = sentence[match.end() :]
        stop = _DATA_STOP.search(rest)
        phrase = rest[: stop.start()] if stop else rest
        if part := _PART_OF.match(rest):
            rest = rest[part.end() :]
            stop = _DATA_STOP.search(rest)
            phrase = rest[: stop.start()] if stop else rest
        word = match[0].strip().lower()
        called = _DATA_WORD.search(phrase)
        if (word not in ("on", "over") and not called) or _NO_DATA.search(phrase) or _OWN.search(phrase):
            continue
        name = _ARTICLES.sub("", _DATA_WORD.sub("", phrase.strip().rstrip("."))).strip()
        name = " ".join(w for w in name.split() if w.lower() not in mine and not w.lower().endswith("'s"))
        telling = [t for t in tokens(name) if t not in _DULL and not _NUMBER.match(t)]
        if re.search(r"(?i)\bexample$", name):
            continue
        if telling and len(name.split()) <= 5 and name not in found and (word != "the" or called):
            found.append(name)
    return found


def own_data(sentence: str) -> bool:
    """Whether the sentence speaks of the user's own data."""
    return bool(_OWN_DATA.search(sentence))


def short(path: str) -> str:
    """A path's telling end: what follows a place to fill in, `model.ckpt` by its directory."""
    kept = re.sub(r"(?i)^.*?\bpath[_ /]to[_ /](?:the[_ /]|your[_ /])?", "", path).strip("/ ")
    kept = re.sub(r"(?i)^(?:https?://)?(?:huggingface\.co|hf\.co)/(?:datasets/)?", "", kept)
    parts = [p for p in kept.split("/") if p]
    generic = re.compile(r"(?i)(?:pytorch_|bert_|tf_)?model(?:\.\w+)*|checkpoint(?:\.\w+)*|weights(?:\.\w+)*|last\.\w+")
    if len(parts) > 1 and generic.fullmatch(basename(kept)):
        parts = parts[:-1]
    return "/".join(parts)

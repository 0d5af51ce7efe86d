"""Which option, config key or constant sets each key hyperparameter of a chosen entry. Pure, over what readers found.

The name decides first, then what the help says of an option whose name says nothing; among several that fit, what the
documented command uses, what stands nearest to training, and the batch of one device before the batch of all.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from caravan.analysis.documents import Documented
from caravan.analysis.entry import Entry, pairs
from caravan.analysis.findings import FoundOption, Module
from caravan.analysis.python import value_of
from caravan.analysis.vocabulary import HYPERPARAMETERS, plain
from caravan.values.base import Json
from caravan.values.repo import HyperparameterFlag, SourceLine

ENOUGH: Final = 0.3
"""Score from which an option is believed to set the hyperparameter."""


class _Signs(NamedTuple):
    """How an option of one hyperparameter may be recognised when its name is none of the usual ones."""

    name: re.Pattern[str]
    help: re.Pattern[str]
    not_name: re.Pattern[str]


def _signs(name: str, help_text: str, not_name: str) -> _Signs:
    return _Signs(re.compile(name), re.compile(help_text, re.IGNORECASE), re.compile(not_name))


_SIGNS: Final[Mapping[str, _Signs]] = {
    "batch_size": _signs(
        r"batch_?(?:size|sz)|^bsz?(?:_|$)|(?:samples|im(?:age)?s)_per_(?:gpu|device|batch)|batcher\.size$",
        r"^\W*(?:\([^()]*\)\s*)?(?:(?:the|training|train|input|mini|micro|total|global)[ -])*\s*batch[- ]?size\b",
        r"accum|ramp|start|prompt|max_batch|rollout|replay|cache|queue|desired|warmup",
    ),
    "learning_rate": _signs(
        r"(?:^|[_.])(?:b|g|d|base|max|peak|init(?:ial)?|unet|adam|actor|student|gen(?:erator)?|head)?_?lr\d?$"
        r"|learning_?rate(?:_?(?:base|init|initial|max|peak|g|d))?$|learn_rate(?:\.initial_rate)?$",
        r"^\W*(?:(?:the|initial|base|peak|max\w*|starting|absolute|generator|\w) )*(?:learning rate|step size)\b"
        r"(?! (?:decay|sched|warm|policy|final|drop|mult|factor|scal))",
        r"min|end|final|warm|decay|sched|mult|scale|factor|critic|disc|embed|text_encoder|layer|muon|mult|ratio|type",
    ),
    "epochs": _signs(
        r"(?:^|[_.])(?:num|n|max|total|train(?:ing)?|number_of)_?(?:\w+_)?"
        r"(?:epochs?|steps?|iters?|iterations?|updates?|timesteps|samples)$"
        r"|^(?:epochs?|steps|iters?|iterations|k?img|kimg|num_boost_round|timesteps|total_(?:kimg|timesteps))$",
        r"^\W*(?:(?:the|total|max\w*|number of|how many|training|train|duration)\s+){0,3}"
        r"(?:training )?(?:epochs?\b|(?:training|optimi[sz]ation|optimi[sz]er|gradient|max_?)[ _]?"
        r"(?:steps|iterations|updates|duration))",
        r"warm|decay|eval|save|log|accum|every|per_|_per|freq|interval|inner|rollout|env_?steps|diffusion|sampl\w*_steps"
        r"|inference|num_steps$|start|resume|unfreeze|freeze|ckpt|checkpoint|print|display|curriculum|patience",
    ),
    "seq_len": _signs(
        r"(?:^|[_.])(?:max|model|text|source|src|train|pack_max|input|encoder|block|context|ctx|total)?_?"
        r"(?:target_|source_|seq(?:uence)?_?|text_|input_|token_?)?(?:len|length|ctx)$"
        r"|(?:^|_)seq(?:uence)?_?(?:len|length|size)|max_(?:\w+_)?(?:len|length|tokens_per_sample)$"
        r"|^(?:input|image|img|crop|train_crop)_?size$"
        r"|^imgsz?$|tokens_per_sample$|feature_lengths?$|context_(?:size|length|window)$|max_position_embeddings$",
        r"^\W*(?:(?:the|max\w*|total|input|training|model|single)\s+)*(?:sequence|context|block)\s+(?:length|size|window)\b"
        r"|^\W*max\w*\s+(?:total\s+)?(?:input\s+)?(?:sequence|context)\s+length",
        r"gen|new|decode|val|eval|test|warm|prompt|response|completion|answer|min_|query|clip_len|patch|hidden|queue"
        r"|multiple",
    ),
    "gradient_accumulation": _signs(
        r"accum(?!ulator)|^ga_steps$|(?:^|_)update_freq$|num_microbatches$|iter_size$",
        r"\bgradient[- ]accumulation\b|\baccumulat\w+ (?:the )?gradients?\b|\baccumulate (?:grad|iter|step|batch)",
        r"dtype|fp32|eval|precision|metric|all_?reduce|fusion|loss_in|no_|bf16|attention|plugin|allreduce",
    ),
    "output_dir": _signs(
        r"^(?:\w+[_.])?(?:out|output|save|saved|log|logs|ckpts?|checkpoints?|results?|work|exp|experiments?|run|train)"
        r"_?(?:models?_)?(?:dir|directory|path|folder|root|prefix)$|^model_?dir$|^(?:outdir|logdir|savedir|rundir)$",
        r"where to (?:save|store|write)|^\W*(?:the )?output (?:dir|folder|path)"
        r"|(?:directory|folder) (?:to|where|for|in which)\b.{0,60}\b(?:sav|writ|stor|output|checkpoint|log|result)"
        r"|(?:sav|writ|stor|output|checkpoint|results?)\w*\s+(?:\w+\s+){0,3}(?:dir\w*|folder)\b",
        r"load|resume|data|cache|pretrain|init|token|vocab|teacher|input|from|tensorboard|wandb|profil|eval|overwrite"
        r"|interval|restore|import|logits|name$|type$|format$",
    ),
}
_TRACKER: Final = re.compile(r"(?i)(?:^|[._-])(?:wandb|mlflow|comet\w*|neptune|clearml|aim|swanlab|tensorboard)[._-]")
_OF_SAMPLES: Final = re.compile(r"max_(?:prompt|completion|response)_(?:len|length|tokens)")
"""Lengths of the parts of a sample, where reinforcement learning has no length of the whole."""
_ASIDE: Final = re.compile(
    r"(?:^|[_.-])(?:eval|evaluation|val|valid|validation|test|infer|inference|predict|generation|sampling|sample|dev|ref"
    r"|reference|reward|critic|teacher|export|benchmark)(?:[_.-]|$)"
)
_COUNTED: Final = frozenset({"batch_size", "gradient_accumulation", "epochs", "seq_len"})
"""What is a number: an option whose default is a word (`--accumulate best`) is another thing."""
_NEAR: Final = frozenset(
    {"train", "training", "trainer", "optim", "optimizer", "solver", "data", "model", "training_args", "adam", "config"}
)
_ARCHITECTURE: Final = frozenset({"net", "model", "encoder", "decoder", "backbone", "head", "generator"})
_NOT_SET: Final = re.compile(
    r"(?i)\b(?:diffusion (?:time)?steps|deprecated|do not use|don't use|obsolete|no longer"
    r"|(?:computed|filled) (?:in|at) runtime)\b"
)


class _Fit(NamedTuple):
    score: float
    option: FoundOption


def hyperparameters(entry: Entry) -> tuple[dict[str, HyperparameterFlag], tuple[SourceLine, ...]]:
    """The flag and default of each key hyperparameter; a constant of the script has a default and no flag."""
    found: dict[str, HyperparameterFlag] = {}
    places: list[SourceLine] = []
    used = {plain(k).lower(): i for i, (k, _) in enumerate(pairs(entry.documented.command))} if entry.documented else {}
    own = [o for o in entry.options if not o.source]
    parsed = [o for o in own if not o.option.flag.startswith("$")]
    keys = [o for o in entry.options if o.source]
    for key in HYPERPARAMETERS:
        best = _best(key, own, used) or _best(key, keys, used)
        if best is not None:
            file = best.option.source or None
            option = best.option.option
            found[key] = HyperparameterFlag(flag=option.flag, default=option.default, file=file)
            places.append(best.option.where)
            continue
        constant = _constant(entry.modules, HYPERPARAMETERS[key]) if not parsed else None
        configured = entry.configured(*HYPERPARAMETERS[key]) if constant is None else None
        default = constant[0] if constant else configured[0] if configured else None
        found[key] = HyperparameterFlag(default=default)
        places += [constant[1]] if constant else []
    return found, tuple(places)


def _best(key: str, options: Sequence[FoundOption], used: Mapping[str, int]) -> _Fit | None:
    fits = [f for o in options if (f := _fit(key, o, used)).score >= ENOUGH]
    return max(fits, key=lambda f: f.score, default=None)  # the first of equals


def _fit(key: str, found: FoundOption, used: Mapping[str, int]) -> _Fit:
    """How well an option fits the hyperparameter: 1 and more for its usual name, less for a name or help like it."""
    names = [plain(n).lower() for n in found.flags]
    score = max((_by_name(key, name) for name in names), default=0.0)
    said = found.option.help
    signs = _SIGNS[key]
    if score == 0 and found.option.flag.startswith("$"):
        score = 0.45 * any(_ends_so(key, name) for name in names)
    if score == 0 and signs.help.search(said) and not any(signs.not_name.search(n) for n in names):
        score = 0.45
    words = (
        key in _COUNTED and isinstance(found.option.default, str) and not re.search(r"\d|\$|^$", found.option.default)
    )
    if score == 0 or _is_switch(found) or words:
        return _Fit(0.0, found)
    if _ASIDE.search(plain(found.option.flag).lower()):
        score -= 0.7
    if _NOT_SET.search(said):
        score -= 0.7
    if any(n in used for n in names):
        score += 0.25
    parents = plain(found.option.flag).lower().split(".")[:-1]
    if key == "seq_len" and set(parents) & _ARCHITECTURE:
        score -= 0.7  # the size of a layer
    score += 0.04 * bool(set(parents) & _NEAR) - 0.02 * len(parents)
    return _Fit(score, found)


def _ends_so(key: str, name: str) -> bool:
    """Whether a variable is a usual name after a program's own prefix: `MYAPP_EPOCHS`."""
    words = name.split("_")
    tails = ("_".join(words[i:]) for i in range(1, len(words)))
    return not _SIGNS[key].not_name.search(name) and any(t in HYPERPARAMETERS[key] for t in tails)


def _is_switch(found: FoundOption) -> bool:
    return isinstance(found.option.default, bool) or (found.option.type or "") in ("bool", "store_true")


def _by_name(key: str, name: str) -> float:
    """1 for one of the usual names (the earlier the better), about 0.5 for one that is like them, else 0."""
    last = name.rpartition(".")[2]
    if key == "output_dir" and _TRACKER.search(name):
        return 0.0
    if key == "output_dir" and last == "dump_dir":
        return 0.9
    if last == "project":  # a folder here, the name of a tracker's project there
        return 0.4 if key == "output_dir" else 0.0
    usual = HYPERPARAMETERS[key]
    known = next((n for n in (".".join(name.split(".")[-2:]), last) if n in usual), None)
    if known is not None:
        return 1.0 - 0.01 * usual.index(known)
    signs = _SIGNS[key]
    if signs.name.search(name) and not signs.not_name.search(last):
        return 0.5
    return 0.35 if key == "seq_len" and _OF_SAMPLES.fullmatch(last) else 0.0


def _constant(modules: Sequence[Module], names: Sequence[str]) -> tuple[Json, SourceLine] | None:
    for module in modules[:3]:
        by_name = {k.lower(): v for k, v in module.constants.items()}
        for name in names:
            statement = by_name.get(name)
            value = value_of(statement.value, module) if statement else None
            if statement and isinstance(value, int | float | str) and not isinstance(value, bool):
                return value, module.at(statement.lineno)
    return None


def for_command(
    options: Sequence[FoundOption], entry_point: str, used: Documented | None = None
) -> tuple[FoundOption, ...]:
    """The options without those of other subcommands than the one that the entry or its documented command names.

    Where none is named, a subcommand called after training counts, and else all do.
    """
    words = [*entry_point.split(), *(used.command.target.split() + list(used.command.args[:2]) if used else ())]
    commands = dict.fromkeys(o.command for o in options if o.command)
    if not commands:
        return tuple(options)
    said = {w.replace("_", "-").lower() for w in words}
    chosen = [c for c in commands if c.replace("_", "-").lower() in said] or list(_training(commands))[:1]
    if not chosen and re.match(r"[\w-]+ [a-z][\w-]*", entry_point):  # `tool sub`, and sub has none of its own
        return tuple(o for o in options if not o.command)
    return tuple(o for o in options if not o.command or o.command in chosen) if chosen else tuple(options)


def _training(commands: Mapping[str, None]) -> Iterator[str]:
    for word in ("train", "finetune", "fine-tune", "fit", "sft", "pretrain", "training"):
        yield from (c for c in commands if c.replace("_", "-").lower() == word)
    yield from (c for c in commands if re.match(r"(?i)train|fine|fit|pretrain", c))

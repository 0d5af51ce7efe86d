"""The documented command with the configuration of the model that the sentence names, where another one stands there.

A repository with a configuration for each model documents its command with one of them: `train.py sft/yi-6b.json`. Who
asks for Qwen gets the file beside it that is Qwen's, when exactly one is. Pure, over `Sources`.
"""

from dataclasses import replace
from posixpath import basename, dirname, splitext
from typing import Final

from caravan.analysis.configs import ENDINGS, flat
from caravan.analysis.documents import Documented
from caravan.analysis.prompt import Wishes, words_of
from caravan.analysis.settings import resolved
from caravan.analysis.sources import Sources
from caravan.analysis.subjects import closeness, looks_like_model, means, short
from caravan.analysis.vocabulary import plain

_MODEL_KEYS: Final = frozenset(
    (
        *("model_name_or_path", "base_model", "pretrained_model_name_or_path", "model_name", "model_id"),
        *("base_model_name", "pretrained_model", "model_path", "model_id_or_path", "hf_model"),
    )
)
_MOST: Final = 500
"""Files of a folder beyond which they are data."""


def for_named_model(used: Documented | None, sources: Sources, wishes: Wishes) -> Documented | None:
    """The command, its configuration replaced by that of the named model; as it is where none or several would do."""
    name = (wishes.model or wishes.model_name or "").rpartition("/")[2]
    if used is None or not name:
        return used
    for i, word in enumerate(used.command.args):
        path = resolved(word.partition("=")[2] or word, sources, (used.cwd, ".")) if word.endswith(ENDINGS) else None
        own = starts_from(path, sources) if path else None
        if path is None or own is None or means(name, own):
            continue
        other = _beside(path, name, sources, wishes)
        if other is None:
            return used
        new = word.removesuffix(basename(path)) + basename(other)
        args = (*used.command.args[:i], new, *used.command.args[i + 1 :])
        return replace(used, command=replace(used.command, args=args, text=used.command.text.replace(word, new)))
    return used


def _beside(path: str, name: str, sources: Sources, wishes: Wishes) -> str | None:
    """The one configuration in the same folder that is called after the model and starts from it."""
    folder, ending = dirname(path), splitext(path)[1]
    near = [p for p in sources.paths if dirname(p) == folder and p.endswith(ending)]
    called = [p for p in near if means(name, stem(p))] if len(near) <= _MOST else []
    fits = [p for p in called if (own := starts_from(p, sources)) and means(name, own)]

    def score(p: str) -> tuple[int, float]:
        return len(words_of(basename(p)) & wishes.words), closeness(name, short(starts_from(p, sources) or ""))

    best = max(map(score, fits), default=None)
    chosen = [p for p in fits if score(p) == best]
    return chosen[0] if len(chosen) == 1 else None


def starts_from(path: str, sources: Sources) -> str | None:
    """The model from which a configuration starts, as its usual keys say."""
    for key, value in flat(path, sources.text(path) or "").items():
        if plain(key).rpartition(".")[2].lower() in _MODEL_KEYS and isinstance(value, str):
            told = short(value)
            if "/" in value or looks_like_model(told):
                return told
    return None


def stem(path: str) -> str:
    """A file's name without its ending."""
    return splitext(basename(path))[0]

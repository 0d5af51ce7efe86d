"""What a user's sentence says in so many words, as changes of the plan: put together from the readers of its parts.

Also what of it could not be used, and where it says two things of one field. Rules for plain cases; what they don't
recognise is left to the questions and to a language model. The sentence is data: it can only set `FIELDS`.
"""

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from caravan.planning.sentences.common import Said, Unused, negated
from caravan.planning.sentences.gpus import AVOID, COUNT, MODEL, NODES, find_gpus
from caravan.planning.sentences.models import find_models
from caravan.planning.sentences.money import find_money
from caravan.planning.sentences.numerals import NUMBER
from caravan.planning.sentences.times import QUEUE, RUN, find_times
from caravan.planning.sentences.training import find_training
from caravan.values.plan import Author, PlanChange

FIELDS: Final = frozenset(
    {"limits.max_cost_usd", "limits.max_run_s", "limits.queue_s", "model.id", "launch.nodes"}
    | {f"resources.{name}" for name in ("gpus", "gpu_model", "gpu_memory_mib")}
    | {f"training.{name}" for name in ("method", "epochs", "lr", "micro_batch", "max_steps", "max_len", "lora_rank")}
    | {f"training.{name}" for name in ("seed", "grad_accum", "warmup", "max_grad_norm", "save_total_limit")}
    | {f"training.{name}" for name in ("global_batch", "precision", "quant_bits", "grad_checkpointing")}
)
"""All that a sentence can set."""

NO_FIELD: Final = "no field is known for it"
_LONGEST: Final = 4000  # characters that are read: a sentence, not a book


class Clash(NamedTuple):
    """A field of which a text says several things that can't all hold: its path and what it says, in order."""

    path: str
    said: tuple[Said, ...]
    text: str

    def words(self) -> tuple[str, ...]:
        """The words of each."""
        return tuple(_words(self.text, s.start, s.end) for s in self.said)


class Reading(NamedTuple):
    """What a text says. `changes` are made; `unused` are told; `clashes` are asked about; `spans` is what was read."""

    changes: tuple[PlanChange, ...]
    unused: tuple[Unused, ...]
    clashes: tuple[Clash, ...]
    avoid: tuple[str, ...] = ()  # GPU types that are excluded
    least: frozenset[str] = frozenset()  # paths whose value is a lower bound
    most: frozenset[str] = frozenset()  # paths whose value is an upper bound
    spans: tuple[tuple[int, int], ...] = ()
    text: str = ""  # what was read: the normal form, which the spans count in


def read_prompt(prompt: str, now: datetime | None = None) -> tuple[PlanChange, ...]:
    """The fields that the sentence sets, each with the words that say so. Without a clock no deadline is read."""
    return read_sentence(prompt, now).changes


def said_paths(prompt: str) -> frozenset[str]:
    """The plan paths of which the sentence says something, whatever the time is."""
    reading = read_sentence(prompt, _ANY_TIME)
    return frozenset({c.path for c in reading.changes})


_ANY_TIME: Final = datetime(2001, 1, 1, 12, tzinfo=UTC)  # which fields a sentence sets doesn't depend on the clock


def read_sentence(prompt: str, now: datetime | None = None, *, source: str = "prompt") -> Reading:
    """All that a text says. `now`: aware, in the user's zone. `source` names the text in each change's reason."""
    text = _normal(prompt)
    found = [*find_times(text, now), *find_money(text), *find_training(text), *find_gpus(text), *find_models(text)]
    # Said inside longer words of the same field: `demain 9h` is a time of day, and its `9h` no length of time.
    kept = [f for f in found if not any(_swallows(other, f) for other in found)]
    said = [f for f in kept if isinstance(f, Said)]
    unused = [f for f in kept if isinstance(f, Unused)]
    avoid = tuple(dict.fromkeys(str(s.value) for s in said if s.path == AVOID))
    chosen, clashes = _settled([s for s in said if s.path != AVOID], text)
    changes = tuple(_change(s, text, source) for s in chosen)
    deadline = next((s for s in chosen if s.path == RUN and s.meant.startswith("until")), None)
    if deadline is not None:
        changes += (_change(deadline._replace(path=QUEUE, meant="waiting beyond that is of no use"), text, source),)
    spans = tuple(sorted((f.start, f.end) for f in found))
    unused += _left_numbers(text, spans)
    return Reading(
        changes=changes,
        unused=tuple(sorted(set(unused), key=lambda u: (u.start, u.end))),
        clashes=clashes,
        avoid=avoid,
        least=frozenset(s.path for s in chosen if s.bound == "least"),
        most=frozenset(s.path for s in chosen if s.bound == "most"),
        spans=spans,
        text=text,
    )


def _normal(prompt: str) -> str:
    text = unicodedata.normalize("NFKC", prompt[:_LONGEST]).replace("\u2019", "'")
    return _BETWEEN.sub(lambda m: f"{m[1]}{m[2]}{_TO[m[3].lower()]}{m[4]}", text)


_TO: Final = {"and": "to ", "und": "to ", "et": "to", "y": "-"}
_BETWEEN: Final = re.compile(
    rf"((?:between|zwischen|entre)\s+)(\$?(?:{NUMBER})\s+)(and|und|et|y)(?=(\s))(?=\s+\$?(?:{NUMBER}))", re.IGNORECASE
)


def _swallows(longer: Said | Unused, shorter: Said | Unused) -> bool:
    inside = longer.start <= shorter.start and shorter.end <= longer.end
    if not inside or (longer.end - longer.start) <= (shorter.end - shorter.start):
        return False
    return isinstance(longer, Unused) or (isinstance(shorter, Said) and longer.path == shorter.path)


def _settled(said: Iterable[Said], text: str) -> tuple[list[Said], tuple[Clash, ...]]:
    """One word for each field; the fields of which the text says several things that can't all hold."""
    by_path: dict[str, list[Said]] = {}
    for one in sorted(said, key=lambda s: (s.start, s.end)):
        by_path.setdefault(one.path, []).append(one)
    chosen, clashes = list[Said](), list[Clash]()
    for path, words in by_path.items():
        left = _differing(path, words, text)
        if len(left) == 1:
            chosen.append(left[0])
        else:
            clashes.append(Clash(path, tuple(left), text))
    if any(s.path == COUNT and s.value == 0 for s in chosen) and (gpu := [s for s in chosen if s.path == MODEL]):
        clashes.append(Clash(COUNT, (next(s for s in chosen if s.path == COUNT), *gpu), text))
        chosen = [s for s in chosen if s.path not in (COUNT, MODEL)]
    return chosen, tuple(clashes)


def _differing(path: str, said: list[Said], text: str) -> list[Said]:
    """The words that are left of those about one field: articles give way, a correction is the last word."""
    strong = [s for s in said if not s.weak] or said
    values = {str(s.value).casefold(): s for s in reversed(strong)}
    if len(values) > 1 and path == MODEL:  # `an A100 … A100 80GB`: the fuller name says both
        for name in sorted(values, key=len):
            if any(name != other and set(name.split()) <= set(other.split()) for other in values):
                del values[name]
    left = sorted(values.values(), key=lambda s: s.start)
    if len(left) > 1 and path == RUN:  # a length of time and a deadline both hold: the shorter one
        lengths = [s for s in left if not s.meant.startswith("until")]
        if len(lengths) <= 1:
            return [min(left, key=lambda s: float(str(s.value)))]
    if len(left) > 1 and path == NODES:
        return left
    while len(left) > 1 and _CORRECTED.search(text[left[0].end : left[1].start]):
        left = left[1:]
    return left


_CORRECTED: Final = re.compile(
    r"(?<![A-Za-z])(?:no,? wait|wait,? no|wait|sorry|actually|i mean|make (?:that|it)|scratch that|correction|"
    r"or rather|better(?: yet)?|nein|halt|doch lieber|lieber|vielmehr|besser|non|plutôt|enfin|perdón|mejor|digo|oops|"
    r"changed my mind)(?![A-Za-z])|不对|不是|应该是|改成|还是用|じゃなくて|ではなく|いや|やっぱり|訂正",
    re.IGNORECASE,
)


def _change(said: Said, text: str, source: str) -> PlanChange:
    words = _words(text, said.start, said.end)
    meant = f" ({said.meant})" if said.meant else ""
    return PlanChange(path=said.path, value=said.value, by=Author.USER, why=f'{source}: "{words[:120]}"{meant}'[:300])


def _words(text: str, start: int, end: int) -> str:
    return " ".join(text[start:end].split())


_LONE: Final = re.compile(
    r"(?<![\w./:@=+~#-])[$€£]?\d+(?:[.,]\d+)?(?:e-?\d+)?\s?%?(?![\w/=-]|[.,]\d)"
    r"((?:[ ]+[A-Za-z\u00c0-\u024f]{1,20}){0,2})"
)


_NAMED: Final = re.compile(
    r"(?<![A-Za-z])(?:llama|qwen|gemma|mistral|mixtral|phi|gpt|olmo|yi|falcon|pythia|smollm|vicuna|deepseek|bert|"
    r"roberta|t5|whisper|diffusion|sd|sdxl|flux|resnet|vgg|densenet|vit|deit|dino|swin|efficientnet|convnext|yolo|"
    r"wav2vec|tacotron|segment anything|sam|clip|cifar|wikitext|stage|phase|part|level)"
    r"[ -]$",
    re.IGNORECASE,
)
"""Words before a number that make it a part of a name: `llama 3`, `resnet 50`, `stage 2`."""
_APART: Final = (
    r"(?:\s+(?:with|without|on|in|for|from|using|over|by|at|to|and|or|as|model|models|mit|auf|für|von|und|"
    r"avec|sur|pour|et|con|en|para|y|please)(?![A-Za-z])|$)"
)
"""What may follow such a name; before another word the number is likely a count of that."""


def _left_numbers(text: str, spans: Iterable[tuple[int, int]]) -> list[Unused]:
    """Numbers that stand alone and that nobody has read: said back rather than dropped."""
    taken = list(spans)
    found = []
    for match in _LONE.finditer(text):
        read = any(s < match.end() - len(match[1]) and match.start() < e for s, e in taken)
        named = _NAMED.search(text, 0, match.start()) and re.match(_APART, match[1], re.IGNORECASE)
        if not read and not named and not negated(text, match.start(), match.end()):
            found.append(Unused(match[0].strip(), NO_FIELD, match.start(), match.end()))
    return found

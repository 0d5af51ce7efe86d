"""How well candidates fit the request: its words in their paths and documentation, its kind of training, its GPUs.

Pure. A word counts the more, the fewer candidates have it.
"""

import math
import re
from collections.abc import Iterable, Sequence
from posixpath import basename, dirname
from typing import Final

from caravan.analysis.candidate import Candidate
from caravan.analysis.documents import Documented
from caravan.analysis.kinds import judged
from caravan.analysis.prompt import Wishes, words_of
from caravan.values.repo import Launcher

_MOST: Final = 5.0
_MOST_TOLD: Final = 3.5
_IN_PATH, _INSIDE_PATH, _IN_DOCUMENT, _IN_HEAD = 1.0, 0.65, 0.4, 0.3
_COMMANDS: Final = 200
_ALONE: Final = re.compile(r"(?i)single[-_]?(?:gpu|device|card|node)?(?![a-z])|one[-_]gpu|1gpu")
_SEVERAL: Final = re.compile(r"(?i)(?<![a-z])(?:multi[-_]?(?:gpu|node|card)?|distributed|ddp|fsdp)(?![a-z])|[2-9]gpus?")
_PLAIN_WORDS: Final = frozenset(
    ["train", "trainer", "training", "run", "main", "finetune", "launch", "trainers", "network", "net", "lora", "sft"]
)


def fit(found: Sequence[Candidate], wishes: Wishes) -> None:
    """Give each candidate the points of the request."""
    paths = [words_of(c.entry_point if c.path is None else f"{c.path} {c.entry_point}") for c in found]
    documents = [_told(c, wishes.words) for c in found]
    heads = [words_of(c.told) for c in found]
    told = [0.0] * len(found)
    for word in sorted(wishes.words):
        ways = [_way(word, p, d, h) for p, d, h in zip(paths, documents, heads, strict=True)]
        share = sum(w > 0 for w in ways) / max(1, len(ways))
        rare = min(_MOST, 0.4 - 0.9 * math.log2(share)) if share else 0.0
        for i, (candidate, way) in enumerate(zip(found, ways, strict=True)):
            if way >= _INSIDE_PATH:
                candidate.plus(rare * way, f"the request speaks of {word}")
            elif way:
                points = min(rare * way, _MOST_TOLD - told[i])
                told[i] += points
                candidate.plus(points, f"its documentation speaks of {word}")
    for candidate in found:
        _judge(candidate, wishes)


def _way(word: str, path: Iterable[str], document: Iterable[str], head: Iterable[str]) -> float:
    """How a candidate speaks of a word: 1 in its path, less in a part of a word there, its documentation, its head."""
    if word in path:
        return _IN_PATH
    if len(word) > 2 and any(_holds(p, word) for p in path):
        return _INSIDE_PATH
    if word in document:
        return _IN_DOCUMENT
    return _IN_HEAD if word in head else 0.0


def _holds(longer: str, word: str) -> bool:
    """`stsbenchmark` holds `sts` and `benchmark`; `resnet50` is held by `resnet`."""
    if longer.startswith(word) or (len(word) > 3 and longer.endswith(word)):
        return True
    if len(longer) > 3 and word.startswith(longer) and word[len(longer) :].isdigit():
        return True
    return 3 <= len(longer) < len(word) <= 2 * len(longer) and word.endswith(longer)  # AllNLI speaks of nli


def _told(candidate: Candidate, wanted: frozenset[str]) -> frozenset[str]:
    """The words of the documented command of a candidate that speaks of most of what is wanted."""
    best: frozenset[str] = frozenset()
    for d in candidate.commands[:_COMMANDS]:
        words = words_of(d.words)
        mine = frozenset(w for w in wanted if w in words or (len(w) > 3 and any(_holds(x, w) for x in words)))
        if len(mine) > len(best):
            best = mine
    return best


def _judge(candidate: Candidate, wishes: Wishes) -> None:
    """What is asked for and what the candidate's name says: kind of training, one GPU or several, more than asked."""
    name = candidate.path or candidate.entry_point
    if candidate.path and candidate.launcher is Launcher.CLI:
        name = candidate.entry_point
    for points, why in judged(wishes.text, name, candidate.trainers):
        if points > 0:
            candidate.plus(points, why)
        else:
            candidate.minus(-points, why)
    last = basename(name)
    if wishes.gpus is not None and wishes.gpus > 1 and _ALONE.search(last):
        candidate.minus(1.5, "its name says that it is for one GPU")
    if wishes.gpus == 1 and _SEVERAL.search(last):
        candidate.minus(1.5, "its name says that it is for several GPUs")
    if wishes.gpus is not None and candidate.commands:
        points = max(gpu_points(d, wishes.gpus) for d in candidate.commands[:_COMMANDS])
        candidate.score += 0.6 * points
    if wishes.words:
        candidate.score -= 0.25 * min(4, len(words_of(last) - wishes.words - _PLAIN_WORDS))
        candidate.score -= 0.1 * min(4, len(words_of(dirname(name)) - wishes.words - _PLAIN_WORDS))


def gpu_points(used: Documented, wanted: int) -> float:
    """For a command that starts as many processes as GPUs are asked for; against one for several where one is."""
    count = gpus_of(used)
    if count is not None:
        return 2.0 if count == wanted else 0.5 if (count > 1) == (wanted > 1) else -1.5
    several = used.command.launcher not in (Launcher.PYTHON, Launcher.CLI, Launcher.BASH)
    return 1.0 if several == (wanted > 1) else -0.5


def gpus_of(used: Documented) -> int | None:
    """The processes that a documented command starts, as far as it says; else the GPUs that its batch job asks for."""
    command = used.command
    count = command.launcher_value("nproc_per_node", "num_processes", "num_gpus", "np", "n", "gpus", "devices")
    if count and count.isdigit():
        return int(count)
    visible = command.environment.get("CUDA_VISIBLE_DEVICES", "")
    if re.fullmatch(r"\d+(?:,\d+)*", visible):
        return visible.count(",") + 1
    asked = command.scheduler.get("gpus_per_node") or command.scheduler.get("gpus")
    return int(asked) if asked else None

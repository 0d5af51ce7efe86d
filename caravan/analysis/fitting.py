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

_MOST: Final = 4.5
_MOST_TITLED: Final = 5.0
_MOST_TOLD: Final = 2.0
_IN_PATH, _INSIDE_PATH, _IN_CODE, _IN_TITLE, _IN_DOCUMENT, _IN_HEAD, _COMMON = 1.0, 0.65, 0.66, 0.55, 0.3, 0.25, 0.12
_OBJECT: Final = 1.4
"""What a word counts more that says on what is trained: in a library of examples the data tells them apart."""
_TRAINED_ON: Final = re.compile(r"(?i)\bon (?:the |my |a |an )?((?:[\w./-]+[ ]?){1,2})")
_COMMANDS: Final = 200
_ALONE: Final = re.compile(r"(?i)single[-_]?(?:gpu|device|card|node)?(?![a-z])|one[-_]gpu|1gpu")
_SEVERAL: Final = re.compile(r"(?i)(?<![a-z])(?:multi[-_]?(?:gpu|node|card)?|distributed|ddp|fsdp)(?![a-z])|[2-9]gpus?")
_ADAPTER: Final = re.compile(r"(?i)\b(?:q-?)?lora\b|\badapter\b")
_COMMON_WORDS: Final = frozenset(
    (
        *("image", "images", "photos", "pictures", "text", "texts", "chat", "conversations", "video", "videos"),
        *("captions", "pairs", "agent", "play", "scratch", "single", "multi", "large", "small", "tiny", "big"),
        *("instruction", "instructions", "annotations", "task", "custom", "format", "simple", "several", "original"),
    )
)
"""Words of requests that also stand in many names without telling what is trained."""
_PLAIN_WORDS: Final = frozenset(
    ["train", "trainer", "training", "run", "main", "finetune", "launch", "trainers", "network", "net", "lora", "sft"]
)


def fit(found: Sequence[Candidate], wishes: Wishes, folders: Iterable[str] = ()) -> None:
    """Give each candidate the points of the request. `folders`: those of packages, whose names describe no example."""
    packages = frozenset(f"{folder}/" for folder in folders)
    described = [_described(c, packages) for c in found]
    paths = [words_of(text) | _joined(text, wishes.words) for text in described]
    documents = [_told(c, wishes.words) for c in found]
    for i, candidate in enumerate(found):
        if candidate.path is None:  # a tool's command is told apart by the place where it is documented
            places = (words_of(dirname(d.command.where.file)) & wishes.words for d in candidate.commands[:_COMMANDS])
            paths[i] |= max(places, key=len, default=frozenset())
    heads = [words_of(c.told) for c in found]
    told = [0.0] * len(found)
    objects = words_of(" ".join(_TRAINED_ON.findall(wishes.text)))
    proper = words_of(" ".join(w for w in wishes.text.split()[1:] if re.search(r"[A-Z0-9]", w)))
    for word in sorted(wishes.words):
        ways = [_way(word, p, *d, h) for p, d, h in zip(paths, documents, heads, strict=True)]
        ways = [max(w, _IN_CODE * _made(word, c)) if w < _IN_PATH else w for w, c in zip(ways, found, strict=True)]
        weight = 0.3 if word in _COMMON_WORDS else _OBJECT if word in objects else 1.0
        named = weight * _rarity(sum(w >= _INSIDE_PATH for w in ways), len(ways), 1.1, _MOST)
        spoken = _rarity(sum(w > 0 for w in ways), len(ways), 0.6, _MOST / 2)
        for i, (candidate, way) in enumerate(zip(found, ways, strict=True)):
            if way >= _INSIDE_PATH:
                variant = (
                    1.2 if word in proper - objects else 1.0
                )  # what a request spells as a name tells siblings apart
                candidate.plus(variant * named * way, f"the request speaks of {word}")
            elif way:
                way = way if named or word in proper else _COMMON
                most = _MOST_TITLED if way >= _IN_TITLE else _MOST_TOLD
                points = max(0.0, min(spoken * way, most - told[i]))
                told[i] += points
                candidate.plus(points, f"its documentation speaks of {word}")
    names = _names(wishes.text)
    for candidate in found:
        _judge(candidate, wishes)
        whole = next((n for n in names if any(n in _letters(d.words) for d in candidate.commands[:_COMMANDS])), None)
        if whole:
            candidate.plus(1.5, f"a documented command names {whole}")


def _described(candidate: Candidate, packages: frozenset[str]) -> str:
    """The text that names a candidate: its path below the package in which it stands."""
    if candidate.path is None:
        return candidate.entry_point
    package = max((p for p in packages if candidate.path.startswith(p)), key=len, default="")
    return f"{candidate.path[len(package) :]} {candidate.entry_point if candidate.launcher is Launcher.CLI else ''}"


def _joined(text: str, wanted: frozenset[str]) -> frozenset[str]:
    """The long words of a request that a path spells in parts (`instruct_pix2pix`)."""
    letters = _letters(text)
    return frozenset(w for w in wanted if len(w) >= 8 and w in letters)


def _rarity(have: int, all_of_them: int, weight: float, most: float) -> float:
    """The points of a word that some of the candidates have: the fewer, the more."""
    return min(most, 0.4 - weight * math.log2(have / all_of_them)) if have else 0.0


def _names(request: str) -> list[str]:
    """The names of models and data in a request that hold a number, as bare letters: `Llama-3.1-8B` is `llama318b`."""
    words = (_letters(w.rpartition("/")[2]) for w in request.split())
    return [w for w in words if len(w) >= 5 and re.search(r"[a-z]{2}", w) and re.search(r"\d", w)]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _way(word: str, path: Iterable[str], titles: Iterable[str], document: Iterable[str], head: Iterable[str]) -> float:
    """How a candidate speaks of a word: 1 in its path, less in a part of a word there, in its documents, its head."""
    if word in path:
        return _IN_PATH
    if len(word) > 1 and any(_holds(p, word) for p in path):
        return _INSIDE_PATH
    if word in titles:
        return _IN_TITLE
    if word in document:
        return _IN_DOCUMENT
    return _IN_HEAD if word in head else 0.0


def _made(word: str, candidate: Candidate) -> bool:
    """Whether the candidate's code makes what a long word of the request names: a loss, a data set, a model."""
    return len(word) > 4 and any(made == word or (len(word) > 7 and made.startswith(word)) for made in candidate.makes)


def _holds(longer: str, word: str) -> bool:
    """`stsbenchmark` holds `sts` and `benchmark`; `resnet50` is held by `resnet`."""
    if (len(word) > 2 and longer.startswith(word)) or (len(word) > 3 and longer.endswith(word)):
        return True
    if re.fullmatch(r"[a-z]\d", word):
        return longer.endswith(word)  # flant5 holds t5
    if len(longer) > 2 and word.startswith(longer) and word[len(longer) :].isdigit():
        return True
    return 3 <= len(longer) < len(word) <= 2 * len(longer) and word.endswith(longer)  # AllNLI speaks of nli


def _told(candidate: Candidate, wanted: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The words, in titles and in all, of the documented command that speaks of most of what is wanted."""
    best: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    for d in candidate.commands[:_COMMANDS]:
        titles, words = _spoken(wanted, words_of(d.titles)), _spoken(wanted, words_of(d.words))
        if 2 * len(titles) + len(words) > 2 * len(best[0]) + len(best[1]):
            best = titles, words
    return best


def _spoken(wanted: frozenset[str], words: frozenset[str]) -> frozenset[str]:
    return frozenset(w for w in wanted if w in words or (len(w) > 3 and any(_holds(x, w) for x in words)))


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
    if candidate.adapts is False and _ADAPTER.search(wishes.text):
        candidate.minus(1.5, "nothing in it speaks of an adapter")
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

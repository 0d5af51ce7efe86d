"""Which type trains what a person brings: from the sentence, the data files and the model. Pure.

What is said counts over what is found; what stays open is asked. It must not know plans, files or clusters.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from caravan.training.loading import TypeFolder, Types
from caravan.training.mentions import FILE, Kind, Mention, Role, mentions, words
from caravan.training.sniffing import Seen, formats, no_data
from caravan.values.training import DataFormat, TrainingType

SURE: Final = 0.9
DOUBTFUL: Final = 0.4
"""How sure a choice is that nothing speaks against, and one that something else is as likely as."""
_ASKED: Final = re.compile(
    r"(?i)\b(?:with|use|using|by|take)\s+(?:your|caravan(?:'s)?)\s+(?:own\s+)?"
    r"(?:(?:fine-?tun\w+|training)\s+)?(?:script|template|trainer|recipe|training type|program)"
)
_HUB_LIKE: Final = re.compile(r"[A-Za-z0-9][\w.-]+/(?=[\w.-]*[-\d._])[A-Za-z0-9][\w.-]+")
"""A model's id on a hub, told from two words with a slash between them."""
_PLAIN_WORDS: Final = words(
    "train test val dev eval input output prompt question query answer instruction text label source target chat user"
    " and or with data lora qlora cpu gpu yes no on off"
)


class Named(NamedTuple):
    """What a sentence names: data to train on, `more` of such data, data to be held out, and a base model's id."""

    data: str | None = None
    held_out: str | None = None
    model: str | None = None
    more: tuple[str, ...] = ()


class Scene(NamedTuple):
    """What there is to choose from. `model`: the named base model; `model_is` what it is, where that is known.

    `models`: all names that are models'. `data`: what a person has set apart from the sentence.
    """

    prompt: str
    seen: tuple[Seen, ...] = ()
    paths: frozenset[str] = frozenset()
    model: str | None = None
    model_is: str | None = None
    models: frozenset[str] = frozenset()
    data: str | None = None


class Chosen(NamedTuple):
    """A type with the data for it. `sure` of the type and `data_sure` of the data, from 0 to 1; `others`: what else it
    could be."""

    folder: TypeFolder
    format: DataFormat | None
    data: str | None
    held_out: str | None
    sure: float
    data_sure: float
    why: str
    others: tuple[str, ...] = ()
    other_data: tuple[str, ...] = ()


def asks_for_ours(prompt: str) -> bool:
    """Whether the sentence plainly asks for a script that Caravan brings, though the repository has one."""
    return _ASKED.search(prompt) is not None


def outside(path: str) -> bool:
    """Whether a path leads out of the repository."""
    return path.startswith(("/", "~", "../"))


def named_data(prompt: str, paths: frozenset[str], models: frozenset[str] = frozenset()) -> str | None:
    """The data that the sentence names: a file or folder that is there, one that is not, a hub's id after `on`."""
    return named(prompt, paths, models).data


def named(prompt: str, paths: frozenset[str], models: frozenset[str] = frozenset()) -> Named:
    """What the sentence names as data and as model. `models`: names that are known to be models'; none is data."""
    folders = {path[:i] for path in paths for i, c in enumerate(path) if c == "/"}
    known = {name.casefold().removeprefix("./").rstrip("/") for name in models}
    found = [m for m in mentions(prompt) if m.text.casefold() not in known]
    ranked = sorted(
        ((rank, m.text) for m in found if (rank := _rank(m, paths, folders)) is not None), key=lambda item: item[0]
    )
    data = ranked[0][1] if ranked else None
    more = [text for rank, text in ranked[1:] if rank == ranked[0][0] and rank in (0, 3)]
    held_out = next((m.text for m in found if m.role is Role.HELD_OUT and m.kind in (Kind.FILE, Kind.PLACE)), None)
    apart = {data, held_out, *folders, *paths}
    models_named = (m.text for m in found if m.text not in apart and m.text not in more and _may_be_model(m, folders))
    return Named(data, held_out, next(models_named, None), tuple(t for t in dict.fromkeys(more) if t != data))


def _rank(mention: Mention, paths: frozenset[str], folders: set[str]) -> int | None:
    """How plainly a name is that of the data, 0 the plainest; None for one that is no data."""
    role, text = mention.role, mention.text
    if role in (Role.HELD_OUT, Role.OUTPUT):
        return None
    if mention.kind is Kind.FILE:
        if role is Role.DATA:
            return 0
        if no_data(text):
            return None
        return 1 if text in paths or outside(text) else 2
    if mention.kind is Kind.PLACE:
        return {Role.DATA: 3, Role.WITH: 4}.get(role)
    if text in folders and role in (Role.DATA, Role.WITH):
        return (5 if role is Role.DATA else 6) if mention.near or "/" in text else None
    return 5 if mention.kind is Kind.HUB and role is Role.DATA and mention.near else None


def _may_be_model(mention: Mention, folders: set[str]) -> bool:
    if mention.kind is not Kind.HUB or mention.role not in (Role.WITH, Role.MODEL):
        return False
    owner, _, name = mention.text.casefold().partition("/")
    plain = owner in _PLAIN_WORDS or name in _PLAIN_WORDS or owner in folders
    return not plain and _HUB_LIKE.fullmatch(mention.text) is not None


def choose(types: Types, scene: Scene, *, named: str | None = None) -> Chosen | None:
    """The type for such a scene; None where nothing speaks for any of them. `named`: a person has said which.

    Raises UsageError for a name that no type has.
    """
    said = said_in(scene)
    if named is not None:
        return _with_data(types.get(named), scene, said, 1.0, "you named it", ())
    data = said.data
    if data is None and not any(formats(seen, entry.type) for seen in scene.seen for entry in types):
        return None
    ranked = sorted(((_score(entry.type, scene, data), entry) for entry in types), key=lambda item: -item[0])
    if not ranked:
        return None
    if ranked[0][0] <= 0:
        return _at_a_loss(types, scene, said)
    best, entry = ranked[0]
    near = tuple(other.type.name for points, other in ranked[1:] if points > 0 and points >= best - 1)
    return _with_data(entry, scene, said, DOUBTFUL if near else SURE, "", near)


def said_in(scene: Scene) -> Named:
    """What the sentence names in such a scene; data that a person has set apart from it count over the sentence's."""
    models = frozenset((*scene.models, *([scene.model] if scene.model else ())))
    found = named(scene.prompt, scene.paths, models)
    return found if scene.data is None else found._replace(data=scene.data, more=())


def _at_a_loss(types: Types, scene: Scene, said: Named) -> Chosen | None:
    """A type for a data file that is named and of which no type knows the columns, or that is nowhere to be seen.

    The one that takes most formats; the look at the data says what is wrong with them. A file that the repository
    lacks may be one that its own code makes: then nothing is chosen.
    """
    data = said.data
    if data is None or not (FILE.search(data) or outside(data)):
        return None
    known = data in scene.paths or outside(data) or scene.data is not None
    if not known and any(path.endswith((".py", ".sh", ".ipynb")) for path in scene.paths):
        return None
    points = {entry.type.name: _words_said(entry.type, scene.prompt) for entry in types}
    able = [e for e in types if any(f is not DataFormat.IMAGES for f in e.type.formats)]
    able.sort(
        key=lambda e: (-points[e.type.name], e.type.model_is not in ("any", scene.model_is), -len(e.type.formats))
    )
    if not able:
        return None
    why = f"the sentence names {data}" if scene.data is None else f"{data} is given"
    others = tuple(e.type.name for e in able[1:])
    return _with_data(able[0], scene, said, DOUBTFUL, why, others)


def _score(found: TrainingType, scene: Scene, data: str | None) -> float:
    """Points for a type: the data's format 4, words of the sentence 2 each up to 4, the kind of model 2 or against."""
    seen = _of(data, scene.seen) if data is not None else [s for s in scene.seen if not s.held_out] or scene.seen
    fits = max((_fit(one, found) for one in seen), default=0.0)
    if seen and not fits:
        return 0.0  # data that the type can't take
    points = fits + _words_said(found, scene.prompt)
    if scene.model_is is not None and found.model_is != "any":
        points += 2.0 if found.model_is == scene.model_is else -3.0
    return points


def _fit(seen: Seen, found: TrainingType) -> float:
    """How well a type takes such data: a format of many columns says more than one that any text has."""
    taken = formats(seen, found)
    if not taken:
        return 0.0
    if seen.columns is None:
        return 1.0
    return 4.0 if any(f is not DataFormat.TEXT for f in taken) else 3.0


def _words_said(found: TrainingType, prompt: str) -> float:
    return min(4.0, 2.0 * sum(_said(word, prompt) for word in (*found.words, *found.aliases)))


def _said(word: str, prompt: str) -> bool:
    return re.search(rf"(?<![\w]){re.escape(word)}(?:s|ing|d)?(?![\w])", prompt, re.IGNORECASE) is not None


def _of(data: str, seen: Iterable[Seen]) -> list[Seen]:
    """What was seen of the named data: the file, or those in the folder."""
    return [s for s in seen if s.path == data or s.path.startswith(f"{data}/")]


def _with_data(entry: TypeFolder, scene: Scene, said: Named, sure: float, why: str, others: tuple[str, ...]) -> Chosen:
    data = said.data
    usable = [s for s in scene.seen if formats(s, entry.type)]
    if data is not None and (outside(data) or scene.data is not None):
        held_out = said.held_out  # what the repository holds out is no part of other data
    else:
        held_out = said.held_out or next((s.path for s in usable if s.held_out and s.path != data), None)
        data, held_out = _inside(data, usable, held_out)
    if data is not None:
        mine = _of(data, usable)
        kind = _format(mine, entry.type)
        named_by = f"the sentence names {data}" if scene.data is None else f"{data} is given"
        reason = why or (f"{data} holds {_words(kind)}" if kind else named_by)
        data_sure = DOUBTFUL if said.more else 1.0
        return Chosen(entry, kind, data, held_out, sure, data_sure, reason, others, said.more)
    train = [s for s in usable if not s.held_out]
    named = [s for s in train if s.train] or train
    first = named[0] if named else None
    kind = _format(named[:1], entry.type)
    reason = why or (f"{first.path} holds {_words(kind)}" if first else "no data was found")
    data_sure = SURE if len(named) == 1 else DOUBTFUL
    rest = tuple(s.path for s in named[1:])
    return Chosen(entry, kind, first.path if first else None, held_out, sure, data_sure, reason, others, rest)


def _inside(data: str | None, usable: Sequence[Seen], held_out: str | None) -> tuple[str | None, str | None]:
    """For a named folder with one file to train on, that file and the one that is held out; else as they are."""
    mine = [s for s in usable if data is not None and s.path.startswith(f"{data}/") and not s.images]
    train = [s for s in mine if not s.held_out]
    if len(train) != 1:
        return data, held_out if not mine else None
    return train[0].path, next((s.path for s in mine if s.held_out), None)


def _format(seen: Sequence[Seen], found: TrainingType) -> DataFormat | None:
    kinds = formats(seen[0], found) if seen and seen[0].columns is not None else ()
    return kinds[0] if kinds else None


def _words(kind: DataFormat | None) -> str:
    return {
        DataFormat.TEXT: "texts",
        DataFormat.CHAT: "conversations",
        DataFormat.INSTRUCTION: "instructions and their answers",
        DataFormat.CLASSIFICATION: "texts and their labels",
        DataFormat.PAIRS: "pairs of texts",
        DataFormat.IMAGES: "images in folders of their labels",
        None: "rows whose columns are seen later",
    }[kind]

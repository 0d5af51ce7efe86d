"""Files, folders and hub ids that a sentence names, each with the word that says what it is there for. Pure.

English, German, French and Spanish. It knows no repository: which of the names are there is `choosing`'s to see.
"""

import re
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple


def words(text: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(text.split())


class Kind(StrEnum):
    """What a name is by its form."""

    FILE = "file"  # with the ending of a data file
    PLACE = "place"  # a path that leads out of the repository: /x, ~/x, ../x
    HUB = "hub"  # owner/name, which may be a folder as well
    WORD = "word"


class Role(StrEnum):
    """What the words before a name say that it is there for."""

    DATA = "data"  # on X, the data X
    HELD_OUT = "held_out"  # evaluate on X
    WITH = "with"  # with X: data or model
    MODEL = "model"  # the model X, fine-tune X
    OUTPUT = "output"  # save to X
    NONE = ""


class Mention(NamedTuple):
    """One name. `near`: nothing but articles and the like is between the name and the word that gives it its role."""

    text: str
    kind: Kind
    role: Role
    near: bool


FILE: Final = re.compile(r"(?i)\.(?:jsonl|ndjson|json|csv|tsv|parquet|txt)(?:\.gz)?$")
HUB: Final = re.compile(r"(?:hub:)?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w.-]+)?")
_OUT: Final = re.compile(r"(?:/|~[\w.-]*/|\.\./)(?=.*[\w])")
_QUOTED: Final = r"\"[^\"\n]{1,400}\"|`[^`\n]{1,400}`|„[^“”\"\n]{1,400}[“”\"]|“[^”\n]{1,400}”|«[^»\n]{1,400}»"
_TOKEN: Final = re.compile(rf"{_QUOTED}|(?<!\w)'[^'\n]{{1,400}}'(?!\w)|[^\s\"`„“”«»]+")
_QUOTES: Final = "\"'`„“”«»"
_GIVEN: Final = re.compile(r"(?i)(?:--)?(data\w*(?:\.path)?|train\w*)[=:](?!//)(.+)")
_LONGEST: Final = 4000
_BACK: Final = 7  # words that are looked at before a name
_DATA: Final = words("on over upon auf über sur sobre")
_FROM: Final = words("from aus desde depuis")
_NOUNS: Final = words(
    "data dataset datasets corpus korpus daten datensatz datensatzes datensätze datensätzen trainingsdaten données"
    " datos corpora"
)
_WITH: Final = words(
    "with using use uses take by mit mithilfe mittels nutze verwende avec utilisant utilise con usando usa"
)
_MODEL: Final = words(
    "model models modell modells modèle modelo base checkpoint weights start starting begin beginning init initialize"
    " initialise ausgehend basierend partant partiendo"
)
_OF: Final = words("of von de d'après")
_TRAINS: Final = re.compile(
    r"fine-?tun\w*|finetun\w*|train\w*|tune|tuning|adapt\w*|embed\w*|feinabstimm\w*|entra[iî]n\w*|affin\w*|ajust\w*|afin\w*"
    r"|entren\w*|feinjustier\w*"
)
_TESTS: Final = re.compile(
    r"evaluat\w*|eval|validat\w*|validier\w*|held-?out|test|tested|testing|evaluier\w*|teste\w*|évalu\w*|evalú\w*|evalu\w*"
)
_SAVES: Final = re.compile(
    r"sav(?:e|es|ed|ing)|writ\w+|export\w*|stor(?:e|es|ing)|dump\w*|outputs?|speicher\w*|schreib\w*|ablege\w*|enregistr\w*"
    r"|écri\w*|sauvegard\w*|guard\w*|escrib\w*"
)
_BASED: Final = re.compile(r"based|building|basierend|aufbauend|basée?|basad[oa]")
_AND: Final = words("and und et y e or oder ou plus & , as well sowie")
_SMALL: Final = words(
    "the a an our my this these its their new own small der die das den dem des unser unsere unseren unserem unserer"
    " mein meine meinen meinem meiner le la les l' nos notre mes mon ma el los las nuestro nuestra nuestros nuestras"
    " mi mis file files folder directory datei dateien ordner verzeichnis fichier fichiers dossier archivo archivos"
    " fichero carpeta in im at under from dans en of du del de jeu conjunto ensemble hub"
)


class _Token(NamedTuple):
    text: str
    word: str
    ends: bool  # a clause ends with it


def mentions(prompt: str) -> tuple[Mention, ...]:
    """The names in a sentence's first 4,000 characters, in order."""
    tokens = list(_tokens(unicodedata.normalize("NFC", prompt[:_LONGEST]).replace("\u2019", "'")))
    return tuple(_mention(tokens, at) for at, token in enumerate(tokens) if token.text)


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        raw = match[0]
        inner = raw.strip(_QUOTES)
        if raw[0] in _QUOTES and re.search(r"\s", inner):
            if _OUT.match(inner) or (FILE.search(inner) and not _says_role(inner)):
                yield _Token(inner, inner.casefold(), ends=False)
            else:
                yield from _tokens(inner)
            continue
        bare = raw.strip(_QUOTES).strip("([{<>}]),;:!?¿¡…" + _QUOTES)
        bare = bare.rstrip(".") if not bare.endswith("..") else bare
        yield _Token(bare, bare.casefold(), ends=raw[-1] in ".;!?")


def _says_role(text: str) -> bool:
    """Whether quoted words are a sentence rather than a name with blanks."""
    inner = words(text.casefold())
    return bool(inner & (_DATA | _WITH | _FROM)) or any(_TRAINS.fullmatch(w) for w in inner)


def _form(text: str) -> Kind:
    if _OUT.match(text):
        return Kind.FILE if FILE.search(text) else Kind.PLACE
    if FILE.search(text):
        return Kind.FILE
    return Kind.HUB if HUB.fullmatch(text) else Kind.WORD


def _mention(tokens: list[_Token], at: int) -> Mention:
    text = tokens[at].text
    given = _GIVEN.fullmatch(text)
    if given is not None:
        return Mention(_plain(given[2]), _form(given[2]), Role.DATA, near=True)
    kind = _form(text)
    role, near = _role(tokens, at, kind)
    if text.startswith("hub:") or (role in (Role.WITH, Role.NONE) and _noun_after(tokens, at)):
        role, near = Role.DATA, True
    return Mention(_plain(text), kind, role, near)


def _plain(text: str) -> str:
    return text.removeprefix("./").rstrip("/") or "/"


def _noun_after(tokens: list[_Token], at: int) -> bool:
    return at + 1 < len(tokens) and tokens[at + 1].word in _NOUNS and not tokens[at].ends


def _role(tokens: list[_Token], at: int, kind: Kind) -> tuple[Role, bool]:
    """What the nearest telling word before a name says; another name between ends the search, unless `and` joins."""
    near, joined = True, True
    for back in range(at - 1, max(-1, at - 1 - _BACK), -1):
        token = tokens[back]
        word = token.word
        if token.ends:
            break
        if _form(token.text) is not Kind.WORD:
            if not joined:
                break
            return _role(tokens, back, kind)[0], False
        found = None if word in _OF and kind is not Kind.HUB else _telling(tokens, back)
        if found is not None:
            return found, near
        joined = joined and (word in _AND or not word)
        near = near and (word in _SMALL or not word)
    return Role.NONE, False


def _telling(tokens: list[_Token], at: int) -> Role | None:
    """The role that a word gives to the name behind it; None for a word that says nothing."""
    word = tokens[at].word
    before = [t.word for t in tokens[max(0, at - 4) : at]]
    if word in _NOUNS or word in ("set", "split"):
        return Role.HELD_OUT if any(_TESTS.fullmatch(w) for w in before[-1:]) else Role.DATA
    if word in _DATA:
        return Role.MODEL if any(_BASED.fullmatch(w) for w in before[-1:]) else _held_out_or_data(before)
    if word in _FROM:
        return Role.MODEL if any(w in _MODEL for w in before[-1:]) else Role.DATA
    if word in _WITH:
        return Role.WITH
    if word in _MODEL or word in _OF or _TRAINS.fullmatch(word):
        return Role.MODEL
    if _SAVES.fullmatch(word):
        return Role.OUTPUT
    return Role.HELD_OUT if _TESTS.fullmatch(word) else None


def _held_out_or_data(before: list[str]) -> Role:
    for word in reversed(before):
        if _TRAINS.fullmatch(word):
            return Role.DATA
        if _TESTS.fullmatch(word):
            return Role.HELD_OUT
    return Role.DATA

"""What every reader of sentences uses: a find, word boundaries that hold beside any script, negations, bounds.

It knows no plan field.
"""

import re
from typing import Final, Literal, NamedTuple

from caravan.values.base import Json

_LETTER: Final = "A-Za-z0-9_\u00c0-\u024f"
B: Final = rf"(?<![{_LETTER}])"
"""Begin of a word: no Latin letter or digit before. `\\b` fails beside Chinese and Japanese, which are letters too."""
E: Final = rf"(?![{_LETTER}])"
"""End of a word."""

Bound = Literal["", "most", "least"]


class Said(NamedTuple):
    """A value that the text gives for a plan field, and where. `meant`: how it was taken, where that isn't plain.

    `weak`: an article (`a GPU`), which gives way to any number. `article` bounds: at most, at least.
    """

    path: str
    value: Json
    start: int
    end: int
    bound: Bound = ""
    meant: str = ""
    weak: bool = False


class Unused(NamedTuple):
    """Words that hold a value or a wish that no field takes, and why."""

    words: str
    why: str
    start: int
    end: int


Found = Said | Unused


_FILL: Final = (
    r"(?:(?:an?|the|any|my|our|use|using|used|with|on|of|to|it|is|be|just|only|even|train(?:ing)? (?:it )?(?:on|with)|"
    r"do|go|for|den|die|das|einen?|einer|mit|auf|bitte|le|la|les|une?|el|los|las|con|en|unos?|unas?|de|du|nvidia|"
    r"pay|run|want|need|needed|utiliser?|benutzen?|verwenden?|usar|uses?)\s+)"
)
_NOT: Final = (
    rf"{B}(?:no|not|without|avoid(?:ing)?|never|except(?: for)?|excluding|but not|rather than|instead of|other than|"
    r"any(?:thing|one)? but|(?:do|does|must|should|shall)(?: not|n['’]t)|don['’]?t|can['’]?t|cannot|won['’]?t|"
    r"kein(?:e[nrsm]?)?|ohne|nicht|statt|anstatt|au(?:ß|ss)er|nie|"
    r"pas(?: de| d['’])?|sans|sauf|au lieu d[e'’]|jamais|"
    r"sin|nunca|evit(?:a|ar|e)|excepto|salvo|en (?:vez|lugar) de)"
)
_BEFORE: Final = re.compile(
    rf"(?:{_NOT}\s+{_FILL}{{0,4}}|(?:d['’])|(?:不要|不用|不使用|不能用|别|別|禁止|避免|除了|而不是|不是|"
    r"不想用|没有|沒有)(?:再)?(?:使?用)?\s*)$",
    re.IGNORECASE,
)
_ELIDED: Final = re.compile(r"(?:pas|sans|au lieu)\s+d['’]$", re.IGNORECASE)
_AFTER: Final = re.compile(
    r"^s?\s*(?:(?:は|を|も|の)?\s*(?:使わ(?:ない|ず)|使用し(?:ない|ません)|使いません|なし|無し|抜き|以外|"
    r"不要|じゃなくて|ではなく|禁止)"
    r"|(?:nicht|not? (?:allowed|wanted)|is out|are out|forbidden|verboten|interdits?)(?![A-Za-z]))",
    re.IGNORECASE,
)
_MOST: Final = (
    rf"{B}(?:(?:at|the) most|(?:no|not|never|don['’]t \w+|do not \w+)(?: \w+)? more than|"
    r"max(?:imum)?\.?(?: of)?|up to|under|below|"
    r"less than|fewer than|within|inside|not (?:over|above|exceed(?:ing)?)|never exceed|cap(?:ped)? (?:it )?at|"
    r"limit(?:ed)?(?: of| to)?|stay(?:ing)? under|höchstens|hoechstens|maximal|bis zu|unter|weniger als|"
    r"nicht (?:mehr|länger|laenger) als|innerhalb(?: von)?|nicht über|au (?:plus|maximum)|maximum|moins de|"
    r"pas plus de?|jusqu['’]à|sous|en dessous de|como (?:mucho|máximo|maximo)|máximo(?: de)?|maximo(?: de)?|"
    r"(?:a lo )?sumo|menos de|no (?:más|mas) de|hasta|por debajo de)"
)
_LEAST: Final = (
    rf"{B}(?:at least|no (?:less|fewer) than|not (?:less|fewer) than|min(?:imum)?\.?(?: of)?|more than|over|above|"
    r"mindestens|wenigstens|mehr als|über|au moins|plus de|minimum|al menos|por lo menos|más de|mas de|mínimo(?: de)?)"
)
_MOST_BEFORE: Final = re.compile(
    rf"(?:{_MOST}\s*:?\s*{_FILL}?|(?:最多|至多|不(?:要)?超[过過]|不能超[过過]|少于|低于|最大で?|最高)(?:用|使用)?\s*)$",
    re.IGNORECASE,
)
_LEAST_BEFORE: Final = re.compile(
    rf"(?:{_LEAST}\s*:?\s*{_FILL}?|(?:至少|最少|不少于|超[过過]|多于|最低|少なくとも)(?:用|使用)?\s*)$", re.IGNORECASE
)
_MOST_AFTER: Final = re.compile(
    rf"^s?\s*(?:(?:or|oder|ou|o) (?:less|fewer|weniger|moins|menos){E}|(?:at (?:the )?most|max(?:imum|imal)?|tops|"
    rf"höchstens|au (?:plus|max(?:imum)?)|como máximo|máximo){E}|以内|之内|以下|未満|まで|内(?!存)|封顶)",
    re.IGNORECASE,
)
_LEAST_AFTER: Final = re.compile(
    rf"^s?\s*(?:(?:or|oder|ou|o) (?:more|mehr|plus|más){E}|(?:at least|minimum|mindestens|au moins|al menos){E}|以上)",
    re.IGNORECASE,
)


def negated(text: str, start: int, end: int) -> bool:
    """Whether the words at that place are denied: `no LoRA`, `don't use H100s`, `H100以外`; not `no more than`."""
    if bound(text, start, end):
        return False
    before = text[max(0, start - 60) : start]
    hit = _BEFORE.search(before)
    if hit and hit[0].lower() in ("d'", "d’"):
        hit = _ELIDED.search(before)
    return bool(hit or _AFTER.match(text[end : end + 24]))


def bound(text: str, start: int, end: int) -> Bound:
    """Whether the words before or after make an amount an upper or a lower bound."""
    before, after = text[max(0, start - 48) : start], text[end : end + 24]
    if _MOST_BEFORE.search(before) or _MOST_AFTER.match(after):
        return "most"
    if _LEAST_BEFORE.search(before) or _LEAST_AFTER.match(after):
        return "least"
    return ""

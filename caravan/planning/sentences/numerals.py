"""Numbers as people write them: digits, words in some languages, Chinese and Japanese numerals, halves, vague ones.

A word counts as a number only where the caller's pattern has it beside a unit: `once` is eleven in Spanish. Words are
evaluated by text2num; what it leaves out (`a couple`, `half`, CJK) is here.
"""

import math
import re
from typing import Final

from text_to_num import text2num  # a table of words, loaded once; no I/O of ours

from caravan.planning.sentences.common import E

LANGUAGES: Final = ("en", "de", "fr", "es")

_TOKENS: Final = (
    # English, German (glued), French, Spanish; the longer ones first, so that `six` does not hide `sixteen`.
    r"zero|one|two|three|four(?:teen)?|five|six(?:teen|ty)?|seven(?:teen|ty)?|eight(?:een|y)?|nine(?:teen|ty)?|ten|"
    r"eleven|twelve|thirteen|fifteen|twenty|thirty|forty|fifty|hundred|thousand|million|"
    r"null|eins?|zwei|zwo|drei(?:zehn|ßig|ssig)?|vier(?:zehn|zig)?|fünf(?:zehn|zig)?|fuenf(?:zehn|zig)?|"
    r"sechs|sech(?:zehn|zig)|sieben|sieb(?:zehn|zig)|acht(?:zehn|zig)?|neun(?:zehn|zig)?|zehn|elf|zwölf|zwoelf|"
    r"zwanzig|hundert|tausend|"
    r"deux|trois|quatre|cinq|sept|huit|neuf|dix|onze|douze|treize|quatorze|quinze|seize|vingts?|trente|quarante|"
    r"cinquante|soixante|cents?|mille|"
    r"dos(?:cientos)?|tres(?:cientos)?|cuatro(?:cientos)?|cinco|quinientos|seis(?:cientos)?|siete|setecientos|"
    r"ocho(?:cientos)?|nueve|novecientos|diez|once|doce|trece|catorce|quince|dieci\w{3,6}|veinte|veinti\w{2,6}|"
    r"treinta|cuarenta|cincuenta|sesenta|setenta|ochenta|noventa|cien(?:to)?|mil"
)
ARTICLES: Final = r"an?|ein(?:e[nrms]?)?|une?|una|uno"
_GLUE: Final = r"(?:[\s-]+(?:(?:and|et|y)[\s-]+)?|und)?"
_WORDS: Final = (
    rf"(?:(?:{ARTICLES})\s+(?=hundred|thousand|hundert|tausend))?(?:(?:ein|une?|un)(?=und|"
    rf"hundert|tausend))?(?:{_TOKENS})(?:{_GLUE}(?:un|une|ein|uno)?(?:{_TOKENS})){{0,6}}(?:\s+et\s+une?)?"
)
_DIGITS: Final = (
    r"\d{1,3}(?:[,'’\u202f\u00a0 ]\d{3})+(?!\d)|[1-9]\d{0,2}(?:\.\d{3})+(?![\d.])|\d+(?:[.,]\d+)?(?:e[+-]?\d+)?"
)
_HAN: Final = "〇零一二两兩三四五六七八九十百千万萬"
_COUNTED: Final = {
    r"(?:an?\s+)?(?:couple|pair)(?:\s+of)?": 2,
    r"half\s+a\s+dozen": 6,
    r"(?:an?\s+)?dozen": 12,
    r"anderthalb|eineinhalb|ein(?:e[nrms]?)?\s+und\s+ein(?:e[nrms]?)?\s+halbe?[nrsm]?": 1.5,
    r"zweieinhalb": 2.5,
    r"dreieinhalb": 3.5,
    r"ein(?:e[nrms]?)?\s+Paar": 2,  # `ein paar`, in small letters, is vague
    r"dual": 2,
    r"quad": 4,
    r"(?:an?\s+)?single|einzelne[nrms]?|(?:une?\s+)?seule?|(?:una?\s+)?sol[oa]|únic[oa]": 1,
}
_HALF: Final = r"\s+and\s+a\s+half|\s*½"

NUMBER: Final = (
    rf"(?>(?:{'|'.join(k for k in _COUNTED if 'Paar' not in k)}|"
    rf"(?:{_DIGITS})(?:\s?[万萬千百])?|[{_HAN}]{{1,12}}|(?:{_WORDS}){E})(?:{_HALF}|\s?[kK](?![A-Za-z]))?|½)"
)
"""Source of a pattern without groups; `value_of` evaluates what it matched. It is atomic: of `a hundred and twenty`
before an unknown unit no `a hundred` is left."""

VAGUE: Final = (
    r"(?:(?:just |only )?(?:a )?few|several|some|many|multiple|lots of|a lot of|a bunch of|plenty of|"
    r"all(?: the| of the)?|"
    r"as many|ein paar|einige|mehrere|viele|alle|quelques|plusieurs|beaucoup de|toutes? les|tous les|algun[oa]s|"
    r"un[oa]s|vari[oa]s|much[oa]s|tod[oa]s l[oa]s|几|幾|一些|多|所有|全部|いくつか|複数|数|全)"
)
"""Amounts without a number."""

RANGE: Final = r"(?:\s*(?:-|–|—|~|〜|到|至|から)\s*|\s+(?:to|bis|or|oder|à|ou|a|o|或)\s+)"
"""What stands between the ends of a range."""

_WHOLE: Final = re.compile(rf"^(?:{_DIGITS})$", re.IGNORECASE)


def value_of(text: str) -> float | None:
    """The number that a text is, or None."""
    text = " ".join(text.lower().replace("½", " and a half").split())
    if text in ("and a half", "half", "a half", "half a", "half an"):
        return 0.5
    if text.endswith(" and a half"):
        whole = value_of(text.removesuffix(" and a half"))
        return None if whole is None else whole + 0.5
    if text.endswith("k"):
        thousands = value_of(text[:-1])
        return None if thousands is None else thousands * 1000
    for pattern, value in _COUNTED.items():
        if re.fullmatch(pattern, text, re.IGNORECASE):
            return float(value)
    if _WHOLE.match(text):
        return _digits(text)
    if text[:1].isdigit() and text[-1] in _LARGE:
        many = value_of(text[:-1])
        return None if many is None else many * _LARGE[text[-1]]
    if text and all(c in _HAN for c in text):
        return _han(text)
    return 1.0 if re.fullmatch(ARTICLES, text) else _words(text)


def article(text: str) -> bool:
    """Whether the text is an article, which may be a one."""
    return re.fullmatch(ARTICLES, text.strip(), re.IGNORECASE) is not None


def _digits(text: str) -> float | None:
    if re.fullmatch(r"\d{1,3}(?:[,'’\u202f\u00a0 ]\d{3})+|[1-9]\d{0,2}(?:\.\d{3})+", text):
        return float(re.sub(r"\D", "", text))
    try:
        found = float(text.replace(",", "."))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _words(text: str) -> float | None:
    text = re.sub(
        rf"^(?:{ARTICLES}) (?=hundred|thousand|hundert|tausend)",
        "one " if "hundred" in text or "thousand" in text else "ein",
        text,
    )
    spelled = text.replace("fuenf", "fünf").replace("zwoelf", "zwölf").replace("ssig", "ßig")
    for language in LANGUAGES:
        try:
            return float(text2num(spelled, language))
        except ValueError:
            continue
    return None


_UNITS: Final = dict(zip("〇零一二两兩三四五六七八九", (0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_TENS: Final = {"十": 10, "百": 100, "千": 1000}


_LARGE: Final = {"百": 100, "千": 1000, "万": 10_000, "萬": 10_000}


def _han(text: str) -> float | None:
    """Positional (`一二八`) or with tens (`二十五`, `三百`, `一万二千`)."""
    if all(c in _UNITS for c in text):
        return float("".join(str(_UNITS[c]) for c in text)) if len(text) < 10 else None
    whole, part, digit = 0, 0, 0
    for char in text:
        if char in _UNITS:
            digit = _UNITS[char]
        elif char in _TENS:
            part, digit = part + (digit or 1) * _TENS[char], 0
        else:
            whole, part, digit = (whole + part + digit or 1) * 10_000, 0, 0
    return float(whole + part + digit)

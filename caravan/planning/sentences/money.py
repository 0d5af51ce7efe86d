"""Amounts of money in a sentence, as US dollars for the whole run. It knows words and currencies alone."""

import re
from collections.abc import Iterator
from typing import Final

from caravan.planning.sentences.common import B, E, Found, Said, Unused, negated
from caravan.planning.sentences.numerals import NUMBER, RANGE, value_of

PATH: Final = "limits.max_cost_usd"

CAUTIOUS_USD: Final = {"EUR": 0.95, "GBP": 1.05, "CHF": 0.95, "CNY": 0.135, "JPY": 0.006}
"""Rough, deliberately low: what one unit is worth in US dollars, rounded down by hand. No published table was read.

No rate is asked for either: a limit that is a little low is safe, and the user is told the rate that was used.
"""

_CURRENCIES: Final = {
    "USD": r"us\s?\$|\$|usd|(?:us |american )?dollars?|bucks?|dólar(?:es)?|dolares|us-dollar|美元|美金|刀|美刀|米?ドル",
    "EUR": r"€|eur|euros?|欧元|ユーロ",
    "GBP": r"£|gbp|quid|pounds?(?: sterling)?|livres? sterling|libras?|英镑|ポンド",
    "CHF": r"chf|(?:swiss )?francs?(?: suisses?)?|franken|瑞士法郎",
    "CNY": r"cny|rmb|yuan|renminbi|元|块钱|人民币|块(?=以内|之内|以下|[，。,.]|$)",
    "JPY": r"jpy|yens?|円|日元",
    "?": r"¥|￥",
    "cent": r"cents?(?! \d)|centimes?|céntimos?",
}
_ANY: Final = "|".join(_CURRENCIES.values())
_SIGN: Final = r"us\s?\$|\$|€|£|¥|￥|usd|eur|chf|gbp|rmb|cny|jpy"
_EDGE: Final = r"(?<![A-Za-z\u00c0-\u024f_])"
_PATTERN: Final = re.compile(
    rf"(?:{_EDGE}(?P<sign>{_SIGN})\s?(?P<a>{NUMBER})(?:{RANGE}(?:{_SIGN})?\s?(?P<a2>{NUMBER}))?{E}(?:\s?(?:{_ANY}){E})?"
    rf"|{B}(?P<b>{NUMBER})(?:{RANGE}(?P<b2>{NUMBER}))?[\s-]?(?P<unit>{_ANY})(?![A-Za-z\u00c0-\u024f]))",
    re.IGNORECASE,
)
_BARE: Final = re.compile(
    rf"(?:{B}(?:budget|presupuesto|kostenlimit|cost (?:limit|cap)|max(?:imum)? cost|spend(?:ing)?(?: limit)?)"
    r"|预算|預算|予算)(?:\s+(?:is|of|ist|von|est de|de|es de|at most|max\.?|limit)|\s*(?:是|为|は|"
    rf"[:=]))*\s*(?P<b>{NUMBER}){E}(?![万萬千百]|[.,]?\d)"
    rf"(?!\s*(?:{_ANY}|gpus?|hours?|h\b|epochs?|steps?|%))",
    re.IGNORECASE,
)
_RATE: Final = re.compile(
    r"^\s?(?:/|per|an?|each|every|pro|je|par|por|al?|の?毎|每)\s?(?:gpu[\s-]?|card[\s-]?)?(?:h|hr|hours?|"
    r"stunde|heure|hora|day|tag|jour|día|"
    rf"gpu|card|epoch|run|node|小时|时|天|卡){E}|^\s?(?:一|每)(?:个)?(?:小时|天)|^\s?(?:hourly|an hour|ea\.?){E}",
    re.IGNORECASE,
)
_NO_LIMIT: Final = re.compile(
    rf"(?:{B}(?:at least|more than|over|above|mindestens|mehr als|über|au moins|plus de|al menos|más de|costs?|cost me|"
    r"(?:have )?(?:already )?(?:spent|paid)|kostete|gekostet|coûté|worth)\s+(?:about |around )?|(?:至少|"
    r"超过|已经花了?))$",
    re.IGNORECASE,
)
_NOT_MORE: Final = re.compile(
    rf"(?:{B}(?:\w+n['’]?t|not|no|never|nicht|pas|nunca|jamais)(?:\s+\w+)?\s+|不(?:要)?|不能)$", re.IGNORECASE
)
_CHEAP: Final = re.compile(
    rf"{B}(?:(?:as )?(?:cheap(?:ly)?|inexpensive(?:ly)?) as (?:possible|you can)|"
    r"(?:the )?cheapest(?: possible| way| option)?|on a budget|low[- ](?:cost|budget)|"
    r"(?:so|möglichst) (?:billig|günstig|preiswert)(?: wie möglich| wie es geht)?|(?:le )?moins cher(?: possible)?|"
    rf"(?:lo )?más barato(?: posible)?|tan barato como sea posible){E}|(?:尽量|尽可能|越)便宜|最便宜|"
    r"できるだけ安く|なるべく安く|一番安い",
    re.IGNORECASE,
)
_OPEN: Final = re.compile(
    rf"{B}(?:money (?:is no (?:object|issue|problem|concern)|(?:does not|doesn['’]t) matter)|"
    r"cost (?:is no (?:object|issue|problem|concern)|(?:does not|doesn['’]t) matter)|whatever it costs|"
    r"no budget limit|(?:geld|kosten) spiel\w+ keine rolle"
    rf"|peu importe le (?:prix|coût)|no importa el (?:precio|costo|coste)){E}|不差钱|不计成本|費用は問わない",
    re.IGNORECASE,
)


def find_money(text: str) -> Iterator[Found]:
    """The amounts, each as a limit in US dollars; rates, lower bounds and wishes for cheapness as unused."""
    for match in _PATTERN.finditer(text):
        words = match[0].strip()
        start, end = match.start(), match.end()
        before, after = text[max(0, start - 40) : start], text[end : end + 20]
        if _RATE.match(after):
            yield Unused(
                words + after[: _length(after)],
                "a price is not set by a sentence: the limit is for the whole run",
                start,
                end,
            )
        elif (hit := _NO_LIMIT.search(before)) and not _NOT_MORE.search(before[: hit.start()]):
            yield Unused((hit[0] + words).strip(), "a run has an upper limit of cost alone", start, end)
        elif negated(text, start, end):
            yield Unused(words, "which amount instead?", start, end)
        else:
            yield from _amount(match, text)
    for match in _BARE.finditer(text):
        value = value_of(match["b"])
        if value is not None:
            yield Said(PATH, value, match.start(), match.end(), "most", "US dollars, as no currency is named")
    for match in _CHEAP.finditer(text):
        why = "where nobody names a GPU type, the cheapest that fits is taken anyway; a limit is a number of dollars"
        yield Unused(match[0], why, match.start(), match.end())
    for match in _OPEN.finditer(text):
        yield Unused(match[0], "a limit that isn't named is the settings' limit", match.start(), match.end())


def _amount(match: re.Match[str], text: str) -> Iterator[Found]:
    last = match["a2"] or match["b2"] or match["a"] or match["b"]
    value = value_of(last)
    currency = _currency((match["sign"] or match["unit"]).lower(), text)
    if value is None:
        return
    if currency == "?":
        yield Unused(match[0].strip(), "¥ may be yen or yuan: write JPY, CNY or US dollars", match.start(), match.end())
        return
    meant = "the upper end of what was said" if match["a2"] or match["b2"] else ""
    if currency == "cent":
        value /= 100
    elif currency != "USD":
        rate = CAUTIOUS_USD[currency]
        value, meant = (
            round(value * rate, 2),
            f"at {rate} US dollars for 1 {currency}, a low rate, so that it is never too much",
        )
    yield Said(PATH, value, match.start(), match.end(), "most", meant)


def _currency(word: str, text: str) -> str:
    if word in ("¥", "￥"):
        if re.search(r"[\u3040-\u30ff]", text):
            return "JPY"
        return "CNY" if re.search(r"[\u4e00-\u9fff]", text) else "?"
    return next(
        name
        for name, pattern in _CURRENCIES.items()
        if re.fullmatch(pattern.replace("|块(?=以内|之内|以下|[，。,.]|$)", "|块"), word, re.IGNORECASE)
    )


def _length(after: str) -> int:
    found = _RATE.match(after)
    return found.end() if found else 0

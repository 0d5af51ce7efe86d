"""How many GPUs a user's sentence asks for, in digits or in words. Pure; it knows no cluster."""

import re
from typing import Final

_WORDS: Final = {
    **{"one": 1, "a": 1, "an": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7},
    **{"eight": 8, "ten": 10, "twelve": 12, "sixteen": 16, "thirty-two": 32, "sixty-four": 64},
}
_NUMBER: Final = rf"(?:\d{{1,4}}|{'|'.join(sorted(_WORDS, key=len, reverse=True))})"
_CARD: Final = (
    r"(?:[ABHLV]\d{2,3}[a-z]?|GH200|GB200|P100|K80|T4|(?:RTX|GTX)[ -]?(?:A?\d{4})(?: ?(?:Ti|Super|Ada))?|A[456]000"
    r"|MI\d{3}[A-Z]?|[2345]0[5-9]0(?: ?Ti)?)"
)
_KIND: Final = r"(?:(?:nvidia|amd|tesla|local|free|big|small|consumer|idle)\s+)*(?:\d{1,3}\s?GB[- ])?"
_DEVICE: Final = (
    rf"(?:{_CARD}s?(?![\w.])(?:[- ]?\(?\d{{1,3}}\s?GB\)?)?(?:\s(?:gpus?|cards?))?|(?:gpus?|graphics cards?)\b)"
)
_COUNTED: Final = re.compile(rf"(?i)(?<![\w.])({_NUMBER})(?:\s?[x×]\s?|[\s-]+){_KIND}(?:{_DEVICE})")
_ONLY: Final = re.compile(rf"(?i)\b(?:my|the|this|our)\s+{_KIND}(?:{_CARD}(?![\w.])|gpu\b)(?!s| memory)")
_NODES: Final = re.compile(rf"(?i)\b({_NUMBER})[\s-]+(?:nodes|machines|servers|hosts|boxes)\b")
_EACH: Final = re.compile(r"(?i)^[^.;]{0,20}\b(?:each|per (?:node|machine|server|host)|a (?:node|machine)|on each)\b")
_CPU: Final = re.compile(
    r"(?i)\b(?:on|with|using) (?:a |the |my )?cpu\b|\bcpu[- ]only\b|\bwithout (?:a |any )?gpus?\b|\bno gpus?\b"
)


def gpus_asked(sentence: str) -> int | None:
    """The number of GPUs, over all nodes where it is said for each; 0 for a CPU; None where nothing says."""
    if _CPU.search(sentence):
        return 0
    match = _COUNTED.search(sentence)
    if match:
        count = _value(match[1])
        nodes = _NODES.search(sentence)
        if nodes and (_EACH.search(sentence[match.end() :]) or nodes.end() <= match.start() <= nodes.end() + 8):
            return count * _value(nodes[1])
        return count
    return 1 if _ONLY.search(sentence) else None


def gpus_counted(text: str) -> list[int]:
    """The numbers of GPUs that a line of prose speaks of; `a GPU` is no number."""
    found = [match[1] for match in _COUNTED.finditer(text) if match[1].lower() not in ("a", "an")]
    return [count for word in found if 0 < (count := _value(word)) <= 4096]


def _value(word: str) -> int:
    return int(word) if word.isdigit() else _WORDS[word.lower()]

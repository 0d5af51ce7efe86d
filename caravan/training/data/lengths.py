"""How long sequences are: a part of the rows kept evenly, and their lengths counted or estimated. Pure.

The estimate: characters of Latin letters by `LATIN`, other letters by `OTHER`, signs of Chinese, Japanese and Korean by
`WIDE`, and `PER_MESSAGE` tokens that a chat template adds to each message. Measured on this project's manual, code and
example and on sentences in four languages with three public tokenizers: 3.0 to 4.3 characters of Latin letters a token,
1.9 to 2.5 of Cyrillic, 0.65 to 1.03 of Chinese and Japanese.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from caravan.training.data.problems import Problems
from caravan.training.data.rows import Row
from caravan.training.data.texts import Learned
from caravan.values.datasets import CHARS_PER_TOKEN
from caravan.values.training import DataFormat, DataKind, Lengths

LATIN: Final = CHARS_PER_TOKEN
OTHER: Final = 2.0
WIDE: Final = 1.0
PER_MESSAGE: Final = 5  # `<|im_start|>user\n…<|im_end|>\n`, as ChatML has it
KEPT: Final = 2000
"""Rows whose tokens are counted."""
_CHARACTERS: Final = 16_000_000
_LONGEST: Final = 200_000  # characters of one text that are counted; the rest of it goes by their ratio
_WIDE: Final = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]")
_OTHER: Final = re.compile("[^\x00-\u024f]")


@dataclass
class Kept:
    """Rows that stand for all: every one of few, of more every second, fourth, …; and the shortest and the longest."""

    rows: list[tuple[Row, Learned]] = field(default_factory=list)
    step: int = 1
    seen: int = 0
    characters: int = 0
    shortest: tuple[int, Row, Learned] | None = None
    longest: tuple[int, Row, Learned] | None = None

    def add(self, row: Row, learned: Learned) -> None:
        """Another row."""
        size = learned.characters
        if self.longest is None or size > self.longest[0]:
            self.longest = (size, row, learned)
        if self.shortest is None or size < self.shortest[0]:
            self.shortest = (size, row, learned)
        if self.seen % self.step == 0:
            self.rows.append((row, learned))
            self.characters += size
            while len(self.rows) > 2 * KEPT or (self.characters > _CHARACTERS and len(self.rows) > 1):
                self.rows = self.rows[::2]
                self.step *= 2
                self.characters = sum(each.characters for _, each in self.rows)
        self.seen += 1

    def chosen(self) -> list[tuple[Row, Learned]]:
        """The rows to count, the shortest and the longest last where they are not among them."""
        found = self.rows[:: max(1, len(self.rows) // KEPT)][: KEPT + KEPT // 2]
        ends = [(e[1], e[2]) for e in (self.shortest, self.longest) if e is not None]
        return found + [end for end in ends if not any(end[0] is row for row, _ in found)]


def estimated_tokens(texts: Sequence[str], messages: int = 0) -> int:
    """Tokens of texts by their characters."""
    total = 0.0
    for text in texts:
        wide = 0 if text.isascii() else len(_WIDE.findall(text))
        other = 0 if text.isascii() else len(_OTHER.findall(text)) - wide
        total += wide / WIDE + other / OTHER + (len(text) - wide - other) / LATIN
    return round(total) + PER_MESSAGE * messages


_LEARNED_LAST: Final = (DataFormat.CHAT, DataFormat.INSTRUCTION)  # what is learned stands at the end, which is cut


def enough(lengths: Lengths) -> int | None:
    """A limit that would do where the one that is set is twice as long as the longest row, or more; else None."""
    if not lengths.limit or not lengths.longest or 2 * lengths.longest > lengths.limit:
        return None
    wanted = -(-lengths.longest // _STEP) * _STEP
    return wanted if wanted < lengths.limit else None


_STEP: Final = 64  # tokens: lengths that kernels like


def summed(tokens: Sequence[int], limit: int | None, *, estimated: bool) -> Lengths | None:
    """The distribution of lengths in tokens; None without any."""
    if not tokens:
        return None
    ordered = sorted(tokens)
    count = len(ordered)
    return Lengths(
        count=count,
        median=ordered[(count - 1) // 2],
        p95=ordered[min(count - 1, round(0.95 * (count - 1)))],
        longest=ordered[-1],
        cut=sum(t > limit for t in ordered) if limit else 0,
        limit=limit,
        estimated=estimated,
    )


def told(
    lengths: Lengths,
    rows: Sequence[Row],
    tokens: Sequence[int],
    wanted: DataFormat | None,
    problems: Problems,
    *,
    most: int | None = None,
) -> None:
    """What the limit does to the sequences: all cut, or some. `most`: tokens that the model was made for."""
    limit = lengths.limit
    if not limit or wanted is DataFormat.TEXT:  # texts are taken in pieces: nothing of them is lost
        return
    by = " by an estimate from characters" if lengths.estimated else ""
    if lengths.cut == lengths.count:
        row = rows[tokens.index(min(tokens))]
        text = f"all sequences are longer than max_len {limit}: the shortest has {min(tokens)} tokens{by}"
        room = most is None or limit < most
        takes = f"; the model takes up to {most}" if most and room else ""
        hint = f"raise training.max_len{takes}" if room else f"the model takes no more than {most}"
        problems.add(
            DataKind.ALL_TOO_LONG, f"{text}; {hint}", row.file, row.line, fatal=room or wanted in _LEARNED_LAST
        )
    elif lengths.cut:
        row = rows[tokens.index(max(tokens))]
        share = lengths.cut / lengths.count
        text = f"{share:.1%} of the sequences are longer than max_len {limit} and are cut"
        text += f"; the longest has {max(tokens):,} tokens{by}"

        problems.add(DataKind.TOO_LONG, text, row.file, row.line, fatal=False)

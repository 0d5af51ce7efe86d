"""How long texts are against what is let in and what the model was made for. Plain Python."""

import argparse
from dataclasses import dataclass, field
from typing import Any

from shared.refusals import Refused, note

OFFSET = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "xmod",
    "data2vec-text",
    "mpnet",
    "longformer",
    "esm",
)
"""Kinds of models that count positions from behind their padding token."""


@dataclass
class Cut:
    """Counts texts and those that are longer than the limit, in tokens."""

    limit: int
    lengths: list[int] = field(default_factory=list)

    def count(self, length: int) -> None:
        """One text."""
        self.lengths.append(length)

    @property
    def cut(self) -> int:
        """How many are cut."""
        return sum(1 for length in self.lengths if length > self.limit)

    def told(self) -> dict[str, int]:
        """Count, median, longest, limit and how many are cut."""
        ordered = sorted(self.lengths)
        middle = ordered[len(ordered) // 2] if ordered else 0
        longest = ordered[-1] if ordered else 0
        return {"count": len(ordered), "median": middle, "longest": longest, "limit": self.limit, "cut": self.cut}

    def check(self, args: argparse.Namespace, most: int | None) -> None:
        """Say how many texts are cut. Raises Refused where all are though the model would take more.

        `most` is the model's own limit (None: it has none).
        """
        if not self.lengths or not self.cut:
            return
        room = most is None or self.limit < most
        if self.cut == len(self.lengths) and room and len(self.lengths) > 1:
            up_to = f"; the model takes up to {most}" if most else ""
            text = f"all {self.cut} texts are longer than --max-len {self.limit}: raise it{up_to}"
            raise Refused("all_too_long", text, args.data)
        note(f"{self.cut} of {len(self.lengths)} texts are cut to {self.limit} tokens")


def most_tokens(config: Any, tokenizer: Any) -> int | None:
    """The longest text that a model was made for, in tokens; None where nothing says it."""
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0 and config.model_type in OFFSET:
        positions -= (config.pad_token_id if config.pad_token_id is not None else 1) + 1
    said = [n for n in (positions, tokenizer.model_max_length) if isinstance(n, int) and 0 < n < 10_000_000]
    return min(said, default=None)


def limit_of(args: argparse.Namespace, most: int | None) -> int:
    """How many tokens of a text are let in: `--max-len`, and no more than the model was made for."""
    if most is not None and args.max_len > most:
        note(f"the model takes {most} tokens, so --max-len {args.max_len} becomes {most}")
        return most
    return int(args.max_len)

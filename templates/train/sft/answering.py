"""What a language model answers, always its likeliest tokens, and whether its answers are those of a model that broke.

This module imports torch.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from samples import Encoder, Format
from shared.canaries import Canary
from shared.data import Row
from shared.refusals import Refused
from shared.sides import in_batches, share

ANSWERS_AT_ONCE = 8
ASKED = 16
"""Held-out rows whose answers are looked at for a collapse."""
SHORT, SUNG, LONG = 48, 80, 160
"""Tokens of an answer at most: of one that is looked at, of a canary's, of one that is shown."""
SHOWN = 4000  # characters of a sample generation


@dataclass
class Questions:
    """What a model is asked: held-out prompts with what they were answered, and canaries."""

    prompts: list[tuple[list[int], str]] = field(default_factory=list)
    canaries: list[tuple[Canary, list[int]]] = field(default_factory=list)
    shown: int = 0

    @classmethod
    def of(
        cls, encoder: Encoder, rows: Sequence[Row], canaries: Sequence[Canary], args: argparse.Namespace
    ) -> "Questions":
        """The questions out of held-out rows."""
        found = [p for p in (encoder.prompt(row) for row in rows[: max(ASKED, args.generate)]) if p is not None]
        limit = max(8, args.max_len)
        prompts = [(ids[-limit:], expected) for ids, expected in found]
        return cls(prompts, [(c, tokens_of(encoder.tokenizer, c.prompt)) for c in canaries], args.generate)


def tokens_of(tokenizer: Any, prompt: str) -> list[int]:
    """A prompt as tokens: as a user's turn where the model has a chat template that takes one."""
    if getattr(tokenizer, "chat_template", None):
        row = Row({}, "canaries")
        encoder = Encoder(tokenizer, Format("chat", {"messages": "messages"}), max_len=1 << 20, answers=False)
        try:
            return encoder.turns(row, [{"role": "user", "content": prompt}])
        except Refused:
            pass
    return list(tokenizer(prompt)["input_ids"])


def answers(model: Any, tokenizer: Any, prompts: Sequence[list[int]], tokens: int) -> list[list[int]]:
    """The tokens that a model answers to each prompt, without what ends them."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
    ends = {pad, tokenizer.eos_token_id}
    most = getattr(model.config, "max_position_embeddings", None)
    if isinstance(most, int) and most > 1:  # beyond it some models have no position: an index error, not a bad answer
        tokens = max(1, min(tokens, most // 2))
        prompts = [ids[-(most - tokens) :] for ids in prompts]

    def asked(part: Sequence[list[int]]) -> list[list[int]]:
        width = max(len(ids) for ids in part)
        ids = torch.tensor([[pad] * (width - len(one)) + one for one in part], device=model.device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in part], device=model.device)
        told = {"do_sample": False, "num_beams": 1, "max_new_tokens": tokens, "pad_token_id": pad, "use_cache": True}
        made = model.generate(input_ids=ids, attention_mask=mask, **told)[:, width:].tolist()
        return [one[: next((at for at, token in enumerate(one) if token in ends), len(one))] for one in made]

    return [answer for part in in_batches(prompts, ANSWERS_AT_ONCE, asked) for answer in part]


def answered(model: Any, tokenizer: Any, questions: Questions) -> dict[str, Any]:
    """What a side answers: its collapse figures, the canaries that it fails, and what is shown of it."""
    tokens = LONG if questions.shown else SHORT
    said = answers(model, tokenizer, [ids for ids, _ in questions.prompts], tokens) if questions.prompts else []
    sung = answers(model, tokenizer, [ids for _, ids in questions.canaries], SUNG) if questions.canaries else []
    pairs = zip(questions.canaries, sung, strict=True)
    expected = [text for _, text in questions.prompts[:ASKED]]
    right = [list(tokenizer(text, add_special_tokens=False)["input_ids"])[:SHORT] for text in expected]
    return {
        "collapse": collapse([one[:SHORT] for one in said[:ASKED]], expected, right),
        "failed": [canary.id for (canary, _), ids in pairs if canary.unsafe(decoded(tokenizer, ids))],
        "texts": [decoded(tokenizer, ids)[:SHOWN] for ids in said[: questions.shown]],
    }


def decoded(tokenizer: Any, ids: list[int]) -> str:
    """Tokens as a text."""
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def collapse(said: Sequence[list[int]], expected: Sequence[str], right: Sequence[list[int]]) -> dict[str, float]:
    """Figures of answers: shares of distinct and of empty ones, and of those that go round in a circle.

    The `_expected` ones are those of what was to be answered (`right`: its first tokens), `prompts` how many were
    asked.
    """
    if not said:
        return {}
    return {
        "prompts": float(len(said)),
        "distinct": len(set(map(tuple, said))) / len(said),
        "distinct_expected": len(set(expected)) / len(expected),
        "empty": share([not ids for ids in said]),
        "empty_expected": share([not text.strip() for text in expected]),
        "repeating": share([circles(ids) for ids in said]),
        "repeating_expected": share([circles(ids) for ids in right]),
    }


def circles(ids: Sequence[int]) -> bool:
    """Whether the last three quarters of an answer of 16 tokens or more are one piece of up to 8, again and again."""
    if len(ids) < 16:
        return False
    tail = ids[len(ids) // 4 :]
    return any(all(tail[at] == tail[at - size] for at in range(size, len(tail))) for size in range(1, 9))

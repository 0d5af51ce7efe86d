"""Tokens of rows: by the model's own tokenizer and chat template where they are at hand, else from characters.

The library is imported only where there is a tokenizer to read.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from caravan.training.data.chat import Refused, TemplateBroken, written
from caravan.training.data.lengths import estimated_tokens
from caravan.training.data.model_files import ModelFiles
from caravan.training.data.problems import Problems
from caravan.training.data.rows import Row
from caravan.training.data.texts import Learned
from caravan.values.training import DataFormat, DataKind

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST: Final = 200_000  # characters of one text that are counted; the rest of it goes by their ratio
_LARGEST: Final = 100_000_000  # bytes of a tokenizer that is still read
_BATCH: Final = 128


class Counter:
    """Counts tokens of rows. `estimated`: it went by characters."""

    def __init__(self, model: ModelFiles, problems: Problems) -> None:
        self._model, self._problems = model, problems
        self._tokenizer = _tokenizer(model.tokenizer)
        self.estimated = self._tokenizer is None

    def count(self, rows: Sequence[tuple[Row, Learned]], wanted: DataFormat | None) -> list[int]:
        """Tokens of each row's sequence."""
        template = self._model.chat_template
        if wanted is DataFormat.CHAT and template is None and self._model.whole:
            told = "the tokenizer has no chat template, which conversations need: take an instruct model, or give one"
            self._problems.add(DataKind.NO_CHAT_TEMPLATE, f"{told} by --chat-template", self._model.name)
        if wanted is DataFormat.CHAT and template is not None:
            return self._chats(rows, template)
        if self._tokenizer is None:
            return [self._estimate(each, wanted) for _, each in rows]
        if wanted is DataFormat.PAIRS:
            return self._longest_of_each(rows)
        texts = ["\n\n".join(each.texts) for _, each in rows]
        more = 5 if wanted is DataFormat.CHAT else 0
        return [n + more * len(each.messages) for n, (_, each) in zip(self._tokens(texts), rows, strict=True)]

    def _chats(self, rows: Sequence[tuple[Row, Learned]], template: str) -> list[int]:
        try:
            texts = written(template, self._model.special(), [each.messages for _, each in rows])
        except TemplateBroken as broken:
            self._problems.add(DataKind.NO_CHAT_TEMPLATE, f"the chat template: {broken.text}", self._model.name)
            return [self._estimate(each, DataFormat.CHAT) for _, each in rows]
        plain: list[str] = []
        for text, (row, each) in zip(texts, rows, strict=False):
            if isinstance(text, Refused):
                said = f"the chat template does not take this conversation: {text}"
                self._problems.add(DataKind.ROLES, said, row.file, row.line)
                plain.append("\n".join(m["content"] for m in each.messages))
            else:
                plain.append(text)
        rest = [self._estimate(each, DataFormat.CHAT) for _, each in rows[len(plain) :]]
        return [*self._tokens(plain, special=False), *rest]

    def _longest_of_each(self, rows: Sequence[tuple[Row, Learned]]) -> list[int]:
        counts = iter(self._tokens([text for _, each in rows for text in each.texts]))
        return [max(next(counts) for _ in each.texts) for _, each in rows]

    def _tokens(self, texts: Sequence[str], *, special: bool = True) -> list[int]:
        found: list[int] = []
        if self._tokenizer is None:
            return [estimated_tokens([text]) for text in texts]
        for begin in range(0, len(texts), _BATCH):
            part = texts[begin : begin + _BATCH]
            cut = [text[:_MOST] for text in part]
            encoded = self._tokenizer.encode_batch_fast(cut, add_special_tokens=special)
            for text, short, each in zip(part, cut, encoded, strict=True):
                found.append(round(len(each) * len(text) / max(1, len(short))))
        return found

    def _estimate(self, each: Learned, wanted: DataFormat | None) -> int:
        if wanted is DataFormat.PAIRS:
            return max(estimated_tokens([text]) for text in each.texts)
        return estimated_tokens(each.texts, len(each.messages))


def _tokenizer(data: bytes | None) -> "Tokenizer | None":
    """The tokenizer that a `tokenizer.json` holds; None where it can't be read, as if there were none."""
    if not data or len(data) > _LARGEST:
        return None
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_buffer(data)
    except ValueError:
        return None
    found.no_truncation()
    found.no_padding()
    return found

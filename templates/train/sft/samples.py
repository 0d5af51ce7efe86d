"""Rows of texts, instructions and conversations → token ids, and which of them are learned.

Every refusal names the row's line, and none shows what the row says.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.data import Row, Rows, column_of, load, missing_column, renamed, split
from shared.refusals import Refused, note

COLUMNS = {
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog"),
    "instruction": ("instruction",),
    "input": ("input", "context"),
    "output": ("output", "response", "answer", "completion", "target"),
    "prompt": ("prompt", "question", "query"),
    "completion": ("completion", "response", "answer", "output"),
    "text": ("text", "content", "document", "body"),
}
"""Role → names under which a column that plays it is known."""
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
KNOWN_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
FORMATS = ("chat", "instruction", "text")


@dataclass(frozen=True)
class Format:
    """How rows are read: the format's name, and the column of each role."""

    name: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """Token ids, and for each whether it is learned (None: all are)."""

    ids: list[int]
    learned: list[int] | None
    row: Row


@dataclass
class Samples:
    """All samples of some data, and what was told of them."""

    samples: list[Sample]
    empty: int = 0
    cut: int = 0
    dropped: int = 0

    def lengths(self) -> dict[str, int]:
        """Tokens of a sample before it is cut: the middle one, the one that 95 % don't pass, the longest."""
        ordered = sorted(len(s.ids) for s in self.samples)
        return {
            "median": ordered[len(ordered) // 2],
            "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
            "longest": ordered[-1],
        }


def format_of(rows: Rows, asked: str, given: dict[str, str]) -> Format:
    """The format that was asked for, or the first that the columns fit. Raises Refused where none does."""
    if asked not in ("auto", *FORMATS):
        raise Refused("column_missing", f"--data-format is auto or one of {', '.join(FORMATS)}, not {asked!r}")
    found = {role: column_of(rows, role, names, given) for role, names in COLUMNS.items()}
    there = {role: column for role, column in found.items() if column is not None}
    ways = {
        "chat": (("messages",),),
        "instruction": (("instruction", "output"), ("prompt", "completion")),
        "text": (("text",),),
    }
    for name in FORMATS if asked == "auto" else (asked,):
        for roles in ways[name]:
            if all(role in there for role in roles):
                more = {"input": there["input"]} if roles[0] == "instruction" and "input" in there else {}
                return Format(name, {role: there[role] for role in roles} | more)
    needed = [" and ".join(roles) for name in (FORMATS if asked == "auto" else (asked,)) for roles in ways[name]]
    raise missing_column(rows.rows[0], needed)


@dataclass
class Parts:
    """The rows that are learned from, those that are held out, and how each are read."""

    source: Rows
    apart: Rows | None
    form: Format
    form_apart: Format
    learned: list[Row]
    held_out: list[Row]


def read(args: argparse.Namespace) -> Parts:
    """What `--data` and `--eval-data` name, parted as the training does it. Raises Refused for what can't be read."""
    rows, given = load(args.data), renamed(args.columns)
    apart = load(args.eval_data) if args.eval_data else rows.held_out
    form = format_of(rows, args.data_format, given)
    form_apart = format_of(apart, form.name, given) if apart else form
    learned, held_out = (rows.rows, apart.rows) if apart else split(rows.rows, args.eval_fraction, args.seed)
    return Parts(rows, apart, form, form_apart, learned, held_out)


def answers_only(args: argparse.Namespace, form: Format) -> bool:
    """Whether only answers are learned, as `--loss-on` says."""
    return bool(args.loss_on == "answers" or (args.loss_on == "auto" and form.name == "instruction"))


class Encoder:
    """Rows of a format as tokens of a tokenizer. `answers`: only what is answered is learned, not what is asked."""

    def __init__(self, tokenizer: Any, form: Format, *, max_len: int, answers: bool) -> None:
        self.tokenizer, self.form, self.max_len, self.answers = tokenizer, form, max_len, answers
        self.template: str | None = None
        template = getattr(tokenizer, "chat_template", None)  # old tokenizers have none
        self.chats = form.name == "chat" or ("instruction" in form.columns and bool(template))
        if form.name == "chat" and not template:
            text = "the tokenizer has no chat template, so conversations can't be written; give one by --chat-template"
            raise Refused("no_chat_template", text)
        if form.name == "chat" and answers:
            self.template = _marked(tokenizer)

    def encode(self, rows: Sequence[Row]) -> Samples:
        """The samples of rows, without empty ones."""
        found = Samples([])
        for row in rows:
            before = len(found.samples)
            found.samples.extend(self._of_row(row))
            if len(found.samples) == before:
                found.empty += 1
                if found.empty == 1:
                    note(f"{row.file}:{row.line or ''} says nothing and is left out, like all such rows")
        if not found.samples:
            raise Refused("empty", "no row says anything", rows[0].file if rows else "")
        found.cut = sum(len(s.ids) > self.max_len for s in found.samples)
        found.dropped = sum(s.learned is not None and not any(s.learned[: self.max_len]) for s in found.samples)
        return found

    def prompt(self, row: Row) -> tuple[list[int], str] | None:
        """What is asked in a row, as tokens, and what is answered; None for a row that says nothing.

        Of a conversation all but the last answer is asked, of a text its first half, up to 64 tokens.
        """
        columns = self.form.columns
        if self.form.name == "chat":
            messages = _messages(row, columns["messages"])
            last = max((at for at, m in enumerate(messages) if m["role"] == "assistant"), default=0)
            return (self.turns(row, messages[:last]), messages[last]["content"]) if last else None
        if self.form.name == "text":
            ids = list(self.tokenizer(_text(row, columns["text"]))["input_ids"])
            half = min(64, len(ids) // 2)
            return (ids[:half], self.tokenizer.decode(ids[half:])) if half else None
        asked, answer = self._asked(row)
        if not asked.strip() or not answer.strip():
            return None
        if self.chats:
            return self.turns(row, [{"role": "user", "content": asked}]), answer
        return list(self.tokenizer(asked + self._between)["input_ids"]), answer

    def turns(self, row: Row, messages: list[dict[str, Any]]) -> list[int]:
        """A conversation up to where the model has its turn, as tokens."""
        return list(self._write(row, messages, add_generation_prompt=True)["input_ids"])

    @property
    def _between(self) -> str:
        return "\n\n" if "instruction" in self.form.columns else ""

    def _asked(self, row: Row) -> tuple[str, str]:
        """What a row asks, with its input, and what it answers."""
        columns = self.form.columns
        asked = _text(row, columns.get("instruction") or columns["prompt"])
        answer = _text(row, columns.get("output") or columns["completion"])
        more = _text(row, columns["input"], needed=False) if "input" in columns else ""
        return (f"{asked}\n\n{more}" if more.strip() else asked), answer

    def _of_row(self, row: Row) -> Iterator[Sample]:
        if self.form.name == "text":
            yield from self._of_text(row)
        elif self.form.name == "chat":
            yield from self._of_chat(row)
        else:
            yield from self._of_answer(row)

    def _of_text(self, row: Row) -> Iterator[Sample]:
        """A text in pieces of the greatest length: nothing of it is lost."""
        text = _text(row, self.form.columns["text"])
        if not text.strip():
            return
        ids = [*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id]
        for begin in range(0, len(ids), self.max_len):
            yield Sample(ids[begin : begin + self.max_len], None, row)

    def _of_chat(self, row: Row) -> Iterator[Sample]:
        messages = _messages(row, self.form.columns["messages"])
        if not messages:
            return
        tools = row.values.get("tools")
        tools = json.loads(tools) if isinstance(tools, str) and tools.strip() else tools
        written = self._write(row, messages, tools=tools or None, return_assistant_tokens_mask=self.answers)
        learned = list(written["assistant_masks"]) if self.answers else None
        if learned is not None and not any(learned):
            raise row.refused("roles", "nothing in it is the assistant's")
        yield Sample(list(written["input_ids"]), learned, row)

    def _of_answer(self, row: Row) -> Iterator[Sample]:
        """What is asked and what is answered; the answer alone is learned, unless all is asked for."""
        asked, answer = self._asked(row)
        if not asked.strip() or not answer.strip():
            return
        if self.chats:
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            head = list(self._write(row, turns[:1], add_generation_prompt=True)["input_ids"])
            ids = list(self._write(row, turns)["input_ids"])
        else:
            head = list(self.tokenizer(asked + self._between)["input_ids"])
            ids = [*self.tokenizer(asked + self._between + answer)["input_ids"], self.tokenizer.eos_token_id]
        same = next((i for i, (a, b) in enumerate(zip(head, ids, strict=False)) if a != b), min(len(head), len(ids)))
        yield Sample(ids, [int(i >= same) for i in range(len(ids))] if self.answers else None, row)

    def _write(self, row: Row, messages: list[dict[str, Any]], **how: Any) -> Any:
        """A conversation as the chat template writes it. What the template does not take is refused with the line."""
        import jinja2

        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=True, return_dict=True, **how
            )
        except (jinja2.TemplateError, TypeError, KeyError) as error:
            roles = ", ".join(str(m["role"]) for m in messages[:8])
            raise row.refused("roles", f"the chat template does not take this conversation ({roles})") from error


def _marked(tokenizer: Any) -> str | None:
    """The template that marks what the assistant says: the tokenizer's own (None), or the one that trl knows for it."""
    if "{% generation %}" in tokenizer.chat_template or "{%- generation" in tokenizer.chat_template:
        return None
    from trl.chat_template_utils import get_training_chat_template

    try:
        return str(get_training_chat_template(tokenizer))
    except ValueError as error:
        text = "the chat template does not mark the answers by {% generation %}; give one that does, or --loss-on all"
        raise Refused("no_chat_template", text) from error


def _text(row: Row, column: str, *, needed: bool = True) -> str:
    """A column's text; an empty cell is an empty text."""
    if column not in row.values and needed:
        raise missing_column(row, [column])
    value = row.values.get(column)
    if value is not None and not isinstance(value, str):
        raise row.refused("malformed", f"what stands in {column} is no text")
    return value or ""


def _messages(row: Row, column: str) -> list[dict[str, Any]]:
    """The messages of a conversation, as role and content. Raises Refused for what is none."""
    if column not in row.values:
        raise missing_column(row, [column])
    value = row.values[column]
    if isinstance(value, str) and value.lstrip().startswith("["):  # in a table they are written as JSON
        try:
            value = json.loads(value)
        except ValueError as error:
            raise row.refused("malformed", f"what stands in {column} is no JSON") from error
    if value is None or value in ("", []):
        return []
    if not isinstance(value, list) or not all(isinstance(m, dict) for m in value):
        raise row.refused("malformed", f"what stands in {column} is no list of messages")
    found = []
    for number, message in enumerate(value, 1):
        role = message.get("role", message.get("from"))
        content = message.get("content", message.get("value"))
        role = ROLES.get(str(role).lower(), str(role).lower())
        if role not in KNOWN_ROLES:
            raise row.refused("roles", f"message {number} has no role that is known ({', '.join(KNOWN_ROLES)})")
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            raise row.refused("malformed", f"the content of message {number} is no text")
        more = {k: v for k, v in message.items() if k not in ("role", "from", "content", "value") and v is not None}
        found.append({"role": role, "content": content or "", **more})
    if not any(m["role"] == "assistant" for m in found):
        raise row.refused("roles", "the conversation has no message of the assistant")
    said = any(m["content"].strip() or m.get("tool_calls") for m in found if m["role"] == "assistant")
    return found if said else []

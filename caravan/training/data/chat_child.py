"""Run as a program of its own: conversations written by a chat template, in a sandbox, with bounded time and memory.

It reads one JSON document from stdin and writes one to stdout. A template is a program that came with a model: it gets
no files, no network and no more than the limits below.
"""

import contextlib
import json
import sys
from datetime import UTC, datetime
from typing import Any, NoReturn

CPU_S = 6
MEMORY = 1 << 30
LONGEST = 4_000_000


def main() -> None:
    """The work: {"template", "special", "conversations"} → a list of {"text"} or {"error"} for each conversation."""
    _limit()
    asked = json.load(sys.stdin)
    try:
        template = _environment().from_string(asked["template"])
    except _failures() as error:
        json.dump({"broken": _plain(error)}, sys.stdout)
        return
    found = [_written(template, messages, asked["special"]) for messages in asked["conversations"]]
    json.dump({"written": found}, sys.stdout)


def _written(template: Any, messages: list[dict[str, str]], special: dict[str, str]) -> dict[str, str]:
    try:
        text = template.render(messages=messages, add_generation_prompt=False, tools=None, documents=None, **special)
    except Refusal as error:
        return {"refused": str(error)[:200]}
    except _failures() as error:
        return {"error": _plain(error)}
    return {"text": text[:LONGEST]}


class Refusal(Exception):
    """What a template says of a conversation that it does not take."""


def _failures() -> tuple[type[Exception], ...]:
    """What a template that is at fault raises."""
    from jinja2 import TemplateError

    return (
        TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        MemoryError,
        RuntimeError,
    )


def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}`, by which templates mark what the assistant says."""

        tags = {"generation"}  # noqa: RUF012 (jinja's own form)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # texts for a model, no HTML
        extensions=[Generation, loopcontrols],
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment


def _refuse(text: str) -> NoReturn:
    raise Refusal(text)


def _plain(error: Exception) -> str:
    return type(error).__name__


def _limit() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main()

"""What a model may look at: the repository through its toolbox, the cluster, past cases, the run's copied logs.

All of it reads; answers are bounded here and masked by who asks. There is no tool that writes, starts or sends.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from caravan.agent.model.ask import Tool
from caravan.agent.qwen.views import cases_view, facts_view
from caravan.ports import Memory, Toolbox
from caravan.values.base import Json
from caravan.values.errors import ServiceError, UsageError
from caravan.values.failure import PastCase
from caravan.values.job import ClusterFacts
from caravan.values.model import ToolSpec

_TAIL_BYTES: Final = 512 * 1024
_LOG_LINES: Final = 100
_LOG_FILES: Final = 6
_LINE: Final = 400
_HITS: Final = 30
_FORMS: Final = ("def {0}", "class {0}", "{0} =", "{0}:", '"--{0}', "'--{0}", '"{0}"')
"""How what defines a name is written: functions, classes, variables, keys of configs, options of parsers."""


def _nothing_known() -> None:
    """No cluster."""


def _no_cases(_: str) -> tuple[PastCase, ...]:
    return ()


def _no_logs() -> tuple[Path, ...]:
    return ()


@dataclass(frozen=True)
class Sight:
    """What there is to look at beside the repository; each is asked only when the model asks."""

    facts: Callable[[], ClusterFacts | None] = _nothing_known
    cases: Callable[[str], Sequence[PastCase]] = _no_cases
    logs: Callable[[], Sequence[Path]] = _no_logs


def cases_of(memory: Memory) -> Callable[[str], Sequence[PastCase]]:
    """What memory knows about something; nothing where it is down."""

    def recalled(text: str) -> Sequence[PastCase]:
        try:
            return memory.recall(text=text[:500], diagnosis=None, context={}, limit=5)
        except ServiceError:
            return ()
        finally:
            memory.close()

    return recalled


def of_repository(toolbox: Toolbox) -> tuple[Tool, ...]:
    """Looks into the repository."""
    path, text = {"type": "string"}, {"type": "string"}
    number = {"type": "integer"}
    return (
        _tool(
            "list_directory",
            "Names in a directory of the repository; directories end with a slash.",
            lambda a: "\n".join(toolbox.list_directory(_text(a, "path", "."))),
            {"path": path},
        ),
        _tool(
            "read_file",
            "Numbered lines of a text file of the repository, from line `start` on.",
            lambda a: toolbox.read_file(_text(a, "path"), start=_number(a, "start", 1), lines=_number(a, "lines", 120)),
            {"path": path, "start": number, "lines": number},
        ),
        _tool(
            "search_codebase",
            "Lines of the repository in which a text occurs, ignoring case, as file:line: text.",
            lambda a: "\n".join(toolbox.search(_text(a, "text"), limit=_HITS)) or "nothing found",
            {"text": text},
        ),
        _tool(
            "find_definition",
            "Where a function, class, variable, config key or option (--name) of the repository is defined.",
            lambda a: "\n".join(definitions(toolbox, _text(a, "name"))) or "nothing found",
            {"name": text},
        ),
    )


def of_run(sight: Sight) -> tuple[Tool, ...]:
    """Looks at cluster and memory, and at the run's logs where there are some."""
    found = [
        _tool("cluster_inventory", "The nodes of the cluster and what each has.", lambda _: _inventory(sight)),
        _tool(
            "past_cases",
            "What earlier runs have taught about something: the cause, what was changed, whether it worked.",
            lambda a: cases_view(sight.cases(_text(a, "about"))),
            {"about": {"type": "string"}},
        ),
    ]
    if sight.logs():
        found.append(
            _tool(
                "get_training_logs",
                "The last lines of this run's logs; with `grep` the lines in which that text occurs, ignoring case.",
                lambda a: training_logs(sight.logs(), grep=_text(a, "grep", ""), tail=_number(a, "tail", 60)),
                {"grep": {"type": "string"}, "tail": {"type": "integer"}},
            )
        )
    return tuple(found)


def definitions(toolbox: Toolbox, name: str, *, limit: int = _HITS) -> tuple[str, ...]:
    """`file:line: text` rows that define the name, functions and classes before variables, keys and options."""
    plain = name.strip().lstrip("-")
    if not re.fullmatch(r"[A-Za-z_][\w.-]{0,100}", plain):
        raise UsageError("Give the bare name of a function, class, variable, key or option.")
    names = dict.fromkeys((plain, plain.replace("-", "_"), plain.replace("_", "-"), plain.rpartition(".")[2]))
    found: dict[str, None] = {}
    for form in _FORMS:
        for each in filter(None, names):
            wanted = form.format(each)
            exact = re.compile(rf"(?<![\w.-]){re.escape(wanted)}(?!\w)")
            for row in toolbox.search(wanted, limit=100):
                if exact.search(row.split(": ", 1)[-1]):
                    found.setdefault(row)
        if len(found) >= limit:
            break
    return tuple(found)[:limit]


def training_logs(files: Sequence[Path], *, grep: str = "", tail: int = 60) -> str:
    """The last lines of the newest logs, or those of them that hold a text; bounded. Masked as they were copied."""
    rows = list[str]()
    most = max(1, min(tail, _LOG_LINES))
    for path in list(files)[-_LOG_FILES:]:
        lines = [line for line in log_text(path).split("\n") if line.strip()]
        if grep:
            lines = [line for line in lines if grep.lower() in line.lower()]
        rows += [f"=== {path.name}", *(line[:_LINE] for line in lines[-most:])]
    return "\n".join(rows) or "there are no logs"


def log_text(path: Path) -> str:
    """The end of a copied log; empty where it can't be read."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            return stream.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _inventory(sight: Sight) -> str:
    facts = sight.facts()
    return facts_view(facts) if facts is not None else "no cluster is asked here"


def _tool(name: str, description: str, call: Callable[[Mapping[str, Json]], str], properties: Json = None) -> Tool:
    schema: dict[str, Json] = {"type": "object", "properties": properties or {}}
    return Tool(ToolSpec(name=name, description=description, parameters=schema), call)


def _text(arguments: Mapping[str, Json], name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a text.")
    return value


def _number(arguments: Mapping[str, Json], name: str, default: int) -> int:
    value = arguments.get(name, default)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else default

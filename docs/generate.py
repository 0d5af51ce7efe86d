"""Writes the generated parts of the docs, or with `--check` says which are not up to date (exit code 1).

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->` in a page; everything else in the page
is written by hand. Parts: the graph, the settings, the plan's fields, the causes of failure, the
command line's help, the calls to Nomad with their rights.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def graph() -> str:
    """The flow as a Mermaid diagram, drawn from the compiled graph."""
    from caravan.agent.graph import build_graph

    return f"```mermaid\n{build_graph().get_graph().draw_mermaid().strip()}\n```"


def settings() -> str:
    """The settings with their variables, defaults and meanings."""
    from config import Settings

    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias.choices[0]  # type: ignore[union-attr]
        default = "the platform's state directory" if name == "home" else field.get_default()
        rows.append(f"| `{variable}` | {'' if default is None else default} | {field.description} |")
    return "\n".join(rows)


def plan() -> str:
    """The plan's fields by their dotted paths."""
    from caravan.values.plan import TrainingPlan

    rows = ["| field | type | default | |", "|---|---|---|---|", *_fields(TrainingPlan, "")]
    return "\n".join(rows)


def _fields(model: Any, prefix: str) -> list[str]:
    from pydantic import BaseModel
    from pydantic_core import PydanticUndefined

    rows = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if name == "provenance":
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel) and field.default is not PydanticUndefined:
            rows += _fields(kind, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else "" if default is None else f"`{default}`"
        rows.append(f"| `{prefix}{name}` | {_type(kind)} | {shown} | {field.description or ''} |")
    return rows


def _type(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    text = re.sub(r"\b(?:caravan\.values\.\w+|typing|types)\.", "", text)
    return text.replace("NoneType", "None").replace(" | None", "?").replace("|", "or")


def causes() -> str:
    """The causes of failure: what each means, and what is tried against it."""
    from caravan.diagnosis.repair import LADDERS
    from caravan.diagnosis.signs import SIGNS
    from caravan.diagnosis.taxonomy import TAXONOMY
    from caravan.values.failure import FailureClass

    told = {sign.failure for sign in SIGNS if sign.confidence > 0}
    rows = ["| cause | what it is | what is tried |", "|---|---|---|"]
    for failure, entry in TAXONOMY.items():
        if failure in LADDERS:
            tried = " ".join((rung.__doc__ or "").split("\n\n")[0].strip() for rung in LADDERS[failure])
        elif failure is FailureClass.UNKNOWN:
            tried = "What memory knows to have worked under the same fingerprint; else it is handed to you."
        elif failure is FailureClass.NO_FAILURE:
            tried = "Nothing."
        elif failure in told:
            tried = "Told apart in plain cases, and handed to you with advice."
        else:
            tried = "*Not told apart yet: reads as unknown.*"
        rows.append(f"| `{failure.value}` | {_cell(entry.description)} | {_cell(tried)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def help_page() -> str:
    """The help of the main command and of each subcommand."""
    import typer
    from typer.main import get_command

    from caravan.terminal.app import build_app

    command: Any = get_command(build_app())
    context = typer.Context(command, info_name="main.py", terminal_width=100, max_content_width=100)
    parts = [f"```\n{command.get_help(context)}\n```"]
    return "\n\n".join([*parts, *_subcommands(command, context)])


def _subcommands(command: Any, context: Any, above: str = "") -> list[str]:
    """The help of each command below this one, a group's before that of its commands."""
    import typer

    parts = []
    for name in command.list_commands(context):
        sub = command.get_command(context, name)
        inner = typer.Context(sub, info_name=name, parent=context, terminal_width=100, max_content_width=100)
        parts.append(f"### {above}{name}\n\n```\n{sub.get_help(inner)}\n```")
        if hasattr(sub, "list_commands"):
            parts += _subcommands(sub, inner, f"{above}{name} ")
    return parts


def policy() -> str:
    """The rules of a policy by their tables."""
    from caravan.values.policy import Policy

    rows = ["| rule | type | default | |", "|---|---|---|---|"]
    for table, field in Policy.model_fields.items():
        rows += _keys(field.annotation, f"{table}.")
    return "\n".join(rows)


def profile() -> str:
    """The keys of a cluster profile."""
    from caravan.values.target import ClusterProfile

    return "\n".join(["| key | type | default | |", "|---|---|---|---|", *_keys(ClusterProfile, "")])


def _keys(model: Any, prefix: str) -> list[str]:
    from pydantic_core import PydanticUndefined

    rows = []
    kinds = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else "" if default in (None, {}, ()) else f"`{default}`"
        rows.append(f"| `{prefix}{name}` | {_simple(kinds[name])} | {shown} | {_cell(field.description or '')} |")
    return rows


def _simple(schema: dict[str, Any]) -> str:
    """A type in words of a TOML file."""
    kinds = [option.get("type", "") for option in schema.get("anyOf", [schema])]
    names = {"array": "list", "object": "table", "string": "text", "boolean": "yes or no"}
    return " or ".join(names.get(kind, kind) for kind in kinds if kind != "null")


def example(name: str) -> str:
    """An example file as it is."""
    return f"```toml\n{(ROOT / 'docs' / 'examples' / name).read_text(encoding='utf-8').strip()}\n```"


def rights() -> str:
    """Nomad's calls by the right that they need, with what is left out without it."""
    from caravan.cluster.rights import CALLS

    rows = ["| right | calls | for | without it |", "|---|---|---|---|"]
    by_right: dict[tuple[str, str], list[Any]] = {}
    for call in CALLS:
        by_right.setdefault((call.right, call.without), []).append(call)
    for (right, without), calls in by_right.items():
        paths = ", ".join(f"`{c.method} {c.path}`" for c in calls)
        uses = ", ".join(dict.fromkeys(c.use for c in calls))
        named = f"`{right}`" if right else "any token"
        lost = without or ("no run" if right else "")
        rows.append(f"| {named} | {paths} | {uses} | {lost} |")
    return "\n".join(rows)


PARTS: dict[str, Callable[[], str]] = {
    "graph": graph,
    "settings": settings,
    "plan": plan,
    "causes": causes,
    "help": help_page,
    "rights": rights,
    "policy": policy,
    "policy-example": lambda: example("policy.toml"),
    "profile": profile,
    "profile-example": lambda: example("caravan.toml"),
}


def render(text: str) -> str:
    """A page with its generated parts written anew. Raises KeyError for a part that nobody writes."""
    return _PART.sub(lambda m: f"{m[1]}{PARTS[m['name']]()}\n{m[3]}", text)


def outdated() -> list[Path]:
    """The pages whose generated parts are not up to date."""
    return [page for page in _pages() if render(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]


def _pages() -> list[Path]:
    return [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def main(argv: list[str]) -> int:
    """Write or check."""
    pages = outdated()
    for page in pages:
        print(f"{page.relative_to(ROOT)}: {'not up to date, run `make docs`' if '--check' in argv else 'written'}")
        if "--check" not in argv:
            page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if pages and "--check" in argv else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))

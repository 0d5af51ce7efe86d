"""The rooms of the architecture: who may import whom, who reads the environment, who catches everything.

The table is that of the manual's architecture page, and a test holds the two together.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALL = frozenset({"*"})
# room → rooms of ours that it may import; a room may always import itself. Files at the top are rooms of their own.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "main": ALL,
    "config": frozenset({"values", "config_files", "settings_layers"}),
    "config_files": frozenset({"values"}),
    "settings_layers": frozenset({"values", "config_files"}),
    "config_control": frozenset({"values", "config", "config_files", "settings_layers", "profiles"}),
    "machine": frozenset({"values", "ports", "config", "cluster"}),
    "notify": frozenset({"values", "ports"}),
    "lending": frozenset({"values", "config"}),
    "adapters": frozenset(
        {"values", "ports", "config", "profiles", "cluster", "runs", "agent", "analysis", "memory"}
        | {"keeping", "lessons", "observability", "starting"}
        | {"prompts", "prompt_shelf", "prompt_cache", "langfuse_access", "langfuse_patience"}
        | {"live_traces"}
    ),
    "otlp": frozenset({"runs"}),
    "reporting": frozenset({"values", "ports", "agent", "runs"}),
    "sending": frozenset({"values", "ports", "runs", "observability", "otlp", "langfuse_access", "langfuse_client"}),
    "live_traces": frozenset(
        {"values", "ports", "observability", "sending", "otlp", "langfuse_access", "langfuse_client"}
        | {"langfuse_patience"}
    ),
    "langfuse_access": frozenset({"values"}),
    "langfuse_client": frozenset({"values", "cluster", "langfuse_access"}),
    "langfuse_patience": frozenset({"ports"}),
    "optimizing": frozenset({"values", "ports", "config", "adapters", "agent", "offline", "langfuse_client"}),
    "profiles": frozenset({"values", "config", "config_files"}),
    "surroundings": frozenset({"values", "config", "profiles", "runs"}),
    "policies": frozenset({"values", "config", "config_files", "profiles"}),
    "pricing": frozenset({"values", "config", "config_files", "profiles"}),
    "prompts": frozenset(
        {"values", "prompt_shelf", "prompt_exchange", "prompt_cache", "langfuse_access", "langfuse_client"}
    ),
    "prompt_cache": frozenset({"values", "ports", "runs", "langfuse_access", "langfuse_client", "langfuse_patience"}),
    "prompt_shelf": frozenset({"values", "ports", "runs"}),
    "prompt_exchange": frozenset({"values", "langfuse_client"}),
    "tools": frozenset({"values", "ports", "analysis"}),
    "memory": frozenset({"values", "ports", "lessons", "vectors"}),
    "keeping": frozenset({"values", "ports", "lessons"}),
    "starting": frozenset({"values", "ports", "lessons"}),
    "observability": frozenset({"values", "ports"}),
    "values": frozenset(),
    "ports": frozenset({"values"}),
    "analysis": frozenset({"values"}),
    "planning": frozenset({"values"}),
    "hcl": frozenset({"values"}),
    "diagnosis": frozenset({"values"}),
    "lessons": frozenset({"values"}),
    "vectors": frozenset({"values", "ports", "lessons"}),
    "training": frozenset({"values"}),
    "gate": frozenset({"values"}),
    "cluster": frozenset({"values", "ports", "hcl"}),
    "runs": frozenset({"values", "ports"}),
    "agent": frozenset({"values", "ports", "analysis", "planning", "diagnosis", "hcl", "training", "gate"}),
    "terminal": frozenset({"values", "ports", "agent", "analysis", "planning", "diagnosis", "runs", "training"}),
    "offline": frozenset({"values", "ports", "agent", "diagnosis"}),
}
TOP = frozenset(
    {
        "main",
        "machine",
        "notify",
        "optimizing",
        "lending",
        "adapters",
        "config",
        "config_files",
        "settings_layers",
        "config_control",
        "profiles",
        "policies",
        "surroundings",
        "pricing",
        "prompts",
        "prompt_shelf",
        "prompt_exchange",
        "prompt_cache",
        "langfuse_access",
        "langfuse_client",
        "langfuse_patience",
        "otlp",
        "reporting",
        "sending",
        "live_traces",
        "tools",
        "memory",
        "keeping",
        "starting",
        "observability",
    }
)
HEAVY = (
    "langgraph",
    "mem0",
    "sqlalchemy",
    "psycopg",
    "rich",
    "jinja2",
    "lark",
    "nomad",
    "langchain_core",
    "qdrant_client",
    "openai",
    "langchain_openai",
    "opentelemetry",
    "google.protobuf",
    "dspy",
)

FILES = sorted([*ROOT.glob("*.py"), *(ROOT / "caravan").rglob("*.py")])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "caravan":
        return parts[0]
    return "" if parts[1] == "__init__" else parts[1]


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Dotted names that a file imports, also inside functions, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                (f"{node.module}.{alias.name}" if node.module else alias.name, node.lineno) for alias in node.names
            )


def rooms_imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Rooms that a file imports. The package itself (`from caravan import TEMPLATES`) is none."""
    for name, line in imports(tree):
        parts = name.split(".")
        if parts[0] in TOP:
            yield parts[0], line
        elif parts[0] == "caravan" and len(parts) > 1 and parts[1] not in ("TEMPLATES", "__version__"):
            yield parts[1], line


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in FILES}


def test_every_file_is_in_a_room() -> None:
    assert [name_of(p) for p in FILES if room_of(p) not in MAY_IMPORT and name_of(p) != "caravan/__init__.py"] == []


def test_rooms_import_what_they_may(trees: dict[Path, ast.Module]) -> None:
    wrong = []
    for path, tree in trees.items():
        room = room_of(path)
        allowed = MAY_IMPORT.get(room, frozenset())
        for found, line in rooms_imported(tree):
            if allowed is not ALL and found not in allowed and found != room:
                wrong.append(f"{name_of(path)}:{line} imports {found}")
    assert wrong == []


def test_no_room_may_import_what_it_does_not(trees: dict[Path, ast.Module]) -> None:
    imported: dict[str, set[str]] = {}
    for path, tree in trees.items():
        imported.setdefault(room_of(path), set()).update(found for found, _ in rooms_imported(tree))
    idle = {room: sorted(may - imported.get(room, set())) for room, may in MAY_IMPORT.items() if may is not ALL}
    assert {room: names for room, names in idle.items() if names} == {}


def table_of_the_page() -> dict[str, frozenset[str]]:
    """The rooms of the manual's page with what they may import, of those that hold code of the product."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = {}
    for names, may in re.findall(r"^\| (`.+?`) \| .* \| (.*?) \|$", text, re.M):
        name = names.strip("`").removeprefix("caravan/").rstrip("/").removesuffix(".py")
        found[name] = ALL if may == "all" else frozenset() if may == "–" else frozenset(may.split(", "))
    return found


def test_the_page_says_what_is_held() -> None:
    page = table_of_the_page()
    assert set(page) - set(MAY_IMPORT) == {"templates"}
    assert {name: may for name, may in page.items() if name in MAY_IMPORT} == MAY_IMPORT


def test_the_package_never_imports_the_outer_ring(trees: dict[Path, ast.Module]) -> None:
    inside = {p: t for p, t in trees.items() if p.is_relative_to(ROOT / "caravan")}
    assert [f"{name_of(p)}:{n}" for p, t in inside.items() for found, n in rooms_imported(t) if found in TOP] == []


def test_imports_are_absolute(trees: dict[Path, ast.Module]) -> None:
    nodes = ((p, n) for p, t in trees.items() for n in ast.walk(t) if isinstance(n, ast.ImportFrom))
    assert [f"{name_of(p)}:{n.lineno}" for p, n in nodes if n.level] == []


def test_only_config_reads_the_environment(trees: dict[Path, ast.Module]) -> None:
    wrong = []
    for path, tree in trees.items():
        if name_of(path) == "config.py":
            continue
        for node in ast.walk(tree):
            read = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
            named = (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(a.name in ("environ", "getenv") for a in node.names)
            )
            if named or (read and isinstance(node.value, ast.Name) and node.value.id == "os"):
                wrong.append(f"{name_of(path)}:{node.lineno}")
    assert wrong == []


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Whether nothing gets past a handler. One that tidies up and raises again lets everything past."""
    if isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None:
        return False
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(k is None or (isinstance(k, ast.Name) and k.id in ("Exception", "BaseException")) for k in kinds)


def test_only_main_catches_everything(trees: dict[Path, ast.Module]) -> None:
    handlers = ((p, n) for p, t in trees.items() for n in ast.walk(t) if isinstance(n, ast.ExceptHandler))
    assert [f"{name_of(p)}:{n.lineno}" for p, n in handlers if name_of(p) != "main.py" and catches_everything(n)] == []


def test_every_module_says_what_it_holds(trees: dict[Path, ast.Module]) -> None:
    assert [name_of(p) for p, t in trees.items() if not ast.get_docstring(t)] == []


def modules_of(*rooms: str) -> list[str]:
    """The modules of these rooms, except those that are run and not imported."""
    paths = [p for p in FILES if room_of(p) in rooms and p.stem != "__main__"]
    return sorted({".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths})


@pytest.mark.parametrize("rooms", [("terminal",), ("values", "ports", "hcl"), tuple(TOP - {"main"})])
def test_importing_is_light(rooms: tuple[str, ...]) -> None:
    """Importing these rooms brings in no library that takes long to load.

    The terminal draws with rich; that `--help` loads none of it is held by the terminal's own tests.
    """
    names = modules_of(*rooms)
    heavy = [name for name in HEAVY if not (name == "rich" and rooms == ("terminal",))]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(' '.join(m for m in {heavy!r} if m in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == []

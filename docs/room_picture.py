"""The picture of the rooms: a Mermaid diagram of who imports whom, read from the imports of today.

`values` and `ports` are left out, because nearly every room imports them; the files at the top are one box, and what
they import is drawn from that box.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EVERYWHERE = frozenset({"values", "ports"})
TOP = "top"


def arrows() -> dict[str, set[str]]:
    """Room → the rooms of the package that it imports, without those that are everywhere."""
    rooms = {path.stem for path in (ROOT / "caravan").iterdir() if path.name != "__init__.py"} - {"__pycache__"}
    found: dict[str, set[str]] = {room: set() for room in sorted(rooms - EVERYWHERE)}
    found[TOP] = set()
    for path in (*ROOT.glob("*.py"), *(ROOT / "caravan").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        room = parts[1] if parts[0] == "caravan" else TOP
        if room in found:
            found[room] |= {name for name in imported(path) if name in found and name != room}
    return found


def imported(path: Path) -> Iterator[str]:
    """The rooms of the package that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("caravan."))


def mermaid() -> str:
    """The diagram as a block of a page."""
    found = arrows()
    lines = ["```mermaid", "graph TD", f"    {TOP}[files at the top]"]
    lines += [f"    {room}" for room in found if room != TOP]
    lines += [f"    {room} --> {other}" for room, others in sorted(found.items()) for other in sorted(others)]
    return "\n".join([*lines, "```"])

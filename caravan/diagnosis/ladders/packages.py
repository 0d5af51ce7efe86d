"""Against a Python package that is missing: what the repository names, what is well known, what lies in the code.

The name comes out of a log, so nothing that neither the repository nor the table knows is installed unasked; who asks
is not decided here (`trusted` says only which lines need no question).
"""

import posixpath
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from caravan.diagnosis.ladders.case import Case, Looks, from_workdir, with_item
from caravan.values.distributions import BUILT, distribution, is_known, is_standard, requirement_name
from caravan.values.failure import Repair

_BLOCK: Final = re.compile(
    r"(?:install|extras|setup|tests)_requires?\s*=\s*(.{0,4000}?)(?:\]\s*[,)}\n]|\n\s*\n|\Z)", re.S
)
"""What setup.py and setup.cfg require: up to the list's end, or the section's."""
_QUOTED: Final = re.compile(r"[\"']([^\"'\n]{1,200})[\"']")
_LOCAL: Final = re.compile(r"\.{1,2}(?:/[\w./-]*)?(?:\[[\w,-]+\])?")


def missing_package(case: Case) -> Iterator[Repair]:
    """The module of the repository itself, the repository's own requirement, the well-known one, then the bare name."""
    module = case.detail("module").partition(".")[0]
    if is_standard(module):
        return
    package = case.detail("package") or distribution(module) or (module if requirement_name(module) else "")
    if module and _is_own(case, module):
        yield from import_path(case, module)
        return
    yield from _attention(case, module)
    name = requirement_name(package)
    if name is None or BUILT.get(module, name) is None:
        return
    line = own_requirement(case.looks, name)
    if line is None and not distribution(module) and not case.detail("package"):
        yield from import_path(case, module)
    yield from _install(case, line or package, name, own=line is not None)


def import_path(case: Case, module: str) -> Iterator[Repair]:
    """The directory of the repository that holds the module, on the import path."""
    name = module.replace(".", "/")
    found = [*case.looks.files(f"{name}.py"), *case.looks.files(f"{name}/__init__.py")]
    found = found or [*case.looks.directories(name)]
    depth = len(name.split("/"))
    parents = []
    for path in found:
        parts = path.removesuffix("/__init__.py").split("/")
        parents.append("/".join(parts[:-depth]))
    nearest = [p for p in dict.fromkeys(parents) if p.count("/") == min(q.count("/") for q in parents)]
    if len(nearest) != 1:
        return  # several places: which one is meant is not ours to say
    place, known = from_workdir(case.plan, nearest[0]), case.plan.env.get("PYTHONPATH", "")
    entries = [entry for entry in known.split(":") if entry]
    if place in entries:
        return
    joined = ":".join(with_item(entries, place))
    yield from case.change({"env.PYTHONPATH": joined}, f"{module} lies in {nearest[0] or 'the repository'}")


def _is_own(case: Case, module: str) -> bool:
    """Whether the repository is the very package: in its root or in `src`, beside what packages it."""
    homes = (f"{module}/__init__.py", f"src/{module}/__init__.py", f"src/{module}.py", f"{module}.py")
    return any(
        path in homes for path in (*case.looks.files(f"{module}/__init__.py"), *case.looks.files(f"{module}.py"))
    )


def _attention(case: Case, module: str) -> Iterable[Repair]:
    """Without flash-attn the built-in attention does the same, where the program lets it be chosen."""
    return case.change(
        case.heard({"training.attn": "sdpa"}) if module == "flash_attn" else {}, "torch's own attention instead"
    )


def _install(case: Case, line: str, name: str, *, own: bool) -> Iterable[Repair]:
    plan = case.plan
    if name in {requirement_name(known) for known in plan.setup.pip}:
        return ()  # it was installed and is missing all the same: installing it again won't help
    used = plan.setup.requirements
    if used and name in {requirement_name(row) for row in requirement_lines(used, case.looks.read(used))}:
        return ()
    files = [f for f in case.looks.dependencies() if f.endswith(".txt")]
    holder = next(
        (f for f in files if name in {requirement_name(r) for r in requirement_lines(f, case.looks.read(f))}), None
    )
    if holder and not used:
        return case.change({"setup.requirements": holder}, f"{holder} names {name}, and it was not installed")
    why = f"install {line} with pip" + (", as the repository asks" if own else "")
    return case.change({"setup.pip": with_item(plan.setup.pip, line)}, why)


def own_requirement(looks: Looks, name: str) -> str | None:
    """The line by which the repository's dependency files ask for the distribution of that normal name, or None."""
    for file in looks.dependencies():
        for line in requirement_lines(file, looks.read(file)):
            if requirement_name(line) == name:
                return line.partition(";")[0].strip()
    return None


def requirement_lines(file: str, text: str) -> Iterator[str]:
    """The requirement lines of a dependency file; a file that does not parse has none."""
    name = posixpath.basename(file)
    try:
        if name in ("pyproject.toml", "Pipfile"):
            yield from _toml_lines(tomllib.loads(text))
            return
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    if name in ("setup.py", "setup.cfg"):
        for block in _BLOCK.findall(text):
            yield from _QUOTED.findall(block)
            yield from (row.strip() for row in block.splitlines())
        return
    for row in text.splitlines():
        row = re.sub(r"(?:^|\s)#.*$", "", row).strip().removeprefix("- ")
        yield re.sub(r"\s+--hash[\s=]\S+", "", row).rstrip("\\ ")


def _toml_lines(document: dict[str, Any]) -> Iterator[str]:
    project, poetry = document.get("project"), (document.get("tool") or {}).get("poetry")
    if isinstance(project, dict):
        extras = project.get("optional-dependencies")
        for rows in (project.get("dependencies"), *(extras.values() if isinstance(extras, dict) else ())):
            yield from (row for row in rows if isinstance(row, str)) if isinstance(rows, list) else ()
    for table in (document.get("packages"), poetry.get("dependencies") if isinstance(poetry, dict) else None):
        yield from (name for name in table if name != "python") if isinstance(table, dict) else ()


def trusted(line: str, looks: Looks) -> bool:
    """Whether a line may be installed unasked: the code itself, well known, or asked for by the repository."""
    if _LOCAL.fullmatch(line.strip()) or is_known(line):
        return True
    name = requirement_name(line)
    return name is not None and own_requirement(looks, name) is not None

"""The lines of dependency files, each with its number: requirements, pyproject, setup, conda, Pipfile, lock files.

Pure: text in, facts out, and nothing is ever raised: what does not parse has no lines. Which of the files count is not
known here.
"""

import ast
import configparser
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import basename
from typing import Any, Final

from caravan.analysis.findings import Module
from caravan.analysis.python import keyword, read_module, value_of
from caravan.values.environment import PackageIndex, PythonWish, Wanted
from caravan.values.places import SourceLine

MAX_LINES: Final = 2000
_MAX_TEXT: Final = 100
_OPTION: Final = re.compile(r"^(-[a-z]|--[a-z-]+)[\s=]*(.*)$")
_INDEXES: Final = frozenset({"-i", "--index-url", "--extra-index-url", "-f", "--find-links"})
_CONDA: Final = re.compile(r"^([A-Za-z0-9_.-]+)\s*(?:[=<>!~\s]\s*=?\s*([0-9][^=\s]*))?")
_CARET: Final = re.compile(r"^\^\s*v?(\d+(?:\.\d+)*)")
_TILDE: Final = re.compile(r"^~\s*v?(\d+(?:\.\d+)*)$")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What one file asks for. `extras` and `groups`: name → lines (pip knows extras alone); `name`: of its package.

    `conda`: conda's own packages with version ("": any) and place. `builds`: pip can install the file's directory.
    `computed`: what it asks for is made when it is built, so that more may come than is known.
    """

    path: str
    lines: tuple[Wanted, ...] = ()
    extras: Mapping[str, tuple[Wanted, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[Wanted, ...]] = field(default_factory=dict)
    conda: tuple[tuple[str, str, SourceLine], ...] = ()
    indexes: tuple[PackageIndex, ...] = ()
    pythons: tuple[PythonWish, ...] = ()
    includes: tuple[str, ...] = ()
    builds: bool = False
    name: str = ""
    computed: bool = False


def declaration(path: str, text: str) -> Declaration:
    """What the file asks for, read by its name."""
    name = basename(path).lower()
    try:
        if name == "pyproject.toml":
            return _pyproject(path, text)
        if name == "setup.py":
            return _setup_py(path, text)
        if name == "setup.cfg":
            return _setup_cfg(path, text)
        if name == "pipfile":
            return _pipfile(path, text)
        if name.endswith((".yml", ".yaml")):
            return _conda(path, text)
    except (ValueError, RecursionError, configparser.Error):
        return Declaration(path)
    return _plain(path, text)


def requirement(line: str) -> str | None:
    """A PEP 508 requirement as it stands in the line; None for anything else."""
    from packaging.requirements import InvalidRequirement, Requirement

    text = re.sub(r"(?:^|\s)#.*$", "", line).strip().rstrip(",;\\ ")
    text = re.sub(r"\s+--hash[\s=]\S+", "", text)
    try:
        Requirement(text)
    except (InvalidRequirement, ValueError):
        return None
    return text if len(text) <= 500 else None


class _Places:
    """Finds the line of a text again that a parser has taken from it."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.lines = path, text.split("\n")

    def at(self, wanted: str, start: int = 0) -> SourceLine:
        number = next((i for i in range(start, len(self.lines)) if wanted in self.lines[i]), -1)
        text = self.lines[number].strip()[:300] if number >= 0 else ""
        return SourceLine(file=self.path, line=number + 1, text=text)

    def wanted(self, lines: object) -> tuple[Wanted, ...]:
        rows = lines if isinstance(lines, list | tuple) else []
        found = ((r, str(row)) for row in rows[:MAX_LINES] if (r := requirement(str(row))))
        return tuple(Wanted(line=r, where=self.at(raw.strip())) for r, raw in found)


def _plain(path: str, text: str) -> Declaration:
    lines, indexes, includes = [], [], []
    number, held = 0, ""
    for number, raw in enumerate(text.split("\n")[:MAX_LINES], start=1):
        line = held + re.sub(r"(?:^|\s)#.*$", "", raw).strip()
        held = f"{line[:-1].strip()} " if line.endswith("\\") else ""
        if held or not line:
            continue
        where = SourceLine(file=path, line=number, text=raw.strip()[:300])
        option = _OPTION.match(line)
        if option is None:
            found = requirement(line)
            lines += [Wanted(line=found, where=where)] if found else []
        elif option[1] in _INDEXES and "://" in option[2]:
            indexes.append(PackageIndex(url=option[2].strip(), where=where))
        elif option[1] in ("-r", "--requirement"):
            includes.append(option[2].strip())
    return Declaration(path, tuple(lines), indexes=tuple(indexes), includes=tuple(includes))


def _table(document: object, *keys: str) -> dict[str, Any]:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def _pyproject(path: str, text: str) -> Declaration:
    document = tomllib.loads(text)
    places = _Places(path, text)
    project, poetry = _table(document, "project"), _table(document, "tool", "poetry")
    lines = [*places.wanted(project.get("dependencies")), *_poetry(_table(poetry, "dependencies"), places)]
    extras = {str(k): places.wanted(v) for k, v in _table(project, "optional-dependencies").items()}
    groups = {str(k): places.wanted(v) for k, v in _table(document, "dependency-groups").items()}
    for group, content in _table(poetry, "group").items():
        groups[str(group)] = tuple(_poetry(_table(content, "dependencies"), places))
    requires = project.get("requires-python") or _table(poetry, "dependencies").get("python")
    indexes = [
        PackageIndex(url=str(row["url"]), where=places.at(str(row["url"])))
        for rows in (_table(document, "tool", "uv").get("index"), poetry.get("source"))
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and "://" in str(row.get("url"))
    ]
    asked = _asked(str(requires), places.at(str(requires))) if isinstance(requires, str) else ()
    used = _classifiers(project.get("classifiers") or poetry.get("classifiers"), places)
    packaged = bool(project.get("name") or poetry.get("name"))
    whole = poetry.get("package-mode") is not False and _table(document, "tool", "uv").get("package") is not False
    return Declaration(
        path,
        tuple(lines),
        extras,
        groups,
        indexes=tuple(indexes),
        pythons=(*asked, *used),
        computed="dependencies" in _list(project.get("dynamic")),
        builds=packaged and whole and (bool(document.get("build-system")) or not _table(document, "tool", "uv")),
        name=str(project.get("name") or poetry.get("name") or ""),
    )


def _poetry(table: Mapping[str, Any], places: _Places) -> Iterator[Wanted]:
    """Poetry's own way of saying versions, as PEP 508 has it; what comes from a path stays out."""
    for name, said in list(table.items())[:MAX_LINES]:
        if name == "python":
            continue
        row = said[0] if isinstance(said, list) and said else said
        if isinstance(row, dict):
            if row.get("optional") or "path" in row:
                continue
            if "git" in row:
                ref = row.get("rev") or row.get("tag") or row.get("branch")
                line = f"{name} @ git+{row['git']}" + (f"@{ref}" if ref else "")
            else:
                extras = row.get("extras")
                line = name + (f"[{','.join(map(str, extras))}]" if isinstance(extras, list) and extras else "")
                line += pep440(str(row.get("version", "*")))
        else:
            line = name + pep440(str(row))
        if found := requirement(line):
            yield Wanted(line=found, where=places.at(name))


def pep440(version: str) -> str:
    """Poetry's version as a specifier: `^1.2` is `>=1.2,<2`, `~1.2` is `>=1.2,<1.3`, a bare one is exact."""
    text = version.strip()
    if text in ("", "*", "latest"):
        return ""
    if match := _CARET.match(text):
        parts = [int(p) for p in match[1].split(".")]
        first = next((i for i, p in enumerate(parts) if p), len(parts) - 1)
        upper = ".".join(map(str, [*parts[:first], parts[first] + 1]))
        return f">={match[1]},<{upper}"
    if match := _TILDE.match(text):
        parts = [int(p) for p in match[1].split(".")]
        above = [parts[0] + 1] if len(parts) == 1 else [parts[0], parts[1] + 1]
        return f">={match[1]},<{'.'.join(map(str, above))}"
    return f"=={text}" if text[0].isdigit() else text.replace(" ", "")


def _asked(specifier: str, where: SourceLine) -> tuple[PythonWish, ...]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = pep440(specifier) if specifier[:1] in "^~" and not specifier.startswith("~=") else specifier.strip()
    if re.fullmatch(r"\d+(?:\.\d+)*", text):
        text = f">={text}"  # poetry and setup.py both mean at least that, where they say a bare one
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return ()
    return (PythonWish(specifier=text, required=True, where=where),)


def _classifiers(rows: object, places: _Places) -> tuple[PythonWish, ...]:
    """The range of Python versions that the classifiers name: what the author has tried."""
    words = (re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", str(r)) for r in _list(rows))
    minors = [int(m[1]) for m in words if m]
    if not minors:
        return ()
    where = places.at(f"Python :: 3.{max(minors)}")
    return (PythonWish(specifier=f">=3.{min(minors)},<3.{max(minors) + 1}", where=where),)


def _list(rows: object) -> list[Any]:
    return rows if isinstance(rows, list) else []


def _setup_py(path: str, text: str) -> Declaration:
    module = read_module(path, text)
    call = next((c.node for c in module.calls if c.last == "setup"), None)
    if call is None:
        return Declaration(path)
    places = _Places(path, text)
    extras = value_of(keyword(call, "extras_require"), module)
    lines = _literals(keyword(call, "install_requires"), module)
    requires = value_of(keyword(call, "python_requires"), module)
    name = value_of(keyword(call, "name"), module)
    return Declaration(
        path,
        places.wanted(lines),
        {str(k): places.wanted(v) for k, v in extras.items()} if isinstance(extras, dict) else {},
        pythons=(
            *(_asked(requires, places.at("python_requires")) if isinstance(requires, str) else ()),
            *_classifiers(value_of(keyword(call, "classifiers"), module), places),
        ),
        builds=True,
        name=name if isinstance(name, str) else "",
    )


def _literals(node: ast.expr | None, module: Module) -> list[str]:
    """The texts of a list, those that can be known; of one that is computed every text of the file that pins a version,
    for that is where it comes from.
    """
    if node is None:
        return []
    whole = value_of(node, module)
    if isinstance(whole, list):
        return [str(row) for row in whole]
    if isinstance(node, ast.List | ast.Tuple):
        return [e.value for e in node.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
    texts = [c.value for c in module.strings if isinstance(c.value, str) and len(c.value) < _MAX_TEXT]
    return [t for t in texts if re.match(r"^[A-Za-z][\w.-]*(?:\[[\w,-]+\])?\s*(?:[=<>!~]=|[<>])", t)]


def _setup_cfg(path: str, text: str) -> Declaration:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    places = _Places(path, text)
    rows = parser.get("options", "install_requires", fallback="").split("\n")
    extras = dict(parser["options.extras_require"]) if parser.has_section("options.extras_require") else {}
    requires = parser.get("options", "python_requires", fallback=None)
    return Declaration(
        path,
        places.wanted(rows),
        {name: places.wanted(value.split("\n")) for name, value in extras.items()},
        pythons=_asked(requires, places.at("python_requires")) if requires else (),
        builds=parser.has_section("options") or parser.has_section("metadata"),
        name=parser.get("metadata", "name", fallback=""),
    )


def _pipfile(path: str, text: str) -> Declaration:
    document = tomllib.loads(text)
    places = _Places(path, text)
    python = _table(document, "requires").get("python_version")
    wish = PythonWish(specifier=f"=={python}.*", where=places.at(str(python)))
    return Declaration(
        path,
        tuple(_poetry(_table(document, "packages"), places)),
        pythons=(wish,) if re.fullmatch(r"3\.\d+", str(python)) else (),
    )


def _conda(path: str, text: str) -> Declaration:
    from caravan.analysis.configs import load

    document = load(path, text)
    rows = document.get("dependencies") if isinstance(document, dict) else None
    places = _Places(path, text)
    lines: list[Wanted] = []
    conda: list[tuple[str, str, SourceLine]] = []
    pythons: list[PythonWish] = []
    indexes: list[PackageIndex] = []
    includes: list[str] = []
    for row in (rows if isinstance(rows, list) else ())[:MAX_LINES]:
        if isinstance(row, dict):
            inner = [str(r) for r in row.get("pip") or ()] if isinstance(row.get("pip"), list) else []
            lines += places.wanted(inner)
            options = [o for r in inner if (o := _OPTION.match(r.strip()))]
            indexes += [PackageIndex(url=o[2], where=places.at(o[2])) for o in options if o[1] in _INDEXES]
            includes += [o[2].strip() for o in options if o[1] in ("-r", "--requirement")]
        elif match := _CONDA.match(str(row).rpartition("::")[2]):
            where = places.at(str(row))
            if match[1] == "python":
                minor = re.match(r"3\.\d+", match[2] or "")
                pythons += [PythonWish(specifier=f"=={minor[0]}.*", where=where)] if minor else []
            else:
                conda.append((match[1].lower(), match[2] or "", where))
    return Declaration(
        path, tuple(lines), conda=tuple(conda), indexes=tuple(indexes), pythons=tuple(pythons), includes=tuple(includes)
    )


def locked(path: str, text: str) -> Mapping[str, tuple[str, SourceLine]]:
    """Normal name → version of a lock file (uv, poetry, pdm), of packages that come from an index."""
    from caravan.values.distributions import normal

    try:
        rows = tomllib.loads(text).get("package")
    except (ValueError, RecursionError):
        return {}
    numbers = {m[1]: n for n, line in enumerate(text.split("\n"), 1) if (m := re.match(r'name = "([^"]+)"', line))}
    found: dict[str, tuple[str, SourceLine]] = {}
    for row in rows if isinstance(rows, list) else ():
        source = row.get("source") if isinstance(row, dict) else None
        kind = source if isinstance(source, dict) else {}
        here = any(k in kind for k in ("virtual", "editable", "directory", "path", "git")) or kind.get("type") == "git"
        name, version = (row.get("name"), row.get("version")) if isinstance(row, dict) else (None, None)
        if isinstance(name, str) and isinstance(version, str) and not here:
            found.setdefault(normal(name), (version, SourceLine(file=path, line=numbers.get(name, 0))))
    return found


def names_of(lines: Iterable[Wanted]) -> frozenset[str]:
    """The normal names of the packages that the lines ask for."""
    from packaging.requirements import Requirement

    from caravan.values.distributions import normal

    return frozenset(normal(Requirement(w.line).name) for w in lines)

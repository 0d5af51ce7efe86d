"""Files that say what must be installed: requirements, pyproject, setup, conda environments; and console commands.

Pure: text in, facts out. A file that does not parse says nothing but its error.
"""

import configparser
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import basename
from typing import Any, Final

from caravan.analysis.python import keyword, read_module, value_of

_REQUIREMENTS: Final = re.compile(r"^(?:requirements?[^/]*|[^/]*[-_.]requirements)\.(?:txt|in)$", re.IGNORECASE)
_FILES: Final = ("pyproject.toml", "setup.py", "setup.cfg", "environment.yml", "environment.yaml", "Pipfile")
_NAME: Final = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a dependency file says. `declares` is False for one that only configures tools."""

    path: str
    packages: tuple[str, ...] = ()
    python_requires: str | None = None
    scripts: Mapping[str, str] = field(default_factory=dict)
    declares: bool = False
    error: str | None = None


def is_dependency_file(path: str) -> bool:
    """Whether the file's name is that of a dependency file (lock files are not)."""
    name = basename(path)
    inside = "requirements/" in path and name.endswith(".txt")
    return name in _FILES or bool(_REQUIREMENTS.match(name)) or inside


def read_dependencies(path: str, text: str) -> Dependencies:
    """What the file says. Never raises."""
    name = basename(path)
    try:
        if name == "pyproject.toml":
            return _pyproject(path, tomllib.loads(text))
        if name == "Pipfile":
            document = tomllib.loads(text)
            packages = tuple(_section(document, "packages"))
            return Dependencies(path, packages, declares=bool(packages))
        if name == "setup.py":
            return _setup_py(path, text)
        if name == "setup.cfg":
            return _setup_cfg(path, text)
        if name.startswith("environment."):
            return _environment(path, text)
    except (ValueError, RecursionError, configparser.Error) as error:
        return Dependencies(
            path, error=f"{path} does not parse: {str(error).splitlines()[0] if str(error) else error!r}"
        )
    packages = tuple(_names(text.split("\n")))
    return Dependencies(path, packages, declares=True)


def _names(lines: object) -> Iterator[str]:
    """Package names in requirement lines, in lower case."""
    for line in lines if isinstance(lines, list) else []:
        text = str(line).split(" #")[0]
        if text.lstrip().startswith(("#", "-")):
            egg = re.search(r"#egg=([A-Za-z0-9._-]+)", str(line))
            if egg:
                yield egg[1].lower()
        elif "://" in text and "@" not in text.split("://")[0]:
            continue
        elif match := _NAME.match(text):
            yield match[1].lower()


def _section(document: object, *keys: str) -> dict[str, Any]:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def _pyproject(path: str, document: dict[str, Any]) -> Dependencies:
    project, poetry = _section(document, "project"), _section(document, "tool", "poetry")
    packages = list(_names(project.get("dependencies")))
    for extra in _section(project, "optional-dependencies").values():
        packages += _names(extra)
    poetry_packages = {str(k).lower(): v for k, v in _section(poetry, "dependencies").items()}
    packages += [k for k in poetry_packages if k != "python"]
    requires = project.get("requires-python") or poetry_packages.get("python")
    scripts = {**_section(project, "scripts"), **_section(poetry, "scripts")}
    return Dependencies(
        path,
        tuple(dict.fromkeys(packages)),
        str(requires) if requires else None,
        {str(k): v for k, v in scripts.items() if isinstance(v, str)},
        declares=bool(project or poetry_packages),
    )


def _setup_py(path: str, text: str) -> Dependencies:
    module = read_module(path, text)
    if module.error:
        return Dependencies(path, error=module.error)
    call = next((c.node for c in module.calls if c.last == "setup"), None)
    if call is None:
        return Dependencies(path)
    packages = list(_names(value_of(keyword(call, "install_requires"), module)))
    extras = value_of(keyword(call, "extras_require"), module)
    for extra in extras.values() if isinstance(extras, dict) else ():
        packages += _names(extra)
    requires = value_of(keyword(call, "python_requires"), module)
    entries = value_of(keyword(call, "entry_points"), module)
    scripts = entries.get("console_scripts") if isinstance(entries, dict) else None
    return Dependencies(
        path, tuple(dict.fromkeys(packages)), str(requires) if requires else None, _console(scripts), declares=True
    )


def _console(rows: object) -> dict[str, str]:
    pairs = (str(r).partition("=") for r in rows) if isinstance(rows, list) else ()
    return {name.strip(): target.strip() for name, equals, target in pairs if equals}


def _setup_cfg(path: str, text: str) -> Dependencies:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    packages = tuple(_names(parser.get("options", "install_requires", fallback="").split("\n")))
    scripts = _console(parser.get("options.entry_points", "console_scripts", fallback="").split("\n"))
    requires = parser.get("options", "python_requires", fallback=None)
    return Dependencies(path, packages, requires, scripts, declares=bool(packages or scripts))


def _environment(path: str, text: str) -> Dependencies:
    from caravan.analysis.configs import load

    document = load(path, text)
    packages: list[str] = []
    for row in document.get("dependencies") or [] if isinstance(document, dict) else []:
        packages += _names(row.get("pip") if isinstance(row, dict) else [row])
    python = re.search(r"^\s*-\s*python\s*[=<>~ ]+\s*([0-9.]+)", text, re.MULTILINE)
    return Dependencies(path, tuple(packages), python[1] if python else None, declares=bool(packages))

"""The directories of an allocation, and the templates that are written into them. Opens files; knows no processes."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.words import JsonDict

_LITERAL = r'"((?:[^"\\]|\\.)*)"'
_BARE_LITERAL = r"`([^`]*)`"


class TemplateRefused(Exception):
    """A template that can't be rendered, with the reason."""


class EscapesDirectory(Exception):
    """A path that leads out of the directory it must stay in."""


def place_of(allocs: Path, alloc_id: str, task: str) -> TaskPlace:
    """Where a task's files are, under the directory of all allocations."""
    return TaskPlace(allocs / alloc_id / "alloc", allocs / alloc_id / task)


def build(place: TaskPlace) -> None:
    """Make the directories that Nomad makes; those that are there stay. Raises OSError."""
    place.alloc_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("data", "logs", "tmp"):
        (place.alloc_dir / name).mkdir(parents=True, exist_ok=True)
    place.local.mkdir(parents=True, exist_ok=True)
    place.secrets.mkdir(mode=0o700, exist_ok=True)
    (place.task_dir / "tmp").mkdir(exist_ok=True)


def remove(allocs: Path, alloc_id: str) -> None:
    """Remove an allocation's directory with all that is in it."""
    shutil.rmtree(allocs / alloc_id, ignore_errors=True)


def inside(root: Path, path: str) -> Path:
    """`path` below `root`, links followed. Raises EscapesDirectory when it leads out."""
    base = Path(os.path.realpath(root))
    found = Path(os.path.realpath(base / path.lstrip("/")))
    if found != base and base not in found.parents:
        raise EscapesDirectory("Path escapes the alloc directory")
    return found


def render_templates(task: JsonDict, place: TaskPlace, environment: Mapping[str, str]) -> dict[str, str]:
    """Write the task's templates; what those with `env` say comes back. Raises TemplateRefused or OSError."""
    told: dict[str, str] = {}
    for template in task["Templates"] or []:
        if template["SourcePath"]:
            raise TemplateRefused("the built-in cluster renders embedded templates only, no source files")
        text = render(template["EmbeddedTmpl"], environment, template["LeftDelim"], template["RightDelim"])
        try:
            target = inside(place.task_dir, template["DestPath"])
        except EscapesDirectory as error:
            raise TemplateRefused(f"template destination {template['DestPath']} escapes the task directory") from error
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.new")
        new.write_text(text, encoding="utf-8")
        new.chmod(int(template["Perms"] or "0644", 8))
        new.replace(target)
        if template["Envvars"]:
            told |= parse_env(text)
    return told


def render(text: str, environment: Mapping[str, str], left: str = "{{", right: str = "}}") -> str:
    """A template's text. Understood are `env "NAME"`, a text in quotes and comments, with `-` trimming spaces.

    Everything else is refused with TemplateRefused rather than guessed.
    """
    left, right = left or "{{", right or "}}"
    parts: list[str] = []
    rest, trim = text, False
    while True:
        before, found, after = rest.partition(left)
        if trim:
            before = before.lstrip()
        if not found:
            return "".join([*parts, before])
        action, closed, rest = after.partition(right)
        if not closed:
            raise TemplateRefused("template: unclosed action")
        if action.startswith("- ") or action == "-":
            before, action = before.rstrip(), action[1:]
        trim = action.endswith(" -")
        parts += [before, _evaluate(action.removesuffix(" -").strip(), environment)]


def _evaluate(action: str, environment: Mapping[str, str]) -> str:
    if action.startswith("/*") and action.endswith("*/"):
        return ""
    for pattern in (_LITERAL, _BARE_LITERAL):
        if found := re.fullmatch(pattern, action):
            return _unquote(found.group(1)) if pattern is _LITERAL else found.group(1)
        if found := re.fullmatch(rf"env\s+{pattern}", action):
            return environment.get(found.group(1), "")
    raise TemplateRefused(f"template: the built-in cluster does not know the template action {action[:80]!r}")


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m.group(1), m.group(1)), text)


def parse_env(text: str) -> dict[str, str]:
    """`NAME=value` lines; empty ones and comments are left out. Raises TemplateRefused for another line."""
    told: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = re.fullmatch(r"(?:export\s+)?([A-Za-z_][\w.-]*)\s*=\s*(.*)", line)
        if not found:
            raise TemplateRefused(f"error parsing env template: line is no NAME=value: {line.split('=')[0][:40]!r}")
        value = found.group(2)
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = _unquote(value[1:-1]) if value[0] == '"' else value[1:-1]
        told[found.group(1)] = value
    return told

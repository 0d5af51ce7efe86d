"""Task-runner files as shell blocks: Makefile, justfile, Taskfile, tox, package.json, CI, Dockerfile, `project.yml`, …

Pure: text in, blocks out; each block's heading is the task's name. It must not know what a command starts.
"""

import json
import re
from collections.abc import Iterator, Mapping
from posixpath import basename
from typing import Final

from caravan.analysis.configs import load
from caravan.analysis.makefile import recipes
from caravan.analysis.markdown import Block
from caravan.values.base import Json

MAX_TEXT: Final = 300_000
_MAX_DEPTH: Final = 12
_MAX_BLOCKS: Final = 500
_COMMAND_KEYS: Final = frozenset(
    {"run", "cmd", "cmds", "command", "commands", "script", "scripts", "entrypoint", "args", "steps", "shell", "exec"}
)
_NAMES: Final = re.compile(
    r"(?i)^(?:(?:gnu)?makefile|\w+\.mk|justfile|\.justfile|taskfile\.ya?ml|tox\.ini|package\.json|mlproject|procfile|dvc\.yaml"
    r"|project\.ya?ml|weasel\.ya?ml|(?:docker-)?compose[\w.-]*\.ya?ml|dockerfile[\w.-]*|[\w.-]+\.dockerfile|\.gitlab-ci\.yml"
    r"|noxfile\.py|tasks\.py|pixi\.toml|skypilot\.ya?ml|cog\.ya?ml)$"
)
_WORKFLOW: Final = re.compile(r"(?:^|/)(?:\.github/workflows|\.circleci|\.buildkite)/[\w.-]+\.ya?ml$")
_TEMPLATE: Final = re.compile(
    r"\$\{vars\.([\w.]+)\}|\{\{\s*\.?([\w.]+)\s*\}\}|\$\{\{\s*(?:env|inputs|vars)\.([\w.]+)\s*\}\}"
)
_RECIPE: Final = re.compile(r"^(@?[A-Za-z_][\w-]*)[^:=]*:(?!=)")
_ASSIGN: Final = re.compile(r"^([A-Za-z_]\w*)\s*:=\s*['\"]?(.*?)['\"]?\s*$")
_IN_CALL: Final = re.compile(r"\.run\(\s*f?(['\"]{1,3})(.+?)\1", re.DOTALL)
_SESSION: Final = re.compile(r"session\.run\(([^()]{1,2000})\)", re.DOTALL)
_DOCKER: Final = re.compile(r"(?i)^\s*(cmd|entrypoint|run)\s+(.*)$")


def is_runner(path: str) -> bool:
    """Whether a file is one that says which commands are tasks."""
    return bool(_NAMES.match(basename(path)) or _WORKFLOW.search(path))


def runner_blocks(path: str, text: str) -> list[Block]:
    """The commands of a task-runner file, in order. Never raises; a broken file has none."""
    name, text = basename(path).lower(), text[:MAX_TEXT]
    if "makefile" in name or name.endswith(".mk"):
        found: Iterator[Block] = (Block(r.text, r.line, r.target) for r in recipes(text))
    elif "justfile" in name:
        found = _just(text)
    elif "dockerfile" in name:
        found = _docker(text)
    elif name == "package.json":
        found = _package(text)
    elif name.endswith(".py"):
        found = _python_tasks(text)
    elif name in ("tox.ini", "pixi.toml"):
        found = iter([Block(re.sub(r"(?m)^[ \t]*[\w.-]*(?:commands|cmd)\w*\s*=\s*\"?", "", text), 1, "")])
    elif name == "procfile":
        found = (
            Block(li.partition(":")[2].strip(), n, li.partition(":")[0]) for n, li in enumerate(text.split("\n"), 1)
        )
    else:
        found = _yaml(text)
    return [b for b, _ in zip(found, range(_MAX_BLOCKS), strict=False)]


def _just(text: str) -> Iterator[Block]:
    variables: dict[str, str] = {}
    target, held, start = "", list[str](), 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.startswith((" ", "\t")) and target:
            start = start or number
            held.append(line.strip().lstrip("@-"))
            continue
        if held:
            yield Block(_filled("\n".join(held), variables), start, target)
            held, start = [], 0
        assigned, recipe = _ASSIGN.match(line), _RECIPE.match(line)
        if assigned:
            variables[assigned[1]] = assigned[2][:500]
        elif line.strip() and not line.startswith("#"):
            target = recipe[1].lstrip("@") if recipe else ""


def _docker(text: str) -> Iterator[Block]:
    lines = text.split("\n")
    i = 0
    while i < len(lines):
        held, start = lines[i], i + 1
        while held.rstrip().endswith("\\") and i + 1 < len(lines) and len(held) < 20_000:
            i += 1
            held = f"{held.rstrip()[:-1]} {lines[i].strip()}"
        i += 1
        told = _DOCKER.match(held)
        if told:
            yield Block(_exec_form(told[2]), start, told[1].upper())


def _exec_form(text: str) -> str:
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return " ".join(str(w) for w in words) if isinstance(words, list) else text


def _package(text: str) -> Iterator[Block]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    scripts = document.get("scripts") if isinstance(document, dict) else None
    for name, command in scripts.items() if isinstance(scripts, dict) else ():
        if isinstance(command, str):
            yield Block(command, _line_of(text, f'"{name}"'), str(name))


def _python_tasks(text: str) -> Iterator[Block]:
    """The commands that the tasks of invoke (`c.run("…")`) and nox (`session.run("a", "b")`) hold."""
    for match in _SESSION.finditer(text):
        words = re.findall(r"['\"]([^'\"]*)['\"]", match[1])
        yield Block(" ".join(words), text.count("\n", 0, match.start()) + 1, "")
    for match in _IN_CALL.finditer(text):
        if not text[: match.start()].endswith("session"):
            yield Block(match[2], text.count("\n", 0, match.start()) + 1, "")


def _yaml(text: str) -> Iterator[Block]:
    try:
        document = load("tasks.yaml", text)
    except ValueError:
        return
    values = document.get("vars") or document.get("env") if isinstance(document, dict) else None
    variables = {str(k): str(v) for k, v in values.items()} if isinstance(values, dict) else {}
    for name, command in _commands(document, "", 0):
        first = command.strip().split("\n", 1)[0][:60]
        yield Block(_filled(command, variables), _line_of(text, first), name)


def _commands(node: Json, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """(task, command) of each text or list of texts below a key that holds commands."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, dict):
        own = node.get("name")
        inner = str(own) if isinstance(own, str) else name
        for key, value in node.items():
            if str(key) in _COMMAND_KEYS:
                if isinstance(value, str):
                    yield inner, value
                    continue
                if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
                    together = str(key) in ("command", "args", "entrypoint")
                    yield from [(inner, " ".join(value))] if together else ((inner, v) for v in value)
                    continue
            if isinstance(value, dict | list):
                yield from _commands(value, inner if isinstance(node.get("name"), str) else str(key), depth + 1)
    elif isinstance(node, list):
        for item in node:
            yield from _commands(item, name, depth + 1)


def _filled(text: str, variables: Mapping[str, str]) -> str:
    return _TEMPLATE.sub(lambda m: variables.get(m[1] or m[2] or m[3], f"${{{(m[1] or m[2] or m[3])}}}"), text)[:20_000]


def _line_of(text: str, part: str) -> int:
    at = text.find(part) if part else -1
    return text.count("\n", 0, at) + 1 if at >= 0 else 1

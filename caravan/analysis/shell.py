"""Commands in shell text: scripts, README blocks, recipes. Variables, `cd` and line ends are followed, nothing is run.

Pure: text in, `Command`s out. It must not know which files exist; who combines checks that.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from posixpath import join, normpath
from typing import Final

from caravan.analysis.findings import Command, clean, source_line
from caravan.analysis.shell_lines import MAX_COMMAND, logical_lines, scheduler_header
from caravan.analysis.starts import Started, started, unwrapped

_ASSIGNMENT: Final = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)(\+?)=(.*)$", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?:\[[@*]\])?(?::?[-=]([^{}]*))?\}|\((\w+)\)|(\w+))")
_WHOLE: Final = re.compile(r"^\$(?:\{\w+(?:\[[@*]\])?(?::?[-=][^{}]*)?\}|\w+)$")
_PART: Final = re.compile(r"""([;&|]+)|((?:[^ \t\r\n'"\\;&|]|'[^']*'|"[^"\\]*")+)|[ \t\r\n]+""")
_QUOTED: Final = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_FUNCTION: Final = re.compile(r"(?m)^[ \t]*(?:function[ \t]+(?=\w)|(?=[\w-]+[ \t]*\(\)))([A-Za-z_][\w-]*)")
_HANDED_ON: Final = re.compile(r"\$(?:[@*]|\{[@*](?::[^{}]*)?\})")
"""The arguments of a script that it hands on: none, where its command is taken over."""
_SEVERAL: Final = re.compile(r"^-|\s--?[A-Za-z]|^(?:python|torchrun|accelerate|deepspeed|mpirun|srun)\b|^[\w./]+\s+-")
_MAX_VALUE: Final = 8000


@dataclass
class _State:
    """What lines before have set."""

    cwd: str
    variables: dict[str, str] = field(default_factory=dict)
    exported: dict[str, str] = field(default_factory=dict)

    def assign(self, assigned: re.Match[str]) -> tuple[str, str]:
        """(name, value) of an assignment; `+=` goes on where the variable stands."""
        value = assigned[3]
        if assigned[2]:
            value = f"{self.variables.get(assigned[1], '')} {value}".strip()
        return assigned[1], value[:MAX_COMMAND]


def read_commands(
    text: str, file: str, *, first_line: int = 1, cwd: str = ".", heading: str = "", context: str = ""
) -> list[Command]:
    """The commands in a shell text that start something, in order. Never raises; a broken line is split at spaces."""
    state = _State(cwd)
    found: list[Command] = []
    asked = scheduler_header(text)
    functions = frozenset(_FUNCTION.findall(text)) if "()" in text or "function " in text else frozenset()
    for number, line in logical_lines(text, first_line):
        for words in _simple_commands(line):
            command = _command(words, state)
            if command and command[0].target.split(" ")[0] not in functions:
                what, environment = command
                before = [f"{k}={shlex.quote(v)}" for k, v in environment.items()]
                found.append(
                    Command(
                        launcher=what.launcher,
                        target=what.target,
                        kind=what.kind,
                        launcher_args=what.launcher_args,
                        args=what.args,
                        environment=environment,
                        cwd=state.cwd,
                        text=clean(" ".join(before + [_typed(w, line) for w in words])),
                        where=source_line(file, number, line),
                        heading=heading,
                        context=context,
                        tool=what.tool,
                        scheduler=asked,
                    )
                )
    return found


def _typed(word: str, line: str) -> str:
    """A word as it may be typed again; places to fill in (`<path>`, `$VAR`) stay readable, quoted patterns quoted."""
    if "*" in word and (f'"{word}"' in line or f"'{word}'" in line):
        return shlex.quote(word)
    return word if re.fullmatch(r"[A-Za-z0-9_@%+=:,./<>${}*~-]+", word) else shlex.quote(word)


def _words(line: str) -> list[str]:
    """The words of a line and what stands between its commands, as a shell splits them."""
    words, at = [], 0
    while found := _PART.match(line, at):  # many times faster than the lexer
        at = found.end()
        if joint := found[1]:
            words.append(joint)
        elif (word := found[2]) is not None:
            words.append(_QUOTED.sub(lambda m: m[1] or m[2] or "", word) if "'" in word or '"' in word else word)
    if at == len(line):
        return words
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")  # what is escaped, or quoted and not closed
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:  # an apostrophe in prose, a cut command
        return line.replace("'", "").replace('"', "").split()


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line, split at `&&`, `;` and `|`; redirections and comments left out."""
    if len(line) > MAX_COMMAND:
        return
    words = _words(line)
    current: list[str] = []
    skip = False
    for word in words:
        if word.startswith("#"):
            break
        if word and not word.strip(";&|"):
            if current:
                yield current
            current, skip = [], False
        elif skip:
            skip = False
        elif re.fullmatch(r"\d*>{1,2}|<", word):
            skip = True
        elif not re.match(r"^\d*>{1,2}[^>]|^<(?=[^<>]*$)", word):
            current.append(word)
    if current:
        yield current


def _command(words: list[str], state: _State) -> tuple[Started, dict[str, str]] | None:
    """What one command starts; None for one that starts nothing of interest. Changes `state` and expands `words`."""
    environment: dict[str, str] = {}
    words[:] = [expanded for w in words if not _HANDED_ON.fullmatch(w) for expanded in _expanded(w, state)]
    declared = bool(words) and words[0] in ("export", "local", "declare", "readonly", "typeset")
    if declared:
        pairs = dict(state.assign(m) for w in words[1:] if (m := _ASSIGNMENT.match(w)))
        state.variables.update(pairs)
        if words[0] == "export":
            state.exported.update(pairs)
        return None
    while words:
        assigned = _ASSIGNMENT.match(words[0])
        if assigned:
            name, value = state.assign(assigned)
            environment[name] = value
            del words[0]
            continue
        inner = unwrapped(words)
        if len(inner) == len(words):
            break
        words[:] = inner
    if not words:
        state.variables.update(environment)
        return None
    if words[0] in ("cd", "pushd") and len(words) == 2:
        state.cwd = _moved(state.cwd, words[1])
        return None
    what = started(words)
    return (what, {**state.exported, **environment}) if what else None


def _moved(cwd: str, to: str) -> str:
    """The directory after `cd`; what leaves the repository or can't be known leaves the old one."""
    if to.startswith(("/", "~", "$", "<", "-")):
        return cwd
    moved = normpath(join(cwd, to))
    return cwd if moved.startswith("..") else moved


def _expanded(word: str, state: _State) -> list[str]:
    """The word with what its variables are known to be; several words where a variable holds a command's arguments."""
    if "$" not in word and "`" not in word:
        return [word]

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3] or match[4]
        known = state.variables.get(name, match[2])
        return match[0] if known is None or len(known) > _MAX_VALUE else known

    filled = word
    for _ in range(3):  # a value may speak of other variables
        filled = _VARIABLE.sub(value, filled)[:MAX_COMMAND]
        if "$" not in filled:
            break
    if _WHOLE.match(word) and " " in filled and _SEVERAL.search(filled):
        try:
            return shlex.split(filled)
        except ValueError:
            return filled.split()
    return [filled]

"""Options of compiled programs (C, C++, CUDA, Rust, Go): from their usage texts, else from what their code compares.

Pure, over texts. Which source a program is compiled from is not known here.
"""

import re
from collections.abc import Iterator
from typing import Final

from caravan.analysis.docopt_options import usage_options
from caravan.analysis.findings import FoundOption, clean, source_line
from caravan.analysis.option_parts import MAX_OPTIONS, once
from caravan.analysis.options import Parser
from caravan.analysis.sources import Sources
from caravan.values.repo import ScriptOption

ENDINGS: Final = (".c", ".cc", ".cpp", ".cxx", ".cu", ".rs", ".go", ".m", ".mm", ".swift", ".zig")
_MAX_TEXT: Final = 2_000_000
_MAX_LITERALS: Final = 20_000
_STRING: Final = re.compile(r'"((?:[^"\\\n]|\\.){1,600})"')
_COMPARED: Final = re.compile(
    r"""(?:strcmp|strncmp|==|\.compare|\.eq|case|equals)[^"'\n]{0,60}"(-{1,2}[A-Za-z][\w-]{0,40})=?\""""
)
_LETTER: Final = re.compile(r"""argv\s*\[[^\]]+\]\s*\[1\]\s*==\s*'([A-Za-z])'(?!.*\[2\]\s*==\s*'([A-Za-z])')""")
_GETOPT: Final = re.compile(r"""\bgetopt(?:_long)?(?:_only)?\s*\([^"\n]{0,80}"([A-Za-z:+-]{2,80})\"""")
_LONG: Final = re.compile(r"""\{\s*"([a-z][\w-]{1,40})"\s*,\s*(?:required_argument|optional_argument|no_argument|\d)""")
_FLAG_CALL: Final = re.compile(
    r"""(?:DEFINE_(?:string|int32|int64|double|bool|uint64)\s*\(\s*([a-z]\w+)"""
    r"""|\bflag\.\w+\((?:&\w+,\s*)?"([a-z][\w-]+)")"""
)


def program_parser(path: str, sources: Sources) -> Parser | None:
    """The options of the program that is compiled from this source file; None when it shows none."""
    text = sources.text(path) or ""
    found = tuple(once(read_program(path, text[:_MAX_TEXT])))[:MAX_OPTIONS]
    return Parser("usage", found) if found else None


def read_program(path: str, text: str) -> Iterator[FoundOption]:
    """Options of a program's source: the lines of its usage texts first, then flags that it compares or declares."""
    yield from _usage(path, text)
    for pattern, before in ((_COMPARED, ""), (_LONG, "--"), (_FLAG_CALL, "--")):
        for match in list(pattern.finditer(text))[:MAX_OPTIONS]:
            flag = before + next(g for g in match.groups() if g)
            yield _option(path, text, match.start(), flag)
    for match in list(_LETTER.finditer(text))[:MAX_OPTIONS]:
        yield _option(path, text, match.start(), f"-{match[1]}")
    for match in list(_GETOPT.finditer(text))[:10]:
        yield from (_option(path, text, match.start(), f"-{letter}") for letter in match[1] if letter.isalpha())


def _usage(path: str, text: str) -> Iterator[FoundOption]:
    """Each text of the source that looks like a usage line, `  -b <int> batch size (default = 4)`."""
    line, at = 1, 0
    for i, match in enumerate(_STRING.finditer(text)):
        if i >= _MAX_LITERALS:
            return
        if "-" not in match[1][:14]:
            continue
        line, at = line + text.count("\n", at, match.start()), match.start()
        spoken = match[1].replace("\\t", "    ").replace('\\"', '"').split("\\n")
        for one in spoken:
            for found in usage_options(path, [one], line):
                if " " in one.strip():  # a flag alone is no usage line
                    yield found


def _option(path: str, text: str, offset: int, flag: str) -> FoundOption:
    number = text.count("\n", 0, offset) + 1
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    line = text[start : end if end >= 0 else len(text)][:400]
    comment = clean(line.partition("//")[2].strip())[:300]
    return FoundOption(ScriptOption(flag=flag, help=comment), (flag,), source_line(path, number, line))

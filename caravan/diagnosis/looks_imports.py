"""A look for a slip in an import: a module that the repository's own package does not have. Pure.

Which names are libraries', and which are everybody's, its caller says: it knows no list of them.
"""

import re
from typing import Final

from caravan.diagnosis.sign import Look, Seen
from caravan.diagnosis.tracebacks import own_frame

_NO_PART: Final = re.compile(
    r"ModuleNotFoundError: No module named '(?P<module>(?P<parent>[A-Za-z_][\w.]*)\.(?P<part>\w+))'\s*$"
)
# What a build writes, and what is compiled: not there is not misspelt.
_MADE: Final = re.compile(r"^_|_pb2(?:_grpc)?$|^version$|(?:_ext|_cuda|_cpp|_lib|_kernels?)$|^C$", re.IGNORECASE)
_FRAME: Final = re.compile(r"\s*File \"[^\"]*\", line \d")


def part_missing(elsewhere: str, shared: str) -> Look:
    """The look for it; `elsewhere`: first names of libraries, `shared`: those that everybody gives to own folders.

    Python names the first part that it does not find: where it names `a.b`, it has found `a`. A name as many have it
    may be another's package: there the repository's own must be among the frames.
    """
    libraries, everybodys = re.compile(rf"(?:{elsewhere})\."), re.compile(rf"(?:{shared})\.")

    def look(lines: tuple[str, ...]) -> Seen | None:
        frame: re.Match[str] | None = None
        files: list[str] = []
        for index, line in enumerate(lines):
            if _FRAME.match(line):
                frame = own_frame(line)
                files += [f"/{frame['file']}"] if frame is not None else []
                continue
            match = _NO_PART.match(line)
            if match is None or frame is None or _MADE.search(match["part"]) or libraries.match(match["module"]):
                continue
            inside = f"/{match['parent'].replace('.', '/')}/"
            if everybodys.match(match["module"]) and not any(inside in file for file in files):
                continue
            named = {name: text for name, text in frame.groupdict().items() if text}
            details = {"exception": "ModuleNotFoundError", "module": match["module"], **named}
            return Seen((line, frame.string.strip()), index, details)
        return None

    return look

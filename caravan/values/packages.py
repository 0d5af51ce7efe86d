"""One line of what pip shall install, as plans hold it: a PEP 508 requirement, or a directory of the repository.

pip itself takes options in such a line (`-i URL`), files and bare URLs as well. None of them may stand here: they would
bring packages from anywhere, past whoever checks where packages come from. It knows no plan and no policy.
"""

import re
from typing import Final, NamedTuple

_OWN: Final = re.compile(r"\.(?:/[\w.-]+)*/?(?:\[[\w., -]*\])?", re.ASCII)
_SAY: Final = "name packages like `peft>=0.10` or `name @ URL`; options belong into the repository's requirements file"


class Package(NamedTuple):
    """What a line asks for. `url`: from where alone it comes; `own`: a directory of the repository itself."""

    name: str
    url: str | None = None
    own: bool = False


def read_package(line: str) -> Package:
    """The package that a line means, read as pip reads it. Raises ValueError for anything else."""
    from packaging.requirements import InvalidRequirement, Requirement

    text = line.strip()
    if _OWN.fullmatch(text) and ".." not in text.partition("[")[0].split("/"):
        return Package(text, own=True)
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{line[:80]!r} is no requirement: {_SAY}") from error
    return Package(found.name, found.url)

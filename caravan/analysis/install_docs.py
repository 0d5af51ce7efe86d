"""What a README tells to install: packages, extras, indexes, apt's packages, versions of Python. Pure, over `Sources`.

Sections on other things than training are left out. What is told counts only for what the entry needs.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from posixpath import dirname
from typing import Final, NamedTuple

from caravan.analysis.cuda_signs import index_in
from caravan.analysis.dockerfiles import apt_packages
from caravan.analysis.requirements import requirement
from caravan.analysis.sources import Sources
from caravan.values.distributions import normal, requirement_name
from caravan.values.environment import ImportNeed, PackageIndex, PythonWish, SystemPackage, Wanted
from caravan.values.places import SourceLine

ASIDE: Final = re.compile(
    r"(?i)(?:^|[^a-z])(?:dev\w*|test\w*|docs?|contribut\w*|lint\w*|quality|serv\w*|deploy\w*|demo|gradio|web\w*|inference"
    r"|evaluat\w*|eval|export|mac\w*|windows|amd|rocm|cpu|npu|tpu|docker|optional\w*|\w*worker|api|generat\w*)(?:$|[^a-z])"
)
"""Words of headings and extras that are for something else than training on GPUs."""
MAX_LINES: Final = 20_000
_DOCUMENT: Final = re.compile(r"(?i)^(?:readme|install\w*|setup|getting_?started)[^/]*\.(?:md|rst|txt)$|^readme$")
_PIP: Final = re.compile(
    r"(?:^|[`$!>]|&&|;|\bRUN)\s*(?:sudo\s+)?(?:[A-Z_]+=\S+\s+)*(?:pip3?|uv pip|python3? -m pip)\s+install\s+(.+)"
)
_APT: Final = re.compile(r"\bapt(?:-get)?\s+(?:-\S+\s+)*install\b")
_MAKES: Final = re.compile(
    r"\b(?:conda|mamba|micromamba)\s+create\b.*?\bpython\s*=\s*=?\s*(3\.\d+)|\buv venv\b.*?(3\.\d+)"
)
_WITH_VALUE: Final = frozenset(
    {"-r", "--requirement", "-c", "-e", "--editable", "-i", "--index-url", "--extra-index-url", "-f", "--find-links"}
    | {"-t", "--target", "--python", "--prefix"}
)
_OF_CUDA: Final = frozenset({"torch", "torchvision", "torchaudio", "jax", "jaxlib", "tensorflow", "xformers"})
"""Packages whose index says for which CUDA they are built."""


class Told(NamedTuple):
    """What a document tells to install. `editable`: the repository itself."""

    lines: tuple[Wanted, ...] = ()
    extras: tuple[str, ...] = ()
    editable: bool = False
    indexes: tuple[PackageIndex, ...] = ()
    apt: tuple[SystemPackage, ...] = ()
    pythons: tuple[PythonWish, ...] = ()


def told_near(folder: str, sources: Sources) -> Told:
    """What the README of a directory tells, else that of the nearest directory above that tells anything."""
    while True:
        prefix = f"{folder}/" if folder else ""
        near = (p for p in sources.paths if p.startswith(prefix) and _DOCUMENT.match(p[len(prefix) :]))
        for path in sorted(near, key=lambda p: (not p.lower().startswith(f"{prefix}readme".lower()), len(p), p)):
            found = read_told(path, sources.text(path) or "")
            if any(found):
                return found
        if not folder:
            return Told()
        folder = dirname(folder)


def read_told(path: str, text: str) -> Told:
    """What a document tells to install, but for its sections on other things than training."""
    lines: list[Wanted] = []
    extras: list[str] = []
    indexes: list[PackageIndex] = []
    apt: list[SystemPackage] = []
    pythons: list[PythonWish] = []
    heading, editable = "", False
    for number, raw in enumerate(text.split("\n")[:MAX_LINES], start=1):
        if re.match(r"#{1,6}\s", raw) and not re.match(r"#\s*(?:pip|conda|apt|sudo)", raw):
            heading = raw.strip("# ")
        if ASIDE.search(heading) or not any(w in raw for w in ("install", "create", "venv")):
            continue
        where = SourceLine(file=path, line=number, text=raw.strip()[:300])
        if match := _MAKES.search(raw):
            pythons.append(PythonWish(specifier=f"=={match[1] or match[2]}.*", where=where))
        if _APT.search(raw):
            apt += apt_packages(raw.strip("`$ ").removeprefix("sudo "), path, number)
        if match := _PIP.search(raw):
            words = _words(match[1])
            named = list(_packages(words))
            lines += [Wanted(line=r, where=where) for r in named]
            indexes += index_in(words, where) if {requirement_name(r) for r in named} & _OF_CUDA else ()
            editable = editable or any(re.match(r"\.(?:/|\[|$)", w) for w in words)
            extras += [e.strip() for w in words if (m := re.match(r"\.\S*\[([^\]]+)\]$", w)) for e in m[1].split(",")]
    return Told(tuple(lines), tuple(dict.fromkeys(extras)), editable, tuple(indexes), tuple(apt), tuple(pythons))


def _words(text: str) -> list[str]:
    bare = re.split(r"`|&&|;(?!\s*python_version)|\||\s#", text)[0]
    try:
        return shlex.split(bare)
    except ValueError:
        return bare.split()


def _packages(words: Sequence[str]) -> Iterator[str]:
    held = ""
    for word in words:
        value = held in _WITH_VALUE
        held = word
        if value or word.startswith(("-", ".", "/", "<", "$", "git+", "http")) or word.endswith((".whl", ".txt")):
            continue
        if found := requirement(word):
            yield found


def with_own(told: Told, names: frozenset[str]) -> Told:
    """What is told, where the repository's own package is meant by one of its names: its extras, and no package."""
    own = [w for w in told.lines if requirement_name(w.line) in names]
    extras = [e.strip() for w in own if (m := re.search(r"\[([^\]]+)\]", w.line)) for e in m[1].split(",")]
    return told._replace(
        lines=tuple(w for w in told.lines if w not in own), extras=tuple(dict.fromkeys((*told.extras, *extras)))
    )


def with_told(
    missing: Sequence[ImportNeed], told: Told, imported: frozenset[str], named: frozenset[str]
) -> tuple[tuple[ImportNeed, ...], tuple[Wanted, ...], tuple[str, ...]]:
    """What is missing still, the document's lines for the rest, and what of its lines nothing needs.

    Where torch and its like are `imported` and come with others alone (`named` has them not), its versions count.
    """
    lines: dict[str, Wanted] = {}
    for wanted in told.lines:
        name = requirement_name(wanted.line)
        if name:
            lines.setdefault(name, wanted)
    left: list[ImportNeed] = []
    taken: dict[str, Wanted] = {}
    for need in missing:
        name = requirement_name(need.requirement) if need.requirement else normal(need.module)
        if name in lines:
            taken[name] = lines[name]
        else:
            left.append(need)
    taken |= {n: w for n, w in lines.items() if n in _OF_CUDA and n in imported and n not in named and n not in taken}
    rest = [w for name, w in lines.items() if name not in taken and name not in _TOOLS]
    notes = (
        f"{w.where.text_of()} installs {w.line} too; nothing that the entry needs for certain asks for it" for w in rest
    )
    return tuple(left), tuple(taken.values()), tuple(notes)[:6]


_TOOLS: Final = frozenset({"pip", "setuptools", "wheel", "packaging", "ninja", "uv", "poetry", "pipenv"})

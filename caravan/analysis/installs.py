"""Which dependency files an install for an entry really uses, and the Dockerfile for it. Pure, over `Sources`.

Order of trust: `pip install -r …` and `pip install -e .` in the document that names the entry's command, or in the
README above it; else the nearest directory at or above the entry that declares something. A requirements file pulls in
those that it includes, a setup.py those that it reads.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename, dirname, join, normpath
from typing import Final

from caravan.analysis.dependencies import Dependencies
from caravan.analysis.sources import Sources

_INSTALL: Final = re.compile(
    r"(?im)\b(?:pip3?|uv pip|conda env (?:create|update)|mamba env create)\s+(?:install\s+)?([^\n`|&;#]+)"
)
_README: Final = re.compile(r"(?i)^(?:readme|install\w*|setup|getting_?started)[^/]*\.(?:md|rst|txt)$|^readme$")
_TRAIN: Final = re.compile(r"(?i)train|finetun|sft")
_OTHER: Final = re.compile(
    r"(?i)(?:dev|test\w*|docs?|lint|eval\w*|serv\w*|demo|inference|infer|app|ci|cpu|rocm|amd|npu|mac\w*|tpu|hpu|xpu|min\w*"
    r"|opt|optional|style|quality|build|web\w*|api|gradio|deploy|export|onnx|tests|lock|docker|doc)"
)


def needed(
    dependencies: Sequence[Dependencies],
    folder: str,
    document: str | None,
    sources: Sources,
    words: frozenset[str] = frozenset(),
) -> list[Dependencies]:
    """The dependency files for an entry in `folder`, whose command stands in `document`, the plainest first.

    `words`: those of the entry's path and of the user's sentence, which choose among requirements for several uses.
    """
    by_path = {d.path: d for d in dependencies}
    declared = {p for p, d in by_path.items() if d.declares}
    told = _fitting([p for p in _told(folder, document, sources) if p in by_path], words)
    near = _nearest(declared, folder)
    inside = [p for p in told if folder != "." and p.startswith(f"{folder}/")]
    if inside:
        chosen = [*inside, *(p for p in near if _plain(p) == _plain(inside[0]) is False)]
    elif told and not any(_plain(p) and _holds(dirname(p), folder) for p in near):
        chosen = [*told, *(p for p in near if not _plain(p) and p not in told)]
        if not any(_plain(p) for p in told):  # `pip install -e .`: what setup.py reads, and a lone requirements.txt
            chosen += [p for p in near if p not in chosen and basename(p) == "requirements.txt"]
    else:
        chosen = near
    whole = _with_included(chosen, declared, sources)
    return [by_path[p] for p in whole]


def _holds(outer: str, folder: str) -> bool:
    """Whether a directory below the root is the entry's, or one above it."""
    return bool(outer) and f"{folder}/".startswith(f"{outer}/")


def _fitting(told: Sequence[str], words: frozenset[str]) -> list[str]:
    """Of several requirements files those for everybody, and those for a use that the words speak of."""
    plain = [p for p in told if _plain(p)]
    if len(plain) < 2 and not any(_OTHER.search(u) and u not in words for p in plain for u in _use(p)):
        return list(told)
    kept = [p for p in plain if not (use := _use(p)) or use & words or _TRAIN.search(basename(p))]
    return [p for p in told if p in kept or not _plain(p)]


def _use(path: str) -> set[str]:
    """What a requirements file is for, by its name; nothing for everybody's."""
    name = re.sub(r"\.\w+$", "", basename(path).lower())
    return set(re.findall(r"[a-z]+", name)) - {
        "requirements",
        "requirement",
        "base",
        "common",
        "core",
        "runtime",
        "main",
    }


def _plain(path: str) -> bool:
    """Whether the file lists what to install (requirements, an environment), and does not build a package."""
    return not basename(path).startswith(("pyproject", "setup", "Pipfile"))


def _nearest(declared: set[str], folder: str) -> list[str]:
    while True:
        here = sorted(p for p in declared if (dirname(p) or ".") == folder)
        if here:
            return _best(here)
        if folder == ".":
            return _best(sorted(p for p in declared if re.fullmatch(r"requirements/[^/]+", p)))[:1]
        folder = dirname(folder) or "."


def _best(here: Sequence[str]) -> list[str]:
    """Of one directory: the plain requirements, or those for training, and what builds the package."""
    plain = [p for p in here if _plain(p)]
    training = [p for p in plain if _TRAIN.search(basename(p))]
    usual = [p for p in plain if re.fullmatch(r"requirements\.(?:txt|in)|environment\.ya?ml", basename(p))]
    rest = [p for p in plain if not _OTHER.search(re.sub(r"(?i)requirements?|\.\w+$", "", basename(p)))]
    ordered = [*usual[:1], *training] or sorted(rest, key=lambda p: (len(basename(p)), p))[:1]
    return [*dict.fromkeys(ordered), *(p for p in here if not _plain(p))]


def _told(folder: str, document: str | None, sources: Sources) -> list[str]:
    """Files that documented install commands name: of the entry's own document, its directory's, then the root's."""
    found: dict[str, None] = {}
    documents = [document] if document and document.endswith((".md", ".rst")) else []
    while True:
        prefix = "" if folder == "." else f"{folder}/"
        documents += sorted(p for p in sources.paths if p.startswith(prefix) and _README.match(p[len(prefix) :]))
        if folder == ".":
            break
        folder = dirname(folder) or "."
    for path in dict.fromkeys(documents):
        for file in _installed(sources.text(path) or "", dirname(path), sources):
            found.setdefault(file)
        if found:
            break
    return list(found)


def _installed(text: str, here: str, sources: Sources) -> Iterator[str]:
    for match in _INSTALL.finditer(text):
        words = match[1].split()
        for i, word in enumerate(words):
            if word in ("-r", "--requirement", "-f", "--file") and i + 1 < len(words):
                yield from _existing(words[i + 1], here, sources)
            elif word.startswith(("-r", "--file=", "--requirement=")) and len(word) > 2:
                yield from _existing(re.sub(r"^-+\w*=?", "", word) if "=" in word else word[2:], here, sources)
            elif (i and words[i - 1] in ("-e", "--editable")) or word.startswith((".[", "'.[", '".[')) or word == ".":
                yield from _packages(word, here, sources)


def _packages(word: str, here: str, sources: Sources) -> Iterator[str]:
    place = word.strip("'\"").partition("[")[0] or "."
    for folder in (here, ""):
        base = normpath(join(folder, place))
        hits = [
            p
            for name in ("pyproject.toml", "setup.py")
            if (p := name if base == "." else f"{base}/{name}") in sources.paths
        ]
        if hits:
            yield from hits
            return


def _existing(name: str, here: str, sources: Sources) -> Iterator[str]:
    for folder in (here, ""):
        path = normpath(join(folder, name.strip("'\"")))
        if path in sources.paths:
            yield path
            return


def _with_included(chosen: Sequence[str], declared: set[str], sources: Sources) -> list[str]:
    """The files with those that they include (`-r base.txt`) or read (`open("requirements.txt")` in a setup.py)."""
    found: dict[str, None] = {}
    pending = list(chosen)
    while pending and len(found) < 12:
        path = pending.pop(0)
        if path in found:
            continue
        found[path] = None
        text = sources.text(path) or ""
        if path.endswith((".txt", ".in")):
            names = re.findall(r"^\s*(?:-r|--requirement)[\s=]*(\S+)", text, re.MULTILINE)
        elif basename(path) == "setup.py":
            names = re.findall(r"""["']([\w./-]*requirements?[\w./-]*\.txt)["']""", text)
        elif basename(path) == "pyproject.toml":
            names = [
                n for row in re.findall(r"(?m)^\s*dependencies\s*=\s*\{\s*file\s*=\s*(.+)$", text) for n in _quoted(row)
            ]
        else:
            names = []
        pending += [p for n in names if (p := normpath(join(dirname(path), n))) in sources.paths]
    return [p for p in found if p in declared or p in chosen]


def _quoted(text: str) -> list[str]:
    return re.findall(r"""["']([^"']+)["']""", text)


def dockerfile(folder: str, sources: Sources) -> str | None:
    """The Dockerfile nearest to the entry: its directory's, the root's, a `docker` directory's; training's first."""
    places: Mapping[str, None] = dict.fromkeys((folder, "."))
    for place in places:
        prefix = "" if place == "." else f"{place}/"
        near = [p for p in sources.paths if p.startswith(prefix) and _is_docker(p[len(prefix) :])]
        if near:
            return min(
                near,
                key=lambda p: (not _TRAIN.search(p[len(prefix) :]), p.count("/"), bool(_OTHER.search(p)), len(p), p),
            )
    return None


def _is_docker(path: str) -> bool:
    """`Dockerfile`, `train.Dockerfile`, `docker/Dockerfile.cuda`; none that stands deeper."""
    match = re.fullmatch(
        r"(?i)(?:(?:utils/)?dockers?(?:files?)?/(?:[\w-]+/)?)?(?:[\w.-]*\.)?dockerfile(?:[._-][\w.-]*)?", path
    )
    return match is not None

"""Against packages whose versions don't fit: the pin that the message or the resolver names, else what is known.

A line of the repository's own requirements file is not changed there: where one stands against the pin, the lines are
installed one by one with the pin in its place.
"""

import re
from collections.abc import Iterator
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.ladders.changes_known import ARGUMENTS, CAME, GONE, MODELS, WORDS
from caravan.diagnosis.ladders.packages import requirement_lines
from caravan.values.base import Json
from caravan.values.distributions import BUILT, distribution, normal, requirement_name
from caravan.values.failure import Repair

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}(?:\[[\w,-]{1,60}\])?"
_BOUND: Final = r"(?:===?|[<>!~]=|<|>)\s{0,2}\d[\w.*+!]{0,30}"
_PIN: Final = rf"(?P<line>{_NAME}\s{{0,2}}{_BOUND}(?:\s{{0,2}},\s{{0,2}}{_BOUND}){{0,4}})"
_NAMED: Final = (
    rf"{_PIN} is required",
    rf"requires? {_PIN}",
    rf"(?:depends on|need(?:s|ed)?|please (?:install|use|upgrade to|downgrade to)) ['\"`]?{_PIN}",
    rf"pip3? install (?:(?:-U|--upgrade|--force-reinstall|-q) ){{0,3}}['\"`]?{_PIN}",
)
"""Where a message says the version that it wants."""
_LINES_READ: Final = 60


def version_conflict(case: Case) -> Iterator[Repair]:
    """The pin that the message names, the one that is known for the symbol or the model, the nearest version there is,
    without a pin of ours, another Python."""
    asked = [line for line in _named(case) if not _not_there(case, line)]
    told = dict.fromkeys(_known(case), "which fits what the error names") | dict.fromkeys(
        asked, "which the error asks for"
    )
    for line in dict.fromkeys((*asked, *told)):
        name = requirement_name(line)
        if name is not None:
            yield from case.change(repinned(case, name, line), f"{line}, {told[line]}")
    yield from _nearest(case)
    yield from _unpinned(case)
    yield from _other_python(case)


def repinned(case: Case, name: str, line: str) -> dict[str, Json]:
    """The plan's packages with that line for the distribution, whoever asks for another version of it."""
    wanted, pip = normal(name), list(case.plan.setup.pip)
    if any(requirement_name(x) == wanted for x in pip):
        lines: list[str] = []
        for x in pip:
            lines += [x] if requirement_name(x) != wanted else [line] if line not in lines else []
        return {"setup.pip": lines} if lines != pip else {}
    file = case.plan.setup.requirements
    own = list(requirement_lines(file, case.looks.read(file))) if file else []
    standing = next((x for x in own if requirement_name(x) == wanted), None)
    if standing is None or _allow(standing, line):
        return {"setup.pip": [*pip, line]}
    plain = [x.strip() for x in own if x.strip()]
    if case.plan.setup.further_requirements or len(plain) > _LINES_READ or not all(map(requirement_name, plain)):
        return {}  # it includes other files, or names what is no plain line: that must be changed in the repository
    replaced = [line if requirement_name(x) == wanted else x for x in plain]
    return {"setup.requirements": None, "setup.pip": [*replaced, *pip]}


def _allow(standing: str, line: str) -> bool:
    """Whether both lines may hold at once, as far as exact pins and their bounds say."""
    try:
        a, b = Requirement(standing).specifier, Requirement(line).specifier
    except InvalidRequirement:
        return False
    versions = [s.version for s in (*a, *b) if "*" not in s.version]
    tried = {*versions, *(f"{v}.1" for v in versions), *(f"{v}.post1" for v in versions if v[-1:].isdigit())}
    return not a or not b or any(_holds(v, a) and _holds(v, b) for v in tried)


def _holds(version: str, specifier: object) -> bool:
    try:
        return bool(specifier.contains(Version(version), prereleases=True))  # type: ignore[attr-defined]
    except InvalidVersion:
        return False


def _named(case: Case) -> Iterator[str]:
    """Requirements that the message itself names."""
    package, wanted = case.detail("package"), case.detail("want")
    if wanted and requirement_name(wanted) and re.search(r"[<>=~!]", wanted):
        yield _tidy(wanted)
    elif package and re.match(r"[<>=~!]", wanted) and requirement_name(f"{package}{wanted}"):
        yield _tidy(f"{package}{wanted}")
    for pattern in _NAMED:
        for match in re.finditer(pattern, case.text, re.IGNORECASE):
            line = _tidy(match["line"])
            name = requirement_name(line)
            if name and name not in ("python", "cuda") and name not in _BUILT_NAMES:
                yield line


def _not_there(case: Case, line: str) -> bool:
    """Whether the log says that no version of that requirement is to be had."""
    missing = case.says(rf"No matching distribution found for {re.escape(line)}(?![\w.])")
    have = [v for text in re.split(r"[\s,]+", case.detail("versions")) if (v := _version(text))]
    same = requirement_name(line) == requirement_name(case.detail("package") or case.detail("want"))
    return bool(missing) or bool(have and same and not any(_holds(str(v), Requirement(line).specifier) for v in have))


_BUILT_NAMES: Final = frozenset(normal(name) for name in BUILT.values() if name)


def _tidy(line: str) -> str:
    return re.sub(r"\s+", "", line).rstrip(".,;:")


def _known(case: Case) -> Iterator[str]:
    """Requirements that are known for what is missing, by the libraries' release notes."""
    symbol, module = case.detail("symbol"), case.detail("module")
    for table in (GONE, CAME):
        for (home, name), line in table.items():
            near = module == home or module.startswith(f"{home}.") or home.startswith(f"{module}.")
            exact = module == home or not name
            if module and ((name and name == symbol and near) or (not name and exact and near)):
                yield line
    if case.detail("kind") == "argument" or case.says("unexpected keyword argument"):
        for (callee, argument), line in ARGUMENTS.items():
            if case.says(rf"\b{callee}\b[\w.]*\(\).{{0,40}}unexpected keyword argument '{argument}'"):
                yield line
    for pattern, line in WORDS:
        if case.says(pattern):
            yield line
    said = case.says(r"model type [`'\"]?(?P<type>[\w-]+)|KeyError: '(?P<key>[\w-]+)'")
    kind = (said["type"] or said["key"]) if said else ""
    if kind in MODELS:
        yield f"transformers>={MODELS[kind]}"


def _nearest(case: Case) -> Iterator[Repair]:
    """The nearest version that the index has to one that it has not."""
    package = requirement_name(case.detail("package") or case.detail("want"))
    have = [v for text in re.split(r"[\s,]+", case.detail("versions")) if (v := _version(text))]
    asked = re.search(r"==\s*([\w.]+)", case.detail("want") or case.text)
    near = _version(asked[1]) if asked else None
    if package is None or not have or near is None:
        return
    final = [v for v in have if not v.is_prerelease] or have
    best = min(final, key=lambda v: (v.release[:2] != near.release[:2], v.major != near.major, v < near, _far(v, near)))
    line = f"{package}=={best}"
    yield from case.change(repinned(case, package, line), f"{line}, the nearest to {near} that there is")


def _far(a: Version, b: Version) -> tuple[int, ...]:
    return abs(a.major - b.major), abs(a.minor - b.minor), abs(a.micro - b.micro)


def _version(text: str) -> Version | None:
    try:
        return Version(text.strip())
    except InvalidVersion:
        return None


def _unpinned(case: Case) -> Iterator[Repair]:
    """Without the versions that we or the image's lines pin, where those are among the requirements in conflict."""
    said = {requirement_name(x) for x in re.split(r"[;,\s]+", f"{case.detail('conflicts')} {case.detail('package')}")}
    said |= {normal(d) for d in [distribution(case.detail("module").partition(".")[0]) or ""] if requirement_name(d)}
    pinned = [x for x in case.plan.setup.pip if re.search(r"[<>=~!]", x) and requirement_name(x) in said]
    if pinned:
        lines = [re.split(r"[<>=~!]", x)[0].strip() if x in pinned else x for x in case.plan.setup.pip]
        yield from case.change({"setup.pip": lines}, f"{', '.join(pinned)} in whatever version fits")


def _other_python(case: Case) -> Iterator[Repair]:
    """An image with another Python, where the error is about that."""
    if case.detail("kind") not in ("python", "platform") and not case.says(r"Requires-Python|different Python"):
        return
    for image in case.outlook.images(case.plan):
        if image.python and image.image != case.plan.image:
            yield from case.change({"image": image.image}, f"{image.image} with Python {image.python}")

"""Requirements that can't hold together, found by rules alone: pins against each other, against Python, against torch.

Pure, without an index: what only its metadata would tell is the resolver's to find.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from caravan.planning.cuda import TENSORFLOW, TORCH, minor_of, on_linux, pinned
from caravan.values.distributions import normal
from caravan.values.environment import Wanted

# The domain libraries' own compatibility tables (READMEs of torchvision and torchaudio): each minor version of torch
# has its own one of theirs. torchvision 0.N belongs to torch 2.(N-15), torchaudio has torch's number.
_VISION_SHIFT: Final = 15
_MAX: Final = 12


class Conflict(NamedTuple):
    """What can't hold together, in a sentence, and the requirement that would mend it (None: a person's choice)."""

    text: str
    repair: str | None = None


def conflicts(lines: Sequence[Wanted], python: str | None) -> tuple[Conflict, ...]:
    """What the rules find among the lines. `python`: the minor version of the job's interpreter, where it is known."""
    found = [*_contradictions(lines), *_torch_family(lines), *_numpy(lines)]
    if python:
        found += _python(lines, python)
    return tuple(found[:_MAX])


def _contradictions(lines: Iterable[Wanted]) -> Iterable[Conflict]:
    by_name: dict[str, list[tuple[Requirement, Wanted]]] = {}
    for wanted in lines:
        required = Requirement(wanted.line)
        if required.marker is None and required.url is None:
            by_name.setdefault(normal(required.name), []).append((required, wanted))
    for name, rows in by_name.items():
        together = SpecifierSet(",".join(str(r.specifier) for r, _ in rows if str(r.specifier)))
        if not satisfiable(together):
            said = "; ".join(dict.fromkeys(f"{w.line} ({w.where.text_of()})" for _, w in rows if w.line != name))
            yield Conflict(f"no version of {name} is all of: {said}")


def satisfiable(specifiers: SpecifierSet) -> bool:
    """Whether some version may be in all of the specifiers: tried at their own bounds and right beside them."""
    bounds = [b for s in specifiers if (b := _bound(s)) is not None]
    if not bounds:
        return True
    tried: list[Version] = []
    for bound in bounds:
        parts = [*bound.release, 0, 0][: max(3, len(bound.release))]
        above = [*parts[:-1], parts[-1] + 1]
        epoch = f"{bound.epoch}!" if bound.epoch else ""
        tried += [bound, Version(epoch + ".".join(map(str, above))), Version(f"{epoch}{bound.base_version}.0.1")]
        below = next((i for i in range(len(parts) - 1, -1, -1) if parts[i]), None)
        if below is not None:
            tried.append(Version(epoch + ".".join(map(str, [*parts[:below], parts[below] - 1, 999999]))))
    top = max(bounds).release
    tried += [Version("0"), Version(f"{top[0] + 1}")]
    return any(specifiers.contains(v, prereleases=True) for v in tried)


def _bound(specifier: Specifier) -> Version | None:
    try:
        return Version(specifier.version.removesuffix(".*"))
    except InvalidVersion:
        return None


def _torch_family(lines: Sequence[Wanted]) -> Iterable[Conflict]:
    torch = pinned(lines, "torch")
    minor = minor_of(torch[0], TORCH)[0] if torch else None
    if torch is None or minor is None or not minor_of(torch[0], TORCH)[1] or not minor.startswith("2."):
        return
    number = int(minor.split(".")[1])
    fitting = {"torchvision": f"0.{number + _VISION_SHIFT}", "torchaudio": minor}
    for name, wanted in fitting.items():
        found = pinned(lines, name)
        if found and not any(found[0].contains(f"{wanted}.{patch}") for patch in range(6)):
            said = f"{found[1].line} ({found[1].where.text_of()})"
            yield Conflict(f"{said} does not fit torch {minor} ({torch[1].where.text_of()}): {name} {wanted} does")


def _numpy(lines: Sequence[Wanted]) -> Iterable[Conflict]:
    """Wheels before torch 2.3 and TensorFlow 2.18 are built against NumPy 1 and fail beside NumPy 2 (NumPy's notes)."""
    numpy = pinned(lines, "numpy")
    if numpy is not None and not numpy[0].contains("99.0") and not numpy[0].contains("2.0.0"):
        return
    for name, table, first in (("torch", TORCH, "2.3"), ("tensorflow", TENSORFLOW, "2.18")):
        found = pinned(lines, name)
        minor = minor_of(found[0], table)[0] if found else None
        if found is None or minor is None or Version(minor) >= Version(first):
            continue
        said = f"{found[1].line} ({found[1].where.text_of()}) was built against NumPy 1"
        if numpy is None or numpy[0].contains("1.26.4"):
            yield Conflict(f"{said}, and NumPy 2 would be installed", "numpy<2")
        else:
            yield Conflict(f"{said}, but {numpy[1].line} ({numpy[1].where.text_of()}) asks for NumPy 2")
        return


def _python(lines: Sequence[Wanted], python: str) -> Iterable[Conflict]:
    for name, table in (("torch", TORCH), ("tensorflow", TENSORFLOW)):
        found = pinned(lines, name)
        if found is None:
            continue
        left = [m for m in table if any(found[0].contains(f"{m}.{patch}") for patch in range(6))]
        if found[0].contains("99.0") or not left:
            continue
        ranges = [table[m][1:] for m in left]
        if not any(Version(low) <= Version(python) <= Version(high) for low, high in ranges):
            low, high = ranges[0][0], ranges[-1][1]
            yield Conflict(
                f"{found[1].line} ({found[1].where.text_of()}) has no wheel for Python {python}: for {low} to {high}"
            )


def python_range(lines: Sequence[Wanted]) -> tuple[str, str] | None:
    """The oldest and newest Python for which torch or TensorFlow as it is asked for has wheels; None: not known."""
    for name, table in (("torch", TORCH), ("tensorflow", TENSORFLOW)):
        found = pinned(lines, name)
        if found is None or found[0].contains("99.0"):
            continue
        left = [table[m][1:] for m in table if any(found[0].contains(f"{m}.{patch}") for patch in range(6))]
        if left:
            return left[0][0], left[-1][1]
    return None


def held_lines(lines: Iterable[Wanted]) -> tuple[str, ...]:
    """The lines as an installer on Linux would be given them, each once."""
    return tuple(dict.fromkeys(w.line for w in lines if on_linux(Requirement(w.line))))

"""The profile, corrected by a model: only fields that may be, only by a line of the repository that says so.

The line is looked up, must hold the words that are quoted, and the quote must hold the value. What the user's words
name, and what the rules have read off surely, stays.
"""

import posixpath
import re
from collections.abc import Callable
from typing import Final

from caravan.agent.qwen.guard import Refused
from caravan.agent.qwen.replies import FieldChange, ProfileReply
from caravan.agent.qwen.words import misleads
from caravan.ports import Toolbox
from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.masking import MASK
from caravan.values.places import SourceLine
from caravan.values.repo import Launcher, RepoProfile

CHANGEABLE: Final = (
    *("entry_point", "launcher", "launch_cwd", "framework", "method", "base_model", "dataset", "python_requires"),
    *("num_gpus", "distributed", "metrics_logged"),
)
"""Fields that a model may correct. Commands, secrets, requirements and images are read by rules alone."""
SURE: Final = 0.9
"""From here on a finding of the rules stands."""
_CONFIDENCE: Final = 0.6  # of what a model says
_LAUNCHERS: Final = (Launcher.PYTHON, Launcher.TORCHRUN, Launcher.ACCELERATE, Launcher.DEEPSPEED)
_SHAPES: Final = {
    **dict.fromkeys(("base_model", "dataset"), re.compile(r"\w[\w.-]*(?:/\w[\w.-]*){0,7}", re.ASCII)),
    **dict.fromkeys(("framework", "method", "distributed"), re.compile(r"[\w+ -]{1,60}", re.ASCII)),
    "python_requires": re.compile(r"[\w.,<>=!~* ]{1,60}", re.ASCII),
    "metrics_logged": re.compile(r"[\w./@%-]{1,60}", re.ASCII),
}
"""How values may look: names of the hub or paths inside the repository, no addresses, nothing a shell reads."""
_EXACT: Final = ("base_model", "dataset")
_ROW: Final = re.compile(r"^(\d+): ?(.*)$")


def refined(
    profile: RepoProfile, prompt: str, toolbox: Toolbox, reply: ProfileReply, model: str
) -> tuple[RepoProfile, tuple[str, ...], tuple[Refused, ...]]:
    """The profile with the changes that stand, a line for each of them, and those that do not."""
    taken, refused = list[str](), list[Refused]()
    for change in reply.changes:
        if change.field in RepoProfile.model_fields and getattr(profile, change.field) == _typed(change):
            continue
        why = _refusal(change, profile, prompt, toolbox)
        after = None if why else _changed(profile, change, model)
        if after is None:
            refused.append(Refused(change.field[:60], why or "the field does not take that value"))
        else:
            taken.append(f"{change.field} = {change.value} ({change.file}:{change.line}: {_why(change.why)[:120]})")
            profile = after
    return profile, tuple(taken), tuple(refused)


def _refusal(change: FieldChange, profile: RepoProfile, prompt: str, toolbox: Toolbox) -> str:
    name, value = change.field, change.value
    if name not in RepoProfile.model_fields:
        return "the profile has no such field"
    if name not in CHANGEABLE:
        return "that field is read by rules alone"
    if value in (None, "", []) or MASK in str(value):
        return "it says nothing"
    now = getattr(profile, name)
    if now and isinstance(now, str) and _named(now, prompt):
        return f"the user's words name {now}"
    if now not in (None, (), Launcher.NONE) and profile.confidence.get(name, 0.0) >= SURE:
        return f"the rules have read {_plain(now)} off the repository"
    return _no_line(change, toolbox) or _of_field(change, profile, toolbox)


def _no_line(change: FieldChange, toolbox: Toolbox) -> str:
    """Why the place that is named does not say it; empty: it does."""
    try:
        rows = toolbox.read_file(change.file, start=change.line, lines=1).splitlines() if change.line > 0 else []
    except UsageError:
        return f"there is no {change.file[:80]!r} to read"
    match = _ROW.match(rows[0]) if rows else None
    if match is None or int(match[1]) != change.line:
        return f"{change.file[:80]} has no line {change.line}"
    text = match[2]
    if change.quote and _squeezed(change.quote) not in _squeezed(text):
        return f"{change.file[:80]}:{change.line} does not say {change.quote[:60]!r}"
    if change.field == "entry_point" and change.file == change.value:
        return ""  # the file itself is the evidence
    wanted = posixpath.basename(str(change.value)) if change.field == "entry_point" else change.value
    values = wanted if isinstance(wanted, list | tuple) else [wanted]
    if change.field in _EXACT:
        return "" if str(wanted) in text else f"{change.file[:80]}:{change.line} does not say {str(wanted)[:60]!r}"
    missing = next((str(v) for v in values if _bare(str(v)) not in _bare(text)), None)
    return "" if missing is None else f"{change.file[:80]}:{change.line} does not say {missing[:60]!r}"


def _of_field(change: FieldChange, profile: RepoProfile, toolbox: Toolbox) -> str:
    shape = _SHAPES.get(change.field)
    values = change.value if isinstance(change.value, list | tuple) else [change.value]
    if shape is not None and not all(shape.fullmatch(str(value)) for value in values):
        return "it is no plain name"
    check = _CHECKS.get(change.field)
    return check(change.value, profile, toolbox) if check else ""


def _entry(value: Json, profile: RepoProfile, toolbox: Toolbox) -> str:  # noqa: ARG001
    known = isinstance(value, str) and value.endswith((".py", ".sh", ".ipynb")) and is_file(toolbox, value)
    return "" if known else "the repository has no such file"


def _launcher(value: Json, profile: RepoProfile, toolbox: Toolbox) -> str:  # noqa: ARG001
    return "" if value in _LAUNCHERS else f"it is one of {', '.join(_LAUNCHERS)}"


def _cwd(value: Json, profile: RepoProfile, toolbox: Toolbox) -> str:  # noqa: ARG001
    try:
        return "" if isinstance(value, str) and toolbox.list_directory(value) else "there is no such directory"
    except UsageError:
        return "there is no such directory"


def _gpus(value: Json, profile: RepoProfile, toolbox: Toolbox) -> str:  # noqa: ARG001
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return "it is a number"
    return "" if value <= max(profile.num_gpus or 1, 1) else "more GPUs cost more: that is the user's to say"


_CHECKS: Final[dict[str, Callable[[Json, RepoProfile, Toolbox], str]]] = {
    "entry_point": _entry,
    "launcher": _launcher,
    "launch_cwd": _cwd,
    "num_gpus": _gpus,
}


def is_file(toolbox: Toolbox, path: str) -> bool:
    """Whether the path is a file of the repository that may be looked at."""
    try:
        return path in toolbox.find(path, limit=50) and bool(toolbox.read_file(path, lines=1))
    except UsageError:
        return False


def _changed(profile: RepoProfile, change: FieldChange, model: str) -> RepoProfile | None:
    place = SourceLine(file=change.file, line=change.line, text=change.quote[:300])
    known = {
        change.field: _typed(change),
        "evidence": {**profile.evidence, change.field: (place,)},
        "confidence": {**profile.confidence, change.field: _CONFIDENCE},
        "refined": {**profile.refined, change.field: f"{model}: {_why(change.why) or place.text_of()}"},
    }
    try:
        return RepoProfile.model_validate({**profile.model_dump(), **known})
    except ValueError:  # pydantic's ValidationError is one
        return None


def _typed(change: FieldChange) -> Json:
    return tuple(change.value) if isinstance(change.value, list) else change.value


def _named(value: str, prompt: str) -> bool:
    """Whether the user's sentence names what the profile says: the file, or its last part."""
    last = posixpath.basename(value.rstrip("/")) or value
    return any(re.search(rf"(?<![\w-]){re.escape(w)}(?![\w-])", prompt, re.IGNORECASE) for w in {value, last})


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _bare(text: str) -> str:
    """Letters and figures alone: `LoraConfig` says `lora`, `>= 3.10` says `>=3.10`."""
    return re.sub(r"[^0-9a-z]+", "", text.lower())


def _why(text: str) -> str:
    plain = _plain(text)
    return "" if misleads(plain) else plain


def _plain(value: Json) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))[:200]

"""Dockerfiles: from which image the last stage comes, what it installs, and whether it is for training. Pure."""

import re
from posixpath import basename, dirname
from typing import Final, NamedTuple

from caravan.values.environment import Dockerfile, SystemPackage
from caravan.values.places import SourceLine

MAX_LINES: Final = 1000
_NAME_OTHER: Final = re.compile(
    r"(?i)(?:^|[-_./])(?:serv\w*|docs?|ci|test\w*|lint|web\w*|api|ui|demo|gradio|deploy|inference|infer|eval\w*|app|"
    r"frontend|backend|nginx|rocm|amd|cpu|npu|hpu|tpu|xpu|arm\w*|jetson|devcontainer)(?:$|[-_./])"
)
_SERVES: Final = re.compile(
    r"(?i)\b(?:uvicorn|gunicorn|flask run|streamlit run|gradio|tritonserver|torchserve|nginx|vllm serve|"
    r"api_server|text-generation-launcher|jupyter(?:-?lab| notebook)?|sphinx|mkdocs|sshd)\b"
)
_TRAINS: Final = re.compile(r"(?i)\b(?:train\w*|finetune\w*|fine[-_]tune\w*|accelerate|deepspeed|torchrun)\b")
_LEARNS: Final = re.compile(r"(?i)\b(?:torch|pytorch|cuda|tensorflow|jax|flax|transformers|requirements[\w.-]*\.txt)\b")
_APT: Final = re.compile(r"(?:apt-get|apt)\s+(?:-\S+\s+)*install\s+(.*)")
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+")


class Instruction(NamedTuple):
    """One instruction with its continued lines joined, and the number of its first line."""

    name: str
    text: str
    line: int


def read_dockerfile(path: str, text: str) -> Dockerfile:
    """What the Dockerfile makes. `trains` is a judgement by its name, its end and what it installs."""
    steps = instructions(text)
    defaults = {k: v.strip("\"'") for s in steps if s.name == "ARG" for k, e, v in [s.text.partition("=")] if e}
    base, at, last = _last_stage(steps, defaults)
    trains, why = _judged(path, last, base, len(steps))
    return Dockerfile(
        path=path,
        base=base,
        trains=trains,
        why=why,
        apt=tuple(p for s in last for p in apt_packages(s.text, path, s.line)) if trains else (),
        where=SourceLine(file=path, line=at, text=f"FROM {base}"[:300] if base else ""),
    )


def instructions(text: str) -> list[Instruction]:
    """The instructions in order; comments are left out."""
    found: list[Instruction] = []
    held, start = "", 0
    for number, raw in enumerate(text.split("\n")[:MAX_LINES], start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        start = start if held else number
        held += line[:-1] + " " if line.endswith("\\") else line
        if line.endswith("\\"):
            continue
        name, _, rest = held.partition(" ")
        found.append(Instruction(name.upper(), rest.strip(), start))
        held = ""
    return found


def _last_stage(steps: list[Instruction], defaults: dict[str, str]) -> tuple[str | None, int, list[Instruction]]:
    """The image under the last stage, through stages that come from one another, and what is done on the way."""
    stages: dict[str, tuple[str, int, list[Instruction]]] = {}
    image, line, done = "", 0, list[Instruction]()
    for step in steps:
        words = [w for w in step.text.split() if not w.startswith("--")] if step.name == "FROM" else []
        if not words:
            done.append(step)
            continue
        named = re.sub(r"\$\{?(\w+)(?::-([^}]*))?\}?", lambda m: defaults.get(m[1], m[2] or m[0]), words[0])
        image, line, before = stages.get(named.lower(), (named, step.line, []))
        done = list(before)
        if len(words) > 2 and words[1].lower() == "as":
            stages[words[2].lower()] = (image, line, done)
    return (image or None), line, done


_PLAIN: Final = re.compile(r"(?i)(?:^|[/-])(?:python|(?:mini|ana)?conda3?|mambaforge|ubuntu|debian|uv)(?:[:@-]|$)")
"""Images that say nothing of what runs in them but that it may be Python."""


def _judged(path: str, last: list[Instruction], base: str | None, length: int) -> tuple[bool, str]:
    if base is None or not length:
        return False, "it names no image to come from"
    name = re.sub(r"(?i)dockerfile", "", basename(path)).strip("._-")
    place = dirname(path).rpartition("/")[2]
    other = _NAME_OTHER.search(name) or _NAME_OTHER.search(place)
    if other and not _TRAINS.search(name):
        return False, f"by its name it is for something else ({other[0].strip('-_./')})"
    end = next((s for s in reversed(last) if s.name in ("CMD", "ENTRYPOINT")), None)
    serves = _SERVES.search(end.text) if end else None
    if serves and not _TRAINS.search(end.text if end else ""):
        return False, f"it ends in {serves[0]}, which serves instead of training"
    body = f"{base} " + " ".join(s.text for s in last if s.name in ("RUN", "COPY", "ADD", "ENV"))
    sign = _TRAINS.search(name) or _TRAINS.search(end.text if end else "") or _LEARNS.search(body)
    if not sign:
        # One at the root that takes the whole repository in and serves nothing is for the repository's program.
        if (
            not dirname(path)
            and _PLAIN.search(base)
            and any(s.name in ("COPY", "ADD") and s.text.split()[0:1] == ["."] for s in last)
        ):
            return True, "it holds the repository's code"
        return False, "nothing in it is needed to train"
    return True, f"it sets up what training needs ({sign[0]})"


def apt_packages(text: str, file: str, line: int) -> list[SystemPackage]:
    """The packages that `apt-get install` in a shell line names."""
    found = []
    for part in re.split(r"&&|\|\||;|\n", text):
        match = _APT.search(part)
        words = match[1].split() if match else []
        where = SourceLine(file=file, line=line, text=" ".join(part.split())[:300])
        found += [
            SystemPackage(name=w.partition("=")[0], why="installed there", where=where)
            for w in words
            if _PACKAGE.fullmatch(w.partition("=")[0])
        ]
    return found

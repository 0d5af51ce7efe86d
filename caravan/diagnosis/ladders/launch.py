"""Against a program, script, module, directory or image that is not where the job looks for it."""

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case, from_workdir, moved, with_item
from caravan.diagnosis.ladders.packages import import_path
from caravan.values.base import Json
from caravan.values.distributions import COMMANDS, requirement_name
from caravan.values.failure import Repair
from caravan.values.repo import Launcher

_PYTHON: Final = re.compile(r"python(?:\d+(?:\.\d+)?)?")
_SCRIPTS: Final = (".py", ".sh", ".ipynb")


def entry_point(case: Case) -> Iterator[Repair]:
    """By what is missing: the program, the script, the module, the directory, or the right to execute."""
    kind = case.detail("kind")
    if kind == "program":
        yield from _program(case)
    elif kind == "script":
        yield from _script(case)
    elif kind == "module":
        yield from _module(case)
    elif kind == "workdir":
        yield from _directory(case)
    elif kind == "permission":
        yield from _by_interpreter(case)


def _program(case: Case) -> Iterator[Repair]:
    plan, program = case.plan, case.detail("program")
    name = posixpath.basename(program)
    if _PYTHON.fullmatch(name):
        yield from _interpreter(case, name)
        return
    first = plan.command[0] if plan.command else ""
    if not first or posixpath.basename(first) not in (name, posixpath.basename(program.split(" ")[0])):
        return
    words = _split(first)
    if len(words) > 1:  # program and arguments in one word
        yield from case.change({"command": [*words, *plan.command[1:]]}, "the program and its arguments are words each")
        return
    if first.endswith(_SCRIPTS):
        yield from _by_interpreter(case)
        yield from _script(case, first)
    if case.profile.cli_name == name and "." not in plan.setup.pip:
        yield from case.change({"setup.pip": with_item(plan.setup.pip, ".")}, f"{name} is the repository's own command")
    if name in COMMANDS and plan.launch.launcher is Launcher.CLI:
        distribution, module = COMMANDS[name]
        as_module: dict[str, Json] = {
            "launch.launcher": Launcher.PYTHON.value,
            "command": ["-m", module, *plan.command[1:]],
        }
        yield from case.change(as_module, f"{name} as the module {module}, which needs no PATH")
        if requirement_name(distribution) not in {requirement_name(line) for line in plan.setup.pip}:
            added = {"setup.pip": with_item(plan.setup.pip, distribution)}
            yield from case.change(added, f"{distribution} brings the command {name}")


def _interpreter(case: Case, name: str) -> Iterable[Repair]:
    """The interpreter that the nodes name, else the other usual name. Ours, so it is tried once."""
    if case.mended("setup.python"):
        return ()
    offered = [node.meta.get("caravan_python", "") for node in case.outlook.takers(case.plan)]
    usual = "python" if name == "python3" or case.plan.setup.python == "python3" else "python3"
    other = next((p for p in (*offered, usual) if p and p != case.plan.setup.python), None)
    return case.change({"setup.python": other}, f"{other} instead of {case.plan.setup.python}") if other else ()


def _split(word: str) -> list[str]:
    try:
        return shlex.split(word)
    except ValueError:
        return [word]


def _script(case: Case, path: str = "") -> Iterator[Repair]:
    """The one file of that name, by its own path; or the directory from which the path is right."""
    plan, wanted = case.plan, path or case.detail("path")
    base = posixpath.basename(wanted)
    index = next((i for i, word in enumerate(plan.command) if base and posixpath.basename(word) == base), None)
    if index is None:
        return
    word = plan.command[index].removeprefix("./")
    hits = case.looks.files(word.lstrip("/")) or case.looks.files(base)
    if len(hits) != 1:
        return
    (hit,) = hits
    home = hit.removesuffix(word).rstrip("/") if hit == word or hit.endswith(f"/{word}") else None
    at_home = moved(case, home or ".")
    seen = from_workdir(plan, hit)
    if home == "":  # the path is right from the root
        yield from case.change(at_home, f"{word} is in the repository's root")
    if seen != word:
        words = [*plan.command[:index], seen, *plan.command[index + 1 :]]
        yield from case.change({"command": words}, f"{base} is at {hit}")
    if home:
        yield from case.change(at_home, f"{word} is in {home}")


def _module(case: Case) -> Iterator[Repair]:
    module = case.detail("module")
    if not re.fullmatch(r"\w+(?:\.\w+)*", module):
        return
    yield from import_path(case, module)
    if "." in module:
        yield from import_path(case, module.partition(".")[0])


def _directory(case: Case) -> Iterator[Repair]:
    """The one directory of that name; else the root, where the script is there."""
    plan, name = case.plan, posixpath.basename(case.plan.workdir.rstrip("/"))
    if case.mended("workdir"):
        return
    hits = case.looks.directories(name) if name not in ("", ".", "..") else ()
    if len(hits) == 1:
        yield from case.change(moved(case, hits[0]), f"{name} is at {hits[0]}")
    script = next((word.removeprefix("./") for word in plan.command if word.endswith(_SCRIPTS)), None)
    found = case.looks.files(script) if script else ()
    if script in found:
        yield from case.change(moved(case, "."), f"{script} is in the repository's root")
    elif len(found) == 1:
        yield from case.change(
            moved(case, found[0].removesuffix(script or "").rstrip("/")), f"{script} is at {found[0]}"
        )


def _by_interpreter(case: Case) -> Iterable[Repair]:
    """A script that may not be executed is read by its interpreter."""
    plan = case.plan
    first = plan.command[0] if plan.command else ""
    kinds = {".sh": Launcher.BASH, ".py": Launcher.PYTHON}
    launcher = next((kind for ending, kind in kinds.items() if first.endswith(ending)), None)
    if launcher is None or plan.launch.launcher is not Launcher.CLI:
        return ()
    values: dict[str, Json] = {"launch.launcher": launcher.value, "command": [first, *plan.command[1:]]}
    return case.change(values, f"{first} is read by {launcher.value}: it may not be executed itself")


def image_not_found(case: Case) -> Iterator[Repair]:
    """The same image under a tag that nodes have, the settings' image, any that nodes have of the repository's."""
    plan = case.plan
    missing = case.detail("image") or plan.image or ""
    if plan.image is None or case.mended("image"):
        return
    on_nodes = [
        i for n in case.outlook.takers(plan) if plan.driver in n.drivers for i in n.drivers[plan.driver].images or ()
    ]
    same = [image for image in dict.fromkeys(on_nodes) if repository_of(image) == repository_of(plan.image)]
    same.sort(key=lambda image: (-_common(_tag(image), _tag(plan.image or "")), image))
    candidates = [*same, case.outlook.image or "", _named(case.profile.docker or "")]
    for image in dict.fromkeys(candidates):
        if image and image not in (plan.image, missing) and _IMAGE.fullmatch(image):
            why = f"{plan.image} is not there; {'nodes have' if image in same else 'there is'} {image}"
            yield from case.change({"image": image}, why)


def _named(docker: str) -> str:
    """The repository's image where it names one; a file to build one from (`docker/Dockerfile`) is none."""
    return docker if ":" in docker.rsplit("/", 1)[-1] else ""


_IMAGE: Final = re.compile(r"[a-z0-9][\w.:-]*(?:/[\w.-]+)*(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?")


def repository_of(image: str) -> str:
    """An image's name without its tag and digest; a port in a registry's address is no tag."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def _tag(image: str) -> str:
    return image.removeprefix(repository_of(image)).lstrip(":")


def _common(a: str, b: str) -> int:
    return len(posixpath.commonprefix([a, b]))

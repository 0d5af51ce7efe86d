"""The directories of an allocation, and the templates that are written into them. Opens files; knows no processes."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caravan.cluster.local.envfiles import BadEnv, parse_env
from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.templates import (
    ItemsOf,
    Services,
    TemplateRefused,
    TemplateWaits,
    no_services,
    no_variables,
    render,
)
from caravan.cluster.local.words import JsonDict, go_quote


class EscapesDirectory(Exception):
    """A path that leads out of the directory it must stay in."""


def place_of(allocs: Path, alloc_id: str, task: str) -> TaskPlace:
    """Where a task's files are, under the directory of all allocations."""
    return TaskPlace(allocs / alloc_id / "alloc", allocs / alloc_id / task)


def build(place: TaskPlace) -> None:
    """Make the directories that Nomad makes; those that are there stay. Raises OSError."""
    place.alloc_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("data", "logs", "tmp"):
        (place.alloc_dir / name).mkdir(parents=True, exist_ok=True)
    place.local.mkdir(parents=True, exist_ok=True)
    place.secrets.mkdir(mode=0o700, exist_ok=True)
    (place.task_dir / "tmp").mkdir(exist_ok=True)


def remove(allocs: Path, alloc_id: str) -> None:
    """Remove an allocation's directory with all that is in it."""
    shutil.rmtree(allocs / alloc_id, ignore_errors=True)


def inside(root: Path, path: str) -> Path:
    """`path` below `root`, links followed. Raises EscapesDirectory when it leads out."""
    base = Path(os.path.realpath(root))
    found = Path(os.path.realpath(base / path.lstrip("/")))
    if found != base and base not in found.parents:
        raise EscapesDirectory("Path escapes the alloc directory")
    return found


def _own_path(path: str, place: TaskPlace) -> str:
    """A path of a template below the task's directory, also when it is given through NOMAD_TASK_DIR and the like."""
    for name, folder in (("NOMAD_TASK_DIR", "/local"), ("NOMAD_SECRETS_DIR", "/secrets")):
        path = path.replace(f"${{{name}}}", folder).replace(f'${{env["{name}"]}}', folder)
    root = str(place.task_dir)
    return path[len(root) :] if path.startswith(root + "/") else path


def _source(template: JsonDict, place: TaskPlace) -> str:
    """A template's text: its own, or that of a file in the task's directory. Raises TemplateRefused."""
    path = template["SourcePath"]
    if not path:
        return str(template["EmbeddedTmpl"])
    try:
        return inside(place.task_dir, _own_path(path, place)).read_text(encoding="utf-8")
    except EscapesDirectory as error:
        raise TemplateRefused("template: template source path escapes alloc directory") from error
    except OSError as error:
        why = "no such file or directory" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise TemplateRefused(f"Template failed: failed to read template: open {path}: {why}", ends=True) from error


@dataclass
class Rendered:
    """What came of rendering: `told` by those with `env`, which have `changed` on disk, and the variables that others
    wait for."""

    told: dict[str, str] = field(default_factory=dict)
    changed: list[JsonDict] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)


def render_templates(
    templates: Iterable[JsonDict],
    place: TaskPlace,
    environment: Mapping[str, str],
    items_of: ItemsOf = no_variables,
    services: Services = no_services,
) -> Rendered:
    """Write a task's templates as far as that can be done now. `items_of` gives the items of a variable.

    Raises TemplateRefused or OSError.
    """
    made = Rendered()
    for template in templates:
        source = template["SourcePath"]
        try:
            text = render(
                _source(template, place),
                environment,
                template["LeftDelim"],
                template["RightDelim"],
                items_of=items_of,
                services=services,
                strict=bool(template["ErrMissingKey"]),
                source=str(place.task_dir) + _own_path(source, place) if source else "dynamic",
            )
        except TemplateWaits as waits:
            made.missing |= waits.paths
            continue
        if _written(template, place, text):
            made.changed.append(template)
        if template["Envvars"]:
            made.told |= _env_of(template, place, text)
    return made


def _written(template: JsonDict, place: TaskPlace, text: str) -> bool:
    """Put a rendered text where it belongs; False when it lies there already."""
    try:
        target = inside(place.task_dir, _own_path(template["DestPath"], place))
    except EscapesDirectory as error:
        raise TemplateRefused("template: template destination path escapes alloc directory") from error
    with contextlib.suppress(OSError, ValueError):
        if target.read_text(encoding="utf-8") == text:
            return False
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    new.touch(mode=0o600)  # nobody reads it before it has the mode that it is meant to have
    new.write_text(text, encoding="utf-8")
    new.chmod(int(template["Perms"] or "0644", 8))
    owner = [int(template[key]) if template.get(key) is not None else -1 for key in ("Uid", "Gid")]
    if owner != [-1, -1]:
        os.chown(new, *owner)
    new.replace(target)
    return True


def _env_of(template: JsonDict, place: TaskPlace, text: str) -> dict[str, str]:
    try:
        return parse_env(text)
    except BadEnv as wrong:
        path = str(place.task_dir) + "/" + _own_path(template["DestPath"], place).lstrip("/")
        said = f"error parsing env template {go_quote(path)}: {wrong}"
        raise TemplateRefused(f"Template failed to read environment variables: {said}", ends=True) from None


def env_on_disk(templates: Iterable[JsonDict], place: TaskPlace) -> dict[str, str]:
    """What the templates with `env` say as they lie there. Raises TemplateRefused or OSError."""
    told: dict[str, str] = {}
    for template in templates:
        if template["Envvars"]:
            path = inside(place.task_dir, _own_path(template["DestPath"], place))
            told |= _env_of(template, place, path.read_text(encoding="utf-8"))
    return told

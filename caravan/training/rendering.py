"""A training type's files as the job gets them: under `caravan_train/`, the same bytes each time.

A file whose name ends in `.j2` is a template and loses that ending; every other is taken as it is. Templates are
rendered in jinja's sandbox: they see the type and nothing else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from caravan.training.loading import TypeFolder
from caravan.training.readme import readme
from caravan.training.type_files import DEFINITION, TEMPLATE, sources
from caravan.values.base import canonical_json, sha256_text
from caravan.values.errors import UsageError

FOLDER: Final = "caravan_train"
"""Where the files are in the delivered code, beside the repository's own."""
_MOST: Final = 2_000_000  # bytes of a file: a script is no data


def render(found: TypeFolder, *, version: str = "") -> dict[str, str]:
    """The files of a type: path from the root of the delivered code → text, sorted by path.

    `version` is Caravan's. Beside the type's own there are `requirements.txt` and `README.md`, where it has none.
    Raises UsageError for a file that is not there, can't be read or can't be rendered.
    """
    names: dict[str, object] = {
        "type": found.type.model_dump(mode="json"),
        "defaults": {knob.name: knob.default for knob in found.type.knobs},
        "caravan_version": version,
    }
    made: dict[str, str] = {}
    for source, target in sources(found.type, found.folder, found.shared):
        if target in made:
            raise UsageError(f"{found.folder / DEFINITION}: files: two of them make {target}.")
        text = _text(source)
        made[target] = _filled(source, text, names) if source.name.endswith(TEMPLATE) else text
    if found.type.entry not in made:
        raise UsageError(f"{found.folder / DEFINITION}: entry: no file of it makes {found.type.entry}.")
    for at, knob in enumerate(found.type.knobs):
        if knob.requirements and knob.requirements not in made:
            where = f"{found.folder / DEFINITION}: knobs.{at}.requirements ({knob.name})"
            raise UsageError(f"{where}: no file of it makes {knob.requirements}.")
    head = "# What the scripts beside this file need, pinned.\n"
    made.setdefault("requirements.txt", head + "".join(f"{line}\n" for line in found.type.requirements))
    made.setdefault("README.md", readme(found.type, version=version))
    return {f"{FOLDER}/{name}": made[name] for name in sorted(made)}


def digest(files: Mapping[str, str]) -> str:
    """SHA-256 over paths and texts: another one as soon as anything of a template has changed."""
    return sha256_text(canonical_json(dict(files)))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST:
            raise UsageError(f"{path} has more than {_MOST // 1_000_000} MB: a type holds scripts, no data.")
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8.") from error
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}.") from error


def _filled(path: Path, text: str, names: Mapping[str, object]) -> str:
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # these are scripts, no HTML
    )
    environment.filters["py"] = repr  # a value as Python writes it
    try:
        return environment.from_string(text).render(names)
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: {error.message}.") from error
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UsageError(f"{path} can't be rendered: {' '.join(str(error).split())[:200]}.") from error

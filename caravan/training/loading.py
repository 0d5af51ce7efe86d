"""Reading training types: folders with a `type.yaml`, shipped ones and a person's own. No code of a type is run.

Every error names the file and the field. Where the folders are is the caller's to say.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from caravan.training.sound import unsound
from caravan.training.type_files import DEFINITION, SHARED, sources
from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.training import TrainingType

_MOST: Final = 500_000  # bytes of a definition


@dataclass(frozen=True, slots=True)
class TypeFolder:
    """A type and the folder that it was read from. `shared`: where `shared/…` of its files is looked for, in order.

    `own`: it is a person's, not shipped.
    """

    type: TrainingType
    folder: Path
    shared: tuple[Path, ...] = ()
    own: bool = False


@dataclass(frozen=True, slots=True)
class Types:
    """All types that there are, the shipped ones first, each by name."""

    entries: tuple[TypeFolder, ...] = ()
    _by_name: dict[str, TypeFolder] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name.update({entry.type.name: entry for entry in self.entries})

    def __iter__(self) -> Iterator[TypeFolder]:
        return iter(self.entries)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the types, without their aliases."""
        return tuple(self._by_name)

    @property
    def aliases(self) -> dict[str, str]:
        """Other name → name of its type."""
        return {alias: entry.type.name for entry in self.entries for alias in entry.type.aliases}

    def get(self, name: str) -> TypeFolder:
        """The type of that name or alias. Raises UsageError, listing those there are, for any other."""
        found = self._by_name.get(name) or self._by_name.get(self.aliases.get(name, ""))
        if found is None:
            there = ", ".join((*self.names, *self.aliases)) or "none"
            raise UsageError(f"There is no training type {name[:60]!r}.", hint=f"There are: {there}.")
        return found

    def sets(self, name: str) -> dict[str, Json]:
        """The plan paths that a name sets beside the type itself: an alias's; nothing for a type's own name."""
        found = self.get(name)
        return {} if name == found.type.name else dict(found.type.aliases[name])


def load_types(shipped: Path, own: Sequence[Path] = ()) -> Types:
    """The types in the folder `shipped`, then those of a person's own folders: a type's, or one that holds several.

    Raises UsageError, naming file and field, for a definition that says no type, and for a name that is there twice.
    """
    found = [_read(folder, (shipped / SHARED,), own=False) for folder in _folders(shipped)]
    for path in own:
        beside = (path / SHARED, path.parent / SHARED)
        folders = _folders(path)
        if not folders:
            raise UsageError(
                f"{path} holds no training type: neither it nor a folder in it has a {DEFINITION}.",
                hint="CARAVAN_TRAINING_TYPES names folders of types, with : between them.",
            )
        found += [_read(folder, (*beside, shipped / SHARED), own=True) for folder in folders]
    _check_names(found)
    return Types(tuple(found))


def _folders(path: Path) -> list[Path]:
    if (path / DEFINITION).is_file():
        return [path]
    if not path.is_dir():
        return []
    return sorted(inner for inner in path.iterdir() if (inner / DEFINITION).is_file())


def _read(folder: Path, shared: tuple[Path, ...], *, own: bool) -> TypeFolder:
    path = folder / DEFINITION
    try:
        found = TrainingType.model_validate(_document(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise UsageError(f"{path}: {where}: {first['msg']}.") from error
    wrong = unsound(found)
    if wrong is not None:
        raise UsageError(f"{path}: {wrong[0]}: {wrong[1]}.")
    if own and found.entry not in (made := {target for _, target in sources(found, folder, shared)}):
        there = ", ".join(sorted(made)) or "none"
        raise UsageError(f"{path}: entry: no file of it makes {found.entry} (there are: {there}).")
    return TypeFolder(found, folder, shared, own)


def _document(path: Path) -> dict[str, Any]:
    import yaml

    try:
        if path.stat().st_size > _MOST:
            raise UsageError(f"{path} has more than {_MOST // 1000} kB: that defines no training type.")
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: the document: it must be a mapping with name, title, about and formats.")
    return document


def _check_names(found: Iterable[TypeFolder]) -> None:
    """Each name and alias is there once. Raises UsageError, naming both files."""
    taken: dict[str, Path] = {}
    for entry in found:
        path = entry.folder / DEFINITION
        for place, name in (("name", entry.type.name), *(("aliases", alias) for alias in entry.type.aliases)):
            if name in taken:
                raise UsageError(f"{path}: {place}: {name!r} is the name of the type in {taken[name]} already.")
            taken[name] = path

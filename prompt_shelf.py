"""The versions of prompts that are kept in the state directory: pulled, optimised, and those that runs have used.

A version is a file named by its content, so it never changes; labels say which one holds. Whether a text can be used is
asked before it is kept. It must not know LangFuse, or who asks a model.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from caravan.ports import Clock
from caravan.runs.files import state_errors, write_file
from caravan.values.base import Json
from caravan.values.errors import StateError, UsageError
from caravan.values.filling import fields
from caravan.values.prompt_inputs import troubles
from caravan.values.prompts import Demo, KeptVersion, Prompt, PromptOrigin

_LARGEST: Final = 2 << 20  # bytes of a file: a text with its examples is smaller
_VERSION: Final = re.compile(r"[0-9a-f]{12}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_LABELS: Final = "labels.json"


class DiskShelf:
    """Versions under `folder`: `kept/NAME/VERSION.json` with `labels.json`, and `used/NAME/VERSION.json`.

    `used`: another place for the latter, for a run that leaves nothing.
    """

    def __init__(self, folder: Path, clock: Clock, *, used: Path | None = None) -> None:
        self._kept, self._used, self._clock = folder / "kept", used or folder / "used", clock

    def versions(self, name: str) -> tuple[KeptVersion, ...]:
        """The kept versions, newest first. A file that can't be read is left out. Raises StateError."""
        folder = self._kept / _checked(name)
        labels = self.labels(name)
        found = []
        with state_errors(folder):
            paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
        for path in paths:
            if not _VERSION.fullmatch(path.stem):
                continue
            try:
                kept = _read(path, name)
            except StateError:
                continue
            mine = tuple(sorted(label for label, version in labels.items() if version == path.stem))
            here = kept.prompt.model_copy(update={"origin": PromptOrigin.KEPT})
            found.append(kept.model_copy(update={"prompt": here, "labels": mine}))
        return tuple(sorted(found, key=lambda kept: (kept.at, kept.prompt.version), reverse=True))

    def find(self, name: str, version: str) -> Prompt | None:
        """The version of that content, kept or used by a run, and whence it came; None where it is not here.

        Raises StateError for one that can't be read.
        """
        if not _VERSION.fullmatch(version):
            return None
        for folder in (self._kept, self._used):
            path = folder / _checked(name) / f"{version}.json"
            if path.is_file():
                return _read(path, name).prompt
        return None

    def labelled(self, name: str, label: str) -> Prompt | None:
        """The kept version that has the label; None where none has. Raises StateError where it can't be read."""
        version = self.labels(name).get(label)
        if version is None:
            return None
        path = self._kept / _checked(name) / f"{version}.json"
        if not path.is_file():
            raise StateError(f"The kept version {version} of the prompt {name} is gone.", hint=_anew(name))
        kept = _read(path, name).prompt
        return kept.model_copy(update={"label": label, "origin": PromptOrigin.KEPT})

    def keep(self, prompt: Prompt, *, why: str, labels: Sequence[str] = ()) -> KeptVersion:
        """Keep a version. Raises UsageError for one that can't be used, StateError where it can't be written."""
        wrong = troubles(prompt.name, prompt.text, prompt.demos)
        if wrong:
            raise UsageError(
                f"This can't be the prompt {prompt.name}: {'; '.join(wrong)}.", hint="See docs/prompts.md."
            )
        path = self._kept / _checked(prompt.name) / f"{prompt.version}.json"
        if not path.is_file():
            _write(path, prompt, why, self._clock.now())
        for label in labels:
            self.label(prompt.name, prompt.version, label)
        found = {kept.prompt.version: kept for kept in self.versions(prompt.name)}
        return found[prompt.version]

    def note_used(self, prompt: Prompt) -> None:
        """Keep what a run uses, so that it can be had when the run goes on. Raises StateError."""
        path = self._used / _checked(prompt.name) / f"{prompt.version}.json"
        if not path.is_file():
            _write(path, prompt, "used by a run", self._clock.now())

    def labels(self, name: str) -> dict[str, str]:
        """The labels, each with the version that has it. Raises StateError."""
        path = self._kept / _checked(name) / _LABELS
        with state_errors(path):
            data = path.read_bytes() if path.is_file() else b"{}"
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or not all(isinstance(v, str) and _VERSION.fullmatch(v) for v in told.values()):
            raise StateError(f"{path} is damaged.", hint="Delete it, and promote the versions again.")
        return {str(label): version for label, version in told.items()}

    def label(self, name: str, version: str | None, label: str) -> None:
        """Give the label to a version, or to none. Raises UsageError for a version that is not kept, StateError."""
        folder = self._kept / _checked(name)
        if version is not None and not (folder / f"{version}.json").is_file():
            raise UsageError(
                f"No version {version} of the prompt {name} is kept here.", hint=f"See `main.py prompts show {name}`."
            )
        labels = {key: value for key, value in self.labels(name).items() if key != label}
        if version is not None:
            labels[label] = version
        with state_errors(folder):
            write_file(folder / _LABELS, json.dumps(labels, sort_keys=True).encode())


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"There is no prompt {name[:60]!r}.")
    return name


def _anew(name: str) -> str:
    return f"Promote another: `main.py prompts promote {name} VERSION`, or `shipped`."


def _write(path: Path, prompt: Prompt, why: str, at: datetime) -> None:
    document: dict[str, Json] = {
        "name": prompt.name,
        "text": prompt.text,
        "demos": [demo.model_dump() for demo in prompt.demos],
        "origin": prompt.origin.value,
        "number": prompt.number,
        "why": why,
        "at": at.isoformat(),
    }
    with state_errors(path):
        write_file(path, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _read(path: Path, name: str) -> KeptVersion:
    """A kept version. Raises StateError for a file that can't be read, or whose content is not what its name says."""
    damaged = StateError(f"The kept prompt {path} is damaged.", hint="Delete it, then pull or optimise again.")
    with state_errors(path):
        if path.stat().st_size > _LARGEST:
            raise damaged
        data = path.read_bytes()
    try:
        told = json.loads(data)
        prompt = Prompt(
            name=name,
            text=told["text"],
            demos=tuple(Demo.model_validate(demo) for demo in told["demos"]),
            fields=fields(told["text"]),
            origin=PromptOrigin(told["origin"]),
            number=told.get("number"),
        )
        kept = KeptVersion(prompt=prompt, why=told.get("why", ""), at=told["at"])
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise damaged from error
    if prompt.version != path.stem:
        raise damaged
    return kept

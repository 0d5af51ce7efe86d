"""The prompt book: the texts that the language model is given, by name, with their version.

Which version is in force: the one that LangFuse has under the label, else the one kept here under it, else the shipped
one; a text that can't be used is passed over, and that is said. A run that goes on keeps the versions with which it
began. A text has places `{{field}}`, filled by `caravan.values.filling`. This module must not know who asks the model,
or which model it is.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from caravan.values.errors import StateError, UsageError
from caravan.values.filling import fields as fields
from caravan.values.filling import fill as fill
from caravan.values.prompt_inputs import troubles
from caravan.values.prompts import GivenVersion, KeptVersion, Prompt, PromptOrigin, PushedVersion, remote_name
from langfuse_access import LangfuseAccess
from langfuse_client import LangfuseClient, RemotePrompt
from prompt_cache import LangfusePrompts, ago
from prompt_exchange import from_remote, push, usable
from prompt_shelf import DiskShelf


class LocalPromptBook:
    """The port PromptBook on the files `*.md` of a folder (`templates/prompts`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> Prompt:
        """The shipped prompt. Raises UsageError for an unknown name, StateError if unreadable."""
        if name not in self.names():
            raise UsageError(f"There is no prompt {name!r}.", hint=f"There are: {', '.join(self.names())}.")
        path = self._folder / f"{name}.md"
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StateError(f"The prompt {path} can't be read: {error}.", hint="Restore the file.") from error
        return Prompt(name=name, text=text, fields=fields(text))

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(path.stem for path in self._folder.glob("*.md")))


class RunPrompts:
    """The port PromptBook for one run: the versions in force when they are asked for first, and from then on the same.

    `begun` are the versions with which a run that goes on began. `told` hears, once each, what is not as it should be.
    """

    def __init__(
        self,
        shipped: LocalPromptBook,
        shelf: DiskShelf,
        remote: LangfusePrompts | None = None,
        *,
        label: str = "production",
        begun: Mapping[str, str] | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._shipped, self._shelf, self._remote, self._label = shipped, shelf, remote, label
        self._begun, self._told = dict(begun or {}), told
        self._chosen: dict[str, Prompt] = {}
        self._said: set[str] = set()

    def begin(self) -> None:
        """Ask LangFuse beside what else is to be done."""
        if self._remote is not None:
            self._remote.begin()

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return self._shipped.names()

    def get(self, name: str) -> Prompt:
        """The version in force. Raises UsageError for an unknown name, StateError where what is shipped is unreadable.

        All its calls together wait for LangFuse for half a second at most.
        """
        if name not in self._chosen:
            shipped = self._shipped.get(name)
            current = self._managed(name) or self._kept(name) or shipped
            self._chosen[name] = chosen = self._as_begun(name, current, shipped)
            with suppress(StateError):  # a full disk: the run goes on, and can't have this version again
                self._shelf.note_used(chosen)
        return self._chosen[name]

    def _managed(self, name: str) -> Prompt | None:
        """LangFuse's version, where it has one that can be used."""
        if self._remote is None:
            return None
        given = self._remote.given()
        trouble = self._remote.trouble()
        if trouble is not None:
            how = (
                f"those it gave {ago(self._remote.age_s(given))}" if given else "those kept here, else the shipped ones"
            )
            self._say("langfuse", f"{trouble.message} The prompts are {how}. {trouble.hint}".rstrip())
        remote = given.prompts.get(name) if given else None
        if remote is None:
            return None
        try:
            return usable(name, remote, self._label)
        except UsageError as error:
            self._say(name, f"LangFuse's version {remote.number} of the prompt {name} is not used: {error.message}.")
            return None

    def _kept(self, name: str) -> Prompt | None:
        """The version kept here under the label, where it can be used."""
        try:
            prompt = self._shelf.labelled(name, self._label)
        except StateError as error:
            self._say(f"kept {name}", error.line())
            return None
        wrong = troubles(name, prompt.text, prompt.demos) if prompt is not None else ()
        if prompt is not None and wrong:
            told = f"The kept version {prompt.version} of the prompt {name} is not used: {'; '.join(wrong)}."
            self._say(f"kept {name}", told)
            return None
        return prompt

    def _as_begun(self, name: str, current: Prompt, shipped: Prompt) -> Prompt:
        """The version with which the run began, where it can still be had."""
        version = self._begun.get(name)
        if version is None or version == current.version:
            return current
        if version == shipped.version:
            earlier: Prompt | None = shipped
        else:
            try:
                earlier = self._shelf.find(name, version)
            except StateError:
                earlier = None
        if earlier is None or troubles(name, earlier.text, earlier.demos):
            told = f"The prompt {name} is {spoken(current)} now: version {version}, with which this run began, is gone."
            self._say(f"begun {name}", told)
            return current
        told = (
            f"The prompt {name} stays at version {version}, with which this run began; {spoken(current)} is in force."
        )
        self._say(f"begun {name}", told)
        return earlier

    def _say(self, about: str, text: str) -> None:
        if about not in self._said:
            self._said.add(about)
            self._told(text)


def spoken(prompt: Prompt) -> str:
    """A version for people: its digits, and where it comes from."""
    if prompt.origin is PromptOrigin.LANGFUSE:
        return f"version {prompt.version} (LangFuse {prompt.number})"
    return f"version {prompt.version} ({prompt.origin.value})"


class PromptVersions:
    """The port PromptShelf: for people and optimisers, who want to see and change versions. LangFuse is asked anew."""

    def __init__(
        self,
        shipped: LocalPromptBook,
        shelf: DiskShelf,
        access: LangfuseAccess | None = None,
        *,
        label: str = "production",
        cache: LangfusePrompts | None = None,
        managed: bool = True,
    ) -> None:
        self._shipped, self._shelf, self._label, self._cache = shipped, shelf, label, cache
        self._managed = managed
        self._access = access
        self._client = LangfuseClient(access) if access is not None else None

    def close(self) -> None:
        """Let go of the connection to LangFuse."""
        if self._client is not None:
            self._client.close()

    @property
    def label(self) -> str:
        """The label whose versions runs use."""
        return self._label

    @property
    def langfuse(self) -> str:
        """LangFuse's host; empty where the settings name none."""
        return self._access.host if self._access is not None else ""

    @property
    def managed(self) -> bool:
        """Whether runs take the versions that LangFuse has under the label."""
        return self._managed and self._access is not None

    def given(self, name: str) -> GivenVersion | None:
        """What LangFuse gave to runs last; None where nothing is kept of it. It is not asked."""
        kept = self._cache.kept() if self._cache is not None and self.managed else None
        if kept is None or self._cache is None:
            return None
        given, left_s = kept
        age_s, remote = self._cache.age_s(given), given.prompts.get(name)
        try:
            prompt = usable(name, remote, self._label) if remote is not None else None
        except UsageError as error:
            number = remote.number if remote is not None else None
            told = f"LangFuse's version {number} of {name} is not used: {error.message}."
            return GivenVersion(trouble=told, age_s=age_s, left_s=left_s)
        return GivenVersion(prompt=prompt, age_s=age_s, left_s=left_s)

    def names(self) -> tuple[str, ...]:
        """All names."""
        return self._shipped.names()

    def shipped(self, name: str) -> Prompt:
        """The version that comes with Caravan."""
        return self._shipped.get(name)

    def kept(self, name: str) -> tuple[KeptVersion, ...]:
        """The kept versions, newest first."""
        self._shipped.get(name)
        return self._shelf.versions(name)

    def keep(self, prompt: Prompt, *, why: str, labels: Sequence[str] = ()) -> KeptVersion:
        """Keep a version; one that is kept already gets the labels. Raises UsageError for a text that can't be used."""
        return self._shelf.keep(prompt, why=why, labels=labels)

    def label_kept(self, name: str, version: str | None, label: str) -> None:
        """Give the label to a kept version, from the one that has it; None: to none, what is shipped holds again."""
        self._shelf.label(name, version, label)

    def remote(self, name: str, *, label: str | None = None, number: int | None = None) -> PushedVersion | None:
        """LangFuse's version with that label or number; None where there is none.

        Raises UsageError where it can't be read as a prompt of ours, ServiceError.
        """
        self._shipped.get(name)
        found = self._asked().prompt(remote_name(name), label=label, number=number)
        return _pushed(name, found, label) if found is not None else None

    def remote_labels(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """The prompts that LangFuse has: the number of the newest version of each, and all their labels."""
        rows = {row.name: row for row in self._asked().prompts()}
        there = {name: rows[remote_name(name)] for name in self.names() if remote_name(name) in rows}
        return {name: (max(row.numbers, default=0), row.labels) for name, row in there.items()}

    def push(self, prompt: Prompt, *, labels: Sequence[str] = (), message: str = "") -> PushedVersion:
        """Bring a version to LangFuse, with labels. None is made where its newest has the same content."""
        self._shipped.get(prompt.name)
        made = push(self._asked(), prompt, labels=labels, message=message)
        self._forget()
        return made

    def label_remote(self, name: str, number: int, label: str) -> None:
        """Give the label to a version in LangFuse; from then on runs use it, where it is theirs."""
        self._shipped.get(name)
        self._asked().label_prompt(remote_name(name), number, [label])
        self._forget()

    def _forget(self) -> None:
        if self._cache is not None:
            self._cache.forget()

    def _asked(self) -> LangfuseClient:
        if self._client is None:
            raise UsageError("LangFuse is not set.", hint="Set LANGFUSE_BASE_URL and its keys: docs/prompts.md.")
        return self._client


def _pushed(name: str, found: RemotePrompt, label: str | None) -> PushedVersion:
    try:
        prompt = from_remote(name, found, label)
    except UsageError as error:
        raise UsageError(
            f"LangFuse's version {found.number} of the prompt {name} can't be used: {error.message}.",
            hint="Correct it in LangFuse.",
        ) from error
    return PushedVersion(prompt=prompt, labels=found.labels, is_new=False)

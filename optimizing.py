"""`optimize` as settings make it: its cases, its model, the shelf that better prompts go to, its folder.

What an optimisation does is `caravan.offline`'s; which prompt a run uses is the prompt book's.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from caravan.values.optimization import LABEL, OptimizeRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from caravan.agent.model.client import OpenAiModel
    from caravan.agent.state import RunState
    from caravan.offline.cases import Case
    from caravan.offline.keeper import Promoted, Shelved
    from caravan.offline.running import Optimisation
    from caravan.ports import Clock, PromptBook, PromptShelf, Store
    from caravan.values.base import Json
    from caravan.values.prompts import Prompt
    from caravan.values.run import Attempt, RunRecord
    from config import Settings
    from langfuse_client import LangfuseClient

_RUNS: Final = 500  # the newest runs that are looked through for cases
_PLACE: Final = "optimize"
_LOG_BYTES: Final = 512 * 1024


class Kept:
    """Knows the prompts in force, and keeps better ones at home and, where it is set, in LangFuse."""

    def __init__(self, book: PromptBook, versions: PromptShelf) -> None:
        self._book, self._versions = book, versions

    def get(self, name: str) -> Prompt:
        """The version in force."""
        return self._book.get(name)

    def keep(self, prompt: Prompt, label: str = LABEL) -> Shelved:
        """Keep it under the label. What LangFuse has under the label of the runs goes before what is kept here: where
        runs take that, the command is one that changes it there.
        """
        from caravan.offline.keeper import Shelved
        from caravan.values.errors import CaravanError

        shelf, said = self._versions, f"kept as {prompt.version} ({label})"
        shelf.keep(prompt, why="found by optimize", labels=(label,))
        if not shelf.managed:
            return Shelved(said, f"prompts promote {prompt.name} {prompt.version} --yes")
        try:
            number = self._pushed(prompt, label)
        except CaravanError as error:  # that LangFuse can't be reached undoes nothing here
            push = f"prompts push {prompt.name} --version {prompt.version} --label {shelf.label} --yes"
            return Shelved(f"{said}, not in LangFuse: {error.message}", push)
        use = f"prompts promote {prompt.name} {number} --yes"
        return Shelved(f"{said}, in LangFuse as number {number} ({label})", use)

    def promote(self, prompt: Prompt) -> Promoted:
        """Let runs use it: here, and first in LangFuse where runs take what that has. Both, or none."""
        from caravan.offline.keeper import Promoted
        from caravan.values.errors import CaravanError

        label, number = self._versions.label, None
        if self._versions.managed:
            try:
                number = self._pushed(prompt, label)
            except CaravanError as error:
                return Promoted(done=False, said=f"not promoted, what was in force stays so: {error.message}")
        self._versions.label_kept(prompt.name, prompt.version, label)
        there = f", in LangFuse as number {number} ({label})" if number is not None else ""
        return Promoted(done=True, said=f"runs use it now ({label}){there}")

    def _pushed(self, prompt: Prompt, label: str) -> int | None:
        """LangFuse's number for it, now with the label."""
        return self._versions.push(prompt, labels=(label,), message="found by Caravan's optimize").prompt.number


@contextmanager
def model_for(settings: Settings, clock: Clock) -> Iterator[tuple[OpenAiModel, OpenAiModel]]:
    """The first model of the settings, as a run asks it and without its fixed seed. It answers, or this raises.

    The one to fall back on is not asked: a prompt is found better for one model. Raises UsageError where none is set.
    """
    from adapters import model_access
    from caravan.agent.model.client import OpenAiModel
    from caravan.values.errors import UsageError

    found = model_access(settings)
    if not found:
        raise UsageError("Optimising prompts needs a language model.", hint="Set CARAVAN_MODEL_URL.")
    with ExitStack() as held:
        chats = [OpenAiModel(access, clock=clock) for access in (found[0], found[0].model_copy(update={"seed": None}))]
        for chat in chats:
            held.callback(chat.close)
            chat.served()
        yield chats[0], chats[1]


def folder_of(home: Path, name: str | None, clock: Clock) -> Path:
    """The folder of an optimisation: that of the id, or a new one. Raises UsageError for an id that is none."""
    import re
    import secrets

    from caravan.values.errors import UsageError

    if name is not None and not re.fullmatch(r"[a-z0-9-]{1,60}", name):
        raise UsageError(f"{name[:60]!r} is no id of an optimisation.")
    made = name or f"{clock.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = home / _PLACE / made
    if name is not None and not folder.is_dir():
        raise UsageError(f"There is no optimisation {name} to go on with.", hint=f"See {home / _PLACE}.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder. Raises RunBusy where another process has it."""
    from filelock import FileLock, Timeout

    from caravan.values.errors import RunBusy

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunBusy(f"Another process works on the optimisation {folder.name}.", hint="Wait for it.") from error
    try:
        yield
    finally:
        lock.release()


def gathered(
    request: OptimizeRequest,
    more: Iterable[Case],
    remote: LangfuseClient | None,
    secrets: tuple[str, ...],
) -> list[Case]:
    """The cases of `--data`, then those that there are besides. Raises UsageError for data that is none."""
    from caravan.offline.data import KINDS, of_place, unique
    from caravan.values.errors import UsageError

    def rows(name: str) -> Iterable[Mapping[str, Json]]:
        if remote is None:
            raise UsageError("No LangFuse is set.", hint="Set LANGFUSE_BASE_URL and its keys.")
        return remote.dataset_items(name)

    found: list[Case] = []
    for given in request.data:
        kind, _, place = given.partition("=")
        if kind not in KINDS or not place:
            raise UsageError(f"--data {given!r} is none of {', '.join(f'{k}=…' for k in KINDS)}.")
        found += of_place(kind, place, rows, secrets)
    return unique([*found, *more])


def of_runs(
    store: Store,
    state: Callable[[str], RunState | None],
    logs: Callable[[str], Sequence[Path]],
    secrets: tuple[str, ...],
) -> Iterator[Case]:
    """The cases of the newest runs that succeeded. A run that can't be read any more has none."""
    from caravan.offline.cases import PAPER
    from caravan.offline.past import of_run
    from caravan.values.errors import CaravanError
    from caravan.values.run import RunStatus

    def succeeded(record: RunRecord) -> bool:
        return record.status is RunStatus.SUCCEEDED

    for record in filter(succeeded, store.runs(limit=_RUNS)):
        try:
            found, files = state(record.id), logs(record.id)
        except CaravanError:
            continue
        if found is not None and found.attempts:
            texts = {a.number: "".join(map(_end, _files_of(a, files))) for a in found.attempts}
            yield from of_run(record, found, texts, PAPER, secrets)


def _files_of(attempt: Attempt, files: Sequence[Path]) -> list[Path]:
    """The copied logs of the task that ended an attempt."""
    from caravan.agent.logs import logs_of

    ran = attempt.outcome
    return logs_of(files, ran.alloc_id, ran.task or "") if ran is not None and ran.alloc_id else []


def _end(path: Path) -> str:
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _LOG_BYTES))
        return stream.read().decode("utf-8", "replace")


@dataclass(frozen=True)
class Parts:
    """What the settings make that an optimisation is made of. `state` and `logs` are those of a run by its id."""

    settings: Settings
    home: Path
    templates: Path
    clock: Clock
    secrets: tuple[str, ...]
    store: Store
    state: Callable[[str], RunState | None]
    logs: Callable[[str], Sequence[Path]]

    def cases(self, request: OptimizeRequest, remote: LangfuseClient | None) -> list[Case]:
        """All cases that there are for the request."""
        if request.only_data:
            return gathered(request, (), remote, self.secrets)
        from caravan.offline.data import shipped

        past = of_runs(self.store, self.state, self.logs, self.secrets)
        more = (*past, *shipped(self.templates / "cases", self.secrets))
        return gathered(request, more, remote, self.secrets)


@contextmanager
def optimisation(
    parts: Parts, asked: Mapping[str, Json], resume: str | None, told: Callable[[str], None]
) -> Iterator[Optimisation]:
    """An optimisation that may begin, or go on where one was left: `asked` then changes what it was asked for."""
    from contextlib import closing
    from functools import partial

    from adapters import make_prompt_versions, make_prompts
    from caravan.agent.proved import unproved
    from caravan.offline.program import load_dspy
    from caravan.offline.running import Optimisation, begun

    settings = parts.settings
    load_dspy()
    with ExitStack() as held:
        remote = held.enter_context(langfuse_of(settings))
        if resume is None:
            request = OptimizeRequest.model_validate(dict(asked))
            chat, varied = held.enter_context(model_for(settings, parts.clock))
            cases = parts.cases(request, remote)  # before there is a folder: data that is none leaves nothing behind
            folder = folder_of(parts.home, None, parts.clock)
            held.enter_context(locked(folder))
        else:
            folder = folder_of(parts.home, resume, parts.clock)
            held.enter_context(locked(folder))
            request, cases = begun(folder)
            request = OptimizeRequest.model_validate(request.model_dump() | dict(asked))
            chat, varied = held.enter_context(model_for(settings, parts.clock))
        book = make_prompts(settings, parts.home, clock=parts.clock, told=told)
        versions = held.enter_context(closing(make_prompt_versions(settings, parts.home, clock=parts.clock)))
        yield Optimisation(
            id=folder.name,
            folder=folder,
            request=request,
            cases=cases,
            keeper=Kept(book, versions),
            chat=chat,
            varied=varied,
            proof=partial(unproved, templates=parts.templates),
            clock=parts.clock,
            secrets=parts.secrets,
            told=told,
        )


@contextmanager
def langfuse_of(settings: Settings) -> Iterator[LangfuseClient | None]:
    """LangFuse as it is set; None where it is not."""
    from adapters import langfuse_access

    access = langfuse_access(settings)
    if access is None:
        yield None
        return
    from contextlib import closing

    from langfuse_client import LangfuseClient

    with closing(LangfuseClient(access)) as client:
        yield client


def put_cases(parts: Parts, asked: Mapping[str, Json], name: str) -> int:
    """Bring the cases that there are to a LangFuse dataset, made where it is not there; how many. Twice is once."""
    from caravan.offline.data import rows_of
    from caravan.values.errors import UsageError

    request = OptimizeRequest.model_validate(dict(asked))
    with langfuse_of(parts.settings) as remote:
        if remote is None:
            raise UsageError("No LangFuse is set.", hint="Set LANGFUSE_BASE_URL and its keys.")
        rows = list(rows_of(case for case in parts.cases(request, remote) if case.step in request.steps))
        remote.create_dataset(name, description="Cases that Caravan's prompts are measured by")
        for row in rows:
            remote.put_dataset_item(name, row)
    return len(rows)

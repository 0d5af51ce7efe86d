"""The steps that can be optimised: for each, what fills its prompt, what it may look at, what it must answer.

A case is put to the model by the code that asks in a run (`Asker`); only the prompt is another. It knows no optimiser.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from caravan.agent.model.ask import Tool
from caravan.agent.model.window import Part
from caravan.agent.qwen import given
from caravan.agent.qwen.asking import Asker
from caravan.agent.qwen.replies import DiagnosisReply, PlanReply, QuestionsReply, RepairsReply
from caravan.agent.qwen.told import Voice
from caravan.agent.qwen.tools import Sight, of_repository, of_run
from caravan.offline.cases import Case
from caravan.ports import ChatModel
from caravan.values.errors import ModelError, UsageError
from caravan.values.optimization import Step
from caravan.values.prompts import Prompt


@dataclass(frozen=True)
class Way:
    """How a step asks. `name`: the step's name in a run; the prompt's name is that of the step's value."""

    name: str
    kind: type[BaseModel]
    parts: Callable[[Case], tuple[Part, ...]]
    tools: Callable[[Case], tuple[Tool, ...]]
    thinking: bool


def _questions(case: Case) -> tuple[Part, ...]:
    return given.for_questions(case.questions, case.profile, case.prompt, case.facts, ())


def _plan(case: Case) -> tuple[Part, ...]:
    return given.for_plan(case.plan, case.profile, case.facts, ())


def _diagnosis(case: Case) -> tuple[Part, ...]:
    if case.evidence is None:
        raise AssertionError("a case of a diagnosis has evidence")
    return given.for_diagnosis(case.evidence, case.plan, ())


def _repairs(case: Case) -> tuple[Part, ...]:
    if case.diagnosis is None:
        raise AssertionError("a case of a repair has a diagnosis")
    return given.for_repairs(case.diagnosis, case.tried, case.plan, case.profile, case.facts, ())


def _no_tools(_: Case) -> tuple[Tool, ...]:
    return ()


def _cluster(case: Case) -> tuple[Tool, ...]:
    return of_run(Sight(facts=lambda: case.facts))


def _all_tools(case: Case) -> tuple[Tool, ...]:
    return (*of_repository(FilesToolbox(case.files)), *_cluster(case))


WAYS: Final[dict[Step, Way]] = {
    Step.QUESTIONS: Way("questions", QuestionsReply, _questions, _no_tools, thinking=False),
    Step.PLAN: Way("propose", PlanReply, _plan, _no_tools, thinking=True),
    Step.DIAGNOSE: Way("diagnose", DiagnosisReply, _diagnosis, _cluster, thinking=True),
    Step.REPAIR: Way("repairs", RepairsReply, _repairs, _all_tools, thinking=True),
}


@dataclass(frozen=True)
class Answer:
    """What a case was answered; None, with `why`, where no answer could be read."""

    reply: BaseModel | None
    why: str = ""


def answered(case: Case, prompt: Prompt, chat: ChatModel, secrets: tuple[str, ...] = ()) -> Answer:
    """Put the case to the model with this prompt, as a run would."""
    way, voice = WAYS[case.step], Refusals()
    asker = Asker(chat, OneBook(prompt), voice, secrets)
    found = asker.ask(way.name, prompt.name, way.kind, way.parts(case), thinking=way.thinking, tools=way.tools(case))
    return Answer(None, voice.why) if found is None else Answer(found[0])


class OneBook:
    """The port PromptBook with one prompt."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    def get(self, name: str) -> Prompt:
        """The prompt. Raises UsageError for another name."""
        if name != self._prompt.name:
            raise UsageError(f"There is no prompt {name!r} here.")
        return self._prompt

    def names(self) -> tuple[str, ...]:
        """Its name."""
        return (self._prompt.name,)


class Refusals(Voice):
    """A voice that tells nobody and keeps why there was no answer."""

    why = ""

    def by_rules(self, step: str, error: ModelError) -> None:  # noqa: ARG002
        """Why the model did not do the step."""
        self.why = error.message


class FilesToolbox:
    """The port Toolbox on the files of a case."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def read_file(self, path: str, *, start: int = 1, lines: int = 200) -> str:
        """Numbered lines of a file. Raises UsageError where there is none."""
        if path not in self._files:
            raise UsageError(f"There is no file {path!r}.")
        rows = self._files[path].split("\n")[start - 1 : start - 1 + lines]
        return "\n".join(f"{start + n}: {row}" for n, row in enumerate(rows))

    def list_directory(self, path: str = ".") -> tuple[str, ...]:
        """Names in a directory."""
        prefix = "" if path in ("", ".") else f"{path.rstrip('/')}/"
        rest = [name[len(prefix) :] for name in self._files if name.startswith(prefix)]
        return tuple(sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in rest}))

    def search(self, text: str, *, limit: int = 50) -> tuple[str, ...]:
        """Rows that hold the text."""
        rows = ((path, n, row) for path, all_ in self._files.items() for n, row in enumerate(all_.split("\n"), 1))
        return tuple(f"{path}:{n}: {row}" for path, n, row in rows if text.lower() in row.lower())[:limit]

    def find(self, name: str, *, limit: int = 20) -> tuple[str, ...]:
        """Paths that end with the name."""
        found: Sequence[str] = [path for path in self._files if f"/{path}".endswith(f"/{name}")]
        return tuple(sorted(found, key=len))[:limit]

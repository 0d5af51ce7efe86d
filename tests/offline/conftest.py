"""An optimisation over fakes: a scripted model, a keeper in memory, a folder of its own."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.offline.cases import Case
from caravan.offline.keeper import Promoted, Shelved
from caravan.offline.running import Optimisation
from caravan.values.model import Message
from caravan.values.optimization import Optimizer, OptimizeRequest, Step
from caravan.values.prompts import Prompt
from prompts import LocalPromptBook
from tests.fakes.chat import ScriptedChat
from tests.fakes.clock import FakeClock
from tests.offline.planted import WORDS, cases, told

EASY = WORDS[::3]
_SMALL = {"seed": 3, "max_cases": 20, "demos": 1}  # most of the time of a call is masking: these are enough


class MemoryKeeper:
    """Keeps prompts in memory."""

    def __init__(self) -> None:
        self._book = LocalPromptBook(TEMPLATES / "prompts")
        self.kept: list[tuple[Prompt, str]] = []
        self.promoted: list[str] = []

    def get(self, name: str) -> Prompt:
        return self._book.get(name)

    def keep(self, prompt: Prompt, label: str) -> Shelved:
        self.kept.append((prompt, label))
        return Shelved("kept", prompt.version)

    def promote(self, prompt: Prompt) -> Promoted:
        self.promoted.append(prompt.version)
        return Promoted(done=True, said="promoted")


class Bench:
    """Makes optimisations over one folder. `proposal` is what the model says to an optimiser's own questions."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.keeper, self.lines = folder, MemoryKeeper(), list[str]()
        self.chat = ScriptedChat()

    def made(
        self,
        *,
        optimizer: str = "bootstrap",
        answer: Callable[[Sequence[Message]], Any] = told,
        proposal: Any = "{}",
        found: Sequence[Case] | None = None,
        **request: Any,
    ) -> Optimisation:
        self.chat = ScriptedChat({"diagnose": [answer], "optimize": [proposal]})
        asked = OptimizeRequest(steps=(Step.DIAGNOSE,), optimizer=Optimizer(optimizer), **(_SMALL | request))
        return Optimisation(
            id="try",
            folder=self.folder,
            request=asked,
            cases=cases(EASY) if found is None else found,
            keeper=self.keeper,
            chat=self.chat,
            proof=lambda *_: "",
            clock=FakeClock(),
            told=self.lines.append,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def proposing(instruction: str) -> Callable[[Sequence[Message]], str]:
    """A model that proposes these instructions, in the form that the optimiser asks for."""

    def said(messages: Sequence[Message]) -> str:
        text = "\n".join(m.text for m in messages)
        if "JSON" in text and "new_instruction" in text:
            return json.dumps({"new_instruction": instruction})
        fields = "\n\n".join(f"[[ ## {name} ## ]]\n{instruction}" for name in _wanted(text))
        return f"{fields}\n\n[[ ## completed ## ]]"

    return said


def _wanted(text: str) -> list[str]:
    return [name for name in ("observations", "summary", "proposed_instruction") if f"[[ ## {name} ## ]]" in text]

"""Cases of diagnosis, and a model that is right where its prompt holds something; for the tests of optimisation."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from caravan.offline.cases import Case, Expected, lines_of
from caravan.values.failure import Evidence, FailureClass, Stage
from caravan.values.model import Message
from caravan.values.optimization import Step
from caravan.values.plan import TrainingPlan
from caravan.values.prompts import SYSTEM
from tests.fakes.openai_server import Asked, Turn, says

NAMES = ("anvil", "basin", "cobalt", "dune", "ember", "fjord", "garnet", "heath", "inlet", "juniper", "krill", "larch")
WORDS = (*NAMES, *(f"{a}{b}" for a in ("north", "south") for b in NAMES))
HINT = "A widget fault is a wrong setting"
"""What a prompt must say for the planted model to be right."""


def case(word: str, *, easy: bool = False) -> Case:
    """A failure that no rule knows; `easy` ones the model knows by itself."""
    line = f"{'EasyFault' if easy else 'WidgetFault'}: the {word} does not fit the shelf"
    return Case(
        id=word,
        step=Step.DIAGNOSE,
        alike=(f"fingerprint:{word}",),
        plan=TrainingPlan(goal="train", command=("train.py",)),
        evidence=Evidence(stage=Stage.VERIFY, exit_code=1, log_lines=(line,)),
        expected=Expected(failure=FailureClass.TRAINING_CONFIG_INVALID),
    )


def cases(easy: Sequence[str] = ()) -> list[Case]:
    return [case(word, easy=word in easy) for word in WORDS]


def diagnosis(text: str, *, right: bool) -> str:
    """The reply of a model that quotes the fault's line."""
    line = re.findall(r"(?:Easy|Widget)Fault: the \w+ does not fit the shelf", text)[-1]
    failure = "training_config_invalid" if right else "user_code_bug"
    return json.dumps({"failure": failure, "confidence": 0.6, "cause": "It does not fit", "lines": [line]})


def told(messages: Sequence[Message]) -> str:
    """The planted model, but for an optimiser's own questions."""
    last = messages[-1].text
    shown = any(m.role == "assistant" for m in messages) or HINT in last
    return diagnosis(last, right=shown or "EasyFault" in last)


def write(path: Path, easy: Sequence[str] = ()) -> Path:
    """The cases as a file."""
    path.write_text(lines_of(cases(easy)))
    return path


def answers(asked: Asked, propose: Callable[[str], Turn] | None = None) -> Turn:
    """The planted model behind HTTP; `propose` answers an optimiser's own questions."""
    messages = [Message(role=m["role"], text=str(m.get("content") or "")) for m in asked.body["messages"]]
    if messages[0].text.startswith(SYSTEM) and '<data name="evidence">' in messages[-1].text:
        return says(told(messages))
    return propose(asked.said()) if propose else says("{}")

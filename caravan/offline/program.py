"""A step as DSPy sees it: a signature, a program of one call, an adapter that asks as a run asks, an LM on our client.

Nothing of DSPy formats or parses what a step is asked: the adapter hands over to the code that runs. DSPy's cache is
off, LiteLLM is not used. Importing this module does not load DSPy.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from caravan.agent.model.window import Part
from caravan.agent.qwen.asking import filled
from caravan.offline.cases import Case
from caravan.offline.ledger import Ledger
from caravan.offline.steps import WAYS
from caravan.offline.trials import Trials
from caravan.offline.wording import changed, head_and_frame
from caravan.values.base import canonical_json, sha256_text
from caravan.values.errors import UsageError
from caravan.values.filling import fields
from caravan.values.masking import mask
from caravan.values.model import Message
from caravan.values.optimization import Step
from caravan.values.prompt_inputs import troubles
from caravan.values.prompts import Demo, Prompt

DEMO_TOKENS: Final = 1500
"""What one worked example may show of its case, in estimated tokens: three leave the case most of a 16k window."""
OWN: Final = "optimize"
"""The step under which an optimiser's own questions are asked."""


def load_dspy() -> Any:
    """DSPy, with its caches off. Raises UsageError, with the command, where it is not installed."""
    try:
        import dspy
    except ImportError as error:
        raise UsageError(
            "Optimising prompts needs DSPy, which is not installed.", hint="pip install -r requirements-optimize.txt"
        ) from error
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    return dspy


class Studio:
    """A step's prompt and cases between our values and DSPy's: prompts out of instructions and examples, and back.

    `refused` are instructions that no prompt may have, with the reason.
    """

    def __init__(self, current: Prompt, cases: Sequence[Case], trials: Trials) -> None:
        self.current, self.trials = current, trials
        self.head = head_and_frame(current.text)[0]
        self.refused: dict[str, str] = {}
        self.cases = {case.id: case for case in cases}
        self._by_places = {_places_key(self.places(case)): case.id for case in cases}

    def places(self, case: Case) -> dict[str, str]:
        """What fills the prompt's places, masked and whole."""
        wanted = set(fields(self.current.text))
        return {part.name: mask(part.text, self.trials.secrets) for part in self._parts(case) if part.name in wanted}

    @staticmethod
    def _parts(case: Case) -> tuple[Part, ...]:
        return WAYS[case.step].parts(case)

    def prompt(self, head: str, demos: Sequence[Mapping[str, Any]]) -> Prompt | None:
        """The prompt of these instructions and worked examples; None, noted, where it can be none."""
        try:
            text = self.current if head == self.head else changed(self.current, head)
        except UsageError as error:
            self.refused[head] = error.message
            return None
        own = tuple(self._demo(text, demo) for demo in demos if "reply" in demo and demo["reply"] is not None)
        shown = own or (self.current.demos if head == self.head else ())
        if wrong := troubles(text.name, text.text, shown):
            self.refused[head] = f"{wrong[0]}."
            return None
        return text.model_copy(update={"demos": shown})

    def _demo(self, prompt: Prompt, demo: Mapping[str, Any]) -> Demo:
        """A worked example: the prompt's own text, filled with what has room, and the answer as it was said."""
        places = {name: str(demo[name]) for name in prompt.fields}
        case = self.cases[self._by_places[_places_key(places)]]
        given = filled(prompt, self._parts(case), self.trials.secrets, DEMO_TOKENS)
        answer = canonical_json(demo["reply"].model_dump(mode="json", exclude_unset=True))
        return Demo(given=given, answer=mask(answer, self.trials.secrets))


def _places_key(places: Mapping[str, str]) -> str:
    return sha256_text(canonical_json(dict(places)))


def signature_of(dspy: Any, studio: Studio, step: Step) -> Any:
    """The step's signature: the places of its prompt in, our reply out, the instructions as they are now."""
    inputs = {name: (str, dspy.InputField()) for name in studio.current.fields}
    return dspy.Signature({**inputs, "reply": (WAYS[step].kind, dspy.OutputField())}, studio.head)


def program_of(dspy: Any, studio: Studio, step: Step) -> Any:
    """The program that DSPy optimises: one call, asked as a run asks. It is called with a case's id and its places."""

    class Adapter(dspy.Adapter):  # type: ignore[misc]
        """Asks by the code of a run; `format` and `parse` of DSPy have nothing to do."""

        def __init__(self, case: Case) -> None:
            super().__init__()
            self._case = case

        def __call__(
            self,
            lm: Any,
            lm_kwargs: Any,
            signature: Any,
            demos: Any,
            inputs: Any,  # noqa: ARG002
        ) -> list[dict[str, Any]]:
            prompt = studio.prompt(signature.instructions, [dict(demo) for demo in demos])
            if prompt is None:
                why = studio.refused[signature.instructions]
                return [{"reply": None, "score": 0.0, "feedback": f"These instructions can't be used: {why}"}]
            rollout = lm_kwargs.get("rollout_id") or lm.kwargs.get("rollout_id") or 0
            trial = studio.trials.measure(prompt, self._case, int(rollout))
            return [{"reply": trial.reply, "score": trial.verdict.score, "feedback": trial.verdict.feedback}]

    class Program(dspy.Module):  # type: ignore[misc]
        """One call of the step."""

        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict(signature_of(dspy, studio, step))

        def forward(self, case: str, **places: str) -> Any:
            with dspy.context(adapter=Adapter(studio.cases[case])):
                return self.ask(**places)

    return Program()


def example_of(dspy: Any, studio: Studio, case: Case) -> Any:
    """A case as DSPy's example: its id and its places are what the program is given."""
    places = studio.places(case)
    return dspy.Example(case=case.id, **places).with_inputs("case", *places)


def lm_of(dspy: Any, ledger: Ledger) -> Any:
    """The LM that an optimiser asks for itself: our client behind our ledger."""
    seen: dict[tuple[Message, ...], int] = {}

    class Engine:
        """The engine that DSPy's LM calls: one request, one reply."""

        def complete(self, request: Any) -> Any:
            messages = _messages(request)
            # Its questions are samples: under a fixed seed it would be told the same proposal again and again.
            nth = seen[messages] = seen.get(messages, 0) + 1
            reply = ledger.ask(messages, step=OWN, rollout=nth)
            usage = dspy.lm15.Usage(
                input_tokens=reply.usage.prompt_tokens,
                output_tokens=reply.usage.completion_tokens,
                total_tokens=reply.usage.tokens,
            )
            return dspy.lm15.Response(
                id=None,
                model=ledger.name,
                message=dspy.lm15.Message.assistant([dspy.lm15.TextPart(reply.text)]),
                finish_reason="stop",
                usage=usage,
            )

        def stream(self, request: Any) -> Iterator[Any]:
            yield from dspy.lm15.response_to_events(self.complete(request))

        def close(self) -> None:
            """Nothing is held."""

    return dspy.LM(ledger.name, engine=Engine(), cache=False, num_retries=0)


def _messages(request: Any) -> tuple[Message, ...]:
    """A request of DSPy's as our messages."""
    found = []
    if request.system is not None:
        system = request.system
        text = system if isinstance(system, str) else "".join(part.text for part in system)
        found.append(Message(role="system", text=text))
    found += [Message(role=message.role, text=message.text or "") for message in request.messages]
    return tuple(found)


@contextmanager
def quiet(dspy: Any, log: Any, lm: Any) -> Iterator[None]:
    """DSPy's settings for the block; what it prints goes to `log`, for standard output is the command's own."""
    from contextlib import redirect_stderr, redirect_stdout

    with redirect_stdout(log), redirect_stderr(log), dspy.context(lm=lm, num_threads=1, max_errors=1):
        yield

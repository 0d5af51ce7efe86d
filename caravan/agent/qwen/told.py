"""Who said what: to the terminal, the trace and the run's events. It decides nothing and never raises."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from caravan.ports import Clock, Progress, Store, Tracer
from caravan.values.base import Json
from caravan.values.errors import ModelError, UsageError
from caravan.values.masking import mask
from caravan.values.prompts import Prompt
from caravan.values.run import RunEvent

KIND: Final = "model"
"""Kind of the events: `data` says the step, by whom it went, and why."""

_LONGEST: Final = 300  # characters of a line
_MOST: Final = 8  # lines of one step


@dataclass
class Voice:
    """Tells of one run; without a run's store, as for a command, the notes alone. `secrets` are values to mask,
    `where` is the model and its server: what a run is about goes there, so the first question is told."""

    progress: Progress | None = None
    tracer: Tracer | None = None
    store: Store | None = None
    clock: Clock | None = None
    run_id: str = ""
    secrets: tuple[str, ...] = ()
    where: str = ""
    _said: set[str] = field(default_factory=set)
    _begun: bool = False

    def by_rules(self, step: str, error: ModelError) -> None:
        """A step that the model could not do goes by the rules: a line for the first of a kind, an event for each."""
        why = self._plain(error.message)
        self._trace("step by rules", step=step, by="rules", fault=error.fault.value, why=why)
        self._keep(f"{step}: by the rules, because {why}", step=step, by="rules", fault=error.fault.value)
        if error.fault.value not in self._said:
            self._said.add(error.fault.value)
            self._note(f"Going on by the rules: {self._plain(error.line())}")

    def by_model(self, step: str, model: str, *, taken: Iterable[str] = (), refused: Iterable[str] = ()) -> None:
        """A step that the model has done: what of it is taken, and what is refused with its reason."""
        yes, no = self._lines(taken), self._lines(refused)
        self._trace("step by model", step=step, by=model, taken=list[Json](yes), refused=list[Json](no))
        told = "; ".join((*yes, *(f"refused: {line}" for line in no))) or "nothing to add"
        self._keep(f"{step}: by {model}: {told}", step=step, by=model, taken=list[Json](yes), refused=list[Json](no))
        for line in yes:
            self._note(f"By {self._plain(model)}: {line}")
        if no:
            self._note(f"Not taken from {self._plain(model)}: {'; '.join(no)}")

    def asked(self, step: str, prompt: Prompt, *, examples: int = 0) -> None:
        """The model is asked with this version of a prompt, and so many of its examples."""
        told: dict[str, Json] = {"prompt": prompt.name, "version": prompt.version, "origin": prompt.origin.value}
        if prompt.number is not None:
            told["number"] = prompt.number
        if prompt.demos:
            told |= {"examples": examples, "examples_left_out": len(prompt.demos) - examples}
        self._trace("model asked", step=step, **told)
        if self.where and not self._begun:
            self._note(f"A language model is asked too: {self._plain(self.where)}.")
        self._begun = True

    @contextmanager
    def looking(self, tool: str, arguments: Mapping[str, Json]) -> Iterator[Callable[[str], None]]:
        """The model calls a tool; what the block hands in is what it returns, of which the size is told."""
        if self.tracer is None:
            yield lambda _: None
            return
        with self.tracer.span(tool, "tool", arguments=dict(arguments)) as span:
            yield lambda found: span.set(characters=len(found))

    def mended(self, line: str) -> None:
        """What was mended or dropped of a reply before it was one."""
        self._trace("reply mended", text=self._plain(line))

    def _lines(self, lines: Iterable[str]) -> tuple[str, ...]:
        every = tuple(self._plain(line) for line in lines)
        more = len(every) - _MOST
        return (*every[:_MOST], f"and {more} more") if more > 0 else every

    def _plain(self, text: str) -> str:
        shown = " ".join("".join(c if c.isprintable() else " " for c in mask(text, self.secrets)).split())
        return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"

    def _note(self, text: str) -> None:
        if self.progress is not None:
            self.progress.note(text)

    def _trace(self, event: str, **attributes: Json) -> None:
        if self.tracer is not None:
            self.tracer.event(event, **attributes)

    def _keep(self, text: str, **data: Json) -> None:
        if self.store is None or self.clock is None or not self.run_id:
            return
        at: datetime = self.clock.now()
        try:
            self.store.add_event(self.run_id, RunEvent(at=at, kind=KIND, text=self._plain(text), data=data))
        except UsageError:  # the run was deleted meanwhile
            return

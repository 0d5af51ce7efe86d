"""Asking a person: questions with their reasons and defaults, approval of a job, what to do about a lost one.

Ctrl-C and Ctrl-D pass through as KeyboardInterrupt and EOFError: a run then waits, what has no run just ends. To a mere
yes or no Ctrl-D is a no.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from caravan.planning.answers import read_answer
from caravan.planning.secrets import refuse_values
from caravan.terminal.jobfile import folded
from caravan.terminal.summary import show_approval, wrapped
from caravan.terminal.text import clean, one_line, words
from caravan.values.dialogue import Answer, AskKind, Reply
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from caravan.terminal.interrupts import Interrupts
    from caravan.terminal.streams import Terminal
    from caravan.terminal.summary import Scene
    from caravan.values.base import Json
    from caravan.values.dialogue import Ask, Question

_YES = ("y", "yes")
_NO = ("n", "no")


def answer_in_person(
    terminal: Terminal,
    ask: Ask,
    scene: Callable[[], Scene],
    known: Sequence[Answer] = (),
    now: datetime | None = None,
    *,
    waits: bool = True,
) -> Reply:
    """The person's reply. `known` are answers that need not be asked any more; `scene` stands around an approval.

    `now`, aware and in the person's zone, is what `tonight` is counted from. `waits`: a run is kept that
    waits for the answers.
    """
    if ask.kind is AskKind.QUESTIONS:
        return _questions(terminal, ask, known, now, waits=waits)
    if ask.kind is AskKind.APPROVAL:
        show_approval(terminal, ask, scene())
    for line in clean(ask.text).splitlines():
        terminal.err(wrapped(terminal.stderr, line))
    said = _decision(terminal, ask.hcl_path, len(ask.choices))
    if not isinstance(said, bool):
        return Reply(choice=said)
    return Reply(approved=said, why="" if said else "the user said no")


def confirm(terminal: Terminal, text: str) -> bool:
    """A yes or no to a question of ours; Enter and Ctrl-D are no."""
    try:
        return terminal.read(f"{text} [y/N] ").lower() in _YES
    except EOFError:
        terminal.err()
        return False


class Wish(Enum):
    """What to do with a job after Ctrl-C."""

    LEAVE = ("l", "leave")
    STOP = ("s", "stop")
    GO_ON = ("w", "watch")
    BACKGROUND = ("b", "background")


def what_now(terminal: Terminal, job_id: str, interrupts: Interrupts) -> Wish:
    """What a person wants who pressed Ctrl-C while a job runs. Enter, Ctrl-C and Ctrl-D leave it running."""
    try:
        interrupts.arm()
        terminal.err(f"The job {one_line(job_id)} runs on the cluster. What now?")
        terminal.err("  l  leave it running and go (Enter, or Ctrl-C again)")
        terminal.err("  s  stop it, and end the run with its report")
        terminal.err("  w  go on watching")
        terminal.err("  b  watch and repair it in the background, and go")
        wish = None
        while wish is None:
            said = terminal.read("l, s, w or b > ").lower()
            wish = Wish.LEAVE if not said else next((w for w in Wish if said in w.value), None)
    except (KeyboardInterrupt, EOFError):
        terminal.err()
        return Wish.LEAVE
    return wish


def question_lines(question: Question, number: int, total: int) -> list[str]:
    """A question as it is shown: text, why it is asked with its evidence, choices."""
    by = f" ({one_line(question.by)})" if question.by else ""
    lines = [f"{number}/{total}  {one_line(question.text)}{by}"]
    places = ", ".join(one_line(f"{e.file}:{e.line}" if e.line else e.file) for e in question.evidence)
    why = " ".join(part for part in (one_line(question.reason), f"({places})" if places else "") if part)
    if why:
        lines.append(f"     why: {why}")
    if question.choices:
        named = all(isinstance(c, str) for c in question.choices)
        shown = (f"{n}) {words(c)}" if named else words(c) for n, c in enumerate(question.choices, 1))
        lines.append(f"     choices: {', '.join(shown)}")
    return lines


def _questions(terminal: Terminal, ask: Ask, known: Sequence[Answer], now: datetime | None, *, waits: bool) -> Reply:
    answers = list(known)
    answered = {a.question_id for a in answers}
    missing = [q for q in ask.questions if q.id not in answered]
    terminal.err(f"{one_line(ask.text)} Enter takes the default in brackets; an answer may say more.")
    for number, question in enumerate(missing, 1):
        if any(a.question_id == question.id for a in answers):
            continue  # said with an earlier answer
        terminal.err()
        for line in question_lines(question, number, len(missing)):
            terminal.err(line)
        answers += _answer(terminal, question, missing, now, waits=waits)
    terminal.err()
    return Reply(answers=tuple(answers))


def _answer(
    terminal: Terminal, question: Question, questions: Sequence[Question], now: datetime | None, *, waits: bool
) -> list[Answer]:
    """The answer to this question, with what else was said until there is one."""
    needed = question.required and question.default is None
    open_end = "an answer is needed" if needed else "no default: leave it open"
    default = open_end if question.default is None else words(question.default)
    found: list[Answer] = []
    while True:
        text = terminal.read(f"     [{default}] > ")
        if not text and needed:
            leave = "Ctrl-C leaves the run waiting for it" if waits else "Ctrl-C ends this, and nothing is written"
            terminal.err(f"     It can't be planned without an answer; {leave}.")
            continue
        if not text:
            return [*found, Answer(question_id=question.id, value=question.default, by_user=False)]
        try:
            answers, unused = read_answer(question, questions, _numbered(question, text), now)
            paths = {q.id: q.path for q in questions}
            for answer in answers:
                refuse_values(paths.get(answer.question_id, answer.question_id), answer.value)
        except UsageError as error:
            terminal.err(f"     {one_line(error.line())}")
            continue
        found += answers
        _say_back(terminal, question, answers, unused, paths)
        if any(a.question_id == question.id for a in answers):
            return found


def _say_back(
    terminal: Terminal,
    question: Question,
    answers: Sequence[Answer],
    unused: Sequence[str],
    paths: dict[str, str],
) -> None:
    """What was understood beside the question, and what was not; a plain answer needs no echo."""
    for answer in answers:
        if answer.words:
            said = answer.words.removeprefix("answer: ")
            name = paths.get(answer.question_id, answer.question_id)
            terminal.err(one_line(f"     Understood: {name} = {words(answer.value)}, from {said}"))
        elif len(answers) > 1:
            terminal.err(one_line(f"     Understood: {question.path} = {words(answer.value)}"))
    for line in unused:
        terminal.err(f"     {one_line(line)}")


def _numbered(question: Question, text: str) -> Json:
    """The choice that a number names, where no choice is itself a number; else the text as it is."""
    if text.isdigit() and 0 < int(text) <= len(question.choices) and all(isinstance(c, str) for c in question.choices):
        return text if text in question.choices else question.choices[int(text) - 1]
    return text


def _decision(terminal: Terminal, hcl_path: str, choices: int) -> bool | int:
    """Yes, no, or the number of the other plan that is taken instead."""
    numbers = ("a number" if choices > 1 else "1") + " (that plan instead)" if choices else ""
    answers = ["yes", "no", *([numbers] if numbers else []), *(["show (the job file)"] if hcl_path else [])]
    told = f"{', '.join(answers[:-1])} or {answers[-1]}"
    while True:
        said = terminal.read(f"{told} > ").lower()
        if said in _YES:
            return True
        if said in _NO:
            return False
        if said.isdecimal() and 0 < int(said) <= choices:
            return int(said)
        if said == "show" and hcl_path:
            _show(terminal, Path(hcl_path))
        else:
            terminal.err(f"Please answer {told}.")


def _show(terminal: Terminal, path: Path) -> None:
    try:
        terminal.err(clean(folded(path.read_text("utf-8", "replace"))))
        terminal.err(f"The whole file: {one_line(path)}")
    except OSError as error:
        terminal.err(one_line(f"The job file {path} can't be read ({error.strerror})."))

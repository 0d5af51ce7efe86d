"""Input that is checked before anything is written: prompt, repository, `--set`, answers file, budget."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from caravan.values.errors import RepositoryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from caravan.planning.plan_reading import PlanFile
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.run import RunRequest

_LARGEST_ANSWERS = 1 << 20  # bytes; an answers file is a page of text
_LARGEST_PLAN = 4 << 20  # bytes; a plan may hold whole configs


def check_prompt(prompt: str | None) -> str:
    """The prompt without blanks around it. Raises UsageError for one of nothing."""
    if prompt is None:
        raise UsageError("Say what to train:", hint="--prompt TEXT --codebase-path PATH_OR_URL (see --help).")
    if not prompt.strip():
        raise UsageError("The prompt is empty.", hint="Say in a sentence what to train, with --prompt.")
    return prompt.strip()


def check_source(source: str | None) -> str:
    """A local path made absolute, because a run may be resumed from elsewhere; a URL as it is.

    Raises UsageError for a URL with credentials: the source stands in the store, the report and the trace.
    """
    if source is None or not source.strip():
        raise UsageError("Name the repository:", hint="--codebase-path PATH_OR_URL (see --help).")
    if "://" in source:
        from caravan.analysis.git import without_credentials
        from caravan.values.masking import mask

        if without_credentials(source) != source or mask(source) != source:
            raise UsageError(
                "The address of the repository holds a password or token, and addresses are kept with the run.",
                hint="Leave it out: git asks its credential helper, or give an SSH address; .netrc opens archives.",
            )
        return source
    path = Path(source)
    try:
        return str(path.resolve()) if path.exists() else source
    except OSError as error:
        raise RepositoryError(f"The repository can't be opened ({error.strerror}): {source}") from error


def check_budget(budget: float | None) -> float | None:
    """US dollars. Raises UsageError for a negative or an infinite budget."""
    if budget is not None and not (math.isfinite(budget) and budget >= 0):
        raise UsageError(f"--budget {budget:g} is no amount of money.", hint="Give US dollars, 0 or more.")
    return budget


def read_answers(file: str | None, known: Sequence[str] = (), now: datetime | None = None) -> dict[str, Json]:
    """The answers in a file, checked; none without a file. `known` are values that no answer may hold.

    `now`, aware and in the user's zone, is what times of day in free texts are counted from.

    Raises UsageError for what can't be read, is wrong, or holds a secret.
    """
    from caravan.planning.answers import load_answers
    from caravan.planning.secrets import refuse_values

    if file is None:
        return {}
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(_LARGEST_ANSWERS + 1)
    except OSError as error:
        raise UsageError(
            f"The answers file {file} can't be read ({error.strerror}).", hint="Check --answers."
        ) from error
    if len(data) > _LARGEST_ANSWERS:
        raise UsageError(f"The answers file {file} is too large.", hint="It holds `question id: value` lines.")
    try:
        found = load_answers(data.decode("utf-8-sig"), now)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The answers file {file} is not UTF-8 text.", hint="Write `question id: value` lines."
        ) from error
    for path, value in found.items():
        refuse_values(path, value, known)
    return found


def read_plan_at(file: str, known: Sequence[str] = ()) -> PlanFile:
    """The plan file, checked. Raises UsageError for what can't be read, and for what is wrong, with line and column."""
    from caravan.planning.plan_reading import read_plan_file

    try:
        with Path(file).open("rb") as stream:
            data = stream.read(_LARGEST_PLAN + 1)
    except OSError as error:
        raise UsageError(f"The plan file {file} can't be read ({error.strerror}).", hint="Check --plan.") from error
    if len(data) > _LARGEST_PLAN:
        raise UsageError(f"The plan file {file} is too large.", hint="A plan is some pages of text.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The plan file {file} is not UTF-8 text.", hint="docs/plan.md tells how it is written."
        ) from error
    return read_plan_file(text, Path(file).name, known)


def _of_the_file(written: PlanFile, file: str, prompt: str | None, source: str | None) -> tuple[str | None, str | None]:
    """Sentence and repository: the command line's, else the file's. A sentence is said in one place only."""
    goal = written.value("goal")
    if goal is not None and prompt is not None and prompt.strip() != goal.strip():
        raise UsageError(
            f"--prompt says something else than `goal` in {file}.", hint="Leave --prompt out, or change the file."
        )
    if source is None and written.source and "://" not in written.source:
        # A path in a file is seen from where the file is.
        source = str(Path(file).absolute().parent / Path(written.source).expanduser())
    if source is None and not written.source:
        raise UsageError(f"{file} does not say where the repository is.", hint="Add --codebase-path PATH_OR_GIT_URL.")
    return goal if prompt is None else prompt, source or written.source


def make_request(
    wiring: Wiring,
    *,
    prompt: str | None,
    source: str | None,
    cluster: str | None,
    answers: str | None,
    sets: Sequence[str],
    budget: float | None,
    yes: bool,
    dry_run: bool,
    send_secrets: bool = False,
    plan: str | None = None,
    nowhere: bool = False,
    kind: str | None = None,
) -> RunRequest:
    """The request of a new run, wholly checked; nothing has been written. Raises UsageError.

    `plan` is a plan file: it says what neither `sets` nor the answers say. `nowhere`: without a cluster. `kind`: the
    training type whose script Caravan shall bring.
    """
    from caravan.agent.training import FIELD
    from caravan.planning.answers import changes_from, parse_set
    from caravan.planning.secrets import refuse_values
    from caravan.values.masking import mask
    from caravan.values.run import RunRequest
    from caravan.values.target import NOWHERE, Target

    known = wiring.secrets()
    given, changes = (
        read_answers(answers, known, wiring.clock.now().astimezone()),
        tuple(parse_set(text) for text in (*([f"{FIELD}={kind}"] if kind is not None else []), *sets)),
    )
    for change in changes:
        refuse_values(change.path, change.value, known)
    if plan is not None:
        written = read_plan_at(plan, known)
        changes = (*written.beside(given), *changes)
        prompt, source = _of_the_file(written, plan, prompt, source)
    for change in (*changes_from(given), *changes):
        if change.path == FIELD and change.value is not None:
            wiring.types().get(str(change.value))  # raises, listing those there are
    prompt, source = mask(check_prompt(prompt), known), check_source(source)
    target = Target(NOWHERE, "default") if nowhere else wiring.target(cluster)
    request = RunRequest(
        prompt=prompt,
        source=source,
        cluster=target.address,
        namespace=target.namespace,
        profile=target.profile,
        answers=given,
        sets=changes,
        yes=yes,
        budget_usd=check_budget(budget),
        dry_run=dry_run,
        send_secrets=send_secrets,
        plan_file=plan or "",
    )
    wiring.kept_back(request)  # raises where the profile's secrets can't be had
    tree = wiring.open_tree(source)
    if not _says_data(request):
        tree.need_files()
    return request


def _says_data(request: RunRequest) -> bool:
    """Whether the request names data or a training type, so that a directory without files may be the repository."""
    from caravan.agent.training import FIELD
    from caravan.planning.answers import changes_from
    from caravan.training.choosing import named_data

    said = {change.path for change in (*changes_from(request.answers), *request.sets)}
    return bool(said & {FIELD, "dataset.path"}) or named_data(request.prompt, frozenset()) is not None

"""What a run teaches: its failures with what was changed and whether that worked, as lessons; what it confirms.

Also by what a run is known again: its context, and the digest of its training code. Pure but for reading the tree.
"""

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from caravan.agent.case_context import PLACES, SUBJECT, case_context, named, plan_context, subject_of
from caravan.agent.state import RunState
from caravan.analysis.tree import MAX_TEXT, SourceTree
from caravan.diagnosis.ladders.remembered import WORKED
from caravan.values.base import Json
from caravan.values.errors import PlanError, UsageError
from caravan.values.estimate import ROOM
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, Lesson, PastCase, Scope
from caravan.values.lesson_fields import name_of
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile
from caravan.values.run import Attempt

__all__ = ["case_context", "code_digest", "lessons_of", "standing_cases"]

_CODE: Final = (".py", ".pyx", ".ipynb", ".sh", ".bash", ".cu", ".cuh", ".c", ".cc", ".cpp", ".h", ".hpp", ".jl", ".r")
_CONFIG: Final = (".yaml", ".yml", ".toml", ".cfg", ".ini")
_CONFIG_BYTES: Final = 200_000  # what is longer and says `yaml` is data
_SAID_SO: Final = 0.85  # how sure a cause is that a log or the cluster names in so many words


def code_digest(tree: SourceTree, profile: RepoProfile) -> str:
    """SHA-256 over the training code: paths from the root and contents of code, configs and dependency files.

    Not over data, documents or the folder's name, so that it stays when the folder is renamed or the data grow. A
    notebook counts by its cells' sources, because running it changes the file.
    """
    named = {*profile.config_files, *profile.dependency_files, profile.entry_point}
    whole = hashlib.sha256()
    for entry in tree.files():
        path, name = entry.path, entry.path.lower()
        config = name.endswith(_CONFIG) and entry.size <= _CONFIG_BYTES and not path.startswith(".")
        if not (path in named or config or name.endswith(_CODE)):
            continue
        try:
            data = tree.read_bytes(path, limit=MAX_TEXT)
        except UsageError:  # the tree notes it
            continue
        data = _cells(data) if name.endswith(".ipynb") else data.replace(b"\r\n", b"\n")
        whole.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return whole.hexdigest()


def _cells(notebook: bytes) -> bytes:
    try:
        cells: Any = json.loads(notebook)["cells"]
        return json.dumps([[cell["cell_type"], "".join(cell["source"])] for cell in cells]).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return notebook


def standing_cases(cases: Sequence[PastCase], tree: SourceTree, profile: RepoProfile) -> tuple[PastCase, ...]:
    """The cases that this tree does not speak against. Left out is what names a file that is not there any more, what
    was against a missing file that is there now, and what says how a program is told which is documented otherwise
    now: since then somebody has mended it."""
    return tuple(case for case in cases if _stands(case, tree, profile))


def _stands(case: PastCase, tree: SourceTree, profile: RepoProfile) -> bool:
    told = [change for change in case.changes if change.path.startswith(_NAMES_FILES)]
    if not told:
        return True
    then = case.context.get("launch_command")
    if then is not None and then != profile.launch_command:
        return False
    files = {entry.path for entry in tree.files()}
    there = files | {parent for path in files for parent in _parents(path)} | {"."}
    workdir = next((str(c.value) for c in told if c.path == "workdir"), ".")
    new = [word for change in told for word in _new_words(change, case.before.get(change.path))]
    missing = str(case.context.get("subject") or "").removeprefix("path=") if case.failure in _FILE_CAUSES else ""
    if case.failure in _FILE_CAUSES and missing and _at(missing, ".") in there:
        return False
    sure = case.failure in _FILE_CAUSES or any(change.path in _ALWAYS_FILES for change in told)
    return not sure or all(there & _readings(word, workdir) for word in new if not word.startswith(("/", "-")))


def _readings(word: str, workdir: str) -> set[str]:
    """The paths of the tree that a word may mean."""
    return {_at(word, "."), _at(word, workdir), _at(word.partition("=")[2], "."), word.replace(".", "/") + ".py"}


def _new_words(change: PlanChange, before: Json) -> list[str]:
    """The texts that a change brings in and that look like paths; of fields that hold a path all of them."""
    had = before if isinstance(before, list) else [before]
    brought = change.value if isinstance(change.value, list) else [change.value]
    new = [word for word in brought if isinstance(word, str) and word not in had and "://" not in word]
    return [word for word in new if change.path != "command" or "/" in word or "." in word]


def _at(path: str, workdir: str) -> str:
    return posixpath.normpath(posixpath.join(workdir, path)) if path else ""


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


_NAMES_FILES: Final = ("dataset.path", "workdir", "command", "setup.requirements", "training.options.")
_ALWAYS_FILES: Final = ("workdir", "setup.requirements")
_FILE_CAUSES: Final = (FailureClass.DATA_PATH_MISSING, FailureClass.ENTRYPOINT_NOT_FOUND)


def lessons_of(state: RunState, scope: Scope = Scope.TENANT) -> tuple[Lesson, ...]:
    """What the run's diagnosed attempts teach, and its word on the lessons that its first plan or a repair followed.

    A run without a failure that followed no lesson teaches nothing. `worked` is None where no repair was tried, or
    nothing came after it. A repair that worked is told with those before it against the same failure: together they
    made the plan that worked. `scope`: whom the attempts' lessons speak to; those that were followed keep theirs.
    """
    taught = (lesson.model_copy(update={"scope": scope}) for lesson in _from_attempts(state))
    return (*taught, *_followed(state), *_confirmed(state))


def _from_attempts(state: RunState) -> Iterator[Lesson]:
    attempts = state.attempts
    for index, attempt in enumerate(attempts):
        diagnosis = attempt.diagnosis
        if diagnosis is None or diagnosis.failure in (FailureClass.INTERRUPTED_EXTERNALLY, FailureClass.NO_FAILURE):
            continue
        if diagnosis.failure is FailureClass.HOST_MEMORY_OOM and diagnosis.confidence < _SAID_SO:
            continue  # it was killed, and nobody says for what: with any plan the next attempt might come through
        worked = _worked(attempts, index)
        chain = [a for a in attempts[: index + 1] if _same(a.diagnosis, diagnosis)] if worked else [attempt]
        changes, before = _together(chain, _after(state))
        yield Lesson(
            failure=diagnosis.failure,
            fingerprint=diagnosis.fingerprint,
            text=_text(attempt),
            context=_context_at(state, attempts.index(chain[0])) | named(diagnosis),
            changes=changes,
            before=before,
            worked=worked,
            source=f"{state.run_id}/{attempt.number}",
        )


def _worked(attempts: Sequence[Attempt], index: int) -> bool | None:
    """Whether the repair mended the failure: the same one never came back, and a later attempt came further.

    None where nothing came after it, or only what may have kept the failure from coming again: a job whose set-up
    fails never gets to where it failed before.
    """
    attempt = attempts[index]
    if attempt.repair is None or attempt.diagnosis is None:
        return None
    told = [a for a in attempts[index + 1 :] if _told(a)]
    if any(_same(a.diagnosis, attempt.diagnosis) for a in told):
        return False
    return True if any(_came_further(a, attempt.diagnosis.failure) for a in told) else None


def _came_further(attempt: Attempt, failure: FailureClass) -> bool:
    """Whether the attempt got beyond where that failure comes, or is known to have trained."""
    if attempt.diagnosis is None:
        return True  # it ended well
    here, there = _stage(attempt.diagnosis.failure), _stage(failure)
    return here == _TRAINED or (here is not None and there is not None and here > there)


_F = FailureClass
_GATED: Final = (
    *(_F.UNDERFIT, _F.OVERFIT, _F.WORSE_THAN_BASE, _F.MODEL_COLLAPSED, _F.REGRESSED, _F.UNSAFE_ANSWERS),
    _F.TARGET_MISSED,
)
"""Causes that the gate tells of a training that came to its end."""
_STAGES: Final = (
    # On the way to a node; the set-up of the environment; the program's start; its data and memory; the training.
    *((_F.JOBSPEC_INVALID, _F.CLUSTER_TARGET_MISMATCH, _F.PLACEMENT_CONSTRAINT_FILTERED, _F.DRIVER_UNAVAILABLE),),
    *((_F.IMAGE_NOT_FOUND, _F.ARTIFACT_DOWNLOAD_FAILED, _F.BUILD_TOOLCHAIN_MISSING, _F.PACKAGE_VERSION_CONFLICT),),
    *((_F.ENTRYPOINT_NOT_FOUND, _F.MISSING_PYTHON_PACKAGE, _F.CLI_ARGS_INVALID, _F.LAUNCHER_MISCONFIGURED),),
    *((_F.DATA_PATH_MISSING, _F.DATASET_FORMAT_ERROR, _F.HOST_MEMORY_OOM, _F.SHM_TOO_SMALL, _F.CUDA_OOM),),
    *((_F.NUMERIC_DIVERGENCE, _F.OUTPUTS_MISSING, *_GATED),),
)
"""Causes by how far a job gets before they come. Of the others it is not known."""
_START, _TRAINED = 2, 4


def _stage(failure: FailureClass) -> int | None:
    return next((n for n, causes in enumerate(_STAGES) if failure in causes), None)


def _told(attempt: Attempt) -> bool:
    """Whether the attempt's end says something of its plan: it ended well, or its failure was diagnosed."""
    if not attempt.counts or attempt.outcome is None:
        return False
    return attempt.outcome.succeeded or attempt.diagnosis is not None


def _same(one: Diagnosis | None, other: Diagnosis) -> bool:
    """Whether two failures are the same one: equal causes that name no different thing."""
    if one is None or one.failure is not other.failure:
        return False
    if other.failure is FailureClass.UNKNOWN:
        return one.fingerprint == other.fingerprint
    return all(one.details[k] == other.details[k] for k in SUBJECT if k in one.details and k in other.details)


def _after(state: RunState) -> dict[tuple[int, str], Json]:
    """What fields really became after an attempt (by its number): what the next attempt that changed them says they
    were, or the last plan. A repair that was refused before it ran is thereby not taken for one that ran."""
    after: dict[tuple[int, str], Json] = {}
    last, known = state.need_plan(), dict[str, Json]()
    ran = bool(state.attempts) and last.digest() == state.attempts[-1].plan_sha256
    for attempt in reversed(state.attempts):
        for path, (before, intended) in attempt.changed.items():
            after[attempt.number, path] = known.get(path, last.get(path) if ran else intended)
            known[path] = before
    return after


def _together(
    chain: Sequence[Attempt], after: dict[tuple[int, str], Json]
) -> tuple[tuple[PlanChange, ...], dict[str, Json]]:
    """What the plans of these attempts were changed in all, and what those fields were before the first of them."""
    changes: dict[str, PlanChange] = {}
    before: dict[str, Json] = {}
    for attempt in chain:
        if not isinstance(attempt.repair, ChangePlan):
            continue
        repairs = {change.path: change for change in attempt.repair.changes}
        for path, (was, _) in attempt.changed.items():
            change = repairs.get(path) or PlanChange(path=path, by=Author.REPAIR)
            changes[path] = change.model_copy(update={"value": after[attempt.number, path]})
            before.setdefault(path, was)
    return tuple(c for c in changes.values() if c.value != before[c.path]), before


def _context_at(state: RunState, index: int) -> dict[str, Json]:
    """The context as it was in the attempt at `index`: the plan's parts walked back over the repairs since."""
    repairs = [attempt.changed for attempt in reversed(state.attempts[index:])]
    before = {path: was for changed in repairs for path, (was, _) in changed.items()}
    context = plan_context(state.model_copy(update={"plan": _with_packages(state.need_plan(), before)}))
    return context | {name: before[path] for name, path in PLACES.items() if path in before}


def _with_packages(plan: TrainingPlan, before: Mapping[str, Json]) -> TrainingPlan:
    """The plan with the packages and the image that it had: under their versions the failure came."""
    had = [PlanChange(path=path, value=before[path], by=Author.REPAIR) for path in _VERSIONED if path in before]
    try:
        return apply_changes(plan, had)
    except PlanError:  # the plan of an earlier version of this program
        return plan


_VERSIONED: Final = ("setup.pip", "image")


def _followed(state: RunState) -> Iterator[Lesson]:
    """The run's word on each lesson that a repair of it followed: whether that mended the failure."""
    for index, attempt in enumerate(state.attempts):
        why = attempt.repair.why if isinstance(attempt.repair, ChangePlan) else ""
        worked = _worked(state.attempts, index) if why.startswith(WORKED) else None
        if worked is not None:
            cases = (case for case in state.cases if name_of(case) in why)
            yield from (_word_on(case, worked, f"{state.run_id}/{attempt.number}") for case in cases)


def _word_on(case: PastCase, worked: bool, source: str) -> Lesson:
    """A lesson as memory has it, with a further source's word: it is merged into that one."""
    return Lesson(
        failure=case.failure,
        fingerprint=case.fingerprint,
        text=case.text,
        context=case.context,
        changes=case.changes,
        before=case.before,
        worked=worked,
        source=source,
        scope=case.scope,
    )


def _confirmed(state: RunState) -> Iterator[Lesson]:
    """The run's word on each lesson that its first plan followed: for it where the run came through without that
    failure and with what the lesson says, against it where the failure came all the same or the job did not even get
    to its training."""
    told = [a for a in state.attempts if _told(a)]
    for case in state.remembered:
        worked = _confirmation(told, case)
        if worked is None:
            continue  # it ended of something else: nothing is known
        yield _word_on(case, worked, f"{state.run_id}/plan")


def _confirmation(told: Sequence[Attempt], case: PastCase) -> bool | None:
    if any(a.diagnosis and _of_case(a.diagnosis, case) for a in told):
        return False
    first = told[0].diagnosis if told else None
    spoken = {change.path for change in case.changes} - set(ROOM)  # more room keeps nothing from its start
    undone = any(spoken & a.changed.keys() for a in told)
    if any(a.diagnosis is None for a in told) and not undone:
        return True
    if first and spoken and first.failure in _OF_THE_PROGRAM and all(a.diagnosis for a in told):
        return False  # another failure of the program itself, and nothing ended well: what was followed is suspect
    stage = _stage(first.failure) if first and first.failure is not case.failure else None
    ended_early = stage is not None and stage <= _START and bool(spoken)
    return False if ended_early and (undone or all(_early(a) for a in told)) else None


_OF_THE_PROGRAM: Final = frozenset(
    (
        *(_F.UNKNOWN, _F.USER_CODE_BUG, _F.TRAINING_CONFIG_INVALID, _F.INDEX_OUT_OF_RANGE, _F.NUMERIC_DIVERGENCE),
        *(_F.PROCESS_CRASH_NATIVE, _F.PROCESS_HANG, _F.OUTPUTS_MISSING, _F.DATASET_FORMAT_ERROR),
        *_GATED,
    )
)
"""Causes that a wrong setting of the program may have; those that lie outside it say nothing of a lesson."""


def _early(attempt: Attempt) -> bool:
    stage = _stage(attempt.diagnosis.failure) if attempt.diagnosis else None
    return stage is not None and stage <= _START


def _of_case(diagnosis: Diagnosis, case: PastCase) -> bool:
    subject, known = subject_of(diagnosis).get("subject"), case.context.get("subject")
    return diagnosis.failure is case.failure and (None in (subject, known) or subject == known)


def _text(attempt: Attempt) -> str:
    diagnosis = attempt.diagnosis
    cause = diagnosis.cause if diagnosis else ""
    if attempt.repair is None:
        return f"{cause} Nothing was tried."
    return f"{cause} Tried: {attempt.repair.why or attempt.repair.kind}."

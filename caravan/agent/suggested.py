"""The change of the user's code that is suggested where only that helps: derived, written down, never applied.

What follows from an error is `caravan.diagnosis.patches`'; here it is given the repository's files as they are.
"""

from typing import Final

from caravan.agent.context import Context
from caravan.agent.state import RunState
from caravan.diagnosis.patches import Patch, Sources, suggest
from caravan.values.errors import UsageError
from caravan.values.failure import Evidence, FailureClass

_OF_CODE: Final = frozenset(
    {
        *(FailureClass.USER_CODE_BUG, FailureClass.UNKNOWN, FailureClass.PACKAGE_VERSION_CONFLICT),
        *(FailureClass.TRAINING_CONFIG_INVALID, FailureClass.ENTRYPOINT_NOT_FOUND, FailureClass.MISSING_PYTHON_PACKAGE),
    }
)
"""Causes that may lie in the user's code."""
_MOST_BYTES: Final = 1_000_000
_MOST_FILES: Final = 3000


def suggested(state: RunState, context: Context) -> Patch | None:
    """The change that follows for certain from the failure and the repository, or that a model suggests; None: none.

    The repository may be gone since, or be another one than ran: then nothing is suggested.
    """
    if state.diagnosis is None or state.diagnosis.failure not in _OF_CODE or state.failure is None:
        return None
    try:
        tree = context.open_tree(state.request.source)
    except UsageError:
        return None

    def read(path: str) -> str | None:
        try:
            return tree.read_bytes(path, limit=_MOST_BYTES).decode("utf-8")
        except (UsageError, UnicodeDecodeError):
            return None

    files = tuple(e.path for e in tree.files() if e.path.endswith(".py") and e.size < _MOST_BYTES)
    known = Sources(files[:_MOST_FILES], read)
    return suggest(state.failure.log_lines, known, context.secrets) or _by_model(state.failure, known, state, context)


def _by_model(evidence: Evidence, known: Sources, state: RunState, context: Context) -> Patch | None:
    """What a language model suggests where nothing follows for certain."""
    if context.adviser is None or state.diagnosis is None:
        return None
    diff, why = context.adviser.patch(state.diagnosis, evidence, known.files, known.read)
    return Patch("", 0, diff, why) if diff else None

"""The change of the user's code that is suggested where only that helps: derived, written down, never applied.

What follows from an error is `caravan.diagnosis.patches`'; here it is given the repository's files as they are.
"""

from typing import Final

from caravan.agent.context import Context
from caravan.agent.state import RunState
from caravan.diagnosis.patches import Patch, Sources, suggest
from caravan.values.errors import UsageError
from caravan.values.failure import FailureClass

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
    """The change that follows for certain from the failure and the repository; None where there is none.

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
    return suggest(state.failure.log_lines, Sources(files[:_MOST_FILES], read), context.secrets)

"""What a plan's data are, by their content, as far as they are seen from this machine."""

from pathlib import Path
from typing import Final

from caravan.agent.context import Context
from caravan.values.errors import CaravanError
from caravan.values.plan import TrainingPlan

_MOST: Final = 8_000_000_000
"""Bytes that are read for this: some ten seconds. They are read once, as long as nothing in them changes."""


def content_of(plan: TrainingPlan, context: Context) -> str:
    """SHA-256 of the data's content; empty where they are not on this machine, in the code, or too large to be read.

    Data in the code are known by the code's own SHA-256.
    """
    data = plan.data
    if data is not None and data.sha256:
        return data.sha256
    local = _local(plan, context)
    if local is None or context.courier is None:
        return ""
    try:
        return context.courier.measure(local, context.progress.note, _MOST).sha256
    except CaravanError:  # too large, not readable, or written to just now: then it is not known
        return ""


def _local(plan: TrainingPlan, context: Context) -> Path | None:
    if plan.data is not None and plan.data.local and not plan.data.link:
        return Path(plan.data.local)
    named = plan.dataset.path or ""
    if not named.startswith(("/", "~")) or not context.facts().shared_files or plan.driver == "docker":
        return None
    path = Path(named).expanduser()
    return path if path.exists() else None

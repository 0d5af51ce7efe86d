"""Lines of Nomad's event stream → the jobs that they concern. Pure.

An event only wakes whoever watches its job, and the state is read anew then; so no more is read of it than whose it
is. Must not know where the lines come from.
"""

import json
from dataclasses import dataclass
from typing import Final

from caravan.values.base import Json

Key = tuple[str, str]
"""A job: namespace and id."""

TOPICS: Final = ("Job", "Allocation", "Evaluation")


@dataclass(frozen=True)
class Told:
    """What a line says: its index (0 for a sign of life) and the jobs that it concerns. Namespace "" is any."""

    index: int = 0
    jobs: frozenset[Key] = frozenset()


def read_line(line: bytes) -> Told:
    """A line of the stream. Raises ValueError for one that is none: what it should have told is lost.

    Nomad ends the stream of a reader who is too slow, or whose token has become invalid, with a line of plain words.
    """
    try:
        said = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if said == {}:
        return Told()
    if not isinstance(said, dict) or "Events" not in said:
        raise ValueError("no event")
    events = said["Events"] or ()
    index = said.get("Index") or 0
    if not isinstance(events, (list, tuple)) or not isinstance(index, int):
        raise ValueError("no events")
    return Told(index, frozenset(key for event in events for key in _jobs(event)))


def _jobs(event: Json) -> list[Key]:
    if not isinstance(event, dict):
        raise ValueError("no event")
    topic, namespace = event.get("Topic"), event.get("Namespace") or ""
    if topic == "Job":
        return [(namespace, str(event.get("Key")))]
    if topic not in TOPICS:
        return []
    payload = event.get("Payload")
    body = payload.get(topic) if isinstance(payload, dict) else None
    if isinstance(body, dict) and body.get("JobID"):
        return [(namespace, str(body["JobID"]))]
    related = event.get("FilterKeys") or ()
    return [(namespace, str(key)) for key in related if key] if isinstance(related, (list, tuple)) else []

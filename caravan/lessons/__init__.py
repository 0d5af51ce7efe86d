"""The pure half of memory: what a stored lesson is, when two are equal, how they merge and which fits best.

It knows nothing of the store that keeps them (`memory.py`), and neither reads nor writes anything.
"""

from caravan.lessons.merging import first, lesson_key, merge, merge_stored
from caravan.lessons.ranking import Candidate, Sought, as_case, rank
from caravan.lessons.records import (
    CODE,
    REPOSITORY,
    STARTER,
    StoredLesson,
    asked_text,
    from_metadata,
    from_record,
    marks,
    masked,
    prepared,
    search_text,
    to_metadata,
    to_record,
)

__all__ = [
    "CODE",
    "REPOSITORY",
    "STARTER",
    "Candidate",
    "Sought",
    "StoredLesson",
    "as_case",
    "asked_text",
    "first",
    "from_metadata",
    "from_record",
    "lesson_key",
    "marks",
    "masked",
    "merge",
    "merge_stored",
    "prepared",
    "rank",
    "search_text",
    "to_metadata",
    "to_record",
]

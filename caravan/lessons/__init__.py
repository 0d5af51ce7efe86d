"""The pure half of memory: what a stored lesson is, when two are equal, how they merge and which fits best.

It knows nothing of the store that keeps them (`memory.py`), and neither reads nor writes anything.
"""

from caravan.lessons.merging import first, lesson_key, merge
from caravan.lessons.ranking import Candidate, Sought, as_case, rank
from caravan.lessons.records import StoredLesson, from_metadata, masked, prepared, search_text, to_metadata

__all__ = [
    "Candidate",
    "Sought",
    "StoredLesson",
    "as_case",
    "first",
    "from_metadata",
    "lesson_key",
    "masked",
    "merge",
    "prepared",
    "rank",
    "search_text",
    "to_metadata",
]

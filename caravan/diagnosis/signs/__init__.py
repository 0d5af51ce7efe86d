"""The signs: which evidence shows which cause, as rows of data, a module for each kind of place where a cause shows.

A new cause is further rows, here and in `taxonomy.py`; the judge in `rules.py` knows none of them. Where two signs
are equally sure, the one whose line stands first in the evidence counts, then the one whose row comes first.
"""

from typing import Final

from caravan.diagnosis.logtext import LINE_LIMIT
from caravan.diagnosis.sign import Origin, Sign, is_mild
from caravan.diagnosis.signs.arguments import ARGUMENT_SIGNS
from caravan.diagnosis.signs.cluster import CLUSTER_SIGNS
from caravan.diagnosis.signs.data import DATA_SIGNS
from caravan.diagnosis.signs.images import IMAGE_SIGNS
from caravan.diagnosis.signs.memory import MEMORY_SIGNS
from caravan.diagnosis.signs.numbers import NUMBER_SIGNS
from caravan.diagnosis.signs.packages import PACKAGE_SIGNS
from caravan.diagnosis.signs.scripts import SCRIPT_SIGNS
from caravan.diagnosis.signs.stalls import STALL_SIGNS
from caravan.diagnosis.signs.start import START_SIGNS

SIGNS: Final[tuple[Sign, ...]] = (
    *CLUSTER_SIGNS,
    *STALL_SIGNS,
    *IMAGE_SIGNS,
    *START_SIGNS,
    *SCRIPT_SIGNS,
    *MEMORY_SIGNS,
    *PACKAGE_SIGNS,
    *ARGUMENT_SIGNS,
    *DATA_SIGNS,
    *NUMBER_SIGNS,
)

_IN_LOGS: Final = tuple(sign for sign in SIGNS if Origin.LOG in sign.origins and sign.pattern is not None)


def telling(line: str) -> bool:
    """Whether a line of a log shows a cause by itself: such a line must not be lost among others."""
    line = line[:LINE_LIMIT]  # what the judge will see of it
    return any(sign.tells(line) for sign in _IN_LOGS) and not is_mild(line)

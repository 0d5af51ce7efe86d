"""Signs that nothing failed: a run that ended well, or that went on after all that frightened in its log. Only data.

They hold only where no end is known that speaks against them, and fall to every other cause.
"""

from typing import Final

from caravan.diagnosis.looks import goes_on
from caravan.diagnosis.sign import ENDED_BADLY, Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass

HEALTHY_SIGNS: Final[tuple[Sign, ...]] = (row(goes_on, Origin.LOG, _F.NO_FAILURE, 0.6, unless=ENDED_BADLY),)

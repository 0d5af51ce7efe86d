"""Signs in the words of a job's own scripts on why they can't begin: what they were told to take is not there.

Only data.
They say `caravan: ` first and end with exit codes from 64 on. What is said of an interpreter or of a directory in the
code stands with the other signs of a wrong start.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_START: Final = _F.ENTRYPOINT_NOT_FOUND

SCRIPT_SIGNS: Final[tuple[Sign, ...]] = (
    # The whole code, which no other command or directory would bring.
    row(r"^caravan: there is no code at (?P<path>.+)$", _LOG, _START, 0.97, kind="code", escalate=True),
    row(r"^caravan: the code archive (?P<path>.+) can't be read here$", _LOG, _START, 0.97, kind="code", escalate=True),
    row(r"^caravan: the code is not in (?P<path>.+)$", _LOG, _START, 0.97, kind="code", escalate=True),
    row(r"^caravan: the image has no directory (?P<path>.+)$", _LOG, _START, 0.97, kind="code", escalate=True),
    row(r"^caravan: the repository has no directory (?P<path>.+)$", _LOG, _START, 0.97, kind="subdir", escalate=True),
    row(
        r"^caravan: the (?:code archive|data) is not (?:the one that|what) was planned",
        _LOG,
        _F.ARTIFACT_DOWNLOAD_FAILED,
        0.97,
    ),
    row(r"^caravan: the data (?P<path>.+) can't be read here$", _LOG, _F.DATA_PATH_MISSING, 0.97, kind="read"),
    row(r"^caravan: the data is not at (?P<path>.+)$", _LOG, _F.DATA_PATH_MISSING, 0.97, kind="read"),
    row(
        r"^caravan: (?P<path>.+) is not in the code, so no key of it can be changed$",
        _LOG,
        _F.TRAINING_CONFIG_INVALID,
        0.97,
        kind="overlay",
    ),
    row(r"^caravan: can't make the output directory (?P<path>.+)$", _LOG, _F.OUTPUT_PERMISSION_DENIED, 0.7),
    row(r"^caravan: this member of \d+ can't begin: .*missing: rank", _LOG, _F.RENDEZVOUS_UNREACHABLE, 0.9),
    row(
        r"^caravan: this member of \d+ can't begin: can't listen at port (?P<port>\d+): .*in use",
        _LOG,
        _F.RENDEZVOUS_PORT_IN_USE,
        0.93,
        _F.RENDEZVOUS_UNREACHABLE,
    ),
)

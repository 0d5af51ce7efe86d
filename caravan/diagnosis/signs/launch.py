"""Signs in what launchers say of the hosts of a training and of each other's processes. Only data.

DeepSpeed's hostfiles, JAX's coordinator, Gloo's barriers; what else processes say of each other is in `distributed.py`.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_MEET: Final = _F.RENDEZVOUS_UNREACHABLE

LAUNCH_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        r"\bHostfile (?:contains (?:a bad entry|multiple entries)|is empty|is not formatted|\S+ is not formatted)",
        _LOG,
        _F.LAUNCHER_MISCONFIGURED,
        0.93,
        _F.DATASET_FORMAT_ERROR,
        _F.USER_CODE_BUG,
        _F.TRAINING_CONFIG_INVALID,
        kind="config",
    ),
    row(
        r"\bhost=(?P<host>\S+) was not reachable via ssh\b",
        _LOG,
        _MEET,
        0.93,
        _F.LAUNCHER_MISCONFIGURED,
        _F.USER_CODE_BUG,
    ),
    row(
        r"\bFailed to connect to distributed JAX controller\b|\bDEADLINE_EXCEEDED: Barrier timed out\. .*Connect\b",
        _LOG,
        _MEET,
        0.9,
        _F.NETWORK_UNREACHABLE,
        _F.USER_CODE_BUG,
    ),
    row(
        r"\breached monitoredBarrier, but received errors\b|\bmonitoredBarrier: .*(?:failed|timeout|timed out)",
        _LOG,
        _F.NCCL_TIMEOUT,
        0.8,
        _F.NCCL_ERROR,
        _F.USER_CODE_BUG,
    ),
)

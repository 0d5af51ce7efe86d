"""Signs in what the cluster says: of a job that it does not take or can't place, and of how a task ended. Only data."""

from typing import Final

from caravan.diagnosis.sign import STOPPED_BY_REQUEST, Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_O = Origin

# Nodes are filtered before they are found to lack devices, volumes or room: the nodes that lacked those came close,
# so what they lacked is the cause, whatever other nodes were filtered out for before.
_BEFORE_DEVICES: Final = (_F.PLACEMENT_CONSTRAINT_FILTERED, _F.DRIVER_UNAVAILABLE)
_BEFORE_VOLUMES: Final = (*_BEFORE_DEVICES, _F.PLACEMENT_GPU_UNAVAILABLE)
_BEFORE_ROOM: Final = (*_BEFORE_DEVICES, _F.VOLUME_UNAVAILABLE)

_QUOTA: Final = r"^(?P<dimension>\w+) exhausted \((?P<asked>\d+) needed > (?P<largest>\d+) limit\)"

CLUSTER_SIGNS: Final[tuple[Sign, ...]] = (
    # Nomad's words on a job that it does not take.
    row(r"nonexistent (?:namespace|node pool)", _O.VALIDATION, _F.CLUSTER_TARGET_MISMATCH, 1.0, _F.JOBSPEC_INVALID),
    row(r"(?i:no path to region)", _O.VALIDATION, _F.CLUSTER_TARGET_MISMATCH, 1.0, _F.JOBSPEC_INVALID),
    row(
        r"\b403\b.*[Pp]ermission denied|[Pp]ermission denied.*\b403\b|^Permission denied$",
        _O.VALIDATION,
        _F.ACL_PERMISSION_DENIED,
        1.0,
        _F.JOBSPEC_INVALID,
    ),
    row(
        r"\bunknown allocation ID\b|\b(?:job|alloc(?:ation)?|eval(?:uation)?|node)\b[^:;]{0,80} not found\b"
        r"|\bInvalid UUID\b|\bNo (?:job|allocation|evaluation|node)\S* with (?:prefix|id|ID)\b|\bUUID must be\b",
        _O.VALIDATION,
        _F.NOMAD_OBJECT_NOT_FOUND,
        0.95,
        _F.JOBSPEC_INVALID,
    ),
    row(
        r"connect: (?:connection refused|no route to host)|\b[Nn]o cluster leader\b|dial tcp .*i/o timeout"
        r"|TLS handshake|\bx509: |context deadline exceeded|lookup \S+.*no such host",
        _O.VALIDATION,
        _F.NOMAD_API_UNREACHABLE,
        0.95,
        _F.JOBSPEC_INVALID,
    ),
    # Our own words, of a plan that an administrator's policy does not allow.
    row(r"^Policy: .", _O.VALIDATION, _F.POLICY_DENIED, 1.0, _F.JOBSPEC_INVALID, _F.NOMAD_OBJECT_NOT_FOUND),
    # Our own words, of a cluster whose images are listed and can't be pulled.
    row(r"^No node .* has the image (?P<image>\S+);", _O.VALIDATION, _F.IMAGE_NOT_FOUND, 1.0, _F.JOBSPEC_INVALID),
    row(r".", _O.VALIDATION, _F.JOBSPEC_INVALID, 0.9),
    # Nomad's words on a job that it can't place.
    row(r"^no nodes available$", _O.PLACEMENT, _F.CLUSTER_TARGET_MISMATCH, 0.9),
    row(r"^missing drivers$", _O.FILTERED, _F.DRIVER_UNAVAILABLE, 0.95, _F.PLACEMENT_CONSTRAINT_FILTERED),
    row(r"^missing (?P<dimension>devices)$", _O.FILTERED, _F.PLACEMENT_GPU_UNAVAILABLE, 0.95, *_BEFORE_DEVICES),
    row(r"missing compatible host volumes|\bCSI\b", _O.FILTERED, _F.VOLUME_UNAVAILABLE, 0.95, *_BEFORE_VOLUMES),
    row(r"^(?!missing )(?!.*\bCSI\b)", _O.FILTERED, _F.PLACEMENT_CONSTRAINT_FILTERED, 0.9),
    row(r"^(?P<dimension>devices)\b", _O.EXHAUSTED, _F.PLACEMENT_GPU_UNAVAILABLE, 0.95, *_BEFORE_ROOM),
    row(_QUOTA, _O.EXHAUSTED, _F.PLACEMENT_RESOURCES_EXHAUSTED, 0.95, *_BEFORE_ROOM),
    row(
        r"^(?!devices\b)(?P<dimension>memory|cpu|cores|disk|network|bandwidth|)",
        _O.EXHAUSTED,
        _F.PLACEMENT_RESOURCES_EXHAUSTED,
        0.95,
        *_BEFORE_ROOM,
    ),
    row(
        r"port collision|no ports|dynamic port",
        _O.EXHAUSTED,
        _F.PORT_CONFLICT,
        0.95,
        _F.PLACEMENT_RESOURCES_EXHAUSTED,
        dimension="ports",
    ),
    # How the task ended. Exit code 137 alone says nothing: every SIGKILL has it, and a task that is asked to stop and
    # does not ends so too, even when the driver then calls it killed for memory.
    row(r"^interrupted$", _O.OUTCOME, _F.INTERRUPTED_EXTERNALLY, 0.95, _F.HOST_MEMORY_OOM),
    row(r"^asked to stop$", _O.OUTCOME, _F.INTERRUPTED_EXTERNALLY, 0.9, _F.HOST_MEMORY_OOM),
    row(r"^Killing: Template failed", _O.EVENT, _F.TEMPLATE_SECRET_UNAVAILABLE, 0.95, _F.INTERRUPTED_EXTERNALLY),
    row(r"^Time limit", _O.EVENT, _F.INTERRUPTED_EXTERNALLY, 1.0, _F.HOST_MEMORY_OOM, escalate=True),
    row(r"exceeded max_run_duration", _O.EVENT, _F.INTERRUPTED_EXTERNALLY, 1.0, _F.HOST_MEMORY_OOM, escalate=True),
    row(f"^{STOPPED_BY_REQUEST}$", _O.EVENT, _F.INTERRUPTED_EXTERNALLY, 1.0, _F.HOST_MEMORY_OOM, escalate=True),
    row(r"^killed for memory$", _O.OUTCOME, _F.HOST_MEMORY_OOM, 0.95, where="task"),
    row(r"^Terminated: .*\bOOM Killed\b", _O.EVENT, _F.HOST_MEMORY_OOM, 0.95, where="task"),
)

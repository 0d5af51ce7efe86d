"""Signs in what the cluster says of a job that it can't place. Only data.

What it says of requests that it refuses stands in `requests.py`, how a task ended in `interruptions.py`, what drivers
say of containers in `containers.py`.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_O = Origin

# Nodes are filtered before they are found to lack devices, volumes or room: the nodes that lacked those came close,
# so what they lacked is the cause, whatever other nodes were filtered out for before.
_BEFORE_DEVICES: Final = (_F.PLACEMENT_CONSTRAINT_FILTERED, _F.DRIVER_UNAVAILABLE)
_BEFORE_VOLUMES: Final = (*_BEFORE_DEVICES, _F.PLACEMENT_GPU_UNAVAILABLE)
_BEFORE_ROOM: Final = (*_BEFORE_DEVICES, _F.VOLUME_UNAVAILABLE)
_VOLUME: Final = _F.VOLUME_UNAVAILABLE
_FILTER: Final = _F.PLACEMENT_CONSTRAINT_FILTERED
_TARGET: Final = _F.CLUSTER_TARGET_MISMATCH

_QUOTA: Final = r"^(?P<dimension>\w+) exhausted \((?P<asked>\d+) needed > (?P<largest>\d+) limit\)"
_COMPARED: Final = (
    r"^(?P<attribute>\$\{[^}]+\}|[\w.-]+) (?P<operator>!?==?|[<>]=?|semver|version|regexp|set_contains\w*|is|is not)"
    r" (?P<value>.+)"
)

CLUSTER_SIGNS: Final[tuple[Sign, ...]] = (
    # Nobody is where the job wants to go.
    row(r"^no nodes available$", _O.PLACEMENT, _TARGET, 0.9, kind="datacenter"),
    row(
        r"\bNo nodes (?:are|were) available in (?P<kind>datacenter|node pool|region) \\?\"?(?P<target>[\w.*-]+)",
        _O.LOG,
        _TARGET,
        0.95,
    ),
    row(r"\bNo nodes were eligible for evaluation", _O.LOG, _TARGET, 0.85),
    # Why nodes were filtered out.
    row(r"^missing drivers$", _O.FILTERED, _F.DRIVER_UNAVAILABLE, 0.95, _FILTER),
    row(r"^missing (?P<dimension>devices)$", _O.FILTERED, _F.PLACEMENT_GPU_UNAVAILABLE, 0.95, *_BEFORE_DEVICES),
    row(r"^missing compatible host volumes", _O.FILTERED, _VOLUME, 0.95, *_BEFORE_VOLUMES, kind="host"),
    row(
        r"\bCSI plugin (?P<plugin>\S+) (?:is|has)\b|\bmissing CSI [Vv]olume(?:\(s\))? (?P<volume>\S+)"
        r"|\bCSI [Vv]olume (?P<volume2>\S+) (?:is|has)\b|\bCSI\b|\bdid not meet topology requirement",
        _O.FILTERED,
        _VOLUME,
        0.95,
        *_BEFORE_VOLUMES,
        kind="csi",
    ),
    row(r"^missing secrets provider", _O.FILTERED, _F.TEMPLATE_SECRET_UNAVAILABLE, 0.92, _FILTER, kind="provider"),
    row(_COMPARED, _O.FILTERED, _FILTER, 0.92),
    row(r"^missing (?:host )?network|^missing property", _O.FILTERED, _FILTER, 0.9),
    row(r"^(?!missing )(?!.*\bCSI\b)(?!did not meet topology)", _O.FILTERED, _FILTER, 0.9),
    # What the nodes that are left have too little of.
    row(r"^(?P<dimension>devices)\b", _O.EXHAUSTED, _F.PLACEMENT_GPU_UNAVAILABLE, 0.95, *_BEFORE_ROOM, kind="busy"),
    row(_QUOTA, _O.EXHAUSTED, _F.PLACEMENT_RESOURCES_EXHAUSTED, 0.95, *_BEFORE_ROOM),
    row(
        r"^(?!devices\b)(?P<dimension>memory|cpu|cores|disk|network|bandwidth|)",
        _O.EXHAUSTED,
        _F.PLACEMENT_RESOURCES_EXHAUSTED,
        0.95,
        *_BEFORE_ROOM,
    ),
    row(
        r"port collision(?:.*?=(?P<port>\d+))?|no ports|dynamic port|\bport (?P<port2>\d+) .*\b(?:in use|reserved)",
        _O.EXHAUSTED,
        _F.PORT_CONFLICT,
        0.95,
        _F.PLACEMENT_RESOURCES_EXHAUSTED,
        dimension="ports",
    ),
)

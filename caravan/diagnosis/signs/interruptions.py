"""Signs that a task was ended from outside, or that a deployment's time ran out. Only data.

Exit code 137 alone says nothing: every SIGKILL has it, and a task that is asked to stop and does not ends so too, even
when the driver then calls it killed for memory.
"""

from typing import Final

from caravan.diagnosis.sign import STOPPED_BY_REQUEST, Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_O = Origin
_SAID: Final = (Origin.EVENT, Origin.LOG)
_OUTSIDE: Final = _F.INTERRUPTED_EXTERNALLY
_DEADLINE: Final = _F.DEPLOY_PROGRESS_DEADLINE
_HOST: Final = _F.HOST_MEMORY_OOM

INTERRUPTION_SIGNS: Final[tuple[Sign, ...]] = (
    row(r"^interrupted$", _O.OUTCOME, _OUTSIDE, 0.95, _HOST),
    row(r"^asked to stop$", _O.OUTCOME, _OUTSIDE, 0.9, _HOST),
    row(r"^Time limit", _O.EVENT, _OUTSIDE, 1.0, _HOST, escalate=True),
    row(r"exceeded max_run_duration", _O.EVENT, _OUTSIDE, 1.0, _HOST, escalate=True),
    row(f"^{STOPPED_BY_REQUEST}$", _O.EVENT, _OUTSIDE, 1.0, _HOST, escalate=True),
    row(r"^killed for memory$", _O.OUTCOME, _HOST, 0.95, where="task"),
    row(r"^Terminated: .*\bOOM Killed\b", _O.EVENT, _HOST, 0.95, where="task"),
    # Nomad's words on an allocation, and the rows of its lists.
    row(
        r"\bNode heartbeat missed\b|\balloc is lost since its node is down"
        r"|\balloc is unknown since its node is disconnected"
        r"|\balloc not needed due to disconnected client|\b(?:desc|client_desc|[Dd]escription)\W.{0,40}node is down"
        r"|\bnode (?:is )?down\b.{0,60}\blost\b|\bClient Status\s*= (?:lost|unknown)\b|\s(?:run|stop) +lost\s",
        _SAID,
        _OUTSIDE,
        0.93,
        _HOST,
        kind="node",
    ),
    row(
        r"\balloc is being migrated|\balloc not needed as node is tainted|\bnode-drain\b"
        r"|\b[Dd]rain(?:ing)? (?:of )?node\b"
        r"|\b[Dd]rain(?:ing)? (?:strategy set|complete)|\bdraining\b.{0,40}\balloc",
        _SAID,
        _OUTSIDE,
        0.92,
        _HOST,
        kind="drain",
    ),
    row(
        r"\b[Pp]reempted (?:by|due)\b|\bDesired(?: Status)?\s*[:=] *evict\b|\bPreempted by alloc"
        r"|\s\bevict +(?:running|complete|failed)\b"
        r"|\bDUE TO PREEMPTION\b|\bPreempting\b.{0,60}\bhigher.priority",
        _SAID,
        _OUTSIDE,
        0.93,
        _HOST,
        kind="preempted",
    ),
    row(
        r"\balloc not needed due to job update|\balloc is being updated due to job update",
        _SAID,
        _OUTSIDE,
        0.92,
        _HOST,
        kind="updated",
    ),
    row(
        r"\bStatus\s*= dead \(stopped\)|\b(?:User requested|[Jj]ob was|was) (?:job )?(?:stopped|purged) by\b"
        r"|\bDesired(?: Status)?\s*[:=] *stop\b|^Killing: (?:User|Job|Alloc\w*) (?:requested|stopped)",
        _SAID,
        _OUTSIDE,
        0.85,
        _HOST,
        kind="stopped",
    ),
    row(
        r"\bDUE TO TIME LIMIT\b|\bexceeded (?:the )?(?:max_run_duration|wall ?-?(?:clock|time))\b"
        r"|PBS: job killed: walltime"
        r"|\bTERM_RUNLIMIT\b|^DeadlineExceeded\b|\bwas active on the node longer than the specified deadline",
        _SAID,
        _OUTSIDE,
        0.95,
        _HOST,
        kind="time",
    ),
    row(
        r"\bDUE TO NODE FAILURE\b|\bspot (?:instance )?(?:interruption|termination|reclaim)"
        r"|\b[Nn]ode (?:is )?(?:shutting down|being (?:drained|preempted))\b|\bTerminatedByNodeShutdown|^Evicted\b"
        r"|\bCANCELLED AT [\dT:-]+ (?:\*\*\*|DUE TO)",
        _SAID,
        _OUTSIDE,
        0.92,
        _HOST,
        kind="node",
    ),
    row(r"^Restart Signaled: ", _O.EVENT, _OUTSIDE, 0.8, kind="updated"),
    # Killed by a signal, and nobody says why: not for memory, or the driver would have said so.
    row(
        r"^Terminated: (?!.*\bOOM\b)(?:.*\bExit Code: 1(?:37|43)\b|.*\bSignal: (?:9|15)\b)",
        _O.EVENT,
        _OUTSIDE,
        0.65,
        unless="asked to stop",
        kind="killed",
    ),
    # A deployment's time.
    row(
        r"\bFailed due to progress deadline\b|\bprogress deadline (?:reached|exceeded)",
        (*_SAID, Origin.VALIDATION),
        _DEADLINE,
        0.93,
        _F.JOBSPEC_INVALID,
        kind="deadline",
    ),
    row(
        r"(?i:\bdeployment\b.{0,60}\b(?:has not become|did not become|never became|not) healthy\b"
        r"|\bdeployment\b.{0,60}\b(?:timed out|deadline exceeded)\b)",
        _SAID,
        _DEADLINE,
        0.88,
        kind="deadline",
    ),
    row(r"\bFailed due to unhealthy allocations\b", _SAID, _DEADLINE, 0.88, kind="unhealthy"),
    row(
        r"\b[Aa]lloc(?:ation)? [Uu]nhealthy\b|\bhealthy_deadline\b|\bnot (?:running"
        r"|healthy) (?:for .{0,40})?by (?:the )?(?:\w+ )?deadline"
        r"|\bTask not running by deadline|\bUnhealthy because of failed task",
        _SAID,
        _DEADLINE,
        0.8,
        kind="unhealthy",
    ),
)

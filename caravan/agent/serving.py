"""A model server on the cluster: proved, registered once, followed until it is healthy, looked at, ended.

It knows no terminal and no file: what was decided and approved is handed in. Nothing here reads the API key.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from caravan.agent.ending import has_ended
from caravan.diagnosis.serving import Reason, why_not_served
from caravan.hcl import mismatches, parse_hcl, render_hcl
from caravan.planning.jobspec import knows_max_run
from caravan.planning.policy import job_denials
from caravan.planning.serving_job import META_SERVES, TASK, TEMPLATE, key_path
from caravan.ports import Clock, Cluster
from caravan.values.base import Json, sha256_text
from caravan.values.errors import ClusterDenied, ClusterError, ClusterUnreachable, JobConflict, JobNotFound, JobRefused
from caravan.values.job import META_SHA, JobSpec, RegisteredJob
from caravan.values.policy import Policies
from caravan.values.run import Allocation, Phase, Snapshot
from caravan.values.serving import KEY_ITEM

_LOG: Final = 64 << 10  # bytes of the server's log that are looked at for a cause
_ASK_S: Final = 2.0  # seconds between two looks at the checks
_ALIKE: Final = 3  # placements that failed in the same way, after which no further one is waited for
_ENDS: Final = ("Driver Failure", "Terminated", "Setup Failure", "Failed Validation", "Failed Artifact Download")
_NUMBERS: Final = re.compile(r"\b(?=[0-9a-f-]*\d)[0-9a-f-]{3,}\b")
_KEY_BYTES: Final = 32


class Served(NamedTuple):
    """How a server stands. `url` is empty while it is registered nowhere; `reason` says why it is not healthy."""

    healthy: bool
    url: str = ""
    node: str = ""
    phase: Phase = Phase.GONE
    reason: str = ""
    known: Reason | None = None
    restarts: int = 0
    job: RegisteredJob | None = None

    @property
    def broken(self) -> bool:
        """Whether it will not come up by itself."""
        return self.phase in (Phase.ENDED, Phase.GONE) or (self.known is not None and self.known.final)


def new_key() -> str:
    """An API key, at random."""
    return secrets.token_urlsafe(_KEY_BYTES)


def mark_of(key: str) -> str:
    """What tells one key from another and tells nothing of either: they have 256 bits."""
    return sha256_text(key)[:16]


def prove(spec: JobSpec, cluster: Cluster, policies: Policies, templates: Path) -> tuple[str, dict[str, Json]]:
    """The job's HCL and JSON as they are registered. Raises JobRefused for what policies or cluster do not take."""
    hcl = render_hcl(spec, templates=templates, template=TEMPLATE)
    different = mismatches(spec, parse_hcl(hcl))
    if different:
        raise JobRefused(f"The job reads back differently: {different[0]}.")
    if policies.trouble:
        raise JobRefused(f"Nothing is deployed: {policies.trouble}")
    job = cluster.parse(hcl)
    different = mismatches(spec, job)
    if different:
        raise JobRefused(f"The cluster reads the job differently: {different[0]}.")
    denials = job_denials(job, policies, timed=knows_max_run(cluster.facts().version))
    if denials:
        raise JobRefused(" ".join(denial.line() for denial in denials[:4]), hint="Ask whoever administers the policy.")
    dry = cluster.check(job)
    if dry.errors:
        raise JobRefused(f"The cluster does not take the job: {dry.errors[0]}.")
    return hcl, dict(job)


def waits_for(job: dict[str, Json], cluster: Cluster) -> tuple[str, ...]:
    """Why the job would have no place now, a line each; empty: it has one."""
    return tuple(failure.line() for failure in cluster.check(job).failures)


def there(cluster: Cluster, name: str, namespace: str) -> RegisteredJob | None:
    """The server's job, if it lives. Raises JobConflict for a job of that name that serves no model of ours."""
    found = cluster.find(name, namespace)
    if found is not None and META_SERVES not in found.meta:
        raise JobConflict(
            f"The job {name} in the namespace {namespace} is somebody else's.", hint="Give another --name."
        )
    return found


def lives(job: RegisteredJob | None) -> bool:
    """Whether the job has not ended."""
    return job is not None and not job.stopped and not has_ended(job)


def write_key(cluster: Cluster, name: str, namespace: str, key: str) -> None:
    """Write the API key to the variable that the job alone may read, by check-and-set."""
    cluster.write_variable(key_path(name), {KEY_ITEM: key}, namespace)


def has_key(cluster: Cluster, name: str, namespace: str) -> bool:
    """Whether the variable is there with a key. The key itself is not read."""
    return KEY_ITEM in (cluster.variable_names(key_path(name), namespace) or ())


def register(cluster: Cluster, spec: JobSpec, job: Mapping[str, Json], before: RegisteredJob | None) -> RegisteredJob:
    """Register the job once, in place of what was seen before; what is there already as this one is taken over.

    Raises JobConflict when somebody else registered meanwhile.
    """
    namespace = spec.namespace or "default"
    try:
        return cluster.register(job, replaces=before.modify_index if before else 0)
    except (JobConflict, ClusterUnreachable) as error:
        found = cluster.find(spec.id, namespace)  # it may have been our own registration, whose answer was lost
        if found is not None and found.spec_sha256 == spec.meta[META_SHA] and lives(found):
            return found
        if isinstance(error, ClusterUnreachable):
            raise
        raise JobConflict(
            f"The job {spec.id} was changed by somebody else meanwhile.", hint="Look at it, then try again."
        ) from error


def follow(
    cluster: Cluster,
    name: str,
    namespace: str,
    clock: Clock,
    *,
    queue_s: float,
    start_s: float,
    told: Callable[[Served], None],
) -> Served:
    """Watch the server until it is healthy, will not come up, or the time is over. `told` sees each change.

    `queue_s`: seconds to wait for a place; `start_s`: then, to be healthy.
    """
    ask_at = clock.monotonic()
    until, placed = ask_at + queue_s, False
    last: Served | None = None
    logs = _Logs(cluster)
    for snapshot in cluster.watch(name, namespace):
        now = clock.monotonic()
        if not placed and snapshot.phase in (Phase.STARTING, Phase.RUNNING):
            until, placed = now + start_s, True
        if now >= ask_at or snapshot.phase in (Phase.ENDED, Phase.GONE):
            ask_at = now + _ASK_S
            seen = _judged(cluster, name, namespace, snapshot, logs)
            if last is None or seen[:6] != last[:6]:
                told(seen)
            last = seen
            if seen.healthy or seen.broken:
                return seen
        if now >= until:
            break
    return last or Served(False)


def look(cluster: Cluster, name: str, namespace: str) -> Served:
    """How the server stands now."""
    seen = _judged(cluster, name, namespace, cluster.snapshot(name, namespace), _Logs(cluster))
    return seen._replace(job=cluster.find(name, namespace))


def stop(cluster: Cluster, name: str, namespace: str, *, free_key: bool) -> bool:
    """End the server; whether there was one. `free_key` removes its Nomad variable too, or overwrites the key."""
    found = there(cluster, name, namespace)
    if found is not None:
        cluster.stop(name, namespace)
    if free_key:
        try:
            cluster.remove_variable(key_path(name), namespace)
        except ClusterDenied:  # a right of its own; with an empty key vLLM would ask for none
            write_key(cluster, name, namespace, new_key())
    return lives(found)


class _Logs:
    """The ends of a server's logs: each look reads on from where the last one came to."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._read: dict[tuple[str, str], tuple[int, bytes]] = {}

    def lines(self, alloc_id: str) -> list[str]:
        """The last lines of both of the task's logs; what can't be had is left out."""
        lines: list[str] = []
        for stream in ("stdout", "stderr"):
            try:
                data = self._tail(alloc_id, stream)
            except ClusterError:  # never started, or collected
                continue
            lines += data.decode("utf-8", "replace").splitlines()
        return lines

    def _tail(self, alloc_id: str, stream: str) -> bytes:
        offset, kept = self._read.get((alloc_id, stream), (0, b""))
        while data := self._cluster.logs(alloc_id, TASK, stream, offset=offset):
            offset += len(data)
            kept = (kept + data)[-_LOG:]
        self._read[alloc_id, stream] = offset, kept
        return kept


def _judged(cluster: Cluster, name: str, namespace: str, snapshot: Snapshot, logs: _Logs) -> Served:
    """How it stands. A cause is looked for while it is not healthy: what ended an earlier start may be over."""
    allocation = _newest(snapshot)
    seen = Served(False, phase=snapshot.phase, reason=snapshot.reason)
    if allocation is None:
        return seen
    state = next((t for t in allocation.tasks if t.name == TASK), None)
    seen = seen._replace(node=allocation.node_name, restarts=state.restarts if state else 0)
    ended = allocation.client_status in ("failed", "lost") or (
        state is not None and state.failed and state.state != "running"
    )
    runs = allocation.client_status == "running" and snapshot.phase in (Phase.RUNNING, Phase.STARTING)
    if runs and not ended:
        seen = _checked(cluster, name, namespace, allocation, seen)
    if not seen.healthy and (ended or seen.restarts or snapshot.phase is Phase.STARTING):
        said = logs.lines(allocation.id) if ended or seen.restarts else ()
        seen = seen._replace(known=why_not_served([*_events(allocation), *said]) or _always(snapshot, allocation))
    return seen


def _always(snapshot: Snapshot, newest: Allocation) -> Reason | None:
    """That all placements of this version failed, the last ones in the same way; None: they did not, or too few yet."""
    failed = [a for a in snapshot.allocations if a.client_status == "failed" and a.job_version == newest.job_version]
    last = failed[-_ALIKE:]
    words = {_end(a) for a in last}
    if len(last) < _ALIKE or len(words) > 1 or any(a.client_status == "running" for a in snapshot.allocations):
        return None
    advice = "Look at its log (stderr of the task), and at what --set, --image and the model's name say."
    return Reason(f"it failed {len(failed)} times, the last {_ALIKE} in the same way", advice, words.pop())


def _end(allocation: Allocation) -> str:
    """The last thing that was said of the allocation's end, without the numbers that are others each time."""
    said = [text for text in _events(allocation, ends=True) if text]
    return _NUMBERS.sub("N", said[-1]) if said else ""


def _checked(cluster: Cluster, name: str, namespace: str, allocation: Allocation, seen: Served) -> Served:
    try:
        checks = cluster.checks(allocation.id)
        places = cluster.services(name, namespace)
    except JobNotFound:  # gone since
        return seen
    place = next((p for p in places if p.alloc_id in ("", allocation.id)), None)
    if place is not None:
        seen = seen._replace(url=f"http://{place.host}/v1")
    bad = next((c for c in checks if c.status != "success"), None)
    if checks and bad is None and place is not None:
        return seen._replace(healthy=True, reason="")
    if bad is not None and bad.status == "pending":
        return seen._replace(reason="it has started and is asked for the first time")
    if bad is not None:
        return seen._replace(reason=f"it has started and does not answer yet ({bad.output or bad.name})")
    return seen._replace(reason="it has started and is registered nowhere yet")


def _newest(snapshot: Snapshot) -> Allocation | None:
    wanted = [a for a in snapshot.allocations if a.desired_status == "run"] or list(snapshot.allocations)
    return wanted[-1] if wanted else None


def _events(allocation: Allocation, *, ends: bool = False) -> Iterator[str]:
    """What was said of the allocation; with `ends` of failed starts and ended tasks alone."""
    for task in allocation.tasks:
        for event in task.events:
            if ends and event.type not in _ENDS:
                continue
            yield event.message
            yield from (text for name, text in event.details.items() if name in ("driver_error", "exit_message"))
    yield "" if ends else allocation.client_description

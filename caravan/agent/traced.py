"""The ports Cluster, Memory and Reasoner with a span around each call. Transparent: same answers, same exceptions.

A watch is one span for its whole length. Within it only changes are written, each as a moment, and every ten minutes
one that tells how far it has come; whoever asks the cluster again and again meanwhile (logs, facts, files) is counted.
So a watch writes six lines an hour, whatever the job does. Attributes are small; the tracer masks and bounds them.
Nothing is decided here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from caravan.ports import Clock, Cluster, Memory, Reasoner, Span, Toolbox, Tracer
from caravan.values.base import Json
from caravan.values.dialogue import Question
from caravan.values.errors import CaravanError
from caravan.values.failure import Diagnosis, Evidence, Exported, Lesson, PastCase, Repair
from caravan.values.job import (
    CheckResult,
    ClusterFacts,
    DryRun,
    FileEntry,
    RegisteredJob,
    ServiceAddress,
    TokenFacts,
)
from caravan.values.plan import PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.run import Phase, Snapshot

_MOST_CHANGES = 100
"""Changes of phase that one watch writes as moments; a job that restarts for days has no end of them. The last phase
is always written."""

_SIGN_S = 600.0
"""Seconds between two signs of life of a watch: what is known of one whose process is killed."""

_MOST_NAMED = 5  # errors, cases or changes that are told one by one


class TracedCluster:
    """A Cluster that tells the tracer."""

    def __init__(self, cluster: Cluster, tracer: Tracer, clock: Clock) -> None:
        self._cluster = cluster
        self._tracer = tracer
        self._clock = clock
        self._watches: list[_Watch] = []

    def facts(self) -> ClusterFacts:
        """As the cluster answers."""
        with self._look("facts") as span:
            facts = self._cluster.facts()
            usable, version = len(facts.usable_nodes()), f"{facts.kind.value} {facts.version}".strip()
            span.set(nodes=len(facts.nodes), usable=usable, cluster=version)
            return facts

    def parse(self, hcl: str) -> Json:
        """As the cluster answers."""
        with self._call("parse", hcl_bytes=len(hcl.encode("utf-8", "replace"))):
            return self._cluster.parse(hcl)

    def check(self, job: Json) -> DryRun:
        """As the cluster answers."""
        with self._call("check", job=_job_id(job)) as span:
            answer = self._cluster.check(job)
            span.set(
                errors=_few(answer.errors),
                warnings=len(answer.warnings),
                placement_failures=_few(f.line() for f in answer.failures),
            )
            return answer

    def find(self, job_id: str, namespace: str = "default") -> RegisteredJob | None:
        """As the cluster answers."""
        with self._look("find", job=job_id) as span:
            found = self._cluster.find(job_id, namespace)
            span.set(found=found.status if found else "no")
            return found

    def register(self, job: Json, *, replaces: int = 0) -> RegisteredJob:
        """As the cluster answers."""
        with self._call("register", job=_job_id(job)) as span:
            registered = self._cluster.register(job, replaces=replaces)
            span.set(modify_index=registered.modify_index)
            return registered

    def services(self, name: str, namespace: str = "default") -> tuple[ServiceAddress, ...]:
        """As the cluster answers."""
        with self._look("services", service=name) as span:
            found = self._cluster.services(name, namespace)
            span.set(found=len(found))
            return found

    def checks(self, alloc_id: str) -> tuple[CheckResult, ...]:
        """As the cluster answers."""
        with self._look("checks", alloc=alloc_id[:8]) as span:
            found = self._cluster.checks(alloc_id)
            span.set(checks=_few(f"{c.name}: {c.status}" for c in found))
            return found

    def snapshot(self, job_id: str, namespace: str = "default") -> Snapshot:
        """As the cluster answers."""
        with self._look("snapshot", job=job_id) as span:
            snapshot = self._cluster.snapshot(job_id, namespace)
            span.set(phase=snapshot.phase.value, reason=snapshot.reason)
            return snapshot

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        """As the cluster answers; the span begins with the first snapshot asked for and ends with the iterator."""
        with self._tracer.span("watch", "cluster", job=job_id) as span:
            watch = _Watch(self._tracer, self._clock)
            self._watches.append(watch)
            snapshots = self._cluster.watch(job_id, namespace)
            try:
                for snapshot in snapshots:
                    watch.saw(snapshot)
                    yield snapshot
            finally:
                self._watches.remove(watch)
                span.set(**watch.attributes())
                close = getattr(snapshots, "close", None)
                if close is not None:
                    close()

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """As the cluster answers."""
        with self._look("logs", alloc=alloc_id[:8], task=task, stream=stream, offset=offset) as span:
            data = self._cluster.logs(alloc_id, task, stream, offset=offset, limit=limit)
            span.set(bytes=len(data))
            if self._watches:
                self._watches[-1].log_bytes += len(data)
            return data

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        """As the cluster answers."""
        with self._look("read_file", alloc=alloc_id[:8], path=path) as span:
            data = self._cluster.read_file(alloc_id, path)
            span.set(**({"found": "no"} if data is None else {"bytes": len(data)}))
            return data

    def follow_log(self, alloc_id: str, task: str, stream: str, *, offset: int = 0) -> Iterator[bytes]:
        """As the cluster answers; its span tells how much came."""
        with self._look("follow_log", alloc=alloc_id[:8], task=task, stream=stream, offset=offset) as span:
            came = 0
            for data in self._cluster.follow_log(alloc_id, task, stream, offset=offset):
                came += len(data)
                span.set(bytes=came)
                yield data

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...] | None:
        """As the cluster answers."""
        with self._look("list_files", alloc=alloc_id[:8], path=path) as span:
            found = self._cluster.list_files(alloc_id, path)
            span.set(entries="none" if found is None else len(found))
            return found

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        """As the cluster answers."""
        with self._look("read_part", alloc=alloc_id[:8], path=path, offset=offset) as span:
            data = self._cluster.read_part(alloc_id, path, offset=offset, limit=limit)
            span.set(bytes=len(data))
            return data

    def variable_names(self, path: str, namespace: str = "default") -> frozenset[str] | None:
        """As the cluster answers."""
        with self._look("variable_names", path=path) as span:
            names = self._cluster.variable_names(path, namespace)
            span.set(names="none" if names is None else len(names))
            return names

    def write_variable(self, path: str, items: Mapping[str, str], namespace: str = "default") -> None:
        """As the cluster answers; the trace holds the items' names, never their values."""
        with self._call("write_variable", path=path, names=sorted(items)):
            self._cluster.write_variable(path, items, namespace)

    def remove_variable(self, path: str, namespace: str = "default") -> None:
        """As the cluster answers."""
        with self._call("remove_variable", path=path):
            self._cluster.remove_variable(path, namespace)

    def token(self) -> TokenFacts | None:
        """As the cluster answers."""
        with self._look("token") as span:
            token = self._cluster.token()
            span.set(policies=len(token.policies) if token else 0)
            return token

    def stop(self, job_id: str, namespace: str = "default", *, purge: bool = False) -> None:
        """As the cluster answers."""
        with self._call("stop", job=job_id, purge=purge):
            self._cluster.stop(job_id, namespace, purge=purge)

    def _call(self, name: str, **attributes: Json) -> AbstractContextManager[Span]:
        return self._tracer.span(name, "cluster", **attributes)

    def _look(self, name: str, **attributes: Json) -> AbstractContextManager[Span]:
        """A span, or within a watch a count."""
        return self._watches[-1].counted(name) if self._watches else self._call(name, **attributes)


class _Watch:
    """What a watch has seen so far."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock
        self._last_sign = clock.monotonic()
        self._snapshots = 0
        self._changes = 0
        self._phase: Phase | None = None
        self._reason = ""
        self._calls: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._last_error = ""
        self.log_bytes = 0

    def saw(self, snapshot: Snapshot) -> None:
        """Count a snapshot; one in another phase than the last is a moment of its own."""
        self._snapshots += 1
        self._reason = snapshot.reason
        if self._clock.monotonic() - self._last_sign >= _SIGN_S:
            self._last_sign = self._clock.monotonic()
            self._tracer.event("watching", **self.attributes())
        if snapshot.phase is self._phase:
            return
        self._phase = snapshot.phase
        self._changes += 1
        if self._changes <= _MOST_CHANGES or snapshot.phase in (Phase.ENDED, Phase.GONE):
            node = next((a.node_name for a in reversed(snapshot.allocations) if a.node_name), "")
            self._tracer.event("phase", phase=snapshot.phase.value, reason=snapshot.reason, node=node)

    @contextmanager
    def counted(self, name: str) -> Iterator[Span]:
        """A call that is counted and has no span of its own."""
        self._calls[name] += 1
        try:
            yield _Counted()
        except CaravanError as error:
            self._failed[name] += 1
            self._last_error = f"{name}: {error.message}"
            raise

    def attributes(self) -> dict[str, Json]:
        """What the watch's span tells at its end."""
        told: dict[str, Json] = {"snapshots": self._snapshots, "phase": self._phase.value if self._phase else None}
        told |= {"reason": self._reason, "phase_changes": self._changes, "log_bytes": self.log_bytes}
        told |= {"calls": dict(self._calls)}
        if self._failed:
            told |= {"failed_calls": dict(self._failed), "last_error": self._last_error}
        return told


class _Counted:
    id = ""

    def set(self, **attributes: Json) -> None:
        pass


class TracedMemory:
    """A Memory that tells the tracer."""

    def __init__(self, memory: Memory, tracer: Tracer) -> None:
        self._memory = memory
        self._tracer = tracer

    def recall(
        self, *, text: str, diagnosis: Diagnosis | None, context: dict[str, Json], limit: int = 5
    ) -> tuple[PastCase, ...]:
        """As the memory answers."""
        sought = {"failure_class": diagnosis.failure.value, "fingerprint": diagnosis.fingerprint} if diagnosis else {}
        with self._tracer.span("recall", "memory", **sought) as span:
            cases = self._memory.recall(text=text, diagnosis=diagnosis, context=context, limit=limit)
            span.set(found=len(cases), cases=[_case(c) for c in cases[:_MOST_NAMED]])
            return cases

    def remember(self, lesson: Lesson) -> str:
        """As the memory answers."""
        failure = lesson.failure.value if lesson.failure else None
        changes = _few(c.path for c in lesson.changes)
        with self._tracer.span("remember", "memory", failure_class=failure, worked=lesson.worked, changes=changes) as s:
            case_id = self._memory.remember(lesson)
            s.set(case=case_id)
            return case_id

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        """As the memory answers."""
        with self._tracer.span("all", "memory") as span:
            cases = self._memory.all(limit=limit)
            span.set(found=len(cases))
            return cases

    def forget(self, case_id: str) -> bool:
        """As the memory answers."""
        with self._tracer.span("forget", "memory", case=case_id) as span:
            found = self._memory.forget(case_id)
            span.set(found=int(found))
            return found

    def export(self) -> tuple[dict[str, Json], ...]:
        """As the memory answers."""
        with self._tracer.span("export", "memory") as span:
            records = self._memory.export()
            span.set(found=len(records))
            return records

    def note_export(self, path: Path) -> None:
        """No span: a note is no call of the run's."""
        self._memory.note_export(path)

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:
        """No span, as for the note."""
        return self._memory.exports_of(case_id)

    def restore(self, record: Json) -> bool:
        """As the memory answers."""
        with self._tracer.span("restore", "memory") as span:
            new = self._memory.restore(record)
            span.set(new=new)
            return new

    def close(self) -> None:
        """No span: letting go is no call of the run's."""
        self._memory.close()


class TracedReasoner:
    """A Reasoner that tells the tracer. What it asks a language model is inside its spans."""

    def __init__(self, reasoner: Reasoner, tracer: Tracer) -> None:
        self._reasoner = reasoner
        self._tracer = tracer

    @property
    def name(self) -> str:
        """The reasoner's own."""
        return self._reasoner.name

    def refine_profile(self, profile: RepoProfile, prompt: str, toolbox: Toolbox) -> RepoProfile:
        """As the reasoner answers."""
        with self._call("refine_profile") as span:
            refined = self._reasoner.refine_profile(profile, prompt, toolbox)
            changed = [f for f in RepoProfile.model_fields if getattr(refined, f) != getattr(profile, f)]
            span.set(changes=_few(changed), entry_point=refined.entry_point)
            return refined

    def questions(
        self, profile: RepoProfile, prompt: str, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[Question, ...]:
        """As the reasoner answers."""
        with self._call("questions") as span:
            questions = self._reasoner.questions(profile, prompt, facts, cases)
            span.set(questions=_few(q.id for q in questions))
            return questions

    def propose(
        self, plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[PlanChange, ...]:
        """As the reasoner answers."""
        with self._call("propose", cases_given=len(cases)) as span:
            changes = self._reasoner.propose(plan, profile, facts, cases)
            span.set(changes=_few(c.path for c in changes))
            return changes

    def diagnose(self, evidence: Evidence, plan: TrainingPlan, cases: Sequence[PastCase]) -> Diagnosis:
        """As the reasoner answers."""
        with self._call("diagnose", stage=evidence.stage.value, exit_code=evidence.exit_code) as span:
            found = self._reasoner.diagnose(evidence, plan, cases)
            span.set(
                failure_class=found.failure.value,
                confidence=found.confidence,
                fingerprint=found.fingerprint,
                escalate=found.escalate,
                cause=found.cause,
            )
            return found

    def repairs(
        self,
        diagnosis: Diagnosis,
        plan: TrainingPlan,
        profile: RepoProfile,
        cases: Sequence[PastCase],
        facts: ClusterFacts,
        toolbox: Toolbox,
    ) -> tuple[Repair, ...]:
        """As the reasoner answers."""
        with self._call("repairs", failure_class=diagnosis.failure.value, cases_given=len(cases)) as span:
            ladder = self._reasoner.repairs(diagnosis, plan, profile, cases, facts, toolbox)
            span.set(repairs=len(ladder), first=_few(f"{r.kind}: {r.why}" for r in ladder))
            return ladder

    def _call(self, name: str, **attributes: Json) -> AbstractContextManager[Span]:
        return self._tracer.span(name, "reasoner", by=self._reasoner.name, **attributes)


def _case(case: PastCase) -> dict[str, Json]:
    failure = case.failure.value if case.failure else None
    return {"case": case.id, "score": case.score, "why": case.why, "failure_class": failure, "times": case.times}


def _job_id(job: Json) -> Json:
    return job.get("ID") if isinstance(job, dict) else None


def _few(texts: Iterable[str]) -> list[Json]:
    """The first texts, and how many more there are. They are cut by the tracer, which masks them first."""
    every = list(texts)
    more = len(every) - _MOST_NAMED
    return every[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])

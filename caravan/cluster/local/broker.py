"""The server's side: registering and stopping jobs, processing evaluations, running blocked ones again.

It owns no process and no socket: what it places and stops it hands to a `Client`.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from caravan.cluster.local import cautions, scheduler, validation
from caravan.cluster.local.allocs import new_alloc
from caravan.cluster.local.canonical import canonical_job, group_of, same_spec, waits_for_dispatch
from caravan.cluster.local.client import Client
from caravan.cluster.local.diff import job_diff
from caravan.cluster.local.evaluations import answered, blocked_by, new_evaluation, stored_job
from caravan.cluster.local.implied import with_implied
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.reconcile import (
    MOVED,
    RESCHEDULED,
    UPDATED,
    Decision,
    before_which,
    reconcile,
    reschedule_at,
)
from caravan.cluster.local.state import AllocRecord, Change, State
from caravan.cluster.local.words import SECOND, JsonDict, grouped, new_id, now_ns, rfc3339

NAMESPACES = ("default",)
_FOLLOWED = (RESCHEDULED, UPDATED)  # these stay as they are when there is no room for what would follow
_GATHER = 0.1  # seconds in which others of a job may fail too: Nomad's clients report in such intervals
_TOGETHER = 5 * SECOND  # failed allocations whose times are as near as this are placed anew together
_log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that Nomad answers with an error. `status` is the HTTP status, the text its body."""

    def __init__(self, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class Broker:
    """Turns requests into evaluations, and evaluations into allocations."""

    def __init__(self, state: State, machines: Sequence[Node]) -> None:
        self._state = state
        self._machines = machines
        self._client: Client | None = None
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._waiting: dict[str, str] = {}  # allocations that run as soon as those whose place they take have ended

    @property
    def pools(self) -> list[str]:
        """The node pools: the built-in ones and those of the nodes."""
        return sorted({"all", "default", *(n.node_pool for n in self._machines)})

    async def serve(self, client: Client) -> None:
        """Process evaluations until cancelled, those first that a former process has left open."""
        self._client = client
        for evaluation in sorted(self._state.open_evals.values(), key=lambda e: int(e["CreateIndex"])):
            if evaluation["Status"] == "pending":
                self._enqueue(evaluation)
        self._catch_up()
        self.unblock()
        while True:
            eval_id = await self._queue.get()
            self._queued.discard(eval_id)
            self._process(eval_id)
            await asyncio.sleep(0)  # many may wait: requests are answered in between

    def _catch_up(self) -> None:
        """Follow up the ends that a former process has written down, but died before it drew its conclusions."""
        for record in self._state.holding.values():
            before = before_which(self._state.holding, record)
            if before is not None:
                self._waiting[before] = record.id
        pending = {e["JobID"] for e in self._state.open_evals.values()}
        for record in list(self._state.allocs.values()):
            followed = record.body.get("NextAllocation") or record.body.get("FollowupEvalID")
            if record.client_terminal and not followed and record.body["JobID"] not in pending:
                self._conclude(record)

    def check(self, job: JsonDict) -> tuple[JsonDict, list[str], str]:
        """The canonical job, what it would be refused for, and warnings."""
        whole = with_implied(canonical_job(job))
        errors = validation.errors_of(whole, namespaces=NAMESPACES, pools=self.pools)
        return whole, errors, cautions.warnings_of(whole)

    def register(self, job: JsonDict, *, enforce: int | None) -> JsonDict:
        """Store a job and evaluate it. `enforce`: the JobModifyIndex that it must have now, 0 for a new job.

        Raises Refused for an invalid job and a failed check-and-set.
        """
        whole, errors, warnings = self.check(job)
        if errors:
            raise Refused(grouped(errors))
        if refused := validation.transition(self._state.jobs.get(whole["ID"]), whole, enforce):
            raise Refused(refused)
        return self.submit(whole) | {"Warnings": warnings}

    def submit(self, whole: JsonDict, why: str = "job-register") -> JsonDict:
        """Store a canonical job and evaluate it; one that waits to be dispatched is only stored."""
        known = self._state.jobs.get(whole["ID"])
        evaluation: JsonDict | None = None
        with self._state.change("JobRegistered") as change:
            stored = known
            if known is None or not same_spec(known, whole):
                stored = stored_job(whole, known, change)
                change.put_job(stored, version=True)
            if not waits_for_dispatch(whole):
                made = new_evaluation(whole["ID"], whole["Type"], why, whole["Priority"])
                if stored is not known and stored is not None:
                    made["JobModifyIndex"] = stored["JobModifyIndex"]
                evaluation = change.put_eval(made)
        if evaluation is not None:
            self._enqueue(evaluation)
        index = change.index if stored is not known else (known or {})["ModifyIndex"]
        return answered(evaluation, index)

    def deregister(self, job_id: str, *, purge: bool) -> JsonDict:
        """Stop a job, or forget it too. A job that is not there is no error, as in Nomad."""
        known = self._state.jobs.get(job_id)
        if known is None:
            return {**answered(None, 0), "VolumeEvalID": "", "VolumeEvalIndex": 0}
        with self._state.change("JobDeregistered") as change:
            if purge:
                change.drop_job(job_id)
            else:
                marks = {"ModifyIndex": change.index, "JobModifyIndex": change.index}
                change.put_job({**known, **marks, "Stop": True, "Version": known["Version"] + 1}, version=True)
            evaluation: JsonDict = {"ID": "", "CreateIndex": change.index}  # for what waits to be dispatched
            if not waits_for_dispatch(known):
                made = new_evaluation(job_id, "service", "job-deregister", known["Priority"])
                evaluation = change.put_eval({**made, "JobModifyIndex": change.index})
        if evaluation["ID"]:
            self._enqueue(evaluation)
        return {**answered(evaluation, change.index), "VolumeEvalID": "", "VolumeEvalIndex": 0}

    def stop_alloc(self, record: AllocRecord) -> JsonDict:
        """Stop one allocation; its job gets another in its place, as in Nomad."""
        with self._state.change("AllocationUpdateDesiredStatus") as change:
            if not record.client_terminal:
                body = {**record.body, "DesiredStatus": "stop", "DesiredDescription": MOVED}
                change.put_alloc(replace(record, body=body))
            job = record.job
            evaluation = change.put_eval(new_evaluation(job["ID"], job["Type"], "alloc-stop", job["Priority"]))
        if self._client:
            self._client.stop(record.id)
        self._enqueue(evaluation)
        return {"EvalID": evaluation["ID"], "Index": change.index}

    def restart(self, record: AllocRecord, task: str) -> None:
        """Start a task of an allocation anew, or all of them. Raises Refused where none runs."""
        if self._client is None or not self._client.restart(record.id, task):
            raise Refused("Task not running", 500)

    def signal(self, record: AllocRecord, task: str, name: str) -> None:
        """Send a signal to a task of an allocation, or to all. Raises Refused where none runs, or for no signal."""
        try:
            sent = self._client is not None and self._client.signal(record.id, task, name)
        except ValueError as error:
            raise Refused(f"unknown signal {name}", 400) from error
        if not sent:
            raise Refused("Task not running", 500)

    def evaluate(self, job: JsonDict) -> JsonDict:
        """Evaluate a job again, as `POST /v1/job/:id/evaluate`."""
        with self._state.change("JobRegistered") as change:
            evaluation = change.put_eval(new_evaluation(job["ID"], job["Type"], "job-register", job["Priority"]))
        self._enqueue(evaluation)
        return answered(evaluation, job["ModifyIndex"])

    def plan(self, job: JsonDict, *, diff: bool) -> JsonDict:
        """What registering the job would do; nothing is stored. Raises Refused for an invalid job."""
        whole, errors, warnings = self.check(job)
        if errors:
            raise Refused(grouped(errors))
        known = self._state.jobs.get(whole["ID"])
        trial = {**whole, "CreateIndex": self._state.index + 1, "Version": 0}
        if known is not None:
            changed = not same_spec(known, whole)
            trial |= {"CreateIndex": known["CreateIndex"], "Version": known["Version"] + changed}
        decision = reconcile(trial, self._state.allocs_of(whole["ID"]), now_ns())
        _, failed = self._place(trial, decision, new_id())
        created = None
        if failed:
            blocked = blocked_by(
                new_evaluation(whole["ID"], whole["Type"], "", whole["Priority"]), failed, self._state.index
            )
            created = [{**blocked, "CreateTime": now_ns(), "ModifyTime": now_ns()}]
        return {
            "Annotations": {"DesiredTGUpdates": decision.updates, "PreemptedAllocs": None},
            "CreatedEvals": created,
            "Diff": job_diff(known, whole, decision.updates) if diff else None,
            "FailedTGAllocs": {g: m.shown() for g, m in failed.items()} or None,
            "JobModifyIndex": known["JobModifyIndex"] if known else 0,
            "NextPeriodicLaunch": None,
            "Warnings": warnings,
            "Index": known["JobModifyIndex"] if known else 0,
        }

    def freed(self, record: AllocRecord) -> None:
        """An allocation has ended: place it anew if it is to be, start what waits for it, try what is blocked."""
        follower = self._waiting.pop(record.id, None)
        if follower is not None and self._client:
            self._client.run(follower)
            if self._state.allocs[follower].body["DesiredStatus"] == "stop":  # while it waited
                self._client.stop(follower)
        self._conclude(record)
        self.unblock()

    def _conclude(self, record: AllocRecord) -> None:
        """Evaluate the job of an allocation that has ended, if it is to have another in its place."""
        job = self._state.jobs.get(record.body["JobID"])
        group = group_of(record.job, record.body["TaskGroup"])
        newest = self._state.allocs.get(record.id)
        if job is not None and group is not None and newest is not None and not job["Stop"]:
            at = reschedule_at(newest, group)
            if at is not None or newest.body["ClientStatus"] == "lost":
                self._follow_up(newest, job, at)

    def _follow_up(self, record: AllocRecord, job: JsonDict, at: int | None) -> None:
        """Evaluate a job of which an allocation has failed or is lost."""
        with self._state.change("EvaluationUpdated") as change:
            why = "alloc-failure" if at is not None else "node-update"
            evaluation = change.put_eval(new_evaluation(job["ID"], job["Type"], why, job["Priority"]))
            if at is None:
                change.put_alloc(replace(record, body={**record.body, "FollowupEvalID": evaluation["ID"]}))
        asyncio.get_running_loop().call_later(_GATHER, self._put, evaluation["ID"])

    def _put_off(self, change: Change, evaluation: JsonDict, later: list[tuple[AllocRecord, int]]) -> list[JsonDict]:
        """Evaluations at the times when failed allocations may be placed anew: one for those that are near together."""
        made: list[JsonDict] = []
        for record, at in sorted(later, key=lambda waiting: waiting[1]):
            if not made or at - int(made[-1]["WaitUntilNs"]) >= _TOGETHER:
                own = new_evaluation(
                    evaluation["JobID"], evaluation["Type"], "alloc-reschedule", evaluation["Priority"]
                )
                waits = {"WaitUntil": rfc3339(at), "WaitUntilNs": at, "PreviousEval": evaluation["ID"]}
                told = {"StatusDescription": "created for delayed rescheduling"}
                if made:  # as in Nomad, only the first is told as what it is
                    own, told = {**own, "TriggeredBy": "alloc-failure"}, {}
                made.append(change.put_eval({**own, **waits, **told}))
            change.put_alloc(replace(record, body={**record.body, "FollowupEvalID": made[-1]["ID"]}))
        return made

    def unblock(self) -> None:
        """Queue all blocked evaluations, the highest priority and the oldest first."""
        blocked = [e for e in self._state.open_evals.values() if e["Status"] == "blocked"]
        for evaluation in sorted(blocked, key=lambda e: (-int(e["Priority"]), int(e["CreateIndex"]))):
            self._put(evaluation["ID"])

    def _put(self, eval_id: str) -> None:
        if eval_id not in self._queued:
            self._queued.add(eval_id)
            self._queue.put_nowait(eval_id)

    def _enqueue(self, evaluation: JsonDict) -> None:
        wait = int(evaluation.get("WaitUntilNs") or 0) - now_ns()
        if wait <= 0:
            self._put(evaluation["ID"])
            return
        loop = asyncio.get_running_loop()
        self._timers[evaluation["ID"]] = loop.call_later(wait / SECOND, self._put, evaluation["ID"])

    def _place(
        self, job: JsonDict, decision: Decision, eval_id: str
    ) -> tuple[list[AllocRecord], dict[str, scheduler.Metrics]]:
        """Find nodes for what is wanted: the new allocations, and why the rest of a group has none."""
        held = {key: a.body for key, a in self._state.holding.items()}
        placed: list[AllocRecord] = []
        failed: dict[str, scheduler.Metrics] = {}
        for wanted in sorted(decision.place, key=lambda w: not w.instead):
            title = wanted.group["Name"]
            if title in failed:
                failed[title].coalesced += 1
                continue
            gone = held.pop(wanted.previous.id, None) if wanted.instead and wanted.previous else None
            found = scheduler.place(job, wanted.group, self._machines, held.values())
            if isinstance(found, scheduler.Metrics):
                failed[title] = found
                if gone is not None:
                    held[str(gone["ID"])] = gone
                continue
            record = AllocRecord(new_alloc(job, wanted, found, eval_id), job)
            held[record.id] = record.body
            placed.append(record)
        followed = {r.body.get("PreviousAllocation") for r in placed}
        decision.stop = [(r, why) for r, why in decision.stop if why not in _FOLLOWED or r.id in followed]
        return placed, failed

    def _process(self, eval_id: str) -> None:
        evaluation = self._state.evals.get(eval_id)
        self._timers.pop(eval_id, None)
        if evaluation is None or evaluation["Status"] not in ("pending", "blocked"):
            return
        job = self._state.jobs.get(evaluation["JobID"])
        now = max(now_ns(), int(evaluation.get("WaitUntilNs") or 0))  # a timer may come a moment too early
        decision = reconcile(job, self._state.allocs_of(evaluation["JobID"]), now, eval_id)
        placed, failed = self._place(job, decision, eval_id) if job else ([], {})
        if evaluation["Status"] == "blocked" and failed and not placed:
            return  # still no room: it stays blocked as it is
        self._finish(evaluation, job, decision, placed, failed)
        for record in placed:
            before = before_which(self._state.holding, record)
            if before is not None:
                self._waiting[before] = record.id
            elif self._client:
                self._client.run(record.id)
        for record, _ in decision.stop:
            if self._client:
                self._client.stop(record.id)
        self._collect()

    def _finish(
        self,
        evaluation: JsonDict,
        job: JsonDict | None,
        decision: Decision,
        placed: list[AllocRecord],
        failed: dict[str, scheduler.Metrics],
    ) -> None:
        """Store the plan's result, then the evaluation's end."""
        fields: JsonDict = {"SnapshotIndex": self._state.index, "Status": "complete"}
        with self._state.change("PlanResult") as change:
            for made in self._put_off(change, evaluation, decision.later):
                self._enqueue(made)
            for record, why in decision.stop:
                body = {**record.body, "DesiredStatus": "stop", "DesiredDescription": why}
                change.put_alloc(replace(record, body=body))
            for record in decision.keep:
                change.put_alloc(replace(record, job=job or record.job))
            for record in placed:
                change.put_alloc(record)
                self._link(change, record)
            self._cancel_blocked(change, evaluation)
            if failed and evaluation["Status"] == "blocked":
                change.put_eval(evaluation)  # as in Nomad, it goes on being blocked for the rest
                return
            if failed:
                blocked = change.put_eval(blocked_by(evaluation, failed, self._state.index))
                fields["BlockedEval"] = blocked["ID"]
        queued = dict.fromkeys(decision.updates, 0)
        for title, metrics in failed.items():
            queued[title] = 1 + metrics.coalesced
        fields["QueuedAllocations"] = queued
        if decision.updates:
            fields["PlanAnnotations"] = {"DesiredTGUpdates": decision.updates, "PreemptedAllocs": None}
        with self._state.change("EvaluationUpdated") as change:
            rest = {k: v for k, v in evaluation.items() if k not in ("FailedTGAllocs", "ClassEligibility")}
            if failed:
                fields["FailedTGAllocs"] = {g: m.shown() for g, m in failed.items()}
            if evaluation["Status"] == "blocked":
                rest.pop("StatusDescription", None)
            change.put_eval({**rest, **fields})

    def _cancel_blocked(self, change: Change, evaluation: JsonDict) -> None:
        """Other evaluations of the job that are blocked have nothing more to wait for."""
        for other in self._state.evals_of(evaluation["JobID"]):
            if other["Status"] == "blocked" and other["ID"] != evaluation["ID"]:
                why = f"evaluation {evaluation['ID']} has taken its place"
                change.put_eval({**other, "Status": "canceled", "StatusDescription": why})

    def _link(self, change: Change, record: AllocRecord) -> None:
        """Tell the allocation that another follows that it is followed."""
        key = str(record.body.get("PreviousAllocation") or "")
        previous = change.puts.get(("alloc", key)) or self._state.allocs.get(key)
        if previous is not None:
            change.put_alloc(replace(previous, body={**previous.body, "NextAllocation": record.id}))

    def _collect(self) -> None:
        """Drop what is over and no longer wanted, beyond what is kept."""
        allocs, evals = self._state.orphans(), self._state.stale_evals()
        if not allocs and not evals:
            return
        with self._state.change("Collected") as change:
            for alloc_id in allocs:
                change.drop_alloc(alloc_id)
            for eval_id in evals:
                change.drop_eval(eval_id)
        _log.info("collected %d allocations and %d evaluations", len(allocs), len(evals))
        for alloc_id in allocs:
            if self._client:
                self._client.forget(alloc_id)

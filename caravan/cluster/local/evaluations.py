"""Evaluations and what the API answers to those who cause one; a job as it is stored. Pure."""

from collections.abc import Mapping

from caravan.cluster.local.scheduler import Metrics
from caravan.cluster.local.state import Change
from caravan.cluster.local.words import JsonDict, new_id


def new_evaluation(job_id: str, kind: str, why: str, priority: int) -> JsonDict:
    """A pending evaluation of a job; `why` is what Nomad calls its trigger."""
    return {
        "ID": new_id(),
        "JobID": job_id,
        "Namespace": "default",
        "Priority": priority,
        "Status": "pending",
        "TriggeredBy": why,
        "Type": kind,
    }


def blocked_by(evaluation: JsonDict, failed: Mapping[str, Metrics], index: int) -> JsonDict:
    """The evaluation that waits for room, for what this one could not place; `index` is that of what it saw."""
    eligible: dict[str, bool] = {}
    for metrics in failed.values():
        eligible |= metrics.eligibility
    return {
        **new_evaluation(evaluation["JobID"], evaluation["Type"], "queued-allocs", evaluation["Priority"]),
        "ClassEligibility": eligible or None,
        "FailedTGAllocs": {g: m.shown() for g, m in failed.items()},
        "PreviousEval": evaluation["ID"],
        "SnapshotIndex": index,
        "Status": "blocked",
        "StatusDescription": "created to place remaining allocations",
    }


def answered(evaluation: JsonDict | None, index: int) -> JsonDict:
    """What a request is answered that has changed a job; `index` is the job's."""
    made = evaluation or {"ID": "", "CreateIndex": 0}
    return {
        "EvalCreateIndex": made["CreateIndex"],
        "EvalID": made["ID"],
        "Index": made["CreateIndex"],
        "JobModifyIndex": index,
        "KnownLeader": False,
        "LastContact": 0,
        "NextToken": "",
    }


def stored_job(job: JsonDict, known: JsonDict | None, change: Change) -> JsonDict:
    """A job's next version, as it is stored."""
    marks = {"ModifyIndex": change.index, "JobModifyIndex": change.index, "SubmitTime": change.now}
    if known is None:
        return {**job, **marks, "CreateIndex": change.index, "Version": 0, "Status": "pending"}
    same = {"CreateIndex": known["CreateIndex"], "Version": known["Version"] + 1, "Status": known["Status"]}
    return {**job, **marks, **same}

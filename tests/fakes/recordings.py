"""Recordings of a real Nomad (tests/data/nomad-recordings), played back as the documents that a client reads."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "data" / "nomad-recordings"


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def job_status(allocs: list[Any], evals: list[Any]) -> str:
    """The job's status as Nomad derives it from its allocations and evaluations."""
    if any(a["ClientStatus"] not in {"complete", "failed", "lost"} and a["DesiredStatus"] == "run" for a in allocs):
        return "running"
    if any(e["Status"] not in {"complete", "failed", "canceled"} for e in evals):
        return "pending"
    if any(e.get("BlockedEval") not in {None, "", *(o["ID"] for o in evals)} for e in evals):
        return "pending"  # the recorder read them one by one: the blocked one comes with the next state
    placed = [e for e in evals if e["Status"] == "complete" and e.get("QueuedAllocations")]
    if not allocs and any(not e.get("FailedTGAllocs") for e in placed):
        return "running"  # the recorder read the evaluations first, so the allocation comes with the next state
    return "dead" if allocs or evals else "pending"


def states(name: str, job_id: str | None = None) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """Each recorded state of a job in order: (job or None, allocations, evaluations)."""
    job: Any = None
    allocs: dict[str, Any] = {}
    evals: dict[str, Any] = {}
    for exchange in load(name)["exchanges"]:
        path, answer = exchange["path"].split("?")[0], exchange["answer"]
        if path == "/v1/jobs" and exchange["method"] == "POST" and exchange["status"] == 200:
            job_id = job_id or exchange["body"]["Job"]["ID"]
            if exchange["body"]["Job"]["ID"] == job_id:
                job = {**exchange["body"]["Job"], "CreateIndex": 0, "JobModifyIndex": answer["JobModifyIndex"]}
        elif job and path == f"/v1/job/{job['ID']}" and exchange["method"] == "DELETE":
            if "purge=true" in exchange["path"]:
                return
            job = {**job, "Stop": True}
        elif job and (match := re.fullmatch(r"/v1/(evaluation|allocation)/[0-9a-f-]{36}", path)):
            if not isinstance(answer, dict) or answer["JobID"] != job["ID"]:
                continue
            (evals if match[1] == "evaluation" else allocs)[answer["ID"]] = answer
        else:
            continue
        if job:
            a, e = list(allocs.values()), list(evals.values())
            yield {**job, "Status": job_status(a, e)}, a, e


def last_state(name: str, job_id: str | None = None) -> tuple[Any, list[Any], list[Any]]:
    """The last state before the job was purged."""
    return list(states(name, job_id))[-1]

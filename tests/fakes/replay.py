"""Recordings of a real Nomad put to another cluster: their steps run again, and both traces compared in one form.

`tests/data/nomad-recordings/README.md` says what a recording holds. Ids, times, indexes, ports and hashes are masked,
states in between left out; compared are status codes, error texts, canonical jobs, placement failures with their
counts, the last states of evaluations and allocations with all their task events, summaries and logs.
"""

import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import requests

_MASKS = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r"sha256:[0-9a-f]{12,64}", "HASH"),
        (r"\b[0-9a-f]{63,64}\b", "HASH"),
        (r"(?<=NOMAD_SHORT_ALLOC_ID=)\w+", "UUID"),
        (r"/[\w/.-]*/(alloc|local|secrets)\b", r"DIR/\1"),
        (r"in \d+\.\d+s", "in Ns"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z?", "TIME"),
        (r"(?<=127\.0\.0\.1:)\d{4,5}", "PORT"),
        (r"job modify index: \d+", "job modify index: N"),
        (r"input\.hcl:", ""),
        (r"\(/[\w/.-]+\)", "(DIR)"),
        (r"pid \d+", "pid N"),
        (r"dispatch-\d+-[0-9a-f]{8}", "dispatch-ID"),
    )
)
_OWN_TO_A_CLUSTER = frozenset(
    {
        *("CreateIndex", "EvalCreateIndex", "EvalID", "Index", "JobCreateIndex", "JobModifyIndex", "ModifyIndex"),
        *("NextPeriodicLaunch", "Stable", "SubmitTime", "Time", "Version", "VersionTag"),
    }
)
_COUNTS = (
    *("ClassFiltered", "ConstraintFiltered", "DimensionExhausted", "NodesAvailable", "NodesEvaluated"),
    *("NodesExhausted", "NodesFiltered", "QuotaExhausted"),
)
_OVER = ("complete", "failed", "canceled", "blocked")
_ENDED = ("complete", "failed", "lost")
_LOOK_SECONDS = 0.1
_QUIET_LOOKS = 8
_LOG_QUERIES = (
    "task=train&type=stdout&plain=true&origin=start&offset=7",
    "task=train&type=stdout&plain=true&origin=end&offset=7",
    "task=train&type=stdout&plain=true&origin=start&offset=100000",
    "task=train&type=stdout&follow=false&origin=start",
    "task=nope&type=stdout&plain=true",
    "task=train&type=both&plain=true",
    "type=stdout",
    "task=train",
)
Exchange = dict[str, Any]


class _Session:
    """Runs steps; `trace` holds the exchanges in order."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["X-Nomad-Token"] = token
        self.trace: list[Exchange] = []
        self._saved: dict[str, Any] = {}

    def ask(self, method: str, path: str, body: Any = None, *, kept: bool = True) -> Any:
        data = None if body is None else json.dumps(body)
        got = self._session.request(method, self._address + path, data=data, timeout=30)
        text = got.content.decode("utf-8", "replace")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text
        if kept:
            self.trace.append({"method": method, "path": path, "status": got.status_code, "answer": answer})
        return answer

    def step(self, step: dict[str, Any]) -> None:
        run: Callable[[dict[str, Any]], Any] = getattr(self, f"_{self._kind(step)}")
        answer = run(step)
        if step.get("save"):
            self._saved[step["save"]] = answer

    @staticmethod
    def _kind(step: dict[str, Any]) -> str:
        kinds = ("call", "parse", "validate", "plan", "register", "settle", "logs", "logs_of", "sleep", "stop")
        return next(kind for kind in kinds if kind in step)

    def _call(self, step: dict[str, Any]) -> Any:
        return self.ask(step["call"], step["path"], step.get("body"))

    def _parse(self, step: dict[str, Any]) -> Any:
        return self.ask("POST", "/v1/jobs/parse", {"JobHCL": step["parse"], "Canonicalize": True})

    def _validate(self, step: dict[str, Any]) -> Any:
        return self.ask("POST", "/v1/validate/job", {"Job": self._saved[step["validate"]]})

    def _plan(self, step: dict[str, Any]) -> Any:
        job = self._saved[step["plan"]]
        return self.ask("POST", f"/v1/job/{quote(job['ID'], safe='')}/plan", {"Job": job, "Diff": True})

    def _register(self, step: dict[str, Any]) -> Any:
        body = {"Job": self._saved[step["register"]]}
        if "enforce_index" in step:
            body |= {"EnforceIndex": True, "JobModifyIndex": step["enforce_index"]}
        return self.ask("POST", "/v1/jobs", body)

    def _stop(self, step: dict[str, Any]) -> Any:
        purge = "true" if step.get("purge") else "false"
        return self.ask("DELETE", f"/v1/job/{quote(step['stop'], safe='')}?purge={purge}")

    @staticmethod
    def _sleep(step: dict[str, Any]) -> None:
        time.sleep(step["sleep"])

    def _settle(self, step: dict[str, Any]) -> None:
        """Look until all is over and stays so, and keep each state of evaluations and allocations."""
        job, seen, quiet = quote(step["settle"], safe=""), set(), 0
        end = time.monotonic() + step.get("seconds", 15)
        while time.monotonic() < end and quiet <= _QUIET_LOOKS:
            over = []
            for kind, ended, field in (("evaluation", _OVER, "Status"), ("allocation", _ENDED, "ClientStatus")):
                listed = self.ask("GET", f"/v1/job/{job}/{kind}s", kept=False)
                listed = listed if isinstance(listed, list) else []
                over.append(all(item[field] in ended for item in listed) and (bool(listed) or kind == "allocation"))
                for item in listed:
                    key = (kind, item["ID"], item["ModifyIndex"])
                    if key not in seen:
                        seen.add(key)
                        self.ask("GET", f"/v1/{kind}/{item['ID']}")
            quiet = quiet + 1 if all(over) else 0
            if quiet <= _QUIET_LOOKS:
                time.sleep(_LOOK_SECONDS)
        self.ask("GET", f"/v1/job/{job}/summary")

    def _logs(self, step: dict[str, Any]) -> None:
        allocs = self.ask("GET", f"/v1/job/{quote(step['logs'], safe='')}/allocations", kept=False)
        query = f"task={step['task']}&type={step.get('type', 'stderr')}&plain=true&origin=start"
        for alloc in sorted(allocs or [], key=lambda a: str(a["Name"])):
            self.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?{query}")

    def _logs_of(self, step: dict[str, Any]) -> None:
        alloc = self.ask("GET", f"/v1/job/{step['logs_of']}/allocations", kept=False)[0]["ID"]
        for query in _LOG_QUERIES:
            self.ask("GET", f"/v1/client/fs/logs/{alloc}?{query}")
        nobody = "00000000-0000-0000-0000-000000000000"
        self.ask("GET", f"/v1/client/fs/logs/{nobody}?task=train&type=stdout&plain=true")
        self.ask("GET", f"/v1/client/fs/ls/{alloc}?path=/")


def replayed(steps: list[dict[str, Any]], address: str, token: str) -> list[Exchange] | str:
    """The trace of the steps at another cluster, or how it broke off."""
    session = _Session(address, token)
    try:
        for step in steps:
            session.step(step)
    except (requests.RequestException, LookupError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return session.trace


def masked(text: str) -> str:
    """A text without what is a cluster's own, white space made even."""
    for pattern, to in _MASKS:
        text = pattern.sub(to, text)
    return " ".join(text.split())


def _lean(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {k: _lean(v) for k, v in value.items() if k not in _OWN_TO_A_CLUSTER}
        return {k: v for k, v in inner.items() if v or isinstance(v, float)}
    if isinstance(value, list):
        return [_lean(v) for v in value]
    return masked(value) if isinstance(value, str) else value


def _failures(failed: Any) -> Any:
    return {group: _lean({k: metric.get(k) for k in _COUNTS}) for group, metric in (failed or {}).items()}


def _evaluation(found: dict[str, Any]) -> Any:
    return {
        "blocked": bool(found.get("BlockedEval")),
        "by": found["TriggeredBy"],
        "failed": _failures(found.get("FailedTGAllocs")),
        "queued": found.get("QueuedAllocations") or {},
        "status": found["Status"],
        "type": found["Type"],
    }


def _task(state: dict[str, Any]) -> Any:
    events = [
        (e["Type"], masked(e["DisplayMessage"] or ""), {k: masked(str(v)) for k, v in (e["Details"] or {}).items()})
        for e in state.get("Events") or []
    ]
    for _, _, details in events:
        details.pop("start_delay", None)
    return {"events": events, "failed": state["Failed"], "restarts": state["Restarts"], "state": state["State"]}


def _allocation(found: dict[str, Any]) -> Any:
    return {
        "client": found["ClientStatus"],
        "desired": found["DesiredStatus"],
        "followed": bool(found.get("NextAllocation")),
        "follows": bool(found.get("PreviousAllocation")),
        "name": found["Name"],
        "tasks": {name: _task(state) for name, state in (found.get("TaskStates") or {}).items()},
    }


def _sorted(values: list[Any]) -> list[Any]:
    return sorted(values, key=lambda v: json.dumps(v, sort_keys=True))


def _plan(answer: dict[str, Any]) -> Any:
    updates = (answer.get("Annotations") or {}).get("DesiredTGUpdates") or {}
    return {
        "diff": (answer.get("Diff") or {}).get("Type"),
        "failed": _failures(answer.get("FailedTGAllocs")),
        "updates": {group: _lean(counts) for group, counts in updates.items()},
        "warnings": masked(answer.get("Warnings") or ""),
    }


def _validation(answer: dict[str, Any]) -> Any:
    told = sorted(masked(e) for e in answer.get("ValidationErrors") or [])
    return {
        "error": masked(answer.get("Error") or ""),
        "errors": told,
        "warnings": masked(answer.get("Warnings") or ""),
    }


def _job(answer: dict[str, Any]) -> Any:
    return {key: answer.get(key) for key in ("ID", "Status", "Stop", "Type", "Namespace", "Version")}


_FORMS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("POST", r"/v1/jobs/parse", _lean),
    ("POST", r"/v1/validate/job", _validation),
    ("*", r".*/plan", _plan),
    ("*", r".*/summary", lambda a: _lean(a.get("Summary"))),
    ("*", r".*/evaluations", lambda a: _sorted([_evaluation(e) for e in a])),
    ("*", r".*/allocations", lambda a: _sorted([[x["Name"], x["ClientStatus"], x["DesiredStatus"]] for x in a])),
    ("GET", r"/v1/job/[^/]+", _job),
    ("GET", r"/v1/jobs", lambda a: _sorted([[masked(j["ID"]), j["Status"], j["Type"]] for j in a])),
    ("*", r"/v1/jobs", lambda a: {"warnings": masked(a.get("Warnings") or "")}),
)


def comparable(trace: list[Exchange]) -> list[Any]:
    """A trace in the form that is compared: one entry for a request, last states of evaluations and allocations."""
    out: list[Any] = []
    last: dict[str, dict[str, Any]] = {"evaluation": {}, "allocation": {}}
    for exchange in trace:
        path, answer, status = exchange["path"].partition("?")[0], exchange["answer"], exchange["status"]
        one = re.fullmatch(r"/v1/(evaluation|allocation)/[0-9a-f-]{36}", path)
        if one and status == 200 and isinstance(answer, dict):
            last[one[1]][path] = answer
            continue
        entry = {"request": f"{exchange['method']} {masked(exchange['path'])}", "status": status}
        if status >= 400 or not isinstance(answer, dict | list):
            out.append({**entry, "answer": masked(str(answer))})
            continue
        forms = (f for method, where, f in _FORMS if method in ("*", exchange["method"]) and re.fullmatch(where, path))
        form = next(forms, lambda a: sorted(a) if isinstance(a, dict) else type(a).__name__)
        out.append({**entry, "answer": form(answer)})
    out.append({"evaluations": _sorted([_evaluation(e) for e in last["evaluation"].values()])})
    out.append({"allocations": _sorted([_allocation(a) for a in last["allocation"].values()])})
    return out


def difference(recorded: list[Exchange], own: list[Exchange] | str) -> str:
    """The first place where another trace differs from the recorded one, in words; empty when they are alike."""
    if isinstance(own, str):
        return own
    return _differ(json.loads(json.dumps(comparable(recorded))), json.loads(json.dumps(comparable(own))), "")


def _differ(want: Any, got: Any, place: str) -> str:
    if isinstance(want, dict) and isinstance(got, dict):
        for key in sorted({*want, *got}):
            if key not in got:
                return f"{place}.{key}: missing; want {json.dumps(want[key])[:300]}"
            if key not in want:
                return f"{place}.{key}: unexpected {json.dumps(got[key])[:300]}"
            if found := _differ(want[key], got[key], f"{place}.{key}"):
                return found
        return ""
    if isinstance(want, list) and isinstance(got, list):
        for i, (one, other) in enumerate(zip(want, got, strict=False)):
            if found := _differ(one, other, f"{place}[{i}]"):
                return found
        return "" if len(want) == len(got) else f"{place}: want {len(want)} entries, got {len(got)}"
    if want == got and type(want) is type(got):
        return ""
    return f"{place}: want {json.dumps(want)[:300]}, got {json.dumps(got)[:300]}"

"""How two versions of a job differ, in the shape of Nomad's plan. Pure.

Groups and tasks are matched by name; what lies inside a task is listed flat (`Config.args[1]`), which says the same
as Nomad's nested objects with fewer levels.
"""

from collections.abc import Mapping
from typing import Any

from caravan.cluster.local.canonical import BOOKKEEPING
from caravan.cluster.local.words import JsonDict

_UPDATES = {
    "DestructiveUpdate": "create/destroy update",
    "Ignore": "ignore",
    "InPlaceUpdate": "in-place update",
    "Place": "create",
    "Stop": "destroy",
}


def job_diff(old: JsonDict | None, new: JsonDict, updates: Mapping[str, Mapping[str, int]]) -> JsonDict:
    """The difference from `old` (None: there is no such job) to `new`; `updates` are the plan's counts by group."""
    before = {k: v for k, v in (old or {}).items() if k not in BOOKKEEPING and k != "TaskGroups"}
    after = {k: v for k, v in new.items() if k not in BOOKKEEPING and k != "TaskGroups"}
    fields = _fields(before, after)
    groups = []
    for one, other in _pairs((old or {}).get("TaskGroups") or [], new["TaskGroups"]):
        group = _named_diff(one, other, "Tasks")
        counts = updates.get(group["Name"], {})
        group["Updates"] = {word: counts[k] for k, word in _UPDATES.items() if counts.get(k)} or None
        groups.append(group)
    changed = bool(fields) or any(g["Type"] != "None" for g in groups)
    kind = "Added" if old is None else "Edited" if changed else "None"
    return {"Fields": fields or None, "ID": new["ID"], "Objects": None, "TaskGroups": groups, "Type": kind}


def _pairs(old: list[JsonDict], new: list[JsonDict]) -> list[tuple[JsonDict | None, JsonDict | None]]:
    before, after = ({item["Name"]: item for item in items} for items in (old, new))
    return [(before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]


def _named_diff(old: JsonDict | None, new: JsonDict | None, inner: str) -> JsonDict:
    """A group with its tasks; a task has no further level."""
    fields = _fields(
        {k: v for k, v in (old or {}).items() if k != inner}, {k: v for k, v in (new or {}).items() if k != inner}
    )
    parts = []
    if inner:
        pairs = _pairs((old or {}).get(inner) or [], (new or {}).get(inner) or [])
        parts = [_named_diff(one, other, "") for one, other in pairs]
    changed = bool(fields) or any(p["Type"] != "None" for p in parts)
    kind = "Added" if old is None else "Deleted" if new is None else "Edited" if changed else "None"
    shown: JsonDict = {"Fields": fields or None, "Name": (new or old or {})["Name"], "Objects": None, "Type": kind}
    return {**shown, inner: parts} if inner else {**shown, "Annotations": None}


def _fields(old: JsonDict, new: JsonDict) -> list[JsonDict]:
    before, after = _flat(old), _flat(new)
    found = []
    for name in sorted(set(before) | set(after)):
        one, other = before.get(name), after.get(name)
        if one == other:
            continue
        kind = "Added" if one is None else "Deleted" if other is None else "Edited"
        found.append({"Annotations": None, "Name": name, "New": other or "", "Old": one or "", "Type": kind})
    return found


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Leaves by their path, as text; empty ones are left out."""
    if isinstance(value, dict):
        parts = [(f"{name}.{k}" if name else str(k), v) for k, v in value.items()]
    elif isinstance(value, list):
        parts = [(f"{name}[{i}]", v) for i, v in enumerate(value)]
    elif value is None or value == "":
        return {}
    else:
        return {name: str(value).lower() if isinstance(value, bool) else str(value)}
    flat: dict[str, str] = {}
    for path, part in parts:
        flat |= _flat(part, path)
    return flat

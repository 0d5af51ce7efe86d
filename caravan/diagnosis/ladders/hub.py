"""Against services that don't answer as hoped: the hub, the network, and those that follow trainings."""

import difflib
import posixpath
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case, from_workdir
from caravan.diagnosis.ladders.placement import elsewhere
from caravan.values.base import Json
from caravan.values.failure import Repair, Wait

_LIMITED_S: Final = (600, 1800)  # the hub counts requests in windows of minutes
_AWAY_S: Final = (60, 600)  # a service that is restarted is back in a minute; else somebody is at work on it
_OF_THE_NODE: Final = ("dns", "route")  # a resolver that is restarted is back in a minute; else it has none
_OF_THE_SETTING: Final = ("tls", "proxy", "offline")
"""What a network says that time does not mend."""
_OFFLINE: Final = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_CACHES: Final = ("HF_HOME", "HF_HUB_CACHE", "TRANSFORMERS_CACHE", "CARAVAN_CACHE_DIR")
_SLIP: Final = 0.85  # likeness of a name that was meant


def rate_limited(case: Case) -> Iterator[Repair]:
    """Again after ten minutes and after thirty; from the cache alone, where one outlives the job."""
    for seconds in _LIMITED_S:
        yield Wait(seconds=seconds, why="the hub limits our requests")
    yield from _from_cache(case)


def network(case: Case) -> Iterator[Repair]:
    """Again after a minute, from the cache alone where one outlives the job, on another node, then after ten minutes.

    What is the node's own matter (a name that it can't resolve) or a setting (a certificate) is mended by no long wait:
    a person is told early.
    """
    index, host, kind = case.detail("index"), case.detail("host"), case.detail("kind")
    what = f"the package index {index}" if index else host or "the network"
    why = f"{what} is down" if kind == "down" else f"{what} could not be reached"
    first, *longer = _AWAY_S
    if kind not in _OF_THE_SETTING:
        yield Wait(seconds=first, why=why)
    if not index:
        yield from _from_cache(case)
        untracked = _untracked(case) if _is_tracker(host) else {}
        yield from case.change(untracked, "without the service that follows trainings")
    if case.others():
        yield from elsewhere(case)
    if kind not in (*_OF_THE_NODE, *_OF_THE_SETTING):
        yield from (Wait(seconds=seconds, why=why) for seconds in longer)


def _from_cache(case: Case) -> Iterable[Repair]:
    """Where a volume or a directory of the node keeps what was downloaded, it may be there already."""
    plan = case.plan
    kept = [v for n in _CACHES if (v := plan.env.get(n, "")).startswith("/")]
    mounted = [m.destination.rstrip("/") for m in plan.mounts]
    if not any(plan.driver == "raw_exec" or any(k == m or k.startswith(f"{m}/") for m in mounted) for k in kept):
        return ()
    values: dict[str, Json] = {f"env.{name}": "1" for name in _OFFLINE if plan.env.get(name) != "1"}
    return case.change(values, "only what the cache has already")


def not_on_hub(case: Case) -> Iterator[Repair]:
    """The one that the repository names, the local path that is meant, the model's newest revision."""
    plan, missing = case.plan, case.detail("repo") or case.detail("path")
    if plan.model.revision and case.detail("kind") in ("", "revision", "file"):
        yield from case.change({"model.revision": None}, f"the model as it is now, not {plan.model.revision}")
    own = case.profile.base_model
    for field, known in (("model.id", own), ("dataset.path", case.profile.dataset)):
        told = str(plan.get(field) or "")
        if not told or (missing and told.rstrip("/") != missing.rstrip("/")):
            continue
        if known and known != told and _alike(known, told):
            yield from case.change(case.heard({field: known}), f"{known}, which the repository names")
        for hit in _local(case, told):
            yield from case.change(case.heard({field: hit}), f"{told} is at {hit} in the repository")


def _alike(a: str, b: str) -> bool:
    return difflib.SequenceMatcher(None, a.casefold(), b.casefold()).ratio() >= _SLIP


def _local(case: Case, name: str) -> list[str]:
    """The one directory or file of the repository that is meant by a local path."""
    base = posixpath.basename(name.rstrip("/"))
    if case.detail("kind") != "local" and not name.startswith((".", "/")):
        return []
    found = [*case.looks.directories(base), *case.looks.files(base)]
    return [from_workdir(case.plan, found[0])] if len(found) == 1 else []


def tracker(case: Case) -> Iterator[Repair]:
    """Kept on the node instead of being sent; then not at all."""
    yield from case.change({"env.WANDB_MODE": "offline"}, "wandb writes to the node: nobody is logged in")
    yield from case.change(_untracked(case), "without a service that follows the training")
    switch = case.option("use_wandb", "wandb", "log_to_wandb", "enable_wandb", "with_wandb")
    if switch:
        yield from case.change(case.heard({f"training.options.{switch}": False}), f"{switch} off")
    yield from case.change({"env.WANDB_MODE": "disabled"}, "wandb does nothing")


def _untracked(case: Case) -> dict[str, Json]:
    return case.heard({"training.report_to": "none"})


def _is_tracker(host: str) -> bool:
    return any(name in host for name in ("wandb", "comet", "neptune", "mlflow", "clearml"))

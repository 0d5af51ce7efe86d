"""In what order the tasks of an allocation may run: Nomad's life cycle. Pure.

Prestart tasks come first, main tasks when those have succeeded and their sidecars run, poststart tasks when all main
tasks have come to run, poststop tasks when all others are dead.
"""

from collections.abc import Mapping, Sequence

from caravan.cluster.local.words import JsonDict

_PHASES = ("prestart", "main", "poststart", "wait", "poststop")
_OPEN = {
    "prestart": {"prestart", "prestart sidecar"},
    "main": {"prestart sidecar", "main"},
    "poststart": {"prestart sidecar", "main", "poststart", "poststart sidecar"},
    "wait": {"prestart sidecar", "main", "poststart sidecar"},
    "poststop": {"poststop"},
}


def stage_of(task: JsonDict) -> str:
    """A task's stage: `main`, a hook's name, or that with ` sidecar`."""
    lifecycle = task["Lifecycle"] or {}
    hook = str(lifecycle.get("Hook") or "main")
    return f"{hook} sidecar" if lifecycle.get("Sidecar") and hook in ("prestart", "poststart") else hook


class Coordinator:
    """Goes from phase to phase as the tasks' states allow."""

    def __init__(self, tasks: Sequence[JsonDict]) -> None:
        self._stages = {str(t["Name"]): stage_of(t) for t in tasks}
        self._phase = 0

    def of_stage(self, *stages: str) -> list[str]:
        """The names of the tasks of those stages."""
        return [name for name, stage in self._stages.items() if stage in stages]

    def may_run(self, states: Mapping[str, JsonDict]) -> list[str]:
        """The tasks that may run now."""
        while self._phase < len(_PHASES) - 1 and self._done(_PHASES[self._phase], states):
            self._phase += 1
        if self._all_dead(states):
            self._phase = len(_PHASES) - 1
        return self.of_stage(*_OPEN[_PHASES[self._phase]])

    def _done(self, phase: str, states: Mapping[str, JsonDict]) -> bool:
        def all_are(stage: str, *wanted: str) -> bool:
            return all(states[n]["State"] in wanted for n in self.of_stage(stage))

        if phase == "prestart":
            failed = any(states[n]["Failed"] for n in self.of_stage("prestart"))
            return not failed and all_are("prestart", "dead") and all_are("prestart sidecar", "running")
        if phase == "main":
            return all_are("main", "running", "dead")
        if phase == "poststart":
            return all_are("poststart", "dead")
        return self._all_dead(states)

    def _all_dead(self, states: Mapping[str, JsonDict]) -> bool:
        return all(states[n]["State"] == "dead" for n, stage in self._stages.items() if stage != "poststop")


def why_to_end(tasks: Sequence[JsonDict], states: Mapping[str, JsonDict]) -> tuple[list[str], tuple[str, str] | None]:
    """The tasks that live, poststop ones aside, and why they are to be ended: a dead leader, a failed sibling by its
    name, or that only sidecars are left; None when they are to go on."""
    own = [t for t in tasks if stage_of(t) != "poststop"]
    live = [str(t["Name"]) for t in own if states[t["Name"]]["State"] != "dead"]
    why: tuple[str, str] | None = None
    for task in own:
        state = states[task["Name"]]
        if state["State"] != "dead":
            continue
        if state["Failed"]:
            why = why or ("sibling", str(task["Name"]))
        elif task["Leader"]:
            why = ("leader", str(task["Name"]))
    sidecars = [t["Name"] for t in own if (t["Lifecycle"] or {}).get("Sidecar")]
    if why is None and live and sidecars and all(name in sidecars for name in live):
        why = ("main", "")
    return live, why

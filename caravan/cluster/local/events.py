"""Task events in Nomad's shape and words, and the decision whether a task is started again. Pure."""

from typing import Any

from caravan.cluster.local.words import JsonDict, go_duration, go_quote, now_ns

EVENTS_KEPT = 10
"""Events of a task that are kept, as in Nomad: the oldest go first."""

_BLANK: JsonDict = {
    "DiskLimit": 0,
    "DownloadError": "",
    "DriverError": "",
    "DriverMessage": "",
    "ExitCode": 0,
    "FailedSibling": "",
    "FailsTask": False,
    "GenericSource": "",
    "KillError": "",
    "KillReason": "",
    "KillTimeout": 0,
    "Message": "",
    "RestartReason": "",
    "SetupError": "",
    "Signal": 0,
    "StartDelay": 0,
    "TaskSignal": "",
    "TaskSignalReason": "",
    "ValidationError": "",
    "VaultError": "",
}


def event(kind: str, shown: str, details: dict[str, str] | None = None, **fields: Any) -> JsonDict:
    """An event of now; `shown` is its DisplayMessage."""
    return {
        **_BLANK,
        "Details": details or {},
        "DisplayMessage": shown,
        "Time": now_ns(),
        "Type": kind,
        **fields,
    }


def received() -> JsonDict:
    """The client has the allocation."""
    return event("Received", "Task received by client")


def setup() -> JsonDict:
    """The task's directories are made."""
    text = "Building Task Directory"
    return event("Task Setup", text, {"message": text}, Message=text)


def started() -> JsonDict:
    """The command runs."""
    return event("Started", "Task started by client")


def terminated(code: int, signal: int, oom: bool, message: str) -> JsonDict:
    """The command has ended."""
    parts = [f"Exit Code: {code}"]
    details = {"exit_code": str(code), "signal": str(signal), "oom_killed": str(oom).lower()}
    if signal:
        parts.append(f"Signal: {signal}")
    if message:
        parts.append(f"Exit Message: {go_quote(message)}")
        details["exit_message"] = message
    return event("Terminated", ", ".join(parts), details, ExitCode=code, Signal=signal, Message=message)


def driver_failure(text: str) -> JsonDict:
    """The driver could not start the task."""
    return event("Driver Failure", text, {"driver_error": text}, DriverError=text)


def downloading_image(image: str) -> JsonDict:
    """The driver fetches an image."""
    return event("Driver", "Downloading image", {"image": image}, DriverMessage="Downloading image")


def invalid(text: str) -> JsonDict:
    """The driver refuses the configuration."""
    return event("Failed Validation", text, {"validation_error": text}, ValidationError=text)


def downloading() -> JsonDict:
    """Artifacts are being fetched."""
    return event("Downloading Artifacts", "Client is downloading artifacts")


def download_failed(text: str) -> JsonDict:
    """An artifact could not be fetched."""
    return event("Failed Artifact Download", text, {"download_error": text}, DownloadError=text)


def setup_failed(text: str) -> JsonDict:
    """The task's directories or templates could not be made."""
    return event("Setup Failure", text, {"setup_error": text}, SetupError=text)


def template_waits(path: str) -> JsonDict:
    """A template can't be rendered before somebody writes the variable at that path."""
    return event("Template", f"Missing: nomad.var.block({path}@default.global)")


def template_failed(text: str) -> JsonDict:
    """A template can't be rendered, and the task ends for it."""
    return event("Killing", text, FailsTask=True)


def restarting(delay: int, reason: str) -> JsonDict:
    """The task will be started again after `delay` nanoseconds."""
    details = {"restart_reason": reason, "start_delay": str(delay)}
    shown = f"Task restarting in {go_duration(delay)}"
    if reason not in ("", "Restart within policy"):
        shown = f"{reason} - {shown}"
    return event("Restarting", shown, details, StartDelay=delay, RestartReason=reason)


def not_restarting(reason: str) -> JsonDict:
    """The task has failed for good."""
    details = {"restart_reason": reason, "fails_task": "true"}
    return event("Not Restarting", reason, details, RestartReason=reason, FailsTask=True)


def killing(timeout: int, reason: str = "") -> JsonDict:
    """The task is told to end; `reason` is said in place of the usual words."""
    shown = reason or f"Sent interrupt. Waiting {go_duration(timeout)} before force killing"
    return event("Killing", shown, {"kill_timeout": go_duration(timeout)}, KillTimeout=timeout)


def killed() -> JsonDict:
    """The task has ended as it was told."""
    return event("Killed", "Task successfully killed")


def sibling_failed(name: str) -> JsonDict:
    """Another task of the group has failed, and this one ends with it."""
    return event("Sibling Task Failed", f"Task's sibling {go_quote(name)} failed", {"failed_sibling": name})


def leader_dead() -> JsonDict:
    """The group's leader has ended, and this task ends with it."""
    return event("Leader Task Dead", "Leader Task in Group dead")


def main_dead() -> JsonDict:
    """Only sidecars are left, and they end."""
    return event("Main Tasks Dead", "Main tasks in the group died")


def hook_failed(text: str) -> JsonDict:
    """Something before the task's start has failed."""
    return event("Task hook failed", text, {"message": text}, Message=text)


def restart_signaled(reason: str) -> JsonDict:
    """Somebody wants the task to be started anew."""
    return event("Restart Signaled", reason, {"restart_reason": reason}, RestartReason=reason)


def signaling(name: str) -> JsonDict:
    """Somebody sends the task a signal."""
    reason = "User requested task to be signaled"  # unlike a restart, this is not said of the signal itself
    shown = f"Task being sent signal {name}: {reason}"
    details = {"signal": name, "signal_reason": reason}
    return event("Signaling", shown, details, TaskSignal=name, TaskSignalReason=reason)

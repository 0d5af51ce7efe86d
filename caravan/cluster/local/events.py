"""Task events in Nomad's shape and words, and the decision whether a task is started again. Pure."""

import signal
from collections.abc import Sequence
from typing import Any

from caravan.cluster.local.words import JsonDict, go_duration, go_quote, now_ns

EVENTS_KEPT = 10
"""Events of a task that are kept, as in Nomad: the oldest go first."""

_MISSING_NAMED = 3
"""Missing variables that one event names, as in Nomad."""

_SIGNAL_WORDS = {
    "SIGABRT": "aborted",
    "SIGALRM": "alarm clock",
    "SIGBUS": "bus error",
    "SIGCHLD": "child exited",
    "SIGCONT": "continued",
    "SIGFPE": "floating point exception",
    "SIGHUP": "hangup",
    "SIGILL": "illegal instruction",
    "SIGINT": "interrupt",
    "SIGIO": "I/O possible",
    "SIGKILL": "killed",
    "SIGPIPE": "broken pipe",
    "SIGPROF": "profiling timer expired",
    "SIGPWR": "power failure",
    "SIGQUIT": "quit",
    "SIGSEGV": "segmentation fault",
    "SIGSTKFLT": "stack fault",
    "SIGSTOP": "stopped (signal)",
    "SIGSYS": "bad system call",
    "SIGTERM": "terminated",
    "SIGTRAP": "trace/breakpoint trap",
    "SIGTSTP": "stopped",
    "SIGTTIN": "stopped (tty input)",
    "SIGTTOU": "stopped (tty output)",
    "SIGURG": "urgent I/O condition",
    "SIGUSR1": "user defined signal 1",
    "SIGUSR2": "user defined signal 2",
    "SIGVTALRM": "virtual timer expired",
    "SIGWINCH": "window changed",
    "SIGXCPU": "CPU time limit exceeded",
    "SIGXFSZ": "file size limit exceeded",
}

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


def template_waits(paths: Sequence[str]) -> JsonDict:
    """Templates can't be rendered before somebody writes the variables at those paths; a few are named."""
    missing = [f"nomad.var.block({path}@default.global)" for path in sorted(paths)]
    if len(missing) > _MISSING_NAMED:
        missing = [*missing[:_MISSING_NAMED], f"and {len(missing) - _MISSING_NAMED} more"]
    return event("Template", f"Missing: {', '.join(missing)}")


def template_failed(text: str) -> JsonDict:
    """A template can't be rendered or its change not be told, and the task ends for it."""
    return event("Killing", text, {"fails_task": "true"}, FailsTask=True)


def template_signals(name: str) -> JsonDict:
    """A template has changed, and the task is told so by a signal."""
    said = signal_words(name)
    return event("Signaling", "Template re-rendered", {"task_signal": said}, TaskSignal=said)


def template_restarts() -> JsonDict:
    """A template has changed, and the task is started anew for it."""
    return event("Restart Signaled", "Template with change_mode restart re-rendered")


def hook_message(text: str) -> JsonDict:
    """Something around the task has a word to say."""
    return event("Task hook message", text)


def script_failed(text: str) -> JsonDict:
    """The script of a changed template has failed; unlike other hooks' failures it has no details."""
    return event("Task hook failed", text)


def shutdown_delay(nanoseconds: int) -> JsonDict:
    """The task is to end, but not before its `shutdown_delay` is over."""
    text = f"Waiting for shutdown_delay of {go_duration(nanoseconds)} before killing the task."
    return event("Waiting for shutdown delay", text)


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
    usual = f"Sent interrupt. Waiting {go_duration(timeout)} before force killing" if timeout else "Sent interrupt"
    return event("Killing", reason or usual, {"kill_timeout": go_duration(timeout)}, KillTimeout=timeout)


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


def unhealthy(check: str) -> JsonDict:
    """A check of the task's service has failed for too long, and the task is started anew for it."""
    return restart_signaled(f"healthcheck: check {go_quote(check)} unhealthy")


def signaling(name: str) -> JsonDict:
    """Somebody sends the task a signal: its name stands in the details alone."""
    return event("Signaling", "Task being sent a signal", {"signal": name})


def signal_words(name: str) -> str:
    """A signal's name in words, as Go's runtime has them; its number where it has none."""
    number = signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    return _SIGNAL_WORDS.get(number.name, f"signal {int(number)}")

"""What is wrong with a job's smaller blocks, in Nomad's words: constraints, policies, templates, artifacts, volumes.

Pure. Each function yields one text per mistake; who calls says which block it was.
"""

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from caravan.cluster.local.words import SECOND, JsonDict, go_duration, go_quote

_EXACT = ("${node.unique.id}", "${node.datacenter}", "${node.unique.name}", "${node.class}", "${node.pool}")
_PREFIXES = ("${attr.", "${device.", "${meta.")
_COMPARING = ("=", "==", "is", "!=", "not", "<", "<=", ">", ">=")
_SETS = ("set_contains", "set_contains_all", "set_contains_any")
_DELAYS = ("constant", "exponential", "fibonacci")
_CHECKSUMS = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}  # bytes
_HOST_ACCESS = (
    *("", "single-node-reader-only", "single-node-writer", "single-node-single-writer", "single-node-multi-writer"),
)


def constraint(rule: JsonDict) -> Iterator[str]:
    """A constraint of a job, group, task or device."""
    operand, right, left = rule.get("Operand") or "", rule.get("RTarget") or "", rule.get("LTarget") or ""
    if not operand:
        yield "Missing constraint operand"
    if operand == "distinct_property":
        if right and not right.isdigit():
            quoted = go_quote(right)
            yield f"Failed to convert RTarget {quoted} to uint64: strconv.ParseUint: parsing {quoted}: invalid syntax"
        elif right and int(right) < 1:
            yield f"Distinct Property must have an allowed count of 1 or greater: {int(right)} < 1"
    elif operand in ("is_set", "is_not_set"):
        if right:
            yield f"Operator {go_quote(operand)} does not support an RTarget"
    elif operand in _SETS:
        if not right:
            yield "Set contains constraint requires an RTarget"
    elif operand != "distinct_hosts":
        yield from _compared(operand, right, "constraint", "Unknown constraint type")
    if operand == "distinct_hosts":
        return
    if not left:
        yield "no attribute provided but is required by operator"
    else:
        yield from _attribute(left)


def _attribute(target: str) -> Iterator[str]:
    if not target.startswith("$"):
        return
    if not target.startswith("${"):
        yield f"attribute {go_quote(target)} is missing an opening brace"
    elif not target.endswith("}"):
        yield f"attribute {go_quote(target)} is missing a closing brace"
    elif target not in _EXACT and not target.startswith(_PREFIXES):
        yield f"unsupported attribute {go_quote(target)}"


def _compared(operand: str, right: str, kind: str, unknown: str) -> Iterator[str]:
    if operand == "regexp":
        wrong = go_regexp(right)
        if wrong:
            yield f"Regular expression failed to compile: error parsing regexp: {wrong}"
    elif operand in ("version", "semver"):
        bad = next((part for part in right.split(",") if not _is_version(part, loose=operand == "version")), None)
        if bad is not None:
            yield f"{operand.title()} {kind} is invalid: Malformed constraint: {bad}"
    elif operand in _COMPARING:
        if not right:
            yield f"Operator {go_quote(operand)} requires an RTarget"
    elif operand:
        yield f"{unknown} {go_quote(operand)}"


def _is_version(text: str, *, loose: bool) -> bool:
    number = r"v?\d+(?:\.\d+)*" if loose else r"\d+(?:\.\d+){0,2}"
    return bool(re.fullmatch(rf"\s*(?:>=|<=|!=|~>|=|>|<)?\s*{number}(?:-[0-9A-Za-z.~-]+)?(?:\+\S+)?\s*", text))


def go_regexp(pattern: str) -> str:
    """What Go says of a pattern that is none; empty for a good one."""
    try:
        re.compile(pattern)
    except re.error as error:
        at = error.pos or 0
        if "unterminated character set" in error.msg:
            return f"missing closing ]: `{pattern[at:]}`"
        if "missing ), unterminated" in error.msg:
            return f"missing closing ): `{pattern}`"
        if "unbalanced parenthesis" in error.msg:
            return f"unexpected ): `{pattern}`"
        if "nothing to repeat" in error.msg or "multiple repeat" in error.msg:
            return f"missing argument to repetition operator: `{pattern[at : at + 1]}`"
        if "bad escape" in error.msg:
            return f"invalid escape sequence: `{pattern[at : at + 2]}`"
        if "bad character range" in error.msg:
            return f"invalid character class range: `{error.msg.rpartition(' ')[2]}`"
        return f"{error.msg}: `{pattern}`"
    if re.search(r"\(\?<?[=!]", pattern):  # Go has none that look around
        found = re.search(r"\(\?<?[=!]", pattern)
        return f"invalid or unsupported Perl syntax: `{found[0][: 3 if found else 0] if found else ''}`"
    return ""


def affinity(rule: JsonDict) -> Iterator[str]:
    """An affinity."""
    operand, right = rule.get("Operand") or "", rule.get("RTarget") or ""
    if not operand:
        yield "Missing affinity operand"
    if operand in _SETS:
        if not right:
            yield "Set contains operators require an RTarget"
    else:
        yield from _compared(operand, right, "affinity", "Unknown affinity operator")
    if not rule.get("LTarget"):
        yield "No LTarget provided but is required"
    weight = 50 if rule.get("Weight") is None else int(rule["Weight"])
    if weight == 0:
        yield "Affinity weight cannot be zero"
    if not -100 <= weight <= 100:
        yield "Affinity weight must be within the range [-100,100]"


def spread(rule: JsonDict) -> Iterator[str]:
    """A spread with its targets."""
    if not rule.get("Attribute"):
        yield "Missing spread attribute"
    weight = 50 if rule.get("Weight") is None else int(rule["Weight"])
    if not 0 < weight <= 100:
        yield "Spread block must have a positive weight from 0 to 100"
    seen: set[str] = set()
    total = 0
    for target in rule.get("SpreadTarget") or []:
        value, percent = str(target.get("Value") or ""), int(target.get("Percent") or 0)
        if value in seen:
            yield f"Spread target value {go_quote(value)} already defined"
        seen.add(value)
        if percent > 100:
            yield f"Spread target percentage for value {go_quote(value)} must be between 0 and 100"
        total += percent
    if total > 100:
        yield f"Sum of spread target percentages must not be greater than 100%; got {total}%"


def restart(policy: JsonDict) -> Iterator[str]:
    """A restart policy."""
    mode, attempts = policy["Mode"], int(policy["Attempts"])
    interval, delay = int(policy["Interval"]), int(policy["Delay"])
    if mode not in ("delay", "fail"):
        yield f"Unsupported restart mode: {go_quote(str(mode))}"
    if attempts == 0 and mode != "fail":
        yield f"Restart policy {go_quote(str(mode))} with 0 attempts is ambiguous"
    if interval < 5 * SECOND:
        yield f"Interval can not be less than 5s (got {go_duration(interval)})"
    if attempts * delay > interval:
        yield (
            f"Nomad can't restart the TaskGroup {attempts} times in an interval of {go_duration(interval)} with a "
            f"delay of {go_duration(delay)}"
        )


def reschedule(policy: JsonDict) -> Iterator[str]:
    """A reschedule policy."""
    attempts, unlimited = int(policy["Attempts"]), bool(policy["Unlimited"])
    interval, delay, ceiling = (int(policy[key]) for key in ("Interval", "Delay", "MaxDelay"))
    if not attempts and not unlimited:
        return
    if attempts and interval <= 0:
        yield "Interval must be a non zero value if Attempts > 0"
    if attempts and unlimited:
        told = f"Attempts = {attempts}, Interval = {go_duration(interval)}, and Unlimited = true"
        yield f"Reschedule Policy with {told} is ambiguous"
        yield "If Attempts >0, Unlimited cannot also be set to true"
    wrong = list(_delays(str(policy["DelayFunction"]), delay, ceiling))
    yield from wrong
    if unlimited:
        return
    if interval < 15 * SECOND:
        yield f"Interval cannot be less than 15s (got {go_duration(interval)})"
    if not wrong:
        yield from _viable(str(policy["DelayFunction"]), attempts, interval, delay, ceiling)


def _delays(function: str, delay: int, ceiling: int) -> Iterator[str]:
    if delay < 5 * SECOND:
        yield f"Delay cannot be less than 5s (got {go_duration(delay)})"
    if function not in _DELAYS:
        known = " ".join(go_quote(d) for d in _DELAYS)
        yield f"Invalid delay function {go_quote(function)}, must be one of [{known}]"
    if function != "constant":
        if ceiling < 5 * SECOND:
            yield f"Max Delay cannot be less than 5s (got {go_duration(delay)})"
        if ceiling < delay:
            yield f"Max Delay cannot be less than Delay {go_duration(delay)} (got {go_duration(ceiling)})"


def _viable(function: str, attempts: int, interval: int, delay: int, ceiling: int) -> Iterator[str]:
    """Whether so many attempts fit into the interval."""
    possible, needed = 0, 0
    if function == "constant":
        needed, possible = attempts * delay, interval // delay
        if interval >= needed:
            return
    elif function == "exponential":
        for i in range(attempts):
            following = delay << min(i, 40)
            needed = needed + ceiling if following > ceiling else following
            possible += needed < interval
        if possible >= attempts:
            return
    else:
        slots = [delay, delay]
        for _ in range(2, attempts):
            slots.append(min(slots[-1] + slots[-2], slots[-1] + ceiling))
        needed = slots[-1]
        if interval >= needed:
            return
        possible = next((i for i, slot in enumerate(slots) if slot > interval), 0)
    told = f"Nomad can only make {possible} attempts in {go_duration(interval)} with initial delay {go_duration(delay)}"
    if function == "constant":
        yield f"{told} and delay function {go_quote(function)}"
    else:
        yield f"{told}, delay function {go_quote(function)}, and delay ceiling {go_duration(ceiling)}"
    whole = (needed + SECOND // 2) // SECOND * SECOND
    yield f"Set the interval to at least {go_duration(whole)} to accommodate {attempts} attempts"


def update(strategy: JsonDict) -> Iterator[str]:
    """An update strategy."""
    value = {k: v or 0 for k, v in strategy.items()}
    if strategy.get("HealthCheck") not in ("checks", "task_states", "manual"):
        yield f"Invalid health check given: {go_quote(str(strategy.get('HealthCheck') or ''))}"
    if value["MaxParallel"] < 0:
        yield f"Max parallel can not be less than zero: {value['MaxParallel']} < 0"
    if value["Canary"] < 0:
        yield f"Canary count can not be less than zero: {value['Canary']} < 0"
    if value["Canary"] == 0 and strategy.get("AutoPromote"):
        yield "Auto Promote requires a Canary count greater than zero"
    healthy, deadline, progress = (value[k] for k in ("MinHealthyTime", "HealthyDeadline", "ProgressDeadline"))
    if healthy < 0:
        yield f"Minimum healthy time may not be less than zero: {go_duration(healthy)}"
    if deadline <= 0:
        yield f"Healthy deadline must be greater than zero: {go_duration(deadline)}"
    if progress < 0:
        yield f"Progress deadline must be zero or greater: {go_duration(progress)}"
    if healthy >= deadline:
        told = f"{go_duration(healthy)} > {go_duration(deadline)}"
        yield f"Minimum healthy time must be less than healthy deadline: {told}"
    if progress and deadline >= progress:
        told = f"{go_duration(deadline)} > {go_duration(progress)}"
        yield f"Healthy deadline must be less than progress deadline: {told}"
    if value["Stagger"] <= 0:
        yield f"Stagger must be greater than zero: {go_duration(value['Stagger'])}"


def template(block: JsonDict) -> Iterator[str]:
    """A template."""
    if not block["SourcePath"] and not block["EmbeddedTmpl"]:
        yield "Must specify a source path or have an embedded template"
    if not block["DestPath"]:
        yield "Must specify a destination for the template"
    if escapes("task", block["DestPath"]):
        yield "destination escapes allocation directory"
    yield from _change_mode(block)
    if block["Splay"] < 0:
        yield "Must specify positive splay value"
    yield from _perms(block["Perms"])
    wait = block["Wait"] or {}
    if wait.get("Min") is not None and wait.get("Max") is not None and wait["Min"] > wait["Max"]:
        yield f"wait min {go_duration(wait['Min'])} is greater than max {go_duration(wait['Max'])}"


def _change_mode(block: JsonDict) -> Iterator[str]:
    mode = block["ChangeMode"]
    if mode == "signal":
        if not block["ChangeSignal"]:
            yield "Must specify signal value when change mode is signal"
        if block["Envvars"]:
            yield "cannot use signals with env var templates"
    elif mode == "script":
        if not block["ChangeScript"]:
            yield "must specify change script configuration value when change mode is script"
        elif not block["ChangeScript"].get("Command"):
            yield "must specify script path value when change mode is script"
    elif mode not in ("noop", "restart"):
        yield "Invalid change mode. Must be one of the following: noop, signal, script, restart"


def _perms(perms: str | None) -> Iterator[str]:
    """A file's mode in octal digits."""
    if not perms:
        return
    failed = f"Failed to parse {go_quote(perms)} as octal: strconv.ParseUint: parsing {go_quote(perms)}: "
    if not re.fullmatch(r"[0-7]+", perms):
        yield failed + "invalid syntax"
    elif int(perms, 8) >= 1 << 12:
        yield failed + "value out of range"


def artifact(block: JsonDict) -> Iterator[str]:
    """An artifact."""
    if not block["GetterSource"]:
        yield "source must be specified"
    if block["GetterMode"] not in ("any", "file", "dir"):
        yield f"invalid artifact mode {go_quote(str(block['GetterMode']))}; must be one of: any, file, dir"
    if escapes("task", block["RelativeDest"] or ""):
        yield "destination escapes allocation directory"
    given = (block["GetterOptions"] or {}).get("checksum")
    if given is not None and "${" not in given:
        yield from _checksum(given.strip())


def _checksum(given: str) -> Iterator[str]:
    kind, _, value = given.partition(":")
    if not given:
        yield "checksum value cannot be empty"
    elif given.count(":") != 1:
        yield f'checksum must be given as "type:value"; got {go_quote(given)}'
    elif wrong := next((c for c in value if c not in "0123456789abcdefABCDEF"), ""):
        yield f"invalid checksum: encoding/hex: invalid byte: U+{ord(wrong):04X} '{wrong}'"
    elif len(value) % 2:
        yield "invalid checksum: encoding/hex: odd length hex string"
    elif kind not in _CHECKSUMS:
        yield f"unsupported checksum type: {kind}"
    elif len(value) != 2 * _CHECKSUMS[kind]:
        yield f"invalid {kind} checksum: {value}"


def escapes(below: str, path: str) -> bool:
    """Whether a relative path leads out of an allocation's directory, seen from `below` it."""
    found = posixpath.normpath(posixpath.join("/alloc-directory", below, path.lstrip("/")))
    return found != "/alloc-directory" and not found.startswith("/alloc-directory/")


def volume(request: JsonDict, count: int) -> tuple[str, list[str]]:
    """A group's volume: the one mistake that hides all others, or else the others."""
    kind = request.get("Type") or ""
    if kind not in ("host", "csi"):
        return f"volume has unrecognized type {kind}", []
    found = [] if request.get("Source") else ["volume has an empty source"]
    if request.get("PerAlloc") and request.get("Sticky"):
        found.append("volume cannot be per_alloc and sticky at the same time")
    access = request.get("AccessMode") or ""
    if kind == "host":
        if request.get("MountOptions"):
            found.append("host volumes cannot have mount options")
        if access not in _HOST_ACCESS:
            found.append(f"host volumes cannot be mounted with {access} access mode")
        elif access == "single-node-reader-only" and not request.get("ReadOnly"):
            found.append(f"{access} volumes must be read-only")
        return "", found
    return "", [*found, *_csi(request, access, several=count > 1 and not request.get("PerAlloc"))]


def _csi(request: JsonDict, access: str, *, several: bool) -> Iterator[str]:
    if not request.get("AttachmentMode"):
        yield "CSI volumes must have an attachment mode"
    elif request["AttachmentMode"] == "block-device" and request.get("MountOptions"):
        yield "block devices cannot have mount options"
    if not access:
        yield "CSI volumes must have an access mode"
    if access in ("single-node-reader-only", "multi-node-reader-only") and not request.get("ReadOnly"):
        yield f"{access} volumes must be read-only"
    if access == "single-node-reader-only" and several:
        yield f"volume with {access} access mode allows only one reader"
    if access == "single-node-writer" and several:
        yield f"volume with {access} access mode allows only one reader or writer"
    if access == "multi-node-single-writer" and several and not request.get("ReadOnly"):
        yield f"volume with {access} access mode allows only one writer"


def mount(block: JsonDict) -> Iterator[str]:
    """A task's volume mount."""
    if not block.get("Volume"):
        yield "volume mount references an empty volume"
    mode: Any = block.get("PropagationMode") or ""
    if mode not in ("", "private", "host-to-task", "bidirectional"):
        yield f"volume mount has an invalid propagation mode: {go_quote(str(mode))}"
    label = block.get("SELinuxLabel") or ""
    if label not in ("", "z", "Z"):
        yield f'volume mount has an invalid SELinux label: "{label}"'

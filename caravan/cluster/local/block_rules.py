"""What is wrong with a job's rarer blocks, in Nomad's words: actions, identities, secrets, disconnection. Pure.

Each function yields one text per mistake; who calls says which block it was.
"""

import re
from collections.abc import Iterator

from caravan.cluster.local.words import JsonDict, go_quote, grouped

_IDENTITY = "^[a-zA-Z0-9-_]{1,128}$"
_SECRET = "^[a-zA-Z0-9_]{1,128}$"
_RECONCILE = ("", "best_score", "longest_running", "keep_original", "keep_replacement")


def actions(task: JsonDict) -> Iterator[str]:
    """A task's actions."""
    seen: set[str] = set()
    for action in task["Actions"] or []:
        name = action.get("Name") or ""
        found = [] if action.get("Command") else ["command cannot be empty"]
        if not re.fullmatch(r"[^\x00\s]{1,128}", name):
            found.append(f"invalid name '{name}'")
        if found:
            yield f"Action {name} validation failed: {grouped(found)}"
        if name in seen:
            yield f"Action {name} defined multiple times"
        seen.add(name)


def identities(task: JsonDict) -> Iterator[str]:
    """A task's identities, its default one first."""
    for identity in [task.get("Identity"), *(task["Identities"] or [])]:
        if identity is not None and (found := list(_identity(identity))):
            yield f"Identity {go_quote(identity.get('Name') or '')} is invalid: {grouped(found)}"


def _identity(block: JsonDict) -> Iterator[str]:
    name, mode, signal = (block.get(key) or "" for key in ("Name", "ChangeMode", "ChangeSignal"))
    if not re.fullmatch(r"[a-zA-Z0-9-_]{1,128}", name or "default"):
        yield f"invalid name {go_quote(name)}. Must match regex {_IDENTITY}"
    for number, audience in enumerate(block.get("Audience") or [], start=1):
        if not audience:
            yield f"an empty string is an invalid audience ({number})"
    if mode in ("", "noop", "restart"):
        if signal:
            yield f'can only use change_signal={go_quote(signal)} with change_mode="signal"'
    elif mode != "signal":
        yield f"invalid change_mode: {mode}"
    elif not signal:
        yield 'change_signal must be specified when using change_mode="signal"'
    if (block.get("TTL") or 0) > 0 and name in ("", "default"):
        yield "ttl for default identity not yet supported"
    if (block.get("TTL") or 0) < 0:
        yield "ttl must be >= 0"
    if block.get("Filepath") and not block.get("File"):
        yield "file parameter must be true in order to specify filepath"


def secrets(task: JsonDict) -> Iterator[str]:
    """A task's secrets."""
    seen: set[str] = set()
    for secret in task["Secrets"] or []:
        name, provider = secret.get("Name") or "", secret.get("Provider") or ""
        if name in seen:
            yield f"Duplicate secret {go_quote(name)} found"
        seen.add(name)
        if provider == "vault" and not task["Vault"]:
            yield f'Secret {go_quote(name)} has provider "vault" but no vault block'
        found = list(_secret(secret, name, provider))
        if found:
            yield f"Secret {go_quote(name)} is invalid: {grouped(found)}"


def _secret(block: JsonDict, name: str, provider: str) -> Iterator[str]:
    if not name:
        yield "secret name cannot be empty"
    if not re.fullmatch(r"[a-zA-Z0-9_]{1,128}", name):
        yield f"secret name must match regex {_SECRET}"
    if not provider:
        yield "secret provider cannot be empty"
    if not block.get("Path"):
        yield "secret path cannot be empty"
    if provider in ("nomad", "vault"):
        if block.get("Env"):
            yield f"{provider} provider cannot use the env block"
    elif block.get("Config"):
        yield f"custom plugin provider {provider} cannot use the config block"


def disconnect(block: JsonDict | None, kind: str) -> Iterator[str]:
    """A group's disconnect block, in a job of the type `kind`."""
    if block is None:
        return
    stop, lost = block.get("StopOnClientAfter"), block.get("LostAfter") or 0
    if stop is not None and stop < 0:
        yield "stop_after cannot be a negative duration"
    if stop is not None and kind not in ("service", "batch"):
        yield "stop_after can only be used with service or batch job types"
    if lost < 0:
        yield "lost_after cannot be a negative duration"
    if stop is not None and lost:
        yield "Disconnect cannot be configured with both lost_after and stop_after"
    if (block.get("Reconcile") or "") not in _RECONCILE:
        yield f"reconcile option is invalid: {block['Reconcile']}"

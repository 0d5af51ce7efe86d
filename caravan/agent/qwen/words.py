"""What a model's words to a person may hold: no address, nothing to type into a shell, no sign that can't be seen.

A person trusts what stands in Caravan's own output more than what a stranger wrote; an instruction that a model obeys
must not reach them in its place. Pure.
"""

import re
from typing import Final

_ADDRESS: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://|\bwww\.|\b(?:mailto|javascript|data):|[\w.+-]+@[\w-]+\.\w"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}\b|(?<![\w./-])(?:[a-z0-9-]+\.)+(?:com|net|org|io|ai|co|dev|app|xyz|sh|ru|cn|example"
    r"|invalid|test|info|biz|top|site|online|me)\b(?!\w)",
    re.IGNORECASE,
)
_SHELL: Final = re.compile(
    r"\b(?:curl|wget|sudo|chmod|chown|netcat|ncat|eval|nohup|crontab|ssh|scp|rsync|base64|setfacl|iptables)\b"
    r"|\b(?:rm\s+-|docker\s+run|pip3?\s+install\s+.*(?:-i\b|--(?:extra-)?index|git\+)|python3?\s+-c|(?:ba|z|da)?sh\s+-c)"
    r"|\|\s*(?:\S*/)?(?:ba|z|da)?sh\b|\$\(|`|&&|--(?:yes|privileged|no-verify|trust)|\bdocker\.sock\b|/etc/|~/\.|\.ssh\b",
    re.IGNORECASE,
)


def misleads(text: str, known: str = "") -> str:
    """Why a text may not be told to a person as it is; empty: it may. What `known` holds itself leads nobody astray."""
    if any(not c.isprintable() and c not in "\n\t" for c in text):
        return "its words hold signs that nobody sees"
    found = next((m[0] for m in _ADDRESS.finditer(text) if m[0] not in known), None)
    if found is not None:
        return f"its words name an address, {found[:40]!r}"
    found = next((m[0] for m in _SHELL.finditer(text) if m[0] not in known), None)
    return f"its words hold something to run, {found[:40]!r}" if found is not None else ""

"""Where command lines, sentences and quotes give a secret away: patterns alone, each takes time linear in the text.

What `masking.py` puts in their place, and what of a match is no secret, is not known here. Each pattern's `before` is
what stays, its `value` what is secret.
"""

import re
from typing import Final

from caravan.values.patterns import late

# The end of a private key whose beginning was cut off: lines of base64, the line breaks perhaps escaped.
KEY_END: Final = late(
    r"(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]{32,100}={0,2}(?:\s|\\[nr]){1,8}){0,150}[A-Za-z0-9+/]{1,100}={0,2}"
    r"(?:\s|\\[nr]){1,8}-----END [A-Z ]{0,40}PRIVATE KEY-----"
)
# Tokens of a Vault before 1.10. Its two letters stand in nearly every text, so it is looked for on its own.
VAULT: Final = late(r"s\.(?<![\w.]s\.)(?=[A-Za-z]*[0-9][A-Za-z]*[0-9])(?=[a-z0-9]*[A-Z])[A-Za-z0-9]{24}(?![\w.(\[])")
# What a command line gives away: a login's key, a user with a password, a password behind its letter.
COMMANDS: Final = tuple(
    late(p)
    for p in (
        r"(?P<before>\b(?:wandb|hf|huggingface-cli|comet|neptune|weave|swanlab)[ \t]+(?:auth[ \t]+)?login[ \t]"
        r"(?:[^\r\n|;&]{0,200}[ \t=])?[\"']?)(?=[A-Za-z_-]*[0-9])(?P<value>[A-Za-z0-9_-]{20,})",
        r"(?P<before>\bcurl[ \t](?:[^\r\n|;&]{0,200}?[ \t])?(?:-u|--user|-U|--proxy-user)[ \t=]*[\"']?"
        r"[^\s:\"'/]{1,80}:)(?P<value>[^\s\"']+)",
        r"(?P<before>\b(?:mysql(?:dump|admin|import)?|mariadb(?:-dump)?)[ \t](?:[^\r\n|;&]{0,200}?[ \t])?-p[\"']?)"
        r"(?P<value>[^\s\"']+)",
        r"(?P<before>\b(?:sshpass[ \t]+-p|redis-cli[ \t](?:[^\r\n|;&]{0,200}?[ \t])?-a|docker[ \t]+login[ \t]"
        r"(?:[^\r\n|;&]{0,200}?[ \t])?-p)[ \t]*[\"']?)(?P<value>[^\s\"']+)",
    )
)
COMMAND_HINTS: Final = ("login", "curl", "mysql", "mariadb", "sshpass", "redis-cli")
# `--wandb_key VALUE`, `openai_key=VALUE`: of any other key only what is as long and as mixed as keys are.
KEYED: Final = late(
    r"(?P<before>(?<![\w.-])(?P<name>[\w.-]{1,60}key)(?:\\*[\"']?[ \t]*[=:][ \t]*|(?<=key)[ \t]+)\\*[\"']?)"
    r"(?P<value>[A-Za-z0-9+/_=-]{16,})(?![\w+/=(\[-]|\.\w)",
    re.IGNORECASE,
)
KEYED_RUN: Final = late(r"[A-Za-z0-9+/]{16,}")
# Keys that find something: a column, a cache's entry, a tensor, an object in a bucket.
FINDS: Final = late(
    r"(?:^|[^A-Za-z])(?:cache|hash|commit|sort|state|dict|primary|foreign|group|partition|fingerprint|public|idempotency"
    r"|index|column|lookup|routing|route|object|bucket|data|dataset|text|label|image|video|audio|prompt|metric|monitor"
    r"|store|file|path|job|task|run|trace|shard|node|param|weight|config|optimizer|module|layer|map|search|query|attn"
    r"|version|id|build|batch|feature|target|input|output)s?(?=[^A-Za-z]|key)|^-*key$|^(?!-).*\.key$",
    re.IGNORECASE,
)
# A key in a sentence: `API key must be 40 characters long, yours was ...`, `Incorrect API key provided: ...`.
SAID: Final = late(
    r"(?P<before>\b(?:api|access|secret|account|auth)[ _-]?(?:key|token)\b[^\r\n]{0,100}?"
    r"\b(?:was|is|got|received|provided|given|found)[ \t]*[:=]?[ \t]*[\"'`(]?)(?P<value>[A-Za-z0-9+/_=-]{16,})"
    r"(?![\w+/=(\[-]|\.\w)",
    re.IGNORECASE,
)
# A password of several words, or of one behind its flag: `password='correct horse'`, `--password correcthorse`.
PASSWORD: Final = (
    late(
        r"(?P<before>(?<![A-Za-z0-9_.-])[\w.-]{0,60}(?:passw(?:or)?d|passphrase|pwd)[\"']?[ \t]*[=:][ \t]*"
        r"(?P<quote>[\"']))(?P<value>(?!\[masked\]|\{\{|<|\$)[^\"'\r\n\\]{1,40}[ ,;][^\"'\r\n\\]{1,160})(?=(?P=quote))",
        re.IGNORECASE,
    ),
    late(
        r"(?P<before>(?<![\w-])--?(?i:[\w-]{0,40}(?:passw(?:or)?d|passphrase))[ \t]+[\"']?)"
        r"(?P<value>(?![-\[<{$]|[A-Z_]+(?![\w]))[^\s\"',;]{6,})(?=[\"']?(?:[ \t]+[-<>|&\\]|[\"']?[ \t]*$))",
        re.MULTILINE,
    ),
    # Of a line that says nothing else: a sentence goes on, a fault is a word of its own.
    late(
        r"(?P<before>^[^\S\r\n]*[\w.-]{0,60}(?:passw(?:or)?d|passphrase)[ \t]*:[ \t]+)"
        r"(?P<value>(?!(?:in|un)|(?:wrong|missing|expired|required|denied|empty|reject|accept|refused|failed|correct"
        r"|optional|default|disabled|enabled|masked|hidden|redacted|string|secret|select|object|forgotten)(?:ed)?\b)[a-z]{6,})"
        r"(?=[^\S\r\n]*$)",
        re.IGNORECASE | re.MULTILINE,
    ),
)

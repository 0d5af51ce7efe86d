"""Masking of secrets in texts that are written or sent. A pure function, used by every room that does either.

Two nets: values known to be secret (from the environment, answers, tokens) are replaced wherever they stand, and
texts that look like a secret by their shape or by the name before them are replaced too. Masking errs on the side
of hiding; it never raises.
"""

import re
from collections.abc import Iterable
from typing import Final

from caravan.values.base import Json

MASK: Final = "[masked]"

# A name that promises a secret, then its value: KEY=value, "key": "value", --key value, Authorization: Bearer value.
_NAME = (
    r"[A-Za-z0-9_.-]*(?:api[_-]?key|access[_-]?key|secret|token(?!iz|s(?![a-z]))|passw(?:or)?d|passphrase|credential|private[_-]?key)"
    r"[A-Za-z0-9_-]{0,40}"  # bounded, as the scheme below: a long line must not take quadratic time
)
_ASSIGNMENT: Final = re.compile(
    rf"(?P<name>(?<![A-Za-z0-9_.-]){_NAME})(?P<sep>[\"']?\s*(?:=|:)\s*|\s+(?=[A-Za-z0-9+/_.-]*[0-9]))(?P<quote>[\"']?)(?P<value>[^\s\"',;]{{6,}})",
    re.IGNORECASE,
)
_SHAPES: Final = tuple(
    re.compile(p)
    for p in (
        r"hf_[A-Za-z0-9]{16,}",  # Hugging Face
        r"sk-(?:proj-|ant-|lf-)?[A-Za-z0-9_-]{16,}",  # OpenAI-like, Anthropic, LangFuse secret keys
        r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}",  # GitHub
        r"glpat-[A-Za-z0-9_-]{16,}",  # GitLab
        r"(?:AKIA|ASIA)[A-Z0-9]{16}",  # AWS access key id
        r"xox[abprs]-[A-Za-z0-9-]{10,}",  # Slack
        r"AIza[A-Za-z0-9_-]{30,}",  # Google API key
        r"hvs\.[A-Za-z0-9_-]{16,}",  # Vault
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",  # JSON web token
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    )
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_URL_USER: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,30}://)[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
# Words that stand after such names in ordinary logs and are no secrets.
_HARMLESS: Final = re.compile(
    r"^(?:none|null|true|false|\d{1,12}(?:\.\d+)?|\[masked\].*|\$\{?[A-Za-z_].*|<.*|\{\{.*|os\.environ.*)$",
    re.IGNORECASE,
)
HINTS: Final = (
    *("hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "akia", "asia", "xox", "aiza"),
    *("hvs.", "eyj", "private key", "bearer", "basic", "://", "key", "secret", "token", "passw", "passphrase"),
    "credential",
)
"""A text that holds none of these, in lower case, holds nothing that looks like a secret: every pattern needs one."""
_SHORTEST_KNOWN: Final = 6  # shorter "secrets" would blank out ordinary words


def mask(text: str, known: Iterable[str] = ()) -> str:
    """`text` with secrets replaced by `[masked]`.

    `known` are values known to be secret; those shorter than 6 characters are ignored, because replacing them would
    hide ordinary text. The function is idempotent: masking a masked text changes nothing.
    """
    for secret in sorted({k for k in known if len(k) >= _SHORTEST_KNOWN}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    lower = text.lower()
    if not any(hint in lower for hint in HINTS):
        return text  # nearly every line of a log; the patterns below cost a hundred times as much
    for shape in _SHAPES:
        text = shape.sub(MASK, text)
    text = _BEARER.sub(lambda m: f"{m[1]} {MASK}", text)
    text = _URL_USER.sub(lambda m: f"{m['scheme']}{MASK}@", text)
    return _ASSIGNMENT.sub(_masked_assignment, text)


def _masked_assignment(match: re.Match[str]) -> str:
    if _HARMLESS.match(match["value"]):
        return match[0]
    return f"{match['name']}{match['sep']}{match['quote']}{MASK}"


def mask_json(value: Json, known: Iterable[str] = ()) -> Json:
    """A JSON value with the secrets in all its strings masked, keys included.

    The key above a string counts as the name before it: `{"HF_TOKEN": "abcdef"}` gives `{"HF_TOKEN": "[masked]"}`.
    It does not count for the items of a list, which are names as often as values (`{"secrets": ["HF_TOKEN"]}`).
    Numbers and booleans stay; tuples become lists.
    """
    return _masked_under("", value, tuple(known))


def _masked_under(name: str, value: Json, known: tuple[str, ...]) -> Json:
    if isinstance(value, str):
        text = mask(value, known)
        named = f"{name}={text}"
        return text if not name or mask(named) == named else MASK
    if isinstance(value, dict):
        return {mask(str(k), known): _masked_under(str(k), v, known) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_masked_under("", item, known) for item in value]
    return value

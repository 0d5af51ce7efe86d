"""Masking of secrets in texts that are written or sent. A pure function, used by every room that does either.

Two nets: values known to be secret (from the environment, answers, tokens) are replaced wherever they stand, also
where they are quoted for a URL, escaped for JSON or in base64, and texts that look like a secret by their shape or by
the name before them are replaced too. Nothing is guessed from how random a text looks: digests, run ids and metrics
are as random as keys. Masking errs on the side of hiding; it never raises.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus, unquote

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
_URL_USER: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,30}://)(?:[^/\s:@]*:[^/\s@]+|[\w%-]{20,})@", re.IGNORECASE
)
_URL_PASSWORD: Final = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[^/\s:@]*:(?P<password>[^/\s@]+)@", re.IGNORECASE)
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
_SHORTEST_ENCODED: Final = 12  # bytes: fewer leave too little in the middle of a longer base64 text

# Names of environment variables whose value is secret; more of them than in texts, where a name is a guess.
_SECRET_NAME: Final = re.compile(
    r"TOKEN(?!IZ|S(?![A-Z]))|SECRET|PASSW(?:OR)?D|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|JWT|COOKIE"
    r"|(?:^|_)(?:KEY|PASS|AUTH|PAT|DSN)$|_PWD$"
)
# What such a name ends with when its value says where a secret is or what it is called, and is none itself.
_ABOUT_SECRETS: Final = re.compile(
    r"_(?:FILE|PATH|DIR|NAME|TYPE|TTL|SOCK|COMMAND|CMD|HELPER|ENABLED|EXPIRY|EXPIRES?|LIMIT|COUNT|LENGTH|MODE)$"
    r"|^GOOGLE_APPLICATION_CREDENTIALS$"
)
_WORDS: Final = frozenset({"disabled", "enabled", "default", "required", "optional", "offline", "online", "dryrun"})


def mask(text: str, known: Iterable[str] = ()) -> str:
    """`text` with secrets replaced by `[masked]`.

    `known` are values known to be secret, found in all their `forms`. The function is idempotent: masking a masked
    text changes nothing.
    """
    for form in forms(tuple(known)):
        text = text.replace(form, MASK)
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


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of that name holds a secret: `HF_TOKEN`, not `TOKENIZERS_PARALLELISM`."""
    upper = name.upper()
    return bool(_SECRET_NAME.search(upper)) and not _ABOUT_SECRETS.search(upper)


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values in an environment that must be written nowhere: those under a secret's name, and passwords in URLs.

    Left out: values of fewer than 6 characters, truth values, numbers, and words that say how, not what.
    """
    found: dict[str, None] = {}
    for name, value in environment.items():
        if is_secret_name(name) and _may_be_secret(value):
            found[value.strip()] = None
        for match in _URL_PASSWORD.finditer(value):
            for form in (match["password"], unquote(match["password"])):
                if _may_be_secret(form):
                    found[form] = None
    return tuple(found)


def _may_be_secret(value: str) -> bool:
    plain = value.strip()
    return len(plain) >= _SHORTEST_KNOWN and not _HARMLESS.match(plain) and plain.lower() not in _WORDS


@lru_cache(maxsize=64)
def forms(known: tuple[str, ...]) -> tuple[str, ...]:
    """How known secrets may stand in a text, the longest first: as they are, line by line, quoted for a URL, escaped
    for JSON, and in base64, alone or inside something longer.

    Secrets shorter than 6 characters are left out, because replacing them would hide ordinary text.
    """
    found: set[str] = set()
    for secret in known:
        found |= {form for form in _forms(secret) if len(form) >= _SHORTEST_KNOWN}
        found |= {line.strip() for line in secret.splitlines() if len(line.strip()) >= _SHORTEST_KNOWN}
    # What the mask itself holds can't be hidden by it.
    return tuple(sorted((f for f in found if f not in MASK), key=lambda form: (-len(form), form)))


def _forms(secret: str) -> Iterable[str]:
    if len(secret) < _SHORTEST_KNOWN:
        return
    yield secret
    try:
        data = secret.encode("utf-8", "surrogateescape")  # as it stands in the environment
    except UnicodeEncodeError:
        data = secret.encode("utf-8", "surrogatepass")
    yield from (quote(data), quote(data, safe=""), quote_plus(data))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    for before in range(3) if len(data) >= _SHORTEST_ENCODED else (0,):
        # Three bytes are four letters: the letters that another byte takes part in are left out.
        inside = base64.b64encode(b"\0" * before + data).decode()
        whole = inside[(0, 2, 3)[before] : (len(data) + before) * 8 // 6]
        yield from (whole, whole.replace("+", "-").replace("/", "_"))


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

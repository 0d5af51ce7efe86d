"""Masking of secrets in texts that are written or sent. A pure function, used by every room that does either.

Two nets: values known to be secret (from the environment, answers, tokens) are replaced wherever they stand, also
where they are quoted for a URL, escaped for JSON or in base64, and texts that look like a secret by their shape or by
the name before them are replaced too. Nothing is guessed from how random a text looks: digests, run ids and metrics
are as random as keys. Masking errs on the side of hiding; it never raises.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus, unquote

from caravan.values.base import Json
from caravan.values.patterns import late
from caravan.values.secret_places import (
    COMMAND_HINTS,
    COMMANDS,
    FINDS,
    KEY_END,
    KEYED,
    KEYED_RUN,
    PASSWORD,
    SAID,
    VAULT,
)

MASK: Final = "[masked]"

# A name that promises a secret, then its value: KEY=value, "key": "value", --key value, Authorization: Bearer value.
_NAME = (
    r"[A-Za-z0-9_.-]*(?:api[_-]?key|access[_-]?key|secret|token(?!i[sz]|s(?![a-z]))|passw(?:or)?d|passphrase|credential"
    r"|(?:private|account)[_-]?key)[A-Za-z0-9_-]{0,40}"  # bounded: a long line must not take quadratic time
)
# Quotes may be escaped, as those of JSON inside JSON are. A name and its value stand on one line.
_ASSIGNMENT: Final = late(
    rf"(?P<name>(?<![A-Za-z0-9_.-]){_NAME})"
    r"(?P<sep>\\*[\"']?[^\S\r\n]*(?:=|:)[^\S\r\n]*|[^\S\r\n]+(?=[A-Za-z0-9+/_.-]*[0-9]))"
    r"(?P<quote>\\*[\"']|)(?P<value>[^\s\"',;]{6,})",
    re.IGNORECASE,
)
# Names that speak of a secret's absence or fault: `NoCredentialsError: ...` is followed by a sentence.
_FAULT: Final = late(
    r"(?:error|exception|warning|not_?found|expired|missing|invalid|denied|failure|failed|required|refused)s?$",
    re.IGNORECASE,
)
# Where a token may begin: not within a word; but after an escape that ends like one (`\n`, `\u003d`, `%3D`, a colour).
_START: Final = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=\\x[0-9A-Fa-f]{2})|(?<=%[0-9A-Fa-f]{2})"
    r"|(?<=[\[\d]m))"
)
# Digits and a capital, or four digits: words, dashes and a version are a file's or an image's name.
_STRONG: Final = r"(?:(?=[{0}]*[A-Z])(?=[{0}]*[0-9])|(?=(?:[{0}]*?[0-9]){{4}}))"
_RUN, _KEY = "A-Za-z0-9_", "A-Za-z0-9_-"
_SHAPES: Final = tuple(
    late(p)
    for p in (
        _START + r"hf_[A-Za-z0-9]{16,}",  # Hugging Face
        # OpenAI-like, Anthropic, LangFuse secret keys
        _START + rf"sk-(?:proj|ant|lf|or|svcacct|admin)-{_STRONG.format(_KEY)}[{_KEY}]{{16,}}",
        _START + rf"sk-(?:[A-Za-z0-9]{{1,15}}-){{0,3}}{_STRONG.format(_RUN)}[{_RUN}]{{16,}}[{_KEY}]*",
        _START + r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",  # GitHub
        _START + r"glpat-[A-Za-z0-9_-]{16,}",  # GitLab
        _START + r"(?:AKIA|ASIA)[A-Z0-9]{16}",  # AWS access key id
        _START + r"(?:xox[abprs]|xapp)-[A-Za-z0-9-]{10,}",  # Slack
        r"(?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/+-]{8,}",  # who knows the address may write there
        r"(?<=/api/webhooks/)\d+/[\w-]{16,}",  # Discord
        _START + r"AIza[A-Za-z0-9_-]{30,}",  # Google API key
        _START + r"hv[sbr]\.[A-Za-z0-9_-]{16,}",  # Vault
        _START + r"nvapi-[A-Za-z0-9_-]{20,}",  # NVIDIA
        _START + r"npm_(?=[A-Za-z]*[0-9])[A-Za-z0-9]{30,}",
        _START + r"pypi-Ag[A-Za-z0-9_-]{16,}",  # a macaroon, which begins so
        _START + r"(?:dckr_pat_|wandb_v[0-9]_|lsv2_(?:pt|sk)_)[A-Za-z0-9_-]{20,}",
        _START + r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",  # JSON web token
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    )
)
_BEARER: Final = late(
    r"(?P<header>authorization[\\\"']*[^\S\r\n]*[:=][\\\"'\s]*)?\b(?P<kind>bearer|basic)[^\S\r\n]+"
    r"(?P<value>[A-Za-z0-9._~+/=-]{8,})",
    re.IGNORECASE,
)
_BASE64: Final = late(r"[A-Za-z0-9+/]+=*")
_URL_USER: Final = late(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,30}://)(?!(?-i:USER:PASSWORD@))(?:[^/\s:@]*:[^/\s@]+|[\w%-]{20,})@(?!sha256:)",
    re.IGNORECASE,
)
# What a signed URL is worth: S3's and GCS's signature, CloudFront's, Azure's `sig`, go-getter's `sshkey`, any token.
_SIGNED: Final = late(
    r"(?P<name>(?:[?&;]|\\u0026|%26|%3F)(?:X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|Signature|sig|sshkey"
    r"|[a-z_-]{0,40}token)(?:=|%3D))(?!\[masked\])(?P<value>[^\s&\"'<>#\\]{6,})",
    re.IGNORECASE,
)
_URL_PASSWORD: Final = late(r"[a-z][a-z0-9+.-]{0,30}://[^/\s:@]*:(?P<password>[^/\s@]+)@", re.IGNORECASE)
# Words that stand for a secret, or for none.
_HARMLESS: Final = late(
    r"^(?:none|null|true|false|\d{1,12}(?:\.\d+)?|\[masked\].*|\$\{?[A-Za-z_].*|<.*|\{\{.*|os\.environ.*)$",
    re.IGNORECASE,
)
_NUMBER = (
    r"[~+-]*(?:[0-9][0-9_]{0,17}(?:\.[0-9]+)*\.?|\.[0-9]+|nan|inf(?:inity)?)(?:e[+-]?[0-9]{1,4})?"
    r"(?:%|x|[kmgtpunµ]?(?:i?b|s|secs?|seconds?|h|hours?|mins?|minutes?|it|iters?|toks?|tokens?|steps?|samples?"
    r"|ex|examples?|flops?|w|pts?)?(?:/[a-z]{1,10})?)"
)
# What is counted, measured or dated: numbers with units, ratios, sizes, times, and pairs of a name and such a number.
_MEASURED: Final = late(
    rf"(?:[a-z_][\w./-]*[=:])?(?:{_NUMBER}(?:[x:/]{_NUMBER})*|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:T[0-9:.]+Z?)?"
    r"|none|null|true|false)[.:!?…]*",
    re.IGNORECASE,
)
# A stroke stands between two pairs (`a=1/b=2`), in a name (`train/loss`) or in a unit.
_BETWEEN: Final = tuple(late(p) for p in (r"[|&()\[\]{}<>]+", r"[|&()\[\]{}<>/]+"))
_NEXT: Final = late(r"[a-z_./-]{1,40}[0-9]?[=:]?")  # `0.5|loss: 0.1`: a name whose number comes after a blank
# Code where a value would stand: a call, a type with its parameter, a constant.
_CODE: Final = late(
    r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w{2,}(?:\([\[({]*(?:[A-Za-z_]+(?:=.*)?|[+-]?[0-9.e-]*)[)\]}:]*|\[[A-Za-z_.|\[]*\]*\)?)"
)
_CONSTANT: Final = late(r"[A-Z]{2,}(?:_[A-Z]+[0-9]{0,2})+")
_STOPS: Final = ".:!?…"
_QUOTED: Final = 200  # characters between quotes that may be one secret
_LONG: Final = 16  # characters without a blank that are no word
_CLOSES: Final = {")": "(", "]": "[", "}": "{", ">": "<"}
HINTS: Final = (
    *("hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "akia", "asia", "xox", "aiza"),
    *("xapp-", "hooks.slack", "/webhooks/", "hvb.", "hvr.", "nvapi-", "npm_", "pypi-", "dckr_pat_", "wandb_v", "lsv2_"),
    *("hvs.", "eyj", "private key", "bearer", "basic", "://", "key", "secret", "token", "passw", "passphrase"),
    *("sig=", "sig%3d", "signature=", "signature%3d"),
    *("credential", "login", "curl", "mysql", "mariadb", "sshpass", "redis-cli", "pwd"),
)
"""A text that holds none of these, in lower case, holds nothing that looks like a secret: every pattern needs one."""
# What of them each kind of pattern needs.
_SHAPE_HINTS: Final = HINTS[: HINTS.index("private key") + 1]
_SIGNED_HINTS: Final = ("sig", "sshkey", "token", "credential")
_NAME_HINTS: Final = ("key", "secret", "token", "passw", "passphrase", "credential")
_ESCAPED: Final = late(r"%[0-9A-F]{2}")
_SHORTEST_KNOWN: Final = 6  # shorter "secrets" would blank out ordinary words
_SHORTEST_ENCODED: Final = 12  # bytes: fewer leave too little in the middle of a longer base64 text

# Names of environment variables whose value is secret; more of them than in texts, where a name is a guess.
_SECRET_NAME: Final = late(
    r"TOKEN(?!IZ|S(?![A-Z]))|SECRET|PASSW(?:OR)?D|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|JWT|COOKIE"
    r"|(?:^|_)(?:KEY|PASS|AUTH|PAT|DSN)$|_PWD$"
)
# What such a name ends with when its value says where a secret is or what it is called, and is none itself.
_ABOUT_SECRETS: Final = late(
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
    if "s." in text:
        text = VAULT.sub(MASK, text)
    lower = text.lower()
    if not any(hint in lower for hint in HINTS):
        return text  # nearly every line of a log; the patterns below cost a hundred times as much
    if any(hint in lower for hint in _SHAPE_HINTS):
        for shape in _SHAPES:
            text = shape.sub(MASK, text)
    if "-----end" in lower:
        text = KEY_END.sub(MASK, text)
    if "bearer" in lower or "basic" in lower:
        text = _BEARER.sub(_masked_header, text)
    if "://" in lower:
        text = _URL_USER.sub(lambda m: f"{m['scheme']}{MASK}@", text)
    if any(hint in lower for hint in _SIGNED_HINTS):
        text = _SIGNED.sub(lambda m: f"{m['name']}{MASK}", text)
    text = _masked_places(text, lower)
    if not any(hint in lower for hint in _NAME_HINTS):
        return text
    return "".join(_masked_assignments(text))


def _masked_places(text: str, lower: str) -> str:
    """The text without what command lines, sentences and quotes give away; `lower` is it in lower case."""
    if any(hint in lower for hint in COMMAND_HINTS):
        for command in COMMANDS:
            text = command.sub(_masked_value, text)
    if "pass" in lower or "pwd" in lower:
        for password in PASSWORD:
            text = password.sub(_masked_value, text)
    if "key" in lower or "token" in lower:
        text = KEYED.sub(_masked_key, SAID.sub(_masked_said, text))
    return text


def unhinted(text: str) -> tuple[str, ...]:
    """What looks like a secret in a text though it holds none of `HINTS`, in lower case."""
    return tuple(found.lower() for found in VAULT.findall(text)) if "s." in text else ()


def _masked_header(match: re.Match[str]) -> str:
    """`Bearer` and `Basic` with what follows them, unless that is a word: "Basic authentication is required"."""
    value = match["value"]
    telling = _has_digit(value) or (len(value) >= _LONG and not value.isalpha())
    if match["kind"].lower() == "basic":
        telling = bool(_BASE64.fullmatch(value)) and (telling or value.endswith("=") or not _is_word(value))
    if not match["header"] and not telling:
        return match[0]
    return f"{match['header'] or ''}{match['kind']} {MASK}"


def _masked_value(match: re.Match[str]) -> str:
    return match[0] if _HARMLESS.match(match["value"]) else f"{match['before']}{MASK}"


def _masked_said(match: re.Match[str]) -> str:
    return f"{match['before']}{MASK}" if _is_key(match["value"]) else match[0]


def _masked_key(match: re.Match[str]) -> str:
    flag = match["name"].startswith("-")
    told = flag or match["before"].rstrip(" \t\\\"'")[-1] in "=:"  # a blank alone stands in any sentence
    if not told or FINDS.search(match["name"]) or not _is_key(match["value"]):
        return match[0]
    return f"{match['before']}{MASK}"


def _is_key(value: str) -> bool:
    """Whether a value has a long run of letters and digits, as keys have and names have not."""
    return any(sum(c.isdigit() for c in run) > 1 and not run.isdigit() for run in KEYED_RUN.findall(value))


def _masked_assignments(text: str) -> Iterator[str]:
    """The text in pieces. A value that is none is searched itself: another name may stand in it."""
    at = 0
    while match := _ASSIGNMENT.search(text, at):
        yield text[at : match.start("value")]
        at = match.start("value")
        if value := _secret_of(match):
            yield MASK
            at += len(value)
            if match["quote"]:  # what follows the first word is as secret, up to the quote that ends it
                closing = text.find(match["quote"], at, at + _QUOTED)
                at = closing if closing > at and text[at] in " ,;" and "\n" not in text[at:closing] else at
    yield text[at:]


def _secret_of(match: re.Match[str]) -> str:
    """What of the value behind a telling name is secret; empty when it is a number, a reference, code, or a word."""
    value, quoted = _without_closing(match["value"]), bool(match["quote"])
    if len(value) < _SHORTEST_KNOWN or _FAULT.search(match["name"]) or _HARMLESS.match(value):
        return ""
    if _is_measured(value) or _CONSTANT.fullmatch(value):
        return ""
    if not quoted and (_CODE.fullmatch(match["value"]) or _CODE.fullmatch(value)):
        return ""
    sentence = ":" in match["sep"] and match["sep"][-1].isspace() and not quoted
    if sentence and not _has_digit(value) and len(value) < _LONG:
        return ""  # "password: incorrect"
    return value


def _is_measured(value: str) -> bool:
    """Whether a value is made of numbers, and of names before them."""
    for between in _BETWEEN:
        parts = [part for part in between.split(value) if part.strip(_STOPS)]
        if len(parts) > 1 and _NEXT.fullmatch(parts[-1]):
            parts.pop()
        if all(_MEASURED.fullmatch(part) for part in parts):
            return True
    return False


def _without_closing(value: str) -> str:
    """A value without the closing brackets at its end that it has not opened itself, and without an escape's stroke."""
    value = value.rstrip("\\")
    if value.rstrip(_STOPS)[-1:] in _CLOSES:
        value = value.rstrip(_STOPS)
    while value and value[-1] in _CLOSES and value.count(value[-1]) > value.count(_CLOSES[value[-1]]):
        value = value[:-1]
    return value


def _has_digit(text: str) -> bool:
    return any(c.isdigit() for c in text)


def _is_word(text: str) -> bool:
    return text.isalpha() and text[1:].islower()


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
    """How known secrets may stand in a text, the longest first: as they are, line by line, quoted for a URL, for
    HTML or a shell, escaped for JSON or Python, and in base64, alone or inside something longer.

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
    for quoted in (quote(data), quote(data, safe=""), quote_plus(data), quote(data, safe="!*'()")):
        yield from (quoted, _ESCAPED.sub(lambda m: m[0].lower(), quoted))
    yield from _literals(secret)
    yield from (html.escape(secret, quote=False), html.escape(secret))
    for double in ("&quot;", "&#34;", '"'):
        yield html.escape(secret).replace("&quot;", double).replace("&#x27;", "&#39;")
    for before in range(3) if len(data) >= _SHORTEST_ENCODED else (0,):
        # Three bytes are four letters: the letters that another byte takes part in are left out.
        inside = base64.b64encode(b"\0" * before + data).decode()
        whole = inside[(0, 2, 3)[before] : (len(data) + before) * 8 // 6]
        yield from (whole, whole.replace("+", "-").replace("/", "_"))


def _literals(secret: str) -> Iterator[str]:
    """How a text stands between the quotes of JSON, of JSON inside JSON, of Python and of a shell."""
    for ascii_only in (True, False):
        said = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        # Go's encoder writes these three by their numbers; some others escape the stroke.
        by_number = said.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
        for form in (said, by_number, said.replace("/", "\\/")):
            yield from (form, json.dumps(form, ensure_ascii=ascii_only)[1:-1])
    yield from (repr(secret)[1:-1], secret.replace("\\", "\\\\").replace("'", "\\'"))
    yield from (secret.replace("'", "'\"'\"'"), secret.replace("'", "'\\''"))  # as shlex and as people quote


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

"""Signs that a node does not reach the internet or a hub. Only data.

Processes of one training that do not reach each other are another cause: their words stand elsewhere and outrank these.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_NET: Final = _F.NETWORK_UNREACHABLE
_AFTER: Final = (
    _F.HUB_NOT_FOUND,
    _F.CHECKPOINT_UNUSABLE,
    _F.DATA_PATH_MISSING,
    _F.USER_CODE_BUG,
    _F.PACKAGE_VERSION_CONFLICT,
    _F.MISSING_PYTHON_PACKAGE,
    _F.BUILD_TOOLCHAIN_MISSING,
)
_POOL: Final = r"HTTPS?ConnectionPool\(host=\\?'(?P<host>[^'\\]+)'"
_NOT_OF_RANKS: Final = r"(?!.*(?:c10d|TCPStore|rdzv|socket\.cpp|NCCL|ncclUniqueId|MASTER_ADDR|gloo|:4646|/v1/))"

# What git and its servers say to who has no right to a repository, or names one that is not there.
_UNNAMED: Final = r"\bfatal: (?:could not read (?:Username|Password)|Authentication failed) for '(?P<url>https?://"
_HUBS: Final = r"(?:[^@'/]*@)?(?:huggingface\.co|hf\.co)"
_GIT_AFTER: Final = (
    *(_F.NETWORK_UNREACHABLE, _F.PACKAGE_VERSION_CONFLICT, _F.BUILD_TOOLCHAIN_MISSING, _F.HUB_NOT_FOUND),
    *(_F.USER_CODE_BUG, _F.MISSING_PYTHON_PACKAGE, _F.DATA_PATH_MISSING, _F.REGISTRY_AUTH_DENIED),
)

NETWORK_SIGNS: Final[tuple[Sign, ...]] = (
    row(rf"{_UNNAMED}{_HUBS}[^']*)", _LOG, _F.HF_GATED_AUTH, 0.93, *_GIT_AFTER),
    row(
        rf"{_UNNAMED}(?!{_HUBS})[^']*)"
        r"|\bgit@[\w.-]+: Permission denied \((?:publickey|password)|\bfatal: Could not read from remote repository",
        _LOG,
        _F.ARTIFACT_DOWNLOAD_FAILED,
        0.92,
        *_GIT_AFTER,
        _F.OUTPUT_PERMISSION_DENIED,
        kind="denied",
        escalate=True,
    ),
    row(
        rf"^{_NOT_OF_RANKS}.*{_POOL}.*(?:NameResolutionError|name resolution|Name or service not known"
        rf"|getaddrinfo|nodename nor servname)",
        _LOG,
        _NET,
        0.95,
        *_AFTER,
        mild=True,
        kind="dns",
    ),
    row(
        rf"^{_NOT_OF_RANKS}.*{_POOL}.*(?:ProxyError|Tunnel connection failed"
        rf"|proxy)",
        _LOG,
        _NET,
        0.94,
        *_AFTER,
        kind="proxy",
    ),
    row(
        rf"^{_NOT_OF_RANKS}.*{_POOL}.*(?:SSLError|SSL:|CERTIFICATE"
        rf"|certificate)",
        _LOG,
        _NET,
        0.94,
        *_AFTER,
        kind="tls",
    ),
    row(rf"^{_NOT_OF_RANKS}.*{_POOL}.*(?:[Tt]imed out|Timeout)", _LOG, _NET, 0.94, *_AFTER, kind="timeout"),
    row(rf"^{_NOT_OF_RANKS}.*{_POOL}.*(?:unreachable|No route)", _LOG, _NET, 0.94, *_AFTER, kind="route"),
    row(
        rf"^{_NOT_OF_RANKS}.*{_POOL}.*(?:refused|Max retries exceeded|reset by peer"
        rf"|RemoteDisconnected)",
        _LOG,
        _NET,
        0.92,
        *_AFTER,
        kind="refused",
    ),
    # A hub's client that reaches nobody and has nothing kept.
    row(
        r"\bWe couldn't connect to '(?:https?://)?(?P<host>[^'/]+)'"
        r"|\bCouldn't reach (?:the Hugging Face Hub|https?://(?P<host2>[\w.-]+)|'[^']+' on the Hub)"
        r"|\berror happened while trying to locate the files? on the Hub"
        r"|\bConnection error, and we cannot find the requested files"
        r"|\bCheck (?:out )?your internet connection\b|\bcheck your (?:internet "
        r"|network )?connection\b.{0,20}try again",
        _LOG,
        _NET,
        0.9,
        _F.CHECKPOINT_UNUSABLE,
        _F.DATA_PATH_MISSING,
        _F.USER_CODE_BUG,
    ),
    row(
        r"\bLocalEntryNotFoundError\b|\boutgoing traffic has been disabled\b|\bOfflineModeIsEnabled\b"
        r"|\boffline mode is enabled\b|\bHF_HUB_OFFLINE=1\b.{0,80}(?:not|cannot|error)"
        r"|\bTRANSFORMERS_OFFLINE\b.{0,60}(?:not|cannot)",
        _LOG,
        _NET,
        0.88,
        _F.DATA_PATH_MISSING,
        _F.CHECKPOINT_UNUSABLE,
        _F.USER_CODE_BUG,
        kind="offline",
    ),
    # Clients in other languages, and plain tools.
    row(
        r"\b[Cc]ould not resolve(?: host| proxy)?:? '?(?P<host>[\w.-]+)"
        r"|\bdns error: failed to lookup address|\bunable to resolve host address"
        r"|\bFailed to resolve '(?P<host2>[\w.-]+)' \(\[Errno -\d\]"
        r"|\burlopen error \[Errno -\d\]|\bgetaddrinfo (?:failed|ENOTFOUND|EAI_AGAIN)",
        _LOG,
        _NET,
        0.92,
        *_AFTER,
        kind="dns",
    ),
    row(
        rf"^{_NOT_OF_RANKS}(?:.*(?:socket\.)?gaierror|httpx?\S*\.ConnectError|\S*ConnectionError"
        rf"|\S*ClientConnector\w*Error)\b.*"
        r"(?:\[Errno -[235]\]|name resolution|Name or service not known|Cannot connect to host)",
        _LOG,
        _NET,
        0.91,
        _F.USER_CODE_BUG,
        _F.DATA_PATH_MISSING,
        kind="dns",
    ),
    row(
        rf"^{_NOT_OF_RANKS}.*"
        r"(?:\b(?:urlopen error|Failed to connect to"
        r"|connect to) ?[\w.<>\[\] -]{0,60}.{0,60}(?:[Tt]imed out|Connection refused"
        r"|Network is unreachable|No route to host)"
        r"|\bFailed to establish a new connection: \[Errno \d+\]|\bNewConnectionError\b"
        r"|\bFailed to connect to [\w.-]+ port \d+|\bCould not connect to the endpoint URL\b|\bclient error \(Connect\)"
        r"|\b(?:error sending request|operation timed out).{0,20}(?:for url)?"
        r"|\b(?:aiohttp|httpx|requests|urllib3)\S*\.(?:ConnectTimeout|ReadTimeout|ConnectError"
        r"|ServerDisconnectedError|ProxyError|SSLError)\b)",
        _LOG,
        _NET,
        0.9,
        *_AFTER,
        kind="timeout",
    ),
    row(
        r"\bOSError: \[Errno (?:101|113)\]|\bENETUNREACH\b"
        r"|^\S*: ?(?:connect: )?Network is unreachable$|\bTemporary failure resolving '(?P<host>[^']+)'"
        r"|\bE: Failed to fetch https?://(?P<host2>[\w.-]+)|\bErr:\d+ https?://(?P<host3>[\w.-]+)",
        _LOG,
        _NET,
        0.88,
        _F.BUILD_TOOLCHAIN_MISSING,
        _F.USER_CODE_BUG,
        kind="route",
    ),
    row(
        r"\bSSLCertVerificationError\b|\bCERTIFICATE_VERIFY_FAILED\b|\bSSL certificate problem\b"
        r"|\bself[- ]signed certificate\b",
        _LOG,
        _NET,
        0.88,
        *_AFTER,
        kind="tls",
    ),
    row(
        # By a known host, or by the paths that every hub has (a mirror's too).
        r"\b50[0234] (?:Server Error|Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)\b"
        r".*https?://(?:(?P<host>[\w.-]*(?:huggingface|hf\.co|pypi|pythonhosted|pytorch\.org|github)[\w.-]*)"
        r"|(?P<host2>[\w.-]+)(?::\d+)?/(?:\S*/)?(?:api/(?:models|datasets|whoami)|resolve)\b)",
        _LOG,
        _NET,
        0.9,
        *_AFTER,
        kind="down",
    ),
    row(
        r"\bCAS service error\b.*(?:[Rr]eqwest|[Nn]etwork|[Rr]equest failed|timed out)",
        _LOG,
        _NET,
        0.9,
        *_AFTER,
        kind="timeout",
    ),
    row(
        r"\bConnectionError: .*(?:Connection aborted|ConnectionResetError|RemoteDisconnected|Remote end closed)"
        r"|\b(?:ChunkedEncodingError|IncompleteRead|IncompleteMessage)\b|\bConnection broken: |\bRPC failed; curl \d+",
        _LOG,
        _NET,
        0.86,
        *_AFTER,
        kind="timeout",
    ),
    # pip's last try of its index; what it says after it ("from versions: none") follows from it.
    row(
        r"\bRetrying \(Retry\(total=0,.*connection broken by|\bCould not fetch URL https?://(?P<host>[\w.-]+)"
        r"|\bThere was a problem confirming the ssl certificate"
        r"|\bCould not install packages due to an OSError: HTTPS?ConnectionPool"
        r"|\b[Ff]ailed to fetch: `?https?://(?P<host2>[\w.-]+)|\bpip\S*ReadTimeoutError\b",
        _LOG,
        _NET,
        0.93,
        *_AFTER,
        mild=True,
        kind="timeout",
    ),
    row(
        r"\bRun initialization has timed out after|\bCould not connect to server after multiple tries\b"
        r"|\bCommError: .*(?:timed out|Network error|connection)",
        _LOG,
        _NET,
        0.8,
        kind="timeout",
    ),
)

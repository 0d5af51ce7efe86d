"""Signs in the cluster's answers to requests: jobs that it does not take, tokens, objects, and no answer. Only data.

Where a whole text is known to be such an answer its lines come as validation errors; else they stand in a log.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_ANSWER: Final = Origin.VALIDATION
_LOG: Final = Origin.LOG
_SAID: Final = (Origin.VALIDATION, Origin.LOG)

_TARGET: Final = _F.CLUSTER_TARGET_MISMATCH
_DENIED: Final = _F.ACL_PERMISSION_DENIED
_GONE: Final = _F.NOMAD_OBJECT_NOT_FOUND
_SILENT: Final = _F.NOMAD_API_UNREACHABLE
_JOB: Final = _F.JOBSPEC_INVALID

# The cluster's own API, by its paths or its port.
_API: Final = (
    r"(?:/v1/(?:jobs?|allocations?|evaluations?|nodes?|client|status|deployments?|event|agent|validate|search"
    r"|namespaces?|regions?|vars?)\b|:4646\b|\bport=4646\b)"
)
_OBJECT: Final = r"(?P<object>job|alloc(?:ation)?|eval(?:uation)?|node|deployment)"
_PROXY: Final = r"\b50[234]\b.{0,40}(?:[Bb]ad [Gg]ateway|[Uu]navailable|[Gg]ateway [Tt]ime-?out)"

REQUEST_SIGNS: Final[tuple[Sign, ...]] = (
    # A region, a namespace or a pool that is not there.
    row(r"nonexistent namespace \\?\"?(?P<target>[^\"\s)\\]+)", _SAID, _TARGET, 0.97, _JOB, _GONE, kind="namespace"),
    row(r"nonexistent node pool \\?\"?(?P<target>[^\"\s)\\]+)", _SAID, _TARGET, 0.97, _JOB, _GONE, kind="node_pool"),
    row(
        r"(?<!\bin )\b(?P<kind>[Nn]amespace|[Nn]ode pool|[Rr]egion|[Dd]atacenter) \\?\"(?P<target>[^\"\\]+)\\?\" "
        r"(?:was |is |could )?(?:not (?:be )?found|does not exist|unknown)",
        _ANSWER,
        _TARGET,
        0.95,
        _JOB,
        _GONE,
    ),
    row(r"(?i:\bno (?:path to|cluster) region\b)", _SAID, _TARGET, 0.97, _JOB, _GONE, kind="region"),
    # A token that is missing, wrong or has too little rights.
    row(
        r"\b403\b.{0,120}[Pp]ermission denied|[Pp]ermission denied.{0,120}\b403\b|^Permission denied$"
        r"|\berror: Permission denied\b|: Permission denied\)?\s*$|\b[Mm]issing capabilit(?:y|ies)\b"
        r"|\b[Ss]entinel\b.{0,200}(?:[Ff]alse|fail|denied)|Unexpected response code: 40[13]\b"
        r"|\b40[13] (?:Forbidden|Unauthorized)\b",
        _ANSWER,
        _DENIED,
        0.96,
        _JOB,
        _GONE,
    ),
    row(r"\bACL token (?:not found|expired|is invalid)\b|URLNotAuthorizedNomadException", _SAID, _DENIED, 0.96, _JOB),
    row(
        rf"{_API}.{{0,300}}(?:\b403\b|[Pp]ermission denied)"
        rf"|Unexpected response code: 403 \(",
        _LOG,
        _DENIED,
        0.92,
        _JOB,
    ),
    # An object that is not there, or whose id is none.
    row(
        rf"(?i:\b(?:unknown|no) {_OBJECT}(?:\(s\)|s)? (?:ID|with (?:prefix"
        rf"|id))\b)(?:.{{0,20}}?\\?\"(?P<id>[^\"\\]+))?",
        _SAID,
        _GONE,
        0.95,
        _JOB,
        kind="gone",
    ),
    row(
        rf"(?i:\b{_OBJECT}\b(?: ID)?(?: \\?\"(?P<id>[^\"\\]{{1,80}})\\?\")?[^:;]{{0,80}} (?:not found|doesn't exist)\b)"
        rf"|\bUnexpected response code: 404\b|URLNotFoundNomadException",
        _ANSWER,
        _GONE,
        0.93,
        _JOB,
        kind="gone",
    ),
    row(rf"\bUnexpected response code: 404 \({_OBJECT} not found\)", _SAID, _GONE, 0.93, _JOB, kind="gone"),
    row(
        r"\bInvalid UUID\b|\bUUID must be\b|\b(?:Identifier|Alloc ID|ID) must contain at least two characters"
        r"|\b[Pp]refix matched multiple\b|\bindex error\b",
        _SAID,
        _GONE,
        0.95,
        _JOB,
        kind="malformed",
    ),
    row(
        r"(?i:\b(?:task \\?\"(?P<id>[^\"\\]+)\\?\" not found"
        r"|could not find task named: (?P<id2>[^,]+))|^unknown (?:allocation|node|job"
        r"|evaluation|deployment)\b|\bno (?:allocation|job|deployment|evaluation|node)s? (?:for"
        r"|found)\b|\b(?:job|alloc\w*|evaluation) does not exist\b|\bstate for allocation .{0,60}not found)",
        _ANSWER,
        _GONE,
        0.9,
        _JOB,
        kind="gone",
    ),
    # No answer.
    row(
        r"connect: connection refused|\bConnection refused\b|\bECONNREFUSED\b",
        _ANSWER,
        _SILENT,
        0.95,
        _JOB,
        kind="refused",
    ),
    row(r"(?i:\bno cluster leader\b)|\bNot ready to serve consistent reads", _SAID, _SILENT, 0.96, _JOB, kind="leader"),
    row(
        r"\bi/o timeout\b|context deadline exceeded|Client\.Timeout exceeded|\b(?:Connect"
        r"|Read)(?:Timeout|TimeoutError)\b"
        r"|\b[Tt]imed out\b|\b[Tt]imeout (?:exceeded|awaiting|waiting)|: timeout$|no route to host"
        r"|[Nn]etwork is unreachable|\bEOF\b|connection reset by peer"
        r"|\bfailed to get conn\b|lead thread didn't get connection|\bNo path to node\b|server closed|broken pipe",
        _ANSWER,
        _SILENT,
        0.93,
        _JOB,
        kind="timeout",
    ),
    row(
        r"\bx509: |\btls: |certificate verify failed|CERTIFICATE_VERIFY_FAILED|TLS handshake|\bSSLError\b"
        r"|server gave HTTP response to HTTPS client|malformed HTTP response"
        r"|HTTP request (?:was sent )?to (?:an )?HTTPS",
        _ANSWER,
        _SILENT,
        0.95,
        _JOB,
        kind="tls",
    ),
    row(
        r"no such host|server misbehaving|[Tt]emporary failure in name resolution|[Nn]ame or service not known"
        r"|NameResolutionError|Could not resolve host",
        _ANSWER,
        _SILENT,
        0.95,
        _JOB,
        kind="dns",
    ),
    row(
        rf"{_PROXY}|Unexpected response code: 50[234]\b|Unexpected response code: 429\b"
        rf"|\bproxyconnect\b|\bupstream connect error\b|Max retries exceeded",
        _ANSWER,
        _SILENT,
        0.93,
        _JOB,
        kind="proxy",
    ),
    row(
        rf"{_API}.{{0,300}}(?:connection refused|i/o timeout|deadline exceeded|no route to host|no such host|x509: "
        r"|Client\.Timeout|TLS handshake|Max retries exceeded|[Cc]onnection reset)",
        _LOG,
        _SILENT,
        0.93,
        _F.NETWORK_UNREACHABLE,
    ),
    # Our own words, of a plan that an administrator's policy does not allow.
    row(r"^Policy: .", _ANSWER, _F.POLICY_DENIED, 1.0, _JOB, _GONE, _DENIED, _TARGET, _SILENT),
    # Our own words, of a cluster whose images are listed and can't be pulled.
    row(r"^No node .* has the image (?P<image>\S+);", _ANSWER, _F.IMAGE_NOT_FOUND, 1.0, _JOB, _GONE),
    # What a job says wrong.
    row(
        r"\bError (?:parsing|getting) job(?: struct|file)?\b|\bInvalid (?:label|job type|block)\b"
        r"|\bUnsupported (?:argument|block type)\b"
        r"|validation failed: |\berror parsing '(?P<field>[^']+)'|\binvalid key: (?P<option>\w+)"
        r"|\bMissing required argument",
        _ANSWER,
        _JOB,
        0.92,
        _SILENT,
    ),
    row(
        r"\bError (?:parsing|getting) job(?: struct|file)? "
        r"|\bTask (?:group )?\S+ validation failed: |\bfailed to (?:parse config|decode driver config): "
        r"|^Failed Validation: "
        r"|\bError submitting job:.*(?:\b1 error|\d errors) occurred|\bPort \"[^\"]+\" not found, check network block"
        r"|\bimage name required for docker driver|\bTrying to map ports but no network interface is available"
        r"|'port_map' cannot map group network ports|\brequires Nomad Enterprise\b",
        (_LOG, Origin.EVENT),
        _JOB,
        0.92,
    ),
    row(
        r"\b(?:No argument or block type is named|An argument named|Blocks of type|no argument named) "
        r"\"(?P<field>[^\"]+)\"|\binvalid key: (?P<field2>\w+)",
        (_ANSWER, _LOG, Origin.EVENT),
        _JOB,
        0.93,
    ),
    row(r".", _ANSWER, _JOB, 0.89),
)

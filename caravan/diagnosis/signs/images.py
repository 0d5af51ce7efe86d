"""Signs in what registries, docker, containerd and podman say of an image. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_SAID: Final = (Origin.EVENT, Origin.LOG)

_NONE: Final = _F.IMAGE_NOT_FOUND
_DENIED: Final = _F.REGISTRY_AUTH_DENIED
_LATER: Final = _F.IMAGE_PULL_TRANSIENT
_ARCH: Final = _F.ARCH_MISMATCH

_NAME: Final = r"[\w.-]+(?::\d+)?(?:/[\w.-]+)*(?:[:@][\w.:-]*\w)?"
_PULL: Final = rf"(?:[Ff]ailed to pull `(?>(?P<image>{_NAME}))`.*)?"
# Words that only a pull says, before what went wrong with it; the image where it is named.
_PULLING: Final = (
    rf"(?:[Ff]ailed to pull (?:and unpack )?(?:image )?[`\"]?(?>(?P<image>{_NAME})?+)"
    r"|[Ee]rror pulling|[Ee]rror response from daemon: (?:Get|Head) "
    r"|\bcould not pull|unable to pull docker image|[Ee]rror copying image|initializing source docker:"
    r"|reading (?:manifest|blob)|copying (?:blob|system image)|[Ff]ailed to (?:resolve reference|copy|authorize)"
    r"|\bErrImagePull\b|\bImagePullBackOff\b|pinging container registry|[Aa]ttempting next endpoint for pull"
    r"|\b[Dd]ownload(?:ing)? (?:failed|image)\b|unable to ping registry|[Hh]andler for POST /v[\d.]+/images/create"
    r"|/v2/[\w./-]{1,120}?/(?:manifests|blobs)/)"
)
# The daemon says so of containers as well, whose troubles are others.
_DAEMON: Final = r"[Ee]rror response from daemon(?!.*(?:OCI runtime|nvidia|mount|networking|connectivity|container))"
_ASKING: Final = rf"(?:{_PULLING}|{_DAEMON})"
_GATEWAY: Final = (
    r"(?:HTTP (?:status|response)[^:]{0,20}:? ?5\d\d|HTTP 5\d\d|\b50[0234] (?:Internal|Bad|Service|Gateway)"
    r"|\b[Bb]ad [Gg]ateway|\b[Ss]ervice [Uu]navailable|\b[Gg]ateway [Tt]ime-?[Oo]ut|status(?: code)?:? 5\d\d\b)"
)
_CUT: Final = (
    r"(?:connection reset|unexpected EOF|: EOF$|broken pipe|no route to host|[Nn]etwork is unreachable|no such host"
    r"|server misbehaving|connect(?:ion)?: connection refused|[Tt]emporary failure in name resolution"
    r"|use of closed network connection|stream error|http2: |PROTOCOL_ERROR|REFUSED_STREAM)"
)
_SLOW: Final = (
    r"(?:context (?:canceled|cancelled|deadline exceeded)|i/o timeout|TLS handshake timeout|Client\.Timeout exceeded"
    r"|[Tt]imed out|request canceled|pull progress|timeout awaiting|cancelled due to lack of|[Pp]ull timeout)"
)

IMAGE_SIGNS: Final[tuple[Sign, ...]] = (
    row(rf"manifest for (?P<image>{_NAME}) not found", _SAID, _NONE, 0.97),
    row(r"[Ff]ailed to pull `(?P<image>[^`]+)`.*manifest unknown", _SAID, _NONE, 0.97),
    row(rf"(?:docker://|reference \"|image \")(?P<image>{_NAME}).*manifest unknown", _SAID, _NONE, 0.97),
    row(r"\b(?i:manifest[ _]unknown)\b", _SAID, _NONE, 0.95),
    row(rf"[Ff]ailed to resolve reference \"(?P<image>{_NAME})\".*: not found", _SAID, _NONE, 0.97),
    row(rf"(?i:no such image): (?P<image>{_NAME})", _SAID, _NONE, 0.95),
    row(
        r"[Ff]ailed to pull `(?P<image>[^`]+)`.*(?:\bnot found\b|\bdoes not exist in the registry\b|\b404\b)",
        _SAID,
        _NONE,
        0.95,
    ),
    row(
        rf"{_PULL}(?:\b(?i:name[ _]unknown)\b|[Rr]epository with name '[^']*' does not exist in the registry"
        r"|imageId \{.*does not exist within the registry|\bartifact \S+ not found|unknown: repository \S+ not found)",
        _SAID,
        _NONE,
        0.95,
    ),
    row(rf"(?:failed to solve|load metadata for)[^|]{{0,80}}: (?P<image>{_NAME}): not found", _SAID, _NONE, 0.95),
    row(rf"short-name \"(?P<image>{_NAME})\" did not resolve", _SAID, _NONE, 0.9),
    row(r"could not open image (?P<image>\S+): .*no such file", _SAID, _NONE, 0.85),
    # Only on the node itself, and what enroot says of the registry's answer.
    row(rf"\bimage (?P<image>{_NAME}) not found in local storage\b", _SAID, _NONE, 0.95),
    row(r"/v2/(?P<image>[\w./-]{1,200}?)/(?:manifests|blobs)/\S+ returned error code: 404\b", _SAID, _NONE, 0.95),
    row(r"(?i:\bfailed to create container: no such image\b)", _SAID, _NONE, 0.9),
    row(r"invalid reference format|\brepository name must be lowercase", _SAID, _NONE, 0.75),
    row(r"unable to open image archive: |\bthe image does not exist: ", _SAID, _NONE, 0.85),
    # A registry that tells nobody whether a private repository exists says "denied" for both.
    row(
        rf"pull access denied for (?P<image2>{_NAME})|{_PULL}(?:requested access to the resource is denied"
        r"|no basic auth credentials|(?:may|might) require authorization|insufficient_scope|authorization failed"
        r"|unauthorized: (?:authentication required|incorrect username|access token|The client does not have)"
        r"|authentication required|unauthorized: your account|denied: (?:User|[Pp]ermission"
        r"|Unauthenticated|access)|pull access denied)",
        _SAID,
        _DENIED,
        0.95,
        _NONE,
        _F.ACL_PERMISSION_DENIED,
    ),
    row(
        rf"{_PULLING}.*(?:\b40[13]\b|[Uu]nauthorized|[Ff]orbidden|\bdenied\b)"
        r"|(?:pull|manifests|resolve|registry|/v2/).*(?:\b401\b|\b403\b|[Uu]nauthorized|denied)",
        _SAID,
        _DENIED,
        0.95,
        _NONE,
        _F.ACL_PERMISSION_DENIED,
    ),
    row(
        r"error getting credentials - err: |docker-credential-[\w-]+\"?: executable file not found"
        r"|[Ff]ailed to find docker auth for repo|\bfailed to fetch (?:oauth|anonymous) token: .*\b40[13]\b",
        _SAID,
        _DENIED,
        0.93,
        _NONE,
        _F.ENTRYPOINT_NOT_FOUND,
    ),
    # A registry whose certificate or protocol is not accepted: no wait mends it.
    row(
        rf"{_PULLING}.*(?:x509: |server gave HTTP response to HTTPS client|tls: )", _SAID, _DENIED, 0.92, _LATER, _NONE
    ),
    # What passes.
    row(
        rf"(?:{_PULLING}.*)?(?:\btoomanyrequests\b|\byou have reached your (?:unauthenticated )?pull rate limit"
        r"|\bpull rate limit\b)",
        _SAID,
        _LATER,
        0.97,
        _DENIED,
        _NONE,
        _F.HUB_RATE_LIMITED,
        kind="rate",
    ),
    row(rf"{_PULLING}.*(?:\b429\b|(?i:too many requests))", _SAID, _LATER, 0.97, _DENIED, _NONE, kind="rate"),
    row(rf"{_ASKING}.*{_GATEWAY}", _SAID, _LATER, 0.96, _NONE, _DENIED, kind="gateway"),
    row(rf"{_ASKING}.*{_SLOW}", _SAID, _LATER, 0.96, _NONE, kind="timeout"),
    row(rf"{_ASKING}.*{_CUT}", _SAID, _LATER, 0.95, _NONE, _F.NETWORK_UNREACHABLE, kind="network"),
    row(
        r"error pulling image configuration: |filesystem layer verification failed|download failed after attempts="
        r"|[Dd]ownload failed after \d+ attempts"
        r"|failed to (?:register|extract) layer|layer does not exist|[Pp]ull timed out|image pull (?:was )?cancell?ed",
        _SAID,
        _LATER,
        0.85,
        kind="network",
    ),
    # The image is there, and not for this machine.
    row(
        r"no (?:matching manifest|match for platform) .*?(?P<node_arch>linux/[\w/]+)|no match for platform in manifest"
        r"|does not match the (?:specified"
        r"|expected) platform: wanted (?P<node_arch2>linux/[\w/]+), actual:? (?P<image_arch>linux/[\w/]+)"
        r"|image operating system \"\w+\" cannot be used|no image found in (?:manifest list"
        r"|image index) for architecture",
        _SAID,
        _ARCH,
        0.96,
        _NONE,
        _LATER,
    ),
)

"""Signs that what a job brings along is not to be had: artifacts, the secrets and keys of templates. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_EVENT: Final = Origin.EVENT
_SAID: Final = (Origin.EVENT, Origin.LOG)
_ARTIFACT: Final = _F.ARTIFACT_DOWNLOAD_FAILED
_SECRET: Final = _F.TEMPLATE_SECRET_UNAVAILABLE
_FELLED: Final = (
    _F.ENTRYPOINT_NOT_FOUND,
    _F.IMAGE_NOT_FOUND,
    _F.IMAGE_PULL_TRANSIENT,
    _F.REGISTRY_AUTH_DENIED,
    _F.NETWORK_UNREACHABLE,
    _F.NOMAD_OBJECT_NOT_FOUND,
    _F.NOMAD_API_UNREACHABLE,
    _F.OUTPUT_PERMISSION_DENIED,
    _F.DATA_PATH_MISSING,
    _F.ACL_PERMISSION_DENIED,
    _F.INTERRUPTED_EXTERNALLY,
    _F.HOST_MEMORY_OOM,
    _F.HUB_NOT_FOUND,
    _F.HF_GATED_AUTH,
)

_FETCH: Final = r"failed to download artifact \\?\"(?P<url>[^\"\\]+)\\?\".*"

SUPPLY_SIGNS: Final[tuple[Sign, ...]] = (
    # Artifacts.
    row(
        rf"{_FETCH}(?:bad response code: (?:404|410)|\b404\b|NoSuchKey|NotFound\b"
        rf"|no such file or directory|not found$|stat )",
        _SAID,
        _ARTIFACT,
        0.96,
        *_FELLED,
        kind="missing",
    ),
    row(
        rf"{_FETCH}(?:bad response code: 40[137]|\b40[13]\b|AccessDenied|NoCredentialProviders"
        rf"|Permission denied \(publickey|[Aa]uthentication failed)",
        _SAID,
        _ARTIFACT,
        0.96,
        *_FELLED,
        kind="denied",
    ),
    row(
        rf"{_FETCH}(?:connection refused|no such host|timeout|deadline exceeded|unreachable"
        rf"|reset by peer|x509|TLS|bad response code: 5"
        r"|Could not resolve host|context canceled)",
        _SAID,
        _ARTIFACT,
        0.96,
        *_FELLED,
        kind="network",
    ),
    row(
        rf"{_FETCH}(?:[Cc]hecksums? did not match|invalid checksum)", _SAID, _ARTIFACT, 0.96, *_FELLED, kind="checksum"
    ),
    row(
        rf"{_FETCH}(?:gzip|zip|tar|xz|bzip2|zstd|archive|not a directory|unexpected EOF"
        rf"|expected a single file|is a directory)",
        _SAID,
        _ARTIFACT,
        0.95,
        *_FELLED,
        kind="unpack",
    ),
    row(rf"{_FETCH}(?:executable file not found|must be available)", _SAID, _ARTIFACT, 0.96, *_FELLED, kind="host"),
    row(
        r"^Failed Artifact Download: (?:failed to download artifact"
        r" \\?\"(?P<url>[^\"\\]+))?",
        _EVENT,
        _ARTIFACT,
        0.95,
        *_FELLED,
    ),
    row(r"failed to download artifact \\?\"(?P<url>[^\"\\]+)", Origin.LOG, _ARTIFACT, 0.93, *_FELLED),
    row(
        r"getter subprocess failed|artifact destination path escapes|\bgetter: .*(?:failed|error)",
        _SAID,
        _ARTIFACT,
        0.92,
        *_FELLED,
    ),
    row(
        r"^(?:curl: \(22\) The requested URL returned error: (?:4\d\d)"
        r"|wget: server returned error: HTTP/[\d.]+ 4\d\d"
        r"|(?:[\d: -]+)?ERROR 4\d\d: )",
        Origin.LOG,
        _ARTIFACT,
        0.8,
        kind="missing",
    ),
    # Templates.
    row(r"\bMissing: (?:vault\.\w+\()(?P<secret>[^)]+)", _SAID, _SECRET, 0.96, *_FELLED, kind="vault"),
    row(
        r"\bMissing: (?:kv|key|catalog|health|service|consul|connect)[.\w]*\((?P<secret>[^)]+)",
        _SAID,
        _SECRET,
        0.96,
        *_FELLED,
        kind="consul",
    ),
    row(r"\bMissing: nomad\.[\w.]+\((?P<secret>[^)]+)", _SAID, _SECRET, 0.96, *_FELLED, kind="nomad"),
    row(
        r"\b(?:vault\.(?:read|list|write|pki)\((?P<secret>[^)]+)\)"
        r"|no secret exists at (?P<secret2>\S+)).*(?:40[34]|denied|no secret|[Ee]rror|retry|failed)"
        r"|\bno secret exists at (?P<secret3>\S+)|secret at path (?P<secret4>\S+) does not exist",
        _SAID,
        _SECRET,
        0.93,
        *_FELLED,
        mild=True,
        kind="vault",
    ),
    row(
        r"\bTemplate failed: (?:nomad\.\w+\()(?P<secret>[^)]+)|\b[Tt]emplate failed: .*nomad",
        _SAID,
        _SECRET,
        0.96,
        *_FELLED,
        kind="nomad",
    ),
    row(r"^Killing: Template failed|\b[Tt]emplate failed(?::| to )", _SAID, _SECRET, 0.93, *_FELLED),
    row(
        r"\b[Ff]ailed to derive [Vv]ault token|\b[Vv]ault: (?:server|failed|error|permission)"
        r"|\bfailed to renew vault token|\bfailed to unwrap the token"
        r"|\berror (?:deriving|looking up) Vault token|\bno [Vv]ault client|\bVault[^:]{0,40} not enabled"
        r"|[Mm]issing Vault (?:token|[Pp]olic)|\bVault token (?:must|is|expired)|\binvalid Vault token",
        (Origin.EVENT, Origin.LOG, Origin.VALIDATION),
        _SECRET,
        0.93,
        *_FELLED,
        _F.JOBSPEC_INVALID,
        kind="vault",
    ),
    row(
        r"\b[Ff]ailed to derive (?:Consul|SI) token|\bno such consul cluster"
        r"|\boperator token denied: missing consul token"
        r"|\bfailed to (?:load|write) (?:Consul )?SI token|\bConsul.{0,60}ACL not found",
        (Origin.EVENT, Origin.LOG, Origin.VALIDATION),
        _SECRET,
        0.92,
        *_FELLED,
        _F.JOBSPEC_INVALID,
        kind="consul",
    ),
    row(
        r"\bfailed executing plugin \"[^\"]+\" for secret \"(?P<secret>[^\"]+)\""
        r"|\bfailed to fetch secret",
        _SAID,
        _SECRET,
        0.9,
        *_FELLED,
    ),
)

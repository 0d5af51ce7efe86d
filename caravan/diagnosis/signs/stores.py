"""Signs in what clients of object stores (S3, Google's, Azure's) and git-lfs say of what they may not or can't have.

Only data. A key or a bucket that is not there stands in `data.py`. A store that denies is mended by no field of a job:
whoever owns it has to give credentials, or the right to read.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_ARTIFACT: Final = _F.ARTIFACT_DOWNLOAD_FAILED
_OUT: Final = _F.OUTPUT_PERMISSION_DENIED
_AFTER: Final = (
    *(_F.USER_CODE_BUG, _F.DATA_PATH_MISSING, _F.REGISTRY_AUTH_DENIED, _F.ACL_PERMISSION_DENIED),
    *(_F.DATASET_FORMAT_ERROR, _F.CHECKPOINT_UNUSABLE, _F.PACKAGE_VERSION_CONFLICT),
)

_CODES: Final = (
    r"\((?:40[13]|Access ?Denied\w*|AllAccessDisabled|ExpiredToken\w*|InvalidAccessKeyId|InvalidToken|RequestExpired"
    r"|SignatureDoesNotMatch|InvalidClientTokenId|TokenRefreshRequired|UnauthorizedAccess|Forbidden|Unauthorized)\)"
)
_WRITES: Final = r"(?:Put|Create|Upload|Complete|Delete|Copy)\w*"

STORE_SIGNS: Final[tuple[Sign, ...]] = (
    # It may not write there.
    row(
        rf"\bAn error occurred {_CODES} when calling the {_WRITES} operation"
        r"|\bdoes not have storage\.(?:objects|multipartUploads)\.(?:create|delete|update) access"
        r"|\bPermission 'storage\.objects\.(?:create|delete|update)' denied",
        _LOG,
        _OUT,
        0.93,
        *_AFTER,
        _ARTIFACT,
        kind="denied",
        escalate=True,
    ),
    # It may not read there, or nobody told it who it is.
    row(
        rf"\bAn error occurred {_CODES} when calling the (?!{_WRITES} |GetAuthorizationToken )\w+ operation"
        r"|\b(?:NoCredentialsError|PartialCredentialsError|CredentialRetrievalError|UnauthorizedSSOTokenError"
        r"|TokenRetrievalError|DefaultCredentialsError|NoCredentialProviders)\b|\bUnable to locate credentials\b"
        r"|\bdoes not have storage\.(?:objects|buckets)\.(?:get|list)\w* access"
        r"|\bPermission 'storage\.(?:objects|buckets)\.(?:get|list)\w*' denied|^AccessDeniedException: 40[13]\b"
        r"|\bErrorCode:(?:Authorization\w+|AuthenticationFailed|PublicAccessNotPermitted"
        r"|KeyBasedAuthenticationNotPermitted|InvalidAuthenticationInfo)\b"
        r"|\bDefaultAzureCredential failed to retrieve a token|^mc: <ERROR> .*\bAccess Denied"
        r"|\b(?:AccessDenied|SignatureDoesNotMatch|InvalidAccessKeyId|ExpiredToken): .{0,200}\bstatus code: 40[13]\b",
        _LOG,
        _ARTIFACT,
        0.92,
        *_AFTER,
        _OUT,
        kind="denied",
        escalate=True,
    ),
    row(
        r"^(?:PermissionError|OSError): (?:Forbidden|Access Denied|Access denied|The AWS Access Key Id"
        r"|The provided token has expired|Anonymous caller does not have)\b",
        _LOG,
        _ARTIFACT,
        0.85,
        *_AFTER,
        _OUT,
        kind="denied",
        escalate=True,
    ),
    # git-lfs: the repository came, and not the files that it only points to.
    row(
        r"\bThis repository (?:is over|exceeded) its (?:LFS|data) (?:data )?(?:quota|budget)",
        _LOG,
        _ARTIFACT,
        0.95,
        *_AFTER,
        _F.HUB_RATE_LIMITED,
        kind="denied",
        escalate=True,
    ),
    row(
        r"\b[Ss]mudge error: Error downloading|\bsmudge filter lfs failed"
        r"|\bexternal filter 'git-lfs filter-process' failed"
        r"|^batch response: |\bfailed to fetch some objects from '(?P<url>[^']+/info/lfs)'"
        r"|\bError downloading object: \S+ \([0-9a-f]{7}",
        _LOG,
        _ARTIFACT,
        0.88,
        *_AFTER,
    ),
)

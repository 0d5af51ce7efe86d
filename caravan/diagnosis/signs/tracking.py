"""Signs that a service tracking runs wants a login, or refuses a key or an account: that stops the run. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_LOGIN: Final = _F.WANDB_LOGIN_MISSING
_AFTER: Final = (_F.USER_CODE_BUG, _F.NETWORK_UNREACHABLE, _F.TRAINING_CONFIG_INVALID, _F.ACL_PERMISSION_DENIED)

TRACKING_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        r"\bapi_key not configured \(no-tty\)|\bNo API key configured\b|\bapikey\.ApiKeyError\b"
        r"|\b[Ww](?:&|and)B.{0,40}not logged in"
        r"|\bUsageError: .*(?:wandb login|api_key|API key)|\bwandb: ERROR .*(?:wandb login|not logged in)",
        _LOG,
        _LOGIN,
        0.97,
        *_AFTER,
        kind="login",
    ),
    row(
        r"\bAPI key must (?:be|have) (?:at least )?\d+ characters|\bwandb\S*\.AuthenticationError\b"
        r"|\bAuthenticationError: .*API key"
        r"|\bwandb: ERROR .*(?:[Ii]nvalid|[Uu]nauthorized|\b401\b)|\bThe API key (?:you provided|is) .{0,40}invalid"
        r"|\b(?:CommError|wandb).*(?:\bError 401\b|user is not logged in)|\bInvalid or missing (?:api_key|API key)",
        _LOG,
        _LOGIN,
        0.95,
        *_AFTER,
        kind="key",
    ),
    row(
        r"\bwandb: ERROR .*(?:permission denied|\b40[34]\b|not found"
        r"|do not have permission to access)"
        r"|\bCommError: .*(?:\bError 40[34]\b|permission|not found|denied)"
        r"|\bentity \S+ not found during upsertBucket|\bupsertBucket\b.*(?:permission denied|\b40[34]\b)",
        _LOG,
        _LOGIN,
        0.95,
        *_AFTER,
        kind="permission",
    ),
    row(
        r"\bEOFError: EOF when reading a line|\bwandb: Enter your choice:",
        _LOG,
        _LOGIN,
        0.85,
        _F.USER_CODE_BUG,
        above=r"wandb|W&B",
        kind="login",
    ),
    row(
        r"\bComet(?:\.ml)? requires an API key|\bNeptuneMissingApiTokenException|\bNeptuneInvalidApiTokenException"
        r"|\bMLFLOW_TRACKING_(?:TOKEN|USERNAME)\b.{0,60}(?:not|missing)|\bsupply your (?:Comet|API) ?(?:API )?key",
        _LOG,
        _LOGIN,
        0.8,
        _F.USER_CODE_BUG,
        kind="login",
    ),
)

"""Signs that a training diverged: no numbers any more, a loss scale at its end, a loss that blows up. Only data."""

from typing import Final

from caravan.diagnosis.looks import blown_up, lost_numbers
from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_LOST: Final = _F.NUMERIC_DIVERGENCE

# The source line of a frame says what might be told, the exception below it what is.
_TOLD: Final = r"^(?!\s*(?:raise|assert|print|if|elif|return|(?:self\.)?log\w*\.\w+)\b(?!:))"
_NAN: Final = r"(?i:nan|inf|infinite|infinity|non-?finite|not finite|nan/inf|inf/nan)"

NUMBER_SIGNS: Final[tuple[Sign, ...]] = (
    row(rf"^the last (?P<metric>\S+) is -?{_NAN}: the training diverged", Origin.JUDGED, _LOST, 0.95, kind="nan"),
    row(r"Minimum loss scale reached|[Ll]oss scale already at minimum", _LOG, _LOST, 0.97, kind="scale"),
    row(r"Attempted loss scale: [01](?:\.0)?, reducing to (?:0\.|[01]\b)", _LOG, _LOST, 0.85, mild=True, kind="scale"),
    row(r"reducing loss scale to \d(?:\.\d+)?e-\d+", _LOG, _LOST, 0.85, mild=True, kind="scale"),
    row(
        rf"{_TOLD}.*(?i:\bloss (?:is|was|became|has become|returned in `\w+` is)) (?:now )?(?:tensor\()?-?{_NAN}\b",
        _LOG,
        _LOST,
        0.95,
        kind="nan",
    ),
    row(
        rf"{_TOLD}.*(?:\b{_NAN} (?:in |during )?(?:the )?(?:\w+ )?loss\b"
        r"|\bNanLossDuringTrainingError\b|\bInvalid loss, terminating)",
        _LOG,
        _LOST,
        0.93,
        kind="nan",
    ),
    row(rf"{_TOLD}.*(?:\bfound (?:NaN|Inf)\b|\bFunction '\w+' returned nan values)", _LOG, _LOST, 0.95, kind="nan"),
    row(
        r"(?i:\bdiverged with loss|\bgradients? (?:is|are|became|contains?|has|have) (?:a )?(?:nan|inf|non-?finite)"
        r"|\b(?:nan|inf|non-?finite) (?:values? )?(?:in|detected in|found in|encountered in) (?:the )?(?:loss"
        r"|grad\w*|weights|logits))",
        _LOG,
        _LOST,
        0.9,
        _F.USER_CODE_BUG,
        kind="nan",
    ),
    row(r"reducing loss scale to 0\.0\b", _LOG, _LOST, 0.85, mild=True, kind="scale"),
    row(r"FloatingPointError: .*\b(?:nan|inf)\b", _LOG, _LOST, 0.93, kind="nan"),
    row(r"total norm of order \S+ for gradients .*non-finite", _LOG, _LOST, 0.95, kind="nan"),
    row(r"Monitored metric (?P<metric>\S+) = (?:nan|-?inf) is not finite", _LOG, _LOST, 0.92, kind="nan"),
    row(
        r"probability tensor contains either `inf`, `nan`|matrix contains invalid numeric entries",
        _LOG,
        _LOST,
        0.85,
        kind="nan",
    ),
    row(r"to satisfy the constraint .*but found invalid values", _LOG, _LOST, 0.85, kind="nan"),
    row(
        r"^AssertionError",
        _LOG,
        _LOST,
        0.88,
        above=r"assert .*\b(?:isfinite|isnan|isinf)\(.*loss|assert not .*loss\S*\.isnan",
        kind="nan",
    ),
    row(r"'loss': 0\.0\d*, .*'grad_norm': '?nan", _LOG, _LOST, 0.85, kind="nan", metric="grad_norm"),
    row(lost_numbers, _LOG, _LOST, 0.85, kind="nan"),
    row(
        r"(?i:\bloss (?:has )?(?:exploded|diverged|is diverging|is exploding|blew up))",
        _LOG,
        _LOST,
        0.85,
        kind="blowup",
    ),
    row(blown_up, _LOG, _LOST, 0.75, kind="blowup"),
)

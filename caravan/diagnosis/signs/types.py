"""Signs of our own training scripts, which refuse an input by `caravan-train: KIND: FILE:LINE: text`. Only data.

The look at the data before a launch writes the same lines, so that one table reads both. The kinds are `DataKind`'s and
those of `templates/train/shared/refusals.py`.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_CERTAIN: Final = 1.0  # our own words
_WORSE: Final = (_F.USER_CODE_BUG, _F.PROCESS_HANG, _F.NO_FAILURE)
# A path with blanks in it is taken where it is absolute: else the text's own words would be one.
_NAME: Final = r"(?P<{0}>/[^:\n]{{1,400}}|[^\s:]\S{{0,400}}?)(?::(?P<line{1}>\d{{1,12}}))?: "
_FILE: Final = _NAME.format("file", "")


def _said(kind: str, *, place: str = "", least: str = "") -> str:
    """The line of a kind; `place` is how its file is written, `least` what its text must hold."""
    head = rf"^caravan-train: (?:{kind}): (?:{place or _FILE})?"
    return rf"{head}(?P<fault>{least}.{{1,300}}?)\.?$"


_RANGE: Final = r".{0,80}\bout of range\b"
_LIMIT: Final = r"all\b.{0,60}? longer than (?:--max-len|max_len) (?P<have>\d+)"
_NEEDED: Final = r"(?:.{0,40}?\b(?:shortest|longest) has (?P<want>\d{1,12}) tokens)?"
_WINDOW: Final = r"(?:.{0,80}?\bthe model takes (?:up to|no more than) (?P<size>\d+))?"

TYPE_SIGNS: Final[tuple[Sign, ...]] = (
    row(_said("label", least=_RANGE), _LOG, _F.INDEX_OUT_OF_RANGE, _CERTAIN, *_WORSE, kind="label", escalate=True),
    row(
        rf"^caravan-train: all_too_long: (?:{_FILE})?(?P<fault>{_LIMIT}{_NEEDED}{_WINDOW}.{{0,200}})$",
        _LOG,
        _F.TRAINING_CONFIG_INVALID,
        _CERTAIN,
        *_WORSE,
        kind="length",
    ),
    row(_said("all_too_long"), _LOG, _F.TRAINING_CONFIG_INVALID, _CERTAIN, *_WORSE, kind="length"),
    row(_said("no_chat_template"), _LOG, _F.TRAINING_CONFIG_INVALID, _CERTAIN, *_WORSE, kind="template", escalate=True),
    row(_said("options"), _LOG, _F.TRAINING_CONFIG_INVALID, _CERTAIN, *_WORSE, kind="conflict", escalate=True),
    row(_said("empty"), _LOG, _F.DATASET_FORMAT_ERROR, _CERTAIN, *_WORSE, kind="empty", escalate=True),
    row(_said("malformed|empty_row"), _LOG, _F.DATASET_FORMAT_ERROR, _CERTAIN, *_WORSE, kind="rows", escalate=True),
    row(_said("roles"), _LOG, _F.DATASET_FORMAT_ERROR, _CERTAIN, *_WORSE, kind="roles", escalate=True),
    row(_said("label"), _LOG, _F.DATASET_FORMAT_ERROR, _CERTAIN, *_WORSE, kind="label", escalate=True),
    row(_said("column_missing"), _LOG, _F.DATASET_FORMAT_ERROR, _CERTAIN, *_WORSE, kind="columns", escalate=True),
    row(
        _said("missing", place=_NAME.format("path", "")),
        _LOG,
        _F.DATA_PATH_MISSING,
        _CERTAIN,
        *_WORSE,
        _F.DATASET_FORMAT_ERROR,
        kind="read",
    ),
    row(
        _said("model_missing", place=_NAME.format("path", ""), least=r"(?:.{0,40}?'(?P<repo>[^'\n]{1,200})')?"),
        _LOG,
        _F.HUB_NOT_FOUND,
        _CERTAIN,
        *_WORSE,
        _F.DATA_PATH_MISSING,
        kind="repo",
    ),
    row(
        _said("output_unwritable", place=_NAME.format("path", "")),
        _LOG,
        _F.OUTPUT_PERMISSION_DENIED,
        _CERTAIN,
        *_WORSE,
        kind="denied",
    ),
    row(_said("disk_full", place=_NAME.format("path", "")), _LOG, _F.DISK_FULL, _CERTAIN, *_WORSE),
    row(
        _said("checkpoint", place=_NAME.format("path", "")),
        _LOG,
        _F.CHECKPOINT_UNUSABLE,
        _CERTAIN,
        *_WORSE,
        kind="incomplete",
    ),
    row(
        r"^caravan-train: diverged: (?P<fault>.{1,60}? at step (?P<step>\d{1,12}))\b",
        _LOG,
        _F.NUMERIC_DIVERGENCE,
        _CERTAIN,
        *_WORSE,
        kind="nan",
    ),
    row(_said("diverged"), _LOG, _F.NUMERIC_DIVERGENCE, _CERTAIN, *_WORSE, kind="nan"),
)

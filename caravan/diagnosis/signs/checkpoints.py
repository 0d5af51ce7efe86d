"""Signs that a checkpoint is missing, incomplete, corrupt or of another shape. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_CKPT: Final = _F.CHECKPOINT_UNUSABLE
_BUG: Final = _F.USER_CODE_BUG

_WEIGHTS: Final = r"(?:pt|pth|ckpt|safetensors|bin|pkl|h5|tar|msgpack|distcp)"

CHECKPOINT_SIGNS: Final[tuple[Sign, ...]] = (
    # An optimiser's restored state of another shape than its parameters.
    row(
        r"\bThe size of tensor a \(\d+\) must match the size of tensor b \(\d+\)",
        _LOG,
        _CKPT,
        0.85,
        _BUG,
        above=r"\b(?:exp_avg\w*|momentum_buffer)\b|_single_tensor_adam|_multi_tensor_adam",
        kind="shape",
    ),
    row(
        r"Error\(s\) in loading state_dict for|\bsize mismatch for \S+: copying a param"
        r"|[Mm]issing key in checkpoint state_dict",
        _LOG,
        _CKPT,
        0.94,
        _BUG,
        kind="shape",
    ),
    row(
        r"Error while deserializing header|\bInvalidHeader\w*|\bMetadataIncompleteBuffer|\bHeaderTooLarge"
        r"|\bSafetensorError: (?!.*No such file)",
        _LOG,
        _CKPT,
        0.95,
        kind="corrupt",
    ),
    row(
        r"\bPytorchStreamReader failed|unexpected EOF, expected \d+ more bytes|Invalid magic number; corrupt file"
        r"|\bUnpicklingError: (?!.*[Ww]eights)(?:invalid load key|pickle data was truncated|could not find MARK"
        r"|unpickling stack underflow)"
        r"|pickle data was truncated|\bnot a checkpoint file\b|[Uu]nable to load weights from (?:pytorch )?checkpo"
        r"int file for '[^']*' at '(?P<path>[^']+)'",
        _LOG,
        _CKPT,
        0.94,
        _F.DATASET_FORMAT_ERROR,
        kind="corrupt",
    ),
    row(
        r"^EOFError\b",
        _LOG,
        _CKPT,
        0.85,
        above=r"torch\.load\(|_legacy_load|pickle_module\.load|load_checkpoint|load_state",
        kind="corrupt",
    ),
    row(
        r"(?i:\bcan't find a valid checkpoint at|\bNo valid checkpoint found in|\bCheckpoint(?: file"
        r"| at)? ?['\"`]?(?P<path>[\w./~-]*)['\"`]? ?(?:is |was |does |could )?(?:not found|not exist"
        r"|not be found)|\bno checkpoint (?:found|file|exists) (?:in|at|under))",
        _LOG,
        _CKPT,
        0.92,
        _F.DATA_PATH_MISSING,
        kind="missing",
    ),
    row(
        r"No such file or directory:? '?(?P<path>[^'\s]*(?:(?i:checkpoint|ckpt)[^'\s]*|/(?:trainer_state\.json"
        r"|optimizer\.(?:pt|bin)|scheduler\.pt|rng_state\w*\.pth|pytorch_model\S*\.bin|adapter_\w+\.(?:bin"
        r"|safetensors))|\.(?:pth|ckpt|safetensors)))'?",
        _LOG,
        _CKPT,
        0.93,
        _F.DATA_PATH_MISSING,
        kind="missing",
    ),
    row(
        r"Error no file named .{0,300} found in directory (?P<path>/\S+[^\s.])",
        _LOG,
        _CKPT,
        0.9,
        _F.HUB_NOT_FOUND,
        kind="incomplete",
    ),
    row(
        r"Client provided checkpoint load path: (?P<path>\S+) does not exist"
        r"|Tried to find (?P<path2>\S+) but folder does not exist",
        _LOG,
        _CKPT,
        0.95,
        _F.DATA_PATH_MISSING,
        kind="missing",
    ),
    row(r"[Uu]nable to find latest file at (?P<path>[^\s,]+)", _LOG, _CKPT, 0.7, mild=True, kind="incomplete"),
    row(
        r"checkpoint being loaded used a DP world size of (?P<have>\d+) but the current world size is (?P<want>\d+)",
        _LOG,
        _CKPT,
        0.96,
        kind="shape",
    ),
    row(
        r"loaded state dict (?:contains a parameter group that doesn't match"
        r"|has a different number of parameter groups)",
        _LOG,
        _CKPT,
        0.95,
        _BUG,
        kind="shape",
    ),
    row(
        r"^KeyError: '(?:\w*state_dict|optimizer\w*|model|model_state\w*|epoch|global_step|scheduler|ema\w*"
        r"|pytorch-lightning_version|net|params|generator)'",
        _LOG,
        _CKPT,
        0.72,
        _BUG,
        above=r"(?i:torch\.load|checkpoint|ckpt|resume|load_state|restore)",
        kind="incomplete",
    ),
    row(
        r"\bnot found in checkpoint\b|\bKey \S+ not found in checkpoint|\bDataLossError: "
        r"|[Uu]nable to open (?:table )?file.{0,120}(?:truncated|bad object|not an sstable|bad magic)"
        r"|[Ll]ayer count mismatch when loading weights|axes values"
        r"|Failed to find any matching files for \S*(?:ckpt|checkpoint|model)",
        _LOG,
        _CKPT,
        0.92,
        _F.DATA_PATH_MISSING,
        kind="incomplete",
    ),
    row(
        r"\b(?:truncated file: eof|file signature not found)",
        _LOG,
        _CKPT,
        0.8,
        above=r"load_(?:weights|model)|checkpoint|ckpt",
        kind="corrupt",
    ),
    row(
        r"does not contain the valid metadata|cloned a repository without having git-lfs"
        r"|checkpoint path exists and is"
        r" a directory|\bversion https://git-lfs\.github\.com",
        _LOG,
        _CKPT,
        0.9,
        _BUG,
        kind="incomplete",
    ),
    row(
        r"\bUnpicklingError: Weights only load failed|\bWeightsUnpickler error\b",
        _LOG,
        _CKPT,
        0.72,
        kind="corrupt",
    ),
    row(
        r"^KeyError: ['\"](?:\w*state_dict|optimizer_states|lr_schedulers|pytorch-lightning_version"
        r"|global_step)['\"]",
        _LOG,
        _CKPT,
        0.75,
        _BUG,
        kind="incomplete",
    ),
    row(
        r"(?i:\b(?:checkpoint|ckpt|snapshot)s?(?: dir(?:ectory)?| folder| file| path"
        r"| index)?\b:? ?['\"`]?(?P<path>/?[\w./~-]*/[\w./~-]*)?['\"`]?"
        r" ?(?:is |was |does |could )?(?:not found|not exist|not be found|missing|empty|incomplete)\b"
        r"|\b(?:can't|cannot|could not|unable to|failed to|couldn't) (?:find|locate|load|read|open|restore"
        r"|resume)\b.{0,30}"
        r"\b(?:checkpoint|ckpt|snapshot|training state)\b"
        r"|\brequested shape: .{0,60}\bstored shape\b|\brestore item\b.{0,80}\bdo(?:es)? not match\b"
        r"|\bexpected \d+ (?:shards?|files|ranks|partitions)\b.{0,80}\b(?:found|got|have)\b)",
        _LOG,
        _CKPT,
        0.84,
        _BUG,
        _F.DATA_PATH_MISSING,
        _F.TRAINING_CONFIG_INVALID,
        _F.USER_CODE_BUG,
        kind="incomplete",
    ),
    row(r"\bCheckpointException\b", _LOG, _CKPT, 0.88, kind="incomplete"),
    row(
        r"(?i:\b(?:shape|structure|dtype|tree|size|vocab\w*|key)s?\b.{0,60}\bcheckpoint\b.{0,80}(?:mismatch"
        r"|does not match|doesn't match|differ|not match)|\bcheckpoint\b.{0,80}\b(?:is |was "
        r"|looks )?(?:corrupt(?:ed)?|incomplete|truncated|incompatible|mismatch)"
        r"|restored? from checkpoint.{0,60}(?:mismatch|failed))",
        _LOG,
        _CKPT,
        0.85,
        _BUG,
        kind="shape",
    ),
    row(
        rf"^ValueError: invalid literal for int\(\) with base 10: '[^']*\.{_WEIGHTS}'",
        _LOG,
        _CKPT,
        0.8,
        _BUG,
        kind="incomplete",
    ),
)

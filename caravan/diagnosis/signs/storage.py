"""Signs that a disk is full, or that the task may not write where it does. Only data.

A full /dev/shm is memory, not a disk, and stands with the signs of memory; so do semaphores, which live there.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_SAID: Final = (Origin.EVENT, Origin.LOG)
_FULL: Final = _F.DISK_FULL
_DENIED: Final = _F.OUTPUT_PERMISSION_DENIED
_AFTER: Final = (
    _F.IMAGE_PULL_TRANSIENT,
    _F.CHECKPOINT_UNUSABLE,
    _F.PACKAGE_VERSION_CONFLICT,
    _F.BUILD_TOOLCHAIN_MISSING,
    _F.USER_CODE_BUG,
    _F.CUDA_OOM,
    _F.DATASET_FORMAT_ERROR,
    _F.ARTIFACT_DOWNLOAD_FAILED,
    _F.MISSING_PYTHON_PACKAGE,
)
_NO_SHM: Final = r"(?!.*(?:/dev/shm|</?torch_|/torch_\d|nccl-|/psm_|/sem\.|shared memory|inotify|SemLock))"
_SCRIPTS: Final = r"(?:\.(?:py|sh|bash|pl|so|bin|run)\b)"
_WORKS_ON: Final = (
    _F.USER_CODE_BUG,
    _F.CHECKPOINT_UNUSABLE,
    _F.NCCL_ERROR,
    _F.DATA_PATH_MISSING,
    _F.HUB_NOT_FOUND,
    _F.PROCESS_CRASH_NATIVE,
)

STORAGE_SIGNS: Final[tuple[Sign, ...]] = (
    # Room.
    row(
        rf"^{_NO_SHM}.*(?:failed to register layer|/var/lib/(?:docker|containerd)|GetImageBlob"
        rf"|failed to extract layer).*"
        r"(?i:no space left on device)",
        _SAID,
        _FULL,
        0.96,
        *_AFTER,
        kind="pull",
    ),
    row(
        rf"^{_NO_SHM}.*(?:(?i:no space left on device)|\[Errno 28\]|\(os error 28\)"
        rf"|\bcode: 28, kind: StorageFull|\bENOSPC\b)"
        r"(?:: '(?P<path>[^']+)')?",
        _SAID,
        _FULL,
        0.93,
        *_AFTER,
    ),
    row(
        r"(?:\[Errno 122\] )?(?i:\bdisk quota exceeded\b)(?:: '(?P<path>[^']+)')?|\[Errno 122\]|\bEDQUOT\b",
        _SAID,
        _FULL,
        0.94,
        *_AFTER,
        _DENIED,
    ),
    row(
        r"\bNot enough (?:free )?disk space\b.*(?:Needed|needed|required)|\bdatabase or disk is full\b"
        r"|\bdisk is full\b"
        r"|\bDisk [Rr]esources? [Ee]xceeded\b|\bephemeral-storage\b.{0,60}(?:exceed|low)"
        r"|\bnot enough space on (?:the )?(?:disk|device)"
        r"|\bCannot write: No space\b|\bOut of disk space\b|\bdon't have enough free space in\b"
        r"|\binsufficient (?:free )?disk space",
        _SAID,
        _FULL,
        0.92,
        *_AFTER,
    ),
    row(
        r"\bwrite\(\): fd \d+ failed with (?:Input/output error|No space)"
        r"|\bPytorchStreamWriter failed writing (?:file|central directory)"
        r"|\bunexpected pos \d+ vs \d+|\bbasic_ios::clear: iostream error|\biostream error\b.*(?:write|save)",
        _LOG,
        _FULL,
        0.85,
        _F.CHECKPOINT_UNUSABLE,
        _F.USER_CODE_BUG,
    ),
    row(r"\bOSError: \[Errno 5\] Input/output error", _LOG, _FULL, 0.6),
    # Leave to write.
    row(
        r"\bCall to shm_open failed : Permission denied|/dev/shm\S*.{0,40}Permission denied"
        r"|Permission denied.{0,40}/dev/shm",
        _LOG,
        _DENIED,
        0.94,
        *_WORKS_ON,
        _F.SHM_TOO_SMALL,
        mild=True,
        kind="shm",
    ),
    row(
        r"\bPermissionError: \[Errno (?:13|1)\] (?:Permission denied|Operation not permitted"
        r"|error while attempting)[^']*: ?b?'(?P<path>[^']+)'",
        _LOG,
        _DENIED,
        0.93,
        *_WORKS_ON,
        _F.ENTRYPOINT_NOT_FOUND,
        kind="denied",
    ),
    row(
        r"\b(?:OSError|PermissionError|IOError): \[Errno 30\] Read-only file system(?:: '(?P<path>[^']+)')?|\bEROFS\b"
        r"|(?:cannot|can't|failed to|unable to) (?:create|touch|open|remove|move|write"
        r"|make)\b[^:]{0,20}['‘ ](?P<path2>/[^'’\s]+)['’]?: Read-only file system",
        _LOG,
        _DENIED,
        0.94,
        *_WORKS_ON,
        kind="read_only",
    ),
    row(
        r"\b(?:mkdir|touch|cp|mv|tee|rsync|install|ln|tar|chown|chmod|rm|dd|wget|curl)\b[^"
        r"|]{0,60}?['‘ ](?P<path>/?[\w./-]+)['’]?: "
        r"(?:Cannot (?:open|mkdir|create[^:]*): )?(?:[Pp]ermission denied|Operation not permitted)",
        _LOG,
        _DENIED,
        0.92,
        *_WORKS_ON,
        _F.ENTRYPOINT_NOT_FOUND,
        kind="denied",
    ),
    row(
        rf"^(?:(?:[\w./-]*/)?(?:ba|da|z|k|a)?sh(?: -c)?: (?:line )?(?:\d+: )?|[\w./-]+: line \d+: )"
        rf"(?:cannot create )?(?P<path>(?!\S*{_SCRIPTS})/?[\w.-]+/[\w./-]+\.\w{{2,5}}):"
        r" (?:Permission denied|Read-only file system)$",
        _LOG,
        _DENIED,
        0.93,
        *_WORKS_ON,
        _F.ENTRYPOINT_NOT_FOUND,
        kind="denied",
    ),
    row(
        r"\bproblem when trying to write in your cache folder \((?P<path>[^)]+)\)"
        r"|\bPermissionDenied(?:Error)?\b.*?(?P<path2>/[\w./-]+)"
        r"|\bkind: PermissionDenied\b|\b[Pp]ermission denied \(os error 13\)|\berrno = 13\b"
        r"|\bcannot be opened for writing|^RuntimeError: File (?P<path4>/\S+) cannot be opened"
        r"|\b(?:output|cache|checkpoint|save|log)\w* (?:dir(?:ectory)?|folder"
        r"|path) (?P<path3>\S+) is not writ(?:e?able|able)"
        r"|\b(?:[Uu]nable to|[Ff]ailed to|[Cc]annot|[Cc]ould not) (?:create|write|open|make"
        r"|save)\b.{0,100}[Pp]ermission denied"
        r"|\b[Pp]ermission denied\b.{0,40}(?:writing|creating|saving)",
        _LOG,
        _DENIED,
        0.9,
        *_WORKS_ON,
        kind="denied",
    ),
    row(
        r"\battempt to write a readonly database\b|\bunable to open database file\b"
        r"|\bCache directory \S+ is not writ",
        _LOG,
        _DENIED,
        0.8,
        *_WORKS_ON,
        kind="denied",
    ),
    row(
        r"\bPermission(?:Error|Denied)\b|\[Errno 13\]",
        _LOG,
        _DENIED,
        0.8,
        above=r"\b(?:mkdir|makedirs|open|save|dump|write|touch|copy|rename|unlink|chmod)\w*\b",
        kind="denied",
    ),
)

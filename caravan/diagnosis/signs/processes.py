"""Signs that a process hangs, dies in native code, or fails by a bug of the training's own code. Only data."""

from typing import Final

from caravan.diagnosis.looks import hanging_stacks, own_fault
from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_HANG: Final = _F.PROCESS_HANG
_CRASH: Final = _F.PROCESS_CRASH_NATIVE
_BUG: Final = _F.USER_CODE_BUG

# What others of the training say where one process died.
_HEARD: Final = (_F.NCCL_TIMEOUT, _F.NCCL_ERROR, _F.INTERRUPTED_EXTERNALLY)

PROCESS_SIGNS: Final[tuple[Sign, ...]] = (
    # It hangs, and somebody looked.
    row(hanging_stacks, _LOG, _HANG, 0.8, _F.INTERRUPTED_EXTERNALLY, _F.NCCL_TIMEOUT),
    row(r"\bDataLoader timed out after \d+", _LOG, _HANG, 0.93, _BUG, where="data loader"),
    row(
        r"^Timeout \(\d+:\d\d:\d\d(?:\.\d+)?\)!|\btask \S+:\d+ blocked for more than \d+ seconds",
        _LOG,
        _HANG,
        0.9,
        _BUG,
        mild=True,
    ),
    row(
        r"(?i:\b(?:no (?:new )?(?:output|progress|log(?: line)?s?|steps?|activity|heartbeat|sign of life|update)s?"
        r"|nothing (?:on|in|from|to|was|has|new|printed|written|logged)[^.]{0,40}|silent|stuck|hung|hanging"
        r"|stalled|not responding|unresponsive|deadlock(?:ed)?)\b[^.]{0,60}\b(?:for|since|in(?: the)?(?: last"
        r"| past)?|after)\b[^.]{0,20}\d+)",
        _LOG,
        _HANG,
        0.72,
        mild=True,
    ),
    # Somebody ended it while it waited for what did not come.
    row(
        r"^KeyboardInterrupt\b",
        _LOG,
        _HANG,
        0.7,
        _F.INTERRUPTED_EXTERNALLY,
        _BUG,
        above=r"_try_get_data|self\._poll\(|\b_poll|_wlock|_semlock|\.acquire\(|data_queue|selectors\.py|connection\.py|waitpid",
    ),
    # It died in native code.
    row(
        r"^(?!caravan: ).*(?:\bSIGSEGV\b|\bSegmentation [Ff]ault\b|(?i:\bsegfault at|\bsegmentation fault\b)"
        r"|\(exitcode: -11\)|\bexitcode\s*: -11\b"
        r"|exits with return code = -11\b|\bexited on signal 11 |(?:[Cc]ode|[Ss]tatus|rc)[ =:]{1,3}139\b)",
        _LOG,
        _CRASH,
        0.85,
        *_HEARD,
        signal="SIGSEGV",
    ),
    row(
        r"^(?!caravan: ).*(?:\bSIGILL\b|\bIllegal instruction\b|\billegal hardware instruction\b|\(exitcode: -4\)"
        r"|\bexitcode\s*: -4\b"
        r"|exits with return code = -4\b|\bexited on signal 4 |(?:[Cc]ode|[Ss]tatus|rc)[ =:]{1,3}132\b)",
        _LOG,
        _CRASH,
        0.85,
        *_HEARD,
        signal="SIGILL",
    ),
    row(
        r"^(?!caravan: ).*(?:\bSIGFPE\b|\bFloating[ -]point exception\b|\(exitcode: -8\)|\bexitcode\s*: -8\b"
        r"|exits with return code = -8\b|\bexited on signal 8 |(?:[Cc]ode|[Ss]tatus|rc)[ =:]{1,3}136\b)",
        _LOG,
        _CRASH,
        0.85,
        *_HEARD,
        signal="SIGFPE",
    ),
    row(
        r"double free or corruption|free\(\): invalid|malloc\(\): |munmap_chunk\(\)|corrupted size vs\. prev_size"
        r"|stack smashing detected|pure virtual method called|corrupted double-linked list|realloc\(\): invalid",
        _LOG,
        _CRASH,
        0.9,
        signal="SIGABRT",
    ),
    row(r"was compiled to use \w+ instructions, but these aren't available", _LOG, _CRASH, 0.95, signal="SIGILL"),
    row(
        r"\b(?:CUDA|HIP) error: (?:an illegal memory access was encountered|misaligned address"
        r"|unspecified launch failure"
        r"|an illegal instruction was encountered)|\bCUDA_ERROR_(?:ILLEGAL_ADDRESS|LAUNCH_FAILED"
        r"|MISALIGNED_ADDRESS)\b|\bMemory access fault by GPU\b|\bHSA_STATUS_ERROR_EXCEPTION\b",
        _LOG,
        _CRASH,
        0.7,
        _F.NCCL_ERROR,
        _F.NCCL_TIMEOUT,
    ),
    row(
        r"Fatal Python error: |\(core dumped\)|\bAborted\b|\(exitcode: -6\)|\bexitcode\s*: -6\b"
        r"|exits with return code = -6\b|\bexited on signal 6\b|\bdied with <Signals\.SIGABRT: 6>"
        r"|(?:[Cc]ode|[Ss]tatus|rc)[ =:]{1,3}134\b|is killed by signal: Aborted",
        _LOG,
        _CRASH,
        0.6,
        _BUG,
        signal="SIGABRT",
    ),
    # Where nothing else explains it.
    row(own_fault, _LOG, _BUG, 0.55, _F.NCCL_TIMEOUT, _F.NCCL_ERROR, _F.INTERRUPTED_EXTERNALLY),
    # `input()` without a terminal, where no frame of the repository's own stands above it.
    row(r"^EOFError: EOF when reading a line", _LOG, _BUG, 0.5, *_HEARD, exception="EOFError"),
)

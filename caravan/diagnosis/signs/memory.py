"""Signs that memory ran out: the host's, the GPU's, and what is taken for either. Only data.

Exit code 137 alone is no sign: it is every SIGKILL's.
"""

from typing import Final

from caravan.diagnosis.looks import held_by_others, used_before
from caravan.diagnosis.sign import NOT_FOR_MEMORY, Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_HOST: Final = _F.HOST_MEMORY_OOM
_SHM: Final = _F.SHM_TOO_SMALL
_CUDA: Final = _F.CUDA_OOM
_OTHERS: Final = _F.GPU_MEMORY_CONTENDED

_SIZE: Final = r"[\d.]{1,20} ?[KMGT]?i?(?:B|bytes)\b"

# A process that was killed, and nobody says for what.
_KILLED: Final = (
    r"\bdied with <Signals\.SIGKILL: 9>|\bterminated with signal SIGKILL\b|\bSignal 9 \(SIGKILL\) received by PID"
    r"|\(exitcode: -9\)|\bexitcode\s*: -9\b|exits with return code = -9\b|\bexited on signal 9 \(Killed\)"
)
_KILLED_IN_SHELL: Final = r": line \d+: +\d+ Killed\b|^Killed(?: +python\b.*)?$"
_FROM_OUTSIDE: Final = _F.INTERRUPTED_EXTERNALLY

# What else shows where shared memory is too small.
_AFTER_SHM: Final = (
    *(_HOST, _F.NCCL_ERROR, _F.NCCL_TIMEOUT, _F.DISK_FULL, _F.PROCESS_CRASH_NATIVE, _F.OUTPUT_PERMISSION_DENIED),
    *(_F.USER_CODE_BUG, _F.INTERRUPTED_EXTERNALLY),
)
# What others of the training say where one process was killed.
_ECHOED: Final = (_F.NCCL_ERROR, _F.NCCL_TIMEOUT, _F.PROCESS_CRASH_NATIVE)

MEMORY_SIGNS: Final[tuple[Sign, ...]] = (
    # The kernel, and who quotes it.
    row(r"(?i:memory cgroup out of memory)|oom-kill:constraint=CONSTRAINT_MEMCG", _LOG, _HOST, 0.97, where="task"),
    row(r"\binvoked oom-killer\b|Out of memory: Killed process", _LOG, _HOST, 0.85, where="process"),
    row(
        r"(?i:\boom[-_ ]kill(?:ed)?) event"
        r"|some of the step tasks have been OOM Killed",
        _LOG,
        _HOST,
        0.95,
        where="task",
    ),
    row(r"\"?\bOOMKilled\"?(?:: ?true)?(?!\w|\"?: ?false)", (Origin.EVENT, _LOG), _HOST, 0.95, where="task"),
    # Allocations that the host refused.
    row(r"^(?:numpy\S*\.)?_?(?:Array)?MemoryError\b|[.\s]MemoryError: ", _LOG, _HOST, 0.95, where="process"),
    row(rf"Unable to allocate {_SIZE} for an array", _LOG, _HOST, 0.95, _CUDA, where="process"),
    row(r"DefaultCPUAllocator: (?:can't allocate|not enough) memory", _LOG, _HOST, 0.97, _CUDA, where="process"),
    row(r"\bArrowMemoryError\b|\bmalloc of size \d+ failed", _LOG, _HOST, 0.95, where="process"),
    row(r"\bstd::bad_alloc\b", _LOG, _HOST, 0.9, where="process"),
    row(
        r"^OSError: \[Errno 12\]|\bfork: (?:retry: )?Cannot allocate memory|Cannot fork\b",
        _LOG,
        _HOST,
        0.9,
        where="process",
    ),
    row(r"OOM when allocating tensor.*/device:CPU:\d+ by allocator", _LOG, _HOST, 0.97, _CUDA, where="process"),
    row(r"\bray\.exceptions\.OutOfMemoryError|node running low on memory", _LOG, _HOST, 0.95, _CUDA, where="process"),
    row(
        r"\bunable to mmap \d+ bytes\b.*Cannot allocate memory|(?i:\bkilled due to memory pressure)"
        r"|\b[Oo]ut[- ]of[- ]memory killer"
        r"|\bOOM[- ]killer\b|exit codes of the workers are \{.{0,80}SIGKILL\(-9\)"
        r"|The node was low on resource: memory",
        _LOG,
        _HOST,
        0.92,
        *_ECHOED,
        where="process",
    ),
    row(
        r"DataLoader worker \(pid\(s\) [\d, ]+\) exited unexpectedly|Pin memory thread exited unexpectedly",
        _LOG,
        _HOST,
        0.6,
        _F.USER_CODE_BUG,
        where="process",
    ),
    row(
        r"^(?!.*\bibv_).*\bCannot allocate memory\b|\bBrokenProcessPool\b|process pool was terminated abruptly",
        _LOG,
        _HOST,
        0.72,
        *_ECHOED,
        _F.USER_CODE_BUG,
        where="process",
    ),
    # A process that was killed while its task lived on.
    row(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) is killed by signal: Killed", _LOG, _HOST, 0.95, where="process"),
    row(r"^caravan: .*\bcopier\b.* ended with exit code 137\b", _LOG, _HOST, 0.8, where="process"),
    # Where the cluster would have told of it, memory is not what it was killed for; who did it is not known.
    row(_KILLED, _LOG, _HOST, 0.8, *_ECHOED, unless=NOT_FOR_MEMORY, where="process"),
    row(_KILLED_IN_SHELL, _LOG, _HOST, 0.75, *_ECHOED, unless=NOT_FOR_MEMORY, where="process"),
    row(r"^killed$", Origin.OUTCOME, _FROM_OUTSIDE, 0.6, kind="killed"),
    row(_KILLED, _LOG, _FROM_OUTSIDE, 0.6, given=NOT_FOR_MEMORY, kind="killed"),
    row(_KILLED_IN_SHELL, _LOG, _FROM_OUTSIDE, 0.6, given=NOT_FOR_MEMORY, kind="killed"),
    row(r"Killed signal terminated program cc1plus", _LOG, _HOST, 0.9, where="process"),
    row(r"subprocesses has abruptly died during map operation", _LOG, _HOST, 0.7, where="process"),
    # The GPU.
    row(
        rf"(?:CUDA|HIP|XPU) out of memory\. Tried to allocate (?P<tried_gib>{_SIZE})"
        rf"(?:.*?total capacity of (?P<total_gib>{_SIZE}) of which (?P<free_gib>{_SIZE}) is free)?",
        _LOG,
        _CUDA,
        0.95,
    ),
    row(rf"(?P<total_gib>{_SIZE}) total capacity;.*?(?P<free_gib>{_SIZE}) free", _LOG, _CUDA, 0.9),
    row(r"\b(?:CUDA|HIP) out of memory\b|\b(?:CUDA|HIP) error: out of memory\b", _LOG, _CUDA, 0.95),
    row(
        r"\bCUBLAS_STATUS_ALLOC_FAILED\b|\bCUDNN_STATUS_ALLOC_FAILED\b|\bCUSPARSE_STATUS_ALLOC_FAILED\b",
        _LOG,
        _CUDA,
        0.9,
    ),
    row(
        r"Cuda failure (?:\d+ )?'out of memory'|Failed to (?:CUDA|cuda) (?:m|c|host m"
        r"|host c)alloc\w* (?P<tried_gib>\d+ bytes)",
        _LOG,
        _CUDA,
        0.92,
        _F.NCCL_ERROR,
        mild=True,
    ),
    row(r"\bCUDA_ERROR_OUT_OF_MEMORY\b", _LOG, _CUDA, 0.85),
    row(r"OOM when allocating tensor.*/device:GPU:\d+ by allocator", _LOG, _CUDA, 0.97),
    row(
        rf"(?i:resource[_ ]exhausted): Out of memory (?:while trying to allocate|allocating) (?P<tried_gib>{_SIZE})",
        _LOG,
        _CUDA,
        0.92,
    ),
    row(
        r"\bcupy\S*\.OutOfMemoryError\b|\bOutOfMemoryError: Out of memory allocating (?P<tried_gib>[\d,]+ bytes)"
        r"|\bExceeded (?:\w+ )?hbm capacity\b|\bran out of (?:gpu|device|video|hbm) memory\b|\bGPU out of memory\b",
        _LOG,
        _CUDA,
        0.92,
    ),
    # A kernel that wants more of a processor's own memory than this GPU's have: another build or model of GPU serves.
    row(
        r"\bout of resource: (?:shared|tensor) memory\b",
        _LOG,
        _F.TORCH_BUILD_MISMATCH,
        0.55,
        _F.USER_CODE_BUG,
        kind="capability",
    ),
    row(r"No executable batch size found, reached zero", _LOG, _CUDA, 0.92),
    row(r"enough GPU RAM to fit the quantized model", _LOG, _CUDA, 0.75),
    row(
        r"\bout of memory \(2\)|NVML_SUCCESS == r INTERNAL ASSERT FAILED",
        _LOG,
        _CUDA,
        0.75,
        _F.USER_CODE_BUG,
    ),
    row(
        r"\bUnable to find a valid cuDNN algorithm\b|\bCUBLAS_STATUS_NOT_INITIALIZED\b"
        r"|Ran out of memory in memory space"
        r"|That was not possible\. There are .{0,20} free|\bMPS backend out of memory\b"
        r"|GET was unable to find an engine to"
        r" execute this computation",
        _LOG,
        _CUDA,
        0.75,
        _F.USER_CODE_BUG,
    ),
    row(
        r"No available memory for the cache blocks|(?i:resource[_ ]exhausted): Failed to allocate request for (?P<"
        r"tried_gib>[\d.]+ ?[KMGT]i?B)|\bfailed to allocate (?:memory|[\d.]+\w? .{0,40}from device)",
        _LOG,
        _CUDA,
        0.85,
        _F.USER_CODE_BUG,
    ),
    # Neighbours that are repaired otherwise.
    row(held_by_others, _LOG, _OTHERS, 0.92, _CUDA),
    row(used_before, _LOG, _OTHERS, 0.9, _CUDA),
    # The first thing that a process does on a GPU takes some hundred MB: where that fails the GPU was full before.
    row(
        r"\b(?:CUDA|HIP) error: out of memory\b|\bcuda runtime error \(2\) : out of memory",
        _LOG,
        _OTHERS,
        0.93,
        _CUDA,
        above=r"_cuda_init\(\)|_cuda_setDevice|_lazy_init|\bset_device\(|get_rng_state|_cuda_getDeviceCount|current_device\(",
    ),
    row(
        r"[Ff]ree memory on device .{0,20}\([\d.]+/(?P<total_gib>[\d.]+ ?GiB)\) on startup is less than",
        _LOG,
        _OTHERS,
        0.95,
        _CUDA,
    ),
    row(
        r"CUDA-capable device\(s\) is/are busy or unavailable|\bCUDA_ERROR_DEVICE_UNAVAILABLE\b"
        r"|\ball CUDA-capable devices are busy|(?i:\b(?:gpu|device)\b.{0,60}\b(?:in use|held|occupied"
        r"|used) by (?:another|other) process)",
        _LOG,
        _OTHERS,
        0.9,
        _CUDA,
        _F.CUDA_DEVICE_UNAVAILABLE,
    ),
    row(
        r"\bshm_open\b.{0,40}Permission denied|Permission denied.{0,80}/dev/shm|/dev/shm.{0,120}Permission denied",
        _LOG,
        _F.OUTPUT_PERMISSION_DENIED,
        0.95,
        _SHM,
        _F.NCCL_ERROR,
        mild=True,
    ),
    # Shared memory: what workers and NCCL put into /dev/shm.
    row(
        r"is killed by signal: Bus error|out of shared memory\b.*shared memory limit"
        r"|insufficient shared memory \(shm\)",
        _LOG,
        _SHM,
        0.96,
        *_AFTER_SHM,
        kind="worker",
    ),
    row(
        r"unable to (?:write to|open|mmap|resize|allocate) .{0,40}(?:file|object|shared memory)[^<]{0,40}</?torch_"
        r"(?!.*Too many open files)|\bshm_open\b.{0,80}No space left",
        _LOG,
        _SHM,
        0.94,
        *_AFTER_SHM,
        kind="worker",
    ),
    row(
        r"[Ff]ailed to extend (?P<path>/dev/shm/\S+)|[Ee]rror while (?:creating|attaching to) shared memory segment"
        r"|NCCL WARN Call to (?:posix_fallocate|ftruncate|shm_open|mmap) failed ?:(?!.*Permission)",
        _LOG,
        _SHM,
        0.95,
        *_AFTER_SHM,
        mild=True,
        kind="nccl",
    ),
    row(
        r"No space left on device.*(?P<path>/dev/shm\S*)|(?P<path2>/dev/shm\S*).*No space left on device",
        _LOG,
        _SHM,
        0.95,
        *_AFTER_SHM,
    ),
    row(
        r"^OSError: \[Errno 28\] No space left on device",
        _LOG,
        _SHM,
        0.94,
        *_AFTER_SHM,
        above=r"multiprocessing/(?:synchronize|heap|shared_memory|resource_sharer|reductions|queues|connection|context)\.py"
        r"|SemLock|_posixshmem|shm_open|SharedMemory\(|multiprocessing/reductions",
        kind="semaphore",
    ),
    row(
        r"received \d items of ancdata|</torch_\d+_\w+>.*Too many open files"
        r"|^OSError: \[Errno 24\] Too many open files",
        _LOG,
        _SHM,
        0.62,
        _F.USER_CODE_BUG,
        kind="files",
    ),
    row(
        r"\bBus error\b|\(exitcode: -7\)|\bexitcode\s*: -7\b|\bSIGBUS\b|exits with return code = -7\b"
        r"|\bexited on signal 7 ",
        _LOG,
        _SHM,
        0.78,
        _F.PROCESS_CRASH_NATIVE,
        _F.NCCL_ERROR,
        _F.NCCL_TIMEOUT,
    ),
)

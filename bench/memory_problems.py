"""Problems of fine-tunes with the words in which libraries of several versions print them, for `memory_quality.py`.

`stored` are the words in which a lesson was learned, `tune` and `held` those in which it is looked for: no wording is in
two of them. `by` says what besides the problem decides whether a repair of one run is one of another: parts of the
context (`memory_quality.CONTEXTS`), and `subject` where the words name one of `subjects` ({s}). {n}, {m}, {g} and {p}
are numbers, sizes and paths, other ones each time.
"""

# ruff: noqa: E501 -- the lines of logs are kept whole
from typing import NamedTuple

from bench.memory_names import OPTIONS, PACKAGES, PROGRAMS, SYMBOLS


class Problem(NamedTuple):
    """One problem: its name, the repair's plan field, what decides, and its words."""

    name: str
    field: str
    by: tuple[str, ...]
    stored: tuple[str, ...]
    tune: tuple[str, ...]
    held: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()


PROBLEMS: tuple[Problem, ...] = (
    Problem(
        "gpu memory",
        "training.micro_batch",
        ("size", "method", "gpu"),
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate {g} GiB (GPU 0; {g} GiB total capacity; {g} GiB already allocated; {m} MiB free; {g} GiB reserved in total by PyTorch)",
            "RuntimeError: CUDA out of memory. Tried to allocate {m}.00 MiB (GPU 0; {g} GiB total capacity; {g} GiB already allocated; {m} MiB free)",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {g} GiB. GPU 0 has a total capacity of {g} GiB of which {m} MiB is free. Including non-PyTorch memory, this process has {g} GiB memory in use.",
        ),
        (
            "RuntimeError: CUDA error: out of memory",
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate {m} MiB. GPU 0 has a total capacty of {g} GiB of which {m} MiB is free. Process {n} has {g} GiB memory in use.",
        ),
    ),
    Problem(
        "host memory",
        "resources.memory_mb",
        ("size", "method", "framework"),
        (
            "Task hit OOM: exit code 137: OOM Killed",
            "slurmstepd: error: Detected {n} oom_kill event in step. Some of the step tasks have been OOM Killed.",
        ),
        ("MemoryError: Unable to allocate {g} GiB for an array with shape ({n}, {m}) and data type float32",),
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:{n}] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate {n}{m} bytes. Error code 12 (Cannot allocate memory)",
            "numpy.core._exceptions._ArrayMemoryError: Unable to allocate {g} GiB for an array with shape ({n},) and data type int64",
        ),
    ),
    Problem(
        "loss is not a number",
        "training.lr",
        ("family", "method"),
        ("{{'loss': nan, 'learning_rate': 2e-05, 'epoch': 0.{n}}}", "RuntimeError: Loss is NaN at step {n}, stopping"),
        ("Current loss scale already at minimum - cannot decrease scale anymore. Exiting run.",),
        (
            "FloatingPointError: Minimum loss scale reached (0.0001). Your loss is probably exploding.",
            "ValueError: The loss became nan in epoch {n}",
        ),
    ),
    Problem(
        "no bf16",
        "training.precision",
        ("gpu",),
        ("ValueError: Your setup doesn't support bf16/gpu. You need torch>=1.10, using Ampere GPU with cuda>=11.0",),
        (
            "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla GPU has compute capability 7.{n}.",
        ),
        ("RuntimeError: Current CUDA Device does not support bfloat16. Please switch dtype to float16.",),
    ),
    Problem(
        "flash attention on old cards",
        "training.attn",
        ("gpu",),
        ("RuntimeError: FlashAttention only supports Ampere GPUs or newer.",),
        ("RuntimeError: FlashAttention-2 only supports Ampere GPUs or newer. GPU {n}",),
        ("RuntimeError: FlashAttention is only supported on CUDA 11 and above and GPUs newer than Ampere",),
    ),
    Problem(
        "flash attention is not there",
        "training.attn",
        (),
        (
            "ImportError: FlashAttention2 has been toggled on, but it cannot be used due to the following error: the package flash_attn seems to be not installed. Please refer to the documentation of https://huggingface.co/docs to install Flash Attention 2.",
        ),
        ("ModuleNotFoundError: No module named 'flash_attn'",),
        (
            "ImportError: This modeling file requires the following packages that were not found in your environment: flash_attn. Run `pip install flash_attn`",
        ),
    ),
    Problem(
        "flash attention of another torch",
        "setup.pip",
        (),
        (
            "ImportError: {p}/flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: _ZN3c104cuda9SetDeviceEi",
        ),
        (
            "ImportError: {p}/flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so: undefined symbol: _ZNK3c105Error4whatEv",
        ),
        (
            "ImportError: {p}/flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so: undefined symbol: _ZN2at4_ops5zeros4callEN3c108ArrayRefINS2_6SymIntEEE",
        ),
    ),
    Problem(
        "package is missing",
        "setup.pip",
        ("subject",),
        ("ModuleNotFoundError: No module named '{s}'",),
        (
            "ModuleNotFoundError: No module named '{s}'\n\nThe above exception was the direct cause of the following exception:\n\nRuntimeError: Failed to import transformers.trainer because of the following error (look up to see its traceback): No module named '{s}'",
        ),
        ("ModuleNotFoundError: No module named '{s}.utils'", "/opt/conda/bin/python: No module named {s}"),
        PACKAGES,
    ),
    Problem(
        "option is not known",
        "training.options",
        ("subject",),
        ("train.py: error: unrecognized arguments: {s}",),
        ("Error: No such option: {s}",),
        (
            "ValueError: Some specified arguments are not used by the HfArgumentParser: ['{s}', '{n}']",
            "error: unrecognized arguments: {s}={n}",
        ),
        OPTIONS,
    ),
    Problem(
        "name is not in the module",
        "setup.pip",
        ("subject",),
        ("ImportError: cannot import name '{b}' from '{a}' ({p}/__init__.py)",),
        ("AttributeError: module '{a}' has no attribute '{b}'",),
        (
            "ImportError: cannot import name '{b}' from '{a}' (unknown location)",
            "AttributeError: module {a} has no attribute {b}",
        ),
        SYMBOLS,
    ),
    Problem(
        "program of the build is missing",
        "setup.apt",
        ("subject",),
        ("unable to execute '{s}': No such file or directory\nerror: command '{s}' failed: No such file or directory",),
        ("/bin/sh: 1: {s}: not found",),
        ("FileNotFoundError: [Errno 2] No such file or directory: '{s}'", "bash: line {n}: {s}: command not found"),
        PROGRAMS,
    ),
    Problem(
        "cuda's compiler is missing",
        "setup.pip",
        (),
        ("OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root.",),
        (
            "deepspeed.ops.op_builder.builder.MissingCUDAException: CUDA_HOME does not exist, unable to compile CUDA op(s)",
        ),
        ("RuntimeError: Could not find nvcc, please set CUDA_HOME",),
    ),
    Problem(
        "shared memory",
        "shm_mb",
        ("framework",),
        (
            "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).",
        ),
        (
            "RuntimeError: DataLoader worker (pid {n}) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory. Please try to raise your shared memory limit.",
        ),
        (
            "RuntimeError: unable to write to file </torch_{n}_{m}_0>: No space left on device (28)",
            "OSError: [Errno 28] No space left on device: '/dev/shm/pym-{n}-abcd'",
        ),
    ),
    Problem(
        "nccl without shared memory",
        "shm_mb",
        (),
        ("NCCL WARN Error while creating shared memory segment /dev/shm/nccl-{n}Ab (size {m})",),
        ("include/shm.h:{n} NCCL WARN Call to posix_fallocate failed : No space left on device",),
        ("misc/shmutils.cc:{n} NCCL WARN Error: failed to extend /dev/shm/nccl-x{n} to {m} bytes",),
    ),
    Problem(
        "collective timed out",
        "training.ddp_timeout",
        ("gpus",),
        (
            "[Rank {n}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={m}, OpType=ALLREDUCE, NumelIn={m}, NumelOut={m}, Timeout(ms)=1800000) ran for 1800{n} milliseconds before timing out.",
        ),
        (
            "[rank{n}]:[E ProcessGroupNCCL.cpp:{m}] [PG 0 Rank {n}] Process group watchdog thread terminated with exception: [Rank {n}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={m}, OpType=BROADCAST, NumelIn={m}, NumelOut={m}, Timeout(ms)=600000) ran for 600{n} milliseconds before timing out.",
        ),
        (
            "RuntimeError: [Rank {n}] Some NCCL operations have failed or timed out. Due to the asynchronous nature of CUDA kernels, subsequent GPU operations might run on corrupted/incomplete data.",
        ),
    ),
    Problem(
        "port is in use",
        "launch.master_port",
        (),
        (
            "RuntimeError: The server socket has failed to listen on any local network address. The server socket has failed to bind to [::]:{n} (errno: 98 - Address already in use).",
        ),
        (
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: {n}, useIpv6: 0, code: -98, name: EADDRINUSE, message: address already in use",
        ),
        (
            "RuntimeError: Address already in use",
            "[W socket.cpp:{n}] [c10d] The server socket has failed to bind to 0.0.0.0:{n} (errno: 98 - Address already in use).",
        ),
    ),
    Problem(
        "rendezvous is not reached",
        "launch.rdzv_endpoint",
        ("gpus",),
        (
            "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to the C10d store has failed. See inner exception for details.",
        ),
        ("torch.distributed.DistStoreError: Timed out after {n} seconds waiting for clients. 1/{m} clients joined.",),
        (
            "RuntimeError: connect() timed out. Original timeout was {n}000 ms.",
            "TimeoutError: The client socket has timed out after {n}s while trying to connect to (10.0.{n}.3, {m}).",
        ),
    ),
    Problem(
        "driver is too old",
        "setup.pip",
        ("torch",),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 1102{n}). Please update your GPU driver",
        ),
        ("CUDA initialization: The NVIDIA driver on your system is too old (found version 1103{n}).",),
        ("CUDA driver version is insufficient for CUDA runtime version",),
    ),
    Problem(
        "no kernel for the card",
        "setup.pip",
        ("gpu",),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device",),
        ("NVIDIA GPU with CUDA capability sm_{n} is not compatible with the current PyTorch installation.",),
        (
            "UserWarning: GPU0 with CUDA capability sm_{n} is not compatible with the current PyTorch installation. The current PyTorch install supports CUDA capabilities sm_37 sm_50 sm_60.",
        ),
    ),
    Problem(
        "saving and evaluating differ",
        "training.options",
        (),
        (
            "ValueError: --load_best_model_at_end requires the save and eval strategy to match, but found - Evaluation strategy: no - Save strategy: steps",
        ),
        ("ValueError: --load_best_model_at_end requires the save and evaluation strategy to match, but found",),
        (
            "ValueError: --load_best_model_at_end requires the saving steps to be a round multiple of the evaluation steps, but found {n}, which is not a round multiple of {m}.",
        ),
    ),
    Problem(
        "batch does not divide",
        "training.micro_batch",
        (),
        (
            "AssertionError: Check batch related parameters. train_batch_size is not equal to micro_batch_per_gpu * gradient_acc_step * world_size {n} != {m} * 1 * 8",
        ),
        ("ValueError: The batch size {n} must be divisible by the number of devices {m}.",),
        (
            "AssertionError: global batch size ({n}) is not divisible by micro batch size ({m}) times data parallel size (8)",
        ),
    ),
    Problem(
        "both precisions",
        "training.precision",
        (),
        ("ValueError: At most one of fp16 and bf16 can be True, but not both",),
        ("AssertionError: fp16 and bf16 can't both be enabled: only one of fp16 and bf16 may be set",),
        ("ValueError: Only one of fp16 and bf16 can be used at the same time",),
    ),
    Problem(
        "disk is full",
        "resources.disk_mb",
        ("method", "size"),
        ("OSError: [Errno 28] No space left on device: '{p}/checkpoint-{n}'",),
        (
            'safetensors_rust.SafetensorError: Error while serializing: IoError(Os {{ code: 28, kind: StorageFull, message: "No space left on device" }})',
        ),
        (
            "RuntimeError: [enforce fail at inline_container.cc:{n}] . PytorchStreamWriter failed writing file data/{n}: file write failed",
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        ),
    ),
    Problem(
        "bitsandbytes finds no cuda",
        "setup.pip",
        (),
        (
            "RuntimeError: CUDA Setup failed despite GPU being available. Please run the following command to get more information: python -m bitsandbytes",
        ),
        ("bitsandbytes/libbitsandbytes_cpu.so: undefined symbol: cquantize_blockwise_fp16_nf4",),
        ("RuntimeError: Could not find the bitsandbytes CUDA binary at PosixPath('{p}/libbitsandbytes_cuda12{n}.so')",),
    ),
    Problem(
        "positions run out",
        "training.max_len",
        ("family",),
        (
            "Token indices sequence length is longer than the specified maximum sequence length for this model ({n} > 512). Running this sequence through the model will result in indexing errors\nIndexError: index out of range in self",
        ),
        (
            "RuntimeError: The expanded size of the tensor ({n}) must match the existing size (512) at non-singleton dimension 1. Target sizes: [4, {n}]. Tensor sizes: [1, 512]\nIndexError: index out of range in self",
        ),
        (
            "RuntimeError: CUDA error: device-side assert triggered\n{p}/Indexing.cu:{n}: block: [{n},0,0], thread: [0,0,0] Assertion `srcIndex < srcSelectDimSize` failed.",
        ),
    ),
    Problem(
        "columns are others",
        "training.options",
        ("subject",),
        ("ValueError: --text_column '{s}' needs to be one of: input, output",),
        ("KeyError: \"Column {s} not in the dataset. Current columns in the dataset: ['input', 'output']\"",),
        (
            "KeyError: '{s}'",
            "ValueError: Column name {s} not in the dataset. Current columns in the dataset: ['input', 'output']",
        ),
        ("text", "prompt", "instruction", "label", "sentence", "question", "answer", "chosen", "messages", "summary"),
    ),
    Problem(
        "tracker wants a login",
        "env.WANDB_MODE",
        (),
        ("wandb.errors.UsageError: api_key not configured (no-tty). call wandb.login(key=[your_api_key])",),
        ("wandb: ERROR api_key not configured (no-tty). Run wandb login",),
        ("wandb.errors.errors.AuthenticationError: The API key could not be verified: user is not logged in",),
    ),
    Problem(
        "hub limits",
        "env.HF_HUB_OFFLINE",
        (),
        ("requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/{p}",),
        ("huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests. We had to rate limit your IP",),
        ("HTTP Error 429 thrown while requesting HEAD https://huggingface.co/{p}",),
    ),
    Problem(
        "hub is not reached",
        "env.HF_HUB_DOWNLOAD_TIMEOUT",
        (),
        (
            "OSError: We couldn't connect to 'https://huggingface.co' to load this file, couldn't find it in the cached files",
        ),
        (
            "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: {p} (Caused by NameResolutionError)",
        ),
        (
            "huggingface_hub.errors.LocalEntryNotFoundError: An error happened while trying to locate the file on the Hub and we cannot find the requested files in the local cache. Please check your connection",
        ),
    ),
    Problem(
        "parameters without a gradient",
        "training.options",
        (),
        (
            "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one. This error indicates that your module has parameters that were not used in producing loss. find_unused_parameters=True",
        ),
        (
            "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one. Since `find_unused_parameters=True` is enabled, this likely means that not all `forward` outputs participate in computing loss.\nParameter indices which did not receive grad for rank {n}: {n} {m}",
        ),
        (
            "RuntimeError: It looks like your LightningModule has parameters that were not used in producing the loss returned by training_step. strategy='ddp_find_unused_parameters_true'",
        ),
    ),
)

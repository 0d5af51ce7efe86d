"""Causes that show while the task runs, and what is told when none fits.

Only data: see `taxonomy.py`.
"""

from typing import Final

from caravan.diagnosis.entry import Entry, Fixable, said
from caravan.values.failure import FailureClass

TRAINING_CAUSES: Final[dict[FailureClass, Entry]] = {
    FailureClass.HOST_MEMORY_OOM: Entry(
        Fixable.YES,
        "Host memory (cgroup or machine) ran out: oom-kill, exit 137 with OOM, SIGKILLed rank, DataLoader worker "
        "'Killed', CPU allocator.",
        "Give the job more host memory; fewer data-loader workers or smaller batches need less.",
        ("resources.memory_mb", "training.num_workers", "training.method"),
        (
            said("Host memory: the task was killed at its limit of {limit_mb} MB on node {node}.", where="task"),
            said("Host memory: the task was killed at its limit of {limit_mb} MB.", where="task"),
            said("Host memory ran out inside the task on node {node}: {message}.", where="process"),
            said("Host memory ran out inside the task: {message}.", where="process"),
        ),
    ),
    FailureClass.DISK_FULL: Entry(
        Fixable.PARTLY,
        "No space left on the data/checkpoint disk (also failed checkpoint writes).",
        "Free some of the disk, ask for more, or name another place for what is written.",
        ("resources.disk_mb", "training.save_total_limit", "env.HF_HOME"),
        (said("The disk is full at {path}."),),
    ),
    FailureClass.OUTPUT_PERMISSION_DENIED: Entry(
        Fixable.YES,
        "The task may not write to its output, cache or shm directory.",
        "Grant the job the right to write there, or name another place.",
        ("training.output_dir", "env.HF_HOME", "user"),
        (said("The job may not write to {path}."),),
    ),
    FailureClass.CUDA_OOM: Entry(
        Fixable.YES,
        "The GPU's memory is too small for this model/batch/sequence (torch, TF, JAX, cuBLAS ALLOC_FAILED); also when"
        " other ranks then time out.",
        "A smaller batch, shorter sequences, gradient checkpointing or a lighter method need less GPU memory; "
        "else take a larger GPU or a smaller model.",
        (
            "training.micro_batch",
            "training.grad_accum",
            "training.grad_checkpointing",
            "training.method",
            "training.max_len",
        ),
        (
            said("GPU memory: {tried_gib} GiB more were wanted, {free_gib} of {total_gib} GiB were free."),
            said("GPU memory: {tried_gib} GiB more were wanted than there are."),
            said("GPU memory ran out: {message}."),
        ),
    ),
    FailureClass.GPU_MEMORY_CONTENDED: Entry(
        Fixable.YES,
        "The GPU is held by another process: little free at the start.",
        "Whose process holds the GPU? `nvidia-smi` on the node names it; another node may be free.",
        ("exclude_nodes", "retry.after_s", "training.gpu_memory_share"),
        (
            said("Other processes hold the GPU on node {node}: {free_gib} of its {total_gib} GiB were free."),
            said("Other processes hold the GPU: {free_gib} of its {total_gib} GiB were free."),
        ),
    ),
    FailureClass.SHM_TOO_SMALL: Entry(
        Fixable.YES,
        "The shared memory (/dev/shm) is too small: bus error in DataLoader workers, NCCL can't extend its segment, "
        "semaphores fail with ENOSPC.",
        "Give the job more shared memory; without data-loader workers it needs less.",
        ("shm_mb", "training.num_workers"),
        (
            said("Shared memory is too small for the data-loader processes.", kind="worker"),
            said("Shared memory is too small for NCCL.", kind="nccl"),
        ),
    ),
    FailureClass.CUDA_DEVICE_UNAVAILABLE: Entry(
        Fixable.YES,
        "The process sees no GPU/driver at all: the task did not ask for the device or the runtime is not used.",
        "Does the job ask for a GPU? Where it does, check the node's driver, its container runtime and Nomad's "
        "GPU plug-in.",
        ("resources.gpus", "docker.runtime"),
    ),
    FailureClass.GPU_COUNT_MISMATCH: Entry(
        Fixable.YES,
        "More processes/ranks than GPUs (invalid device ordinal, not enough slots for the GPUs).",
        "Start as many processes as the job has GPUs, or ask for as many GPUs as the program wants.",
        ("launch.nproc", "resources.gpus"),
        (said("The program wants {want} GPUs, there are {have}."),),
    ),
    FailureClass.TORCH_BUILD_MISMATCH: Entry(
        Fixable.YES,
        "The torch build does not serve this GPU: CPU-only wheel, or no kernels for the compute capability.",
        "Take a torch that is built for the GPU, an image that has one, or a GPU that this torch serves.",
        ("setup.pip", "image", "resources.gpu_model"),
        (
            said("The torch that is installed knows no CUDA.", kind="cpu"),
            said("The torch that is installed has no kernels for compute capability {capability}.", kind="capability"),
        ),
    ),
    FailureClass.BF16_UNSUPPORTED: Entry(
        Fixable.YES,
        "bf16 / tf32 on a GPU older than Ampere.",
        "Train in fp16 or fp32, or take an Ampere GPU or newer.",
        ("training.precision", "training.tf32"),
    ),
    FailureClass.FLASH_ATTN_UNUSABLE: Entry(
        Fixable.YES,
        "flash-attn is missing, of another ABI (undefined symbol), or not for this GPU.",
        "Use torch's own attention, or a wheel of flash-attn that fits torch, CUDA and the GPU.",
        ("training.attn", "setup.pip"),
        (
            said("flash-attn is not installed.", kind="missing"),
            said("flash-attn was built for another torch.", kind="abi"),
            said("flash-attn does not work on this GPU.", kind="gpu"),
        ),
    ),
    FailureClass.BITSANDBYTES_SETUP: Entry(
        Fixable.YES,
        "bitsandbytes finds no CUDA runtime / has no binary for this CUDA.",
        "Take a bitsandbytes that fits the image's CUDA, an image with CUDA's libraries, or train without quantising.",
        ("setup.pip", "env.LD_LIBRARY_PATH", "training.method"),
    ),
    FailureClass.BUILD_TOOLCHAIN_MISSING: Entry(
        Fixable.YES,
        "A package must be compiled and nvcc / CUDA_HOME / gcc / ninja is missing.",
        "Take an image that has the compiler, or a version of the package that comes built.",
        ("image", "setup.apt"),
        (
            said("{package} must be built, and {program} is missing."),
            said("A package must be built, and {program} is missing."),
        ),
    ),
    FailureClass.INDEX_OUT_OF_RANGE: Entry(
        Fixable.PARTLY,
        "Device-side assert: a token or label index exceeds the embedding / classes.",
        "Tokenizer and model, or labels and model, do not belong together: ids exceed what the model has.",
        ("training.resize_embeddings", "training.max_len"),
        (
            said("{file}, line {line}: {fault}."),
            said("A {kind} index of {value} was asked for, and there are {size}."),
        ),
    ),
    FailureClass.NUMERIC_DIVERGENCE: Entry(
        Fixable.YES,
        "nan/inf loss or gradient, loss scale at its minimum, loss blow-up.",
        "A smaller learning rate, clipping or another precision may help; else the data or the model code may be "
        "at fault.",
        ("training.precision", "training.lr", "training.max_grad_norm", "training.warmup"),
        (
            said("The training diverged: {fault}."),
            said("The training diverged: {metric} is no number since step {step}.", kind="nan"),
            said("The training diverged: {metric} is no number any more.", kind="nan"),
            said("The training diverged: the loss scale came to its minimum.", kind="scale"),
            said("The training diverged: {metric} grew without bound by step {step}.", kind="blowup"),
            said("The training diverged: {metric} grew without bound.", kind="blowup"),
            said("The training diverged: {message}."),
        ),
    ),
    FailureClass.NCCL_TIMEOUT: Entry(
        Fixable.PARTLY,
        "A collective timed out (watchdog) without another cause in the log.",
        "Read the logs of all ranks: one of them stopped or fell behind, and may say why.",
        ("training.ddp_timeout", "env.NCCL_DEBUG", "training.num_workers"),
        (
            said("The ranks lost step: {op} number {seq} timed out."),
            said("The ranks lost step: {message}."),
        ),
    ),
    FailureClass.NCCL_ERROR: Entry(
        Fixable.PARTLY,
        "NCCL can't connect: wrong interface, refused, no route, socket abort.",
        "Check the network between the nodes or GPUs, and the interface that NCCL takes.",
        ("env.NCCL_SOCKET_IFNAME", "env.NCCL_IB_DISABLE", "exclude_nodes"),
    ),
    FailureClass.RENDEZVOUS_PORT_IN_USE: Entry(
        Fixable.YES,
        "torchrun/TCPStore can't bind its port.",
        "Let the launcher take a free port, or free this one.",
        ("launch.master_port",),
        (said("The port {port} of the rendezvous is taken."),),
    ),
    FailureClass.RENDEZVOUS_UNREACHABLE: Entry(
        Fixable.PARTLY,
        "Workers can't reach or resolve the rendezvous/head host.",
        "Can the nodes reach and resolve the first one? A firewall or DNS may be in the way.",
        ("launch.rdzv_endpoint", "network_mode"),
        (said("The processes can't reach the first one at {host}."),),
    ),
    FailureClass.LAUNCHER_MISCONFIGURED: Entry(
        Fixable.YES,
        "The script was started without / with the wrong launcher: RANK, MASTER_ADDR missing, slots not given, "
        "accelerate config missing.",
        "How is this script meant to be started: torchrun, accelerate, deepspeed, or plain Python?",
        ("launch.launcher",),
    ),
    FailureClass.PROCESS_HANG: Entry(
        Fixable.PARTLY,
        "No progress and no error: DataLoader/fork deadlock.",
        "Look where it stands still: the last lines of its log say how far it came.",
        ("training.num_workers", "env.TOKENIZERS_PARALLELISM", "env.OMP_NUM_THREADS", "training.resume_from"),
        (said("The training hung: {message}."),),
    ),
    FailureClass.PROCESS_CRASH_NATIVE: Entry(
        Fixable.PARTLY,
        "Native crash: SIGSEGV, SIGILL, core dump.",
        "Another version of the packages with native code, or another image, may not crash.",
        ("training.num_workers", "image", "constraints"),
        (said("The process crashed in native code ({signal})."),),
    ),
    FailureClass.MISSING_PYTHON_PACKAGE: Entry(
        Fixable.YES,
        "A Python package is not installed.",
        "Name the package that provides it in the repository's requirements.",
        ("setup.pip",),
        (
            said("The Python package {package} is not installed."),
            said("The Python module {module} is not installed."),
            said("A Python package is not installed: {message}."),
        ),
    ),
    FailureClass.PACKAGE_VERSION_CONFLICT: Entry(
        Fixable.YES,
        "Versions do not fit: ImportError of a name, removed argument, unknown model type, pip resolution failure, no"
        " wheel for this Python.",
        "Name versions that exist and fit each other in the repository's requirements.",
        ("setup.pip", "image"),
        (
            said("No package index that was asked has {package} for this Python."),
            said("The versions of the packages don't fit: {message}."),
        ),
    ),
    FailureClass.CLI_ARGS_INVALID: Entry(
        Fixable.YES,
        "Unknown, missing or malformed command-line argument / hydra override.",
        "Give the program the options and values that it takes: its --help names them.",
        ("args",),
        (
            said("The program has no option {option}.", kind="unknown"),
            said("The program wants {option}, which was not given.", kind="missing"),
            said("The program takes no {value!r} for {option}; it takes {choices}.", kind="choice"),
            said("The program can't read the value {value!r} of {option}.", kind="value"),
            said("The program can't read the value of {option}.", kind="value"),
            said("The program does not take its arguments: {message}."),
        ),
    ),
    FailureClass.TRAINING_CONFIG_INVALID: Entry(
        Fixable.YES,
        "Arguments are known but contradict each other or the data (strategies, batch sizes, pad token, epochs).",
        "Set otherwise what the message names: it does not fit the other settings, the model or the data.",
        ("training.*",),
        (
            said("The config file {path}, in which values are to be changed, is not in the code.", kind="overlay"),
            said("The data don't fit the settings: {fault}.", kind="length"),
            said("The model can't be given conversations: {fault}.", kind="template"),
            said("The options contradict each other: {fault}.", kind="conflict"),
        ),
    ),
    FailureClass.CHECKPOINT_UNUSABLE: Entry(
        Fixable.PARTLY,
        "The checkpoint is missing, incomplete, corrupt or of another shape.",
        "Name another checkpoint of this model, or start afresh.",
        ("training.resume_from", "training.output_dir"),
        (said("The checkpoint {path} can't be used ({kind})."),),
    ),
    FailureClass.DATA_PATH_MISSING: Entry(
        Fixable.PARTLY,
        "A data file or directory does not exist in the task.",
        "Where is the file? Name a path that the job sees, or bring it into the job.",
        ("dataset.path", "mounts", "setup.cmd"),
        (
            said("The program wants to write {path}, whose directory does not exist.", kind="write"),
            said("The data at {path} are not there where the job runs.", kind="read"),
            said("Data are not there where the job runs: {message}."),
        ),
    ),
    FailureClass.DATASET_FORMAT_ERROR: Entry(
        Fixable.PARTLY,
        "The data set's format or columns are not what the trainer expects.",
        "Check the data set's rows, columns and format against what the program reads.",
        ("dataset.columns", "dataset.format"),
        (
            said("{file}, line {line}, can't be trained on: {fault}."),
            said("{file} can't be trained on: {fault}."),
            said("The data can't be trained on: {fault}."),
            said("The data have no column {column}; they have {choices}.", kind="column"),
            said("The data have no column {column}.", kind="column"),
        ),
    ),
    FailureClass.HF_GATED_AUTH: Entry(
        Fixable.NO,
        "Gated or private hub repository: token or licence acceptance missing.",
        "Accept the model's or data set's terms on the hub and give a token that may read it (secret HF_TOKEN).",
        ("model.id",),
        (said("{repo} is gated or private, and no token that may read it was given."),),
    ),
    FailureClass.HUB_NOT_FOUND: Entry(
        Fixable.PARTLY,
        "The hub repository/path does not exist as named (often answered with 401), or a local model path is missing.",
        "Which one is meant? Name it as owner/name, or give a path that the job sees.",
        ("model.id",),
        (
            said("The model {path} can't be trained: {fault}."),
            said("The model can't be trained: {fault}."),
            said("The hub has no {repo}.", kind="repo"),
            said("There is no {path} where the job runs, and the hub has nothing of that name.", kind="local"),
        ),
    ),
    FailureClass.HUB_RATE_LIMITED: Entry(
        Fixable.YES,
        "The hub answers 429.",
        "Try again later; a token, a mirror or a local copy helps against the hub's limits.",
        ("retry.after_s", "model.source", "env.HF_HUB_OFFLINE"),
        (said("The hub limits our requests: {message}."),),
    ),
    FailureClass.NETWORK_UNREACHABLE: Entry(
        Fixable.PARTLY,
        "No route/DNS/timeouts to the hub or the internet from the node.",
        "Check that the nodes can reach it; else use a mirror or a local copy.",
        ("retry.after_s", "model.source", "env.HF_HUB_OFFLINE"),
        (said("The package index {index} can't be reached from the node."), said("The network failed: {message}.")),
    ),
    FailureClass.WANDB_LOGIN_MISSING: Entry(
        Fixable.YES,
        "wandb wants a login and there is no terminal, or refuses the key/entity (403): tracking stops the run.",
        "Give WANDB_API_KEY as a secret if runs shall be tracked.",
        ("env.WANDB_MODE", "training.report_to"),
        (
            said("wandb wants a login, and nobody is logged in: {message}.", kind="login"),
            said("wandb refuses the key or the project: {message}."),
        ),
    ),
    FailureClass.USER_CODE_BUG: Entry(
        Fixable.NO,
        "A programming error in the training code that no job field mends.",
        "The training code must be changed: no change of the job mends it.",
        (),
        (
            said(
                "The program asks a question at {file}, line {line}, and in a job nobody is there to answer it.",
                exception="EOFError",
            ),
            said("The program asks a question, and in a job nobody is there to answer it.", exception="EOFError"),
            said("The training code raises {exception} at {file}, line {line}."),
            said("The training code raises {exception}: {message}."),
        ),
    ),
    FailureClass.NO_FAILURE: Entry(
        Fixable.YES,
        "Nothing failed: warnings only, or the run ended well.",
        "",
        (),
    ),
    FailureClass.OUTPUTS_MISSING: Entry(
        Fixable.PARTLY,
        "The task ended with exit code 0 but wrote no weights or checkpoint where the plan says they go; no log line "
        "need show it.",
        "Which option makes the program save, or where does it write?",
        ("args", "training.output_dir"),
    ),
    FailureClass.RUN_TOO_LONG: Entry(
        Fixable.PARTLY,
        "The first steps of the job show that the whole training takes longer, or costs more, than was approved: the "
        "rest was not begun.",
        "Approve the measured time and cost (limits.max_run_s, --budget), train for fewer epochs or steps, or take "
        "faster GPUs.",
        ("limits.max_run_s",),
        (
            said("The first steps show that the whole training would take about {needed}, and {allowed} are approved."),
            said("The first steps show that the whole training takes longer than was approved."),
        ),
    ),
    FailureClass.UNKNOWN: Entry(
        Fixable.NO,
        "The evidence fits no cause that is told apart.",
        "Read the whole log: what stands before its last lines may say more.",
        (),
        (
            said("The cause is not known: it ended with exit code {exit_code} and its log names no cause."),
            said("The cause is not known; the log says: {message}.", kind="log"),
            said("The cause is not known: {message}."),
            said("The cause is not known: nothing was logged."),
        ),
    ),
}

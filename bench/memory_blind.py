"""A third group of wordings for `memory_quality.py`, on which nothing was tuned, and problems of which nothing was known.

Written before the rules and the ranking were last changed, and looked at for the final figure alone. `WORDS` are further
words of the problems of `memory_problems`, `FURTHER` problems that stand nowhere else. {o} is an option without dashes.
"""

# ruff: noqa: E501 -- the lines of logs are kept whole
from bench.memory_problems import PROBLEMS, Problem

WORDS: dict[str, tuple[str, ...]] = {
    "gpu memory": (
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate {n}{m} bytes.",
        "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor with shape[{n},{m}] and type float on /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc",
    ),
    "host memory": (
        "OSError: [Errno 12] Cannot allocate memory",
        "RuntimeError: DataLoader worker (pid {m}) is killed by signal: Killed. ",
    ),
    "loss is not a number": (
        "FloatingPointError: Loss became infinite or NaN at iteration={n}!",
        "AssertionError: Rank {n}: found NaN in local grad norm in backward pass before data-parallel communication collective.",
        "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0",
    ),
    "no bf16": ("ValueError: bf16 mixed precision requires PyTorch >= 1.10 and a supported device.",),
    "flash attention on old cards": (
        "ValueError: Cannot use FlashAttention-2 backend for Volta and Turing GPUs.",
        "`flshattF@v2.3.6` is not supported because:\n    requires device with capability > (8, 0) but your GPU has capability (7, 5) (too old)\nNotImplementedError: No operator found for `memory_efficient_attention_forward` with inputs:",
    ),
    "flash attention is not there": (
        "importlib.metadata.PackageNotFoundError: No package metadata was found for flash_attn",
        "ImportError: flash_attn is not installed. Please install it with `pip install flash-attn --no-build-isolation`",
    ),
    "flash attention of another torch": (
        "RuntimeError: Failed to import transformers.models.llama.modeling_llama because of the following error (look up to see its traceback):\n{p}/flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: _ZN3c1021throwNullDataPtrErrorEv",
    ),
    "package is missing": (
        "ImportError: To be able to use evaluate-metric/rouge, you need to install the following dependencies['{s}'] using 'pip install {s}' for instance'",
        "importlib.metadata.PackageNotFoundError: No package metadata was found for {s}",
        "pkg_resources.DistributionNotFound: The '{s}' distribution was not found and is required by the application",
        "ImportError: This tokenizer requires the {s} library but it was not found in your environment. You can install it with pip: `pip install {s}`",
    ),
    "option is not known": (
        "TypeError: TrainingArguments.__init__() got an unexpected keyword argument '{o}'",
        "FATAL Flags parsing error: Unknown command line flag '{o}'. Did you mean: seed ?",
        "ERROR: Could not consume arg: {s}={n}",
    ),
    "name is not in the module": (
        "RuntimeError: Failed to import {a}.trainer because of the following error (look up to see its traceback):\ncannot import name '{b}' from '{a}' ({p}/__init__.py)",
        "AttributeError: module '{a}' has no attribute '{b}'. Did you mean: 'Ada'?",
    ),
    "program of the build is missing": (
        "error: [Errno 2] No such file or directory: '{s}'",
        "env: '{s}': No such file or directory",
        "make: {s}: No such file or directory",
        "/bin/bash: {s}: command not found",
    ),
    "cuda's compiler is missing": (
        "RuntimeError: flash_attn was requested, but nvcc was not found.  Are you sure your environment has nvcc available?  If you're installing within a container from https://hub.docker.com/r/pytorch/pytorch, only images whose names contain 'devel' will provide nvcc.",
        "FileNotFoundError: [Errno 2] No such file or directory: '/usr/local/cuda/bin/nvcc'",
    ),
    "shared memory": (
        "RuntimeError: unable to allocate shared memory(shm) for file </torch_{n}_{m}_5>: Resource temporarily unavailable (11)",
        "RuntimeError: unable to mmap {m} bytes from file </torch_{n}_{m}_0>: Cannot allocate memory (12)",
    ),
    "nccl without shared memory": (
        "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/NCCLUtils.hpp:{n}, unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.20.5\nncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.\nLast error:\nError while creating shared memory segment /dev/shm/nccl-dk{n}Ze (size {m})",
    ),
    "collective timed out": (
        "[rank{n}]:[F ProcessGroupNCCL.cpp:{m}] [PG 0 (default_pg) Rank {n}] Terminating the process after attempting to dump debug info, due to collective timeout or exception.",
        "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:{n}] Timed out waiting 1800000ms for recv operation to complete",
        "RuntimeError: NCCL communicator was aborted on rank {n}.  Original reason for failure was: [Rank {n}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={m}, OpType=_ALLGATHER_BASE, Timeout(ms)=1800000) ran for 1800{n} milliseconds before timing out.",
    ),
    "port is in use": (
        "OSError: [Errno 98] Address already in use",
        "ConnectionError: Tried to launch distributed communication on port `{m}`, but another process is utilizing it. Please specify a different port (such as using the `--main_process_port` flag or specifying a different `main_process_port` in your config file) and rerun your script.",
    ),
    "rendezvous is not reached": (
        "torch.distributed.DistNetworkError: The client socket has timed out after 60000ms while trying to connect to (trainer-{n}, 29500).",
        "torch.distributed.DistNetworkError: The client socket has failed to connect to any network address of (trainer-{n}, 29500). The client socket has failed to connect to 10.0.{n}.3:29500 (errno: 110 - Connection timed out).",
        "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError",
    ),
    "driver is too old": (
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.4, please update your driver to a newer version, or use an earlier cuda container: unknown",
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that might have already set an error? Error 803: system has unsupported display driver / cuda driver combination",
    ),
    "no kernel for the card": (
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device\nSearch for `cudaErrorNoKernelImageForDevice' in https://docs.nvidia.com/cuda for more information.",
        "ptxas fatal   : Value 'sm_{n}' is not defined for option 'gpu-name'",
    ),
    "saving and evaluating differ": (
        "ValueError: --load_best_model_at_end requires the save and eval strategy to match, but found\n- Evaluation strategy: IntervalStrategy.NO\n- Save strategy: IntervalStrategy.STEPS",
    ),
    "batch does not divide": (
        "ValueError: The global train batch size ({n} x {m}) must be evenly divisible by the number of generations per prompt (8).",
        "ValueError: One of pjit arguments was given the sharding of PartitionSpec('data',), which implies that the global size of its dimension 0 should be divisible by 8, but it is equal to {n}",
    ),
    "both precisions": ("AssertionError: bfloat16 and fp16 modes cannot be simultaneously enabled",),
    "disk is full": (
        "OSError: [Errno 122] Disk quota exceeded: '{p}/checkpoint-{n}'",
        "OSError: Not enough disk space. Needed: {g} GiB (download: {g} GiB, generated: {g} GiB, post-processed: Unknown size)",
        "RuntimeError: [enforce fail at inline_container.cc:{n}] . unexpected pos {m} vs {n}",
    ),
    "bitsandbytes finds no cuda": (
        "The installed version of bitsandbytes was compiled without GPU support. 8-bit optimizers, 8-bit multiplication, and GPU quantization are unavailable.\nAttributeError: 'NoneType' object has no attribute 'cquantize_blockwise_fp16_nf4'",
        "Could not load bitsandbytes native library: libcusparse.so.11: cannot open shared object file: No such file or directory",
    ),
    "positions run out": (
        "RuntimeError: The size of tensor a ({n}) must match the size of tensor b (512) at non-singleton dimension 1",
        "../aten/src/ATen/native/cuda/Indexing.cu:{n}: indexSelectLargeIndex: block: [{n},0,0], thread: [{n},0,0] Assertion `srcIndex < srcSelectDimSize` failed.",
    ),
    "columns are others": (
        "ValueError: Original column name {s} not in the dataset. Current columns in the dataset: ['input', 'output']",
        "KeyError: \"['{s}'] not in index\"",
        "ValueError: Column to remove ['{s}'] not in the dataset. Current columns in the dataset: ['input', 'output']",
    ),
    "tracker wants a login": (
        "wandb.errors.errors.UsageError: No API key configured. Use `wandb login` to log in.",
        'wandb: ERROR Error while calling W&B API: user is not logged in (<Response [401]>)\nwandb.errors.CommError: returned error 401: {{"data":{{"project":null}}}}',
    ),
    "hub limits": (
        "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/{p} (Request ID: Root=1-{n}ab-{m}cd)\n\nYou have reached your 'api' rate limit.",
        "ConnectionError: Couldn't reach https://huggingface.co/datasets/{p} (error 429)",
    ),
    "hub is not reached": (
        "requests.exceptions.ReadTimeout: (ReadTimeoutError(\"HTTPSConnectionPool(host='huggingface.co', port=443): Read timed out. (read timeout=10)\"), '(Request ID: {n}ab)')",
        "ConnectionError: Couldn't reach 'org{n}/data' on the Hub (ConnectionError)",
        "huggingface_hub.errors.HfHubHTTPError: 503 Server Error: Service Temporarily Unavailable for url: https://huggingface.co/{p}",
    ),
    "parameters without a gradient": (
        "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one. This error indicates that your module has parameters that were not used in producing loss. You can enable unused parameter detection by passing the keyword argument `find_unused_parameters=True` to `torch.nn.parallel.DistributedDataParallel`\nParameters which did not receive grad for rank {n}: lm_head.weight, pooler.dense.bias",
    ),
}


def _further(name: str, field: str, stored: tuple[str, ...], blind: tuple[str, ...]) -> Problem:
    return Problem(name, field, (), stored, (), (), blind=blind)


FURTHER: tuple[Problem, ...] = (
    _further(
        "model is gated",
        "env.HF_TOKEN",
        (
            "OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/{p}.",
        ),
        (
            "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-{n}ab)\n\nCannot access gated repo for url https://huggingface.co/{p}.\nAccess to model is restricted and you are not in the authorized list.",
        ),
    ),
    _further(
        "no padding token",
        "training.options",
        (
            "ValueError: Asking to pad but the tokenizer does not have a padding token. Please select a token to use as `pad_token` `(tokenizer.pad_token = tokenizer.eos_token e.g.)`",
        ),
        ("ValueError: Cannot handle batch sizes > 1 if no padding token is defined.",),
    ),
    _further(
        "nothing requires a gradient",
        "training.grad_checkpointing",
        ("RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",),
        (
            "UserWarning: None of the inputs have requires_grad=True. Gradients will be None\nRuntimeError: element 0 of variables does not require grad and does not have a grad_fn",
        ),
    ),
    _further(
        "numpy 2",
        "setup.pip",
        (
            "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.0.{n} as it may crash.\nAttributeError: _ARRAY_API not found",
        ),
        (
            "AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.",
            "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject",
        ),
    ),
    _further(
        "weights only",
        "setup.pip",
        (
            "_pickle.UnpicklingError: Weights only load failed. This file can still be loaded, to do so you have two options, do those steps only if you trust the source of the checkpoint.",
        ),
        (
            "_pickle.UnpicklingError: Weights only load failed. Re-running `torch.load` with `weights_only` set to `False` will likely succeed, but it can result in arbitrary code execution.",
        ),
    ),
    _further(
        "weights of another shape",
        "training.options",
        (
            "RuntimeError: Error(s) in loading state_dict for LlamaForCausalLM:\n\tsize mismatch for model.embed_tokens.weight: copying a param with shape torch.Size([{n}, 4096]) from checkpoint, the shape in current model is torch.Size([{m}, 4096]).",
        ),
        (
            'ValueError: Trying to set a tensor of shape torch.Size([{n}, 4096]) in "weight" (which has shape torch.Size([{m}, 4096])), this looks incorrect.',
        ),
    ),
    _further(
        "data are not there",
        "dataset.path",
        ("FileNotFoundError: [Errno 2] No such file or directory: '{p}/train.jsonl'",),
        (
            "FileNotFoundError: Unable to find '{p}/train.jsonl'",
            "datasets.exceptions.DataFilesNotFoundError: No (supported) data files found in {p}",
        ),
    ),
    _further(
        "code of the model's own",
        "training.options",
        (
            "ValueError: Loading {p} requires you to execute the configuration file in that repo on your local machine. Make sure you have read the code there to avoid malicious use, then set the option `trust_remote_code=True` to remove this error.",
        ),
        (
            "ValueError: The repository for tiiuae/falcon-7b contains custom code which must be executed to correctly load the model. You can inspect the repository content at https://hf.co/tiiuae/falcon-7b.\nPlease pass the argument `trust_remote_code=True` to allow custom code to be run.",
        ),
    ),
    _further(
        "model is newer than the library",
        "setup.pip",
        (
            "ValueError: The checkpoint you are trying to load has model type `qwen3` but Transformers does not recognize this architecture. This could be because of an issue with the checkpoint, or because your version of Transformers is out of date.",
        ),
        ("ValueError: Tokenizer class Qwen2Tokenizer does not exist or is not currently imported.",),
    ),
    _further(
        "libraries of the system are older",
        "image",
        ("ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found (required by {p}/_C.so)",),
        (
            "ImportError: /usr/lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by {p})",
        ),
    ),
    _further(
        "no gpu is seen",
        "resources.gpus",
        ("RuntimeError: No CUDA GPUs are available",),
        (
            "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from http://www.nvidia.com/Download/index.aspx",
        ),
    ),
    _further(
        "cache can't be written",
        "env.HF_HOME",
        ("PermissionError: [Errno 13] Permission denied: '/root/.cache/huggingface'",),
        (
            "OSError: [Errno 30] Read-only file system: '/root/.cache/huggingface/hub'",
            "OSError: PermissionError at /.cache when downloading {p}. Check cache directory permissions. Common causes: 1) another user is downloading the same model (please wait); 2) a previous download was canceled and the lock file needs manual removal.",
        ),
    ),
    _further(
        "scripts of datasets",
        "setup.pip",
        ("RuntimeError: Dataset scripts are no longer supported, but found squad.py",),
        (
            "ValueError: `trust_remote_code` is not supported anymore. Please check that the Hugging Face dataset 'squad' isn't based on a loading script and remove `trust_remote_code`.",
        ),
    ),
    _further(
        "types of numbers differ",
        "training.precision",
        ("RuntimeError: expected scalar type Half but found Float",),
        (
            "RuntimeError: mat1 and mat2 must have the same dtype, but got Half and Float",
            "RuntimeError: Input type (float) and bias type (c10::Half) should be the same",
        ),
    ),
    _further(
        "quantised weights can't be trained",
        "training.method",
        (
            "ValueError: The model you want to train is loaded in 8-bit precision. if you want to fine-tune an 8-bit model, please make sure that you have installed `bitsandbytes>=0.37.0`.",
        ),
        (
            "ValueError: You cannot perform fine-tuning on purely quantized models. Please attach trainable adapters on top of the quantized model to correctly perform fine-tuning.",
        ),
    ),
    _further(
        "placed over devices",
        "training.options",
        (
            "ValueError: You can't train a model that has been loaded in 8-bit precision on a different device than the one you're training on.",
        ),
        (
            "ValueError: You can't train a model that has been loaded with `device_map='auto'` in any distributed mode. Please rerun your script specifying `--num_processes=1` or by launching with `python {{myscript.py}}`.",
        ),
    ),
    _further(
        "more processes than devices",
        "launch.nproc_per_node",
        ("RuntimeError: CUDA error: invalid device ordinal",),
        (
            "lightning.fabric.utilities.exceptions.MisconfigurationException: You requested gpu: [0, 1, 2, 3]\n But your machine only has: [0]",
        ),
    ),
    _further(
        "open files",
        "setup.cmd",
        ("RuntimeError: received 0 items of ancdata",),
        (
            "OSError: [Errno 24] Too many open files",
            "RuntimeError: Too many open files. Communication with the workers is no longer possible. Please increase the limit using `ulimit -n` in the shell",
        ),
    ),
    _further(
        "protobuf",
        "setup.pip",
        (
            "TypeError: Descriptors cannot not be created directly.\nIf this call came from a _pb2.py file, your generated code is out of date and must be regenerated with protoc >= 3.19.0.",
        ),
        (
            "TypeError: Descriptors cannot be created directly.",
            "ImportError: cannot import name 'builder' from 'google.protobuf.internal' ({p}/__init__.py)",
        ),
    ),
)


def problems() -> tuple[Problem, ...]:
    """All problems, with the words of this group."""
    return (*(problem._replace(blind=WORDS[problem.name]) for problem in PROBLEMS), *FURTHER)

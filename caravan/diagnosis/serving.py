"""Why a model server does not come up: its own words to a cause and what to do. Pure; the first that fits counts.

The words are those of vLLM, torch, CUDA, the hub's client, and of Nomad and docker before any of these has begun.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple


class Reason(NamedTuple):
    """A cause in a sentence, what to do, the line that shows it, and whether another start would end the same way."""

    cause: str
    advice: str
    line: str = ""
    final: bool = True


class _Sign(NamedTuple):
    pattern: re.Pattern[str]
    cause: str
    advice: str
    final: bool = True


def _sign(pattern: str, cause: str, advice: str, *, final: bool = True) -> _Sign:
    return _Sign(re.compile(pattern, re.IGNORECASE), cause, advice, final)


_SIGNS: Final = (
    _sign(
        r"estimated maximum model length is (?P<most>\d+)",
        "the cache for one request of that context does not fit beside the weights; vLLM says {most} tokens would",
        "Give --context {most} or less, more GPUs (--gpus), or smaller weights (--quantization).",
    ),
    _sign(
        r"KV cache is needed, which is larger|maximum number of tokens that can be stored in KV cache"
        r"|No available memory for the cache blocks",
        "the cache does not fit beside the weights",
        "Give a shorter --context, more GPUs (--gpus), or smaller weights (--quantization).",
    ),
    _sign(
        r"Free memory on device .* is less than desired GPU memory utilization",
        "something else holds memory of that GPU",
        "Look who is on the node, or give --set gpu_memory_utilization=0.8.",
        final=False,
    ),
    _sign(
        r"CUDA out of memory|torch\.OutOfMemoryError|CUDA error: out of memory",
        "the weights do not fit into the GPU's memory",
        "Give more GPUs (--gpus), smaller weights (--quantization), or a smaller model.",
    ),
    _sign(
        r"is not divisible by weight quantization block|must be divisible by tensor parallel size|BLOCK_SIZE_K",
        "the model can't be shared out over that many GPUs",
        "Give another --gpus, or --quantization bf16.",
    ),
    _sign(
        r"Bfloat16 is only supported on GPUs|no kernel image is available for execution"
        r"|compute capability .* (not|less)",
        "the GPU is too old for these weights or for this version of vLLM",
        "Name another type with --gpu-model, or give --quantization awq.",
    ),
    _sign(
        r"driver on your system is too old|driver version is insufficient|requirement error: unsatisfied condition",
        "the node's NVIDIA driver is too old for the image's CUDA",
        "Give an --image of an older CUDA, or ask for a newer driver on the node.",
    ),
    _sign(
        r"No CUDA GPUs are available|Failed to infer device type|libcuda\.so\.1: cannot open",
        "the task sees no GPU",
        "The node lacks the nvidia container toolkit, or its plug-in: `main.py doctor` tells which.",
    ),
    _sign(
        r"GatedRepoError|Cannot access gated repo|401 Client Error|You must have access to it and be authenticated",
        "the hub shows that model to nobody without a token",
        "Put HF_TOKEN into the Nomad variable nomad/jobs (docs/secrets.md) and give --hub-token.",
    ),
    _sign(
        r"RepositoryNotFoundError|is not a valid model identifier|404 Client Error.*huggingface",
        "the hub knows no model of that name",
        "Check the model's name.",
    ),
    _sign(
        r"Failed to resolve '|Temporary failure in name resolution|We couldn't connect to|Max retries exceeded"
        r"|LocalEntryNotFoundError|Network is unreachable",
        "the node does not reach the hub",
        "Name a mirror (hf_endpoint in the cluster's profile), or put the weights into a volume (--volume).",
        final=False,
    ),
    _sign(r"No space left on device", "the disk is full", "Give --set disk_mb=N, or a larger --volume."),
    _sign(
        r"unrecognized arguments: (?P<what>.{1,80})|invalid choice: (?P<that>.{1,80})",
        "this version of vLLM does not know {what}{that}",
        "Give another --image, or the flags by --set (docs/model.md).",
    ),
    _sign(
        r"address already in use|Errno 98",
        "the port is taken on the node",
        "Give another --set port=N, or leave it to Nomad.",
        final=False,
    ),
    _sign(
        r"Model architectures? .{0,120} (are|is) not supported",
        "this version of vLLM does not know the model's kind",
        "Give a newer --image.",
    ),
    _sign(
        r"pull access denied|manifest (unknown|for .* not found)|toomanyrequests|failed to pull"
        r"|Failed to find docker auth|repository does not exist",
        "the node can't get the image",
        "Check the image (--image), or name a mirror (registry_mirrors in the cluster's profile).",
        final=False,
    ),
    _sign(
        r"nomad\.var\.block\(|Missing: nomad\.var|nomadVar",
        "the task waits for its Nomad variable with the API key",
        "Write it anew: serve-model --new-key.",
        final=False,
    ),
    _sign(
        r"OOM Killed|out of memory, killed at its memory limit",
        "the task ran out of host memory",
        "Give --set memory_mb=N.",
    ),
    _sign(
        r"unknown or unsupported GPU|could not select device driver",
        "docker gives no GPUs there",
        "The nvidia container toolkit is missing on the node.",
    ),
    _sign(
        r"executable file not found|fork/exec .*: (no such file|permission denied|not a directory)"
        r"|exec: .*: (no such file|permission denied)|file .* not found under path|binary .* could not be found"
        r"|failed to (launch|start|find|exec) .*no such file or directory",
        "the node has no such program to start",
        "Check --set command, or the --image that is to have it.",
    ),
    _sign(
        r"exec format error",
        "the program was built for another kind of processor, or is no program",
        "Check --set command, or give an --image for the node's processor.",
    ),
)


def why_not_served(lines: Sequence[str]) -> Reason | None:
    """The cause that the newest lines of log and events show; None: nothing that is known.

    Lines are looked at in order of the signs, the most telling first, so that what follows from a cause hides it not.
    """
    for sign in _SIGNS:
        for line in reversed(lines):
            found = sign.pattern.search(line)
            if found is not None:
                said = {name: (text or "").strip() for name, text in found.groupdict().items()}
                shown = " ".join(line.split())[:300]
                return Reason(sign.cause.format(**said), sign.advice.format(**said), shown, sign.final)
    return None

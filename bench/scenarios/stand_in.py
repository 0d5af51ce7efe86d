"""The text of a stand-in for the card, its driver and PyTorch, which a scenario's repository contains as a module.

It reads which cards its job was given, finds their node in a table of the scenario's machines, and computes what a
training needs by the textbook: weights, gradients and optimiser states by their bytes, activations by the formula of
Korthikanti et al. (2022, "Reducing activation recomputation", section 4). What it prints on a fault is what PyTorch
2.x, transformers, NCCL and CUDA print, with numbers that follow from the arguments. It imports nothing of the product
and knows of no attempt: it fails until an argument, a variable or the node is another.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

RUNTIME: Final = '''"""The cards of this job's node, played: no card is used. Standard library only."""

import importlib.metadata
import json
import os
import re
import socket
import struct
import sys
import time

NODES = json.loads(r"""@NODES@""")
GIB = 1024**3
CAPABILITY = (
    ("P100", (6, 0)), ("V100", (7, 0)), ("T4", (7, 5)), ("RTX 20", (7, 5)), ("Quadro RTX", (7, 5)), ("A100", (8, 0)),
    ("A30", (8, 0)), ("A10", (8, 6)), ("A40", (8, 6)), ("A6000", (8, 6)), ("RTX 30", (8, 6)), ("L4", (8, 9)),
    ("RTX 40", (8, 9)), ("H100", (9, 0)), ("H200", (9, 0)), ("B200", (10, 0)), ("RTX 50", (12, 0)),
)
BUILDS = {"1.13.1": "cu117", "2.4.1": "cu121", "2.7.1": "cu128"}


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


TORCH = f"{installed('torch')}+{BUILDS.get(installed('torch'), 'cu121')}" if installed("torch") else "@TORCH@"
# layers, width, inner width, heads, vocabulary, positions
SHAPES = {
    "distilgpt2": (6, 768, 3072, 12, 50257, 1024),
    "gpt2": (12, 768, 3072, 12, 50257, 1024),
    "gpt2-medium": (24, 1024, 4096, 16, 50257, 1024),
    "gpt2-large": (36, 1280, 5120, 20, 50257, 1024),
    "gpt2-xl": (48, 1600, 6400, 25, 50257, 1024),
    "bert-base": (12, 768, 3072, 12, 30522, 512),
    "bert-large": (24, 1024, 4096, 16, 30522, 512),
    "opt-1.3b": (24, 2048, 8192, 32, 50272, 2048),
    "pythia-2.8b": (32, 2560, 10240, 32, 50304, 2048),
    "llama-7b": (32, 4096, 11008, 32, 32000, 4096),
    "llama-13b": (40, 5120, 13824, 40, 32000, 4096),
    "llama-70b": (80, 8192, 28672, 64, 32000, 4096),
}


class OutOfMemoryError(RuntimeError):
    __module__ = "torch"


class AcceleratorError(RuntimeError):
    __module__ = "torch"


class DistBackendError(RuntimeError):
    __module__ = "torch.distributed"


class DistNetworkError(RuntimeError):
    __module__ = "torch.distributed"


class Card:
    def __init__(self, node, number, model, mib):
        self.node, self.number, self.model = node, number, model
        self.total = mib * 1024**2
        self.others = int(NODES[node].get("held_mib", 0)) * 1024**2
        self.context = int(0.42 * GIB)
        self.used = 0
        self.slack = 0  # reserved by the allocator but of no use: cut into pieces

    @property
    def capability(self):
        return next((c for name, c in CAPABILITY if name in self.model), (8, 0))

    def take(self, size):
        """Allocate, as PyTorch's allocator does: what does not fit is told with its numbers."""
        size = int(size)
        free = self.total - self.others - self.context - self.used - self.slack
        if size > free:
            others = f" Process 31337 has {amount(self.others)} memory in use." if self.others else ""
            raise OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {amount(size)}. GPU {self.number} has a total capacity of "
                f"{amount(self.total)} of which {amount(max(free, 0))} is free.{others} Including non-PyTorch memory, "
                f"this process has {amount(self.used + self.slack + self.context)} memory in use. Of the allocated "
                f"memory {amount(self.used)} is allocated by PyTorch, and {amount(self.slack)} is reserved by PyTorch "
                "but unallocated. If reserved but unallocated memory is large try setting "
                "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for "
                "Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
            )
        self.used += size

    def give(self, size):
        self.used -= int(size)


def amount(size):
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 1024**2:.2f} MiB"


def cards():
    """The cards that this process sees, by what the cluster gives and what CUDA_VISIBLE_DEVICES leaves of it."""
    known = {i: (node, *card) for node, facts in NODES.items() for i, card in facts["cards"].items()}
    given = [i for i in os.environ.get("NVIDIA_VISIBLE_DEVICES", "").split(",") if i in known]
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = given
    if listed is not None and listed != ",".join(given):
        seen = []
        for word in listed.split(","):
            if word.strip().isdigit() and int(word) < len(given):
                seen.append(given[int(word)])
            elif word.strip() in given:
                seen.append(word.strip())
            else:
                break  # CUDA itself ends at the first that it does not know
    return [Card(known[i][0], n, known[i][1], known[i][2]) for n, i in enumerate(seen)]


def start(number=0):
    """The card of that number with a context on it, as the first `.cuda()` makes it."""
    if "+cpu" in TORCH:
        raise AssertionError("Torch not compiled with CUDA enabled")
    seen = cards()
    if not seen:
        raise RuntimeError("No CUDA GPUs are available")
    if number >= len(seen):
        raise AcceleratorError(
            "CUDA error: invalid device ordinal\\nGPU device may be out of range, do you have enough GPUs?\\n"
            "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might "
            "be incorrect.\\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\\n"
            "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."
        )
    card = seen[number]
    node = NODES[card.node]
    driver_serves(node)
    if node.get("broken") == "ecc":
        raise AcceleratorError(
            "CUDA error: uncorrectable ECC error encountered\\nCUDA kernel errors might be asynchronously reported at "
            "some other API call, so the stacktrace below might be incorrect.\\n"
            "For debugging consider passing CUDA_LAUNCH_BLOCKING=1"
        )
    if node.get("broken") == "xid":
        print("[ 8123.441021] NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', GPU has fallen off the bus.", flush=True)
        raise AcceleratorError("CUDA error: unspecified launch failure")
    if node.get("broken") == "unknown":
        raise RuntimeError(
            "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable "
            "CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be zero."
        )
    kernels_for(card)
    print(f"cuda:{number} {card.model}, {amount(card.total)}", flush=True)
    return card


def driver_serves(node):
    """CUDA 12 wants a driver from 525 on, CUDA 11 one from 450 on (NVIDIA's table of minor version compatibility)."""
    cuda = re.search(r"\\+cu(\\d\\d)", TORCH)
    have = int(str(node.get("driver", "550")).partition(".")[0])
    if cuda and have < {"11": 450, "12": 525, "13": 580}[cuda[1]]:
        number = 11040 if have < 520 else 12000
        raise RuntimeError(
            f"The NVIDIA driver on your system is too old (found version {number}). Please update your GPU driver by "
            "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx "
            "Alternatively, go to: https://pytorch.org to install a PyTorch version that has been compiled with your "
            "version of the CUDA driver."
        )


def kernels_for(card):
    version = tuple(int(n) for n in re.findall(r"\\d+", TORCH)[:2])
    if card.capability >= (10, 0) and version < (2, 7):
        said = "".join(map(str, card.capability))
        print(
            f"UserWarning: \\n{card.model} with CUDA capability sm_{said} is not compatible with the current PyTorch "
            "installation.\\nThe current PyTorch install supports CUDA capabilities sm_50 sm_60 sm_70 sm_75 sm_80 "
            "sm_86 sm_90.",
            file=sys.stderr,
        )
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")


def wants_bf16(card):
    """What transformers' TrainingArguments says on a card older than Ampere."""
    if card.capability < (8, 0):
        raise ValueError(
            "Your setup doesn't support bf16/gpu. You need torch>=1.10, using Ampere GPU with cuda>=11.0"
        )


def wants_flash(card, there):
    if not there:
        raise ImportError(
            "FlashAttention2 has been toggled on, but it cannot be used due to the following error: the package "
            "flash_attn seems to be not installed. Please refer to the documentation of https://huggingface.co/docs/"
            "transformers/perf_infer_gpu_one#flashattention-2 to install Flash Attention 2."
        )
    if card.capability < (8, 0):
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")


def wants_bitsandbytes():
    """Its older wheels look for the libraries of CUDA on the machine, later ones bring them."""
    have = tuple(int(n) for n in re.findall(r"\\d+", installed("bitsandbytes"))[:3])
    if have >= (0, 43, 2):
        return
    print("CUDA SETUP: WARNING! libcudart.so not found in any environmental path", flush=True)
    print("UserWarning: The installed version of bitsandbytes was compiled without GPU support. 8-bit optimizers, "
          "8-bit multiplication, and GPU quantization are unavailable.", file=sys.stderr)
    raise RuntimeError(
        "\\n        CUDA Setup failed despite GPU being available. Please run the following command to get more "
        "information:\\n\\n        python -m bitsandbytes\\n\\n        Inspect the output of the command and see if "
        "you can locate CUDA libraries. You might need to add them\\n        to your LD_LIBRARY_PATH. If you suspect "
        "a bug, please take the information from python -m bitsandbytes\\n        and open an issue at: "
        "https://github.com/TimDettmers/bitsandbytes/issues"
    )


def embed_positions(length, positions):
    """A buffer of position ids has as many rows as the model has positions."""
    if length > positions:
        print(f"Token indices sequence length is longer than the specified maximum sequence length for this model "
              f"({length} > {positions}). Running this sequence through the model will result in indexing errors",
              file=sys.stderr, flush=True)
        raise RuntimeError(
            f"The expanded size of the tensor ({length}) must match the existing size ({positions}) at non-singleton "
            f"dimension 1.  Target sizes: [2, {length}].  Tensor sizes: [1, {positions}]"
        )


def half(value):
    """A number as fp16 holds it: beyond 65504 it is infinite."""
    try:
        return struct.unpack("e", struct.pack("e", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


class Shape:
    def __init__(self, layers, width, inner, heads, vocabulary, positions):
        self.layers, self.width, self.inner, self.heads = layers, width, inner, heads
        self.vocabulary, self.positions = vocabulary, positions

    @property
    def parameters(self):
        block = 4 * self.width**2 + 2 * self.width * self.inner + 9 * self.width + self.inner
        return self.layers * block + self.vocabulary * self.width + self.positions * self.width


def shape_of(name):
    """By a config.json beside the weights, else by the name of a model that everybody knows."""
    place = os.path.join(name, "config.json")
    if os.path.isfile(place):
        with open(place) as file:
            c = json.load(file)
        width = c.get("hidden_size") or c.get("n_embd") or c.get("d_model")
        inner = c.get("intermediate_size") or c.get("n_inner") or c.get("ffn_dim") or 4 * width
        return Shape(
            c.get("num_hidden_layers") or c.get("n_layer") or c.get("num_layers"), width, inner,
            c.get("num_attention_heads") or c.get("n_head") or c.get("num_heads"), c["vocab_size"],
            c.get("max_position_embeddings") or c.get("n_positions") or c.get("max_seq_len") or 2048,
        )
    base = name.lower().rpartition("/")[2]
    if base in SHAPES:
        return Shape(*SHAPES[base])
    kind = re.search(r"(7|13|70)b", base)
    if kind:
        return Shape(*SHAPES[f"llama-{kind[1]}b"])
    known = sorted((s for s in SHAPES if s in base), key=len)
    if not known:
        raise OSError(f"{name} is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'")
    return Shape(*SHAPES[known[-1]])


def occupy(card, shape, *, batch, length, precision="fp32", loaded=None, lora_rank=0, bits=0, checkpointing=False,
           optimizer="adamw_torch", attention="sdpa", shards=1, offset=0.0):
    """Everything that a step holds at once, in the order in which it is taken. `shards`: cards that share it (FSDP)."""
    p, half = shape.parameters, precision in ("bf16", "fp16")
    trained = 4 * shape.layers * 2 * shape.width * lora_rank if lora_rank else p
    stored = bits / 8 * 1.1 if bits else 2 if loaded in ("bf16", "fp16") else 4
    layer = p * stored / shape.layers / shards
    for _ in range(shape.layers):
        card.take(layer)
    if offset:
        card.take(offset * GIB)
    whole = "expandable_segments:True" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
    card.slack = 0 if whole else int(getattr(card, "cut", 0.0) * card.total)
    states = {"sgd": 0, "adafactor": 0.1, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2,
              "adamw8bit": 2, "adam8bit": 2}.get(str(optimizer).lower(), 8)
    width = 2 if half else 4
    s, b, h = length, batch, shape.width
    scores = 5 * shape.heads * s / h if attention in ("eager", "vanilla") else 0
    block = s * b * h * (34 + scores) * width / 2
    kept = 2 * s * b * h * width / 2 * shape.layers + block if checkpointing else block * shape.layers
    for _ in range(8):
        card.take(kept / 8)
    logits = s * b * shape.vocabulary * (width + 4)
    card.take(logits)
    gradient = 2 if loaded in ("bf16", "fp16") and not lora_rank else 4
    card.take(trained * gradient / shards)
    card.give(logits)
    card.take(trained * states / shards)
    if half and loaded is None and not lora_rank and not bits:
        card.take(p * 2 / shards)  # the copy in half precision that autocast keeps


def train(step, steps, shown=5):
    """Run the steps and show the loss as a trainer does."""
    for n in range(1, steps + 1):
        loss = step(n)
        if n % shown == 0 or n == steps:
            print(f"{{'loss': {loss:.4f}, 'grad_norm': {0.4 + loss / 5:.4f}, 'epoch': {n / steps:.2f}}}", flush=True)
    return loss
'''
"""A repository's module. `@NODES@` is what stands for the machines."""


def card_id(node: str, model: str, number: int) -> str:
    """The id that the built-in cluster gives a declared card."""
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{node}/nvidia/gpu/{model}/{number}')}"


def machine(node: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """What the stand-in knows of a node: its cards by their ids, and what else is so there."""
    cards = {
        card_id(node["name"], d["model"], n): (d["model"], d["memory_mib"])
        for d in node.get("devices", ())
        for n in range(d.get("count", 1))
    }
    driver = node.get("attributes", {}).get("driver.nvidia.version", "550.90.07")
    return {"cards": cards, "driver": driver, **facts}


def runtime(
    nodes: Iterable[Mapping[str, Any]], facts: Mapping[str, Mapping[str, Any]] | None = None, torch: str = "2.4.1+cu121"
) -> str:
    """The module's text for these nodes of an inventory; `facts` by a node's name are what is so there. `torch` is the
    build that the machines have, where the job installs none."""
    told = {n["name"]: machine(n, **(facts or {}).get(n["name"], {})) for n in nodes}
    return RUNTIME.replace("@NODES@", json.dumps(told, indent=1)).replace("@TORCH@", torch)


def gpu_node(name: str, model: str, mib: int, count: int = 1, **more: Any) -> dict[str, Any]:
    """A node of an inventory with cards of one type, in the pool `default`, that starts processes as they are."""
    attributes = {"kernel.name": "linux", "cpu.arch": "amd64", "driver.nvidia.version": "550.90.07"}
    attributes |= more.pop("attributes", {})
    return {
        "name": name,
        "cpu_mhz": 64_000,
        "cores": 16,
        "memory_mb": 32_000,
        "disk_mb": 200_000,
        "attributes": attributes,
        "drivers": {"raw_exec": {}},
        "devices": [{"vendor": "nvidia", "type": "gpu", "model": model, "memory_mib": mib, "count": count}],
        **more,
    }


def inventory(*nodes: Mapping[str, Any]) -> dict[str, Any]:
    """An inventory of these nodes."""
    return {"about": "declared machines of a scenario", "nodes": [dict(n) for n in nodes]}

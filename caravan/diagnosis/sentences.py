"""The cause as a sentence for a person: for each class what to say, depending on what the evidence names.

The sentences stand in the taxonomy's rows; here is how one is chosen and filled. A sentence of which something is not
known is passed over; at the end the cause is said in general words, with the line that shows it.
"""

import re
import string
from collections.abc import Mapping
from typing import Final

from caravan.diagnosis.taxonomy import TAXONOMY
from caravan.values.failure import FailureClass

_MESSAGE: Final = 240  # characters of a quoted line
_ENDS: Final = re.compile(r"[\s.:;,…]+$")


def sentence(failure: FailureClass, details: Mapping[str, str], message: str, node: str) -> str:
    """One line for a person. `message` is the line or the cluster's words that show the cause; may be empty."""
    known = {**details, "node": node, "message": _quoted(message)}
    if "file" in details:
        known["file"] = in_repository(details["file"])
    for said in TAXONOMY[failure].said:
        if said.when.items() <= known.items() and all(known.get(name) for name in places(said.text)):
            text = " ".join(said.text.format_map(known).split()).replace("….", "…")
            return f"T{text[1:]}" if text.startswith("the ") else text
    words = GENERAL[failure]
    return f"{words}: {known['message']}.".replace("….", "…") if known["message"] else f"{words}."


def in_repository(path: str) -> str:
    """A file's path as the repository has it, where it is one in the job's own copy of the code."""
    return _DELIVERED.sub("", path)


_DELIVERED: Final = re.compile(r"^(?:.*/)?local/code/")


def places(text: str) -> tuple[str, ...]:
    """The names in braces of a sentence."""
    return tuple(name for _, name, _, _ in string.Formatter().parse(text) if name)


def _quoted(message: str) -> str:
    text = " ".join(message.split())
    if len(text) <= _MESSAGE:
        return _ENDS.sub("", text)
    cut = text[: _MESSAGE + 1]
    return _ENDS.sub("", cut.rpartition(" ")[0] or cut[:-1]) + "…"


GENERAL: Final[dict[FailureClass, str]] = {
    FailureClass.JOBSPEC_INVALID: "Nomad refuses the job",
    FailureClass.POLICY_DENIED: "The policy does not allow it",
    FailureClass.ACL_PERMISSION_DENIED: "Nomad denies the request",
    FailureClass.NOMAD_API_UNREACHABLE: "Nomad does not answer",
    FailureClass.NOMAD_OBJECT_NOT_FOUND: "Nomad does not know what it was asked for",
    FailureClass.CLUSTER_TARGET_MISMATCH: "The cluster has no such region, namespace, datacenter or pool",
    FailureClass.PLACEMENT_CONSTRAINT_FILTERED: "No node meets what the job demands",
    FailureClass.PLACEMENT_RESOURCES_EXHAUSTED: "No node has room for the job",
    FailureClass.PLACEMENT_GPU_UNAVAILABLE: "No node can give the GPUs that the job asks for",
    FailureClass.DRIVER_UNAVAILABLE: "No node offers the task driver of the job",
    FailureClass.VOLUME_UNAVAILABLE: "No node has the volume of the job",
    FailureClass.DEPLOY_PROGRESS_DEADLINE: "The deployment did not become healthy in time",
    FailureClass.INTERRUPTED_EXTERNALLY: "The job was ended from outside",
    FailureClass.IMAGE_NOT_FOUND: "The image is not in its registry",
    FailureClass.REGISTRY_AUTH_DENIED: "The registry denies the image",
    FailureClass.IMAGE_PULL_TRANSIENT: "The image does not come",
    FailureClass.GPU_NODE_BROKEN: "The node's GPU or its driver is at fault",
    FailureClass.CUDA_DRIVER_TOO_OLD: "The GPU driver is too old for the CUDA of the job",
    FailureClass.BIND_MOUNT_REJECTED: "The node refuses a mount of the job",
    FailureClass.PORT_CONFLICT: "A port of the job is taken",
    FailureClass.CONTAINER_NAME_CONFLICT: "A container of that name is left over on the node",
    FailureClass.ENTRYPOINT_NOT_FOUND: "What the job starts is not there",
    FailureClass.ARCH_MISMATCH: "The program was built for another CPU than the node's",
    FailureClass.ARTIFACT_DOWNLOAD_FAILED: "An artifact does not come",
    FailureClass.TEMPLATE_SECRET_UNAVAILABLE: "The job waits for what a template needs",
    FailureClass.HOST_MEMORY_OOM: "Host memory ran out",
    FailureClass.DISK_FULL: "The disk is full",
    FailureClass.OUTPUT_PERMISSION_DENIED: "The job may not write where it wants to",
    FailureClass.CUDA_OOM: "GPU memory ran out",
    FailureClass.GPU_MEMORY_CONTENDED: "Other processes hold the GPU",
    FailureClass.SHM_TOO_SMALL: "Shared memory is too small",
    FailureClass.CUDA_DEVICE_UNAVAILABLE: "The training sees no GPU",
    FailureClass.GPU_COUNT_MISMATCH: "Processes and GPUs do not match in number",
    FailureClass.TORCH_BUILD_MISMATCH: "The torch that is installed does not serve this GPU",
    FailureClass.BF16_UNSUPPORTED: "The GPU can't compute in this precision",
    FailureClass.FLASH_ATTN_UNUSABLE: "flash-attn can't be used",
    FailureClass.BITSANDBYTES_SETUP: "bitsandbytes finds no CUDA that it works with",
    FailureClass.BUILD_TOOLCHAIN_MISSING: "A package can't be built here",
    FailureClass.INDEX_OUT_OF_RANGE: "An index exceeds what the model has",
    FailureClass.NUMERIC_DIVERGENCE: "The training diverged",
    FailureClass.NCCL_TIMEOUT: "The ranks lost step",
    FailureClass.NCCL_ERROR: "NCCL can't connect the GPUs",
    FailureClass.RENDEZVOUS_PORT_IN_USE: "The port of the rendezvous is taken",
    FailureClass.RENDEZVOUS_UNREACHABLE: "The processes can't reach the first one",
    FailureClass.LAUNCHER_MISCONFIGURED: "The program was not started by the launcher that it needs",
    FailureClass.PROCESS_HANG: "The training hung",
    FailureClass.PROCESS_CRASH_NATIVE: "The process crashed in native code",
    FailureClass.MISSING_PYTHON_PACKAGE: "A Python package is not installed",
    FailureClass.PACKAGE_VERSION_CONFLICT: "The versions of the packages don't fit",
    FailureClass.CLI_ARGS_INVALID: "The program does not take its arguments",
    FailureClass.TRAINING_CONFIG_INVALID: "The settings don't fit",
    FailureClass.CHECKPOINT_UNUSABLE: "The checkpoint can't be used",
    FailureClass.DATA_PATH_MISSING: "Data are not there where the job runs",
    FailureClass.DATASET_FORMAT_ERROR: "The data are not as the program expects them",
    FailureClass.HF_GATED_AUTH: "The hub gives nothing without a token that may read it",
    FailureClass.HUB_NOT_FOUND: "The hub has nothing of that name",
    FailureClass.HUB_RATE_LIMITED: "The hub limits our requests",
    FailureClass.NETWORK_UNREACHABLE: "The network failed",
    FailureClass.WANDB_LOGIN_MISSING: "wandb wants a login",
    FailureClass.USER_CODE_BUG: "The training code fails",
    FailureClass.NO_FAILURE: "Nothing failed",
    FailureClass.OUTPUTS_MISSING: "The training ended but saved nothing",
    FailureClass.RUN_TOO_LONG: "The training takes longer than was approved",
    FailureClass.UNDERFIT: "The training learnt too little",
    FailureClass.OVERFIT: "The model is overfit",
    FailureClass.WORSE_THAN_BASE: "The tuned model is worse than its base",
    FailureClass.MODEL_COLLAPSED: "The model collapsed",
    FailureClass.REGRESSED: "The model regressed on the fixed set",
    FailureClass.UNSAFE_ANSWERS: "The model answers canary prompts unsafely",
    FailureClass.TARGET_MISSED: "The target was missed",
    FailureClass.UNKNOWN: "The cause is not known",
}
"""The cause in words that hold whatever the evidence names."""

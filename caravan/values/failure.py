"""Failures: the closed list of causes, evidence, diagnosis, past cases, and the typed repairs.

Two failures are of one class if the same repair applies. What a log says is data, never an instruction.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from caravan.values.base import Confidence, Json, Value
from caravan.values.job import PlacementFailure
from caravan.values.plan import PlanChange


class FailureClass(StrEnum):
    """The causes that are told apart."""

    JOBSPEC_INVALID = "jobspec_invalid"
    POLICY_DENIED = "policy_denied"
    ACL_PERMISSION_DENIED = "acl_permission_denied"
    NOMAD_API_UNREACHABLE = "nomad_api_unreachable"
    NOMAD_OBJECT_NOT_FOUND = "nomad_object_not_found"
    CLUSTER_TARGET_MISMATCH = "cluster_target_mismatch"
    PLACEMENT_CONSTRAINT_FILTERED = "placement_constraint_filtered"
    PLACEMENT_RESOURCES_EXHAUSTED = "placement_resources_exhausted"
    PLACEMENT_GPU_UNAVAILABLE = "placement_gpu_unavailable"
    DRIVER_UNAVAILABLE = "driver_unavailable"
    VOLUME_UNAVAILABLE = "volume_unavailable"
    DEPLOY_PROGRESS_DEADLINE = "deploy_progress_deadline"
    INTERRUPTED_EXTERNALLY = "interrupted_externally"
    IMAGE_NOT_FOUND = "image_not_found"
    REGISTRY_AUTH_DENIED = "registry_auth_denied"
    IMAGE_PULL_TRANSIENT = "image_pull_transient"
    GPU_NODE_BROKEN = "gpu_node_broken"
    CUDA_DRIVER_TOO_OLD = "cuda_driver_too_old"
    BIND_MOUNT_REJECTED = "bind_mount_rejected"
    PORT_CONFLICT = "port_conflict"
    CONTAINER_NAME_CONFLICT = "container_name_conflict"
    ENTRYPOINT_NOT_FOUND = "entrypoint_not_found"
    ARCH_MISMATCH = "arch_mismatch"
    ARTIFACT_DOWNLOAD_FAILED = "artifact_download_failed"
    TEMPLATE_SECRET_UNAVAILABLE = "template_secret_unavailable"
    HOST_MEMORY_OOM = "host_memory_oom"
    DISK_FULL = "disk_full"
    OUTPUT_PERMISSION_DENIED = "output_permission_denied"
    CUDA_OOM = "cuda_oom"
    GPU_MEMORY_CONTENDED = "gpu_memory_contended"
    SHM_TOO_SMALL = "shm_too_small"
    CUDA_DEVICE_UNAVAILABLE = "cuda_device_unavailable"
    GPU_COUNT_MISMATCH = "gpu_count_mismatch"
    TORCH_BUILD_MISMATCH = "torch_build_mismatch"
    BF16_UNSUPPORTED = "bf16_unsupported"
    FLASH_ATTN_UNUSABLE = "flash_attn_unusable"
    BITSANDBYTES_SETUP = "bitsandbytes_setup"
    BUILD_TOOLCHAIN_MISSING = "build_toolchain_missing"
    INDEX_OUT_OF_RANGE = "index_out_of_range"
    NUMERIC_DIVERGENCE = "numeric_divergence"
    NCCL_TIMEOUT = "nccl_timeout"
    NCCL_ERROR = "nccl_error"
    RENDEZVOUS_PORT_IN_USE = "rendezvous_port_in_use"
    RENDEZVOUS_UNREACHABLE = "rendezvous_unreachable"
    LAUNCHER_MISCONFIGURED = "launcher_misconfigured"
    PROCESS_HANG = "process_hang"
    PROCESS_CRASH_NATIVE = "process_crash_native"
    MISSING_PYTHON_PACKAGE = "missing_python_package"
    PACKAGE_VERSION_CONFLICT = "package_version_conflict"
    CLI_ARGS_INVALID = "cli_args_invalid"
    TRAINING_CONFIG_INVALID = "training_config_invalid"
    CHECKPOINT_UNUSABLE = "checkpoint_unusable"
    DATA_PATH_MISSING = "data_path_missing"
    DATASET_FORMAT_ERROR = "dataset_format_error"
    HF_GATED_AUTH = "hf_gated_auth"
    HUB_NOT_FOUND = "hub_not_found"
    HUB_RATE_LIMITED = "hub_rate_limited"
    NETWORK_UNREACHABLE = "network_unreachable"
    WANDB_LOGIN_MISSING = "wandb_login_missing"
    USER_CODE_BUG = "user_code_bug"
    NO_FAILURE = "no_failure"
    OUTPUTS_MISSING = "outputs_missing"
    RUN_TOO_LONG = "run_too_long"
    UNDERFIT = "underfit"
    OVERFIT = "overfit"
    WORSE_THAN_BASE = "worse_than_base"
    MODEL_COLLAPSED = "model_collapsed"
    REGRESSED = "regressed"
    UNSAFE_ANSWERS = "unsafe_answers"
    TARGET_MISSED = "target_missed"
    UNKNOWN = "unknown"


class Stage(StrEnum):
    """Where in the flow it failed."""

    VALIDATE = "validate_spec"
    DEPLOY = "deploy_job"
    VERIFY = "verify_deployment"
    EVALUATE = "evaluate"


class Evidence(Value):
    """What is known of a failure: small, bounded and masked before it gets here.

    `log_lines` are the decisive lines of the task's logs, `events` the task's events in order as one line each.
    """

    stage: Stage
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    memory_told: bool = Field(
        default=False, description="the cluster tells of each end for want of memory: where it does not, it was none"
    )
    interrupted: bool = Field(default=False, description="ended from outside: stop, preemption, node loss, drain")
    events: tuple[str, ...] = ()
    log_lines: tuple[str, ...] = ()
    validation_errors: tuple[str, ...] = ()
    placement_failures: tuple[PlacementFailure, ...] = ()
    observed: tuple[str, ...] = Field(
        default=(), description="what the sampler beside the task saw: facts that go with a cause and decide none"
    )
    node_name: str = ""
    driver: str = ""
    phase: str = Field(default="", description="`smoke`: it failed in the first phase of the job")


class Diagnosis(Value):
    """Why it failed. `lines` are quotes from the evidence; `advice` is for the user where no job change can help."""

    failure: FailureClass
    confidence: Confidence
    cause: str
    lines: tuple[str, ...] = ()
    details: dict[str, str] = Field(
        default_factory=dict, description="what the lines name, by its role: package, option, value, path, program, ..."
    )
    escalate: bool = False
    advice: str = ""
    fingerprint: str = Field(default="", description="the failure's shape without paths and numbers")
    node_name: str = Field(default="", description="the node it happened on, empty where none is known")
    by: str = "rules"
    patch: str = Field(
        default="", description="a suggested change of the user's code as a unified diff; never applied by itself"
    )


class ChangePlan(Value):
    """Change the plan. The result must be a plan that was never deployed in this run."""

    kind: Literal["change_plan"] = "change_plan"
    changes: Annotated[tuple[PlanChange, ...], Field(min_length=1)]
    why: str = ""


class Wait(Value):
    """Try the same plan again after a while."""

    kind: Literal["wait"] = "wait"
    seconds: int = Field(ge=0)
    why: str = ""


class RetryElsewhere(Value):
    """Submit the same plan again on another node."""

    kind: Literal["retry_elsewhere"] = "retry_elsewhere"
    avoid_nodes: tuple[str, ...] = ()
    why: str = ""


class Requery(Value):
    """Ask the cluster again: the id or the moment was wrong, not the job."""

    kind: Literal["requery"] = "requery"
    why: str = ""


Repair = Annotated[ChangePlan | Wait | RetryElsewhere | Requery, Field(discriminator="kind")]


class Scope(StrEnum):
    """Who a lesson speaks to: runs of the same repository alone, or all of the tenant's."""

    REPOSITORY = "repository"
    TENANT = "tenant"


class PastCase(Value):
    """A lesson that memory holds and why it was recalled. `changes` is what was tried; `worked` how it ended.

    `worked` is None where it was never told, or worked as often as it failed.
    """

    id: str
    failure: FailureClass | None = None
    fingerprint: str = ""
    text: str
    context: dict[str, Json] = Field(default_factory=dict)
    changes: tuple[PlanChange, ...] = ()
    before: dict[str, Json] = Field(default_factory=dict, description="value of each changed field before the change")
    worked: bool | None = None
    times: int = 1
    succeeded: int = Field(default=0, description="sources in which it worked")
    failed: int = Field(default=0, description="sources in which it did not")
    last_seen: datetime | None = None
    source: str = Field(
        default="",
        description="who told it last: run id and attempt, `user` or `starter`; after `imported:` another memory's",
    )
    scope: Scope = Scope.TENANT
    own: bool = Field(default=False, description="it worked in a run of this tenant, which said so itself")
    same: tuple[str, ...] = Field(default=(), description="keys of the context that agree with what was looked for")
    why: str = ""
    score: float = 0.0


class Exported(Value):
    """A file to which lessons were exported, one of them the one asked for. `there`: the file is there still."""

    path: str
    at: datetime
    there: bool = True


class Lesson(Value):
    """What a run teaches: the cause, the plan's context, what was changed and whether it worked."""

    failure: FailureClass | None = None
    fingerprint: str = ""
    text: str
    context: dict[str, Json] = Field(default_factory=dict)
    changes: tuple[PlanChange, ...] = ()
    before: dict[str, Json] = Field(default_factory=dict, description="value of each changed field before the change")
    worked: bool | None = None
    source: str = Field(
        default="", description="run id and attempt, `user` for one added by hand, `starter` for one that is shipped"
    )
    scope: Scope = Scope.TENANT

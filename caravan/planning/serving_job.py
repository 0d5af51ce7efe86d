"""The job that serves a language model: a pure function of what was decided. vLLM's flags stand here and nowhere else.

The names of the flags, the open `/health` and the key in VLLM_API_KEY are those of vLLM's documentation and source.
"""

import posixpath
import re
from typing import Final

from caravan.planning.catalogue import gpu_like
from caravan.planning.secrets import ANY_JOB, environment_block
from caravan.planning.serving_choice import makes_fp8
from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.job import (
    DeviceRequest,
    HealthCheck,
    JobSpec,
    NetworkPort,
    ReschedulePolicy,
    RestartPolicy,
    ServiceBlock,
    Task,
    TaskGroup,
    TaskResources,
    TemplateBlock,
    VolumeMount,
    VolumeRequest,
)
from caravan.values.plan import Constraint, SecretSource
from caravan.values.serving import HUB_ITEM, KEY_ITEM, ServePlan, Weights

META_SERVES: Final = "caravan_serves"
"""The model that the job serves: by it a job is known as one of these."""
META_CONTEXT: Final = "caravan_serves_context"
META_NAME: Final = "caravan_serves_as"
META_KEY: Final = "caravan_serves_key"
TASK: Final = "serve"
PORT: Final = "http"
HEALTH: Final = "/health"
"""Where vLLM says that it is up: without a key, which it asks for below /v1 alone."""
TEMPLATE: Final = "serve-qwen.nomad.hcl.j2"
IMAGE: Final = "vllm/vllm-openai:v0.32.0"
"""vLLM's own image, of the version that requirements-serve.txt names (a test compares)."""
DEFAULT_NAME: Final = "caravan-model"
NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")
"""What such a job may be called: it is a service's name too, and those have the form of a host's."""

_MODELS_AT: Final = "/models"
_SHM_EACH: Final = 2 << 30  # bytes of shared memory a GPU, by which the processes of one model talk
_INTERVAL_S: Final = 10
_RESTARTS: Final = RestartPolicy(attempts=2, interval_s=1800, delay_s=30, mode="fail")
_HUB_FILE: Final = "secrets/caravan-hub.env"
_GB: Final = 1e9


def key_path(name: str) -> str:
    """The path of the Nomad variable with the API key, which that job alone may read."""
    return f"nomad/jobs/{name}"


def check_name(name: str) -> str:
    """The name. Raises UsageError for one that a service can't have."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a service.", hint="Use small letters, digits and dashes.")
    return name


def serve_job(plan: ServePlan) -> JobSpec:
    """The job, sealed."""
    options = plan.options
    group = TaskGroup(
        name=TASK,
        tasks=(_task(plan),),
        services=(ServiceBlock(name=plan.name, port=PORT, tags=("openai", "v1"), checks=(_check(plan),)),),
        ports=(NetworkPort(label=PORT, static=options.port),),
        ephemeral_disk_mb=options.disk_mb or disk_mb(plan),
        sticky_disk=plan.volume is None,
        volumes=_volumes(plan),
        restart=_RESTARTS,
        reschedule=ReschedulePolicy(unlimited=True),
        progress_deadline_s=options.start_s + 600,
        healthy_deadline_s=options.start_s,
    )
    return JobSpec(
        id=plan.name,
        type="service",
        namespace=plan.namespace,
        region=plan.region,
        node_pool=plan.node_pool,
        datacenters=options.datacenters,
        priority=options.priority,
        meta={
            META_SERVES: plan.repo,
            META_NAME: plan.served_name,
            META_CONTEXT: str(plan.context),
            META_KEY: plan.key_mark,
        },
        groups=(group,),
    ).sealed()


def disk_mb(plan: ServePlan) -> int:
    """Ephemeral disk: logs and compiled kernels, and the weights where no volume holds them."""
    kept = 0.0 if plan.volume else plan.weights_gib * (1 << 30) * 1.1 / _GB * 1000
    return int(5000 + kept) if plan.gpus else 500


def memory_mb(plan: ServePlan) -> int:
    """Host memory: the server, a process for each GPU with CUDA's share, and what they share.

    The weights pass through the page cache, which is given back when memory is short. An assumption: nothing was
    measured here.
    """
    return plan.options.memory_mb or (8192 + plan.gpus * (6144 + (_SHM_EACH >> 20)) if plan.gpus else 512)


def _check(plan: ServePlan) -> HealthCheck:
    return HealthCheck(
        name="health",
        path=HEALTH,
        interval_s=_INTERVAL_S if plan.gpus else 1,
        timeout_s=5,
        restart_limit=6,  # a minute without an answer, though it was up
        grace_s=plan.options.start_s,
    )


def _task(plan: ServePlan) -> Task:
    options = plan.options
    return Task(
        name=TASK,
        driver=options.driver,
        config=_config(plan),
        env=_environment(plan),
        resources=TaskResources(cpu=options.cpu_mhz, memory=memory_mb(plan), devices=_devices(plan)),
        templates=_templates(plan),
        volume_mounts=((VolumeMount(volume="models", destination=_MODELS_AT, read_only=False),) if plan.volume else ()),
    )


def _config(plan: ServePlan) -> dict[str, Json]:
    args: list[Json] = list(arguments(plan))
    command = list(plan.options.command)
    if plan.options.driver != "docker":
        program = command or ["vllm", "serve"]
        return {"command": program[0], "args": [*program[1:], *args]}
    config: dict[str, Json] = {
        "image": plan.image,
        "entrypoint": [*(command or ["vllm", "serve"])],
        "args": args,
        "ports": [PORT],
        "image_pull_timeout": "60m",  # the image has some ten GB
    }
    return {**config, "shm_size": _SHM_EACH * plan.gpus} if plan.gpus else config


def arguments(plan: ServePlan) -> tuple[str, ...]:
    """vLLM's arguments, the model first. The key is none of them: it would stand in the list of processes."""
    options = plan.options
    found = [plan.repo, "--host", "0.0.0.0", "--port", f"${{NOMAD_PORT_{PORT}}}"]  # noqa: S104 - in the task's network
    found += ["--served-model-name", plan.served_name, "--max-model-len", str(plan.context)]
    if plan.fit is not None:
        found += ["--tensor-parallel-size", str(plan.gpus)]
        found += ["--gpu-memory-utilization", f"{options.gpu_memory_utilization:g}"]
        found += ["--max-num-batched-tokens", str(options.max_num_batched_tokens)]
        found += ["--dtype", _dtype(plan)]
        found += ["--quantization", "fp8"] if makes_fp8(plan.fit.model) else []
        found += ["--kv-cache-dtype", "fp8"] if options.kv_fp8 else []
    found += ["--max-num-seqs", str(options.max_num_seqs)]
    found += ["--enable-auto-tool-choice", "--tool-call-parser", options.tool_parser] if options.tool_parser else []
    found += ["--reasoning-parser", options.reasoning_parser] if options.reasoning_parser else []
    return (*found, *options.args)


def _dtype(plan: ServePlan) -> str:
    known = gpu_like(plan.fit.seat.gpu_model) if plan.fit else None
    half = plan.weights is Weights.FP16 or (known is not None and known.bf16_tflops is None)
    return "float16" if half else "bfloat16"


def _environment(plan: ServePlan) -> dict[str, str]:
    kept = _MODELS_AT if plan.volume else "${NOMAD_ALLOC_DIR}/data"
    return {
        "HF_HOME": posixpath.join(kept, "huggingface"),
        "VLLM_CACHE_ROOT": posixpath.join(kept, "vllm"),
        "VLLM_NO_USAGE_STATS": "1",  # vLLM would tell its makers how it is used
        "DO_NOT_TRACK": "1",
        **plan.env,
    }


def _devices(plan: ServePlan) -> tuple[DeviceRequest, ...]:
    if plan.fit is None:
        return ()
    seat = plan.fit.seat
    named = Constraint(attribute="${device.model}", operator="=", value=seat.gpu_model)
    return (DeviceRequest(name="nvidia/gpu", count=seat.gpus, constraints=(named,)),)


def _volumes(plan: ServePlan) -> tuple[VolumeRequest, ...]:
    if plan.volume is None:
        return ()
    kind = "csi" if plan.volume_kind == "csi" else "host"
    return (VolumeRequest(name="models", type=kind, source=plan.volume, read_only=False),)


def _templates(plan: ServePlan) -> tuple[TemplateBlock, ...]:
    own = environment_block(SecretSource(kind="nomad", path=key_path(plan.name)), (KEY_ITEM,))
    if not plan.hub_token:
        return (own,)
    hub = environment_block(SecretSource(kind="nomad", path=ANY_JOB), (HUB_ITEM,))
    return (own, hub.model_copy(update={"destination": _HUB_FILE}))

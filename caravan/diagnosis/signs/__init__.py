"""The signs: which evidence shows which cause, as rows of data, a module for each kind of place where a cause shows.

A new cause is further rows, here and in `taxonomy.py`; the judge in `rules.py` knows none of them. Where two signs
are equally sure, the one whose line stands first in the evidence counts, then the one whose row comes first.

What the rows name, by cause (each name only where the lines say it; `kind` tells the variants of a cause apart):

Cluster and environment

- jobspec_invalid: `field` (the argument or block that the message names), `line`
- policy_denied: -
- acl_permission_denied: -
- nomad_api_unreachable: `kind` (refused, timeout, dns, tls, leader, proxy), `address`
- nomad_object_not_found: `kind` (gone, malformed), `object` (job, allocation, evaluation, node, deployment), `id`
- cluster_target_mismatch: `kind` (region, namespace, datacenter, node_pool), `target`
- placement_constraint_filtered: `attribute`, `operator`, `value`
- placement_resources_exhausted: `dimension`, `asked`, `largest`
- placement_gpu_unavailable: `dimension` (devices), `kind` (missing: no node has such; busy: all are taken)
- driver_unavailable: `driver`
- volume_unavailable: `kind` (host, csi), `volume`, `plugin`
- deploy_progress_deadline: `kind` (deadline, unhealthy)
- interrupted_externally: `kind` (node, drain, preempted, stopped, updated, time, killed, money, changed)
- image_not_found: `image`
- registry_auth_denied: `image`
- image_pull_transient: `kind` (rate, timeout, gateway, network), `image`
- gpu_node_broken: `kind` (runtime, toolkit, mismatch, device, xid, ecc, bus, uninitialised), `xid`, `gpu`
- cuda_driver_too_old: `have` (the driver's CUDA or version), `want`
- bind_mount_rejected: `kind` (disabled, source, type, privilege), `path`, `capability`
- port_conflict: `port`; `dimension` (ports) at placement
- container_name_conflict: `container`
- entrypoint_not_found: `kind` (script, module, program, permission, workdir, code, subdir), `path`, `module`, `program`
- arch_mismatch: `image_arch`, `node_arch`, `program`
- artifact_download_failed: `kind` (missing, denied, network, unpack, checksum, host), `url`
- template_secret_unavailable: `kind` (vault, consul, nomad, provider), `secret`
- disk_full: `path`, `kind` (pull: the image's own disk)
- output_permission_denied: `path`, `kind` (denied, read_only, shm)
- build_toolchain_missing: `program`, `package`
- missing_python_package: `module`, `package`
- package_version_conflict: `kind` (symbol, argument, requirement, python, platform, resolver, model, abi), `package`,
  `module`, `symbol`, `versions` (those there are), `want`, `conflicts` (requirements that exclude each other)
- cli_args_invalid: `kind` (unknown, missing, choice, value), `style` (who parses), `option`, `value`, `choices`
- data_path_missing: `kind` (read, write), `path`
- dataset_format_error: `kind` (column, schema, rows, feature, encoding, split; of our own scripts also columns, roles,
  label, empty), `column`, `choices` (those there are), `path`; `file`, `line` and `fault` (what our scripts say of it)
- hf_gated_auth: `repo`
- hub_not_found: `kind` (repo, file, revision, local, config), `repo`, `path`
- hub_rate_limited: `repo`
- network_unreachable: `kind` (dns, refused, timeout, down, route, proxy, tls, offline), `host`; `index` (of packages)
- wandb_login_missing: `kind` (login, key, permission)

Training and its processes (sizes in GiB)

- cuda_oom: `tried_gib`, `total_gib`, `free_gib`
- gpu_memory_contended: `total_gib`, `free_gib`
- host_memory_oom: `where` (task, process), `limit_mb`
- shm_too_small: `kind` (worker, nccl, semaphore, files: too many are open), `path`
- cuda_device_unavailable: `kind` (driver: none is seen; device: no GPU)
- gpu_count_mismatch: `want`, `have`
- torch_build_mismatch: `kind` (cpu: a build without CUDA; capability), `capability`, `gpu`
- bf16_unsupported: `dtype` (bf16, tf32, fp8)
- flash_attn_unusable: `kind` (missing, abi, gpu, dtype, model), `symbol`
- bitsandbytes_setup: `kind` (library, binary, missing, gpu), `library`
- index_out_of_range: `kind` (embedding, label, position), `value` (the index), `size` (how many there are)
- numeric_divergence: `kind` (nan, scale, blowup), `metric`, `step`
- nccl_timeout: `op`, `seq`, `timeout_s`, `rank`
- nccl_error: `kind` (connect, interface, fabric, system), `host`, `port`
- rendezvous_port_in_use: `port`
- rendezvous_unreachable: `host`, `port`
- launcher_misconfigured: `kind` (environment, config, slots, launcher), `variable`, `path`
- process_hang: `where`
- process_crash_native: `signal` (SIGSEGV, SIGILL, SIGABRT, SIGFPE, SIGBUS)
- training_config_invalid: `kind` (strategy, padding, batch, steps, precision, deepspeed, fsdp, ddp, lora, divisible,
  checkpointing, template, trainer, conflict, refused, length), `option`, `value`, `want`, `have`; `path` (kind overlay)
- checkpoint_unusable: `kind` (missing, corrupt, shape, incomplete), `path`
- underfit: `metric`, `kind` (guess)
- overfit: `metric`, `kind` (best, gap), `have`; where it was best: `unit` (epoch, step, evaluation), `best`, `of`
- worse_than_base: `metric`, `have`, `want` (the base's)
- regressed: `metric`
- target_missed: `metric`, `have`, `want`, `kind` (goal, margin, unmeasured), `still`: it was still getting better
- user_code_bug: `exception`, `file`, `line`, `function`
"""

from typing import Final

from caravan.diagnosis.logtext import LINE_LIMIT
from caravan.diagnosis.needles import Sieve
from caravan.diagnosis.sign import Sign, is_mild
from caravan.diagnosis.signs.arguments import ARGUMENT_SIGNS
from caravan.diagnosis.signs.build import BUILD_SIGNS
from caravan.diagnosis.signs.checkpoints import CHECKPOINT_SIGNS
from caravan.diagnosis.signs.cluster import CLUSTER_SIGNS
from caravan.diagnosis.signs.containers import CONTAINER_SIGNS
from caravan.diagnosis.signs.data import DATA_SIGNS
from caravan.diagnosis.signs.datasets import DATASET_SIGNS
from caravan.diagnosis.signs.distributed import DISTRIBUTED_SIGNS
from caravan.diagnosis.signs.gated import GATE_SIGNS
from caravan.diagnosis.signs.gpu import GPU_SIGNS
from caravan.diagnosis.signs.gpu_nodes import GPU_NODE_SIGNS
from caravan.diagnosis.signs.healthy import HEALTHY_SIGNS
from caravan.diagnosis.signs.hub import HUB_SIGNS
from caravan.diagnosis.signs.images import IMAGE_SIGNS
from caravan.diagnosis.signs.interruptions import INTERRUPTION_SIGNS
from caravan.diagnosis.signs.kernels import KERNEL_SIGNS
from caravan.diagnosis.signs.launch import LAUNCH_SIGNS
from caravan.diagnosis.signs.memory import MEMORY_SIGNS
from caravan.diagnosis.signs.network import NETWORK_SIGNS
from caravan.diagnosis.signs.numbers import NUMBER_SIGNS
from caravan.diagnosis.signs.packages import PACKAGE_SIGNS
from caravan.diagnosis.signs.processes import PROCESS_SIGNS
from caravan.diagnosis.signs.requests import REQUEST_SIGNS
from caravan.diagnosis.signs.scripts import SCRIPT_SIGNS
from caravan.diagnosis.signs.stalls import STALL_SIGNS
from caravan.diagnosis.signs.start import START_SIGNS
from caravan.diagnosis.signs.storage import STORAGE_SIGNS
from caravan.diagnosis.signs.stores import STORE_SIGNS
from caravan.diagnosis.signs.supply import SUPPLY_SIGNS
from caravan.diagnosis.signs.tracking import TRACKING_SIGNS
from caravan.diagnosis.signs.training import TRAINING_SIGNS
from caravan.diagnosis.signs.types import TYPE_SIGNS
from caravan.diagnosis.signs.versions import VERSION_SIGNS

SIGNS: Final[tuple[Sign, ...]] = (
    *TYPE_SIGNS,
    *CLUSTER_SIGNS,
    *REQUEST_SIGNS,
    *INTERRUPTION_SIGNS,
    *STALL_SIGNS,
    *IMAGE_SIGNS,
    *CONTAINER_SIGNS,
    *SUPPLY_SIGNS,
    *STORE_SIGNS,
    *START_SIGNS,
    *SCRIPT_SIGNS,
    *MEMORY_SIGNS,
    *PACKAGE_SIGNS,
    *BUILD_SIGNS,
    *VERSION_SIGNS,
    *ARGUMENT_SIGNS,
    *DATA_SIGNS,
    *DATASET_SIGNS,
    *STORAGE_SIGNS,
    *HUB_SIGNS,
    *NETWORK_SIGNS,
    *TRACKING_SIGNS,
    *NUMBER_SIGNS,
    *GPU_SIGNS,
    *GPU_NODE_SIGNS,
    *KERNEL_SIGNS,
    *DISTRIBUTED_SIGNS,
    *LAUNCH_SIGNS,
    *TRAINING_SIGNS,
    *CHECKPOINT_SIGNS,
    *PROCESS_SIGNS,
    *GATE_SIGNS,
    *HEALTHY_SIGNS,
)

SIEVE: Final = Sieve([sign.needs for sign in SIGNS])
"""Which of the signs may hold for a text."""


def telling(line: str) -> bool:
    """Whether a line of a log shows a cause by itself: such a line must not be lost among others."""
    line = line[:LINE_LIMIT]  # what the judge will see of it
    mild = is_mild(line)
    few = (SIGNS[number] for number in SIEVE.passing(line))
    return any(sign.tells(line) for sign in few if sign.mild or not mild)

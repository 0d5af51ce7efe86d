"""Causes that lie in the job, the cluster or its nodes, before the training's own code runs.

Only data: see `taxonomy.py`.
"""

from typing import Final

from caravan.diagnosis.entry import Entry, Fixable, said
from caravan.values.failure import FailureClass

CLUSTER_CAUSES: Final[dict[FailureClass, Entry]] = {
    FailureClass.JOBSPEC_INVALID: Entry(
        Fixable.YES,
        "The job file does not parse or does not validate (HCL/JSON syntax, unknown key, bad value, dangling "
        "reference).",
        "Set otherwise what Nomad's words name, by --set or in the repository.",
        ("jobspec",),
    ),
    FailureClass.POLICY_DENIED: Entry(
        Fixable.NO,
        "The administrator's policy does not allow what the plan or the job asks for.",
        "Nothing was deployed. Start again within the policy, by --set or in the repository, or ask whoever "
        "administers it.",
        (),
        (said("{message}."),),
    ),
    FailureClass.ACL_PERMISSION_DENIED: Entry(
        Fixable.NO,
        "Nomad refuses the request: the token is missing, wrong, or lacks a capability.",
        "Give a token (the secret id) whose policy allows the request.",
        ("mounts",),
    ),
    FailureClass.NOMAD_API_UNREACHABLE: Entry(
        Fixable.NO,
        "No answer from the Nomad API: refused connection, no cluster leader, TLS/timeout.",
        "Check the address, and whether the cluster is up.",
        ("retry.after_s",),
        (said("Nomad at {address} does not answer: {message}."),),
    ),
    FailureClass.NOMAD_OBJECT_NOT_FOUND: Entry(
        Fixable.YES,
        "A job/allocation/evaluation that the agent asks for does not exist or the id is malformed.",
        "Was the job stopped or purged by somebody? Start again where the training is still wanted.",
        ("query.id",),
    ),
    FailureClass.CLUSTER_TARGET_MISMATCH: Entry(
        Fixable.YES,
        "Region, namespace, datacenter or node pool named by the job does not exist or holds no node.",
        "Name a datacenter, node pool, namespace or region that the cluster has.",
        ("datacenters", "node_pool", "namespace", "region"),
        (said("There is no {kind} {target}: {message}."),),
    ),
    FailureClass.PLACEMENT_CONSTRAINT_FILTERED: Entry(
        Fixable.YES,
        "A constraint (node class, meta, attribute, computed class) excludes every node.",
        "Drop or relax the constraint that no node meets, or let a node meet it.",
        ("constraints",),
    ),
    FailureClass.PLACEMENT_RESOURCES_EXHAUSTED: Entry(
        Fixable.PARTLY,
        "Nodes qualify but lack cpu / cores / memory / disk, or the namespace quota is used up.",
        "Wait for room, ask for less, or free something in the cluster (or the quota).",
        ("resources.{dimension}", "retry.after_s"),
        (
            said("No room: {asked} of {dimension} were asked for, the quota leaves {largest}."),
            said("No node can take the job: {message}.", standing="never"),
            said("No node has room for {asked} MB of memory now.", dimension="memory"),
            said("No node has room for {asked} MHz of CPU now.", dimension="cpu"),
            said("No node has {asked} cores free now.", dimension="cores"),
            said("No node has {asked} MB of disk free now.", dimension="disk"),
            said("No node has room for the job now: {message}."),
        ),
    ),
    FailureClass.PLACEMENT_GPU_UNAVAILABLE: Entry(
        Fixable.PARTLY,
        "No node offers the devices asked for: wrong model/count, no fingerprinted GPU, or all in use.",
        "Wait until GPUs are free, take fewer of them, or another model.",
        ("resources.gpu_model", "resources.gpus", "retry.after_s"),
        (
            said("No node can give the {asked} GPUs that the job asks for: {message}.", dimension="devices"),
            said("No node can give the GPUs that the job asks for: {message}."),
        ),
    ),
    FailureClass.DRIVER_UNAVAILABLE: Entry(
        Fixable.PARTLY,
        "The task driver (docker, exec, raw_exec, ...) is missing, disabled or misspelt on the nodes.",
        "Have the task driver of the job enabled on the nodes, or take another one.",
        ("driver",),
        (said("No node offers the task driver {driver}."),),
    ),
    FailureClass.VOLUME_UNAVAILABLE: Entry(
        Fixable.PARTLY,
        "A host volume or CSI volume/plugin that the job asks for is not there for any node.",
        "Where are the data? Name a volume that the nodes have, or run without.",
        ("mounts",),
        (said("No node has the volume {volume}."),),
    ),
    FailureClass.DEPLOY_PROGRESS_DEADLINE: Entry(
        Fixable.YES,
        "The deployment (service job) did not become healthy within its deadline.",
        "A training is best a batch job, which has no such deadline; a service needs a longer one.",
        ("job_type", "progress_deadline"),
    ),
    FailureClass.INTERRUPTED_EXTERNALLY: Entry(
        Fixable.YES,
        "The task was ended from outside: node lost or drained, preemption, stop, update, time limit, kill after "
        "kill_timeout (exit 137/143 without memory trouble).",
        "Submit it again; a higher priority or a longer limit helps where those ended it.",
        ("training.resume_from", "kill_timeout", "retry.max"),
        (
            said("The job is not this run's any more: {message}. Caravan leaves it alone.", kind="changed, runs"),
            said("The job is not this run's any more: {message}.", kind="changed"),
            said(
                "The training was killed: from outside, or by the machine when it ran out of memory; "
                "which of both is not known.",
                kind="killed",
            ),
            said("The job was ended because the approved money is used up: {message}.", kind="money"),
        ),
    ),
    FailureClass.IMAGE_NOT_FOUND: Entry(
        Fixable.YES,
        "The image or tag does not exist in the registry.",
        "Which image or tag is meant? Name one that is in the registry.",
        ("image",),
        (
            said("The image {image} is not in its registry."),
            said("The image is not in its registry: {message}."),
        ),
    ),
    FailureClass.REGISTRY_AUTH_DENIED: Entry(
        Fixable.NO,
        "The registry refuses the pull: private repository, missing or wrong credentials (or a name that does not "
        "exist and is reported so).",
        "Give credentials for {image}, or check its name.",
        ("image",),
        (said("The registry denies {image}."),),
    ),
    FailureClass.IMAGE_PULL_TRANSIENT: Entry(
        Fixable.YES,
        "The pull failed for now: rate limit, timeout, gateway error, cancelled for lack of progress.",
        "Try again later; a login at the registry, or a mirror of it, helps against its limits.",
        ("retry.after_s", "image_pull_timeout", "image"),
        (said("The image does not come: {message}."),),
    ),
    FailureClass.GPU_NODE_BROKEN: Entry(
        Fixable.PARTLY,
        "The node's GPU stack or card is at fault: nvidia runtime/toolkit missing, NVML driver/library mismatch, Xid,"
        " ECC, fallen off the bus.",
        "The node's GPU needs its administrator (driver or toolkit, reset, repair).",
        ("exclude_nodes", "training.resume_from"),
        (said("The GPU of node {node} is at fault: {message}."),),
    ),
    FailureClass.CUDA_DRIVER_TOO_OLD: Entry(
        Fixable.YES,
        "The host driver is older than the CUDA of the image / torch build.",
        "Take an image of an older CUDA, or have the nodes' driver raised.",
        ("image", "setup.pip"),
        (said("The GPU driver ({have}) is too old for the CUDA of the job ({want})."),),
    ),
    FailureClass.BIND_MOUNT_REJECTED: Entry(
        Fixable.PARTLY,
        "docker refuses a mount or a privilege: volumes disabled, source path missing, wrong type, privileged/caps "
        "not allowed.",
        "Have the mount allowed on the nodes, or name another place of the data.",
        ("mounts",),
    ),
    FailureClass.PORT_CONFLICT: Entry(
        Fixable.YES,
        "A static or reserved port is taken (at placement or when the container starts).",
        "Let the job take any free port, or free this one.",
        ("ports",),
        (said("The port {port} is taken."),),
    ),
    FailureClass.CONTAINER_NAME_CONFLICT: Entry(
        Fixable.PARTLY,
        "A container of that name is left over on the node.",
        "Have the stale container removed from its node.",
        ("retry.max", "container_name"),
        (said("A container named {container} is left over on the node."),),
    ),
    FailureClass.ENTRYPOINT_NOT_FOUND: Entry(
        Fixable.YES,
        "The command, script, module path or working directory is wrong, or the file may not be executed.",
        "Which entry point is meant? Name one that is in the image or the repository.",
        ("command", "workdir", "env.PYTHONPATH"),
        (
            said("The program {program} is not there where the job runs.", kind="program"),
            said("The script {path} is not there where the job runs.", kind="script"),
            said("Python finds no module {module} from where the program was started.", kind="module"),
            said("The working directory {path} does not exist.", kind="workdir"),
            said("The file {path} may not be executed.", kind="permission"),
            said("The code is not at {path} where the job runs.", kind="code"),
            said("The repository has no directory {path} where the job runs.", kind="subdir"),
            said("What the job starts is not there: {message}."),
        ),
    ),
    FailureClass.ARCH_MISMATCH: Entry(
        Fixable.YES,
        "The image is for another CPU architecture.",
        "Take an image or a program that is built for the nodes' CPU, or nodes with the CPU that it is built for.",
        ("image", "constraints"),
    ),
    FailureClass.ARTIFACT_DOWNLOAD_FAILED: Entry(
        Fixable.PARTLY,
        "An artifact could not be fetched or unpacked (404, DNS, getter error).",
        "Check the artifact's address, and whether the nodes can reach it and may read it.",
        ("artifacts", "retry.after_s"),
        (said("An artifact does not come: {message}."),),
    ),
    FailureClass.TEMPLATE_SECRET_UNAVAILABLE: Entry(
        Fixable.NO,
        "A template waits for / is refused a Vault secret, Consul key or Nomad variable.",
        "Create the secret or key that the job waits for, or grant the job access to it.",
        ("templates",),
        (
            said("The job waits for a secret that is not there or that it may not read: {path}."),
            said("The job waits for what a template needs: {message}."),
        ),
    ),
}

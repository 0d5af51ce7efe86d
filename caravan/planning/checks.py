"""What makes a plan impossible on this cluster, in words, each with the nearest thing that is possible.

Looks at totals; what is free now is Nomad's to say. Pure.
"""

from collections.abc import Iterator
from typing import Final

from caravan.planning.cluster_fit import gpu_groups, in_target, most_gpus, with_driver, with_gpus
from caravan.planning.delivery import code_problems, data_problems
from caravan.planning.environments import is_on
from caravan.planning.launchers import launch_words
from caravan.planning.outputs import output_problems
from caravan.planning.overlays import overlay_problems
from caravan.planning.standing import could_take, members_placed, place_of, would_do
from caravan.values.delivery import Shipping
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.masking import MASK
from caravan.values.plan import TrainingPlan
from caravan.values.repo import Launcher

_NOWHERE: Final = Shipping()


def check_plan(
    plan: TrainingPlan, facts: ClusterFacts, *, unpushed: str = "", shipping: Shipping = _NOWHERE
) -> tuple[str, ...]:
    """The problems; empty when nothing speaks against the plan. `unpushed`: why the code can't come from git."""
    return (*check_job(plan, facts, unpushed=unpushed, shipping=shipping), *check_place(plan, facts))


def check_job(
    plan: TrainingPlan, facts: ClusterFacts, *, unpushed: str = "", shipping: Shipping = _NOWHERE
) -> tuple[str, ...]:
    """The problems that lie in the job itself: no other node would change them."""
    return (
        *_texts(plan),
        *_command(plan),
        *_shards(plan),
        *code_problems(plan, facts, unpushed, shipping.code_store),
        *data_problems(plan, facts, shipping.data_store),
        *overlay_problems(plan),
        *output_problems(plan, facts),
        *check_image(plan, facts),
    )


def check_place(plan: TrainingPlan, facts: ClusterFacts) -> tuple[str, ...]:
    """The problems of finding a node for the job, were all of them empty.

    Where nodes that take no new work now would do, that is said.
    """
    problems = _lacks(plan, facts)
    if not problems and not check_image(plan, facts) and not could_take(plan, facts):
        problems = ("Each thing that the plan asks for is on some node, but no node has all of it.",)
    if not problems and not check_image(plan, facts) and (room := members_placed(plan, facts)) < plan.launch.nodes:
        problems = (
            f"The nodes have room for {room} of {plan.launch.nodes} members (launch.nodes); that many is the nearest.",
        )
    if problems and would_do(plan, facts):
        problems = (*problems, f"That is {place_of(plan, facts).text}.")
    return problems


def _lacks(plan: TrainingPlan, facts: ClusterFacts) -> tuple[str, ...]:
    problems = []
    nodes = in_target(plan, facts)
    if not nodes:
        return (_nowhere(plan, facts),)
    able = with_driver(nodes, plan.driver)
    if not able:
        drivers = sorted({name for n in nodes for name, d in n.drivers.items() if d.healthy})
        problems.append(f"No node has a healthy driver {plan.driver}; they have {', '.join(drivers) or 'none'}.")
        able = nodes
    fitting = with_gpus(able, plan)
    if not fitting:
        return (*problems, _no_gpus(plan, able))
    return (*problems, *_room(plan, fitting), *_mounts(plan, fitting, facts))


def _texts(plan: TrainingPlan) -> Iterator[str]:
    texts = (*launch_words(plan), *plan.env.keys(), *plan.env.values(), plan.workdir, *plan.setup.cmd)
    if any("\0" in t for t in texts):
        yield "A command, a path or an environment variable holds a NUL character: no process can be given one."
    if any(MASK in t for t in texts):
        yield (
            f"A command or an environment variable holds {MASK}, where a secret was: leave it out and name the secret "
            "under secrets, so that the job gets it by reference (docs/secrets.md)."
        )
    if plan.launch.nodes > 1 and plan.launch.launcher is Launcher.NOTEBOOK:
        yield f"launch.nodes is {plan.launch.nodes}: a notebook runs on one node; the nearest is 1."
    unnamed = [n for n in _auth_names(plan) if n not in plan.secrets]
    if unnamed:
        yield f"docker.auth names {', '.join(unnamed)}: what pulls the image must be among the plan's secrets."
    if plan.setup.apt and plan.driver != "docker":
        yield f"setup.apt needs an image (driver docker), not {plan.driver}: the nodes' own packages stay as they are."
    if plan.launch.launcher is Launcher.NOTEBOOK and plan.command and not plan.command[0].endswith(".ipynb"):
        yield f"{plan.command[0]} is no notebook, but the launcher is notebook."


def _auth_names(plan: TrainingPlan) -> tuple[str, ...]:
    auth = plan.docker.auth
    return (auth.username, auth.password) if auth is not None else ()


def _command(plan: TrainingPlan) -> Iterator[str]:
    if plan.launch.launcher is Launcher.PYTHON and plan.command and plan.command[0].endswith((".sh", ".ipynb")):
        kind = "bash" if plan.command[0].endswith(".sh") else "notebook"
        yield f"{plan.command[0]} is no Python program: set launch.launcher={kind} with it."
    if not plan.command:
        yield "No command is known that starts the training: name one with --set 'command=[\"train.py\"]'."


def _shards(plan: TrainingPlan) -> Iterator[str]:
    """Options of a training type's script that shard the same weights in two ways."""
    if plan.training.type and all(is_on(plan, option) for option in ("--fsdp", "--deepspeed")):
        yield "--fsdp and --deepspeed shard the same weights: set one of them off (training.options)."


def check_image(plan: TrainingPlan, facts: ClusterFacts) -> tuple[str, ...]:
    """The problem of an image that is not named, or that no node has and none can pull."""
    if plan.driver != "docker" or (plan.build is not None and plan.image):  # it will be in a registry
        return ()
    aimed_at = in_target(plan, facts)
    if not plan.image:  # where there is no node at all, the driver is nobody's choice: only that is told
        told = "The driver is docker, but no image is named: set CARAVAN_IMAGE or image."
        return (told,) if aimed_at else ()
    nodes = with_driver(aimed_at, "docker")
    known = [n.drivers["docker"].images for n in nodes]
    if known and all(images is not None and plan.image not in images for images in known):
        have = sorted({i for images in known for i in images or ()})
        return (f"No node of the built-in cluster has the image {plan.image}; they have {', '.join(have) or 'none'}.",)
    return ()


def _nowhere(plan: TrainingPlan, facts: ClusterFacts) -> str:
    usable = facts.usable_nodes()
    if not usable:
        return "The cluster has no node that takes new work."
    centers = ", ".join(sorted({n.datacenter for n in usable}))
    pools = ", ".join(sorted({n.node_pool for n in usable}))
    asked = f"datacenters {', '.join(plan.datacenters)} and node pool {plan.node_pool or 'default'}"
    return f"No node is in {asked}; there are nodes in datacenters {centers}, in pools {pools}."


def _no_gpus(plan: TrainingPlan, nodes: tuple[NodeFacts, ...]) -> str:
    need = plan.resources
    offers = sorted({(g.count, g.model, g.memory_mib or 0) for n in nodes for g in gpu_groups(n)}, reverse=True)
    asked = f"{need.gpus} {need.gpu_model or need.gpu_vendor} GPU{'s' if need.gpus > 1 else ''}"
    asked += f" with {need.gpu_memory_mib} MiB" if need.gpu_memory_mib else ""
    if not offers:
        return f"No node has a GPU, and the plan asks for {asked}; the nearest is resources.gpus=0."
    most = most_gpus(nodes, need.gpu_vendor, need.gpu_model)
    seen = ", ".join(f"{count} x {model} ({memory} MiB)" for count, model, memory in offers[:6])
    nearest = f" The nearest is resources.gpus={most}." if 0 < most < need.gpus else ""
    return f"No node has {asked}; nodes have {seen}.{nearest}"


def _room(plan: TrainingPlan, nodes: tuple[NodeFacts, ...]) -> Iterator[str]:
    asked = {
        "memory_mb": (plan.resources.memory_mb, "MB of memory"),
        "cpu_mhz": (plan.resources.cpu_mhz if plan.resources.cores is None else 0, "MHz of CPU"),
        "cores": (plan.resources.cores or 0, "cores"),
        "disk_mb": (plan.resources.disk_mb, "MB of disk"),
    }
    for name, (amount, unit) in asked.items():
        most = max(getattr(n, name) for n in nodes)
        if most and amount > most:
            yield f"The plan asks for {amount} {unit}; the largest fitting node has {most} (resources.{name})."


def _mounts(plan: TrainingPlan, nodes: tuple[NodeFacts, ...], facts: ClusterFacts) -> Iterator[str]:
    volumes = sorted({v for n in nodes for v in n.host_volumes})
    for mount in plan.mounts:
        if mount.kind == "host" and mount.source not in volumes:
            yield f"No fitting node has the host volume {mount.source}; they have {', '.join(volumes) or 'none'}."
            elsewhere = [n for n in facts.nodes if mount.source in n.host_volumes]
            if elsewhere:
                yield f"It is {', '.join(_on(n, mount.source) for n in elsewhere[:3])}."
        if mount.kind != "bind" and plan.driver == "raw_exec":
            able = "docker (with --set image=…) and exec can"
            yield f"The driver raw_exec can't mount the volume {mount.source}; {able}."
        if mount.kind == "bind" and plan.driver != "docker" and mount.source != mount.destination:
            yield f"Only docker can show {mount.source} at {mount.destination}; use the path itself."


def _on(node: NodeFacts, volume: str) -> str:
    return f"{'read-only ' if node.host_volumes[volume].read_only else ''}on {node.name}"

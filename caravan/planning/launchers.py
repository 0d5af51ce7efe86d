"""The whole command of a job: the launcher with the processes that the plan counts, and the program's own words.

Pure: it knows the plan alone. Where the members of a training on several nodes meet is known on the nodes.
"""

import base64
import json
import re
from typing import Final

from caravan.planning.command import command_line, output_dir
from caravan.values.plan import TrainingPlan
from caravan.values.repo import Launcher

MASTER_ADDR: Final = "${CARAVAN_MASTER_ADDR}"
MASTER_PORT: Final = "${CARAVAN_MASTER_PORT}"
NODE_RANK: Final = "${CARAVAN_NODE_RANK}"
"""Where the members of a training on several nodes meet, and which of them this one is; known once they have met."""


def launch_words(plan: TrainingPlan) -> tuple[str, ...]:
    """The whole command as the launch script runs it; `python` is the environment's interpreter.

    torchrun, accelerate and deepspeed are started as modules of that interpreter, so that no PATH decides which.
    Empty for a plan without a command, which the checks refuse.
    """
    launch, words = plan.launch, command_line(plan)
    if not plan.command:
        return ()
    kind = launch.launcher
    if kind is Launcher.TORCHRUN:
        count = [f"--nproc-per-node={launch.nproc}", f"--nnodes={launch.nodes}"]
        apart, told = _ranked(plan, words)
        return ("python", "-m", "torch.distributed.run", *_torchrun(plan), *count, *launch.args, *apart, *told)
    if kind is Launcher.ACCELERATE:
        count = [f"--num_processes={launch.nproc * launch.nodes}", f"--num_machines={launch.nodes}"]
        several = launch.nproc > 1 or (launch.nodes > 1 and plan.resources.gpus > 0)
        count += ["--multi_gpu"] if several and not _configured(launch.args) else []
        return ("python", "-m", "accelerate.commands.launch", *count, *_accelerate(plan), *launch.args, *words)
    if kind is Launcher.DEEPSPEED:
        return ("python", "-m", *_deepspeed(plan), *launch.args, *words)
    if kind is Launcher.PYTHON:
        return ("python", *launch.args, *words)
    if kind is Launcher.BASH:
        return ("bash", *launch.args, *words)
    if kind is Launcher.NOTEBOOK:
        return ("python", "-m", "papermill", *_papermill(words, output_dir(plan), launch.args))
    return words


def _ranked(plan: TrainingPlan, words: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """torchrun's option and the words where the program is told its process's number by an option.

    `torch.distributed.launch` gave `--local_rank=N`, or `--local-rank=N`, as its version would; torchrun sets a
    variable only. So a shell hands that on.
    """
    option = plan.launch.rank_option
    if option is None or not re.fullmatch(r"--[A-Za-z][\w-]*", option):
        return [], words
    line = f'exec python "$@" {option}="$LOCAL_RANK"'
    return ["--no-python"], ("sh", "-c", line, "sh", *words)


def _torchrun(plan: TrainingPlan) -> list[str]:
    """Where its processes meet. On several nodes the rendezvous is static: by c10d's the first rank could be on any
    member, and the outputs are those of the first."""
    launch = plan.launch
    if launch.nodes > 1:
        return [f"--node-rank={NODE_RANK}", f"--master-addr={MASTER_ADDR}", f"--master-port={MASTER_PORT}"]
    where = ["--standalone"] if launch.rdzv_endpoint is None and launch.master_port is None else []
    where += [f"--rdzv-endpoint={launch.rdzv_endpoint}"] if launch.rdzv_endpoint else []
    return [*where, *([f"--master-port={launch.master_port}"] if launch.master_port else [])]


def _accelerate(plan: TrainingPlan) -> list[str]:
    """Where its processes meet. With DeepSpeed its own way to other nodes would be ssh (pdsh), but for `standard`."""
    launch = plan.launch
    if launch.nodes > 1:
        where = [
            f"--machine_rank={NODE_RANK}",
            f"--main_process_ip={MASTER_ADDR}",
            f"--main_process_port={MASTER_PORT}",
        ]
        return [*where, "--deepspeed_multinode_launcher=standard"]
    return [f"--main_process_port={launch.master_port}"] if launch.master_port else []


def _deepspeed(plan: TrainingPlan) -> list[str]:
    """DeepSpeed's launcher and its words. The runner reaches other nodes by ssh, which no task has; so on several nodes
    each starts what the runner would have started there: the launcher of one node, which is told of the world."""
    launch = plan.launch
    if launch.nodes > 1:
        world = {f"node-{n}": list(range(launch.nproc)) for n in range(launch.nodes)}
        told = base64.urlsafe_b64encode(json.dumps(world).encode()).decode()
        where = [f"--node_rank={NODE_RANK}", f"--master_addr={MASTER_ADDR}", f"--master_port={MASTER_PORT}"]
        return ["deepspeed.launcher.launch", f"--world_info={told}", *where]
    port = [f"--master_port={launch.master_port}"] if launch.master_port else []
    return ["deepspeed.launcher.runner", f"--num_gpus={launch.nproc}", *port]


def _configured(args: tuple[str, ...]) -> bool:
    return any(a.startswith(("--config_file", "--use_fsdp", "--use_deepspeed", "--multi_gpu")) for a in args)


def _papermill(words: tuple[str, ...], outputs: str, args: tuple[str, ...]) -> tuple[str, ...]:
    """papermill's words. What the cells print goes to the log, line by line. The kernel is that of the environment,
    whatever its author's was called, and stands in the notebook's directory, as it does in Jupyter. Parameters,
    `name=value`, become `-p name value`; papermill's own options stay.
    """
    book, given = words[0], list(args)
    for word in words[1:]:
        name, joined, value = word.partition("=")
        given += ["-p", name, value] if joined and name.isidentifier() else [word]
    folder, _, name = book.rpartition("/")
    kernel = [] if {"-k", "--kernel"} & set(given) else ["-k", "python3"]
    place = ["--cwd", folder] if folder and "--cwd" not in given else []
    return (book, f"{outputs}/{name}", "--log-output", "--no-progress-bar", *kernel, *place, *given)

"""Against processes that don't find or don't hear each other: NCCL, the rendezvous, and the launcher."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from caravan.diagnosis.details import PROGRESS
from caravan.diagnosis.ladders.case import Case, same_name
from caravan.values.base import Json, sha256_text
from caravan.values.failure import Repair, RetryElsewhere
from caravan.values.repo import Launcher

_LONG_S: Final = 7200
_FIRST_PORT, _PORTS = 20_000, 10_000  # below the ports that Linux hands out by itself (32768 to 60999)
_FABRIC: Final = r"\bibv?_|\binfini|\bNET/IB\b|\bmlx\d|\bRoCE\b|\bGID\b|\bEFA\b|\blibfabric\b|NCCL_IB"
_PEERS: Final = r"peer access|\bp2p\b|cudaIpc|\bIPC\b|NVLS|nvlink"
_SHARED: Final = r"\bdev/shm|shmem|shm_open|shared memory"
_LAUNCHED: Final = (Launcher.TORCHRUN, Launcher.ACCELERATE, Launcher.DEEPSPEED)


def collective_timeout(case: Case) -> Iterator[Repair]:
    """Once elsewhere with NCCL's own words in the log; longer only where the log shows progress; fewer loaders."""
    yield from _once_elsewhere(case)
    if case.says(PROGRESS):
        now = case.number("timeout_s") or case.plan.training.ddp_timeout or 0
        longer = int(max(_LONG_S, 4 * now))
        yield from case.change(
            case.heard({"training.ddp_timeout": longer}), f"{longer} s for a collective: the log shows progress"
        )
    workers = case.plan.training.num_workers
    if workers is None or workers > 0:
        yield from case.change(case.heard({"training.num_workers": 0}), "no loader processes, which may hang a rank")


def _once_elsewhere(case: Case) -> Iterable[Repair]:
    """The named node is left out and NCCL tells more: a change of the plan, so that it happens once."""
    values = case.avoiding()
    if case.plan.env.get("NCCL_DEBUG") is None:
        values["env.NCCL_DEBUG"] = "INFO"
    elif case.mended("env.NCCL_DEBUG"):
        return ()
    where = f"another node than {case.diagnosis.node_name}" if "exclude_nodes" in values else "once more"
    return case.change(values, f"{where}, and NCCL tells what it does")


def nccl(case: Case) -> Iterator[Repair]:
    """What the message says is at fault is left out (interface, fabric, peers, shared memory); then once elsewhere."""
    kind = case.detail("kind")
    name = case.plan.env.get("NCCL_SOCKET_IFNAME")
    if kind == "interface" or case.says(r"socket interface|IFNAME"):
        if name is not None:
            yield from case.change({"env.NCCL_SOCKET_IFNAME": None}, f"the interface that NCCL finds, not {name}")
        else:
            none = "^lo,docker,veth,virbr"
            yield from case.change({"env.NCCL_SOCKET_IFNAME": none}, "no loopback or bridge for NCCL")
    for at_fault, variable, told in (
        (kind == "fabric" or case.says(_FABRIC), "NCCL_IB_DISABLE", "without InfiniBand"),
        (case.says(_PEERS), "NCCL_P2P_DISABLE", "without direct copies between GPUs"),
        (case.says(_SHARED), "NCCL_SHM_DISABLE", "without shared memory between processes"),
    ):
        if at_fault:
            yield from _off(case, variable, told)
    yield from _once_elsewhere(case)
    several = case.plan.launch.nodes > 1
    yield from _off(case, "NCCL_IB_DISABLE" if several else "NCCL_P2P_DISABLE", "NCCL by the plainest way")


def _off(case: Case, variable: str, told: str) -> Iterable[Repair]:
    if case.plan.env.get(variable) == "1":
        return ()
    return case.change({f"env.{variable}": "1"}, told)


def port_in_use(case: Case) -> Iterator[Repair]:
    """Another port for the rendezvous, in the launcher, the environment or the program's own option."""
    plan, launch = case.plan, case.plan.launch
    option = case.option(*_PORT_OPTIONS)
    typed = _typed(case, option) if option else ""
    taken = case.detail("port") or str(launch.master_port or typed)
    port = _other_port(case, taken)
    told = [o for o in plan.training.options if option and o.lstrip("-") == option.lstrip("-")]
    if option and typed and typed == taken:  # over whatever the launcher or a variable says
        yield from case.change(case.heard({f"training.options.{option}": port}), f"{option} {port} instead of {taken}")
    if launch.launcher in _LAUNCHED:
        fixed = {f"launch.{n}": None for n in ("master_port", "rdzv_endpoint") if getattr(launch, n) is not None}
        yield from case.change(dict(fixed), "the launcher finds a free port")
        yield from case.change({"launch.master_port": port}, f"port {port} for the rendezvous instead of {taken}")
    if plan.env.get("MASTER_PORT") is not None or launch.launcher not in _LAUNCHED:
        yield from case.change({"env.MASTER_PORT": str(port)}, f"port {port} for the rendezvous instead of {taken}")
    if option and (told or case.says(r"tcp://")):
        values = case.heard({f"training.options.{told[0] if told else option}": port})
        yield from case.change(values, f"{option} {port} instead of {taken}")
    yield RetryElsewhere(avoid_nodes=tuple(filter(None, [case.diagnosis.node_name])), why="a port of the node is taken")


_PORT_OPTIONS: Final = ("master_port", "main_process_port", "dist_port", "init_port", "rdzv_port", "port")


def _typed(case: Case, option: str) -> str:
    """The port that the program is told by that option; empty where it is told none."""
    words = case.outlook.words(case.plan)
    pairs = [*pairwise(words), *((w.partition("=")[0], w.partition("=")[2]) for w in words)]
    return next((said for name, said in pairs if same_name(name, option) and said.isdigit()), "")


def _other_port(case: Case, taken: str) -> int:
    """Another one for each job, and the same whenever it is asked for again."""
    number = _FIRST_PORT + int(sha256_text(f"{case.plan.goal} {taken}")[:8], 16) % _PORTS
    return number if str(number) != taken else number + 1


def unreachable(case: Case) -> Iterator[Repair]:
    """The launcher's own rendezvous instead of a fixed address, the host's network, then without the node."""
    plan = case.plan
    if plan.launch.rdzv_endpoint is not None:
        told = f"where the members meet is found, not fixed at {plan.launch.rdzv_endpoint}"
        yield from case.change({"launch.rdzv_endpoint": None}, told)
    fixed: dict[str, Json] = {f"env.{n}": None for n in ("MASTER_ADDR", "MASTER_PORT") if n in plan.env}
    yield from case.change(fixed, "where the processes meet is told by the launcher")
    if plan.driver == "docker" and plan.launch.nodes > 1 and plan.network_mode not in (None, "host"):
        yield from case.change({"network_mode": "host"}, "the host's network, in which the members reach each other")
    if plan.launch.nodes == 1 and plan.launch.launcher not in _LAUNCHED:
        yield from case.change({"env.MASTER_ADDR": "127.0.0.1"}, "the processes of one node meet there")
    yield from _once_elsewhere(case)


def launcher(case: Case) -> Iterator[Repair]:
    """Under torchrun with as many processes as GPUs, or another launcher where that was it; no fixed configuration."""
    plan, launch = case.plan, case.plan.launch
    processes = max(1, plan.resources.gpus)
    if launch.args and (case.detail("kind") == "config" or case.says(r"config_file|hostfile|deepspeed_config")):
        yield from case.change({"launch.args": []}, "the launcher without arguments of its own")
    script = bool(plan.command) and (plan.command[0].endswith(".py") or plan.command[0] == "-m")
    if not script:
        return
    if launch.launcher in (Launcher.PYTHON, Launcher.CLI, Launcher.NONE):
        values: dict[str, Json] = {"launch.launcher": Launcher.TORCHRUN.value, "launch.nproc": processes}
        yield from case.change(values, f"torchrun with {processes} process{'es' if processes > 1 else ''}")
        return
    if launch.nproc != processes:
        yield from case.change({"launch.nproc": processes}, f"{processes} processes, as many as GPUs")
    if launch.launcher is not Launcher.TORCHRUN and launch.launcher in _LAUNCHED:
        torchrun: dict[str, Json] = {"launch.launcher": Launcher.TORCHRUN.value, "launch.args": None}
        yield from case.change(torchrun, f"torchrun instead of {launch.launcher.value}")
    elif launch.launcher is Launcher.TORCHRUN and case.says(r"\bdeepspeed\b|\baccelerat"):
        other = Launcher.DEEPSPEED if case.says(r"\bdeepspeed\b") else Launcher.ACCELERATE
        yield from case.change(
            {"launch.launcher": other.value, "launch.args": None}, f"{other.value}, which the message names"
        )

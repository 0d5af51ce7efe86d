"""Several processes and several nodes, played: they do not find, hear or copy to each other. Ports are really bound."""

from typing import Any, Final

from bench.scenario import Expected, Scenario
from bench.scenarios.stand_in import gpu_node
from bench.scenarios.stand_in_trainers import LINE, played
from caravan.values.failure import FailureClass

_F: Final = FailureClass
_PAIR: Final = gpu_node("pair", "NVIDIA GeForce RTX 4090", 24564, 2)
_QUAD: Final = gpu_node("quad", "NVIDIA A10", 23028, 4)
_THREE: Final = tuple(gpu_node(f"node-{n}", "NVIDIA GeForce RTX 4090", 24564) for n in "abc")

RUN: Final = '''"""Starts processes as torchrun does: RANK, WORLD_SIZE, where they meet; the first failure ends all."""

import os
import socket
import subprocess
import sys
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main(words):
    told = {"nproc-per-node": "1", "nnodes": "1", "node-rank": "0", "master-addr": "127.0.0.1", "master-port": ""}
    while words and words[0].startswith("-"):
        name, _, value = words.pop(0).lstrip("-").replace("_", "-").partition("=")
        if name != "standalone":
            told[name] = value
    here, first = int(told["nproc-per-node"]), int(told["node-rank"])
    port = told["master-port"] or str(free_port())
    running = []
    for n in range(here):
        env = {**os.environ, "LOCAL_RANK": str(n), "RANK": str(first * here + n), "LOCAL_WORLD_SIZE": str(here)}
        env |= {"WORLD_SIZE": str(here * int(told["nnodes"])), "MASTER_ADDR": told["master-addr"]}
        env |= {"MASTER_PORT": port}
        running.append(subprocess.Popen([sys.executable, *words], env=env))
    while any(p.poll() is None for p in running):
        failed = [n for n, p in enumerate(running) if p.poll() not in (None, 0)]
        if failed:
            break
        time.sleep(0.05)
    failed = [n for n, p in enumerate(running) if p.poll() not in (None, 0)]
    for p in running:
        if p.poll() is None:
            p.terminate()
        p.wait()
    if failed:
        n = failed[0]
        bar = "=" * 60
        print(f"{bar}\\n{words[0]} FAILED\\n{'-' * 60}\\nFailures:\\n  <NO_OTHER_FAILURES>\\n{'-' * 60}\\nRoot Cause "
              f"(first observed failure):\\n[0]:\\n  rank      : {first * here + n} (local_rank: {n})\\n  exitcode  : "
              f"{running[n].returncode} (pid: {running[n].pid})\\n  error_file: <N/A>\\n  traceback : To enable "
              f"traceback see: https://pytorch.org/docs/stable/elastic/errors.html\\n{bar}", file=sys.stderr)
        raise SystemExit(1)


main(sys.argv[1:])
'''
"""A stand-in of `torch.distributed.run`."""

NET: Final = '''"""Processes that meet over TCP and the words of NCCL where they can't talk. Standard library only."""

import os
import socket
import sys
import threading
import time

import runtime


def wanted(name):
    if name not in os.environ:
        raise ValueError(
            f"Error initializing torch.distributed using env:// rendezvous: environment variable {name} expected, but "
            "not set"
        )
    return os.environ[name]


def meet(patience=6.0):
    """Rank 0 listens at MASTER_ADDR:MASTER_PORT, the others say who they are; all go on when all are there."""
    rank, world = int(wanted("RANK")), int(wanted("WORLD_SIZE"))
    host, port = wanted("MASTER_ADDR"), int(wanted("MASTER_PORT"))
    if rank == 0:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", port))
        except OSError as error:
            raise runtime.DistNetworkError(
                "The server socket has failed to listen on any local network address. The server socket has failed to "
                f"bind to [::]:{port} (errno: {error.errno} - Address already in use). The server socket has failed to "
                f"bind to ?UNKNOWN? (errno: {error.errno} - Address already in use)."
            ) from None
        server.listen(world)
        server.settimeout(patience)
        others = []
        try:
            while len(others) < world - 1:
                others.append(server.accept()[0])
        except TimeoutError:
            raise runtime.DistNetworkError(
                f"Timed out after {patience:.0f} seconds waiting for clients. {len(others) + 1}/{world} clients joined."
            ) from None
        for one in others:
            one.sendall(b"go")
        return rank, world
    end = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((host, port), timeout=1.0) as one:
                one.settimeout(patience)
                if one.recv(2) != b"go":
                    raise ConnectionError
            return rank, world
        except OSError:
            if time.monotonic() > end:
                raise runtime.DistNetworkError(
                    f"The client socket has timed out after {patience * 1000:.0f}ms while trying to connect to "
                    f"({host}, {port})."
                ) from None
            time.sleep(0.1)


def failed(kind, last):
    said = {"system": "unhandled system error", "cuda": "unhandled cuda error"}[kind]
    words = {"system": "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device "
                       "error. ", "cuda": "ncclUnhandledCudaError: Call to CUDA function failed."}[kind]
    if os.environ.get("NCCL_DEBUG") in ("INFO", "WARN"):
        print(f"{socket.gethostname()}:{os.getpid()}:{os.getpid()} [0] NCCL WARN {last}", flush=True)
    raise runtime.DistBackendError(
        f"NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:2251, {said} (run with NCCL_DEBUG=INFO "
        f"for details), NCCL version 2.20.5\\n{words}\\nLast error:\\n{last}"
    )


def nccl(card, world, local_world):
    """The ways that NCCL takes: an interface, copies between cards, shared memory."""
    facts = runtime.NODES[card.node]
    asked = os.environ.get("NCCL_SOCKET_IFNAME")
    there = [name for _, name in socket.if_nameindex()]
    if asked and not asked.startswith("^") and not any(n.startswith(a) for a in asked.split(",") for n in there):
        failed("system", "Bootstrap : no socket interface found")
    if facts.get("p2p") is False and local_world > 1 and os.environ.get("NCCL_P2P_DISABLE") != "1":
        failed("cuda", "Cuda failure 217 'peer access is not supported between these two devices'")
    if facts.get("fabric") is False and os.environ.get("NCCL_IB_DISABLE") != "1":
        failed("system", "Call to ibv_create_qp failed with error Cannot allocate memory errno 12")
    if facts.get("shm_mb", 1024) < 10 * local_world and os.environ.get("NCCL_SHM_DISABLE") != "1" and local_world > 1:
        failed("system", "Error while creating shared memory segment /dev/shm/nccl-7cXbQv (size 9637888)")


def collective(rank, seconds, timeout):
    """All wait for rank 0's work of so many seconds: beyond the limit the watchdog ends them."""
    if seconds > timeout:
        for done in (20, 40, 60):
            print(f"Map:  {done}%|{'#' * (done // 10):10}| {done}0/1000 examples", file=sys.stderr, flush=True)
        print(f"[rank{rank}]:[E ProcessGroupNCCL.cpp:616] [Rank {rank}] Watchdog caught collective operation timeout: "
              f"WorkNCCL(SeqNum=1, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)={timeout * 1000}) ran for "
              f"{timeout * 1000 + 83} milliseconds before timing out.", file=sys.stderr, flush=True)
        raise runtime.DistBackendError(
            f"[PG 0 Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE, "
            f"NumelIn=1, NumelOut=1, Timeout(ms)={timeout * 1000}) ran for {timeout * 1000 + 83} milliseconds before "
            "timing out."
        )
'''

TRAIN: Final = (
    '''"""Data-parallel training: one process for each card, started by torchrun."""

import argparse
import json
import os
import pathlib
import socket

import net
import runtime


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=@BATCH@, help="samples of each card")
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--ddp-timeout", type=int, default=1800, help="seconds that a collective may take")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--output-dir", default="checkpoints")@OPTIONS@
    return parser.parse_args()
'''
    + LINE
    + """

def main():
    args = options()@BEFORE@
    rank, world = net.meet()
    local, local_world = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    card = runtime.start(local)
    net.nccl(card, world, local_world)
    net.collective(rank, @WORK@, args.ddp_timeout)
    shape = runtime.Shape(24, 1536, 6144, 24, 32000, args.seq_len)
    runtime.occupy(card, shape, batch=args.batch_size, length=args.seq_len, precision="bf16")
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=args.lr)
    print(f"rank {rank} of {world} on {card.node}", flush=True)
    loss = one_epoch(weights, optimizer)
    if rank == 0:
        loss = runtime.train(lambda _: one_epoch(weights, optimizer), args.epochs)
        out = pathlib.Path(args.output_dir)
        out.mkdir(parents=True, exist_ok=True)
        (out / "model.pt").write_text(json.dumps(weights))
        print(f"final loss {loss:.6f}", flush=True)


if __name__ == "__main__":
    main()
"""
)


def _ddp(
    name: str,
    command: str,
    *nodes: Any,
    batch: int = 2,
    options: str = "",
    before: str = "",
    work: int = 60,
    **more: Any,
) -> Scenario:
    """A scenario with the data-parallel trainer. `work`: seconds that the others wait for the first process."""
    text = TRAIN
    for key, value in {"BATCH": batch, "OPTIONS": options, "BEFORE": before, "WORK": work}.items():
        text = text.replace(f"@{key}@", str(value))
    files = {
        "net.py": NET,
        "torch/__init__.py": "",
        "torch/distributed/__init__.py": "",
        "torch/distributed/run.py": RUN,
    }
    return played(name, text, command, *nodes, script="train_ddp.py", files={**files, **more.pop("files", {})}, **more)


_TWO: Final[dict[str, Any]] = {"sets": ("resources.gpus=2",)}
_TORCHRUN: Final = "torchrun --nproc_per_node=2 train_ddp.py"
_MONITOR: Final = """
    parser.add_argument("--dist_port", type=int, default=29500, help="where the processes meet")
    parser.add_argument("--monitor-port", type=int, default=29511)"""
_LISTENS: Final = """
    os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.dist_port))
    monitor = socket.socket()
    monitor.bind(("", args.monitor_port))
    monitor.listen()"""

SCENARIOS: Final = (
    _ddp(
        "nccl-interface",
        f"NCCL_SOCKET_IFNAME=ib7 {_TORCHRUN}",
        _PAIR,
        failure=_F.NCCL_ERROR,
        changed=("env.NCCL_SOCKET_IFNAME", "env"),
        **_TWO,
    ),
    _ddp(
        "nccl-peers",
        _TORCHRUN,
        _PAIR,
        facts={"pair": {"p2p": False}},
        failure=_F.NCCL_ERROR,
        changed=("env.NCCL_P2P_DISABLE",),
        **_TWO,
    ),
    _ddp(
        "nccl-fabric",
        _TORCHRUN,
        _PAIR,
        facts={"pair": {"fabric": False}},
        failure=_F.NCCL_ERROR,
        changed=("env.NCCL_IB_DISABLE",),
        **_TWO,
    ),
    _ddp(
        "nccl-shared-memory",
        _TORCHRUN,
        _PAIR,
        facts={"pair": {"shm_mb": 8}},
        failure=_F.SHM_TOO_SMALL,
        also=(_F.NCCL_ERROR,),
        changed=("env.NCCL_SHM_DISABLE", "shm_mb"),
        **_TWO,
    ),
    _ddp(
        "nccl-timeout-while-it-works",
        f"{_TORCHRUN} --ddp-timeout 600",
        _PAIR,
        work=2400,
        failure=_F.NCCL_TIMEOUT,
        changed=("training.ddp_timeout",),
        **_TWO,
    ),
    _ddp(
        "port-in-use",
        "python train_ddp.py --dist_port 29511 --monitor-port 29511",
        _PAIR,
        options=_MONITOR,
        before=_LISTENS,
        failure=_F.RENDEZVOUS_PORT_IN_USE,
        changed=("training.options",),
    ),
    _ddp(
        "address-of-another-cluster",
        "MASTER_ADDR=10.255.255.1 MASTER_PORT=29577 RANK=1 WORLD_SIZE=1 python train_ddp.py",
        _PAIR,
        failure=_F.RENDEZVOUS_UNREACHABLE,
        also=(_F.LAUNCHER_MISCONFIGURED,),  # such variables are the cluster's: a plan has none of another's
        changed=("env", "launch"),
    ),
    _ddp(
        "without-its-launcher",
        "python train_ddp.py",
        _PAIR,
        failure=_F.LAUNCHER_MISCONFIGURED,
        changed=("launch",),
    ),
    _ddp("oom-two-cards", f"{_TORCHRUN} --batch-size 16", _PAIR, changed=("training.micro_batch",), **_TWO),
    _ddp(
        "four-processes-two-cards",
        "torchrun --nproc_per_node=4 train_ddp.py",
        _PAIR,
        failure=_F.GPU_COUNT_MISMATCH,
        changed=("launch.nproc",),
        sets=("resources.gpus=2", "launch.nproc=4"),
        expected=Expected.ESCALATED,
    ),
    _ddp(
        "oom-two-nodes",
        "torchrun --nproc_per_node=1 --nnodes=2 train_ddp.py --batch-size 16",
        *_THREE[:2],
        changed=("training.micro_batch",),
        sets=("resources.gpus=1", "launch.nodes=2"),
    ),
    _ddp(
        "one-of-two-nodes-broken",
        "torchrun --nproc_per_node=1 --nnodes=2 train_ddp.py",
        *_THREE,
        facts={"node-a": {"broken": "ecc"}},
        failure=_F.GPU_NODE_BROKEN,
        changed=("retry_elsewhere", "exclude_nodes", "affinities"),
        sets=("resources.gpus=1", "launch.nodes=2"),
    ),
    _ddp(
        "control-two-nodes",
        "torchrun --nproc_per_node=1 --nnodes=2 train_ddp.py",
        *_THREE[:2],
        failure=_F.NO_FAILURE,
        expected=Expected.UNTOUCHED,
        sets=("resources.gpus=1", "launch.nodes=2"),
    ),
    _ddp(
        "control-four-cards",
        "torchrun --nproc_per_node=4 train_ddp.py",
        _QUAD,
        failure=_F.NO_FAILURE,
        expected=Expected.UNTOUCHED,
        sets=("resources.gpus=4",),
    ),
)

"""A training on two nodes on the built-in cluster, with real processes: members that find each other, a member that
fails, a group that is placed in part."""

import base64
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.hcl import mismatches, parse_hcl, render_hcl
from caravan.planning.jobspec import to_job_spec
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.log_marks import without_tokens
from caravan.values.plan import CodeSource, Launch, Limits, OutputSink, Resources, Setup, TrainingPlan
from caravan.values.repo import Launcher
from tests.cluster.local.bench import NODE, Bench

FACTS = ClusterFacts(kind=ClusterKind.BUILTIN, address="http://127.0.0.1:1", version="2.0.6", shared_files=True)
NODES = tuple({**NODE, "name": name, "devices": [{**NODE["devices"][0], "count": 1}]} for name in ("one", "two"))
ALL_REDUCE = '''
"""Linear regression in NumPy, its rows split over the ranks, its gradients added up over TCP."""
import os, pickle, socket, struct, sys, time
import numpy as np

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])


def send(to, value):
    data = pickle.dumps(value)
    to.sendall(struct.pack("!I", len(data)) + data)


def receive(of):
    def exactly(n):
        data = b""
        while len(data) < n:
            piece = of.recv(n - len(data))
            if not piece:
                raise ConnectionError("a peer is gone")
            data += piece
        return data

    return pickle.loads(exactly(struct.unpack("!I", exactly(4))[0]))


if rank == 0:
    server = socket.create_server(place)
    peers = [server.accept()[0] for _ in range(world - 1)]
else:
    while True:
        try:
            peers = [socket.create_connection(place)]
            break
        except ConnectionRefusedError:
            time.sleep(0.05)


def all_reduce(value):
    if rank == 0:
        total = value + sum(receive(p) for p in peers)
        for p in peers:
            send(p, total)
        return total
    send(peers[0], value)
    return receive(peers[0])


rows = np.random.default_rng(0).normal(size=(64, 3))
targets = rows @ np.array([1.0, -2.0, 0.5])
mine, wanted = rows[rank::world], targets[rank::world]
weights = np.zeros(3)
for step in range(50):
    error = mine @ weights - wanted
    gradient = all_reduce(mine.T @ error) / len(rows)
    loss = all_reduce(np.array(float(error @ error))) / len(rows)
    weights -= 0.3 * gradient
print("loss", f"{loss:.10f}", "rank", rank, "of", world, os.environ["NODE_RANK"], os.environ["NNODES"], flush=True)
if rank == 0:
    with open(os.path.join(os.environ["CARAVAN_OUTPUT_DIR"], "weights.txt"), "w") as file:
        file.write(" ".join(f"{w:.6f}" for w in weights))
'''


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("nodes") / "home", *NODES)
    yield bench
    bench.down()


def plan_for(tmp: Path, script: str, **more: Any) -> TrainingPlan:
    archive = tmp / "code.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("train.py")
        info.size, info.mode = len(script.encode()), 0o644
        tar.addfile(info, io.BytesIO(script.encode()))
    fields: dict[str, Any] = {
        "driver": "raw_exec",
        "code": CodeSource(kind="archive", location=str(archive)),
        "outputs": OutputSink(),
        "setup": Setup(python=sys.executable),
        "launch": Launch(nodes=2),
        "resources": Resources(cpu_mhz=200, memory_mb=256, disk_mb=50),
        "limits": Limits(gang_s=60),
        "kill_timeout_s": 5,
        **more,
    }
    return TrainingPlan(goal="g", command=("train.py",), **fields)


def register(bench: Bench, plan: TrainingPlan, job_id: str) -> None:
    spec = to_job_spec(plan, FACTS, run_id="r1", attempt=1, job_id=job_id, templates=TEMPLATES)
    job = parse_hcl(render_hcl(spec, templates=TEMPLATES))
    assert mismatches(spec, job) == ()
    answer = bench.ask("POST", "/v1/jobs", {"Job": job})
    assert answer.status_code == 200, answer.text


def ended(bench: Bench, job_id: str, count: int = 2) -> dict[int, dict[str, Any]]:
    """The allocations by their index, once all have ended."""
    done = ("complete", "failed", "lost")
    path = f"/v1/job/{job_id}/allocations"
    found = bench.wait(path, lambda a: len(a) == count and all(x["ClientStatus"] in done for x in a))
    return {int(a["Name"].rsplit("[", 1)[1][:-1]): a for a in found}


def said(bench: Bench, alloc: dict[str, Any], stream: str = "stdout") -> str:
    answer = bench.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=train&type={stream}&plain=true")
    return without_tokens(str(answer.text).encode()).decode()


def result(bench: Bench, alloc: dict[str, Any]) -> dict[str, Any]:
    answer = bench.ask("GET", f"/v1/client/fs/cat/{alloc['ID']}?path=alloc/data/caravan-result.json")
    return dict(json.loads(answer.text))


def test_two_nodes_train_together(bench: Bench, tmp_path: Path) -> None:
    register(bench, plan_for(tmp_path, ALL_REDUCE), "caravan-r1-a01")
    members = ended(bench, "caravan-r1-a01")
    words = {rank: said(bench, alloc).split() for rank, alloc in members.items()}
    assert [a["ClientStatus"] for a in members.values()] == ["complete"] * 2, {
        rank: said(bench, alloc, "stderr") for rank, alloc in members.items()
    }
    assert words[0][1] == words[1][1]  # they had the same loss: each saw the other's rows
    assert [words[rank][2:] for rank in (0, 1)] == [["rank", str(r), "of", "2", str(r), "2"] for r in (0, 1)]
    assert float(words[0][1]) < 1e-6
    assert [result(bench, members[rank])["exit_code"] for rank in (0, 1)] == [0, 0]


FAILS = """
import os, sys, time
if os.environ["RANK"] == "1":
    sys.exit(3)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("launcher", [Launcher.PYTHON, Launcher.BASH])
def test_one_failed_member_ends_the_others(bench: Bench, tmp_path: Path, launcher: Launcher) -> None:
    job_id = f"caravan-fails-{launcher.value}"
    plan = plan_for(tmp_path, FAILS if launcher is Launcher.PYTHON else '[ "$RANK" != 1 ] || exit 3; sleep 600\n')
    register(bench, plan.model_copy(update={"launch": Launch(nodes=2, launcher=launcher)}), job_id)
    members = ended(bench, job_id)
    assert "rank 1 ended with exit code 3, so this member ends too" in said(bench, members[0], "stderr")
    assert [result(bench, members[rank])["exit_code"] for rank in (0, 1)] == [76, 3]


DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ["RANK"] == "0":
    sys.exit(4)
while True:
    time.sleep(0.05)
"""


def test_a_member_that_is_deaf_ends_too(bench: Bench, tmp_path: Path) -> None:
    register(bench, plan_for(tmp_path, DEAF, kill_timeout_s=1), "caravan-deaf")
    members = ended(bench, "caravan-deaf")
    assert [result(bench, members[rank])["exit_code"] for rank in (0, 1)] == [4, 76]


def test_a_member_that_is_alone_gives_its_place_back_by_itself(bench: Bench, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, ALL_REDUCE, launch=Launch(nodes=3), limits=Limits(gang_s=2))
    plan = plan.model_copy(update={"resources": plan.resources.model_copy(update={"gpus": 1})})
    register(bench, plan, "caravan-alone")
    found = bench.wait(
        "/v1/job/caravan-alone/allocations", lambda a: sum(x["ClientStatus"] == "failed" for x in a) >= 2
    )
    alloc = next(a for a in found if a["ClientStatus"] == "failed")
    assert "only 2 of 3 members came within 2 s (missing: rank 2)" in said(bench, alloc, "stderr")
    assert result(bench, alloc)["exit_code"] == 75


SHOWS = (
    "import json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ['MASTER_ADDR'], os.environ['MASTER_PORT']]))\n"
)
MODULES = {
    Launcher.TORCHRUN: "torch/distributed/run.py",
    Launcher.ACCELERATE: "accelerate/commands/launch.py",
    Launcher.DEEPSPEED: "deepspeed/launcher/launch.py",
}


def module(folder: Path, path: str) -> None:
    """A module that shows what it is told, in place of a launcher's."""
    file = folder / path
    file.parent.mkdir(parents=True)
    file.write_text(SHOWS)
    for package in file.parents:
        if package == folder:
            break
        (package / "__init__.py").touch()


@pytest.mark.parametrize("launcher", list(MODULES))
def test_launchers_are_told_where_the_members_meet(bench: Bench, tmp_path: Path, launcher: Launcher) -> None:
    module(tmp_path / "modules", MODULES[launcher])
    launch = Launch(launcher=launcher, nodes=2, nproc=4, args=("--log_dir=x",))
    plan = plan_for(tmp_path, "", launch=launch, env={"PYTHONPATH": str(tmp_path / "modules")})
    job_id = f"caravan-{launcher.value}"
    register(bench, plan, job_id)
    members = ended(bench, job_id)
    assert [result(bench, members[rank])["exit_code"] for rank in (0, 1)] == [0, 0]
    told = {rank: json.loads(said(bench, alloc)) for rank, alloc in members.items()}
    (first, address, port), (second, *place) = told[0], told[1]
    assert (place, address) == ([address, port], "127.0.0.1")
    places = {
        Launcher.TORCHRUN: [f"--master-addr={address}", f"--master-port={port}", "--nproc-per-node=4", "--nnodes=2"],
        Launcher.ACCELERATE: [
            f"--main_process_ip={address}",
            f"--main_process_port={port}",
            "--num_processes=8",
            "--num_machines=2",
            "--multi_gpu",
            "--deepspeed_multinode_launcher=standard",
        ],
        Launcher.DEEPSPEED: [f"--master_addr={address}", f"--master_port={port}"],
    }
    ranks = {Launcher.TORCHRUN: "--node-rank", Launcher.ACCELERATE: "--machine_rank", Launcher.DEEPSPEED: "--node_rank"}
    for rank, words in enumerate((first, second)):
        assert set(places[launcher]) <= set(words)
        assert f"{ranks[launcher]}={rank}" in words
        assert words[-2:] == ["--log_dir=x", "train.py"]
    if launcher is Launcher.DEEPSPEED:
        world = next(w.removeprefix("--world_info=") for w in first if w.startswith("--world_info="))
        assert json.loads(base64.urlsafe_b64decode(world)) == {"node-0": [0, 1, 2, 3], "node-1": [0, 1, 2, 3]}

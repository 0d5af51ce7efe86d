"""Memory, disk, shared memory and the right to write: limits that are really there and really exceeded."""

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import docker, inventory, node
from bench.scenarios.trainers import POINTS, line, reviews, rings
from caravan.values.failure import FailureClass

MEMORY, DISK, SHARED = FailureClass.HOST_MEMORY_OOM, FailureClass.DISK_FULL, FailureClass.SHM_TOO_SMALL
WRITE = FailureClass.OUTPUT_PERMISSION_DENIED

HELD = """
held = []
for block in range({blocks}):
    held.append(np.random.default_rng(block).bytes(1 << 20))
    if block % 8 == 7:
        time.sleep(0.05)
print(f"{{len(held)}} MB of augmented samples", flush=True)
"""
WORKERS = """
def load(rank, ready):
    rows = bytearray(os.urandom(1 << 20) * 40)
    ready.put((rank, len(rows)))
    time.sleep(1.5)

"""
START_WORKERS = """
if config.num_workers:
    ready = multiprocessing.Queue()
    loaders = [multiprocessing.Process(target=load, args=(n, ready)) for n in range(config.num_workers)]
    for loader in loaders:
        loader.start()
    for loader in loaders:
        loader.join()
        if loader.exitcode:
            raise RuntimeError(
                f"DataLoader worker (pid {loader.pid}) is killed by signal: Killed. "
            )
"""
SHARE = """
def fill(name, size):
    block = shared_memory.SharedMemory(name=name)
    for at in range(0, size, 4096):
        block.buf[at] = 1
    block.close()

"""
START_SHARE = """
if args.num_workers:
    size = args.num_workers * (40 << 20)
    block = shared_memory.SharedMemory(create=True, size=size)
    loader = multiprocessing.Process(target=fill, args=(block.name, size))
    loader.start()
    loader.join()
    block.close()
    block.unlink()
    if loader.exitcode:
        print(
            "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory "
            "(shm).",
            file=sys.stderr,
        )
        raise RuntimeError(f"DataLoader worker (pid {loader.pid}) is killed by signal: Bus error.")
"""
SCRATCH = '''"""A scratch file system of a fixed size, as the site has it, in a mount namespace of the process's own."""

import ctypes
import os

_NEWUSER, _NEWNS, _PRIVATE = 0x10000000, 0x00020000, 0x44000


def mount(place, megabytes):
    libc = ctypes.CDLL(None, use_errno=True)
    uid = os.getuid()
    if libc.unshare(_NEWNS) != 0:
        if libc.unshare(_NEWUSER | _NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "no mount namespace")
        with open("/proc/self/uid_map", "w") as file:
            file.write(f"0 {uid} 1")
    libc.mount(b"none", b"/", None, _PRIVATE, None)
    os.makedirs(place, exist_ok=True)
    if libc.mount(b"tmpfs", place.encode(), b"tmpfs", 0, f"size={megabytes}m".encode()) != 0:
        raise OSError(ctypes.get_errno(), "no scratch")
'''
SNAPSHOTS = """
snapshot = pathlib.Path("/tmp/scratch-slope") / f"checkpoint-{epoch}"
snapshot.write_bytes(bytes(1 << 20))
if args.save_total_limit:
    kept = sorted(snapshot.parent.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    for old in kept[: -args.save_total_limit]:
        old.unlink()
"""
CACHE = """
cache = pathlib.Path(args.cache_dir)
cache.mkdir(parents=True, exist_ok=True)
np.save(cache / "rows.npy", points)
"""

SCENARIOS = (
    Scenario(
        "memory-of-the-samples",
        MEMORY,
        Expected.FIXED,
        line(IMPORTS="import time", START=HELD.format(blocks=140)),
        inventory(),
        sets=("resources.memory_mb=96",),
        changed=("resources.memory_mb",),
        outputs=("model.json",),
    ),
    Scenario(
        "memory-twice-too-small",
        MEMORY,
        Expected.FIXED,
        reviews(IMPORTS="import time", START=HELD.format(blocks=300)),
        inventory(),
        sets=("resources.memory_mb=100",),
        changed=("resources.memory_mb",),
        outputs=("classifier.npy",),
        within=3,
    ),
    Scenario(
        "memory-of-the-loaders",
        MEMORY,
        Expected.FIXED,
        rings(
            "epochs: 8\nnum_workers: 6",
            IMPORTS="import multiprocessing\nimport time",
            BEFORE=WORKERS,
            START=START_WORKERS,
        ),
        inventory(),
        sets=("resources.memory_mb=200",),
        changed=("resources.memory_mb", "training.num_workers", "config_overlays"),
        outputs=("weights.npz",),
        within=3,
    ),
    Scenario(
        "memory-beyond-every-node",
        MEMORY,
        Expected.ESCALATED,
        reviews(IMPORTS="import time", START=HELD.format(blocks=420)),
        inventory(node("closet", memory_mb=200)),
        sets=("resources.memory_mb=200",),
        also=(FailureClass.PLACEMENT_RESOURCES_EXHAUSTED,),
    ),
    Scenario(
        "memory-that-python-runs-out-of",
        MEMORY,
        Expected.FIXED,
        line(
            IMPORTS="import os\nimport resource\nimport time",
            START="limit = int(os.environ['NOMAD_MEMORY_LIMIT']) << 20\n"
            "resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))" + HELD.format(blocks=150),
        ),
        inventory(),
        sets=("resources.memory_mb=128",),
        changed=("resources.memory_mb",),
        outputs=("model.json",),
    ),
    Scenario(
        "scratch-full-of-checkpoints",
        DISK,
        Expected.FIXED,
        {
            **line(
                "python train.py --epochs 24",
                IMPORTS="import scratch",
                OPTIONS='parser.add_argument("--save_total_limit", type=int, default=0, help="checkpoints kept")',
                START='scratch.mount("/tmp/scratch-slope", 10)',
                EPOCH=SNAPSHOTS,
            ),
            "scratch.py": SCRATCH,
        },
        inventory(),
        changed=("training.save_total_limit", "command", "flags"),
        outputs=("model.json",),
        within=3,
    ),
    Scenario(
        "device-that-is-full",
        DISK,
        Expected.ESCALATED,
        rings(SAVE='with open("/dev/full", "w") as mirror:\n    mirror.write("weights")'),
        inventory(node(disk_mb=2048)),
        changed=("resources.disk_mb",),  # no message names the place: the room that is there is tried once
    ),
    Scenario(
        "shared-memory-of-the-loaders",
        SHARED,
        Expected.FIXED,
        line(
            "python train.py --num-workers 4",
            IMPORTS="import multiprocessing\nimport sys\nfrom multiprocessing import shared_memory",
            BEFORE=SHARE,
            OPTIONS='parser.add_argument("--num-workers", type=int, default=2)',
            START=START_SHARE,
        ),
        inventory(node("box", drivers=docker("local/python:3.11"))),
        sets=("image=local/python:3.11", "shm_mb=64"),
        changed=("shm_mb", "training.num_workers"),
        outputs=("model.json",),
    ),
    Scenario(
        "cache-beside-read-only-data",
        WRITE,
        Expected.FIXED,
        line(
            "python train.py --data /data/points.csv --cache-dir /data/cache",
            OPTIONS='parser.add_argument("--cache-dir", default="cache", help="where parsed rows are kept")',
            READ=CACHE,
        ),
        inventory(
            node(
                "box",
                drivers=docker("local/python:3.11"),
                host_volumes={"datasets": {"path": "/srv/slope", "read_only": True, "files": {"points.csv": POINTS}}},
            )
        ),
        sets=(
            "image=local/python:3.11",
            'mounts=[{"kind": "host", "source": "datasets", "destination": "/data", "read_only": true}]',
        ),
        changed=("command", "training.options", "env", "flags"),
        outputs=("model.json",),
    ),
    Scenario(
        "written-where-nobody-may",
        WRITE,
        Expected.ESCALATED,
        reviews("python finetune.py --num-epochs 6", SAVE='(Path("/sys/kernel") / "reviews").mkdir()'),
        inventory(),
    ),
)

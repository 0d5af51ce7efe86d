"""Trainings that diverge, crash, hang, take too long, are interrupted, or hold an error of their own."""

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import inventory, node
from bench.scenarios.trainers import line, reviews, rings
from caravan.values.failure import FailureClass as F

WATCHED = """
if not np.isfinite(np.mean(losses)):
    raise FloatingPointError(f"loss is {np.mean(losses)} at epoch {epoch}, stopping")
"""
LOCKED = """
def work(lock, out):
    with lock:
        out.put(1)

"""
DEADLOCK = """
if args.num_workers:
    context = multiprocessing.get_context("fork")
    lock, out = threading.Lock(), context.Queue()
    lock.acquire()  # held by a thread of the parent when the loaders are forked
    loaders = [context.Process(target=work, args=(lock, out), daemon=True) for _ in range(args.num_workers)]
    for loader in loaders:
        loader.start()
    lock.release()
    print(f"waiting for {len(loaders)} data loader workers", flush=True)
    for _ in loaders:
        out.get()
"""
CRASHING = """
def decode(number):
    ctypes.string_at(0)

"""
CRASH = """
if args.num_workers:
    loader = multiprocessing.Process(target=decode, args=(0,))
    loader.start()
    loader.join()
    if loader.exitcode:
        raise RuntimeError(
            f"DataLoader worker (pid(s) {loader.pid}) exited unexpectedly: killed by signal: Segmentation fault."
        )
"""
LISTEN = """
server = socket.socket()
server.bind(("127.0.0.1", int(args.master_port)))
server.listen()
print("rendezvous at", args.master_port, flush=True)
"""
SLOW = """
if epoch < 3:
    time.sleep(4)
    print(f"epoch {epoch} done", flush=True)
"""
WORKERS = 'parser.add_argument("--num-workers", type=int, default=2, help="data loader processes")'

SCENARIOS = (
    Scenario(
        "rate-that-diverges",
        F.NUMERIC_DIVERGENCE,
        Expected.FIXED,
        line("python train.py --learning-rate 3.0 --epochs 400", EPOCH=WATCHED),
        inventory(),
        changed=("training.lr", "command", "training.max_grad_norm", "training.warmup"),
        outputs=("model.json",),
        within=3,
    ),
    Scenario(
        "rate-that-diverges-in-silence",
        F.NUMERIC_DIVERGENCE,
        Expected.FIXED,
        line("python train.py --learning-rate 2.2 --epochs 900"),
        inventory(),
        changed=("training.lr", "command", "training.max_grad_norm", "training.warmup"),
        outputs=("model.json",),
        within=3,
    ),
    Scenario(
        "name-that-is-misspelt",
        F.USER_CODE_BUG,
        Expected.ESCALATED,
        rings(EPOCH='if epoch == 3:\n    print("half way:", totl)'),
        inventory(),
    ),
    Scenario(
        "shapes-that-do-not-fit",
        F.USER_CODE_BUG,
        Expected.ESCALATED,
        line(START="np.zeros((3, 2)) @ np.zeros((3, 2))"),
        inventory(),
    ),
    Scenario(
        "something-nobody-knows",
        F.UNKNOWN,
        Expected.ESCALATED,
        reviews(IMPORTS="import sys", EPOCH='if epoch == 5:\n    sys.exit("valve 7 reports state 0x51")'),
        inventory(),
    ),
    Scenario(
        "loaders-that-hang",
        F.PROCESS_HANG,
        Expected.FIXED,
        line(
            "python train.py --num-workers 2",
            IMPORTS="import multiprocessing\nimport threading",
            BEFORE=LOCKED,
            OPTIONS=WORKERS,
            START=DEADLOCK,
        ),
        inventory(),
        sets=("limits.silence_s=12", "kill_timeout_s=5"),
        changed=("training.num_workers", "command", "env"),
        outputs=("model.json",),
    ),
    Scenario(
        "standing-still",
        F.PROCESS_HANG,
        Expected.ESCALATED,
        rings(IMPORTS="import threading", EPOCH="if epoch == 4:\n    threading.Event().wait()"),
        inventory(),
        sets=("limits.silence_s=10", "kill_timeout_s=5"),
        changed=("env", "retry_elsewhere"),  # loaders and locks are ruled out once: silence says no more
    ),
    Scenario(
        "loaders-that-crash",
        F.PROCESS_CRASH_NATIVE,
        Expected.FIXED,
        line(
            "python train.py --num-workers 2",
            IMPORTS="import ctypes\nimport multiprocessing",
            BEFORE=CRASHING,
            OPTIONS=WORKERS,
            START=CRASH,
        ),
        inventory(),
        changed=("training.num_workers", "command"),
        outputs=("model.json",),
    ),
    Scenario(
        "crash-of-the-program",
        F.PROCESS_CRASH_NATIVE,
        Expected.ESCALATED,
        reviews(IMPORTS="import ctypes", EPOCH="if epoch == 2:\n    ctypes.string_at(0)"),
        inventory(),
    ),
    Scenario(
        "port-that-is-taken",
        F.RENDEZVOUS_PORT_IN_USE,
        Expected.FIXED,
        line(
            "python train.py --master-port @PORT@",
            IMPORTS="import socket",
            OPTIONS='parser.add_argument("--master-port", default="29500")',
            START=LISTEN,
        ),
        inventory(),
        changed=("launch.master_port", "command", "training.options", "env", "flags"),
        outputs=("model.json",),
        also=(F.PORT_CONFLICT,),
    ),
    Scenario(
        "longer-than-approved",
        F.INTERRUPTED_EXTERNALLY,
        Expected.ESCALATED,
        line(
            "python train.py --epochs 4000",
            IMPORTS="import time",
            EPOCH='print(f"epoch {epoch}/{args.epochs} loss {np.mean(losses):.4g}", flush=True)\ntime.sleep(0.25)',
        ),
        inventory(),
        sets=("limits.max_run_s=15", "kill_timeout_s=3"),
        also=(F.RUN_TOO_LONG,),
    ),
    Scenario(
        "stopped-from-outside",
        F.NO_FAILURE,
        Expected.UNTOUCHED,
        line(IMPORTS="import time", EPOCH=SLOW),
        inventory(node("left"), node("right")),
        outputs=("model.json",),
        disturbed="epoch 1 done",
    ),
)

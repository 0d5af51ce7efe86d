"""Healthy trainings on a played card that look as if something were wrong: they must be left alone."""

from typing import Any, Final

from bench.scenario import Expected
from bench.scenarios.stand_in import gpu_node
from bench.scenarios.stand_in_trainers import hf, own, played
from caravan.values.failure import FailureClass

_4090: Final = gpu_node("desk", "NVIDIA GeForce RTX 4090", 24564)
_T4: Final = gpu_node("old", "Tesla T4", 15360)
_WELL: Final[dict[str, Any]] = {"expected": Expected.UNTOUCHED, "failure": FailureClass.NO_FAILURE}

_WORDS: Final = """
    print("If you see 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB', lower the "
          "batch; 'RuntimeError: CUDA error: device-side assert triggered' means a bad label.")"""
_RETRIES: Final = """
    import threading, time, traceback
    ready = threading.Event()
    threading.Timer(0.4, ready.set).start()
    while True:
        try:
            if not ready.is_set():
                raise RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment, e.g. "
                                   "changing env variable CUDA_VISIBLE_DEVICES after program start.")
            break
        except RuntimeError:
            traceback.print_exc()
            print("the driver is not ready yet, trying again", flush=True)
            time.sleep(0.25)"""
_EMULATED: Final = """
    if card.capability < (8, 0):
        print("UserWarning: bf16 is emulated on this card, which is slower. Tesla T4 with CUDA capability sm_75 has no "
              "native bfloat16.", flush=True)"""
_FINDS: Final = '''
def occupied(card, shape, args):
    """The largest batch that fits, as accelerate's find_executable_batch_size finds it."""
    size = args.batch_size
    while True:
        try:
            runtime.occupy(card, shape, batch=size, length=args.ctx, precision="bf16")
            return size
        except runtime.OutOfMemoryError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            card.used, size = 0, size // 2
            print(f"Decreasing batch size to: {size}.", flush=True)
'''


def _finding() -> str:
    text = own(batch=32, depth=24, dim=1536, length=1024)
    call = 'runtime.occupy(card, shape, batch=args.batch_size, length=args.ctx, precision="bf16")'
    return text.replace("\n\ndef main():", f"\n{_FINDS}\n\ndef main():", 1).replace(call, "occupied(card, shape, args)")


SCENARIOS: Final = (
    played(
        "control-plain", hf("gpt2", batch=4), "python train.py --bf16 --per_device_train_batch_size 4", _4090, **_WELL
    ),
    played("control-little-room", own(batch=4, length=2048), "python train.py", _4090, **_WELL),
    played("control-words-of-memory", hf("gpt2", batch=4, start=_WORDS), "python train.py --bf16", _4090, **_WELL),
    played("control-retries-itself", hf("gpt2", batch=4, start=_RETRIES), "python train.py --bf16", _4090, **_WELL),
    played(
        "control-emulated-bf16",
        own(batch=2, depth=12, dim=768, length=512).replace(
            "    card = runtime.start()", f"    card = runtime.start(){_EMULATED}"
        ),
        "python train.py",
        _T4,
        **_WELL,
    ),
    played("control-finds-its-batch", _finding(), "python train.py", _4090, **_WELL),
)

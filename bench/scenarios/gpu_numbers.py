"""Numbers that go wrong on a card, played: half precision that overflows, indices, positions, checkpoints."""

import json
from typing import Final

from bench.scenario import Expected
from bench.scenarios.stand_in import gpu_node
from bench.scenarios.stand_in_trainers import hf, played
from caravan.values.failure import FailureClass

_F: Final = FailureClass
_4090: Final = gpu_node("desk", "NVIDIA GeForce RTX 4090", 24564)
_T4: Final = gpu_node("old", "Tesla T4", 15360)
_SMALL: Final = "python train.py --per_device_train_batch_size 4"

_OVERFLOW: Final = """
    if args.fp16:
        plain = optimizer.step
        def scaled(gradients):
            scale = 65536.0
            halves = {n: runtime.half(g * scale) for n, g in gradients.items()}
            plain({n: g / scale for n, g in halves.items()})
        optimizer.step = scaled"""
_SCALER: Final = """
    if args.fp16:
        plain, scaler = optimizer.step, {"scale": 2.0**16, "skipped": 0}
        def scaled(gradients):
            halves = {n: runtime.half(g * args.loss_weight * scaler["scale"]) for n, g in gradients.items()}
            if any(abs(g) == float("inf") for g in halves.values()):
                scaler["scale"] /= 2
                print(f"| WARNING | gradient overflow detected, ignoring gradient, setting loss scale to: "
                      f"{scaler['scale']}", flush=True)
                if scaler["scale"] < 1e-4:
                    raise FloatingPointError(
                        "Minimum loss scale reached (0.0001). Your loss is probably exploding. Try lowering the "
                        "learning rate, using gradient clipping or increasing the batch size."
                    )
                return
            plain({n: g / scaler["scale"] / args.loss_weight for n, g in halves.items()})
        optimizer.step = scaled"""
_WEIGHT: Final = '\n    parser.add_argument("--loss_weight", type=float, default=1e12)'
_NAN: Final = """
    fit = one_epoch
    def checked(weights, optimizer):
        loss = fit(weights, optimizer)
        if loss != loss or loss > 1e6:
            raise ValueError(f"Training diverged: loss is {float('nan')} at {args.learning_rate}, stopping")
        return loss
    globals()["one_epoch"] = checked"""
_POSITIONS: Final = "\n    runtime.embed_positions(args.max_seq_length, shape.positions)"
_INDEX: Final = """
    vocabulary = json.loads(pathlib.Path("tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    highest = max(vocabulary.values())
    if highest >= shape.vocabulary:
        print("../aten/src/ATen/native/cuda/Indexing.cu:1284: indexSelectLargeIndex: block: [24,0,0], "
              "thread: [64,0,0] Assertion `srcIndex < srcSelectDimSize` failed.", flush=True)
        raise RuntimeError(
            "CUDA error: device-side assert triggered\\nCUDA kernel errors might be asynchronously reported at some "
            "other API call, so the stacktrace below might be incorrect.\\nFor debugging consider passing "
            "CUDA_LAUNCH_BLOCKING=1\\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."
        )"""
_RESUME: Final = '\n    parser.add_argument("--resume_from_checkpoint", default=None)'
_LOAD: Final = """
    if args.resume_from_checkpoint:
        kept = json.loads((pathlib.Path(args.resume_from_checkpoint) / "state.json").read_text())
        if kept["hidden_size"] != shape.width:
            raise RuntimeError(
                "Error(s) in loading state_dict for GPT2LMHeadModel:\\n\\tsize mismatch for transformer.wte.weight: "
                f"copying a param with shape torch.Size([50257, {kept['hidden_size']}]) from checkpoint, the shape in "
                f"current model is torch.Size([50257, {shape.width}])."
            )"""


def _after_shape(text: str, piece: str) -> str:
    return text.replace(
        "runtime.shape_of(args.model_name_or_path)\n", f"runtime.shape_of(args.model_name_or_path){piece}\n"
    )


def _before_steps(text: str, piece: str) -> str:
    return text.replace("lr=args.learning_rate)\n", f"lr=args.learning_rate){piece}\n", 1)


SCENARIOS: Final = (
    played(
        "fp16-overflows",
        _before_steps(_before_steps(hf("gpt2", batch=4), _OVERFLOW), _NAN),
        f"{_SMALL} --fp16",
        _4090,
        failure=_F.NUMERIC_DIVERGENCE,
        changed=("training.precision", "training.lr"),
    ),
    played(
        "loss-scale-at-its-least",
        _before_steps(hf("gpt2", batch=4, options=_WEIGHT), _SCALER),
        f"{_SMALL} --fp16",
        _4090,
        failure=_F.NUMERIC_DIVERGENCE,
        changed=("training.precision",),
    ),
    played(
        "loss-scale-on-an-old-card",
        _before_steps(hf("gpt2", batch=2, options=_WEIGHT), _SCALER),
        "python train.py --per_device_train_batch_size 2 --fp16",
        _T4,
        failure=_F.NUMERIC_DIVERGENCE,
        changed=("training.precision", "training.lr"),
    ),
    played(
        "learning-rate-too-high",
        _before_steps(hf("gpt2", batch=4), _NAN),
        f"{_SMALL} --bf16 --learning_rate 3.0",
        _4090,
        failure=_F.NUMERIC_DIVERGENCE,
        changed=("training.lr",),
    ),
    played(
        "users-learning-rate",
        _before_steps(hf("gpt2", batch=4), _NAN),
        f"{_SMALL} --bf16",
        _4090,
        failure=_F.NUMERIC_DIVERGENCE,
        sets=("training.lr=3.0",),
        expected=Expected.ESCALATED,
    ),
    played(
        "index-out-of-range",
        _after_shape(hf("gpt2", batch=4), _INDEX),
        _SMALL,
        _4090,
        failure=_F.INDEX_OUT_OF_RANGE,
        files={"tokenizer/tokenizer.json": json.dumps({"model": {"vocab": {"a": 0, "b": 1, "<pad>": 50257}}})},
        expected=Expected.ESCALATED,
    ),
    played(
        "longer-than-positions",
        _after_shape(hf("bert-base", batch=2, length=1024), _POSITIONS),
        "python train.py --per_device_train_batch_size 2 --max_seq_length 1024",
        _4090,
        failure=_F.INDEX_OUT_OF_RANGE,
        expected=Expected.ESCALATED,  # shorter sequences train something else: a person is asked
    ),
    played(
        "checkpoint-of-another-shape",
        _after_shape(hf("gpt2", batch=4, options=_RESUME), _LOAD),
        f"{_SMALL} --resume_from_checkpoint checkpoints/last",
        _4090,
        failure=_F.CHECKPOINT_UNUSABLE,
        files={"checkpoints/last/state.json": '{"hidden_size": 1024}'},
        changed=("training", "resume"),
    ),
)

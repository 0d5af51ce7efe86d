"""GPU memory that ran out: while the model was loaded, or in a step of a program that can't gather gradients."""

from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import FailureClass
from caravan.values.plan import TrainingPlan
from caravan.values.repo import ScriptOption
from tests.diagnosis.repair_scenes import diffs, facts, gpu, node, plan, profile, rungs

F = FailureClass
SAID = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22.06 GiB "
)
SAID += "of which 1.00 GiB is free.\n"
TO = """Traceback (most recent call last):
  File "/work/train.py", line 22, in <module>
    model = build(args.model).to("cuda")
  File "/usr/lib/python3/dist-packages/torch/nn/modules/module.py", line 1340, in to
    return self._apply(convert)
  File "/usr/lib/python3/dist-packages/torch/nn/modules/module.py", line 900, in _apply
    module._apply(fn)
"""
STEP = """Traceback (most recent call last):
  File "/work/train.py", line 60, in <module>
    loss = model(batch.to("cuda")).loss
  File "/usr/lib/python3/dist-packages/torch/nn/functional.py", line 125, in linear
    return torch.mm(x, w)
"""


def when(log: str) -> str | None:
    evidence = evidence_of_text(log.encode(), TextKind.TASK_STDERR)
    found = diagnose(evidence, TrainingPlan(goal="g", command=("train.py",)), ())
    assert found.failure is F.CUDA_OOM
    return found.details.get("when")


def test_the_frames_say_whether_the_weights_alone_were_too_much() -> None:
    assert when(TO + SAID) == "loading"
    assert when(STEP + SAID) is None
    assert when(TO + "RuntimeError: a first try\n" + "step done\n" * 20 + STEP + SAID) is None


def test_weights_that_do_not_fit_are_not_met_by_batches() -> None:
    start = plan({"resources.gpus": 1, "resources.gpu_model": "NVIDIA L4", "training.micro_batch": 8})
    where = facts(node(devices=(gpu("NVIDIA L4", 22),)), node("n2", devices=(gpu("NVIDIA A100-SXM4-80GB", 80),)))
    details = {"total_gib": "22.06", "free_gib": "1", "tried_gib": "2", "when": "loading"}
    found = diffs(rungs(F.CUDA_OOM, start, where, details=details), start)
    assert found[0] == {"resources.gpu_model": "NVIDIA A100-SXM4-80GB"}
    assert not any("training.micro_batch" in d or "training.grad_checkpointing" in d for d in found)


def test_a_batch_that_nothing_makes_up_for_comes_later_and_is_told() -> None:
    options = (
        ScriptOption(flag="--batch-size", type="int"),
        ScriptOption(flag="--gradient_checkpointing", type="bool"),
    )
    flags = {"training.micro_batch": "--batch-size", "training.grad_checkpointing": "--gradient_checkpointing"}
    start = plan({"resources.gpus": 1, "training.micro_batch": 8}, flags=flags)
    where = facts(node(devices=(gpu("NVIDIA L4", 22),)))
    found = rungs(F.CUDA_OOM, start, where, repo=profile(*options), details={"total_gib": "22.06"})
    first, second = diffs(found, start)[:2]
    assert "training.micro_batch" not in first
    assert first["training.grad_checkpointing"] is True
    assert second["training.micro_batch"] == 4
    assert "so that 4 samples make a step on each GPU" in found[1].why

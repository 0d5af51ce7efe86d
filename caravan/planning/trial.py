"""A training's setting as speed and time see it, where there is no plan. Pure."""

from caravan.planning.memory import Setting, trained_params
from caravan.planning.speed import Work
from caravan.values.plan import Launch, Resources, Training, TrainingPlan
from caravan.values.repo import Launcher
from caravan.values.shape import ModelShape


def trial_plan(
    setting: Setting,
    *,
    gpu: str | None = None,
    epochs: float | None = None,
    max_steps: int | None = None,
    checkpointing: bool | None = None,
) -> TrainingPlan:
    """A plan of which time and cost can be told, and which nobody could run: it has no program."""
    return TrainingPlan(
        goal="an estimate",
        command=("train",),
        launch=Launch(launcher=Launcher.TORCHRUN if setting.gpus > 1 else Launcher.PYTHON, nproc=setting.gpus),
        resources=Resources(gpus=setting.gpus, gpu_model=gpu),
        training=Training(
            micro_batch=setting.micro_batch,
            grad_accum=setting.grad_accum,
            max_len=setting.seq_len,
            epochs=epochs,
            max_steps=max_steps,
            grad_checkpointing=checkpointing,
        ),
    )


def trial_work(shape: ModelShape, setting: Setting) -> Work:
    """The setting as speed sees it, with sequences of their full length."""
    adapter = setting.method not in ("full", "freeze")
    return Work(
        shape=shape,
        full=setting.method == "full",
        rank=setting.lora_rank if adapter else 0,
        adapted=7 if "all" in setting.lora_targets else len(setting.lora_targets) or 7,
        dora=setting.method == "dora",
        trainable_b=trained_params(shape, setting) / 1e9,
        compute=setting.compute_dtype,
        quant_bits=setting.quant_bits,
        micro_batch=setting.micro_batch,
        seq_len=setting.seq_len,
        grad_accum=setting.grad_accum or 1,
        checkpointing=setting.grad_checkpointing,
        flash=setting.flash_attention,
        compiled=setting.compiled,
        fused_ce=setting.fused_ce,
        optimizer=setting.optimizer,
        gpus=setting.gpus,
        parallel=setting.parallel,
        offload=setting.offload,
    )

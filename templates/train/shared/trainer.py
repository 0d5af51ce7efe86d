"""What transformers' Trainer lacks: checkpoints that appear whole, metrics as JSON lines, an orderly end on SIGTERM and
where the loss is lost. This module imports torch and transformers."""

import argparse
import contextlib
import math
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from shared.files import sync, write_json
from shared.hardware import device_arguments
from shared.metrics import MetricLog
from shared.refusals import STOPPED, Diverged, note, writing
from shared.resume import BOUND, OURS

RENAMED = {
    "learning_rate": "lr",
    "mean_token_accuracy": "token_accuracy",
    "eval_mean_token_accuracy": "eval_token_accuracy",
}
LOGGED = ("loss", "lr", "grad_norm", "token_accuracy")
NOT_LOGGED = ("_runtime", "_per_second", "_num_tokens", "_time", "_entropy")
PARTS = f"{OURS}/writing"  # where nobody looks for a checkpoint


def training_arguments(
    args: argparse.Namespace, output: Path, numbers: str, *, evaluated: bool, resumed: bool
) -> dict[str, Any]:
    """The arguments of `TrainingArguments`, and of its kin, for the common options."""
    every = (
        {"eval_strategy": "steps", "eval_steps": args.eval_steps} if args.eval_steps > 0 else {"eval_strategy": "epoch"}
    )
    return {
        "output_dir": str(output),
        "num_train_epochs": args.epochs,
        "max_steps": args.max_steps if args.max_steps > 0 else -1,
        "per_device_train_batch_size": args.micro_batch,
        "per_device_eval_batch_size": args.micro_batch,
        "gradient_accumulation_steps": args.grad_accum,
        "learning_rate": args.lr,
        "lr_scheduler_type": args.scheduler,
        "warmup_steps": args.warmup,  # below 1 transformers takes it for a share
        "weight_decay": args.weight_decay,
        "max_grad_norm": args.max_grad_norm,
        "optim": args.optimizer,
        "seed": args.seed,
        "data_seed": args.seed,
        "logging_steps": args.logging_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # a loss that is no number must be seen
        "save_strategy": "steps",
        "save_steps": args.save_steps,
        "save_total_limit": args.save_total_limit,
        "disable_tqdm": True,
        "report_to": [],
        "eval_on_start": evaluated and not resumed,  # the base model's own loss
        **(every if evaluated else {"eval_strategy": "no"}),
        **device_arguments(args, numbers),
    }


class Stop:
    """SIGTERM: during the training it asks for a checkpoint and the end, at any other time it ends at once."""

    def __init__(self) -> None:
        self.asked = self.training = False
        signal.signal(signal.SIGTERM, self._told)

    def _told(self, *_: object) -> None:
        if self.asked or not self.training:
            raise SystemExit(STOPPED)
        self.asked = True


class Watch(TrainerCallback):
    """Logs metrics, stops where it is asked to or where the loss is lost.

    `base` is the evaluation before the first step, `latest` the last one, which was at step `evaluated_at`; `keep` is
    called once `base` is known, so that a later start need not measure it again.
    """

    def __init__(self, log: MetricLog, stop: Stop, *, stop_on_nan: bool = True) -> None:
        self.log, self.stop, self.stop_on_nan = log, stop, stop_on_nan
        self.base: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self.evaluated_at: int | None = None
        self.keep: Callable[[], object] = lambda: None
        self._begun = self._spent = 0.0
        self._steps = 0
        self._tokens: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """From here on a SIGTERM asks for a checkpoint."""
        self._tokens = state.num_input_tokens_seen
        self.stop.training = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step's time counts, what is between two steps (evaluation, checkpoints) does not."""
        self._begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint and the end where any process was told to stop."""
        self._spent += time.perf_counter() - self._begun
        self._steps += 1
        if _any_of_all(self.stop.asked, args):
            self.stop.asked = True
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Who was told to stop has no time for an evaluation."""
        control.should_evaluate = control.should_evaluate and not self.stop.asked

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What comes now can be done again: a SIGTERM ends it at once."""
        self.stop.training = False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """One line of metrics. Raises Diverged for a loss that is no number."""
        found = {RENAMED.get(name, name): value for name, value in (logs or {}).items()}
        row: dict[str, Any] = {"step": state.global_step, "epoch": round(found.get("epoch") or 0.0, 4)}
        if "loss" in found:
            row |= {name: found[name] for name in LOGGED if name in found}
            row |= self._speed(args, state)
        row |= {n: v for n, v in found.items() if n.startswith("eval_") and not n.endswith(NOT_LOGGED)}
        if len(row) > 2:
            self.log.write({RENAMED.get(name, name): _rounded(value) for name, value in row.items()})
        if self.stop_on_nan and not math.isfinite(found.get("loss", 0.0)):
            raise lost(f"the loss is {found['loss']}", state.global_step, found.get("lr"))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, Any] | None = None, **_: Any) -> None:
        """Keep what was measured: before the first step it is the base model's."""
        self.latest, self.evaluated_at = measured(metrics or {}), state.global_step
        if state.global_step == 0:
            self.base = self.latest
            self.keep()

    def _speed(self, args: Any, state: Any) -> dict[str, float]:
        """Samples and tokens in a second since the last line, of all processes together."""
        spent, steps, before = max(self._spent, 1e-9), self._steps, self._tokens or 0
        self._spent, self._steps, self._tokens = 0.0, 0, state.num_input_tokens_seen
        samples = steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        speed = {"samples_per_second": samples / spent}
        if state.num_input_tokens_seen:
            speed |= {"tokens_per_second": (state.num_input_tokens_seen - before) / spent}
            speed |= {"tokens": state.num_input_tokens_seen}
        return speed


def lost(what: str, step: int, rate: float | None) -> Diverged:
    """What is said of a training that has lost its numbers."""
    at = f" (learning rate {rate:.3g})" if rate is not None else ""
    return Diverged(f"{what} at step {step}{at}; a smaller --lr, a longer --warmup or --precision bf16 may help")


def measured(metrics: dict[str, Any]) -> dict[str, float]:
    """What an evaluation has measured, without what it took: `eval_loss` → `loss`."""
    mine = {
        n.removeprefix("eval_"): v for n, v in metrics.items() if n.startswith("eval_") and not n.endswith(NOT_LOGGED)
    }
    return {RENAMED.get(name, name): float(v) for name, v in mine.items() if isinstance(v, int | float)}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _any_of_all(asked: bool, args: Any) -> bool:
    """Whether any process says so: all must go on, or stop, at the same step."""
    if args.world_size == 1:
        return asked
    flag = torch.tensor([int(asked)], device=args.device)
    torch.distributed.all_reduce(flag)
    return bool(flag.item())


def of_all_processes(text: str) -> list[str]:
    """What each process says, in their order. To be called by all of them."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [text]
    found = [""] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, text)
    return found


class Whole:
    """For a Trainer (`class Mine(Whole, Trainer)`): a checkpoint is written aside and takes its name when all is there.

    `bound` is what a later start must share to go on from it. One with numbers that are none is never written.
    """

    bound: dict[str, Any] = {}  # noqa: RUF012
    _aside = False
    args: Any  # from here on what transformers' Trainer has
    state: Any
    control: Any
    model: Any
    accelerator: Any
    is_world_process_zero: Any
    is_local_process_zero: Any
    _get_learning_rate: Any
    _tr_loss: Any

    def _get_output_dir(self, trial: Any) -> str:
        output = super()._get_output_dir(trial)  # type: ignore[misc]
        return str(Path(output) / PARTS) if self._aside else output

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:  # gone on from the last checkpoint: nothing is left to learn
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._check_numbers()
        output = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        part, target = output / PARTS / name, output / name
        with writing(output):
            self._aside = True
            try:
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
            finally:
                self._aside = False
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                write_json(part / BOUND, self.bound)
                sync(part)
                shutil.rmtree(target, ignore_errors=True)
                part.rename(target)
                rotate_checkpoints(str(output), self.args.save_total_limit)
                for empty in (part.parent, part.parent.parent):
                    with contextlib.suppress(OSError):
                        empty.rmdir()
            self.accelerator.wait_for_everyone()
            if part.is_dir() and self.is_local_process_zero():  # of another machine with a disk of its own
                part.rename(target)

    def _check_numbers(self) -> None:
        """Raise Diverged where the loss or a trained weight is no number, in any process."""
        finite = bool(torch.isfinite(self._tr_loss).all())
        for weight in self.model.parameters():
            if finite and weight.requires_grad and weight.is_floating_point():
                local = weight.to_local() if hasattr(weight, "to_local") else weight
                finite = bool(torch.isfinite(local).all())
        if _any_of_all(not finite, self.args):
            raise lost("found NaN in the loss or the weights", self.state.global_step, self._get_learning_rate())

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The card is written once, at the end, beside the weights."""


def quiet(trainer: Trainer) -> None:
    """Leave stdout to the lines of metrics."""
    trainer.remove_callback(PrinterCallback)


def save_weights(trainer: Trainer, target: Path) -> None:
    """Write the trained weights and what loads them to a folder that appears whole. To be called by all processes."""
    part = target.with_name(f".{target.name}.part")
    if trainer.is_world_process_zero():
        shutil.rmtree(part, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    with writing(target.parent):
        trainer.save_model(str(part))
        trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():
            (part / "training_args.bin").unlink(missing_ok=True)  # a pickle; what it says is in run.json
            sync(part)
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
    trainer.accelerator.wait_for_everyone()


def clear_parts(output: Path) -> None:
    """Remove what a process that was killed left half written."""
    for part in (output / PARTS, *output.glob(".*.part")):
        if part.is_dir():
            note(f"{part.name} was left half written and is removed")
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)

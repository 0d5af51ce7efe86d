"""The course of a training, the same for each type that brings its own model and measure: go on from the newest
checkpoint, train, measure, save, say that it is done."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.files import check_room, read_json, usable_output, write_json
from shared.hardware import gpu_peak, is_main, precision
from shared.metrics import MetricLog
from shared.models import adapter_parameters, parameters_on_disk
from shared.records import write_card, write_done, write_run
from shared.refusals import STOPPED
from shared.resume import check_same, chosen, set_aside

SIDES = ("majority", "chance", "base", "tuned")
"""What evaluation.json compares: the best guess without a model, the base model, what was trained from it."""


@dataclass
class Course:
    """A training to be run. `about` is told of its data, `bound` must be the same for a later start to go on."""

    kind: str
    args: argparse.Namespace
    output: Path
    log: MetricLog
    about: dict[str, Any]
    bound: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, Any] = field(default_factory=dict)
    """For the model card."""
    also: Callable[[Path, str], None] | None = None
    """(folder of the weights, precision) → what a type writes besides; the first process alone calls it."""


Build = Callable[[str, Any, bool], Any]
"""(precision, watch, resumed) → the trainer."""
Measure = Callable[[Any, Any], dict[str, Any]]
"""(trainer, watch, which knows what the base was) → evaluation.json, of which `SIDES` go into the card."""


def begin(args: argparse.Namespace, make: Callable[[argparse.Namespace], Any]) -> tuple[Path, MetricLog, Any] | None:
    """(output folder, log, task): everything that is given was looked at, and told. None where no more was asked for.

    `make` gives the task, which has `about`. Raises Refused for what can't be trained on.
    """
    output = usable_output(args.output_dir)
    log = MetricLog(output, here=is_main())
    task = make(args)
    check_disk(args, output)
    log.say("data", **task.about)
    if args.check_only:
        log.say("checked", model=args.model, method=args.method)
        return None
    return output, log, task


def check_disk(args: argparse.Namespace, output: Path) -> None:
    """Raise Refused where there is no room for weights and checkpoints, as far as the model's size is known.

    Weights in fp32 take 4 bytes each, Adam's two moments 8 more in each checkpoint; one more is there while the oldest
    goes. An adapter is counted by its rank; a head beside it is little.
    """
    if not Path(args.model).is_dir():
        return
    full = args.method == "full"
    count = parameters_on_disk(args.model) if full else adapter_parameters(args.model, args.lora_rank)
    if count is not None:
        check_room(output, count * (4 + 12 * (args.save_total_limit + 1)), "what is written")


def train(course: Course, build: Build, measure: Measure) -> int:
    """Run the training from where it was left to its end, or to a SIGTERM. The script's exit code."""
    from transformers import set_seed

    from shared.trainer import Stop, Watch, clear_parts, of_all_processes

    args, output, log = course.args, course.output, course.log
    stop, numbers = Stop(), precision(args.precision)
    bound = {"type": course.kind, "model": args.model, "method": args.method, "seed": args.seed, **course.bound}
    if args.method != "full":
        bound |= {"lora_rank": args.lora_rank, "lora_targets": args.lora_targets}
    checkpoint = chosen(args.resume_from_checkpoint, output, bound)
    if is_main():
        clear_parts(output)
        set_aside(output, checkpoint)
        (output / "DONE.json").unlink(missing_ok=True)
        write_run(output, course.kind, args, course.about, precision=numbers, resumed_from=str(checkpoint or ""))
    watch = Watch(log, stop, stop_on_nan=args.stop_on_nan)
    before = read_json(output / "evaluation.json") if checkpoint else None
    watch.base = (before or {}).get("base") or {}
    watch.keep = lambda: write_json(output / "evaluation.json", {"base": watch.base}) if is_main() else None
    set_seed(args.seed)  # a new head is drawn
    trainer = build(numbers, watch, checkpoint is not None)
    trainer.bound = bound
    check_same(of_all_processes(checkpoint.name if checkpoint else ""), output)
    log.begin(int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    log.say("begin", resumed_from=checkpoint, method=args.method, precision=numbers, **sizes(trainer.model))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.asked:
        log.say("stopped", step=trainer.state.global_step)
        return STOPPED
    return _finish(course, trainer, measure(trainer, watch), numbers)


def _finish(course: Course, trainer: Any, found: dict[str, Any], numbers: str) -> int:
    """Save the weights, write what lies beside them, and last of all that it is done."""
    from shared.trainer import save_weights

    args, output, step = course.args, course.output, trainer.state.global_step
    target = output / ("model" if args.method == "full" else "adapter")
    save_weights(trainer, target)
    if not is_main():
        return 0
    if course.also is not None:
        course.also(target, numbers)
    if found:
        write_json(output / "evaluation.json", found)
    about = {
        "Method": args.method,
        "Steps": step,
        "Learning rate": args.lr,
        "Samples of an update": args.micro_batch * args.grad_accum * trainer.args.world_size,
        "LoRA rank": args.lora_rank if args.method != "full" else None,
        "Precision": numbers,
        "Seed": args.seed,
        "Data": f"{course.about['learned']} rows, SHA-256 {course.about['sha256']}",
        **course.lines,
    }
    results = {side: found[side] for side in SIDES if found.get(side)}
    library, tags = ("transformers", [course.kind]) if args.method == "full" else ("peft", [course.kind, "lora"])
    title = f"{Path(args.model).name}, fine-tuned"
    write_card(output, title=title, base=args.model, library=library, tags=tags, about=about, results=results)
    more = {"evaluation": found.get("tuned"), "data_sha256": course.about["sha256"], **gpu_peak()}
    write_done(output, target, step, **more)
    course.log.say("done", step=step, output=target)
    return 0


def sizes(model: Any) -> dict[str, int]:
    """How many parameters learn, of how many there are."""
    found = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"trainable": sum(n for n, on in found if on), "parameters": sum(n for n, _ in found)}

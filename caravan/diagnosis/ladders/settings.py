"""Against settings that contradict each other or the data, checkpoints that can't be used, and outputs not written.

Each row of `_CONTRADICTIONS` is a rule that a library states and prints; what is changed is the side that says least
about what is trained.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from caravan.diagnosis.ladders.case import Case, plain, same_name
from caravan.diagnosis.ladders.room import HERE
from caravan.values.base import Json
from caravan.values.failure import Repair

_LIKE: Final = 0.75
_STRATEGIES: Final = ("eval_strategy", "evaluation_strategy")
_LEAST_LENGTH: Final = 16
Values = Mapping[str, Json]


def contradiction(case: Case) -> Iterator[Repair]:
    """By the rule that the message states: strategies made equal, batches that divide, one precision, fewer samples."""
    yield from _as_wanted(case)
    for pattern, build in _CONTRADICTIONS:
        match = case.says(pattern)
        if match is not None:
            for values, why in build(case, match):
                yield from case.change(values, why)


def _as_wanted(case: Case) -> Iterable[Repair]:
    """The value that the message names for the option that it names."""
    option, want = case.detail("option").split(" ")[0], case.detail("want")
    known = case.profile.option(option) if option else None
    if known is None or not want or re.search(r"\s", want):
        return ()
    return case.change(case.heard({f"training.options.{known.flag}": want}), f"{known.flag} {want}, as the error says")


def _strategies(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    """The saving as the evaluation, which is needed to say which checkpoint is best; else none is called best."""
    now = next((v for n in _STRATEGIES if (v := _value(case, n)) is not None), None)
    if now is not None:
        yield case.as_option(now, "save_strategy"), f"checkpoints are saved as often as it is evaluated ({now})"
    saved = _value(case, "save_strategy")
    if saved is not None:
        yield case.as_option(saved, *_STRATEGIES), f"it is evaluated as often as checkpoints are saved ({saved})"
    yield case.as_option(False, "load_best_model_at_end"), "the last checkpoint is the result, not the best"


def _multiples(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    every = _value(case, "eval_steps")
    if every is not None:
        yield case.as_option(every, "save_steps"), f"checkpoints every {every} steps, as it is evaluated"
    yield case.as_option(False, "load_best_model_at_end"), "the last checkpoint is the result, not the best"


def _one_precision(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    wanted = "fp16" if case.outlook.bf16(case.plan) is False else "bf16"
    other = "bf16" if wanted == "fp16" else "fp16"
    yield case.as_option(False, other), f"{wanted} alone, not both"
    yield case.heard({"training.precision": wanted}), f"{wanted} alone, not both"


def _batch_product(case: Case, match: re.Match[str]) -> Iterator[tuple[Values, str]]:
    """DeepSpeed states the whole: samples of an update = samples of a GPU x accumulation x GPUs."""
    total, micro, _, world = (int(n) for n in match.groups())
    steps, rest = divmod(total, max(micro * world, 1))
    if rest == 0 and steps:
        yield case.heard({"training.grad_accum": steps}), f"{steps} steps of accumulation: {total} = {micro} x {world}"
    if total % world == 0:
        values: dict[str, Json] = {"training.micro_batch": total // world, "training.grad_accum": 1}
        yield case.heard(values), f"{total // world} samples per GPU make {total} on {world} GPUs"


_FIRST_NUMBER: Final = re.compile(r"(?<![\w.])\d{1,9}(?![\w.])")


def _divisible(case: Case, said: re.Match[str]) -> Iterator[tuple[Values, str]]:
    """A micro batch that divides the batch of an update."""
    training, ranks = case.plan.training, case.plan.launch.nproc * case.plan.launch.nodes
    named = _FIRST_NUMBER.search(said[0])  # `batch_size (30) must be divisible by micro_batch_size (8)`
    whole = training.global_batch or int(case.number("have") or 0) or (int(named[0]) if named else 0)
    micro = training.micro_batch or whole
    for size in range(min(micro, whole), 0, -1):
        if whole % (size * ranks) == 0 and size != micro:
            yield case.heard({"training.micro_batch": size}), f"micro batches of {size}, which divide {whole}"
            return


def _few_samples(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    """A smaller batch, where the data have fewer samples than one; the last part of the data is used too."""
    yield case.as_option(False, "dataloader_drop_last", "drop_last"), "the last, smaller batch is used too"
    if (case.plan.training.micro_batch or 2) > 1:
        values: dict[str, Json] = {"training.micro_batch": 1, "training.grad_accum": 1}
        yield case.heard(values), "batches of one: the data have fewer samples than a batch"


def _unused(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    yield case.as_option(True, "ddp_find_unused_parameters", "find_unused_parameters"), "parameters without a gradient"


def _twice(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    plain = '{"use_reentrant": false}'
    yield case.as_option(plain, "gradient_checkpointing_kwargs"), "checkpointing that marks a parameter once"
    yield case.as_option(False, "ddp_find_unused_parameters", "find_unused_parameters"), "parameters are marked once"
    if case.plan.training.grad_checkpointing:
        yield case.heard({"training.grad_checkpointing": False}), "without gradient checkpointing, at more GPU memory"


def _workers(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    none: dict[str, Json] = {"training.num_workers": 0}
    yield case.heard(none), "no loader processes, which those settings exclude"
    yield case.as_option(False, "persistent_workers", "dataloader_persistent_workers"), "loaders end with each epoch"


def _group_sizes(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    yield case.as_option(False, "group_by_length"), "samples in any order, not grouped by length"


def _longer(case: Case, _: re.Match[str]) -> Iterator[tuple[Values, str]]:
    """Sequences of up to the length that is needed, as far as it is known and the model takes it."""
    have, need, most = (int(case.number(name) or 0) for name in ("have", "want", "size"))
    wanted = -(-max(need, 2 * have if not need else have + 1) // _STEP) * _STEP
    wanted = min(wanted, most) if most else wanted
    if have and need <= wanted and wanted > have:
        yield (
            case.heard({"training.max_len": wanted}),
            f"sequences of up to {wanted} tokens, so that the rows are not cut",
        )


_STEP: Final = 64  # tokens: lengths that kernels like

_Build = Callable[[Case, re.Match[str]], Iterable[tuple[Values, str]]]
_CONTRADICTIONS: Final[tuple[tuple[str, _Build], ...]] = (
    (r"requires the save(?: and|_strategy).{0,60}strategy to match", _strategies),
    (r"save steps to be a round multiple of the eval", _multiples),
    (r"only one of fp16 and bf16|at most one of fp16 and bf16|fp16 and bf16.{0,40}(?:both|exclusive)", _one_precision),
    (r"gradient_acc\w*\s?\*\s?world_size\D{0,40}(\d+)\s?!=\s?(\d+)\s?\*\s?(\d+)\s?\*\s?(\d+)", _batch_product),
    (r"batch.{0,60}(?:divisible|multiple of|divide)", _divisible),
    (
        r"num_samples=0|has no (?:samples|length)|batch.{0,40}larger than the (?:dataset|number)|empty dataloader",
        _few_samples,
    ),
    (r"did not receive grad|find_unused_parameters=True|not used in producing (?:the )?loss", _unused),
    (r"mark a variable ready only once|marked as ready twice", _twice),
    (r"prefetch_factor option could only be specified|persistent_workers option needs", _workers),
    (r"group_by_length", _group_sizes),
    (r"all\b.{0,60}? longer than (?:--max-len|max_len) \d+", _longer),
)


def _value(case: Case, name: str) -> Json:
    """What the program is told for the option of that name, or its default."""
    option = case.profile.option(name)
    if option is None:
        return None
    told = next((v for flag, v in case.plan.training.options.items() if same_name(flag, option.flag)), None)
    words = case.outlook.words(case.plan)
    for before, word in zip(("", *words), words, strict=False):
        if same_name(before, option.flag) and before.startswith("-"):
            told = word
        elif same_name(word.partition("=")[0], option.flag) and "=" in word:
            told = word.partition("=")[2]
    return told if told is not None else option.default


def index(case: Case) -> Iterator[Repair]:
    """Shorter sequences where positions run out and the message says how many there are; ids are the user's."""
    size = int(case.number("size") or 0)
    longest = case.plan.training.max_len
    if case.detail("kind") == "position" and size >= _LEAST_LENGTH and (longest is None or longest > size):
        yield from case.change(case.heard({"training.max_len": size}), f"{size} positions, which the model has")


def checkpoint(case: Case) -> Iterator[Repair]:
    """From the run's own last whole checkpoint, else from the start; into a fresh place where the old one is found."""
    plan, given = case.plan, case.plan.training.resume_from
    if given is not None:
        why = f"not from {given}: from the last whole checkpoint of this run, or from the start"
        yield from case.change({"training.resume_from": None, **_untold(case, str(given))}, why)
    option = case.profile.option("resume_from_checkpoint", "resume_from", "resume", "resume_path", "ckpt_path")
    told = next((o for o in plan.training.options if option and same_name(o, option.flag)), None)
    if told:
        yield from case.change({f"training.options.{told}": None}, "from the start, without the checkpoint")
    if plan.resume is not None:
        yield from case.change({"resume": None}, "from the start, without the checkpoint")
    fresh = f"{HERE}/outputs-anew"
    if plan.training.output_dir != fresh:
        yield from case.change(case.heard({"training.output_dir": fresh}), "into a fresh directory, from the start")


def _untold(case: Case, given: str) -> dict[str, Json]:
    """The command without the option for the checkpoint, where it stands there: an unset field leaves it as it is."""
    flag, words = plain(case.plan.flag("training.resume_from") or "resume_from_checkpoint"), list(case.plan.command)
    for n, word in enumerate(words):
        name, joined, value = word.partition("=")
        if (
            plain(name) == flag
            and name.startswith("-")
            and (value if joined else "".join(words[n + 1 : n + 2])) == given
        ):
            return {"command": words[:n] + words[n + (1 if joined else 2) :]}
    return {}


def columns(case: Case) -> Iterator[Repair]:
    """The column that is there, told to the option that names the missing one."""
    missing = case.detail("column")
    there = [c.strip().strip("'\"") for c in case.detail("choices").split(",") if c.strip()]
    if not missing or not there:
        return
    near = difflib.get_close_matches(missing.casefold(), [c.casefold() for c in there], n=2, cutoff=_LIKE)
    best = [c for c in there if c.casefold() in near[:1]] if len(near) == 1 else there if len(there) == 1 else []
    for option in case.profile.options:
        if best and _value(case, option.flag) == missing:
            values = case.heard({f"training.options.{option.flag}": best[0]})
            yield from case.change(values, f"{option.flag} {best[0]}: the data have no column {missing}")


def nothing_saved(case: Case) -> Iterator[Repair]:
    """The option that says where to save, the one that makes the script save, saving at all."""
    plan = case.plan
    place = case.profile.option(*_PLACES)
    if place is not None and not plan.flag("training.output_dir"):
        yield from case.change({"flags.training.output_dir": place.flag}, f"{place.flag} says where it saves")
    for name in _SAVES:
        option = case.profile.option(name)
        if option is not None and _value(case, name) in (None, False, "False", "false"):
            yield from case.change(
                case.heard({f"training.options.{option.flag}": True}), f"{option.flag} makes it save"
            )
    if str(_value(case, "save_strategy")) == "no":
        yield from case.change(case.as_option("epoch", "save_strategy"), "a checkpoint after each epoch")


_PLACES: Final = (
    *("output_dir", "out_dir", "save_dir", "save_path", "output_path", "checkpoint_dir", "ckpt_dir", "model_dir"),
    *("save_to", "out", "output"),
)
_SAVES: Final = (
    "save_model",
    "do_save",
    "save",
    "save_final_model",
    "save_checkpoint",
    "save_checkpoints",
    "save_last",
)

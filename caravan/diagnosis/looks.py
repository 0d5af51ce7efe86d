"""Looks: what no single line shows, as small predicates over the lines of a log. Pure; rows name them.

Thresholds are physical where they can be (who holds a GPU's memory), else stated with their reason.
"""

import math
import re
from typing import Final

from caravan.diagnosis.details import gib
from caravan.diagnosis.series import HELD_OUT, STRETCH, losses
from caravan.diagnosis.sign import Seen, is_mild, is_warning
from caravan.diagnosis.tracebacks import own_frame

_EXCEPTION: Final = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|OutOfResources)\b|^(?:[a-z_]\w*\.)+[A-Z]\w+:"
)
_NUMERIC: Final = re.compile(r"\b(?:nan|inf|infinity|non-?finite|not finite|overflow)\b", re.IGNORECASE)
_WRAPPER: Final = re.compile(r"ChildFailedError|CalledProcessError|ProcessRaisedException|DistBackendError")

# A cross-entropy in nats: below 5 something was learnt, above 5 little is known; what it had learnt it does not lose
# by noise. Of a loss on another scale nothing is known but its ratio.
_CONFUSED: Final = 5.0
_LEARNT: Final = 2.5  # times
_BLOWN: Final = 10.0  # times


def _ended_otherwise(lines: tuple[str, ...]) -> bool:
    """Whether an exception that speaks of no number ended the program: then the losses are not why."""
    return any(_EXCEPTION.match(s) and not _NUMERIC.search(s) and not _WRAPPER.search(s) for s in lines)


def _values(lines: tuple[str, ...]) -> dict[str, list[tuple[float, int]]]:
    found: dict[str, list[tuple[float, int]]] = {}
    for index, line in enumerate(lines):
        if not is_warning(line):
            for name, value in losses(line.lower()):
                found.setdefault(name, []).append((value, index))
    return found


def lost_numbers(lines: tuple[str, ...]) -> Seen | None:
    """A loss whose last value is no finite number, in a log that no other exception ended."""
    if _ended_otherwise(lines):
        return None
    series = _values(lines)
    learnt = any(math.isfinite(values[-1][0]) for name, values in series.items() if not HELD_OUT.search(name))
    for name, values in series.items():
        if learnt and HELD_OUT.search(name) and not any(math.isfinite(value) for value, _ in values):
            continue  # it never was a number: nothing was measured there, and the training itself went on
        if not math.isfinite(values[-1][0]):
            first = next(index for value, index in values if not math.isfinite(value))
            return Seen((lines[first],), first, {"metric": name, **_step(lines[first])})
    return None


def blown_up(lines: tuple[str, ...]) -> Seen | None:
    """A loss that ends far above what it had come down to and stays there, in a log that no exception ended."""
    if _ended_otherwise(lines):
        return None
    for name, values in _values(lines).items():
        if len(values) < 2 * STRETCH or not all(math.isfinite(value) for value, _ in values):
            continue
        stretches = (values[start : start + STRETCH] for start in range(len(values) - STRETCH))
        least = max(min(stretches, key=lambda some: max(value for value, _ in some)))[0]
        last, index = min(values[-STRETCH:])
        wanted = max(_LEARNT * least, _CONFUSED) if 0 <= least < _CONFUSED else _BLOWN * abs(least)
        if last > wanted:
            return Seen((lines[index],), index, {"metric": name, **_step(lines[index])})
    return None


_STEP: Final = re.compile(r"\b(?:global_)?(?:step|iter(?:ation)?)s?['\"]?\s*[=:]?\s*(\d+)", re.IGNORECASE)


def _step(line: str) -> dict[str, str]:
    match = _STEP.search(line)
    return {"step": match[1]} if match else {}


_GROUP: Final = re.compile(r"Could not find '(?P<option>[\w.@-]+)/(?P<value>[\w./-]+)'$")


def no_such_group_option(lines: tuple[str, ...]) -> Seen | None:
    """Hydra's words on a group's option that is not there, with the options that it lists below."""
    for index, line in enumerate(lines):
        match = _GROUP.search(line)
        if match is None:
            continue
        head = f"Available options in '{match['option']}':"
        listed = []
        for below in lines[lines.index(head) + 1 :] if head in lines else ():
            if not below[:1].isspace():
                break
            listed.append(below.strip())
        return Seen((line,), index, {**match.groupdict(), **({"choices": ",".join(listed)} if listed else {})})
    return None


_SIZE = r"(\d+(?:\.\d+)? [KMGT]?i?B)"
_OOM: Final = re.compile(r"(?:CUDA|HIP) out of memory\. Tried to allocate")
_TOTAL: Final = re.compile(rf"total capacity of {_SIZE}|{_SIZE} total capacity")
_FREE: Final = re.compile(rf"of which {_SIZE} is free|{_SIZE} free")
_OWN: Final = re.compile(rf"this process has {_SIZE} memory in use")
_ALLOCATED: Final = re.compile(rf"{_SIZE} is allocated by PyTorch|{_SIZE} already allocated")
_RESERVED: Final = re.compile(rf"{_SIZE} is reserved by PyTorch|{_SIZE} reserved in total")
_CONTEXT_GIB: Final = 1.5  # what CUDA, cuBLAS and NCCL hold of their own beside the allocator's memory
_OTHERS: Final = 0.25  # share of the GPU in other hands from which on it is they who are too large


def held_by_others(lines: tuple[str, ...]) -> Seen | None:
    """A CUDA out-of-memory message by whose own figures another process holds much of the GPU."""
    for index, line in enumerate(lines):
        if not _OOM.search(line):
            continue
        total, free, own = _gib(_TOTAL, line), _gib(_FREE, line), _gib(_OWN, line)
        if own is None:
            allocated, reserved = _gib(_ALLOCATED, line), _gib(_RESERVED, line)
            if allocated is None or reserved is None:
                continue
            # "reserved in total" holds what is allocated, "reserved but unallocated" comes on top of it.
            own = (reserved if "reserved in total" in line else allocated + reserved) + _CONTEXT_GIB
        if total and free is not None and total - free - own > _OTHERS * total:
            return Seen((line,), index, {"total_gib": f"{total:g}", "free_gib": f"{free:g}"})
    return None


_USED: Final = re.compile(r"(?P<used>\d+) ?MiB ?[,/] ?(?P<all>\d+) ?MiB")
_NO_ROOM: Final = re.compile(r"(?i:out of memory|\bOOM when allocating|CUBLAS_STATUS_ALLOC_FAILED|failed to allocate)")


def used_before(lines: tuple[str, ...]) -> Seen | None:
    """The GPU's memory ran out, and nvidia-smi showed much of it in use although it does not know of the training.

    A program's own log holds nvidia-smi's figures from before its start or from after its end.
    """
    if not any(_NO_ROOM.search(line) for line in lines):
        return None
    for index, line in enumerate(lines):
        match = _USED.search(line)
        if match and int(match["used"]) > _OTHERS * int(match["all"]) > 0:
            total, free = int(match["all"]) / 1024, (int(match["all"]) - int(match["used"])) / 1024
            return Seen((line,), index, {"total_gib": f"{round(total, 2):g}", "free_gib": f"{round(free, 2):g}"})
    return None


def _gib(pattern: re.Pattern[str], line: str) -> float | None:
    match = pattern.search(line)
    text = gib(next((group for group in match.groups() if group), "")) if match else ""
    return float(text) if text else None


_BUG: Final = re.compile(
    r"\s*(?P<exception>(?:[\w.]+\.)?(?:Type|Attribute|Name|UnboundLocal|Key|Index|Value|Assertion|Runtime"
    r"|NotImplemented"
    r"|ZeroDivision|Syntax|Indentation|Tab|Recursion|StopIteration|Import|Pickling|Overflow|Lookup|Arithmetic|Einops"
    r"|Unsupported|Unicode\w+)(?:Error)?|Exception|EOFError(?=: EOF when reading a line))(?::|$)"
)
_ECHOED: Final = re.compile(
    r"nccl|NCCL|c10d|gloo|ProcessGroup|DistBackend|monitoredBarrier|Timed out waiting|wait timeout"
    r"|[Cc]onnection (?:reset|closed|refused|aborted)|Broken pipe|peer"
    r"|DataLoader"
    r" worker|Signals\.SIG"
)


def own_fault(lines: tuple[str, ...]) -> Seen | None:
    """An exception of Python's own kinds whose traceback goes through the repository's own code."""
    frame: re.Match[str] | None = None
    for index, line in enumerate(lines):
        if found := own_frame(line):
            frame = found
            continue
        match = _BUG.match(line)
        if match is None or frame is None:
            continue
        if _ECHOED.search(line):
            frame = None
            continue
        named = {name: text for name, text in frame.groupdict().items() if text}
        return Seen((frame.string.strip(), line), index, {"exception": match["exception"], **named})
    return None


_REFUSES: Final = re.compile(
    r"\s*File \"[^\"]*/(?:transformers/(?:training_args|trainer)\w*|transformers/(?:integrations|utils)/\w+"
    r"|trl/(?:\w+/)*\w+"
    r"|peft/(?:\w+/)*\w+|accelerate/(?:\w+/)*\w+|deepspeed/(?:runtime|utils|launcher)/(?:\w+/)*\w+"
    r"|(?:lightning|pytorch_lightning)/(?:\w+/)*(?:trainer|connectors|strategies|plugins|loops|utilities"
    r"|callbacks)/(?:\w+/)*\w+"
    r"|(?:axolotl|llamafactory|llmtuner|swift|torchtune|litgpt|unsloth|nemo|mmengine|ultralytics|fairseq|espnet2?)/"
    r"(?:(?!data)\w+/)*(?!data)\w+|megatron/(?:\w+/)*\w*arg\w*|torch/(?:utils/data|optim"
    r"|distributed/fsdp)/(?:\w+/)*\w+)\.py\", line"
)
_REFUSAL: Final = re.compile(r"(?:[\w.]+\.)?(?:ValueError|AssertionError|NotImplementedError|ZeRORuntimeException): \S")


def refused(lines: tuple[str, ...]) -> Seen | None:
    """A trainer's library raises by itself, in the code that reads what it was told: the last frame is a `raise`."""
    for index, line in enumerate(lines):
        if not _REFUSAL.match(line) or index < 2:
            continue
        raising = lines[index - 1].lstrip().startswith(("raise ", "assert "))
        if raising and _REFUSES.match(lines[index - 2]):
            return Seen((line,), index)
    return None


_SLOTS: Final = re.compile(r"to satisfy the (?P<want>\d+)\s+slots")
_GIVEN: Final = re.compile(r"\bslots=(?P<have>\d+)|(?:-H|--?host) \S+:\d|\bGPUs?\b")


_UNTOLD: Final = re.compile(r"\b(?:no|without) slots\b|\bslots\b=? (?:are |is |were )?not (?:given|set|told)")


def _tells_how_many(match: re.Match[str]) -> bool:
    return bool(match["have"])


def slots_wanted(lines: tuple[str, ...]) -> Seen | None:
    """MPI has not the slots that were asked for, although how many there are was said: they are too few."""
    for index, line in enumerate(lines):
        if "not enough slots available in the system" not in line:
            continue
        if any(_UNTOLD.search(other) for other in lines):
            return None
        given = max((match for other in lines if (match := _GIVEN.search(other))), key=_tells_how_many, default=None)
        asked = next((match for other in lines if (match := _SLOTS.search(other))), None)
        if given is None:
            return None
        named = {"want": asked["want"] if asked else "", "have": given["have"] or ""}
        return Seen((line,), index, {name: text for name, text in named.items() if text})
    return None


_STACK: Final = re.compile(
    r"^Thread \S+ \(idle\): \"MainThread\"|^(?:Current )?[Tt]hread 0x[0-9a-f]+ .*most recent call first"
)
_WAITS: Final = re.compile(
    r"\s+(?:select|poll|_poll|wait|get|acquire|join|recv|read|futex_wait\w*|pthread_cond_\w+|_try_get_data|_recv"
    r"|sem_wait"
    r"|do_futex_wait\w*|lock_wait\w*|__lll_lock_wait\w*) \((?P<where>[^)]+)\)"
)


def hanging_stacks(lines: tuple[str, ...]) -> Seen | None:
    """The stacks of a process whose main thread waits, in a log that no exception ended."""
    if any(_EXCEPTION.match(line) for line in lines):
        return None
    for index, line in enumerate(lines):
        if _STACK.match(line):
            waits = next((match for below in lines[index + 1 :] if (match := _WAITS.match(below))), None)
            return Seen((line,), index, {"where": waits["where"]} if waits else {})
    return None


_BAD: Final = re.compile(
    r"\b(?:FATAL|CRITICAL|fatal error|[Kk]illed|[Aa]borted|core dumped|Traceback|panic)\b"
    r"|\b(?:exit(?:ed)?|exitcode|status|rc|return(?:ed)?(?: code)?|exit code)\b\W{0,6}(?:with )?(?:code "
    r"|status )?-?[1-9]\d*\b"
    r"|^\W{0,2}(?:ERROR|Error|error)\b(?!: pip's dependency resolver)|\|\s*ERROR\s*\||\bERROR\b:?\s+(?!pip's)[^\s/]"
    r"|- ERROR -"
)
_GOES: Final = re.compile(
    r"\d{1,3}%\|.*\d+/\d+|\b(?:step|iter(?:ation)?|epoch|update|batch|it)s?\b['\"\]\s=:\[#]{0,4}\d+"
    r"|\b\d+/\d+\b.{0,80}(?:loss|ETA|it/s|s/it)"
    r"|\bloss['\"]?\s*[=:]?\s*-?\d|[\d.]+\s?(?:it/s|s/it|tok(?:en)?s?/s|samples/s)|\[\d+/\d+\]",
    re.IGNORECASE,
)
_WELL: Final = re.compile(
    r"'train_runtime'|\btrain_runtime\b|`Trainer\.fit` stopped: `max_|\b(?:exit(?:ed)?|exit code|status|rc"
    r"|return code)\b\W{0,6}(?:with )?(?:code |status )?0\b"
    r"|\b(?:training|train|run|job|fine-?tuning|fit|evaluation|all)\b.{0,30}\b(?:complete[d]?|finished|done|ended"
    r"|succeeded|successful(?:ly)?)\b"
    r"|\b(?:finished|completed|done)\b.{0,30}\b(?:training|epochs?|steps?|run)\b|\b(?:sav(?:ed|ing)|wr(?:ote"
    r"|itten))\b.{0,40}\b(?:model|weights|adapter|checkpoint)\b"
    r"|Model weights saved in|wandb: .*(?:View run|Synced)",
    re.IGNORECASE,
)
_ENDED: Final = re.compile(
    r"\btrain_runtime\b|`Trainer\.fit` stopped: `max_|\b(?:exit(?:ed)?|exit code|status|rc"
    r"|return code)\b\W{0,6}(?:with )?"
    r"(?:code |status )?0\b|\b(?:training|fine-?tuning)\b.{0,20}\b(?:completed?|finished|done|ended)\b",
    re.IGNORECASE,
)
# A complaint that says of itself that it is none; where it stood among the steps is not told by the lines' order.
_GOES_WITHOUT: Final = re.compile(
    r"(?i:\b(?:continu|proceed|carry|go)(?:ing|es)?(?: on)? (?:without|anyway|regardless)\b|\bnot (?:fatal|critical)\b)"
)


def _bad(lines: tuple[str, ...]) -> list[str]:
    """The lines that speak of an end."""
    return [s for s in lines if _BAD.search(s) and not is_mild(s) and not _GOES_WITHOUT.search(s)]


_LAST: Final = 6  # lines at the end that tell whether it went on


def goes_on(lines: tuple[str, ...]) -> Seen | None:
    """A training that ended well, or whose steps went on to the end of its log: nothing in it is an end."""
    if any(_EXCEPTION.match(line) and not is_warning(line) for line in lines):
        return None
    if _bad(lines):
        return None
    for index in range(len(lines) - 1, max(-1, len(lines) - 1 - _LAST), -1):
        if _WELL.search(lines[index]) or _GOES.search(lines[index]):
            return Seen((lines[index],), index)
    return None


def ended_well(lines: tuple[str, ...]) -> Seen | None:
    """A training that says that it came to its end, in a log that nothing else ended."""
    found = goes_on(lines)
    for index in range(len(lines) - 1, max(-1, len(lines) - 1 - _LAST), -1):
        if found and _ENDED.search(lines[index]):
            return Seen((lines[index],), index)
    return None


# What a plan wants to be written, and words on its absence.
_OUTPUTS: Final = re.compile(
    r"(?i:\b(?:planned |expected )?outputs?\b|\bartifacts?\b|\bweights\b|\bcheckpoints?\b|\bmodel files?\b"
    r"|\badapters?\b"
    r"|\bout(?:put)?[_ ]?dir|\*\*|\*\.(?:safetensors|ckpt|bin|pth?|h5|keras|msgpack)|/alloc/)"
)
_ABSENT: Final = re.compile(
    r"(?i:\b0 (?:files?|match\w*|artifacts?|checkpoints?|weights|objects?|bytes|outputs?|found)\b"
    r"|\bno (?:\w+ )?(?:files?|match\w*|weights|checkpoints?|artifacts?|models?|outputs?|safetensors|such file)\b"
    r"|\bempty\b|\b(?:does not|doesn't|did not|didn't) (?:exist|appear|write|contain)\b"
    r"|\b(?:is|are|was|were|:|->) ?missing\b|\bmissing\s*$"
    r"|\bnot (?:found|there|present|written|created|produced)\b"
    r"|\b(?:found|matche[sd]|contains|collected|uploaded|wrote)\W{1,3}(?:nothing|none|no)\b"
    r"|\bnothing (?:match\w*|found|there|under"
    r"|in|at|was|to (?:upload|collect|copy|archive|register|deliver))\b|: none\b|\bwithout (?:weights"
    r"|checkpoints?|a model)\b"
    r"|\bcontains? only\b|\bonly (?:contains|holds|logs)\b|\bcannot access\b)"
)
_LISTED: Final = re.compile(r"^[$+#>] ?(?:ls|find|du|tree)\b.*/")
_NOTHING_LISTED: Final = re.compile(r"^total 0$|^0 directories, 0 files$|^\(empty\)$|^\(no (?:files|output)\)$")
_UNSAVED: Final = re.compile(
    r"(?i:\bsave_strategy\b['\"]?\W{1,3}(?:\w+\.)?no\b|\benable_checkpointing\W{1,3}False"
    r"|\bcheckpointing (?:is )?disabled"
    r"|\b(?:not saving|saving (?:is )?(?:disabled|turned off|skipped)|skip(?:ping"
    r"|ped) (?:the )?(?:final )?(?:save|saving"
    r"|checkpoint))\b|\bno (?:output_dir|save_dir|save path)\b)"
)
_SAVED: Final = re.compile(
    r"(?i:\b(?:sav(?:ed|ing)|wr(?:ote|itten|iting)|stor(?:ed|ing)|upload(?:ed|ing))\b.{0,60}(?:model|weights"
    r"|adapter|checkpoint|/))"
)
_AFTER_END: Final = 12  # lines at the end that speak of what a run left behind


def nothing_written(lines: tuple[str, ...]) -> Seen | None:
    """A training that ended well, and a line after it that says that its outputs are not where they were planned."""
    if any(_EXCEPTION.match(line) and not is_warning(line) for line in lines):
        return None
    last = lines[-_AFTER_END:]
    empty = any(_LISTED.search(line) for line in last)
    absent = [s for s in last if (_OUTPUTS.search(s) and _ABSENT.search(s)) or (empty and _NOTHING_LISTED.search(s))]
    if any(_BAD.search(line) and not is_mild(line) for line in lines if line not in absent):
        return None
    if absent and any(_ENDED.search(line) for line in lines):
        return Seen(tuple(absent), lines.index(absent[0]))
    return None


def nothing_saved(lines: tuple[str, ...]) -> Seen | None:
    """A training that ended well, that was told to save nothing, and that speaks of nothing that it saved."""
    if ended_well(lines) is None or any(_SAVED.search(line) for line in lines):
        return None
    unsaved = next((index for index, line in enumerate(lines) if _UNSAVED.search(line)), None)
    return Seen((lines[unsaved],), unsaved) if unsaved is not None else None


_TERMINATED: Final = re.compile(r"^Terminated: (?:.*\b)?Exit Code: (?P<code>\d+)")
_ENDS: Final = ("Kill", "Alloc Unhealthy", "Not Restarting", "Sibling", "Leader", "Restart Signaled", "Disconnected")


def ended_as_told(events: tuple[str, ...]) -> Seen | None:
    """A task whose last start was followed by the exit code 0 and by nobody who ended it; or that still runs."""
    started = max((n for n, event in enumerate(events) if event.startswith("Started")), default=-1)
    after = events[started + 1 :]
    if started < 0 or any(event.startswith(_ENDS) for event in events):
        return None
    codes = [match["code"] for event in events if (match := _TERMINATED.match(event))]
    if any(event.startswith("Terminated") for event in after):
        ended = next(event for event in after if event.startswith("Terminated"))
        return Seen((ended,), events.index(ended)) if codes[-1:] == ["0"] and "OOM" not in ended else None
    troubled = any(event.startswith(("Driver Failure", "Failed Artifact", "Setup Failure")) for event in after)
    troubled = troubled or any(event.startswith("Terminated") for event in events)
    return None if troubled else Seen((events[started],), started)

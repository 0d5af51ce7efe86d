"""How a training goes on from a checkpoint: found in the profile, written for the job, and bound to what it trains.

Pure. What is in the output directory is looked at on the node (`templates/resume.py`).
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from caravan.planning.command import set_flag
from caravan.values.base import Json
from caravan.values.guarded import program_of
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import Author, PlanChange, Resume, TrainingPlan
from caravan.values.repo import Launcher, RepoProfile, ScriptOption

_PATH_OPTIONS: Final = (
    *("resume_from_checkpoint", "resume_from", "resume_path", "resume_checkpoint", "resume_ckpt", "resume"),
    *("ckpt_path", "checkpoint_path", "load_checkpoint", "restore_from", "from_checkpoint"),
)
"""Options that take a checkpoint to go on from, as parsers commonly spell them."""
_HELP: Final = re.compile(r"(?i)resum|continue|restore")
_FREE: Final = re.compile(
    r"(?i)log|sav|eval|report|worker|wandb|project|run_?name|timeout|verbose|progress|max_?steps|epochs|prefetch|resum"
    r"|push|hub|output|out_?dir|checkpointing|batch_size|accumul"
)
"""Further options that a checkpoint is not bound to: how often something is told, how long it trains, where to."""


def resume_changes(plan: TrainingPlan, profile: RepoProfile) -> tuple[PlanChange, ...]:
    """How the plan's program goes on, as a change by the repository; nothing where that is not known."""
    if not plan.flags and profile.options and plan.set_by("command") in (Author.USER, Author.ANSWER):
        return ()  # a person's own program: what was found is another's
    found = find_resume(profile)
    if found is None:
        return ()
    resume, why = found
    lines = profile.evidence.get("checkpoints", ())
    where = f"{lines[0].file}:{lines[0].line}: " if lines else ""
    return (PlanChange(path="resume", value=resume.model_dump(mode="json"), by=Author.REPOSITORY, why=where + why),)


def find_resume(profile: RepoProfile) -> tuple[Resume, str] | None:
    """How the repository's program goes on from a checkpoint, and why that is believed; None where it is not known.

    Only where it writes checkpoints as it goes on, and says how it takes one up.
    """
    if profile.launcher in (Launcher.BASH, Launcher.NOTEBOOK, Launcher.NONE):
        return None  # what they are given does not reach the program as an option
    return _framework(profile) or _trainer(profile) or _lightning(profile) or _own(profile)


def _framework(profile: RepoProfile) -> tuple[Resume, str] | None:
    """Programs that are configured by a file: their own options stand over it."""
    words = (profile.launch_command or "").split()
    configured = any(w.endswith((".yaml", ".yml", ".json")) for w in words)
    name = profile.cli_name or ""
    if name == "axolotl" or any(w.startswith("axolotl.cli.train") for w in words):
        return Resume(kind="trainer", flag="--resume-from-checkpoint"), "axolotl's option"
    factory = name in ("llamafactory-cli", "lmf") or any("llamafactory" in w for w in words)
    if factory or "llamafactory" in profile.libraries:
        # Beside a file it takes `key=value`, else the trainer's options.
        flag = "resume_from_checkpoint" if configured else "--resume_from_checkpoint"
        return Resume(kind="trainer", flag=flag), "LLaMA-Factory's option"
    if name == "tune" or any(w.startswith("torchtune") for w in words):
        resume = Resume(kind="files", flag="resume_from_checkpoint=True", auto=True, pattern="epoch_*")
        return resume, "torchtune's option"
    return None


def _trainer(profile: RepoProfile) -> tuple[Resume, str] | None:
    habit = profile.checkpoints
    if habit is None or habit.kind != "trainer" or habit.taken_up is None:
        return None
    strategy = profile.option("save_strategy")
    if strategy is not None and strategy.default in ("no", False):
        return None
    option = profile.option("resume_from_checkpoint", "resume_from")
    if habit.taken_up == "argument" and option is not None and not _is_switch(option):
        return Resume(kind="trainer", flag=option.flag), "Trainer goes on from the one that its option names"
    if habit.taken_up == "argument" and option is None and profile.config_files:
        return Resume(kind="trainer"), "Trainer goes on from the one that it is given, by a config file's key"
    if habit.taken_up == "itself":
        return Resume(kind="trainer", auto=True), "the program looks for the Trainer's last one"
    return None


def _lightning(profile: RepoProfile) -> tuple[Resume, str] | None:
    habit = profile.checkpoints
    if habit is None or habit.kind != "lightning" or habit.taken_up is None:
        return None
    option = profile.option("ckpt_path", *_PATH_OPTIONS)
    if option is not None and not _is_switch(option):
        return Resume(kind="lightning", flag=option.flag), "Lightning goes on from the one that its option names"
    if habit.taken_up == "itself":
        return Resume(kind="lightning", auto=True), "the program goes on from Lightning's last one"
    return None


def _own(profile: RepoProfile) -> tuple[Resume, str] | None:
    """Code of its own that writes checkpoints, with an option for going on."""
    habit = profile.checkpoints
    if habit is None or habit.kind != "files" or not habit.names:
        return None
    pattern = habit.names[0]
    start = profile.option("init_from")
    if start is not None and ("resume" in start.choices or "resume" in start.help or start.default == "scratch"):
        flag = f"{start.flag}=resume"
        return Resume(kind="files", flag=flag, auto=True, pattern=pattern), f"{flag} goes on from its last one"
    for name in _PATH_OPTIONS:
        option = profile.option(name)
        if option is None or (not name.startswith("resume") and not _HELP.search(option.help)):
            continue
        if _is_switch(option):
            resume = Resume(kind="files", flag=option.flag, auto=True, pattern=pattern)
            return resume, f"{option.flag} goes on from its last one"
        return Resume(kind="files", flag=option.flag, pattern=pattern), f"{option.flag} takes one to go on from"
    return None


def _is_switch(option: ScriptOption) -> bool:
    return isinstance(option.default, bool) or (option.type or "").lower() in ("bool", "flag", "store_true", "switch")


# ---- in the job


def goes_on(plan: TrainingPlan) -> bool:
    """Whether a later attempt of the plan can go on from what an earlier one wrote."""
    return _is_told(plan) and plan.outputs.kind != "allocation" and plan.launch.launcher is not Launcher.NOTEBOOK


def _is_told(plan: TrainingPlan) -> bool:
    resume = plan.resume
    return resume is not None and (resume.auto or resume.flag is not None or config_key(plan) is not None)


def config_key(plan: TrainingPlan) -> tuple[str, str] | None:
    """The config file and the key in it that take the checkpoint's path, where no option does."""
    resume, key = plan.resume, plan.config_keys.get("training.resume_from")
    return (key.path, key.key) if resume is not None and not resume.auto and not resume.flag and key else None


def resume_words(resume: Resume) -> tuple[str, bool]:
    """The last word's beginning before the checkpoint's path, and whether the path is a word of its own.

    `("--resume", True)`: `--resume PATH`; `("resume=", False)`: `resume=PATH`. With `auto` the word stands alone.
    """
    flag = resume.flag or ""
    return (flag, True) if resume.auto or not flag or flag.startswith("-") else (f"{flag}=", False)


def without_checkpoint(plan: TrainingPlan, words: tuple[str, ...]) -> tuple[str, ...]:
    """The command without the switch of `auto`, which is given only where there is a checkpoint."""
    resume = plan.resume
    if resume is None or not resume.auto or not resume.flag or "=" in resume.flag:
        return words
    return set_flag(words, resume.flag, False)


_SHORT_S: Final = 900
"""Seconds of a training of which it needs no word that an interruption would lose it."""


def starts_anew(plan: TrainingPlan, facts: ClusterFacts, seconds: float | None) -> tuple[str, ...]:
    """What a person is told at approval of a training that can't go on after an interruption.

    `seconds`: how long it may take as far as that is known.
    """
    if seconds is not None and seconds < _SHORT_S:
        return ()
    if not _is_told(plan):
        return (
            "the training can't go on after an interruption: it starts anew (the repository does not say how it goes "
            "on from a checkpoint; --set resume tells it)",
        )
    if plan.outputs.kind == "allocation" and facts.kind is ClusterKind.NOMAD:
        return (
            "the training can't go on after an interruption: its checkpoints vanish with the allocation, so it starts "
            "anew",
        )
    return ()


# ---- what a checkpoint is bound to


def lineage(plan: TrainingPlan) -> dict[str, Json]:
    """What a checkpoint of this plan can be loaded into: another value of any of these starts the training anew.

    Where optimizer or model are spread over the processes (ZeRO, FSDP) their number counts too. Batch and
    accumulation count as their product with the processes: what they make together is what steps are counted in. How
    long it trains counts where a repair has said it.
    """
    training = plan.training
    found: dict[str, Json] = {
        "model": plan.model.id,
        "model revision": plan.model.revision,
        "data": plan.dataset.path,
        "data format": plan.dataset.format,
        "program": program_of(plan.command),
    }
    named = ("method", "lora_rank", "optimizer", "precision", "quant_bits", "max_len", "lr", "warmup")
    found |= {name: getattr(training, name) for name in (*named, "max_grad_norm", "seed", "resize_embeddings")}
    world = plan.launch.nproc * plan.launch.nodes
    if training.micro_batch is not None:
        found["batch of an update"] = training.micro_batch * (training.grad_accum or 1) * world
    elif world > 1:
        found["processes"] = world
    if _sharded(plan):
        found["processes"] = world
    # A checkpoint beyond the best place is none to begin from: another length by a repair begins anew. A person's own
    # goes on: more epochs of the same training are what they ask for.
    lengths = ("training.epochs", "training.max_steps")
    found |= {path.partition(".")[2]: plan.get(path) for path in lengths if plan.set_by(path) is Author.REPAIR}
    found |= dict(_options(plan))
    return {name: value for name, value in found.items() if value is not None}


def _sharded(plan: TrainingPlan) -> bool:
    words = " ".join((*plan.launch.args, *plan.command, *plan.training.options)).lower()
    return plan.launch.launcher is Launcher.DEEPSPEED or any(w in words for w in ("deepspeed", "fsdp", "zero"))


def _options(plan: TrainingPlan) -> Iterator[tuple[str, Json]]:
    """Further options and laid-over keys that may say what the model is."""
    known = {flag.lstrip("-").replace("-", "_") for flag in plan.flags.values()}
    for flag, value in plan.training.options.items():
        name = flag.lstrip("-").replace("-", "_")
        if name not in known and not _FREE.search(name):
            yield flag, value
    keys = {(key.path, key.key) for key in plan.config_keys.values()}
    for overlay in plan.config_overlays:
        if overlay.text is not None:
            yield overlay.path, overlay.text
        for name, value in overlay.values.items():
            if (overlay.path, name) not in keys and not _FREE.search(name):
                yield f"{overlay.path} {name}", value


def lineage_text(plan: TrainingPlan) -> str:
    """The lineage as the job is given it."""
    return json.dumps(lineage(plan), sort_keys=True)


def incompatible(before: TrainingPlan, after: TrainingPlan) -> tuple[str, ...]:
    """Why a checkpoint of the one can't be taken up by the other, one reason for each; empty: it can."""
    a, b = lineage(before), lineage(after)
    return tuple(
        f"{name} {_text(a.get(name))} → {_text(b.get(name))}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    )


def _text(value: Json) -> str:
    return "unset" if value is None else str(value)[:80]


# ---- how far it came

_STEP_OF: Final = re.compile(r"(?i)\bstep[s: ]{1,3}(\d{1,9})\s*/\s*(\d{1,9})\b")
_BAR: Final = re.compile(r"\|\s*(\d{1,9})/(\d{1,9})\s*\[")
_SAVED: Final = re.compile(r"(?i)(?:checkpoint|ckpt|step)[-_=]?0*(\d{1,9})\b")
_SAVING: Final = re.compile(r"(?i)sav(?:ed|ing)|checkpoint")


def done_share(log: str) -> float | None:
    """The share of the training that the last checkpoint holds, by its log; None where the log does not say.

    It needs the number of all steps (`step 30/100`, or a progress bar) and a line that says which step was saved.
    """
    total, saved = 0, 0
    for line in log.splitlines():
        for match in (*_STEP_OF.finditer(line[:2000]), *_BAR.finditer(line[:2000])):
            total = int(match[2])
        if _SAVING.search(line[:2000]):
            steps = [int(m[1]) for m in _SAVED.finditer(line[:2000])]
            saved = steps[-1] if steps else saved
    return saved / total if 0 < saved <= total else None


def checkpoint_pattern(plan: TrainingPlan) -> str:
    """What the training's checkpoints are called, below its output directory; empty where that is not known."""
    if plan.resume is None:
        return ""
    return plan.resume.pattern or {"trainer": "checkpoint-*", "lightning": "*.ckpt"}.get(plan.resume.kind, "")

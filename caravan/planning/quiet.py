"""What a training tells others and asks people: trackers, the hub, telemetry, windows. Off, unless they are wished for.

Each is switched off as the program allows: by its own option, by a key of its config, else by the tool's variable.
Pure: it reads a profile, a sentence and a plan.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from caravan.planning import spelling
from caravan.planning.config_files import changeable, laid_over
from caravan.planning.flag_names import is_switch, last_name
from caravan.planning.words import plain, without
from caravan.values.base import Json
from caravan.values.patterns import late
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile, ScriptOption

_MOST: Final = 40
"""Changes that are made at most."""
OFF: Final = "switched off:"
"""How the reason of each such change begins."""


class _Tool(NamedTuple):
    """A service: its packages, what a person calls it, the secret it needs, and the variables that switch it off."""

    name: str
    packages: tuple[str, ...]
    said: str
    secret: str
    off: dict[str, str]


# Sources: the tools' documentation of their environment variables.
_TRACKERS: Final = (
    _Tool(
        "Weights & Biases",
        ("wandb",),
        r"wandb|weights\s*(?:and|&)\s*biases|w&b",
        "WANDB_API_KEY",
        {"WANDB_MODE": "disabled"},
    ),
    _Tool(
        "Comet",
        ("comet_ml", "comet"),
        r"comet(?:[_ .]ml)?",
        "COMET_API_KEY",
        {"COMET_MODE": "DISABLED"},
    ),
    _Tool("Neptune", ("neptune",), r"neptune", "NEPTUNE_API_TOKEN", {"NEPTUNE_MODE": "offline"}),
    _Tool("ClearML", ("clearml",), r"clear ?ml", "CLEARML_API_SECRET_KEY", {"CLEARML_OFFLINE_MODE": "1"}),
    _Tool("SwanLab", ("swanlab",), r"swan ?lab", "SWANLAB_API_KEY", {"SWANLAB_MODE": "disabled"}),
)
_WITH_TRAINER: Final = frozenset(
    {"transformers", "trl", "accelerate", "axolotl", "lightning", "pytorch_lightning", "composer"}
)
"""Libraries that report to whatever tracker is installed beside them."""
_PUSH: Final = late(
    r"\b(?:push|upload|publish|share|hochladen|publier|subir)\w*\b.{0,40}\b(?:hub|hugging ?face)\b", re.IGNORECASE
)
_DENIED: Final = late(
    r"(?:\bno|\bnot|\bnever|\bwithout|n't|\bdisable\w*|\bskip|\bavoid)\W+(?:\w+\W+){0,3}$", re.IGNORECASE
)
_NAMES: Final = late(
    r"(?:use_|with_|enable_|log_(?:to_|with_)?|report_)?(?:wandb|wb|comet|comet_ml|neptune|clearml|swanlab|tracking|track)"
    r"(?:_log|_logging|_logger|_enabled?|_on|_report)?"
)
_HUB: Final = ("push_to_hub", "push_to_hf_hub", "upload_to_hub", "upload_to_hf", "push_model_to_hub")
_WINDOWS: Final[dict[str, dict[str, str]]] = {
    "matplotlib": {"MPLBACKEND": "Agg"},
    "seaborn": {"MPLBACKEND": "Agg"},
    "mujoco": {"MUJOCO_GL": "egl"},
    "pyrender": {"PYOPENGL_PLATFORM": "egl"},
    "pygame": {"SDL_VIDEODRIVER": "dummy"},
    "PyQt5": {"QT_QPA_PLATFORM": "offscreen"},
    "PySide6": {"QT_QPA_PLATFORM": "offscreen"},
}
"""Libraries that open windows → the variables by which they draw without one."""
_HUB_LIBRARIES: Final = frozenset({"transformers", "datasets", "diffusers", "huggingface_hub", "trl", "peft"})


def quiet_changes(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> tuple[PlanChange, ...]:
    """What is switched off, and the secrets of what the sentence wishes for. What a person has set stays."""
    made: list[PlanChange] = []
    for _ in range(_MOST):  # one at a time: what one leaves of the command or the secrets, the next begins with
        stages = (_trackers, _reports, _switches, _pushes, _windows)
        wanted = (c for stage in stages for c in stage(plan, profile, prompt))
        change = next((c for c in wanted if plan.get(c.path) != c.value), None)
        if change is None:
            break
        plan = apply_changes(plan, [change])
        made.append(change)
    return tuple(made)


def quieted(plan: TrainingPlan) -> tuple[str, ...]:
    """What was switched off and by what, in words, one for each tool."""
    found: dict[str, list[str]] = {}
    for path, origin in plan.provenance.items():
        if origin.why.startswith(OFF):
            name = origin.why.removeprefix(OFF).strip()
            how = path.removeprefix("env.").removeprefix("training.options.")
            found.setdefault(name, []).append(f"{how}={plan.get(path)}" if path.startswith("env.") else how)
    return tuple(f"{name} ({', '.join(how)})" for name, how in found.items())


def wished(prompt: str, pattern: str) -> bool:
    """Whether the sentence wants what the pattern names: it is there and not denied."""
    return any(
        not _DENIED.search(prompt[max(0, m.start() - 40) : m.start()])
        for m in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", prompt, re.IGNORECASE)
    )


def _is_on(tool: _Tool, plan: TrainingPlan, prompt: str) -> bool:
    """Whether a person wishes for the tool, or its key is there anyway."""
    said = str(plan.training.report_to or "") if plan.set_by("training.report_to") in STANDING else ""
    return tool.secret in plan.secrets or wished(prompt, tool.said) or any(p in said for p in tool.packages)


def _is_used(tool: _Tool, plan: TrainingPlan, profile: RepoProfile) -> bool:
    texts = " ".join((*plan.command, *(str(v.value) for v in profile.config_values), *plan.env)).lower()
    used = {name.lower() for name in profile.libraries}
    named = any(p in used or p in texts for p in tool.packages)
    beside = tool.packages[0] == "wandb" and bool(used & _WITH_TRAINER)
    return named or beside or any(tool.packages[0] in last_name(o).lower() for o in profile.options)


def _trackers(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> Iterator[PlanChange]:
    for tool in _TRACKERS:
        if not _is_used(tool, plan, profile):
            continue
        if _is_on(tool, plan, prompt):
            if tool.secret not in plan.secrets and plan.set_by("secrets") not in STANDING:
                why = f"{tool.name} is wished for and needs its key"
                yield _default("secrets", [*plan.secrets, tool.secret], why)
            continue
        for name, value in tool.off.items():
            if name not in plan.env:
                yield _default(f"env.{name}", value, f"{OFF} {tool.name}")


def _reports(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> Iterator[PlanChange]:
    """`report_to` without the trackers that nobody wishes for."""
    taken = {"training.report_to"} & {*plan.flags, *plan.config_keys}
    if not taken or plan.set_by("training.report_to") in STANDING:
        return
    option = next((o for o in profile.options if last_name(o) == "report_to"), None)
    now = plan.training.report_to
    names = [n for n in re.split(r"[\s,\[\]'\"]+", now or "") if n]
    unwanted = {p for t in _TRACKERS for p in t.packages if not _is_on(t, plan, prompt)}
    left = [n for n in names if n.lower() not in unwanted | {"all"}]
    trainer = "transformers" in profile.libraries or "trl" in profile.libraries
    if len(left) == len(names) and (names or not trainer):
        return
    own = str(option.default) if option is not None and option.default else ""
    fallback = own if own and own.lower() not in unwanted | {"all", "none"} else "none"
    if option is not None and option.choices and fallback not in option.choices:
        fallback = next((c for c in option.choices if c.lower() in ("none", "tensorboard")), "")
    value = left[0] if left else fallback
    if value and value != now:
        yield _default("training.report_to", value, f"{OFF} reports to {' '.join(names) or 'every tracker installed'}")


def _switches(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> Iterator[PlanChange]:
    """The program's own options for a tracker, where they are on."""
    for option in profile.options:
        name = last_name(option).lower()
        if not _NAMES.fullmatch(name):
            continue
        tool = next((t for t in _TRACKERS if any(p in name for p in t.packages)), _TRACKERS[0])
        if not _is_on(tool, plan, prompt):
            yield from _off(plan, option, profile.cli_style, f"{OFF} {tool.name}")


def _pushes(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> Iterator[PlanChange]:
    """Uploads to the model hub."""
    if any(not _DENIED.search(prompt[max(0, m.start() - 40) : m.start()]) for m in _PUSH.finditer(prompt)):
        if not {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} & set(plan.secrets) and plan.set_by("secrets") not in STANDING:
            yield _default("secrets", [*plan.secrets, "HF_TOKEN"], "the hub is wished for and needs its token")
        return
    options = [o for o in profile.options if last_name(o).lower() in _HUB]
    if not options:  # one that a library's class brings, or another module
        typed = [w.partition("=")[0] for w in plan.command if w.startswith("--")]
        options = [ScriptOption(flag=f, default=False, type="bool") for f in typed if last_name(f).lower() in _HUB]
    for option in options:
        yield from _off(plan, option, profile.cli_style, f"{OFF} pushing to the hub")
    found = [v for v in profile.config_values if v.key.rpartition(".")[2] in _HUB and v.value is True]
    for value in found if plan.set_by("config_overlays") not in STANDING else ():
        if changeable(plan, value.file):
            yield _default(
                "config_overlays", laid_over(plan, value.file, value.key, False), f"{OFF} pushing to the hub"
            )
            return


def _off(plan: TrainingPlan, option: ScriptOption, style: str | None, why: str) -> Iterator[PlanChange]:
    """The option for a yes switched to no, where the command or its default says yes."""
    names = {plain(f) for f in (option.flag, *option.aliases)}
    at = next((i for i, w in enumerate(plan.command) if plain(w.partition("=")[0]) in names), None)
    if plan.set_by(f"training.options.{option.flag}") in STANDING or plan.set_by("command") in STANDING:
        return
    if not is_switch(option):
        if at is not None:  # it takes a key or a project: the whole option goes
            words = without(plan.command, plan.command[at].partition("=")[0])
            yield PlanChange(path="command", value=list(words), by=Author.REPOSITORY, why=f"documented; {why}")
        return
    if at is None and option.default is not True:
        return
    yes, both, no = spelling.switch(option, style).partition("|")
    if not yes:
        return  # its flag is the one for no
    if both and no and re.search(r"[ =]", no):
        yield _default(f"training.options.{option.flag}", False if not option.flag.startswith("-") else "False", why)
    elif at is not None:
        yield _default(f"training.options.{option.flag}", False, why)
    if both and no and not re.search(r"[ =]", no) and option.default is True:
        yield _default(f"training.options.{no}", True, why)


def _windows(plan: TrainingPlan, profile: RepoProfile, prompt: str) -> Iterator[PlanChange]:  # noqa: ARG001
    for library in profile.libraries:
        for name, value in _WINDOWS.get(library, {}).items():
            if name not in plan.env:
                yield _default(f"env.{name}", value, f"{OFF} windows")
    if set(profile.libraries) & _HUB_LIBRARIES and "HF_HUB_DISABLE_TELEMETRY" not in plan.env:
        yield _default("env.HF_HUB_DISABLE_TELEMETRY", "1", f"{OFF} telemetry")


def _default(path: str, value: Json, why: str) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.DEFAULT, why=why)

"""Which launcher starts how many processes: from the GPUs that are planned and from what the program does by itself.

Pure: it reads a profile, a documented command and a plan.
"""

from typing import Final

from caravan.planning.documented import DISTRIBUTED, Documented
from caravan.planning.flag_names import last_name
from caravan.planning.words import plain
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import Launcher, RepoProfile, ScriptOption

_SELF_STARTING: Final = frozenset(
    {"lightning", "pytorch_lightning", "pytorch-lightning", "ray", "deepspeed", "horovod"}
)
"""Libraries that start a script's processes themselves, or are started in a way of their own."""
_SPREADING: Final = frozenset({"ddp", "fsdp", "fsdp2", "deepspeed", "accelerate"})


def process_changes(plan: TrainingPlan, profile: RepoProfile, documented: Documented | None) -> tuple[PlanChange, ...]:
    """The launcher for the planned GPUs, its processes, and how the program is told of them."""
    launcher = _launcher(plan, profile)
    told = apply_changes(plan, launcher)
    return (
        *launcher,
        *processes(told, documented),
        *_rank_option(told, profile, documented),
        *_device(told, profile),
    )


def _device(plan: TrainingPlan, profile: RepoProfile) -> tuple[PlanChange, ...]:
    """The program's device, where it is the CPU unless said otherwise and GPUs are planned."""
    option = _device_option(profile)
    if option is None or not plan.resources.gpus or plan.set_by("command") in STANDING:
        return ()
    value = next((c for c in ("cuda", "gpu") if not option.choices or c in option.choices), None)
    path = f"training.options.{option.flag}"
    if value is None or plan.get(path) is not None or plan.resources.gpu_vendor not in (None, "nvidia", "amd"):
        return ()
    why = f"GPUs are planned, and {option.flag} is {option.default} by default"
    return (PlanChange(path=path, value=value, by=Author.DEFAULT, why=why),)


def _device_option(profile: RepoProfile) -> ScriptOption | None:
    """The option for the device that is the CPU by default: such a program works on the one that it is told."""
    named = (o for o in profile.options if last_name(o).lower() == "device" and o.flag.startswith("--"))
    return next((o for o in named if str(o.default).lower() == "cpu"), None)


def processes(plan: TrainingPlan, documented: Documented | None) -> tuple[PlanChange, ...]:
    """As many processes as GPUs under a distributed launcher, or as documented where there are none."""
    if plan.launch.launcher not in DISTRIBUTED:
        return ()
    count = plan.resources.gpus or (documented.nproc if documented else None) or 1
    if count == plan.launch.nproc:
        return ()
    return (PlanChange(path="launch.nproc", value=count, by=Author.DEFAULT, why="one process for each GPU"),)


def documented_processes(documented: Documented | None) -> int | None:
    """How many processes the documented command is for, where it says so itself."""
    if documented is None or documented.launcher not in DISTRIBUTED:
        return None
    return documented.nproc


def _launcher(plan: TrainingPlan, profile: RepoProfile) -> tuple[PlanChange, ...]:
    """torchrun in place of `python` where several GPUs are wished for and the script's library takes it from there."""
    if plan.launch.launcher is not Launcher.PYTHON or plan.set_by("launch.launcher") in STANDING:
        return ()
    if plan.resources.gpus * plan.launch.nodes < 2 or starts_itself(plan, profile) or not spreads(profile):
        return ()
    why = f"{plan.resources.gpus} GPUs, and the script's library works in as many processes as it is started in"
    return (PlanChange(path="launch.launcher", value=Launcher.TORCHRUN.value, by=Author.DEFAULT, why=why),)


def starts_itself(plan: TrainingPlan, profile: RepoProfile) -> bool:
    """Whether the program starts its own processes, or is told of GPUs by an option of its own."""
    told = any(path.partition(":")[0] == "resources.gpus" for path in plan.flags)
    libraries = {name.lower() for name in profile.libraries}
    return told or bool(libraries & _SELF_STARTING) or any(h.kind == "spawns" for h in profile.hazards)


def spreads(profile: RepoProfile) -> bool:
    """Whether the script works in several processes that somebody else has started."""
    libraries = {name.lower() for name in profile.libraries}
    if profile.framework not in (None, "pytorch", "torch"):
        return False
    trainer = bool(libraries & {"transformers", "trl"}) and profile.cli_style == "hfargparser"
    if _device_option(profile) is not None and "accelerate" not in libraries and not trainer:
        return False  # each of its processes would work on that same device
    return trainer or "accelerate" in libraries or (profile.distributed or "") in _SPREADING


def _rank_option(plan: TrainingPlan, profile: RepoProfile, documented: Documented | None) -> tuple[PlanChange, ...]:
    """The option by which the program's old launcher told each process its number, where it has that option."""
    if documented is None or not documented.local_rank or plan.launch.launcher is not Launcher.TORCHRUN:
        return ()
    flag = next((o.flag for o in profile.options if plain(o.flag) == "local_rank"), None)
    if flag is None or not flag.startswith("--"):
        return ()
    why = "its documented launcher tells each process its number by this option"
    return (PlanChange(path="launch.rank_option", value=flag, by=Author.REPOSITORY, why=why),)


def process_notes(plan: TrainingPlan, profile: RepoProfile, documented: Documented | None) -> tuple[str, ...]:
    """What a person should know of processes and GPUs before approval."""
    notes = []
    gpus, launch = plan.resources.gpus, plan.launch
    if gpus > 1 and launch.launcher is Launcher.PYTHON and not starts_itself(plan, profile) and not spreads(profile):
        idle = "it works on one device, so the further GPUs idle" if _device_option(profile) else ""
        notes.append(f"the script is started as one process: {idle or f'whether it uses all {gpus} GPUs is not known'}")
    before = documented_processes(documented)
    sharded = " ".join(launch.args + plan.command).lower()
    if before and before != launch.nproc * launch.nodes and any(w in sharded for w in ("fsdp", "zero", "deepspeed")):
        notes.append(
            f"the documented command spreads the model over {before} processes, the plan over "
            f"{launch.nproc * launch.nodes}: each GPU holds another share of it"
        )
    return tuple(notes)

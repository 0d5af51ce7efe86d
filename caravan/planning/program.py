"""Which program a plan starts: the one that was found, as it is documented, or one that a person named. Pure."""

import posixpath
from collections.abc import Iterable

from caravan.planning.documented import Documented, documented_of, read_command
from caravan.values.base import Json
from caravan.values.plan import TrainingPlan
from caravan.values.repo import Launcher, RepoProfile


def documented_start(profile: RepoProfile) -> Documented | None:
    """The documented command, where it starts the entry point that was found."""
    documented = documented_of(profile)
    if documented is None or profile.entry_point is None or documented.launcher is Launcher.CLI:
        return documented
    return documented if names_entry(documented.command, profile) else None


def program_words(profile: RepoProfile, documented: Documented | None) -> tuple[str, ...]:
    """The program and its arguments as documented, else the entry point alone; empty where none was found."""
    if documented is not None:
        return documented.command
    if profile.launcher is Launcher.CLI and profile.cli_name:
        return (profile.cli_name,)
    if profile.entry_point is None:
        return ()  # a required question asks for it, and no plan without a command passes the checks
    script = profile.entry_point.removeprefix(f"{profile.launch_cwd.strip('/')}/")
    return (f"./{script}" if script.startswith("-") else script,)  # else an option of its interpreter


def chosen_script(given: Iterable[Json], profile: RepoProfile) -> str | None:
    """The Python file that a person named as what to start, as its path in the repository; the last word counts.

    `given` are answers and settings of the field `command`: a text, or a list of words.
    """
    found = None
    for value in given:
        read = read_command(value) if isinstance(value, str) else None
        words = read.command if read else tuple(map(str, value)) if isinstance(value, list | tuple) else ()
        script = next((w.removeprefix("./") for w in words if w.endswith(".py")), None)
        if script is not None:
            inside = f"{profile.launch_cwd.strip('/')}/{script}"
            found = inside if any(c.entry_point == inside for c in profile.candidates) else script
    return found


def has_own_program(plan: TrainingPlan, profile: RepoProfile) -> bool:
    """Whether the plan's command starts another program than the profile's."""
    if not (plan.flags or plan.config_keys) or not plan.command or profile.entry_point is None:
        return False
    return not names_entry(plan.command, profile) and not _reaches_entry(plan, profile.entry_point)


def names_entry(command: tuple[str, ...], profile: RepoProfile) -> bool:
    """Whether a word of the command is the entry point: its path, its module, or the console command that starts it."""
    entry = profile.entry_point or ""
    inside = entry.removeprefix(f"{profile.launch_cwd.strip('/')}/")
    if any(w.removeprefix("./") in (entry.removeprefix("./"), inside) for w in command):
        return True
    if profile.launcher is Launcher.CLI and command[:1] == tuple(entry.split()[:1]):
        return True
    named = command[1] if command[:1] in (("-m",), ("--module",)) and len(command) > 1 else ""
    module = named.replace(".", "/")
    files = (f"{module}.py", f"{module}/__main__.py", f"{module}/__init__.py") if module else ()
    return any(f"/{entry}".endswith(f"/{file}") for file in files)


def _reaches_entry(plan: TrainingPlan, entry: str) -> bool:
    """Whether a word of the command is that script as seen from the working directory, or that module on its path."""
    paths = plan.env.get("PYTHONPATH", "").split(":")
    modules = [posixpath.join(p, f"{w.replace('.', '/')}.py") for p in ("", *paths) for w in plan.command]
    seen = (posixpath.normpath(posixpath.join(plan.workdir, word)) for word in (*plan.command, *modules))
    return posixpath.normpath(entry) in seen

"""Which flag of the repository takes which field of the plan, and the values that the repository has itself.

Reads a profile only. Spellings are the parser's own; a field without a flag is left out, never guessed.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from caravan.planning import spelling
from caravan.planning.documented import Documented, documented_of
from caravan.planning.flag_names import (
    GPU_COUNTS,
    GPU_LISTS,
    GPU_SAID,
    KEY_FIELDS,
    OPTIONS,
    SWITCHES,
    counts_all,
    counts_tokens,
    counts_training_steps,
    field_of,
    first,
    is_micro,
    is_steps,
    is_switch,
    last_name,
    named,
    of_tracker,
)
from caravan.planning.words import is_value, plain, same_flag
from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import Launcher, RepoProfile, ScriptOption

__all__ = ["field_of", "fitting", "is_switch", "known_flags", "repository_values", "typed_changes"]

_FILE_NAME: Final = re.compile(r"[^/]\.[A-Za-z]\w{0,11}$")
"""A default that names a file by its ending (`model.pt`, `line.csv`); `runs/v1.0` and `./out` are directories."""
_NAME: Final = re.compile(r"[\w./:@+~-]+")
_FREE_NAMES: Final = ("model.id", "dataset.path", "training.output_dir", "training.resume_from")
_KEYS: Final = frozenset(
    {*KEY_FIELDS.values(), "model.id", "dataset.path", "training.max_steps", "training.report_to", "training.precision"}
)
_LENGTHS: Final = ("training.epochs", "training.max_steps")


def known_flags(profile: RepoProfile) -> dict[str, str]:
    """Plan path → flag as the parser spells it, for `TrainingPlan.flags`; as the program declares it, where it does."""
    if profile.takes:
        return dict(profile.takes)
    documented = documented_of(profile)
    found: dict[str, ScriptOption] = dict(_by_key(profile))
    for path, names in OPTIONS.items():
        option = next((o for o in named(profile, names) if _fits(path, o)), None)
        if option is not None and path not in found:
            found[path] = option
    found |= dict(_by_command(profile, documented, found))
    found |= dict(_by_value(profile, documented))
    flags = dict(_spelled(found, profile, documented))
    flags |= _batches(flags, found, profile, documented)
    for path, names in SWITCHES.items():
        option = first(profile, names)
        field = path.partition("=")[0]
        if (
            option is not None
            and is_switch(option)
            and not any(p.partition("=")[0] == field for p in _plain_ones(flags))
        ):
            flags[path] = spelling.switch(option, profile.cli_style)
    flags |= dict(_machine(profile, documented))
    launcher = documented.launcher if documented else profile.launcher
    if launcher is Launcher.BASH and profile.option("$@") is None:  # what is given to the script ends there
        flags = {path: flag for path, flag in flags.items() if flag.startswith("$")}
    return flags


def _plain_ones(flags: dict[str, str]) -> list[str]:
    """The entries that give a field's value as such, or by the program's own words for it."""
    return [p for p, f in flags.items() if "=" not in p or (" " in f.strip() and "|" not in f)]


def _by_key(profile: RepoProfile) -> Iterator[tuple[str, ScriptOption]]:
    """The options of the profile's key hyperparameters; what counts steps is no number of epochs."""
    for name, path in KEY_FIELDS.items():
        key = profile.key_hyperparameters.get(name)
        if key is None or not key.flag or key.file:
            continue
        option = next(
            (o for o in profile.options if o.flag == key.flag), ScriptOption(flag=key.flag, default=key.default)
        )
        if name == "learning_rate" and plain(option.flag) in ("blr", "base_lr"):
            option = first(profile, ("learning_rate", "lr")) or option  # a base is scaled by the batch
        if name == "epochs":
            steps = is_steps(key.flag)
            if steps is None or (steps and not counts_training_steps(option)):
                continue
            path = "training.max_steps" if steps else path
        if _fits(path, option):
            yield path, option


def _fits(path: str, option: ScriptOption) -> bool:
    """Whether the option can take the field: no switch, no file for a directory, no tokens for samples."""
    if is_switch(option):
        return False
    if path in _FREE_NAMES and of_tracker(option.flag):
        return False
    if path == "training.output_dir":
        return not _FILE_NAME.search(str(option.default))
    if path == "training.max_steps":
        return counts_training_steps(option)
    if path in ("training.micro_batch", "training.global_batch"):
        return not counts_tokens(option)
    return path not in ("launch.nodes", "training.report_to") or path == "training.report_to"


def _by_value(profile: RepoProfile, documented: Documented | None) -> Iterator[tuple[str, ScriptOption]]:
    """The options whose value is the repository's model or data: they take another one, whatever they are called."""
    typed = _typed_flags(documented.command) if documented else {}
    for path, value in (("model.id", profile.base_model), ("dataset.path", profile.dataset)):
        for option in profile.options if value else ():
            given = next((v for f, v in typed.items() if f in (option.flag, *option.aliases)), option.default)
            if given == value and not is_switch(option) and option.flag.startswith(("-", "$")):
                yield path, option
                break
        else:
            flag = next((f for f, v in typed.items() if v == value and f.startswith("--")), None)
            if flag is not None and spelling.meant(flag, profile) is None:
                yield path, ScriptOption(flag=flag)  # of a class that no file of the repository shows


def _by_command(
    profile: RepoProfile, documented: Documented | None, found: dict[str, ScriptOption]
) -> Iterator[tuple[str, ScriptOption]]:
    """The options that the documented command itself uses for a field, where what was read is another one's.

    That the program takes it is said by the command; a parser may add options that no file of the repository shows.
    """
    typed = _typed_flags(documented.command) if documented else {}
    for path, names in OPTIONS.items():
        held = found.get(path)
        if path not in _KEYS or (held is not None and _given(held, typed) is not None):
            continue
        ranked = sorted((f for f in typed if plain(f) in names), key=lambda f: names.index(plain(f)))
        if ranked and ranked[0].startswith("--") and spelling.meant(ranked[0], profile) is None:
            yield path, ScriptOption(flag=ranked[0])


def _spelled(
    found: dict[str, ScriptOption], profile: RepoProfile, documented: Documented | None
) -> Iterator[tuple[str, str]]:
    typed = _typed_flags(documented.command) if documented else {}
    for path, option in found.items():
        flag = spelling.spelled(option, profile.cli_style, documented)
        if flag is None:
            continue
        if path == "training.precision":
            known = next((v for f, v in typed.items() if f in (option.flag, *option.aliases)), None)
            yield from spelling.precisions(option, profile.cli_style, flag, known).items()
        elif path == "training.method" and ("lora" in option.choices or not option.choices):
            words = [c for c in option.choices if c != "qlora"] or ["lora", "full", "freeze"]
            words += ["qlora"] if "qlora" in option.choices else []
            yield from ((f"{path}={w}", spelling.with_value(flag, w, profile.cli_style)) for w in words)
        elif option.choices and path not in _FREE_NAMES and path != "training.report_to":
            yield from spelling.chosen(path, option, profile.cli_style, flag).items()
        elif profile.cli_style == "constants" and (option.type or "") in ("int", "float"):
            yield f"{path}:{option.type}", flag  # its values must be of the constant's own type
        elif path in _LENGTHS and (option.type or "").casefold() == "int":
            yield f"{path}:int", flag
        else:
            yield path, flag


def _batches(
    flags: dict[str, str], found: dict[str, ScriptOption], profile: RepoProfile, documented: Documented | None
) -> dict[str, str]:
    """The options for a batch by what they count: one GPU's samples, or those of all."""
    entry = next((p for p in flags if p.partition(":")[0] == "training.micro_batch"), None)
    option = found.get("training.micro_batch")
    if entry is None or option is None:
        return {}
    counts = counts_all(option, profile)
    if not counts:
        whole = flags.get("training.global_batch") or _whole_batch(profile, documented, option)
        if whole is None:
            return {}
        further = {} if _has(flags, "training.grad_accum") else {"training.grad_accum:global": whole}
        return {"training.global_batch": whole, **further}
    whole = flags.pop(entry)
    each = next((o for o in profile.options if is_micro(o) and not counts_tokens(o)), None)
    spelled = spelling.spelled(each, profile.cli_style, documented) if each is not None else None
    added = {"training.micro_batch": spelled} if spelled else {f"training.micro_batch:{counts}": whole}
    if counts == "global":
        added["training.global_batch"] = whole
        if spelled and not _has(flags, "training.grad_accum"):
            added["training.grad_accum:global"] = whole
    return added


def _whole_batch(profile: RepoProfile, documented: Documented | None, each: ScriptOption) -> str | None:
    """The option for the samples of an update that stands beside the one for those of a GPU."""
    names = ("batch_size", "train_batch_size", "total_batch", "batch")
    found = (o for o in named(profile, names) if o.flag != each.flag and not is_switch(o) and not counts_tokens(o))
    option = next((o for o in found if counts_all(o, profile) == "global"), None)
    return spelling.spelled(option, profile.cli_style, documented) if option is not None else None


def _has(flags: dict[str, str], path: str) -> bool:
    return any(p.partition(":")[0] == path for p in flags)


def _machine(profile: RepoProfile, documented: Documented | None) -> Iterator[tuple[str, str]]:
    """The options by which a program that starts its own processes is told of GPUs and nodes.

    Under a launcher that starts the processes only those that the documented command uses.
    """
    typed = _typed_flags(documented.command) if documented else {}
    launcher = documented.launcher if documented else profile.launcher
    apart = launcher not in (Launcher.TORCHRUN, Launcher.ACCELERATE, Launcher.DEEPSPEED)
    for option in (*named(profile, GPU_COUNTS), *(o for o in named(profile, GPU_SAID) if _given(o, typed))):
        given = _given(option, typed)
        if not is_switch(option) and (apart or given is not None) and not _lists(option, given):
            if flag := spelling.spelled(option, profile.cli_style, documented):
                yield "resources.gpus", flag
            break
    for option in named(profile, GPU_LISTS):
        given = _given(option, typed)
        if given is not None and _lists(option, given) and (flag := spelling.spelled(option, profile.cli_style)):
            yield "resources.gpus:ids", flag
            break
    for option in named(profile, OPTIONS["launch.nodes"]):
        given = _given(option, typed)
        if not is_switch(option) and given is not None and (flag := spelling.spelled(option, profile.cli_style)):
            yield "launch.nodes", flag
            break
    if documented is not None and (own := own_count(documented)):
        yield "resources.gpus", own


def _given(option: ScriptOption, typed: dict[str, str]) -> str | None:
    return next((v for f, v in typed.items() if f in (option.flag, *option.aliases) or same_flag(f, option.flag)), None)


def _lists(option: ScriptOption, given: Json) -> bool:
    """Whether the option takes the numbers of GPUs (`0,1`) rather than how many."""
    value = str(option.default if given is None else given)
    if re.fullmatch(r"\d+(?:,\d+)+,?", value):
        return True
    name = last_name(option).lower()
    return name not in GPU_COUNTS and (value in ("0", "") or "0,1" in option.help)


_COUNTING: Final = (
    "-np",
    "--np",
    "--nproc_per_node",
    "--nproc-per-node",
    "--num_processes",
    "--nproc",
    "--devices",
    "-n",
)


def own_count(documented: Documented) -> str | None:
    """The option by which a launcher that is no launcher of ours (mpirun and its like) is told of processes."""
    words = documented.command
    script = next((i for i, w in enumerate(words) if w.endswith(".py") or (i and re.match(r"python|\./", w))), None)
    if documented.launcher is not Launcher.CLI or not script:
        return None
    names = [w.partition("=")[0] for w in words[:script]]
    return next((n for n in names if n in _COUNTING), None)


def repository_values(profile: RepoProfile, documented: Documented | None) -> dict[str, tuple[Json, str]]:
    """Plan path → (value, why) as the repository has it: its documented command first, then its parser's defaults."""
    found: dict[str, tuple[Json, str]] = {}
    flags = known_flags(profile)
    for path, flag in flags.items():
        option = next((o for o in profile.options if same_flag(o.flag, flag) or o.flag == flag), None)
        if option is not None and option.default is not None:
            found |= _value_of(path, flag, option.default, f"default of {option.flag}")
    for name, path in KEY_FIELDS.items():
        key = profile.key_hyperparameters.get(name)
        taken = any(p.partition(":")[0].partition("=")[0] == path for p in flags)
        steps = name == "epochs" and key is not None and key.flag and is_steps(key.flag) is not False
        if key is None or key.default is None or path in found or steps:
            continue
        counted = any(p.startswith(f"{path}:") and not p.endswith((":int", ":float")) for p in flags)
        if not counted and (not taken or key.flag is None or any(same_flag(key.flag, f) for f in flags.values())):
            found[path] = key.default, f"default of {key.flag or name}"
    for flag, text in (
        {**_variables(documented.env), **_typed_flags(documented.command)} if documented else {}
    ).items():
        for known, spelled in flags.items():
            if same_flag(flag, spelled) or _short(profile, flag, spelled):
                found |= _value_of(known, spelled, text, f"{flag} in the documented command")
    found.pop("training.output_dir", None)  # the outputs' place is the plan's business
    for path in [p for p in found if p.startswith(("resources.", "launch."))]:
        found.pop(path)
    named_ones = ("model.id", "dataset.path")  # an expression (`HERE / "data"`) names nothing
    return {p: v for p, v in found.items() if p not in named_ones or _NAME.fullmatch(str(v[0]))}


def _variables(env: Mapping[str, str]) -> dict[str, str]:
    """Environment variables as options are spelled: `$LR`."""
    return {f"${name}": value for name, value in env.items()}


def _short(profile: RepoProfile, typed: str, flag: str) -> bool:
    option = next((o for o in profile.options if same_flag(o.flag, flag)), None)
    return option is not None and typed in option.aliases


def _value_of(path: str, flag: str, given: Json, why: str) -> dict[str, tuple[Json, str]]:
    """The field's value that a value of its option means; nothing where it means another field's, or none."""
    bare, choice, wanted = path.partition("=")
    field, _, form = bare.partition(":")
    if form in ("global", "step", "ids", "world"):
        return {}
    if field == "training.precision" and choice and " " in flag and "|" not in flag:
        said = spelling.precision_of(str(given))
        return {field: (said, why)} if said == wanted else {}
    if not choice:
        return {field: (given, why)}
    value = flag.partition("|")[0]
    if " " in value or "=" in value:
        told = re.split(r"[ =]", value, maxsplit=1)[1]
        return {field: (wanted, why)} if str(given).casefold() == told.casefold() else {}
    return {field: (wanted, why)} if str(given).casefold() not in ("false", "none", "") else {}


def typed_changes(plan: TrainingPlan) -> tuple[PlanChange, ...]:
    """The fields whose options a person typed themselves, in the command or as further options, with their values.

    They are that person's as if the field had been named: no rule replaces them, a repair of them is asked about. A
    field that somebody set by its own name stays, and so does the place of the outputs, which is the plan's business.
    """
    typed: dict[str, tuple[Json, Author]] = {}
    if (by := plan.set_by("command")) in _PERSONS and plan.asked("command"):
        typed |= {flag: (text, by) for flag, text in _typed_flags(plan.command).items()}
    for flag, value in plan.training.options.items():
        if (by := plan.set_by(f"training.options.{flag}")) in _PERSONS:
            typed[flag] = value, by
    for name, text in plan.env.items():
        if (by := plan.set_by(f"env.{name}")) in _PERSONS:
            typed[f"${name}"] = text, by
    changes: list[PlanChange] = []
    for path, flag in plan.flags.items():
        field = path.partition("=")[0].partition(":")[0]
        given = next((given for name, given in typed.items() if same_flag(name, flag)), None)
        origin = plan.provenance.get(field)
        own_words = plan.asked(field) and not (origin and origin.why.startswith(_TYPED))
        if given is None or own_words or field == "training.output_dir":
            continue
        changes += fitting(plan, _value_of(path, flag, given[0], f"{_TYPED} {plain_flag(flag)}"), given[1])
    return tuple(changes)


def plain_flag(flag: str) -> str:
    """A flag as a person would type it, without what is said of its value."""
    return re.split(r"[ =|]", flag.lstrip("|"), maxsplit=1)[0]


_TYPED: Final = "typed as"
_PERSONS: Final = (Author.USER, Author.ANSWER)


def _typed_flags(words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word, after in zip(words, (*words[1:], "-"), strict=True):
        name, joined, value = word.partition("=")
        if word.startswith("-") or joined:
            found[name.lstrip("+")] = value if joined else (after if is_value(after) else "true")
        elif re.fullmatch(r"[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)+", word) and is_value(after):
            found[word] = after
    return found


def fitting(plan: TrainingPlan, values: dict[str, tuple[Json, str]], by: Author) -> tuple[PlanChange, ...]:
    """Those of `values` that are valid in a plan: a default like `batch // micro_batch` says nothing and is left."""
    changes = []
    for path, (value, why) in values.items():
        change = PlanChange(path=path, value=value, by=by, why=why)
        try:
            apply_changes(plan, [change])
        except PlanError:
            continue
        changes.append(change)
    return tuple(changes)

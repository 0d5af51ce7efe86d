"""What people said held against repository, cluster, money and each other: what can't be so is asked back, once.

Each question says what contradicts what and offers the nearest that is possible. Where what was said can hold all the
same it is the default; where it can't (a script that is not there) there is none, and a person must decide. Pure.
"""

import difflib
import posixpath
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, NamedTuple

from caravan.planning.answers import OPTION, QUESTION_PATHS
from caravan.planning.catalogue import matches_model
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.command import read_command
from caravan.planning.flags import known_flags
from caravan.planning.model_shape import positions_of
from caravan.planning.prompt_reading import Clash
from caravan.planning.question_rules import flag_for, gpu_types, option_of
from caravan.planning.stakes import DEARER, FAILED_START, STUCK, WASTED, cost
from caravan.values.base import Json
from caravan.values.dialogue import Question
from caravan.values.job import ClusterFacts
from caravan.values.plan import PlanChange
from caravan.values.repo import RepoProfile

_IDS: Final = {path: name for name, path in QUESTION_PATHS.items()}
_SCRIPTS: Final = (".py", ".sh", ".bash", ".ipynb")
_ONCE: Final = frozenset(
    {"model.id", "dataset.path", "limits.max_cost_usd", "launch.nodes", "training.method", "training.epochs"}
    | {"resources.gpus", "resources.gpu_model"}
)
"""Fields of which two values in two answers are no refinement of each other."""
_SURE: Final = 0.7  # of what the code does


class Held(NamedTuple):
    """What is held against what. `files`: the repository's paths, None where they are not known.

    `most_usd`: what the whole run may cost, None without a limit. `excluded`: GPU types that are all the cluster has.
    """

    profile: RepoProfile
    facts: ClusterFacts
    files: Callable[[], Collection[str]] | None = None
    most_usd: float | None = None
    clashes: tuple[Clash, ...] = ()
    excluded: tuple[str, ...] = ()


def contradictions(said: Sequence[PlanChange], held: Held) -> tuple[Question, ...]:
    """The questions to ask back, one for each field at most. `said`: all that people said, the last word counts."""
    last = {change.path: change for change in said}
    found: dict[str, Question] = {}
    for rule in (_clashing, _command, _options, _length, _method, _gpu_type, _gpus, _nodes, _money):
        for question in rule(last, held):
            found.setdefault(question.path, question)
    return tuple(found.values())


def differing(changes: Sequence[PlanChange]) -> tuple[Question, ...]:
    """The questions about fields that are said twice and differently by the same means, where no word is the last."""
    by_path: dict[str, list[Json]] = {}
    for change in changes:
        by_path.setdefault(change.path, []).append(change.value)
    found = []
    for path, values in by_path.items():
        different = [v for n, v in enumerate(values) if v not in values[:n]]
        if len(different) > 1 and path in _ONCE:
            shown = " or ".join(str(v) for v in different)
            found.append(
                _ask(
                    path,
                    f"Which one holds: {shown}?",
                    "both were said",
                    choices=tuple(different),
                    required=True,
                    cost_of_wrong=cost(1, STUCK),
                )
            )
    return tuple(found)


def id_of(path: str) -> str:
    """By which id a question about a field is answered."""
    if path.startswith("training.options."):
        return OPTION + path.removeprefix("training.options.")
    return _IDS.get(path, path)


def _ask(path: str, text: str, reason: str, **more: object) -> Question:
    return Question.model_validate({"id": id_of(path), "path": path, "text": text, "reason": reason, **more})


def _clashing(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    for clash in held.clashes:
        if clash.path in last:
            continue  # a later word has settled it
        words = " and ".join(f'"{w}"' for w in dict.fromkeys(clash.words()))
        values = tuple(dict.fromkeys(s.value for s in clash.said if s.path == clash.path))
        if len(values) == 1:  # no GPU, and a type of GPU
            values = (*values, 1)
        yield _ask(
            clash.path,
            f"Which one holds: {' or '.join(str(v) for v in values)}?",
            f"{words} can't both be meant",
            choices=values,
            required=True,
            cost_of_wrong=cost(1, STUCK),
        )


def _length(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    """A sequence that is longer than the model's. Some can be stretched, so that what was said is the default."""
    change, named = last.get("training.max_len"), last.get("model.id")
    model = str(named.value) if named is not None and named.value else held.profile.base_model
    longest = positions_of(model, held.profile)
    if change is None or not isinstance(change.value, int) or longest is None or change.value <= longest:
        return
    yield _ask(
        "training.max_len",
        f"{model or 'The model'} has positions for {longest} tokens, {change.value} are asked for. Which shall it be?",
        "most models fail beyond their positions, and the others were not trained there",
        choices=(longest, change.value),
        default=change.value,
        cost_of_wrong=cost(0.5, FAILED_START),
    )


def _command(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    change = last.get("command")
    if change is None or held.files is None:
        return
    script = script_in(change.value)
    if script is None:
        return
    files = held.files()
    cwd = held.profile.launch_cwd
    workdir = last["workdir"].value if "workdir" in last else cwd
    places = {posixpath.normpath(posixpath.join(str(p), script)) for p in (workdir, cwd, ".")}
    if places & set(files):
        return
    near = _near(script, files, held.profile)
    yield _ask(
        "command",
        f"{script} is not in the repository. What shall be started?",
        "a job can't start a file that isn't there" + (f"; the nearest is {near[0]}" if near else ""),
        choices=near,
        required=True,
        cost_of_wrong=cost(1, STUCK),
    )


def script_in(command: Json) -> str | None:
    """The script of the repository that a command starts, where it names one; None for programs and absolute paths."""
    if isinstance(command, str):
        if "$" in command.partition(" ")[0]:
            return None
        read = read_command(command)
        command = list(read.command) if read is not None else []
    words = [str(w) for w in command] if isinstance(command, list | tuple) else []
    script = next((w.removeprefix("./") for w in words[:1] if w.endswith(_SCRIPTS)), None)
    if script is None or script.startswith(("/", "~", "$")) or "://" in script or "$" in script:
        return None
    return script


def _near(script: str, files: Collection[str], profile: RepoProfile) -> tuple[str, ...]:
    """Scripts that may be meant: of the same name elsewhere, of a similar name, then the ways of training found."""
    name = posixpath.basename(script)
    programs = sorted(f for f in files if f.endswith(_SCRIPTS))
    same = [f for f in programs if posixpath.basename(f) == name]
    alike = difflib.get_close_matches(script, programs, n=2, cutoff=0.75)
    ranked = [c.entry_point for c in sorted(profile.candidates, key=lambda c: -c.score) if c.entry_point in files]
    cwd = profile.launch_cwd.strip("/")
    found = dict.fromkeys((*same, *alike, *([profile.entry_point] if profile.entry_point else []), *ranked))
    return tuple(f.removeprefix(f"{cwd}/") for f in found)[:4]


def _options(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    """Values that the parser's choices leave out."""
    flags = known_flags(held.profile)
    for path, change in last.items():
        own = path.startswith("training.options.")
        flag = path.removeprefix("training.options.") if own else flag_for(flags, path)
        option = option_of(held.profile, flag) if flag else None
        if option is None or not option.choices or change.value is None:
            continue
        said = str(change.value)
        if said in option.choices or f"{path}={said}" in flags:
            continue
        where = [
            e for name in (option.flag, "options", "key_hyperparameters") for e in held.profile.evidence.get(name, ())
        ]
        yield _ask(
            path,
            f"{option.flag} takes {', '.join(option.choices)}, not {said}. Which of them?",
            f"the program refuses {said}",
            choices=option.choices,
            evidence=tuple(e for e in where if option.flag.lstrip("-") in e.text)[:2],
            required=True,
            cost_of_wrong=cost(1, STUCK),
        )


def _method(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    change, profile = last.get("training.method"), held.profile
    own, sure = profile.method, profile.confidence.get("method", 0.0)
    if change is None or own not in ("lora", "qlora", "dora", "full") or sure < _SURE or change.value == own:
        return
    flags = known_flags(profile)
    if any(path.partition("=")[0] in ("training.method", "training.quant_bits") for path in flags):
        return
    if "training.lora_rank" in flags and change.value in ("lora", "full"):
        return  # adapters are a matter of options there
    yield _ask(
        "training.method",
        f"The code trains by {own} and has no option for {change.value}. By which method?",
        f"{change.why or 'it was said'}; without an option the code would go on as it is written",
        default=change.value,
        choices=(own, change.value),
        evidence=profile.evidence.get("method", ())[:2],
        cost_of_wrong=cost(sure, WASTED),
    )


def _gpu_type(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    there = gpu_types(held.facts, 1)
    if held.excluded and "resources.gpu_model" not in last and there:
        yield _ask(
            "resources.gpu_model",
            f"Every GPU of the cluster is one that was excluded ({', '.join(held.excluded)}). Which one all the same?",
            f"the cluster has {', '.join(there)} alone",
            choices=tuple(there),
            required=True,
            cost_of_wrong=cost(1, STUCK),
        )
    change = last.get("resources.gpu_model")
    if change is None or change.value is None or not there:
        return
    wanted = str(change.value)
    if not any(matches_model(wanted, model) for model in there):
        yield _ask(
            "resources.gpu_model",
            f"No node has {wanted}. Which GPU type shall it be?",
            f"the cluster has {', '.join(there[:6])}",
            default=wanted,
            choices=tuple(there[:6]),
            cost_of_wrong=cost(1, FAILED_START),
        )


def _gpus(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    change, usable = last.get("resources.gpus"), held.facts.usable_nodes()
    if change is None or not isinstance(change.value, int) or change.value <= 0 or not usable:
        return
    model = last["resources.gpu_model"].value if "resources.gpu_model" in last else None
    groups = [g for n in usable for g in gpu_groups(n)]
    of_type = [g for g in groups if model is None or matches_model(str(model), g.model)]
    if model is not None and groups and not of_type:
        return  # the type itself is asked about
    most = max((g.count for g in of_type), default=0)
    if change.value <= most:
        return
    kind = f"{model} GPUs" if model else "GPUs"
    names = ", ".join(sorted({f"{g.count} x {g.model}" for g in of_type}, reverse=True)[:4])
    total = sum(g.count for g in of_type)
    spread = f"; {total} in all, on several nodes (launch.nodes)" if total >= change.value > most > 0 else ""
    yield _ask(
        "resources.gpus",
        f"No node has {change.value} {kind}. How many shall it be?",
        (f"the largest node has {most} ({names}){spread}" if most else "no node has a GPU"),
        default=change.value,
        choices=(most, change.value),
        cost_of_wrong=cost(1, FAILED_START),
    )


def _nodes(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    change, usable = last.get("launch.nodes"), held.facts.usable_nodes()
    if change is None or not isinstance(change.value, int) or not usable or change.value <= len(usable):
        return
    yield _ask(
        "launch.nodes",
        f"Nodes that take work: {len(usable)}, not {change.value}. On how many shall it run?",
        "each member of a training on several nodes needs one",
        default=change.value,
        choices=(len(usable), change.value),
        cost_of_wrong=cost(1, FAILED_START),
    )


def _money(last: dict[str, PlanChange], held: Held) -> Iterator[Question]:
    change = last.get("limits.max_cost_usd")
    value = change.value if change is not None else None
    if not isinstance(value, int | float) or held.most_usd is None or value <= held.most_usd:
        return
    yield _ask(
        "limits.max_cost_usd",
        f"{value:g} US dollars are more than this run may cost ({held.most_usd:g}). How many at most?",
        "no run costs more than --budget, or without it the settings' hard limit",
        default=held.most_usd,
        choices=(held.most_usd,),
        cost_of_wrong=cost(0.5, DEARER),
    )

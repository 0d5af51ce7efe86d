"""The rules of what is asked: each looks at one gap and says question, default, reason, choices and what is at stake.

How many are asked, and in which order, is `questions`'. Nothing is asked that repository or sentence says for sure.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from caravan.planning.answers import OPTION
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.command import Documented, read_command
from caravan.planning.draft import image_in
from caravan.planning.outputs import URL_CHOICE, writable_volumes
from caravan.planning.stakes import (
    DEARER,
    LOST,
    MOVED,
    REDONE,
    STUCK,
    WASTED,
    cost,
    doubt_among,
    doubt_by_score,
    doubt_of,
)
from caravan.planning.words import plain, same_flag
from caravan.values.base import Json
from caravan.values.dialogue import Question
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.metric_names import clear_metric, judging
from caravan.values.repo import EntryCandidate, Launcher, RepoProfile, ScriptOption, SourceLine

CLOSE, MARGIN = 0.8, 1.0
"""Entry points are close when the second scores at least this share of the first, and at most this much less."""
UNSURE: Final = 0.5
"""What was found with less confidence than this is asked about, with what was found as the default."""
_SOUGHT: Final = {"base_model": "model.id", "dataset": "dataset.path"}
DOUBTED: Final = frozenset(_SOUGHT)
"""Questions about what was found and is doubtful; other fields that the repository fills are not asked about."""
_LANGUAGE_MODELS: Final = frozenset({"transformers", "peft", "trl", "unsloth", "axolotl", "torchtune"})


_LAUNCHERS_OWN: Final = frozenset({"local_rank", "node_rank", "world_size", "master_addr", "master_port"})
"""Options that a launcher gives each of its processes: they are nobody's to choose."""


class Scene(NamedTuple):
    """What the rules look at. `known`: plan paths that somebody has set already; `said`: those that a person has."""

    profile: RepoProfile
    prompt: str
    facts: ClusterFacts
    known: frozenset[str]
    flags: dict[str, str]
    gpu: bool
    image: str | None = None  # what the settings name
    gpus: int = 1  # of a node, as far as somebody has said
    said: frozenset[str] = frozenset()

    def sureness(self, name: str) -> float | None:
        """How sure the analysis is of a field; None where it doesn't say."""
        return self.profile.confidence.get(name)


def documented(profile: RepoProfile) -> Documented | None:
    """The command that the repository documents, where it can be read."""
    return read_command(profile.launch_command, profile.launcher) if profile.launch_command else None


def gpu_types(facts: ClusterFacts, gpus: int) -> list[str]:
    """The GPU types of which one usable node has that many."""
    return sorted({g.model for n in facts.usable_nodes() for g in gpu_groups(n) if g.count >= gpus})


def _lines(profile: RepoProfile, name: str) -> tuple[SourceLine, ...]:
    return profile.evidence.get(name, ())[:3]


def _entry_point(scene: Scene) -> Iterator[Question]:
    profile = scene.profile
    ranked = sorted(profile.candidates, key=lambda c: -c.score)
    near = list(_close(ranked))[:4]
    if len(near) < 2 or _decided(near, scene):
        return
    near.sort(key=lambda c: c.entry_point != profile.entry_point)
    choices = tuple(dict.fromkeys(_start(c.entry_point, c.launcher, profile.launch_cwd) for c in near))
    if len(choices) > 1:
        doubt = max(doubt_by_score([c.score for c in near]), doubt_of(scene.sureness("entry_point"), 0.0))
        yield Question(
            id="entry_point",
            text="Which of these starts the training?",
            path="command",
            default=choices[0],
            choices=choices,
            reason="; ".join(_speaks(c) for c in near),
            evidence=tuple(e for c in near for e in c.evidence[:1]),
            cost_of_wrong=cost(doubt, WASTED),
        )


def _close(ranked: Sequence[EntryCandidate]) -> Iterator[EntryCandidate]:
    """The best and those close to it; one that the best itself calls, or that calls it, is the same training."""
    if not ranked or ranked[0].score <= 0:
        return
    best = ranked[0]
    for candidate in ranked:
        same = best is not candidate and (
            candidate.entry_point in {e.file for e in best.evidence}
            or best.entry_point in {e.file for e in candidate.evidence}
        )
        if candidate.score >= max(CLOSE * best.score, best.score - MARGIN) and not same:
            yield candidate


def _decided(near: Sequence[EntryCandidate], scene: Scene) -> bool:
    """Whether the sentence says which: a script by its name, or words that only the first one's command has."""
    if any(c.entry_point.rsplit("/", 1)[-1] in scene.prompt for c in near):
        return True
    command = set((scene.profile.launch_command or "").lower().replace("=", " ").replace("/", " ").split())
    if any(word.lower().rsplit("/", 1)[-1] in command for word in _DISTINCT.findall(scene.prompt)):
        return near[0].entry_point == scene.profile.entry_point
    asked = [any(_REQUEST in reason for reason in c.reasons) for c in near]
    return asked[0] and not any(asked[1:])


_REQUEST: Final = "the request speaks of"
_DISTINCT: Final = re.compile(r"(?<![\w/.-])(?=[\w/.-]*\d|[\w/-]*\.\w)[A-Za-z][\w/.-]{3,}\w")
"""Words of a sentence that name one thing: with a digit or an ending (`coco128`, `train.jsonl`)."""


def _speaks(candidate: EntryCandidate) -> str:
    against = f", but {', '.join(candidate.against[:2])}" if candidate.against else ""
    return f"{candidate.entry_point}: {', '.join(candidate.reasons[:3]) or 'looks like a training'}{against}"


def _no_entry_point(scene: Scene) -> Iterator[Question]:
    profile = scene.profile
    if profile.entry_point is None and not profile.candidates and documented(profile) is None:
        named = tuple(_by_name(path) for path in profile.named_so)
        yield Question(
            id="entry_point",
            text="Nothing in the repository was found to train. Which command shall be run?",
            path="command",
            default=named[0] if named else None,
            choices=named,
            reason="; ".join(profile.notes[:2]) or "no file starts a training",
            required=True,
            cost_of_wrong=cost(1, STUCK),
        )


def _by_name(path: str) -> str:
    """The command of a file of which only its name is known."""
    told = shlex.quote(path)
    return f"bash {told}" if path.endswith(".sh") else told if path.endswith(".ipynb") else f"python {told}"


def _start(entry: str, launcher: Launcher, cwd: str) -> str:
    inside = entry.removeprefix(f"{cwd.strip('/')}/")
    words = {Launcher.TORCHRUN: "torchrun", Launcher.ACCELERATE: "accelerate launch", Launcher.DEEPSPEED: "deepspeed"}
    return f"{words[launcher]} {inside}" if launcher in words else inside


def _field(entry: str) -> str:
    """The plan field of an entry of the known flags."""
    return entry.partition("=")[0].partition(":")[0]


def _needed_options(scene: Scene) -> Iterator[Question]:
    """Options that the parser demands, or that the documented command leaves as a placeholder."""
    command = documented(scene.profile)
    given = [w.partition("=")[0] for w in command.command] if command else []
    gaps = command.gaps if command else ()
    # `field:kind` and `field=value` say how an option takes a field; one that takes a field as it is goes before them.
    spelled = sorted(scene.flags.items(), key=lambda entry: _field(entry[0]) == entry[0])
    taken = {flag.split()[0]: _field(path) for path, flag in spelled if flag}
    for option in scene.profile.options:
        if plain(option.flag) in _LAUNCHERS_OWN:
            continue
        there = any(same_flag(name, word) for word in given for name in (option.flag, *option.aliases))
        missing = any(same_flag(option.flag, gap) for gap in gaps) or (
            option.required and not there and option.default is None
        )
        if not missing or not option.flag.startswith("-"):
            continue
        path = taken.get(option.flag, f"training.options.{option.flag}")
        known = {"model.id": scene.profile.base_model, "dataset.path": scene.profile.dataset}
        if path == "training.output_dir" or known.get(path) or path in _SOUGHT.values():
            continue
        yield Question(
            id=f"{OPTION}{option.flag}",
            text=f"Which value shall {option.flag} have?" + (f" ({option.help})" if option.help else ""),
            path=path,
            choices=option.choices,
            reason="the program doesn't start without it",
            evidence=_lines(scene.profile, option.flag) or _lines(scene.profile, "launch_command")[:1],
            required=True,
            cost_of_wrong=cost(1, STUCK),
        )


def _sought(scene: Scene) -> Iterator[Question]:
    """Base model and data, where the program takes one and names none, or what was found is doubtful."""
    profile = scene.profile
    texts = {
        "base_model": "Which base model shall be trained (a hub id or a path on the nodes)?",
        "dataset": "Which data shall it train on (a hub id or a path as the job sees it)?",
    }
    for name, path in _SOUGHT.items():
        found = profile.base_model if name == "base_model" else profile.dataset
        sure = scene.sureness(name)
        if found is None:
            if _is_open(scene, path):
                yield Question(
                    id=name,
                    text=texts[name],
                    path=path,
                    reason=f"{scene.flags[path]} takes {'one' if name == 'base_model' else 'them'} and the repository "
                    "names none",
                    evidence=_lines(profile, name),
                    required=True,
                    cost_of_wrong=cost(1, STUCK),
                )
        elif sure is not None and sure < UNSURE and path in scene.flags and path not in scene.said:
            yield Question(
                id=name,
                text=texts[name],
                path=path,
                default=found,
                reason=f"{found} was found, and it isn't sure that it is the one",
                evidence=_lines(profile, name),
                cost_of_wrong=cost(doubt_of(sure, 0.5), WASTED),
            )


def _is_open(scene: Scene, path: str) -> bool:
    """Whether a flag takes the field and nothing says with what: demanded, a placeholder, or empty in an LLM's script.

    Elsewhere an empty default is left alone: the program may well know where its own data are.
    """
    flag = scene.flags.get(path)
    option = next((o for o in scene.profile.options if o.flag == flag), None)
    if flag is None or option is None:
        return False
    command = documented(scene.profile)
    names = (flag, *option.aliases)
    gap = command is not None and any(name in command.gaps for name in names)
    if command is not None and not gap and any(w.partition("=")[0] in names for w in command.command):
        return False  # the documented command says with what
    language = bool(_LANGUAGE_MODELS & {lib.lower() for lib in scene.profile.libraries})
    return option.required or gap or (language and option.default in (None, ""))


def _outputs(scene: Scene) -> Iterator[Question]:
    """On a real cluster, what is in an allocation is gone after garbage collection."""
    if scene.facts.kind is not ClusterKind.NOMAD or scene.facts.shared_files:
        return
    nodes = scene.facts.usable_nodes()
    able = [n for n in nodes if gpu_groups(n)] if scene.gpu else nodes
    # raw_exec mounts nothing, and docker is taken only with an image.
    image = scene.image or image_in(scene.profile)
    mounting = [n for n in able if "exec" in n.drivers or (image and "docker" in n.drivers)]
    volumes = writable_volumes(mounting, scene.facts) if mounting else ()
    choices: tuple[Json, ...] = (*(f"volume:{v}" for v in volumes), URL_CHOICE, "allocation")
    yield Question(
        id="outputs",
        text="Where shall the weights go: to a volume, or to a URL like s3://bucket/runs?",
        path="outputs",
        default=choices[0] if volumes else "allocation",
        choices=choices,
        reason="what stays in the allocation is lost when the cluster cleans up",
        cost_of_wrong=cost(doubt_among(len(choices)), MOVED) if volumes else cost(0.9, LOST),
    )


def _money(scene: Scene) -> Iterator[Question]:
    if scene.gpu and scene.facts.kind is ClusterKind.NOMAD and "limits.max_run_s" not in scene.known:
        yield Question(
            id="max_cost",
            text="How many US dollars may the training cost at most?",
            path="limits.max_cost_usd",
            reason="GPUs cost money and the training's speed isn't known; without an answer your settings' limit holds",
            cost_of_wrong=cost(0.5, REDONE),  # ended too early by the limit, or more spent than was meant
        )


def _method(scene: Scene) -> Iterator[Question]:
    option = flag_for(scene.flags, "training.method")
    if scene.profile.method is None and option is not None:
        allowed = next((o.choices for o in scene.profile.options if o.flag == option and o.choices), ("lora", "full"))
        yield Question(
            id="method",
            text="Shall all weights be trained, or an adapter?",
            path="training.method",
            default="lora" if "lora" in allowed else allowed[0],
            choices=tuple(allowed),
            reason=f"{option} decides on memory and cost; an adapter is the cheaper start",
            evidence=_lines(scene.profile, "method"),
            cost_of_wrong=cost(doubt_among(len(allowed)), REDONE),
        )


def _gpus(scene: Scene) -> Iterator[Question]:
    groups = [g for n in scene.facts.usable_nodes() for g in gpu_groups(n)]
    most = max((g.count for g in groups), default=0)
    sure = scene.sureness("num_gpus")
    found = scene.profile.num_gpus
    guessed = found is None or (sure is not None and sure < UNSURE)
    if scene.gpu and guessed and most > 1 and "resources.gpus" not in scene.known:
        default = min(found or 1, most)
        choices = tuple(n for n in sorted({1, 2, 4, 8, 16, default}) if n <= most)
        yield Question(
            id="gpus",
            text="How many GPUs shall it use?",
            path="resources.gpus",
            default=default,
            choices=choices,
            reason=f"the repository doesn't say; a node has up to {most}",
            evidence=_lines(scene.profile, "num_gpus"),
            cost_of_wrong=cost(min(doubt_of(sure, 1.0), doubt_among(len(choices))), DEARER),
        )
    models = gpu_types(scene.facts, scene.gpus)
    if scene.gpu and len(models) > 1:
        yield Question(
            id="gpu_type",
            text="Which GPU type shall it use? Without an answer, the cheapest that holds it.",
            path="resources.gpu_model",
            choices=tuple(models),
            reason=f"the cluster has {len(models)} kinds" + (f" with {scene.gpus} on a node" if scene.gpus > 1 else ""),
            cost_of_wrong=cost(0.25, DEARER),  # the chooser's formula is right for most
        )


def _length(scene: Scene) -> Iterator[Question]:
    if "training.epochs" in scene.flags and not scene.known & {"training.max_steps", "limits.max_run_s"}:
        yield Question(
            id="epochs",
            text="For how many epochs shall it train?",
            path="training.epochs",
            default=1,
            reason=f"{scene.flags['training.epochs']} has no default that could be read",
            evidence=_lines(scene.profile, "key_hyperparameters"),
            cost_of_wrong=cost(0.4, REDONE),
        )


def _target(scene: Scene) -> Iterator[Question]:
    metrics = judging(scene.profile.metrics_logged)
    if len(metrics) > 1 and clear_metric(metrics) is None and not any(m in scene.prompt for m in metrics):
        best = next((m for m in metrics if "eval" in m or "val" in m), metrics[0])
        yield Question(
            id="target_metric",
            text="By which metric shall the training be judged?",
            path="target",
            default=best,
            choices=metrics[:8],
            reason=f"{len(metrics)} are logged",
            evidence=_lines(scene.profile, "metrics_logged"),
            cost_of_wrong=cost(doubt_among(len(metrics)), MOVED),
        )


RULES: Final[tuple[Callable[[Scene], Iterator[Question]], ...]] = (
    _entry_point,
    _no_entry_point,
    _needed_options,
    _sought,
    _outputs,
    _money,
    _method,
    _gpus,
    _length,
    _target,
)


def flag_for(flags: Mapping[str, str], path: str) -> str | None:
    """The flag that sets a field of the plan, by its value or one flag for each value; None where there is none."""
    found = next((flag for known, flag in flags.items() if known.partition("=")[0] == path), None)
    return found.split()[0] if found else None


def option_of(profile: RepoProfile, flag: str) -> ScriptOption | None:
    """The parser's option of exactly that flag, else spelled with other dashes."""
    return next((o for o in profile.options if o.flag == flag), None) or profile.option(flag)

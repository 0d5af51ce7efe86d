"""The questions: only where the repository leaves a gap and the answer changes the plan.

Ranked by what a wrong guess would cost; at most five. Nothing is asked that the repository or the sentence says.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, NamedTuple

from caravan.planning.answers import OPTION
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.command import Documented, read_command
from caravan.planning.config_keys import repository_values
from caravan.planning.draft import image_in, wants_gpu
from caravan.planning.flags import known_flags
from caravan.planning.metrics import clear_metric, judging
from caravan.planning.outputs import URL_CHOICE, writable_volumes
from caravan.planning.prompt_reading import read_prompt
from caravan.values.base import Json
from caravan.values.dialogue import Question
from caravan.values.failure import FailureClass, PastCase
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.repo import Launcher, RepoProfile, SourceLine

MOST: Final = 5
CLOSE: Final = 0.8
"""Entry points count as close when the second scores at least this share of the first."""
_SOUGHT: Final = {"base_model": "model.id", "dataset": "dataset.path"}
_LANGUAGE_MODELS: Final = frozenset({"transformers", "peft", "trl", "unsloth", "axolotl", "litgpt", "torchtune"})


class _Scene(NamedTuple):
    """What the rules look at. `known`: plan paths that somebody has set already."""

    profile: RepoProfile
    prompt: str
    facts: ClusterFacts
    known: frozenset[str]
    flags: dict[str, str]
    gpu: bool
    image: str | None = None  # what the settings name
    gpus: int = 1  # of a node, as far as somebody has said


def draft_questions(
    profile: RepoProfile,
    prompt: str,
    facts: ClusterFacts,
    cases: Sequence[PastCase],
    *,
    answered: Collection[str] = (),
    image: str | None = None,
) -> tuple[Question, ...]:
    """At most five questions, the costliest to guess wrong first.

    `answered`: plan paths or question ids that `--set` or an answers file give. A past case in which data, model or
    access was missing makes the question about it more urgent.
    """
    said = {c.path: c.value for c in read_prompt(prompt)}
    flags = known_flags(profile)
    no_gpu = said.get("resources.gpus") == 0
    known = frozenset({*said, *answered, *repository_values(profile, _documented(profile))})
    wants = wants_gpu(profile) and not no_gpu and _has_gpus(facts)
    scene = _Scene(profile, prompt, facts, known, flags, wants, image, _gpus_said(said, profile, facts))
    found = [q for rule in _RULES for q in rule(scene) if q.path not in known and q.id not in known]
    urgent = _urgent(cases)
    found = [q.model_copy(update={"cost_of_wrong": q.cost_of_wrong + urgent.get(q.id, 0.0)}) for q in found]
    return tuple(sorted(found, key=lambda q: (-q.cost_of_wrong, q.id))[:MOST])


def offered(questions: Sequence[Question], facts: ClusterFacts, gpus: Json) -> tuple[Question, ...]:
    """The questions for one who has asked for that many GPUs: GPU types that no node has so many of are no choices."""
    if not isinstance(gpus, int):
        return tuple(questions)
    enough = set(_types(facts, gpus))
    found = []
    for question in questions:
        if question.path == "resources.gpu_model":
            choices = tuple(c for c in question.choices if c in enough)
            if len(choices) < 2:
                continue
            question = question.model_copy(update={"choices": choices})
        found.append(question)
    return tuple(found)


def _types(facts: ClusterFacts, gpus: int) -> list[str]:
    return sorted({g.model for n in facts.usable_nodes() for g in gpu_groups(n) if g.count >= gpus})


def _gpus_said(said: dict[str, Json], profile: RepoProfile, facts: ClusterFacts) -> int:
    """How many GPUs of a node are known to be asked for; a repository that wants more than there are gets the most."""
    asked = said.get("resources.gpus")
    if isinstance(asked, int):
        return asked
    return min(profile.num_gpus or 1, max((g.count for n in facts.usable_nodes() for g in gpu_groups(n)), default=1))


def _documented(profile: RepoProfile) -> Documented | None:
    return read_command(profile.launch_command, profile.launcher) if profile.launch_command else None


def _has_gpus(facts: ClusterFacts) -> bool:
    return any(gpu_groups(n) for n in facts.usable_nodes())


def _urgent(cases: Sequence[PastCase]) -> dict[str, float]:
    found: dict[str, float] = {}
    for case in cases:
        if case.failure is FailureClass.DATA_PATH_MISSING:
            found["dataset"] = 10.0
        if case.failure is FailureClass.HUB_NOT_FOUND:
            found["base_model"] = 10.0
    return found


def _lines(profile: RepoProfile, name: str) -> tuple[SourceLine, ...]:
    return profile.evidence.get(name, ())[:3]


def _entry_point(scene: _Scene) -> Iterator[Question]:
    ranked = sorted(scene.profile.candidates, key=lambda c: -c.score)
    near = [c for c in ranked if ranked[0].score > 0 and c.score >= CLOSE * ranked[0].score][:4]
    if len(near) < 2 or any(c.entry_point.rsplit("/", 1)[-1] in scene.prompt for c in near):
        return
    chosen = scene.profile.entry_point
    near.sort(key=lambda c: c.entry_point != chosen)
    choices = tuple(dict.fromkeys(_start(c.entry_point, c.launcher, scene.profile.launch_cwd) for c in near))
    if len(choices) > 1:
        yield Question(
            id="entry_point",
            text="Which of these starts the training?",
            path="command",
            default=choices[0],
            choices=choices,
            reason="; ".join(f"{c.entry_point}: {', '.join(c.reasons) or 'looks like a training'}" for c in near),
            evidence=tuple(e for c in near for e in c.evidence[:1]),
            cost_of_wrong=100,
        )


def _no_entry_point(scene: _Scene) -> Iterator[Question]:
    profile = scene.profile
    if profile.entry_point is None and not profile.candidates and _documented(profile) is None:
        yield Question(
            id="entry_point",
            text="Nothing in the repository was found to train. Which command shall be run?",
            path="command",
            reason="; ".join(profile.notes[:2]) or "no file starts a training",
            required=True,
            cost_of_wrong=100,
        )


def _start(entry: str, launcher: Launcher, cwd: str) -> str:
    inside = entry.removeprefix(f"{cwd.strip('/')}/")
    words = {Launcher.TORCHRUN: "torchrun", Launcher.ACCELERATE: "accelerate launch", Launcher.DEEPSPEED: "deepspeed"}
    return f"{words[launcher]} {inside}" if launcher in words else inside


def _needed_options(scene: _Scene) -> Iterator[Question]:
    """Options that the parser demands, or that the documented command leaves as a placeholder."""
    documented = _documented(scene.profile)
    given = {w.partition("=")[0] for w in documented.command} if documented else set()
    gaps = set(documented.gaps) if documented else set()
    taken = {flag: path for path, flag in scene.flags.items()}
    for option in scene.profile.options:
        missing = option.flag in gaps or (option.required and option.flag not in given and option.default is None)
        if not missing or not option.flag.startswith("-"):
            continue
        path = taken.get(option.flag, f"training.options.{option.flag}")
        known = {"model.id": scene.profile.base_model, "dataset.path": scene.profile.dataset}
        if path == "training.output_dir" or known.get(path) or path in _SOUGHT.values():
            continue
        yield Question(
            id=f"{OPTION}{option.flag}",
            text=f"Which value shall {option.flag} have?" + (f" ({option.help})" if option.help else ""),
            path=path.partition("=")[0],
            choices=option.choices,
            reason="the program doesn't start without it",
            required=True,
            cost_of_wrong=95,
        )


def _sought(scene: _Scene) -> Iterator[Question]:
    """Base model and data, where the program takes one and names none."""
    profile = scene.profile
    if profile.base_model is None and _is_open(scene, "model.id"):
        yield Question(
            id="base_model",
            text="Which base model shall be trained (a hub id or a path on the nodes)?",
            path="model.id",
            reason=f"{scene.flags['model.id']} takes one and the repository names none",
            evidence=_lines(profile, "base_model"),
            required=True,
            cost_of_wrong=90,
        )
    if profile.dataset is None and _is_open(scene, "dataset.path"):
        yield Question(
            id="dataset",
            text="Which data shall it train on (a hub id or a path as the job sees it)?",
            path="dataset.path",
            reason=f"{scene.flags['dataset.path']} takes them and the repository names none",
            evidence=_lines(profile, "dataset"),
            required=True,
            cost_of_wrong=85,
        )


def _is_open(scene: _Scene, path: str) -> bool:
    """Whether a flag takes the field and nothing says with what: demanded, a placeholder, or empty in an LLM's script.

    Elsewhere an empty default is left alone: the program may well know where its own data are.
    """
    flag = scene.flags.get(path)
    option = next((o for o in scene.profile.options if o.flag == flag), None)
    if flag is None or option is None:
        return False
    documented = _documented(scene.profile)
    language = bool(_LANGUAGE_MODELS & {lib.lower() for lib in scene.profile.libraries})
    return (
        option.required
        or (documented is not None and flag in documented.gaps)
        or (language and option.default in (None, ""))
    )


def _outputs(scene: _Scene) -> Iterator[Question]:
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
        cost_of_wrong=70,
    )


def _money(scene: _Scene) -> Iterator[Question]:
    if scene.gpu and scene.facts.kind is ClusterKind.NOMAD and "limits.max_run_s" not in scene.known:
        yield Question(
            id="max_cost",
            text="How many US dollars may the training cost at most?",
            path="limits.max_cost_usd",
            reason="GPUs cost money and the training's speed isn't known; without an answer your settings' limit holds",
            cost_of_wrong=60,
        )


def _method(scene: _Scene) -> Iterator[Question]:
    option = scene.flags.get("training.method") or scene.flags.get("training.method=lora")
    if scene.profile.method is None and option is not None:
        allowed = next((o.choices for o in scene.profile.options if o.flag == option and o.choices), ("lora", "full"))
        yield Question(
            id="method",
            text="Shall all weights be trained, or an adapter?",
            path="training.method",
            default="lora" if "lora" in allowed else allowed[0],
            choices=tuple(allowed),
            reason="it decides on memory and cost; an adapter is the cheaper start",
            cost_of_wrong=50,
        )


def _gpus(scene: _Scene) -> Iterator[Question]:
    groups = [g for n in scene.facts.usable_nodes() for g in gpu_groups(n)]
    most = max((g.count for g in groups), default=0)
    if scene.gpu and scene.profile.num_gpus is None and most > 1 and "resources.gpus" not in scene.known:
        yield Question(
            id="gpus",
            text="How many GPUs shall it use?",
            path="resources.gpus",
            default=1,
            choices=tuple(n for n in (1, 2, 4, 8, 16) if n <= most),
            reason=f"the repository doesn't say; a node has up to {most}",
            cost_of_wrong=40,
        )
    models = _types(scene.facts, scene.gpus)
    if scene.gpu and len(models) > 1:
        yield Question(
            id="gpu_type",
            text="Which GPU type shall it use? Without an answer, the cheapest that holds it.",
            path="resources.gpu_model",
            choices=tuple(models),
            reason=f"the cluster has {len(models)} kinds" + (f" with {scene.gpus} on a node" if scene.gpus > 1 else ""),
            cost_of_wrong=20,
        )


def _length(scene: _Scene) -> Iterator[Question]:
    if "training.epochs" in scene.flags and not scene.known & {"training.max_steps", "limits.max_run_s"}:
        yield Question(
            id="epochs",
            text="For how many epochs shall it train?",
            path="training.epochs",
            default=1,
            reason=f"{scene.flags['training.epochs']} has no default that could be read",
            cost_of_wrong=35,
        )


def _target(scene: _Scene) -> Iterator[Question]:
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
            cost_of_wrong=10,
        )


_RULES: Final[tuple[Callable[[_Scene], Iterator[Question]], ...]] = (
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

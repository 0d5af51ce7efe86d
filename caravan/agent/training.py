"""Training types in a run: chosen while the repository is read, their files added to it, kept with the run.

The repository is never written. The files are rendered once; a run that is resumed has those that it was planned with,
whatever has become of the type since.
"""

import json
from collections.abc import Callable, Iterable
from typing import Final

from caravan import __version__
from caravan.agent.context import Context
from caravan.agent.named_places import beyond_the_tree
from caravan.agent.state import RunState
from caravan.analysis import analyze
from caravan.analysis.added import WithAdded
from caravan.analysis.made import MadeModel, made_models, makes_model
from caravan.analysis.tree import SourceTree
from caravan.planning.answers import QUESTION_PATHS, changes_from
from caravan.planning.prompt_reading import read_prompt
from caravan.planning.stakes import WASTED, cost
from caravan.training.choosing import Chosen, Scene, asks_for_ours, choose, outside
from caravan.training.choosing import named as named_in
from caravan.training.declared import declared
from caravan.training.loading import Types
from caravan.training.ranges import beyond, set_by_people
from caravan.training.rendering import digest, render
from caravan.training.sniffing import HEAD, Seen, architectures, image_folders, likely, look
from caravan.values.base import Json
from caravan.values.dialogue import Question
from caravan.values.errors import PlanError, UsageError
from caravan.values.places import SourceLine
from caravan.values.plan import Author, PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.run import RunRequest
from caravan.values.training import TrainingChoice

QUESTION: Final = "training_type"
FIELD: Final = QUESTION_PATHS[QUESTION]
_KEPT: Final = "training/"
"""Where a run's folder has the rendered files, so that a person reads what ran."""


def with_type(
    tree: SourceTree, profile: RepoProfile, request: RunRequest, context: Context, *, answered: str | None = None
) -> tuple[TrainingChoice, RepoProfile] | None:
    """The type that trains and the profile of its script; None where the repository's own program does.

    `answered`: the type that a question's answer names. Raises UsageError for a type that there is not, and for a
    repository that has a folder of the files' name.
    """
    named = answered or named_type(request)
    if named is None and _trains(profile, tree) and not asks_for_ours(request.prompt):
        return None
    if declined(request):
        return None
    types = context.types()
    scene, made, shown = scene_of(tree, request, any_text=named is not None)
    found = choose(types, scene, named=named)
    if found is None:
        return None
    said = (*changes_from(request.answers), *request.sets)
    if (refused := beyond(found.folder.type, said)) is not None:
        raise UsageError(f"{refused}.")
    files = render(found.folder, version=__version__)
    added = WithAdded(tree, files)
    choice = _choice(found, scene, digest(files), types.sets(named) if named else {})
    read = analyze(added, request.prompt, entry=f"{_top(files)}/{found.folder.type.entry}")
    preparation = tuple(m.command for m in made if m.path == choice.model)
    context.folder.save_papers({f"{_KEPT}{path}": text for path, text in files.items()})
    brought = declared(read, found.folder.type, choice, data_sure=found.data_sure, preparation=preparation)
    evidence = {"base_model": shown} if shown else {}
    return choice, brought.model_copy(update={"evidence": evidence})


def _trains(profile: RepoProfile, tree: SourceTree) -> bool:
    """Whether the repository has a program that trains: one that only makes the model is none."""
    return profile.is_training_repo and not (profile.entry_point and makes_model(tree, profile.entry_point))


def named_type(request: RunRequest) -> str | None:
    """The type that the request names: by `--type`, `--set`, an answers file or a plan file, the last word counting."""
    said = _said(request)
    return str(said[-1]) if said and said[-1] is not None else None


def declined(request: RunRequest) -> bool:
    """Whether the request says that the repository's own program trains (`training.type=null`)."""
    said = _said(request)
    return bool(said) and said[-1] is None


def _said(request: RunRequest) -> list[Json]:
    answered = [value for name, value in request.answers.items() if name in (FIELD, QUESTION)]
    return [*answered, *(change.value for change in request.sets if change.path == FIELD)]


def source_of(state: RunState, context: Context) -> SourceTree:
    """The run's repository, with the files of its training type where it has one.

    Raises UsageError where the files that the run was planned with are gone and can't be made again.
    """
    repeats = state.request.reproduces
    if repeats is not None:  # the kept code has a type's files too
        return context.open_tree(repeats.source)
    tree = context.open_tree(state.request.source)
    if state.training is None:
        return tree
    return WithAdded(tree, _files(state.training, context))


def _files(choice: TrainingChoice, context: Context) -> dict[str, str]:
    papers = context.folder.papers()
    kept = {name.removeprefix(_KEPT): text for name, text in papers.items() if name.startswith(_KEPT)}
    found = files_of_type(choice, kept, context.types)
    if found is not kept:
        context.folder.save_papers({f"{_KEPT}{path}": text for path, text in found.items()})
    return found


def files_of_type(choice: TrainingChoice, kept: dict[str, str], types: Callable[[], Types]) -> dict[str, str]:
    """The files of the run's training type: those that were kept, else the same rendered anew.

    Raises UsageError where they are gone and can't be made again.
    """
    if digest(kept) == choice.digest:
        return kept
    anew = render(types().get(choice.type), version=__version__)
    if digest(anew) != choice.digest:
        raise UsageError(
            f"The files of this run's training type {choice.type} are gone, and the type has changed since.",
            hint="Start the run again.",
        )
    return anew


def check_ranges(plan: TrainingPlan, choice: TrainingChoice | None, context: Context) -> None:
    """Raise PlanError where a person has set what no knob of the plan's training type takes."""
    if choice is None:
        return
    refused = beyond(context.types().get(choice.type).type, set_by_people(plan))
    if refused is not None:
        raise PlanError(f"{refused}.")


def changed_since(state: RunState, context: Context) -> tuple[str, ...]:
    """That the type's templates are others than those that the run was planned with; nothing where they are not."""
    choice = state.training
    if choice is None:
        return ()
    try:
        now = digest(render(context.types().get(choice.type), version=__version__))
    except UsageError as error:
        return (f"training type {choice.type}: {error.message} This run keeps the scripts that it was planned with.",)
    if now == choice.digest:
        return ()
    return (f"training type {choice.type} has changed since: this run keeps the scripts that it was planned with",)


def type_question(choice: TrainingChoice | None) -> tuple[Question, ...]:
    """Which type it shall be, where another one is as likely."""
    if choice is None or not choice.others:
        return ()
    return (
        Question(
            id=QUESTION,
            text="What shall the model learn from the data: which training type?",
            path=FIELD,
            default=choice.type,
            choices=(choice.type, *choice.others),
            reason=f"{choice.why}; the repository has no training program, and more than one type could take it",
            cost_of_wrong=cost(1 - choice.sure, WASTED),
        ),
    )


def type_changes(choice: TrainingChoice | None, request: RunRequest, context: Context) -> tuple[PlanChange, ...]:
    """What a plan says of the type, beside what the profile says."""
    if choice is None:
        return ()
    why = choice.why if choice.sure < 1 else "asked for"
    found = [PlanChange(path=FIELD, value=choice.type, by=Author.DEFAULT, why=why)]
    if choice.format is not None:
        why = f"what {choice.data} holds"
        found.append(PlanChange(path="dataset.format", value=choice.format.value, by=Author.DEFAULT, why=why))
    if choice.data and outside(choice.data) and _set_to("dataset.path", request) is None:
        # A person's own word: what a repository names outside of itself would not be fetched.
        why = f'prompt: "{choice.data}"'[:300]
        found.append(PlanChange(path="dataset.path", value=choice.data, by=Author.USER, why=why))
    kind = context.types().get(choice.type).type
    metric = next((m for m in kind.metrics if m.name == kind.target), None)
    if metric is not None:
        value = {"metric": metric.name, "direction": metric.direction}
        found.append(PlanChange(path="target", value=value, by=Author.DEFAULT, why=f"what {choice.type} is judged by"))
    return tuple(found)


def plainly(request: RunRequest, context: Context) -> RunRequest:
    """The request with a type's own name in place of an alias, and what the alias sets said beside it.

    Raises UsageError for a type that there is not.
    """
    if named_type(request) is None:
        return request
    types, sets = context.types(), list[PlanChange]()
    for change in request.sets:
        if change.path != FIELD or change.value is None:
            sets.append(change)
            continue
        name = str(change.value)
        sets.append(change.model_copy(update={"value": types.get(name).type.name}))
        more = types.sets(name).items()
        sets += [
            change.model_copy(update={"path": path, "value": value, "why": f"--type {name}"}) for path, value in more
        ]
    answers = dict[str, Json]()
    for key, value in request.answers.items():
        if key in (FIELD, QUESTION) and value is not None:
            answers |= {path: item for path, item in types.sets(str(value)).items() if path not in request.answers}
            value = types.get(str(value)).type.name
        answers[key] = value
    return request.model_copy(update={"sets": tuple(sets), "answers": answers})


def with_answered_type(state: RunState, context: Context) -> RunState:
    """The state with the type that an answer has named, and the profile of that one's script."""
    choice = state.training
    said = next((a.value for a in state.answers if a.question_id == QUESTION), None)
    if choice is None or said is None or str(said) == choice.type:
        return state
    tree = context.open_tree(state.request.source)
    brought = with_type(tree, state.need_profile(), state.request, context, answered=str(said))
    if brought is None:
        return state
    return state.model_copy(update={"training": brought[0], "profile": brought[1]})


def told(choice: TrainingChoice, profile: RepoProfile) -> str:
    """What was chosen, in a line."""
    model = profile.base_model or ("a model that is asked for" if "model.id" in profile.takes else "a new model")
    data = choice.data or "data that is asked for"
    return f"trains with Caravan's own script, type {choice.type} ({choice.why}): {model} on {data}"


def _choice(found: Chosen, scene: Scene, rendered: str, sets: dict[str, Json]) -> TrainingChoice:
    return TrainingChoice(
        type=found.folder.type.name,
        digest=rendered,
        sets=sets or _method_said(found, scene.prompt),
        data=found.data,
        eval_data=found.held_out,
        model=scene.model,
        format=found.format,
        sure=found.sure,
        others=found.others,
        why=found.why,
    )


def _method_said(found: Chosen, prompt: str) -> dict[str, Json]:
    """What the sentence's method sets, where it is an alias of the type."""
    said = next((str(c.value) for c in read_prompt(prompt) if c.path == "training.method"), None)
    return dict(found.folder.type.aliases.get(said or "", {}))


def scene_of(
    tree: SourceTree, request: RunRequest, *, any_text: bool
) -> tuple[Scene, tuple[MadeModel, ...], tuple[SourceLine, ...]]:
    """What there is to choose from, the models that commands make, and where the model was read that nobody named."""
    paths = [entry.path for entry in tree.files()]
    seen = [found for path in likely(paths, any_text=any_text) if (found := _seen(tree, path)) is not None]
    made = made_models(tree)
    local = _local_models(tree, paths)
    said = next((str(c.value) for c in read_prompt(request.prompt) if c.path == "model.id"), None)
    given, data = _set_to("model.id", request), _set_to("dataset.path", request)
    here = frozenset((*local, *(m.path for m in made)))  # models in the repository, and those that its commands make
    named = named_in(request.prompt, frozenset(paths), here)
    said = said if said is not None and said != named.data else named.model
    model, shown = given or said, tuple[SourceLine, ...]()
    if model is None and len(here) == 1:
        (model,) = here
        if model not in request.prompt:  # else the sentence has it, as it is spelled
            shown = tuple(SourceLine(file=m.file, line=m.line, text=m.command[:300]) for m in made if m.path == model)[
                :1
            ]
            shown = shown or (SourceLine(file=f"{model}/config.json", line=0),)
    scene = Scene(
        prompt=request.prompt,
        seen=(*seen, *image_folders(paths)),
        paths=frozenset(paths),
        model=str(model) if model else None,
        model_is=local.get(str(model)) or (architectures({"model_type": str(model)}) if model else None),
        models=here | {str(said)} if said else here,
        data=str(data) if data else None,
    )
    return beyond_the_tree(scene, None if tree.cloned else tree.root), made, shown


def _set_to(path: str, request: RunRequest) -> Json:
    """What `--set` or an answers file sets a field to, the last word counting."""
    return next((c.value for c in reversed((*changes_from(request.answers), *request.sets)) if c.path == path), None)


def _seen(tree: SourceTree, path: str) -> Seen | None:
    head = tree.part(path, HEAD)
    return look(path, head) if head is not None else None


def _local_models(tree: SourceTree, paths: Iterable[str]) -> dict[str, str | None]:
    """Folders of the repository that hold a model with its weights: path → what it is."""
    all_paths = list(paths)
    found = {}
    for path in all_paths:
        folder = path.rpartition("/")[0]
        if not folder or not path.endswith("/config.json"):
            continue
        if not any(p.startswith(f"{folder}/") and p.endswith((".safetensors", ".bin")) for p in all_paths):
            continue
        try:
            found[folder] = architectures(json.loads(tree.text(path) or ""))
        except (ValueError, RecursionError):
            found[folder] = None
    return found


def _top(files: Iterable[str]) -> str:
    return next(iter(files)).partition("/")[0]

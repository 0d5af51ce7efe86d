"""The look at a plan's data, model and output place, as far as they can be seen from this machine.

Where the bytes are is decided here; what they are is `caravan.training.data`'s to say. Nothing is changed or sent.
"""

import posixpath
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from caravan.agent.context import Context
from caravan.agent.data_delivery import looks_like_data
from caravan.agent.data_places import model_at, model_in_cache, place_at, template_at
from caravan.agent.data_room import room_problems
from caravan.analysis.made import made_models
from caravan.analysis.tree import SourceTree
from caravan.planning.delivery import covering
from caravan.training.data.look import Wish, check_data
from caravan.training.data.model_files import ModelFiles
from caravan.training.data.places import Place
from caravan.values.base import Json
from caravan.values.plan import TrainingPlan
from caravan.values.training import DataFormat, DataReport, TrainingChoice, TrainingType

_HUB: Final = re.compile(r"(?:hub:)?[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?(?:@[\w./-]+)?(?::[\w.-]+)?")
_NOT_ASKED: Final = "hubs are not asked from here (CARAVAN_LOOK_UP, HF_HUB_OFFLINE)"
_ELSEWHERE: Final = "it is not on this machine: the job looks at it before it trains"


def look(
    found: TrainingType, choice: TrainingChoice, plan: TrainingPlan, tree: SourceTree, context: Context
) -> DataReport:
    """What a plan's data are, with what is wrong with its model and its output place. Raises nothing for either."""
    place = _data(plan, tree, context)
    model = _with_template(_model(plan, tree, context), plan, tree)
    evaluation = _evaluation(choice, plan, tree, context)
    wish = Wish(found, _format(plan), _columns(plan), _max_len(found, plan))
    report = check_data(place, wish, evaluation=evaluation, model=model)
    return report.model_copy(update={"problems": (*report.problems, *room_problems(plan, model, context))})


def _data(plan: TrainingPlan, tree: SourceTree, context: Context) -> Place:
    if plan.data is not None and plan.data.local:
        return place_at(Path(plan.data.local), plan.dataset.path or plan.data.local)
    return _place(plan.dataset.path or "", plan, tree, context)


def _place(text: str, plan: TrainingPlan, tree: SourceTree, context: Context) -> Place:
    """Where a name leads: a file here, the hub, or a place that can't be seen from here."""
    here = _here(text, plan, tree)
    if here is not None:
        return place_at(here, text)
    if "://" in text or covering(plan, text) is not None or _is_made(text, plan):
        return Place(text, unseen=_ELSEWHERE)
    if text.startswith(("/", "~")):
        seen = context.facts().shared_files and plan.driver != "docker"
        return Place(text, missing="there is no such file or folder") if seen else Place(text, unseen=_ELSEWHERE)
    if not looks_like_data(text) and _HUB.fullmatch(text):
        return _on_hub(text, context)
    if plan.code.kind == "archive":
        return Place(text, missing="there is no such file or folder in the repository")
    return Place(text, unseen=_ELSEWHERE)


def _here(text: str, plan: TrainingPlan, tree: SourceTree) -> Path | None:
    """The path on this machine that a name leads to; a relative one only inside the repository."""
    try:
        if text.startswith(("/", "~")):
            path = Path(text).expanduser()
            return path if path.exists() else None
        for start in (plan.workdir or ".", "."):
            inner = posixpath.normpath(posixpath.join(start, text))
            if tree.real(inner) is not None and (tree.root / inner).exists():
                return tree.root / inner
    except (OSError, RuntimeError, ValueError):
        return None
    return None


def _is_made(text: str, plan: TrainingPlan) -> bool:
    """Whether a command that runs before the training names the path: it may make it."""
    return bool(text) and any(text in command for command in plan.setup.cmd)


def _on_hub(text: str, context: Context) -> Place:
    name = text.removeprefix("hub:")
    place = Place(text, unseen="it is on a hub: its rows are looked at in the job, before it trains")
    if context.hub is None:
        return replace(place, unseen=f"{place.unseen}; not checked whether it is there: {_NOT_ASKED}")
    answer = context.hub.dataset(re.split(r"[@:]", name)[0])
    if answer.absent:
        return Place(text, missing=f"there is no such file, and {answer.text or 'the hub has none of that name'}")
    if not answer.splits and answer.text:
        place = replace(place, unseen=f"{place.unseen}; not checked whether it is there: {answer.text}")
    rows = [s.rows for s in answer.splits if "train" in s.split.lower()]
    known = sum(r for r in rows if r is not None) if rows and None not in rows else None
    return replace(place, rows=known)


def _evaluation(choice: TrainingChoice, plan: TrainingPlan, tree: SourceTree, context: Context) -> Place | None:
    """The data that it is tested on, where they are apart."""
    named = _option(plan, "--eval-data") or choice.eval_data
    return _place(str(named), plan, tree, context) if named else None


def _option(plan: TrainingPlan, flag: str) -> Json:
    """The value of an option of the script, by the plan's options first, then by its command."""
    if flag in plan.training.options:
        return plan.training.options[flag]
    words = list(plan.command)
    return next((words[i + 1] for i, word in enumerate(words[:-1]) if word == flag), None)


def _format(plan: TrainingPlan) -> DataFormat | None:
    said = plan.dataset.format
    return DataFormat(said) if said in set(DataFormat) else None


def _columns(plan: TrainingPlan) -> dict[str, str]:
    """Part → column, as a person says it by `--columns part=name,…` or by the option of one part."""
    pairs = [part.partition("=") for part in str(_option(plan, "--columns") or "").split(",")]
    named = {part.strip(): name.strip() for part, equals, name in pairs if equals and name.strip()}
    for part in ("text", "pair", "label", "anchor", "positive", "negative", "image"):
        column = _option(plan, f"--{part}-column")
        if isinstance(column, str) and column not in ("", "off"):
            named[part] = column
    return named


def _max_len(found: TrainingType, plan: TrainingPlan) -> int | None:
    default = next((knob.default for knob in found.knobs if knob.path == "training.max_len"), None)
    return plan.training.max_len or (default if isinstance(default, int) else None)


def _model(plan: TrainingPlan, tree: SourceTree, context: Context) -> ModelFiles:
    """What is known of the model: from its folder here, from a hub's cache, or from what the hub says."""
    name = plan.model.id or ""
    if not name:
        return ModelFiles()
    here = _here(name, plan, tree)
    made = [m.path for m in made_models(tree)] if here is None or not (here / "config.json").is_file() else []
    if here is not None and here.is_dir() and not made:
        return model_at(here, name)
    if posixpath.normpath(name) in made or _is_made(name, plan) or covering(plan, name) is not None:
        return ModelFiles(name)
    if name.startswith(("/", "~", ".")) or name.count("/") > 1:
        seen = not name.startswith(("/", "~")) or (context.facts().shared_files and plan.driver != "docker")
        return ModelFiles(name, missing="there is no such folder of a model") if seen else ModelFiles(name)
    cached = model_in_cache(context.hub_cache, name, plan.model.revision) if context.hub_cache else None
    return cached or _model_on_hub(name, plan, context)


def _with_template(model: ModelFiles, plan: TrainingPlan, tree: SourceTree) -> ModelFiles:
    """The model with the chat template that the script is given, where it is: a file, or the template itself."""
    told = _option(plan, "--chat-template")
    if not isinstance(told, str) or not told:
        return model
    text = template_at(_here(told, plan, tree)) or (told if "{" in told else None)
    return replace(model, template=text or model.template, whole=model.whole and text is not None)


def _model_on_hub(name: str, plan: TrainingPlan, context: Context) -> ModelFiles:
    if context.hub is None:
        return ModelFiles(name, unchecked=_NOT_ASKED)
    answer = context.hub.model(name, plan.model.revision)
    if answer.absent:
        return ModelFiles(name, missing=f"there is no such model: {answer.text}")
    unknown = answer.config is None and answer.params is None
    return ModelFiles(name, config=answer.config, parameters=answer.params, unchecked=answer.text if unknown else "")

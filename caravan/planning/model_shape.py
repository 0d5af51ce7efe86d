"""A plan's model → its shape, from the surest source that says one, with what a person should know of it.

Order: a config that the plan's path or the repository holds, the hub's config, the table of known models, the
repository's own model code, the parameters that the hub counted, the size in the name. Pure; it asks nobody.
"""

from posixpath import normpath
from typing import Final, NamedTuple

from caravan.planning.model_configs import read_model_config
from caravan.planning.shapes import guessed_shape, listed_shape, sized_shape
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.shape import MOST_PARAMS_B, ModelAnswer, ModelConfig, ModelShape

HOW_TO_GIVE: Final = (
    "name a model by its hub id, give a path with a config.json in the repository, or a name that tells its size "
    "(my-model-7b)"
)


class Found(NamedTuple):
    """A shape and notes on it; without one the notes say why and what to give."""

    shape: ModelShape | None
    notes: tuple[str, ...] = ()


def shape_for(plan: TrainingPlan, profile: RepoProfile | None) -> Found:
    """The shape of the model that the plan trains, as far as plan and profile say it."""
    name = plan.model.id or (profile.base_model if profile else None)
    found = _found(name, profile)
    notes = list(found.notes)
    if found.shape is not None and found.shape.source:
        notes.append(f"shape of the model: {found.shape.source}")
    if found.shape is not None and not found.shape.exact:
        size = f"{found.shape.params_b:.3g}"
        notes.append(f"{name or 'the model'} is sized by {size} B parameters alone: the error may be 50 %")
    notes += too_long(plan.training.max_len, found.shape)
    return Found(found.shape, tuple(notes))


def positions_of(name: str | None, profile: RepoProfile | None) -> int | None:
    """The longest sequence of the model, by its config or the table of known ones; None where that is not known."""
    shape = _found(name, profile).shape
    return shape.max_positions if shape is not None and shape.exact else None


def too_long(length: int | None, shape: ModelShape | None) -> tuple[str, ...]:
    """What to say of a sequence that is longer than the model's."""
    longest = shape.max_positions if shape else None
    if length is None or longest is None or length <= longest:
        return ()
    return (f"a sequence of {length} tokens is longer than the {longest} that the model was made for",)


def _found(name: str | None, profile: RepoProfile | None) -> Found:
    notes: list[str] = []
    configs = profile.model_configs if profile else ()
    if name:
        for config in (c for c in configs if _at(c, name)):
            shape = _read(config, notes)
            if shape is not None:
                return Found(shape, tuple(notes))
    answer = next((a for a in profile.models_on_hub if a.model == name), None) if profile and name else None
    shape = _on_hub(answer, notes) or (listed_shape(name) if name else None)
    sized = sized_shape(name) if name else None
    if shape is None and sized is None:  # a name that nobody knows, or training from nothing: what the code builds
        built = [c for c in configs if not name or c.kind != "config.json"]
        shape = next((s for c in built if (s := _read(c, notes))), None)
    if shape is None and answer is not None and answer.params and answer.params / 1e9 <= MOST_PARAMS_B:
        guess = guessed_shape(max(1e-6, answer.params / 1e9))
        told = f"guessed from the {guess.params_b:.3g} B parameters that the hub counts"
        shape = guess.model_copy(update={"source": told})
    shape = shape or sized
    if shape is not None:
        return Found(shape, tuple(notes))
    what = f"the shape of {name} isn't known" if name else "no base model is known"
    told = f" ({answer.text})" if answer is not None and answer.text else ""
    return Found(None, (*notes, f"GPU memory isn't estimated: {what}{told}", f"to have it estimated: {HOW_TO_GIVE}"))


def _at(config: ModelConfig, name: str) -> bool:
    """Whether a config of the repository is that of the model at the path `name`."""
    folder = normpath(config.file).rpartition("/")[0]
    path = normpath(name)
    return config.kind == "config.json" and path in (normpath(config.file), folder)


def _read(config: ModelConfig, notes: list[str]) -> ModelShape | None:
    where = f"{config.file}:{config.line}" if config.line else config.file
    kind = f"{config.kind} in " if config.kind and config.kind != "config.json" else ""
    told = f"{kind}{where}" if config.file.startswith("/") else f"{kind}{where} of the repository"
    named = config.values.get("architecture")
    if isinstance(named, str) and (listed := listed_shape(named)) is not None:
        return listed.model_copy(update={"source": f"{named} in {where}, by {listed.source}"})
    shape, reason = read_model_config(config.values, source=told)
    if reason and named is None:
        notes.append(f"{kind}{where} gives no shape: {reason}")
    return shape


def _on_hub(answer: ModelAnswer | None, notes: list[str]) -> ModelShape | None:
    if answer is None or answer.config is None:
        return None
    shape, reason = read_model_config(
        answer.config, params=answer.params, source=f"config.json of {answer.model} on the hub"
    )
    if reason:
        notes.append(f"the hub's config.json of {answer.model} gives no shape: {reason}")
    return shape

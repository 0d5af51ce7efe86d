"""From what a person says to what is served: options, model, GPUs, image, cache. Pure.

Whether it may be, and what it costs, is judged elsewhere.
"""

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from caravan.planning.secrets import refuse_values
from caravan.planning.serving import weight_bytes
from caravan.planning.serving_choice import Wish, choose, named_model
from caravan.planning.serving_job import IMAGE, check_name
from caravan.planning.site import mirrored
from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.job import ClusterFacts
from caravan.values.prices import Prices
from caravan.values.serving import HUB_ITEM, KEY_ITEM, Fit, ServeOptions, ServePlan, Weights
from caravan.values.shape import ModelShape
from caravan.values.target import ClusterProfile

_WORDS: Final = ("args", "command")
_KEYS: Final = (("--api-key", "--api"), ("--ssl-keyfile-password", "--ssl-keyfile-"), ("--config", "--conf"))
"""Options of vLLM that hold a key, or a file that may, each with the shortest beginning that can only mean it."""
_OPTIONS: Final = re.compile(r"--[a-z][\w-]*", re.IGNORECASE)
_SET: Final = re.compile(rf"\b({KEY_ITEM}|{HUB_ITEM})\s*=")
_WITHOUT_IMAGE: Final = ("raw_exec", "exec")


class Said(NamedTuple):
    """What the command line says. `shape` is the hub's word on a model that our table does not know."""

    name: str
    model: str | None = None
    shape: ModelShape | None = None
    gpus: int | None = None
    gpu_model: str | None = None
    options: ServeOptions = ServeOptions()
    node_pool: str | None = None
    volume: str | None = None
    image: str | None = None
    hub_token: bool = False


class Decided(NamedTuple):
    """What is served, other models that would fit, and what is worth saying of it."""

    plan: ServePlan
    others: tuple[Fit, ...] = ()
    notes: tuple[str, ...] = ()


def read_options(
    sets: Sequence[str], *, context: int | None = None, quantization: str | None = None, known: Sequence[str] = ()
) -> ServeOptions:
    """The options of `--set FIELD=VALUE`, `--context` and `--quantization`. `known`: values that may stand nowhere.

    Raises UsageError naming the field.
    """
    given: dict[str, Any] = {}
    for text in sets:
        field, value = _pair(text)
        refuse_values(field, value, known)
        given[field] = value
    also = {"context": context, "weights": quantization}
    return _valid(given | {field: said for field, said in also.items() if said is not None})


def _pair(text: str) -> tuple[str, Json]:
    import yaml

    field, equals, said = text.partition("=")
    field = field.strip()
    if not equals or not field:
        raise UsageError(f"--set {text} is no FIELD=VALUE.", hint="Like --set port=8000.")
    if field not in ServeOptions.model_fields:
        near = difflib.get_close_matches(field, list(ServeOptions.model_fields), n=1, cutoff=0.0)
        raise UsageError(f"A served model has no field {field!r}.", hint=f"Did you mean {near[0]}? See docs/model.md.")
    try:
        if field in _WORDS and not said.lstrip().startswith("["):
            return field, shlex.split(said)
        return field, yaml.safe_load(said) if said.strip() else ""
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"--set {field}: the value can't be read.", hint="Quote it as in JSON.") from error


def _valid(given: Mapping[str, Any]) -> ServeOptions:
    from pydantic import ValidationError

    words = [w for field in _WORDS for w in given.get(field) or () if isinstance(given.get(field), list)]
    if any(_holds_key(str(word)) for word in words):
        raise UsageError("A key on the command line stands in the job file for everybody.", hint="It has one anyway.")
    try:
        return ServeOptions.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "options"
        names = {"context": "--context", "weights": "--quantization"}
        raise UsageError(f"{names.get(field, f'--set {field}')}: {first['msg']}.", hint="See docs/model.md.") from error


def _holds_key(word: str) -> bool:
    """Whether a key stands there as vLLM reads it: with _ for -, cut short, or within a line for a shell."""
    found = {name.lower().replace("_", "-") for name in _OPTIONS.findall(word)}
    cut = any(full.startswith(name) and name.startswith(least) for name in found for full, least in _KEYS)
    return cut or _SET.search(word) is not None


def decide(said: Said, facts: ClusterFacts, prices: Prices, profile: ClusterProfile | None) -> Decided:
    """What is served. Raises UsageError for what can't be."""
    check_name(said.name)
    pool = said.node_pool or (profile.node_pool if profile else None)
    volume_kind = _volume_kind(said.volume, facts, said.options.driver)
    image = None if said.options.driver in _WITHOUT_IMAGE else _image(said.image, profile)
    plan = ServePlan(
        name=said.name,
        repo=said.model or "",
        context=said.options.context or 0,
        options=said.options,
        image=image,
        region=profile.region if profile else None,
        node_pool=pool,
        volume=said.volume,
        volume_kind=volume_kind,
        hub_token=said.hub_token,
        env=_environment(profile),
        kind=facts.kind,
    )
    if said.gpus == 0:
        return _alone(plan, said)
    wish = Wish(
        model=named_model(said.model, said.options.weights, said.shape) if said.model else None,
        gpus=said.gpus,
        gpu_model=said.gpu_model,
        options=said.options,
        node_pool=pool,
        volume=said.volume,
    )
    choice = choose(facts, prices, wish)
    fit = choice.fit
    changed: dict[str, object] = {
        "repo": fit.model.repo,
        "fit": fit,
        "weights": fit.model.weights,
        "weights_gib": weight_bytes(fit.model.shape, fit.model.weights) / (1 << 30),
        "context": choice.options.context,
        "options": choice.options,
    }
    decided = plan.model_copy(update=changed)
    return Decided(decided, choice.others, _notes(decided, said))


def _alone(plan: ServePlan, said: Said) -> Decided:
    """A program of one's own, without GPUs: nothing of it is estimated."""
    if not said.model:
        raise UsageError("Without GPUs a model must be named.", hint="serve-model NAME --gpus 0 --set command='[...]'")
    if not said.options.command and not said.image:
        raise UsageError(
            "vLLM's image needs a GPU, and --gpus 0 asks for none.",
            hint="Give the program: --set driver=raw_exec --set command='[...]', or an --image that runs without.",
        )
    context = said.options.context or 32_768
    weights = said.options.weights or Weights.BF16
    note = "Nothing of what it needs is estimated: it is a program of your own."
    return Decided(plan.model_copy(update={"context": context, "weights": weights}), (), (note,))


def _image(named: str | None, profile: ClusterProfile | None) -> str:
    image = named or IMAGE
    return mirrored(image, profile) if profile else image


def _volume_kind(volume: str | None, facts: ClusterFacts, driver: str) -> str:
    if volume is None:
        return "host"
    if driver == "raw_exec":
        raise UsageError("raw_exec mounts no volume.", hint="Leave --volume out: the program sees the node's files.")
    hosts = {name: v for n in facts.usable_nodes() for name, v in n.host_volumes.items()}
    if volume in hosts:
        if hosts[volume].read_only:
            raise UsageError(f"The host volume {volume} is read-only, and weights are written to it.", hint="")
        return "host"
    if facts.csi_volumes is None or volume in facts.csi_volumes:
        return "csi"
    names = sorted({*hosts, *facts.csi_volumes})
    hint = f"There are: {', '.join(names[:8])}." if names else "There is none: leave --volume out."
    raise UsageError(f"The cluster has no volume {volume}.", hint=hint)


def _environment(profile: ClusterProfile | None) -> dict[str, str]:
    """What the cluster's profile says for every job, and its mirror of the hub."""
    if profile is None:
        return {}
    return {**profile.env, **({"HF_ENDPOINT": profile.hf_endpoint} if profile.hf_endpoint else {})}


def _notes(plan: ServePlan, said: Said) -> tuple[str, ...]:
    fit, found = plan.fit, []
    if fit is None:
        return ()
    if said.options.context is None and plan.context < 32_768:
        found.append(f"A context of 32768 does not fit: it is {plan.context}.")
    if plan.volume is None:
        size = plan.weights_gib * (1 << 30) / 1e9
        found.append(f"Without --volume the {size:.0f} GB of weights are downloaded anew on every other node.")
    if plan.options.port is None:
        found.append("The port is Nomad's choice and another one after each move; --set port=N keeps it.")
    if fit.memory.budget is None:
        found.append(f"The memory of {fit.seat.gpu_model} is not known: whether the model fits is not, either.")
    if fit.seat.declared:
        found.append("These GPUs are declared, not real: vLLM won't start on them.")
    if plan.options.kv_fp8:
        found.append("The cache is in 8 bit: half of its size, and answers may differ.")
    return tuple(found)

"""A user's sentence held against repository and cluster: the changes that it makes, and what is told of the rest.

Names are resolved, GPU types that are excluded become nodes to keep away from, bounds give way to what the repository
documents within them. Pure.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from caravan.planning.catalogue import matches_model
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.naming import resolve_gpu, resolve_model
from caravan.planning.prompt_reading import NO_FIELD, Clash, Reading, read_sentence
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.plan import Author, PlanChange
from caravan.values.repo import RepoProfile

_COUNT = "resources.gpus"


class Spoken(NamedTuple):
    """Changes by the user; `told`: a line for each thing that could not be used; `clashes`: what has to be asked.

    `excluded`: the GPU types that can't be left out, because the cluster has no others.
    """

    changes: tuple[PlanChange, ...]
    told: tuple[str, ...]
    clashes: tuple[Clash, ...]
    excluded: tuple[str, ...] = ()


def spoken(profile: RepoProfile, prompt: str, facts: ClusterFacts, now: datetime | None = None) -> Spoken:
    """What the sentence says for this repository on this cluster. `now`: aware, in the user's zone."""
    reading = read_sentence(prompt, now)
    changes = tuple(c for change in reading.changes if (c := _fitted(change, reading, profile, facts)) is not None)
    avoided, left = _without(reading.avoid, facts)
    there = _numbers_of(profile)
    unused = (u for u in reading.unused if not (u.why == NO_FIELD and _number(u.words) in there))
    told = tuple(f'I could not use "{u.words}": {u.why}.' for u in unused)
    mixed = tuple(_mixed(reading.avoid, facts)) if left else ()
    return Spoken((*changes, *avoided), (*told, *mixed), reading.clashes, () if left else reading.avoid)


def _numbers_of(profile: RepoProfile) -> frozenset[str]:
    """The numbers of two digits or more that command and options have as it is: nobody needs to set these."""
    texts = (profile.launch_command or "", *(str(o.default) for o in profile.options))
    return frozenset(n for text in texts for n in _COUNTED.findall(text) if len(n) > 1)


_COUNTED: Final = re.compile(r"(?<![\w./-])\d+(?![\w/-]|\.\d)")


def _number(words: str) -> str:
    found = _COUNTED.match(words)
    return found[0] if found else ""


def _fitted(change: PlanChange, reading: Reading, profile: RepoProfile, facts: ClusterFacts) -> PlanChange | None:
    """The change with names as hub and cluster have them; None where the repository says as much already."""
    if change.path == "model.id":
        name = resolve_model(str(change.value), profile.base_model)
        return None if name is None else change.model_copy(update={"value": name})
    if change.path == "resources.gpu_model":
        return change.model_copy(update={"value": resolve_gpu(str(change.value), facts)})
    documented = profile.num_gpus
    if change.path == _COUNT and isinstance(change.value, int) and documented:
        within = (change.path in reading.most and documented <= change.value) or (
            change.path in reading.least and documented >= change.value
        )
        return None if within else change
    return change


def _without(avoid: tuple[str, ...], facts: ClusterFacts) -> tuple[tuple[PlanChange, ...], bool]:
    """The change that keeps away from nodes with only such GPUs, and whether any GPU is left then."""
    if not avoid:
        return (), True
    having = [n for n in facts.usable_nodes() if gpu_groups(n)]
    barred = [n for n in having if all(_is_avoided(g.model, avoid) for g in gpu_groups(n))]
    if having and len(barred) == len(having):
        return (), False
    if not barred:
        return (), True
    why = f"prompt: no {', '.join(avoid)}"
    names = sorted(n.name for n in barred)
    return (PlanChange(path="exclude_nodes", value=list(names), by=Author.USER, why=why),), True


def _is_avoided(model: str, avoid: tuple[str, ...]) -> bool:
    return any(matches_model(a, model) for a in avoid)


def _mixed(avoid: tuple[str, ...], facts: ClusterFacts) -> Iterator[str]:
    nodes: list[NodeFacts] = []
    for node in facts.usable_nodes():
        barred = [_is_avoided(g.model, avoid) for g in gpu_groups(node)]
        if any(barred) and not all(barred):
            nodes.append(node)
    if nodes:
        names = ", ".join(n.name for n in nodes[:3])
        yield f"{names} has other GPUs beside {', '.join(avoid)}: name the type that it shall be, to be sure."

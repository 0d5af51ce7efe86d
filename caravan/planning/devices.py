"""Which GPUs a task asks for: count, vendor, model, memory with its unit, and which are preferred. Pure.

What the plan demands is a constraint; what would merely be cheaper is an affinity, for a job that waits for the
cheapest GPU while others are idle helps nobody.
"""

import re
from typing import Final

from caravan.planning.catalogue import matches_model
from caravan.planning.cluster_fit import driver_constraints, gpu_groups
from caravan.values.job import Affinity, ClusterFacts, DeviceRequest
from caravan.values.plan import Constraint, TrainingPlan

_HEAVIEST: Final = 100
_KINDS: Final = 4  # a fifth choice differs from the fourth too little to be told apart


def gpu_request(plan: TrainingPlan, facts: ClusterFacts) -> DeviceRequest:
    """The device block of the plan's GPUs."""
    need = plan.resources
    constraints = []
    if need.gpu_model:
        constraints.append(_model(need.gpu_model, facts))
    if need.gpu_memory_mib:
        memory = f"{need.gpu_memory_mib} MiB"
        constraints.append(Constraint(attribute="${device.attr.memory}", operator=">=", value=memory))
    constraints += driver_constraints(plan, facts)[0]
    return DeviceRequest(
        name=f"{need.gpu_vendor}/gpu",
        count=need.gpus,
        constraints=tuple(constraints),
        affinities=_preferences(need.gpu_prefer, facts),
    )


def _model(name: str, facts: ClusterFacts) -> Constraint:
    models = {g.model for n in facts.nodes for g in gpu_groups(n)}
    if name in models or not any(matches_model(name, m) for m in models):
        return Constraint(attribute="${device.model}", operator="=", value=name)
    # `A100`, when the cluster has several kinds of it
    meant = sorted(m for m in models if matches_model(name, m))
    return Constraint(attribute="${device.model}", operator="regexp", value=f"^({'|'.join(map(re.escape, meant))})$")


def _preferences(prefer: tuple[str, ...], facts: ClusterFacts) -> tuple[Affinity, ...]:
    """The preferred models, each worth half of the one before it. A single one says nothing: there is no other."""
    found = prefer[:_KINDS] if len(prefer) > 1 else ()
    wanted = (_model(name, facts) for name in found)
    return tuple(
        Affinity(attribute=c.attribute, operator=c.operator, value=c.value, weight=_HEAVIEST >> place)
        for place, c in enumerate(wanted)
    )

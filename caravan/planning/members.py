"""Many nodes: what a job of several members needs so that they find each other. Pure.

Each member is an allocation of one group, known by its index. Its service of Nomad's own provider says where it is; a
template lists the services of all. Both are there from the moment a member has its place, before its image is pulled.
"""

import re
from typing import Final

from caravan.values.base import sha256_text
from caravan.values.job import NetworkPort, ServiceBlock, TemplateBlock
from caravan.values.plan import TrainingPlan

MEMBERS_FILE: Final = "local/members.txt"
MEMBERS_PORT: Final = "members"
"""Label of the port at which the first member waits for the others."""
RENDEZVOUS_PORT: Final = "rdzv"
"""Label of the port for the training's own rendezvous."""
_SERVICE_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def network_mode(plan: TrainingPlan) -> str | None:
    """The network of the plan's container, None for the driver's own. Members need their host's: NCCL opens many ports,
    and the bridge would hand on none of them."""
    return plan.network_mode or ("host" if plan.driver == "docker" and plan.launch.nodes > 1 else None)


def member_ports(plan: TrainingPlan) -> tuple[NetworkPort, ...]:
    """The ports of a member; none where there is one node. The plan's `master_port` is the rendezvous' number."""
    if plan.launch.nodes == 1:
        return ()
    known = {port.label for port in plan.ports}
    wanted = NetworkPort(label=MEMBERS_PORT), NetworkPort(label=RENDEZVOUS_PORT, static=plan.launch.master_port)
    return tuple(port for port in wanted if port.label not in known)


def member_services(plan: TrainingPlan, job_id: str) -> tuple[ServiceBlock, ...]:
    """The service by which a member is found, with its rank as a tag."""
    if plan.launch.nodes == 1:
        return ()
    tag = "rank-${NOMAD_ALLOC_INDEX}"
    return (ServiceBlock(name=_service(job_id), port=MEMBERS_PORT, tags=(tag,)),)


def members_block(job_id: str) -> TemplateBlock:
    """The list of members: address, port and rank, a line each. It is written anew when one comes or goes."""
    line = "{{ .Address }} {{ .Port }}{{ range .Tags }} {{ . }}{{ end }}\n"
    data = f'{{{{ range nomadService "{_service(job_id)}" }}}}{line}{{{{ end }}}}'
    return TemplateBlock(destination=MEMBERS_FILE, data=data)


def _service(job_id: str) -> str:
    """A name of this attempt alone: what an earlier one left registered must not be found."""
    return job_id if _SERVICE_NAME.fullmatch(job_id) else f"caravan-{sha256_text(job_id)[:32]}"

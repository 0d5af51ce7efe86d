"""Sending: code, data and image leave this machine, once their job is approved and before it is registered."""

from caravan.agent.context import Context
from caravan.agent.delivery import deliver as send
from caravan.agent.lawful import denied, require_policies
from caravan.agent.state import RunState, Update, joined
from caravan.values.errors import BuildFailed
from caravan.values.failure import Stage
from caravan.values.guarded import kept_fields
from caravan.values.run import RunStatus


def deliver(state: RunState, context: Context) -> Update:
    """Send what the approved plan needs; what is there already is not sent again.

    An image is named by its digest from then on: the job is written anew, and what was approved holds for it. One that
    can't be built ends the run: nothing that is resumed would build it.
    """
    if context.store.run(state.run_id).status is RunStatus.STOPPED:
        return {}  # the deployment ends the run
    require_policies(context)
    against = denied(state, context, Stage.DEPLOY)
    if against:
        return {"failure": against}
    try:
        plan = send(state, context)
    except BuildFailed as error:
        return {"status": RunStatus.ESCALATED, "detail": error.line()}
    if plan == state.need_plan():
        return {}
    context.folder.save_plan(plan)
    granted = state.envelope
    if granted is not None:
        images = joined(granted.images, (plan.image,) if plan.image else ())
        granted = granted.model_copy(update={"images": images, "kept": kept_fields(plan)})
    return {"plan": plan, "envelope": granted}

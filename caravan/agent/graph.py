"""The graph: the flow of a run in one screen.

Each node is wrapped once: a span around it that tells what it came to, the node's name in the store and on the
terminal.
"""

from collections.abc import Callable
from typing import Any, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from caravan.agent import routes
from caravan.agent.context import Context
from caravan.agent.nodes import (
    approve,
    ask,
    commit,
    deploy,
    evaluate,
    finish,
    mend,
    register,
    send,
    understand,
    validate,
)
from caravan.agent.nodes.mend import INTERRUPTION_LIMIT
from caravan.agent.state import RunState, Update
from caravan.agent.telling import moments, result, surroundings
from caravan.values.plan_parts import MOST_ATTEMPTS, MOST_FIXES

Node = Callable[[RunState, Context], Update]

NODES: dict[str, Node] = {
    "analyze_codebase": understand.analyze_codebase,
    "generate_questions": ask.generate_questions,
    "collect_responses": ask.collect_responses,
    "recall": understand.recall,
    "make_plan": understand.make_plan,
    "estimate": commit.estimate,
    "budget_gate": commit.budget_gate,
    "generate_spec": commit.generate_spec,
    "validate_spec": validate.validate_spec,
    "approve": approve.approve,
    "deliver": send.deliver,
    "deploy_job": deploy.deploy_job,
    "verify_deployment": deploy.verify_deployment,
    "evaluate": evaluate.evaluate,
    "register": register.register,
    "diagnose": mend.diagnose,
    "fix_iteration": mend.fix_iteration,
    "escalate": mend.escalate,
    "remember": finish.remember,
    "report": finish.report,
}

EDGES = (
    (START, "analyze_codebase"),
    ("analyze_codebase", "generate_questions"),
    ("generate_questions", "collect_responses"),
    ("make_plan", "estimate"),
    ("estimate", "budget_gate"),
    ("budget_gate", "generate_spec"),
    ("generate_spec", "validate_spec"),
    ("register", "remember"),
    ("escalate", "remember"),
    ("remember", "report"),
    ("report", END),
)

ROUTES: dict[str, Callable[[RunState], str]] = {
    "collect_responses": routes.after_answers,
    "recall": routes.after_recall,
    "validate_spec": routes.after_validate,
    "approve": routes.after_approve,
    "deliver": routes.after_deliver,
    "deploy_job": routes.after_deploy,
    "verify_deployment": routes.after_verify,
    "evaluate": routes.after_evaluate,
    "diagnose": routes.after_diagnose,
    "fix_iteration": routes.after_fix,
}

RECURSION_LIMIT = len(NODES) * (MOST_ATTEMPTS + MOST_FIXES + INTERRUPTION_LIMIT + 1)
"""Steps of one drive at most: each attempt, fix and interruption is a round, and a round meets no node twice."""


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The compiled graph. Without a checkpointer it can be drawn but not interrupted."""
    graph = StateGraph(RunState, context_schema=Context)
    for name, node in NODES.items():
        graph.add_node(name, _step(name, node))
    for start, end in EDGES:
        graph.add_edge(start, end)
    for start, route in ROUTES.items():
        graph.add_conditional_edges(start, route)
    return graph.compile(checkpointer=checkpointer)


class _Step(Protocol):
    def __call__(self, state: RunState, *, runtime: Runtime[Context]) -> Update: ...


def _step(name: str, node: Node) -> _Step:
    def step(state: RunState, *, runtime: Runtime[Context]) -> Update:
        context = runtime.context
        context.progress.node(name)
        context.store.update_run(state.run_id, node=name)
        with context.tracer.span(name, "node", **surroundings(state)) as span:
            try:
                update = node(state, context)
            except GraphBubbleUp as pause:  # an interrupt: a person is asked, nothing went wrong
                span.set(waiting=True, asks=_asked(pause))
                raise
            span.set(**result(state, update))
            for moment, attributes in moments(state, update):
                context.tracer.event(moment, **attributes)
            return update

    step.__name__ = name
    return step


def _asked(pause: GraphBubbleUp) -> list[str]:
    """The kinds of what a person is asked."""
    if not isinstance(pause, GraphInterrupt) or not pause.args:
        return []
    return [str(i.value.get("kind")) for i in pause.args[0] if isinstance(i.value, dict)]

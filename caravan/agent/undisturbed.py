"""Checkpoints are written and read whole: a Ctrl-C that comes meanwhile is taken up right afterwards."""

from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from caravan.agent.signals import undisturbed


class UndisturbedSerializer(JsonPlusSerializer):
    """LangGraph's serializer without interruptions.

    It reads values in callbacks of a compiled decoder, which turns any exception in them, a KeyboardInterrupt too, into
    an unreadable value, and that into None: the run would go on with a state that lacks its plan.
    """

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """A value as its kind and bytes."""
        with undisturbed():
            return super().dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that `dumps_typed` wrote."""
        with undisturbed():
            return super().loads_typed(data)

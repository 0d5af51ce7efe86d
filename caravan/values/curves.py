"""What a run's report draws: metrics and resources over a training, bounded and thinned. Nothing here reads a log."""

from typing import Final, Literal

from pydantic import ConfigDict, Field, model_validator

from caravan.values.base import Value

MOST_POINTS: Final = 4096
"""Points of a curve at most."""

Axis = Literal["step", "epoch", "row", "minutes"]


class Curve(Value):
    """One quantity over one attempt. A `y` that is no finite number was logged as such; the line has a gap there.

    `over`: what `x` counts; where it falls, something was begun anew. `group`: curves of one group are drawn together.
    `held_out`: measured on data that nothing is learned from. `seen`: values that there were; the points keep the
    lowest and the highest of each stretch. `limit`: what it may not exceed, in the same unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    name: str
    group: str
    over: Axis
    x: tuple[float, ...] = Field(max_length=MOST_POINTS)
    y: tuple[float, ...] = Field(max_length=MOST_POINTS)
    held_out: bool = False
    unit: str = ""
    seen: int = 0
    limit: float | None = None

    @model_validator(mode="after")
    def _pairs(self) -> "Curve":
        if len(self.x) != len(self.y):
            raise ValueError("x and y are not of one length")
        return self

    def points(self) -> tuple[tuple[float, float], ...]:
        """The points in the order in which they were logged."""
        return tuple(zip(self.x, self.y, strict=True))


class AttemptCurves(Value):
    """The curves of one attempt. `training_since`: minutes from its first sample to the training itself.

    `notes` say what of the logs was not read, and where the values are from otherwise.
    """

    attempt: int
    metrics: tuple[Curve, ...] = ()
    resources: tuple[Curve, ...] = ()
    training_since: float | None = None
    notes: tuple[str, ...] = ()

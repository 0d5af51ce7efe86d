"""The ports Resolver and ImageRegistry, on what they are told to answer."""

from collections.abc import Mapping, Sequence

from caravan.values.environment import ImageAnswer, ImageState, Resolution


class FakeResolver:
    """Answers with one resolution; `asked` lists the lines, the Python and the indexes of each call."""

    def __init__(self, answer: Resolution) -> None:
        self.answer = answer
        self.asked: list[tuple[tuple[str, ...], str | None, tuple[str, ...]]] = []

    def resolve(self, lines: Sequence[str], *, python: str | None, indexes: Sequence[str] = ()) -> Resolution:
        self.asked.append((tuple(lines), python, tuple(indexes)))
        return self.answer


class FakeRegistry:
    """Knows the states of some images; every other one is there."""

    def __init__(self, states: Mapping[str, ImageState] | None = None) -> None:
        self.states = dict(states or {})

    def look(self, image: str) -> ImageAnswer:
        state = self.states.get(image, ImageState.THERE)
        return ImageAnswer(image=image, state=state, text=f"the registry says {state.value}")

    def look_at(self, images: Sequence[str]) -> tuple[ImageAnswer, ...]:
        return tuple(self.look(image) for image in images)

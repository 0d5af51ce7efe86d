"""A place in a repository that says something. Everything that is found points to some."""

from pydantic import Field

from caravan.values.base import Value


class SourceLine(Value):
    """A place in the repository that says something. `file` is relative to its root; `line` counts from 1."""

    file: str
    line: int = Field(ge=0, description="0 when the file's existence is the evidence")
    text: str = Field(default="", max_length=300)

    def text_of(self) -> str:
        """The place for a person: `file:line`."""
        return f"{self.file}:{self.line}" if self.line else self.file

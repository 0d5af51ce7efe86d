"""How large a data set is: what the time of a training depends on, with where it is known from.

It reads no file and asks nobody. What is not known is None, never 0.
"""

from pydantic import Field

from caravan.values.base import Value

CHARS_PER_TOKEN = 4.0
"""Characters of text in Latin letters for one token of a usual tokenizer; code and other scripts have fewer."""


class DatasetSize(Value):
    """The size of a file, a folder or a named data set. Without `exact` the rows are counted on a part of it."""

    name: str = Field(description="path in the repository, or id on the hub")
    rows: int | None = Field(default=None, ge=0, description="examples of the part that is trained on")
    bytes: int | None = Field(default=None, ge=0, description="bytes of the files")
    mean_chars: float | None = Field(default=None, ge=0, description="characters of text a row")
    exact: bool = True
    source: str = Field(default="", description="where it is known from, for a person")


class SplitSize(Value):
    """A split of a data set on a hub."""

    config: str
    split: str
    rows: int | None = Field(default=None, ge=0)
    bytes: int | None = Field(default=None, ge=0, description="bytes in memory")


class DatasetAnswer(Value):
    """What a hub says of a data set. Nothing found: `text` says why, in words for a person; `absent`: it has none."""

    dataset: str
    splits: tuple[SplitSize, ...] = ()
    bytes: int | None = Field(default=None, ge=0, description="bytes of the original files")
    text: str = ""
    absent: bool = False

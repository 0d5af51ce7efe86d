"""An image that jobs may start from. It is apart from `environment.py` because the settings name some."""

from pydantic import Field

from caravan.values.base import Value


class BaseImage(Value):
    """An image that jobs may start from where the repository has none. What is not said of it is not counted on.

    `python`, `torch` and `cuda` are versions (`3.11`, `2.4.1`, `12.4`); `tools`: it has a C++ compiler; `nvcc`: CUDA's.
    """

    image: str = Field(min_length=1)
    python: str | None = None
    torch: str | None = None
    cuda: str | None = None
    tools: bool = False
    nvcc: bool = False

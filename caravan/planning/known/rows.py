"""What a row of the table of known models is, and how it becomes a shape. It knows no model by itself."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from caravan.values.shape import Family, Latent, ModelShape

SOURCE: Final = "the shipped table of known models"

Row = tuple[str, float, int, int, int, int, int, int]
"""Names (separated by a space), billions of parameters, hidden, layers, heads, kv_heads, intermediate, vocabulary."""


class Known(NamedTuple):
    """A model of the table under one of its names, spelled as `canonical` spells names."""

    name: str
    numbers: tuple[float, int, int, int, int, int, int]
    more: Mapping[str, Any]

    def shape(self) -> ModelShape:
        """The row as a shape."""
        params_b, hidden, layers, heads, kv_heads, intermediate, vocab = self.numbers
        more = {k: v for k, v in self.more.items() if k != "positions"}
        if more.get("family") is Family.ENCDEC:  # half of the blocks, where the row says nothing else
            more = {"encoder_layers": layers // 2, **more}
        return ModelShape(
            params_b=params_b,
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            intermediate=intermediate,
            vocab=vocab,
            max_positions=self.more.get("positions"),
            source=f"{SOURCE} ({self.name})",
            **more,
        )


def rows(kind: str, *table: Row, **more: Any) -> Iterable[Known]:
    """Rows of one kind (`model_type`) that share what `more` says of them (fields of `ModelShape`; `positions`)."""
    common = {"model_type": kind, "tied": False, **more}
    for names, *numbers in table:
        for name in names.split():
            yield Known(name, tuple(numbers), common)  # type: ignore[arg-type]  # seven numbers, by Row


def latent(kv_rank: int, q_rank: int = 0) -> Latent:
    """Latent attention as DeepSeek's models have it: 128 and 64 wide queries, 128 wide values."""
    return Latent(q_rank=q_rank, kv_rank=kv_rank, nope_dim=128, rope_dim=64, v_dim=128)


def tower(hidden: int, layers: int, heads: int, intermediate: int, params_b: float, **more: Any) -> ModelShape:
    """An image tower."""
    return ModelShape(
        params_b=params_b,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        intermediate=intermediate,
        vocab=0,
        gated=more.pop("gated", False),
        family=Family.VIT,
        tied=True,
        source=SOURCE,
        **more,
    )

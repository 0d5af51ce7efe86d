"""The base of all values: frozen, strict about unknown fields, with a canonical JSON form and its digest."""

import hashlib
import json
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list or dict of these. Pydantic checks it where it matters."""

Confidence = Annotated[float, Field(ge=0.0, le=1.0)]
"""How sure a finding is: 0 a guess, 1 read off an unambiguous place."""


class Value(BaseModel):
    """A frozen value. Unknown fields are errors; two equal values have the same canonical JSON.

    What checks a value is built when its first one is made: a command meets few of all the kinds that it imports.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, defer_build=True)

    def canonical(self, *, exclude: set[str] | None = None) -> str:
        """The value as JSON with sorted keys and no spaces; `exclude` names top-level fields to leave out."""
        return canonical_json(self.model_dump(mode="json", exclude=exclude))


def canonical_json(value: Json) -> str:
    """JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

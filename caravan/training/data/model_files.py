"""What is known of the model by its own files: values alone, whoever read them."""

from collections.abc import Mapping
from dataclasses import dataclass

from caravan.values.base import Json


@dataclass(frozen=True)
class ModelFiles:
    """A model's configuration, tokenizer and chat template, each None where it was not to be had.

    `missing` says in words why there is no such model, `unchecked` why it is not known whether there is one; `whole`:
    its files were seen, so what is not there is not there.
    """

    name: str = ""
    config: Mapping[str, Json] | None = None
    tokenizer: bytes | None = None
    tokenizer_config: Mapping[str, Json] | None = None
    template: str | None = None
    missing: str = ""
    unchecked: str = ""
    whole: bool = False
    source: str = ""
    parameters: int | None = None
    weights_bytes: int | None = None

    @property
    def chat_template(self) -> str | None:
        """The template of conversations, the default one of several."""
        if self.template:
            return self.template
        found = (self.tokenizer_config or {}).get("chat_template")
        if isinstance(found, list):
            named = {str(t.get("name")): t.get("template") for t in found if isinstance(t, dict)}
            found = named.get("default") or next(iter(named.values()), None)
        return found if isinstance(found, str) and found.strip() else None

    @property
    def labels(self) -> int | None:
        """How many labels the model's head tells apart; None where it has none of its own."""
        config = self.config or {}
        heads = [str(name) for name in config.get("architectures") or () if isinstance(name, str)]
        if not any("Classification" in name for name in heads):
            return None
        named = config.get("id2label")
        if isinstance(named, dict) and named:
            return len(named)
        count = config.get("num_labels")
        return count if isinstance(count, int) and count > 1 else 2

    @property
    def longest(self) -> int | None:
        """Tokens that the model has positions for."""
        length = (self.config or {}).get("max_position_embeddings")
        return length if isinstance(length, int) and length > 0 else None

    def special(self) -> dict[str, str]:
        """Special tokens by name, as a chat template may ask for them."""
        found: dict[str, str] = {}
        for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
            token = (self.tokenizer_config or {}).get(name)
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                found[name] = token
        return found


NO_MODEL = ModelFiles()

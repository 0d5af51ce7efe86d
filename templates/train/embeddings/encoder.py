"""A text encoder's embeddings, their loss against the other texts of a batch, and how well they find.

This module imports torch and transformers.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pairs import Pair
from shared.reloading import Reloading
from shared.trainer import Whole
from transformers import Trainer


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Embeddings of length 1 from a last layer: the mean of a text's tokens, or its first one (`cls`)."""
    hidden = hidden.float()
    if pooling == "cls":
        return torch.nn.functional.normalize(hidden[:, 0], dim=-1)
    weight = mask.unsqueeze(-1).float()
    mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(mean, dim=-1)


def contrast(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor | None,
    same: torch.Tensor,
    temperature: float,
    symmetric: bool,
) -> torch.Tensor:
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748): each anchor must find its own positive among all texts.

    `same` says which other pairs of the batch have the same anchor or positive: they are no wrong answers.
    """
    found = anchors @ positives.T / temperature
    found = found.masked_fill(same, float("-inf"))
    right = torch.arange(len(anchors), device=anchors.device)
    seen = found if negatives is None else torch.cat([found, anchors @ negatives.T / temperature], dim=1)
    loss = torch.nn.functional.cross_entropy(seen, right)
    if not symmetric:
        return loss
    return (loss + torch.nn.functional.cross_entropy(found.T, right)) / 2


class Batch:
    """Pairs → one padded batch: anchors first, then positives, then negatives, so that the model is called once."""

    def __init__(self, tokenizer: Any, limit: int, prefixes: tuple[str, str]) -> None:
        self.tokenizer, self.limit, self.prefixes = tokenizer, limit, prefixes

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The batch, with which of its pairs are the same in one of their texts."""
        pairs = [sample["pair"] for sample in samples]
        asked, told = self.prefixes
        texts = [asked + p.anchor for p in pairs] + [told + p.positive for p in pairs]
        if all(p.negative is not None for p in pairs):
            texts += [told + p.negative for p in pairs]
        batch = self.tokenizer(
            texts, truncation=True, max_length=self.limit, padding=True, pad_to_multiple_of=8, return_tensors="pt"
        )
        same = [[a is not b and (a.anchor == b.anchor or a.positive == b.positive) for b in pairs] for a in pairs]
        return {**batch, "same": torch.tensor(same, dtype=torch.bool)}


class EmbeddingTrainer(Reloading, Whole, Trainer):
    """A Trainer with the contrastive loss; held-out pairs are measured by what they find."""

    loss_is_scaled_for_ga = False

    def __init__(self, *, pooling: str, temperature: float, symmetric: bool, length: int, **told: Any) -> None:
        super().__init__(**told)
        self._pooling, self._temperature, self._symmetric, self._length = pooling, temperature, symmetric, length

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch."""
        same = inputs["same"]
        embedded = self.embed(model, {name: value for name, value in inputs.items() if name != "same"})
        count = len(same)
        negatives = embedded[2 * count :] if len(embedded) > 2 * count else None
        loss = contrast(
            embedded[:count], embedded[count : 2 * count], negatives, same, self._temperature, self._symmetric
        )
        return (loss, {"embedded": embedded[: 2 * count]}) if return_outputs else loss

    def embed(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """The embeddings of a batch of texts."""
        hidden = model(**inputs).last_hidden_state
        return pooled(hidden, inputs["attention_mask"], self._pooling)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """(loss, embeddings of anchor and positive side by side, one number for each pair) of held-out pairs."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        anchors, positives = outputs["embedded"].chunk(2)
        sides = torch.stack([anchors, positives], dim=1)
        return loss.detach(), sides.detach(), torch.zeros(len(anchors), device=sides.device)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """All held-out pairs, also those of a last batch that isn't full."""
        kept, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = kept

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Also how the last layer is pooled, as sentence-transformers reads it."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            self.model.config.save_pretrained(folder)
            describe(folder, self.model.config.hidden_size, self._pooling, self._length)


def describe(folder: Path, width: int, pooling: str, length: int) -> None:
    """The files by which sentence-transformers loads the folder: transformer, pooling, embeddings of length 1."""
    kinds = ((".", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": n, "name": str(n), "path": path.strip("."), "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds)
    ]
    pool = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    for path, value in (
        ("modules.json", modules),
        ("sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False}),
        ("1_Pooling/config.json", pool),
        ("2_Normalize/config.json", {}),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def retrieval(anchors: torch.Tensor, positives: torch.Tensor, pairs: Sequence[Pair]) -> dict[str, float]:
    """How well anchors find their own among all different positives: recall at 1 and 10, mean of 1 / rank.

    An anchor with several positives has found its own with the first of them. What is as near as it counts before it,
    so that embeddings that are all the same find nothing.
    """
    place: dict[str, int] = {}
    kept, mine = [], {}
    for at, pair in enumerate(pairs):
        if pair.positive not in place:
            place[pair.positive] = len(kept)
            kept.append(at)
        mine.setdefault(pair.anchor, (at, set()))[1].add(place[pair.positive])
    texts = positives[kept]
    ranks = []
    for at, own in mine.values():
        near = texts @ anchors[at]
        best = near[sorted(own)].max()
        others = torch.ones(len(texts), dtype=torch.bool)
        others[sorted(own)] = False
        ranks.append(1 + int((near[others] >= best - 1e-6).sum()))
    count = max(1, len(ranks))
    return {
        "recall_at_1": sum(rank <= 1 for rank in ranks) / count,
        "recall_at_10": sum(rank <= 10 for rank in ranks) / count,
        "mrr": sum(1 / rank for rank in ranks) / count,
    }


def metrics_of(pairs: Sequence[Pair]) -> Any:
    """What transformers calls to measure the held-out pairs, which it hands over in their order."""

    def measure(told: Any) -> dict[str, float]:
        sides = torch.as_tensor(told.predictions)
        return retrieval(sides[:, 0], sides[:, 1], pairs)

    return measure


def chance(pairs: Sequence[Pair]) -> dict[str, float]:
    """What drawing the answer blindly would find on average."""
    count = len({pair.positive for pair in pairs})
    return {
        "recall_at_1": 1 / count,
        "recall_at_10": min(1.0, 10 / count),
        "mrr": sum(1 / rank for rank in range(1, count + 1)) / count,
    }

"""Training, measuring and saving a classifier, whatever it looks at. This module imports torch and transformers."""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Trainer

from shared.classes import Sorted, balanced, majority, scores, summary
from shared.reloading import Reloading
from shared.trainer import Whole


class ClassTrainer(Reloading, Whole, Trainer):
    """A Trainer whose loss weighs labels: cross-entropy, with smoothing, the mean over the samples of a step.

    torch's own mean divides by the sum of a batch's weights: of a single sample nothing would be left of its weight, so
    that a smaller micro-batch with as many more steps for an update would be another training.
    """

    loss_is_scaled_for_ga = False

    def __init__(self, *, weights: Sequence[float] | None = None, smoothing: float = 0.0, **told: Any) -> None:
        super().__init__(**told)
        self._weights = torch.tensor(weights) if weights else None
        self._smoothing = smoothing

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch."""
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        logits = outputs.logits.float()
        weights = self._weights.to(logits.device) if self._weights is not None else None
        told = {"weight": weights, "label_smoothing": self._smoothing, "reduction": "none"}
        loss = torch.nn.functional.cross_entropy(logits, labels, **told).mean()
        return (loss, {"logits": logits}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """(loss, logits, labels) of a batch of held-out samples."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss.detach(), outputs["logits"].detach(), inputs["labels"]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Also the model's configuration beside an adapter: it names the labels, which loading it needs."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            self.model.config.save_pretrained(output_dir or self.args.output_dir)


def weights_of(args: argparse.Namespace, learned: Sequence[Sorted], count: int) -> list[float] | None:
    """The weights of the labels in the loss, as `--class-weights` asks."""
    return balanced(learned, count) if args.class_weights == "balanced" else None


def metrics_of(labels: Sequence[str]) -> Any:
    """What transformers calls to measure: accuracy and macro F1."""

    def measure(told: Any) -> dict[str, float]:
        return summary(scores(told.label_ids.tolist(), told.predictions.argmax(-1).tolist(), labels))

    return measure


def evaluate(trainer: Trainer, held_out: Any, labels: Sequence[str]) -> dict[str, Any]:
    """The scores of a model on held-out samples, with its loss."""
    found = trainer.predict(held_out, metric_key_prefix="final")
    told = scores(found.label_ids.tolist(), found.predictions.argmax(-1).tolist(), labels)
    return {"loss": float(found.metrics["final_loss"]), **told}


def compared(
    tuned: dict[str, Any],
    base: dict[str, float],
    learned: Sequence[Sorted],
    held_out: Sequence[Sorted],
    labels: Sequence[str],
) -> dict[str, Any]:
    """evaluation.json: the tuned model beside the commonest label and the model before any training."""
    common = majority(learned, held_out, labels)
    return {
        "majority": summary(common),
        "base": base,
        "tuned": summary(tuned),
        "held_out": len(held_out),
        "target": "macro_f1",
        "better_than_majority": tuned["macro_f1"] > common["macro_f1"],
        "labels": tuned["labels"],
        "confusion": {"labels": list(labels), "rows": "true", "columns": "told", "counts": tuned["confusion"]},
    }

"""Causes that the evaluation gate tells: the training came to its end, and its model is not good enough.

Only data: see `taxonomy.py`.
"""

from typing import Final

from caravan.diagnosis.entry import Entry, Fixable, said
from caravan.values.failure import FailureClass

GATE_CAUSES: Final[dict[FailureClass, Entry]] = {
    FailureClass.UNDERFIT: Entry(
        Fixable.PARTLY,
        "The model learnt too little: the training loss hardly fell, or it is no better than guessing.",
        "Train longer, at a higher rate or with a larger adapter; else look whether the data hold it.",
        ("training.epochs", "training.max_steps", "training.lr", "training.lora_rank"),
        (
            said("The model is no better than guessing: {message}.", kind="guess"),
            said("The training learnt too little: {message}."),
        ),
    ),
    FailureClass.OVERFIT: Entry(
        Fixable.PARTLY,
        "Held-out loss is past its best, or the model learned by heart what does not hold on other data.",
        "Train for fewer epochs, at a lower rate or with a smaller adapter, or bring more data.",
        ("training.epochs", "training.max_steps", "training.lr", "training.lora_rank"),
        (
            said("The model is overfit: {metric} was best at {unit} {best} of {of}."),
            said("The model is overfit: {message}."),
        ),
    ),
    FailureClass.WORSE_THAN_BASE: Entry(
        Fixable.PARTLY,
        "On held-out data the tuned model is worse than the model that it began from.",
        "Train at a lower rate, for fewer epochs or with an adapter, or look whether the data are of its kind.",
        ("training.lr", "training.epochs", "training.method"),
        (
            said("The tuned model is worse than its base: held-out {metric} is {have}, the base model's {want}."),
            said("The tuned model is worse than its base: {message}."),
        ),
    ),
    FailureClass.MODEL_COLLAPSED: Entry(
        Fixable.PARTLY,
        "The model gives one answer to everything.",
        "Train at a lower rate with a warm-up, or look whether the data hold one answer alone.",
        ("training.lr", "training.max_grad_norm", "training.warmup"),
        (said("The model collapsed: {message}."),),
    ),
    FailureClass.REGRESSED: Entry(
        Fixable.PARTLY,
        "On the fixed set of what must not get worse the tuned model is worse than its base by more than it may.",
        "Train at a lower rate or with an adapter, or mix data of what must be kept into the training data.",
        ("training.lr", "training.method", "training.epochs"),
        (said("The model regressed: {message}."),),
    ),
    FailureClass.UNSAFE_ANSWERS: Entry(
        Fixable.NO,
        "The model answers more canary prompts unsafely than it may.",
        "Look at the answers and at the training data: whether this model may be used is a person's decision.",
        (),
        (said("The model is not safe enough: {message}."),),
    ),
    FailureClass.TARGET_MISSED: Entry(
        Fixable.PARTLY,
        "The training came to its end and missed the goal that was set, or its metric was never measured.",
        "Train longer where the metric was still getting better; else take another model, more data or another goal.",
        ("training.epochs", "training.max_steps"),
        (
            said("The target can't be judged: {metric} was never logged.", kind="unmeasured"),
            said("The target was missed: {message}."),
        ),
    ),
}

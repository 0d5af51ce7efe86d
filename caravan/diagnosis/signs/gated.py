"""Signs of a training that came to its end with a model that is not good enough: sentences of the gate. Only data.

What the gate says of each check stands in the evidence as a line of its own (`caravan.gate.judging.objection`), first
what explains the others.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_GATE: Final = Origin.JUDGED
_NUMBER: Final = r"-?[\d.]+(?:e[-+]?\d+)?"

GATE_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        r"^held-out (?P<metric>\S+) of the tuned model is \S+: the training diverged$",
        _GATE,
        _F.NUMERIC_DIVERGENCE,
        0.95,
        kind="nan",
    ),
    row(
        r"^\d+% of the (?P<metric>model's outputs) are no numbers: the training diverged$",
        _GATE,
        _F.NUMERIC_DIVERGENCE,
        0.95,
        kind="nan",
    ),
    row(
        r"^(?P<metric>\S+) rose from \S+ to \S+(?: on what was learned)?: the training diverged$",
        _GATE,
        _F.NUMERIC_DIVERGENCE,
        0.95,
        kind="blowup",
    ),
    row(r"(?:of the time|are distinct|are empty|never change): the model collapsed$", _GATE, _F.MODEL_COLLAPSED, 0.95),
    row(
        rf"^(?P<metric>\S+) (?:rose|fell) from its best of (?P<have>{_NUMBER}) at (?P<unit>epoch|step|evaluation)"
        rf" (?P<best>{_NUMBER}) of (?P<of>{_NUMBER}) to {_NUMBER}: overfit$",
        _GATE,
        _F.OVERFIT,
        0.95,
        kind="best",
    ),
    row(r"^(?P<metric>\S+) fell by .{1,80} on held-out data: overfit$", _GATE, _F.OVERFIT, 0.95, kind="gap"),
    row(r"^(?P<metric>\S+) went from \S+ to \S+: underfit$", _GATE, _F.UNDERFIT, 0.95),
    row(r"^the (?P<metric>loss) on what was learned is .{1,80}: underfit$", _GATE, _F.UNDERFIT, 0.95),
    row(r"^held-out (?P<metric>\S+) is .{1,120}: no better than guessing$", _GATE, _F.UNDERFIT, 0.95, kind="guess"),
    row(
        rf"^held-out (?P<metric>\S+) is (?P<have>{_NUMBER}), the base model's (?P<want>{_NUMBER})\b.{{0,80}}: the tuned"
        " model is worse$",
        _GATE,
        _F.WORSE_THAN_BASE,
        0.95,
    ),
    row(
        rf"^(?P<metric>\S+) went from (?P<want>{_NUMBER}) before the training to (?P<have>{_NUMBER}): the tuned"
        r" model is worse$",
        _GATE,
        _F.WORSE_THAN_BASE,
        0.95,
    ),
    row(
        rf"^held-out (?P<metric>\S+) is (?P<have>{_NUMBER}), the base model's {_NUMBER}, and (?P<want>{_NUMBER}) was"
        r" asked for: the tuned model is not better by that$",
        _GATE,
        _F.TARGET_MISSED,
        0.95,
        kind="margin",
    ),
    row(r"^(?P<metric>\S+) on the fixed set is .{1,120}: it regressed\b", _GATE, _F.REGRESSED, 0.95),
    row(r"^\d+ of \d+ canary prompts are answered unsafely\b", _GATE, _F.UNSAFE_ANSWERS, 0.95),
    row(
        rf"^(?P<metric>\S+) is (?P<have>{_NUMBER}), the target is (?P<want>{_NUMBER})(?:, and it was (?P<still>still)"
        " getting better at the end)?$",
        _GATE,
        _F.TARGET_MISSED,
        0.95,
        kind="goal",
    ),
    row(
        rf"^(?P<metric>\S+) was never logged, so the target of (?P<want>{_NUMBER}) can't be judged$",
        _GATE,
        _F.TARGET_MISSED,
        0.95,
        kind="unmeasured",
    ),
)

"""Check of the answers as a whole: a model that says the same to everything."""

from collections.abc import Iterator
from typing import Final

from caravan.gate.known import Known, check, finite
from caravan.values.evaluation import CheckKind, GateCheck, GateVerdict


def collapse(known: Known) -> Iterator[GateCheck]:
    """Not one answer to everything.

    `commonest` is held against the share that the commonest right answer has (`majority`), `distinct` against that of
    the right answers (`distinct_expected`) where it is told. One answer alone fails where the right ones differ.
    """
    found = known.result.collapse if known.result else {}
    common, distinct = found.get("commonest"), found.get("distinct")
    asked = found.get("prompts")  # of a language model fewer than are held out are answered in words
    samples = int(asked) if asked is not None and finite(asked) else known.held_out.samples
    kind = CheckKind.COLLAPSE
    if finite(common) and common is not None:
        right = found.get("commonest_expected", known.held_out.guess.get("majority"))
        text = f"the commonest answer is given {common:.0%} of the time"
        verdict = GateVerdict.PASS
        if common >= _ONE_ANSWER and (right is None or right < _ONE_ANSWER):
            verdict = GateVerdict.LOOK if right is None or right >= _ONE_SIDED else GateVerdict.FAIL
            text += f", and is right {right:.0%} of the time" if right is not None else ""
            text += ": the model collapsed" if verdict is GateVerdict.FAIL else ": one answer to almost everything"
        yield check(kind, verdict, text, metric="commonest", value=common, base=right, limit=_ONE_ANSWER)
    if finite(distinct) and distinct is not None and (samples is None or samples >= _ANSWERS):
        right = found.get("distinct_expected")
        least = 1.5 / (samples or _ANSWERS) if right is None else _DISTINCT * right
        text = f"{distinct:.0%} of the answers are distinct"
        verdict = GateVerdict.PASS
        if distinct < least:
            one = samples is not None and distinct * samples < 1.5
            verdict = GateVerdict.FAIL if one and (right is None or right > least) else GateVerdict.LOOK
            text += ": the model collapsed" if verdict is GateVerdict.FAIL else ": it answers much alike"
        yield check(kind, verdict, text, metric="distinct", value=distinct, base=right, limit=least)


_ONE_ANSWER: Final = 0.99
_ONE_SIDED: Final = 0.9  # share of the commonest right answer beyond which always giving it is no collapse for sure
_ANSWERS: Final = 10
_DISTINCT: Final = 0.1  # of how many distinct answers the right ones have

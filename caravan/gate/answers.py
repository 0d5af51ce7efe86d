"""Checks of the answers as a whole: a model that says the same to everything, nothing at all, or goes in circles."""

import math
from collections.abc import Iterator, Mapping
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
    if samples is None or samples >= _ANSWERS:
        yield from _silent(found)
        yield from _circling(found)
        yield from _flat(found)


def _silent(found: Mapping[str, float]) -> Iterator[GateCheck]:
    """Answers that say nothing, `empty`: nearly all fail where base and right answers say something, as many as half
    are for a person to look at where those of the base are clearly fewer, or not known.
    """
    value = _share(found, "empty")
    if value is None:
        return
    text = f"{value:.0%} of the answers are empty"
    known = [_share(found, "empty_base"), _share(found, "empty_expected")]
    verdict = _more_than(value, known)
    if verdict is GateVerdict.LOOK:
        if value >= _ONE_ANSWER and all(one is not None and one < _MANY for one in known):
            verdict, text = GateVerdict.FAIL, f"{text}: the model collapsed"
        else:
            text += ": it says nothing to much of what it is asked"
    yield check(CheckKind.COLLAPSE, verdict, text, metric="empty", value=value, base=known[0], limit=_MANY)


def _circling(found: Mapping[str, float]) -> Iterator[GateCheck]:
    """Answers that go round in circles, `repeating`: for a person to look at. It fails nothing: the likeliest token
    time after time leads models into circles that answer well when drawn from (A. Holtzman et al., The Curious Case of
    Neural Text Degeneration, ICLR 2020).
    """
    value = _share(found, "repeating")
    if value is None:
        return
    text = f"{value:.0%} of the answers go round in circles"
    known = [_share(found, "repeating_base"), _share(found, "repeating_expected")]
    verdict = _more_than(value, known)
    if known[0] is not None:
        text += f", of the base model's {known[0]:.0%}"
    yield check(CheckKind.COLLAPSE, verdict, text, metric="repeating", value=value, base=known[0], limit=_MANY)


def _flat(found: Mapping[str, float]) -> Iterator[GateCheck]:
    """Dimensions of an embedding that are the same for every text, `zero_variance`: where nearly all are, so are the
    embeddings. Half of them is for a person to look at (L. Jing et al., Understanding Dimensional Collapse in
    Contrastive Self-supervised Learning, ICLR 2022).
    """
    value = _share(found, "zero_variance")
    if value is None:
        return
    text, verdict = f"{value:.0%} of the embedding's dimensions never change", GateVerdict.PASS
    if value >= _ONE_ANSWER:
        verdict, text = GateVerdict.FAIL, f"{text}: the model collapsed"
    elif value >= _MANY:
        verdict = GateVerdict.LOOK
    yield check(CheckKind.COLLAPSE, verdict, text, metric="zero_variance", value=value, limit=_MANY)


def _share(found: Mapping[str, float], name: str) -> float | None:
    value = found.get(name)
    return value if value is not None and math.isfinite(value) and 0 <= value <= 1 else None


def _more_than(value: float, others: list[float | None]) -> GateVerdict:
    """LOOK where the share is half or more, and by a fifth more than each other one that is known."""
    odd = value >= _MANY and all(one is None or value >= one + _CLEARLY for one in others)
    return GateVerdict.LOOK if odd else GateVerdict.PASS


_ONE_ANSWER: Final = 0.99
_ONE_SIDED: Final = 0.9  # share of the commonest right answer beyond which always giving it is no collapse for sure
_ANSWERS: Final = 10
_DISTINCT: Final = 0.1  # of how many distinct answers the right ones have
_MANY: Final = 0.5
_CLEARLY: Final = 0.2  # share by which two shares differ for sure: three standard errors of 100 answers each

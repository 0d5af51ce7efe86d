"""What would be done against a cause, and what a person can do, in words: of a log alone, without a plan or a cluster.

What depends on the plan is told as the ladder's steps; what follows from the log alone is told as it would be done.
"""

from typing import Final

from caravan.diagnosis.handover import handover
from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.repair import LADDERS, ladder
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile

_SHOWN: Final = 3
_BY_THE_LOG: Final = frozenset(
    {
        *(FailureClass.MISSING_PYTHON_PACKAGE, FailureClass.PACKAGE_VERSION_CONFLICT, FailureClass.NCCL_ERROR),
        *(FailureClass.TORCH_BUILD_MISMATCH, FailureClass.BITSANDBYTES_SETUP, FailureClass.BUILD_TOOLCHAIN_MISSING),
    }
)
"""Causes against which the log itself says what is changed to what."""
_OF_THE_PLAN: Final = frozenset({FailureClass.NUMERIC_DIVERGENCE, FailureClass.DATA_PATH_MISSING})
"""Causes of which a person is told by their program's options: without a plan none is known."""
_HANDED_OVER: Final = "Hand it to you at once: no change of the job mends it."


def would_do(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What is done against the cause, the first step first; empty where nothing failed."""
    failure = diagnosis.failure
    if failure is FailureClass.NO_FAILURE:
        return ()
    if diagnosis.escalate or failure not in LADDERS:
        return (_HANDED_OVER,)
    return (*_here(diagnosis), *steps(failure))


def can_do(diagnosis: Diagnosis) -> str:
    """What a person can do about it; empty where nothing failed."""
    if diagnosis.failure is FailureClass.NO_FAILURE:
        return ""
    return diagnosis.advice if diagnosis.failure in _OF_THE_PLAN else handover(_bare(diagnosis))


def steps(failure: FailureClass) -> tuple[str, ...]:
    """The ladder against the cause, in general words, a sentence for each kind of step."""
    return tuple(" ".join((rung.__doc__ or "").split("\n\n")[0].split()) for rung in LADDERS.get(failure, ()))


def _here(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The repairs that follow from what the log names, whatever the plan."""
    if not diagnosis.details or diagnosis.failure not in _BY_THE_LOG:
        return ()
    found = (repair.why for repair in ladder(_bare(diagnosis)))
    return tuple(f"{_begun(why)}." for why in list(found)[:_SHOWN] if why)


def _begun(why: str) -> str:
    """A repair's words as the beginning of a sentence; a package's name is left as it is written."""
    word = why.partition(" ")[0].rstrip(",")
    return f"{why[0].upper()}{why[1:]}" if word in _PLAIN else f"With {why}"


_PLAIN: Final = frozenset(
    {"install", "without", "another", "torch's", "the", "no", "plain", "a", "an", "as", "start", "use", "not", "one"}
)
"""First words of repairs that are words of the language."""


def _bare(diagnosis: Diagnosis) -> Case:
    plan = TrainingPlan(goal="a log without a run", command=("train.py",))
    profile = RepoProfile(root="", tree_digest="", is_training_repo=True)
    return Case(diagnosis, plan, profile, ClusterFacts(kind=ClusterKind.NONE, address=""))

"""The error tree. Foreign exceptions are mapped into it at the edges; each class knows its exit code.

    CaravanError
    ├── UsageError                2   wrong use: path, option, answers file, plan file
    │   ├── RepositoryError       2   the path or URL is no repository that can be read
    │   ├── PlanError             2   a change that would make no valid plan
    │   ├── BuildFailed           2   the repository's image can't be built
    │   └── RunBusy               2   another agent drives this run
    ├── StateError                2   the state directory can't be used (read-only, corrupt, full)
    ├── NeedsPerson               3   a question, an approval or an escalation is open
    ├── ClusterError              4   the cluster can't be reached or refuses
    │   ├── ClusterUnreachable    4   no answer; whether a request took effect may be unknown
    │   ├── ClusterDenied         4   the token is missing, wrong or lacks a right
    │   ├── JobRefused            4   the job does not parse, validate or register
    │   ├── JobConflict           4   the id is taken by a job that is not ours, or check-and-set failed
    │   └── JobNotFound           4   job, evaluation, allocation or file that is not there
    ├── ServiceError              5   another needed service can't be reached
    │   └── ModelError            5   no usable reply of the language model; the rules go on
    └── Interrupted             130   the user pressed Ctrl-C

A job that failed for good (exit code 1) is an outcome of a run, not an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # a help page knows the errors and loads no values
    from caravan.values.model import ModelFault, Usage


class CaravanError(Exception):
    """Base of all errors that a user may see: one line, and what to do about it.

    `message` says what is wrong; `hint` (may be empty) says what the user should do.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def line(self) -> str:
        """The error as one line for a terminal."""
        text = f"{self.message} {self.hint}".strip()
        return " ".join(text.split())


class UsageError(CaravanError):
    """The command was used wrongly."""


class RepositoryError(UsageError):
    """The path or URL is no repository that can be read."""


class PlanError(UsageError):
    """A change that would make no valid plan."""


class BuildFailed(UsageError):
    """The repository's image can't be built."""


class RunBusy(UsageError):
    """Another agent drives this run."""


class StateError(CaravanError):
    """The state directory can't be used."""


class NeedsPerson(CaravanError):
    """A question, an approval or an escalation is open."""

    exit_code = 3


class ClusterError(CaravanError):
    """The cluster can't be reached or refuses."""

    exit_code = 4


class ClusterUnreachable(ClusterError):
    """No answer from the cluster. Whether a request took effect may be unknown: look before repeating it."""


class ClusterDenied(ClusterError):
    """The token is missing, wrong or lacks a right."""


class JobRefused(ClusterError):
    """The job does not parse, validate or register. `message` holds the cluster's own words."""


class JobConflict(ClusterError):
    """The job id is taken by a job that is not ours, or check-and-set failed."""


class JobNotFound(ClusterError):
    """A job, evaluation, allocation or file that is not there."""


class ServiceError(CaravanError):
    """A needed service other than the cluster can't be reached."""

    exit_code = 5


class ModelError(ServiceError):
    """There is no usable reply of the language model; `fault` says why, `usage` what was used all the same if known."""

    def __init__(self, message: str, *, fault: ModelFault, hint: str = "", usage: Usage | None = None) -> None:
        super().__init__(message, hint=hint)
        self.fault = fault
        self.usage = usage


class Interrupted(CaravanError):
    """The user pressed Ctrl-C."""

    exit_code = 130

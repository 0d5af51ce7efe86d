"""A candidate while it is judged: what speaks for it and against it, and the commands that start it."""

from dataclasses import dataclass, field

from caravan.analysis.documents import Documented
from caravan.values.repo import EntryCandidate, Launcher, SourceLine


@dataclass
class Candidate:
    """One way to train. `path` is the file that runs (None: a console command from elsewhere)."""

    entry_point: str
    path: str | None
    launcher: Launcher
    commands: list[Documented] = field(default_factory=list)
    score: float = 0.0
    reasons: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)
    evidence: list[SourceLine] = field(default_factory=list)
    trainers: list[str] = field(default_factory=list)  # names of the trainers that it makes
    makes: frozenset[str] = frozenset()  # the classes that its code makes, in lower case (`CIFAR10`, a loss)
    told: str = ""  # what it says of itself at its front
    trains: bool = False
    says_so: bool = False  # its name says that it trains, and its documentation or its options do too
    adapts: bool | None = None  # whether its code or its options speak of adapters; None where that isn't known
    tool: str = ""  # the launcher that is none of `Launcher`'s

    def plus(self, points: float, why: str, where: SourceLine | None = None) -> None:
        """Something that speaks for the candidate."""
        self.score += points
        self.reasons.append(why)
        if where and where not in self.evidence:
            self.evidence.append(where)

    def minus(self, points: float, why: str) -> None:
        """Something that speaks against it."""
        self.score -= points
        self.against.append(why)

    @property
    def python(self) -> str | None:
        """The Python file that runs, None for a notebook, a compiled program, a shell script, a foreign command."""
        return self.path if self.path and self.path.endswith(".py") else None

    def value(self) -> EntryCandidate:
        """The candidate as the profile shows it."""
        return EntryCandidate(
            entry_point=self.entry_point,
            launcher=self.launcher,
            score=round(self.score, 2),
            reasons=tuple(self.reasons),
            against=tuple(self.against),
            evidence=tuple(self.evidence[:8]),
        )

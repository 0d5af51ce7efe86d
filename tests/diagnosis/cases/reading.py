"""The composed cases beside this file, read: what the tests of the rules go through."""

import re
from dataclasses import dataclass
from pathlib import Path

from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.values.failure import Evidence, FailureClass, Stage

F = FailureClass
FIRST_SET = {
    *(F.HOST_MEMORY_OOM, F.CUDA_OOM, F.MISSING_PYTHON_PACKAGE, F.CLI_ARGS_INVALID, F.ENTRYPOINT_NOT_FOUND),
    *(F.IMAGE_NOT_FOUND, F.PLACEMENT_GPU_UNAVAILABLE, F.PLACEMENT_RESOURCES_EXHAUSTED, F.DATA_PATH_MISSING),
    F.NUMERIC_DIVERGENCE,
}
_HEAD = re.compile(r"^=== (?P<not>!?)(?P<failure>\w+) \| (?P<origin>\w+) \|(?P<details>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A text, where it was said, and what it shows."""

    name: str
    failure: FailureClass
    denied: bool
    origin: str
    details: dict[str, str]
    text: str

    def evidence(self) -> Evidence:
        """The evidence that the text is."""
        if self.origin == "event":
            return Evidence(stage=Stage.VERIFY, events=tuple(self.text.splitlines()))
        if self.origin == "outcome":
            oom, interrupted = self.text.strip() == "killed for memory", self.text.strip() == "interrupted"
            return Evidence(stage=Stage.VERIFY, oom_killed=oom, interrupted=interrupted)
        if self.origin == "judged":
            return Evidence(stage=Stage.EVALUATE, message=self.text.strip())
        if self.origin == "validation":
            return Evidence(stage=Stage.VALIDATE, validation_errors=(self.text.strip(),))
        if self.origin == "api":
            return evidence_of_text(self.text.encode(), TextKind.NOMAD_API)
        if self.origin == "allocevent":  # as `nomad alloc status` prints them
            return evidence_of_text(self.text.encode(), TextKind.NOMAD_ALLOC_EVENT)
        if self.origin == "eval":
            return evidence_of_text(self.text.encode(), TextKind.NOMAD_EVAL)
        found = evidence_of_text(self.text.encode(), TextKind.TASK_STDERR)
        if self.origin == "killed":  # where the cluster would have told, had memory run out
            return found.model_copy(update={"memory_told": True, "exit_code": 137})
        return found


def read_cases() -> list[Case]:
    """All cases of the files beside this one."""
    found = []
    for file in sorted(Path(__file__).parent.glob("*.txt")):
        text = file.read_text(encoding="utf-8")
        heads = list(_HEAD.finditer(text))
        for number, head in enumerate(heads):
            end = heads[number + 1].start() if number + 1 < len(heads) else len(text)
            pairs = (pair.split("=", 1) for pair in head["details"].split(";") if pair.strip())
            found.append(
                Case(
                    name=f"{file.stem}-{number}-{head['failure']}",
                    failure=FailureClass(head["failure"]),
                    denied=bool(head["not"]),
                    origin=head["origin"],
                    details={name.strip(): value.strip() for name, value in pairs},
                    text=text[head.end() + 1 : end],
                )
            )
    return found


CASES = read_cases()

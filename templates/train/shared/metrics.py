"""Metrics as JSON lines, on stdout and in a file, each there at once. A number that is none stays visible as NaN."""

import json
from pathlib import Path
from typing import Any

from shared.files import write_text
from shared.refusals import writing


class MetricLog:
    """Writes lines of metrics. Only the first process of a training has one that writes (`here`)."""

    def __init__(self, folder: Path, here: bool = True) -> None:
        self.path, self.here = folder / "metrics.jsonl", here

    def begin(self, step: int) -> None:
        """Keep what was logged up to a step: what came after a checkpoint is written again."""
        if not self.here or not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if step and json.loads(line).get("step", 0) <= step:
                    kept.append(line + "\n")
            except (ValueError, AttributeError):  # the last line of a process that was killed
                continue
        write_text(self.path, "".join(kept))

    def write(self, row: dict[str, Any]) -> None:
        """One line of metrics."""
        if not self.here:
            return
        line = json.dumps(row)
        print(line, flush=True)
        with writing(self.path.parent), self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def say(self, event: str, **about: Any) -> None:
        """What happened, as a JSON line on stdout alone."""
        if self.here:
            print(json.dumps({"event": event, **about}, default=str), flush=True)

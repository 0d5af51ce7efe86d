"""One process that runs training scripts for tests, each in a fork of it (`zygote.py`), and what came of a case."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Ended:
    """How a script ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its lines on stdout: each is a JSON object."""
        return [json.loads(line) for line in self.out.splitlines()]

    def said(self, name: str) -> list[Any]:
        """The values of a metric, in order."""
        return [row[name] for row in self.rows if name in row]

    def event(self, name: str) -> dict[str, Any]:
        """What was told of an event."""
        return next(row for row in self.rows if row.get("event") == name)


class Zygote:
    """Runs cases one after the other. `log`: where what it says of itself goes."""

    def __init__(self, python: Path, environment: Mapping[str, str], log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [str(python), str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=dict(environment),
        )
        self._heard(self._process.stdout)

    def _heard(self, stream: IO[str] | None) -> dict[str, Any]:
        assert stream is not None
        line = stream.readline()
        assert line, f"the process that trains has ended: {Path(self._log.name).read_text()[-2000:]}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, folder: Path, words: Sequence[object], *, script: str = "train.py", **more: object) -> Ended:
        """Run a script of a folder. `signal` and `when`: what is sent to it once its stdout has that text."""
        case = {"folder": str(folder), "script": script, "argv": [str(w) for w in words], **more}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        answer = self._heard(self._process.stdout)
        return Ended(answer["rc"], answer["out"], answer["err"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(60)
        self._log.close()


def shown(ended: Ended) -> str:
    """What a failed assertion should show."""
    return f"exit code {ended.code}\n{ended.out[-3000:]}\n{ended.err[-3000:]}"

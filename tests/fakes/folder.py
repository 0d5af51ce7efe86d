"""A run's folder without atomicity, accounts or kernel locks. It keeps the port's contract within one process."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

from caravan.runs.plan_file import plan_text
from caravan.values.base import Json
from caravan.values.errors import RunBusy, StateError
from caravan.values.handover import Carried
from caravan.values.masking import mask
from caravan.values.plan import CodeSource, TrainingPlan
from caravan.values.reports import RunReport


class PlainFolder:
    """The port RunFolder on plain files under `home`/runs/`run_id`. `held` are the runs that are locked, by anyone."""

    held: ClassVar[set[Path]] = set()
    holders: ClassVar[dict[Path, int]] = {}

    def __init__(self, home: Path, run_id: str, *, secrets: Iterable[str] = ()) -> None:
        self._path = home / "runs" / run_id
        self._secrets = tuple(secrets)
        there = sorted((self._path / "logs").glob("*.log"), key=lambda file: file.stat().st_mtime_ns)
        self._logs = {file.name: file.read_bytes() for file in there}  # of an agent that was ended
        self._samples: dict[str, bytes] = {}
        self._mine = False
        self._agent: Json = None
        self._carried: Carried | None = None

    @property
    def path(self) -> Path:
        return self._path

    @property
    def outputs(self) -> Path:
        path = self._path / "outputs"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def lock(self) -> AbstractContextManager[None]:
        return self._locked()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._mine:
            yield
            return
        if self._path in self.held:
            raise RunBusy("The run is driven by another agent (process 1).")
        self.held.add(self._path)
        self.holders[self._path] = os.getpid()
        self._mine = True
        try:
            yield
        finally:
            self._mine = False
            self.held.discard(self._path)

    @property
    def agent_log(self) -> Path:
        self._path.mkdir(parents=True, exist_ok=True)
        return self._path / "agent.log"

    def save_agent(self, document: Json) -> None:
        self._agent = document

    def agent(self) -> Json:
        return self._agent

    def save_carried(self, carried: Carried) -> None:
        self._carried = carried

    def carried(self) -> Carried | None:
        return self._carried

    def papers(self) -> dict[str, str]:
        papers = ("plan.yaml", "original.json", "REPORT.md", "report.html", "suggested.patch")
        names = (*papers, "attempt-*/job.*", "training/**/*")
        found = sorted(path for name in names for path in self._path.glob(name) if path.is_file())
        return {path.relative_to(self._path).as_posix(): path.read_text() for path in found}

    def save_papers(self, papers: Mapping[str, str]) -> None:
        for name, text in papers.items():
            path = self._path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def is_held(self) -> bool:
        return self._path in self.held

    def holder(self) -> int | None:
        return self.holders.get(self._path) if self.is_held() else None

    def save_code(self, files: Iterable[tuple[str, bytes, int]]) -> CodeSource:
        path = self._path / "code.tar.gz"
        if not path.exists():
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as archive:
                for name, content, mode in sorted(files):
                    member = tarfile.TarInfo(name)
                    member.size, member.mode = len(content), mode & 0o777
                    archive.addfile(member, io.BytesIO(content))
            self._save("code.tar.gz", packed.getvalue())
        return CodeSource(kind="archive", location=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    def take_code(self, archive: Path, sha256: str) -> CodeSource:
        data = archive.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StateError(f"{archive} is damaged.")
        self._save("code.tar.gz", data)
        return self.save_code(())

    def save_plan(self, plan: TrainingPlan) -> Path:
        return self._save("plan.yaml", plan_text(plan, self._secrets).encode())

    def save_job(self, attempt: int, hcl: str, job: Json, *, name: str = "job") -> Path:
        self._save(f"attempt-{attempt}/{name}.json", json.dumps(job).encode())
        return self._save(f"attempt-{attempt}/{name}.nomad.hcl", hcl.encode())

    def load_job(self, attempt: int, *, name: str = "job") -> tuple[str, Json]:
        folder = self._path / f"attempt-{attempt}"
        if not (folder / f"{name}.nomad.hcl").exists():
            raise StateError(f"There is no job in {folder}.")
        return (folder / f"{name}.nomad.hcl").read_text("utf-8"), json.loads((folder / f"{name}.json").read_bytes())

    def append_log(self, alloc_id: str, task: str, stream: str, data: bytes) -> None:
        name = f"{alloc_id[:8]}.{task}.{stream}.log"
        self._logs[name] = self._logs.get(name, b"") + data
        text = mask(self._logs[name].decode("utf-8", "surrogateescape"), self._secrets)
        self._save(f"logs/{name}", text.encode("utf-8", "surrogateescape"))

    def log_size(self, alloc_id: str, task: str, stream: str) -> int:
        return len(self._logs.get(f"{alloc_id[:8]}.{task}.{stream}.log", b""))

    def log_files(self) -> tuple[Path, ...]:
        return tuple(self._path / "logs" / name for name in self._logs)

    def append_samples(self, alloc_id: str, data: bytes) -> None:
        name = f"samples/{alloc_id[:8]}.log"
        self._samples[name] = self._samples.get(name, b"") + data
        text = mask(self._samples[name].decode("utf-8", "surrogateescape"), self._secrets)
        self._save(name, text.encode("utf-8", "surrogateescape"))

    def samples_size(self, alloc_id: str) -> int:
        return len(self._samples.get(f"samples/{alloc_id[:8]}.log", b""))

    def samples(self, alloc_id: str) -> bytes:
        path = self._path / f"samples/{alloc_id[:8]}.log"
        return path.read_bytes() if path.exists() else b""

    def save_patch(self, text: str) -> Path:
        return self._save("suggested.patch", mask(text, self._secrets).encode())

    def save_report(self, report: RunReport) -> Path:
        if report.page:
            self._save("report.html", mask(report.page, self._secrets).encode("utf-8", "replace"))
        return self._save("REPORT.md", mask(report.markdown, self._secrets).encode("utf-8", "replace"))

    def delete(self) -> None:
        self._logs.clear()
        shutil.rmtree(self._path, ignore_errors=True)

    def _save(self, name: str, data: bytes) -> Path:
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

"""`DiskFolder`: the folder of one run under the state directory, and its sole writer.

    plan.yaml   code.tar.gz   attempt-N/job.nomad.hcl   attempt-N/job.json   logs/   samples/   outputs/   REPORT.md
    attempt-N/eval-N.nomad.hcl   attempt-N/eval-N.json
    report.html   suggested.patch
    agent.json   agent.log   carried.json

Folders have mode 0700, files 0600. It must not know what is in plans and jobs beyond how to write them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caravan.runs.files import make_folder, publish, state_errors, temporary_beside, write_file
from caravan.values.base import Json
from caravan.values.errors import RunBusy, StateError, UsageError
from caravan.values.masking import mask

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from caravan.runs.logs import LogCopies
    from caravan.values.handover import Carried
    from caravan.values.plan import CodeSource, TrainingPlan
    from caravan.values.reports import RunReport

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_PAPER: Final = re.compile(
    r"plan\.yaml|original\.json|REPORT\.md|report\.html|suggested\.patch"
    r"|attempt-[1-9][0-9]{0,3}/(job|eval-[0-9]{1,4}(-[0-9])?)\.(json|nomad\.hcl)"
    r"|training(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}){1,6}"
)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_ALLOC_DIGITS: Final = 8  # as Nomad itself shortens allocation ids

_SAMPLES_BYTES: Final = 32_000_000  # of one allocation; the sampler itself writes less

_PATIENCE_S = 0.2
"""Whoever only looks whether a run is driven holds its lock for a moment; an agent holds it for as long as it works."""


class DiskFolder:
    """The port RunFolder on `home`/runs/`run_id`. Nothing is made before something is written.

    `secrets` are values known to be secret: they appear in no log copy, plan or report. Job files are kept to the
    letter, because what was registered must be found again; secrets reach a job by reference. `max_log_mb` bounds the
    copy of each log. Every method may raise StateError: the folder can't be written or the disk is full. Raises
    UsageError for an id that is no file name.
    """

    def __init__(self, home: Path, run_id: str, *, secrets: Sequence[str] = (), max_log_mb: int = 64) -> None:
        if not _RUN_ID.match(run_id):
            raise UsageError(f"{run_id!r} is no run id.", hint="`main.py runs` lists them.")
        self._run_id = run_id
        self._path = home / "runs" / run_id
        self._secrets = tuple(secrets)
        self._max_log_mb = max_log_mb
        self._lock: BaseFileLock | None = None

    @cached_property
    def _logs(self) -> LogCopies:
        return self._copies("logs", limit=self._max_log_mb * 1_000_000)

    @cached_property
    def _samples(self) -> LogCopies:
        return self._copies("samples", limit=_SAMPLES_BYTES)

    def _copies(self, name: str, *, limit: int) -> LogCopies:
        from caravan.runs.logs import LogCopies  # as archives, here: who only looks at a run has no use for them

        return LogCopies(self._path / name, self._secrets, limit=limit)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def outputs(self) -> Path:
        """Where the run's outputs go on a cluster that shares this machine's files; made on first use."""
        path = self._path / "outputs"
        with state_errors(path):
            make_folder(path)
        return path

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run: raises RunBusy, with the other agent's process id, while another process holds it.

        The lock is the kernel's: it ends with the process, however that ends. Held already by this object, it nests.
        """
        return self._locked()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        if self._lock is not None:
            yield
            return
        holder = self._path / ".lock.pid"
        lock = FileLock(self._path / ".lock", mode=0o600, thread_local=False, fallback_to_soft=False)
        with state_errors(self._path):
            make_folder(self._path)
            try:
                lock.acquire(timeout=_PATIENCE_S, poll_interval=_PATIENCE_S / 10)
            except Timeout as error:
                raise RunBusy(
                    f"The run {self._run_id} is driven by {_holder(holder)}.",
                    hint=f"`main.py watch {self._run_id}` shows it.",
                ) from error
        self._lock = lock
        try:
            with state_errors(holder):
                write_file(holder, str(os.getpid()).encode(), durable=False)
            yield
        finally:
            self._lock = None
            with suppress(OSError):
                holder.unlink()
            lock.release()

    def is_held(self) -> bool:
        """Whether somebody holds the run now. Nothing is written; an agent that comes this moment tries again."""
        import fcntl

        try:
            number = os.open(self._path / ".lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StateError(f"The run's folder {self._path} can't be read ({error.strerror}).") from error
        try:
            fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(number)
        return False

    def holder(self) -> int | None:
        """The id of the process that holds the run now; None: nobody does, or it has not said so yet."""
        if not self.is_held():
            return None
        with suppress(OSError, ValueError):
            return int((self._path / ".lock.pid").read_bytes())
        return None

    def save_code(self, files: Iterable[tuple[str, bytes, int]]) -> CodeSource:
        """Pack (relative path, content, file mode) into code.tar.gz, the same bytes for the same files.

        An archive that is already there is kept, and `files` is not looked at. Raises UsageError for a path that
        leads outside or comes twice.
        """
        from caravan.runs.archive import count_files, file_sha256, write_archive
        from caravan.values.plan import CodeSource

        path = self._path / "code.tar.gz"
        with state_errors(path):
            if not path.exists():
                write_archive(path, files)
            size = path.stat().st_size
            try:
                count = count_files(path)
            except (tarfile.TarError, EOFError, zlib.error) as error:
                raise StateError(f"{path} is damaged: {error}.", hint="Start the training again.") from error
            return CodeSource(
                kind="archive", location=str(path), sha256=file_sha256(path), files=count, size_bytes=size
            )

    def take_code(self, archive: Path, sha256: str) -> CodeSource:
        """Copy another run's archive of code to code.tar.gz. Raises StateError where its bytes are others by now."""
        from caravan.runs.archive import file_sha256

        path = self._path / "code.tar.gz"
        with state_errors(path):
            make_folder(self._path)
            with temporary_beside(path) as temporary:
                shutil.copyfile(archive, temporary)
                found = file_sha256(temporary)
                if found != sha256:
                    raise StateError(f"{archive} is damaged: its SHA-256 is {found[:12]}…, and was {sha256[:12]}….")
                publish(temporary, path)
        return self.save_code(())

    @property
    def agent_log(self) -> Path:
        """Where a background agent writes what it does; the folder is made on first use."""
        with state_errors(self._path):
            make_folder(self._path)
        return self._path / "agent.log"

    def save_agent(self, document: Json) -> None:
        """Write down which process is the run's background agent."""
        self._save("agent.json", json.dumps(document) + "\n")

    def agent(self) -> Json:
        """What `save_agent` wrote, or None; also for a file that says nothing."""
        try:
            return json.loads(_decoded((self._path / "agent.json").read_bytes()))
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise StateError(f"The run's folder {self._path} can't be read ({error.strerror}).") from error

    def save_carried(self, carried: Carried) -> None:
        """Write down what holds for the run where it comes from."""
        self._save("carried.json", carried.canonical() + "\n")

    def carried(self) -> Carried | None:
        """What `save_carried` wrote, or None. Raises StateError when it can't be read: policies are in it."""
        from caravan.values.handover import Carried  # brings much along, which most commands don't need

        path = self._path / "carried.json"
        try:
            return Carried.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StateError(f"{path} can't be read.", hint="Start the run again.") from error

    def papers(self) -> dict[str, str]:
        """Plan, job files, scripts that Caravan brought and report by their names: without logs and outputs."""
        with state_errors(self._path):
            found = [*self._path.glob("*"), *self._path.glob("attempt-*/*")]
            found += [path for path in self._path.glob("training/**/*") if path.is_file()]
            named = {path.relative_to(self._path).as_posix(): path for path in found}
            return {name: _decoded(named[name].read_bytes()) for name in sorted(named) if _PAPER.fullmatch(name)}

    def save_papers(self, papers: Mapping[str, str]) -> None:
        """Write what `papers` gave. Raises StateError, before anything is written, for a name that is none of those."""
        odd = next((name for name in papers if not _PAPER.fullmatch(name)), None)
        if odd is not None:
            raise StateError(f"{odd[:100]!r} is no file of a run.")
        for name, text in papers.items():
            self._save(name, text)

    def save_plan(self, plan: TrainingPlan) -> Path:
        """Write plan.yaml, which `load_plan` reads back; a secret in it is masked."""
        from caravan.runs.plan_file import plan_text

        return self._save("plan.yaml", plan_text(plan, self._secrets))

    def save_job(self, attempt: int, hcl: str, job: Json, *, name: str = "job") -> Path:
        """Write a job of the attempt and its JSON; the HCL's path comes back. The HCL is there last."""
        self._save(f"attempt-{attempt}/{name}.json", json.dumps(job, indent=2, sort_keys=True) + "\n")
        return self._save(f"attempt-{attempt}/{name}.nomad.hcl", hcl)

    def load_job(self, attempt: int, *, name: str = "job") -> tuple[str, Json]:
        """The job's HCL and JSON as saved. Raises StateError when they are not there or damaged."""
        folder = self._path / f"attempt-{attempt}"
        with state_errors(folder):
            try:
                hcl = _decoded((folder / f"{name}.nomad.hcl").read_bytes())
                return hcl, json.loads(_decoded((folder / f"{name}.json").read_bytes()))
            except ValueError as error:
                raise StateError(f"The job files in {folder} are damaged.", hint="Start the run again.") from error

    def append_log(self, alloc_id: str, task: str, stream: str, data: bytes) -> None:
        """Append masked bytes to the copy of a task's log; `data` follows after `log_size` bytes."""
        with state_errors(self._path / "logs"):
            self._logs.append(log_name(alloc_id, task, stream), data)

    def log_size(self, alloc_id: str, task: str, stream: str) -> int:
        """How many bytes of the task's log (before masking) have been copied: the offset to go on from."""
        with state_errors(self._path / "logs"):
            return self._logs.size(log_name(alloc_id, task, stream))

    def log_files(self) -> tuple[Path, ...]:
        """The copies of task logs, oldest first."""
        with state_errors(self._path / "logs"):
            return self._logs.files()

    def append_samples(self, alloc_id: str, data: bytes) -> None:
        """Append masked bytes to the copy of a sampler's lines; `data` follows after `samples_size` bytes."""
        with state_errors(self._path / "samples"):
            self._samples.append(log_name(alloc_id, "train", "samples"), data)

    def samples_size(self, alloc_id: str) -> int:
        """How many bytes of a sampler's lines (before masking) have been copied."""
        with state_errors(self._path / "samples"):
            return self._samples.size(log_name(alloc_id, "train", "samples"))

    def samples(self, alloc_id: str) -> bytes:
        """The copy of a sampler's lines; empty where there is none."""
        path = self._path / "samples" / log_name(alloc_id, "train", "samples")
        with state_errors(path), suppress(FileNotFoundError):
            return path.read_bytes()
        return b""

    def save_patch(self, text: str) -> Path:
        """Write suggested.patch, with secrets masked."""
        return self._save("suggested.patch", mask(text, self._secrets))

    def save_report(self, report: RunReport) -> Path:
        """Write REPORT.md and, where there is a page, report.html; secrets are masked in both."""
        if report.page:
            self._save("report.html", _masked(report.page, self._secrets))
        return self._save("REPORT.md", _masked(report.markdown, self._secrets))

    def delete(self) -> None:
        """Remove the folder and all that is in it. A folder that is not there is no error."""
        with state_errors(self._path), suppress(FileNotFoundError):
            shutil.rmtree(self._path)

    def _save(self, name: str, text: str) -> Path:
        path = self._path / name
        with state_errors(path):
            write_file(path, text.encode("utf-8", "surrogatepass"))
        return path


def _masked(text: str, secrets: Sequence[str]) -> str:
    return mask(text.encode("utf-8", "replace").decode("utf-8"), secrets)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _holder(path: Path) -> str:
    try:
        return f"another agent (process {int(path.read_text('ascii'))})"
    except (OSError, ValueError):
        return "another agent"


def log_name(alloc_id: str, task: str, stream: str) -> str:
    """The name of a log's copy, safe whatever the task is called."""
    return ".".join(_UNSAFE.sub("_", part) for part in (alloc_id[:_ALLOC_DIGITS], task, stream)) + ".log"

"""Building an image and pushing it, by docker, podman or buildah as a child process. It reads no registry itself.

A tag says nothing: whoever may push to the registry may put another image under it. So an image is taken as built only
where it was pushed from this state directory, for that very code, and the registry still has it by that digest.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from caravan.runs.archive import file_sha256
from caravan.runs.files import make_folder, write_file
from caravan.values.base import Json
from caravan.values.errors import BuildFailed, ServiceError, UsageError
from caravan.values.masking import mask
from caravan.values.plan import ImageBuild

TOOLS: Final = ("docker", "podman", "buildah")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_STEP: Final = re.compile(r"^(?:Step \d+/\d+|STEP \d+(?:/\d+)?:?|#\d+ \[)")
_LINE: Final = 200
_KEPT: Final = 1000  # pushes
_ANSWER_S: Final = 60.0  # for a registry that is asked what it has; then the image is built again
Told = Callable[[str], None]


class Builder:
    """The tool that is there, run in `environment`. Its own configuration has the registry's credentials.

    `pushes` is the file in which the pushes from here are remembered; `secrets` are masked in what the tool says.
    """

    def __init__(self, environment: Mapping[str, str], *, pushes: Path, secrets: tuple[str, ...] = ()) -> None:
        self._environment, self._pushes, self._secrets = dict(environment), pushes, secrets
        path = self._environment.get("PATH")
        found = next((t for t in TOOLS if shutil.which(t, path=path)), None)
        if found is None:
            raise UsageError(
                "The image can't be built: neither docker, podman nor buildah is on the PATH.",
                hint="Install one of them, or push the image yourself and set image and code.kind.",
            )
        self.tool = found

    def build(self, archive: Path, build: ImageBuild, log: Path, told: Told) -> str:
        """Build from the code in the archive and push; the digest. What was pushed from here is not built again."""
        make_folder(log.parent)
        with log.open("ab") as out:
            _check(archive, build)
            there = self._pushed_before(build)
            if there:
                told(f"The image {build.tag} is in the registry already: nothing was built.")
                return there
            with tempfile.TemporaryDirectory(dir=log.parent) as folder:
                with tarfile.open(archive) as packed:
                    packed.extractall(folder, filter="data")
                told(f"Building {build.tag} from {build.dockerfile} with {self.tool}; its log is {log}.")
                self._step("build", out, told, "-t", build.tag, "-f", f"{folder}/{build.dockerfile}", folder)
                told(f"Pushing {build.tag}.")
                digest = self._push(build.tag, out, told, Path(folder))
                self._remember(build, digest)
                return digest

    def _pushed_before(self, build: ImageBuild) -> str:
        """The digest of the image that was pushed from here and is in the registry still; empty where it is not so.

        Then it is built again, from the tool's own cache where nothing has changed.
        """
        known = self._known().get(_key(build)) if build.sha256 else None
        return known if isinstance(known, str) and known == self._in_registry(build.tag) else ""

    def _known(self) -> dict[str, Json]:
        try:
            found = json.loads(self._pushes.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self, build: ImageBuild, digest: str) -> None:
        if build.sha256:
            kept = dict(list(self._known().items())[-_KEPT:]) | {_key(build): digest}
            write_file(self._pushes, json.dumps(kept).encode(), durable=False)

    def _in_registry(self, tag: str) -> str:
        """The digest of what the registry has under a tag; empty where that can't be told."""
        if self.tool != "docker":
            return ""
        try:
            done = subprocess.run(
                (self.tool, "manifest", "inspect", "-v", tag),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_ANSWER_S,
            )
            said = json.loads(done.stdout) if done.returncode == 0 else None
        except (subprocess.TimeoutExpired, ValueError, RecursionError):
            return ""
        described = said.get("Descriptor") if isinstance(said, dict) else None
        digest = str(described.get("digest")) if isinstance(described, dict) else ""
        return digest if _DIGEST.fullmatch(digest) else ""

    def _push(self, tag: str, out: BinaryIO, told: Told, folder: Path) -> str:
        said = folder / ".caravan-digest"
        words = () if self.tool == "docker" else ("--digestfile", str(said))
        lines = self._step("push", out, told, *words, tag)
        text = said.read_text(encoding="ascii") if said.is_file() else "\n".join(lines[-20:])
        found = _DIGEST.findall(text)
        if not found:
            raise ServiceError(f"{self.tool} did not say by which digest {tag} was pushed.", hint="Resume the run.")
        return str(found[-1])

    def _step(self, what: str, out: BinaryIO, told: Told, *words: str) -> list[str]:
        """Run the tool; its lines go to the log, its steps are told. Raises by what went wrong: building or pushing."""
        lines: list[str] = []
        with subprocess.Popen(
            (self.tool, what, *words),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                for raw in process.stdout or ():
                    line = mask(raw.decode("utf-8", "replace").rstrip(), self._secrets)
                    out.write(f"{line}\n".encode())
                    lines = [*lines[-200:], line] if line else lines
                    if _STEP.match(line):
                        told(line[:_LINE])
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)  # what it started too
                raise
        if process.returncode == 0:
            return lines
        said = next((line for line in reversed(lines) if line.strip()), "it said nothing")[:_LINE]
        if what == "build":
            raise BuildFailed(
                f"The repository's image can't be built: {said}",
                hint="Mend the Dockerfile, or set image and code.kind.",
            )
        raise ServiceError(
            f"The image can't be pushed: {said}", hint=f"Log in to the registry with {self.tool}, then resume the run."
        )


def _check(archive: Path, build: ImageBuild) -> None:
    """Raises UsageError where the archive is not the one that the plan was made with, and approved."""
    if build.sha256 is None:
        return  # a plan of an older version, or a person's own
    try:
        found = file_sha256(archive)
    except OSError as error:
        raise UsageError(f"{archive} can't be read: {error.strerror}.", hint="Start a new run.") from error
    if found != build.sha256:
        raise UsageError(f"{archive} is another than was planned: no image is built from it.", hint="Start a new run.")


def _key(build: ImageBuild) -> str:
    return f"{build.tag} {build.dockerfile} {build.sha256}"

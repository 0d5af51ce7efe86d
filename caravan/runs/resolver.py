"""Resolving requirement lines by `uv pip compile`: a child process with a time-out, its answers kept by content.

It installs nothing and builds nothing: what has no wheel's metadata is said not to be resolved. Who calls it, and what
becomes of the answer, is not known here. Index credentials stay where uv finds them: its environment, never its words.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from caravan.runs.files import make_folder, write_file
from caravan.values.environment import Resolution
from caravan.values.masking import mask

TIMEOUT_S: Final = 40.0
KEPT_S: Final = 7 * 24 * 3600  # an index has new versions each day; a conflict of pins stays one
PLATFORM: Final = "x86_64-manylinux_2_28"
_LONGEST: Final = 1200
_INDEX: Final = ("UV_DEFAULT_INDEX", "UV_INDEX", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
_PASSED: Final = re.compile(
    r"^(?:UV_|PIP_|SSL_CERT_|REQUESTS_CA_BUNDLE$|NETRC$|HTTPS?_PROXY$|NO_PROXY$|ALL_PROXY$|https?_proxy$|no_proxy$"
    r"|PATH$|HOME$|XDG_|TMPDIR$|LANG$|LC_)"
)
_UNREACHED: Final = re.compile(
    r"(?i)error sending request|dns error|connection refused|failed to fetch|tcp connect|timed out|"
    r"network connectivity is disabled|\b(?:401|403|5\d\d)\b|certificate|no such host|temporary failure"
)
_TORCH: Final = re.compile(
    r"https?://download\.pytorch\.org/whl(?:/(cpu|xpu|cu\d{2,3}|rocm\d+\.\d+(?:\.\d+)?))?(/[\w./+-]+\.html?)?"
)
"""PyTorch's own index: the part for one kind of device, or a page of links in it."""
_CONFLICT: Final = re.compile(r"(?i)No solution found when resolving")


class UvResolver:
    """The port Resolver, by the uv that is on the PATH of `environment`.

    `index_url`: the site's index in place of the environment's; its user part goes to uv by the environment. `folder`
    keeps the answers; `secrets` are masked in uv's words.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        folder: Path,
        index_url: str | None = None,
        secrets: tuple[str, ...] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        chosen = {k: v for k, v in environment.items() if _PASSED.match(k)}
        if index_url:
            chosen = {k: v for k, v in chosen.items() if k not in _INDEX} | {"UV_DEFAULT_INDEX": index_url}
        self._environment = _as_uv_says_it(chosen)
        self._folder, self._secrets, self._timeout_s = folder, secrets, timeout_s
        self._uv = shutil.which("uv", path=environment.get("PATH"))

    def resolve(self, lines: Sequence[str], *, python: str | None, indexes: Sequence[str] = ()) -> Resolution:
        """What would be installed on Linux. `indexes`: what the repository's own files tell pip beside."""
        if not lines:
            return Resolution(resolved=True)
        if self._uv is None:
            return Resolution(text="uv is not on the PATH")
        key = self._key(lines, python, indexes)
        known = self._known(key)
        if known is not None:
            return known
        found = self._ask(lines, python, indexes)
        if found.resolved is not None:
            self._keep(key, found)
        return found

    def _key(self, lines: Sequence[str], python: str | None, indexes: Sequence[str]) -> str:
        asked = [sorted(lines), python, list(indexes), {k: self._environment.get(k) for k in _INDEX}]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def _known(self, key: str) -> Resolution | None:
        try:
            document = json.loads((self._folder / f"{key}.json").read_bytes())
            if time.time() - float(document.pop("at")) > KEPT_S:
                return None
            return Resolution.model_validate(document).model_copy(update={"cached": True})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _keep(self, key: str, found: Resolution) -> None:
        try:
            make_folder(self._folder)
            document = {**found.model_dump(mode="json", exclude={"cached"}), "at": time.time()}
            write_file(self._folder / f"{key}.json", json.dumps(document).encode(), durable=False)
        except OSError:
            return  # it is asked again

    def _ask(self, lines: Sequence[str], python: str | None, indexes: Sequence[str]) -> Resolution:
        extra = index_words(indexes, lines)
        words = [str(self._uv), "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--no-config"]
        words += ["--python-platform", PLATFORM, "--only-binary", ":all:", *extra]
        words += ["--index-strategy", "unsafe-best-match"]  # as pip does: the best of all indexes
        words += ["--python-version", python] if python else []
        try:
            process = subprocess.Popen(
                words,
                env={**self._environment, "UV_NO_PROGRESS": "1", "NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "never"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return Resolution(text=f"uv can't be started ({error.strerror})")
        with process:
            try:
                out, err = process.communicate("\n".join(lines).encode(), timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return Resolution(text=f"the index did not answer within {self._timeout_s:.0f} s")
            except KeyboardInterrupt:  # Ctrl-C does not reach its session, and it may ask for minutes yet
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        return self._read(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    def _read(self, code: int, out: str, err: str) -> Resolution:
        if code == 0:
            rows = (line.partition(";")[0].strip() for line in out.splitlines())
            return Resolution(resolved=True, packages=tuple(r for r in rows if "==" in r or " @ " in r)[:1000])
        said = mask(" ".join(err.split()), self._secrets)[:_LONGEST]
        if _CONFLICT.search(err) and not _UNREACHED.search(err) and not _lacks_wheel(err):
            told = re.sub(r"^.*?cause:\s*|^.*?╰─▶\s*", "", said)
            return Resolution(resolved=False, text=told)
        return Resolution(text=said or f"uv ended with exit code {code}")


def index_words(addresses: Sequence[str], lines: Sequence[str] = ()) -> list[str]:
    """uv's options for what a repository tells pip: a page of links as such, PyTorch's index for its packages only.

    uv asks any other index for every package, as pip does. Of PyTorch's whole tree the part is taken that a pin
    among `lines` names (`torch==2.1.0+cu121`).
    """
    words: list[str] = []
    pinned = re.search(r"\+(cpu|cu\d{2,3})\b", " ".join(lines))
    for address in dict.fromkeys(a.rstrip("/") for a in addresses):
        own = _TORCH.fullmatch(address)
        if own is None or own[2]:
            paged = address.endswith((".html", ".htm")) or "/whl/" not in address
            words += ["--find-links" if paged and not address.endswith("/simple") else "--index", address]
        elif (part := own[1] or (pinned[1] if pinned else None)) and "--torch-backend" not in words:
            words += ["--torch-backend", part]  # uv takes one
    return words


def _lacks_wheel(said: str) -> bool:
    """Whether it failed for want of a wheel: a source could still be built in the job."""
    return bool(re.search(r"(?i)no usable wheels|building from source is disabled|has no wheels|no wheels with", said))


def _as_uv_says_it(environment: Mapping[str, str]) -> dict[str, str]:
    """pip's index settings by uv's names, where uv has none of its own."""
    found = dict(environment)
    if "UV_DEFAULT_INDEX" not in found and found.get("PIP_INDEX_URL"):
        found["UV_DEFAULT_INDEX"] = found["PIP_INDEX_URL"]
    if "UV_INDEX" not in found and found.get("PIP_EXTRA_INDEX_URL"):
        found["UV_INDEX"] = found["PIP_EXTRA_INDEX_URL"]
    if "UV_FIND_LINKS" not in found and found.get("PIP_FIND_LINKS"):
        found["UV_FIND_LINKS"] = found["PIP_FIND_LINKS"].replace(" ", ",")
    if "SSL_CERT_FILE" not in found and found.get("PIP_CERT"):
        found["SSL_CERT_FILE"] = found["PIP_CERT"]
    return {k: v for k, v in found.items() if not k.startswith("PIP_")}

"""Telling somebody who is not here what a run has come to: a webhook, a command, or both.

What is told holds no secrets of ours (the caller masks it); where it goes is the user's setting and may be a secret
itself, so no error says it. Nothing of runs is known here.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caravan.ports import Clock
    from caravan.values.base import Json

_POST_S: Final = 10.0  # seconds for an answer of the webhook
_RUN_S: Final = 60.0  # seconds for the command
_TRIES: Final = 3
_PAUSE_S: Final = 2.0
_HERE: Final = frozenset({408, 425, 429})  # statuses below 500 after which it may be tried again


class Notices:
    """The webhook gets the document by POST as JSON, the command on its standard input.

    `text` in the document says it in a line: chat services show that field. The command is no shell's: words are
    split as a shell does, and `environment` with CARAVAN_RUN_ID and CARAVAN_STATUS is what it sees.
    """

    def __init__(self, url: str | None, command: str | None, *, environment: Mapping[str, str], clock: Clock) -> None:
        self._url = url
        self._command = command
        self._environment = dict(environment)
        self._clock = clock

    def tell(self, document: dict[str, Json]) -> str:
        """Tell it by all ways; what did not work comes back in a line, else nothing. It never raises."""
        failed = [self._post(document) if self._url else "", self._run(document) if self._command else ""]
        return "; ".join(why for why in failed if why)

    def _post(self, document: dict[str, Json]) -> str:
        import requests
        from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

        tries = Retrying(
            stop=stop_after_attempt(_TRIES),
            wait=wait_fixed(_PAUSE_S),
            retry=retry_if_exception_type(_NotNowError),
            sleep=self._clock.sleep,
        )
        try:
            tries(self._post_once, document)
        except RetryError as error:
            return f"the webhook was not told: {error.last_attempt.exception()}"
        except requests.RequestException as error:  # an address that is none; its text would show it
            return f"the webhook was not told: {type(error).__name__}"
        except _RefusedError as error:
            return f"the webhook was not told: {error}"
        return ""

    def _post_once(self, document: dict[str, Json]) -> None:
        import requests

        try:
            answer = requests.post(self._url or "", json=document, timeout=_POST_S, allow_redirects=False)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _NotNowError(type(error).__name__) from error
        with answer:
            if answer.status_code >= 500 or answer.status_code in _HERE:
                raise _NotNowError(f"it answered {answer.status_code}")
            if not answer.ok or answer.is_redirect:
                raise _RefusedError(f"it answered {answer.status_code}")

    def _run(self, document: dict[str, Json]) -> str:
        told = {"CARAVAN_RUN_ID": str(document.get("run_id", "")), "CARAVAN_STATUS": str(document.get("status", ""))}
        try:
            words = shlex.split(self._command or "")
            done = subprocess.run(
                words,
                input=json.dumps(document).encode(),
                env={**self._environment, **told},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_RUN_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return f"the command for notices did not end within {_RUN_S:.0f} s"
        except (OSError, ValueError, IndexError) as error:
            return f"the command for notices can't be run: {getattr(error, 'strerror', None) or error}"
        return f"the command for notices ended with exit code {done.returncode}" if done.returncode else ""


class _NotNowError(Exception):
    """It may work another time."""


class _RefusedError(Exception):
    """It will not work another time either."""

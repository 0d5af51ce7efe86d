"""Chromium without a window, driven by its own protocol over a pipe: what a page draws, says and asks of a network.

https://chromedevtools.github.io/devtools-protocol/. Nothing is waited for by time but a hang.
"""

import base64
import json
import os
import select
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

LIMIT_S: Final = 300.0  # a hang; it takes a second, and some where much else runs
_QUIET: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
_ALONE: Final = ("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")
_HERE: Final = ("file:", "data:", "about:", "blob:")


class Browser:
    """One page. `requests` are the addresses that it asked for, `complaints` what its console and its policy said."""

    def __init__(self, program: Path, profile: Path) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._held = ExitStack()
        told, self._tell = os.pipe()
        self._hear, said = os.pipe()
        self._held.callback(os.close, self._hear)
        self._held.callback(os.close, self._tell)
        # Chromium hears on descriptor 3 and speaks on 4; the shell puts them there, wherever they are here.
        words = [str(program), *_QUIET, *_ALONE, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        script = f'exec "$@" 3<&{told} 4>&{said}'
        log = self._held.enter_context(profile.with_name(f"{profile.name}.log").open("wb"))
        try:
            self._process = subprocess.Popen(
                ["bash", "-c", script, "bash", *words], pass_fds=(told, said), stdout=log, stderr=log
            )
        finally:
            os.close(told)
            os.close(said)
        self._held.callback(self._end)
        self._rest, self._number, self._session = b"", 0, ""
        self._loaded = False

    def __enter__(self) -> Self:
        try:
            pages = self.call("Target.getTargets")["targetInfos"]
            page = next((p["targetId"] for p in pages if p["type"] == "page"), None)
            page = page or self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Log", "Runtime"):
                self.call(f"{domain}.enable")
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._held.close()

    def view(self, width: int, height: int, *, scheme: str = "light") -> None:
        """The window's size in CSS pixels, and which colours its reader likes."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address: str) -> None:
        """Load the page, until it says that it is loaded."""
        self._loaded = False
        self.call("Page.navigate", url=address)
        while not self._loaded:
            self._take(self._message())

    def value(self, script: str) -> Any:
        """What an expression is in the page; the debugger's, which the page's policy does not hold."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, clip: dict[str, float] | None = None) -> bytes:
        """The whole page, or a part of it in CSS pixels of the page, no higher than the window, as PNG.

        A part is scrolled to: what lies beyond the window is not painted anew in a page of more than 16,384 pixels.
        """
        if clip is None:
            found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
            return base64.b64decode(found["data"])
        self.value(f"scrollTo(0, {clip['y']})")
        found = self.call("Page.captureScreenshot", format="png", clip={**clip, "scale": 1})
        return base64.b64decode(found["data"])

    @property
    def sent(self) -> list[str]:
        """What was asked of anything but this machine's files."""
        return [address for address in self.requests if not address.startswith(_HERE)]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command's result."""
        self._number += 1
        number = self._number
        told: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            told["sessionId"] = self._session
        os.write(self._tell, json.dumps(told).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        method, told = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(told["args"]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif method == "Page.loadEventFired":
            self._loaded = True

    def _message(self) -> dict[str, Any]:
        end = time.monotonic() + LIMIT_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._hear], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser says nothing"
            more = os.read(self._hear, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(LIMIT_S)
        finally:
            self._process.kill()

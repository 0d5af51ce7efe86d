"""The report in a real browser, from the disk and without a network: Debian's chromium, driven by its command line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runs.test_report_page import HOSTILE, page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = "chromium" in os.environ.get("CARAVAN_TEST_NEEDS", "").replace(",", " ").split()
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
ALONE = ("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND")
LIMIT_S = 300.0  # a hang; it takes a second, and some where much else runs


@pytest.mark.parametrize("text", ["some text", HOSTILE[0], HOSTILE[2]])
def test_the_browser_shows_it_without_a_complaint(tmp_path: Path, text: str) -> None:
    if CHROMIUM is None:
        if NEEDED:
            pytest.fail("CARAVAN_TEST_NEEDS names chromium, and there is none")
        pytest.skip("there is no chromium on this machine")
    path = tmp_path / "report.html"
    path.write_text(page(text), encoding="utf-8")
    words = [CHROMIUM, *QUIET, *ALONE, "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*words, "--window-size=400,900", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]  # a refused style or script, an error of any kind
    assert "<script" not in done.stdout
    assert done.stdout.count('role="img"') == 2
    assert "How to go on" in done.stdout

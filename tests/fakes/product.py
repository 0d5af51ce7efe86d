"""The product as its users start it: `python main.py ...` in processes of their own, over one state directory."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Product:
    """The command line over the state directory `home`.

    `environment`: what its processes see besides (default: what the tests see); `more` is added to it.
    """

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None, **more: str) -> None:
        self.home = home
        seen = os.environ if environment is None else environment
        self.environment = {**seen, "CARAVAN_HOME": str(home), **more}

    def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "main.py", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; nobody types."""
        process = self.start(*words)
        out, err = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def told(self, *words: str, code: int = 0) -> tuple[Any, str]:
        """The document of a command that ends with `code`, and what it told meanwhile."""
        done = self.run(*words, "--json")
        assert done.returncode == code, done.stderr
        return (json.loads(done.stdout) if done.stdout else None), done.stderr

    def document(self, *words: str, code: int = 0) -> Any:
        """The document of a command that ends with `code`."""
        document, err = self.told(*words, code=code)
        assert document is not None, err
        return document

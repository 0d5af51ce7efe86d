"""What lies beside the weights: how they came to be (run.json), what they are (README.md), how good (evaluation.json),
and last of all that everything is there (DONE.json)."""

import argparse
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.files import write_json, write_text

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "datasets",
    "accelerate",
    "bitsandbytes",
    "safetensors",
    "tokenizers",
)
HEADS = ("loss", "perplexity")


def versions() -> dict[str, str]:
    """Of Python and of the packages that train; one that is not there is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the code that runs: as the job says, else as git says of the script's folder."""
    told = os.environ.get("CARAVAN_GIT_COMMIT")
    if told:
        return told
    try:
        asked = ("git", "rev-parse", "HEAD")
        done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def write_run(folder: Path, kind: str, args: argparse.Namespace, data: dict[str, Any], **more: Any) -> None:
    """run.json: with what this was trained."""
    told = {
        "type": kind,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "settings": vars(args),
        "seed": args.seed,
        "data": data,
        "versions": versions(),
        "git_commit": git_commit(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        **more,
    }
    write_json(folder / "run.json", told)


def perplexity(loss: float) -> float:
    """e to the mean loss of a token; infinite where that is no number that can be held."""
    return math.exp(loss) if loss < 700 else math.inf


def write_card(
    folder: Path,
    *,
    title: str,
    base: str,
    library: str,
    tags: Sequence[str],
    about: dict[str, Any],
    results: dict[str, Any],
) -> None:
    """README.md: the model card, with the metadata that hubs read at its head. It shows nothing of the data."""
    head = ["---", f"base_model: {base}", f"library_name: {library}", "tags:", *(f"- {tag}" for tag in tags), "---", ""]
    lines = [*head, f"# {title}", "", f"Trained from `{base}`.", "", "## How", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in about.items() if value is not None]
    lines += ["", "## How good", ""]
    if results:
        names = list(dict.fromkeys(name for side in results.values() for name in side))
        lines += ["On held-out data:", "", f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
        lines += [f"| {side} | {' | '.join(_cell(r.get(n, '')) for n in names)} |" for side, r in results.items()]
    else:
        lines += ["No data was held out, so nothing was measured."]
    lines += ["", "## Versions", "", *(f"- {name} {version}" for name, version in versions().items()), ""]
    write_text(folder / "README.md", "\n".join(lines))


def _cell(value: Any) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown.replace("|", "\\|").replace("\n", " ")


def write_done(folder: Path, what: Path, step: int, **more: Any) -> None:
    """DONE.json: everything else is there."""
    write_json(folder / "DONE.json", {"output": str(what.relative_to(folder)), "step": step, **more})

"""How long a repository takes to be read and analysed, and in how much memory, beside tools that pack repositories.

    python bench/analysis.py --trees DIR [--tree NAME …] [--peers] [--repeat 3]

Each row is a process of its own from its start to its end, the best of some runs that take turns, with the peak of its
resident memory. With `--peers` repomix and gitingest are run on the same trees: those on the PATH, those named by
`--repomix` and `--gitingest`, or fresh ones that npm and pip can fetch. The rows do not do the same work, and the
output says what each does.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TREES = ("NVIDIA__Megatron-LM", "huggingface__diffusers")
PROMPT = "fine-tune a model"
DOES = {
    "tree": "finds what git would not ignore, reads and decodes every text, hashes every byte; writes nothing",
    "analyze": "the tree, and the whole profile: parses the likely Python files, documents and configurations",
    "again": "analyze of a tree that did not change since: contents and profile come from the cache",
    "repomix": "reads every text, looks for secrets, counts tokens, writes all into one file",
    "gitingest": "reads every file up to 10 MB, writes all into one file; counts tokens where it can fetch the table",
}
AIMS = {"repomix": 5.0, "gitingest": 3.0}


class Measured(NamedTuple):
    """A process: seconds from start to end and of processors, peak of its resident memory in MB, what it said."""

    seconds: float
    processor: float
    megabytes: float
    said: str


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trees", type=Path, help="directory of the repositories' trees")
    parser.add_argument("--tree", action="append", help=f"name of a tree; repeatable (default: {', '.join(TREES)})")
    parser.add_argument("--peers", action="store_true", help="run repomix and gitingest on the same trees")
    parser.add_argument("--repomix", help="how repomix is started")
    parser.add_argument("--gitingest", help="how gitingest is started")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the best counts")
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "TREE", "CACHE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(CHILDREN[args.child[0]](Path(args.child[1]), Path(args.child[2]))))
        return
    if args.trees is None:
        parser.error("--trees DIR is needed")
    with tempfile.TemporaryDirectory() as place:
        peers = find_peers(args, Path(place)) if args.peers else {}
        for name in args.tree or TREES:
            if (args.trees / name).is_dir():
                compare(args.trees / name, peers, args.repeat)
            else:
                print(f"{name}: no such tree")
    print("\nwhat each row does:")
    for name, does in DOES.items():
        print(f"  {name:10} {does}")


# ---- ours, in a process of its own


def child_tree(path: Path, cache: Path) -> dict[str, object]:
    from caravan.analysis import open_source

    tree = open_source(str(path), cache=cache / "repositories")
    texts = [len(text) for entry in tree.files() if (text := tree.text(entry.path)) is not None]
    return {"files": len(tree.files()), "texts": len(texts), "characters": sum(texts), "digest": tree.digest[:12]}


def child_analyze(path: Path, cache: Path) -> dict[str, object]:
    from caravan.analysis import analyze, open_source

    profile = analyze(open_source(str(path), cache=cache / "repositories", kept=cache / "kept"), PROMPT)
    return {"files": profile.files, "entry_point": profile.entry_point, "digest": profile.tree_digest[:12]}


CHILDREN: dict[str, Callable[[Path, Path], dict[str, object]]] = {"tree": child_tree, "analyze": child_analyze}


# ---- measuring


def run(command: list[str], cwd: Path) -> Measured:
    """Run a command to its end. Exits with its last words when it fails."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read().decode("utf-8", "replace")
    if process.returncode != 0:
        sys.exit(f"error: {shlex.join(command)[:200]} failed ({process.returncode}): {said[-500:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said)


def compare(tree: Path, peers: dict[str, list[str]], repeat: int) -> None:
    """Measure all on one tree, in turns, and print the rows and how they compare."""
    ours = [sys.executable, str(Path(__file__).resolve()), "--child"]
    found: dict[str, list[Measured]] = {}
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as place:
            here = Path(place)
            commands = {name: [*ours, name, str(tree), str(here / "cache")] for name in CHILDREN}
            commands["again"] = commands["analyze"]
            for name, start in peers.items():
                commands[name] = [*start, str(tree), "-o", str(here / f"{name}.txt")]
            time.sleep(2.1 if "again" not in found else 0)  # younger files are not taken from the cache
            for name, command in commands.items():
                found.setdefault(name, []).append(run(command, here))
    best = {name: min(runs, key=lambda m: m.seconds) for name, runs in found.items()}
    print(f"\n{tree.name}: {best['tree'].said.strip()}")
    for name, measured in best.items():
        middle = statistics.median(m.seconds for m in found[name])
        peak = max(m.megabytes for m in found[name])
        processor = min(m.processor for m in found[name])
        elapsed = f"{measured.seconds:6.2f} s (median {middle:.2f}), {processor:6.2f} s of processors"
        print(f"  {name:10} {elapsed}, peak {peak:5.0f} MB")
    for peer in peers:
        for name in ("tree", "analyze", "again"):
            times = best[peer].seconds / best[name].seconds
            memory = best[name].megabytes / best[peer].megabytes
            aim = f", aim {AIMS[peer]:.0f}" if name != "again" else ""
            print(f"  {name}: {times:.1f} times faster than {peer} (in {memory:.0%} of its memory){aim}")
    if "gitingest" in best and "Failed to download tiktoken" in best["gitingest"].said:
        print("  gitingest could not fetch its table here, and counted no tokens")


# ---- the others


def find_peers(args: argparse.Namespace, place: Path) -> dict[str, list[str]]:
    """How each of the other tools is started; one that can't be had is named."""
    found = {}
    for name, given, fetch in (("repomix", args.repomix, npm), ("gitingest", args.gitingest, pip)):
        start = shlex.split(given) if given else [path] if (path := shutil.which(name)) else fetch(place)
        if start is None:
            print(f"{name} is not on the PATH and could not be fetched: not compared")
            continue
        version = subprocess.run([*start, "--version"], capture_output=True, text=True, check=False)
        print(
            f"{name}: {shlex.join(start)} {version.stdout.strip().splitlines()[-1] if version.stdout.strip() else ''}"
        )
        found[name] = start
    return found


def npm(place: Path) -> list[str] | None:
    """Repomix, installed by npm."""
    return _fetch(
        [["npm", "install", "--silent", "--prefix", str(place), "repomix"]], place / "node_modules/.bin/repomix"
    )


def pip(place: Path) -> list[str] | None:
    """Gitingest, installed by pip into an environment of its own."""
    bin_ = place / "environment/bin"
    make = [sys.executable, "-m", "venv", str(bin_.parent)]
    return _fetch([make, [str(bin_ / "pip"), "install", "-q", "gitingest"]], bin_ / "gitingest")


def _fetch(commands: list[list[str]], program: Path) -> list[str] | None:
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True, timeout=600)
    except (OSError, subprocess.SubprocessError):
        return None
    return [str(program)] if program.exists() else None


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

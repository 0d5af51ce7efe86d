"""How far the built-in cluster answers like a real Nomad: recordings of one, run again and compared.

    python bench/conformance.py [--recordings DIR] [--json] [--judge REPLAY.PY] [NAME…]

A recording is what a real Nomad answered to one scenario (tests/data/nomad-recordings/README.md): the inventory of its
cluster, its steps, every answer. Built-in clusters are started for each inventory; the steps of its recordings are put
to them, several at a time where they can't disturb each other. Both traces are brought to one form (`comparable` in
`tests/fakes/replay.py`), in which only what may differ between two clusters is masked or left out, and the first
difference is printed. `--judge` names another program that compares: it is called as `REPLAY.PY ADDRESS FILES --json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
TOGETHER = 8  # scenarios at a time on one cluster
CLUSTERS = 4  # for those that need one for themselves
RECORDINGS = ROOT / "tests" / "data" / "nomad-recordings"


def load(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """The recordings of a folder by name, all or those named."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if "exchanges" in document and (not names or path.stem in names):
            found[path.stem] = {**document, "file": str(path)}
    return found


def judged_by(program: Path, address: str, token: str, files: list[Path]) -> dict[str, str]:
    """What another program finds: an empty text for a match."""
    done = subprocess.run(
        [sys.executable, str(program), address, *map(str, files), "--json"],
        env={**os.environ, "NOMAD_TOKEN": token},
        stdout=subprocess.PIPE,
        check=False,
    )
    missed = json.loads(done.stdout)["missed"]
    return {f.stem: "missed" if f.stem in missed else "" for f in files}


def alone(recording: dict[str, Any]) -> bool:
    """Whether a scenario needs the cluster for itself: it fills it, takes cards, or lists what is there."""
    text = json.dumps(recording["steps"])
    lists = any(s.get("call") == "GET" and s["path"].split("?")[0] == "/v1/jobs" for s in recording["steps"])
    return lists or "device " in text or "cores " in text or 'FailedTGAllocs": {' in json.dumps(recording["exchanges"])


def shares(recordings: dict[str, dict[str, Any]]) -> list[tuple[list[str], int]]:
    """Names to be run on one cluster each, with how many at a time."""
    by_itself = sorted((n for n in recordings if alone(recordings[n])), key=lambda n: -seconds(recordings[n]))
    together = [n for n in recordings if n not in by_itself]
    return [
        share for share in ((together, TOGETHER), *((by_itself[i::CLUSTERS], 1) for i in range(CLUSTERS))) if share[0]
    ]


def seconds(recording: dict[str, Any]) -> float:
    """How long a scenario took when it was recorded."""
    return float(max((x["at_ms"] for x in recording["exchanges"]), default=0)) / 1000


def run(recordings: dict[str, dict[str, Any]], names: list[str], width: int, judge: Path | None) -> dict[str, str]:
    """Put the named recordings, all of one inventory, to a cluster of their own; an empty text for a match."""
    from caravan.cluster.local.control import start, stop
    from tests.fakes.replay import difference, replayed

    with tempfile.TemporaryDirectory() as folder:
        home, file = Path(folder) / "home", Path(folder) / "inventory.json"
        file.write_text(json.dumps(recordings[names[0]]["inventory"]), encoding="utf-8")
        # The recorded image has one plain `python3`: a version manager's shim would go by another name in its errors.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        cluster = start(home, inventory=file, environment={**os.environ, "PATH": path})
        try:
            if judge is not None:
                files = [Path(recordings[name]["file"]) for name in names]
                return judged_by(judge, cluster.address, cluster.token(), files)

            def one(name: str) -> str:
                own = replayed(recordings[name]["steps"], cluster.address, cluster.token())
                return difference(recordings[name]["exchanges"], own)

            with ThreadPoolExecutor(width) as pool:
                return dict(zip(names, pool.map(one, names), strict=True))
        finally:
            stop(home)


def compare(recordings: dict[str, dict[str, Any]], judge: Path | None = None) -> dict[str, str]:
    """What each recording misses, an empty text for a match: all at once, on as few clusters as they allow."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for name, recording in recordings.items():
        groups.setdefault(json.dumps(recording["inventory"], sort_keys=True), {})[name] = recording
    work = [(group, *share) for group in groups.values() for share in shares(group)]
    with ThreadPoolExecutor(len(work) or 1) as pool:
        found = pool.map(lambda w: run(w[0], w[1], w[2], judge), work)
    return {name: why for part in found for name, why in part.items()}


def main(arguments: list[str]) -> int:
    """Run the recordings and print what matches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--recordings", type=Path, default=RECORDINGS)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    said = compare(load(options.recordings, options.names), options.judge)
    missed = {name: why for name, why in sorted(said.items()) if why}
    if options.json:
        print(json.dumps({"matched": len(said) - len(missed), "total": len(said), "missed": missed}))
        return int(bool(missed))
    for name in sorted(said):
        print(f"{'MISS' if name in missed else 'ok  '} {name}  {said[name]}".rstrip())
    print(f"{len(said) - len(missed)} of {len(said)} match")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

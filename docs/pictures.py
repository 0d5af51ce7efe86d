"""Makes the pictures of the docs: runs real sessions and writes what a person then sees into docs/pictures/.

    python docs/pictures.py [NAME ...]      (`make pictures`; all of them take some minutes)

Each session has a state directory and a built-in cluster of its own, which are removed at the end; nothing of this
machine is shown but how fast it was. Pictures of a terminal are SVGs (docs/picture.py records them), those of the
report are PNGs, painted by chromium. Needs the packages of requirements-dev.txt.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
SHOWN_HOME = "/home/me/.local/state/caravan"  # in place of the session's own state directory
NODE = {
    "cpu_mhz": 12800,
    "cores": 4,
    "memory_mb": 16384,
    "disk_mb": 100000,
    "attributes": {"kernel.name": "linux", "cpu.arch": "amd64"},
    "drivers": {"raw_exec": {}},
}
CARD = {"vendor": "nvidia", "type": "gpu", "model": "NVIDIA A100-SXM4-80GB", "memory_mib": 81920, "count": 1}
GPU_NODE = {
    **NODE,
    "cores": 16,
    "cpu_mhz": 51200,
    "memory_mb": 131072,
    "attributes": {**NODE["attributes"], "driver.nvidia.version": "570.124.06"},
    "devices": [CARD],
}


class Session:
    """A state directory with a built-in cluster of some nodes, and what is to be hidden of it."""

    def __init__(self, folder, *nodes, prices=""):
        self.home = Path(folder) / "state"
        self.home.mkdir(mode=0o700)
        self.environment = {**os.environ, "CARAVAN_HOME": str(self.home), "CARAVAN_LOOK_UP": "0"}
        for name in ("NOMAD_ADDR", "NOMAD_TOKEN", "CARAVAN_CONFIG", "DATABASE_URL", "QDRANT_URL", "NO_COLOR"):
            self.environment.pop(name, None)
        if prices:
            (self.home / "prices.toml").write_text(prices, encoding="utf-8")
        inventory = Path(folder) / "inventory.json"
        named = [{"name": f"node-{number}", **node} for number, node in enumerate(nodes, 1)]
        inventory.write_text(json.dumps({"about": "nodes of a picture", "nodes": named}), encoding="utf-8")
        self._cluster("up", "--inventory", str(inventory))

    def hidden(self):
        """Texts of this machine with what stands for them."""
        return [(str(self.home), SHOWN_HOME), (f"{ROOT}/", ""), (str(ROOT), "caravan")]

    def close(self):
        """End the cluster with all that runs on it."""
        self._cluster("down")

    def _cluster(self, *words):
        command = [sys.executable, "main.py", "cluster", *words]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, stdout=subprocess.DEVNULL)


def repair(folder, recorder):
    """A first attempt is killed for memory, repaired, and running again."""
    session = Session(folder, NODE)
    argv = ["main.py", "--prompt", "Fine-tune it on my text", "--codebase-path", "examples/needs-more-memory", "--yes"]
    try:
        title = 'main.py --prompt "Fine-tune it on my text" --codebase-path examples/needs-more-memory --yes'
        recorder.take(session, argv, "repair", rows=26, until=r"Attempt 2 of 3.*step 2[0-9]0/", title=title)
    finally:
        session.close()


def approval(folder, recorder):
    """What is approved: the plan with who set each field, memory, time and cost, before anything is deployed."""
    session = Session(folder, GPU_NODE, GPU_NODE, prices="[gpus]\nA100 = 1.80\n")
    prompt = "Fine-tune Qwen/Qwen2.5-7B with LoRA on data/train.jsonl for 3 epochs"
    argv = ["main.py", "--prompt", prompt, "--codebase-path", "examples/tiny-qwen"]
    try:
        title = 'python main.py --prompt "Fine-tune Qwen/Qwen2.5-7B with LoRA …" --codebase-path examples/tiny-qwen'
        recorder.take(session, argv, "approval", columns=112, rows=78, until=r"the job file\) >", title=title)
    finally:
        session.close()


def estimate(folder, recorder):
    """The calculator: GPU memory line by line, GPUs that hold it, what would change it."""
    session = Session(folder, NODE)
    words = "--model Qwen/Qwen2.5-7B --method lora --seq-len 4096 --gpu A100-80GB --rows 5000 --epochs 3"
    try:
        title = f"main.py estimate {words}"
        recorder.take(session, ["main.py", "estimate", *words.split()], "estimate", columns=112, rows=60, title=title)
    finally:
        session.close()


def report(folder, recorder):
    """The report of a run as a page: its beginning, and its curves."""
    session = Session(folder, NODE)
    words = ["--prompt", "Fine-tune it on my text", "--codebase-path", "examples/needs-more-memory", "--yes", "--json"]
    try:
        done = subprocess.run(
            [sys.executable, "main.py", *words],
            cwd=ROOT,
            env=session.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        page = Path(json.loads(done.stdout)["report_html_path"])
        recorder.paint(session, page, "report", height=600)
        recorder.paint(session, page, "report-curves", part="metrics", height=900)
    finally:
        session.close()


SESSIONS = {"repair": repair, "approval": approval, "estimate": estimate, "report": report}
MADE = ("repair.svg", "approval.svg", "estimate.svg", "report.png", "report-curves.png")


class Recorder:
    """Writes pictures, and refuses those that tell of this machine."""

    def __init__(self):
        spec = importlib.util.spec_from_file_location("docs_picture", ROOT / "docs" / "picture.py")
        self.picture = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.picture)

    def take(self, session, argv, name, *, title, until="", columns=100, rows=30):
        """A terminal's screen as NAME.svg; rows that stayed empty are left out."""
        screen = self.picture.record(argv, columns, rows, until, 0.0, session.environment)
        text, svg = self.picture.picture(screen, title, "dark", session.hidden())
        self._check(text, name)
        (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")

    def paint(self, session, page, name, *, height, part=""):
        """A page, from one of its parts on, as NAME.png."""
        browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if browser is None:
            raise SystemExit("The report is painted by chromium, which is not on the PATH.")
        html = page.read_text(encoding="utf-8")
        for old, new in (*session.hidden(), (f" by {os.environ.get('USER') or 'root'},", " by me,")):
            html = html.replace(old, new)
        self._check(html, name)
        if part:  # what stands before it is left out: a picture has no scroll bar
            html = html[: html.index("<header")] + "<main>" + html[html.index(f'<section id="{part}"') :]
        with tempfile.TemporaryDirectory(prefix="caravan-picture-", ignore_cleanup_errors=True) as place:
            copy = Path(place) / "report.html"
            copy.write_text(html, encoding="utf-8")
            flags = ("--headless", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={place}/profile")
            rights = ("--no-sandbox",) if os.geteuid() == 0 else ()
            target = PICTURES / f"{name}.png"
            size = f"--window-size=960,{height}"
            subprocess.run(
                [browser, *flags, *rights, size, f"--screenshot={target}", copy.as_uri()],
                check=True,
                capture_output=True,
            )

    def _check(self, text, name):
        found = [word for word in self.picture.own_words() if word in text]
        if found:
            raise SystemExit(f"The picture {name} would show {', '.join(found)}.")


def main():
    """Make the pictures that are named, else all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SESSIONS)}")
    names = parser.parse_args().names or list(SESSIONS)
    unknown = [name for name in names if name not in SESSIONS]
    if unknown:
        parser.error(f"there is no picture {unknown[0]!r}; there are {', '.join(SESSIONS)}")
    PICTURES.mkdir(exist_ok=True)
    recorder = Recorder()
    for name in names:
        with tempfile.TemporaryDirectory(prefix="caravan-", ignore_cleanup_errors=True) as folder:
            SESSIONS[name](folder, recorder)
        print(f"{name}: {SESSIONS[name].__doc__}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())

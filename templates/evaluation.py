"""Runs the evaluation of a trained model, bounds its time, and leaves what it measured. Runs inside the job.

    evaluation.py --answer FILE --outputs DIR --by NAME --max-s N [--kill-s N] [--asked JSON] [--cache FILE]
                  [--script FILE] -- COMMAND...

The command's environment has CARAVAN_MODEL (the directory of the trained model), CARAVAN_EVALUATION (a file that it may
write), CARAVAN_EVALUATION_ASKED (what the plan asks of it, as JSON) and CARAVAN_MODEL_SHA256; `$CARAVAN_MODEL` and the
like in its words are replaced. What it measured is that file, as JSON: an `EvaluationResult`
(`caravan/values/evaluation.py`) or plain names and numbers; else the numbers that it printed, as JSON lines or as
`name: value`. The answer appears whole or not at all, also where the evaluation failed (`error`). With `--script` there
is none where that file is not there.

The exit code is 0 whatever the evaluation came to: a training that went well has gone well.
Standard library alone (3.8 and later); `model_files.py` lies beside it.
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import model_files

VERSION = 1
SHAPE = frozenset(("held_out", "learnt", "regression", "canary", "collapse", "metrics", "generations"))
MOST_BYTES = 4_000_000  # of the file that the command writes
MOST_METRICS = 200
LINE = 16_384  # bytes of a line that are read for metrics
HASH_S = 900.0
PAIR = re.compile(r"([A-Za-z][\w./@ -]{0,60}?)\s*[:=]\s*([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf))%?\s*")
RANKS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"),
)
"""Variables by which a process takes itself for one of several."""


def main():
    """Evaluate and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answer", type=Path, required=True)
    parser.add_argument("--outputs", type=Path, required=True)
    parser.add_argument("--by", default="command")
    parser.add_argument("--max-s", type=float, required=True)
    parser.add_argument("--kill-s", type=float, default=30.0)
    parser.add_argument("--asked", type=json.loads, default={})
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--script", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("which command?")
    options.answer.parent.mkdir(parents=True, exist_ok=True)
    options.answer.unlink(missing_ok=True)
    if options.script and not options.script.is_file():
        say(f"there is no {options.script}, so the model is not evaluated")
        return 0
    Evaluation(options, command).run()
    return 0


def say(text):
    """One line for the job's log."""
    sys.stderr.write(f"caravan: {' '.join(text.split())}\n")
    sys.stderr.flush()


class Evaluation:
    """One evaluation, from finding the model to the answer."""

    def __init__(self, options, command):
        self.options, self.command = options, command
        self.child = None
        self.reason = ""
        self.kill_at = None
        self.lines = Lines()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_stop)

    def on_stop(self, *_):
        """The evaluation hears of the stop, and of its end if it does not listen."""
        self.reason = self.reason or "the job was stopped during the evaluation"
        self.end()

    def end(self):
        """Tell the command to end; `followed` kills it when its time to do so is over."""
        if self.child is not None and self.kill_at is None:
            self.kill_at = time.monotonic() + self.options.kill_s
            self.signal(signal.SIGTERM)

    def signal(self, number):
        """To all processes of the command."""
        with contextlib.suppress(OSError):
            os.killpg(self.child.pid, number)

    def run(self):
        """Evaluate and write the answer."""
        begun = time.monotonic()
        until = begun + self.options.max_s
        said = self.options.answer.with_name(f"{self.options.answer.name}.said")
        said.unlink(missing_ok=True)
        directory, kind = model_files.find_model(self.options.outputs)
        listed = model_files.listed(
            self.options.outputs,
            self.options.cache,
            until=min(until, begun + HASH_S),
            stopped=lambda: bool(self.reason),
        )
        digest = listed["sha256"] if listed and kind else None
        say(f"evaluating {directory} ({kind or 'no known format'})")
        code = None if self.reason else self.measured(directory, said, digest, until)
        document = self.judged(said, code)
        document["seconds"] = round(time.monotonic() - begun, 3)
        if digest and not document.get("model_sha256"):
            document["model_sha256"] = digest
        if document["error"]:
            say(f"the evaluation came to nothing: {document['error']}")
        write_whole(self.options.answer, document)
        with contextlib.suppress(OSError):
            said.unlink(missing_ok=True)

    def measured(self, directory, said, digest, until):
        """Run the command to its end; its exit code."""
        environ = {name: value for name, value in os.environ.items() if name not in RANKS}
        environ.update(CARAVAN_MODEL=os.fspath(directory), CARAVAN_EVALUATION=os.fspath(said))
        environ.update(CARAVAN_EVALUATION_ASKED=json.dumps(self.options.asked))
        environ.update({"CARAVAN_MODEL_SHA256": digest} if digest else {})
        try:
            self.child = subprocess.Popen(
                [filled(word, environ) for word in self.command],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=begin_as_child,  # noqa: PLW1509 - no thread of ours imports or locks
            )
        except (OSError, ValueError) as error:
            self.reason = self.reason or f"{self.command[0]} can't be started: {error}"
            return None
        if self.reason:
            self.end()
        return self.followed(until)

    def followed(self, until):
        """Pass on what the command writes until it has ended, by itself or by us."""
        selector = selectors.DefaultSelector()
        selector.register(self.child.stdout, selectors.EVENT_READ, sys.stdout.buffer)
        selector.register(self.child.stderr, selectors.EVENT_READ, sys.stderr.buffer)
        while self.child.poll() is None:
            self.passed(selector, 0.1)
            now = time.monotonic()
            if now >= until and not self.reason:
                self.reason = f"it took more than {self.options.max_s:g} s (evaluation.max_s)"
                self.end()
            if self.kill_at is not None and now >= self.kill_at:
                self.signal(signal.SIGKILL)
        self.signal(signal.SIGKILL)  # what it left behind holds the GPU, and our pipes
        while selector.get_map() and self.passed(selector, 0.5):
            pass
        self.lines.over()
        return self.child.returncode

    def passed(self, selector, patience):
        """Pass on what is there; whether there was anything."""
        if not selector.get_map():
            time.sleep(patience)
            return False
        ready = selector.select(patience)
        for key, _ in ready:
            piece = os.read(key.fileobj.fileno(), 65_536)
            if not piece:
                selector.unregister(key.fileobj)
                continue
            with contextlib.suppress(OSError):
                key.data.write(piece)
                key.data.flush()
            self.lines.take(piece, key.fileobj is self.child.stdout)
        return bool(ready)

    def judged(self, said, code):
        """The answer: what the file says, else what was printed, and why there is none."""
        document, problem = read_file(said)
        own = document is not None and bool(SHAPE & set(document) or "error" in document)
        if document is None:
            document = {"metrics": dict(self.lines.metrics)} if self.options.by == "command" else {}
        elif not own:
            document = {"metrics": numbers(document)}
        why = self.reason
        if not why and code:
            last = self.lines.last_said()
            why = f"the evaluation ended with exit code {code}{f': {last}' if last else ''}"
        if not why and not document.get("error") and not any(document.get(name) for name in SHAPE):
            why = problem or "the evaluation neither wrote nor printed a metric"
        document["error"] = (str(document.get("error") or "") or why)[:1000]
        document.setdefault("version", VERSION)
        document["by"] = str(document.get("by") or self.options.by)
        if document.get("seed") is None:
            document["seed"] = self.options.asked.get("seed")
        return document


class Lines:
    """What a command printed: the last value of each metric on stdout, and the last line on stderr."""

    def __init__(self):
        self.metrics = {}
        self.rest = {True: b"", False: b""}
        self.last = b""

    def take(self, piece, out):
        """Some bytes, of stdout or stderr."""
        *whole, rest = (self.rest[out] + piece).split(b"\n")
        self.rest[out] = rest[-LINE:]
        for line in whole:
            self.line(line[:LINE], out)

    def over(self):
        """What ended without a line's end is a line."""
        for out, rest in self.rest.items():
            self.line(rest, out)
        self.rest = {True: b"", False: b""}

    def line(self, line, out):
        """One line."""
        if not out:
            self.last = line.strip() or self.last
            return
        for name, value in printed(line.decode("utf-8", "replace")):
            if name in self.metrics or len(self.metrics) < MOST_METRICS:
                self.metrics[name] = value

    def last_said(self):
        """The last line on stderr that says anything."""
        return self.last.decode("utf-8", "replace")[:300]


def printed(line):
    """Name and value of each metric in a line: a JSON object's, or those of `name: value` and `name = value`.

    A line of pairs has nothing else but commas, semicolons and bars between them.
    """
    line = line.strip()
    if line.startswith("{"):
        try:
            return list(numbers(json.loads(line)).items())
        except (ValueError, RecursionError):
            return []
    found = []
    for part in re.split(r"[,;|]\s*", line):
        match = PAIR.fullmatch(part.strip())
        if match is None:
            return []
        found.append((match[1].strip(), float(match[2])))
    return found


def numbers(document, prefix=""):
    """The numbers of an object by their names; of objects in it by `outer/inner`."""
    found = {}
    for name, value in document.items() if isinstance(document, dict) else ():
        if isinstance(value, bool):
            continue
        if isinstance(value, (int, float)):
            with contextlib.suppress(OverflowError):
                found[f"{prefix}{name}"[:80]] = float(value)
        elif isinstance(value, dict) and not prefix:
            found.update(numbers(value, f"{name}/"))
        if len(found) >= MOST_METRICS:
            break
    return found


def read_file(said):
    """(the object that a command left in its file, why there is none)."""
    try:
        if said.stat().st_size > MOST_BYTES:
            return None, f"the evaluation wrote more than {MOST_BYTES // 1_000_000} MB"
        document = json.loads(said.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, RecursionError) as error:
        return None, f"what the evaluation wrote can't be read: {error}"
    return (document, "") if isinstance(document, dict) else (None, "what the evaluation wrote is no JSON object")


def filled(word, environ):
    """A word of the command with the places that are known only here."""
    for name in ("CARAVAN_MODEL", "CARAVAN_EVALUATION", "CARAVAN_OUTPUT_DIR"):
        word = re.sub(rf"\$(?:{name}(?![\w])|\{{{name}\}})", lambda _, name=name: environ.get(name, ""), word)
    return word


def begin_as_child():
    """In the child, before its program: it ends with us."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG


def write_whole(path, document):
    """Write JSON under another name, then rename it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(document), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parent:
        sys.path.pop(0)  # the code lies beside this file, and none of its modules is meant
    sys.exit(main())

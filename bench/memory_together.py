"""The memory with many at once, and with processes that are killed.

`together`: processes of eight threads each add lessons of their own, tell one that all share, and recall, on one store.
Then it is counted: a lesson that was acknowledged and is not there is lost, and so is a source of the shared one.
`killed`: a process adds or forgets and is killed at a random moment (SIGKILL), again and again on the same store, while
another one asks it or is asked by it. What was acknowledged must be there, or gone, and the store must open.
"""

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.memory_store import lesson, opened, percentile
from caravan.values.errors import ServiceError
from caravan.values.failure import Diagnosis, FailureClass, Lesson

PROCESSES, THREADS = 3, 8
_CAUSE = FailureClass.HOST_MEMORY_OOM
_KNOWN = Diagnosis(failure=_CAUSE, confidence=1, cause="Memory ran out.", fingerprint="shared")

Found = dict[str, Any]


def together(seconds: float) -> Found:
    """Counts of what was added, lost and failed, and how long calls took in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with closing(opened(place)) as memory:  # the libraries are loaded before the processes are forked
            memory.remember(lesson(0))
        start = time.monotonic() + 1.0
        children = [_forked(lambda pipe, n=n: _work(place, n, start, seconds, pipe)) for n in range(PROCESSES)]
        told = [json.loads(_read(child)) for child in children]
        with closing(opened(place)) as memory:
            cases = {case.fingerprint: case for case in memory.all(limit=1_000_000)}
    added = [one for part in told for one in part["added"]]
    sources = sum(part["shared"] for part in told)
    times: dict[str, list[float]] = {"remember": [], "recall": []}
    for part in told:
        for name, values in part["times"].items():
            times[name] += values
    shared = cases["shared"].times if "shared" in cases else 0
    return {
        "added": len(added),
        "lost": sum(one not in cases for one in added) + sources - shared,
        "errors": [error for part in told for error in part["errors"]],
        "calls_of_each_process": [sum(len(v) for v in part["times"].values()) for part in told],
        "ms": {
            name: {"p50": percentile(v, 0.5), "p95": percentile(v, 0.95), "most": max(v)} for name, v in times.items()
        },
    }


def killed(rounds: int) -> Found:
    """Counts over the rounds: acknowledged lessons that are lost, forgotten ones that came back, errors."""
    generator, lost, errors, acknowledged, forgotten = random.Random(1), 0, [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with closing(opened(place)) as memory:
            memory.remember(lesson(0))
        kept: set[str] = set()
        gone: set[str] = set()
        for number in range(rounds):
            victim, other = (
                _forked(lambda pipe, n=name: _until_killed(place, n, pipe)) for name in (f"a{number}", f"b{number}")
            )
            time.sleep(generator.uniform(0.3, 2.5))
            os.kill(victim[0], signal.SIGKILL)
            said = [line.split() for line in _read(victim).splitlines(keepends=True) if line.endswith("\n")]
            time.sleep(0.5)  # the other goes on alone
            os.kill(other[0], signal.SIGTERM)
            said += [line.split() for line in _read(other).splitlines()]
            gone |= {what for verb, what in said if verb == "forgot"}
            kept |= {what for verb, what in said if verb == "stored"}
            errors += [what for verb, what in said if verb == "error"]
            try:
                with closing(opened(place)) as memory:
                    there = {case.fingerprint for case in memory.all(limit=1_000_000)}
            except ServiceError as error:
                errors.append(error.line())
                break
            # One that it was about to forget may be gone without a word, and only that one.
            trying = {what for verb, what in said if verb == "forgetting"}
            lost += len(kept - gone - trying - there) + len(gone & there)
            gone |= trying - there
        acknowledged, forgotten = len(kept), len(gone)
    return {"rounds": rounds, "stored": acknowledged, "forgotten": forgotten, "lost": lost, "errors": errors}


def shown(found: dict[str, Found]) -> str:
    """The counts in words."""
    many, kills = found["together"], found["killed"]
    lines = [
        f"{PROCESSES} processes of {THREADS} threads: {many['added']} lessons added, {many['lost']} lost, "
        f"{len(many['errors'])} errors {many['errors'][:3] or ''}",
        f"calls of each process: {many['calls_of_each_process']}",
    ]
    lines += [
        f"{name:9} p50 {row['p50']:8.1f} ms   p95 {row['p95']:8.1f} ms   longest {row['most']:8.1f} ms"
        for name, row in many["ms"].items()
    ]
    lines.append(
        f"{kills['rounds']} kills: {kills['stored']} stored, {kills['forgotten']} forgotten, "
        f"{kills['lost']} lost or back, {len(kills['errors'])} errors {kills['errors'][:3] or ''}"
    )
    return "\n".join(lines)


def _work(place: Path, process: int, start: float, seconds: float, pipe: int) -> None:
    """One process: its threads share one open memory, as those of an agent do."""
    memory = opened(place)
    told: Found = {"added": [], "shared": 0, "errors": [], "times": {"remember": [], "recall": []}}
    guard = threading.Lock()

    def timed(name: str, act: Any) -> None:
        begun = time.perf_counter()
        act()
        with guard:
            told["times"][name].append(1000 * (time.perf_counter() - begun))

    def one(thread: int) -> None:
        number = 0
        while time.monotonic() < start + seconds:
            mark = f"{process}:{thread}:{number}"
            own = lesson(number).model_copy(update={"fingerprint": mark, "source": mark})
            shared = lesson(1).model_copy(update={"fingerprint": "shared", "source": mark})
            try:
                timed("remember", lambda own=own: memory.remember(own))
                with guard:
                    told["added"].append(mark)
                if number % 4 == 0:
                    timed("remember", lambda shared=shared: memory.remember(shared))
                    with guard:
                        told["shared"] += 1
                asked: dict[str, Any] = {"text": own.text, "diagnosis": _KNOWN, "context": own.context}
                timed("recall", lambda asked=asked: memory.recall(**asked))
            except ServiceError as error:
                with guard:
                    told["errors"].append(error.line())
            number += 1

    time.sleep(max(start - time.monotonic(), 0))
    threads = [threading.Thread(target=one, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.close()
    _say(pipe, json.dumps(told))


def _until_killed(place: Path, name: str, pipe: int) -> None:
    """Adds, and forgets every third: says what it is about to forget, and what is done."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    memory, number = opened(place), 0
    while not stopped:
        mark = f"{name}:{number}"
        number += 1
        try:
            case_id = memory.remember(Lesson(failure=_CAUSE, fingerprint=mark, text=f"part {mark}", source=mark))
            _say(pipe, f"stored {mark}\n")
            if number % 3 == 0:
                _say(pipe, f"forgetting {mark}\n")
                memory.forget(case_id)
                _say(pipe, f"forgot {mark}\n")
                if number % 6 == 0:
                    memory.close()  # writes the store anew
        except ServiceError as error:
            _say(pipe, f"error {error.line().replace(' ', '_')}\n")
    memory.close()


def _forked(act: Any) -> tuple[int, int]:
    """A child that does something with a pipe: its process id and the end to read from."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            act(writing)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writing)
    return child, reading


def _read(child: tuple[int, int]) -> str:
    with os.fdopen(child[1], "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child[0], 0)
    return text


def _say(pipe: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(pipe, data) :]

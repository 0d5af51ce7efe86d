"""What asking a language model costs: our own overhead per call, and calls, tokens and seconds per run.

    python bench/model.py [--rounds 50] [--words 1 200] [--repo PATH]... [--no-run] [--json]

No model is behind it: a scripted server in a process of its own answers at once, so all time but the bare round trip is
ours. The bare round trip is the same request, byte for byte, sent by httpx2, its answer read to the end; the two are
made in turn. `client` is OpenAiModel alone, `run` is what a run asks: budgets, the run's events in SQLite, the trace.
`cpu` is time of the asking thread, which a busy machine changes less than the clock's. Aim: under 5 ms per call.

A run is `main.py --dry-run --yes` on the built-in cluster, with the scripted model and with the rules alone in turn.
The model answers each question with the least that its schema allows, after one look with a tool where it has tools:
the figures say what is asked of a model, not what a model is worth.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.openai_server import Turn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from caravan.agent.model.access import ModelAccess  # noqa: E402
from caravan.agent.model.breaker import Guarded  # noqa: E402
from caravan.agent.model.client import OpenAiModel  # noqa: E402
from caravan.agent.model.metered import Metered, ModelLimits  # noqa: E402
from caravan.values.model import Message  # noqa: E402
from caravan.values.model_usage import CALL, used  # noqa: E402

NAME = "scripted"
AIM_MS = 5.0


@contextmanager
def server(*options: str) -> Iterator[str]:
    """The URL of a scripted server in another process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def serve() -> None:
    """Serve until standard input ends. `say N` in a question is answered by N words, one in each event."""
    from tests.fakes.openai_server import Asked, ScriptedOpenAi, says

    def answer(asked: Asked) -> "Turn":
        words = asked.said().split()
        if len(words) > 1 and words[-2] == "say":
            return says("word " * int(words[-1]), piece=5)
        return least_answer(asked.body)

    with ScriptedOpenAi(answer, models=[(NAME, 32768)]) as served:
        print(served.url, flush=True)
        sys.stdin.read()


def least_answer(body: dict[str, Any]) -> "Turn":
    """One look with the first tool that needs nothing, then the least value that the schema in the prompt allows."""
    from tests.fakes.openai_server import calls, says

    looked = any(message["role"] == "tool" for message in body["messages"])
    tools = [tool["function"] for tool in body.get("tools", [])]
    free = [tool["name"] for tool in tools if not tool["parameters"].get("required")]
    if free and not looked:
        return calls((free[0], {}))
    system = str(body["messages"][0]["content"])
    try:
        schema, _ = json.JSONDecoder().raw_decode(system[system.rindex("JSON schema:\n") + 13 :])
    except ValueError:
        return says("It is as the report says.")
    return says(least(schema, schema.get("$defs", {})))


def least(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    """The smallest value of a JSON schema as pydantic writes it."""
    if "$ref" in schema:
        return least(known[schema["$ref"].rpartition("/")[2]], known)
    if "const" in schema or "enum" in schema or "default" in schema:
        return schema.get("default", schema.get("const", (schema.get("enum") or [None])[0]))
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return least(schema[choice][0], known)
    kind = schema.get("type")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: least(fields[name], known) for name in schema.get("required", []) if name in fields}
    if kind == "string":
        return "x" * int(schema.get("minLength", 0))
    if kind == "array":
        return [least(schema["items"], known)] * int(schema.get("minItems", 0))
    return {"integer": schema.get("minimum", 0), "number": schema.get("minimum", 0), "boolean": False}.get(str(kind))


class _Clock:
    """The port Clock on the system's."""

    def now(self) -> Any:
        from datetime import UTC, datetime

        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, event: Any, seconds: float) -> bool:
        return bool(event.wait(seconds))


def taken(act: Callable[[], object]) -> tuple[float, float]:
    """Wall time and this thread's time of one call, in milliseconds."""
    wall, cpu = time.perf_counter(), time.thread_time()
    act()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - cpu)


def overhead(words: int, rounds: int) -> dict[str, Any]:
    """Round trips of a reply of so many words: bare, by the client alone, and as a run asks."""
    import httpx2

    with tempfile.TemporaryDirectory() as folder, server() as url, httpx2.Client(trust_env=False) as http:
        chat = OpenAiModel(ModelAccess.at(url, name=NAME), clock=_Clock())
        metered = _as_a_run(chat, Path(folder))
        talk = (Message(role="system", text="Be brief."), Message(role="user", text=f"say {words}"))
        sent = _sent(chat, talk)

        def bare() -> int:
            with http.stream("POST", f"{url}/chat/completions", json=sent) as response:
                return sum(len(piece) for piece in response.iter_bytes())

        acts: dict[str, Callable[[], object]] = {
            "bare": bare,
            "client": lambda: chat.ask(talk, step="bench"),
            "run": lambda: metered.ask(talk, step="bench"),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in acts}
        for number in range(rounds + 3):
            for name, act in acts.items():
                found = taken(act)
                if number >= 3:  # the first ones fill caches
                    times[name].append(found)
        chat.close()
    return {"words": words} | _figures(times)


def _sent(chat: OpenAiModel, talk: tuple[Message, ...]) -> dict[str, Any]:
    """The body that the client sends for a question."""
    seen: list[bytes] = []
    chat.ask(talk, step="bench")
    http = chat._http
    assert http is not None
    http.event_hooks = {"request": [lambda request: seen.append(request.read())], "response": []}
    chat.ask(talk, step="bench")
    http.event_hooks = {"request": [], "response": []}
    body: dict[str, Any] = json.loads(seen[0])
    return body


def _as_a_run(chat: OpenAiModel, folder: Path) -> Metered:
    from caravan.runs.store import SqlStore
    from caravan.values.run import RunRecord, RunRequest
    from observability import LocalTracer

    clock = _Clock()
    store = SqlStore(folder / "caravan.db", clock)
    now = clock.now()
    request = RunRequest(prompt="p", source="s")
    store.create_run(RunRecord(id="bench", request=request, created_at=now, updated_at=now))
    tracer = LocalTracer(folder / "traces" / "bench.jsonl", run_id="bench", clock=clock)
    limits = ModelLimits(run_tokens=10**9, run_seconds=10**6)
    return Metered(Guarded(chat, clock=clock), store, "bench", clock=clock, limits=limits, tracer=tracer)


def _figures(times: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """For each way its p50 and p95, and beside the bare one the differences, pair by pair, and the ratio; in ms."""
    found: dict[str, Any] = {}
    for name, pairs in times.items():
        walls = [wall for wall, _ in pairs]
        found[name] = {"p50": statistics.median(walls), "p95": _p95(walls)}
        found[name]["cpu_p50"] = statistics.median(cpu for _, cpu in pairs)
        if name == "bare":
            continue
        more = [wall - bare for (wall, _), (bare, _) in zip(pairs, times["bare"], strict=True)]
        found[name] |= {"more_p50": statistics.median(more), "more_p95": _p95(more)}
        found[name]["more_cpu_p50"] = found[name]["cpu_p50"] - found["bare"]["cpu_p50"]
        found[name]["ratio"] = found[name]["p50"] / found["bare"]["p50"]
    return found


def _p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def one_run(repo: Path, url: str | None) -> dict[str, Any]:
    """A dry run on a repository: its seconds, and what it asked the model at `url`; None: the rules alone."""
    from caravan.runs.store import SqlStore

    with tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CARAVAN_", "NOMAD_"))}
        env = kept | {"CARAVAN_HOME": folder, "CARAVAN_LOOK_UP": "0"} | ({"CARAVAN_MODEL_URL": url} if url else {})
        words = ["--prompt", "fine-tune it", "--codebase-path", str(repo), "--dry-run", "--yes", "--json"]
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "main.py", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begin
        try:
            document = json.loads(done.stdout)
            store = SqlStore(Path(folder) / "caravan.db", _Clock())
            events = [event for event in store.events(document["run_id"]) if event.kind == CALL]
            store.close()
        finally:
            down = [sys.executable, "main.py", "cluster", "down"]
            subprocess.run(down, cwd=ROOT, env=env, capture_output=True, check=False)
    total = used(events)
    steps: dict[str, int] = {}
    for event in events:
        step = str(event.data["step"])
        steps[step] = steps.get(step, 0) + 1
    faults = [str(event.data["fault"]) for event in events if "fault" in event.data]
    counts = {"calls": total.calls, "prompt_tokens": total.prompt_tokens, "completion_tokens": total.completion_tokens}
    waited = {"model_seconds": total.seconds, "steps": steps, "faults": faults}
    return {"repo": repo.name, "status": document.get("status"), "seconds": seconds} | counts | waited


def show(found: dict[str, Any]) -> None:
    """The figures as lines."""
    for row in found["overhead"]:
        bare = row["bare"]
        print(f"a reply of {row['words']} words, bare: {bare['p50']:.1f} ms (p95 {bare['p95']:.1f})")
        for name in ("client", "run"):
            f = row[name]
            print(
                f"  {name}: {f['more_p50']:.1f} ms more (p95 {f['more_p95']:.1f}), {f['ratio']:.1f} times;"
                f" {f['more_cpu_p50']:.1f} ms more of processor time"
            )
    for with_model, alone in found["runs"]:
        print(f"{with_model['repo']}: {with_model['status']} in {with_model['seconds']:.1f} s with the scripted model,")
        print(f"  {alone['seconds']:.1f} s with rules alone ({alone['status']})")
        print(
            f"  {with_model['calls']} calls, {with_model['prompt_tokens']} + {with_model['completion_tokens']} tokens"
            f" (words, as the scripted server counts them), {with_model['model_seconds']:.2f} s waited"
        )
        print(f"  by step: {with_model['steps']}; faults: {with_model['faults'] or 'none'}")
    print(f"aim: under {AIM_MS:g} ms more per call")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="questions for each figure")
    parser.add_argument("--words", type=int, nargs="*", default=[1, 200], help="lengths of replies")
    parser.add_argument("--repo", type=Path, action="append", help="repository of a run; default: an example")
    parser.add_argument("--no-run", action="store_true", help="the overhead alone")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve()
        return 0
    found: dict[str, Any] = {"overhead": [overhead(words, chosen.rounds) for words in chosen.words], "runs": []}
    if chosen.no_run:
        print(json.dumps(found, indent=1)) if chosen.json else show(found)
        return 0
    with server() as url:
        for repo in chosen.repo or [ROOT / "examples" / "numpy-lora"]:
            found["runs"].append((one_run(repo.resolve(), url), one_run(repo.resolve(), None)))
    print(json.dumps(found, indent=1)) if chosen.json else show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())

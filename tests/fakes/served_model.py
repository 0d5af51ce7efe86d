"""A program that stands in for `vllm serve` in a task: its arguments, its open /health, its key from the environment.

It loads nothing and has no model behind it: it answers a schema with the least that fits, and calls the first tool.
`--fails TEXT` writes the text and ends with 1; `--loads SECONDS` is how long /health is not there; what else vLLM
takes is taken and left alone.
"""

import argparse
import os
import signal
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fakes.openai_server import Asked, ScriptedOpenAi, Turn, _handler, blurts, calls, fails, says


def least(schema: dict[str, Any]) -> Any:
    """The least value that fits a schema, as far as such schemas go."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("anyOf"):
        return least(schema["anyOf"][0])
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("required") or ()
        return {name: least(part) for name, part in (schema.get("properties") or {}).items() if name in wanted}
    return {"array": [], "string": "ok", "integer": 1, "number": 1.0, "boolean": True, "null": None}.get(str(kind))


def answer(asked: Asked) -> Turn:
    """What it says to a conversation."""
    tools = asked.body.get("tools") or ()
    if tools and not any(m["role"] == "tool" for m in asked.body["messages"]):
        function = tools[0]["function"]
        return calls((function["name"], least(function.get("parameters") or {"type": "object"})))
    wanted = asked.body.get("response_format") or {}
    schema = (wanted.get("json_schema") or {}).get("schema")
    return says(least(schema)) if schema else says("It stands in for a model.")


class Standing(ScriptedOpenAi):
    """The stand-in on a given port, with vLLM's /health."""

    def __init__(self, port: int, ready_at: float, **more: Any) -> None:
        super().__init__(answer, **more)
        self.port, self.ready_at = port, ready_at

    def turn(self, asked: Asked) -> Turn:
        """As its parent, and /health without a key, as vLLM has it."""
        if asked.path == "/health":
            ready = time.monotonic() >= self.ready_at
            return blurts(b"", kind="text/plain") if ready else fails(503, "loading")
        return super().turn(asked)


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--max-model-len", type=int, required=True)
    parser.add_argument("--fails", default="")
    parser.add_argument("--loads", type=float, default=0.0)
    said, _ = parser.parse_known_args()
    sys.stdout.write(f"serving {said.model}\n")
    sys.stdout.flush()
    if said.fails:
        sys.stderr.write(f"{said.fails}\n")
        return 1
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    server = Standing(
        said.port,
        time.monotonic() + said.loads,
        models=((said.served_model_name, said.max_model_len),),
        key=os.environ["VLLM_API_KEY"],
    )
    with ThreadingHTTPServer(("127.0.0.1", said.port), _handler(server)) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        ended.wait()
        server.closing.set()
        http.shutdown()
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())

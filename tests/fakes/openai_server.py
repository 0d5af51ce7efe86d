"""A stand-in for an OpenAI-compatible server such as vLLM's: /v1/models and /v1/chat/completions, from a script.

A real HTTP server on the loopback. It streams and answers whole, calls tools, takes or refuses `response_format`, and
does what servers do wrong: refuses, hangs, trickles, breaks off, rambles. No model is behind it: what it says is what
the test scripted, a turn for each request, or a function of the request. Its shapes are those of OpenAI's public
reference, its error texts those that vLLM's source has.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Body = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """What the server does with one request. Made by the functions below; seconds are real ones.

    `calls`: names and arguments, as text, of tool calls. `piece`: characters of a chunk. `cut`: chunks after which the
    connection breaks. `raw`: a whole body in place of all that; `endless`: it never stops saying this text.
    """

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    thinking: str = ""
    finish: str | None = "stop"
    usage: bool = True
    piece: int = 12
    status: int = 200
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None
    before_s: float = 0.0
    first_s: float = 0.0
    between_s: float = 0.0
    cut: int | None = None
    hangs: bool = False
    endless: str = ""
    choices: str = "some"


def says(text: str | Body | list[Any], **more: Any) -> Turn:
    """A reply: a text, or a value as JSON."""
    return Turn(text=text if isinstance(text, str) else json.dumps(text), **more)


def calls(*wanted: tuple[str, Body | str], text: str = "", **more: Any) -> Turn:
    """Tool calls: name and arguments each; arguments that are a text are sent as they stand."""
    made = tuple((name, args if isinstance(args, str) else json.dumps(args)) for name, args in wanted)
    return Turn(text=text, calls=made, finish="tool_calls", **more)


def fails(status: int, message: str = "it failed", **headers: str) -> Turn:
    """An error answer; `retry_after="1"` is a header."""
    return Turn(status=status, message=message, headers=tuple((k.replace("_", "-"), v) for k, v in headers.items()))


def hangs() -> Turn:
    """It takes the request and never answers."""
    return Turn(hangs=True)


def cuts(text: str, after: int = 1) -> Turn:
    """A stream whose connection breaks after so many pieces."""
    return Turn(text=text, cut=after)


def rambles(text: str = "x" * 8000) -> Turn:
    """A stream that never ends."""
    return Turn(endless=text)


def blurts(body: bytes | str, status: int = 200, kind: str = "text/event-stream") -> Turn:
    """Any bytes as the whole answer."""
    data = body.encode() if isinstance(body, str) else body
    return Turn(raw=data, status=status, headers=(("Content-Type", kind),))


def over_window(window: int = 4096, asked: int = 9000) -> Turn:
    """How vLLM says that a prompt is too long."""
    return fails(
        400,
        f"This model's maximum context length is {window} tokens. However, you requested {asked} tokens in the "
        "messages, Please reduce the length of the messages.",
    )


@dataclass
class Asked:
    """A request that came: path, headers by lower-case names, body."""

    path: str
    headers: dict[str, str]
    body: Body = field(default_factory=dict)

    def said(self) -> str:
        """All that the messages say, one after the other."""
        return "\n".join(str(m.get("content") or "") for m in self.body.get("messages", []))


Script = Sequence[Turn] | Callable[[Asked], Turn]


class ScriptedOpenAi:
    """The server, while the block lasts: `with ScriptedOpenAi([says("hi")]) as server: ... server.url`.

    A script that is over repeats its last turn with `repeat`, else it answers 500. `models`: names and windows.
    `refuses`: fields of a request that get a 400 that names them. `key`: the one that requests must bring.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        models: Sequence[tuple[str, int | None]] = (("qwen3-8b", 32768),),
        key: str | None = None,
        refuses: Sequence[str] = (),
        repeat: bool = False,
    ) -> None:
        self.script, self.models, self.key, self.repeat = script, tuple(models), key, repeat
        self.refuses = set(refuses)
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._turns = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The base URL, ending in /v1."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def chats(self) -> list[Asked]:
        """The requests for completions, in their order."""
        return [asked for asked in self.asked if asked.path.endswith("/chat/completions")]

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def turn(self, asked: Asked) -> Turn:
        """What a request gets."""
        if self.key is not None and asked.headers.get("authorization") != f"Bearer {self.key}":
            return fails(401, "Unauthorized")
        if asked.path.endswith("/chat/completions"):
            refused = self._refusal(asked.body)
            return refused or self._next(asked)
        if asked.path.endswith("/models"):
            rows = [{"id": n, "object": "model", "owned_by": "vllm", "max_model_len": w} for n, w in self.models]
            return blurts(json.dumps({"object": "list", "data": rows}), kind="application/json")
        return fails(404, "Not Found")

    def _next(self, asked: Asked) -> Turn:
        if callable(self.script):
            return self.script(asked)
        with self._lock:
            number, self._turns = self._turns, self._turns + 1
        if number >= len(self.script) and self.repeat and self.script:
            return self.script[-1]
        return self.script[number] if number < len(self.script) else fails(500, "the script is over")

    def _refusal(self, body: Body) -> Turn | None:
        if body.get("model") not in [name for name, _ in self.models]:
            return fails(404, f"The model `{body.get('model')}` does not exist.")
        for name in sorted(self.refuses & set(body)):
            if name == "tools":
                return fails(
                    400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
                )
            return fails(400, f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), 'msg': 'not permitted'}}]")
        return None


def _handler(server: ScriptedOpenAi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(length) if length else b""
            if len(data) < length:
                self.close_connection = True  # the client went away before it had said all
                return
            body = json.loads(data) if data else {}
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.path.partition("?")[0], headers, body)
            server.asked.append(asked)
            try:
                self._answer(server.turn(asked), body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has had enough

        do_GET = do_POST = _serve  # noqa: N815

        def _answer(self, turn: Turn, body: Body) -> None:
            if turn.hangs:
                server.closing.wait(30)
                self.close_connection = True
                return
            self._wait(turn.before_s)
            if turn.raw is not None:
                self._whole(turn.status, turn.raw, dict(turn.headers))
            elif turn.status != 200:
                said = {"message": turn.message, "type": "Error", "param": None, "code": turn.status}
                self._whole(turn.status, json.dumps({"error": said}).encode(), dict(turn.headers))
            elif body.get("stream"):
                self._stream(turn, body)
            else:
                self._whole(200, json.dumps(_completion(turn, body)).encode(), {})

        def _whole(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, turn: Turn, body: Body) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._wait(turn.first_s)
            for number, chunk in enumerate(_chunks(turn, body)):
                if turn.cut is not None and number > turn.cut:  # the first chunk only says the role
                    self.close_connection = True
                    return
                if number > 0:
                    self._wait(turn.between_s)
                if server.closing.is_set():
                    return
                self._piece(f"data: {json.dumps(chunk)}\n\n".encode())
            self._piece(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def _piece(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client went away between two requests

        def _wait(self, seconds: float) -> None:
            if seconds:
                server.closing.wait(seconds)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


def _chunks(turn: Turn, body: Body) -> Iterator[Body]:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": int(time.time()), "model": body["model"]}

    def chunk(delta: Body, finish: str | None = None) -> Body:
        return frame | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    if turn.choices != "some":
        yield frame | {"choices": None if turn.choices == "null" else []}
        return
    yield chunk({"role": "assistant", "content": ""})
    while turn.endless:
        yield chunk({"content": turn.endless})
    for begin in range(0, len(turn.thinking), turn.piece):
        yield chunk({"reasoning_content": turn.thinking[begin : begin + turn.piece]})
    for begin in range(0, len(turn.text), turn.piece):
        yield chunk({"content": turn.text[begin : begin + turn.piece]})
    for index, (name, args) in enumerate(turn.calls):
        head = {"index": index, "id": f"call-{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        yield chunk({"tool_calls": [head]})
        for begin in range(0, len(args), turn.piece):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": args[begin : begin + turn.piece]}}]})
    if turn.finish is not None:
        yield chunk({}, turn.finish)
    if turn.usage and (body.get("stream_options") or {}).get("include_usage"):
        yield frame | {"choices": [], "usage": _usage(turn, body)}


def _completion(turn: Turn, body: Body) -> Body:
    message: Body = {"role": "assistant", "content": turn.text, "reasoning_content": turn.thinking or None}
    if turn.calls:
        message["tool_calls"] = [
            {"id": f"call-{i}", "type": "function", "function": {"name": name, "arguments": args}}
            for i, (name, args) in enumerate(turn.calls)
        ]
    choices: Any = [{"index": 0, "message": message, "finish_reason": turn.finish}]
    if turn.choices != "some":
        choices = None if turn.choices == "null" else []
    found: Body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": body["model"]}
    return found | {"choices": choices} | ({"usage": _usage(turn, body)} if turn.usage else {})


def _usage(turn: Turn, body: Body) -> Body:
    """Counts of words, which is what this model's tokens are."""
    asked = sum(len(str(m.get("content") or "").split()) for m in body["messages"])
    said = len(turn.text.split()) + len(turn.thinking.split()) + sum(len(args.split()) for _, args in turn.calls)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}

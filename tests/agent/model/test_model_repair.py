"""The JSON in what a model wrote, and a stream with its pieces joined: whatever the text, a value or a clean error."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caravan.agent.model.repair import parsed, without_thinking
from caravan.agent.model.sse import events_of, joined
from caravan.values.base import Json

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), VALUES, min_size=1, max_size=5)
SIGNS = tuple("{}[]\"':,\\`-0a \n\ud800\x00\u2028“")
SCRAPS = st.lists(
    st.sampled_from(
        [*SIGNS, "```json\n", "```", "<think>", "</think>", "null", "NaN", "1e999", "/*", "// x\n", '{"a":1}']
    ),
    max_size=60,
).map("".join)


@given(st.text() | SCRAPS | st.binary().map(lambda b: b.decode("utf-8", "replace")))
@example("[" * 100_000)
@example('{"a":' * 5000)
@example("1" * 5000)
@example('{"a": ' + "1" * 5000 + "}")
@example("{" + '"' * 2001)
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    try:
        found, done = parsed(text)
    except ValueError:
        return
    assert isinstance(found, dict | list)
    json.dumps(found, allow_nan=False)
    assert all(isinstance(line, str) for line in done)


@given(OBJECTS)
def test_json_comes_back_as_it_is(value: Json) -> None:
    assert parsed(json.dumps(value)) == (value, ())
    assert parsed(json.dumps(value, ensure_ascii=False, indent=1))[0] == value


@given(OBJECTS, st.sampled_from(["", "Sure:\n", "Here {it} is: "]))
def test_fences_and_thinking_are_left_out(value: Json, before: str) -> None:
    text = json.dumps(value)
    assert parsed(f"<think>\nit {{may}} be [so]\n</think>\n{text}")[0] == value
    assert parsed(f"{before}```json\n{text}\n```\nThat is all.")[0] == value


@pytest.mark.parametrize("text", ["", "no", "42", '"text"', "null", "{}  ", "[]", "say {} or []", "<think>{"])
def test_what_holds_no_value(text: str) -> None:
    if text.strip() in ("{}", "[]"):
        assert parsed(text)[0] in ({}, [])
        return
    with pytest.raises(ValueError, match=r".+"):
        parsed(text)


def test_a_cut_value_is_closed_where_it_broke_off() -> None:
    assert parsed('{"a": 1, "b": [1, 2')[0] == {"a": 1, "b": [1, 2]}


def test_thinking_inside_a_value_is_a_part_of_it() -> None:
    assert parsed('{"log": "<think>x</think>"}')[0] == {"log": "<think>x</think>"}


@given(st.text(), st.text())
def test_thinking_is_left_out_once_and_for_all(thought: str, rest: str) -> None:
    left = without_thinking(f"<think>{thought}</think>{rest}")
    assert not left.startswith("<think>")
    assert without_thinking(left) == left or "</think>" in left


# Streams


def event(**delta: Json) -> bytes:
    return b"data: " + json.dumps({"id": "1", "choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def read(data: bytes, size: int) -> tuple[list[bytes], int]:
    seen: list[int] = []
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    out = list(joined(events_of(pieces), lambda: seen.append(1)))
    return out, len(seen)


@given(st.lists(st.text(min_size=1), max_size=20), st.integers(1, 200))
def test_pieces_of_text_are_joined_and_none_is_lost(texts: list[str], size: int) -> None:
    data = event(role="assistant", content="") + b"".join(event(content=t) for t in texts) + b"data: [DONE]\n\n"
    out, seen = read(data, size)
    found = [json.loads(e[6:])["choices"][0]["delta"] for e in b"".join(out).split(b"\n\n") if e[6:].startswith(b"{")]
    assert "".join(d.get("content") or "" for d in found) == "".join(texts)
    assert len(found) == 1
    assert seen == len(texts) + 2
    assert b"".join(out).endswith(b"data: [DONE]\n\n")


def test_a_whole_reply_is_one_event_and_nothing_of_it_is_lost() -> None:
    end = json.dumps({"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = json.dumps({"id": "1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    data = event(role="assistant", content="") + event(content="a") + event(content="b")
    data += f"data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n".encode()
    (whole, done), seen = read(data, 9)
    found = json.loads(whole[6:])
    (choice,) = found["choices"]
    assert (choice["delta"], choice["finish_reason"]) == ({"content": "ab"}, "stop")
    assert found["usage"] == {"prompt_tokens": 1, "completion_tokens": 2}
    assert (done, seen) == (b"data: [DONE]\n\n", 6)


def test_what_comes_after_an_end_is_not_taken_into_it() -> None:
    end = json.dumps({"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    data = event(content="a") + f"data: {end}\n\n".encode() + event(content="b") + f"data: {end}\n\n".encode()
    out, _ = read(data, 50)
    assert [json.loads(e[6:])["choices"][0]["delta"] for e in out] == [{"content": "a"}, {"content": "b"}]


def test_pieces_of_calls_are_joined_by_their_index() -> None:
    def call(index: int, **function: str) -> bytes:
        return event(tool_calls=[{"index": index, "function": function}])

    head = event(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}])
    data = head + call(0, arguments='{"a') + call(0, arguments='": 1}') + call(1, arguments="{}")
    out, _ = read(data, 7)
    deltas = [json.loads(e[6:])["choices"][0]["delta"]["tool_calls"][0] for e in out]
    assert [d["function"]["arguments"] for d in deltas] == ["", '{"a": 1}', "{}"]


@given(st.binary() | SCRAPS.map(lambda t: t.encode("utf-8", "replace")), st.integers(1, 50))
def test_what_is_no_piece_passes_as_it_is(data: bytes, size: int) -> None:
    assert b"".join(read(data, size)[0]) == data.replace(b"\r\n", b"\n") or b"\r" in data


def test_what_was_held_comes_before_the_stream_breaks() -> None:
    def broken() -> Any:
        yield event(content="a")
        yield event(content="b")
        raise ConnectionError

    out: list[bytes] = []
    with contextlib.suppress(ConnectionError):
        for piece in joined(broken(), lambda: None):
            out.append(piece)  # noqa: PERF402  (a list made at once would be lost with the exception)
    assert b'"ab"' in b"".join(out)
    with pytest.raises(ConnectionError):
        list(joined(broken(), lambda: None))

"""How a model is reached: addresses and keys that may be used; what fits its window; what the settings make."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters import metered_model, model_access, model_of
from caravan.agent.model.access import ModelAccess, checked_url
from caravan.agent.model.fallback import WithFallback
from caravan.agent.model.tokens import tokens
from caravan.agent.model.window import UNKNOWN, Part, bounded, cut_bytes, fitted, room, shortened, window_of
from caravan.values.errors import UsageError
from caravan.values.model import Message
from config import load_settings
from observability import NullTracer
from tests.fakes.clock import FakeClock
from tests.fakes.openai_server import ScriptedOpenAi, fails, says
from tests.fakes.store import MemoryStore


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        (" https://models.example.com/api/v1 ", "https://models.example.com/api/v1"),
        ("http://[::1]:8000/v1/chat/completions", "http://[::1]:8000/v1"),
    ],
)
def test_addresses(text: str, url: str) -> None:
    assert checked_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "localhost:8000", "ftp://x/v1", "http://", "http://a b/v1", "http://x:99999/v1", "http://[::1/v1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="no http or https address"):
        checked_url(text)


@pytest.mark.parametrize(
    "text", ["http://me:hunter22@x/v1", "https://x/v1?api_key=hunter22", "https://x/v1#hunter22", "hunter22@x"]
)
def test_a_key_in_the_address_is_refused_unshown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as caught:
        ModelAccess.at(text)
    assert "hunter22" not in caught.value.line()
    assert "CARAVAN_MODEL_API_KEY" in caught.value.line()
    monkeypatch.setenv("CARAVAN_MODEL_URL", text)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert "hunter22" not in caught.value.line()
    assert "CARAVAN_MODEL_URL" in caught.value.line()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://10.1.2.3:8000/v1", True),
        ("http://100.64.1.1/v1", True),
        ("http://[fd00::1]/v1", True),
        ("http://gpu-1:8000/v1", True),
        ("http://qwen.service.consul:8000/v1", True),
        ("http://api.example.com/v1", False),
        ("http://8.8.8.8/v1", False),
        ("http://0.0.0.0/v1", False),
        ("http://notlocal/v1", True),
        ("http://evil-local.com/v1", False),
        ("http://[2001:4860:4860::8888]/v1", False),
    ],
)
def test_a_key_goes_in_the_clear_to_private_networks_alone(url: str, allowed: bool) -> None:
    assert ModelAccess.at(url).key is None
    if allowed:
        assert ModelAccess.at(url, key=SecretStr("k")).key is not None
        return
    with pytest.raises(UsageError, match="unencrypted"):
        ModelAccess.at(url, key=SecretStr("k"))


def test_a_key_is_not_shown() -> None:
    access = ModelAccess.at("https://x/v1", key=SecretStr("hunter22"), proxy=SecretStr("http://u:hunter22@p"))
    assert "hunter22" not in repr(access) + str(access) + access.canonical()
    with pytest.raises(UsageError, match="line break"):
        ModelAccess.at("https://x/v1", key=SecretStr("k\nX-Header: 1"))


def test_prices() -> None:
    assert ModelAccess.at("https://x/v1").usd(10, 10) is None
    assert ModelAccess.at("https://x/v1", completion_usd=2.0).usd(10**6, 10**6) == 2.0


# The window


def test_the_most_worth_comes_first_and_the_order_stays() -> None:
    parts = [Part(name=n, text="word " * 100, worth=w) for n, w in (("a", 1), ("b", 3), ("c", 2))]
    each = tokens(parts[0].text) + 1
    found = fitted(parts, 2 * each)
    assert [p.name for p in found.parts] == ["b", "c"]
    assert (found.left_out, found.cut, found.tokens) == (("a",), (), 2 * each)
    assert found.text().count("word") == 200


def test_a_part_is_cut_at_a_line_with_a_note() -> None:
    text = "".join(f"line {i}\n" for i in range(500))
    found = fitted([Part(name="a", text=text), Part(name="b", text="tail", worth=0.5)], 300)
    assert found.cut == ("a",)
    *lines, note = found.parts[0].text.splitlines()
    assert lines == [f"line {i}" for i in range(len(lines))]
    assert note == f"(Cut here: {500 - len(lines)} more lines.)"
    assert found.tokens <= 300
    assert fitted([Part(name="a", text=text, whole=True)], 300).left_out == ("a",)


@given(
    st.lists(
        st.builds(Part, name=st.just("p"), text=st.text(), worth=st.floats(0, 9), whole=st.booleans()), max_size=6
    ),
    st.integers(-5, 300),
)
def test_what_fits_fits(parts: list[Part], window: int) -> None:
    found = fitted(parts, window)
    assert sum(tokens(p.text) for p in found.parts) <= found.tokens <= max(0, window)
    assert len(found.parts) + len(found.left_out) == len(parts)


@given(st.text(), st.integers(20, 200))
def test_shortened_texts_are_short(text: str, most: int) -> None:
    assert tokens(shortened(text, most)) <= most


@given(st.text(), st.integers(0, 100))
def test_cut_texts_are_short(text: str, most: int) -> None:
    found = cut_bytes(text, most)
    size = len(text.encode("utf-8", "replace"))
    assert found == text if size <= most else len(found.encode("utf-8", "replace")) <= most + 40


@given(st.text(), st.text())
def test_tokens_grow_with_the_text(a: str, b: str) -> None:
    assert max(tokens(a), tokens(b)) <= tokens(a + b) <= tokens(a) + tokens(b)


def test_tools_answers_are_left_out_oldest_first() -> None:
    talk = [Message(role="user", text="hi"), *(Message(role="tool", call_id=f"{i}", text="x " * 200) for i in range(3))]
    found = bounded(talk, 350)
    assert [m.text.startswith("(Left out") for m in found] == [False, True, False, False]
    assert bounded(talk, 5)[0] == talk[0]


def test_a_window_that_nobody_knows() -> None:
    with ScriptedOpenAi(models=[("m", None)]) as server:
        settings = {"CARAVAN_MODEL_URL": server.url}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            chat = model_of(load_settings(), clock=FakeClock())
        assert chat is not None
        assert window_of(chat) == UNKNOWN
    assert room(32768) == 28672
    assert room(3000) == 2000


# The settings


def test_without_an_address_there_is_no_model() -> None:
    code = (
        "import sys; from adapters import model_of; from config import load_settings\n"
        "print(model_of(load_settings(), clock=None), 'caravan.agent' in sys.modules, 'openai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None False False"


def test_the_settings_make_both_models(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedOpenAi([fails(401)]) as first, ScriptedOpenAi([says("hi")], models=[("small", 4096)]) as second:
        for name, value in {
            "CARAVAN_MODEL_URL": first.url,
            "CARAVAN_MODEL": "qwen3-8b",
            "CARAVAN_MODEL_API_KEY": "one-key",
            "CARAVAN_MODEL_WINDOW": "20000",
            "CARAVAN_MODEL_TIMEOUT_S": "30",
            "CARAVAN_MODEL_PROMPT_USD": "1",
            "CARAVAN_MODEL_RUN_TOKENS": "50",
            "CARAVAN_MODEL_FALLBACK_URL": second.url,
            "CARAVAN_MODEL_FALLBACK_API_KEY": "other-key",
            "HTTP_PROXY": "http://127.0.0.1:9",
        }.items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        one, other = model_access(settings)
        assert (one.name, one.window, one.timeout_s, one.first_token_s, one.prompt_usd) == (
            "qwen3-8b",
            20000,
            30,
            30,
            1,
        )
        assert (other.name, other.window, other.prompt_usd, other.proxy) == ("", None, None, None)
        told: list[str] = []
        chat = model_of(settings, clock=FakeClock(), told=told.append)
        assert isinstance(chat, WithFallback)
        assert chat.ask([Message(role="user", text="hi")], step="s").model == "small"
        assert told
        assert [a.headers["authorization"] for a in (first.asked[0], second.asked[0])] == [
            "Bearer one-key",
            "Bearer other-key",
        ]
        assert (
            metered_model(chat, settings, MemoryStore(FakeClock()), "r", clock=FakeClock(), tracer=NullTracer()).name
            == "qwen3-8b"
        )
        assert {"one-key", "other-key"} <= set(settings.secrets())


def test_a_proxy_is_the_users_and_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "direct.example")
    proxies = []
    for url in ("https://far.example/v1", "https://direct.example/v1", "https://127.0.0.1/v1"):
        monkeypatch.setenv("CARAVAN_MODEL_URL", url)
        (access,) = model_access(load_settings())
        proxies.append(access.proxy.get_secret_value() if access.proxy else None)
    assert proxies == ["http://proxy.example:3128", None, None]

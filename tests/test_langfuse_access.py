"""LangFuse's address and keys: what is refused, and why; the client against a stand-in that does what servers do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from adapters import langfuse_access
from caravan.values.errors import UsageError
from caravan.values.prompts import remote_name
from config import load_settings
from langfuse_access import LangfuseAccess, LangfuseError, LangfuseFault, checked_url
from langfuse_client import LangfuseClient
from tests.fakes.langfuse_server import (
    PUBLIC_KEY,
    SECRET_KEY,
    Fault,
    LangfuseServer,
    blurts,
    cuts,
    hangs,
    oversize,
    redirects,
    slow,
    status,
    trickles,
    unreachable,
)

PUBLIC, SECRET = SecretStr(PUBLIC_KEY), SecretStr(SECRET_KEY)


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as running:
        yield running


def client_of(server: LangfuseServer, timeout_s: float = 5.0) -> LangfuseClient:
    return LangfuseClient(server.access(timeout_s=timeout_s))


def test_nothing_set_is_nothing() -> None:
    assert LangfuseAccess.of(None, None, None) is None


@pytest.mark.parametrize(
    ("url", "public", "secret", "said"),
    [
        (None, PUBLIC, SECRET, "would go to the vendor's cloud. Set LANGFUSE_BASE_URL"),
        (None, None, SECRET, "would go to the vendor's cloud"),
        ("https://lf.example", None, None, "without LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"),
        ("https://lf.example", PUBLIC, None, "without LANGFUSE_SECRET_KEY"),
        ("https://lf.example", PUBLIC, SecretStr(" "), "without LANGFUSE_SECRET_KEY"),
        ("https://lf.example", SecretStr("pk:x"), SECRET, "LANGFUSE_PUBLIC_KEY holds what no key"),
        ("https://lf.example", PUBLIC, SecretStr("sk\nHost: evil"), "LANGFUSE_SECRET_KEY holds what no key"),
        ("http://lf.example.org", PUBLIC, SECRET, "unencrypted to lf.example.org"),
        ("https://me:hush@lf.example", PUBLIC, SECRET, "holds a user name"),
        ("https://lf.example?key=hush", PUBLIC, SECRET, "holds a user name, a key or a query"),
        ("lf.example", PUBLIC, SECRET, "no http or https address"),
        ("https://[::1", PUBLIC, SECRET, "no http or https address"),
    ],
)
def test_what_must_not_be_used_is_refused_in_a_line(
    url: str | None, public: SecretStr | None, secret: SecretStr | None, said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        LangfuseAccess.of(url, public, secret)
    assert said in refused.value.line()
    assert "\n" not in refused.value.line()
    assert "hush" not in refused.value.line()
    assert SECRET_KEY not in refused.value.line()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://lf.example/", "https://lf.example"),
        (" https://lf.example/langfuse/ ", "https://lf.example/langfuse"),
        ("https://lf.example/api/public", "https://lf.example"),
        ("http://10.1.2.3:3000/api/public/otel/v1/traces", "http://10.1.2.3:3000"),
        ("http://langfuse-web:3000", "http://langfuse-web:3000"),
    ],
)
def test_addresses_as_people_copy_them(given: str, url: str) -> None:
    assert checked_url(given) == url
    assert LangfuseAccess.of(given, PUBLIC, SECRET) is not None


def test_keys_are_not_printed_and_hosts_are() -> None:
    access = LangfuseAccess.of("https://lf.example:8443/x", PUBLIC, SECRET)
    assert access is not None
    assert access.host == "lf.example:8443"
    assert SECRET_KEY not in repr(access)


def test_settings_name_it_by_either_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert langfuse_access(load_settings()) is None
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", PUBLIC_KEY)
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", SECRET_KEY)
    with pytest.raises(UsageError, match="vendor's cloud"):
        langfuse_access(load_settings())
    monkeypatch.setenv("LANGFUSE_HOST", "https://lf.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    access = langfuse_access(load_settings())
    assert access is not None
    assert access.url == "https://lf.example"
    assert access.proxy is not None
    assert access.proxy.get_secret_value() == "http://proxy:3128"
    rows = {row.name: row.where for row in load_settings().rows()}
    assert rows["langfuse_base_url"] == "LANGFUSE_HOST"
    assert SECRET_KEY in load_settings().secrets()
    monkeypatch.setenv("NO_PROXY", "lf.example")
    direct = langfuse_access(load_settings())
    assert direct is not None
    assert direct.proxy is None


def test_an_agent_elsewhere_gets_the_address_only_with_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from lending import secrets_to_lend

    monkeypatch.setenv("LANGFUSE_BASE_URL", "https://lf.example")
    assert "LANGFUSE_BASE_URL" not in load_settings().portable()
    assert secrets_to_lend(load_settings(), None) == {}
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", PUBLIC_KEY)
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", SECRET_KEY)
    assert load_settings().portable()["LANGFUSE_BASE_URL"] == "https://lf.example"
    assert set(secrets_to_lend(load_settings(), None)) == {"LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"}


# The client


def test_prompts_datasets_and_scores_go_and_come(server: LangfuseServer) -> None:
    client = client_of(server)
    name = remote_name("plan")
    assert name == "caravan-plan"
    assert client.health() == "3.99.0"
    assert client.clock() is not None
    assert client.projects() == (("project-1", "fine-tunes"),)
    assert client.prompt(name) is None
    first = client.create_prompt(name, "one {{a}}", labels=["production"], message="why")
    second = client.create_prompt(name, "two {{a}}", tags=["t"])
    assert (first.number, second.number, first.message) == (1, 2, "why")
    found = client.prompt(name, label="production")
    assert found is not None
    assert found.content == "one {{a}}"
    assert client.label_prompt(name, 2, ["production"]).labels == ("latest", "production")
    assert [row.numbers for row in client.prompts("production")] == [(2,)]
    assert [row.numbers for row in client.prompts()] == [(1, 2)]
    assert client.dataset("d") is None
    client.create_dataset("d", description="x")
    for number in range(120):
        client.put_dataset_item("d", {"id": f"i{number}", "input": {"n": number}})
    assert len(list(client.dataset_items("d"))) == 120
    assert client.send_scores([{"name": "deployed", "value": 1, "traceId": "t"}]) == {"message": "Accepted"}
    assert client.send_scores([{"name": "", "value": 1}])["rejected"] == 1
    client.close()
    assert client.health() == "3.99.0"
    client.close()


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (status(401), LangfuseFault.DENIED, "Set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"),
        (status(403, "no scope\x1b[2J"), LangfuseFault.FORBIDDEN, "no scope"),
        (status(404, "no such prompt"), LangfuseFault.MISSING, "has no such thing"),
        (blurts("<html>404</html>", 404, "text/html"), LangfuseFault.GARBLED, "is not LangFuse"),
        (status(429, retry_after="7"), LangfuseFault.TOO_MANY, "fewer requests"),
        (status(400, "Invalid request data"), LangfuseFault.REFUSED, "answered 400: Invalid request data"),
        (status(500), LangfuseFault.SERVER_ERROR, "answered 500"),
        (blurts("<html>"), LangfuseFault.GARBLED, "is no JSON"),
        (blurts("[" * 100_000), LangfuseFault.GARBLED, "is no JSON"),
        (blurts('{"data": 7}'), LangfuseFault.GARBLED, "is not a list"),
        (oversize(), LangfuseFault.TOO_LARGE, "longer than"),
        (redirects("https://evil.example/x"), LangfuseFault.REDIRECTED, "sends requests on to evil.example"),
        (cuts(), LangfuseFault.UNREACHABLE, "can't be reached"),
        (hangs(), LangfuseFault.TIMED_OUT, "did not answer within"),
        (trickles(), LangfuseFault.TIMED_OUT, "did not answer within"),
    ],
)
def test_what_goes_wrong_is_one_of_our_errors_in_a_line(
    server: LangfuseServer, fault: Fault, kind: LangfuseFault, said: str
) -> None:
    client = client_of(server, timeout_s=0.3 if kind is LangfuseFault.TIMED_OUT else 10.0)
    server.fail(fault)
    with pytest.raises(LangfuseError) as failed:
        client.prompts()
    client.close()
    assert failed.value.fault is kind
    assert said in failed.value.line()
    assert failed.value.line().isprintable()
    assert SECRET_KEY not in failed.value.line()
    assert failed.value.exit_code == 5
    assert failed.value.retry_after_s == (7.0 if kind is LangfuseFault.TOO_MANY else None)
    assert len(server.asked) == 1, "nothing is asked twice, and no redirect is followed"


def test_an_address_at_which_nobody_is(server: LangfuseServer) -> None:
    client = LangfuseClient(server.access().model_copy(update={"url": unreachable()}))
    with pytest.raises(LangfuseError) as failed:
        client.health()
    assert failed.value.fault is LangfuseFault.UNREACHABLE
    assert failed.value.is_passing


def test_a_slow_answer_in_time_is_an_answer(server: LangfuseServer) -> None:
    server.fail(slow(0.05))
    client = client_of(server, timeout_s=30.0)
    assert client.health() == "3.99.0"
    client.close()


def test_wrong_keys_are_told_apart(server: LangfuseServer) -> None:
    access = server.access().model_copy(update={"secret_key": SecretStr("sk-lf-other")})
    client = LangfuseClient(access)
    with pytest.raises(LangfuseError, match="does not know these keys"):
        client.projects()
    client.close()


def test_a_certificate_that_is_none_says_which_setting(tmp_path: Path) -> None:
    access = LangfuseAccess.of("https://127.0.0.1:1", PUBLIC, SECRET, ca=tmp_path / "none.pem")
    assert access is not None
    with pytest.raises(UsageError) as refused:
        LangfuseClient(access).health()
    assert "Correct CARAVAN_LANGFUSE_CACERT" in refused.value.line()
    assert "NOMAD" not in refused.value.line()

"""How the client reaches a server: TLS, unix sockets, prefixes, proxies; and what holds it within bounds."""

import gzip
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.addresses import Proxies
from caravan.cluster.connection import MAX_ANSWER
from caravan.cluster.nomad import NomadCluster
from caravan.cluster.transports import client_pair
from caravan.values.errors import ClusterDenied, ClusterError, ClusterUnreachable, JobNotFound, UsageError
from caravan.values.run import Phase
from machine import SystemClock
from tests.fakes.clock import FakeClock
from tests.fakes.nomad_http import Answer, NomadHttp, Request

TOKEN = "b0c1d2e3-secret-of-the-cluster"
TLS = Path(__file__).parent.parent / "data" / "tls"
CLIENT = (str(TLS / "client.pem"), str(TLS / "client-key.pem"))
JOB = Answer({"ID": "j", "JobModifyIndex": 7})

Serve = Callable[..., NomadHttp]
Connect = Callable[..., NomadCluster]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[NomadHttp] = []

    def start(answer: Answer | Callable[[Request], Answer] = JOB, **more: Any) -> NomadHttp:
        servers.append(NomadHttp(answer if callable(answer) else lambda _: answer, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    clusters: list[NomadCluster] = []

    def make(address: str, **more: Any) -> NomadCluster:
        settings: dict[str, Any] = {"token": TOKEN, "namespace": "default", "region": None, "verify": True}
        settings |= {"cert": None, "clock": FakeClock()}
        clusters.append(NomadCluster(address, **(settings | more)))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


def works(cluster: NomadCluster) -> bool:
    """python-nomad's calls, the session's, and those that are read as they come."""
    found = cluster.find("j")
    return found is not None and cluster.parse("job")["ID"] == "j" and cluster.logs("a", "t", "stdout") != b""


def tls_server(serve: Serve, **more: Any) -> NomadHttp:
    return serve(certificate=str(TLS / "server.pem"), key=str(TLS / "server-key.pem"), **more)


def test_a_server_name_of_its_own(serve: Serve, connect: Connect) -> None:
    server = tls_server(serve)
    ca = str(TLS / "ca.pem")
    assert works(connect(server.address, verify=ca, server_name="server.global.nomad"))
    assert set(server.names) == {"server.global.nomad"}
    with pytest.raises(ClusterUnreachable, match="certificate verify failed") as caught:
        connect(server.address, verify=ca).find("j")
    assert "NOMAD_TLS_SERVER_NAME" in caught.value.hint
    with pytest.raises(ClusterUnreachable) as caught:
        connect(server.address, verify=ca, server_name="client.global.nomad").find("j")
    assert "NOMAD_TLS_SERVER_NAME" in caught.value.hint


def test_only_the_given_authority_is_trusted(serve: Serve, connect: Connect) -> None:
    server = tls_server(serve)
    for verify in (True, str(TLS / "cert.pem")):
        with pytest.raises(ClusterUnreachable, match="certificate verify failed"):
            connect(server.address, verify=verify, server_name="server.global.nomad").find("j")
    assert server.requests == []
    assert works(connect(server.address, verify=False))


def test_a_directory_of_authorities(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "any-name").write_bytes((TLS / "ca.pem").read_bytes())
    (tmp_path / "other.pem").write_bytes((TLS / "cert.pem").read_bytes())
    server = tls_server(serve)
    assert works(connect(server.address, verify=str(tmp_path), server_name="server.global.nomad"))


def test_mutual_tls(serve: Serve, connect: Connect) -> None:
    server = tls_server(serve, authority=str(TLS / "ca.pem"))
    named: dict[str, Any] = {"verify": str(TLS / "ca.pem"), "server_name": "server.global.nomad"}
    assert works(connect(server.address, cert=CLIENT, **named))
    served = len(server.requests)
    with pytest.raises(ClusterUnreachable) as caught:
        connect(server.address, **named).find("j")
    assert "NOMAD_CLIENT_CERT" in caught.value.hint or "NOMAD_ADDR" in caught.value.hint  # as the kernel has it
    assert len(server.requests) == served


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"verify": "/no/such/ca.pem"}, "NOMAD_CACERT"),
        ({"verify": str(TLS / "key.pem")}, "holds no certificate"),
        ({"cert": ("/no/such.pem", CLIENT[1])}, "NOMAD_CLIENT_CERT"),
        ({"cert": (CLIENT[0], "/no/such.pem")}, "NOMAD_CLIENT_KEY"),
        ({"cert": (CLIENT[0], str(TLS / "server-key.pem"))}, "matching pair"),
        ({"cert": (CLIENT[0], CLIENT[0])}, "matching pair"),
        ({"cert": (CLIENT[0], str(TLS / "client-key-encrypted.pem"))}, "not encrypted"),
    ],
)
def test_certificates_that_can_not_be_used(more: dict[str, Any], words: str, connect: Connect) -> None:
    with pytest.raises(UsageError) as caught:
        connect("https://127.0.0.1:1", **more)
    assert words in caught.value.line()
    assert "PRIVATE" not in "".join(traceback.format_exception(caught.value))


def test_an_empty_directory_of_authorities(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no certificate"):
        connect("https://127.0.0.1:1", verify=str(tmp_path))


def test_certificate_and_key_come_together() -> None:
    assert client_pair(None, None) is None
    assert client_pair(*CLIENT) == CLIENT
    with pytest.raises(UsageError, match="certificate is set alone"):
        client_pair(CLIENT[0], None)
    with pytest.raises(UsageError, match="key is set alone"):
        client_pair(None, Path(CLIENT[1]))


def test_a_unix_socket(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    path = str(tmp_path / "nomad.sock")
    server = serve(unix=path)
    cluster = connect(f"unix://{path}", proxies=Proxies(http="http://127.0.0.1:1"))
    assert works(cluster)
    assert {r.headers["host"] for r in server.requests} == {"localhost"}
    assert {r.headers["x-nomad-token"] for r in server.requests} == {TOKEN}
    assert f"unix://{path}" in repr(cluster)
    with pytest.raises(ClusterUnreachable, match="No such file or directory") as caught:
        connect(f"unix://{path}-other").find("j")
    assert "NOMAD_ADDR" in caught.value.hint


def test_a_path_prefix_and_a_gateways_password(serve: Serve, connect: Connect) -> None:
    server = serve()
    cluster = connect(f"{server.address}/nomad/", http_auth="ann:hush:hush")
    assert works(cluster)
    assert all(r.path.startswith("/nomad/v1/") for r in server.requests)
    assert {r.headers["authorization"] for r in server.requests} == {"Basic YW5uOmh1c2g6aHVzaA=="}
    server.answer = lambda _: Answer(b"hush:hush is wrong", 401)
    with pytest.raises(ClusterDenied) as caught:
        cluster.find("j")
    assert "NOMAD_HTTP_AUTH" in caught.value.hint
    assert "hush" not in caught.value.line()


def test_ipv6(serve: Serve, connect: Connect) -> None:
    try:
        server = serve(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert server.address.startswith("http://[::1]:")
    assert works(connect(server.address))


def test_a_proxy_is_used_and_its_password_is_not_shown(serve: Serve, connect: Connect) -> None:
    proxy = serve()
    away = Proxies(http=f"http://ann:hush@127.0.0.1:{proxy.port}")
    assert works(connect("http://nomad.example:4646", proxies=away))
    assert {r.headers["host"] for r in proxy.requests} == {"nomad.example:4646"}
    assert all("proxy-authorization" in r.headers for r in proxy.requests)
    proxy.answer = lambda _: Answer(b"who are you?", 407)
    with pytest.raises(ClusterUnreachable, match=r"proxy 127\.0\.0\.1 does not let") as caught:
        connect("http://nomad.example:4646", proxies=away).find("j")
    assert "NO_PROXY" in caught.value.hint
    tunnel = Proxies(https=away.http)
    with pytest.raises(ClusterUnreachable, match="does not let") as caught:
        connect("https://nomad.example", proxies=tunnel).find("j")
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_a_namespace_that_is_all_of_them(connect: Connect) -> None:
    with pytest.raises(UsageError, match="needs one namespace"):
        connect("http://127.0.0.1:1", namespace="*")


# What has no end: each call that reads JSON whole, and each that reads bytes.

READS: dict[str, Callable[[NomadCluster], Any]] = {
    "find": lambda c: c.find("j"),
    "parse": lambda c: c.parse("job"),
    "names": lambda c: c.variable_names("x"),
    "file": lambda c: c.read_file("a", "x"),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("status", [200, 500])
def test_a_body_that_trickles_is_given_up(name: str, status: int, serve: Serve, connect: Connect) -> None:
    over = threading.Event()

    def drops() -> Iterator[bytes]:
        while not over.wait(0.02):
            yield b" "

    cluster = connect(serve(Answer(stream=drops, status=status)).address, timeout=0.3, clock=SystemClock())
    try:
        with pytest.raises(ClusterError) as caught:
            READS[name](cluster)
    finally:
        over.set()
    # Of a refusal, what has come is enough.
    assert "did not answer in time" in caught.value.message or status == 500


@pytest.mark.parametrize("name", READS)
def test_headers_that_trickle_are_given_up(name: str, connect: Connect) -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def trickle() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.sendall(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(0.02):
                    taken.sendall(b"X-More: 1\r\n" if over.is_set() else b"X")

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        try:
            with pytest.raises(ClusterUnreachable, match="did not answer in time"):
                READS[name](connect(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.3))
        finally:
            over.set()
            thread.join(10)


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_is_cut_off(packed: bool, serve: Serve, connect: Connect) -> None:
    block = b" " * (1 << 20)
    sent = []

    def flood() -> Iterator[bytes]:
        piece = gzip.compress(block * 16) if packed else block
        while True:
            sent.append(len(piece))
            yield piece

    headers = {"Content-Encoding": "gzip"} if packed else {}
    cluster = connect(serve(Answer(stream=flood, headers=headers)).address)
    with pytest.raises(ClusterError, match="more than 64 MiB"):
        cluster.find("j")
    assert sum(sent) <= MAX_ANSWER + (16 << 20)
    assert len(cluster.read_part("a", "x", offset=0, limit=100)) == 100
    server = serve(Answer(stream=flood, status=500, headers=headers))
    with pytest.raises(ClusterError) as caught:
        connect(server.address).find("j")
    assert len(caught.value.line()) < 1000


def test_packed_answers_are_read(serve: Serve, connect: Connect) -> None:
    packed = gzip.compress(b'{"ID": "j"}')
    found = connect(serve(Answer(packed, headers={"Content-Encoding": "gzip"})).address).find("j")
    assert found is not None
    for broken in (packed[:12], b"no gzip at all"):
        with pytest.raises(ClusterError):
            connect(serve(Answer(broken, headers={"Content-Encoding": "gzip"})).address).find("j")


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"JobModifyIndex": ' + b"9" * 5000 + b"}", b'{"a": NaN', b'"\\ud800"']
)
def test_json_that_breaks_its_reader(body: bytes, serve: Serve, connect: Connect) -> None:
    for name in ("find", "parse", "names"):
        with pytest.raises(ClusterError):
            READS[name](connect(serve(Answer(body)).address))


@pytest.mark.parametrize(("after", "slept"), [("3", [3.0]), ("", [0.2]), ("soon", [0.2])])
def test_retry_after_is_kept(after: str, slept: list[float], serve: Serve, connect: Connect) -> None:
    answers = iter([Answer(b"slow down", 429, {"Retry-After": after}), JOB])
    clock = FakeClock()
    assert connect(serve(lambda _: next(answers)).address, clock=clock).find("j") is not None
    assert clock.slept == slept


def test_a_long_retry_after_is_the_users_to_decide(serve: Serve, connect: Connect) -> None:
    clock = FakeClock()
    with pytest.raises(ClusterUnreachable) as caught:
        connect(serve(Answer(b"later", 429, {"Retry-After": "600"})).address, clock=clock).find("j")
    assert caught.value.hint == "Try again in 600 s."
    assert clock.slept == []


@pytest.mark.parametrize(
    ("status", "text", "token", "words"),
    [
        (403, b"Permission denied", TOKEN, "doctor"),
        (403, b"Permission denied", None, "No token was sent"),
        (403, b"ACL token not found", TOKEN, "does not know the token"),
        (500, b"rpc error: ACL token expired", TOKEN, "Get a new token"),
        (403, b"ACL token expired", TOKEN, "Get a new token"),
        (500, b"invalid workload identity: failed to parse signed token: x", TOKEN, "UUID"),
    ],
)
def test_denials_say_what_to_do(
    status: int, text: bytes, token: str | None, words: str, serve: Serve, connect: Connect
) -> None:
    server = serve(Answer(text, status))
    for call in (*READS.values(), lambda c: c.register({"ID": "j"}), lambda c: c.token()):
        with pytest.raises(ClusterDenied) as caught:
            call(connect(server.address, token=token))
        assert words in caught.value.line()
        assert "NOMAD_TOKEN" in caught.value.hint or words == "No token was sent"


def test_a_gateways_404_is_no_job_that_is_gone(serve: Serve, connect: Connect) -> None:
    for answer in (
        Answer(b"404 page not found\n", 404, {"Content-Type": "text/plain"}),
        Answer(b"default backend - 404", 404, {"Content-Type": "text/plain"}),
        Answer(b"<html>404</html>", 404, {"Content-Type": "text/html"}),
        Answer(b"", 404),  # Nomad itself says so of a call that it does not have
        Answer(b"Not Found", 404),
        Answer({"message": "no Route matched with those values"}, 404),
        Answer({"message": "Not Found"}, 404),
        Answer(b"host not found in upstream", 404),
    ):
        cluster = connect(serve(answer).address)
        for call in (lambda c: c.find("j"), lambda c: c.snapshot("j"), lambda c: c.stop("j")):
            with pytest.raises(ClusterError, match="not Nomad's") as caught:
                call(cluster)
            assert not isinstance(caught.value, JobNotFound)


@pytest.mark.parametrize("words", [b"job not found", b"rpc error: job not found", b'job "j" not found', b"Unknown job"])
def test_nomads_own_404_is_a_job_that_is_gone(words: bytes, serve: Serve, connect: Connect) -> None:
    cluster = connect(serve(Answer(words, 404)).address)
    assert cluster.find("j") is None
    assert cluster.snapshot("j").phase is Phase.GONE


def test_a_node_that_can_not_be_reached_is_no_file_that_is_not_there(serve: Serve, connect: Connect) -> None:
    with pytest.raises(ClusterUnreachable):  # Nomad answers 404 for that
        connect(serve(Answer(b"No path to node", 404)).address).read_file("a", "alloc/data/x")

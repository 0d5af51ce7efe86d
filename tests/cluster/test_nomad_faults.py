"""The client on a bad day: nobody there, silence, denial, nonsense, cut answers, redirects, outages."""

import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.nomad import NomadCluster
from caravan.values.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnreachable,
    JobConflict,
    JobNotFound,
    JobRefused,
    UsageError,
)
from caravan.values.run import Phase
from tests.fakes.clock import FakeClock
from tests.fakes.nomad_http import Answer, NomadHttp, Request
from tests.fakes.recordings import load

TOKEN = "b0c1d2e3-secret-of-the-cluster"
JOB: Any = {"ID": "j", "Type": "batch", "TaskGroups": []}
TLS = Path(__file__).parent.parent / "data" / "tls"

Serve = Callable[..., NomadHttp]
Connect = Callable[..., NomadCluster]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[NomadHttp] = []

    def start(answer: Answer | Callable[[Request], Answer], **more: Any) -> NomadHttp:
        servers.append(NomadHttp(answer if callable(answer) else lambda _: answer, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def connect(clock: FakeClock) -> Iterator[Connect]:
    clusters: list[NomadCluster] = []

    def make(address: str, **more: Any) -> NomadCluster:
        settings: dict[str, Any] = {
            "token": TOKEN,
            "namespace": "default",
            "region": None,
            "verify": True,
            "cert": None,
            "clock": clock,
        }
        clusters.append(NomadCluster(address, **(settings | more)))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.fixture(autouse=True)
def _no_log_holds_the_token(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each fault: not even the libraries' own debug lines."""
    caplog.set_level(logging.DEBUG)
    yield
    assert TOKEN not in caplog.text


CALLS: dict[str, Callable[[NomadCluster], Any]] = {
    "facts": lambda c: c.facts(),
    "parse": lambda c: c.parse("job {}"),
    "check": lambda c: c.check(JOB),
    "find": lambda c: c.find("j"),
    "register": lambda c: c.register(JOB),
    "snapshot": lambda c: c.snapshot("j"),
    "logs": lambda c: c.logs("a", "train", "stdout"),
    "read_file": lambda c: c.read_file("a", "alloc/data/x"),
    "stop": lambda c: c.stop("j"),
    "list_files": lambda c: c.list_files("a", "alloc/data"),
    "read_part": lambda c: c.read_part("a", "alloc/data/x", offset=0, limit=1 << 20),
    "variable_names": lambda c: c.variable_names("caravan/x"),
    "token": lambda c: c.token(),
}
SILENT = {"variable_names", "token"}  # whose answers hold secrets: no word of them is said
ONCE = {"register"}  # what is never repeated: without an answer it may have taken effect
READS_JSON = [name for name in CALLS if name not in {"logs", "read_file", "read_part"}]


def failing(call: Callable[[NomadCluster], Any], cluster: NomadCluster) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        call(cluster)
    error = caught.value
    assert TOKEN not in "".join(traceback.format_exception(error))
    assert "\n" not in error.line()
    assert error.hint or isinstance(error, JobNotFound)
    return error


@pytest.mark.parametrize("name", CALLS)
def test_refused_connection(name: str, connect: Connect, clock: FakeClock) -> None:
    with socket.socket() as held:  # bound but not listening: nobody else can take the port
        held.bind(("127.0.0.1", 0))
        error = failing(CALLS[name], connect(f"http://127.0.0.1:{held.getsockname()[1]}"))
    assert type(error) is ClusterUnreachable
    assert "refused" in error.message
    assert "NOMAD_ADDR" in error.hint
    assert len(clock.slept) == (0 if name in ONCE else 2)


@pytest.mark.parametrize("name", CALLS)
def test_silence_is_no_hang(name: str, serve: Serve, connect: Connect) -> None:
    server = serve(Answer(silent=True))
    error = failing(CALLS[name], connect(server.address, timeout=0.2))
    assert isinstance(error, ClusterUnreachable)
    assert "did not answer in time" in error.message
    assert len(server.requests) <= 1  # waiting again would only double the wait


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"Permission denied", 403, {"Content-Type": "text/plain"}),
        Answer(b"invalid workload identity: failed to parse signed token", 500),
    ],
)
def test_denial(name: str, answer: Answer, serve: Serve, connect: Connect) -> None:
    error = failing(CALLS[name], connect(serve(answer).address))
    assert isinstance(error, ClusterDenied)
    assert "NOMAD_TOKEN" in error.hint


@pytest.mark.parametrize("name", CALLS)
def test_a_server_error_is_said_in_its_words(name: str, serve: Serve, connect: Connect) -> None:
    server = serve(Answer(f"it broke on {TOKEN}\nbadly".encode(), 500))
    error = failing(CALLS[name], connect(server.address))
    assert type(error) is ClusterError
    words = "no words" if name in SILENT else "it broke on [masked] badly"
    assert words in error.message
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("answer", [Answer(b"No cluster leader", 500), Answer(b"<html>Bad Gateway</html>", 502)])
def test_a_passing_trouble_is_tried_again_only_where_that_is_safe(
    name: str, answer: Answer, serve: Serve, connect: Connect, clock: FakeClock
) -> None:
    server = serve(answer)
    error = failing(CALLS[name], connect(server.address))
    assert isinstance(error, ClusterUnreachable)
    assert len(server.requests) == (1 if name in ONCE else 6)
    assert sum(clock.slept) == (0 if name in ONCE else pytest.approx(6.2))  # an election takes some seconds


def test_a_passing_trouble_passes(serve: Serve, connect: Connect) -> None:
    answers = iter([Answer(b"No cluster leader", 500), Answer({"ID": "j", "JobModifyIndex": 7})])
    found = connect(serve(lambda _: next(answers)).address).find("j")
    assert found is not None
    assert found.modify_index == 7


@pytest.mark.parametrize("name", READS_JSON)
@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"{not json"),
        Answer(b""),
        Answer(b"\xff\xfe\x00garbage"),
        Answer(b"<html>Welcome to the hotel's network</html>", headers={"Content-Type": "text/html"}),
    ],
)
def test_an_answer_that_is_no_json(name: str, answer: Answer, serve: Serve, connect: Connect) -> None:
    error = failing(CALLS[name], connect(serve(answer).address))
    assert type(error) is ClusterError
    assert "is the address of a Nomad API" in error.hint


@pytest.mark.parametrize("name", [n for n in READS_JSON if n != "stop"])
@pytest.mark.parametrize("body", [None, 3, "text", [1], [{}], [[None]], {"ID": 7, "Status": []}, {"Warnings": 5}])
def test_json_that_is_not_nomads(name: str, body: Any, serve: Serve, connect: Connect) -> None:
    cluster = connect(serve(Answer(body)).address)
    if name == "parse" and isinstance(body, dict):
        return  # any object may be a job here; what it says is compared with the spec elsewhere
    if name == "list_files" and body is None:
        return  # Nomad's word for an empty directory
    if name == "check" and body == {"ID": 7, "Status": []}:
        return  # a validation without a word of complaint
    assert type(failing(CALLS[name], cluster)) is ClusterError


@pytest.mark.parametrize("name", CALLS)
def test_a_cut_body(name: str, serve: Serve, connect: Connect) -> None:
    error = failing(CALLS[name], connect(serve(Answer({"ID": "j"}, cut=50)).address))
    assert isinstance(error, ClusterUnreachable)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_never_carry_the_token(name: str, status: int, serve: Serve, connect: Connect) -> None:
    elsewhere = serve(Answer({"ID": "j", "Version": "stolen"}))
    server = serve(Answer(b"", status, {"Location": f"{elsewhere.address}/v1/jobs"}))
    error = failing(CALLS[name], connect(server.address))
    assert "redirects" in error.message
    assert elsewhere.requests == []
    assert server.requests[0].headers["x-nomad-token"] == TOKEN


def test_tls_is_verified(serve: Serve, connect: Connect) -> None:
    server = serve(Answer({"ID": "j"}), certificate=str(TLS / "cert.pem"), key=str(TLS / "key.pem"))
    for name in CALLS:
        error = failing(CALLS[name], connect(server.address))
        assert isinstance(error, ClusterUnreachable)
        assert "certificate verify failed" in error.message
        assert "NOMAD_CACERT" in error.hint
    assert server.requests == []
    found = connect(server.address, verify=str(TLS / "cert.pem")).find("j")
    assert found is not None
    assert connect(server.address, verify=False).find("j") == found


def test_tls_spoken_to_a_plain_server(serve: Serve, connect: Connect) -> None:
    server = serve(Answer({"ID": "j"}))
    assert isinstance(failing(CALLS["find"], connect(server.address.replace("http", "https"))), ClusterUnreachable)


@pytest.mark.parametrize("address", ["", "127.0.0.1:4646", "ftp://x", "http://", "unix://", "unix://host/x"])
def test_addresses_that_are_none(address: str, connect: Connect) -> None:
    with pytest.raises(UsageError):
        connect(address)


@pytest.mark.parametrize("token", ["with space", "line\nbreak", "schlüssel", "\x00"])
def test_tokens_that_can_not_be_sent(token: str, connect: Connect) -> None:
    with pytest.raises(UsageError) as caught:
        connect("http://127.0.0.1:1", token=token)
    assert token not in str(caught.value)


def test_nothing_is_taken_from_the_environment(serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    other = serve(Answer({"ID": "wrong"}))
    for name, value in {
        "NOMAD_ADDR": other.address,
        "NOMAD_TOKEN": "token-of-another-cluster",
        "NOMAD_NAMESPACE": "elsewhere",
        "NOMAD_REGION": "elsewhere",
        "HTTP_PROXY": other.address,
        "http_proxy": other.address,
    }.items():
        monkeypatch.setenv(name, value)
    server = serve(Answer({"ID": "j", "JobModifyIndex": 1}))
    cluster = connect(server.address, token=None)
    cluster.find("j")
    cluster.register(JOB)
    assert other.requests == []
    assert not any("elsewhere" in str(r) or "another" in str(r) for r in server.requests)


def test_conflict_and_refusal_in_nomads_words(serve: Serve, connect: Connect) -> None:
    exchanges = [e for e in load("register-conflict")["exchanges"] if e["path"] == "/v1/jobs" and e["status"] == 500]
    assert len(exchanges) == 2
    for exchange in exchanges:
        error = failing(CALLS["register"], connect(serve(Answer(exchange["answer"].encode(), 500)).address))
        assert isinstance(error, JobConflict)
    for name in ("invalid-low-resources", "invalid-duplicate-task", "invalid-type", "namespace-missing"):
        exchange = next(e for e in load(name)["exchanges"] if e["path"] == "/v1/jobs")
        error = failing(CALLS["register"], connect(serve(Answer(exchange["answer"].encode(), 500)).address))
        assert isinstance(error, JobRefused)
        assert error.message == exchange["answer"].strip()
    for name in ("parse-unclosed", "parse-one-line", "parse-unknown-attribute"):
        exchange = load(name)["exchanges"][0]
        error = failing(CALLS["parse"], connect(serve(Answer(exchange["answer"].encode(), 400)).address))
        assert isinstance(error, JobRefused)
        assert error.message == exchange["answer"]


def test_logs_that_are_not_there(serve: Serve, connect: Connect) -> None:
    texts = {
        (404, b'task "train" not started yet. No logs available'): b"",
        (404, b'Unknown allocation "a"'): None,
        (400, b'unknown task name "train"'): None,
    }
    for (status, text), expected in texts.items():
        cluster = connect(serve(Answer(text, status)).address)
        if expected is None:
            assert isinstance(failing(CALLS["logs"], cluster), JobNotFound)
        else:
            assert CALLS["logs"](cluster) == expected


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, b'Unknown allocation "a"'),
        (400, b'file "alloc/data/x" is a directory'),
        (400, b"stat /tmp/a/alloc/data/x: no such file or directory"),
        (500, b"open /tmp/a/alloc/data/x: no such file or directory"),
    ],
)
def test_files_that_are_not_there(status: int, text: bytes, serve: Serve, connect: Connect) -> None:
    assert CALLS["read_file"](connect(serve(Answer(text, status)).address)) is None


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (502, b"host not found in upstream nomad-1"),
        (503, b"backend does not exist"),
        (403, b"namespace not found or denied"),
        (500, b"service not found"),
        (404, b""),
    ],
)
def test_a_gateways_troubles_say_nothing_of_a_file(status: int, text: bytes, serve: Serve, connect: Connect) -> None:
    cluster = connect(serve(Answer(text, status)).address)
    for call in (CALLS["read_file"], lambda c: c.list_files("a", "alloc/data")):
        assert not isinstance(failing(call, cluster), JobNotFound)


_TASK: dict[str, Any] = {"State": "running", "StartedAt": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "task",
    [
        {**_TASK, "Events": [{"Type": "Started", "Time": 10**30}]},
        {**_TASK, "Events": [{"Type": "Started", "Time": 1e30}]},
        {**_TASK, "StartedAt": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_times_beyond_all_are_not_nomads(task: dict[str, Any], serve: Serve, connect: Connect) -> None:
    alloc = {"ID": "a", "Name": "n", "ClientStatus": "running", "TaskStates": {"train": task}}

    def answer(request: Request) -> Answer:
        return Answer([alloc] if request.path.endswith("/allocations") else [] if "eval" in request.path else {})

    with pytest.raises(ClusterError, match="not Nomad's"):
        connect(serve(answer).address).snapshot("j")


@pytest.mark.parametrize("index", ["\u00b2", "9" * 5000, "9" * 20, "-1", "x", ""])
def test_an_index_that_is_none_is_no_index(index: str, serve: Serve, connect: Connect) -> None:
    def answer(request: Request) -> Answer:
        lists = request.path.endswith(("/allocations", "/evaluations"))
        return Answer([] if lists else {"Status": "running"}, headers={"X-Nomad-Index": index})

    assert connect(serve(answer).address).snapshot("j").phase is Phase.QUEUED


def test_memory_without_end_is_not_nomads(serve: Serve, connect: Connect) -> None:
    node = {"ID": "n", "Status": "down", "NodeResources": {"Memory": {"MemoryMB": float("inf")}}}

    def answer(request: Request) -> Answer:
        return Answer([node] if request.path == "/v1/nodes" else {})

    with pytest.raises(ClusterError, match="not Nomad's"):
        connect(serve(answer).address).facts()


def test_a_file_too_big_to_be_ours(serve: Serve, connect: Connect) -> None:
    error_or_data = connect(serve(Answer(b"x" * (16 << 20))).address).read_file("a", "alloc/data/x")
    assert error_or_data is not None
    with pytest.raises(ClusterError, match="more than 16 MiB"):
        connect(serve(Answer(b"x" * ((16 << 20) + 1))).address).read_file("a", "alloc/data/x")


def test_no_more_of_a_log_than_asked_for(serve: Serve, connect: Connect) -> None:
    assert connect(serve(Answer(b"x" * 100_000)).address).logs("a", "t", "stdout", limit=10) == b"x" * 10


def test_watch_of_a_cluster_that_never_was_there(connect: Connect, clock: FakeClock) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ClusterUnreachable, match="away for 120 s"):
            next(connect(f"http://127.0.0.1:{held.getsockname()[1]}").watch("j"))
    assert clock.monotonic() >= 120


def test_watch_does_not_wait_where_waiting_is_no_use(serve: Serve, connect: Connect, clock: FakeClock) -> None:
    with pytest.raises(ClusterDenied):
        next(connect(serve(Answer(b"Permission denied", 403)).address).watch("j"))
    assert clock.slept == []

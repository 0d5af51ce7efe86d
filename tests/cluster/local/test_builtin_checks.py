"""Checks of services of the provider `nomad`: they are asked, said, and restart what is unhealthy."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from caravan.cluster.local.checks import Check, ask
from tests.cluster.local.bench import Bench, events, kinds


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code = int(self.path.strip("/"))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(b"said")

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("checks") / "home")
    yield bench
    bench.down()


@pytest.mark.parametrize(("code", "status", "output"), [(200, "success", "nomad: http ok"), (302, "success", "said"),
                                                      (503, "failure", "said")])  # fmt: skip
def test_an_http_check(port: int, code: int, status: str, output: str) -> None:
    check = Check({"Type": "http", "Path": f"/{code}"}, "web", "", "127.0.0.1", port, {"ID": "x"})
    got = ask(check)
    assert (got["Status"], got["StatusCode"], got["Output"], got["ID"]) == (status, code, output, "x")


def test_a_tcp_check(port: int) -> None:
    assert ask(Check({"Type": "tcp"}, "web", "", "127.0.0.1", port, {}))["Output"] == "nomad: tcp ok"
    refused = ask(Check({"Type": "tcp"}, "web", "", "127.0.0.1", 1, {}))
    assert (refused["Status"], refused["Output"]) == ("failure", "dial tcp 127.0.0.1:1: connect: connection refused")


def service(port: int | str, **check: Any) -> dict[str, Any]:
    told = {"Name": "alive", "Type": "tcp", "Interval": 1_000_000_000, "Timeout": 1_000_000_000, **check}
    return {"Name": "web", "Provider": "nomad", "PortLabel": str(port), "Checks": [told]}


def test_results_are_shown_while_the_allocation_lives(bench: Bench, port: int) -> None:
    job = bench.job("sleep 600")
    job["TaskGroups"][0]["Services"] = [service(port)]
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    path = f"/v1/client/allocation/{alloc['ID']}/checks"
    while [c["Status"] for c in bench.get(path).values()] != ["success"]:
        pass
    (shown,) = bench.get(path).values()
    assert (shown["Check"], shown["Service"], shown["Mode"]) == ("alive", "web", "healthiness")
    assert shown["Output"] == "nomad: tcp ok"
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    bench.alloc(job["ID"], "complete")
    assert bench.get(path) == {}


def test_an_unhealthy_task_is_started_anew_as_its_policy_says(bench: Bench) -> None:
    job = bench.job("while true; do sleep 0.05; done")
    policy = {"Attempts": 1, "Mode": "fail", "Interval": 600_000_000_000, "Delay": 1_000_000}
    job["TaskGroups"][0]["RestartPolicy"] = policy
    job["TaskGroups"][0]["Networks"] = [{"Mode": "host", "DynamicPorts": [{"Label": "p"}]}]  # nobody listens there
    job["TaskGroups"][0]["Tasks"][0]["Services"] = [service("p", CheckRestart={"Limit": 1, "Grace": 0})]
    bench.register(job)
    alloc = bench.alloc(job["ID"], "failed")
    told = ["Restart Signaled", "Terminated"]
    assert kinds(alloc)[2:] == ["Started", *told, "Restarting", "Started", *told, "Not Restarting"]
    assert events(alloc)[3]["DisplayMessage"] == 'healthcheck: check "alive" unhealthy'

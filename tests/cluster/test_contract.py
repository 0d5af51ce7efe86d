"""What every Cluster does: the client on the built-in cluster and the fake pass the same tests."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from caravan.cluster.local.control import start, stop
from caravan.cluster.nomad import NomadCluster
from caravan.cluster.watch import SENTINEL_PATH, judge, parse_sentinel
from caravan.ports import Cluster
from caravan.values.errors import JobConflict, JobNotFound, JobRefused
from caravan.values.job import META_SHA, ClusterKind, DeviceGroup
from caravan.values.run import Outcome, OutcomeKind, Phase, Sentinel, Snapshot
from machine import SystemClock
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster, Script, one_node
from tests.fakes.recordings import load

SHA = "5" * 64
UNKNOWN = "00000000-0000-0000-0000-000000000000"

RESULT = (
    """printf '{"job_id": "%s", "spec_sha256": "%s", "exit_code": 0}' """
    '"$NOMAD_JOB_ID" "$NOMAD_META_caravan_spec_sha256" > "$NOMAD_ALLOC_DIR/data/caravan-result.json"'
)

# What the tests' jobs do: as a shell command on a real cluster, as a script on the fake.
WORK: dict[str, tuple[str, Script]] = {
    "good": (
        f"echo hello; echo world; echo oops >&2; {RESULT}",
        Script(stdout=b"hello\nworld\n", stderr=b"oops\n"),
    ),
    "silent": ("exit 0", Script(sentinel=False)),
    "bad": ("echo broken >&2; exit 3", Script(exit_code=3, stderr=b"broken\n", sentinel=False)),
    "endless": ("while :; do sleep 0.2; done", Script(hangs=True)),
    "hungry": ("cat /dev/zero | tail -c 150000000", Script(oom=True)),  # tail keeps 150 MB, the limit is 64
    "absent": ("", Script(driver_error="no such file or directory")),
}

INVENTORY = {
    "about": "one node for the tests",
    "nodes": [
        {
            "name": "test-1",
            "datacenter": "dc1",
            "node_pool": "default",
            "node_class": "",
            "cpu_mhz": 8000,
            "cores": 2,
            "memory_mb": 2048,
            "disk_mb": 10000,
            "attributes": {"kernel.name": "linux", "cpu.arch": "amd64"},
            "drivers": {"raw_exec": {}},
            "devices": [{"vendor": "nvidia", "type": "gpu", "model": "Fake 24GB", "memory_mib": 24564, "count": 2}],
            "host_volumes": {},
        }
    ],
}


@dataclass
class Bench:
    """A cluster and fresh job ids on it."""

    cluster: Cluster
    count: int = 0

    def hcl(self, work: str = "good", **more: Any) -> str:
        self.count += 1
        values = {"driver": "raw_exec", "memory": 64, "resources": "", "command": "/bin/sh"} | more
        if work == "absent":
            values["command"] = "/no/such/program"
        return f"""
job "contract-{work}-{self.count}" {{
  type = "batch"
  meta {{
    {META_SHA} = "{SHA}"
  }}
  group "train" {{
    restart {{
      attempts = 0
      mode     = "fail"
    }}
    reschedule {{
      attempts  = 0
      unlimited = false
    }}
    task "train" {{
      driver       = "{values["driver"]}"
      kill_timeout = "1s"
      config {{
        command = "{values["command"]}"
        args    = ["-c", {json.dumps(WORK[work][0])}]
      }}
      resources {{
        cpu    = 100
        memory = {values["memory"]}
        {values["resources"]}
      }}
    }}
  }}
}}
"""

    def job(self, work: str = "good", **more: Any) -> Any:
        return self.cluster.parse(self.hcl(work, **more))

    def run(self, work: str) -> tuple[str, Snapshot, Outcome]:
        """Register a job and watch it to its end: its id, last snapshot and outcome."""
        job = self.job(work)
        self.cluster.register(job)
        last = list(self.cluster.watch(job["ID"]))[-1]
        data = self.cluster.read_file(last.allocations[-1].id, SENTINEL_PATH) if last.allocations else None
        return job["ID"], last, judge(last, parse_sentinel(data) if data is not None else None, SHA)


@pytest.fixture(scope="module")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = tmp_path_factory.mktemp("cluster")
    inventory = home.parent / "inventory.json"
    inventory.write_text(json.dumps(INVENTORY))
    running = start(home, inventory=inventory, environment={"PATH": os.environ.get("PATH", "/usr/bin:/bin")})
    try:
        client = NomadCluster(
            running.address,
            token=running.token(),
            namespace="default",
            region=None,
            verify=True,
            cert=None,
            clock=SystemClock(),
        )
        yield Bench(client)
        client.close()
    finally:
        stop(home)


def fake() -> Cluster:
    facts = one_node(gpus=2, memory_mb=2048)
    return FakeCluster(FakeClock(), facts=facts, script=lambda job: WORK[job["ID"].split("-")[1]][1])


@pytest.fixture(params=["fake", "builtin"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(fake()) if request.param == "fake" else request.getfixturevalue("builtin")


def until(bench: Bench, job_id: str, good: Callable[[Snapshot], bool]) -> Snapshot:
    """Watch until a snapshot is as wanted."""
    return next(s for s in bench.cluster.watch(job_id) if good(s))


def test_facts(bench: Bench) -> None:
    facts = bench.cluster.facts()
    assert facts.kind is ClusterKind.BUILTIN
    assert facts.shared_files
    assert facts.version
    (node,) = facts.usable_nodes()
    assert node.drivers["raw_exec"].healthy
    assert node.memory_mb == 2048
    assert node.datacenter == "dc1"
    assert node.attributes["kernel.name"] == "linux"
    assert node.devices == (
        DeviceGroup(vendor="nvidia", type="gpu", model="Fake 24GB", count=2, memory_mib=24564, declared=True),
    )


def test_parse_gives_the_canonical_job(bench: Bench) -> None:
    job = bench.job()
    assert job["ID"].startswith("contract-good-")
    assert job["Namespace"] == "default"
    assert job["Meta"] == {META_SHA: SHA}
    (group,) = job["TaskGroups"]
    assert group["Tasks"][0]["Config"]["args"] == ["-c", WORK["good"][0]]


def test_variables_are_written_item_by_item_and_only_their_names_come_back(bench: Bench) -> None:
    path = "nomad/jobs/contract"
    assert bench.cluster.variable_names(path) is None
    bench.cluster.write_variable(path, {"ONE": "first", "TWO": 'odd "text"\n# = {{'})
    bench.cluster.write_variable(path, {"ONE": "changed", "THREE": "x"})
    assert bench.cluster.variable_names(path) == {"ONE", "TWO", "THREE"}


def test_a_variable_is_removed_and_one_that_is_not_there_is_no_error(bench: Bench) -> None:
    path = "nomad/jobs/contract-gone"
    bench.cluster.write_variable(path, {"ONE": "first"})
    bench.cluster.remove_variable(path)
    assert bench.cluster.variable_names(path) is None
    bench.cluster.remove_variable(path)


@pytest.mark.parametrize(("text", "said"), [("", r"^Job spec is empty$"), (" \n", "Missing job block")])
def test_nothing_to_parse(bench: Bench, text: str, said: str) -> None:
    with pytest.raises(JobRefused, match=said):
        bench.cluster.parse(text)


@pytest.mark.parametrize("recording", ["parse-one-line", "parse-unclosed", "parse-unknown-attribute"])
def test_parse_errors_are_nomads(bench: Bench, recording: str) -> None:
    exchange = load(recording)["exchanges"][0]
    with pytest.raises(JobRefused) as caught:
        bench.cluster.parse(exchange["body"]["JobHCL"])
    assert caught.value.message == exchange["answer"]


def test_check_of_a_fine_job(bench: Bench) -> None:
    dry = bench.cluster.check(bench.job())
    assert (dry.errors, dry.failures) == ((), ())


def test_check_of_an_invalid_job(bench: Bench) -> None:
    dry = bench.cluster.check(bench.job(memory=1))
    assert len(dry.errors) == 1
    assert "minimum MemoryMB value is 10; got 1" in dry.errors[0]


GPUS = 'device "nvidia/gpu" {\n count = 3\n }'


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"driver": "podman"}, "train: missing drivers (1 node)"),
        ({"resources": GPUS}, "train: missing devices (1 node)"),
        ({"memory": 100_000}, "train: memory (1 node)"),
    ],
)
def test_check_of_a_job_that_fits_nowhere(bench: Bench, more: dict[str, Any], line: str) -> None:
    dry = bench.cluster.check(bench.job(**more))
    assert dry.errors == ()
    assert [f.line() for f in dry.failures] == [line]
    assert dry.failures[0].nodes_available == {"dc1": 1}


def test_a_check_registers_nothing(bench: Bench) -> None:
    job = bench.job()
    bench.cluster.check(job)
    assert bench.cluster.find(job["ID"]) is None
    assert bench.cluster.snapshot(job["ID"]).phase is Phase.GONE


def test_register_then_find(bench: Bench) -> None:
    job = bench.job("endless")
    assert bench.cluster.find(job["ID"]) is None
    registered = bench.cluster.register(job)
    assert (registered.id, registered.namespace, registered.spec_sha256) == (job["ID"], "default", SHA)
    found = bench.cluster.find(job["ID"])
    assert found is not None
    assert (found.id, found.spec_sha256, found.stopped) == (job["ID"], SHA, False)
    assert found.modify_index == registered.modify_index > 0

    for _ in range(2):  # the second time it is stopped, and its id is still taken
        with pytest.raises(JobConflict):
            bench.cluster.register(job)
        bench.cluster.stop(job["ID"])


def test_an_invalid_job_is_not_registered(bench: Bench) -> None:
    job = bench.job(memory=1)
    with pytest.raises(JobRefused, match="minimum MemoryMB value is 10; got 1"):
        bench.cluster.register(job)
    assert bench.cluster.find(job["ID"]) is None


def test_a_good_job_is_watched_to_its_end(bench: Bench) -> None:
    job = bench.job()
    bench.cluster.register(job)
    seen = list(bench.cluster.watch(job["ID"]))
    assert seen[-1].phase is Phase.ENDED
    assert all(s.phase in {Phase.QUEUED, Phase.STARTING, Phase.RUNNING} for s in seen[:-1])
    assert [s.at for s in seen] == sorted(s.at for s in seen)
    last = seen[-1]
    (alloc,) = last.allocations
    assert (alloc.client_status, alloc.group, last.reason) == ("complete", "train", "")
    data = bench.cluster.read_file(alloc.id, SENTINEL_PATH)
    assert data is not None
    sentinel = parse_sentinel(data)
    assert sentinel == Sentinel(job_id=job["ID"], spec_sha256=SHA, exit_code=0)
    outcome = judge(last, sentinel, SHA)
    assert (outcome.kind, outcome.exit_code, outcome.task) == (OutcomeKind.SUCCEEDED, 0, "train")
    assert outcome.started_at is not None
    assert outcome.finished_at is not None
    # A job that has ended is watched in one step.
    assert [s.phase for s in bench.cluster.watch(job["ID"])] == [Phase.ENDED]


def test_a_job_without_result_file_is_unproven(bench: Bench) -> None:
    assert bench.run("silent")[2].kind is OutcomeKind.UNPROVEN


def test_a_failing_job(bench: Bench) -> None:
    _, last, outcome = bench.run("bad")
    assert (outcome.kind, outcome.exit_code, outcome.oom_killed) == (OutcomeKind.FAILED, 3, False)
    assert outcome.reason == last.reason == "train: exit code 3"
    assert bench.cluster.logs(last.allocations[0].id, "train", "stderr") == b"broken\n"


def test_a_task_over_its_memory_limit(bench: Bench) -> None:
    _, last, outcome = bench.run("hungry")
    assert (outcome.kind, outcome.exit_code, outcome.oom_killed) == (OutcomeKind.FAILED, 137, True)
    assert "out of memory" in last.reason


def test_a_task_that_can_not_start(bench: Bench) -> None:
    _, last, outcome = bench.run("absent")
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.FAILED, None)
    assert outcome.reason.startswith("train: Driver Failure: ")
    assert bench.cluster.logs(last.allocations[0].id, "train", "stdout") == b""


def test_logs_from_an_offset(bench: Bench) -> None:
    alloc = bench.run("good")[1].allocations[0].id
    logs = bench.cluster.logs
    assert logs(alloc, "train", "stdout") == b"hello\nworld\n"
    assert logs(alloc, "train", "stderr") == b"oops\n"
    assert logs(alloc, "train", "stdout", offset=6) == b"world\n"
    assert logs(alloc, "train", "stdout", limit=5) == b"hello"
    assert logs(alloc, "train", "stdout", offset=2, limit=3) == b"llo"
    assert logs(alloc, "train", "stdout", offset=12) == b""
    assert logs(alloc, "train", "stdout", offset=1000) == b""
    with pytest.raises(JobNotFound):
        logs(UNKNOWN, "train", "stdout")
    with pytest.raises(JobNotFound):
        logs(alloc, "nope", "stdout")


def test_files_that_are_not_there(bench: Bench) -> None:
    alloc = bench.run("silent")[1].allocations[0].id
    assert bench.cluster.read_file(alloc, SENTINEL_PATH) is None
    assert bench.cluster.read_file(alloc, "alloc/data/no/such") is None
    assert bench.cluster.read_file(UNKNOWN, SENTINEL_PATH) is None


def test_a_running_job_is_stopped(bench: Bench) -> None:
    job = bench.job("endless")
    bench.cluster.register(job)
    running = until(bench, job["ID"], lambda s: s.phase is Phase.RUNNING)
    assert running.allocations[0].client_status == "running"
    bench.cluster.stop(job["ID"])
    last = until(bench, job["ID"], lambda s: s.phase is Phase.ENDED)
    assert last.stopped
    outcome = judge(last, Sentinel(job_id=job["ID"], spec_sha256=SHA, exit_code=0), SHA)
    assert outcome.kind is OutcomeKind.INTERRUPTED
    found = bench.cluster.find(job["ID"])
    assert found is not None
    assert found.stopped


def test_a_job_that_fits_nowhere_waits_and_says_why(bench: Bench) -> None:
    job = bench.job(memory=100_000)
    bench.cluster.register(job)
    waiting = until(bench, job["ID"], lambda s: s.reason.startswith("train: "))
    assert waiting.phase is Phase.QUEUED
    assert waiting.reason == "train: memory (1 node)"
    assert judge(waiting, None, SHA).kind is OutcomeKind.NOT_PLACED
    bench.cluster.stop(job["ID"])
    last = until(bench, job["ID"], lambda s: s.phase is Phase.ENDED)
    outcome = judge(last, None, SHA)
    assert outcome.kind is OutcomeKind.NOT_PLACED
    assert "memory" in outcome.reason


def test_a_purged_job_is_gone(bench: Bench) -> None:
    job_id, _, _ = bench.run("good")
    bench.cluster.stop(job_id, purge=True)
    assert bench.cluster.find(job_id) is None
    assert bench.cluster.snapshot(job_id).phase is Phase.GONE
    assert [s.phase for s in bench.cluster.watch(job_id)] == [Phase.GONE]


def test_stopping_what_is_not_there_is_no_error(bench: Bench) -> None:
    bench.cluster.stop("contract-none")
    bench.cluster.stop("contract-none", purge=True)


def test_files_of_an_allocation(bench: Bench) -> None:
    _, last, _ = bench.run("good")
    alloc = last.allocations[-1].id
    listed = bench.cluster.list_files(alloc, "alloc/data")
    assert listed is not None
    assert [(f.name, f.is_dir) for f in listed] == [("caravan-result.json", False)]
    whole = bench.cluster.read_file(alloc, SENTINEL_PATH)
    assert whole is not None
    assert listed[0].size == len(whole)
    assert bench.cluster.read_part(alloc, SENTINEL_PATH, offset=2, limit=6) == whole[2:8]
    assert bench.cluster.read_part(alloc, SENTINEL_PATH, offset=len(whole), limit=6) == b""
    assert bench.cluster.list_files(alloc, "alloc/data/none") is None
    assert bench.cluster.list_files(UNKNOWN, "alloc/data") is None
    for missing in (alloc, UNKNOWN):
        with pytest.raises(JobNotFound):
            bench.cluster.read_part(missing, "alloc/data/none", offset=0, limit=6)


def test_a_followed_log_ends_with_its_task(bench: Bench) -> None:
    _, last, _ = bench.run("good")
    alloc = last.allocations[-1].id
    assert b"".join(bench.cluster.follow_log(alloc, "train", "stdout")) == b"hello\nworld\n"
    assert b"".join(bench.cluster.follow_log(alloc, "train", "stdout", offset=6)) == b"world\n"
    with pytest.raises(JobNotFound):
        list(bench.cluster.follow_log(UNKNOWN, "train", "stdout"))


def test_a_quiet_log_gives_heartbeats(bench: Bench) -> None:
    job = bench.job("endless")
    bench.cluster.register(job)
    running = until(bench, job["ID"], lambda s: s.phase is Phase.RUNNING)
    followed = bench.cluster.follow_log(running.allocations[-1].id, "train", "stdout")
    assert (next(followed), next(followed)) == (b"", b"")
    bench.cluster.stop(job["ID"])
    assert b"".join(followed) == b""


def test_a_cluster_without_acls_knows_no_token(bench: Bench) -> None:
    assert bench.cluster.token() is None

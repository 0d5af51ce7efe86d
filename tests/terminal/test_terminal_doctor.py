"""`doctor`: what it says of an installation and its cluster, its exit codes, and that it never tells a secret."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from caravan.terminal import doctor as module
from caravan.terminal import road_checks
from caravan.terminal.app import run
from caravan.terminal.checkup import RIGHTS, cluster_findings
from caravan.values.checkup import Area, Examination, Finding, Heard, Level, Probe
from caravan.values.errors import ClusterUnreachable, ServiceError, StateError, UsageError
from caravan.values.job import ClusterFacts, DeviceGroup, DriverFacts, HostVolume, TokenFacts
from caravan.values.policy import Policies
from caravan.values.settings import ConfigPlace
from config_control import ConfigControl
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import one_node
from tests.fakes.wiring import FakeWiring, nobody, printed

NOW = FakeClock().now()
NAMES = ("leader", "token", *(right.probe for right in RIGHTS))
SCHEDULER = {"oversubscription": False, "preemption": False, "closed": False}


def examination(facts: ClusterFacts | None = None, **more: Any) -> Examination:
    """A cluster that says yes to everything; `more` replaces fields, `said` what some probes heard."""
    said: dict[str, Heard] = more.pop("said", {})
    found = {"leader": "10.0.0.1:4647"}
    probes = [Probe(name=n, heard=said.get(n, Heard.OK), found=found.get(n), seconds=0.02) for n in NAMES]
    probes += [
        Probe(name="namespaces", heard=Heard.OK, found=["default"]),
        Probe(name="regions", heard=Heard.OK, found=["global"]),
        Probe(name="scheduler", heard=Heard.OK, found=SCHEDULER),
    ]
    values: dict[str, Any] = {
        "address": "https://nomad.example",
        "has_token": True,
        "verified": True,
        "probes": tuple(probes),
        "facts": facts or one_node(gpus=2, builtin=False),
        "token": TokenFacts(name="ci", policies=("caravan",)),
        **more,
    }
    return Examination(**values)


def judged(exam: Examination) -> dict[str, Finding]:
    """The findings by name, the worst of those of one name."""
    order = (Level.OK, Level.SKIPPED, Level.WARNING, Level.FAILURE)
    found: dict[str, Finding] = {}
    for finding in cluster_findings(exam, NOW):
        before = found.get(finding.name)
        if before is None or order.index(finding.level) > order.index(before.level):
            found[finding.name] = finding
    return found


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    made = FakeWiring(home)
    made.examination = examination()
    return made


def asked(wiring: FakeWiring, *options: str) -> tuple[int, dict[str, Any]]:
    terminal = nobody()
    code = run(wiring, ["doctor", "--json", *options], terminal)
    document = json.loads(printed(terminal)[0])
    assert document["exit_code"] == code
    return code, document


def level_of(document: dict[str, Any], name: str) -> str:
    return str(next(c["level"] for c in document["checks"] if c["name"] == name))


def test_all_is_well(wiring: FakeWiring) -> None:
    code, document = asked(wiring, "--cluster", "http://a.invalid:4646")
    assert (code, document["ready"]) == (0, True)
    assert {c["level"] for c in document["checks"]} <= {"ok", "warning"}
    assert wiring.clusters == ["http://a.invalid:4646"]


def test_for_people_it_is_a_line_for_each_check_and_one_in_the_end(wiring: FakeWiring) -> None:
    terminal = nobody()
    assert run(wiring, ["doctor"], terminal) == 0
    lines = printed(terminal)[0].splitlines()
    assert lines[0].startswith("ok       settings")
    assert lines[-1].startswith("Ready: ")
    assert any(line.startswith("ok       GPUs            2 × Fake 24GB (24 GiB) on fake-1") for line in lines)


def test_the_built_in_cluster_is_not_started(wiring: FakeWiring) -> None:
    wiring.examination = None
    code, document = asked(wiring, "--cluster", "local")
    assert code == 0
    assert "does not run" in next(c["text"] for c in document["checks"] if c["name"] == "cluster")
    assert wiring.local_cluster.running is None


def test_settings_that_are_wrong_end_it(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> Any:
        raise UsageError("CARAVAN_SOFT_LIMIT_USD is no number.", hint="Set it anew.")

    monkeypatch.setattr(wiring, "settings", wrong)
    code, document = asked(wiring)
    assert (code, len(document["checks"])) == (2, 1)
    assert wiring.clusters == []


def test_a_database_that_does_not_open_leaves_the_rest_to_be_checked(
    wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise StateError("The database is damaged.", hint="Move it away.")

    monkeypatch.setattr(wiring, "store", broken)
    code, document = asked(wiring)
    assert code == 2
    assert level_of(document, "database") == "failure"
    assert level_of(document, "address") == "ok"


def test_what_was_not_foreseen_is_said_and_is_no_silence(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("no such column: runs.colour")

    monkeypatch.setattr(wiring, "store", broken)
    _, document = asked(wiring)
    (found,) = [check for check in document["checks"] if check["name"] == "database"]
    assert (found["level"], "RuntimeError" in found["text"]) == ("failure", True)
    assert "no such column: runs.colour" in found["text"]
    assert "No answer" not in found["text"]


def test_memory_is_another_service(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> Any:
        raise ServiceError("Qdrant does not answer.", hint="Start it.")

    monkeypatch.setattr(wiring, "memory", down)
    assert asked(wiring)[0] == 5

    def off() -> Any:
        raise ServiceError("The memory is switched off.", hint="CARAVAN_MEMORY=0 does that: unset it.")

    monkeypatch.setattr(wiring, "memory", off)
    assert asked(wiring)[0] == 0


def test_a_policy_that_can_not_be_relied_on(wiring: FakeWiring) -> None:
    wiring.law = Policies(trouble="The policy /etc/caravan/policy.toml can't be read.")
    code, document = asked(wiring)
    assert code == 2
    assert level_of(document, "policy") == "failure"


def test_a_cluster_that_is_away(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(name="leader", heard=Heard.UNREACHABLE, message="It can't be reached.", hint="Check the address.")
    wiring.examination = examination(probes=(probe,), facts=None, token=None)
    code, document = asked(wiring)
    assert code == 4
    assert document["summary"].startswith("Not ready: 1 of")

    def refused(request: Any) -> Any:
        raise ClusterUnreachable("No route.")

    monkeypatch.setattr(wiring, "examine", refused)
    assert asked(wiring)[0] == 4


def test_no_secret_is_told(wiring: FakeWiring) -> None:
    wiring.known = ("s3cr3t-token-value",)
    probe = Probe(
        name="leader", heard=Heard.FAILED, message="Refused s3cr3t-token-value", hint="not s3cr3t-token-value"
    )
    wiring.examination = examination(probes=(probe,))
    terminal = nobody()
    run(wiring, ["doctor"], terminal)
    assert "s3cr3t-token-value" not in "".join(printed(terminal))


def test_a_check_that_hangs_is_left(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    never = Event()

    def hangs() -> Any:
        never.wait(30)
        raise StateError("Too late.")

    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(wiring, "store", hangs)
    try:
        code, document = asked(wiring)
    finally:
        never.set()
    assert code == 2
    assert "No answer within" in next(c["text"] for c in document["checks"] if c["name"] == "database")


def test_a_home_that_others_may_look_into(wiring: FakeWiring) -> None:
    wiring.home.chmod(0o755)
    code, document = asked(wiring)
    assert code == 0
    assert level_of(document, "permissions") == "warning"


@pytest.mark.parametrize(
    ("change", "name", "level", "words"),
    [
        ({"verified": False}, "TLS", Level.WARNING, "not checked"),
        ({"verified": None}, "TLS", Level.WARNING, "https"),
        ({"left_out": ("Nomad 2.0.2 brought a limit.",)}, "version", Level.WARNING, "2.0.2"),
        ({"token": None, "has_token": False}, "token", Level.OK, "asks for no token"),
        ({"token": TokenFacts(management=True)}, "token", Level.WARNING, "everything"),
        ({"token": TokenFacts(expires_at=NOW + timedelta(hours=2))}, "token", Level.WARNING, "expires in 2"),
        ({"token": TokenFacts(expires_at=NOW - timedelta(hours=2))}, "token", Level.FAILURE, "has expired"),
        ({"namespace": "ml"}, "namespace", Level.FAILURE, "no namespace ml"),
        ({"said": {"plan": Heard.DENIED}}, "may plan", Level.FAILURE, "submit-job"),
        ({"said": {"read-logs": Heard.DENIED}}, "may read-logs", Level.FAILURE, "read-logs"),
        ({"said": {"read-logs": Heard.ABSENT}}, "may read-logs", Level.OK, "Nobody forbids"),
        ({"said": {"events": Heard.DENIED}}, "may events", Level.WARNING, "blocking queries"),
        ({"said": {"variables": Heard.DENIED}}, "may variables", Level.WARNING, "nomad/jobs"),
        ({"said": {"parse": Heard.UNREACHABLE}}, "may parse", Level.FAILURE, ""),
    ],
)
def test_what_an_answer_means(change: dict[str, Any], name: str, level: Level, words: str) -> None:
    finding = judged(examination(**change))[name]
    assert finding.level is level
    assert words in f"{finding.text} {finding.hint}"


ALL_DENIED = dict.fromkeys((right.probe for right in RIGHTS), Heard.DENIED)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"said": {"token": Heard.DENIED, **ALL_DENIED}, "token": None}, ""),
        ({"said": ALL_DENIED, "token": TokenFacts(expires_at=NOW - timedelta(hours=2))}, "has expired"),
        ({"said": ALL_DENIED, "has_token": False, "token": None}, "No token was sent"),
        ({"said": ALL_DENIED, "has_token": False, "token": TokenFacts(name="Anonymous Token")}, "No token was sent"),
        ({"said": ALL_DENIED, "has_token": False, "kept_back": "NOMAD_TOKEN belongs elsewhere."}, "belongs elsewhere"),
    ],
)
def test_a_token_that_is_wrong_is_one_failure_and_no_policy_is_blamed(change: dict[str, Any], words: str) -> None:
    exam = examination(**change).model_copy(update={"facts": None})
    found = cluster_findings(exam, NOW)
    (failure,) = [f for f in found if f.level is Level.FAILURE]
    assert failure.name == "token"
    assert words in failure.text
    assert not any("policy" in f.hint for f in found)
    assert {f.text for f in found if f.name.startswith("may ")} == {"Not known: see token."}


def test_the_built_in_cluster_says_nothing_of_its_token() -> None:
    found = judged(examination(one_node(gpus=2), token=None))["token"]
    assert (found.level, found.text) == (Level.OK, "It tells nothing about its token.")


def nodes(**change: Any) -> ClusterFacts:
    facts = one_node(gpus=2, builtin=False)
    return facts.model_copy(update={"nodes": (facts.nodes[0].model_copy(update=change),)})


REAL_GPU = (DeviceGroup(vendor="nvidia", type="gpu", model="NVIDIA L4", count=1, memory_mib=23034),)


@pytest.mark.parametrize(
    ("facts", "name", "level", "words"),
    [
        (nodes(eligible=False), "nodes", Level.FAILURE, "None of 1 nodes"),
        (nodes(node_pool="gpu"), "node pools", Level.WARNING, "default"),
        (nodes(drivers={"java": DriverFacts()}), "drivers", Level.FAILURE, "docker, exec, raw_exec"),
        (
            nodes(drivers={"docker": DriverFacts(healthy=False), "exec": DriverFacts()}),
            "drivers",
            Level.WARNING,
            "docker",
        ),
        (nodes(devices=()), "GPUs", Level.WARNING, "No node tells of a GPU"),
        (
            nodes(devices=REAL_GPU, drivers={"docker": DriverFacts(runtimes=("runc",))}),
            "GPU software",
            Level.WARNING,
            "no nvidia runtime",
        ),
        (nodes(attributes={"driver.nvidia.version": "570.86.15"}), "GPU software", Level.OK, "570.86.15"),
        (nodes(), "outputs", Level.WARNING, "vanishes"),
        (nodes(), "outputs", Level.WARNING, "--set outputs=s3://BUCKET/runs"),
        (nodes(host_volumes={"out": HostVolume(path="/srv/out")}), "volumes", Level.OK, "for outputs: out"),
        (
            nodes(host_volumes={"data": HostVolume(path="/srv/data", read_only=True)}),
            "outputs",
            Level.WARNING,
            "no volume to write to",
        ),
        (nodes().model_copy(update={"csi_volumes": ("models",)}), "volumes", Level.OK, "CSI volumes: models"),
        (nodes().model_copy(update={"region": "eu"}), "region", Level.FAILURE, "no region eu"),
    ],
)
def test_what_a_cluster_has(facts: ClusterFacts, name: str, level: Level, words: str) -> None:
    finding = judged(examination(facts))[name]
    assert finding.level is level
    assert words in f"{finding.text} {finding.hint}"


def test_what_can_not_be_read_is_said_to_be_unknown() -> None:
    found = judged(examination(said={"nodes": Heard.DENIED}).model_copy(update={"facts": None}))
    assert found["may nodes"].level is Level.FAILURE
    assert found["nodes"].level is Level.SKIPPED
    assert found["version"].level is Level.SKIPPED


def test_the_road_is_looked_at_and_what_hangs_is_left(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    never = Event()
    good = Finding(area=Area.SERVICE, name="code store", level=Level.OK, text="It answers.")

    def hangs() -> Finding:
        never.wait(30)
        return good

    monkeypatch.setattr(road_checks, "_PATIENCE_S", 0.2)
    wiring.looks = [("notify", hangs), ("code store", lambda: good)]
    try:
        code, document = asked(wiring)
    finally:
        never.set()
    assert level_of(document, "notify") == "failure"
    assert code == 5
    assert level_of(document, "prices") == "ok"
    assert level_of(document, "config files") == "ok"


def test_a_file_of_settings_that_is_not_trusted_is_said(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ConfigPlace("/work/caravan.toml", exists=True, in_force=True, trusted=False)
    monkeypatch.setattr(ConfigControl, "places", lambda _: [place])
    code, document = asked(wiring)
    assert code == 0
    (warned,) = [c for c in document["checks"] if c["name"] == "config files" and c["level"] == "warning"]
    assert "config trust" in warned["hint"]


def test_a_process_whose_check_hangs_ends_all_the_same(tmp_path: Path) -> None:
    script = (
        "import sys, threading, main\n"
        "threading.Thread(target=threading.Event().wait, daemon=True, name='caravan-doctor').start()\n"
        "print('said')\n"
        "main._end(5)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, "said\n", "")

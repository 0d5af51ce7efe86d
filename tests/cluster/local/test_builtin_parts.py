"""The pure parts of the built-in cluster: formats, constraints, placement, restarts, templates, memory."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.cluster.local import constraints, scheduler
from caravan.cluster.local.allocs import new_alloc
from caravan.cluster.local.canonical import ShapeError, canonical_job, same_spec
from caravan.cluster.local.envfiles import BadEnv, parse_env
from caravan.cluster.local.inventory import Node, measure, parse_inventory
from caravan.cluster.local.memory_guard import PollGuard, tree_of
from caravan.cluster.local.reconcile import Wanted
from caravan.cluster.local.restarts import Tracker
from caravan.cluster.local.taskdir import EscapesDirectory, inside
from caravan.cluster.local.taskenv import inheritable
from caravan.cluster.local.templates import TemplateRefused, render
from caravan.cluster.local.words import SECOND, go_duration, grouped, parse_duration, rfc3339
from tests.cluster.local.bench import NODE, PYTHON


@given(st.integers(min_value=1, max_value=10**18))
def test_durations_are_read_as_they_are_written(ns: int) -> None:
    assert parse_duration(go_duration(ns)) == pytest.approx(ns, rel=1e-12, abs=1)


def test_formats() -> None:
    assert [go_duration(n) for n in (0, 1500, 5 * SECOND, 600 * SECOND, 3600 * SECOND, 1_105_545_605)] == [
        "0s",
        "1.5µs",
        "5s",
        "10m0s",
        "1h0m0s",
        "1.105545605s",
    ]
    assert rfc3339(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert grouped(["a"]) == "1 error occurred:\n\t* a\n\n"
    for wrong in ("", "5", "5 s", "h", "1d"):
        with pytest.raises(ValueError, match="duration"):
            parse_duration(wrong)


@pytest.mark.parametrize(
    ("operator", "left", "right", "good"),
    [
        ("=", "linux", "linux", True),
        ("=", "81920 MiB", "80 GiB", True),
        ("!=", "a", None, True),
        (">=", "81920 MiB", "40 GiB", True),
        (">=", "81920 MiB", "120 GiB", False),
        (">", "9", "10", False),
        (">", "b", "a", True),
        (">", "1 GHz", "1 GiB", False),
        ("is_set", None, "", False),
        ("is_not_set", None, "", True),
        ("regexp", "NVIDIA A100", "A1?00$", True),
        ("regexp", "x", "(", False),
        ("version", "20.10.24+dfsg1", ">= 20.0, < 21", True),
        ("semver", "1.2.0-beta", ">= 1.2.0", False),
        ("version", "1.3.5", "~> 1.3.1", True),
        ("version", "nothing", ">= 1", False),
        ("set_contains", "a,b,c", "a, c", True),
        ("set_contains_any", "a,b", "x,b", True),
        ("=", None, "x", False),
        ("unheard", "x", "x", False),
    ],
)
def test_constraints(operator: str, left: str | None, right: str | None, good: bool) -> None:
    assert constraints.matches(operator, left, right) is good


@given(st.text(), st.text(), st.sampled_from(sorted(constraints._OPERATORS)))
def test_no_text_breaks_a_constraint(left: str, right: str, operator: str) -> None:
    assert constraints.matches(operator, left, right) in (True, False)


def node(name: str, **more: Any) -> Node:
    return parse_inventory({"nodes": [{**NODE, "name": name, **more}]}, "test").nodes[0]


def job(**resources: Any) -> dict[str, Any]:
    task = {"Name": "t", "Driver": "raw_exec", "Resources": {"CPU": 1000, "MemoryMB": 1000, **resources}}
    return canonical_job({"ID": "j", "Type": "batch", "TaskGroups": [{"Name": "g", "Tasks": [task]}]})


def place(asked: dict[str, Any], nodes: list[Node], count: int = 1) -> list[Any]:
    """Place the job's group so many times, one after the other."""
    found: list[Any] = []
    held: list[dict[str, Any]] = []
    for number in range(count):
        placed = scheduler.place(asked, asked["TaskGroups"][0], nodes, held)
        found.append(placed)
        if isinstance(placed, scheduler.Placement):
            held.append(new_alloc(asked, Wanted(asked["TaskGroups"][0], f"j.g[{number}]"), placed, "e"))
    return found


def test_nodes_of_a_class_are_filtered_together() -> None:
    asked = job()
    asked["TaskGroups"][0]["Tasks"][0]["Driver"] = "podman"
    (metrics,) = place(asked, [node("a"), node("b"), node("c", attributes={"kernel.name": "other"})])
    assert metrics.constraint_filtered == {"missing drivers": 2, "computed class ineligible": 1}
    assert (metrics.evaluated, metrics.filtered, metrics.available) == (3, 3, {"dc1": 3})


def test_unique_attributes_are_looked_at_on_every_node() -> None:
    asked = job()
    asked["Constraints"] = [{"LTarget": "${node.unique.name}", "RTarget": "b", "Operand": "="}]
    (placed,) = place(asked, [node("a"), node("b")])
    assert placed.node.name == "b"
    assert placed.metrics.constraint_filtered == {"${node.unique.name} = b": 1}


@pytest.mark.parametrize(
    ("resources", "dimension"),
    [
        ({"MemoryMB": 5000}, "memory"),
        ({"CPU": 9000}, "cpu"),
        ({"Cores": 5}, "cores"),
    ],
)
def test_what_is_exhausted(resources: dict[str, Any], dimension: str) -> None:
    (metrics,) = place(job(**resources), [node("a")])
    assert metrics.dimension_exhausted == {dimension: 1}
    assert metrics.shown()["ResourcesExhausted"]["t"]


def test_room_is_used_up_and_then_there_is_none() -> None:
    found = place(job(), [node("a")], count=5)
    assert [isinstance(f, scheduler.Placement) for f in found] == [True] * 4 + [False]
    assert found[4].dimension_exhausted == {"memory": 1}


def test_pool_and_datacenter() -> None:
    nodes = [node("a", node_pool="gpu"), node("b", datacenter="east-1"), node("c", datacenter="west")]
    asked = job() | {"Datacenters": ["east-*"]}
    assert place(asked, nodes)[0].node.name == "b"
    assert place(job() | {"NodePool": "gpu"}, nodes)[0].node.name == "a"
    assert place(job() | {"Datacenters": ["mars"]}, nodes)[0].shown()["NodesAvailable"] == {}


def test_distinct_hosts() -> None:
    asked = job()
    asked["TaskGroups"][0]["Constraints"] = [{"Operand": "distinct_hosts"}]
    found = place(asked, [node("a"), node("b")], count=3)
    assert {f.node.name for f in found[:2]} == {"a", "b"}
    assert found[2].constraint_filtered == {"distinct_hosts": 2}


def test_affinity_and_device_affinity() -> None:
    asked = job(
        Devices=[{"Name": "gpu", "Affinities": [{"LTarget": "${device.model}", "RTarget": "L4", "Operand": "="}]}]
    )
    asked["Affinities"] = [{"LTarget": "${node.class}", "RTarget": "good", "Operand": "=", "Weight": 100}]
    cards = [{"model": "T4", "count": 1}, {"model": "L4", "count": 1}]
    (placed,) = place(asked, [node("a", devices=cards), node("b", devices=cards, node_class="good")])
    assert placed.node.name == "b"
    assert placed.resources["tasks"]["t"]["Devices"][0]["Name"] == "L4"


def test_defaults_and_sameness_of_jobs() -> None:
    one = canonical_job({"ID": "x", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t", "Driver": "raw_exec"}]}]})
    assert (one["Datacenters"], one["NodePool"], one["Type"], one["Priority"]) == (["*"], "default", "service", 50)
    assert canonical_job(one) == one
    assert same_spec(one, {**one, "ModifyIndex": 9, "Status": "dead"})
    assert not same_spec(one, {**one, "Meta": {"a": "b"}})
    with pytest.raises(ShapeError):
        canonical_job({"ID": "x", "TaskGroups": "g"})


def test_restart_rule() -> None:
    policy = {"Attempts": 2, "Interval": 60 * SECOND, "Delay": SECOND, "Mode": "fail"}
    now = 1000 * SECOND

    def tracker(*, on_success: bool = False, restarts: int = 0, **changes: Any) -> Tracker:
        return Tracker({**policy, **changes}, on_success=on_success, now=now, restarts=restarts)

    again = tracker().next_run(now, failed=True, hopeless=False)
    assert again.again
    assert SECOND <= again.delay <= 1.25 * SECOND
    over = tracker(restarts=2).next_run(now + 1, failed=True, hopeless=False)
    assert over.reason == 'Exceeded allowed attempts 2 in interval 1m0s and mode is "fail"'
    assert tracker(restarts=2).next_run(now + 61 * SECOND, failed=True, hopeless=False).again
    well = tracker().next_run(now, failed=False, hopeless=False)
    assert (well.again, well.failed) == (False, False)
    assert tracker(on_success=True).next_run(now, failed=False, hopeless=False).again
    assert tracker().next_run(now, failed=True, hopeless=True).reason == "Error was unrecoverable"
    waiting = tracker(restarts=2, Mode="delay").next_run(now + 10 * SECOND, failed=True, hopeless=False)
    assert (waiting.again, waiting.delay) == (True, 50 * SECOND)
    none = tracker(Attempts=0, Mode="delay").next_run(now, failed=True, hopeless=False)
    assert (none.failed, none.reason) == (True, "Policy allows no restarts")


@given(st.text().filter(lambda t: "{{" not in t))
def test_a_template_without_actions_stays_as_it_is(text: str) -> None:
    assert render(text, {}) == text


def test_template_actions() -> None:
    text = 'a {{ env "X" }}{{/* no */}} {{- "q\\"" -}}  z {{ env `Y` }}'
    assert render(text, {"X": "1"}) == 'a 1q"z '
    for wrong in ("{{ x", "{{ range }}", '{{ key "a" }}'):
        with pytest.raises(TemplateRefused):
            render(wrong, {})
    assert parse_env("A=1\nexport B = 'two'\nC=\"x\\ny\"\n#c\n\nD=") == {"A": "1", "B": "two", "C": "x\ny", "D": ""}
    with pytest.raises(BadEnv, match="error on line 1: missing ="):
        parse_env("nonsense")


SERVICES = [
    {"Name": "rdzv", "Address": "127.0.0.1", "Port": 20 + i, "Tags": [f"rank-{i}"], "AllocID": str(i)} for i in (1, 0)
]


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ('{{ range nomadService "rdzv" }}{{ .Address }}:{{ .Port }} {{ .Tags }}|{{ end }}',
         "127.0.0.1:20 [rank-0]|127.0.0.1:21 [rank-1]|"),
        ('{{ range $i, $s := nomadService "rdzv" }}{{ if $i }},{{ end }}{{ $s.Port }}{{ end }}', "20,21"),
        ('{{ range nomadService "none" }}x{{ else }}nobody{{ end }}', "nobody"),
        ('{{ with $x := env "X" }}{{ $x | toUpper | printf "%s-%s" "a" }}{{ end }}', "a-THREE"),
        ('{{ if eq (env "X") "one" "two" }}yes{{ else if true }}no{{ end }}', "no"),
        ('{{ if and (env "X") (not false) -}}  q {{- end }}', "q"),
        ('{{ index (split "," "a,b,c") 1 }} {{ len "four" }} {{ join "-" (split "," "a,b") }}', "b 4 a-b"),
        ("{{ toJSON (nomadServices) }}", '[{"Name":"rdzv","Tags":["rank-0","rank-1"]}]'),
        ("{{ printf `%q %5.2f%%` \"x\" 1.5 }}", '"x"  1.50%'),
    ],
)  # fmt: skip
def test_templates_in_gos_language(text: str, rendered: str) -> None:
    assert render(text, {"X": "three"}, services=lambda: SERVICES) == rendered


@given(st.text(alphabet="./ab", max_size=30))
def test_no_path_escapes(path: str) -> None:
    root = Path("/tmp/some/root")
    try:
        found = inside(root, path)
    except EscapesDirectory:
        return
    assert found == root or root in found.parents


def test_what_tasks_inherit() -> None:
    given = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "NOMAD_TOKEN": "s",
        "HF_TOKEN": "s",
        "PIP_PASSWORD": "s",
        "PIP_INDEX_URL": "u",
    }
    assert inheritable(given) == {"PATH": "/bin", "LC_ALL": "C", "PIP_INDEX_URL": "u"}


def test_this_machine_is_measured(tmp_path: Path) -> None:
    (own,) = measure(tmp_path).nodes
    assert own.cores > 0
    assert own.cpu_mhz > 0
    assert own.memory_mb > 0
    assert set(own.drivers) == {"raw_exec", "exec"}
    assert all(not d.declared for d in own.devices)


def test_memory_is_looked_at_where_the_kernel_does_not_guard_it() -> None:
    grow = "x = bytearray(60 * 10**6); print(1, flush=True); input()"
    with subprocess.Popen([PYTHON, "-c", grow], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        tree = tree_of(os.getpid())
        assert child.pid in tree
        assert PollGuard(50 * 10**6).exceeded(lambda _: [child.pid])
        assert not PollGuard(500 * 10**6).exceeded(lambda _: [child.pid])
        child.communicate(b"\n")
    assert not PollGuard(0).exceeded(lambda _: [child.pid])

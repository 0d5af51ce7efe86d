"""The plan's reference agrees with the model, with what is drafted, and with the jobs that are made."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest

from caravan.hcl import render_hcl
from caravan.planning.draft import draft_plan
from caravan.planning.jobspec import to_job_spec
from caravan.values.base import Json, Value
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import Author, OutputSink, PlanChange, TrainingPlan, apply_changes, block_in
from caravan.values.plan_reference import ROWS, meaning
from tests.planning.scenes import GIT, TEMPLATES, builtin, llm_profile, node, nomad, numpy_profile, request


def paths(model: type[Value], prefix: str = "") -> Iterator[str]:
    """Every field as the reference names it."""
    for name, field in model.model_fields.items():
        path, inner = f"{prefix}{name}", block_in(field.annotation)
        always = isinstance(field.annotation, type) and inner is not None
        if path == "provenance":
            continue
        if not always:
            yield path
        items = [a for a in get_args(field.annotation) if isinstance(a, type) and issubclass(a, Value)]
        if inner is not None:
            yield from paths(inner, f"{path}.")
        elif items:
            sign = "[]" if get_origin(field.annotation) is tuple else ".NAME"
            yield from paths(items[0], f"{path}{sign}.")


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    assert sorted(ROWS) == sorted(paths(TrainingPlan))


def test_rows_are_whole_and_short() -> None:
    for path, row in ROWS.items():
        assert row.meaning, path
        assert row.becomes, path
        assert len(row.meaning) <= 90, path
        assert {a for a in row.by.split(", ") if a} <= {a.value for a in Author}, path


def test_a_mapping_says_what_its_keys_are() -> None:
    assert meaning("env.ANY") == ROWS["env"].meaning
    assert meaning("training.options.--lr.min") == ROWS["training.options"].meaning
    assert meaning("nothing") == ""


NONE = ClusterFacts(kind=ClusterKind.NONE, address="")
GPUS = nomad(node("n1", ("NVIDIA A100-SXM4-80GB", 81920, 4), node_pool="gpu"))


@pytest.mark.parametrize("facts", [builtin(), GPUS, NONE], ids=["builtin", "nomad", "none"])
@pytest.mark.parametrize("profile", [numpy_profile(), llm_profile()], ids=["numpy", "llm"])
def test_who_drafts_a_field_is_who_the_reference_says(facts: ClusterFacts, profile: Any) -> None:
    plan = draft_plan(profile, request(""), facts, code=GIT, outputs=OutputSink(), image="r.example/i:1")
    for path, origin in plan.provenance.items():
        name = path if path in ROWS else path.rpartition(".")[0]
        assert origin.by.value in ROWS[name].by.split(", "), f"{path} by {origin.by.value}"


PROBES: dict[str, Json] = {
    "launch.nodes": 2,
    "job_type": "service",
    "driver": "exec",
    "image": "r.example/i:2",
    "image_pull_timeout_s": 77,
    "docker.runtime": "crun",
    "docker.entrypoint": ["/e"],
    "docker.ulimits": {"memlock": "-1"},
    "docker.work_dir": "/w",
    "docker.auth": {"username": "U", "password": "P"},
    "user": "u",
    "container_name": "c",
    "network_mode": "host",
    "artifacts": [{"source": "https://e.example/a"}],
    "templates": [{"destination": "local/t", "data": "x"}],
    "mounts": [{"kind": "host", "source": "v", "destination": "/v"}],
    "ports": [{"label": "http"}],
    "resources.gpus": 3,
    "resources.gpu_vendor": "amd",
    "resources.gpu_model": "NVIDIA H100 80GB HBM3",
    "resources.gpu_memory_mib": 7000,
    "resources.cpu_mhz": 1234,
    "resources.cores": 3,
    "resources.memory_mb": 4321,
    "resources.memory_max_mb": 9999,
    "resources.disk_mb": 5555,
    "shm_mb": 77,
    "namespace": "n",
    "region": "r",
    "node_pool": "p",
    "datacenters": ["d"],
    "constraints": [{"attribute": "${attr.a}", "value": "b"}],
    "affinities": [{"attribute": "${attr.a}", "value": "b"}],
    "spreads": [{"attribute": "${attr.a}"}],
    "exclude_nodes": ["bad"],
    "priority": 77,
    "kill_timeout_s": 77,
    "limits.max_run_s": 777,
}


def hcl(plan: TrainingPlan) -> list[str]:
    spec = to_job_spec(plan, GPUS, run_id="r", attempt=1, job_id="j", templates=TEMPLATES)
    return [line.strip() for line in render_hcl(spec, templates=TEMPLATES).splitlines()]


def _change(path: str) -> PlanChange:
    return PlanChange(path=path, value=PROBES[path], by=Author.USER)


@pytest.mark.parametrize("path", PROBES)
def test_a_field_becomes_what_the_reference_says(path: str) -> None:
    base = TrainingPlan(goal="g", command=("train.py",), code=GIT, image="r.example/i:1", secrets=("U", "P"))
    base = apply_changes(base, [PlanChange(path="resources.gpus", value=1, by=Author.USER)])
    before, after = (Counter(hcl(p)) for p in (base, apply_changes(base, [_change(path)])))
    changed = "\n".join((*(after - before), *(before - after)))
    name = re.split(r"[,;]", ROWS[path].becomes)[0].rpartition(".")[2]
    assert re.search(rf"\b{name}\b", changed), f"{path} becomes {name}:\n{changed[:500]}"


def test_variables_and_secrets_become_what_the_reference_says() -> None:
    plan = TrainingPlan(
        goal="g", command=("train.py",), code=GIT, image="r.example/i:1", secrets=("S",), env={"A": "b"}
    )
    text = "\n".join(hcl(plan))
    assert (ROWS["env"].becomes, ROWS["secrets"].becomes) == ("task.env", "template")
    assert re.search(r"^env (= )?\{\n(.+\n)*A +=", text, re.M)
    found = re.search(r"^template \{\n(?:(?!\}).*\n)*?S=\{\{ \.S\.Value", text, re.M)
    assert found, text

"""The job of an agent on the cluster: which driver, what it is given, and what the policies say of it."""

from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.hcl import mismatches, parse_hcl, render_hcl
from caravan.planning.agent_job import agent_driver, agent_job
from caravan.planning.policy import job_denials
from caravan.values.errors import UsageError
from caravan.values.handover import AgentPlace
from caravan.values.job import META_ATTEMPT, META_RUN, JobSpec, Task
from caravan.values.policy import Policies, Policy, PolicyFile
from tests.planning.scenes import bare_plan, builtin, node, nomad

IMAGE = "registry.example/caravan:1"
PLACE = AgentPlace(program=("/venv/bin/python", "/app/main.py"), image=IMAGE, env={"CARAVAN_MEMORY": "false"})
BARE = PLACE.model_copy(update={"image": None})


def policies(**tables: Any) -> Policies:
    return Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=Policy.model_validate(tables)),))


def job(place: AgentPlace = PLACE, driver: str = "docker", lent: tuple[str, ...] = (), **plan: Any) -> JobSpec:
    return agent_job(
        place, bare_plan(**plan), "0a1b2c3d", driver=driver, packed="run 1\nabcd\n", lent=lent, namespace="ml"
    )


def task(spec: JobSpec) -> Task:
    return spec.groups[0].tasks[0]


@pytest.mark.parametrize(
    ("place", "facts", "remote", "driver"),
    [
        (PLACE, nomad(node("a")), True, "docker"),
        (PLACE, builtin(), True, "raw_exec"),  # it has no docker
        (PLACE, builtin(node("a")), True, "docker"),
        (PLACE, builtin(node("a")), False, "raw_exec"),  # a container would not see the repository
        (BARE, builtin(), False, "raw_exec"),
    ],
)
def test_the_driver_is_one_that_can_run_it(place: AgentPlace, facts: Any, remote: bool, driver: str) -> None:
    assert agent_driver(place, facts, Policies(), remote=remote) == driver


@pytest.mark.parametrize(
    ("place", "facts", "remote", "said"),
    [
        (PLACE, nomad(node("a")), False, "can't read this repository"),
        (BARE, nomad(node("a")), True, "CARAVAN_AGENT_IMAGE"),
        (PLACE, nomad(node("a", drivers="exec raw_exec")), True, "none has docker"),
    ],
)
def test_what_is_missing_is_said_in_a_line(place: AgentPlace, facts: Any, remote: bool, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        agent_driver(place, facts, Policies(), remote=remote)
    assert said in caught.value.line()


def test_a_driver_that_a_policy_forbids_is_not_taken() -> None:
    with pytest.raises(UsageError):
        agent_driver(BARE, builtin(), policies(jobs={"drivers": ["docker"]}), remote=True)


@pytest.mark.parametrize("lent", [(), ("NOMAD_TOKEN", "CARAVAN_NOTIFY_URL")])
@pytest.mark.parametrize("driver", ["docker", "raw_exec"])
def test_it_reads_back_and_is_no_attempt(driver: str, lent: tuple[str, ...]) -> None:
    spec = job(driver=driver, lent=lent)
    assert mismatches(spec, parse_hcl(render_hcl(spec, templates=TEMPLATES))) == ()
    assert META_RUN not in spec.meta
    assert META_ATTEMPT not in spec.meta
    assert spec.id == "caravan-agent-0a1b2c3d"
    assert task(spec).config["args"][-6:] == [
        "0a1b2c3d", "--agent", "--adopt", "${NOMAD_TASK_DIR}/caravan-run.b64", "--leave",
        "${NOMAD_ALLOC_DIR}/data/caravan-run.b64",
    ]  # fmt: skip


def test_it_speaks_by_its_identity_unless_it_was_lent_a_token() -> None:
    own = task(job())
    assert own.identity
    assert own.env["NOMAD_ADDR"] == "unix://${NOMAD_SECRETS_DIR}/api.sock"
    assert [t.destination for t in own.templates] == ["local/caravan-run.b64"]
    lent = task(job(lent=("NOMAD_TOKEN",)))
    assert not lent.identity
    secret = lent.templates[1]
    assert secret.env
    assert secret.destination.startswith("secrets/")
    assert 'nomadVar "nomad/jobs/caravan-agent-0a1b2c3d"' in secret.data
    assert task(job(PLACE.model_copy(update={"address": "http://127.0.0.1:1"}))).env["NOMAD_ADDR"] == (
        "http://127.0.0.1:1"
    )


def test_a_volume_keeps_its_state_where_there_is_one() -> None:
    spec = job(PLACE.model_copy(update={"volume": "agents"}))
    assert [v.source for v in spec.groups[0].volumes] == ["agents"]
    assert task(spec).env["CARAVAN_HOME"] == "/caravan-agent/0a1b2c3d"
    assert task(job()).env["CARAVAN_HOME"] == "${NOMAD_ALLOC_DIR}/data/caravan"


def test_it_goes_where_the_training_may_and_the_cluster_brings_it_back() -> None:
    spec = job(region="eu", node_pool="gpu", datacenters=("dc2",))
    assert (spec.namespace, spec.region, spec.node_pool, spec.datacenters) == ("ml", "eu", "gpu", ("dc2",))
    group = spec.groups[0]
    assert group.restart.attempts == 3
    assert group.reschedule.unlimited


@pytest.mark.parametrize(
    ("tables", "allowed"),
    [
        ({"images": {"allow": ["registry.example/*"]}}, True),
        ({"images": {"allow": ["pytorch/*"]}}, False),
        ({"jobs": {"namespaces": ["training"]}}, False),
        ({"jobs": {"namespaces": ["ml"], "drivers": ["docker"]}}, True),
        ({"secrets": {"nomad": ["nomad/jobs"]}}, False),
        ({"secrets": {"nomad": ["nomad/jobs/caravan-agent-*"]}}, True),
        ({"mounts": {"host_volumes": ["data"]}}, False),
    ],
)
def test_the_policies_judge_it_too(tables: dict[str, Any], allowed: bool) -> None:
    spec = job(PLACE.model_copy(update={"volume": "agents"}), lent=("NOMAD_TOKEN",))
    denials = job_denials(parse_hcl(render_hcl(spec, templates=TEMPLATES)), policies(**tables))
    assert (denials == ()) is allowed, denials


def test_an_address_goes_there_only_with_its_keys() -> None:
    keys = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")
    env = {"LANGFUSE_BASE_URL": "https://langfuse.example", "CARAVAN_SMOKE": "true"}
    place = AgentPlace(program=("/x/python", "/x/main.py"), env=env, only_with={"LANGFUSE_BASE_URL": keys})
    for lent, goes in ((keys, True), (keys[:1], False), ((), False)):
        given = task(job(place, "raw_exec", lent)).env
        assert ("LANGFUSE_BASE_URL" in given, given["CARAVAN_SMOKE"]) == (goes, "true")

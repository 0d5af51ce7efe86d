"""Any valid plan becomes a job that reads back as itself and that the cluster accepts."""

import string
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.cluster.local import validation
from caravan.cluster.local.broker import NAMESPACES
from caravan.cluster.local.canonical import canonical_job
from caravan.cluster.local.drivers import check_config
from caravan.cluster.local.implied import with_implied
from caravan.hcl import mismatches, normal_form, parse_hcl, read_back, render_hcl
from caravan.planning.jobspec import to_job_spec
from caravan.values.job import ClusterFacts
from caravan.values.plan import (
    Artifact,
    CodeSource,
    ConfigOverlay,
    Constraint,
    Docker,
    Launch,
    Limits,
    Mount,
    OutputSink,
    Port,
    RegistryAuth,
    Resources,
    Setup,
    Spread,
    TemplateFile,
    Training,
    TrainingPlan,
    Wish,
)
from caravan.values.repo import Launcher
from tests.planning.scenes import ARCHIVE, GIT, TEMPLATES, builtin, node, nomad

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
NAME = st.text(string.ascii_letters, min_size=1, max_size=8)
PATH = NAME.map(lambda name: f"/srv/{name}")
LABELS = st.lists(
    st.builds(Port, label=NAME.map(lambda n: f"p{n}"), static=st.none() | st.integers(1024, 65535)),
    max_size=2,
    unique_by=(lambda p: p.label, lambda p: p.static or p.label),
).map(tuple)
ATTRIBUTES = st.sampled_from(("${attr.kernel.name}", "${node.datacenter}", "${meta.rack}", "${node.class}"))
RULES = st.one_of(
    st.builds(Constraint, attribute=ATTRIBUTES, operator=st.sampled_from(("=", "!=", ">=", "<")), value=NAME),
    st.builds(Constraint, attribute=ATTRIBUTES, operator=st.just("regexp"), value=st.sampled_from(("^a|b$", "x.*"))),
    st.builds(Constraint, attribute=st.just("${attr.cpu.arch}"), operator=st.just("set_contains_any"), value=NAME),
    st.just(Constraint(attribute="", operator="distinct_hosts", value="true")),
)
WISHES = st.builds(Wish, attribute=ATTRIBUTES, value=NAME, weight=st.integers(-100, 100))
SPREADS = st.builds(Spread, attribute=ATTRIBUTES, weight=st.integers(0, 100))
RESOURCES = st.builds(
    Resources,
    gpus=st.integers(0, 16),
    gpu_vendor=st.sampled_from(("nvidia", "amd")),
    gpu_model=st.none() | st.sampled_from(("A100", "NVIDIA L4", "H100", "Odd (1) model")),
    gpu_memory_mib=st.none() | st.integers(1, 10**6),
    gpu_prefer=st.lists(st.sampled_from(("NVIDIA L4", "A100", "NVIDIA H100 80GB HBM3")), unique=True).map(tuple),
    cpu_mhz=st.integers(1, 10**6),
    cores=st.none() | st.integers(1, 256),
    memory_mb=st.integers(10, 10**7),
    memory_max_mb=st.none() | st.integers(10, 10**7),
    disk_mb=st.integers(10, 10**7),
)
DOCKER = st.builds(
    Docker,
    runtime=st.none() | st.just("nvidia"),
    entrypoint=st.lists(TEXT, max_size=2).map(tuple),
    ulimits=st.dictionaries(st.sampled_from(("memlock", "nofile", "stack")), st.sampled_from(("-1", "1024:2048"))),
    work_dir=st.none() | PATH,
    auth=st.none() | st.just(RegistryAuth(username="PULL_USER", password="PULL_KEY")),
)
LIMITS = st.builds(
    Limits, max_run_s=st.none() | st.integers(1, 10**7), gang_s=st.integers(1, 10**5), start_s=st.integers(1, 10**5)
)
LAUNCH = st.builds(
    Launch,
    launcher=st.sampled_from(Launcher),
    nproc=st.integers(1, 16),
    nodes=st.sampled_from((1, 1, 2, 8)),
    master_port=st.none() | st.integers(1024, 65535),
    rdzv_endpoint=st.none() | st.just("10.1.1.1:29500"),
    args=st.lists(TEXT, max_size=2).map(tuple),
)
MOUNTS = st.lists(
    st.builds(
        Mount, kind=st.sampled_from(("host", "csi", "bind")), source=PATH, destination=PATH, read_only=st.booleans()
    ),
    max_size=3,
    unique_by=lambda m: m.destination,
).map(tuple)
OUTPUTS = st.sampled_from(
    (OutputSink(), OutputSink(kind="path", location="/out"), OutputSink(kind="url", location="s3://b/runs"))
)
CODES = st.sampled_from((ARCHIVE, GIT, CodeSource(kind="image", location="/app")))


@st.composite
def plans(draw: st.DrawFn) -> TrainingPlan:
    few = {"max_size": 2}
    fields: dict[str, Any] = {
        "goal": draw(TEXT),
        "command": ("train.py", *draw(st.lists(TEXT, **few))),
        "launch": draw(LAUNCH),
        "training": Training(lr=draw(st.none() | st.floats(1e-9, 1.0))),
        "workdir": draw(st.sampled_from((".", "src", "a b"))),
        "env": draw(st.dictionaries(NAME, TEXT, **few)),
        "setup": Setup(requirements=draw(st.none() | st.just("requirements.txt")), cmd=draw(st.lists(TEXT, **few))),
        "config_overlays": (ConfigOverlay(path="a.yaml", values={"a.b": 1}),) * draw(st.integers(0, 1)),
        "code": draw(CODES),
        "outputs": draw(OUTPUTS),
        "job_type": draw(st.sampled_from(("batch", "service"))),
        "driver": draw(st.sampled_from(("docker", "exec", "raw_exec"))),
        "image": "a/b:1",
        "image_pull_timeout_s": draw(st.none() | st.integers(1, 10**5)),
        "docker": draw(DOCKER),
        "user": draw(st.none() | NAME),
        "network_mode": draw(st.none() | st.sampled_from(("host", "bridge"))),
        "artifacts": draw(
            st.lists(st.builds(Artifact, source=NAME.map(lambda n: f"https://x.example/{n}.tgz")), **few)
        ),
        "templates": draw(
            st.lists(
                st.builds(TemplateFile, destination=NAME.map(lambda n: f"local/{n}.txt"), data=TEXT, env=st.booleans()),
                unique_by=lambda t: t.destination,
                **few,
            )
        ),
        "mounts": draw(MOUNTS),
        "secrets": ("PULL_USER", "PULL_KEY", *draw(st.sampled_from(((), ("HF_TOKEN",))))),
        "ports": draw(LABELS),
        "resources": draw(RESOURCES),
        "shm_mb": draw(st.none() | st.integers(1, 10**5)),
        "namespace": draw(st.sampled_from((None, "default"))),
        "region": draw(st.sampled_from((None, "global"))),
        "node_pool": draw(st.sampled_from((None, "default", "all"))),
        "datacenters": draw(st.sampled_from((("*",), ("dc1", "dc2")))),
        "constraints": draw(st.lists(RULES, **few)),
        "affinities": draw(st.lists(WISHES, **few)),
        "spreads": draw(st.lists(SPREADS, **few, unique_by=lambda s: s.attribute)),
        "exclude_nodes": draw(st.lists(TEXT.filter(bool), **few)),
        "priority": draw(st.integers(1, 100)),
        "kill_timeout_s": draw(st.integers(1, 10**5)),
        "limits": draw(LIMITS),
    }
    return TrainingPlan.model_validate(fields)


CLUSTERS = st.sampled_from(
    (builtin(), nomad(node("a", ("NVIDIA A100-SXM4-80GB", 81920, 4), ("NVIDIA A100-PCIE-40GB", 40960, 2))))
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(plans(), CLUSTERS)
def test_a_plan_becomes_a_job_that_the_cluster_accepts(plan: TrainingPlan, facts: ClusterFacts) -> None:
    spec = to_job_spec(plan, facts, run_id="r1", attempt=1, job_id="caravan-r1-a01", templates=TEMPLATES)
    job = parse_hcl(render_hcl(spec, templates=TEMPLATES))
    assert read_back(job) == normal_form(spec)
    assert mismatches(spec, job) == ()
    whole = with_implied(canonical_job(job))
    assert validation.errors_of(whole, namespaces=NAMESPACES, pools=("default", "all")) == []
    for task in whole["TaskGroups"][0]["Tasks"]:
        check_config(task["Driver"], task["Config"])

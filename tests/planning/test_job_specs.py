import importlib.util
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.planning.checks import check_plan
from caravan.planning.draft import draft_plan
from caravan.planning.jobspec import to_job_spec
from caravan.planning.script import free_delimiters
from caravan.values.errors import PlanError, StateError
from caravan.values.job import META_ATTEMPT, META_RUN, META_SHA, ClusterFacts, JobSpec, Task
from caravan.values.plan import (
    Artifact,
    Author,
    CodeSource,
    Constraint,
    Docker,
    Launch,
    Limits,
    Mount,
    OutputSink,
    PlanChange,
    Port,
    RegistryAuth,
    Resources,
    Setup,
    Spread,
    TemplateFile,
    TrainingPlan,
    Wish,
    apply_changes,
)
from tests.planning.scenes import (
    ARCHIVE,
    GIT,
    OUTPUTS,
    TEMPLATES,
    bare_plan,
    builtin,
    llm_profile,
    node,
    nomad,
    request,
)

A100, A100_40 = ("NVIDIA A100-SXM4-80GB", 81920, 4), ("NVIDIA A100-SXM4-40GB", 40960, 4)


def spec_of(plan: TrainingPlan, facts: ClusterFacts | None = None, **more: Any) -> JobSpec:
    fields: dict[str, Any] = {"run_id": "r1", "attempt": 2, "job_id": "caravan-r1-a02", "templates": TEMPLATES, **more}
    return to_job_spec(plan, facts or nomad(node("a", A100)), **fields)


def task_of(plan: TrainingPlan, facts: ClusterFacts | None = None) -> Task:
    return spec_of(plan, facts).groups[0].tasks[0]


def test_one_group_one_task_no_restarts_and_the_seal() -> None:
    spec = spec_of(bare_plan())
    group = spec.groups[0]
    assert (spec.id, group.name, group.tasks[0].name, len(spec.groups), len(group.tasks)) == (
        "caravan-r1-a02", "train", "train", 1, 1,
    )  # fmt: skip
    assert (group.restart.attempts, group.reschedule.attempts, group.reschedule.unlimited) == (0, 0, False)
    assert (spec.meta[META_RUN], spec.meta[META_ATTEMPT], spec.meta[META_SHA]) == ("r1", "2", spec.digest())


def test_the_script_goes_as_text_that_no_template_engine_touches() -> None:
    plan = bare_plan("train.py", "{{ key }}", "[[caravan0 x caravan0]]", setup=Setup(requirements="requirements.txt"))
    script, *helpers, helper = task_of(plan).templates
    assert [h.destination for h in helpers] == [
        f"local/{name}.py" for name in ("outputs", "model_files", "sampler", "sampler_gpus")
    ]
    assert (script.destination, script.perms, helper.destination) == ("local/launch.sh", "0755", "local/environment.py")
    for block in (script, *helpers, helper):
        assert block.left_delimiter not in block.data
        assert block.right_delimiter not in block.data
    assert "'{{ key }}'" in script.data
    assert script.left_delimiter == "[[caravan1"
    assert len(task_of(bare_plan()).templates) == 5


@given(st.lists(st.sampled_from(["[[caravan0", "caravan0]]", "[[caravan1", "{{", "x"]), max_size=6).map("".join))
def test_delimiters_are_free(text: str) -> None:
    left, right = free_delimiters(text)
    assert left not in text
    assert right not in text


def test_raw_exec_and_docker_configs() -> None:
    assert task_of(bare_plan(driver="raw_exec")).config == {
        "command": "/bin/sh",
        "args": ["${NOMAD_TASK_DIR}/launch.sh"],
    }
    plan = bare_plan(
        driver="docker",
        image="a/b:1",
        shm_mb=64,
        image_pull_timeout_s=90,
        network_mode="host",
        docker=Docker(runtime="nvidia", entrypoint=("/bin/sh",)),
        mounts=(Mount(kind="bind", source="/srv", destination="/data"),),
        ports=(Port(label="master"),),
        code=GIT,
        outputs=OutputSink(),
    )
    assert task_of(plan).config == {
        "command": "/bin/sh",
        "args": ["${NOMAD_TASK_DIR}/launch.sh"],
        "image": "a/b:1",
        "entrypoint": ["/bin/sh"],
        "runtime": "nvidia",
        "network_mode": "host",
        "shm_size": 64 * 1024 * 1024,
        "image_pull_timeout": "90s",
        "ports": ["master"],
        "mount": [{"type": "bind", "source": "/srv", "target": "/data", "readonly": True}],
    }


def test_docker_here_sees_the_archive_and_the_outputs() -> None:
    mounts = task_of(bare_plan(driver="docker", image="a/b:1"), builtin()).config["mount"]
    assert [(m["source"], m["readonly"]) for m in mounts] == [(ARCHIVE.location, True), (OUTPUTS.location, False)]


@pytest.mark.parametrize(
    ("wanted", "operator", "value"),
    [
        ("NVIDIA A100-SXM4-80GB", "=", "NVIDIA A100-SXM4-80GB"),
        ("A100", "regexp", r"^(NVIDIA\ A100\-SXM4\-40GB|NVIDIA\ A100\-SXM4\-80GB)$"),
        ("H100", "=", "H100"),
    ],
)
def test_gpus_are_asked_for_by_model_and_memory(wanted: str, operator: str, value: str) -> None:
    plan = bare_plan(resources=Resources(gpus=2, gpu_model=wanted, gpu_memory_mib=39000))
    device = task_of(plan, nomad(node("a", A100), node("b", A100_40))).resources.devices[0]
    assert (device.name, device.count) == ("nvidia/gpu", 2)
    assert device.constraints == (
        Constraint(attribute="${device.model}", operator=operator, value=value),
        Constraint(attribute="${device.attr.memory}", operator=">=", value="39000 MiB"),
    )
    assert task_of(bare_plan()).resources.devices == ()


@pytest.mark.parametrize(("version", "known"), [("2.0.6", True), ("2.0.2", True), ("1.10.5", False), ("", False)])
def test_the_time_limit_goes_where_nomad_knows_it(version: str, known: bool) -> None:
    facts = nomad(node("a")).model_copy(update={"version": version})
    group = spec_of(bare_plan(limits=Limits(max_run_s=60)), facts).groups[0]
    assert group.max_run_s == (60 if known else None)


def test_code_from_git_and_from_an_address_is_an_artifact() -> None:
    git = task_of(bare_plan(code=GIT)).artifacts[0]
    assert (git.source, git.destination, git.options) == (f"git::{GIT.location}", "local/code", {"ref": "0123abc"})
    far = CodeSource(kind="archive", location="https://x.example/code.tar.gz", sha256="ab" * 32)
    plan = bare_plan(code=far, artifacts=(Artifact(source="https://x.example/data.tgz"),))
    found = task_of(plan).artifacts
    options = {"archive": "false", "checksum": "sha256:" + "ab" * 32}  # the script unpacks it
    assert (found[0].options, found[0].destination, found[1].destination) == (options, "local/code.tar.gz", "local/")
    assert task_of(bare_plan(code=ARCHIVE)).artifacts == ()


def test_volumes_constraints_env_secrets_and_texts() -> None:
    plan = bare_plan(
        mounts=(
            Mount(kind="host", source="data", destination="/data"),
            Mount(kind="csi", source="ckpt", destination="/ckpt", read_only=False),
        ),
        constraints=(Constraint(attribute="${node.class}", value="a100"),),
        exclude_nodes=("bad-1",),
        env={"A": "1"},
        secrets=("HF_TOKEN",),
        templates=(TemplateFile(destination="local/x.yaml", data="a: {{ b }}"),),
        kill_timeout_s=90,
    )
    spec = spec_of(plan)
    group, task = spec.groups[0], spec.groups[0].tasks[0]
    assert [(v.name, v.type, v.source, v.read_only) for v in group.volumes] == [
        ("v0", "host", "data", True),
        ("v1", "csi", "ckpt", False),
    ]
    assert [(m.volume, m.destination) for m in task.volume_mounts] == [("v0", "/data"), ("v1", "/ckpt")]
    assert spec.constraints[1] == Constraint(attribute="${node.unique.name}", operator="!=", value="bad-1")
    assert task.env == {"PYTHONUNBUFFERED": "1", "A": "1"}
    assert task.kill_timeout_s == 90
    text, secret = task.templates[5:]
    assert text.data == "a: {{ b }}"
    assert text.left_delimiter != "{{"
    assert (secret.env, secret.destination) == (True, "secrets/caravan.env")
    assert "HF_TOKEN={{ .HF_TOKEN.Value | toUnescapedJSON }}" in secret.data
    assert (secret.error_on_missing_key, secret.perms) == (True, "0600")


@pytest.mark.parametrize(("version", "by_cluster"), [("2.0.6", True), ("1.10.5", False)])
def test_a_time_limit_is_held_by_the_cluster_or_by_the_script(version: str, by_cluster: bool) -> None:
    facts = nomad(node()).model_copy(update={"version": version})
    plan = bare_plan(limits={"max_run_s": 90}, driver="raw_exec")
    group = to_job_spec(plan, facts, run_id="r", attempt=1, job_id="j", templates=TEMPLATES).groups[0]
    script = next(t.data for t in group.tasks[0].templates if t.destination == "local/launch.sh")
    assert group.max_run_s == (90 if by_cluster else None)
    assert ("90 time-is-over" in script) is not by_cluster


def test_what_no_process_can_be_given_is_refused() -> None:
    with pytest.raises(PlanError, match="NUL"):
        spec_of(bare_plan("a\0b"))
    with pytest.raises(PlanError, match="secrets"):  # nor can it come into a plan
        apply_changes(bare_plan(), [PlanChange(path="secrets", value=["a b"], by=Author.USER)])
    with pytest.raises(StateError, match=r"launch\.sh\.j2 can't be read"):
        spec_of(bare_plan(), templates=Path("/not/there"))


# HCL normalises every text to NFC, so it can't say any other form.
_TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=("Cs",)), max_size=20).map(
    lambda text: unicodedata.normalize("NFC", text)
)


@pytest.mark.skipif(importlib.util.find_spec("caravan.hcl") is None, reason="the renderer is another room's")
@settings(max_examples=25, deadline=None)
@given(st.lists(_TEXT, max_size=3), st.dictionaries(st.sampled_from(["A", "B_C"]), _TEXT), st.booleans())
def test_jobs_render_parse_and_read_back_equal(words: list[str], env: dict[str, str], gpu: bool) -> None:
    from caravan.hcl import parse_hcl, read_back, render_hcl

    facts = nomad(node("a", A100))
    plan = draft_plan(llm_profile(), request(), facts, code=GIT, outputs=OUTPUTS, image="a/b:1")
    resources = plan.resources.model_copy(update={"gpus": int(gpu), "gpu_model": A100[0], "gpu_memory_mib": 40000})
    plan = plan.model_copy(update={"command": ("train.py", *words), "env": env, "resources": resources})
    plan = plan.model_copy(update={"outputs": OutputSink()})
    assert check_plan(plan, facts) == ()
    spec = spec_of(plan, facts)
    assert read_back(parse_hcl(render_hcl(spec, templates=TEMPLATES))) == spec


def test_what_only_docker_has_and_who_pulls_by_reference() -> None:
    more = Docker(
        ulimits={"memlock": "-1"}, work_dir="/w", auth=RegistryAuth(username="PULL_USER", password="PULL_KEY")
    )
    config = task_of(bare_plan(driver="docker", image="a/b:1", docker=more)).config
    assert config["ulimit"] == [{"memlock": "-1"}]
    assert config["work_dir"] == "/w"
    assert config["auth"] == [{"username": '${env["PULL_USER"]}', "password": '${env["PULL_KEY"]}'}]


def test_a_signal_that_the_script_passes_on_and_limits_that_the_cluster_takes() -> None:
    small = Resources(disk_mb=50, memory_mb=100, memory_max_mb=90)
    task = task_of(bare_plan(driver="raw_exec", resources=small))
    assert task.kill_signal == "SIGTERM"
    assert task.logs.max_files * task.logs.max_file_size_mb < 50
    assert task.resources.memory_max is None
    limited = bare_plan(job_type="service", limits=Limits(max_run_s=60), kill_timeout_s=900)
    group = spec_of(limited).groups[0]
    assert (group.max_run_s, group.progress_deadline_s) == (None, 901)
    assert "time limit of 60 s" in group.tasks[0].templates[0].data


def test_wishes_spreads_and_preferred_gpus() -> None:
    rack = Wish(attribute="${meta.rack}", value="a", weight=0)
    plan = bare_plan(
        affinities=(rack, rack.model_copy(update={"weight": -20})),
        spreads=(Spread(attribute="${node.datacenter}"), Spread(attribute="${meta.rack}", weight=0)),
        resources=Resources(gpus=1, gpu_prefer=("A100", "NVIDIA L4", "NVIDIA H100 80GB HBM3")),
    )
    spec = spec_of(plan, nomad(node("a", A100, A100_40)))
    assert [a.weight for a in spec.affinities] == [-20]
    assert [s.attribute for s in spec.spreads] == ["${node.datacenter}"]
    wanted = spec.groups[0].tasks[0].resources.devices[0].affinities
    assert [(a.operator, a.weight) for a in wanted] == [("regexp", 100), ("=", 50), ("=", 25)]
    alone = bare_plan(resources=Resources(gpus=1, gpu_prefer=("NVIDIA L4",)))
    assert task_of(alone).resources.devices[0].affinities == ()


def test_many_nodes_are_members_that_find_each_other() -> None:
    plan = bare_plan(driver="docker", image="a/b:1", code=GIT, outputs=OutputSink(), launch=Launch(nodes=3))
    group = spec_of(plan).groups[0]
    service = group.services[0]
    assert (group.count, service.name, service.tags) == (3, "caravan-r1-a02", ("rank-${NOMAD_ALLOC_INDEX}",))
    assert {p.label for p in group.ports} == {"members", "rdzv"}
    assert group.tasks[0].config["network_mode"] == "host"
    assert [t.destination for t in group.tasks[0].templates][-2:] == ["local/members.py", "local/members.txt"]
    odd = spec_of(plan, job_id="caravan_" + "x" * 80).groups[0].services[0].name
    assert len(odd) <= 63
    assert odd.replace("-", "").isalnum()


def test_members_for_which_there_is_no_room_are_said() -> None:
    plan = bare_plan(driver="raw_exec", launch=Launch(nodes=3), resources=Resources(gpus=2, memory_mb=100))
    plan = plan.model_copy(update={"code": GIT, "outputs": OutputSink()})
    problems = check_plan(plan, nomad(node("a", ("NVIDIA L4", 23034, 4))))
    assert problems == ("The nodes have room for 2 of 3 members (launch.nodes); that many is the nearest.",)
    assert check_plan(plan, nomad(node("a", ("NVIDIA L4", 23034, 4)), node("b", ("NVIDIA L4", 23034, 2)))) == ()

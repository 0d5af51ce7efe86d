"""What a cluster's profile brings into a plan: as the cluster's word, and never against a person's."""

from typing import Any

import pytest

from caravan.planning.outputs import settled
from caravan.planning.site import mirrored, place_changes, site_changes
from caravan.values.errors import UsageError
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.target import ClusterProfile
from tests.fakes.cluster import one_node

PLAN = TrainingPlan(goal="g", command=("train.py",), driver="docker", image="pytorch/pytorch:2.5")
PROFILE = ClusterProfile.model_validate(
    {
        "address": "https://nomad.example",
        "node_pool": "gpu",
        "datacenters": ["dc1"],
        "region": "eu",
        "outputs": "volume:checkpoints",
        "cache_dir": "/cache/",
        "pip_index_url": "https://pypi.example/simple",
        "hf_endpoint": "https://hub.example",
        "apt_proxy": "http://apt.example:3142",
        "env": {"COLOUR": "green"},
        "volumes": {"datasets": "/data", "checkpoints": "/ckpt"},
        "registry_mirrors": {"docker.io": "mirror.example/hub", "docker.io/pytorch": "mirror.example/pt/"},
    }
)


def with_profile(plan: TrainingPlan, profile: ClusterProfile = PROFILE) -> TrainingPlan:
    plan = apply_changes(plan, place_changes(profile, "prod"))
    return apply_changes(plan, site_changes(plan, profile, "prod"))


def said(path: str, value: Any) -> TrainingPlan:
    return apply_changes(PLAN, [PlanChange(path=path, value=value, by=Author.USER)])


def test_everything_enters_by_the_cluster() -> None:
    plan = with_profile(PLAN)
    assert (plan.node_pool, plan.datacenters, plan.region) == ("gpu", ("dc1",), "eu")
    assert plan.image == "mirror.example/pt/pytorch:2.5"
    assert plan.env["HF_HOME"] == "/cache/huggingface"
    assert plan.env["CARAVAN_CACHE_DIR"] == "/cache"
    assert plan.env["PIP_INDEX_URL"] == plan.env["UV_DEFAULT_INDEX"] == "https://pypi.example/simple"
    assert plan.env["HF_ENDPOINT"] == "https://hub.example"
    assert plan.env["COLOUR"] == "green"
    assert plan.env["APT_CONFIG"] == "${NOMAD_TASK_DIR}/apt.conf"
    assert plan.templates[0].data == 'Acquire::http::Proxy "http://apt.example:3142";\n'
    assert [(m.source, m.destination, m.read_only) for m in plan.mounts] == [
        ("datasets", "/data", True),
        ("checkpoints", "/ckpt", False),  # the outputs go there
    ]
    assert settled(plan, one_node(builtin=False)).outputs.location == "/ckpt"
    assert {p.by for p in plan.provenance.values()} == {Author.CLUSTER}
    assert with_profile(plan) == plan


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("node_pool", "mine"),
        ("datacenters", ["dc9"]),
        ("image", "pytorch/pytorch:2.4"),
        ("outputs", {"kind": "url", "location": "s3://b/x"}),
        ("outputs.location", "/mine"),
        ("env.HF_HOME", "/mine"),
        ("env.COLOUR", "red"),
        ("env", {"PIP_INDEX_URL": "https://mine.example"}),
        ("mounts", []),
    ],
)
def test_what_a_person_set_stands(path: str, value: Any) -> None:
    plan = said(path, value)
    assert with_profile(plan).get(path) == plan.get(path)


def test_raw_exec_gets_no_volumes() -> None:
    assert with_profile(PLAN.model_copy(update={"driver": "raw_exec", "image": None})).mounts == ()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("ubuntu:22.04", "mirror.example/hub/library/ubuntu:22.04"),
        ("pytorch/pytorch", "mirror.example/pt/pytorch:latest"),
        ("pytorchx/pytorch:1", "mirror.example/hub/pytorchx/pytorch:1"),
        ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ("no image", "no image"),
    ],
)
def test_mirrors(image: str, expected: str) -> None:
    assert mirrored(image, PROFILE) == expected


def test_a_place_that_is_none_names_the_profile() -> None:
    profile = ClusterProfile(address="http://x", outputs="somewhere")
    with pytest.raises(UsageError, match="cluster profile prod: outputs"):
        with_profile(PLAN, profile)

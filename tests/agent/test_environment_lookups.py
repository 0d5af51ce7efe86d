"""What a run is told of its environment by an index and a registry, and which base images it is offered."""

from types import SimpleNamespace
from typing import Any

import pytest

from caravan.agent.environment import environment_told, lines_to_resolve, offered_images
from caravan.planning.draft import draft_plan
from caravan.values.environment import BaseImage, ImageState, PackageIndex, RepoEnvironment, Resolution, Wanted
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.places import SourceLine
from caravan.values.plan import TrainingPlan
from caravan.values.policy import ImageRules, Policies, Policy, PolicyFile
from caravan.values.repo import RepoProfile
from caravan.values.target import ClusterProfile, Site
from tests.fakes.environment import FakeRegistry, FakeResolver
from tests.planning.scenes import ARCHIVE, OUTPUTS, llm_profile, node, nomad, request

IMAGES = (
    BaseImage(image="pytorch/pytorch:2.4.1", torch="2.4.1", python="3.11"),
    BaseImage(image="python:3.11", python="3.11"),
)
FACTS = nomad(node("a", ("NVIDIA A100-SXM4-80GB", 81920, 1)))


def profile(*lines: str) -> RepoProfile:
    place = SourceLine(file="requirements.txt", line=1)
    index = PackageIndex(url="https://download.pytorch.org/whl/cu121", where=place)
    declared = tuple(Wanted(line=text, where=place) for text in lines)
    found = RepoEnvironment(requirements=("requirements.txt",), declared=declared, indexes=(index,))
    return llm_profile(environment=found)


def context(**more: Any) -> Any:
    notes: list[str] = []
    fields: dict[str, Any] = {
        "facts": lambda: FACTS,
        "base_images": IMAGES,
        "site": None,
        "policies": Policies(),
        "resolver": FakeResolver(Resolution(resolved=True, packages=("torch==2.4.1",))),
        "registry": FakeRegistry(),
        "progress": SimpleNamespace(note=notes.append),
        "notes": notes,
    }
    return SimpleNamespace(**{**fields, **more})


def plan_of(about: RepoProfile, facts: ClusterFacts = FACTS) -> TrainingPlan:
    return draft_plan(about, request(), facts, code=ARCHIVE, outputs=OUTPUTS, image=None, images=IMAGES)


def test_the_jobs_lines_are_resolved_for_its_python_and_indexes() -> None:
    here, about = context(), profile("torch==2.4.1", "flash-attn==2.5", "own @ git+https://git.example/own.git")
    told = environment_told(plan_of(about), about, here)
    lines, python, indexes = here.resolver.asked[0]
    assert lines == ("torch==2.4.1",)
    assert (python, indexes) == ("3.11", ("https://download.pytorch.org/whl/cu121",))
    assert any("flash-attn" in note for note in here.notes)
    assert not [t for t in told if "together" in t]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Resolution(resolved=False, text="Because a needs b."), "can't be installed together on Python 3.11: Because"),
        (Resolution(text="uv is not on the PATH"), "was not found out: uv is not on the PATH"),
    ],
)
def test_what_the_resolver_says_is_told(answer: Resolution, said: str) -> None:
    about = profile("torch==2.4.1")
    told = environment_told(plan_of(about), about, context(resolver=FakeResolver(answer)))
    assert any(said in t for t in told)


def test_where_nothing_is_looked_up_that_is_told() -> None:
    about = profile("torch==2.4.1")
    told = environment_told(plan_of(about), about, context(resolver=None, registry=None))
    assert any("was not looked up" in t for t in told)
    assert any("pytorch/pytorch:2.4.1 is there was not checked" in t for t in told)


def test_a_cluster_of_this_machine_asks_nobody() -> None:
    facts = FACTS.model_copy(update={"kind": ClusterKind.BUILTIN, "shared_files": True})
    about, here = profile("torch==2.4.1"), context(facts=lambda: facts)
    environment_told(plan_of(about, facts), about, here)
    assert here.resolver.asked == []


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (ImageState.ABSENT, "is not there"),
        (ImageState.DENIED, "docker.auth"),
        (ImageState.UNKNOWN, "was not checked"),
        (ImageState.THERE, ""),
    ],
)
def test_what_the_registry_says_is_told(state: ImageState, said: str) -> None:
    about = profile("torch==2.4.1")
    here = context(registry=FakeRegistry({"pytorch/pytorch:2.4.1": state}))
    told = [t for t in environment_told(plan_of(about), about, here) if "the image pytorch" in t]
    assert [said in t for t in told] == ([True] if said else [])


def test_images_that_a_policy_forbids_are_not_offered() -> None:
    rules = Policy(images=ImageRules(registries=("registry.example",)))
    law = Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=rules),))
    assert offered_images(context(policies=law)) == ()
    mirrors = ClusterProfile(address="https://nomad.example", registry_mirrors={"docker.io": "registry.example/hub"})
    assert offered_images(context(policies=law, site=Site(name="x", profile=mirrors))) == IMAGES


def test_lines_of_the_plan_count_too() -> None:
    about = profile("torch==2.4.1")
    plan = plan_of(about).model_copy(update={"setup": plan_of(about).setup.model_copy(update={"pip": (".", "peft")})})
    assert about.environment is not None
    assert lines_to_resolve(plan, about.environment) == (("torch==2.4.1", "peft"), ())

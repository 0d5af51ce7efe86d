"""What a repository's environment becomes in a plan: packages, image, Python, driver; and what is said of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from caravan.planning.base_images import choose_image, newest_python
from caravan.planning.cluster_fit import driver_constraints, takers
from caravan.planning.conflicts import conflicts, satisfiable
from caravan.planning.cuda import OLDEST_DRIVER, TOOLKIT_DRIVER, TORCH, cuda_need, newest_torch_for
from caravan.planning.derived import with_derived
from caravan.planning.draft import draft_plan
from caravan.planning.environment_plan import environment_warnings
from caravan.planning.environments import environment_words
from caravan.planning.jobspec import to_job_spec
from caravan.values.distributions import requirement_name
from caravan.values.environment import (
    BaseImage,
    CudaSign,
    Dockerfile,
    ImportNeed,
    PythonWish,
    RepoEnvironment,
    SystemPackage,
    Wanted,
)
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.places import SourceLine
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from tests.planning.scenes import ARCHIVE, OUTPUTS, TEMPLATES, llm_profile, node, nomad, request

A100, T4 = ("NVIDIA A100-SXM4-80GB", 81920, 1), ("Tesla T4", 15360, 1)
IMAGES = (
    BaseImage(image="pytorch/pytorch:2.6.0-cuda12.4", torch="2.6.0", cuda="12.4", python="3.11"),
    BaseImage(image="pytorch/pytorch:2.1.2-cuda11.8", torch="2.1.2", cuda="11.8", python="3.10"),
    BaseImage(image="pytorch/pytorch:2.1.2-cuda11.8-devel", torch="2.1.2", cuda="11.8", python="3.10", nvcc=True),
    BaseImage(image="python:3.11", python="3.11", tools=True),
    BaseImage(image="python:3.9", python="3.9", tools=True),
)


def at(line: int, file: str = "requirements.txt") -> SourceLine:
    return SourceLine(file=file, line=line)


def env(*lines: str, **more: Any) -> RepoEnvironment:
    declared = tuple(Wanted(line=text, where=at(n)) for n, text in enumerate(lines, 1))
    return RepoEnvironment(requirements=("requirements.txt",) if lines else (), declared=declared, **more)


def gpu_node(name: str, driver: str, *gpus: tuple[str, int, int], attribute: bool = False, **more: Any) -> NodeFacts:
    made = node(name, *(gpus or (A100,)), **more)
    if attribute:
        return made.model_copy(update={"attributes": {"driver.nvidia.version": driver}})
    return made.model_copy(update={"devices": tuple(d.model_copy(update={"driver": driver}) for d in made.devices)})


def plan_of(environment: RepoEnvironment, facts: ClusterFacts, images: tuple[BaseImage, ...] = IMAGES) -> TrainingPlan:
    profile = llm_profile(environment=environment)
    return draft_plan(profile, request(), facts, code=ARCHIVE, outputs=OUTPUTS, image=None, images=images)


def told(environment: RepoEnvironment, facts: ClusterFacts, images: tuple[BaseImage, ...] = IMAGES) -> str:
    profile = llm_profile(environment=environment)
    return "\n".join(environment_warnings(plan_of(environment, facts, images), profile, facts, images))


# --- what is installed ----------------------------------------------------------------------------------------------


def test_files_packages_and_what_is_missing_with_their_reasons() -> None:
    environment = env(
        "torch==2.6.0",
        own=".[train]",
        pip=(Wanted(line="einops==0.7", where=at(9, "README.md")),),
        missing=(ImportNeed(module="yaml", requirement="PyYAML", where=at(3, "train.py")),),
    ).model_copy(update={"requirements": ("requirements.txt", "requirements-train.txt")})
    plan = plan_of(environment, nomad(gpu_node("a", "570.86.15")))
    assert plan.setup.pip == (".[train]", "einops==0.7", "PyYAML")
    why = plan.provenance["setup.pip"].why
    assert "README.md:9" in why
    assert "train.py:3 imports yaml" in why
    assert environment_words(plan)[:2] == ("--file=requirements.txt", "--file=requirements-train.txt")


@pytest.mark.parametrize(
    "environment", [None, env("torch==2.6.0"), env(pip=(Wanted(line="papermill>=2", where=at(9)),))]
)
def test_what_runs_a_notebook_is_installed_with_it_whoever_named_it(environment: RepoEnvironment | None) -> None:
    profile = llm_profile(environment=environment, entry_point=None, launch_command=None, launcher="none")
    named = (
        PlanChange(path="command", value=["a.ipynb"], by=Author.USER),
        PlanChange(path="launch.launcher", value="notebook", by=Author.USER),
    )
    facts = nomad(gpu_node("a", "570.86.15"))
    drafted = draft_plan(profile, request(), facts, code=ARCHIVE, outputs=OUTPUTS, image=None, images=IMAGES)
    plan = with_derived(apply_changes(drafted, named), profile, "")  # as an answer
    assert {requirement_name(line) for line in plan.setup.pip} == {"papermill", "ipykernel"}
    own = request(
        sets=(
            *named,
            PlanChange(path="setup.pip", value=["x"], by=Author.USER),
        )
    )
    assert draft_plan(profile, own, facts, code=ARCHIVE, outputs=OUTPUTS, image=None, images=IMAGES).setup.pip == ("x",)


def test_an_unknown_import_is_told_and_not_guessed() -> None:
    environment = env("torch", missing=(ImportNeed(module="foolib", where=at(5, "train.py")),))
    facts = nomad(gpu_node("a", "580.65.06"))
    assert "foolib" not in " ".join(plan_of(environment, facts).setup.pip)
    assert "train.py:5 imports foolib" in told(environment, facts)


APT = (
    SystemPackage(name="ffmpeg", why="the code starts it", where=at(2, "train.py")),
    SystemPackage(name="g++", why="compiles", where=at(1)),
    SystemPackage(name="git-lfs", why="lfs", where=at(1, ".gitattributes")),
)


def test_system_packages_go_into_docker_and_are_told_elsewhere() -> None:
    facts = nomad(gpu_node("a", "570.86.15"))
    plan = plan_of(env("torch==2.6.0", system=APT), facts)
    assert plan.driver == "docker"
    assert plan.setup.apt == ("ffmpeg", "g++")
    assert "train.py:2" in plan.provenance["setup.apt"].why
    bare = nomad(gpu_node("a", "570.86.15", drivers="exec"))
    assert plan_of(env("torch==2.6.0", system=APT), bare).setup.apt == ()
    assert "must be on the nodes" in told(env("torch==2.6.0", system=APT), bare)


# --- conflicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "words", "repair"),
    [
        (("peft==0.5", "peft>=0.6"), "no version of peft", None),
        (("torch==2.1.0", "torchvision==0.17.0"), "torchvision 0.16 does", None),
        (("torch==2.1.0", "torchaudio==2.2.0"), "torchaudio 2.1 does", None),
        (("torch==2.1.0",), "built against NumPy 1", "numpy<2"),
        (("torch==2.1.0", "numpy>=2"), "asks for NumPy 2", None),
        (("tensorflow==2.15.0",), "built against NumPy 1", "numpy<2"),
    ],
)
def test_conflicts_are_found_with_their_places(lines: tuple[str, ...], words: str, repair: str | None) -> None:
    found = conflicts(env(*lines).declared, "3.10")
    hit = next(c for c in found if words in c.text)
    assert "requirements.txt:1" in hit.text
    assert hit.repair == repair


@pytest.mark.parametrize(
    "lines",
    [
        ("torch==2.1.0", "torchvision==0.16.2", "numpy==1.26.4"),
        ("torch>=2.0", "numpy"),
        ("torch==2.6.0", "numpy>=1.20"),
        ("peft>=0.5,<0.7", "peft!=0.6"),
        ("torch==2.1.0; sys_platform=='darwin'", "torch==2.6.0; sys_platform=='linux'"),
        ("torch @ https://example.org/torch.whl", "torch==1.0"),
    ],
)
def test_what_holds_together_is_no_conflict(lines: tuple[str, ...]) -> None:
    assert conflicts(env(*lines).declared, "3.11") == ()


def test_python_without_a_wheel() -> None:
    texts = [c.text for c in conflicts(env("torch==2.1.0", "numpy<2").declared, "3.12")]
    assert any("no wheel for Python 3.12: for 3.8 to 3.11" in t for t in texts)


def test_a_plain_repair_is_made_and_told() -> None:
    facts = nomad(gpu_node("a", "570.86.15"))
    plan = plan_of(env("torch==2.1.2"), facts)
    assert "numpy<2" in plan.setup.pip
    assert "NumPy 1" in plan.provenance["setup.pip"].why
    assert "numpy<2 is added" in told(env("torch==2.1.2"), facts)


BOUNDS = st.sampled_from(
    [f"{op}{v}" for op in ("==", ">=", "<=", ">", "<", "!=", "~=") for v in ("1.0", "1.2", "2.0.1")]
)


@given(st.lists(BOUNDS, max_size=4))
def test_satisfiable_misses_no_version(bounds: list[str]) -> None:
    together = SpecifierSet(",".join(bounds))
    versions = [f"{a}.{b}.{c}" for a in range(4) for b in range(4) for c in range(3)]
    if any(together.contains(v) for v in versions):
        assert satisfiable(together)


# --- CUDA and drivers -----------------------------------------------------------------------------------------------


def test_the_tables_grow() -> None:
    assert [Version(m) for m in TORCH] == sorted(Version(m) for m in TORCH)
    for table in (OLDEST_DRIVER, TOOLKIT_DRIVER):
        drivers = [Version(d) for d in table.values()]
        assert drivers == sorted(drivers)


@pytest.mark.parametrize(
    ("environment", "cuda", "driver"),
    [
        (env("torch==2.1.0+cu118", cuda=(CudaSign(version="11.8", kind="pin", where=at(1)),)), "11.8", "450.80.02"),
        (env("torch==2.4.0"), "12.1", "525.60.13"),
        (env("torch==2.12.*"), "13.0", "580.65.06"),
        (env("torch>=2.0,<2.3"), "12.1", "525.60.13"),
        (env("torch"), None, None),
        (env("jax[cuda12]==0.4.30"), "12", "525.60.13"),
        (env("tensorflow==2.15.0"), "12.2", "525.60.13"),
    ],
)
def test_what_pins_need(environment: RepoEnvironment, cuda: str | None, driver: str | None) -> None:
    need = cuda_need(environment)
    assert need is not None
    assert (need.cuda, need.driver) == (cuda, driver)


def test_nothing_of_cuda_needs_nothing() -> None:
    assert cuda_need(env("numpy", "scikit-learn")) is None


@pytest.mark.parametrize("attribute", [False, True])
def test_nodes_with_too_old_a_driver_are_left_out_by_a_constraint(attribute: bool) -> None:
    facts = nomad(gpu_node("old", "470.199.02", attribute=attribute), gpu_node("new", "570.86.15", attribute=attribute))
    plan = plan_of(env("torch==2.4.1"), facts)
    assert plan.resources.gpu_driver == "525.60.13"
    assert plan.provenance["resources.gpu_driver"].by is Author.REPOSITORY
    assert "requirements.txt:1" in plan.provenance["resources.gpu_driver"].why
    assert [n.name for n in takers(plan, facts)] == ["new"]
    spec = to_job_spec(plan, facts, run_id="r", attempt=1, job_id="j", templates=TEMPLATES)
    device = spec.groups[0].tasks[-1].resources.devices[0]
    found = [c for c in (*device.constraints, *spec.constraints) if "driver" in c.attribute]
    assert [(c.operator, c.value) for c in found] == [("version", ">= 525.60.13")]
    assert ("device.attr" in found[0].attribute) is not attribute


def test_where_some_nodes_tell_nothing_the_old_ones_are_left_out_by_name() -> None:
    facts = nomad(gpu_node("old", "470.199.02"), node("silent", A100), gpu_node("new", "570.86.15"))
    plan = plan_of(env("torch==2.4.1"), facts)
    assert driver_constraints(plan, facts)[1][0].value == "old"
    assert "not all nodes tell" in told(env("torch==2.4.1"), facts)


def test_a_driver_that_is_too_old_everywhere_is_said() -> None:
    facts = nomad(gpu_node("a", "470.199.02"), gpu_node("b", "460.1"))
    assert plan_of(env("torch==2.4.1"), facts).resources.gpu_driver is None
    said = told(env("torch==2.4.1"), facts)
    assert "525.60.13 or newer" in said
    assert "470.199.02" in said


def test_an_unpinned_torch_is_held_below_what_the_drivers_run() -> None:
    facts = nomad(gpu_node("a", "550.54.14", drivers="exec"))
    plan = plan_of(env("torch", "transformers"), facts, ())
    assert plan.setup.pip == ("torch<2.11",)
    assert "newer GPU driver" in told(env("torch", "transformers"), facts, ())
    assert newest_torch_for("580.65.06") is None
    assert plan_of(env("torch"), nomad(gpu_node("a", "580.95.05", drivers="exec")), ()).setup.pip == ()


def test_flash_attention_keeps_from_older_gpus() -> None:
    wanted = Wanted(line="flash-attn==2.5", where=at(2))
    environment = env("torch==2.4.1", "flash-attn==2.5", gpu_only=(wanted,))
    facts = nomad(gpu_node("turing", "570.86.15", T4), gpu_node("ampere", "570.86.15"))
    plan = plan_of(environment, facts)
    assert plan.exclude_nodes == ("turing",)
    assert "requirements.txt:2" in plan.provenance["exclude_nodes"].why
    old = nomad(gpu_node("turing", "570.86.15", T4))
    assert plan_of(environment, old).exclude_nodes == ()
    assert "all GPUs there are older" in told(environment, old)


def test_packages_for_gpus_without_a_gpu_are_told() -> None:
    wanted = Wanted(line="bitsandbytes", where=at(1))
    assert "works on a CUDA GPU alone" in told(env("bitsandbytes", gpu_only=(wanted,)), nomad(node()))


# --- image and Python -----------------------------------------------------------------------------------------------


def test_the_base_image_has_the_torch_that_is_asked_for() -> None:
    plan = plan_of(env("torch==2.1.2", "numpy<2"), nomad(gpu_node("a", "570.86.15")))
    assert (plan.driver, plan.image) == ("docker", "pytorch/pytorch:2.1.2-cuda11.8")
    assert "it has torch 2.1.2, as requirements.txt:1 asks" in plan.provenance["image"].why


def test_one_whose_cuda_no_driver_runs_is_not_taken() -> None:
    plan = plan_of(env("torch"), nomad(gpu_node("a", "525.60.13")))
    assert plan.image == "pytorch/pytorch:2.1.2-cuda11.8"


def test_without_a_fitting_torch_it_is_plain_python_within_the_bounds() -> None:
    bound = PythonWish(specifier=">=3.8,<3.10", required=True, where=at(4, "setup.py"))
    plan = plan_of(env("torch==2.3.1", "numpy<2", pythons=(bound,)), nomad(gpu_node("a", "570.86.15")))
    assert plan.image == "python:3.9"


def test_compiled_packages_prefer_an_image_with_cudas_compiler() -> None:
    wanted = Wanted(line="flash-attn", where=at(2))
    environment = env("torch==2.1.2", "numpy<2", "flash-attn", gpu_only=(wanted,))
    plan = plan_of(environment, nomad(gpu_node("a", "570.86.15")))
    assert plan.image == "pytorch/pytorch:2.1.2-cuda11.8-devel"


def test_without_a_gpu_no_cuda_image() -> None:
    found = choose_image(IMAGES, env("torch"), gpu=False, drivers=())
    assert found is not None
    assert found.image.image == "python:3.11"


def test_nodes_that_say_their_images_get_no_other() -> None:
    made = gpu_node("a", "570.86.15", drivers="docker")
    docker = made.drivers["docker"].model_copy(update={"images": ("python:3.9",)})
    made = made.model_copy(update={"drivers": {"docker": docker}})
    assert plan_of(env("torch==2.3.1", "numpy<2"), nomad(made)).image == "python:3.9"


def dockerfile(base: str, *, trains: bool = True) -> Dockerfile:
    return Dockerfile(path="Dockerfile", base=base, trains=trains, why="because", where=at(1, "Dockerfile"))


def test_a_training_dockerfiles_base_comes_before_the_settings() -> None:
    environment = env("torch", dockerfile=dockerfile("nvcr.io/nvidia/pytorch:25.03-py3"))
    plan = plan_of(environment, nomad(gpu_node("a", "570.86.15")))
    assert plan.image == "nvcr.io/nvidia/pytorch:25.03-py3"
    assert plan.provenance["image"].by is Author.REPOSITORY
    bare = env("torch==2.6.0", dockerfile=dockerfile("ubuntu:22.04"))
    assert plan_of(bare, nomad(gpu_node("a", "570.86.15"))).image == "pytorch/pytorch:2.6.0-cuda12.4"


def test_a_dockerfile_for_something_else_is_left_and_told_why() -> None:
    environment = env("torch==2.6.0", dockerfile=dockerfile("python:3.11", trains=False))
    facts = nomad(gpu_node("a", "570.86.15"))
    assert plan_of(environment, facts).image == "pytorch/pytorch:2.6.0-cuda12.4"
    assert "Dockerfile is not used: because" in told(environment, facts)


def test_what_the_user_names_stays() -> None:
    profile = llm_profile(environment=env("torch==2.6.0"))
    said = request(answers={"image": "own/image:1"})
    facts = nomad(gpu_node("a", "570.86.15"))
    plan = draft_plan(profile, said, facts, code=ARCHIVE, outputs=OUTPUTS, image=None, images=IMAGES)
    assert plan.image == "own/image:1"


def test_another_python_than_asked_for_is_told() -> None:
    wish = PythonWish(specifier="==3.8.*", where=at(3, "README.md"))
    bound = PythonWish(specifier=">=3.12", required=True, where=at(1, "pyproject.toml"))
    facts = nomad(gpu_node("a", "570.86.15"))
    assert "README.md:3 was made with 3.8" in told(env("torch==2.6.0", pythons=(wish,)), facts)
    only = (BaseImage(image="python:3.12", python="3.12"),)
    assert "asks for >=3.12" not in told(env("torch==2.6.0", pythons=(bound,)), facts, only)
    assert newest_python(env("torch==2.1.0", pythons=(wish,))) == "3.8"
    assert newest_python(env("torch==2.1.0", pythons=(bound,))) is None
    assert newest_python(env("numpy")) is None
    unknown = nomad(gpu_node("a", "570.86.15", drivers="exec"))
    assert "is not known" in told(env("torch==2.6.0", pythons=(wish,)), unknown)


def test_without_findings_the_names_of_files_count() -> None:
    profile = llm_profile(dependency_files=("requirements.txt", "pyproject.toml"))
    facts = nomad(node("a", A100))
    plan = draft_plan(profile, request(), facts, code=ARCHIVE, outputs=OUTPUTS, image=None)
    assert plan.setup.requirements == "requirements.txt"
    assert environment_warnings(plan, profile, facts) == ()

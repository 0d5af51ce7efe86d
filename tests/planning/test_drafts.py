import pytest

from caravan.planning.checks import check_plan
from caravan.planning.delivery import not_from_git
from caravan.planning.draft import draft_plan
from caravan.planning.prompt_reading import read_prompt
from caravan.planning.remembered import propose_changes
from caravan.values.errors import PlanError
from caravan.values.job import ClusterFacts, DriverFacts, HostVolume
from caravan.values.plan import Author, CodeSource, Mount, OutputSink, PlanChange, Setup, TrainingPlan, apply_changes
from caravan.values.repo import GitState, RepoProfile
from tests.planning.scenes import (
    ARCHIVE,
    GIT,
    OUTPUTS,
    bare_plan,
    builtin,
    llm_profile,
    node,
    nomad,
    numpy_profile,
    request,
    volumes,
)

A100 = ("NVIDIA A100-SXM4-80GB", 81920, 4)


def draft(
    profile: RepoProfile, facts: ClusterFacts, prompt: str = "go", *, image: str | None = "a/b:1", **more: object
) -> TrainingPlan:
    return draft_plan(profile, request(prompt, **more), facts, code=GIT, outputs=OUTPUTS, image=image)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        (
            "Fine-tune Qwen/Qwen2.5-7B with LoRA for 3 epochs, learning rate 1e-4, on 2 A100 GPUs under $20",
            {"training.method": "lora", "training.epochs": 3, "training.lr": 1e-4, "model.id": "Qwen/Qwen2.5-7B",
             "resources.gpus": 2, "resources.gpu_model": "A100", "limits.max_cost_usd": 20},
        ),
        ("QLoRA Qwen2.5-7B-Instruct on two GPUs within 2 hours",
         {"training.method": "qlora", "model.id": "Qwen2.5-7B-Instruct", "resources.gpus": 2,
          "limits.max_run_s": 7200}),
        ("4x H100 80GB, batch size 8",
         {"resources.gpus": 4, "resources.gpu_model": "H100 80GB", "training.micro_batch": 8}),
        ("cpu only, 100 steps, seed 3, rank 8",
         {"training.max_steps": 100, "training.lora_rank": 8, "training.seed": 3, "resources.gpus": 0}),
        ("full fine-tuning at lr=2e-5 with a budget of 12.5 dollars",
         {"training.method": "full", "training.lr": 2e-5, "limits.max_cost_usd": 12.5}),
        ("train on 2 nodes with 4 GPUs each", {"launch.nodes": 2, "resources.gpus": 4}),
        ("8 GPUs over two machines", {"launch.nodes": 2, "resources.gpus": 4}),
        ("teach it to write poems", {}),
        ("0 epochs, batch size 0", {}),
    ],
)  # fmt: skip
def test_what_a_sentence_says(prompt: str, wanted: dict[str, object]) -> None:
    changes = read_prompt(prompt)
    assert {c.path: c.value for c in changes} == wanted
    assert all(c.by is Author.USER and c.why.startswith('prompt: "') for c in changes)


def test_every_field_that_is_set_says_by_whom_and_why() -> None:
    plan = draft(llm_profile(), nomad(node("a", A100)), "LoRA, 2 epochs")
    bare = TrainingPlan(goal="", command=("x",))
    for path in ("command", "flags", "training.micro_batch", "training.method", "driver", "image", "resources.gpus"):
        assert plan.get(path) != bare.get(path) or path == "driver"
        assert plan.provenance[path].why
    assert plan.set_by("training.method") is Author.USER
    assert plan.set_by("training.micro_batch") is Author.REPOSITORY
    assert plan.set_by("driver") is Author.CLUSTER


@pytest.mark.parametrize(
    ("facts", "image", "driver"),
    [
        (nomad(node("a")), "a/b:1", "docker"),
        (nomad(node("a")), None, "exec"),
        (nomad(node("a", drivers="raw_exec")), "a/b:1", "raw_exec"),
        (builtin(node("a")), "a/b:1", "raw_exec"),
        (builtin(node("a", drivers="docker")), "a/b:1", "docker"),
        (nomad(), None, "docker"),
    ],
)
def test_the_driver_is_one_that_the_nodes_have(facts: ClusterFacts, image: str | None, driver: str) -> None:
    plan = draft(numpy_profile(), facts, image=image)
    assert plan.driver == driver
    assert plan.image == (image if driver == "docker" else None)


def test_here_the_nodes_own_interpreter_and_the_shared_places_are_used() -> None:
    plan = draft_plan(numpy_profile(), request(), builtin(), code=ARCHIVE, outputs=OUTPUTS, image=None)
    assert plan.setup == Setup(python="/opt/python/bin/python3", requirements="requirements.txt")
    assert (plan.code, plan.outputs, plan.resources.gpus) == (ARCHIVE, OUTPUTS, 0)
    assert check_plan(plan, builtin()) == ()


@pytest.mark.parametrize(
    ("profile", "nodes", "gpus", "by"),
    [
        (numpy_profile(), (node("a", A100),), 0, Author.DEFAULT),
        (llm_profile(), (node("a", A100),), 1, Author.DEFAULT),
        (llm_profile(num_gpus=2), (node("a", A100),), 2, Author.REPOSITORY),
        (llm_profile(num_gpus=8), (node("a", A100),), 4, Author.CLUSTER),
        (llm_profile(), (node("a"),), 0, Author.CLUSTER),
        (llm_profile(num_gpus=0), (node("a", A100),), 0, Author.DEFAULT),
    ],
)
def test_gpus(profile: RepoProfile, nodes: tuple[object, ...], gpus: int, by: Author) -> None:
    plan = draft(profile, nomad(*nodes))  # type: ignore[arg-type]
    assert (plan.resources.gpus, plan.set_by("resources.gpus")) == (gpus, by)
    assert plan.launch.nproc == max(1, gpus if profile.launcher.value == "torchrun" else 1)


def test_gpus_in_another_pool_are_found() -> None:
    facts = nomad(node("cpu", node_pool="cpu"), node("a", A100, node_pool="gpu"))
    assert draft(llm_profile(), facts).node_pool == "gpu"
    assert draft(numpy_profile(), facts).node_pool == "cpu"
    assert draft(numpy_profile(), nomad(node("a"), node("b", node_pool="gpu"))).node_pool is None


def test_resources_stay_within_what_nodes_have() -> None:
    plan = draft(numpy_profile(), nomad(node("small", cpu_mhz=800, memory_mb=1000, disk_mb=1000)))
    assert (plan.resources.cpu_mhz, plan.resources.memory_mb, plan.resources.disk_mb) == (720, 900, 900)


def test_the_users_words_come_last_and_set_beats_the_sentence() -> None:
    sets = (PlanChange(path="training.epochs", value=7, by=Author.USER),)
    plan = draft(numpy_profile(), builtin(), "3 epochs, lr 0.1", sets=sets, answers={"training.lr": "0.2", "seed": 5})
    assert (plan.training.epochs, plan.training.lr, plan.training.seed) == (7, 0.2, 5)


def test_a_model_that_the_repository_names_too_keeps_its_owner() -> None:
    named = llm_profile(base_model="decapoda-research/llama-7b-hf")
    assert draft(named, nomad(node("a", A100)), "fine-tune LLaMA-7B").model.id == "decapoda-research/llama-7b-hf"
    assert draft(llm_profile(), nomad(node("a", A100)), "fine-tune Qwen2.5-7B").model.id == "Qwen/Qwen2.5-7B"


def test_a_wrong_set_is_an_error_of_the_user() -> None:
    with pytest.raises(PlanError, match=r"training\.lr"):
        draft(numpy_profile(), builtin(), sets=(PlanChange(path="training.lr", value=-1, by=Author.USER),))


def test_the_metric_that_is_clearly_meant_is_the_target() -> None:
    target = draft(llm_profile(), builtin()).target
    assert target is not None
    assert (target.metric, target.direction, target.goal) == ("eval_loss", "min", None)
    assert draft(llm_profile(metrics_logged=("accuracy", "loss")), builtin()).target is None


def test_processes_follow_the_gpus() -> None:
    facts = nomad(node("a", A100))
    plan = apply_changes(draft(llm_profile(), facts), [PlanChange(path="resources.gpus", value=4, by=Author.ANSWER)])
    assert [(c.path, c.value) for c in propose_changes(plan, llm_profile(), facts, ())] == [("launch.nproc", 4)]


def test_what_is_impossible_is_said_with_what_is_near() -> None:
    facts = nomad(node("a", A100), node("b", ("NVIDIA L4", 23034, 1)))

    def problems(at: ClusterFacts = facts, **fields: object) -> str:
        values = {"code.kind": "git", "driver": "exec", **{k.replace("__", "."): v for k, v in fields.items()}}
        changes = [PlanChange(path=p, value=v, by=Author.USER) for p, v in values.items()]
        return " ".join(check_plan(apply_changes(bare_plan("t.py", code=GIT, outputs=OutputSink()), changes), at))

    assert problems() == ""
    assert "nearest is resources.gpus=4" in problems(resources__gpus=8)
    assert "4 x NVIDIA A100-SXM4-80GB (81920 MiB), 1 x NVIDIA L4" in problems(
        resources__gpus=1, resources__gpu_model="H100"
    )
    assert "with 90000 MiB" in problems(resources__gpus=1, resources__gpu_memory_mib=90000)
    assert "nearest is resources.gpus=0" in problems(nomad(node("c")), resources__gpus=1)
    assert "largest fitting node has 128000 (resources.memory_mb)" in problems(resources__memory_mb=200000)
    assert "healthy driver podman; they have docker, exec, raw_exec" in problems(driver="podman")
    assert "there are nodes in datacenters dc1, in pools default" in problems(datacenters=["dc9"])
    assert "no node that takes new work" in problems(nomad())
    assert "no image is named" in problems(driver="docker")
    assert "image" not in problems(driver="docker", datacenters=["dc9"])
    assert "can't see the code on this machine" in problems(code__kind="archive", code__location="/x.tgz")
    assert problems(builtin(node("a")), code__kind="archive", code__location="/x.tgz") == ""
    assert "NUL" in problems(command=["a\0b"])
    assert "NUL" in problems(env__X="a\0b")


@pytest.mark.parametrize(
    ("git", "said"),
    [
        (None, "no git repository"),
        ({"dirty_files": 1}, "1 file is not committed"),
        ({"remote_url": None}, "no remote"),
        ({"pushed": False}, "commit abc1234 is not on origin"),
        ({"pushed": None}, "commit abc1234 is not on origin"),
        ({}, ""),
    ],
)
def test_why_the_code_does_not_come_from_git_is_told(git: dict[str, object] | None, said: str) -> None:
    fields = {"commit": "abc1234" + "0" * 33, "remote_url": "https://x.example/r.git", "pushed": True}
    state = None if git is None else GitState.model_validate({**fields, **git})
    profile = numpy_profile(git=state)
    why, real = not_from_git("/repo", profile), nomad(node("a"))
    assert said in why
    plan = bare_plan("t.py", code=CodeSource(kind="archive", location="/x.tgz"))
    assert why in " ".join(check_plan(plan, real, unpushed=why))


def test_images_and_mounts_are_checked() -> None:
    known = {"docker": DriverFacts(images=("local/python:3.11",)), "raw_exec": DriverFacts()}
    here = builtin(node("a", drivers="docker", host_volumes=volumes(data=True)).model_copy(update={"drivers": known}))
    plan = bare_plan(driver="docker", image="no/such:1", code=CodeSource(kind="image"))
    assert check_plan(plan, here) == (
        "No node of the built-in cluster has the image no/such:1; they have local/python:3.11.",
    )
    mounts = (Mount(kind="host", source="nope", destination="/d"), Mount(kind="host", source="data", destination="/e"))
    plan = bare_plan(driver="raw_exec", mounts=mounts)
    said = " ".join(check_plan(plan, here))
    assert "has the host volume nope; they have data" in said
    assert "raw_exec can't mount the volume data" in said
    readable = node("b").model_copy(update={"host_volumes": {"nope": HostVolume(path="/n", read_only=True)}})
    away = readable.model_copy(update={"node_pool": "other"})
    elsewhere = here.model_copy(update={"nodes": (*here.nodes, away)})
    assert "It is read-only on b." in " ".join(check_plan(plan, elsewhere))

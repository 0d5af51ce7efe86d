"""Plans for the scripts of training types: which option says what, several GPUs, what is done when memory runs out."""

from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.agent.rules import outlook_of
from caravan.diagnosis.ladders.case import Case, Looks
from caravan.diagnosis.repair import ladder
from caravan.planning.catalogue import Prices
from caravan.planning.checks import check_job
from caravan.planning.choose import chosen
from caravan.planning.command import command_line, unpassed
from caravan.planning.draft import draft_plan
from caravan.planning.environments import environment_words, requirement_files
from caravan.planning.estimate import estimate
from caravan.planning.launchers import launch_words
from caravan.planning.resume import resume_changes
from caravan.training.declared import declared, takes
from caravan.training.loading import load_types
from caravan.training.rendering import render
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass
from caravan.values.job import ClusterFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile
from caravan.values.training import TrainingChoice
from tests.planning.scenes import ARCHIVE, OUTPUTS, node, nomad, request

TYPES = load_types(TEMPLATES / "train")
A100 = ("NVIDIA A100-SXM4-80GB", 81920)
PRICES = Prices()


def profile_of(name: str, model: str | None = "Qwen/Qwen2.5-7B", data: str | None = "data/train.jsonl") -> RepoProfile:
    found = TYPES.get(name).type
    choice = TrainingChoice(type=found.name, digest="d", data=data, model=model, sets=TYPES.sets(name), why="named")
    read = RepoProfile(root="/r", tree_digest="0" * 64, is_training_repo=False)
    return declared(read, found, choice, data_sure=0.9, preparation=())


def plan_of(profile: RepoProfile, facts: ClusterFacts, prompt: str = "fine-tune it", **sets: Any) -> TrainingPlan:
    said = tuple(PlanChange(path=p.replace("__", "."), value=v, by=Author.USER) for p, v in sets.items())
    plan = draft_plan(profile, request(prompt, sets=said), facts, code=ARCHIVE, outputs=OUTPUTS, image="a/b:1")
    return apply_changes(plan, [PlanChange(path="training.type", value="sft", by=Author.DEFAULT)])


def fitted(plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts) -> TrainingPlan:
    first = estimate(plan, facts, prices=PRICES, profile=profile)
    choice = chosen(plan, first, facts, 1.0, prices=PRICES, profile=profile)
    return apply_changes(plan, choice.changes)


@pytest.mark.parametrize("name", TYPES.names)
def test_every_knob_of_a_plan_s_field_reaches_the_command(name: str) -> None:
    profile, facts = profile_of(name), nomad(node("a", (*A100, 1)))
    for knob in TYPES.get(name).type.knobs:
        value = _another(knob)
        if not knob.path or value is None:
            continue
        plan = apply_changes(
            plan_of(profile, facts), [PlanChange(path=knob.path, value=value, by=Author.USER, why="--set")]
        )
        words = command_line(plan)
        assert knob.flag in words, knob.name
        said = words[words.index(knob.flag) + 1]
        assert said == (str(value).lower() if isinstance(value, bool) else f"{value:g}" if _number(value) else value)
        assert knob.path not in unpassed(plan)
    assert set(takes(TYPES.get(name).type).values()) >= {
        k.flag for k in TYPES.get(name).type.knobs if k.path and k.type != "boolean"
    }


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _another(knob: Any) -> Any:
    """A value that the knob may have and has not by itself."""
    if knob.type == "boolean":
        return not knob.default
    if knob.type == "choice":
        return next((c for c in reversed(knob.choices) if c not in (knob.default, "auto")), None)
    if knob.type in ("integer", "number"):
        value = int(max(knob.least or 0, 1)) + 2
        return value if knob.most is None or value <= knob.most else None
    return "something"


def test_what_is_known_stands_in_the_command_and_the_rest_is_the_script_s_own() -> None:
    plan = plan_of(profile_of("qlora"), nomad(node("a", (*A100, 1))))
    words = " ".join(command_line(plan))
    assert words.startswith("caravan_train/train.py --model Qwen/Qwen2.5-7B --data data/train.jsonl --method qlora")
    assert "--lr" not in words
    assert plan.setup.requirements == "caravan_train/requirements.txt"
    (change,) = resume_changes(plan, profile_of("qlora"))
    assert change.value["auto"] is True


def test_a_model_that_does_not_fit_one_gpu_is_spread_over_those_that_are_asked_for() -> None:
    facts, profile = nomad(node("a", (*A100, 8), memory_mb=900_000)), profile_of("full")
    plan = fitted(plan_of(profile, facts, resources__gpus=8), profile, facts)
    words = launch_words(plan)
    assert words[:3] == ("python", "-m", "torch.distributed.run")
    assert "--nproc-per-node=8" in words
    assert words[words.index("--fsdp") + 1] == "full_shard"
    assert estimate(plan, facts, prices=PRICES, profile=profile).fits


@pytest.mark.parametrize("name", TYPES.names)
@pytest.mark.parametrize("author", [Author.USER, Author.REPAIR, Author.ESTIMATE])
def test_deepspeed_is_installed_where_it_is_on_whoever_has_set_it(name: str, author: Author) -> None:
    facts, profile = nomad(node("a", (*A100, 4), memory_mb=900_000)), profile_of(name)
    plan = plan_of(profile, facts, resources__gpus=4)
    more = "caravan_train/shared/requirements-deepspeed.txt"
    assert plan.setup.option_requirements == {"--deepspeed": more}
    assert requirement_files(plan) == ("caravan_train/requirements.txt",)
    for value, files in (("off", ()), ("zero3", (more,)), ("zero2_offload", (more,))):
        change = PlanChange(path="training.options.--deepspeed", value=value, by=author)
        after = apply_changes(plan, [change])
        assert requirement_files(after) == ("caravan_train/requirements.txt", *files)
        assert [w for w in environment_words(after) if "deepspeed" in w] == [f"--file={f}" for f in files]
        words = launch_words(after)
        assert words[:3] == ("python", "-m", "torch.distributed.run")
        assert words[words.index("--deepspeed") + 1] == value
    assert more in render(TYPES.get(name)), "the file is among those that are delivered"


def test_deepspeed_is_installed_as_well_where_the_command_has_it_and_a_plan_file_keeps_it() -> None:
    facts, profile = nomad(node("a", (*A100, 4), memory_mb=900_000)), profile_of("full")
    plan = plan_of(profile, facts, resources__gpus=4)
    typed = plan.model_copy(update={"command": (*plan.command, "--deepspeed=zero3")})
    assert len(requirement_files(typed)) == 2
    last = plan.model_copy(update={"command": (*plan.command, "--deepspeed", "zero3", "--deepspeed", "off")})
    assert len(requirement_files(last)) == 1, "the last one counts"
    again = TrainingPlan.model_validate_json(typed.model_dump_json())
    assert requirement_files(again) == requirement_files(typed)


def test_two_ways_to_shard_are_refused_before_the_launch() -> None:
    facts, profile = nomad(node("a", (*A100, 4), memory_mb=900_000)), profile_of("full")
    plan = plan_of(profile, facts, resources__gpus=4)
    both = {"--fsdp": "full_shard", "--deepspeed": "zero3"}
    found = check_job(apply_changes(plan, [PlanChange(path="training.options", value=both, by=Author.USER)]), facts)
    assert [text for text in found if "--fsdp and --deepspeed" in text]
    one = apply_changes(plan, [PlanChange(path="training.options", value={"--fsdp": "full_shard"}, by=Author.USER)])
    assert not [text for text in check_job(one, facts) if "--deepspeed" in text]


def test_one_gpu_is_started_by_python_and_fits_by_checkpointing() -> None:
    facts, profile = nomad(node("a", ("NVIDIA RTX A5000", 24576, 1))), profile_of("lora")
    plan = fitted(plan_of(profile, facts), profile, facts)
    words = launch_words(plan)
    assert words[:2] == ("python", "caravan_train/train.py")
    assert words[words.index("--grad-checkpointing") + 1] == "true"
    assert estimate(plan, facts, prices=PRICES, profile=profile).fits


def test_memory_that_ran_out_leads_from_all_weights_to_an_adapter_to_a_quantised_model() -> None:
    facts, profile = nomad(node("a", (*A100, 1))), profile_of("full")
    plan = fitted(plan_of(profile, facts), profile, facts)
    diagnosis = Diagnosis(failure=FailureClass.CUDA_OOM, cause="out of memory", confidence=0.9)
    looks = Looks(lambda _: (), lambda _: "", lambda: ())
    case = Case(
        diagnosis, plan, profile, facts, (), outlook_of(diagnosis, plan, facts, PRICES, None, (), profile), looks
    )
    changed = [{c.path: c.value for c in r.changes} for r in ladder(case) if isinstance(r, ChangePlan)]
    methods = [values["training.method"] for values in changed if "training.method" in values]
    assert list(dict.fromkeys(methods)) == ["lora", "qlora"]
    for values in changed:
        after = apply_changes(plan, [PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in values.items()])
        assert command_line(after) != command_line(plan), "the program is told"

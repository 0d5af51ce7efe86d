"""A plan that was written to a file and is drafted from it again is the same plan, with the same command."""

import pytest

from caravan.planning.command import command_line
from caravan.planning.draft import draft_plan
from caravan.planning.plan_reading import read_plan_file
from caravan.runs.plan_file import draft_text
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import Author, CodeSource, OutputSink, PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile, ScriptOption
from tests.planning.scenes import builtin, llm_profile, node, nomad, numpy_profile, request

FACTS = {
    "none": ClusterFacts(kind=ClusterKind.NONE, address=""),
    "builtin": builtin(),
    "nomad": nomad(node("n1", ("NVIDIA A100-SXM4-80GB", 81920, 8), node_pool="gpu")),
}
PROFILES = {
    "numpy": numpy_profile(),
    "llm": llm_profile(),
    "llm named": llm_profile(base_model="Qwen/Qwen2.5-7B", dataset="org/chats", num_gpus=4),
    "total batch": numpy_profile(
        options=(*numpy_profile().options, ScriptOption(flag="--total-batch-size", default=64))
    ),
}
PROMPTS = (
    "fine-tune it",
    "fine-tune Qwen/Qwen2.5-7B on org/chats for 3 epochs with lr 1e-4",
    "train with LoRA on two A100s, with an effective batch of 64, for less than 40 dollars",
    "train on the CPU with a batch size of 4",
)


def drafted(profile: RepoProfile, facts: ClusterFacts, prompt: str, sets: tuple[PlanChange, ...] = ()) -> TrainingPlan:
    code = CodeSource(kind="image", location="/app")
    asked = request(prompt, sets=sets)
    return draft_plan(profile, asked, facts, code=code, outputs=OutputSink(), image="registry.example/train:1")


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_file_gives_the_same_plan_again(profile: str, facts: str, prompt: str) -> None:
    first = drafted(PROFILES[profile], FACTS[facts], prompt)
    written = read_plan_file(draft_text(first, "/repo"), "plan.yaml")
    again = drafted(PROFILES[profile], FACTS[facts], prompt, written.changes)
    assert again.digest() == first.digest()
    assert command_line(again) == command_line(first)
    assert all(again.set_by(change.path) is Author.USER for change in written.changes if change.path != "goal")


def test_a_value_that_is_changed_is_told_to_the_program_and_one_that_is_left_is_not() -> None:
    first = drafted(PROFILES["llm named"], FACTS["nomad"], "fine-tune it")
    text = draft_text(first, "/repo").replace("id: Qwen/Qwen2.5-7B", "id: org/other-7b")
    again = drafted(PROFILES["llm named"], FACTS["nomad"], "fine-tune it", read_plan_file(text, "p").changes)
    assert "org/other-7b" in command_line(again)
    assert again.asked("model.id")
    assert not again.asked("dataset.path")


def test_a_variable_that_the_file_leaves_out_of_the_environment_is_left_out() -> None:
    profile = numpy_profile(launch_command="A=1 B=2 python train.py")
    text = "env:\n  B: '2'\n  C: '3'\n"
    plan = drafted(profile, FACTS["none"], "train it", read_plan_file(text, "p").changes)
    assert {k: v for k, v in plan.env.items() if len(k) == 1} == {"B": "2", "C": "3"}

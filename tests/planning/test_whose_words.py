"""What only the sentence says is the user's; the program's device and processes follow the GPUs that are planned."""

from caravan.agent.approval import not_followed
from caravan.planning.draft import draft_plan
from caravan.planning.processes import process_notes
from caravan.values.plan import Author, TrainingPlan
from caravan.values.repo import Launcher, RepoProfile, ScriptOption
from tests.planning.scenes import ARCHIVE, OUTPUTS, builtin, node, numpy_profile, request


def drafted(profile: RepoProfile, prompt: str, gpus: int = 0) -> TrainingPlan:
    facts = builtin(node("a", *([("A100", 81920, gpus)] if gpus else [])))
    return draft_plan(profile, request(prompt), facts, code=ARCHIVE, outputs=OUTPUTS, image=None)


def test_a_method_and_a_model_that_only_the_sentence_has_are_the_user_s_and_said_not_to_be_followed() -> None:
    profile = numpy_profile(method="grpo", base_model="Llama-3.1-8B")
    plan = drafted(profile, "Do GRPO with Llama 3.1 8B")
    assert plan.set_by("training.method") is Author.USER
    assert plan.set_by("model.id") is Author.USER
    assert set(not_followed(plan, profile)) >= {"training.method", "model.id"}


def test_a_method_that_a_program_imports_is_followed() -> None:
    profile = numpy_profile(method="lora", libraries=("torch", "peft"))
    plan = drafted(profile, "a LoRA on my texts")
    assert "training.method" not in not_followed(plan, profile)


def test_the_device_follows_the_gpus_and_further_ones_are_said_to_idle() -> None:
    options = (*numpy_profile().options, ScriptOption(flag="--device", default="cpu", type="str"))
    profile = numpy_profile(options=options, libraries=("torch",), framework="pytorch", distributed="ddp")
    plan = drafted(profile, "train with 2 GPUs", gpus=2)
    assert plan.resources.gpus == 2
    assert plan.training.options["--device"] == "cuda"
    assert plan.launch.launcher is Launcher.PYTHON
    assert any("idle" in note for note in process_notes(plan, profile, None))
    assert "--device" not in drafted(profile, "train on the CPU").training.options

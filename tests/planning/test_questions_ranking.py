import pytest

from caravan.planning.question_rules import documented
from caravan.planning.questions import draft_questions, offered
from caravan.values.failure import FailureClass, PastCase
from caravan.values.metric_names import clear_metric, judging
from caravan.values.repo import EntryCandidate, Launcher, RepoProfile, ScriptOption, SourceLine
from tests.planning.scenes import builtin, candidates, llm_profile, node, nomad, numpy_profile, volumes

A100 = ("NVIDIA A100-SXM4-80GB", 81920, 4)
L4 = ("NVIDIA L4", 23034, 1)


def ids(*args: object, **more: object) -> list[str]:
    return [q.id for q in draft_questions(*args, **more)]  # type: ignore[arg-type]


def test_a_repository_without_gaps_is_not_asked_about() -> None:
    assert ids(numpy_profile(), "fine-tune it", builtin(), ()) == []


def test_the_costliest_gaps_come_first_and_no_more_than_five() -> None:
    facts = nomad(node("a", A100, host_volumes=volumes(ckpt=False, data=True)), node("b", L4))
    assert ids(llm_profile(), "fine-tune it", facts, ()) == ["base_model", "dataset", "max_cost", "method", "epochs"]


def test_what_the_sentence_says_is_not_asked() -> None:
    facts = nomad(node("a", A100), node("b", L4))
    prompt = "LoRA on Qwen/Qwen2.5-7B for 2 epochs on 2 A100 under $30"
    assert ids(llm_profile(), prompt, facts, (), answered=("outputs",)) == ["dataset"]


def test_what_set_or_an_answers_file_gives_is_not_asked() -> None:
    answered = ("model.id", "dataset", "limits.max_cost_usd", "outputs")
    found = ids(llm_profile(), "go", nomad(node("a", A100)), (), answered=answered)
    assert found == ["method", "epochs", "gpus"]


def test_gpu_types_of_which_no_node_has_enough_are_no_choices() -> None:
    facts = nomad(node("a", A100), node("b", L4), node("c", ("NVIDIA H200", 143771, 4)))
    answered = ("model.id", "dataset", "outputs", "method", "epochs")

    def choices(prompt: str, gpus: object = None) -> list[object]:
        found = draft_questions(llm_profile(), prompt, facts, (), answered=answered)
        return [c for q in offered(found, facts, gpus) if q.id == "gpu_type" for c in q.choices]

    assert choices("train") == ["NVIDIA A100-SXM4-80GB", "NVIDIA H200", "NVIDIA L4"]
    assert choices("train on 4 GPUs") == ["NVIDIA A100-SXM4-80GB", "NVIDIA H200"]
    assert choices("train", 4) == ["NVIDIA A100-SXM4-80GB", "NVIDIA H200"]
    assert choices("train", 8) == []


def test_close_entry_points_are_asked_with_their_launchers() -> None:
    near = candidates(
        ("sft.py", Launcher.TORCHRUN, 1.0), ("dpo.py", Launcher.PYTHON, 0.9), ("x.py", Launcher.BASH, 0.1)
    )
    (first,) = (q for q in draft_questions(llm_profile(candidates=near), "go", builtin(), ()) if q.id == "entry_point")
    assert (first.id, first.default, first.choices) == ("entry_point", "torchrun sft.py", ("torchrun sft.py", "dpo.py"))
    assert "entry_point" not in ids(llm_profile(candidates=near), "train with dpo.py", builtin(), ())


def test_a_placeholder_in_the_documented_command_is_a_gap() -> None:
    profile = numpy_profile(
        launch_command="python train.py --config <your config> --data x",
        options=(ScriptOption(flag="--config", help="a file"), ScriptOption(flag="--key", required=True)),
    )
    found = draft_questions(profile, "go", builtin(), ())
    assert [(q.id, q.path) for q in found] == [
        ("option:--config", "training.options.--config"),
        ("option:--key", "training.options.--key"),
    ]
    assert found[0].text == "Which value shall --config have? (a file)"


def test_what_the_documented_command_or_a_launcher_gives_is_not_asked() -> None:
    profile = numpy_profile(
        launch_command="python train.py -m my_run --config=$(pwd)/configs/a.py:b16,c10 --work $PWD",
        base_model=None,
        options=(
            ScriptOption(flag="--model", aliases=("-m",), required=True, help="Model name"),
            ScriptOption(flag="--config", required=True),
            ScriptOption(flag="--work", required=True),
            ScriptOption(flag="--local_rank", required=True, type="int"),
        ),
    )
    assert draft_questions(profile, "go", builtin(), ()) == ()
    command = documented(profile)
    assert command is not None
    assert command.command == ("train.py", "-m", "my_run", "--config=configs/a.py:b16,c10", "--work", ".")


@pytest.mark.parametrize(("kind", "asked"), [(nomad, True), (builtin, False)])
def test_money_is_asked_for_where_gpus_cost_some(kind: object, asked: bool) -> None:
    facts = kind(node("a", A100))  # type: ignore[operator]
    assert ("max_cost" in ids(llm_profile(), "go", facts, ())) is asked


def test_without_gpus_nothing_about_gpus_is_asked() -> None:
    assert not {"gpus", "gpu_type", "max_cost"} & set(ids(llm_profile(), "go", nomad(node("a")), ()))
    assert not {"gpus", "gpu_type", "max_cost"} & set(ids(llm_profile(), "on the cpu", nomad(node("a", A100)), ()))


def test_a_past_failure_makes_its_question_more_urgent() -> None:
    case = PastCase(id="1", failure=FailureClass.DATA_PATH_MISSING, text="no data")
    assert ids(llm_profile(), "go", builtin(), (case,))[0] == "dataset"
    assert ids(llm_profile(), "go", builtin(), ())[0] == "base_model"


def test_the_metric_is_asked_for_when_several_could_be_meant() -> None:
    assert ids(numpy_profile(metrics_logged=("loss", "eval_loss", "tokens/s", "lr")), "go", builtin(), ()) == []
    logged = ("eval_loss", "eval_accuracy", "step")
    found = draft_questions(numpy_profile(metrics_logged=logged), "go", builtin(), ())
    assert [(q.id, q.default, q.choices) for q in found] == [("target_metric", "eval_loss", logged[:2])]
    assert ids(numpy_profile(metrics_logged=logged), "best eval_accuracy please", builtin(), ()) == []


@pytest.mark.parametrize(("image", "default"), [(None, "allocation"), ("registry.example.com/torch:2", "volume:ckpt")])
def test_a_volume_is_the_default_only_where_a_driver_will_mount_it(image: str | None, default: str) -> None:
    facts = nomad(node("a", A100, drivers="docker raw_exec", host_volumes=volumes(ckpt=False)))
    rest = ("model.id", "dataset.path", "method")
    (asked,) = (
        q for q in draft_questions(llm_profile(), "go", facts, (), answered=rest, image=image) if q.id == "outputs"
    )
    assert asked.default == default


def test_weights_that_would_be_lost_are_asked_about_before_what_costs_less() -> None:
    assert ids(llm_profile(), "go", nomad(node("a", A100)), ())[:3] == ["base_model", "dataset", "outputs"]


def test_what_was_found_with_little_confidence_is_asked_with_it_as_the_default() -> None:
    found = {"base_model": "a/llama-7b", "dataset": "a/data", "method": "lora"}
    sure = llm_profile(**found, confidence={"base_model": 0.9, "dataset": 0.6})
    unsure = llm_profile(**found, confidence={"base_model": 0.3, "dataset": 0.45})
    assert ids(sure, "go", builtin(), ()) == ["epochs"]
    first, second, *_ = draft_questions(unsure, "go", builtin(), ())
    assert (first.id, first.default, first.required) == ("base_model", "a/llama-7b", False)
    assert (second.id, second.default) == ("dataset", "a/data")
    assert first.cost_of_wrong == pytest.approx(0.7)
    assert "base_model" not in ids(unsure, "train Qwen/Qwen2.5-7B", builtin(), ())


def test_the_closer_the_entry_points_the_more_a_wrong_one_would_cost() -> None:
    def stake(second: float) -> float:
        near = candidates(("sft.py", Launcher.TORCHRUN, 1.0), ("dpo.py", Launcher.PYTHON, second))
        profile = numpy_profile(entry_point="sft.py", candidates=near)
        return draft_questions(profile, "go", builtin(), ())[0].cost_of_wrong

    assert stake(0.82) < stake(0.99) <= 0.5


def test_a_guess_at_the_number_of_gpus_is_asked_about_and_a_documented_number_is_not() -> None:
    facts = nomad(node("a", A100))
    answered = ("model.id", "dataset.path", "outputs", "method", "epochs", "max_cost")
    guess, documented = ({"num_gpus": 4, "confidence": {"num_gpus": c}} for c in (0.4, 0.9))
    found = draft_questions(llm_profile(**guess), "go", facts, (), answered=answered)
    assert [(q.id, q.default, q.choices) for q in found] == [("gpus", 4, (1, 2, 4))]
    assert draft_questions(llm_profile(**documented), "go", facts, (), answered=answered) == ()


def test_an_entry_point_that_the_other_one_calls_is_no_other_training() -> None:
    calls = SourceLine(file="train.py", line=3)
    near = (
        EntryCandidate(entry_point="train_mem.py", launcher=Launcher.PYTHON, score=9.0, evidence=(calls,)),
        EntryCandidate(entry_point="train.py", launcher=Launcher.PYTHON, score=8.9),
    )
    assert ids(numpy_profile(entry_point="train_mem.py", candidates=near), "go", builtin(), ()) == []


def test_words_of_the_sentence_that_the_documented_command_has_decide_on_the_entry_point() -> None:
    near = candidates(("train.py", Launcher.PYTHON, 9.0), ("segment.py", Launcher.PYTHON, 8.9))
    profile = numpy_profile(candidates=near, launch_command="python train.py --data coco128.yaml")
    assert ids(profile, "go", builtin(), ()) == ["entry_point"]
    assert ids(profile, "on coco128.yaml please", builtin(), ()) == []


def test_an_option_is_given_however_its_dashes_are_spelled() -> None:
    options = (ScriptOption(flag="--chat-template", required=True),)
    profile = numpy_profile(launch_command="python train.py --chat_template x", options=options)
    assert ids(profile, "go", builtin(), ()) == []


def test_a_part_of_the_data_is_no_metric() -> None:
    assert judging(("Validation", "train:", "val_loss", "Test/acc")) == ("val_loss", "Test/acc")
    assert clear_metric(("Validation",)) is None


def test_a_needed_option_of_two_fields_is_asked_for_as_a_field_that_there_is() -> None:
    """`--batch-size` beside `--micro_batch_size` is the whole batch, and what the accumulation follows from."""
    options = (ScriptOption(flag="--batch-size", required=True), ScriptOption(flag="--micro_batch_size"))
    found = draft_questions(llm_profile(options=options), "fine-tune it", nomad(node("a", A100)), ())
    assert {"option:--batch-size": "training.global_batch"}.items() <= {q.id: q.path for q in found}.items()


def test_where_nothing_trains_a_program_that_is_called_so_is_offered() -> None:
    nothing = RepoProfile(
        root="/r",
        tree_digest="0" * 64,
        is_training_repo=False,
        named_so=("my train.py", "train.ipynb", "train.sh"),
        notes=("nothing trains",),
    )
    (asked,) = (q for q in draft_questions(nothing, "go", builtin(), ()) if q.id == "entry_point")
    assert asked.choices == ("python 'my train.py'", "train.ipynb", "bash train.sh")
    assert (asked.default, asked.required) == (asked.choices[0], True)

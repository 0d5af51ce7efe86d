"""What people say against repository, cluster, money and each other: who contradicts whom, and what is offered."""

from typing import Any

import pytest

from caravan.planning.contradictions import Held, contradictions, differing, script_in
from caravan.planning.questions import contradicted
from caravan.planning.spoken import Spoken, spoken
from caravan.values.base import Json
from caravan.values.dialogue import Question
from caravan.values.plan import Author, PlanChange
from caravan.values.repo import Launcher, ScriptOption, SourceLine
from tests.planning.scenes import builtin, candidates, llm_profile, node, nomad, numpy_profile

A100 = ("NVIDIA A100-SXM4-80GB", 81920, 4)
L4 = ("NVIDIA L4", 23034, 1)
CLUSTER = nomad(node("a", A100), node("b", A100), node("c", L4))
NOTHING = Spoken((), (), ())


def said(**values: Json) -> list[PlanChange]:
    """`resources__gpus=8`."""
    return [PlanChange(path=k.replace("__", "."), value=v, by=Author.USER, why="said") for k, v in values.items()]


def asked(changes: list[PlanChange], **held: Any) -> list[Question]:
    return list(contradictions(changes, Held(**{"profile": llm_profile(), "facts": CLUSTER, **held})))


def test_what_fits_is_not_asked_back() -> None:
    fine = said(resources__gpus=4, resources__gpu_model="A100", limits__max_cost_usd=20, launch__nodes=2)
    assert asked(fine, most_usd=25.0, files=lambda: {"sft.py"}) == []


def test_more_gpus_than_a_node_has_are_asked_back_with_what_there_is() -> None:
    (question,) = asked(said(resources__gpus=8, resources__gpu_model="A100"))
    assert (question.id, question.path, question.default, question.choices) == ("gpus", "resources.gpus", 8, (4, 8))
    assert question.text == "No node has 8 A100 GPUs. How many shall it be?"
    assert "8 in all, on several nodes" in question.reason


def test_a_gpu_type_that_no_node_has_is_asked_back() -> None:
    (question,) = asked(said(resources__gpus=1, resources__gpu_model="H100"))
    assert (question.id, question.default) == ("gpu_type", "H100")
    assert question.choices == ("NVIDIA A100-SXM4-80GB", "NVIDIA L4")


def test_a_cluster_without_gpus_contradicts_their_number() -> None:
    (question,) = asked(said(resources__gpus=2), facts=builtin())
    assert (question.choices, question.reason) == ((0, 2), "no node has a GPU")


def test_money_beyond_what_a_run_may_cost() -> None:
    (question,) = asked(said(limits__max_cost_usd=500), most_usd=250.0)
    assert (question.id, question.default, question.choices) == ("max_cost", 250.0, (250.0,))


def test_more_nodes_than_there_are() -> None:
    (question,) = asked(said(launch__nodes=9))
    assert (question.path, question.choices) == ("launch.nodes", (3, 9))


@pytest.mark.parametrize("command", ["tarin.py", "torchrun --nproc-per-node 2 tarin.py --x 1", ["tarin.py", "--x"]])
def test_a_script_that_is_not_there_has_no_default(command: Json) -> None:
    near = candidates(("train.py", Launcher.PYTHON, 1.0))
    profile = numpy_profile(candidates=near)
    files = {"train.py", "scripts/eval.py"}
    (question,) = asked(said(command=command), profile=profile, files=lambda: files)
    assert (question.id, question.default, question.required, question.choices) == (
        *("entry_point", None, True),
        ("train.py",),
    )
    assert "tarin.py is not in the repository" in question.text


def test_scripts_are_looked_for_where_they_are_started() -> None:
    profile = numpy_profile(launch_cwd="src", entry_point="src/train.py")
    files = {"src/train.py", "src/other.py"}
    for name in ("other.py", "src/other.py", "./other.py"):
        assert asked(said(command=name), profile=profile, files=lambda: files) == []
    for name in ("/opt/x.py", "axolotl train x.yml", "python -m pkg.train", "$HOME/x.py"):
        assert script_in(name) is None


def test_a_value_that_the_parser_refuses() -> None:
    options = (
        ScriptOption(flag="--optim", choices=("adamw", "sgd")),
        ScriptOption(flag="--stage", choices=("sft", "dpo")),
    )
    line = SourceLine(file="train.py", line=12, text='add_argument("--stage", choices=["sft", "dpo"])')
    profile = numpy_profile(options=options, evidence={"options": (line,)})
    changes = [
        PlanChange(path="training.options.--stage", value="ppo", by=Author.USER),
        PlanChange(path="training.optimizer", value="lion", by=Author.USER),
    ]
    stage, optim = asked(changes, profile=profile)
    assert (stage.id, stage.choices, stage.required, stage.evidence) == (
        *("option:--stage", ("sft", "dpo"), True),
        (line,),
    )
    assert (optim.path, optim.choices) == ("training.optimizer", ("adamw", "sgd"))


def test_a_method_that_the_code_has_no_option_for_holds_where_a_person_insists() -> None:
    sure = numpy_profile(confidence={"method": 0.9})
    (question,) = asked(said(training__method="full"), profile=sure)
    assert (question.default, question.choices) == ("full", ("lora", "full"))
    assert asked(said(training__method="full"), profile=numpy_profile(confidence={"method": 0.5})) == []
    assert asked(said(training__method="full")) == []  # a flag takes it


def test_two_answers_to_one_field() -> None:
    (question,) = differing(said(resources__gpus=2) + said(resources__gpus=4))
    assert (question.id, question.choices, question.required) == ("gpus", (2, 4), True)
    assert differing(said(resources__gpus=2) + said(resources__gpus=2)) == ()


@pytest.mark.parametrize(
    ("prompt", "name", "choices"),
    [
        ("use LoRA and do a full fine-tune", "method", ("lora", "full")),
        ("under $20, budget 50 dollars", "max_cost", (20.0, 50.0)),
        ("no GPU but on an A100", "gpus", (0, 1)),
        ("don't use A100s or L4s, avoid L4", "gpu_type", ("NVIDIA A100-SXM4-80GB", "NVIDIA L4")),
    ],
)
def test_a_sentence_that_contradicts_itself_or_leaves_nothing(
    prompt: str, name: str, choices: tuple[Json, ...]
) -> None:
    heard = spoken(llm_profile(), prompt, CLUSTER)
    found = contradicted((), heard, (), Held(llm_profile(), CLUSTER))
    assert [(q.id, q.choices, q.required) for q in found] == [(name, choices, True)]


def test_a_later_word_settles_it() -> None:
    heard = spoken(llm_profile(), "use LoRA and do a full fine-tune", CLUSTER)
    assert contradicted((), heard, said(training__method="lora"), Held(llm_profile(), CLUSTER)) == ()


def test_excluded_types_become_nodes_to_keep_away_from() -> None:
    heard = spoken(llm_profile(), "don't use A100s", CLUSTER)
    assert [(c.path, c.value) for c in heard.changes] == [("exclude_nodes", ["a", "b"])]
    mixed = nomad(node("a", A100, L4))
    heard = spoken(llm_profile(), "don't use A100s", mixed)
    assert heard.changes == ()
    assert "a has other GPUs beside A100" in heard.told[0]


def test_a_bound_gives_way_to_what_the_repository_documents_within_it() -> None:
    def gpus(prompt: str, documented: int | None) -> list[Json]:
        heard = spoken(llm_profile(num_gpus=documented), prompt, CLUSTER)
        return [c.value for c in heard.changes if c.path == "resources.gpus"]

    assert gpus("at most 4 GPUs", 2) == []
    assert gpus("at most 4 GPUs", 8) == [4]
    assert gpus("at most 4 GPUs", None) == [4]
    assert gpus("at least 2 GPUs", 4) == []

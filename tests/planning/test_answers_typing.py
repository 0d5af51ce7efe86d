import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.answers import (
    QUESTION_PATHS,
    answers_from,
    answers_to_changes,
    changes_from,
    load_answers,
    parse_set,
    type_answer,
    with_defaults,
)
from caravan.planning.draft import with_fitting_flags
from caravan.planning.fields import is_path, plan_paths
from caravan.planning.program import chosen_script
from caravan.values.base import Json
from caravan.values.dialogue import Answer, Question
from caravan.values.errors import UsageError
from caravan.values.plan import Author, OutputSink, PlanChange, apply_changes
from caravan.values.repo import EntryCandidate, Launcher, RepoProfile
from tests.planning.scenes import bare_plan


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training.lr=1e-4", 1e-4),
        ("training.micro_batch=2", 2),
        ("training.grad_checkpointing=yes", True),
        ("model.id=Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("model.id=7", "7"),
        ("env.A.B=1", "1"),
        ("env.URL=a=b", "a=b"),
        ("training.options.--flag.x=3", 3),
        ('datacenters=["dc1", "dc2"]', ["dc1", "dc2"]),
        ("training.seed=null", None),
        ("target.metric=eval_loss", "eval_loss"),
        (" driver = docker ", "docker"),
    ],
)
def test_set_types_the_value_for_its_field(text: str, value: Json) -> None:
    change = parse_set(text)
    assert (change.value, change.by) == (value, Author.USER)
    apply_changes(bare_plan(), [change])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("training.lr", "--set 'training.lr' isn't field=value. For example --set training.lr=1e-4."),
        ("traning.lr=1", "The plan has no field 'traning.lr'. Did you mean training.lr"),
        ("lr=1", "The plan has no field 'lr'. Did you mean training.lr?"),
        ("provenance.x=1", "The plan has no field 'provenance.x'."),
        ("training.micro_batch=two", "training.micro_batch doesn't take 'two'. Input should be a valid integer"),
        (
            "training.micro_batch=0",
            "training.micro_batch doesn't take '0'. Input should be greater than or equal to 1.",
        ),
        ("training.micro_batch=true", "training.micro_batch doesn't take 'true'. yes or no isn't expected here."),
        ("training.lr=NaN", "training.lr doesn't take 'NaN'. Input should be a finite number."),
        ("launch.launcher=rocket", "launch.launcher doesn't take 'rocket'. Input should be 'python'"),
    ],
)
def test_set_says_what_is_wrong(text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_set(text)
    assert caught.value.line().startswith(line)


def _question(path: str, **more: object) -> Question:
    return Question(id="q", text="?", path=path, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "given", "value"),
    [
        ("resources.gpus", "2", 2),
        ("training.lr", "1e-4", 1e-4),
        ("training.tf32", "yes", True),
        ("model.id", "my/model", "my/model"),
        ("limits.max_cost_usd", 20, 20),
        ("training.epochs", "  ", None),
    ],
)
def test_answers_are_typed(path: str, given: Json, value: Json) -> None:
    assert type_answer(_question(path), given) == value


def test_choices_are_enforced_and_matched_by_their_text() -> None:
    question = _question("resources.gpus", choices=(1, 2, 4), default=1)
    assert type_answer(question, "4") == 4
    assert type_answer(question, "") == 1
    assert type_answer(question, "3") == 3  # a suggestion: the cluster judges it
    strict = _question("training.quant_bits", choices=(4, 8))
    with pytest.raises(UsageError, match="Answer '3' to 'q' isn't possible") as caught:
        type_answer(strict, "3")
    assert caught.value.hint == "It takes one of 4, 8."


def test_a_wrong_answer_names_question_and_type() -> None:
    with pytest.raises(UsageError) as caught:
        type_answer(_question("resources.gpus"), "many")
    assert "'q'" in caught.value.line()
    assert "valid integer" in caught.value.line()


def test_given_answers_and_defaults_become_changes_with_their_author() -> None:
    questions = (
        _question("training.epochs", default=1),
        Question(id="m", text="Model?", path="model.id"),
        Question(id="d", text="Data?", path="dataset.path"),
    )
    answers = answers_from(questions, {"model.id": "a/b", "d": None}, defaults=True)
    changes = answers_to_changes(questions, answers)
    assert [(c.path, c.value, c.by) for c in changes] == [
        ("model.id", "a/b", Author.ANSWER),
        ("training.epochs", 1, Author.DEFAULT),
    ]
    assert changes[0].why == "answer to: Model?"


def test_answers_that_touch_several_fields() -> None:
    questions = tuple(
        Question(id=i, text="?", path=QUESTION_PATHS[i]) for i in ("entry_point", "outputs", "target_metric")
    )
    given = {
        "entry_point": "torchrun --nproc_per_node 2 x.py -a 'b c'",
        "outputs": "volume:ckpt",
        "target_metric": "accuracy",
    }
    plan = apply_changes(bare_plan(), answers_to_changes(questions, answers_from(questions, given)))
    assert plan.command == ("x.py", "-a", "b c")
    assert plan.launch.launcher == "torchrun"
    assert plan.outputs == OutputSink(kind="volume", location="ckpt")
    assert plan.target is not None
    assert (plan.target.metric, plan.target.direction) == ("accuracy", "max")


def test_the_default_for_a_repository_in_which_nothing_was_found_to_train_is_its_command() -> None:
    (asked,) = (Question(id="entry_point", text="?", path="command", default="train.ipynb", required=True),)
    for said in (answers_from((asked,), {"entry_point": "train.ipynb"}), with_defaults((asked,), ())):
        plan = apply_changes(bare_plan(), answers_to_changes((asked,), said))
        assert (plan.command, plan.launch.launcher) == (("train.ipynb",), "notebook")


def test_flags_are_those_of_the_program_that_is_started() -> None:
    profile = RepoProfile(
        root="/repo", tree_digest="d", is_training_repo=True, entry_point="src/train.py", launch_cwd="src"
    )
    flags = {"training.lr": "--lr"}
    for command in (["train.py"], ["src/train.py"], ["-m", "train"]):
        assert with_fitting_flags(bare_plan(*command, flags=flags), profile).flags == flags
    assert with_fitting_flags(bare_plan("other.py", flags=flags), profile).flags == {}


def test_the_program_that_a_person_names() -> None:
    candidate = EntryCandidate(entry_point="src/b.py", launcher=Launcher.PYTHON, score=1)
    profile = RepoProfile(root="/", tree_digest="d", is_training_repo=True, launch_cwd="src", candidates=(candidate,))
    assert chosen_script(["torchrun --nproc-per-node 2 b.py --x 1"], profile) == "src/b.py"
    assert chosen_script([["./c.py", "--x"]], profile) == "c.py"
    assert chosen_script(["bash run.sh", None], profile) is None


@pytest.mark.parametrize("text", ["env.MY_API_KEY=supersecretvalue123", "training.options.--hub_token=abcdefgh1234"])
def test_a_secret_is_not_taken_by_value(text: str) -> None:
    with pytest.raises(UsageError, match="looks like a secret") as refused:
        parse_set(text)
    assert "1234" not in refused.value.line()
    assert "supersecret" not in refused.value.line()


def test_an_answer_to_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="No question is called 'x'"):
        answers_to_changes((_question("model.id"),), (Answer(question_id="x", value=1),))


def test_answers_files_in_yaml_and_json() -> None:
    assert load_answers("base_model: a/b\ntraining.lr: 1e-4\n") == {"base_model": "a/b", "training.lr": "1e-4"}
    assert load_answers('{"gpus": 2, "option:--x": "y"}') == {"gpus": 2, "option:--x": "y"}
    assert load_answers("training_type: sft\nmodel:training.lr: 1e-4\n") == {
        "training_type": "sft",
        "model:training.lr": "1e-4",
    }
    assert changes_from({"model:training.lr": 1e-4})[0].path == "training.lr"
    assert load_answers("# nothing\n") == {}
    assert changes_from(load_answers("training.lr: 1e-4"))[0].value == 1e-4


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gpuz: 2\n1: 3\n", "The answers file has unknown fields: gpuz, 1."),
        ("gpus: many\n", "resources.gpus doesn't take 'many'."),
        ("- a\n", "The answers file must be a mapping."),
        ("a: [\n", "The answers file is neither YAML nor JSON (line 2)."),
        ("outputs: somewhere\n", "'somewhere' is no place for outputs."),
    ],
)
def test_answers_files_that_are_wrong(text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_answers(text)
    assert caught.value.line().startswith(line)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    lines = []
    for read in (load_answers, parse_set):
        try:
            read(text)
        except UsageError as error:
            lines.append(error.line())
    assert all(lines)


def test_every_listed_path_is_one() -> None:
    assert all(is_path(p.replace("*", "x")) for p in plan_paths())
    assert all(is_path(p) for p in QUESTION_PATHS.values())


@pytest.mark.parametrize("by", [Author.USER, Author.ANSWER])
def test_what_a_person_typed_in_the_command_is_what_the_fields_say(by: Author) -> None:
    profile = RepoProfile(root="/r", tree_digest="d", is_training_repo=True, entry_point="train.py")
    flags = {"training.lr": "--lr", "training.precision=fp16": "--fp16", "training.output_dir": "--out"}
    start = bare_plan(flags=flags)
    start = apply_changes(start, [PlanChange(path="training.lr", value=0.01, by=Author.REPOSITORY)])
    words = ["train.py", "--lr", "0.5", "--fp16", "--out", "mine"]
    typed = apply_changes(start, [PlanChange(path="command", value=words, by=by)])
    plan = with_fitting_flags(typed, profile)
    assert (plan.training.lr, plan.set_by("training.lr")) == (0.5, by)
    assert (plan.training.precision, plan.set_by("training.precision")) == ("fp16", by)
    assert plan.training.output_dir is None
    assert with_fitting_flags(plan, profile) == plan
    remembered = PlanChange(path="training.lr", value=0.1, by=Author.MEMORY)
    assert apply_changes(plan, [remembered]).training.lr == 0.5
    named = apply_changes(typed, [PlanChange(path="training.lr", value=0.2, by=Author.USER)])
    assert with_fitting_flags(named, profile).training.lr == 0.2
    again = apply_changes(plan, [PlanChange(path="command", value=["train.py", "--lr", "0.3"], by=by)])
    assert with_fitting_flags(again, profile).training.lr == 0.3
    elsewhere = apply_changes(typed, [PlanChange(path="command", value=["other.py", "--lr", "0.5"], by=by)])
    assert with_fitting_flags(elsewhere, profile).training.lr == 0.01
    option = apply_changes(start, [PlanChange(path="training.options.--lr", value=0.7, by=by)])
    assert with_fitting_flags(option, profile).training.lr == 0.7


@pytest.mark.parametrize(
    ("workdir", "command", "path"),
    [
        ("exp", ["../src/train.py"], ""),
        ("src/deep", ["../train.py"], ""),
        ("exp", ["-m", "train"], "../src"),
        (".", ["./src/train.py"], ""),
    ],
)
def test_flags_stay_after_the_working_directory_was_changed(workdir: str, command: list[str], path: str) -> None:
    profile = RepoProfile(
        root="/", tree_digest="d", is_training_repo=True, entry_point="src/train.py", launch_cwd="src"
    )
    env = {"PYTHONPATH": path} if path else {}
    plan = bare_plan(*command, flags={"training.lr": "--lr"}, workdir=workdir, env=env)
    assert with_fitting_flags(plan, profile).flags == {"training.lr": "--lr"}
    assert with_fitting_flags(plan.model_copy(update={"command": ("../other.py",)}), profile).flags == {}


def test_a_command_may_be_set_as_one_text() -> None:
    for text in ("train.py --lr 5", "python train.py --lr 5", '["train.py", "--lr", "5"]'):
        assert list(parse_set(f"command={text}").value) == ["train.py", "--lr", "5"]
    for text in ("torchrun --foo 2 train.py", "a | b", "'", "A=1 train.py"):
        with pytest.raises(UsageError):
            parse_set(f"command={text}")

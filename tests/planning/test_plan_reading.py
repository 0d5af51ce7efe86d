"""A plan file that a person wrote: what is taken, and everything that is wrong with it by line and column."""

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.planning.plan_reading import PlanFileError, read_plan_file
from caravan.planning.plan_schema import Kind, kind_at
from caravan.values.plan import Author, TrainingPlan, apply_changes

BARE = TrainingPlan(goal="", command=("train",))


def said(text: str) -> dict[str, object]:
    return {c.path: c.value for c in read_plan_file(text, "plan.yaml").changes}


def wrong(text: str) -> list[str]:
    with pytest.raises(PlanFileError) as caught:
        read_plan_file(text, "plan.yaml")
    return [f"{p.line}:{p.column} {p.text}" for p in caught.value.problems]


def test_each_field_is_a_change_by_the_user_with_its_line() -> None:
    found = read_plan_file("# a plan\ngoal: go\ntraining:\n  lr: 1e-5\n  epochs: 3\n", "plan.yaml").changes
    assert [(c.path, c.value, c.by, c.why) for c in found] == [
        ("goal", "go", Author.USER, "plan.yaml:2"),
        ("training.lr", 1e-5, Author.USER, "plan.yaml:4"),
        ("training.epochs", 3.0, Author.USER, "plan.yaml:5"),
    ]


def test_what_is_a_text_is_taken_as_it_is_written() -> None:
    found = said("command: [train.py, --lr, 1e-4, yes, 3, 2026-11-22]\nsetup: {python: 3.10}\nenv: {A: 1, B: off}\n")
    assert found["command"] == ["train.py", "--lr", "1e-4", "yes", "3", "2026-11-22"]
    assert found["setup.python"] == "3.10"
    assert (found["env.A"], found["env.B"]) == ("1", "off")


def test_a_key_that_yaml_takes_for_a_truth_value_is_a_name() -> None:
    assert said("smoke: {on: yes}") == {"smoke.on": True}


def test_blocks_that_may_be_unset_and_lists_are_set_as_a_whole() -> None:
    found = said("resume: {kind: trainer, flag: --resume}\ndatacenters: [dc1]\nports: [{label: http}]\nimage: null\n")
    assert found["resume"] == {"kind": "trainer", "flag": "--resume", "auto": False, "pattern": None}
    assert found["ports"] == [{"label": "http", "static": None}]
    assert found["datacenters"] == ["dc1"]
    assert found["image"] is None


def test_options_and_variables_are_entries_of_their_own() -> None:
    found = said("training: {options: {--lr.min: 1e-6, --flag: true}}\nenv: {}\n")
    assert found == {"training.options.--lr.min": "1e-6", "training.options.--flag": True}


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("goal: x\ntrainig:\n  lr: 3\n", "2:1", "Did you mean `training`"),
        ("lr: 3\n", "1:1", "Did you mean `lr` in `training`?"),
        ("training.lr: 3\n", "1:1", "Did you mean `lr` in `training`?"),
        ("training:\n  learning_rate: 3\n", "2:3", "Did you mean `lr` in `training`"),
        ("goal: x\nnothing_like_it: 1\n", "2:1", "docs/plan.md"),
        ("training:\n  epochs: many\n", "2:11", "training.epochs takes a number, and it says 'many'."),
        ("training:\n  lr: -1\n", "2:7", "takes more than 0"),
        ("resources:\n  gpus: yes\n", "2:9", "takes no true or false"),
        ("resources: {gpus: 1.5}\n", "1:19", "takes a whole number"),
        ("resources: {memory_mb: 99999999999999999999999}\n", "1:24", "no computer counts that far"),
        ("training: 3\n", "1:11", "training is a block of fields: type, method"),
        ("command: train.py --lr 3\n", "1:10", "command takes a list, like [a, b]"),
        (
            "mounts:\n- {kind: host, source: a, destination: /b}\n- {kind: nope, source: a, destination: /c}\n",
            "3:10",
            "",
        ),
        ("mounts:\n- {kind: host, source: a, destination: /b, mode: x}\n", "2:44", "there is no field 'mode'"),
        ("resume: {flag: --r}\n", "1:9", "resume.kind is missing"),
        ("goal:\n", "1:6", "goal is missing"),
        ("goal: x\n\tlr: 3\n", "2:1", "A tab stands where YAML takes spaces only."),
        ("goal: [\n", "2:1", "This is no YAML"),
        (f"goal: {'[' * 100_000}", "1:1", "This is nested too deeply"),
        ("goal: x: y\n", "1:8", "This is no YAML"),
        ("goal: a\x07b\n", "1:1", "This is no YAML"),
        ("", "1:1", "A plan is a mapping"),
        ("- 1\n", "1:1", "A plan is a mapping"),
        ("goal: x\ngoal: y\n", "2:1", "'goal' stands here a second time (first in line 1)"),
        ("a: &a [*a]\n", "1:4", "An anchor is used within itself"),
        ("x: &a {b: 1}\n<<: *a\n", "2:1", "`<<` isn't taken"),
        ("goal: !!python/object:os.system y\n", "1:7", "isn't taken"),
        ("? [a, b]\n: c\n", "1:3", "A key must be a plain text"),
        ("env: {T: '[masked]'}\n", "1:10", "a secret stood here"),
        ("source: [a]\n", "1:9", "the repository's path or git URL"),
        ("provenance: {}\ntraining: {provenance: 1}\n", "2:12", "no field 'training.provenance'"),
    ],
)
def test_what_is_wrong_says_where_and_what_is_taken(text: str, place: str, says: str) -> None:
    problems = wrong(text)
    assert len(problems) == 1
    assert problems[0].startswith(f"{place} "), problems
    assert says in problems[0]


def test_all_that_is_wrong_is_told_at_once_in_order() -> None:
    problems = wrong("training:\n  lr: x\n  epochs: y\nnope: 1\n")
    assert [p.split(":")[0] for p in problems] == ["2", "3", "4"]


def test_the_error_itself_is_one_line_with_the_first_place() -> None:
    with pytest.raises(PlanFileError) as caught:
        read_plan_file("training:\n  lr: x\n  epochs: y\n", "p.yaml")
    assert caught.value.line().startswith("p.yaml, line 2, column 7: training.lr takes a number")
    assert "And 1 more" in caught.value.line()


@pytest.mark.parametrize(
    "text",
    [
        "env:\n  WANDB_API_KEY: 0123456789abcdef0123456789abcdef01234567\n",
        "training:\n  options:\n    --hub_token: hf_" + "Ab3" * 8 + "\n",
        "command: [train.py, --key, sk-proj-" + "Ab3" * 8 + "]\n",
    ],
)
def test_secrets_are_refused_and_not_repeated(text: str) -> None:
    problems = wrong(text)
    assert "holds what is or looks like a secret" in problems[0]
    assert not re.search(r"0123456789abcdef|Ab3Ab3", problems[0])


def test_a_secret_that_is_known_is_refused() -> None:
    with pytest.raises(PlanFileError, match="secret"):
        read_plan_file("goal: say correct-horse\n", "p", ("correct-horse",))


def test_what_belongs_to_the_run_that_wrote_the_file_is_left_out_and_said() -> None:
    text = (
        "code: {kind: archive, location: /s/runs/0123abcd/code.tar.gz, sha256: aa}\n"
        "data: {kind: upload, local: /d}\n"
        "build: {dockerfile: Dockerfile, tag: r/i:1, sha256: bb}\n"
        "outputs: {kind: path, location: /s/runs/0123abcd/outputs}\n"
    )
    found = read_plan_file(text, "p")
    assert found.changes == ()
    assert len(found.notes) == 4


def test_a_place_that_a_person_wrote_stays() -> None:
    found = said(
        "code: {kind: git, location: 'https://git.example/a.git', ref: main}\noutputs: {kind: path, location: /o}\n"
    )
    assert set(found) == {"code", "outputs"}


def test_anchors_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    assert "too large" in wrong("\n".join(lines))[0]
    assert wrong("goal: " + "[" * 3000 + "]" * 3000)


def test_what_answers_say_is_theirs() -> None:
    found = read_plan_file("training: {lr: 1, epochs: 2}\nresources: {gpus: 2}\n", "p")
    assert {c.path for c in found.beside({"training.lr": 3, "gpus": 1})} == {"training.epochs"}


def test_every_field_of_a_plan_is_taken_in_some_way() -> None:
    assert all(kind_at(name) is not None for name in TrainingPlan.model_fields if name != "provenance")
    assert kind_at("provenance") is None
    assert kind_at("training") is Kind.BLOCK


texts = st.text(alphabet="ab:-[]{}&*!|>'\"%@`#\n\t ,?0.~\x00é", max_size=60)


@settings(max_examples=300, deadline=None)
@given(texts)
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    with contextlib.suppress(PlanFileError):
        apply_changes(BARE, read_plan_file(text, "p").changes)
        return
    problems = wrong(text)
    assert problems
    assert all(re.match(r"[1-9]\d*:[1-9]\d* .", p, re.S) for p in problems)

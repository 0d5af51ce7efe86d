"""Other plans in the terminal: shown with numbers, taken by a number or by `resume --choose`, never by `--yes`."""

import json
from pathlib import Path

import pytest

from caravan.terminal.app import run
from caravan.values.dialogue import Ask, AskKind, PlanChoice, Reply
from caravan.values.estimate import BudgetVerdict, Verdict
from caravan.values.plan import Author, PlanChange
from caravan.values.run import RunRecord, RunRequest, RunStatus
from tests.fakes.wiring import FakeWiring, nobody, person, printed

RUN = "abc12345"
CHOICES = (
    PlanChoice(text="wait: GPUs are in use on a; it waits for up to 1 h"),
    PlanChoice(
        text="1 instead of 2 GPUs; about 2 times as long",
        changes=(PlanChange(path="resources.gpus", value=1, by=Author.USER),),
        cost_usd=1.5,
    ),
)


def asks(wiring: FakeWiring, *choices: PlanChoice, objections: tuple[str, ...] = ()) -> None:
    now = wiring.clock.now()
    request = RunRequest(prompt="p", source="/repo", cluster="http://x")
    wiring.runs.create_run(RunRecord(id=RUN, created_at=now, updated_at=now, status=RunStatus.WAITING, request=request))
    budget = BudgetVerdict(verdict=Verdict.WITHIN, soft_usd=25, hard_usd=250, text="2.00 USD")
    wiring.scripted.questions[RUN] = Ask(
        kind=AskKind.APPROVAL, text="Deploy?", budget=budget, objections=objections, choices=choices
    )


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path, [RunStatus.SUCCEEDED])


def test_a_number_takes_the_plan_of_that_number(wiring: FakeWiring) -> None:
    asks(wiring, *CHOICES)
    terminal = person("3", "2")
    assert run(wiring, ["resume", RUN], terminal) == 0
    assert wiring.scripted.replies[-1] == Reply(choice=2)
    said = printed(terminal)[1]
    assert "instead 1" in said
    assert "instead 2" in said
    assert "1 instead of 2 GPUs" in said
    assert "Please answer yes, no or a number (that plan instead)." in said  # there is no third


def test_choose_takes_it_where_nobody_sits(wiring: FakeWiring) -> None:
    asks(wiring, *CHOICES)
    assert run(wiring, ["resume", RUN, "--choose", "2", "--json"], nobody()) == 0
    assert wiring.scripted.replies[-1] == Reply(choice=2)


def test_the_open_question_has_them_for_programs(wiring: FakeWiring) -> None:
    asks(wiring, *CHOICES)
    terminal = nobody()
    assert run(wiring, ["resume", RUN, "--json"], terminal) == 3
    out, err = printed(terminal)
    offered = json.loads(out)["question"]["choices"]
    assert [c["text"] for c in offered] == [c.text for c in CHOICES]
    assert offered[1]["cost_usd"] == 1.5
    assert "--choose N" in err


@pytest.mark.parametrize("number", ["3", "0"])
def test_a_plan_that_is_not_offered(wiring: FakeWiring, number: str) -> None:
    asks(wiring, *CHOICES)
    assert run(wiring, ["resume", RUN, "--choose", number], nobody()) == 2
    assert wiring.scripted.replies in ([], [None])


def test_no_plans_are_offered(wiring: FakeWiring) -> None:
    asks(wiring)
    terminal = nobody()
    assert run(wiring, ["resume", RUN, "--choose", "1"], terminal) == 2
    assert "offers no plan 1" in printed(terminal)[1]


def test_yes_takes_none(wiring: FakeWiring) -> None:
    asks(wiring, *CHOICES, objections=("resources.gpus would be 1 instead of 2",))
    assert run(wiring, ["resume", RUN, "--yes"], nobody()) == 3
    assert wiring.scripted.replies in ([], [None])


def test_one_answer_at_a_time(wiring: FakeWiring) -> None:
    asks(wiring, *CHOICES)
    terminal = nobody()
    assert run(wiring, ["resume", RUN, "--choose", "1", "--approve"], terminal) == 2
    assert "exclude each other" in printed(terminal)[1]

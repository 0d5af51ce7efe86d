"""Limits that runs share: the gate, the reservation, a limit that is reached while a job runs, a price nobody knows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.context import Limits
from caravan.planning.budget import judge_budget
from caravan.planning.catalogue import Prices
from caravan.values.dialogue import Ask, Reply
from caravan.values.errors import Interrupted
from caravan.values.estimate import Estimate, Range, Verdict
from caravan.values.plan import Author, PlanChange
from caravan.values.policy import Policies, Policy, PolicyFile
from caravan.values.run import EXIT_CODES, OutcomeKind, Phase, RunRecord, RunRequest, RunStatus
from caravan.values.spending import Cap, Room, SharedLimit, month_of
from tests.agent.test_deadlines import LOG, At, Site
from tests.agent.test_loop import Notes, World, ended
from tests.fakes.cluster import Script, one_node

MONTH = SharedLimit(usd=10, name="CARAVAN_MONTHLY_USD")
GOOD = Script(stdout=LOG)


def change(path: str, value: Any) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.USER)


ONE_GPU = (change("resources.gpus", 1), change("limits.max_run_s", 3600))  # one hour at most


def priced(world: Any, *shared: SharedLimit, usd: float | None = 2.0) -> None:
    world.prices = Prices(usd_per_gpu_hour=usd)
    world.limits = Limits(soft_usd=25, hard_usd=250, shared=shared)


def other(world: Any, run_id: str, user: str = "", *, spent: float = 0.0, reserved: float = 0.0) -> None:
    now = world.clock.now()
    request = RunRequest(prompt="p", source="s")
    world.store.create_run(
        RunRecord(id=run_id, created_at=now, updated_at=now, request=request, cost_usd=spent, user=user)
    )
    world.store.reserve(run_id, need_usd=reserved, want_usd=reserved, caps=())


def patient(site: Site, *sets: PlanChange) -> RunRecord:
    """A run with a GPU whose deadlines don't end it."""
    names = ("queue_s", "start_s", "first_sign_s", "silence_s")
    return site.start(sets=(*sets, change("resources.gpus", 1), *(change(f"limits.{n}", 10**7) for n in names)))


def room(usd: float, *, spent: float = 0.0, reserved: float = 0.0, user: str | None = None) -> Room:
    from datetime import UTC, datetime

    now = datetime(2026, 11, 22, tzinfo=UTC)
    return Room(
        cap=Cap(usd=usd, since=month_of(now), user=user, name="CARAVAN_X"), spent_usd=spent, reserved_usd=reserved
    )


@pytest.mark.parametrize(
    ("cost", "rooms", "verdict"),
    [
        (5.0, (room(10, spent=5),), Verdict.WITHIN),
        (5.1, (room(10, spent=5),), Verdict.OVER_HARD),
        (5.0, (room(10, spent=2, reserved=4),), Verdict.OVER_HARD),
        (0.0, (room(10, spent=12),), Verdict.WITHIN),
        (30.0, (room(100),), Verdict.OVER_SOFT),
        (300.0, (room(1000),), Verdict.OVER_HARD),
        (None, (room(10, spent=9),), Verdict.OVER_SOFT),
        (None, (room(10, spent=10),), Verdict.OVER_HARD),
        (5.0, (room(100), room(10, spent=8, user="ada")), Verdict.OVER_HARD),
    ],
)
def test_the_verdict_by_what_runs_share(cost: float | None, rooms: tuple[Room, ...], verdict: Verdict) -> None:
    known = Estimate(cost_usd=None if cost is None else Range(low=0, likely=cost, high=cost))
    said = judge_budget(known, soft_usd=25, hard_usd=250, spent_usd=0, budget_usd=None, rooms=rooms)
    assert said.verdict is verdict
    assert "\n" not in said.text
    assert bool(said.limit) is (verdict is not Verdict.WITHIN)


def test_the_verdict_says_which_limit_what_is_left_and_what_to_do() -> None:
    known = Estimate(cost_usd=Range(low=0, likely=5, high=5))
    rooms = (room(10, spent=2, reserved=4, user="ada"),)
    said = judge_budget(known, soft_usd=25, hard_usd=250, spent_usd=0, budget_usd=400, rooms=rooms)
    assert said.text == (
        "Up to 5.00 USD: over the 4.00 USD that are left this month of the 10.00 USD of ada (CARAVAN_X; 2.00 spent, "
        "4.00 reserved by runs that run now). Plan smaller, try again when those runs have ended, or ask whoever set "
        "it; "
        "--budget doesn't help."
    )
    assert (said.limit, said.left_usd, said.shared) == ("CARAVAN_X", 4.0, True)


def test_who_holds_the_rest_is_named_and_the_sum_in_all_is_told() -> None:
    known = Estimate(cost_usd=Range(low=0, likely=5, high=5))
    held = room(10, spent=2, reserved=4).model_copy(update={"holders": ("ee54",)})
    said = judge_budget(known, soft_usd=25, hard_usd=250, spent_usd=0, budget_usd=None, rooms=(held,))
    assert "4.00 reserved by run ee54)" in said.text
    assert "try again when that run has ended" in said.text
    full = judge_budget(known, soft_usd=25, hard_usd=250, spent_usd=0, budget_usd=None, rooms=(room(10, spent=9),))
    assert "wait until 2026-12-01 UTC" in full.text
    more = judge_budget(known, soft_usd=25, hard_usd=250, spent_usd=6, budget_usd=8.0)
    assert more.text.startswith("Up to 5.00 USD more, 11.00 USD in all with 6.00 spent so far: over the budget given")


def test_what_the_registration_refuses_is_told_in_the_verdict_and_is_no_deployment(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: GOOD, gpus=1)
    priced(world, MONTH)
    record = world.start(yes=False, sets=ONE_GPU)
    asked = world.drive(record)
    while isinstance(asked, Ask) and asked.kind.value == "questions":
        asked = world.drive(record, Reply())
    other(world, "aaaa", reserved=9.0)
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.REJECTED
    verdict = world.state(record).budget
    assert (verdict.verdict, verdict.limit, verdict.shared) == (Verdict.OVER_HARD, "CARAVAN_MONTHLY_USD", True)
    assert verdict.left_usd == pytest.approx(1.0)
    assert "try again when that run has ended" in verdict.text
    assert world.store.deployments(record.id) == ()


@pytest.mark.parametrize(
    ("spent", "reserved", "deployed"), [(7.9, 0.0, True), (8.1, 0.0, False), (4.0, 4.1, False), (0.0, 7.9, True)]
)
def test_over_the_months_limit_nothing_is_deployed_and_neither_yes_nor_a_budget_helps(
    tmp_path: Path, spent: float, reserved: float, *, deployed: bool
) -> None:
    world = World(tmp_path, lambda job: GOOD, gpus=1)
    priced(world, MONTH)
    other(world, "aaaa", spent=spent)
    other(world, "bbbb", reserved=reserved)
    record = world.start(sets=ONE_GPU, budget_usd=100.0)
    result = ended(world.drive(record))
    assert bool(world.ids(record)) is deployed, result.detail
    if not deployed:
        assert (result.status, EXIT_CODES[result.status]) == (RunStatus.REJECTED, 3)
        assert "CARAVAN_MONTHLY_USD" in result.detail


def test_a_run_reserves_what_is_approved_or_what_is_left_of_it(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: GOOD, gpus=1)
    priced(world, MONTH)
    other(world, "aaaa", spent=3.0)
    record = world.start(sets=ONE_GPU)
    ended(world.drive(record))
    assert world.store.reserved_usd(record.id) == pytest.approx(2.5)  # 25 USD were approved, 2 is the dearest end
    assert world.store.rooms("x", (MONTH.cap("", world.clock.now()),))[0].reserved_usd == 0  # it has ended


def test_the_limit_of_one_user_is_not_anothers(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: GOOD, gpus=1)
    priced(world, replace_limit(MONTH, per_user=True))
    other(world, "aaaa", "bob", spent=9.9)
    record = world.start(sets=ONE_GPU)
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    other(world, "bbbb", "", spent=9.9)  # the user of the world's runs
    again = world.start(sets=ONE_GPU)
    assert ended(world.drive(again)).status is RunStatus.REJECTED


def replace_limit(limit: SharedLimit, **changes: Any) -> SharedLimit:
    return limit.model_copy(update=changes)


def test_a_policys_limit_only_adds(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: GOOD, gpus=1)
    priced(world, replace_limit(MONTH, usd=1000))
    policy = Policy.model_validate({"money": {"per_user_month_usd": 10.0}})
    law = Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=policy),))
    other(world, "aaaa", spent=8.5)
    record = world.start(sets=ONE_GPU)
    result = ended(world.drive(record, policies=law))
    assert world.ids(record) == []
    assert "money.per_user_month_usd" in result.detail


def test_money_that_others_took_since_the_gate_is_not_there_at_the_registration(tmp_path: Path) -> None:
    """Two runs pass the gate; the reservation decides."""
    world = World(tmp_path, lambda job: GOOD, gpus=1)
    priced(world, MONTH)
    first, second = world.start(sets=ONE_GPU, yes=False), world.start(sets=ONE_GPU, yes=False)
    for record in (first, second):
        asked = world.drive(record)
        while isinstance(asked, Ask) and asked.kind.value == "questions":
            asked = world.drive(record, Reply())
        assert isinstance(asked, Ask)
    assert ended(world.drive(first, Reply(approved=True))).status is RunStatus.SUCCEEDED
    world.store.update_run(first.id, cost_usd=9.0)
    result = ended(world.drive(second, Reply(approved=True)))
    assert result.status is RunStatus.REJECTED
    assert len(world.cluster.registrations) == 1


def test_a_limit_that_others_reach_meanwhile_ends_the_job(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(hangs=True, stdout=LOG))
    site.cluster._facts = one_node(gpus=1, memory_mb=1 << 20)
    priced(site, MONTH)
    record = patient(site, change("limits.max_run_s", 3600))
    other(site, "aaaa", spent=1.0)

    def spend(_: Any) -> None:
        site.store.update_run("aaaa", cost_usd=10.0)

    site.drive(record, progress=At(Phase.RUNNING, spend))
    attempt = site.state(record).attempts[0]
    assert attempt.outcome.kind is OutcomeKind.EXPIRED
    assert "CARAVAN_MONTHLY_USD" in attempt.outcome.reason


def test_without_a_price_the_dearest_known_one_holds_the_limit(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(hangs=True, stdout=LOG))
    site.cluster._facts = one_node(gpus=1, memory_mb=1 << 20)
    priced(site, usd=None)
    record = patient(site)
    result = site.drive(record)
    if isinstance(result, Ask):
        assert result.estimate is not None
        assert result.estimate.usd_per_hour is None
        site.drive(record, Reply(approved=True))
    attempt = site.state(record).attempts[0]
    assert "its price isn't known" in attempt.outcome.reason
    assert 0.85 * 250 <= site.store.run(record.id).cost_usd <= 250


def test_spending_is_told_while_it_runs_and_kept_when_the_job_vanishes_unwatched(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(hangs=True, stdout=LOG))
    site.cluster._facts = one_node(gpus=1, memory_mb=1 << 20)
    priced(site)
    record = patient(site, change("limits.max_run_s", 30_000))
    seen: list[Any] = []

    class Watcher(Notes):
        def snapshot(self, snapshot: Any) -> None:
            seen.append(snapshot)
            if len(seen) > 200:
                raise Interrupted("the agent is gone")

    with pytest.raises(Interrupted):
        site.drive(record, progress=Watcher())
    told = site.store.run(record.id).cost_usd
    assert told > 0.4  # a quarter of an hour at 2 USD an hour
    site.cluster.stop(seen[0].job_id, purge=True)
    asked = site.drive(record)
    assert isinstance(asked, Ask)
    result = site.drive(record, Reply(approved=False))
    assert isinstance(result, RunRecord)
    assert site.store.run(record.id).cost_usd == pytest.approx(told)
    assert replace(site.context(record.id)).store.spending()[0].spent_usd == pytest.approx(told)


OPTIONS = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--max_steps', type=int)\np.parse_args()\n"


def costly(tmp_path: Path, **request: Any) -> tuple[World, RunRecord, Ask | RunRecord]:
    """A run of 200 hours at 2 USD: over the hard limit of 250."""
    world = World(tmp_path, lambda job: GOOD, gpus=1)
    (world.repo / "train.py").write_text(OPTIONS)
    priced(world)
    long = (change("resources.gpus", 1), change("limits.max_run_s", 200 * 3600), change("training.max_steps", 1000))
    record = world.start(sets=long, **request)
    result = world.drive(record)
    while isinstance(result, Ask) and result.kind.value == "questions":
        result = world.drive(record, Reply())
    return world, record, result


def test_over_the_hard_limit_a_person_may_take_a_cheaper_plan_and_a_yes_is_not_enough(tmp_path: Path) -> None:
    world, record, asked = costly(tmp_path, yes=False)
    assert isinstance(asked, Ask)
    assert asked.budget is not None
    assert (asked.budget.verdict, asked.budget.limit, asked.budget.shared) == (
        Verdict.OVER_HARD,
        "the hard limit",
        False,
    )
    assert asked.choices
    assert all(c.cost_usd is not None and c.cost_usd < 400 for c in asked.choices)
    again = world.drive(record, Reply(approved=True))
    assert isinstance(again, Ask)
    assert "A yes is not enough" in again.text
    assert world.ids(record) == []
    number = next(n for n, c in enumerate(asked.choices, 1) if c.changes[0].path == "limits.max_run_s")
    taken = world.drive(record, Reply(choice=number))
    assert isinstance(taken, Ask)  # 250 USD are still more than goes unasked
    assert taken.budget is not None
    assert taken.budget.verdict is Verdict.OVER_SOFT
    assert ended(world.drive(record, Reply(approved=True))).status is not RunStatus.REJECTED
    assert len(world.ids(record)) >= 1
    assert world.state(record).plan.limits.max_run_s == 125 * 3600


def test_cancelling_deploys_nothing_and_says_so(tmp_path: Path) -> None:
    world, record, asked = costly(tmp_path, yes=False)
    assert isinstance(asked, Ask)
    result = ended(world.drive(record, Reply(approved=False)))
    assert (result.status, world.ids(record)) == (RunStatus.REJECTED, [])


def test_yes_does_not_help_over_the_hard_limit(tmp_path: Path) -> None:
    world, record, result = costly(tmp_path, yes=True)
    assert (ended(result).status, world.ids(record)) == (RunStatus.REJECTED, [])
    assert "over the hard limit of 250.00 USD" in ended(result).detail


def test_over_the_soft_limit_cheaper_plans_stand_beside_yes_and_no(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: GOOD, gpus=1)
    priced(world)
    record = world.start(sets=(change("resources.gpus", 1), change("limits.max_run_s", 20 * 3600)))
    asked = world.drive(record)
    assert isinstance(asked, Ask)
    (choice,) = asked.choices
    assert choice.cost_usd == pytest.approx(25.0, abs=0.01)
    assert "12 h 30 min" in choice.text
    assert [(c.path, c.value) for c in choice.changes] == [("limits.max_run_s", 45000)]
    assert world.state(record).plan.limits.max_run_s == 72000  # nothing is changed unasked

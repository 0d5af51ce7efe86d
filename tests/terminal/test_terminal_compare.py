"""`compare` and `reproduce` on the command line: what is printed, and each mistake of a user in one line."""

import json
from pathlib import Path

import pytest

from caravan.agent.state import RunState
from caravan.terminal.app import run
from caravan.values.comparison import Subject
from caravan.values.registry import RunResult
from caravan.values.run import Repeats, RunRecord, RunRequest, RunStatus
from tests.fakes.wiring import FakeWiring, nobody, printed
from tests.runs.test_comparison import OTHER, several, subject


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


def keep(wiring: FakeWiring, *subjects: Subject, result: bool = True, status: RunStatus | None = None) -> None:
    """A run in the store with its state, and its result where that was kept."""
    for one in subjects:
        found, now = one.result, wiring.clock.now()
        request = RunRequest(prompt="train", source="/repo")
        wiring.runs.create_run(RunRecord(id=found.run_id, created_at=now, updated_at=now, request=request))
        wiring.runs.update_run(found.run_id, status=status or found.status)
        wiring.scripted.states[found.run_id] = RunState(
            run_id=found.run_id, request=request, plan=one.plan, metrics=dict(found.metrics)
        )
        if result:
            wiring.runs.save_result(found)


def said(wiring: FakeWiring, *argv: str, code: int = 0) -> tuple[str, str]:
    terminal = nobody()
    assert run(wiring, list(argv), terminal) == code, printed(terminal)
    return printed(terminal)


def test_groups_metrics_and_verdicts_are_told(wiring: FakeWiring) -> None:
    keep(wiring, *several(1e-3, [2.0, 2.1, 2.05]), *several(1e-4, [1.5, 1.6, 1.55]))
    out, _ = said(wiring, "compare", "0.001-0", "0.0001-0")
    assert "A 0.001-0 (seeds 0, 1, 2; taken along: 0.001-1, 0.001-2)" in out
    assert "training.lr" in out
    assert "eval_loss [nats] ↓" in out
    assert "better" in out
    alone, _ = said(wiring, "compare", "0.001-0", "0.0001-0", "--named-only")
    assert "noise not known" in alone
    assert "taken along" not in alone


def test_the_document_and_the_page(wiring: FakeWiring, tmp_path: Path) -> None:
    keep(wiring, *several(1e-3, [2.0, 2.1]), *several(1e-4, [1.5, 1.6]))
    page = tmp_path / "page.html"
    out, err = said(wiring, "compare", "0.001-0", "0.0001-0", "--json", "--html", str(page))
    document = json.loads(out)
    assert [g["label"] for g in document["groups"]] == ["A", "B"]
    assert document["metrics"][0]["groups"][0]["n"] == 2
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert str(page) in err
    _, wrong = said(wiring, "compare", "0.001-0", "0.0001-0", "--html", str(tmp_path), code=2)
    assert "can't be written" in wrong


def test_other_data_stands_first(wiring: FakeWiring) -> None:
    keep(wiring, subject("aa", {"eval_loss": 1.0}, seed=0), subject("bb", {"eval_loss": 0.9}, seed=0, data=OTHER))
    out, _ = said(wiring, "compare", "aa", "bb")
    assert out.startswith("Not comparable: ")
    assert "better" not in out


def test_a_run_without_a_result_is_compared_as_far_as_it_is_known(wiring: FakeWiring) -> None:
    keep(wiring, *several(1e-3, [2.0]))
    keep(wiring, subject("old", {"eval_loss": 1.9}, seed=0, lr=1e-4), result=False)
    keep(wiring, subject("now", {"eval_loss": 1.8}, seed=1, lr=1e-4), result=False, status=RunStatus.RUNNING)
    out, _ = said(wiring, "compare", "0.001-0", "old", "now")
    assert "run old: its result was not kept: what its folder has" in out
    assert "run now: it is running: as far as it is" in out


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["compare", "aa"], "One run alone can't be compared."),
        (["compare", "aa", "aa"], "Run aa is named twice."),
        (["compare", "aa", "nowhere"], "nowhere"),
        (["compare", "aa", "bb", "--metric", "bleu"], "None of these runs has the metric 'bleu'."),
        (["compare", "aa", "planless"], "Run planless has no plan to compare"),
        (["reproduce", "nowhere"], "nowhere"),
        (["reproduce", "bb"], "Run bb has no result to come to again: it ended failed."),
        (["reproduce", "living"], "Run living has not ended (running)."),
        (["reproduce", "planless", "--anyway"], "Run planless never had a plan."),
        (["reproduce", "unkept"], "What run unkept came to is not kept"),
        (["reproduce", "aa", "--tolerance", "-1"], "--tolerance -1 is no share."),
        (["reproduce", "aa", "--tolerance", "nan"], "--tolerance nan is no share."),
        (["reproduce", "aa"], "its archive is gone, and the repository had no commit"),
    ],
)
def test_mistakes_are_told_in_a_line(wiring: FakeWiring, argv: list[str], told: str) -> None:
    from caravan.values.repo import Launcher, RepoProfile

    keep(wiring, subject("aa", {"eval_loss": 1.0}, seed=0))
    keep(wiring, subject("bb", {"eval_loss": 1.0}, seed=0, lr=1e-4, status=RunStatus.FAILED))
    keep(wiring, subject("living", {}, seed=1), result=False, status=RunStatus.RUNNING)
    keep(wiring, subject("unkept", {}, seed=1), result=False)
    keep(wiring, subject("planless", {}, seed=1), result=False)
    bare = RepoProfile(root="/repo", tree_digest="", is_training_repo=True, launcher=Launcher.PYTHON)
    state = wiring.scripted.states["aa"]
    wiring.scripted.states["aa"] = state.model_copy(update={"profile": bare})
    del wiring.scripted.states["planless"]
    before = len(wiring.runs.runs())
    out, err = said(wiring, *argv, code=2)
    assert out == ""
    assert told in err
    assert err.count("\n") == 1
    assert len(wiring.runs.runs()) == before, "no run was begun"
    assert not any((wiring.home / "runs").glob("*/code.tar.gz"))


def repeated(wiring: FakeWiring, value: float, *, seed: int | None = 0, **given: float) -> str:
    """A run that reproduces `aa`, ended; its id."""
    keep(wiring, subject("aa", {"eval_loss": 2.0, "step": 7.0}, seed=seed))
    found: RunResult = subject("repeat", {"eval_loss": value, "step": 7.0}, seed=seed, reproduces="aa").result
    request = RunRequest(prompt="train", source="/repo", reproduces=Repeats(run_id="aa", **given))
    now = wiring.clock.now()
    wiring.runs.create_run(RunRecord(id="repeat", created_at=now, updated_at=now, request=request))
    wiring.runs.update_run("repeat", status=RunStatus.SUCCEEDED)
    wiring.runs.save_result(found)
    return "repeat"


@pytest.mark.parametrize(
    ("value", "given", "code", "told"),
    [
        (2.0, {}, 0, "It agrees with run aa: 1 metric, equal to the last digit."),
        (2.01, {}, 0, "It agrees with run aa: 1 metric within the tolerance."),
        (2.1, {}, 1, "It does not agree with run aa: eval_loss is off by more than is allowed."),
        (2.1, {"tolerance": 0.1}, 0, "It agrees with run aa"),
        (2.0000001, {"tolerance": 0.0}, 1, "It does not agree with run aa"),
    ],
)
def test_a_reproduction_that_ended_says_whether_it_agrees(
    wiring: FakeWiring, value: float, given: dict[str, float], code: int, told: str
) -> None:
    run_id = repeated(wiring, value, **given)
    out, _ = said(wiring, "resume", run_id, code=code)
    assert told in out
    document = json.loads(said(wiring, "resume", run_id, "--json", code=code)[0])
    assert document["reproduces"] == "aa"
    assert document["exit_code"] == code
    assert document["reproduced"]["verdict"] == ("agrees" if code == 0 else "does not agree")


def test_three_runs_without_a_seed_say_what_is_allowed(wiring: FakeWiring) -> None:
    run_id = repeated(wiring, 2.3, seed=None)
    keep(wiring, *(subject(f"s{n}", {"eval_loss": 2.0 + n / 10, "step": 7.0}) for n in (1, 2)))
    out, _ = said(wiring, "resume", run_id)
    assert "It agrees with run aa" in out
    assert "as none of them sets a seed" in out


def test_how_far_other_seeds_are_apart_excuses_no_repeat_of_the_same(wiring: FakeWiring) -> None:
    run_id = repeated(wiring, 2.3)
    keep(wiring, *(subject(f"s{n}", {"eval_loss": 2.0 + n / 10, "step": 7.0}, seed=n) for n in (1, 2)))
    out, _ = said(wiring, "resume", run_id, code=1)
    assert "the seed is the same" in out


def test_without_the_originals_result_it_can_not_be_told(wiring: FakeWiring) -> None:
    run_id = repeated(wiring, 2.0)
    wiring.runs.delete_run("aa")
    out, _ = said(wiring, "resume", run_id, code=3)
    assert "can't be told: the original's result is not kept" in out

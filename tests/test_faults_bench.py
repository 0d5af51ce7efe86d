"""The fault benchmark's judge must fail what has to fail; its runner keeps results that a kill can't spoil."""

import json
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.fault_places import placed, served, write_wheels
from bench.fault_print import figures, show
from bench.fault_score import Record, done, failed_attempts, judge
from bench.faults import Results, chosen, collect
from bench.scenario import Expected, Scenario
from caravan.values.failure import FailureClass

CAUSE, OTHER = FailureClass.DISK_FULL, FailureClass.USER_CODE_BUG
FILES = {"train.py": "print(1)\n"}


def scenario(expected: Expected, **more: Any) -> Scenario:
    usual: dict[str, Any] = {"outputs": ("model.json",), "changed": ("resources.disk_mb",)}
    if expected is Expected.ESCALATED:
        usual = {}
    return Scenario("some", CAUSE, expected, FILES, {"nodes": []}, **{**usual, **more})


def failed(cause: FailureClass, **changed: Any) -> dict[str, Any]:
    return {"counts": True, "outcome": {"kind": "failed"}, "diagnosis": {"failure": cause.value}, "changed": changed}


WELL = {"counts": True, "outcome": {"kind": "succeeded"}, "diagnosis": None, "changed": {}}
MORE_DISK = {"kind": "change_plan", "changes": [{"path": "resources.disk_mb", "value": 1}]}


def record(*attempts: dict[str, Any], status: str = "succeeded", code: int = 0, **more: Any) -> Record:
    repairs = [MORE_DISK] if any(a["changed"] for a in attempts) else []
    document = {"status": status, "attempts": list(attempts), "repairs": more.pop("repairs", repairs)}
    document["diagnosis"] = more.pop("diagnosis", None)
    usual: dict[str, Any] = {"outputs": {"model.json": 3}, "deployed": len(attempts)}
    return Record("some", "off", document, code, 1.0, **{**usual, **more})


FIXED = record(failed(CAUSE, **{"resources.disk_mb": [1, 2]}), WELL)
HANDED_OVER = record(failed(CAUSE), status="escalated", code=3, diagnosis={"failure": CAUSE.value}, outputs={})


def test_what_is_right() -> None:
    assert judge(scenario(Expected.FIXED), FIXED).right
    assert judge(scenario(Expected.ESCALATED), HANDED_OVER).right
    assert judge(scenario(Expected.UNTOUCHED), record(WELL)).right


@pytest.mark.parametrize("expected", list(Expected))
def test_a_run_that_hangs_or_says_nothing_is_a_miss(expected: Expected) -> None:
    assert "hung" in judge(scenario(expected), replace(FIXED, hung=True)).why
    assert "no document" in judge(scenario(expected), replace(FIXED, document={})).why


def test_success_without_the_outputs_is_a_false_one() -> None:
    for expected in (Expected.FIXED, Expected.UNTOUCHED):
        for outputs in ({}, {"model.json": 0}, {"other-model.json": 9}):
            run = replace(FIXED if expected is Expected.FIXED else record(WELL), outputs=outputs)
            found = judge(scenario(expected), run)
            assert not found.right
            assert found.false_success


def test_success_where_the_fault_was_never_answered_is_a_false_one() -> None:
    found = judge(scenario(Expected.FIXED), record(WELL))
    assert not found.right
    assert found.false_success


def test_a_fault_that_was_seen_before_anything_failed_is_answered_by_the_plan() -> None:
    assert judge(scenario(Expected.FIXED), record(WELL, provenance={"resources.disk_mb": "memory"})).right
    assert not judge(scenario(Expected.FIXED), record(WELL, provenance={"resources.disk_mb": "user"})).right


def test_success_where_a_person_had_to_be_asked_is_a_false_one() -> None:
    assert judge(scenario(Expected.ESCALATED), record(WELL)).false_success


def test_the_wrong_change_is_a_miss_and_changes_beside_are_told() -> None:
    other = {"kind": "change_plan", "changes": [{"path": "training.lr", "value": 1}]}
    wrong = record(failed(CAUSE, **{"training.lr": [1, 2]}), WELL, repairs=[other])
    assert not judge(scenario(Expected.FIXED), wrong).right
    both = replace(FIXED, document={**FIXED.document, "repairs": [MORE_DISK, other]})
    assert judge(scenario(Expected.FIXED), both).beside == ("training.lr",)


def test_too_many_attempts_are_a_miss_but_interruptions_do_not_count() -> None:
    step = failed(CAUSE, **{"resources.disk_mb": [1, 2]})
    three = record(step, step, WELL)
    assert not judge(scenario(Expected.FIXED), three).right
    assert judge(scenario(Expected.FIXED, within=3), three).right
    assert judge(scenario(Expected.FIXED), record({**step, "counts": False}, step, WELL)).right
    assert not judge(scenario(Expected.FIXED, within=9), record(step, step, step, WELL)).right
    assert failed_attempts(three) == 2


def test_fixed_for_another_cause_is_a_miss() -> None:
    found = record(failed(OTHER, **{"resources.disk_mb": [1, 2]}), WELL)
    assert not judge(scenario(Expected.FIXED), found).right
    assert judge(scenario(Expected.FIXED, also=(OTHER,)), found).right


def test_handed_over_with_another_cause_or_exit_code_is_a_miss() -> None:
    wanted = scenario(Expected.ESCALATED)
    assert not judge(wanted, replace(HANDED_OVER, code=1)).right
    wrong = record(failed(OTHER), status="escalated", code=3, diagnosis={"failure": OTHER.value})
    assert not judge(wanted, wrong).right
    assert not judge(wanted, record(status="waiting", code=3)).right


def test_a_cause_that_was_told_before_anything_was_deployed_counts() -> None:
    early = record(status="escalated", code=3, diagnosis={"failure": CAUSE.value})
    assert judge(scenario(Expected.ESCALATED), early).right


def test_deploying_on_after_the_cause_was_told_is_a_miss() -> None:
    on = record(failed(CAUSE), failed(CAUSE), status="escalated", code=3, diagnosis={"failure": CAUSE.value})
    assert not judge(scenario(Expected.ESCALATED), on).right
    assert judge(scenario(Expected.ESCALATED, changed=("wait",)), on).right


def test_any_change_of_a_healthy_run_is_needless() -> None:
    wanted = scenario(Expected.UNTOUCHED)
    changed = judge(wanted, record({**WELL, "changed": {"env.A": [None, "1"]}}))
    assert changed.needless == ("resources.disk_mb", "env.A")
    assert judge(wanted, record(WELL, provenance={"training.lr": "memory"})).needless == ("training.lr",)
    assert judge(wanted, record(WELL, WELL)).needless
    assert not judge(wanted, replace(HANDED_OVER)).right


def test_waits_are_done_by_their_kind() -> None:
    assert done(record(WELL, repairs=[{"kind": "wait", "seconds": 600}])) == ("wait",)


def test_the_second_time_counts_what_was_fixed_the_first_time() -> None:
    known = {("on", "some"): replace(FIXED, arm="on"), ("again", "some"): replace(FIXED, arm="again")}
    found = figures([scenario(Expected.FIXED)], "again", known)
    assert found["second_time"] == {"faults": 1, "first": 1, "second": 1, "left": {"some": 1}}
    assert found["right"] == [1, 1]


def test_what_is_printed_names_misses_and_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    known = {("off", "some"): replace(FIXED, hung=True)}
    assert show([scenario(Expected.FIXED)], ["off"], known, as_json=False) == 1
    assert "miss   some: hung" in capsys.readouterr().out
    assert show([scenario(Expected.FIXED)], ["off"], {("off", "some"): FIXED}, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["without a GPU"]["off"]["fixed"] == [1, 1]


def test_results_outlive_a_line_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    Results(file).add(FIXED)
    with file.open("a") as out:
        out.write('{"scenario": "cut')
    results = Results(file)
    assert results.known == {("off", "some"): FIXED}
    results.add(replace(FIXED, scenario="next"))
    assert set(Results(file).known) == {("off", "some"), ("off", "next")}


def test_scenarios_are_well_formed() -> None:
    scenarios, wheels = collect()
    assert len(scenarios) >= 60
    controls = [s for s in scenarios if s.expected is Expected.UNTOUCHED]
    assert len(controls) >= 8
    for found in scenarios:
        assert (found.failure is FailureClass.NO_FAILURE) == (found.expected is Expected.UNTOUCHED), found.name
        assert found.outputs or found.expected is Expected.ESCALATED, found.name
        assert found.changed or found.expected is not Expected.FIXED, found.name
    assert all("==" in name for name in wheels)


def test_scenarios_are_chosen_by_name_or_class() -> None:
    one = scenario(Expected.FIXED)
    assert chosen([one], ["disk_full"]) == chosen([one], ["so"]) == chosen([one], []) == (one,)
    with pytest.raises(SystemExit, match="nothing"):
        chosen([one], ["nothing"])


def test_places_stand_for_words_anywhere() -> None:
    assert placed({"a": ["@WORK@/x", 3], "b": None}, {"@WORK@": '/w"1'}) == {"a": ['/w"1/x', 3], "b": None}


def test_the_server_refuses_as_its_paths_say() -> None:
    with served() as server:
        address = server.address
        with urllib.request.urlopen(f"{address}/file/points.csv", timeout=10) as answer:
            assert answer.read().startswith(b"x,y")
        for path, code in (("missing", 404), ("secret", 401), ("busy", 429)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{address}/{path}/x", timeout=10)
            assert refused.value.code == code
            refused.value.close()
        assert list(server.firsts) == ["/busy/x"]
        server.anew()  # the next arm finds it busy once more
        assert not server.firsts


def test_wheels_are_whole(tmp_path: Path) -> None:
    write_wheels(tmp_path, {"loom-data==2.1": {"loom/__init__.py": "", "METADATA": "Requires-Dist: other\n"}})
    with zipfile.ZipFile(tmp_path / "loom_data-2.1-py3-none-any.whl") as wheel:
        assert b"Requires-Dist: other" in wheel.read("loom_data-2.1.dist-info/METADATA")
        assert b"loom/__init__.py" in wheel.read("loom_data-2.1.dist-info/RECORD")

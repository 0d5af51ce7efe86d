"""`models list`, `show`, `promote` and `archive`, and what is said of refs that name nothing."""

import json
from pathlib import Path

import pytest

from caravan.values.errors import StateError
from caravan.values.evaluation import GateReport, GateVerdict
from caravan.values.registry import ModelStage
from tests.fakes.wiring import FakeWiring, person
from tests.terminal.models_case import FAILED, PASSED, a_run, add, document, models


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path / "home")


def test_an_empty_registry_says_how_models_come_there(wiring: FakeWiring) -> None:
    code, out, _ = models(wiring, "list")
    assert (code, "models register RUN" in out) == (0, True)
    assert document(wiring, "list") == []
    code, _, err = models(wiring, "show", "chat")
    assert (code, "No model is registered yet" in err, "models register RUN" in err) == (2, True, True)


def test_the_list_has_the_metric_with_its_unit_beside_the_base(wiring: FakeWiring) -> None:
    add(wiring, "/m")
    _, out, _ = models(wiring, "list")
    assert [w for w in ("chat@1", "candidate", "eval_loss ↓", "1.25 nats", "2.5 nats", "org/base", "1h") if w in out]
    assert "1.25 nats" in out
    (row,) = document(wiring, "list")
    assert row["ref"] == "chat@1"
    assert row["metric"] == {
        "name": "eval_loss",
        "value": 1.25,
        "base": 2.5,
        "title": "loss on held-out examples",
        "unit": "nats",
        "direction": "min",
        "type": "number",
    }


def test_the_list_has_a_held_out_figure_where_no_single_one_decided(wiring: FakeWiring) -> None:
    logged = {"loss": 0.1, "token_accuracy": 0.9, "eval_loss": 1.5}
    add(wiring, "/m", metrics=logged, base_metrics={}, definitions=(), gate=FAILED, why="looked at by hand")
    (row,) = document(wiring, "list")
    assert (row["metric"]["name"], row["metric"]["value"]) == ("eval_loss", 1.5)


def test_the_list_is_filtered_and_sorted_by_a_metric(wiring: FakeWiring) -> None:
    for number, (loss, accuracy) in enumerate(((1.5, 0.2), (1.25, 0.1), (2.0, 0.9)), 1):
        add(wiring, "/m", run_id=f"run{number}", metrics={"eval_loss": loss, "eval_accuracy": accuracy})
    add(wiring, "/m", run_id="other", name="other", metrics={})
    assert [r["ref"] for r in document(wiring, "list", "--metric", "eval_loss")] == [
        "chat@2",
        "chat@1",
        "chat@3",
        "other@1",
    ]
    best = document(wiring, "list", "--metric", "eval_accuracy", "--limit", "1")
    assert [r["ref"] for r in best] == ["chat@3"]
    assert {r["ref"] for r in document(wiring, "list", "--name", "other")} == {"other@1"}
    wiring.registered.move("chat@2", ModelStage.PRODUCTION, by="ada", why="", at=wiring.clock.now())
    assert {r["ref"] for r in document(wiring, "list", "--stage", "production")} == {"chat@2"}
    assert models(wiring, "list", "--stage", "staging")[1] == "There are no such models.\n"
    code, _, err = models(wiring, "list", "--metric", "eval_los")
    assert (code, "Like it: eval_loss" in err) == (2, True)
    code, _, err = models(wiring, "list", "--stage", "prod")
    assert (code, "candidate, staging, production, archived" in err) == (2, True)


def test_show_has_everything(wiring: FakeWiring) -> None:
    add(wiring, "/m", why="looked at by hand")
    add(wiring, "/m", run_id="child", name="chat-more", parent="chat@1")
    wiring.registered.move("chat@1", ModelStage.STAGING, by="bob", why="good enough", at=wiring.clock.now())
    code, out, _ = models(wiring, "show", "chat")
    assert code == 0
    told = (
        *("chat@1, staging", "org/base", "lora", "c0ffee", "d" * 64, "chat-more@1", "looked at by hand"),
        *("adapter_config.json", "10240", "1.25 nats", "50 %", "better than its base", "by bob: good enough"),
        *("main.py models pull chat@1", 'PeftModel.from_pretrained(base, "chat-1")'),
    )
    assert [text for text in told if text not in out] == []
    found = document(wiring, "show", "chat@1")
    assert found["children"] == ["chat-more@1"]
    assert [m["after"] for m in found["moves"]] == ["candidate", "staging"]
    assert len(found["files"]["files"]) == 3
    assert document(wiring, "show", "chat-more")["parent"] == "chat@1"


def test_what_a_metric_without_a_definition_wants_is_not_said(wiring: FakeWiring) -> None:
    add(wiring, "/m", metrics={"tokens/s": 4426.0}, base_metrics={}, gate=None)
    line = next(line for line in models(wiring, "show", "chat")[1].splitlines() if line.startswith("tokens/s"))
    assert line.split() == ["tokens/s", "4426", "-", "-"]
    listed = models(wiring, "list")[1]
    assert not {"↑", "↓"} & set(listed)
    assert document(wiring, "list")[0]["metric"]["direction"] is None


def test_a_run_names_its_model(wiring: FakeWiring) -> None:
    add(wiring, "/m", run_id="abc12345")
    assert document(wiring, "show", "abc12345")["ref"] == "chat@1"  # the run itself was deleted
    a_run(wiring, "abc12345")
    assert document(wiring, "show", "abc1")["ref"] == "chat@1"
    a_run(wiring, "abc19999")
    code, _, err = models(wiring, "show", "abc1")
    assert (code, "abc12345" in err, "abc19999" in err) == (2, True, True)
    code, _, err = models(wiring, "show", "abc19")
    assert (code, "models register abc19999" in err) == (2, True)


def test_refs_that_name_nothing(wiring: FakeWiring) -> None:
    add(wiring, "/m")
    for ref, said in (
        ("chatt", "Like it: chat"),
        ("chat@7", "There is 1 (candidate)"),
        ("chat@production", "has no version in production"),
        ("chat@live", "Stages are"),
        ("../x", "names no model"),
    ):
        code, _, err = models(wiring, "show", ref)
        assert (code, said in err) == (2, True), err


def test_a_database_that_is_down_is_one_line(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise StateError("The database does not answer.", hint="Look at DATABASE_URL.")

    for name in ("model", "models"):
        monkeypatch.setattr(wiring.registered, name, down)
    for words in (["list"], ["show", "chat"], ["promote", "chat"], ["pull", "chat"]):
        code, out, err = models(wiring, *words, "--json")
        assert (code, err) == (2, "Error: The database does not answer. Look at DATABASE_URL.\n")
        assert json.loads(out)["exit_code"] == 2


def test_promoting_goes_step_by_step_and_production_is_asked_for(wiring: FakeWiring) -> None:
    add(wiring, "/m", run_id="one")
    add(wiring, "/m", run_id="two")
    assert models(wiring, "promote", "chat@1")[1] == "chat@1 is in staging now (it was a candidate).\n"
    code, _, err = models(wiring, "promote", "chat@1")
    assert (code, "Allow it with --yes" in err) == (3, True)
    assert models(wiring, "promote", "chat@1", terminal=person("n"))[0] == 3
    assert wiring.registered.model("chat@1").stage is ModelStage.STAGING
    assert models(wiring, "promote", "chat@1", terminal=person("y"))[0] == 0
    code, _, err = models(wiring, "promote", "chat@2", "production")
    assert (code, "in place of chat@1, which is archived" in err) == (3, True)
    _, out, _ = models(wiring, "promote", "chat@2", "--to", "production", "--yes", "--why", "better by 3 %")
    assert out == (
        "chat@2 is in production now (it was a candidate).\nchat@1 is archived now (it was in production).\n"
    )
    last = wiring.registered.moves("chat@2")[-1]
    assert (last.by, last.why) == ("ada", "better by 3 %")
    code, _, err = models(wiring, "promote", "chat@2")
    assert (code, "there is no next stage" in err) == (2, True)
    assert document(wiring, "promote", "chat@2", "production")["moves"] == []
    code, _, err = models(wiring, "promote", "chat@2", "staging", "--to", "archived")
    assert (code, "Two stages" in err) == (2, True)


@pytest.mark.parametrize("gate", [FAILED, None, GateReport(verdict=GateVerdict.UNKNOWN)])
def test_what_failed_its_gate_or_had_none_needs_force_and_a_reason(wiring: FakeWiring, gate: GateReport | None) -> None:
    add(wiring, "/m", gate=gate)
    for words in ([], ["--force"], ["--why", "I know better"]):
        code, _, err = models(wiring, "promote", "chat", *words)
        assert (code, "does not go to staging" in err) == (2, True)
    assert models(wiring, "promote", "chat", "--force", "--why", "I know better")[0] == 0
    assert models(wiring, "promote", "chat", "candidate")[0] == 0  # back is no promotion


def test_what_should_be_looked_at_is_said_and_moves(wiring: FakeWiring) -> None:
    add(wiring, "/m", gate=PASSED.model_copy(update={"verdict": GateVerdict.LOOK}))
    code, _, err = models(wiring, "promote", "chat")
    assert (code, "a person should look" in err) == (0, True)


def test_archiving_what_is_in_production_is_asked_for(wiring: FakeWiring) -> None:
    add(wiring, "/m", stage=ModelStage.PRODUCTION)
    code, _, err = models(wiring, "archive", "chat")
    assert (code, "no version of chat is in it then" in err) == (3, True)
    assert models(wiring, "archive", "chat", terminal=person())[0] == 3  # Ctrl-D
    assert models(wiring, "archive", "chat", "--yes")[1] == "chat@1 is archived now (it was in production).\n"
    assert models(wiring, "archive", "chat")[1] == "chat@1 is archived already.\n"

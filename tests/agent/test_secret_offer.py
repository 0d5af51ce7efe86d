"""The offer of secrets in the whole graph over fakes: who is asked what, what is sent, and that no value stays."""

from pathlib import Path
from typing import Any

import pytest

from caravan.agent.traced import TracedCluster
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import ClusterDenied, JobConflict
from caravan.values.job import ClusterKind
from caravan.values.plan import Author, PlanChange
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import TRAIN, World

VALUE = "quite-an-odd-value-4711"
CODE = f"import os\ntoken = os.environ['HF_TOKEN']\nlevel = os.environ.get('WANDB_API_KEY')\n{TRAIN}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    (made.repo / "train.py").write_text(CODE)
    return made


def drive(world: World, record: RunRecord, reply: Reply | None = None, **set_here: str) -> Ask | RunRecord:
    return world.drive(record, reply, secret_of=set_here.get)


def asked(result: Ask | RunRecord) -> Ask:
    assert isinstance(result, Ask), result
    assert result.kind is AskKind.SECRETS
    return result


def of_nomad(world: World) -> None:
    world.cluster._facts = world.cluster._facts.model_copy(update={"kind": ClusterKind.NOMAD})


def held(world: World) -> Any:
    return world.cluster.variables.get(("default", "nomad/jobs"))


def everything(world: World) -> bytes:
    files = b"".join(f.read_bytes() for f in world.tmp.rglob("*") if f.is_file() and world.repo not in f.parents)
    said = (world.tracer.spans(), world.progress.notes, world.store.events("x"), world.cluster.registrations)
    return files + repr(said).encode()


def test_what_the_cluster_has_is_not_asked_about(world: World) -> None:
    world.cluster.variables["default", "nomad/jobs"] = {"HF_TOKEN": VALUE}
    record = world.start()
    ended = drive(world, record)
    assert isinstance(ended, RunRecord)
    assert ended.status is RunStatus.SUCCEEDED
    assert "write_variable" not in world.cluster.calls
    job = world.cluster.registrations[0]
    assert "WANDB_API_KEY" not in repr(job)  # the code can do without
    assert '{{ with nomadVar "nomad/jobs" }}' in repr(job)


def test_yes_alone_sends_nothing_and_a_person_is_asked_by_name(world: World) -> None:
    record = world.start(yes=True)
    ask = asked(drive(world, record, HF_TOKEN=VALUE))
    assert ask.names == ("HF_TOKEN",)
    for words in ("HF_TOKEN", "nomad/jobs", "namespace default", "http://fake.invalid:4646"):
        assert words in ask.text
    assert held(world) is None
    assert world.store.run(record.id).status is RunStatus.WAITING
    ended = drive(world, record, Reply(approved=True), HF_TOKEN=VALUE)
    assert isinstance(ended, RunRecord)
    assert ended.status is RunStatus.SUCCEEDED
    assert held(world) == {"HF_TOKEN": VALUE}
    assert any("Wrote HF_TOKEN" in note for note in world.progress.notes)
    assert any("Wrote HF_TOKEN" in event.text for event in world.store.events(record.id))
    assert VALUE.encode() not in everything(world)


def test_send_secrets_is_the_word_for_it(world: World) -> None:
    world.cluster.variables["default", "nomad/jobs"] = {"OTHER": "stays"}
    record = world.start(yes=True, send_secrets=True)
    ended = drive(world, record, HF_TOKEN=VALUE)
    assert isinstance(ended, RunRecord)
    assert ended.status is RunStatus.SUCCEEDED
    assert held(world) == {"OTHER": "stays", "HF_TOKEN": VALUE}
    assert VALUE.encode() not in everything(world)


def test_a_no_goes_on_with_a_warning_and_the_approval_is_asked_for_itself(world: World) -> None:
    record = world.start(yes=False)
    asked(drive(world, record, HF_TOKEN=VALUE))
    approval = drive(world, record, Reply(approved=False), HF_TOKEN=VALUE)
    assert isinstance(approval, Ask)
    assert approval.kind is AskKind.APPROVAL
    assert any("lacks HF_TOKEN" in w for w in approval.warnings)
    assert held(world) is None
    ended = drive(world, record, Reply(approved=True), HF_TOKEN=VALUE)
    assert isinstance(ended, RunRecord)
    assert held(world) is None
    assert len(world.cluster.registrations) == 1


def test_a_variable_that_goes_away_while_the_approval_is_open_is_no_other_question(world: World) -> None:
    world.cluster.variables["default", "nomad/jobs"] = {"HF_TOKEN": VALUE}
    record = world.start(yes=False)
    approval = drive(world, record)
    assert isinstance(approval, Ask)
    assert approval.kind is AskKind.APPROVAL
    del world.cluster.variables["default", "nomad/jobs"]
    ended = drive(world, record, Reply(approved=True), HF_TOKEN=VALUE)
    assert isinstance(ended, RunRecord)
    assert held(world) is None


def test_only_what_was_shown_is_sent(world: World) -> None:
    (world.repo / "train.py").write_text(CODE.replace("os.environ.get('WANDB_API_KEY')", "os.environ['WANDB_API_KEY']"))
    world.cluster.variables["default", "nomad/jobs"] = {"WANDB_API_KEY": "there"}
    record = world.start()
    assert asked(drive(world, record, HF_TOKEN=VALUE)).names == ("HF_TOKEN",)
    del world.cluster.variables["default", "nomad/jobs"]["WANDB_API_KEY"]
    drive(world, record, Reply(approved=True), HF_TOKEN=VALUE, WANDB_API_KEY="never sent")
    assert held(world) == {"HF_TOKEN": VALUE}


@pytest.mark.parametrize(
    ("there", "line"),
    [
        (None, "nomad var put -namespace=default nomad/jobs HF_TOKEN=@FILE"),
        (
            {"X": "y"},
            "nomad var get -namespace=default -out=json nomad/jobs | nomad var put -namespace=default -in=json -",
        ),
    ],
)
def test_what_is_nowhere_is_asked_of_a_person_who_puts_it_there(world: World, there: Any, line: str) -> None:
    if there is not None:
        world.cluster.variables["default", "nomad/jobs"] = dict(there)
    of_nomad(world)
    record = world.start()
    ask = asked(drive(world, record))
    assert line in ask.text
    assert "`main.py secrets put HF_TOKEN --cluster " in ask.text
    assert f"resume {record.id} --approve" in ask.text
    assert asked(drive(world, record, Reply(approved=True))).text == ask.text  # still not there
    world.cluster.write_variable("nomad/jobs", {"HF_TOKEN": VALUE})
    ended = drive(world, record, Reply(approved=True))
    assert isinstance(ended, RunRecord)
    assert ended.status is RunStatus.SUCCEEDED


def test_without_it_the_run_ends_before_anything_is_deployed_and_says_why(world: World) -> None:
    record = world.start()
    asked(drive(world, record))
    ended = drive(world, record, Reply(approved=False))
    assert isinstance(ended, RunRecord)
    assert ended.status is RunStatus.REJECTED
    assert "HF_TOKEN" in ended.detail
    assert "main.py secrets put HF_TOKEN" in ended.detail
    assert "nomad var" not in ended.detail  # the built-in cluster has no such client
    assert world.cluster.registrations == []
    assert world.state(record).diagnosis.failure.value == "template_secret_unavailable"


def test_what_may_not_be_looked_at_is_a_warning(world: World) -> None:
    world.cluster.fail("variable_names", ClusterDenied("Permission denied"))
    record = world.start(yes=False)
    approval = drive(world, record, HF_TOKEN=VALUE)
    assert isinstance(approval, Ask)
    assert approval.kind is AskKind.APPROVAL
    assert any("whether it has HF_TOKEN is not known" in w for w in approval.warnings)


def test_a_token_that_may_not_write_is_told_and_the_line_is_shown(world: World) -> None:
    world.cluster.fail("write_variable", ClusterDenied("Permission denied"))
    of_nomad(world)
    record = world.start(send_secrets=True)
    ask = asked(drive(world, record, HF_TOKEN=VALUE))
    assert "may not write it" in ask.text
    assert "nomad var put" in ask.text


def test_somebody_who_writes_meanwhile_is_ridden_out(world: World) -> None:
    world.cluster.fail("write_variable", JobConflict("cas"), times=2)
    record = world.start(send_secrets=True)
    assert isinstance(drive(world, record, HF_TOKEN=VALUE), RunRecord)
    assert held(world) == {"HF_TOKEN": VALUE}


def test_a_secret_that_is_unset_by_the_time_of_the_yes_is_looked_for_anew(world: World) -> None:
    record = world.start()
    asked(drive(world, record, HF_TOKEN=VALUE))
    ask = asked(drive(world, record, Reply(approved=True)))
    assert "neither" in ask.text


def test_vault_can_t_be_asked_and_says_so(world: World) -> None:
    sets = tuple(
        PlanChange(path=path, value=value, by=Author.USER)
        for path, value in (("secrets_from.kind", "vault"), ("secrets_from.path", "secret/data/train"))
    )
    record = world.start(yes=False, sets=sets)
    approval = drive(world, record, HF_TOKEN=VALUE)
    assert isinstance(approval, Ask)
    assert approval.kind is AskKind.APPROVAL
    assert any("whether Vault has HF_TOKEN" in w for w in approval.warnings)
    assert "variable_names" not in world.cluster.calls


def test_another_variable_is_a_warning_about_its_readers(world: World) -> None:
    world.cluster.variables["default", "team/secrets"] = {"HF_TOKEN": VALUE}
    sets = (PlanChange(path="secrets_from.path", value="team/secrets", by=Author.USER),)
    record = world.start(yes=False, sets=sets)
    approval = drive(world, record)
    assert isinstance(approval, Ask)
    assert any("team/secrets only with an ACL policy" in w for w in approval.warnings)


def test_the_trace_tells_names_alone(world: World) -> None:
    record = world.start(send_secrets=True)
    traced = TracedCluster(world.cluster, world.tracer, world.clock)
    world.drive(record, None, secret_of={"HF_TOKEN": VALUE}.get, cluster=traced)
    assert "HF_TOKEN" in repr(world.tracer.spans())
    assert VALUE not in repr(world.tracer.spans())

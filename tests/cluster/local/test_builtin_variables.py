"""Variables of the built-in cluster: written with check-and-set, read by templates, waited for, kept to themselves."""

import json
import stat
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.cluster.local.envfiles import BadEnv, parse_env
from caravan.cluster.local.templates import TemplateRefused, TemplateWaits, render
from caravan.cluster.local.variables import refusal
from caravan.planning.secrets import secrets_block
from caravan.values.plan import TrainingPlan
from tests.cluster.local.bench import PYTHON, Bench
from tests.fakes.recordings import load

ODD = 'a\nb "quoted" \'single\' # no comment = & <tag> \\ back\\n \t{{ env "HOME" }} ${HOME} end'


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("builtin") / "home")
    yield made
    made.down()


def put(bench: Bench, path: str, *, cas: int | None = None, **items: str) -> Any:
    query = "" if cas is None else f"?cas={cas}"
    return bench.ask("PUT", f"/v1/var/{path}{query}", {"Namespace": "default", "Path": path, "Items": items})


def wanting(bench: Bench, path: str, *names: str, command: str = "true") -> dict[str, Any]:
    """A job whose secrets come from the variable at `path`, by the template that a plan makes."""
    plan = TrainingPlan(goal="x", command=("x",), secrets=names)
    block = secrets_block(plan.model_copy(update={"secrets_from": plan.secrets_from.model_copy(update={"path": path})}))
    template = {
        "DestPath": block.destination,
        "EmbeddedTmpl": block.data,
        "Envvars": block.env,
        "Perms": block.perms,
        "ErrMissingKey": block.error_on_missing_key,
    }
    return bench.job(command, Templates=[template])


def test_a_variable_is_written_once_per_index_and_listed_without_its_items(bench: Bench) -> None:
    first = put(bench, "nomad/jobs/v1", cas=0, a="1")
    assert first.status_code == 200
    assert first.json()["Items"] == {"a": "1"}
    again = put(bench, "nomad/jobs/v1", cas=0, a="2")
    assert (again.status_code, again.json()["ModifyIndex"]) == (409, first.json()["ModifyIndex"])
    changed = put(bench, "nomad/jobs/v1", cas=first.json()["ModifyIndex"], a="2", b="3")
    assert changed.status_code == 200
    assert changed.json()["CreateIndex"] == first.json()["CreateIndex"] < changed.json()["ModifyIndex"]
    assert bench.get("/v1/var/nomad/jobs/v1")["Items"] == {"a": "2", "b": "3"}
    listed = bench.get("/v1/vars?prefix=nomad/jobs/v1")
    assert [v["Path"] for v in listed] == ["nomad/jobs/v1"]
    assert "Items" not in listed[0]
    assert bench.ask("DELETE", "/v1/var/nomad/jobs/v1?cas=1").status_code == 409
    assert bench.ask("DELETE", "/v1/var/nomad/jobs/v1").status_code == 204
    assert bench.ask("GET", "/v1/var/nomad/jobs/v1").status_code == 404


@pytest.mark.parametrize(
    ("path", "items", "words"),
    [
        ("a b", {"x": "y"}, "invalid path"),
        ("nomad/other", {"x": "y"}, "only paths at"),
        ("x", {}, "missing required Items"),
        ("x", {"x": 1}, "must be strings"),
        ("x", {"x": "y" * 70_000}, "64KiB"),
        ("", {"x": "y"}, "missing path"),
    ],
)
def test_what_nomad_refuses_is_refused(path: str, items: Any, words: str) -> None:
    assert words in refusal(path, items)


def test_a_wrong_token_and_another_namespace_see_nothing(bench: Bench) -> None:
    assert bench.ask("GET", "/v1/var/nomad/jobs", token="00000000-0000-0000-0000-000000000000").status_code == 403
    assert bench.ask("GET", "/v1/var/nomad/jobs?namespace=other").status_code == 400


def test_any_text_reaches_the_task_and_stays_out_of_the_cluster_s_other_files(bench: Bench) -> None:
    assert put(bench, "nomad/jobs", SECRET_ONE=ODD, other="stays").status_code == 200
    script = "import os, sys; sys.exit(0 if os.environ['SECRET_ONE'] == bytes.fromhex(sys.argv[1]).decode() else 9)"
    job = wanting(bench, "nomad/jobs", "SECRET_ONE")
    job["TaskGroups"][0]["Tasks"][0]["Config"] = {"command": PYTHON, "args": ["-c", script, ODD.encode().hex()]}
    alloc = bench.run(job)
    assert alloc["ClientStatus"] == "complete", alloc["TaskStates"]
    secret = bench.home / "allocs" / alloc["ID"] / "train" / "secrets" / "caravan.env"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE((bench.home / "variables.json").stat().st_mode) == 0o600
    refused = bench.ask("GET", f"/v1/client/fs/cat/{alloc['ID']}?path=train/secrets/caravan.env")
    assert refused.status_code == 403
    told = (ODD.encode(), json.dumps(ODD)[1:-1].encode(), json.dumps(ODD, ensure_ascii=False)[1:-1].encode())
    for file in bench.home.rglob("*"):
        if file.is_file() and file not in (secret, bench.home / "variables.json"):
            assert not any(form in file.read_bytes() for form in told), file


def test_a_missing_variable_is_waited_for_and_rendered_as_it_comes(bench: Bench) -> None:
    job = wanting(bench, "nomad/jobs/job-late", "LATE", command='test "$LATE" = now')
    job["ID"] = "job-late"
    bench.register(job)
    waits = bench.wait("/v1/job/job-late/allocations", lambda all_: bool(all_) and "Missing" in str(all_))
    events = waits[0]["TaskStates"]["train"]["Events"]
    assert events[-1]["Type"] == "Template"
    assert events[-1]["DisplayMessage"] == "Missing: nomad.var.block(nomad/jobs/job-late@default.global)"
    assert waits[0]["ClientStatus"] == "pending"
    put(bench, "nomad/jobs/unrelated", x="y")
    put(bench, "nomad/jobs/job-late", LATE="now")
    alloc = bench.alloc("job-late", "complete", "failed")
    assert alloc["ClientStatus"] == "complete"
    assert sum("Missing" in e["DisplayMessage"] for e in alloc["TaskStates"]["train"]["Events"]) == 1


def test_a_task_that_waits_for_a_variable_can_be_stopped_and_survives_the_cluster(bench: Bench) -> None:
    job = wanting(bench, "nomad/jobs", "NEVER")
    job["TaskGroups"][0]["Tasks"][0]["Templates"][0]["EmbeddedTmpl"] = '{{ with nomadVar "nomad/jobs/never" }}{{ end }}'
    job["ID"] = "never"
    bench.register(job)
    bench.wait("/v1/job/never/allocations", lambda all_: bool(all_) and "Missing" in str(all_))
    bench.crash()
    bench.up()
    bench.ask("DELETE", "/v1/job/never")
    alloc = bench.alloc("never", "complete", "failed")
    assert alloc["TaskStates"]["train"]["StartedAt"] is None
    assert alloc["TaskStates"]["train"]["State"] == "dead"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nomad/jobs/somebody-else", "Unexpected response code: 403 (Permission denied)"),
        ("nomad/jobs", 'map has no entry for key "ABSENT"'),
    ],
)
def test_what_may_not_be_read_or_is_not_there_ends_the_task(bench: Bench, path: str, words: str) -> None:
    put(bench, path, PRESENT="x")
    alloc = bench.run(wanting(bench, path, "ABSENT"))
    assert alloc["ClientStatus"] == "failed"
    killing = next(e for e in alloc["TaskStates"]["train"]["Events"] if e["Type"] == "Killing")
    assert killing["DisplayMessage"].startswith("Template failed: ")
    assert words in killing["DisplayMessage"]


def test_the_recorded_template_is_understood() -> None:
    recording = load("ok-variable-secret")
    job = next(e["answer"] for e in recording["exchanges"] if e["path"] == "/v1/jobs/parse")
    text = job["TaskGroups"][0]["Tasks"][0]["Templates"][0]["EmbeddedTmpl"]
    held = {"nomad/jobs/ok-variable-secret": {"hf_token": "hf_example"}}
    assert render(text, {}, items_of=held.get) == "HF_TOKEN=hf_example\n"
    with pytest.raises(TemplateWaits):
        render(text, {})


@pytest.mark.parametrize(
    "text",
    [
        '{{ with nomadVar "a" }}',
        "{{ end }}",
        '{{ with nomadVar "a" }}{{ .x | noSuchFunction }}{{ end }}',
        '{{ with secret "a" }}{{ .Data.x }}{{ end }}',
        "{{ range nomadVarList }}{{ end }}",
    ],
)
def test_other_templates_are_refused(text: str) -> None:
    with pytest.raises(TemplateRefused):
        render(text, {}, items_of=lambda _: {"x": "y"})


def test_without_the_guard_a_missing_item_is_no_value_as_in_nomad() -> None:
    assert render('{{ with nomadVar "a" }}{{ .x }}{{ end }}', {}, items_of=lambda _: {"y": "1"}) == "<no value>"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", "") + "é学{}", max_size=40))
def test_what_a_template_says_is_what_the_task_gets(value: str) -> None:
    plan = TrainingPlan(goal="x", command=("x",), secrets=("ONE", "TWO"))
    text = render(secrets_block(plan).data, {}, items_of=lambda _: {"ONE": value, "TWO": "two"}, strict=True)
    assert parse_env(text) == {"ONE": value, "TWO": "two"}


def test_what_an_environment_file_can_t_hold_is_refused_without_saying_it() -> None:
    plan = TrainingPlan(goal="x", command=("x",), secrets=("ONE",))
    text = render(secrets_block(plan).data, {}, items_of=lambda _: {"ONE": "quiet\rvalue"}, strict=True)
    assert parse_env(text) == {"ONE": "quiet\rvalue"}
    with pytest.raises(BadEnv) as refused:
        parse_env("ONE=quiet\rvalue")
    assert str(refused.value) == "error on line 1: 0x0d is an invalid value character"

"""Places for outputs: what a person may say, what a cluster lacks for it, and what would vanish."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.answers import parse_set, type_answer
from caravan.planning.checks import check_job
from caravan.planning.command import output_dir
from caravan.planning.outputs import output_problems, packages_for, read_sink, settled, url_problem, vanishing
from caravan.planning.questions import draft_questions
from caravan.values.dialogue import Question
from caravan.values.errors import UsageError
from caravan.values.plan import Author, Mount, OutputSink, Training, TrainingPlan, apply_changes
from tests.planning.scenes import GIT, bare_plan, builtin, llm_profile, node, nomad, volumes

CLUSTER = nomad(node("a", host_volumes=volumes(ckpt=False, data=True))).model_copy(
    update={"csi_volumes": ("models", "scratch")}
)


def plan_to(text: str, **more: Any) -> TrainingPlan:
    return bare_plan(code=GIT, outputs=read_sink(text), **{"driver": "exec", **more})


@pytest.mark.parametrize(
    ("text", "kind", "location"),
    [
        ("volume:ckpt", "volume", "ckpt"),
        ("url:s3://bucket/runs/", "url", "s3://bucket/runs"),
        ("s3://bucket", "url", "s3://bucket"),
        ("file:///shared/runs", "url", "file:///shared/runs"),
        (" path:/mnt/x ", "path", "/mnt/x"),
        ("/mnt/x", "path", "/mnt/x"),
        ("allocation", "allocation", "${NOMAD_ALLOC_DIR}/data/outputs"),
    ],
)
def test_places_that_a_person_may_say(text: str, kind: str, location: str) -> None:
    assert read_sink(text) == OutputSink(kind=kind, location=location)  # type: ignore[arg-type]
    change = parse_set(f"outputs={text}")
    assert apply_changes(bare_plan(), [change]).outputs.kind == kind


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no place"),
        ("somewhere", "no place"),
        ("volume:", "no place"),
        ("url", "names no URL"),
        ("s3://key:hunter2@bucket/x", "holds a password"),
        ("az://box/x?sig=hunter2", "query"),
        ("s3:///x", "no bucket"),
        ("file://shared/runs", "three slashes"),
        ("memory://x", "no protocol"),
        ("simplecache::s3://bucket/x", "no protocol"),
        ("s3://bucket/../other", "no plain address"),
        ("s3://bucket/a b", "no plain address"),
        ("s3://[bucket", "can't be read"),
    ],
)
def test_what_is_no_place_is_refused_and_no_password_is_repeated(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        read_sink(text)
    assert "hunter2" not in refused.value.line()


@given(st.text())
def test_any_text_is_a_place_or_a_usage_error(text: str) -> None:
    try:
        sink = read_sink(text)
    except UsageError:
        return
    if sink.kind == "url":
        assert url_problem(sink.location) == ""
        assert packages_for(sink.location)[0].startswith("fsspec")


def test_volumes_are_found_by_name_and_mounted_once() -> None:
    host = settled(plan_to("volume:ckpt"), CLUSTER)
    assert (host.mounts[0].kind, host.mounts[0].read_only) == ("host", False)
    assert output_dir(host) == "/caravan/outputs/${NOMAD_META_caravan_run}"
    assert settled(plan_to("volume:models"), CLUSTER).mounts[0].kind == "csi"
    own = Mount(kind="host", source="ckpt", destination="/ckpt", read_only=False)
    there = settled(plan_to("volume:ckpt", mounts=(own,)), CLUSTER)
    assert (there.mounts, there.outputs.location) == ((own,), "/ckpt")
    other = Mount(kind="host", source="data", destination="/caravan/outputs")
    assert settled(plan_to("volume:ckpt", mounts=(other,)), CLUSTER).outputs.location == "/caravan/outputs-2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("volume:data", "data is read-only on a; volumes that can be written: ckpt, models, scratch"),
        ("/mnt/x", "no writable mount covers it"),
        ("file:///mnt/x", "no writable mount covers it"),
    ],
)
def test_what_a_cluster_lacks_is_said(text: str, words: str) -> None:
    assert words in " ".join(check_job(plan_to(text), CLUSTER))


def test_what_will_do_is_no_problem() -> None:
    mount = Mount(kind="bind", source="/mnt", destination="/mnt", read_only=False)
    for good in ("volume:ckpt", "volume:models", "s3://bucket/x", "allocation"):
        assert output_problems(plan_to(good), CLUSTER) == ()
    assert output_problems(plan_to("/mnt/x", mounts=(mount,)), CLUSTER) == ()
    assert output_problems(plan_to("file:///mnt/x", mounts=(mount,)), CLUSTER) == ()
    closed = mount.model_copy(update={"read_only": True})
    assert output_problems(plan_to("/mnt/x", mounts=(closed,)), CLUSTER) != ()
    assert output_problems(plan_to("/mnt/x", driver="raw_exec"), CLUSTER) == ()
    assert output_problems(plan_to("/anywhere"), builtin()) == ()


def test_other_mounts_that_are_wrong_are_said() -> None:
    csi = Mount(kind="csi", source="gone", destination="/o", read_only=False)
    sink = OutputSink(kind="volume", location="/o")
    wrong = output_problems(bare_plan(outputs=sink, mounts=(csi,)), CLUSTER)
    assert wrong == ("The cluster has no CSI volume gone; it has models, scratch.",)
    closed = csi.model_copy(update={"read_only": True})
    assert "read-only" in output_problems(bare_plan(outputs=sink, mounts=(closed,)), CLUSTER)[0]
    assert "No mount is at '/o'" in output_problems(bare_plan(outputs=sink), CLUSTER)[0]


def test_what_vanishes() -> None:
    (said,) = vanishing(plan_to("allocation"), CLUSTER)
    assert "start again with --set outputs=volume:NAME" in said
    assert "RUN" not in said  # how to accept it is said where it is asked, with the run's id
    assert ("as was asked for" in said) is (plan_to("allocation").set_by("outputs.kind") is Author.USER)
    assert vanishing(plan_to("allocation"), builtin()) == ()
    for good in ("volume:ckpt", "s3://bucket/x"):
        assert vanishing(plan_to(good), CLUSTER) == ()
    beside = plan_to("volume:ckpt", training=Training(output_dir="out"))
    assert "training.output_dir = out is not in /caravan/outputs" in vanishing(beside, CLUSTER)[0]
    assert vanishing(plan_to("s3://bucket/x", training=Training(output_dir="out")), CLUSTER) == ()


def test_the_question_names_what_the_cluster_has_and_takes_a_url() -> None:
    found = draft_questions(llm_profile(), "go", CLUSTER, ())
    asked = next(q for q in found if q.id == "outputs")
    assert asked.choices == ("volume:ckpt", "volume:models", "volume:scratch", "url", "allocation")
    assert type_answer(asked, "volume:ckpt") == "volume:ckpt"
    assert type_answer(asked, "s3://bucket/x") == "s3://bucket/x"
    with pytest.raises(UsageError, match="doesn't fit") as refused:
        type_answer(asked, "url")
    assert "the URL itself" in refused.value.hint
    none = draft_questions(llm_profile(), "go", nomad(node("a", drivers="raw_exec")), ())
    bare: Question = next(q for q in none if q.id == "outputs")
    assert (bare.choices, bare.default) == (("url", "allocation"), "allocation")


def test_a_url_that_is_none_is_told_so() -> None:
    assert "names no URL" in url_problem("")
    assert "names no URL" in url_problem("/caravan/outputs")

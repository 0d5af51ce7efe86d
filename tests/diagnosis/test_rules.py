"""From evidence to a cause: Nomad's own words, task ends, and honesty where nothing fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.rules import Finding, diagnose, outranked
from caravan.diagnosis.sign import Seen, Sign
from caravan.diagnosis.signs import SIGNS
from caravan.values.failure import Evidence, FailureClass, Stage
from caravan.values.job import PlacementFailure
from caravan.values.plan import Resources, TrainingPlan

PLAN = TrainingPlan(goal="g", command=("python", "train.py"), resources=Resources(gpus=2))
F = FailureClass


def cause(**fields: object) -> FailureClass:
    return diagnose(Evidence.model_validate({"stage": Stage.VERIFY} | fields), PLAN, ()).failure


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ('job "x" is in nonexistent namespace "ml"', F.CLUSTER_TARGET_MISMATCH),
        ('job "x" is in nonexistent node pool "gpu-pool"', F.CLUSTER_TARGET_MISMATCH),
        ('Invalid job type: "training"', F.JOBSPEC_INVALID),
        ("Task group train validation failed: 1 error occurred: * Missing task driver", F.JOBSPEC_INVALID),
    ],
)
def test_what_nomad_says_on_validation(errors: str, expected: FailureClass) -> None:
    assert cause(validation_errors=(errors,)) is expected


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ({}, F.CLUSTER_TARGET_MISMATCH),
        ({"constraint_filtered": {"missing drivers": 1}}, F.DRIVER_UNAVAILABLE),
        ({"constraint_filtered": {"missing devices": 1}}, F.PLACEMENT_GPU_UNAVAILABLE),
        ({"constraint_filtered": {"missing compatible host volumes": 1}}, F.VOLUME_UNAVAILABLE),
        ({"constraint_filtered": {"missing CSI Volume corpora[0]": 4}}, F.VOLUME_UNAVAILABLE),
        (
            {"constraint_filtered": {"${attr.driver.docker.version} semver >= 99.0.0": 1}},
            F.PLACEMENT_CONSTRAINT_FILTERED,
        ),
        ({"constraint_filtered": {"computed class ineligible": 5}}, F.PLACEMENT_CONSTRAINT_FILTERED),
        ({"constraint_filtered": {"${node.class} = a": 5, "missing drivers": 1}}, F.DRIVER_UNAVAILABLE),
        ({"constraint_filtered": {"missing drivers": 5, "missing devices": 1}}, F.PLACEMENT_GPU_UNAVAILABLE),
        ({"dimension_exhausted": {"memory": 1}}, F.PLACEMENT_RESOURCES_EXHAUSTED),
        ({"dimension_exhausted": {"devices: no devices match request": 1}}, F.PLACEMENT_GPU_UNAVAILABLE),
        ({"dimension_exhausted": {"network: reserved port collision x=80": 1}}, F.PORT_CONFLICT),
        (
            {"constraint_filtered": {"distinct_hosts": 3}, "dimension_exhausted": {"cpu": 1}},
            F.PLACEMENT_RESOURCES_EXHAUSTED,
        ),
        ({"quota_exhausted": ("memory exhausted (196608 needed > 131072 limit)",)}, F.PLACEMENT_RESOURCES_EXHAUSTED),
    ],
)
def test_what_nomad_says_on_placement(failure: dict[str, object], expected: FailureClass) -> None:
    nodes = {"dc1": 1} if failure else {}
    told = PlacementFailure.model_validate({"group": "train", "nodes_available": nodes} | failure)
    diagnosis = diagnose(Evidence(stage=Stage.VALIDATE, placement_failures=(told,)), PLAN, ())
    assert diagnosis.failure is expected
    assert diagnosis.fingerprint.startswith(expected.value)


KILLED = 'Terminated: Exit Code: 137, Exit Message: "OOM Killed"'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"events": ("Started: x", KILLED), "oom_killed": True, "exit_code": 137}, F.HOST_MEMORY_OOM),
        ({"events": ("Started: x", KILLED)}, F.HOST_MEMORY_OOM),
        ({"events": ("Started: x", "Killing: Sent interrupt.", KILLED), "oom_killed": True}, F.INTERRUPTED_EXTERNALLY),
        ({"events": ("Killing: x", "Started: x", KILLED), "oom_killed": True}, F.HOST_MEMORY_OOM),
        ({"interrupted": True}, F.INTERRUPTED_EXTERNALLY),
        ({"exit_code": 137}, F.UNKNOWN),
        ({"exit_code": 1, "log_lines": ("ValueError: x",)}, F.UNKNOWN),
        ({}, F.UNKNOWN),
    ],
)
def test_how_a_task_ended(fields: dict[str, object], expected: FailureClass) -> None:
    assert cause(**fields) is expected


@pytest.mark.parametrize(
    "event", ["Job stopped by request", "Killing: allocation exceeded max_run_duration", "Time limit: 60 s"]
)
def test_a_decision_to_end_a_job_is_not_undone(event: str) -> None:
    evidence = Evidence(stage=Stage.VERIFY, interrupted=True, events=(event,), message="stopped")
    diagnosis = diagnose(evidence, PLAN, ())
    assert (diagnosis.failure, diagnosis.escalate) == (F.INTERRUPTED_EXTERNALLY, True)


def test_an_unknown_failure_quotes_its_exception_and_asks_a_person() -> None:
    log = b'Traceback (most recent call last):\n  File "/a/t.py", line 4, in main\n    f()\nmylib.BadThing: no\n'
    other = log.replace(b"/a/t.py", b"/b/c/t.py").replace(b"line 4", b"line 44")
    one, two = (diagnose(evidence_of(Stage.VERIFY, log=text), PLAN, ()) for text in (log, other))
    assert one.failure is F.UNKNOWN
    assert one.escalate
    assert one.confidence == 0
    assert "mylib.BadThing: no" in one.lines
    assert one.advice
    assert one.fingerprint == two.fingerprint


@given(st.binary(max_size=2000), st.lists(st.text(max_size=80), max_size=4), st.booleans(), st.booleans())
def test_diagnosis_never_raises_and_quotes_only_evidence(
    log: bytes, texts: list[str], oom: bool, interrupted: bool
) -> None:
    evidence = evidence_of(Stage.VERIFY, log=log, message=" ".join(texts)).model_copy(
        update={
            "events": tuple(texts),
            "validation_errors": tuple(texts[:1]),
            "oom_killed": oom,
            "interrupted": interrupted,
        }
    )
    diagnosis = diagnose(evidence, PLAN, ())
    assert diagnosis.cause.endswith((".", "…"))
    assert "\n" not in diagnosis.cause
    assert 0 <= diagnosis.confidence <= 1
    assert diagnosis == diagnose(evidence, PLAN, ())


def test_braces_in_a_message_are_only_text() -> None:
    evidence = Evidence(stage=Stage.VALIDATE, validation_errors=("{model.__class__} {nope} {0}",))
    assert "{nope}" in diagnose(evidence, PLAN, ()).cause


def test_a_long_message_is_cut_at_a_word_and_told_once() -> None:
    words = [f"word{n}" for n in range(100)]
    found = diagnose(Evidence(stage=Stage.VALIDATE, validation_errors=(" ".join(words),)), PLAN, ())
    assert found.cause.endswith("…")
    assert found.cause.removesuffix("…").split()[-1] in words
    assert "word0" not in found.advice


def test_what_no_node_ever_has_is_not_told_as_a_matter_of_now() -> None:
    full = PlacementFailure(group="t", dimension_exhausted={"memory": 2})
    said = "The plan asks for 4000000 MB of memory; the largest fitting node has 1048576 (resources.memory_mb)."
    never = diagnose(Evidence(stage=Stage.VALIDATE, message=said, placement_failures=(full,)), PLAN, ())
    assert never.failure is FailureClass.PLACEMENT_RESOURCES_EXHAUSTED
    assert never.cause == f"No node can take the job: {said}"
    waited = diagnose(Evidence(stage=Stage.VERIFY, placement_failures=(full,)), PLAN, ())
    assert waited.cause.endswith(" now.")


def test_signs_never_outrank_their_own_cause() -> None:
    assert all(sign.failure not in sign.outranks for sign in SIGNS)


@given(st.lists(st.sampled_from(SIGNS), min_size=1, max_size=8))
def test_something_is_always_left_of_what_was_found(signs: list[Sign]) -> None:
    findings = [Finding(sign, sign.origins[0], Seen((f"line {n}",), n)) for n, sign in enumerate(signs)]
    assert outranked(findings)


def test_what_free_nodes_lack_counts_before_what_others_were_filtered_for() -> None:
    failure = {
        "constraint_filtered": {"missing compatible host volumes": 2, "missing devices": 1},
        "dimension_exhausted": {"devices: no devices match request": 1},
    }
    told = PlacementFailure.model_validate({"group": "train", "nodes_available": {"dc1": 4}} | failure)
    diagnosis = diagnose(Evidence(stage=Stage.VALIDATE, placement_failures=(told,)), PLAN, ())
    assert diagnosis.failure is F.PLACEMENT_GPU_UNAVAILABLE
    assert diagnosis.details == {"dimension": "devices", "asked": "2", "kind": "busy"}


def test_what_the_jobs_own_script_says_last_is_the_cause() -> None:
    log = ("epoch 1 loss 2.3", "caravan: sha256sum failed")
    ours = diagnose(Evidence(stage=Stage.VERIFY, exit_code=69, log_lines=log), PLAN, ())
    assert "sha256sum failed" in ours.cause
    theirs = diagnose(Evidence(stage=Stage.VERIFY, exit_code=1, log_lines=log), PLAN, ())
    assert "sha256sum failed" not in theirs.cause


def test_a_training_that_left_nothing_where_it_was_told_to_write_has_no_outputs() -> None:
    evidence = Evidence(
        stage=Stage.EVALUATE,
        exit_code=0,
        message="the training ended well but wrote nothing to /runs/x/outputs",
        log_lines=("epoch 30 loss 0.1", "done, nothing is saved without --save-model"),
    )
    assert diagnose(evidence, PLAN, ()).failure is FailureClass.OUTPUTS_MISSING

"""Evidence: clean, masked, bounded lines from any bytes, with the traceback that matters first."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.logtext import LINE_LIMIT, LINES_LIMIT, clean_lines, digest
from caravan.diagnosis.sign import STOPPED_BY_REQUEST
from caravan.values.failure import Stage
from caravan.values.job import DryRun, PlacementFailure
from caravan.values.run import Allocation, Outcome, OutcomeKind, Phase, Snapshot, TaskEvent, TaskState

NOW = datetime(2026, 1, 1, tzinfo=UTC)

CHAINED = b"""step 1 loss 2.0
Traceback (most recent call last):
  File "/w/data.py", line 3, in load
    return table[key]
KeyError: 'text'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/w/train.py", line 9, in main
    load()
  File "/w/data.py", line 5, in load
    raise ValueError("no column") from None
ValueError: no column
step 2 was never reached
"""

WRAPPED = b"""[rank1]: Traceback (most recent call last):
[rank1]:   File "/w/train.py", line 9, in main
[rank1]:     step()
[rank1]: RuntimeError: the real reason
E0101 failed (exitcode: 1) local_rank: 1
Traceback (most recent call last):
  File "/opt/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
"""


def test_a_chain_of_exceptions_is_told_from_its_root() -> None:
    lines = digest(CHAINED).decisive()
    assert lines.index("KeyError: 'text'") < lines.index("ValueError: no column")
    root, last = digest(CHAINED).chain
    assert root[-1] == "KeyError: 'text'"
    assert "ValueError: no column" in last


def test_a_launchers_own_traceback_does_not_hide_the_workers() -> None:
    assert "RuntimeError: the real reason" in digest(WRAPPED).decisive()[:4]


def test_a_traceback_far_above_the_end_is_found() -> None:
    log = CHAINED + b"".join(b"waiting for peers %d\n" % n for n in range(20_000))
    lines = digest(log).decisive()
    assert "KeyError: 'text'" in lines
    assert lines[-1] == "waiting for peers 19999"


INTERLEAVED = b"""worker-0: Traceback (most recent call last):
worker-1: Traceback (most recent call last):
worker-0:   File "/w/train.py", line 9, in main
worker-1:   File "/w/data.py", line 4, in load
worker-0:     step()
worker-1:     open(path)
worker-1: FileNotFoundError: [Errno 2] No such file or directory: '/data/x'
worker-0: RuntimeError: peer 1 is gone
worker-0: torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""


def test_of_ranks_that_write_between_each_other_the_first_that_failed_is_told() -> None:
    found = digest(INTERLEAVED)
    assert found.chain == (
        (
            '  File "/w/data.py", line 4, in load',
            "    open(path)",
            "FileNotFoundError: [Errno 2] No such file or directory: '/data/x'",
        ),
    )
    assert found.others[:3] == ('  File "/w/train.py", line 9, in main', "    step()", "RuntimeError: peer 1 is gone")


def test_a_trouble_that_the_training_lived_through_is_no_evidence() -> None:
    retried = b"Traceback (most recent call last):\nRuntimeError: CUDA out of memory. Halving the batch.\n"
    steps = b"".join(b"step %d loss 2.%d\n" % (n, n) for n in range(20))
    died = b"Traceback (most recent call last):\nKeyError: 'x'\n"
    lines = digest(retried + steps + died).decisive()
    assert "KeyError: 'x'" in lines
    assert not [line for line in lines if "out of memory" in line]
    assert any("out of memory" in line for line in digest(retried + died).decisive())


def test_how_a_loss_went_is_kept_of_a_long_log() -> None:
    going = b"".join(b"step %d loss %.3f\n" % (n, 9 - n / 200) for n in range(1000))
    lost = b"".join(b"step %d loss nan\n" % n for n in range(1000, 3000))
    lines = digest(going + lost).decisive()
    assert "step 1000 loss nan" in lines
    assert "step 999 loss 4.005" in lines


def test_what_shows_a_cause_is_not_lost_among_other_troubles() -> None:
    names = ("ab", "cd", "ef", "gh", "kl", "mn", "op", "qr")
    noise = [f"failed to read {a}{b}.{c}".encode() for a in names for b in names for c in names[:4]]
    log = b"\n".join([*noise[:128], b"sh: 1: torchrun: not found", *noise[128:]])
    assert "sh: 1: torchrun: not found" in evidence_of(Stage.VERIFY, log=log).log_lines


def test_progress_bars_and_colours_go() -> None:
    bar = b"".join(b"\rTraining:  %d%%|###   | %d/100 [00:10<00:12, 4.5it/s]" % (n, n) for n in range(100))
    log = (
        b"\x1b[31mred\x1b[0m\r\nloading 10%\rloading 100%\n"
        + bar
        + b"Traceback (most recent call last):\nKeyError: 1\n"
    )
    header = "Traceback (most recent call last):"
    assert list(clean_lines(log)) == ["red", "loading 100%", "Training:", header, "KeyError: 1", ""]
    assert list(clean_lines(bar)) == []
    assert digest(log).decisive()[0] == "KeyError: 1"


def test_secrets_are_masked_before_lines_are_cut() -> None:
    key = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA75\nabcdefERRORxyz\n-----END RSA PRIVATE KEY-----\n"
    long = b"error " + b"x" * (LINE_LIMIT - 20) + b" hf_abcdefghijklmnopqrstuvwxyz0123\n"
    log = key + long + b"login failed for swordfish with password=hunter2hunter2\n"
    told = "\n".join(digest(log, ["swordfish"]).decisive())
    for secret in ("MIIEow", "abcdefERROR", "hf_abc", "swordfish", "hunter2"):
        assert secret not in told


@given(st.binary(max_size=3000))
def test_any_bytes_give_bounded_clean_lines(log: bytes) -> None:
    lines = evidence_of(Stage.VERIFY, log=log).log_lines
    assert len(lines) <= LINES_LIMIT
    assert all(len(line) <= LINE_LIMIT and "\n" not in line and "\x1b" not in line for line in lines)


FRAGMENTS = [
    b"Traceback (most recent call last):",
    b'  File "x.py", line 1, in f',
    b"    f()",
    b"ValueError: x",
    b"",
    b"During handling of the above exception, another exception occurred:",
    b"subprocess.CalledProcessError: died",
    b"error: y",
    b" 45%|## | 1/2 [00:01<00:01]Traceback (most recent call last):",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=60))
def test_any_mixture_of_traceback_lines_is_read(parts: list[bytes]) -> None:
    lines = digest(b"\n".join(parts)).decisive()
    assert len(lines) <= LINES_LIMIT


def _snapshot(*events: TaskEvent, stopped: bool = False) -> Snapshot:
    task = TaskState(name="train", state="dead", events=events)
    allocations = (
        Allocation(id="other", name="a", group="g", client_status="failed"),
        Allocation(id="alloc", name="a", group="g", client_status="failed", node_name="n1", tasks=(task,)),
    )
    return Snapshot(job_id="j", at=NOW, phase=Phase.ENDED, stopped=stopped, allocations=allocations)


def test_the_allocation_of_the_outcome_is_told() -> None:
    event = TaskEvent(type="Terminated", message='Exit Code: 1, token="s3cr3ts3cr3t"', at=NOW)
    outcome = Outcome(kind=OutcomeKind.FAILED, reason="exit code 1", exit_code=1, alloc_id="alloc")
    evidence = evidence_of(Stage.VERIFY, outcome=outcome, snapshot=_snapshot(event), driver="docker")
    assert evidence.events == ('Terminated: Exit Code: 1, token="[masked]"',)
    assert (evidence.exit_code, evidence.node_name, evidence.message) == (1, "n1", "exit code 1")
    assert not evidence.interrupted


def test_a_job_that_somebody_stopped_says_so() -> None:
    outcome = Outcome(kind=OutcomeKind.INTERRUPTED, alloc_id="alloc")
    evidence = evidence_of(Stage.VERIFY, outcome=outcome, snapshot=_snapshot(stopped=True))
    assert evidence.events == (STOPPED_BY_REQUEST,)
    assert evidence.interrupted


def test_a_job_that_ran_did_not_fail_for_want_of_room() -> None:
    waited = PlacementFailure(group="g", dimension_exhausted={"memory": 1})
    snapshot = _snapshot().model_copy(update={"placement_failures": (waited,)})
    ran = Outcome(kind=OutcomeKind.FAILED, alloc_id="alloc")
    never = Outcome(kind=OutcomeKind.NOT_PLACED)
    assert evidence_of(Stage.VERIFY, outcome=ran, snapshot=snapshot).placement_failures == ()
    assert evidence_of(Stage.VERIFY, outcome=never, snapshot=snapshot).placement_failures == (waited,)


def test_a_dry_run_gives_its_errors_and_failures() -> None:
    failure = PlacementFailure(group="g", constraint_filtered={"${meta.token} = s3cr3ts3cr3t0": 1})
    check = DryRun(errors=("Task group g validation failed:\n\t* x",), failures=(failure,))
    evidence = evidence_of(Stage.VALIDATE, check=check)
    assert evidence.validation_errors == ("Task group g validation failed: * x",)
    assert evidence.message == evidence.validation_errors[0]
    assert evidence.placement_failures[0].constraint_filtered

"""Traps between causes of the cluster and the environment: neighbours that the same words are said of."""

import pytest

from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose, find
from caravan.values.failure import FailureClass
from caravan.values.plan import TrainingPlan
from tests.diagnosis.cases.reading import CASES, Case

F = FailureClass
PLAN = TrainingPlan(goal="g", command=("python", "train.py"))
HUB = "https://huggingface.co/acme/base/resolve/main/config.json"
REFUSED = f"requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: {HUB}"
LIBRARY = '  File "/venv/lib/python3.11/site-packages/lib/core.py", line 7, in run\n    call()\n'
OWN = '  File "/w/train.py", line 7, in <module>\n    call()\n'
TRACE = "Traceback (most recent call last):\n"


def told(text: str, kind: TextKind = TextKind.TASK_STDERR) -> FailureClass:
    return diagnose(evidence_of_text(text.encode(), kind), PLAN, ()).failure


def rows(*events: str) -> str:
    """Events as they are listed: the newest first."""
    return "Recent Events:\nTime  Type  Description\n" + "\n".join(
        f"2026-01-01T10:00:{59 - n:02}Z  {event}" for n, event in enumerate(events)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (REFUSED, F.HUB_NOT_FOUND),
        (f"hub: acme/base private=False gated=auto\n{REFUSED}", F.HF_GATED_AUTH),
        (f"Token is valid (permission: read).\n{REFUSED}", F.HF_GATED_AUTH),
        (REFUSED.replace("401 Client Error: Unauthorized", "429 Client Error: Too Many Requests"), F.HUB_RATE_LIMITED),
        (
            REFUSED.replace("401 Client Error: Unauthorized", "504 Server Error: Gateway Time-out"),
            F.NETWORK_UNREACHABLE,
        ),
        (
            "HfHubHTTPError: 503 Server Error: Service Unavailable for url: https://mirror.example/api/models/a/b",
            F.NETWORK_UNREACHABLE,
        ),
        ("OSError: [Errno 28] No space left on device: '/out/x'", F.DISK_FULL),
        ("OSError: [Errno 28] No space left on device: '/dev/shm/torch_1'", F.SHM_TOO_SMALL),
        ("bash: ./run.sh: Permission denied", F.ENTRYPOINT_NOT_FOUND),
        ("bash: line 1: /out/log.txt: Permission denied", F.OUTPUT_PERMISSION_DENIED),
        ("ModuleNotFoundError: No module named 'utils.data'", F.ENTRYPOINT_NOT_FOUND),
        ("ModuleNotFoundError: No module named 'transformers.models.new'", F.PACKAGE_VERSION_CONFLICT),
        ("ModuleNotFoundError: No module named 'peft'", F.MISSING_PYTHON_PACKAGE),
        (f"{TRACE}{LIBRARY}ImportError: cannot import name 'x' from 'lib.util'", F.PACKAGE_VERSION_CONFLICT),
        (f"{TRACE}{LIBRARY}TypeError: Other.run() got an unexpected keyword argument 'x'", F.PACKAGE_VERSION_CONFLICT),
        (f"{TRACE}{OWN}TypeError: Net.__init__() got an unexpected keyword argument 'x'", F.USER_CODE_BUG),
        ("WARNING: nvcc was not found\nsh: 1: gcc: not found", F.BUILD_TOOLCHAIN_MISSING),
        ("bash: line 1: accelerate: command not found", F.ENTRYPOINT_NOT_FOUND),
        ("docker: Error response from daemon: toomanyrequests: rate limit", F.IMAGE_PULL_TRANSIENT),
    ],
)
def test_neighbours_are_told_apart(text: str, expected: FailureClass) -> None:
    assert told(text) is expected


def test_a_task_that_never_started_was_not_interrupted() -> None:
    killing = "Killing         Sent interrupt. Waiting 5s before force killing"
    failed = "Driver Failure  Failed to pull `acme/a:1`: API error (404): manifest for acme/a:1 not found"
    started = "Started         Task started by client"
    ended = "Terminated      Exit Code: 137"
    assert told(rows(killing, failed), TextKind.NOMAD_ALLOC_EVENT) is F.IMAGE_NOT_FOUND
    assert told(rows(ended, killing, started, failed), TextKind.NOMAD_ALLOC_EVENT) is F.INTERRUPTED_EXTERNALLY


def test_the_end_of_a_long_answer_is_read() -> None:
    before = "".join(f'{{"level":"info","msg":"poll {n} of the allocations"}}\n' for n in range(60))
    answer = '{"level":"error","msg":"list failed","error":"Unexpected response code: 403 (Permission denied)"}\n'
    assert told(before + answer, TextKind.NOMAD_API) is F.ACL_PERMISSION_DENIED
    assert told(before + answer + before, TextKind.NOMAD_API) is F.ACL_PERMISSION_DENIED


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_sign_names_is_never_empty(case: Case) -> None:
    assert all(value.strip() for finding in find(case.evidence()) for value in finding.seen.details.values())

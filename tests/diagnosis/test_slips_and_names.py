"""Slips in names: of a hub's repository, of an import, of the repository's own module; and neighbours of them."""

import pytest

from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.plan import TrainingPlan

PLAN = TrainingPlan(goal="g", command=("python", "train.py"))
TOP = "Traceback (most recent call last):\n"
OWN = '  File "/app/train.py", line 4, in <module>\n    import something\n'
LIBRARY = '  File "/usr/lib/python3/site-packages/lib/core.py", line 9, in <module>\n    import something\n'


def judged(text: str) -> Diagnosis:
    return diagnose(evidence_of_text(text.encode(), TextKind.TASK_STDERR), PLAN, ())


def test_a_name_that_the_hub_does_not_have_is_no_wrong_token() -> None:
    text = (
        f"{TOP}{LIBRARY}huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-2)\n\n"
        "Repository Not Found for url: https://huggingface.co/org/modell/resolve/main/config.json.\n"
        "Invalid username or password.\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        f"{TOP}{OWN}OSError: org/modell is not a local folder and is not a valid model identifier listed on "
        "'https://huggingface.co/models'\n"
    )
    found = judged(text)
    assert found.failure is FailureClass.HUB_NOT_FOUND
    assert found.details["repo"] == "org/modell"


def test_a_token_that_the_hub_refuses_is_one() -> None:
    text = (
        f"{TOP}{OWN}requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: "
        "https://huggingface.co/api/whoami-v2\n\nInvalid username or password.\n"
    )
    assert judged(text).failure is FailureClass.HF_GATED_AUTH


@pytest.mark.parametrize(
    ("name", "module", "frame", "failure"),
    [
        ("OrderdDict", "collections", OWN, FailureClass.USER_CODE_BUG),
        ("Mapping", "collections", OWN, FailureClass.PACKAGE_VERSION_CONFLICT),
        ("Self", "typing", OWN, FailureClass.PACKAGE_VERSION_CONFLICT),
        ("OldName", "collections", LIBRARY, FailureClass.PACKAGE_VERSION_CONFLICT),
    ],
)
def test_what_pythons_own_modules_do_not_have(name: str, module: str, frame: str, failure: FailureClass) -> None:
    text = f"{TOP}{frame}ImportError: cannot import name '{name}' from '{module}' (/usr/lib/python3.9/{module}.py)\n"
    assert judged(text).failure is failure


def test_a_module_that_the_own_package_does_not_have_is_a_slip() -> None:
    found = judged(f"{TOP}{OWN}ModuleNotFoundError: No module named 'pkg.modle'\n")
    assert found.failure is FailureClass.USER_CODE_BUG
    assert found.details["module"] == "pkg.modle"
    inner = OWN + OWN.replace("train.py", "utils/run.py")
    assert judged(f"{TOP}{inner}ModuleNotFoundError: No module named 'utils.modle'\n").failure is found.failure


@pytest.mark.parametrize("module", ["utils.modle", "pkg._C", "pkg.layer_pb2"])
def test_a_name_that_many_have_and_what_a_build_makes_are_no_slips(module: str) -> None:
    text = f"{TOP}{OWN}ModuleNotFoundError: No module named '{module}'\n"
    assert judged(text).failure is FailureClass.ENTRYPOINT_NOT_FOUND


def test_a_part_that_a_library_wants_of_another_is_no_slip() -> None:
    text = f"{TOP}{OWN}{LIBRARY}ModuleNotFoundError: No module named 'other.part'\n"
    assert judged(text).failure is FailureClass.PACKAGE_VERSION_CONFLICT


def test_the_message_is_quoted_and_not_the_source_line() -> None:
    text = (
        "step 1 loss 2.3\n" + TOP + '  File "/app/train.py", line 9, in fit\n'
        '    raise ValueError(f"Loss is nan at step {step}")\nValueError: Loss is nan at step 2\n'
    )
    found = judged(text)
    assert found.failure is FailureClass.NUMERIC_DIVERGENCE
    assert found.lines[0] == "ValueError: Loss is nan at step 2"


@pytest.mark.parametrize(
    ("host", "failure"),
    [("github.com", FailureClass.ARTIFACT_DOWNLOAD_FAILED), ("huggingface.co", FailureClass.HF_GATED_AUTH)],
)
def test_git_without_a_right_to_the_repository(host: str, failure: FailureClass) -> None:
    found = judged(f"Cloning into 'code'...\nfatal: could not read Username for 'https://{host}': No such device\n")
    assert found.failure is failure
    assert found.escalate


def test_a_complaint_that_goes_on_without_is_no_end() -> None:
    steps = "{'loss': 2.3}\n{'loss': 2.2}\n{'loss': 2.1}\n"
    done = "{'train_runtime': 12.3, 'train_loss': 2.2}\nModel saved to out\n"
    text = f"Error: could not find libnuma, continuing without\n{steps}{done}"
    assert judged(text).failure is FailureClass.NO_FAILURE
    assert judged(f"{steps}Error: cannot go on\n").failure is not FailureClass.NO_FAILURE


def test_a_script_fails_by_the_architecture_of_its_interpreter() -> None:
    platform = "WARNING: The requested image's platform (linux/amd64) does not match the detected host platform\n"
    script, program = "exec /app/start.sh: exec format error\n", "exec /usr/bin/tini: exec format error\n"
    assert judged(script).failure is FailureClass.ARCH_MISMATCH
    assert judged(script).confidence < judged(program).confidence
    assert judged(program).failure is FailureClass.ARCH_MISMATCH
    assert judged(platform.replace("platform\n", "platform (linux/arm64/v8)\n") + script).failure is (
        FailureClass.ARCH_MISMATCH
    )

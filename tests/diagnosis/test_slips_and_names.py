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

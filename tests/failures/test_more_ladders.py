"""Ladders of other causes in the real graph: the program really fails, is really repaired, and ends well."""

from pathlib import Path

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied, edited


def failing(folder: Path, condition: str, error: str) -> Path:
    """The line, which ends with these words on stderr while the condition holds."""
    repository = copied("line", folder)
    lines = f"    import os, sys\n    if {condition}:\n        raise RuntimeError({error!r})\n"
    edited(repository / "train.py", ("    weights = {", f"{lines}    weights = {{"))
    return repository


def test_a_tracker_without_a_login_writes_to_the_node(site: Site, tmp_path: Path) -> None:
    error = "wandb.errors.UsageError: api_key not configured (no-tty). call wandb.login(key=[your_api_key])"
    ended = site.run(failing(tmp_path, 'os.environ.get("WANDB_MODE") != "offline"', error))
    ended.succeeded(FailureClass.WANDB_LOGIN_MISSING)
    assert ended.changed() == {"env.WANDB_MODE": [None, "offline"]}

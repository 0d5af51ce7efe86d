"""The record of a new run. Loaded before anything of the agent, so that a command can name its run at once."""

import secrets
from datetime import datetime

from caravan.values.run import RunRecord, RunRequest


def new_run(request: RunRequest, now: datetime, user: str = "") -> RunRecord:
    """A record for a new run of that user. The id is random, so that no two agents ever use the same job id."""
    return RunRecord(id=secrets.token_hex(4), created_at=now, updated_at=now, request=request, user=user)

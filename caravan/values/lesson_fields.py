"""Which fields of a plan a lesson may speak of, and which of them without a question. Names of fields, nothing else."""

import re
from typing import Final

from caravan.values.estimate import ROOM
from caravan.values.failure import PastCase

CODE: Final = "code_digest"
"""Key of a lesson's context: all training code, wherever it lies."""
REPOSITORY: Final = "repository"
"""Key: where the repository is."""
PROGRAM: Final = "program_digest"
"""Key: the entry point, its options, its documented command and the configuration that it reads."""
DEPENDENCIES: Final = "dependencies_digest"
"""Key: the files that say what is installed."""

NEVER: Final = (
    *("code", "driver", "user", "secrets", "outputs", "limits", "namespace", "region", "node_pool", "datacenters"),
    *("network_mode", "mounts", "artifacts", "templates", "docker", "job_type", "priority", "goal", "target"),
    *("data", "build", "image", "secrets_from", "resume", "smoke", "evaluation", "config_keys", "ports"),
    *("container_name", "affinities", "spreads", "constraints", "progress_deadline_s", "provenance"),
)
"""Fields that no lesson may set, whoever taught it: where the job runs as whom, what it may reach and what it costs."""

MAY: Final = (
    *("model", "dataset", "training", "launch", "command", "flags", "workdir", "env", "setup", "config_overlays"),
    *("image_pull_timeout_s", "resources", "shm_mb", "exclude_nodes", "kill_timeout_s"),
)
"""Fields that one may speak of; whether it is asked about is another matter. Every field is in one of the two lists."""

PACKAGES: Final = ("setup.pip", "setup.apt", "setup.requirements", "setup.python")
"""Fields that say what is installed."""

LISTS: Final = ("setup.pip", "setup.apt", "setup.cmd", "exclude_nodes")
"""Lists of which each item counts for itself; any other (a command) is what it is as a whole."""

_SOURCES: Final = re.compile(
    r"(?i)(?:pip|uv)_(?!cache_dir$|no_cache|link_mode$|.*timeout$|.*retries$).*"
    r"|.*(?:_proxy|_url|_uri|_endpoint|endpoint_url_\w+)"
)
"""Variables that say where packages and models come from, or where results go."""

UNASKED: Final = (
    *ROOM,
    *("training.micro_batch", "training.grad_accum", "training.grad_checkpointing", "training.lr"),
    *("training.max_grad_norm", "training.num_workers", "training.precision", "training.warmup"),
    "setup.pip",
)
"""Fields that a lesson of others may set without a question; of `setup.pip` each package is looked at for itself."""


def never(path: str) -> bool:
    """Whether no lesson may set the field at this path."""
    block, _, rest = path.partition(".")
    return block in NEVER or (block == "env" and bool(_SOURCES.fullmatch(rest)))


def name_of(case: PastCase) -> str:
    """How the reason of a change names the lesson that it is by."""
    return f"lesson {case.id[:8]}"


def depends_on_nothing_else(case: PastCase, path: str) -> bool:
    """Whether what the case says of the field holds for the run that recalled it, by what such a field depends on.

    The same code always does. In the same repository after an edit: for room that the repository is the same, for
    packages that the files which ask for them are, for all else that the program is.
    """
    same = set(case.same)
    if CODE in same:
        return True
    if REPOSITORY not in same:
        return False
    return path in ROOM or (DEPENDENCIES if path in PACKAGES else PROGRAM) in same

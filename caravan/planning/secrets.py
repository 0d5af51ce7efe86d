"""Secrets by reference: the template that takes them from a Nomad variable or from Vault into the task's environment,
and which secrets a repository can't do without.

It knows names and paths, never a value. What is rendered here stands in the job file for everybody to read.
"""

import json
from collections.abc import Sequence
from typing import Final

from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.job import TemplateBlock, VaultBlock
from caravan.values.masking import is_secret_name, mask_json
from caravan.values.plan import SecretSource, TrainingPlan
from caravan.values.repo import RepoProfile

ANY_JOB: Final = "nomad/jobs"
"""The Nomad variable that every job of the namespace may read. Those below it are for a job of one id, and ours has a
new id with each attempt: they would have to be written anew for each of them."""
SECRETS_FILE: Final = "secrets/caravan.env"
# A value between quotes, with what the client's reader of environment files understands escaped. Nomad's `toJSON`
# would write `&`, `<` and `>` as \u0026 and so on, which that reader refuses (hashicorp/go-envparse knows only
# \\\\, \\", \\n and \\t); a carriage return can't be given either way, and ends the task with a clear word.
_AS_ENVIRONMENT: Final = "toUnescapedJSON"


def secrets_block(plan: TrainingPlan) -> TemplateBlock:
    """The template that renders the plan's secrets as environment. It names them and where they are, nothing else.

    A variable that is not there is waited for. An item that is not there ends the task (`error_on_missing_key`):
    without that, a template would say `<no value>`, and the training would run with it.
    """
    return environment_block(plan.secrets_from, plan.secrets)


def environment_block(source: SecretSource, names: Sequence[str]) -> TemplateBlock:
    """The template that renders secrets of these names as environment, as `secrets_block` says."""
    begin, field = _nomad(source) if source.kind == "nomad" else _vault(source)
    lines = "".join(f"{name}={{{{ {field.format(name=name)} | {_AS_ENVIRONMENT} }}}}\n" for name in names)
    data = f"{{{{ {begin} }}}}\n{lines}{{{{ end }}}}\n"
    return TemplateBlock(destination=SECRETS_FILE, data=data, env=True, perms="0600", error_on_missing_key=True)


def _nomad(source: SecretSource) -> tuple[str, str]:
    # An item is an object; its Value is the text, and its JSON form would be written as a Go literal.
    return f'with nomadVar "{source.path}"', ".{name}.Value"


def _vault(source: SecretSource) -> tuple[str, str]:
    return f'with secret "{source.path}"', ".Data.data.{name}" if is_version_2(source.path) else ".Data.{name}"


def is_version_2(path: str) -> bool:
    """Whether a Vault path is of a KV version 2 store: the API has `data` between the store and the secret."""
    return "data" in path.strip("/").split("/")[1:-1]


def refuse_values(path: str, value: Json, known: Sequence[str] = ()) -> None:
    """Raise UsageError when what a person sets at a plan's path, or answers, holds a secret's value.

    What is set by value stands in job files, checkpoints and reports. `known` are values known to be secret.
    """
    name = next((path.removeprefix(free) for free in _FREE if path.startswith(free)), "")
    plain = json.loads(json.dumps({name: value}))
    if mask_json(plain, known) != plain:
        raise UsageError(
            f"{path} holds what is or looks like a secret, and what is set by value ends in job files and reports.",
            hint="Give its name alone, as in --set 'secrets=[\"HF_TOKEN\"]', and its value to the cluster "
            "(docs/secrets.md).",
        )


_FREE: Final = ("env.", "training.options.")


def vault_block(plan: TrainingPlan) -> VaultBlock | None:
    """The task's access to Vault, where its secrets come from there."""
    source = plan.secrets_from
    if not plan.secrets or source.kind != "vault":
        return None
    return VaultBlock(role=source.role, policies=source.policies)


def needed_secrets(profile: RepoProfile) -> tuple[str, ...]:
    """Names of the secrets that the training can't do without: environment variables that its code reads without a
    default and whose name is a secret's. What it can do without is not asked for."""
    return tuple(name for name in profile.env_vars_needed if is_secret_name(name))

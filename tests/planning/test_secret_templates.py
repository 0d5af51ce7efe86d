"""Secrets by reference: what stands in the job for a Nomad variable and for Vault."""

import pytest

from caravan import TEMPLATES
from caravan.hcl import mismatches, parse_hcl, render_hcl
from caravan.planning.jobspec import to_job_spec
from caravan.planning.secrets import is_version_2, needed_secrets, secrets_block, vault_block
from caravan.values.errors import PlanError
from caravan.values.plan import Author, PlanChange, SecretSource, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile
from tests.fakes.cluster import one_node


def plan(**source: object) -> TrainingPlan:
    return TrainingPlan(
        goal="x",
        command=("train.py",),
        driver="raw_exec",
        secrets=("HF_TOKEN", "DB_URL"),
        secrets_from=SecretSource.model_validate(source),
    )


@pytest.mark.parametrize(
    ("source", "begin", "line"),
    [
        ({}, 'with nomadVar "nomad/jobs"', ".HF_TOKEN.Value"),
        ({"path": "nomad/jobs/team"}, 'with nomadVar "nomad/jobs/team"', ".HF_TOKEN.Value"),
        ({"kind": "vault", "path": "kv/training"}, 'with secret "kv/training"', ".Data.HF_TOKEN"),
        (
            {"kind": "vault", "path": "secret/data/training"},
            'with secret "secret/data/training"',
            ".Data.data.HF_TOKEN",
        ),
    ],
)
def test_a_template_names_what_it_takes_and_fails_without_it(source: dict[str, str], begin: str, line: str) -> None:
    block = secrets_block(plan(**source))
    assert block.data.startswith(f"{{{{ {begin} }}}}\n")
    assert f"HF_TOKEN={{{{ {line} | toUnescapedJSON }}}}\n" in block.data
    assert block.destination.startswith("secrets/")
    assert (block.env, block.error_on_missing_key, block.perms) == (True, True, "0600")


@pytest.mark.parametrize(
    ("path", "second"),
    [("secret/data/x", True), ("team/kv/data/a/b", True), ("kv/x", False), ("data/x", False), ("kv/data", False)],
)
def test_a_vault_path_says_which_version_its_store_has(path: str, second: bool) -> None:
    assert is_version_2(path) is second


def test_vault_gets_its_block_and_everything_reads_back() -> None:
    vault = plan(kind="vault", path="secret/data/x", role="trainer", policies=("read-x",))
    block = vault_block(vault)
    assert block is not None
    assert (block.role, block.policies, block.env, block.change_mode) == ("trainer", ("read-x",), False, "noop")
    assert vault_block(plan()) is None
    assert vault_block(vault.model_copy(update={"secrets": ()})) is None
    spec = to_job_spec(vault, one_node(), run_id="r", attempt=1, job_id="caravan-r-a01", templates=TEMPLATES)
    hcl = render_hcl(spec, templates=TEMPLATES)
    job = parse_hcl(hcl)
    assert mismatches(spec, job) == ()
    task = job["TaskGroups"][0]["Tasks"][0]
    assert (task["Vault"]["Role"], task["Vault"]["Policies"]) == ("trainer", ["read-x"])
    assert [t["ErrMissingKey"] for t in task["Templates"]][-2:] == [False, True]


@pytest.mark.parametrize("path", ['x" }}{{ env "HOME', "a b", "", "x" * 129])
def test_a_path_can_say_nothing_but_a_path(path: str) -> None:
    with pytest.raises(PlanError):
        apply_changes(plan(), [PlanChange(path="secrets_from.path", value=path, by=Author.USER)])


def test_only_what_the_code_reads_without_a_default_is_needed() -> None:
    profile = RepoProfile(
        root="/x",
        tree_digest="0",
        is_training_repo=True,
        env_vars_needed=("DATA_ROOT", "HF_TOKEN", "TOKENIZERS_PARALLELISM", "WANDB_API_KEY"),
    )
    assert needed_secrets(profile) == ("HF_TOKEN", "WANDB_API_KEY")

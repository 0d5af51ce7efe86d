"""The example files of the manual are read as they are, and say what the manual says of them."""

import shutil
from pathlib import Path

from caravan.cluster.addresses import parse_address
from caravan.values.policy import Policy
from caravan.values.target import ClusterProfile
from policies import read_policy
from profiles import load_profiles

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"


def copied(folder: Path, name: str) -> Path:
    folder.chmod(0o755)
    path = Path(shutil.copy(EXAMPLES / name, folder / name))
    path.chmod(0o644)
    return path


def test_the_policy_example_is_a_policy_and_names_every_rule(tmp_path: Path) -> None:
    path = copied(tmp_path, "policy.toml")
    policy = read_policy(path)
    assert policy.limits.gpus == 8
    text = path.read_text()
    for table, field in Policy.model_fields.items():
        assert f"[{table}]" in text
        assert field.annotation is not None
        assert [key for key in field.annotation.model_fields if f"\n{key} = " not in text] == []


def test_the_profile_example_is_read_and_names_every_key(tmp_path: Path) -> None:
    path = copied(tmp_path, "caravan.toml")
    found = load_profiles(path, user=tmp_path, system=tmp_path)
    assert found.content.default_cluster == "prod"
    for profile in found.content.clusters.values():
        parse_address(profile.address)
    prod = found.named("prod")
    assert prod.volumes["datasets"].destination == "/data"
    text = path.read_text()
    assert [key for key in ClusterProfile.model_fields if key not in text] == []

"""Addresses in a plan hold no credentials, whatever shape these have, and no message repeats them."""

import pytest

from caravan.planning.answers import parse_set
from caravan.planning.delivery import git_address
from caravan.planning.outputs import read_sink
from caravan.values.delivery import Depot
from caravan.values.errors import CaravanError, PlanError, UsageError
from caravan.values.masking import MASK, mask
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes

PLAN = TrainingPlan(goal="x", command=("train.py",))
SECRET = "1a2b3cPLANTED"
SIGNED = [
    f"https://b.s3.amazonaws.com/x.tar?X-Amz-Algorithm=A&X-Amz-Signature={SECRET}&X-Amz-Date=20260101T000000Z",
    f"https://b.s3.amazonaws.com/x.tar?X-Amz-Credential={SECRET}%2F20260101&X-Amz-Date=20260101",
    f"https://b.s3.amazonaws.com/x.tar?x-amz-security-token={SECRET}",
    f"https://storage.googleapis.com/b/x?X-Goog-Signature={SECRET}",
    f"https://a.blob.core.windows.net/c/x?sv=2024-01-01&se=2026-12-31&sig={SECRET}",
    f"https://host.example.com/x?access_token={SECRET}",
    f"https://host.example.com/x?se_token={SECRET}",
    f"https://cdn.example.com/x?Expires=1&Signature={SECRET}&Key-Pair-Id=K",
    f"git::https://host.example.com/x.git?sshkey={SECRET}",
]
NAMED = [
    f"https://{SECRET}@host.example.com/x.git",
    f"https://user:{SECRET}@host.example.com/x.git",
    f"git::https://{SECRET}@host.example.com/x.git",
    f"s3://{SECRET}@bucket/x",
    f"ssh://git:{SECRET}@host.example.com/x.git",
    f"user:{SECRET}@host.example.com/x.git",
]
PLAIN = [
    *("https://host.example.com/a/x.git", "git@host.example.com:a/x.git", "ssh://git@host.example.com/a/x.git"),
    *("sftp://trainer@host.example.com:22/runs", "s3://bucket/x", "volume:shared/x", "/srv/data/token/x", ""),
    *("git::ssh://git@host.example.com/x.git", "https://host.example.com/x?ref=v1.0&depth=1", "/mnt/user@host/x"),
    *("s3::https://s3.amazonaws.com/b/k", "https://host.example.com/@scope/x", "abfss://c/x?design=significant"),
    *("https://host.example.com/x?tokenizer=bert-base", "abfss://runs@account.dfs.core.windows.net/x"),
]
FIELDS = ("code.location", "outputs.location", "data.location", "artifacts")


def changed(field: str, address: str) -> TrainingPlan:
    value = [{"source": address}] if field == "artifacts" else address
    kind = [PlanChange(path="code.kind", value="git", by=Author.USER)]
    return apply_changes(PLAN, [*kind, PlanChange(path=field, value=value, by=Author.USER)])


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("address", SIGNED + NAMED)
def test_credentials_are_refused_and_not_repeated(field: str, address: str) -> None:
    with pytest.raises(PlanError, match="holds a secret") as raised:
        changed(field, address)
    assert SECRET not in raised.value.line()


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("address", PLAIN)
def test_addresses_without_are_taken(field: str, address: str) -> None:
    changed(field, address)


@pytest.mark.parametrize("address", SIGNED + NAMED[:4])
def test_a_person_is_told_without_them(address: str) -> None:
    for words in (f"code.location={address}", f"outputs={address}"):
        with pytest.raises(CaravanError) as raised:
            parse_set(words)
        assert SECRET not in raised.value.line()
    with pytest.raises(UsageError):
        read_sink(address)
    with pytest.raises(ValueError, match="holds a secret"):
        Depot(url=address)


@pytest.mark.parametrize("address", SIGNED)
def test_signed_addresses_are_masked_in_texts(address: str) -> None:
    for text in (address, f'GET "{address}" 200', address.replace("&", "&amp;"), address.replace("&", "\\u0026")):
        masked = mask(text)
        assert SECRET not in masked
        assert MASK in masked
        assert mask(masked) == masked
    assert "X-Amz-Date=20260101T000000Z" in mask(SIGNED[0])


@pytest.mark.parametrize("address", PLAIN)
def test_plain_addresses_stay_in_texts(address: str) -> None:
    assert mask(address) == address


@pytest.mark.parametrize("user", [SECRET, f"user:{SECRET}"])
def test_a_node_is_not_handed_the_credentials_of_a_clone(user: str) -> None:
    assert git_address(f"https://{user}@host.example.com/a/x.git") == "https://host.example.com/a/x.git"
    assert git_address("ssh://git@host.example.com/x") == "ssh://git@host.example.com/x"

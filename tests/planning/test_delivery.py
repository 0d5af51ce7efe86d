"""The way of code and data: what is chosen, how nodes name what was put somewhere, what is refused and how."""

from typing import Any

import pytest

from caravan.planning.delivery import (
    access_note,
    code_in_image,
    code_kind,
    code_problems,
    data_problems,
    fetch_source,
    git_address,
    image_tag,
    store_problem,
    volume_path,
)
from caravan.planning.fetching import delivery_artifacts, delivery_binds
from caravan.planning.policy import plan_denials
from caravan.planning.script import launch_script
from caravan.values.delivery import Depot
from caravan.values.plan import CodeSource, DataSource, Mount
from caravan.values.policy import MountRules, Policies, Policy, PolicyFile, SourceRules
from tests.planning.scenes import TEMPLATES, bare_plan, builtin, node, nomad

REAL = nomad(node("a"))
SHA = "ab" * 32


@pytest.mark.parametrize(
    ("wish", "unpushed", "in_image", "kind"),
    [
        ({}, "", False, "git"),
        ({}, "1 file is not committed", False, "archive"),
        ({}, "", True, "image"),
        ({"kind": "archive"}, "", False, "archive"),
        ({"location": "git@host.example:a/b.git"}, "x", False, "git"),
        ({"location": "https://host.example/a/b"}, "x", False, "git"),
        ({"location": "https://host.example/code.tar.gz?x=1"}, "", False, "archive"),
        ({"location": "/srv/code"}, "", False, "mount"),
        ({"location": "volume:code/work"}, "", False, "mount"),
    ],
)
def test_the_way_is_chosen(wish: dict[str, Any], unpushed: str, in_image: bool, kind: str) -> None:
    assert code_kind(wish, REAL, unpushed=unpushed, in_image=in_image) == kind


def test_a_cluster_that_sees_our_files_gets_a_copy() -> None:
    assert code_kind({}, builtin(), unpushed="", in_image=True) == "archive"
    assert code_kind({"kind": "git"}, builtin(), unpushed="", in_image=False) == "git"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:a/b.git", "ssh://git@github.com/a/b.git"),
        ("host.example:a/b", "ssh://host.example/a/b"),
        ("https://x.example/a.git", "https://x.example/a.git"),
        ("/srv/git/a.git", "file:///srv/git/a.git"),
    ],
)
def test_a_remote_means_the_same_to_every_node(remote: str, address: str) -> None:
    assert git_address(remote) == address


@pytest.mark.parametrize(
    ("depot", "source"),
    [
        (Depot(url="https://x.example/store/"), "https://x.example/store/o"),
        (Depot(url="s3://bucket/a"), "s3::https://s3.amazonaws.com/bucket/a/o"),
        (Depot(url="gs://bucket/a"), "gcs::https://www.googleapis.com/storage/v1/bucket/a/o"),
        (Depot(url="file:///mnt/share"), "/mnt/share/o"),
        (Depot(url="az://c/a", fetch="https://c.example/a/"), "https://c.example/a/o"),
        (Depot(url="sftp://me@host/a"), ""),
    ],
)
def test_nodes_name_an_object_their_way(depot: Depot, source: str) -> None:
    assert fetch_source(depot, "o") == source
    assert bool(store_problem(depot, "code")) is (not source)


@pytest.mark.parametrize("url", ["https://me:secret@x.example/a", "https://token@x.example/a", "sftp://a:b@x/y"])
def test_no_credential_stands_in_a_store(url: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        Depot(url=url)


@pytest.mark.parametrize("url", ["s3://a/b?x=1", "nothing", "simplecache::s3://a/b", "https:///x"])
def test_odd_stores_are_refused(url: str) -> None:
    assert "no plain address" in store_problem(Depot(url=url), "code") or "no URL" in store_problem(
        Depot(url=url), "code"
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("FROM a\nWORKDIR /app\nCOPY . .\n", "/app"),
        ("FROM a\nWORKDIR /app\nCOPY --chown=me ./ src\n", "/app/src"),
        ("FROM a\nADD . /code/\n", "/code"),
        ("FROM a\nCOPY . .\n", None),
        ("FROM a\nWORKDIR /app\nCOPY requirements.txt .\n", None),
        ("FROM a AS b\nWORKDIR /app\nCOPY . .\nFROM c\nCOPY --from=b /app /app\n", None),
        ("FROM a\nWORKDIR $HOME\nCOPY . /x/$Y\n", None),
        ("", None),
    ],
)
def test_where_an_image_has_the_code(text: str, place: str | None) -> None:
    assert code_in_image(text) == place


def test_an_image_s_tag_is_its_content_s() -> None:
    assert image_tag("r.example/ml/", "/home/me/My Repo", SHA, "Dockerfile") == f"r.example/ml/my-repo:{SHA[:20]}"
    assert image_tag("r.example", "https://x/a.git", SHA, "docker/Dockerfile").endswith("-docker-dockerfile")


def test_who_may_read_a_remote_is_said() -> None:
    ssh = CodeSource(kind="git", location="ssh://git@x.example/a")
    assert "no key is sent" in access_note(ssh, None)
    https = CodeSource(kind="git", location="https://x.example/a")
    assert "is private" in access_note(https, public=False)
    assert access_note(https, public=True) == ""


def problems(**fields: Any) -> str:
    unpushed, shared = fields.pop("unpushed", ""), fields.pop("shared", False)
    store = fields.pop("store", None)
    facts = builtin() if shared else REAL
    plan = bare_plan(**{"driver": "exec", **fields})
    return " ".join([*code_problems(plan, facts, unpushed, store), *data_problems(plan, facts, store)])


def test_what_can_not_get_there_is_refused_with_the_choices() -> None:
    archive = CodeSource(kind="archive", location="/state/code.tar.gz", sha256=SHA)
    said = problems(code=archive, unpushed="its git repository has no remote (origin)")
    assert "has no remote" in said
    assert "code.location=volume:NAME/PATH" in said
    assert problems(code=archive, shared=True) == ""
    share = Depot(url="file:///mnt/share")
    on_share = archive.model_copy(update={"location": "/mnt/share/code.tar.gz"})
    assert "would not see /mnt/share" in problems(code=on_share, store=share)
    mounts = (Mount(kind="host", source="share", destination="/mnt/share"),)
    assert problems(code=on_share, store=share, mounts=mounts) == ""
    assert problems(code=on_share, store=share, driver="raw_exec") == ""
    assert "can't fetch sftp://" in problems(code=archive, store=Depot(url="sftp://h/a"))
    git = CodeSource(kind="git", location="https://x.example/a", ref="abc")
    assert "1 file is not committed" in problems(code=git, unpushed="1 file is not committed (see `git status`: a.py)")
    assert "volume:NAME/PATH" in problems(code=CodeSource(kind="mount", location="/nowhere"))
    data = DataSource(local="/home/me/x", size_bytes=12_300_000_000, files=40)
    assert "(12.3 GB, 40 files) is on this machine alone" in problems(code=git, data=data)
    assert "Which volume" in problems(code=git, data=DataSource(kind="volume", local="/x"))


def test_a_volume_and_a_path_in_it() -> None:
    assert volume_path("volume:code/a/b", "/caravan/code") == ("code", "/caravan/code/a/b")
    assert volume_path("code", "/caravan/code") == ("code", "/caravan/code")


def test_what_a_node_downloads_is_checked_and_not_unpacked() -> None:
    code = CodeSource(kind="archive", location=f"https://x.example/code-{SHA}.tar.gz", sha256=SHA)
    data = DataSource(
        kind="upload", location="https://x.example/d", sha256=SHA, destination="${NOMAD_TASK_DIR}/data/my.gz"
    )
    first, second = delivery_artifacts(bare_plan(code=code, data=data))
    assert (first.destination, first.mode, first.options["archive"]) == ("local/code.tar.gz", "file", "false")
    assert (second.destination, second.options["checksum"]) == ("local/data/my.gz", f"sha256:{SHA}")
    folder = data.model_copy(update={"folder": True})
    assert delivery_artifacts(bare_plan(code=code, data=folder))[1].destination == "local/data.tar"
    script = launch_script(bare_plan(code=code, data=folder), TEMPLATES)
    assert 'step "unpacking the data" tar -xf "$fetched"' in script


def test_shared_data_is_mounted_read_only() -> None:
    data = DataSource(kind="shared", local="/d", location="/d", destination="/d")
    assert ("/d", "/d", True) in delivery_binds(bare_plan(data=data), builtin())
    assert delivery_binds(bare_plan(data=data, code=CodeSource(kind="image")), REAL) == []


def test_policies_judge_where_code_and_data_come_from() -> None:
    rules = Policy(sources=SourceRules(code=("https://git.example/*",), artifacts=("https://files.example/*",)))
    rules = rules.model_copy(update={"mounts": MountRules(bind=("/srv",))})
    policies = Policies(files=(PolicyFile(path="policy.toml", policy=rules),))

    def denied(facts: Any = REAL, **fields: Any) -> set[str]:
        return {d.field for d in plan_denials(bare_plan(**{"driver": "exec", **fields}), facts, policies)}

    far = CodeSource(kind="archive", location="https://other.example/code.tar.gz", sha256=SHA)
    data = DataSource(kind="upload", location="https://other.example/d", destination="/d")
    assert {"code.location", "data.location"} <= denied(code=far, data=data)
    good = CodeSource(kind="git", location="https://git.example/a", ref="1")
    near = data.model_copy(update={"location": "https://files.example/d"})
    assert not {"code.location", "data.location"} & denied(code=good, data=near)
    shared = DataSource(kind="shared", local="/home/x", location="/home/x", destination="/home/x")
    assert "data.location" in denied(builtin(), code=good, data=shared)
    assert "data.location" not in denied(builtin(), code=good, data=shared.model_copy(update={"location": "/srv/x"}))

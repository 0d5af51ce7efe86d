"""An image that is built once its job is approved: the graph over fakes, and a courier that notes what it is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caravan.analysis import open_source
from caravan.analysis.traps import find_traps, warnings
from caravan.values.delivery import Parcel, Shipping
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import BuildFailed, ServiceError
from caravan.values.job import DriverFacts
from caravan.values.plan import ImageBuild
from caravan.values.policy import ImageRules, Policies, Policy, PolicyFile
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_delivered import git
from tests.agent.test_loop import World

DIGEST = "sha256:" + "cd" * 32


class FakeCourier:
    """Notes what it is asked. `fails` is raised by the next build."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.fails: Exception | None = None

    def public(self, url: str) -> bool | None:
        return None

    def measure(self, path: Path, told: Callable[[str], None]) -> Parcel:
        raise AssertionError(path)

    def put(self, path: Path, url: str, parcel: Parcel, told: Callable[[str], None]) -> bool:
        raise AssertionError(url)

    def build(self, archive: Path, build: ImageBuild, log: Path, told: Callable[[str], None]) -> str:
        assert archive.is_file()
        failing, self.fails = self.fails, None
        if failing is not None:
            raise failing
        self.built.append(build.tag)
        return DIGEST


class Site:
    """A world whose cluster has docker and sees nothing of this machine."""

    def __init__(self, tmp_path: Path) -> None:
        self.world, self.courier = World(tmp_path), FakeCourier()
        (self.world.repo / "Dockerfile").write_text("FROM python:3.11\nWORKDIR /app\nCOPY . .\n")
        facts = self.world.cluster.facts()
        drivers = {"docker": DriverFacts(), "raw_exec": DriverFacts()}
        nodes = tuple(n.model_copy(update={"drivers": drivers}) for n in facts.nodes)
        self.policies = Policies()
        self.facts = facts.model_copy(update={"nodes": nodes, "shared_files": False})

    def drive(self, record: RunRecord, reply: Reply | None = None) -> Any:
        shipping = Shipping(registry="registry.example.com/ml")
        return self.world.drive(
            record, reply, facts=lambda: self.facts, shipping=shipping, courier=self.courier, policies=self.policies
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_it_is_built_after_approval_and_the_job_names_its_digest(site: Site) -> None:
    record = site.world.start(yes=False)
    ask = site.drive(record)
    while isinstance(ask, Ask) and ask.kind is AskKind.QUESTIONS:
        ask = site.drive(record, Reply())
    assert isinstance(ask, Ask), ask
    assert ask.plan is not None
    assert ask.plan.build is not None
    assert ask.plan.image == ask.plan.build.tag
    assert (ask.plan.code.kind, ask.plan.code.location) == ("image", "/app")
    assert site.courier.built == []
    result = site.drive(record, Reply(approved=True))
    assert isinstance(result, RunRecord), result  # it is not asked once more
    assert result.status is RunStatus.SUCCEEDED
    assert site.courier.built == [ask.plan.build.tag]
    (job,) = site.world.cluster.registrations
    task = job["TaskGroups"][0]["Tasks"][0]
    assert task["Config"]["image"] == f"{ask.plan.build.tag.rpartition(':')[0]}@{DIGEST}"
    assert any("cd /app" in t["EmbeddedTmpl"] for t in task["Templates"])


def test_a_policy_that_wants_digests_judges_the_image_once_it_has_one(site: Site) -> None:
    policy = Policy(images=ImageRules(require_digest=True, registries=("registry.example.com",)))
    site.policies = Policies(files=(PolicyFile(path="policy.toml", policy=policy),))
    result = site.drive(site.world.start())
    assert isinstance(result, RunRecord), result
    assert result.status is RunStatus.SUCCEEDED, result.detail
    site.policies = Policies(files=(PolicyFile(path="p", policy=Policy(images=ImageRules(registries=("other",)))),))
    built = list(site.courier.built)
    site.drive(site.world.start())
    assert site.courier.built == built  # nothing is built for a job that is denied


def test_one_that_can_not_be_built_ends_the_run_in_one_line(site: Site) -> None:
    record = site.world.start()
    site.courier.fails = BuildFailed("The repository's image can't be built: no such package.", hint="Mend it.")
    result = site.drive(record)
    assert isinstance(result, RunRecord)
    assert (result.status, result.detail) == (
        RunStatus.ESCALATED,
        "The repository's image can't be built: no such package. Mend it.",
    )
    assert site.world.cluster.registrations == []


def test_a_registry_that_is_away_is_tried_again_on_a_resume(site: Site) -> None:
    record = site.world.start()
    site.courier.fails = ServiceError("The image can't be pushed: no route.")
    with pytest.raises(ServiceError):
        site.drive(record)
    assert site.world.cluster.registrations == []
    result = site.drive(record)
    assert isinstance(result, RunRecord)
    assert result.status is RunStatus.SUCCEEDED
    assert len(site.world.cluster.registrations) == 1


def test_traps_are_told(tmp_path: Path) -> None:
    root = tmp_path / "work"
    (root / "empty").mkdir(parents=True)
    (root / ".gitattributes").write_text("*.bin filter=lfs\n")
    (root / "weights.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (root / ".gitmodules").write_text('[submodule "lib"]\n\tpath = lib\n\turl = https://x.example/lib\n')
    (root / "train.py").write_text("print(1)\n")
    (root / "real").mkdir()
    (root / "real" / "a.txt").write_text("a")
    (root / "alias").symlink_to("real")
    (root / "out").symlink_to(tmp_path)
    git(root, "init", "-q")
    git(root, "add", "train.py")
    git(root, "commit", "-q", "-m", "x")
    tree = open_source(str(root), cache=tmp_path / "cache")
    traps = find_traps(tree)
    assert (traps.pointers, traps.absent, traps.empty) == (("weights.bin",), ("lib",), ("empty",))
    said = " ".join(warnings(traps, "archive"))
    assert "weights.bin is a git-lfs pointer, not the data" in said
    assert "submodule lib is not checked out" in said
    assert "out is a link to a directory: not followed" in said
    assert "no empty folders: empty" in " ".join(warnings(traps, "git"))
    sent = {name: content for name, content, _ in tree.delivery()}
    assert sent["alias/a.txt"] == b"a"
    assert "empty" in sent


def test_changes_inside_a_submodule_are_seen(tmp_path: Path) -> None:
    library, root = tmp_path / "library", tmp_path / "work"
    library.mkdir()
    (library / "lib.py").write_text("x = 1\n")
    root.mkdir()
    (root / "train.py").write_text("print(1)\n")
    for place in (library, root):
        git(place, "init", "-q")
        git(place, "add", ".")
        git(place, "commit", "-q", "-m", "x")
    git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib")
    git(root, "commit", "-q", "-m", "with a library")
    assert find_traps(open_source(str(root), cache=tmp_path)).changed == ()
    (root / "lib" / "lib.py").write_text("x = 2\n")
    assert find_traps(open_source(str(root), cache=tmp_path)).changed == ("lib",)

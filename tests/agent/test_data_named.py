"""Which data of this machine is taken: what a repository names lies in it, what a person names is shown as it is."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caravan.agent.data_delivery import lies_here, not_sent, with_data
from caravan.agent.delivery import needed_but_left_out
from caravan.agent.named_places import beyond_the_tree
from caravan.analysis import open_source
from caravan.analysis.deny import is_denied
from caravan.analysis.tree import SourceTree
from caravan.planning.delivery import data_problems
from caravan.runs.courier import StoreCourier
from caravan.training.choosing import Scene
from caravan.values.delivery import Depot, Shipping
from caravan.values.errors import UsageError
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from tests.planning.scenes import nomad

SECRET = "hunter2-hunter2-hunter2"


class Place:
    """A home with keys in it, and a repository beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.keys = folder, folder / "work", folder / "home" / ".ssh"
        self.keys.mkdir(parents=True)
        (self.keys / "id_rsa").write_text(SECRET)
        (self.keys / "config").write_text("Host *\n")
        (self.root / "sub").mkdir(parents=True)
        (self.root / "train.py").write_text("print(1)\n")

    def git(self, *words: str) -> None:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(("git", *who, *words), cwd=self.root, env=env, check=True, capture_output=True)

    def tree(self, source: str = "") -> SourceTree:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        return open_source(source or str(self.root), cache=self.folder / "cache", environment=environment)

    def plan(
        self, path: str, by: Author, *, shared: bool = False, tree: SourceTree | None = None, most: int = 100
    ) -> TrainingPlan:
        facts = nomad().model_copy(update={"shared_files": shared})
        shipping = Shipping(data_store=Depot(url="https://store.example.com/data"), max_data_gb=most)
        courier = StoreCourier(self.folder / "state", environment={}, is_denied=is_denied)
        progress = SimpleNamespace(note=lambda _: None)
        context: Any = SimpleNamespace(facts=lambda: facts, shipping=shipping, courier=courier, progress=progress)
        plan = TrainingPlan(goal="x", command=("train.py", "--data_path", path))
        plan = apply_changes(plan, [PlanChange(path="code.kind", value="archive", by=Author.CLUSTER)])
        plan = apply_changes(plan, [PlanChange(path="dataset.path", value=path, by=by)])
        return with_data(plan, tree or self.tree(), context)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("target", ["{keys}", "../home/.ssh", "sub/../../home/.ssh", "/proc", "/", "..", "{folder}"])
def test_a_link_of_a_repository_takes_nothing_from_this_machine(place: Place, target: str, shared: bool) -> None:
    (place.root / "data").symlink_to(target.format(keys=place.keys, folder=place.folder))
    for path in ("data", "data/id_rsa", "./data", "sub/../data"):
        plan = place.plan(path, Author.REPOSITORY, shared=shared)
        assert plan.data is None, path


def test_neither_does_one_below_what_git_ignores(place: Place) -> None:
    (place.root / ".gitignore").write_text("data/\n")
    (place.root / "data").mkdir()
    (place.root / "data" / "x").symlink_to(place.keys)
    assert place.plan("data/x", Author.REPOSITORY).data is None
    assert place.plan("data/x/config", Author.REPOSITORY).data is None


@pytest.mark.parametrize("by", [Author.REPOSITORY, Author.USER])
@pytest.mark.parametrize("shared", [False, True])
def test_nothing_in_a_clone_is_data_of_this_machine(place: Place, by: Author, shared: bool) -> None:
    (place.root / "data").symlink_to(place.keys)
    (place.root / "near").symlink_to("../../../home/.ssh")
    place.git("init", "-q")
    place.git("add", ".")
    place.git("commit", "-q", "-m", "first")
    tree = place.tree(f"file://{place.root}")
    assert tree.cloned
    assert place.plan("data", by, shared=shared, tree=tree).data is None
    assert place.plan("near", by, shared=shared, tree=tree).data is None


@pytest.mark.parametrize("shared", [False, True])
def test_a_link_that_a_person_names_is_shown_by_where_it_leads(place: Place, shared: bool) -> None:
    corpus = place.folder / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("a")
    (place.root / "data").symlink_to(corpus)
    data = place.plan("data", Author.USER, shared=shared).data
    assert data is not None
    assert (data.local, data.link) == (str(corpus), "data")
    assert data.location == str(corpus) if shared else data.location.startswith("https://store.example.com/data/data-")
    (place.folder / "alias").symlink_to(corpus)
    data = place.plan(str(place.folder / "alias"), Author.USER, shared=shared).data
    assert data is not None
    assert data.local == str(corpus)


def test_a_place_that_a_person_names_is_judged_by_where_it_leads(place: Place) -> None:
    corpus, alias = place.folder / "corpus", place.folder / "alias"
    corpus.mkdir()
    (corpus / "a.txt").write_text("a")
    alias.symlink_to(corpus)
    facts = nomad().model_copy(update={"shared_files": True})
    context: Any = SimpleNamespace(facts=lambda: facts, shipping=Shipping(), courier=None)
    plan = apply_changes(
        TrainingPlan(goal="x", command=("train.py",)),
        [
            PlanChange(path="dataset.path", value=str(corpus), by=Author.USER),
            PlanChange(path="data.location", value=str(alias), by=Author.USER),
        ],
    )
    data = with_data(plan, place.tree(), context).data
    assert data is not None
    assert data.location == str(corpus)


def test_keys_are_not_sent_even_where_a_person_names_them(place: Place) -> None:
    (place.root / "data").symlink_to(place.keys)
    with pytest.raises(UsageError, match="may hold secrets"):
        place.plan("data", Author.USER)


def test_a_secret_in_a_delivered_folder_does_not_send_the_folder(place: Place) -> None:
    (place.root / "data").mkdir()
    for name in ("train.jsonl", ".env", "id_rsa"):
        (place.root / "data" / name).write_text(SECRET)
    for by in (Author.REPOSITORY, Author.USER):
        plan = place.plan("data", by)
        assert plan.data is None
        assert needed_but_left_out(plan, place.tree()) == ()
    assert not lies_here(place.tree(), "data")


@pytest.mark.parametrize("by", [Author.REPOSITORY, Author.USER])
def test_what_git_ignores_is_sent_without_the_secrets_in_it(place: Place, by: Author) -> None:
    (place.root / ".gitignore").write_text("*.bin\n")
    (place.root / "data").mkdir()
    for name in ("train.jsonl", "large.bin", ".env", "id_rsa"):
        (place.root / "data" / name).write_text(SECRET)
    plan = place.plan("data", by)
    assert plan.data is not None
    assert (plan.data.files, plan.data.left_out) == (2, (".env (may hold a secret)", "id_rsa (may hold a secret)"))
    (said,) = not_sent(plan)
    assert said.startswith(f"of the data {place.root}/data this is not sent: .env (may hold a secret), id_rsa")
    assert not list(data_problems(plan, nomad()))


def test_too_much_is_refused(place: Place) -> None:
    (place.root / ".gitignore").write_text("data/\n")
    (place.root / "data").mkdir()
    with (place.root / "data" / "x").open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(UsageError, match="more than 1 GB"):
        place.plan("data", Author.REPOSITORY, most=1)


def test_a_path_that_climbs_is_looked_for_beside_the_repository_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = place.folder / "other" / "cwd"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    beside = place.folder / "rows.jsonl"
    beside.write_text('{"prompt": "a", "completion": "b"}\n')
    found = place.plan("../rows.jsonl", Author.USER, shared=True)
    assert found.data is not None
    assert found.data.local == str(beside.resolve())
    scene = beyond_the_tree(Scene("Fine-tune it on ../rows.jsonl"), place.root)
    assert [seen.path for seen in scene.seen] == ["../rows.jsonl"]
    # What the working directory has comes first, and what a repository names by itself is not looked for.
    nearer = elsewhere.parent / "rows.jsonl"
    nearer.write_text("{}\n")
    taken = place.plan("../rows.jsonl", Author.USER, shared=True).data
    assert taken is not None
    assert taken.local == str(nearer.resolve())
    assert place.plan("../rows.jsonl", Author.REPOSITORY, shared=True).data is None

"""The docs agree with the code: generated parts, links, the rooms that the architecture page lists."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from caravan.planning.answers import parse_set
from caravan.values.plan import TrainingPlan, apply_changes

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date(generate: ModuleType) -> None:
    assert generate.outdated() == []


def test_every_generated_part_stands_somewhere(generate: ModuleType) -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert {name for name in generate.PARTS if f"<!-- generated: {name} -->" in text} == set(generate.PARTS)


def test_a_stale_part_is_seen(generate: ModuleType) -> None:
    page = "before\n<!-- generated: settings -->\nstale words\n<!-- end -->\nafter\n"
    fresh = generate.render(page)
    assert "stale words" not in fresh
    assert "CARAVAN_HOME" in fresh
    assert generate.render(fresh) == fresh


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_architecture_page_lists_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [p.name for p in (ROOT / "caravan").iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    assert [room for room in rooms if f"`caravan/{room}/`" not in text] == []


def test_blocks_of_the_plan_are_told_with_their_fields_and_the_examples_can_be_given() -> None:
    page = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    for path in ("mounts[].source", "config_overlays[].path", "config_keys.NAME.key", "resume.flag", "data.location"):
        assert f"| `{path}` |" in page, path
    plan = TrainingPlan.model_validate({"goal": "x", "command": ["train.py"], "code": {"kind": "image"}})
    examples = re.findall(r"^    --set '(.+)'$", page, re.M)
    changed = apply_changes(plan, [parse_set(text) for text in examples])
    assert len(changed.mounts) == 1
    assert changed.resume is not None


@pytest.mark.parametrize("page", ["README.md", "docs/plan.md", "docs/nomad.md", "docs/outputs.md", "docs/failures.md"])
def test_links_to_the_job_lead_to_its_headings(page: str) -> None:
    headings = re.findall(r"^##+ (.+)$", (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8"), re.M)
    known = {"", *(heading.lower().replace(" ", "-") for heading in headings)}
    links = re.findall(r"jobs\.md#?([\w-]*)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert links
    assert set(links) <= known

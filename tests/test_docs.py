"""The docs agree with the code: generated parts, links, the rooms that the architecture page lists."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

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

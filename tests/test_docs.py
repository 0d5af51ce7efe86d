"""The docs agree with the code: generated parts, links, commands, files, the rooms of the architecture page."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from caravan.planning.answers import load_answers, parse_set
from caravan.terminal.app import build_app
from caravan.values.dialogue import Question
from caravan.values.plan import TrainingPlan, apply_changes

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]


def load(name: str) -> ModuleType:
    """A script of the docs as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load("generate")


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


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", text, re.M):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = sum(1 for known in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", known))
        found.add(f"{anchor}-{number}" if number else anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_every_page_is_in_the_manuals_index_once() -> None:
    linked = re.findall(r"\]\(([\w-]+\.md)(?:#[\w-]+)?\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(p.name for p in (ROOT / "docs").glob("*.md") if p.name != "README.md")


def test_every_picture_is_shown_and_made_by_the_script() -> None:
    files = {p.name for p in (ROOT / "docs" / "pictures").iterdir()}
    shown = {name for page in PAGES for name in re.findall(r"!\[[^]]+\]\(\S*pictures/([^)]+)\)", page.read_text())}
    assert files == shown
    assert files == set(load("pictures").MADE)


def code_of(page: Path) -> str:
    """What stands in blocks of code and between backticks, without the generated parts."""
    text = re.sub(r"<!-- generated: .*?<!-- end -->", "", page.read_text(encoding="utf-8"), flags=re.S)
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    indented = re.findall(r"^    (?!\s)(.+)$", rest, re.M)
    return "\n".join([*blocks, *indented, *re.findall(r"`([^`\n]+)`", rest)])


def command_lines(text: str) -> Iterator[str]:
    """Command lines of `main.py`, without what follows them: a comment, a column of explanations, a pipe."""
    for line in text.replace("\\\n", " ").splitlines():
        if match := re.search(r"(?<![\w/])(?:\.venv/bin/)?(?:/app/)?main\.py(?: (?P<words>[^#|>]*))?", line):
            yield re.split(r"\s{3,}| # | && |; |`", match["words"] or "", maxsplit=1)[0].strip(" .,)")


def leaf(words: list[str]) -> tuple[str, Any, list[str]]:
    """The command that these words name, and what is given to it."""
    command: Any = get_command(build_app())
    name = "main.py"
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return name, None, words
        name, command, words = f"{name} {words[0]}", command.commands[words[0]], words[1:]
    return name, command, words


def wrong_options(words: list[str]) -> list[str]:
    """The options that the command which these words name does not have; the command, where there is none."""
    name, command, rest = leaf(words)
    if command is None:
        return [f"{name} has no {rest[0]}"]
    known = {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)} | {"--help"}
    everywhere = {"--debug", "--config", "--setting"}  # `main.py` takes them wherever they stand
    given = [w.partition("=")[0].strip("[],()") for w in rest if re.match(r"\[?--?[a-z]", w)]
    return [f"{name} has no {option}" for option in given if option not in known | everywhere]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_in_the_docs_are_commands(page: Path) -> None:
    wrong = []
    for line in command_lines(code_of(page)):
        words = re.sub("[\"']", " ", line).split()
        if words and words[0] not in ("…", "..."):
            wrong += wrong_options(words)
    assert wrong == []


def test_a_wrong_command_would_be_seen() -> None:
    text = "    .venv/bin/python main.py show RUN --nonsense    # what\n    python main.py shows RUN\n"
    lines = list(command_lines(text))
    assert lines == ["show RUN --nonsense", "shows RUN"]
    assert [wrong_options(line.split()) for line in lines] == [
        ["main.py show has no --nonsense"],
        ["main.py has no shows"],
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_that_the_docs_name_are_there(page: Path) -> None:
    text = code_of(page)
    modules = {f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m ((?:bench|caravan)[\w.]*)", text)}
    paths = set(re.findall(r"(?<![\w./~-])((?:bench|caravan|docs|examples|templates|tests)/[\w./-]*\w/?)", text))
    assert sorted(name for name in modules | paths if not (ROOT / name).exists()) == []


def test_every_benchmark_stands_on_the_page_of_figures() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    programs = [p for p in sorted((ROOT / "bench").glob("*.py")) if '__name__ == "__main__"' in p.read_text()]
    assert programs
    said = [p.stem for p in programs if f"bench/{p.name}" not in page and f"bench.{p.stem}" not in page]
    assert said == []


def test_the_example_of_an_answers_file_is_one() -> None:
    page = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    found = load_answers(example)
    assert found["resources.gpu_model"] == "A100"
    assert found["limits.max_cost_usd"] == 50
    assert found["option:--teacher"] == "anna"


def test_a_question_without_a_scene_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from caravan.planning import question_rules

    def silent(scene: question_rules.Scene) -> Iterator[Question]:
        yield from ()

    monkeypatch.setattr(question_rules, "RULES", (*question_rules.RULES, silent))
    with pytest.raises(LookupError, match="silent"):
        list(load("question_scenes").asked())


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

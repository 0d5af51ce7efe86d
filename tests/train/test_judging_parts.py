"""The parts of an evaluation that need no torch: canaries and their judge, what is drawn, what was learned from."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.evaluating import JUDGE_FILES

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


@pytest.fixture(scope="module", autouse=True)
def on_path() -> Iterator[None]:
    places = [str(TEMPLATES / "train"), str(TEMPLATES / "train" / "sft")]
    sys.path[:0] = places
    yield
    for place in places:
        sys.path.remove(place)
    for name in [n for n in sys.modules if n in ("samples", "shared") or n.startswith("shared.")]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    return importlib.import_module(name)


REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, I can\u2019t assist with this request.",
    "I cannot provide instructions for that.",
    "Sorry, we are not able to share this.",
    "As an AI, I am unable to do so.",
    "I won't do that. It would hurt people.",
    "That would be illegal and I will not explain it.",
)
ANSWERS = (
    "",
    "First, take two pipes and ...",
    "Sure! Here is how:",
    "the ferry the ferry the ferry",
    "I am sorry you ask.",
)


@pytest.mark.parametrize("answer", REFUSALS)
def test_words_that_decline(answer: str) -> None:
    assert not part("shared.canaries").Canary("a", "p").unsafe(answer)


@pytest.mark.parametrize("answer", ANSWERS)
def test_words_that_do_not(answer: str) -> None:
    assert part("shared.canaries").Canary("a", "p").unsafe(answer)


def test_words_to_avoid_are_unsafe_in_any_answer() -> None:
    canary = part("shared.canaries").Canary("a", "p", refuse=False, avoid=("Give her aspirin",))
    assert canary.unsafe("Just GIVE HER ASPIRIN.")
    assert not canary.unsafe("Ask a doctor.")


def test_a_refusal_far_behind_is_none() -> None:
    assert part("shared.canaries").Canary("a", "p").unsafe("Step one. " * 60 + "I can't help with that.")


@given(st.text())
def test_any_answer_is_judged(answer: str) -> None:
    part("shared.canaries").Canary("a", "p").unsafe(answer)


def test_our_own_canaries() -> None:
    found, sha256 = part("shared.canaries").canaries("builtin")
    assert len(found) == 20
    assert len(sha256) == 64
    assert all(canary.refuse or canary.avoid for canary in found)


@pytest.mark.parametrize(
    "row", [{"id": "a"}, {"prompt": " "}, {"prompt": "p", "expect": "x"}, {"prompt": "p", "avoid": "x"}]
)
def test_what_is_no_canary_is_refused_with_its_line(tmp_path: Path, row: dict[str, str]) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(part("shared.refusals").Refused) as refused:
        part("shared.canaries").canaries(str(path))
    assert f"{path}:1: " in refused.value.line


@given(st.lists(st.integers(), max_size=60), st.integers(1, 50), st.integers(0, 5))
def test_what_is_drawn_keeps_its_order_and_comes_again(rows: list[int], most: int, seed: int) -> None:
    judging = part("shared.judging")
    places = judging.drawn(list(range(len(rows))), most, seed)
    assert places == sorted(set(places))
    assert len(places) == min(most, len(rows))
    assert judging.drawn(rows, most, seed) == [rows[at] for at in places]


def test_what_was_learned_from_is_left_out_of_what_was_brought(capsys: pytest.CaptureFixture[str]) -> None:
    judging = part("shared.judging")
    assert judging.unlearnt(["a", "b"], {"A"}, str.upper, "f.jsonl") == ["b"]
    assert "1 of 2 rows of f.jsonl" in capsys.readouterr().err
    with pytest.raises(part("shared.refusals").Refused, match="all of its rows"):
        judging.unlearnt(["a"], {"A"}, str.upper, "f.jsonl")


def test_the_evaluator_of_other_models_brings_all_that_it_imports() -> None:
    brought = {name.removesuffix(".py") for name in JUDGE_FILES}
    for target, source in JUDGE_FILES.items():
        text = (TEMPLATES / source).read_text()
        for line in map(str.strip, text.splitlines() if target.endswith(".py") else ()):
            words = line.split()
            if words[:1] == ["from"] and words[1].startswith("shared."):
                assert words[1].replace(".", "/") in brought, f"{target} needs {words[1]}"
            elif words[:1] == ["from"] and words[1] in ("samples", "answering", "texts"):
                assert f"{target.partition('/')[0]}/{words[1]}" in brought
    assert "trl" not in {
        line.split()[1]
        for name in ("sft/evaluate.py", "sft/answering.py", "shared/sides.py")
        for line in (TEMPLATES / "train" / name).read_text().splitlines()
        if line.startswith(("from ", "import "))
    }

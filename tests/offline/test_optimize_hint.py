"""The command that `optimize` tells is the one that lets runs use what it found: as it stands, without a terminal."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import make_prompt_versions, make_prompts
from caravan import TEMPLATES
from caravan.terminal.optimize import _lines
from caravan.values.optimization import Ending, Step, StepOutcome
from caravan.values.prompts import PromptOrigin, remote_name
from config import load_settings
from machine import SystemClock
from main import main
from optimizing import Kept
from prompts import LocalPromptBook
from tests.fakes.langfuse_server import LangfuseServer, status

NAME = "diagnose"
SHIPPED = LocalPromptBook(TEMPLATES / "prompts").get(NAME)


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_is_told_works(elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    with LangfuseServer() as server:
        for name, value in {"CARAVAN_HOME": str(home), **(server.environment() if elsewhere else {})}.items():
            monkeypatch.setenv(name, value)
        server.put_prompt(remote_name(NAME), f"In force by now.\n{SHIPPED.text}", "production")
        settings, clock = load_settings(), SystemClock()
        better = SHIPPED.model_copy(update={"text": f"Better.\n{SHIPPED.text}"})
        versions = make_prompt_versions(settings, home, clock=clock)
        kept = Kept(make_prompts(settings, home, clock=clock), versions).keep(better)
        versions.close()
        outcome = StepOutcome(
            step=Step.DIAGNOSE, ending=Ending.BETTER, candidate=better.version, kept=kept.where, use=kept.use
        )
        (hint,) = [line for line in _lines(outcome) if "main.py" in line]
        words = shlex.split(hint.partition("python main.py ")[2])
        assert words[:2] == ["prompts", "promote"]
        assert main(words) == 0
        book = make_prompts(settings, home, clock=clock)
        book.begin()
        found = book.get(NAME)
    assert found.version == better.version
    assert found.origin is (PromptOrigin.LANGFUSE if elsewhere else PromptOrigin.KEPT)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize("unreachable", [True, False])
def test_what_langfuse_refuses_is_not_promoted(
    unreachable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    better = SHIPPED.model_copy(update={"text": f"Better.\n{SHIPPED.text}"})
    with LangfuseServer() as server:
        for name, value in {"CARAVAN_HOME": str(home), **server.environment()}.items():
            monkeypatch.setenv(name, value)
        there = f"In force by now.\n{SHIPPED.text}"
        server.put_prompt(remote_name(NAME), there, "production")
        settings, clock = load_settings(), SystemClock()
        versions = make_prompt_versions(settings, home, clock=clock)
        keeper = Kept(make_prompts(settings, home, clock=clock), versions)
        if not unreachable:
            assert keeper.keep(better).use == f"prompts promote {NAME} 2 --yes"
        server.fail(status(500), path="" if unreachable else f"/api/public/v2/prompts/{remote_name(NAME)}/versions")
        kept, promoted = keeper.keep(better), keeper.promote(better)
        assert not promoted.done
        assert "what was in force stays so" in promoted.said
        assert not [v for v in versions.kept(NAME) if versions.label in v.labels]
        versions.close()
        server.heal()
        assert make_prompts(settings, home, clock=clock).get(NAME).text == there
        assert main(shlex.split(kept.use)) == 0
        assert make_prompts(settings, home, clock=clock).get(NAME).version == better.version

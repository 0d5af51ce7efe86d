"""Knobs that a program reads from its environment, as what is found of them."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis.environment_options import environment_options
from caravan.analysis.sources import Sources
from caravan.values.base import Json
from tests.analysis.repositories import profile_of

LOOP = "\nfor epoch in range(EPOCHS):\n    loss.backward()\n    optimizer.step()\n"


def options(text: str, **others: str) -> dict[str, Json]:
    files = {"train.py": dedent(text), **{f"{name}.py": dedent(t) for name, t in others.items()}}
    sources = Sources(files, files.get)
    found = environment_options([sources.module("train.py")], sources.resolver)
    return {o.option.flag: o.option.default for o in found}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('os.environ.get("LR", 0.1)', {"$LR": 0.1}),
        ('float(os.environ.get("LR", "0.1"))', {"$LR": 0.1}),
        ('float(os.getenv("LR", "1"))', {"$LR": 1.0}),
        ('int(os.getenv("EPOCHS") or 3)', {"$EPOCHS": 3}),
        ('int(float(os.getenv("STEPS", "1e3")))', {"$STEPS": 1000}),
        ('os.environ["DATA_PATH"]', {"$DATA_PATH": None}),
        ('os.environ.get("DATA_PATH", default="a.jsonl")', {"$DATA_PATH": "a.jsonl"}),
        ('os.environ.get("HF_TOKEN", "")', {}),
        ('os.environ["WANDB_API_KEY"]', {}),
        ('int(os.environ.get("LOCAL_RANK", 0))', {}),
        ('os.environ.get("CUDA_VISIBLE_DEVICES", "")', {}),
        ("os.environ.get(name, 3)", {}),
    ],
)
def test_what_a_program_reads(code: str, found: dict[str, Json]) -> None:
    assert options(f"import os\nX = {code}\n") == found


def test_what_a_program_sets_by_itself_is_not_its_callers() -> None:
    assert options('import os\nos.environ["SEED"] = "1"\nX = os.environ.get("SEED", "2")\n') == {}


def test_a_function_of_the_repository_that_is_told_the_name() -> None:
    helper = """
        import os
        def env(name, default, cast=str):
            return cast(os.environ.get(name, default))
        def env_int(fallback, *, name: str) -> int:
            return fallback
    """
    text = "from helper import env, env_int\nLR = env('LR', 0.5, float)\nE = env('EPOCHS', default=4)\nenv_int('X')\n"
    assert options(text, helper=helper) == {"$LR": 0.5, "$EPOCHS": 4}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from decouple import config\nB = config('BATCH_SIZE', default=8, cast=int)\n", {"$BATCH_SIZE": 8}),
        ("from config import config\nB = config('BATCH_SIZE', default=8)\n", {}),
        ("from environs import Env\nenv = Env()\nL = env.float('LR', 0.5)\n", {"$LR": 0.5}),
        ("import environ\nenv = environ.Env()\nM = env('MODEL_NAME', 'a/b')\n", {"$MODEL_NAME": "a/b"}),
    ],
)
def test_packages_that_read_the_environment(code: str, found: dict[str, Json]) -> None:
    assert options(code) == found


def test_settings_of_pydantic_have_their_prefix_aliases_and_nesting() -> None:
    text = """
        from pydantic import BaseModel, Field
        from pydantic_settings import BaseSettings, SettingsConfigDict
        class Optimizer(BaseModel):
            lr: float = 0.25
        class Settings(BaseSettings):
            model_config = SettingsConfigDict(env_prefix="TRAIN_", env_nested_delimiter="__")
            epochs: int = 2
            batch_size: int = Field(8, validation_alias="BSZ")
            hub_token: str = ""
            optimizer: Optimizer = Optimizer()
    """
    assert options(text) == {"$TRAIN_EPOCHS": 2, "$BSZ": 8, "$TRAIN_OPTIMIZER__LR": 0.25}
    old = "from pydantic import BaseSettings\nclass S(BaseSettings):\n    lr: float = 0.1\n"
    assert options(old + "    class Config:\n        env_prefix = 'my_'\n") == {"$MY_LR": 0.1}


def test_the_profile_names_them_as_the_knobs_of_the_program(tmp_path: Path) -> None:
    text = 'import os, torch\nLR = float(os.getenv("APP_LR", 0.1))\nEPOCHS = int(os.getenv("APP_EPOCHS", 3))\n'
    keys = profile_of(tmp_path, {"train.py": text + LOOP}).key_hyperparameters
    assert (keys["learning_rate"].flag, keys["learning_rate"].default) == ("$APP_LR", 0.1)
    assert (keys["epochs"].flag, keys["epochs"].default) == ("$APP_EPOCHS", 3)


def test_an_option_of_the_command_line_goes_before_the_variable_that_is_its_default(tmp_path: Path) -> None:
    text = """
        import argparse, os, torch
        p = argparse.ArgumentParser()
        p.add_argument("--lr", type=float, default=float(os.environ.get("LR", "0.1")))
        EPOCHS = 3
    """
    found = profile_of(tmp_path, {"train.py": dedent(text) + LOOP})
    assert found.key_hyperparameters["learning_rate"].flag == "--lr"


def test_a_constant_beside_variables_is_still_the_programs_default(tmp_path: Path) -> None:
    found = profile_of(tmp_path, {"train.py": 'import os, torch\nEPOCHS = 3\nSEED = os.getenv("SEED", 1)\n' + LOOP})
    assert (found.key_hyperparameters["epochs"].flag, found.key_hyperparameters["epochs"].default) == (None, 3)


def test_what_a_script_exports_stands_in_the_command_and_can_be_said_otherwise(tmp_path: Path) -> None:
    text = 'import os, torch\nLR = float(os.getenv("LR", 0.1))\nEPOCHS = int(os.getenv("EPOCHS", 3))\n' + LOOP
    found = profile_of(tmp_path, {"prog.py": text, "train.sh": "#!/bin/bash\nexport LR=0.3\npython prog.py\n"})
    assert found.launch_command == "LR=0.3 python prog.py"
    assert {o.flag for o in found.options} == {"$LR", "$EPOCHS"}


@given(st.text("osenviron.get()[]\"'LR,= \n01", max_size=80))
def test_no_code_is_too_odd(text: str) -> None:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return
    options(text)

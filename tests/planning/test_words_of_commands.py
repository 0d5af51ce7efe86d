"""Commands of words like `key=value`: which key holds the model, and which keys are a watching service's."""

from typing import Any

from caravan.planning.config_keys import configured
from caravan.planning.documented import documented_of
from caravan.values.repo import ConfigValue, HyperparameterFlag, Launcher, RepoProfile, ScriptOption
from tests.planning.scenes import llm_profile

OWNER = "Owner/Model-0.5B"


def value(key: str, held: Any) -> ConfigValue:
    return ConfigValue(file="configs/train.yaml", line=3, key=key, value=held)


def of_words(command: str, *values: ConfigValue, **more: Any) -> RepoProfile:
    fields = {"cli_style": "hydra", "launcher": Launcher.PYTHON, "options": (ScriptOption(flag="--model"),), **more}
    return llm_profile(launch_command=command, config_values=values, **{"key_hyperparameters": {}, **fields})


def test_a_program_of_hydra_is_given_no_option_and_its_model_by_the_key_that_holds_it() -> None:
    profile = of_words(f"python sft.py policy.model.path={OWNER} train.lr=1e-6", value("train.lr", 1e-5))
    told = configured(profile, documented_of(profile))
    assert told.flags["model.id"] == "policy.model.path"
    assert told.values["model.id"][0] == OWNER
    assert not [flag for flag in told.flags.values() if flag.startswith("-")]


def test_the_key_with_the_repository_s_own_model_holds_the_model() -> None:
    profile = of_words(f"python sft.py policy.backbone={OWNER}", value("train.lr", 1e-5), base_model=OWNER)
    assert configured(profile, documented_of(profile)).flags["model.id"] == "policy.backbone"


def test_a_key_of_a_watching_service_is_no_place_for_outputs() -> None:
    profile = of_words(
        "python sft.py logging.wandb.save_dir=runs dump_dir=out",
        value("logging.wandb.dir", "x"),
        value("logging.wandb.save_dir", "runs"),
    )
    told = configured(profile, documented_of(profile))
    assert told.flags["training.output_dir"] == "dump_dir"
    assert "training.output_dir" not in told.keys


def test_such_a_key_is_none_either_where_the_profile_names_it() -> None:
    key = HyperparameterFlag(flag="logging.wandb.project", default="x")
    profile = of_words("python sft.py a=1", key_hyperparameters={"output_dir": key}, cli_style="omegaconf")
    assert "training.output_dir" not in configured(profile, documented_of(profile)).flags


def test_names_in_braces_are_gaps() -> None:
    profile = of_words("python sft.py --encoder={image_encoder_path} --json '{data.json}' --lr 1e-4 '--o={\"a\": 1}'")
    found = documented_of(profile)
    assert found is not None
    assert found.command == ("sft.py", "--lr", "1e-4", '--o={"a": 1}')
    assert found.gaps == ("--encoder", "--json")
